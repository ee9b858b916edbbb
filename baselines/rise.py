"""RISE: random masks, weighted by the score of what they leave to see.

Petsiuk, Das, Saenko: "RISE: Randomized Input Sampling for Explanation of Black-box Models",
arXiv 1806.07421.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum._checks import check_positive_int
from cci_captum._progress import progress_bar
from cci_captum.attribution.base import ImageAttribution
from cci_captum.attribution.finite import check_finite
from cci_captum.attribution.forward import check_tower
from cci_captum.attribution.inputs import Inputs, rows_of_args
from cci_captum.attribution.resizing import Upsample
from cci_captum.attribution.targets import select_target
from cci_captum.vision_towers import VisionTower

_BATCH = 32  # masked images in one forward pass where the caller does not say


class RISE(ImageAttribution):
    """S = 1 / (p n) sum_m score(x * M_m + baseline * (1 - M_m)) M_m.

    A mask is a small grid of cells, each kept with probability p, enlarged bilinearly and
    shifted at random. A black box method: no gradients, no image encoder, values for pixels.
    All images see the same masks, which depend on the seed alone and are enlarged as they are
    used. n_masks forward passes an image; `internal_batch_size` counts masked images in one
    pass (None: at least 32, more where there are more images).

    The expectation is a weighted mean of scores, not zero where nothing matters: compare values
    within one image. The released code mirrors the grid of cells at its border before it
    enlarges it, here its outermost cells are continued.

    Args:
        forward_func: Module or function from images and further arguments to scores.
        vision_tower: Not used; here so that all methods are made alike.
        n_masks: Masks; the paper takes 4000 to 8000.
        p: Probability that a cell is kept.
        grid: Cells along each side.
        seed: Of the masks.
        baseline: What replaces hidden pixels, in the units of inputs: a number, or a tensor
            that broadcasts to (B, 3, H, W). 0 is the mean colour of normalised images.

    Raises:
        TypeError: If forward_func is not callable.
        ValueError: If an option is out of range.

    Example:
        >>> import torch
        >>> from cci_captum.baselines import RISE
        >>> method = RISE(lambda images: images[:, 0, :8, :8].mean(dim=(1, 2)), n_masks=500)
        >>> attributions = method.attribute(torch.ones(1, 3, 32, 32))
        >>> bool(attributions[..., :8, :8].mean() > attributions[..., 16:, 16:].mean())
        True
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        n_masks: int = 4000,
        p: float = 0.5,
        grid: int = 7,
        seed: int = 0,
        baseline: float | Tensor = 0.0,
    ) -> None:
        super().__init__(forward_func)
        check_tower(vision_tower)
        check_positive_int("n_masks", n_masks)
        check_positive_int("grid", grid)
        if not 0 < p <= 1:
            raise ValueError(f"p: expected a probability above 0, at most 1, got {p!r}")
        self.n_masks = n_masks
        self.p = p
        self.grid = grid
        self.seed = seed
        self.baseline = baseline

    def _pixel_map(self, given: Inputs, upsample: Upsample, show_progress: bool) -> Tensor:
        images, batch = given.images, len(given)
        limit = given.batch_size or max(batch, _BATCH)
        baseline = torch.as_tensor(self.baseline).to(images).expand_as(images)
        # (n, grid * grid + 2): whether each cell is kept, and the shift along both sides.
        draws = torch.rand(
            self.n_masks, self.grid**2 + 2, generator=torch.Generator().manual_seed(self.seed)
        )
        total = images.new_zeros(batch, *images.shape[2:], dtype=torch.float64)
        with progress_bar(show_progress, batch * self.n_masks, "RISE", unit="pass") as progress:
            for places, part in given.parts(limit):
                rows = slice(places.start, places.stop)
                for some in draws.split(max(1, limit // len(part))):
                    masks = self._masks(some, images)
                    with self._running_on(places):
                        scores = self._scores(part, baseline[rows], masks)
                    total[rows] += torch.einsum("bm,mhw->bhw", scores, masks.double())
                    progress.update(scores.numel())
        return total / (self.n_masks * self.p)

    def _masks(self, draws: Tensor, images: Tensor) -> Tensor:
        """(m, H, W) masks in [0, 1] from m rows of uniform draws."""
        height, width = images.shape[2:]
        cell = (math.ceil(height / self.grid), math.ceil(width / self.grid))
        kept = (draws[:, :-2] < self.p).to(torch.float32).view(-1, 1, self.grid, self.grid)
        size = [(self.grid + 1) * side for side in cell]
        large = F.interpolate(kept, size, mode="bilinear", align_corners=False)[:, 0]
        shifts = (draws[:, -2:] * torch.tensor(cell)).long()  # uniform over 0 .. cell - 1
        masks = [
            mask[y : y + height, x : x + width]
            for mask, (y, x) in zip(large, shifts.tolist(), strict=True)
        ]
        return torch.stack(masks).to(images.device)

    def _scores(self, given: Inputs, fill: Tensor, masks: Tensor) -> Tensor:
        """(b, m) scores of b images under m masks, in one forward pass, in float64."""
        count, images = len(masks), given.images
        seen = masks.to(images.dtype)[None, :, None]  # (1, m, 1, H, W)
        masked = (images[:, None] * seen + fill[:, None] * (1 - seen)).flatten(0, 1)
        index = torch.arange(len(images)).repeat_interleave(count)
        outputs = self._run_forward(masked, rows_of_args(given.args, index))
        outputs = outputs.unflatten(0, (-1, count))
        chosen = [select_target(outputs[:, m], given.target) for m in range(count)]
        scores = torch.stack(chosen, dim=1).double()
        check_finite(scores, "scores of the target under masks")
        return scores
