"""`cci-captum explain`: which parts of images match which texts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cci_captum.baselines.registry import Method

from ._common import (
    CommandError,
    add_method_options,
    add_model_options,
    check_options,
    check_output,
    choose_device,
    choose_methods,
    load_model,
    make_explainer,
    warn_about_unknown_words,
    whole_file,
)

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from cci_captum.clip import LoadedCLIP
    from cci_captum.effects import ClusterEffects

_PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")
_FORWARD_BATCH = 32  # images in one forward pass: bounds the memory


class Explained(NamedTuple):
    """What some methods say about B images and T texts.

    Attributes:
        similarities: (B, T) cosines.
        maps: Method -> (B, T, h, w) or, for methods of resolution "pixel", (B, T, H, W).
        effects: CCI's effects on the cosines, where CCI is among the methods.
    """

    similarities: torch.Tensor
    maps: dict[Method, torch.Tensor]
    effects: ClusterEffects | None


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
    parser.add_argument(
        "--method",
        action="append",
        metavar="M",
        help='a method, named as in "cci-captum methods", or "all"; may be repeated (cci)',
    )
    add_model_options(parser)
    add_method_options(parser)
    parser.add_argument("--device", default="auto", help='"cpu", "cuda", ... (%(default)s)')
    parser.add_argument(
        "--out", type=Path, default=Path("explanation.png"), help="picture (%(default)s)"
    )
    parser.add_argument("--save-maps", type=Path, metavar="NPZ", help="also write maps and drops")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then load the model, explain, and write the files."""
    texts = _check_texts(arguments.text)
    methods = choose_methods(arguments.method or ["cci"], masks=False)
    check_options(arguments, "clusters", "rise_masks")
    check_output(arguments.out, "--out", _PICTURES)
    if arguments.save_maps:
        check_output(arguments.save_maps, "--save-maps", (".npz",))
    if any(arguments.out.absolute() == image.absolute() for image in arguments.images):
        raise CommandError(f"--out: would overwrite the image {arguments.out}")
    pictures = _read(arguments.images)
    device = choose_device(arguments.device)
    clip = load_model(arguments.model, arguments.pretrained, device)
    warn_about_unknown_words(arguments.model, texts)

    inputs = preprocess_images(clip.preprocess, pictures).to(device)
    explained = explain(clip, inputs, texts, methods, arguments.clusters, arguments.rise_masks)
    names = [str(image) for image in arguments.images]
    with whole_file(arguments.out) as path:
        _draw(clip, inputs, explained, names, texts).savefig(path, dpi=200)
    if arguments.save_maps:
        with whole_file(arguments.save_maps) as path:
            _save_maps(path, explained, inputs, names, texts, clip.name)
    for name, row in zip(names, explained.similarities.tolist(), strict=True):
        for text, cosine in zip(texts, row, strict=True):
            print(f"{name}: {cosine:.3f} {text}")
    print(f"wrote {arguments.out}" + (f" and {arguments.save_maps}" if arguments.save_maps else ""))


def preprocess_images(preprocess: Any, pictures: list[Image]) -> torch.Tensor:
    """(B, 3, H, W) inputs of the model; elongated images are cut to what the crop leaves anyway."""
    import torch

    from cci_captum.benchmarks.images import crop_to_ratio

    crops = any("Crop" in type(step).__name__ for step in getattr(preprocess, "transforms", []))
    return torch.stack([preprocess(crop_to_ratio(p) if crops else p) for p in pictures])


def explain(
    clip: LoadedCLIP,
    inputs: torch.Tensor,
    texts: list[str],
    methods: list[Method],
    clusters: int = 7,
    rise_masks: int = 4000,
) -> Explained:
    """Explain the cosine of each image with each text by each method."""
    import torch

    from cci_captum.benchmarks.maps import raw_map
    from cci_captum.clip import ZeroShotClassifier

    cosines = ZeroShotClassifier(clip.model, clip.tokenizer, texts, "{}", logit_scale=1.0)
    options: dict[str, Any] = {"internal_batch_size": _FORWARD_BATCH, "show_progress": True}
    explainers = {m: make_explainer(m, cosines, clusters, rise_masks) for m in methods}
    maps, effects = {}, None
    for method, explainer in explainers.items():
        if method.name == "cci":  # the same passes serve all texts
            effects = explainer.effects(inputs, **options)
            per_text = [effects.patch_map(index) for index in range(len(texts))]
        else:
            per_text = [raw_map(explainer, inputs, index, **options) for index in range(len(texts))]
        maps[method] = torch.stack(per_text, dim=1)
    if effects is None:
        with torch.no_grad():
            similarities = torch.cat([cosines(part) for part in inputs.split(_FORWARD_BATCH)])
    else:
        similarities = effects.outputs
    return Explained(similarities, maps, effects)


def _check_texts(texts: list[str]) -> list[str]:
    stripped = [text.strip() for text in texts]
    if not all(stripped):
        raise CommandError("--text: expected some words, got an empty text")
    return list(dict.fromkeys(stripped))


def _read(paths: list[Path]) -> list[Image]:
    from cci_captum.benchmarks.images import read_image

    try:
        return [read_image(path) for path in paths]
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error


def _draw(
    clip: LoadedCLIP,
    inputs: torch.Tensor,
    explained: Explained,
    names: list[str],
    texts: list[str],
) -> Any:
    from cci_captum.benchmarks.preprocessing import normalization
    from cci_captum.visualization import attribution_grid, denormalize

    cells = [(index, method) for index in range(len(texts)) for method in explained.maps]
    columns = [f"{index} {method.name}" for index, method in cells]
    by_method = len(explained.maps) > 1
    return attribution_grid(
        denormalize(inputs, *normalization(clip.preprocess)),
        {
            column: explained.maps[method][:, index]
            for column, (index, method) in zip(columns, cells, strict=True)
        },
        titles=[
            "image",
            *(f"{texts[i]}\n{method.title}" if by_method else texts[i] for i, method in cells),
        ],
        row_titles=[Path(name).name for name in names],
        scores={
            column: explained.similarities[:, index]
            for column, (index, _) in zip(columns, cells, strict=True)
        },
    )


def _save_maps(
    path: Path,
    explained: Explained,
    inputs: torch.Tensor,
    names: list[str],
    texts: list[str],
    model: str,
) -> None:
    import numpy as np
    import torch

    tensors = {"similarities": explained.similarities}
    for method, maps in explained.maps.items():
        if method.resolution == "patch":
            tensors[f"patch_maps.{method.name}"] = maps
            size = inputs.shape[-2:]
            maps = torch.nn.functional.interpolate(maps, size, mode="nearest-exact")
        tensors[f"maps.{method.name}"] = maps
    if explained.effects is not None:
        drops = [explained.effects.drops(index) for index in range(len(texts))]
        tensors |= {"drops": torch.stack(drops, dim=1), "labels": explained.effects.labels}
    arrays: dict[str, Any] = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    np.savez_compressed(
        path,
        **arrays,
        images=np.array(names),
        texts=np.array(texts),
        methods=np.array([method.name for method in explained.maps]),
        model=np.array(model),
    )
