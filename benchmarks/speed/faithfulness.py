"""What deletion and insertion cost in plain forward passes of the same batch.

Times, in one process and in turn, as many plain forward passes as a protocol has points in both
directions, and what the same curves cost by each of:

- `DeletionInsertion`, by protocol; the first one also of images that were prepared before;
- Quantus' PixelFlipping, if it is installed (`pip install quantus`), once in each direction;
- a loop as published code has it: photos painted in NumPy at their own resolution, one image and
  one point at a time, each through PIL and the model's preprocessing.

    python -m cci_captum.benchmarks.speed.faithfulness --model ViT-B-32 --batch-size 8
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cci_captum.vision_towers import find_vision_tower

from ..faithfulness import PROTOCOLS, DeletionInsertion
from .timing import ImageScores, add_options, describe, median_seconds, set_up

PASSES = 22  # 11 points, two directions
# Quantus takes steps that divide the pixels of one channel, so that three channels make a
# multiple of three steps: twelve are the closest to eleven points.
QUANTUS_PASSES = 24
PHOTO_SIZE = (375, 500)  # height and width, the most frequent in ImageNet


def _quantus() -> Any | None:
    """Quantus, or None and a message where it cannot be imported."""
    try:
        return importlib.import_module("quantus")
    except ImportError as error:
        print(f"Without Quantus: {error} (pip install quantus)", file=sys.stderr)
        return None


def _pixel_flipping(
    quantus: Any, forward_func: ImageScores, images: Tensor, maps: Tensor
) -> Callable[[], object]:
    """Deletion by falling and by rising importance, twelve points each."""
    batch, pixels = len(images), images.shape[2] * images.shape[3]
    if pixels % 4:
        raise ValueError(f"images: expected a multiple of four pixels for Quantus, got {pixels}")
    metric = quantus.PixelFlipping(
        features_in_step=pixels // 4, normalise=False, disable_warnings=True
    )

    def flip(importance: Tensor) -> object:
        return metric(
            forward_func,
            x_batch=images.float().cpu().numpy(),
            y_batch=np.zeros(batch, dtype=int),
            a_batch=importance[:, None].cpu().numpy(),
            channel_first=True,
            softmax=False,
            device=str(images.device),
            batch_size=batch,
        )

    return lambda: (flip(maps), flip(1 - maps))


def _published_loop(
    forward_func: ImageScores,
    preprocess: Callable[[Image.Image], Tensor],
    photos: np.ndarray,
    maps: Tensor,
) -> None:
    """Deletion with noise and insertion from black, an image and a point at a time."""
    rng = np.random.default_rng(0)
    enlarged = F.interpolate(maps[:, None], photos.shape[1:3], mode="bilinear")[:, 0].cpu().numpy()
    for photo, one in zip(photos, enlarged, strict=True):
        order = np.argsort(-one, axis=None)
        noise = rng.integers(0, 256, photo.shape, dtype=np.uint8)
        for before, after in ((photo, noise), (np.zeros_like(photo), photo)):
            for fraction in PROTOCOLS["grad-eclip"].fractions:
                first = np.unravel_index(order[: round(fraction * order.size)], one.shape)
                painted = before.copy()
                painted[first] = after[first]
                inputs = preprocess(Image.fromarray(painted))
                forward_func(inputs[None].to(maps.device))


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, repeats=3)
    args = parser.parse_args(argv)
    forward_func, preprocess, images = set_up(args)
    grid = find_vision_tower(forward_func).grid(images)
    maps = torch.rand(args.batch_size, *grid, device=args.device)
    pixel_maps = torch.rand(args.batch_size, *images.shape[-2:], device=args.device)
    photos = np.random.default_rng(0).integers(
        0, 256, (args.batch_size, *PHOTO_SIZE, 3), dtype=np.uint8
    )

    def plain() -> None:
        for _ in range(PASSES):
            forward_func(images)

    def harness(name: str) -> Callable[[], object]:
        return lambda: DeletionInsertion(forward_func, name)(images, maps, target=0)

    rows: dict[str, Callable[[], object]] = {f"{PASSES} plain passes": plain}
    for name in ("grad-eclip", "rise", "tokens"):
        rows[f'DeletionInsertion, "{name}"'] = harness(name)
    again = DeletionInsertion(forward_func, "grad-eclip")
    prepared = again.prepare(images)
    rows['"grad-eclip", images prepared'] = lambda: again(prepared, maps, target=0)
    rows["published loop, PIL, one by one"] = lambda: _published_loop(
        forward_func, preprocess, photos, maps
    )
    quantus_row = f"Quantus PixelFlipping, {QUANTUS_PASSES} passes"
    quantus = _quantus()
    if quantus is not None:
        rows[quantus_row] = _pixel_flipping(quantus, forward_func, images, pixel_maps)
    with torch.no_grad():
        seconds = median_seconds(rows, args.repeats, images.device)
    reference = next(iter(seconds.values())) / PASSES
    print(f"{describe(args)};")
    print("ratio: seconds a pass, in units of a plain pass\n")
    print(f"{'':36}{'seconds':>10}{'ratio':>8}")
    for name, value in seconds.items():
        passes = QUANTUS_PASSES if name == quantus_row else PASSES
        print(f"{name:36}{value:10.3f}{value / passes / reference:8.2f}")


if __name__ == "__main__":
    main()
