"""`cci-captum explain`: which parts of images match which texts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cci_captum.baselines.spec import MethodSpec
from cci_captum.names import is_text, readable

from ._common import (
    CommandError,
    add_method_option,
    add_shared_options,
    attribution_of,
    choose_device,
    choose_methods,
    load_model,
    warn_about_unknown_words,
)
from ._outputs import DPI, Outputs, check_picture

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from cci_captum.effects import ClusterEffects
    from cci_captum.models.clip import LoadedCLIP

_METHODS = ("cci",)
_PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")
_FORWARD_BATCH = 32  # images in one forward pass: bounds the memory


class _Explanation(NamedTuple):
    """What some methods say about B images and T texts.

    Attributes:
        similarities: (B, T) cosines.
        maps: Method -> (B, T, h, w) or, for methods of resolution "pixel", (B, T, H, W).
        effects: Of CCI with each of the given options: its effects on what it explains.
    """

    similarities: torch.Tensor
    maps: dict[MethodSpec, torch.Tensor]
    effects: dict[MethodSpec, ClusterEffects]


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "explain",
        help="explain the similarity of images and texts",
        description="Draw, for each image and text, which parts of the image match the text. "
        "A row an image, a column a text (and method), the cosine similarity below each map.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument(
        "--text", action="append", required=True, metavar="T", help="a text; may be repeated"
    )
    add_method_option(parser, _METHODS)
    add_shared_options(parser, "--model", "--pretrained", "--device")
    parser.add_argument(
        "--out", type=Path, default=Path("explanation.png"), help="picture (%(default)s)"
    )
    parser.add_argument(
        "--save-maps",
        type=Path,
        metavar="NPZ",
        help="also write all maps; and of cci the cluster of each patch, and the drop of each "
        "cluster for each text",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then load the model, explain, and write the files."""
    texts = _check_texts(arguments.text)
    methods = choose_methods(arguments.method or _METHODS, masks=False)
    for spec in methods:
        if _over_classes(spec) and len(texts) < 2:
            raise CommandError(
                f"--method: {spec} compares a text with the others; expected at least two --text, "
                "got one"
            )
    outputs = Outputs()
    outputs.expect(arguments.out, "--out", _PICTURES)
    if arguments.save_maps:
        outputs.expect(arguments.save_maps, "--save-maps", (".npz",))
    if any(_same(arguments.out, image) for image in arguments.images):
        raise CommandError(f"--out: would overwrite the image {readable(arguments.out)}")
    pictures = _read(arguments.images)
    device = choose_device(arguments.device)
    clip = load_model(arguments.model, arguments.pretrained, device)
    warn_about_unknown_words(arguments.model, texts)

    inputs = preprocess_images(clip.preprocess, pictures).to(device)
    names = [readable(image) for image in arguments.images]
    labels = _labels(names, texts, methods)
    check_picture(arguments.out, labels.size(inputs), "--out")
    explained = explain(clip, inputs, texts, methods)
    outputs.write(
        arguments.out,
        lambda path: _draw(clip, inputs, explained, labels).savefig(path, dpi=DPI),
    )
    if arguments.save_maps:
        outputs.write(
            arguments.save_maps,
            lambda path: _save_maps(path, explained, inputs, names, texts, clip.name),
        )
    for name, row in zip(names, explained.similarities.tolist(), strict=True):
        for text, cosine in zip(texts, row, strict=True):
            print(f"{name}: {cosine:.3f} {text}")
    outputs.finish()
    print(f"wrote {' and '.join(map(readable, outputs.written))}")


def preprocess_images(preprocess: Any, pictures: list[Image]) -> torch.Tensor:
    """(B, 3, H, W) inputs of the model; elongated images are cut to what the crop leaves anyway."""
    import torch

    from cci_captum.images import crop_to_ratio

    crops = any("Crop" in type(step).__name__ for step in getattr(preprocess, "transforms", []))
    return torch.stack([preprocess(crop_to_ratio(p) if crops else p) for p in pictures])


