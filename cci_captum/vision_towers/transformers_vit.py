"""Adapters for transformers' CLIP, SigLIP, SigLIP 2, ViT and DINOv2, one class a family."""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .blocks import MultiheadPool
from .hiding import Hiding
from .hooks import after, first_argument
from .layout import READ_BY_POOL, refuse_part
from .transformers_base import TransformersTower


class TransformersCLIPTower(TransformersTower):
    """`CLIPModel`, `CLIPVisionModelWithProjection` and `CLIPVisionModel`; MetaCLIP 2's alike."""

    class_names = (
        "CLIPModel",
        "CLIPVisionModelWithProjection",
        "CLIPVisionModel",
        "CLIPVisionTransformer",
        "MetaClip2Model",
        "MetaClip2VisionModelWithProjection",
        "MetaClip2VisionModel",
        "MetaClip2VisionTransformer",
    )

    @property
    def input_module(self) -> nn.Module:
        """The norm before the blocks; see `TowerLayout.input_module`."""
        return self.trunk.pre_layrnorm

    @property
    def norm(self) -> nn.Module:
        """The norm of the class token."""
        return self.trunk.post_layernorm

    def hide_in_read_out(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """The class token stays where it is; `last_hidden_state` goes back to the grid."""

        def restore(module: nn.Module, args: Any, output: Any) -> None:
            tokens = hiding.restore(output.last_hidden_state)
            output.last_hidden_state = hiding.average_kept(tokens)

        yield after(self.trunk.encoder, restore)


class TransformersSiglipTower(TransformersTower):
    """`SiglipModel` and `SiglipVisionModel`: no class token, a MAP head."""

    class_names = ("SiglipModel", "SiglipVisionModel", "SiglipVisionTransformer")
    num_prefix_tokens = 0
    unprojectable = READ_BY_POOL

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        if not hasattr(self.trunk, "head"):
            raise TypeError(
                f"vision_tower: {type(module).__name__}: expected vision_use_head=True, without "
                "the head there is no image feature"
            )
        if type(self.trunk.head.attention) is not nn.MultiheadAttention:
            refuse_part(self.trunk.head.attention, "the attention pool", "transformers'")

    @property
    def attention_pool(self) -> MultiheadPool:
        """The MAP head; see `TowerLayout.attention_pool`."""
        return MultiheadPool(self.trunk.head, self.trunk.head.attention, num_prefix_tokens=0)

    @property
    def norm(self) -> nn.Module:
        """The norm before the MAP head."""
        return self.trunk.post_layernorm

    def pool(self, tokens: Tensor) -> Tensor:
        """Not defined: see `attention_pool`."""
        raise TypeError(f"vision_tower: {type(self.module).__name__}: {self.unprojectable}")

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `TowerLayout.read_out`."""
        return self.trunk.head(self.norm.forward(tokens))

    def hide_in_read_out(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """See `TowerLayout.hide_in_read_out`."""
        yield from super().hide_in_read_out(hiding)
        yield from self.attention_pool.hide(hiding)


class TransformersSiglip2Tower(TransformersSiglipTower):
    """`Siglip2Model` on batches of images of one size, without padding.

    The model itself takes patches, (B, h * w, 3 * p * p), with their `spatial_shapes`.
    """

    class_names = ("Siglip2Model", "Siglip2VisionModel", "Siglip2VisionTransformer")

    def entered_grid(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
        """The patch grid, the same for all images; ValueError if it is not, or with padding."""
        patches, shapes = (*args, *kwargs.values())[:2]
        first = tuple(int(size) for size in shapes[0])
        if bool((shapes != shapes[:1]).any()) or first[0] * first[1] != patches.shape[1]:
            raise ValueError(
                "images: expected a batch of one size without padding, got "
                f"{patches.shape[1]} patches an image for spatial_shapes {shapes.tolist()}"
            )
        return first[0], first[1]

    def entered_images(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """The images that flat patches, (B, N, 3 p p) with colours innermost, were cut from."""
        patches = (*args, *kwargs.values())[0]
        h, w = self.entered_grid(args, kwargs)
        side = isqrt(patches.shape[-1] // 3)
        tiles = patches.unflatten(-1, (side, side, 3)).unflatten(1, (h, w))  # B h w p p 3
        return tiles.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class TransformersViTTower(TransformersTower):
    """`ViTForImageClassification` and `ViTModel`."""

    class_names = ("ViTForImageClassification", "ViTModel")

    def _head(self, features: Tensor) -> Tensor:
        pooler = getattr(self.trunk, "pooler", None)
        if self.trunk is not self.module or pooler is None:
            return super()._head(features)
        return pooler.activation(pooler.dense(features))


class TransformersDinov2Tower(TransformersTower):
    """`Dinov2ForImageClassification` and `Dinov2Model`, with registers or without.

    The classifier reads the class token and the mean of the patches side by side. Methods that
    ask what is read out take the class token.
    """

    class_names = (
        "Dinov2ForImageClassification",
        "Dinov2Model",
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersModel",
    )

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.num_prefix_tokens = 1 + getattr(self.trunk.config, "num_register_tokens", 0)
        if hasattr(module, "classifier"):
            self.unprojectable = (
                "the classifier reads the class token and the mean of the patches side by side: "
                "one token alone has no score"
            )

    def entered_grid(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
        """The patch grid: positions are always interpolated to the images' size."""
        return self.grid(first_argument(args, kwargs))

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `TowerLayout.read_out`."""
        tokens = self.norm.forward(tokens)
        classifier: Any = getattr(self.module, "classifier", None)
        if classifier is None:
            return tokens[:, 0]
        return classifier(torch.cat([tokens[:, 0], self.patches(tokens).mean(dim=1)], dim=1))
