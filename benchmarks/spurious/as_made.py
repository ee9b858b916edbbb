"""Preprocessing that shows a model all of an image that was made at its size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cci_captum.models.preprocessing import Preprocess, Preprocessing, mean_and_std, whole


@dataclass(frozen=True)
class _Whole:
    """A picture as an input of this height and width, normalised; can be pickled."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, photo: Image.Image) -> Tensor:
        high, wide = self.size
        if photo.size != (wide, high):
            photo = photo.resize((wide, high), Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.asarray(photo).copy()).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(three)[:, None, None] for three in (self.mean, self.std))
        return (values - mean) / std


def as_made(preprocess: Preprocess) -> Preprocessing:
    """A model's preprocessing without its crop: for images that are made at the size it sees.

    Classifiers of ImageNet are often shown the central 224 of 256 pixels. Of images that are 224
    pixels a side, as those of ImageNet-9 and of `cci_captum.benchmarks.data.HardImageNet`, that
    would be a part, enlarged; the released code of both normalises and does nothing else. An image
    of another size than the model's input is resized, bicubic.

    Args:
        preprocess: As `cci_captum.load_clip` returns it; see
            `cci_captum.models.preprocessing.mean_and_std`.

    Returns:
        From an image of mode "RGB" to an input of the same size as that of preprocess.

    Raises:
        ValueError: If it is not known how preprocess normalises.

    Example:
        >>> import cci_captum
        >>> preprocess = cci_captum.load_clip("tiny").preprocess
        >>> as_made(preprocess)(Image.new("RGB", (224, 224))).shape
        torch.Size([3, 96, 96])
    """
    mean, std = mean_and_std(preprocess)
    high, wide = preprocess(Image.new("RGB", (8, 8))).shape[-2:]
    return Preprocessing(_Whole((high, wide), mean, std), mean, std, whole)