def explain(
    clip: LoadedCLIP, inputs: torch.Tensor, texts: list[str], methods: list[MethodSpec]
) -> _Explanation:
    """Explain the cosine of each image with each text, or a score over all texts, by each method.

    Log probabilities and margins are of cosines times the model's own logit scale.
    """
    import torch

    from cci_captum.models.clip import ZeroShotClassifier

    from ..maps import raw_map

    cosines = ZeroShotClassifier(clip.model, clip.tokenizer, texts, "{}", logit_scale=1.0)
    logits = cosines
    if any(map(_over_classes, methods)):
        logits = ZeroShotClassifier(clip.model, clip.tokenizer, texts, "{}")
    options: dict[str, Any] = {"internal_batch_size": _FORWARD_BATCH, "show_progress": True}
    explainers = {
        spec: attribution_of(spec, logits if _over_classes(spec) else cosines) for spec in methods
    }
    maps: dict[MethodSpec, torch.Tensor] = {}
    effects: dict[MethodSpec, ClusterEffects] = {}
    for spec, explainer in explainers.items():
        if spec.name == "cci":  # the same passes serve all texts
            effects[spec] = explainer.effects(inputs, **options)
            per_text = [effects[spec].patch_map(index) for index in range(len(texts))]
        else:
            per_text = [raw_map(explainer, inputs, index, **options) for index in range(len(texts))]
        maps[spec] = torch.stack(per_text, dim=1)
    known = [found.outputs for spec, found in effects.items() if not _over_classes(spec)]
    if known:
        similarities = known[0]
    else:
        with torch.no_grad():
            similarities = torch.cat([cosines(part) for part in inputs.split(_FORWARD_BATCH)])
    return _Explanation(similarities, maps, effects)


def _over_classes(spec: MethodSpec) -> bool:
    """Whether a method explains a score that takes all texts together."""
    return spec.values.get("score", "logit") != "logit"


def _check_texts(texts: list[str]) -> list[str]:
    stripped = [text.strip() for text in texts]
    if not all(stripped):
        raise CommandError("--text: expected some words, got an empty text")
    for text in stripped:
        if not is_text(text):
            raise CommandError(f"--text: expected UTF-8, got {readable(text)}")
    return list(dict.fromkeys(stripped))


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are of one file, or would be."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.absolute() == other.absolute()


def _read(paths: list[Path]) -> list[Image]:
    from cci_captum.images import read_image

    try:
        return [read_image(path) for path in paths]
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error


class _Labels(NamedTuple):
    """The texts around the maps of B images, T texts and M methods, a column a text and method.

    Attributes:
        columns: T x M (text, method): their places.
        titles: Of all columns, the image's first.
        row_titles: Of the images.
    """

    columns: dict[str, tuple[int, MethodSpec]]
    titles: list[str]
    row_titles: list[str]

    def size(self, inputs: torch.Tensor) -> tuple[float, float]:
        """Width and height of the picture in inches."""
        from cci_captum.visualization.grid import grid_size

        return grid_size(
            [(inputs.shape[2], inputs.shape[3])] * len(inputs),
            [*self.columns],
            titles=self.titles,
            row_titles=self.row_titles,
            scores={column: ["0.000"] * len(inputs) for column in self.columns},
        )


def _labels(names: list[str], texts: list[str], methods: list[MethodSpec]) -> _Labels:
    cells = [(index, method) for index in range(len(texts)) for method in methods]
    return _Labels(
        columns={f"{index} {method}": (index, method) for index, method in cells},
        titles=[
            "image",
            *(f"{texts[i]}\n{m.title}" if len(methods) > 1 else texts[i] for i, m in cells),
        ],
        row_titles=[Path(name).name for name in names],
    )


def _draw(clip: LoadedCLIP, inputs: torch.Tensor, explained: _Explanation, labels: _Labels) -> Any:
    from cci_captum.models.preprocessing import mean_and_std
    from cci_captum.visualization import attribution_grid, denormalize

    return attribution_grid(
        denormalize(inputs, *mean_and_std(clip.preprocess)),
        {
            column: explained.maps[method][:, index]
            for column, (index, method) in labels.columns.items()
        },
        titles=labels.titles,
        row_titles=labels.row_titles,
        scores={
            column: explained.similarities[:, index]
            for column, (index, _) in labels.columns.items()
        },
    )


def _save_maps(
    path: Path,
    explained: _Explanation,
    inputs: torch.Tensor,
    names: list[str],
    texts: list[str],
    model: str,
) -> None:
    import numpy as np
    import torch

    tensors = {"similarities": explained.similarities}
    for spec, maps in explained.maps.items():
        if spec.method.resolution == "patch":
            tensors[f"patch_maps.{spec}"] = maps
            size = inputs.shape[-2:]
            maps = torch.nn.functional.interpolate(maps, size, mode="nearest-exact")
        tensors[f"maps.{spec}"] = maps
    for spec, effects in explained.effects.items():
        drops = [effects.drops(index) for index in range(len(texts))]
        tensors |= {
            f"drops.{spec}": torch.stack(drops, dim=1),
            f"labels.{spec}": effects.labels,
            f"clusters.{spec}": effects.clusters,
        }
    arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    np.savez_compressed(
        path,
        **arrays,
        images=np.array(names),
        texts=np.array(texts),
        methods=np.array([str(spec) for spec in explained.maps]),
        model=np.array(model),
    )
