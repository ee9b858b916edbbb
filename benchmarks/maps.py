"""One call for the maps of every method, whatever its resolution and whatever it needs."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from cci_captum.baselines.registry import Method


def raw_map(
    method: Method,
    explainer: Any,
    inputs: Tensor,
    target: Any,
    *,
    masks: Tensor | None = None,
    internal_batch_size: int | None = None,
    show_progress: bool = False,
) -> Tensor:
    """A method's map before any resizing.

    Args:
        method: The method's entry in the registry.
        explainer: An object of `method.cls`.
        inputs: (B, 3, H, W) images, ready for the explainer's forward_func.
        target: As in Captum.
        masks: (B, H, W) bool, for methods that need masks; others do not get to see them.
        internal_batch_size: As in `cci_captum.CCI.attribute`.
        show_progress: As in `cci_captum.CCI.attribute`.

    Returns:
        (B, h, w), a value a patch, for methods of resolution "patch"; (B, H, W) for "pixel".

    Raises:
        ValueError: If the method needs masks and there are none.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines.registry import find_method
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> method = find_method("grad-eclip")
        >>> raw_map(method, method.cls(classifier), torch.zeros(2, 3, 96, 96), target=0).shape
        torch.Size([2, 12, 12])
    """
    options: dict[str, Any] = {
        "internal_batch_size": internal_batch_size,
        "show_progress": show_progress,
    }
    if method.needs_masks:
        if masks is None:
            raise ValueError(f"masks: {method.name} needs masks (B, H, W) of the objects, got None")
        options["masks"] = masks
    if method.resolution == "patch":
        return explainer.patch_map(inputs, target, **options)
    return explainer.attribute(inputs, target, **options)[:, 0]
