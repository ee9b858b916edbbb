"""One call for the map of any method, at the resolution that the method has."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .base import GridAttribution, ImageAttribution
from .field_of_view import FieldOfView


def native_map(
    explainer: Any,
    inputs: Tensor,
    target: Any,
    additional_forward_args: Any = None,
    **options: Any,
) -> Tensor:
    """A method's map before any resizing.

    Args:
        explainer: A method of this package, or any other of Captum's that attributes inputs.
        inputs: (B, 3, H, W) images, ready for the explainer's forward_func.
        target: As in Captum.
        additional_forward_args: As in Captum.
        options: Further ones of `attribute`; methods that are not of this package get none.

    Returns:
        (B, h, w), a value a patch, for methods that have a `patch_map`; else (B, H, W), the mean
        over the channels.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> native_map(cci_captum.CCI(classifier), torch.zeros(2, 3, 96, 96), target=0).shape
        torch.Size([2, 12, 12])
    """
    if isinstance(explainer, GridAttribution):
        return explainer.patch_map(inputs, target, additional_forward_args, **options)
    if isinstance(explainer, ImageAttribution):
        return explainer.attribute(inputs, target, additional_forward_args, **options)[:, 0]
    given = {"target": target}
    if additional_forward_args is not None:  # a method of one's own may not know of any
        given["additional_forward_args"] = additional_forward_args
    return explainer.attribute(inputs, **given).detach().mean(dim=1)


def view_of_map(explainer: Any, inputs: Tensor, maps: Tensor) -> FieldOfView:
    """The pixels of inputs (B, 3, H, W) under native maps (B, ..., h, w)."""
    size = (inputs.shape[2], inputs.shape[3])
    covered: tuple[int, int] | FieldOfView = size
    if isinstance(explainer, GridAttribution):
        covered = explainer._covered(inputs, (maps.shape[-2], maps.shape[-1]))
    return covered if isinstance(covered, FieldOfView) else FieldOfView(0, 0, *covered)
