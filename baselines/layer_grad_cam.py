"""GradCAM on a convolutional layer of any model.

Selvaraju et al.: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", arXiv 1610.02391, equations 1 and 2.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from captum.attr import LayerGradCam
from torch import Tensor, nn

from cci_captum.attribution.base import GridAttribution
from cci_captum.attribution.derivatives import differentiable
from cci_captum.attribution.forward import tower_of


class LayerGradCAM(GridAttribution):
    """Captum's `LayerGradCam` with the interface of the methods here.

    One forward pass, and one backward pass to the layer.

    Args:
        forward_func: See `PatchAttribution`; no image encoder is looked for.
        layer: A module that forward_func runs once a call, with output (B, D, h, w).
        relu: Keep positive values only, as the paper does.

    Raises:
        TypeError: If forward_func is not callable or layer is no module.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import LayerGradCAM
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> method = LayerGradCAM(classifier, clip.model.visual.conv1)
        >>> method.patch_map(torch.rand(2, 3, 96, 96), target=1).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self, forward_func: Callable[..., Tensor], layer: nn.Module, *, relu: bool = True
    ) -> None:
        super().__init__(forward_func)
        if not isinstance(layer, nn.Module):
            raise TypeError(f"layer: expected a module, got {type(layer).__name__}")
        self.layer = layer
        self.relu = relu

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        def scores(images: Tensor, *args: Any) -> Tensor:
            return differentiable(self._score(images, target, args))

        with self._watched():
            maps = LayerGradCam(scores, self.layer).attribute(
                images, additional_forward_args=args, relu_attributions=self.relu
            )
        if maps.ndim != 4:
            raise ValueError(
                "layer: expected a module with output (B, D, h, w), or GradCAM for the tokens of "
                f"an image encoder; {type(self.layer).__name__} has output of {maps.ndim} "
                "dimensions"
            )
        return maps[:, 0]

    def _watched(self) -> AbstractContextManager[None]:
        """Watch the gradients in forward_func's image encoder, if it is of a known family."""
        try:
            return tower_of(self.forward_func, None).watch_gradients()
        except (TypeError, ValueError):
            return nullcontext()
