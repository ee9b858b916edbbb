"""`cci-captum compare`: methods on the same images, judged by deletion and insertion."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cci_captum.baselines.registry import REFERENCES
from cci_captum.baselines.spec import MethodSpec

from ..names import is_text, readable
from ._common import (
    CommandError,
    add_method_option,
    add_shared_options,
    at_least,
    choose_device,
    choose_methods,
    load_model,
    one_of,
    warn_about_unknown_words,
)
from ._data import check_data, find_data, has_masks
from ._outputs import DPI, Outputs

if TYPE_CHECKING:
    from cci_captum.models.clip import LoadedCLIP

    from ..comparison import Comparison, FolderStore
    from ..faithfulness.protocols import Ties

_METHODS = ("cci", "grad-eclip", "maskclip", "gradcam")
_TABLES = ("results", "timings", "curves", "maps", "failures", "errors")
_FILES = (
    *(f"{name}.parquet" for name in _TABLES),
    "settings.json",
    "summary.md",
    "curves.png",
    "scatter.png",
    "grid.png",
)
_PARTS = "parts"


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "compare",
        help="compare methods by deletion and insertion",
        description="Explain the same images by several methods, and measure by deletion and "
        "insertion whether the model follows each map; all others are compared with the first "
        "method. Random maps are always compared too, and masks where there are any. Writes "
        "summary.md, curves.png, scatter.png, grid.png, settings.json and tables; and parts of "
        "these while it runs, so that the same command goes on where it was interrupted.",
    )
    add_shared_options(parser, "--data", "--n", "--objects", "--artwork")
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
    add_shared_options(parser, "--model", "--pretrained")
    add_method_option(parser, _METHODS)
    parser.add_argument(
        "--protocol",
        default="grad-eclip",
        metavar="P,P",
        help="of grad-eclip-original, grad-eclip, grad-eclip-released, rise, tokens; or "
        '"all" (%(default)s)',
    )
    parser.add_argument(
        "--out", type=Path, default=Path("cci-captum-compare"), help="folder (%(default)s)"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="measure anew what an earlier run left in the folder; else it is taken over",
    )
    parser.add_argument(
        "--explained",
        type=one_of("true", "predicted"),
        default="true",
        metavar="{true,predicted}",
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
        "--batch-size",
        type=at_least(1),
        default=32,
        metavar="B",
        help="images at a time (%(default)s)",
    )
    add_shared_options(parser, "--seed", "--device")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then compare, and write tables and pictures."""
    masks = arguments.explained == "true" and has_masks(arguments)
    methods = [
        spec
        for spec in choose_methods(arguments.method or _METHODS, masks=masks)
        if str(spec) not in REFERENCES  # always compared
    ]
    if not methods:
        raise CommandError(f"--method: expected at least one beside {' and '.join(REFERENCES)}")
    protocols = _protocols(arguments.protocol)
    checks = _checks(arguments.checks)
    ties = _ties(arguments.ties)
    outputs = Outputs()
    outputs.expect_in(arguments.out, "--out", _FILES)
    check_data(arguments)
    device = choose_device(arguments.device)
    clip = load_model(arguments.model, arguments.pretrained, device)

    from cci_captum.models.clip import ZeroShotClassifier

    from ..comparison import compare, figures, report
    from ..markdown import code

    data = find_data(arguments, clip.preprocess)
    warn_about_unknown_words(arguments.model, list(data.class_names))
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, data.class_names, data.templates)
    try:
        comparison = compare(
            methods,
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
            store=_store(arguments),
            model=clip.name,
        )
    except (TypeError, ValueError) as error:
        remedy = "; take another folder, or --restart" if str(error).startswith("store: ") else ""
        text = re.sub("^store: ", "--out: ", str(error))
        raise CommandError(f"{text}{remedy}") from error
    except KeyboardInterrupt:
        print(
            f"\ncci-captum: what was measured is in {readable(arguments.out / _PARTS)}; the same "
            "command goes on from there",
            file=sys.stderr,
        )
        raise

    settings = _settings(arguments, methods, clip)
    saved: dict[str, Callable[[Path], object]] = {
        **{
            f"{name}.parquet": partial(frame.to_parquet, index=False)
            for name, frame in comparison.tables().items()
        },
        "settings.json": lambda path: _write_settings(path, comparison, settings),
        "summary.md": lambda path: path.write_text(
            report.page(comparison, note=code(settings["command"])), encoding="utf-8"
        ),
        "curves.png": lambda path: figures.curves(comparison).savefig(path, dpi=DPI),
        "scatter.png": lambda path: figures.pairs(comparison).savefig(path, dpi=DPI),
        "grid.png": lambda path: figures.grid(comparison, data, clip.preprocess).savefig(
            path, dpi=DPI
        ),
    }
    for name in _FILES:
        outputs.write(arguments.out / name, saved[name])
    print(report.text(comparison))
    if len(comparison.failures):
        print(f"\n{len(comparison.failures)} maps are missing: summary.md says which, and why")
    outputs.finish()
    print(
        "\nwrote summary.md, curves.png, scatter.png, grid.png and tables to "
        f"{readable(arguments.out)}"
    )


def _store(arguments: argparse.Namespace) -> FolderStore:
    """Where units are kept; emptied where the user says so."""
    from ..comparison import FolderStore

    parts = arguments.out / _PARTS
    if arguments.restart and parts.is_dir():
        for path in [*parts.glob("*.parquet"), *parts.glob("*.json")]:
            path.unlink()
    return FolderStore(parts)


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


def _settings(
    arguments: argparse.Namespace, methods: list[MethodSpec], clip: LoadedCLIP
) -> dict[str, Any]:
    """What makes the run again: the command, and what it ran with."""
    import torch

    from cci_captum._version import __version__

    options = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("command", "run", "out", "restart") and value not in (None, "")
    }
    words = []
    for name, value in (options | {"method": methods}).items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{name.replace('_', '-')}", _word(one)]
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
