"""The passes of `check_forward_func`, what they are to show, and why they did not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..vision_towers import VisionTower, dynamically_quantized
from ..vision_towers.hooks import after, before, first_output
from ._probes import lower_part, modules_of, noise_like, noise_pixels, rounding_of
from .field_of_view import FieldOfView, GeometryError, find_field_of_view, ramps
from .forward import run_forward
from .inputs import rows_of_args

_REPLACED = "was its forward, or scaled_dot_product_attention, replaced by one without masks?"
_CHANCE = "expected the same outputs for the same images, got others in a second call"


@dataclass
class Trial:
    """The passes of one check: two images, (2, 3, H, W), and their further arguments."""

    forward_func: Callable[..., Tensor]
    images: Tensor
    args: tuple[Any, ...]
    tower: VisionTower | None
    outputs: list[Tensor] = field(default_factory=list)
    entered: Tensor | None = None  # what the image encoder was handed in the last pass
    grids: list[tuple[int, int]] = field(default_factory=list)  # of its runs in the last pass

    def run(self, images: Tensor, args: tuple[Any, ...] | None = None) -> Tensor:
        """The outputs of a pass, (2, n), remembered for `differ`."""
        self.entered, self.grids = None, []
        with ExitStack() as stack:
            if self.tower is not None:
                enter = before(self.tower.entry, self._enter, with_kwargs=True)
                stack.callback(enter.remove)
                for handle in self.tower.keep_every_patch():  # as methods do
                    stack.callback(handle.remove)
            output = run_forward(self.forward_func, images, self.args if args is None else args)
        output = output.detach().double().reshape(len(images), -1).clone()
        self.outputs.append(output)
        return output

    def _enter(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        assert self.tower is not None
        self.grids.append(self.tower.entered_grid(args, kwargs))  # refuses other sizes
        if len(self.grids) > 1:
            raise RuntimeError(
                "the vision tower ran more than once in one call of forward_func; expected exactly "
                "one pass over the whole batch"
            )
        entered = self.tower.entered_images(args, kwargs)
        if entered is not None and len(entered) != len(self.images):
            raise ValueError(
                f"forward_func: expected it to run the vision tower on its {len(self.images)} "
                f"images, it ran it on {len(entered)}"
            )
        self.entered = None if entered is None else entered.detach()

    # Outputs

    def check_outputs(self) -> FieldOfView | None:
        """Two passes: the images; ramps and the first image in the second place."""
        first = self.run(self.images)
        probe = torch.cat([ramps(self.images), self.images[:1]])
        second = self.run(probe, rows_of_args(self.args, torch.tensor([1, 0])))
        if self.differ(second[1], first[0]):
            self._explain_difference(first)
        if self.tower is None or self.entered is None:
            return None
        size = (self.images.shape[2], self.images.shape[3])
        try:
            view = find_field_of_view(self.entered[0], size)
        except GeometryError as error:
            raise ValueError(
                f"forward_func: what it hands to the image encoder cannot be traced back to the "
                f"inputs: {error}; do it before, or pass check=False"
            ) from error
        entered = (self.entered.shape[2], self.entered.shape[3])
        if view.is_whole(size, entered) and entered == size:
            return None
        grid = self.grids[0]
        covered = self.tower.covered(entered, grid)
        view = view.part((0, covered[0] / entered[0]), (0, covered[1] / entered[1]))
        if not view.is_whole(size, entered):
            return view
        # All of it, as the size of the inputs alone says, or, nearly that of the encoder, does not.
        return None if self.tower.covered(size, grid) == size else FieldOfView(0, 0, *size)

    def _explain_difference(self, first: Tensor) -> None:
        """Say why an image's output was not the same in another batch, by more passes."""
        hint = self._hint()
        # Where little is dropped, by chance the same may be dropped again.
        if any(self.differ(self.run(self.images), first) for _ in range(3)):
            raise ValueError(f"forward_func: {_CHANCE}{hint}")
        other = torch.cat([self.images[:1], ramps(self.images)])
        if self.differ(self.run(other)[0], first[0]):
            raise ValueError(
                "forward_func: expected each image's output to depend on that image alone, got "
                f"another one beside another image{hint}"
            )
        raise ValueError(
            "forward_func: expected each image's output not to depend on its place in the batch, "
            f"got another one in another place{hint}"
        )

    def _hint(self) -> str:
        """What is known of the model that may be why, behind a semicolon."""
        if self._quantised():
            return f"; {self._quantised()}"
        training = {
            type(m).__name__ for m in modules_of(self.forward_func, self.tower) if m.training
        }
        if training:
            return f"; it is in train mode ({', '.join(sorted(training)[:4])}): call eval()"
        return ""

    # Hiding

    def check_hiding(self, view: FieldOfView | None) -> None:
        """Two passes with part of the patches hidden, the second with noise in their place."""
        assert self.tower is not None
        if not self.grids:
            raise RuntimeError(
                "nothing was recorded: forward_func did not run the vision tower (in the same "
                "thread); pass the vision_tower that forward_func calls"
            )
        (grid,) = self.grids
        mask = lower_part(grid)
        if mask is None:
            return  # a single patch
        mask = mask.flatten().expand(2, -1).to(self.images.device)
        plain = self._hidden(self.images, mask)
        painted = self._painted(mask.view(2, *grid), view)
        noisy = self._hidden(painted, mask, paint=True, copies=True)
        if self.differ(noisy.output, plain.output):
            self._explain_leak(mask, painted, plain)

    def _hidden(
        self,
        images: Tensor,
        mask: Tensor,
        *,
        paint: bool = False,
        copies: bool = False,
    ) -> _Hidden:
        """A pass with patches hidden; with `paint`, noise in their tokens, see `Hiding`."""
        assert self.tower is not None
        found = _Hidden()

        def replace(tokens: Tensor) -> Tensor:
            if paint:
                hidden = hiding.token_mask.to(tokens.device)[..., None]
                tokens = torch.where(hidden, noise_like(tokens), tokens)
            return tokens

        def record(module: nn.Module, args: Any, output: Any) -> None:
            found.tokens.append(first_output(output))

        with self.tower.hide(mask) as hiding:
            hiding.replace, hiding.copies = replace, copies
            # Ahead of the hooks by which hidden tokens leave the last block as something else.
            handles = [after(block.module, record, prepend=True) for block in self.tower.blocks]
            try:
                found.output = self.run(images)
            finally:
                for handle in handles:
                    handle.remove()
        if not hiding.passes:
            raise RuntimeError(
                "forward_func: expected it to run the vision tower in every call, it did not when "
                "patches were hidden; does it remember its answers?"
            )
        found.kept = ~hiding.token_mask
        found.entered = self.entered
        return found

    def _painted(self, mask: Tensor, view: FieldOfView | None) -> Tensor:
        """The images with noise in the pixels of hidden patches, (2, h, w) True."""
        height, width = self.images.shape[2:]
        h, w = mask.shape[1:]
        assert self.tower is not None
        whole = view or FieldOfView(0, 0, *self.tower.covered((height, width), (h, w)))
        handed_on = self.entered is None or self.entered.shape[2:] == (height, width)
        margin = 0.0
        if self.entered is not None and not (view is None and handed_on):
            # A resize blends pixels of neighbouring patches: what reaches kept ones is left, by
            # three pixels (Lanczos) of the coarser of both images, and at least half a patch.
            scales = (height / self.entered.shape[2], width / self.entered.shape[3])
            sides = (whole.height / h, whole.width / w)
            reach = [3 * max(1.0, scale) / side for scale, side in zip(scales, sides, strict=True)]
            margin = max(0.5, *reach)
        rows = (torch.arange(height) + 0.5 - whole.top) / whole.height * h
        columns = (torch.arange(width) + 0.5 - whole.left) / whole.width * w

        def hidden_at(rows: Tensor, columns: Tensor) -> Tensor:
            at = mask[:, rows.floor().long().clamp(0, h - 1)]
            return at[:, :, columns.floor().long().clamp(0, w - 1)]

        inside = ((rows >= 0) & (rows < h))[:, None] & ((columns >= 0) & (columns < w))
        pixels = hidden_at(rows, columns) & hidden_at(rows - margin, columns - margin)
        pixels = (pixels & inside.to(mask.device))[:, None]
        return torch.where(pixels, noise_pixels(self.images), self.images)

    def _explain_leak(self, mask: Tensor, painted: Tensor, plain: _Hidden) -> None:
        """Say how hidden patches still count, by more passes."""
        assert self.tower is not None
        if any(self.differ(self._hidden(self.images, mask).output, plain.output) for _ in range(3)):
            raise ValueError(f"forward_func: {_CHANCE}{self._hint()}")
        why = "hidden patches still count in the output of forward_func"
        moved = self._hidden(painted, mask)
        if self._entered_differs(moved.entered, plain.entered, mask):
            raise RuntimeError(
                f"forward_func: {why}: painting one part of an image changes the rest before the "
                "image encoder sees it (are images normalised by their own mean, say?)"
            )
        noisy = self._hidden(self.images, mask, paint=True)
        for index, (one, other) in enumerate(zip(noisy.tokens, plain.tokens, strict=True)):
            kept = plain.kept.to(one.device)
            if self.differ(one[kept].double(), other[kept].double(), spread=other):
                raise RuntimeError(
                    f"vision_tower: {why}: the attention of block {index} "
                    f"({type(self.tower.block(index).module).__name__}) does not heed the mask; "
                    f"{self._quantised() or _REPLACED}"
                )
        if self.differ(noisy.output, plain.output):
            raise RuntimeError(
                f"forward_func: {why}: it reads tokens of hidden patches from inside the image "
                "encoder (an earlier block, forward_intermediates, a hook of its own); expected it "
                "to read what the encoder returns"
            )
        copied = self._hidden(self.images, mask, copies=True)
        if self.differ(copied.output, plain.output):
            raise RuntimeError(
                "forward_func: patches are averaged outside the image encoder after a step that "
                "bends them (a norm, an activation), so that hiding would not leave them out; "
                "average them before that step, or register_vision_tower an adapter for the whole"
            )
        raise RuntimeError(
            f"forward_func: {why}: it reads the images beside the image encoder, or something that "
            "was computed from them before its first block"
        )

    def _quantised(self) -> str:
        """A sentence where layers choose their scales from whole tensors, else nothing."""
        roots = [self.forward_func, self.tower and self.tower.module]
        if any(isinstance(root, nn.Module) and dynamically_quantized(root) for root in roots):
            return (
                "its dynamically quantised layers take the scale of a whole tensor, of all images "
                "and hidden tokens too: explain the model before it was quantised"
            )
        return ""

    def _entered_differs(self, one: Tensor | None, other: Tensor | None, mask: Tensor) -> bool:
        """Whether the encoder was handed other pixels in the upper part, which is not painted."""
        if one is None or other is None or one.ndim != 4 or one.shape != other.shape:
            return False
        kept = int((~mask[0]).sum()) / mask.shape[1]
        # Half of the kept rows: a resize blends those beside the border.
        upper = max(1, int(one.shape[2] * kept / 2))
        return self.differ(
            one[:, :, :upper].double().flatten(1), other[:, :, :upper].double().flatten(1), one
        )

    # Rounding

    def differ(self, one: Tensor, other: Tensor, spread: Tensor | None = None) -> bool:
        """Whether two outputs differ by more than rounding; NaN and infinity in the same places."""
        one, other = one.double(), other.double()
        finite = one.isfinite() & other.isfinite()
        if not torch.equal(one.isfinite(), other.isfinite()):
            return True
        if not bool(finite.any()):
            return False
        values = torch.cat([out.flatten() for out in self.outputs] if spread is None else [spread])
        values = values[values.isfinite()].double()
        rounding, eps = self._rounding()
        scale = float(values.std(correction=0)) if values.numel() else 0.0
        allowed = rounding * scale + 16 * eps * float(values.abs().max())
        return float((one - other)[finite].abs().max()) > allowed

    def _rounding(self) -> tuple[float, float]:
        """What rounding may change, of what outputs vary; and the precision's own step."""
        return rounding_of(modules_of(self.forward_func, self.tower), self.images)


@dataclass
class _Hidden:
    """What a pass with hidden patches gave."""

    output: Tensor = field(default_factory=lambda: torch.empty(0))
    tokens: list[Tensor] = field(default_factory=list)  # after each block
    kept: Tensor = field(default_factory=lambda: torch.empty(0))  # (2, T) bool
    entered: Tensor | None = None
