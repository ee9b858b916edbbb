"""Adapter for open_clip's own VisionTransformer (OpenAI, LAION, DataComp, DFN checkpoints...).

Class-token and average pooling, final norm before or after the pool, any patch size,
non-square grids, and both of open_clip's block types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from open_clip.transformer import Attention, CustomResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .base import Layer, VisionTower, replace_output
from .blocks import AttentionBlock
from .hiding import Hiding
from .recording import TokenRecording


class OpenCLIPVisionTower(VisionTower):
    """`open_clip.transformer.VisionTransformer`: one class token, then the patches."""

    num_prefix_tokens = 1
    module: VisionTransformer

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Whether `module` is open_clip's VisionTransformer."""
        return isinstance(module, VisionTransformer)

    @classmethod
    def check_supported(cls, module: nn.Module) -> None:
        """Raise TypeError for pooling that has no single image feature per read-out."""
        if module.attn_pool is not None:
            raise TypeError(
                "vision_tower: expected class-token or average pooling, got an open_clip "
                "VisionTransformer with attentional pooling (CoCa), which is not supported"
            )
        if module.pool_type not in ("tok", "avg"):
            raise TypeError(
                "vision_tower: expected an open_clip VisionTransformer with pool_type 'tok' or "
                f"'avg', got pool_type {module.pool_type!r}"
            )

    @property
    def num_blocks(self) -> int:
        """Number of attention blocks."""
        return len(self.module.transformer.resblocks)

    def block(self, index: int) -> AttentionBlock:
        """The block of this index; see `VisionTower.block`."""
        self.check_block(index)
        return _Block(self.module.transformer.resblocks[index])

    def layer_module(self, layer: int | Literal["input"]) -> nn.Module:
        """The block, or the norm before the blocks; see `VisionTower.layer_module`."""
        return self.module.ln_pre if layer == "input" else self.block(layer).module

    def pool(self, tokens: Tensor) -> Tensor:
        """The class token, or the mean of the patches; see `VisionTower.pool`."""
        return tokens[:, 0] if self.module.pool_type == "tok" else self.patches(tokens).mean(dim=1)

    def project(self, tokens: Tensor) -> Tensor:
        """The final norm and the projection; see `VisionTower.project`."""
        # .forward, not a call: the final norm may carry the hooks that hide.
        tokens = self.module.ln_post.forward(tokens)
        return tokens if self.module.proj is None else tokens @ self.module.proj

    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature; see `VisionTower.read_out`."""
        norm, projection = self.module.ln_post.forward, self.module.proj
        if self.module.final_ln_after_pool:
            feature = norm(self.pool(tokens))
        else:
            feature = self.pool(norm(tokens))
        return feature if projection is None else feature @ projection

    def grid(self, images: Tensor) -> tuple[int, int]:
        """The patch grid (h, w); see `VisionTower.grid`."""
        if images.ndim != 4:
            raise ValueError(f"images: expected shape (B, 3, H, W), got {tuple(images.shape)}")
        patch_height, patch_width = self.module.patch_size
        height, width = images.shape[-2:]
        h, w = height // patch_height, width // patch_width
        expected_h, expected_w = self.module.grid_size
        if (h, w) != (expected_h, expected_w):
            raise ValueError(
                f"images: expected height x width {expected_h * patch_height} x "
                f"{expected_w * patch_width}, the size of the model's positional embedding, got "
                f"{height} x {width}"
            )
        return h, w

    def _install_hiding(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        visual, transformer = self.module, self.module.transformer
        yield self._keep_every_patch()
        yield transformer.register_forward_pre_hook(_enter_blocks(hiding))
        for block in transformer.resblocks:
            yield _hide_keys(block.attn, hiding)
        if hiding.strategy == "drop":
            yield transformer.register_forward_hook(replace_output(hiding.restore))
        if visual.pool_type == "avg":
            # The pool averages every patch of what the final norm (or, where the norm comes
            # after the pool, the last block) puts out.
            pooled_from = transformer if visual.final_ln_after_pool else visual.ln_post
            yield pooled_from.register_forward_hook(replace_output(_fill_with_mean(hiding)))

    def _install_recording(
        self, layer: Layer, recording: TokenRecording
    ) -> Iterator[RemovableHandle]:
        transformer = self.module.transformer

        def record_input(module: nn.Module, args: Any, output: Tensor) -> None:
            if self._hiding is not None:
                output = self._hiding.zero_hidden(output)
            recording._set_tokens(self.patches(output))

        def record_block(module: nn.Module, args: Any, output: Tensor) -> None:
            tokens = output if transformer.batch_first else output.transpose(0, 1)
            if layer == "projected":
                tokens = self.project(tokens)
                wide = torch.promote_types(tokens.dtype, torch.float32)
                tokens = F.normalize(tokens.to(wide), dim=-1)
            if self._hiding is not None:
                tokens = self._hiding.restore(tokens)
            recording._set_tokens(self.patches(tokens))

        if layer == "input":
            yield self.layer_module("input").register_forward_hook(record_input)
        else:
            block = -1 if layer == "projected" else layer
            yield self.layer_module(block).register_forward_hook(record_block)

    def _install_entry(self, enter: Callable[[Tensor], None]) -> Iterator[RemovableHandle]:
        yield self.module.conv1.register_forward_pre_hook(lambda module, args: enter(args[0]))
        yield self._keep_every_patch()

    def _keep_every_patch(self) -> RemovableHandle:
        """Undo patch dropout, which in train mode would shuffle and remove patches."""
        return self.module.patch_dropout.register_forward_hook(lambda module, args, output: args[0])


class _Block(AttentionBlock):
    """open_clip's ResidualAttentionBlock and CustomResidualAttentionBlock."""

    module: Any
    attention: Any

    def __init__(self, module: Any) -> None:
        self.module = module
        self.attention = module.attn
        self.num_heads = module.attn.num_heads

    def project_qkv(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joined = F.linear(inputs, self.attention.in_proj_weight, self.attention.in_proj_bias)
        split = joined.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = split  # each (B, H, T, d)
        if isinstance(self.attention, Attention):
            queries, keys = self.attention.ln_q(queries), self.attention.ln_k(keys)
        return queries, keys, values

    def project_out(self, context: Tensor) -> Tensor:
        if isinstance(self.attention, Attention):
            if self.attention.head_scale is not None:
                heads = context.unflatten(-1, (self.num_heads, -1))
                context = (heads * self.attention.head_scale.view(-1, 1)).flatten(-2)
            context = self.attention.ln_inner(context)
        return self.attention.out_proj(context)

    def add_attention(self, tokens: Tensor, attention: Tensor) -> Tensor:
        if isinstance(self.module, CustomResidualAttentionBlock):
            attention = self.module.ln_attn(attention)
        return tokens + self.module.ls_1(attention)

    def add_mlp(self, tokens: Tensor) -> Tensor:
        return tokens + self.module.ls_2(self.module.mlp(self.module.ln_2(tokens)))


def _enter_blocks(hiding: Hiding) -> Any:
    def pre_hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Any, ...]:
        tokens, *rest = args
        hiding.begin(tokens)
        if hiding.strategy == "drop":
            tokens = hiding.shorten(tokens)
        return (tokens, *rest)

    return pre_hook


