"""`cci-captum compare`: methods on the same images, judged by deletion and insertion."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.baselines.registry import REFERENCES

from ..names import is_text, readable
from ._common import (
    CommandError,
    add_method_options,
    add_model_options,
    check_options,
    choose_device,
    choose_methods,
    load_model,
    make_explainer,
    warn_about_unknown_words,
)
from ._outputs import DPI, Outputs

if TYPE_CHECKING:
    from cci_captum.models.clip import LoadedCLIP

    from ..comparison import Comparison
    from ..data import ImageData
    from ..faithfulness.protocols import Ties

_METHODS = "cci,grad-eclip,maskclip,gradcam"
_SCENES = "scenes"
_IMAGENET = "imagenet:"
_DEFAULT_SCENES = 100
_FILES = (
    "results.parquet",
    "curves.parquet",
    "settings.json",
    "summary.md",
    "curves.png",
    "scatter.png",
    "grid.png",
)
# The option that chooses what an argument of the data is.
_OPTIONS = {"root": "--data", "masks": "--masks", "count": "--n", "class_names": "--classes"}


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "compare",
        help="compare methods by deletion and insertion",
        description="Explain the same images by several methods, and measure by deletion and "
        "insertion whether the model follows each map. Random maps are always compared too, and "
        "masks where there are any. Writes summary.md, curves.png, scatter.png, grid.png, "
        "results.parquet, curves.parquet and settings.json.",
    )
    parser.add_argument(
        "--data",
        default=_SCENES,
        metavar="D",
        help='"scenes"; a folder that has a folder of images for each class; or "imagenet:DIR", '
        "whose folders are named n01440764, ... (%(default)s)",
    )
    add_model_options(parser)
    parser.add_argument(
        "--methods",
        default=_METHODS,
        metavar="M,M",
        help='named as in "cci-captum methods", or "all"; others are compared with the first '
        "(%(default)s)",
    )
    parser.add_argument(
        "--protocol",
        default="grad-eclip",
        metavar="P,P",
        help="of grad-eclip-original, grad-eclip, grad-eclip-released, rise, tokens; or "
        '"all" (%(default)s)',
    )
    parser.add_argument(
        "--n", type=int, metavar="N", help=f"images ({_DEFAULT_SCENES} scenes; all of a folder)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("cci-captum-compare"), help="folder (%(default)s)"
    )
    parser.add_argument(
        "--explained",
        choices=("true", "predicted"),
        default="true",
        help="which class (%(default)s)",
    )
    parser.add_argument(
        "--checks",
        default="",
        metavar="C,C",
        help='sanity checks: "random-weights", "random-label" or both (none)',
    )
    parser.add_argument(
        "--ties",
        default="random,raster,reversed",
        metavar="T,T",
        help="orders of equal values under which areas are shown beside the protocol's own; "
        '"none" (%(default)s)',
    )
    parser.add_argument(
        "--artwork",
        choices=("train", "held-out"),
        default="train",
        help="of the scenes (%(default)s)",
    )
    parser.add_argument(
        "--objects", choices=("one", "two"), default="one", help="in each scene (%(default)s)"
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="class names, one a line, or a folder, a tab and its name; or .json with a list, or "
        "an object from folders to names (the folders' names)",
    )
    parser.add_argument(
        "--masks", type=Path, metavar="DIR", help="masks of a folder's images: the same tree, .png"
    )
    add_method_options(parser)
    parser.add_argument(
        "--seed", type=int, default=0, help="of scenes, choice of images and ties (%(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="B", help="images at a time (%(default)s)"
    )
    parser.add_argument("--device", default="auto", help='"cpu", "cuda", ... (%(default)s)')
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then compare, and write tables and pictures."""
    masks = arguments.explained == "true" and bool(arguments.data == _SCENES or arguments.masks)
    methods = [
        method
        for method in choose_methods(arguments.methods.split(","), masks=masks, option="--methods")
        if method.name not in REFERENCES  # always compared
    ]
    if not methods:
        raise CommandError("--methods: expected at least one beside random and ground-truth")
    check_options(arguments, "clusters", "rise_masks", "batch_size")
    if arguments.seed < 0:
        raise CommandError(f"--seed: expected 0 or more, got {arguments.seed}")
    protocols = _protocols(arguments.protocol)
    checks = _checks(arguments.checks)
    ties = _ties(arguments.ties)
    outputs = Outputs()
    outputs.expect_in(arguments.out, "--out", _FILES)
    _check_data(arguments)
    device = choose_device(arguments.device)
    clip = load_model(arguments.model, arguments.pretrained, device)

    from cci_captum.models.clip import ZeroShotClassifier

    from ..comparison import compare, figures, report
    from ..markdown import code

    data = _data(arguments, clip)
    warn_about_unknown_words(arguments.model, list(data.class_names))
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, data.class_names, data.templates)
    factories = {
        method.name: partial(
            make_explainer, method, clusters=arguments.clusters, rise_masks=arguments.rise_masks
        )
        for method in methods
    }
    try:
        comparison = compare(
            factories,
            data,
            protocols,
            forward_func=classifier,
            preprocess=clip.preprocess,
            explained=arguments.explained,
            checks=checks,
            ties=ties,
            seed=arguments.seed,
            batch_size=arguments.batch_size,
            show_progress=True,
        )
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from error

    settings = _settings(arguments, clip)
    saved: dict[str, Callable[[Path], object]] = {
        "results.parquet": lambda path: comparison.results.to_parquet(path, index=False),
        "curves.parquet": lambda path: comparison.curves.to_parquet(path, index=False),
        "settings.json": lambda path: _write_settings(path, comparison, settings),
        "summary.md": lambda path: path.write_text(
            report.page(comparison, note=code(settings["command"])), encoding="utf-8"
        ),
        "curves.png": lambda path: figures.curves(comparison).savefig(path, dpi=DPI),
        "scatter.png": lambda path: figures.pairs(comparison).savefig(path, dpi=DPI),
        "grid.png": lambda path: figures.grid(
            comparison, factories, data, classifier, clip.preprocess
        ).savefig(path, dpi=DPI),
    }
    for name in _FILES:
        outputs.write(arguments.out / name, saved[name])
    print(report.text(comparison))
    outputs.finish()
    print(
        "\nwrote summary.md, curves.png, scatter.png, grid.png and tables to "
        f"{readable(arguments.out)}"
    )


