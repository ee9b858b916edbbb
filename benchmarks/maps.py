"""One call for the maps of every method, whatever its resolution and whatever it needs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cci_captum.attribution.native_map import native_map
from cci_captum.baselines import GroundTruth


def raw_map(
    explainer: Any,
    inputs: Tensor,
    target: Any,
    additional_forward_args: Any = None,
    *,
    masks: Tensor | None = None,
    internal_batch_size: int | None = None,
    show_progress: bool = False,
) -> Tensor:
    """The `native_map` of a method, also of `GroundTruth`.

    Args:
        explainer: See `native_map`.
        inputs: See `native_map`.
        target: See `native_map`.
        additional_forward_args: See `native_map`.
        masks: (B, H, W) bool, for `GroundTruth`; no method gets to see them.
        internal_batch_size: As in `cci_captum.CCI.attribute`; for methods of this package.
        show_progress: As in `cci_captum.CCI.attribute`; for methods of this package.

    Returns:
        See `native_map`.

    Raises:
        ValueError: If `GroundTruth` has no masks.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> raw_map(cci_captum.CCI(classifier), torch.zeros(2, 3, 96, 96), target=0).shape
        torch.Size([2, 12, 12])
    """
    options: dict[str, Any] = {
        "internal_batch_size": internal_batch_size,
        "show_progress": show_progress,
    }
    if isinstance(explainer, GroundTruth):
        if masks is None:
            raise ValueError("masks: ground-truth needs masks (B, H, W) of the objects, got None")
        options["masks"] = masks
    return native_map(explainer, inputs, target, additional_forward_args, **options)