def _hide_keys(attention: nn.Module, hiding: Hiding) -> RemovableHandle:
    """Hand the hidden keys to an attention module, which gets no mask in an image encoder."""

    def multihead(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        mask = hiding.key_padding_mask
        if mask is not None:
            # A floating point mask, which PyTorch adds to the logits. With a bool one, its fast
            # path for inference would be taken, which with a mask is the slower of the two.
            logits = torch.zeros_like(mask, dtype=args[0].dtype, device=args[0].device)
            logits.masked_fill_(mask.to(logits.device), -torch.inf)
            kwargs = {**kwargs, "key_padding_mask": logits}
        return args, kwargs

    def own(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
        mask = hiding.key_padding_mask
        if mask is not None:
            # Here True is masked too, and the mask broadcasts over heads and queries.
            kwargs = {**kwargs, "attn_mask": mask.to(args[0].device)[:, None, None, :]}
        return args, kwargs

    hook = own if isinstance(attention, Attention) else multihead
    return attention.register_forward_pre_hook(hook, with_kwargs=True)


def _fill_with_mean(hiding: Hiding) -> Any:
    """Give hidden patches the mean of the kept ones: the mean over all is then theirs."""

    def fill(tokens: Tensor) -> Tensor:
        hidden = hiding.mask.to(tokens.device)[..., None]
        prefix, patches = tokens.split([tokens.shape[1] - hidden.shape[1], hidden.shape[1]], dim=1)
        kept = patches.masked_fill(hidden, 0.0)
        wide = torch.promote_types(tokens.dtype, torch.float32)
        total = kept.sum(dim=1, keepdim=True, dtype=wide)
        mean = total / (~hidden).sum(dim=1, keepdim=True).clamp(min=1)
        return torch.cat([prefix, torch.where(hidden, mean.to(tokens.dtype), kept)], dim=1)

    return fill
