"""A mark for arguments of forward_func that belong to all images."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Shared:
    """A tensor among additional_forward_args that belongs to all images, not one row to each.

    Methods hide parts of some images at a time and give forward_func the rows of its arguments
    that belong to these. What is marked goes to forward_func whole, as the tensor itself, in every
    pass, for instance the texts of `f(images, texts) -> (B, C)`.

    Args:
        tensor: Of any shape.

    Raises:
        TypeError: If it is no tensor. Other objects are passed on whole without a mark.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> similarity = cci_captum.ImageTextSimilarity(clip.model)
        >>> def scores(images, texts):
        ...     return similarity.encode_images(images) @ similarity.encode_texts(texts).T
        >>> cci = cci_captum.CCI(scores, clip.model.visual)
        >>> texts = cci_captum.Shared(clip.tokenizer(["a cat", "a dog"]))
        >>> effects = cci.effects(torch.zeros(2, 3, 96, 96), texts)
        >>> effects.outputs.shape
        torch.Size([2, 2])
    """

    tensor: Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.tensor, Tensor):
            raise TypeError(f"tensor: expected a tensor, got {type(self.tensor).__name__}")
