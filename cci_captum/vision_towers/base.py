"""What methods ask of an image encoder, whatever its family: hide patches, record what it does.

A `VisionTower` is an adapter around one image encoder module. It knows where the patch
tokens are and how to make some of them contribute nothing. It works through forward hooks
alone: no weight, buffer, mode or configuration of the module changes, and every hook is
removed when its context ends, also on an exception. Hooks act in passes of the thread that
registered them alone.

This package imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .blocks import AttentionLayer, AttentionPool, join_heads
from .hideable import HideableTower
from .hooks import (
    after,
    before,
    begin_graph,
    eager,
    first_output,
    hook_input,
    keeps_all,
    key_bias,
)
from .layout import Layer, check_readable
from .recording import AttentionRecording, BlockAttention, TokenRecording
from .scaling import SCALED, KeyScaling


class VisionTower(HideableTower):
    """An image encoder whose patch tokens can be recorded and hidden, and its attention read.

    Use `cci_captum.vision_towers.find_vision_tower` to make one. A family's adapter is a
    subclass that answers what `TowerLayout` asks; see there for its attributes.

    Args:
        module: The image encoder.
    """

    def _install_recording(
        self, layer: Layer, recording: TokenRecording, requires_grad: bool
    ) -> Iterator[RemovableHandle]:
        def record_input(module: nn.Module, args: Any, output: Tensor) -> Any:
            tokens = output if self._hiding is None else self._hiding.zero_hidden(output)
            return begin(tokens, output, output)

        def record_block(module: nn.Module, args: Any, output: Any) -> Any:
            all_tokens = tokens = first_output(output)
            if layer == "projected":
                tokens = self.project(tokens)
                wide = torch.promote_types(tokens.dtype, torch.float32)
                tokens = F.normalize(tokens.to(wide), dim=-1)
            tokens = tokens if self._hiding is None else self._hiding.restore(tokens)
            return begin(tokens, all_tokens, output)

        def begin(tokens: Tensor, all_tokens: Tensor, output: Any) -> Any:
            """Record, and put out what goes on: the same, or a leaf where gradients begin."""
            leaf = begin_graph(all_tokens) if requires_grad else all_tokens
            recording._set_tokens(self.patches(tokens), leaf)
            if not requires_grad:
                return None
            return (leaf, *output[1:]) if isinstance(output, tuple) else leaf

        if layer == "input":
            yield after(self.input_module, record_input)
        else:
            module = self.block(-1 if layer == "projected" else layer).module
            # Before hooks of `hide_in_read_out`, which may be on the last block.
            yield after(module, record_block, prepend=True)

    @contextmanager
    def record(self, layer: Layer = -1, *, requires_grad: bool = False) -> Iterator[TokenRecording]:
        """Record the patch tokens of the one forward pass run inside the context.

        Inside `hide`, hidden patches are recorded as zeros, whatever the strategy.

        Args:
            layer: A block's index (negative counts from the end; -1 is the last block's
                output), "input" (what enters the first block), or "projected" (the last
                block's tokens through the final norm and the projection, L2-normalised, as
                in arXiv 2609.27356).
            requires_grad: Gradients flow from everything after the layer ("projected": after the
                last block) to `TokenRecording.all_tokens`; see `record_attention`.

        Yields:
            The `TokenRecording`, filled once the tower has run.

        Raises:
            TypeError: If the layer is "projected" and patches have no feature of their own in
                the joint space (attention pools).
            ValueError: If the layer does not exist.
            RuntimeError: With requires_grad, if the tower computes a layer without autograd
                (raised by the forward pass); see `watch_gradients`.

        Example:
            >>> import torch, cci_captum
            >>> clip = cci_captum.load_clip("tiny")
            >>> tower = cci_captum.find_vision_tower(clip.model)
            >>> with torch.no_grad(), tower.record("projected") as recording:
            ...     features = clip.model.encode_image(torch.zeros(1, 3, 96, 96))
            >>> recording.grid, recording.tokens.shape[-1] == features.shape[-1]
            ((12, 12), True)
        """
        self.check_layer(layer)
        recording = TokenRecording()
        with ExitStack() as stack:
            stack.enter_context(eager())
            enter: Callable[[tuple[int, int]], None] = recording._enter
            if requires_grad:
                enter = self._begin_after(enter, stack)
            for handle in self._install_entry(enter):
                stack.callback(handle.remove)
            for handle in self._install_recording(layer, recording, requires_grad):
                stack.callback(handle.remove)
            yield recording

    @contextmanager
    def record_attention(
        self,
        blocks: Sequence[int] | None = None,
        *,
        pool: bool = False,
        single_head: bool = False,
        requires_grad: bool = False,
    ) -> Iterator[AttentionRecording]:
        """Record what the attention of some blocks computes in the one pass run inside.

        Fused kernels never form attention probabilities, so these blocks compute their
        attention in the open, and the pass goes on with that result: the same function as
        before (to rounding), or with `single_head` another one. Patches that `hide` hides with
        strategy "mask" stay hidden.

        Args:
            blocks: Indices of the blocks; negative ones count from the end. None is the
                attention that the image feature is read from: the attention pool's where there
                is one, else the last block's.
            pool: Record the attention pool too, where there is one.
            single_head: Compute the attention with one head over the full width, with logits
                divided by sqrt(D), as the released code of Grad-ECLIP (arXiv 2502.18816) does.
            requires_grad: Gradients flow from everything after the first of these blocks to
                what is recorded, with or without torch.no_grad and whatever the parameters'
                requires_grad (not in inference mode); no graph is kept of what comes before it.
                Differentiate inside the context.

        Yields:
            The `AttentionRecording`, filled once the tower has run.

        Raises:
            TypeError: If what the attention computes cannot be read; see `check_attention`.
            ValueError: If there is no such block.
            RuntimeError: With requires_grad, if the tower computes a layer without autograd
                (raised by the forward pass); see `watch_gradients`.

        Example:
            >>> import torch, cci_captum
            >>> clip = cci_captum.load_clip("tiny")
            >>> tower = cci_captum.find_vision_tower(clip.model)
            >>> with torch.no_grad(), tower.record_attention([0, -1]) as recording:
            ...     features = clip.model.encode_image(torch.zeros(1, 3, 96, 96))
            >>> first, last = recording.blocks
            >>> bool(last.probabilities.sum(dim=-1).allclose(torch.ones(())))
            True
        """
        read_from = self.attention_pool if pool or blocks is None else None
        if blocks is None:
            blocks = () if read_from else (-1,)
        for index in blocks:
            self.check_block(index)
        every = self.blocks
        indices = [index % len(every) for index in blocks]
        layers: dict[int | None, AttentionLayer] = {i: every[i] for i in sorted(indices)}
        if read_from is not None:
            layers[None] = read_from
        check_readable(layers.values())
        recording = AttentionRecording(indices, read_from is not None)
        with ExitStack() as stack:
            stack.enter_context(eager())
            enter: Callable[[tuple[int, int]], None] = recording._enter
            if requires_grad:
                enter = self._begin_after(enter, stack)
            for handle in self._install_entry(enter):
                stack.callback(handle.remove)
            if requires_grad:
                first = next(iter(layers.values())).module
                stack.callback(hook_input(first, begin_graph).remove)
            for key, layer in layers.items():
                for handle in self._install_open_attention(key, layer, single_head, recording):
                    stack.callback(handle.remove)
            yield recording

    @contextmanager
    def scale_keys(self, factors: Tensor, *, from_minimum: bool = True) -> Iterator[KeyScaling]:
        """Multiply the attention logits of patches in whatever the tower computes inside.

        Attention is softmax over j of f_j (l_ij - min over k of l_ik), l_ij = q_i k_j / sqrt(d),
        in every block, head and query, and in the attention pool where there is one; prefix tokens
        have f = 1. Below 1 a patch is looked at less; with f = 1 everywhere the model is as it was.
        An average pool has no logits and goes on counting every patch alike. In passes of the
        thread that enters the context alone; differentiable in `factors`.
        AtMan (Deiseroth et al. 2023, arXiv 2301.08110).

        Args:
            factors: (B, h * w) floating point, from 0 on; rows are the images of the batch that
                the tower will see, in order.
            from_minimum: Multiply by how much a logit is above the least of its query, as AtMan's
                released code for MAGMA does. False multiplies the logit itself, as the paper
                writes it: where that is negative, a factor below 1 draws attention to the patch.

        Yields:
            A `KeyScaling`, whose `passes` counts how often the tower has run.

        Raises:
            TypeError: If factors are no floating point tensor, or if what the attention computes
                cannot be read; see `check_attention`.
            ValueError: If factors are not 2-dimensional, negative or not finite, do not fit the
                batch, or the attention has a mask of its own (the last two raised by the forward
                pass).
            RuntimeError: If patches are hidden or keys scaled in this thread already, or if
                patches are hidden inside (raised by the forward pass).

        Example:
            >>> import torch, cci_captum
            >>> clip = cci_captum.load_clip("tiny")
            >>> tower = cci_captum.find_vision_tower(clip.model)
            >>> factors = torch.ones(2, 12 * 12)
            >>> factors[:, :12] = 0.1  # the top row of patches
            >>> with torch.no_grad(), tower.scale_keys(factors):
            ...     features = clip.model.encode_image(torch.zeros(2, 3, 96, 96))
        """
        if not isinstance(factors, Tensor) or not factors.is_floating_point():
            got = factors.dtype if isinstance(factors, Tensor) else type(factors).__name__
            raise TypeError(f"factors: expected a floating point tensor, got {got}")
        if factors.ndim != 2:
            raise ValueError(f"factors: expected shape (B, h * w), got {tuple(factors.shape)}")
        values = factors.detach()
        wrong = values[~(values.isfinite() & (values >= 0))]
        if wrong.numel():
            raise ValueError(f"factors: expected finite numbers from 0 on, got {float(wrong[0]):g}")
        if self.hides or SCALED.get(self.entry) is not None:
            raise RuntimeError("scale_keys: patches of this tower are hidden, or scaled, already")
        self.check_attention(all_blocks=True)
        scaling = KeyScaling(factors, from_minimum)
        pool = self.attention_pool
        with ExitStack() as stack:
            stack.enter_context(eager())
            stack.enter_context(SCALED.during(self.entry, scaling))
            for handle in self._install_entry(scaling.begin):
                stack.callback(handle.remove)
            for layer in [*self.blocks, *([] if pool is None else [pool])]:
                for handle in self._install_open_attention(None, layer, False, None):
                    stack.callback(handle.remove)
            yield scaling

    def _install_open_attention(
        self,
        index: int | None,
        layer: AttentionLayer,
        single_head: bool,
        recording: AttentionRecording | None,
    ) -> Iterator[RemovableHandle]:
        """Replace what a layer's attention puts out by the same, computed step by step.

        There keys are scaled, and what was computed is recorded.
        """
        entered: list[Any] = []
        source: AttentionPool | VisionTower = layer if isinstance(layer, AttentionPool) else self
        prefix = source.num_prefix_tokens
        hiding_here = self._hiding_here()
        scaling_here = SCALED.getter(self.entry)

        def enter(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            entered[:] = [args[0], (args[1:], kwargs)]

        def attend(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
            hiding, scaling, hidden = hiding_here(), scaling_here(), None
            if kwargs.get("is_causal") or not (hiding or _keeps_all_keys(kwargs)):
                raise ValueError(
                    "forward_func: expected attention without a mask of its own, got one for "
                    f"{type(module).__name__}; record_attention computes attention without it"
                )
            queries, keys, values = layer.project_qkv(*args, **kwargs)
            if single_head:
                queries, keys, values = (join_heads(x)[:, None] for x in (queries, keys, values))
            wide = torch.promote_types(queries.dtype, torch.float32)
            logits = queries.to(wide) @ keys.to(wide).mT / queries.shape[-1] ** 0.5
            if scaling is not None:
                logits = scaling.scale(logits, hiding)
            if hiding is not None:
                hidden = hiding.key_padding_mask if source is self else hiding.pool_mask(prefix)
            if hidden is not None:
                logits = logits + key_bias(hidden, logits)[:, None, None]
            probabilities = logits.softmax(dim=-1)
            context = join_heads(probabilities.to(values.dtype) @ values)
            # A checkpointed block runs once more in the backward pass: the first run counts.
            if recording is not None:
                recording._recorded.setdefault(
                    index,
                    BlockAttention(
                        layer,
                        entered[0],
                        queries,
                        keys,
                        values,
                        probabilities,
                        context,
                        source.pool,
                        prefix,
                        entered[1],
                    ),
                )
            return layer.put_out(layer.project_out(context), output)

        yield before(layer.module, enter, with_kwargs=True)
        yield after(layer.attention, attend, with_kwargs=True)


def _keeps_all_keys(kwargs: dict[str, Any]) -> bool:
    """Whether no mask is among an attention's arguments, or one that hides nothing."""
    names = ("attn_mask", "attention_mask", "key_padding_mask")
    return all(keeps_all(kwargs.get(name)) for name in names)
