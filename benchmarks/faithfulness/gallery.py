"""The embeddings of a gallery: of images that are read as they are needed, and of captions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from cci_captum.attribution.inputs import check_images
from cci_captum.models._encoders import image_device, text_device
from cci_captum.models.clip import ImageTextSimilarity


@torch.no_grad()
def encode_images(model: nn.Module, inputs: Iterable[Tensor], batch_size: int = 64) -> Tensor:
    """The features of a gallery, each image read when it is needed.

    Args:
        model: A CLIP-like model.
        inputs: N preprocessed images (3, H, W).
        batch_size: Images in one forward pass.

    Returns:
        (N, E), L2-normalised, at least float32.

    Raises:
        ValueError: If there are none, or they are no images.
    """
    similarity = ImageTextSimilarity(model)
    device = image_device(model)
    features, images = [], iter(inputs)
    while batch := list(islice(images, batch_size)):
        stacked = check_images(torch.stack(batch), "inputs")
        features.append(similarity.encode_images(stacked.to(device)))
    if not features:
        raise ValueError("inputs: expected at least one image, got none")
    return torch.cat(features)


@torch.no_grad()
def encode_texts(model: nn.Module, tokens: Tensor, batch_size: int = 64) -> Tensor:
    """The features of captions, equal ones encoded once.

    Args:
        model: A CLIP-like model.
        tokens: (M, L) int64.
        batch_size: Different captions in one forward pass.

    Returns:
        (M, E), L2-normalised, at least float32.
    """
    similarity = ImageTextSimilarity(model)
    rows, places = tokens.unique(dim=0, return_inverse=True)
    rows = rows.to(text_device(model))
    features = torch.cat([similarity.encode_texts(part) for part in rows.split(batch_size)])
    return features[places.to(features.device)]
