"""Regions of images, given as masks of pixels, and what hiding or replacing them does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ._captum import repeat_target
from ._checks import check_choice
from .attribution.field_of_view import FieldOfView
from .attribution.finite import check_finite
from .attribution.targets import select_target
from .models.scores import OF_OUTPUTS

Intervention = Literal["hidden", "replaced", "both"]
INTERVENTIONS: tuple[Intervention, ...] = ("hidden", "replaced", "both")


def patch_shares(
    masks: Tensor,
    grid: tuple[int, int],
    covered: tuple[int, int] | FieldOfView | None = None,
) -> Tensor:
    """The share of each patch that lies under a mask of pixels, exactly, whatever their sizes.

    Args:
        masks: (..., H, W) bool.
        grid: Rows and columns of patches, (h, w).
        covered: The pixels under the grid, (H', W') from the top left, or a `FieldOfView`; None is
            all of the image. What a patch has beyond the image is under no mask.

    Returns:
        (..., h, w) float64 in [0, 1].

    Raises:
        TypeError: If masks is no bool tensor.
        ValueError: If a size is 0.

    Example:
        >>> import torch
        >>> from cci_captum.regions import patch_shares
        >>> mask = torch.zeros(4, 6, dtype=torch.bool)
        >>> mask[:, :3] = True  # the left half, over two patches of three columns of 2 pixels
        >>> patch_shares(mask, (1, 3))
        tensor([[1.0000, 0.5000, 0.0000]], dtype=torch.float64)
    """
    check_masks(masks)
    height, width = masks.shape[-2:]
    if not isinstance(covered, FieldOfView):
        covered = FieldOfView(0, 0, *(covered or (height, width)))
    rows = _overlaps(grid[0], covered.top, covered.height, height)
    columns = _overlaps(grid[1], covered.left, covered.width, width)
    return rows.to(masks.device) @ masks.double() @ columns.T.to(masks.device)


def check_masks(masks: Any, argument: str = "masks") -> None:
    """Raise TypeError or ValueError unless these are masks (..., H, W)."""
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        got = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
        raise TypeError(f"{argument}: expected a bool tensor, got {got}")
    if masks.ndim < 2 or 0 in masks.shape:
        raise ValueError(
            f"{argument}: expected shape (..., H, W), none of them 0, got {tuple(masks.shape)}"
        )


def _overlaps(cells: int, start: float, length: float, pixels: int) -> Tensor:
    """The share of each cell's side that lies on each pixel, (cells, pixels) float64."""
    if cells < 1:
        raise ValueError(f"grid: expected at least one row and column, got {cells}")
    side = length / cells
    ends = start + torch.arange(cells + 1, dtype=torch.float64) * side
    pixel = torch.arange(pixels + 1, dtype=torch.float64)
    upper = torch.minimum(ends[1:, None], pixel[None, 1:])
    lower = torch.maximum(ends[:-1, None], pixel[None, :-1])
    return (upper - lower).clamp(min=0) / side


class Outcomes(NamedTuple):
    """Outputs with a part of each image alone, the others in its place being known or absent.

    Attributes:
        only: (B, R, m, ...) with region r of the image, and nothing else of it.
        without: (B, R, m, ...) with all of the image but region r.
        none: (B, m, ...) with nothing of the image.
    """

    only: Tensor
    without: Tensor
    none: Tensor


