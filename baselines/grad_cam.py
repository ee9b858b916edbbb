"""GradCAM on the tokens of an image encoder.

Selvaraju et al.: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", arXiv 1610.02391; on tokens as the comparison in arXiv 2502.18816 reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

from torch import Tensor, nn

from cci_captum._checks import check_choice
from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.derivatives import gradients
from cci_captum.vision_towers import VisionTower


class GradCAM(PatchAttribution):
    """ReLU(sum_c weight_c x_ic), weight_c the mean over the tokens of d score / d x_c.

    Over which tokens, published code does not agree. The comparison in arXiv 2502.18816
    (github.com/Cyang-Zhao/Grad-Eclip, generate_emap.py) averages over all of them, the class
    token too, which is the default. pytorch-grad-cam (github.com/jacobgil/pytorch-grad-cam), as
    its reshape for ViTs drops the class token first, averages over the patches alone:
    `average="patches"`. The class token's gradient is by far the largest, so that the two give
    maps that may have little in common.

    One forward pass, and one backward pass to the layer. For a layer with output (B, D, h, w), of
    any model: `LayerGradCAM`.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        layer: Which tokens x are: None those that enter the last block (the output of the last
            block itself has no gradient at the patches of a model that reads out its class
            token), an int the output of that block, "input" what enters the first.
        single_head: Compute the last block's attention with one head over the full width, as
            the released comparison does; see `GradECLIP`.
        relu: Keep positive values only, as the paper does.
        average: Over which tokens gradients are averaged: "tokens", all of them, or "patches";
            see above.

    Raises:
        TypeError: See `PatchAttribution`.
        ValueError: See `PatchAttribution`; or if the layer does not exist, or average is neither.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import GradCAM
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(2, 3, 96, 96)
        >>> GradCAM(classifier).patch_map(images, target=[0, 1]).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        layer: int | Literal["input"] | None = None,
        single_head: bool = False,
        relu: bool = True,
        average: Literal["tokens", "patches"] = "tokens",
    ) -> None:
        check_choice("average", average, ("tokens", "patches"))
        try:
            super().__init__(forward_func, vision_tower)
        except ValueError as error:
            if vision_tower is None:
                raise
            raise ValueError(
                f"{error}; a layer, as Captum's LayerGradCam takes one: GradCAM(forward_func, "
                "layer=index of its block), or LayerGradCAM(forward_func, layer)"
            ) from error
        self.layer = self._layer_of_tokens(layer)
        if single_head:
            self.vision_tower.check_attention()
        self.single_head = single_head
        self.relu = relu
        self.average = average

    def _layer_of_tokens(self, layer: Any) -> int | Literal["input"]:
        """The layer, checked; that before the last block for None."""
        tower = self.vision_tower
        if layer is None:
            return tower.num_blocks - 2 if tower.num_blocks > 1 else "input"
        if layer == "input":
            return "input"
        if isinstance(layer, nn.Module):
            raise TypeError(
                "layer: expected a block's index, 'input' or None, got a module, "
                f"{type(layer).__name__}; cci_captum.baselines.LayerGradCAM takes one"
            )
        if isinstance(layer, str):
            raise ValueError(f"layer: expected a block's index, 'input' or None, got {layer!r}")
        tower.check_block(layer, "layer")
        return layer

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        tower = self.vision_tower
        changed = tower.record_attention(single_head=True) if self.single_head else nullcontext()
        with changed, tower.record(self.layer, requires_grad=True) as recording:
            scores = self._score(images, target, args)
            (gradient,) = gradients(scores, [recording.all_tokens])
        averaged = gradient if self.average == "tokens" else tower.patches(gradient)
        weights = averaged.mean(dim=1, keepdim=True)  # (B, 1, D)
        patches = recording.tokens
        patch_map = (weights * patches).sum(dim=-1).unflatten(1, recording.grid)
        return patch_map.relu() if self.relu else patch_map