def _protocols(names: str) -> list[str]:
    from ..faithfulness.protocols import PROTOCOLS, find_protocol

    chosen = [*PROTOCOLS] if names == "all" else list(dict.fromkeys(names.split(",")))
    try:
        return [find_protocol(name).name for name in chosen]
    except ValueError as error:
        raise CommandError(f"--{error}") from error


def _checks(names: str) -> list[str]:
    from ..comparison.randomization import CHECKS

    chosen = list(dict.fromkeys(filter(None, names.split(","))))
    for name in chosen:
        if name not in CHECKS:
            raise CommandError(f"--checks: expected some of {', '.join(CHECKS)}, got {name!r}")
    return chosen


def _ties(names: str) -> list[Ties]:
    from ..faithfulness.protocols import TIES

    chosen = [] if names == "none" else list(dict.fromkeys(names.split(",")))
    for name in chosen:
        if name not in TIES:
            raise CommandError(f"--ties: expected some of {', '.join(TIES)}, or none, got {name!r}")
    return [order for order in TIES if order in chosen]


def _check_data(arguments: argparse.Namespace) -> None:
    """Raise CommandError unless the options that choose images go together."""
    if arguments.n is not None and arguments.n < 1:
        raise CommandError(f"--n: expected at least 1, got {arguments.n}")
    for option in ("classes", "masks"):
        if getattr(arguments, option) and arguments.data == _SCENES:
            raise CommandError(f"--{option}: scenes have their own; expected --data DIR")
    if arguments.classes and arguments.data.startswith(_IMAGENET):
        raise CommandError("--classes: ImageNet has its own; expected --data DIR")


def _data(arguments: argparse.Namespace, clip: LoadedCLIP) -> ImageData:
    """The images, found but not yet read."""
    from PIL import Image

    from ..data import ImageFolders, ImageNet, Scenes

    options = {"masks": arguments.masks, "count": arguments.n, "seed": arguments.seed}
    try:
        if arguments.data == _SCENES:
            count = _DEFAULT_SCENES if arguments.n is None else arguments.n
            # Twice as large as the model sees them, so that they are to it what photos are.
            size = 2 * clip.preprocess(Image.new("RGB", (8, 8))).shape[-1]
            return Scenes(
                count,
                artwork=arguments.artwork,
                kind=arguments.objects,
                seed=arguments.seed,
                size=size,
            )
        if arguments.data.startswith(_IMAGENET):
            return ImageNet(arguments.data.removeprefix(_IMAGENET), **options)
        class_names = _class_names(arguments.classes) if arguments.classes else None
        return ImageFolders(arguments.data, class_names=class_names, **options)
    except (OSError, ValueError) as error:
        argument, _, rest = str(error).partition(": ")
        if argument in _OPTIONS:
            raise CommandError(f"{_OPTIONS[argument]}: {rest}") from error
        raise CommandError(f"--data: {error}") from error


def _class_names(path: Path) -> list[str] | dict[str, str]:
    from ..data import read_class_names

    try:
        return read_class_names(path)
    except (OSError, ValueError) as error:
        raise CommandError(f"--classes: {error}") from error


def _settings(arguments: argparse.Namespace, clip: LoadedCLIP) -> dict[str, Any]:
    """What makes the run again: the command, and what it ran with."""
    import torch

    from cci_captum._version import __version__

    options = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("command", "run", "out") and value not in (None, "")
    }
    words = [
        word
        for name, value in options.items()
        for word in (f"--{name.replace('_', '-')}", _word(value))
    ]
    return {
        "command": shlex.join(["cci-captum", "compare", *words]),
        "model": clip.name,
        "cci_captum": __version__,
        "torch": torch.__version__,
    }


def _word(value: Any) -> str:
    """A value as the command line takes it; escaped where no text file can hold it."""
    text = str(value)
    return text if is_text(text) else readable(text)


def _write_settings(path: Path, comparison: Comparison, settings: dict[str, Any]) -> None:
    whole = settings | comparison.settings | {"errors": comparison.errors.to_dict("records")}
    path.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
