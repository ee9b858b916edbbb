"""What every family of image encoders must answer, and the bookkeeping they share.

A `VisionTower` is an adapter around one image encoder module. It knows where the patch
tokens are and how to make some of them contribute nothing. It works through forward hooks
alone: no weight, buffer, mode or configuration of the module changes, and every hook is
removed when its context ends, also on an exception.

This package imports nothing of ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .blocks import AttentionBlock, join_heads
from .hiding import HideStrategy, Hiding
from .recording import AttentionRecording, BlockAttention, TokenRecording

Layer = int | Literal["input", "projected"]


# What is hidden in each module now, known to all its adapters; entries live as long as a `hide`.
_HIDDEN: WeakKeyDictionary[nn.Module, Hiding] = WeakKeyDictionary()


class VisionTower(ABC):
    """An image encoder whose patch tokens can be recorded and hidden, and its attention read.

    Use `cci_captum.vision_towers.find_vision_tower` to make one.

    Args:
        module: The image encoder.

    Attributes:
        module: The image encoder, unchanged.
        num_prefix_tokens: Tokens before the patch tokens (class token, registers).
    """

    num_prefix_tokens: int

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @classmethod
    @abstractmethod
    def matches(cls, module: nn.Module) -> bool:
        """Whether this adapter is the one for `module`; raises nothing."""

    @classmethod
    @abstractmethod
    def check_supported(cls, module: nn.Module) -> None:
        """Raise TypeError, with the reason, for a matching module that cannot be explained."""

    @property
    @abstractmethod
    def num_blocks(self) -> int:
        """Number of attention blocks."""

    @abstractmethod
    def block(self, index: int) -> AttentionBlock:
        """The block of this index; negative ones count from the end.

        Raises:
            ValueError: If there is no such block.
        """

    @abstractmethod
    def layer_module(self, layer: int | Literal["input"]) -> nn.Module:
        """The module whose output, (B, T, D), is all tokens of a layer; see `record`.

        Raises:
            ValueError: If there is no such block.
        """

    def patches(self, tokens: Tensor) -> Tensor:
        """All T tokens without the prefix tokens: (B, T, ...) -> (B, h * w, ...)."""
        return tokens[:, self.num_prefix_tokens :]

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor:
        """Reduce all T tokens to what the image feature is read out from.

        The class token itself, or the mean over the patches where the model pools so: features
        (B, T, D) -> (B, D), queries by keys (B, T, T) -> (B, T).
        """

    @abstractmethod
    def project(self, tokens: Tensor) -> Tensor:
        """Any tokens of the last block's output into the joint space: norm and projection.

        Args:
            tokens: (..., D).

        Returns:
            (..., E), not normalised; rows are independent of one another.
        """

    @abstractmethod
    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature, (B, E), from all tokens of the last block's output, (B, T, D)."""

    @abstractmethod
    def grid(self, images: Tensor) -> tuple[int, int]:
        """The patch grid (h, w) of images that go straight into the tower.

        Args:
            images: (B, 3, H, W).

        Raises:
            ValueError: If the tower does not take images of this size.
        """

    @property
    def _hiding(self) -> Hiding | None:
        """What is hidden in the module now, by whichever adapter."""
        return _HIDDEN.get(self.module)

    @abstractmethod
    def _install_hiding(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """Register the hooks that hide; yield each handle as soon as it exists."""

    @abstractmethod
    def _install_recording(
        self, layer: Layer, recording: TokenRecording
    ) -> Iterator[RemovableHandle]:
        """Register the hooks that record tokens; yield each handle as soon as it exists."""

    @abstractmethod
    def _install_entry(self, enter: Callable[[Tensor], None]) -> Iterator[RemovableHandle]:
        """Call `enter` with the images of each pass, and keep every patch in train mode too."""

    @contextmanager
    def hide(self, mask: Tensor, strategy: HideStrategy = "mask") -> Iterator[Hiding]:
        """Make patches contribute nothing to whatever the tower computes inside the context.

        No query of any block and head attends to a hidden patch, and the read-out leaves it
        out: an average pool averages the kept patches (nothing kept: the zero vector).
        CCI paper (arXiv 2511.12978), masked attention; the same function as dropping the
        tokens (Jain et al. 2022, arXiv 2204.08945).

        Args:
            mask: (B, h * w) bool, True where the patch is hidden; rows are the images of the
                batch that the tower will see, in order.
            strategy: "mask" sets attention to hidden patches to -inf in every block; "drop"
                removes their tokens before the first block. The results agree to rounding;
                dropping is cheaper when most patches are hidden.

        Yields:
            A `Hiding`, whose `passes` counts how often the tower has run.

        Raises:
            TypeError: If mask is no bool tensor.
            ValueError: If mask is not 2-dimensional, does not fit the batch (raised by the
                forward pass), or strategy is unknown.
            RuntimeError: If the module is hiding patches already.

        Example:
            >>> import torch, cci_captum
            >>> clip = cci_captum.load_clip("tiny")
            >>> tower = cci_captum.find_vision_tower(clip.model)
            >>> images = torch.zeros(2, 3, 96, 96)
            >>> h, w = tower.grid(images)
            >>> mask = torch.zeros(2, h * w, dtype=torch.bool)
            >>> mask[:, : w] = True  # the top row of patches
            >>> with torch.no_grad(), tower.hide(mask):
            ...     features = clip.model.encode_image(images)
        """
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            got = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"mask: expected a bool tensor (True is hidden), got {got}")
        if mask.ndim != 2:
            raise ValueError(f"mask: expected shape (B, h * w), got {tuple(mask.shape)}")
        if strategy not in get_args(HideStrategy):
            raise ValueError(f"strategy: expected 'mask' or 'drop', got {strategy!r}")
        if self._hiding is not None:
            raise RuntimeError("hide: patches of this tower are hidden already; join the masks")
        hiding = Hiding(mask, self.num_prefix_tokens, strategy)
        with ExitStack() as stack:
            _HIDDEN[self.module] = hiding
            stack.callback(_HIDDEN.pop, self.module)
            for handle in self._install_hiding(hiding):
                stack.callback(handle.remove)
            yield hiding

    @contextmanager
    def record(self, layer: Layer = -1) -> Iterator[TokenRecording]:
        """Record the patch tokens of the one forward pass run inside the context.

        Inside `hide`, hidden patches are recorded as zeros, whatever the strategy.

        Args:
            layer: A block's index (negative counts from the end; -1 is the last block's
                output), "input" (what enters the first block), or "projected" (the last
                block's tokens through the final norm and the projection, L2-normalised, as
                in arXiv 2609.27356).

        Yields:
            The `TokenRecording`, filled once the tower has run.

        Raises:
            ValueError: If the layer does not exist.

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
            for handle in self._install_entry(lambda images: recording._enter(self.grid(images))):
                stack.callback(handle.remove)
            for handle in self._install_recording(layer, recording):
                stack.callback(handle.remove)
            yield recording

    @contextmanager
    def record_attention(
        self,
        blocks: Sequence[int] = (-1,),
        *,
        single_head: bool = False,
        requires_grad: bool = False,
    ) -> Iterator[AttentionRecording]:
        """Record what the attention of some blocks computes in the one pass run inside.

        Fused kernels never form attention probabilities, so these blocks compute their
        attention in the open, and the pass goes on with that result: the same function as
        before (to rounding), or with `single_head` another one. Patches that `hide` hides with
        strategy "mask" stay hidden.

        Args:
            blocks: Indices of the blocks; negative ones count from the end.
            single_head: Compute these blocks with one head over the full width, with logits
                divided by sqrt(D), as the released code of Grad-ECLIP (arXiv 2502.18816) does.
            requires_grad: Gradients flow from everything after the first of these blocks to
                what is recorded, whatever the caller's grad mode and the parameters'
                requires_grad; no graph is kept of what comes before it. Differentiate inside
                the context.

        Yields:
            The `AttentionRecording`, filled once the tower has run.

        Raises:
            ValueError: If there is no such block.

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
        adapters = {index % self.num_blocks: self.block(index) for index in blocks}
        recording = AttentionRecording([index % self.num_blocks for index in blocks])

        def enter(images: Tensor) -> None:
            recording._enter(self.grid(images))
            if requires_grad:
                torch.set_grad_enabled(False)

        with ExitStack() as stack:
            if requires_grad:
                stack.enter_context(torch.set_grad_enabled(True))
            for handle in self._install_entry(enter):
                stack.callback(handle.remove)
            if requires_grad:
                first = adapters[min(adapters)].module
                stack.callback(first.register_forward_pre_hook(_begin_graph).remove)
            for index, block in adapters.items():
                for handle in self._install_open_attention(index, block, single_head, recording):
                    stack.callback(handle.remove)
            yield recording

    def _install_open_attention(
        self, index: int, block: AttentionBlock, single_head: bool, recording: AttentionRecording
    ) -> Iterator[RemovableHandle]:
        """Replace what a block's attention puts out by the same, computed step by step."""
        entered: list[Tensor] = []

        def enter(module: nn.Module, args: Any) -> None:
            entered[:] = [args[0]]

        def attend(module: nn.Module, args: Any, output: Any) -> Any:
            queries, keys, values = block.project_qkv(args[0])
            if single_head:
                queries, keys, values = (join_heads(x)[:, None] for x in (queries, keys, values))
            wide = torch.promote_types(queries.dtype, torch.float32)
            logits = queries.to(wide) @ keys.to(wide).mT / queries.shape[-1] ** 0.5
            hidden = None if self._hiding is None else self._hiding.key_padding_mask
            if hidden is not None:
                logits = logits.masked_fill(hidden.to(logits.device)[:, None, None], -torch.inf)
            probabilities = logits.softmax(dim=-1)
            context = join_heads(probabilities.to(values.dtype) @ values)
            # A checkpointed block runs once more in the backward pass: the first run counts.
            recording._blocks.setdefault(
                index,
                BlockAttention(block, entered[0], queries, keys, values, probabilities, context),
            )
            projected = block.project_out(context)
            return (projected, *output[1:]) if isinstance(output, tuple) else projected

        yield block.module.register_forward_pre_hook(enter)
        yield block.attention.register_forward_hook(attend)

    def check_layer(self, layer: Layer, argument: str = "layer") -> None:
        """Raise ValueError, naming `argument`, unless `record` takes this layer."""
        is_index = isinstance(layer, int) and not isinstance(layer, bool)
        last = self.num_blocks - 1
        if layer in range(-last - 1, last + 1) if is_index else layer in ("input", "projected"):
            return
        raise ValueError(
            f"{argument}: expected a block index from {-last - 1} to {last}, 'input' or "
            f"'projected', got {layer!r}"
        )

    def check_block(self, index: int, argument: str = "block") -> None:
        """Raise ValueError, naming `argument`, unless there is a block of this index."""
        last = self.num_blocks - 1
        if not isinstance(index, int) or isinstance(index, bool) or not -last - 1 <= index <= last:
            raise ValueError(
                f"{argument}: expected a block index from {-last - 1} to {last}, got {index!r}"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.module).__name__}, num_blocks={self.num_blocks})"


def _begin_graph(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """A forward pre-hook from which on gradients flow, and to no further than its input."""
    torch.set_grad_enabled(True)
    tokens, *rest = args
    return (tokens.detach().requires_grad_(), *rest)


def replace_output(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A forward hook that passes a module's tensor output through `function`."""
    return lambda module, args, output: function(output)
