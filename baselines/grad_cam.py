"""GradCAM on the tokens of an image encoder, or on any convolutional layer.

Selvaraju et al.: "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", arXiv 1610.02391; on tokens as the comparison in arXiv 2502.18816 reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

from captum.attr import LayerGradCam
from torch import Tensor, nn

from cci_captum._arguments import tower_of
from cci_captum.field_of_view import FieldOfView
from cci_captum.patch_attribution import ImageAttribution, PatchAttribution
from cci_captum.vision_towers import VisionTower

from ._gradients import differentiable, gradients


class GradCAM(PatchAttribution):
    """ReLU(sum_c weight_c x_ic), weight_c the mean over the tokens of d score / d x_c.

    Over which tokens, published code does not agree. The comparison in arXiv 2502.18816
    (github.com/Cyang-Zhao/Grad-Eclip, generate_emap.py) averages over all of them, the class
    token too, which is the default. pytorch-grad-cam (github.com/jacobgil/pytorch-grad-cam), as
    its reshape for ViTs drops the class token first, averages over the patches alone:
    `average="patches"`. The class token's gradient is by far the largest, so that the two give
    maps that may have little in common.

    For a module gradients and activations come from Captum's layer machinery; the choice of a layer
    of tokens and the way from tokens to the patch grid are done here. One forward pass, and one
    backward pass to the layer.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`; not needed where layer is a module.
        layer: Which tokens x are: None those that enter the last block (the output of the last
            block itself has no gradient at the patches of a model that reads out its class
            token), an int the output of that block, "input" what enters the first; or a module
            with output (B, D, h, w), for which the result is that of `captum.attr.LayerGradCam`.
        single_head: Compute the last block's attention with one head over the full width, as
            the released comparison does; see `GradECLIP`. For layers of tokens only.
        relu: Keep positive values only, as the paper does.
        average: Over which tokens gradients are averaged: "tokens", all of them, or "patches";
            see above. For layers of tokens only.

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
        >>> GradCAM(classifier, layer=clip.model.visual.conv1).patch_map(images, target=1).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        layer: int | Literal["input"] | nn.Module | None = None,
        single_head: bool = False,
        relu: bool = True,
        average: Literal["tokens", "patches"] = "tokens",
    ) -> None:
        if average not in ("tokens", "patches"):
            raise ValueError(f"average: expected 'tokens' or 'patches', got {average!r}")
        if isinstance(layer, nn.Module):
            if single_head:
                raise ValueError("single_head: expected False where layer is a module, got True")
            if average != "tokens":
                raise ValueError(
                    f"average: expected 'tokens' where layer is a module, got {average!r}"
                )
            ImageAttribution.__init__(self, forward_func)
        else:
            super().__init__(forward_func, vision_tower)
        self.is_module = isinstance(layer, nn.Module)
        self.layer = layer if isinstance(layer, nn.Module) else self._layer_of_tokens(layer)
        if single_head:
            self.vision_tower.check_attention()
        self.single_head = single_head
        self.relu = relu
        self.average = average

    def _layer_of_tokens(self, layer: int | str | None) -> int | Literal["input"]:
        """The layer, checked; that before the last block for None."""
        tower = self.vision_tower
        if layer is None:
            return tower.num_blocks - 2 if tower.num_blocks > 1 else "input"
        if layer == "input":
            return "input"
        if isinstance(layer, str):
            raise ValueError(
                f"layer: expected None, a block's index, 'input' or a module, got {layer!r}"
            )
        tower.check_block(layer, "layer")
        return layer

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        if isinstance(self.layer, nn.Module):
            return self._convolutional(self.layer, images, target, args)
        return self._tokens(self.layer, images, target, args)

    def _watched(self) -> AbstractContextManager[None]:
        """Watch the gradients in forward_func's image encoder, if it is of a known family."""
        try:
            return tower_of(self.forward_func, None).watch_gradients()
        except (TypeError, ValueError):
            return nullcontext()

    def _covered(self, images: Tensor, grid: tuple[int, int]) -> tuple[int, int] | FieldOfView:
        if self.is_module:
            return images.shape[2], images.shape[3]
        return super()._covered(images, grid)

    def _check_once(self, images: Tensor, args: tuple[Any, ...]) -> None:
        if self.is_module:  # without an image encoder
            ImageAttribution._check_once(self, images, args)
        else:
            super()._check_once(images, args)

    def _tokens(
        self, layer: int | Literal["input"], images: Tensor, target: Any, args: tuple[Any, ...]
    ) -> Tensor:
        """(B, h, w) map of tokens, (B, T, D)."""
        tower = self.vision_tower
        changed = tower.record_attention(single_head=True) if self.single_head else nullcontext()
        with changed, tower.record(layer, requires_grad=True) as recording:
            scores = self._score(images, target, args)
            (gradient,) = gradients(scores, [recording.all_tokens])
        averaged = gradient if self.average == "tokens" else tower.patches(gradient)
        weights = averaged.mean(dim=1, keepdim=True)  # (B, 1, D)
        patches = recording.tokens
        patch_map = (weights * patches).sum(dim=-1).unflatten(1, recording.grid)
        return patch_map.relu() if self.relu else patch_map

    def _convolutional(
        self, layer: nn.Module, images: Tensor, target: Any, args: tuple[Any, ...]
    ) -> Tensor:
        """(B, h, w) map of a layer with output (B, D, h, w)."""

        def scores(images: Tensor, *args: Any) -> Tensor:
            return differentiable(self._score(images, target, args))

        with self._watched():
            maps = LayerGradCam(scores, layer).attribute(
                images, additional_forward_args=args, relu_attributions=self.relu
            )
        if maps.ndim != 4:
            raise ValueError(
                "layer: expected a module with output (B, D, h, w), or a block's index for the "
                f"tokens of the vision tower; {type(layer).__name__} has output of "
                f"{maps.ndim} dimensions"
            )
        return maps[:, 0]
