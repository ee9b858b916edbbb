"""`cci-captum explain`: which parts of images match which texts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._common import CommandError, check_output, choose_device, normalization, whole_file

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from cci_captum.clip import LoadedCLIP
    from cci_captum.effects import ClusterEffects

_PICTURES = (".png", ".pdf", ".svg", ".jpg", ".jpeg", ".webp")
_FORWARD_BATCH = 32  # images in one forward pass: bounds the memory


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "explain",
        help="explain the similarity of images and texts",
        description="Draw, for each image and text, which parts of the image match the text. "
        "A row an image, a column a text, the cosine similarity below each map.",
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files")
    parser.add_argument(
        "--text", action="append", required=True, metavar="T", help="a text; may be repeated"
    )
    parser.add_argument("--model", default="tiny", help='"tiny" or an open_clip name (%(default)s)')
    parser.add_argument("--pretrained", metavar="TAG", help="open_clip tag or checkpoint file")
    parser.add_argument("--clusters", type=int, default=7, metavar="K", help="(%(default)s)")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda", ... (%(default)s)')
    parser.add_argument(
        "--out", type=Path, default=Path("explanation.png"), help="picture (%(default)s)"
    )
    parser.add_argument("--save-maps", type=Path, metavar="NPZ", help="also write maps and drops")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Check everything the user gave, then load the model, explain, and write the files."""
    texts = _check_texts(arguments.text)
    if arguments.clusters < 1:
        raise CommandError(f"--clusters: expected at least 1, got {arguments.clusters}")
    check_output(arguments.out, "--out", _PICTURES)
    if arguments.save_maps:
        check_output(arguments.save_maps, "--save-maps", (".npz",))
    if any(arguments.out.absolute() == image.absolute() for image in arguments.images):
        raise CommandError(f"--out: would overwrite the image {arguments.out}")
    pictures = _read(arguments.images)
    device = choose_device(arguments.device)
    clip = _load(arguments.model, arguments.pretrained, device)
    _warn_about_unknown_words(arguments.model, texts)

    inputs = preprocess_images(clip.preprocess, pictures).to(device)
    effects = text_effects(clip, inputs, texts, arguments.clusters)
    names = [str(image) for image in arguments.images]
    with whole_file(arguments.out) as path:
        _draw(clip, inputs, effects, names, texts).savefig(path, dpi=200)
    if arguments.save_maps:
        with whole_file(arguments.save_maps) as path:
            _save_maps(path, effects, names, texts, clip.name)
    for index, name in enumerate(names):
        for text, cosine in zip(texts, effects.outputs[index].tolist(), strict=True):
            print(f"{name}: {cosine:.3f} {text}")
    print(f"wrote {arguments.out}" + (f" and {arguments.save_maps}" if arguments.save_maps else ""))


def preprocess_images(preprocess: Any, pictures: list[Image]) -> torch.Tensor:
    """(B, 3, H, W) inputs of the model; elongated images are cut to what the crop leaves anyway."""
    import torch

    from cci_captum.benchmarks.images import crop_to_ratio

    crops = any("Crop" in type(step).__name__ for step in getattr(preprocess, "transforms", []))
    return torch.stack([preprocess(crop_to_ratio(p) if crops else p) for p in pictures])


def text_effects(
    clip: LoadedCLIP, inputs: torch.Tensor, texts: list[str], clusters: int
) -> ClusterEffects:
    """Effects on the cosine with each text: the same passes serve all texts."""
    import torch

    from cci_captum.cci import CCI
    from cci_captum.clip import ZeroShotClassifier
    from cci_captum.clustering import KMeans

    model: Any = clip.model
    text_features = ZeroShotClassifier(model, clip.tokenizer, texts, "{}").text_features

    def cosines(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(model.encode_image(images), dim=-1) @ text_features.T

    cci = CCI(cosines, model.visual, clustering=KMeans(clusters))
    return cci.effects(inputs, internal_batch_size=_FORWARD_BATCH, show_progress=True)


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


def _load(name: str, pretrained: str | None, device: torch.device) -> LoadedCLIP:
    from cci_captum.clip import load_clip
    from cci_captum.vision_towers import find_vision_tower

    try:
        clip = load_clip(name, pretrained, device)
        find_vision_tower(clip.model)
        return clip
    except (RuntimeError, TypeError, ValueError) as error:
        raise CommandError(str(error)) from error


def _warn_about_unknown_words(model: str, texts: list[str]) -> None:
    from cci_captum.tiny import MODEL_NAMES, unknown_words

    if model not in MODEL_NAMES:
        return
    unknown = list(dict.fromkeys(word for text in texts for word in unknown_words(text)))
    if unknown:
        print(
            f"cci-captum: warning: the tiny model never learnt {', '.join(unknown)}; it knows "
            "the 33 classes in cci_captum.tiny.CLASS_NAMES; --model takes any open_clip name",
            file=sys.stderr,
        )


def _draw(
    clip: LoadedCLIP,
    inputs: torch.Tensor,
    effects: ClusterEffects,
    names: list[str],
    texts: list[str],
) -> Any:
    from cci_captum.visualization import attribution_grid, denormalize

    normalize = normalization(clip.preprocess)
    return attribution_grid(
        denormalize(inputs, normalize.mean, normalize.std),
        {f"text {index}": effects.patch_map(index) for index in range(len(texts))},
        titles=["image", *texts],
        row_titles=[Path(name).name for name in names],
        scores={f"text {index}": effects.outputs[:, index] for index in range(len(texts))},
    )


def _save_maps(
    path: Path, effects: ClusterEffects, names: list[str], texts: list[str], model: str
) -> None:
    import numpy as np
    import torch

    targets = range(len(texts))
    per_text = {
        "maps": [effects.attributions(t)[:, 0] for t in targets],
        "patch_maps": [effects.patch_map(t) for t in targets],
        "drops": [effects.drops(t) for t in targets],
    }
    arrays: dict[str, Any] = {
        name: torch.stack(values, dim=1).cpu().numpy() for name, values in per_text.items()
    }
    np.savez_compressed(
        path,
        **arrays,
        similarities=effects.outputs.cpu().numpy(),
        labels=effects.labels.cpu().numpy(),
        images=np.array(names),
        texts=np.array(texts),
        model=np.array(model),
    )
