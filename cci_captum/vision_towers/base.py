"""What every family of image encoders must answer, and the bookkeeping they share.

A `VisionTower` is an adapter around one image encoder module. It knows where the patch
tokens are and how to make some of them contribute nothing. It works through forward hooks
alone: no weight, buffer, mode or configuration of the module changes, and every hook is
removed when its context ends, also on an exception.

This package imports nothing of ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal, get_args
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

HideStrategy = Literal["mask", "drop"]
Layer = int | Literal["input", "projected"]


class TokenRecording:
    """The patch tokens of one forward pass, filled in while `VisionTower.record` is active.

    Attributes:
        tokens: (B, h * w, D) patch tokens in raster order, prefix tokens left out, detached.
        grid: (h, w), the patch grid of the images that the tower itself received.

    Raises:
        RuntimeError: On reading before the tower ran, or when it runs twice.
    """

    def __init__(self) -> None:
        self._tokens: Tensor | None = None
        self._grid: tuple[int, int] | None = None

    @property
    def tokens(self) -> Tensor:
        """(B, h * w, D) patch tokens."""
        return self._read(self._tokens)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the patch grid."""
        return self._read(self._grid)

    @staticmethod
    def _read(value: Any) -> Any:
        if value is None:
            raise RuntimeError(
                "no tokens were recorded: forward_func did not run the vision tower; "
                "pass the vision_tower that forward_func calls"
            )
        return value

    def _set_tokens(self, tokens: Tensor) -> None:
        if self._tokens is not None:
            raise RuntimeError(
                "the vision tower ran more than once in one call of forward_func; "
                "expected exactly one pass over the whole batch"
            )
        self._tokens = tokens.detach()

    def _set_grid(self, grid: tuple[int, int]) -> None:
        self._grid = grid


class Hiding:
    """Which patches of the current batch are hidden, and how tokens map back to the grid.

    Args:
        mask: (B, N) bool, True where the patch is hidden.
        num_prefix_tokens: Tokens before the patches; they are never hidden.
        strategy: "mask" keeps the sequence as it is; "drop" shortens it to the kept tokens.

    Attributes:
        passes: How often the tower has run so far with these patches hidden.
    """

    def __init__(self, mask: Tensor, num_prefix_tokens: int, strategy: HideStrategy) -> None:
        self.strategy = strategy
        self.passes = 0
        prefix = mask.new_zeros(mask.shape[0], num_prefix_tokens)
        self.mask = mask
        self.token_mask = torch.cat([prefix, mask], dim=1)  # (B, prefix + N)
        if strategy == "drop":
            kept = (~self.token_mask).sum(dim=1)  # (B,)
            # A stable sort of the mask lists each row's kept tokens first, in raster order.
            order = self.token_mask.to(torch.uint8).argsort(dim=1, stable=True)
            longest = int(kept.max()) if len(kept) else 0
            self.kept_index = order[:, :longest]
            padding = torch.arange(longest, device=mask.device) >= kept[:, None]
            self.padding: Tensor | None = padding if bool(padding.any()) else None

    @property
    def key_padding_mask(self) -> Tensor | None:
        """(B, S) bool over the sequence as the blocks see it, True where no query may look."""
        return self.token_mask if self.strategy == "mask" else self.padding

    def begin(self, tokens: Tensor) -> None:
        """Count a pass, and refuse a batch that the mask was not made for.

        Args:
            tokens: (B, prefix + N, D) tokens before the first block.

        Raises:
            ValueError: If batch size or number of tokens differ from the mask's.
        """
        if tuple(tokens.shape[:2]) != tuple(self.token_mask.shape):
            prefix = self.token_mask.shape[1] - self.mask.shape[1]
            raise ValueError(
                f"mask: expected shape {(tokens.shape[0], tokens.shape[1] - prefix)} for this "
                f"batch (images, patches), got {tuple(self.mask.shape)}"
            )
        self.passes += 1

    def shorten(self, tokens: Tensor) -> Tensor:
        """Gather the kept tokens: (B, prefix + N, D) -> (B, S, D), S the most kept in a row."""
        index = self.kept_index.to(tokens.device)[..., None].expand(-1, -1, tokens.shape[-1])
        return tokens.gather(1, index)

    def restore(self, tokens: Tensor) -> Tensor:
        """Put a block's tokens (B, S, D) back: (B, prefix + N, D), zero where hidden."""
        if self.strategy == "drop":
            index = self.kept_index.to(tokens.device)[..., None].expand(-1, -1, tokens.shape[-1])
            full = tokens.new_zeros(*self.token_mask.shape, tokens.shape[-1])
            tokens = full.scatter(1, index, tokens)
        return self.zero_hidden(tokens)

    def zero_hidden(self, tokens: Tensor) -> Tensor:
        """Zero the hidden tokens of (B, prefix + N, D)."""
        return tokens.masked_fill(self.token_mask.to(tokens.device)[..., None], 0.0)


# What is hidden in each module now, known to all its adapters; entries live as long as a `hide`.
_HIDDEN: WeakKeyDictionary[nn.Module, Hiding] = WeakKeyDictionary()


class VisionTower(ABC):
    """An image encoder whose patch tokens can be recorded and hidden.

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
        """Register the hooks that record; yield each handle as soon as it exists."""

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
            for handle in self._install_recording(layer, recording):
                stack.callback(handle.remove)
            yield recording

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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.module).__name__}, num_blocks={self.num_blocks})"


def replace_output(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """A forward hook that passes a module's tensor output through `function`."""
    return lambda module, args, output: function(output)
