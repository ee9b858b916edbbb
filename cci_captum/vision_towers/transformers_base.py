"""What transformers' image encoders share.

Models are recognised by the names of their classes: transformers is not imported here. The
library renamed and flattened many modules between versions 4.57 and 5; where they differ, both
are looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .base import VisionTower
from .blocks import AttentionBlock, split_heads
from .hiding import Hiding
from .hooks import first_argument, hide_keys, hook_input, hook_output
from .layout import check_as_released, pair, refuse_part

_OF_TEXTS = ("text_", "logit_")  # names in a model of images and texts


class TransformersTower(VisionTower):
    """An image encoder of transformers, with a class token unless its family says otherwise.

    Attributes:
        trunk: The module with the embeddings and the layers.
    """

    class_names: tuple[str, ...]
    num_prefix_tokens = 1
    trunk: Any

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        self.trunk = _inner(module)
        check_as_released(module, "transformers", ("forward", "get_image_features"))
        for layer in _layers(self.trunk):
            attention = _attention(layer)
            if not type(attention).__module__.startswith("transformers."):
                refuse_part(attention, f"a layer of {type(module).__name__}", "transformers'")

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Whether `module` is of one of the classes that this adapter takes."""
        return any(
            base.__module__.startswith("transformers.") and base.__name__ in cls.class_names
            for base in type(module).__mro__
        )

    @property
    def blocks(self) -> Sequence[AttentionBlock]:
        """See `TowerLayout.blocks`."""
        return [_Block(layer) for layer in _layers(self.trunk)]

    @property
    def entry(self) -> nn.Module:
        """The embeddings; see `TowerLayout.entry`."""
        return self.trunk.embeddings

    @property
    def input_module(self) -> nn.Module:
        """The embeddings; see `TowerLayout.input_module`."""
        return self.trunk.embeddings

    @property
    def norm(self) -> nn.Module:
        """The norm after the last block."""
        return self.trunk.layernorm

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The modules that make the image feature; see `TowerLayout.named_modules`."""
        for name, module in self.module.named_modules():
            if not name.startswith(_OF_TEXTS):
                yield name, module

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that make the image feature; see `TowerLayout.parameters`."""
        for name, weights in self.module.named_parameters():
            if not name.startswith(_OF_TEXTS):
                yield weights

    @property
    def patch_size(self) -> tuple[int, int]:
        """See `TowerLayout.patch_size`."""
        return pair(self.trunk.config.patch_size)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid (h, w); see `TowerLayout.grid_of`.

        Sizes other than the model's own are for passes with `interpolate_pos_encoding=True`.
        """
        patch_height, patch_width = self.patch_size
        if height < patch_height or width < patch_width:
            raise ValueError(
                f"images: expected at least one patch of {patch_height} x {patch_width}, got "
                f"height x width {height} x {width}"
            )
        return height // patch_height, width // patch_width

    def entered_grid(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
        """The patch grid of a pass; ValueError for a size that it was not meant for."""
        images = first_argument(args, kwargs)
        own = pair(self.trunk.config.image_size)
        if not kwargs.get("interpolate_pos_encoding") and tuple(images.shape[-2:]) != own:
            raise ValueError(
                f"images: expected height x width {own[0]} x {own[1]}, or a pass with "
                f"interpolate_pos_encoding=True, got {tuple(images.shape[-2:])}"
            )
        return self.grid(images)

    def pool(self, tokens: Tensor) -> Tensor:
        """The class token; see `TowerLayout.pool`."""
        return tokens[:, 0]

    def project(self, tokens: Tensor) -> Tensor:
        """The final norm and what follows it; see `TowerLayout.project`."""
        self.check_projection()
        # .forward, not a call: the final norm may carry the hooks that hide.
        return self._head(self.norm.forward(tokens))

    def _head(self, features: Tensor) -> Tensor:
        """The module's own projection or classifier, if it has one."""
        head = getattr(self.module, "visual_projection", getattr(self.module, "classifier", None))
        return features if head is None else head(features)

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `TowerLayout.read_out`."""
        return self.project(self.pool(tokens))

    def hide_in_read_out(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """See `TowerLayout.hide_in_read_out`."""
        if hiding.strategy == "drop":
            yield hook_input(self.norm, hiding.restore)
        # The caller may average patches of `last_hidden_state`, also where the tower does not.
        yield hook_output(self.norm, hiding.average_kept)

    def check_hideable(self) -> None:
        """Refuse attention kernels that take no mask of floating point numbers."""
        implementation = self.trunk.config._attn_implementation
        if implementation not in ("sdpa", "eager"):
            raise ValueError(
                "vision_tower: expected attn_implementation 'sdpa' or 'eager', whose masks can "
                f"hide patches, got {implementation!r}; "
                "model.set_attn_implementation('sdpa') changes it"
            )


class _Block(AttentionBlock):
    """One layer of any of these models."""

    module: Any
    attention: Any

    def __init__(self, module: Any) -> None:
        self.module = module
        self.attention = _attention(module)
        # ViT and DINOv2 of older versions: projections one level down, and no mask is passed on.
        self._is_nested = hasattr(self.attention, "attention")
        projections = self.attention.attention if self._is_nested else self.attention
        self._projections = [
            _first(projections, *names)
            for names in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"))
        ]
        self.num_heads = _first(projections, "num_heads", "num_attention_heads")

    def project_qkv(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        inputs = first_argument(args, kwargs)
        queries, keys, values = (
            split_heads(project(inputs), self.num_heads) for project in self._projections
        )
        return queries, keys, values

    def project_out(self, context: Tensor) -> Tensor:
        if self._is_nested:
            return self.attention.output.dense(context)
        return _first(self.attention, "out_proj", "o_proj")(context)

    def add_attention(self, tokens: Tensor, attention: Tensor) -> Tensor:
        return tokens + _scale(self.module, "layer_scale1", attention)

    def add_mlp(self, tokens: Tensor) -> Tensor:
        layer = self.module
        normed = _first(layer, "layer_norm2", "layernorm_after", "norm2")(tokens)
        if hasattr(layer, "intermediate"):
            return tokens + layer.output.dense(layer.intermediate(normed))
        return tokens + _scale(layer, "layer_scale2", layer.mlp(normed))

    def hide(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        if self._is_nested:
            yield from super().hide(hiding)
        else:
            yield hide_keys(
                self.attention, lambda: hiding.key_padding_mask, "attention_mask", position=1
            )


def _inner(module: Any) -> Any:
    """The image encoder inside a model, past all wrappers."""
    for name in ("vision_model", "vit", "dinov2", "dinov2_with_registers"):
        inner = getattr(module, name, module)
        if inner is not module:
            return _inner(inner)
    return module


def _layers(trunk: Any) -> nn.ModuleList:
    """The blocks of an image encoder."""
    return _first(getattr(trunk, "encoder", trunk), "layers", "layer")


def _attention(layer: Any) -> Any:
    """The attention module of a block."""
    return _first(layer, "self_attn", "attention")


def _first(module: Any, *names: str) -> Any:
    """The first of these attributes that a module has."""
    for name in names:
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"{type(module).__name__} has none of {', '.join(names)}")


def _scale(layer: Any, name: str, values: Tensor) -> Tensor:
    """Values through a layer scale, where the layer has one."""
    return getattr(layer, name)(values) if hasattr(layer, name) else values
