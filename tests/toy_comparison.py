"""A small comparison: images in memory, their classes and preprocessing, and a call of compare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from cci_captum.benchmarks.comparison import compare
from cci_captum.benchmarks.data import Sample

NAMES = ("fox", "ship", "igloo", "lemon", "jar", "owl", "bus")
# (width, height) and what a crop of the centre leaves
BOXES = {
    (32, 32): (0, 0, 32, 32),
    (48, 32): (8, 0, 40, 32),
    (64, 96): (0, 16, 64, 80),
    (40, 40): (0, 0, 40, 40),
}
PREPROCESS = transforms.Compose(
    [
        transforms.Resize(32, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(32),
        transforms.ToTensor(),
        transforms.Normalize(OPENAI_DATASET_MEAN, OPENAI_DATASET_STD),
    ]
)
SEED = 4


def toy_sample(index: int, target: int | None = None) -> Sample:
    """Coarse noise, with a rectangle as its object."""
    rng = np.random.default_rng(index)
    width, height = list(BOXES)[index % len(BOXES)]
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    mask = torch.zeros(height, width, dtype=torch.bool)
    top, left = height // 4 + index % 3, width // 3
    mask[top : top + height // 3, left : left + width // 4 + index % 5] = True
    target = int(rng.integers(len(NAMES))) if target is None else target
    return Sample(f"image {index}", coarse.resize((width, height)), target, mask)


class Toy:
    """Samples in memory; an exception stands for one that cannot be read."""

    name = "toy"
    class_names: tuple[str, ...] = NAMES
    templates = "{}"
    has_masks = True

    def __init__(self, samples: Sequence[Sample | Exception]) -> None:
        self.samples = samples
        self.targets = [0 if isinstance(s, Exception) else s.target for s in samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Sample:
        sample = self.samples[index]
        if isinstance(sample, Exception):
            raise sample
        return sample


class OneImage(NamedTuple):
    """What the comparison should make of a sample."""

    photo: Image.Image
    inputs: Tensor  # (1, 3, 32, 32)
    mask: Tensor  # (1, 32, 32)


def by_hand(sample: Sample) -> OneImage:
    box = BOXES[sample.image.size]
    left, top, right, bottom = box
    photo = sample.image.crop(box)
    places = [[int((i + 0.5) * n / 32) for i in range(32)] for n in (bottom - top, right - left)]
    seen = sample.mask[top:bottom, left:right][places[0]][:, places[1]]
    return OneImage(photo, PREPROCESS(photo)[None], seen[None])


def run(classifier: nn.Module, data: Any, methods: Any = ("cci",), *args: Any, **options: Any):
    defaults = {"forward_func": classifier, "preprocess": PREPROCESS, "seed": SEED}
    defaults["internal_batch_size"] = 64  # of so small images
    return compare(methods, data, *args, **(defaults | options))