@dataclass(frozen=True, eq=False)
class RegionEffects:
    """The outputs of a model for whole images, for each region alone, and without it.

    No forward pass depends on a target, so that one object answers for every class, foil or prompt
    at no further cost. Made by `cci_captum.diagnosis.Interventions.effects`.

    Attributes:
        regions: (B, R, h, w) bool, the patches of each region.
        outputs: (B,) or (B, C, ...) outputs of the images as they are, at least float32.
        hidden: What is not seen is hidden from the image encoder; m is 1.
        replaced: What is not of the image is another one's, m of them; None where it was not asked
            for.

    Example:
        >>> import torch
        >>> from cci_captum.regions import Outcomes, RegionEffects
        >>> effects = RegionEffects(  # one image, one region, one way to leave out the rest
        ...     regions=torch.tensor([[[[True, False]]]]),
        ...     outputs=torch.tensor([[3.0, 0.0]]),
        ...     hidden=Outcomes(
        ...         only=torch.tensor([[[[2.0, 0.0]]]]),
        ...         without=torch.tensor([[[[0.5, 0.0]]]]),
        ...         none=torch.tensor([[[0.0, 0.0]]]),
        ...     ),
        ... )
        >>> effects.drops(target=0), effects.gains(target=0)
        (tensor([[2.5000]]), tensor([[2.]]))
        >>> effects.shapley_values(target=0)  # of the region, and of the rest: 3 in all
        tensor([[[2.2500, 0.7500]]])
    """

    regions: Tensor
    outputs: Tensor
    hidden: Outcomes
    replaced: Outcomes | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.outputs)

    def drops(
        self, target: Any = None, *, by: Intervention = "hidden", score: str = "logit"
    ) -> Tensor:
        """By how much leaving out each region lowers the target's score.

        Args:
            target: As in Captum; see `cci_captum.Coalitions.drops`.
            by: "hidden", "replaced", or "both", the mean of the two.
            score: Of a key of `cci_captum.models.scores.OF_OUTPUTS`; other than "logit" is for
                outputs (B, C).

        Returns:
            (B, R) v(all) - v(all but r), in the unit of the score. Negative: the region speaks
            against the target.

        Raises:
            ValueError: If an argument is not one of these, target does not choose one existing
                output an image, or a score is not finite, with the places of these images.
        """
        return self._of_each(by, lambda how: self._drops(how, target, score))

    def gains(
        self, target: Any = None, *, by: Intervention = "hidden", score: str = "logit"
    ) -> Tensor:
        """By how much each region alone raises the target's score above that of nothing.

        Args:
            target: See `drops`.
            by: See `drops`.
            score: See `drops`.

        Returns:
            (B, R) v(r) - v(nothing).

        Raises:
            ValueError: See `drops`.
        """
        return self._of_each(by, lambda how: self._gains(how, target, score))

    def shapley_values(
        self, target: Any = None, *, by: Intervention = "hidden", score: str = "logit"
    ) -> Tensor:
        """What each region adds to the target's score, and what all but it adds.

        The Shapley values of the game of two players, a region and its rest (Shapley 1953): the
        mean of what each adds to nothing and to the other.

        Args:
            target: See `drops`.
            by: See `drops`.
            score: See `drops`.

        Returns:
            (B, R, 2): of region r, and of its rest. Together v(all) - v(nothing).

        Raises:
            ValueError: See `drops`.
        """

        def values(how: Outcomes) -> Tensor:
            drops, gains = self._drops(how, target, score), self._gains(how, target, score)
            total = self._whole(target, score) - self._scored(how.none, target, score)
            own = (drops + gains) / 2
            return torch.stack([own, total[:, None] - own], dim=2)

        return self._of_each(by, values)

    def _drops(self, how: Outcomes, target: Any, score: str) -> Tensor:
        return self._whole(target, score)[:, None] - self._scored(how.without, target, score)

    def _gains(self, how: Outcomes, target: Any, score: str) -> Tensor:
        none = self._scored(how.none, target, score)
        return self._scored(how.only, target, score) - none[:, None]

    def _whole(self, target: Any, score: str) -> Tensor:
        return self._scored(self.outputs[:, None], target, score)

    def _of_each(self, by: Intervention, values: Callable[[Outcomes], Tensor]) -> Tensor:
        check_choice("by", by, INTERVENTIONS)
        if by != "hidden" and self.replaced is None:
            raise ValueError(f"by: expected hidden where nothing was replaced, got {by!r}")
        ways = {"hidden": self.hidden, "replaced": self.replaced}
        chosen = [how for name, how in ways.items() if by in (name, "both") and how is not None]
        return torch.stack([values(how) for how in chosen]).mean(dim=0)

    def _scored(self, outputs: Tensor, target: Any, score: str) -> Tensor:
        """The mean score over m of outputs (B, ..., m, C, ...): (B, ...)."""
        check_choice("score", score, tuple(OF_OUTPUTS))
        own = self.outputs.ndim - 1  # axes of an image's outputs
        if score != "logit" and own != 1:
            raise ValueError(
                f"score: {score} compares classes, expected outputs (B, C), got "
                f"{tuple(self.outputs.shape)}"
            )
        if score != "logit" and self.outputs.shape[1] < 2:
            raise ValueError(f"score: {score} compares classes, expected at least 2, got one")
        leading = outputs.shape[: outputs.ndim - own]
        flat = OF_OUTPUTS[score](outputs).reshape(len(self), -1, *outputs.shape[len(leading) :])
        repeated = repeat_target(target, flat.shape[1])
        values = select_target(flat.flatten(0, 1), repeated).view(leading)
        check_finite(values, "scores of the target", "Interventions")
        return values.mean(dim=-1)
