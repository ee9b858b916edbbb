"""Patches hidden and gated: what a `VisionTower` does to its tokens, beside recording them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .._checks import check_choice
from .gating import Gating, check_gates
from .hiding import HideStrategy, Hiding
from .hooks import before, eager, hook_input, refuse_cut
from .in_thread import InThread
from .layout import TowerLayout
from .quantized import is_quantized

_HIDDEN = InThread[Hiding]()


class HideableTower(TowerLayout):
    """An image encoder whose patches can be hidden or gated, and gradients begun inside it."""

    @property
    def _hiding(self) -> Hiding | None:
        """What is hidden in this thread's passes of the module now, by whichever adapter."""
        return _HIDDEN.get(self.entry)

    @property
    def hides(self) -> bool:
        """Whether patches are hidden in this thread's passes of the module now."""
        return self._hiding is not None

    def _hiding_here(self) -> Callable[[], Hiding | None]:
        """`_hiding` of the thread that calls this, in whatever thread it is asked for."""
        return _HIDDEN.getter(self.entry)

    def _begin_hiding(
        self, hiding: Hiding, enter: Callable[[tuple[int, int]], None], stack: ExitStack
    ) -> None:
        """Hide until `stack` closes; `enter` is called with the grid of each pass."""
        stack.enter_context(eager())
        stack.enter_context(_HIDDEN.during(self.entry, hiding))
        for handle in self._install_hiding(hiding, enter):
            stack.callback(handle.remove)

    def _install_hiding(
        self, hiding: Hiding, enter: Callable[[tuple[int, int]], None]
    ) -> Iterator[RemovableHandle]:
        yield from self._install_entry(enter)  # refuses what has no grid
        blocks = self.blocks
        # First of all hooks of the block: whatever else looks at its input sees what it computes
        # with.
        yield hook_input(blocks[0].module, hiding.enter, prepend=True)
        for block in blocks:
            yield from block.hide(hiding)
        yield from self.hide_in_read_out(hiding)

    def _install_entry(self, enter: Callable[[tuple[int, int]], None]) -> Iterator[RemovableHandle]:
        """Call `enter` with the grid of each pass, and keep every patch in train mode too."""

        def pre_hook(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            enter(self.entered_grid(args, kwargs))

        yield before(self.entry, pre_hook, with_kwargs=True)
        yield from self.keep_every_patch()

    @contextmanager
    def hide(self, mask: Tensor, strategy: HideStrategy = "mask") -> Iterator[Hiding]:
        """Make patches contribute nothing to whatever the tower computes inside the context.

        No query of any block and head attends to a hidden patch, and the read-out leaves it
        out: an average pool averages the kept patches (nothing kept: the zero vector), an
        attention pool attends to kept patches (nothing kept: it sees tokens of zeros). In passes of
        the thread that enters the context alone.
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
                forward pass), strategy is unknown, or the module is in a state in which its
                patches cannot be hidden.
            RuntimeError: If patches of the module are hidden already in this thread.

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
        check_choice("strategy", strategy, get_args(HideStrategy))
        if self._hiding is not None:
            raise RuntimeError(
                "hide: patches of this tower are hidden or gated already; join the masks"
            )
        self.check_hideable()
        hiding = Hiding(mask, self.num_prefix_tokens, strategy)
        with ExitStack() as stack:
            self._begin_hiding(hiding, lambda grid: None, stack)
            yield hiding

    @contextmanager
    def gate(self, gates: Tensor | float = 1.0) -> Iterator[Gating]:
        """Let patches contribute in part to whatever the tower computes inside the context.

        With the gate m_j of patch j, every query i of any block and head attends to it by

            a_ij = m_j exp(q_i k_j / sqrt d) / sum_l m_l exp(q_i k_l / sqrt d),

        where m of a prefix token is 1. An attention pool attends in the same way; an average pool
        averages with the gates as weights; see `Gating.average_kept`. Gates of 1 are the model
        as it is, a gate of 0 is a patch that `hide` hides, and in between the outputs are
        differentiable in the gates. In passes of the thread that enters the context alone.

        Gradients flow from the outputs to gates that require them, with or without torch.no_grad
        and whatever the parameters' requires_grad; no graph is kept of what comes before the first
        block. Differentiate inside the context. The derivative by a gate of exactly 0 is NaN: take
        a small one, such as 1e-6, where it is asked for. In float16 and bfloat16 gates close to 1
        are as exact as others, since the logits are moved by log m.

        Args:
            gates: (B, h * w) floating point from 0 to 1; rows are the images of the batch that the
                tower will see, in order. A number is the gate of all patches: `Gating.gates` is
                then made when the tower runs, of the shape that fits, and requires gradients.

        Yields:
            A `Gating`, which has the gates.

        Raises:
            TypeError: If gates is no floating point tensor and no number.
            ValueError: If gates is not 2-dimensional, does not fit the batch (raised by the
                forward pass), or has values that are not from 0 to 1, or the module is in a state
                in which its patches cannot be hidden.
            RuntimeError: If patches of the module are hidden or gated already in this thread. Where
                gates require gradients: in inference mode, if the tower computes a layer without
                autograd, or if a recording's gradients begin in the same pass (both raised by the
                forward pass).

        Example:
            >>> import torch, cci_captum
            >>> clip = cci_captum.load_clip("tiny")
            >>> tower = cci_captum.find_vision_tower(clip.model)
            >>> score = cci_captum.ImageTextSimilarity(clip.model)
            >>> images, text = torch.rand(2, 3, 96, 96), clip.tokenizer(["a cat", "a dog"])
            >>> with torch.no_grad(), tower.gate() as gating:
            ...     (slope,) = torch.autograd.grad(score(images, text).sum(), gating.gates)
            >>> gating.grid, slope.shape
            ((12, 12), torch.Size([2, 144]))
        """
        check_gates(gates)
        if self._hiding is not None:
            raise RuntimeError(
                "gate: patches of this tower are hidden or gated already; multiply the gates, "
                "where 0 is hidden"
            )
        self.check_hideable()
        gating = Gating(gates, self.num_prefix_tokens, self.attention_pool is not None)
        enter: Callable[[tuple[int, int]], None] = gating._enter
        with ExitStack() as stack:
            if gating.requires_grad:
                enter = self._begin_after(enter, stack)
            self._begin_hiding(gating, enter, stack)
            yield gating

    def _begin_after(
        self, enter: Callable[[tuple[int, int]], None], stack: ExitStack
    ) -> Callable[[tuple[int, int]], None]:
        """What to call at the entry so that no graph is kept from there to `begin_graph`.

        Gradients are on, and watched, until `stack` closes.
        """
        stack.enter_context(torch.set_grad_enabled(True))
        stack.enter_context(self.watch_gradients())

        def enter_without_graph(grid: tuple[int, int]) -> None:
            enter(grid)
            torch.set_grad_enabled(False)

        return enter_without_graph

    @contextmanager
    def watch_gradients(self) -> Iterator[None]:
        """Raise RuntimeError in a pass whose gradients would stop inside the tower.

        A layer without layers of its own, given something that gradients flow through, puts out
        something that they do not flow through: a quantised layer, whose derivative autograd does
        not know, or a part run under torch.no_grad. Beside it a residual connection would let part
        of the gradient pass, and nothing would tell that the rest is missing.
        """
        with ExitStack() as stack:
            for name, layer in self.named_modules():
                if is_quantized(layer) or not any(True for _ in layer.children()):
                    stack.callback(refuse_cut(layer, name).remove)
            yield
