"""Curves of a score over the perturbed fraction, image by image, and the areas under them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import Tensor

from cci_captum._extras import needed_by
from cci_captum.attribution.targets import select_target
from cci_captum.models.ranking import among_best

if TYPE_CHECKING:
    import pandas as pd

DIRECTIONS = ("deletion", "insertion")


def area_under_curve(values: Tensor, fractions: Tensor) -> Tensor:
    """The mean height of curves: trapezoids, divided by the length of the axis.

    Args:
        values: (..., P) at each point.
        fractions: (P,) increasing.

    Returns:
        (...) areas; a constant curve's area is its value.

    Example:
        >>> import torch
        >>> area_under_curve(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.0, 0.25, 0.5]))
        tensor([0.2500])
    """
    widths = fractions.diff().to(values)
    heights = (values[..., 1:] + values[..., :-1]) / 2
    return (heights * widths).sum(dim=-1) / widths.sum()


@dataclass(frozen=True, eq=False)
class Curve:
    """What B images score at each of P points.

    Attributes:
        score: (B, P) the target's output.
        probability: (B, P) its softmax over the classes; None where there are no classes.
        top1: (B, P) 1 where it is finite and no other class scores as high, else 0; None where
            there are no classes. See `cci_captum.models.ranking`.
        top5: (B, P) 1 where at most four others do; None where there are no classes.
    """

    score: Tensor
    probability: Tensor | None = None
    top1: Tensor | None = None
    top5: Tensor | None = None


Scoring = Callable[[Tensor, Any], Curve]
"""From outputs (n, ...) and the target of each to a `Curve` whose values are (n,)."""


def score(outputs: Tensor, target: Any = None) -> Curve:
    """What outputs say about the target of each image.

    Args:
        outputs: (n,) scores, or (n, C) of C classes.
        target: Of the n images, as in Captum: None, an int, n ints, ...

    Returns:
        A `Curve` whose values are (n,); with classes, also the target's probability and whether it
        is among the first one and five. Ties, and scores that are NaN or infinite, count against
        it.

    Raises:
        ValueError: If target does not choose one existing output an image.

    Example:
        >>> import torch
        >>> outputs = torch.tensor([[2.0, 1.0], [0.0, 1.0]])  # two images, two classes
        >>> score(outputs, target=0).top1
        tensor([1., 0.])
    """
    chosen = select_target(outputs, target)
    if outputs.ndim != 2:
        return Curve(chosen)
    return Curve(
        score=chosen,
        probability=(chosen - outputs.logsumexp(dim=1)).exp(),
        top1=among_best(outputs, chosen, 1).to(chosen.dtype),
        top5=among_best(outputs, chosen, 5).to(chosen.dtype),
    )


def mapped(function: Callable[..., Tensor], *curves: Curve) -> Curve:
    """A function of every value of curves that have the same ones, as a curve of their kind."""
    changed: dict[str, Any] = {}
    for field in fields(curves[0]):
        values = [getattr(curve, field.name) for curve in curves]
        changed[field.name] = None if values[0] is None else function(*values)
    return type(curves[0])(**changed)


@dataclass(frozen=True, eq=False)
class FaithfulnessCurves:
    """Deletion and insertion of B images.

    Attributes:
        fractions: (P,) float64, the perturbed share at each point.
        deletion: The score as the most important is taken away: lower is better.
        insertion: The score as the most important is put back: higher is better.
        insertion_fractions: (P,) float64, the share put back at each point, where that is not
            `fractions`; see `Protocol`.
        tied: (B,) float64, the share of the ranked pixels (or patches) whose value another has
            too: how much the order of ties may decide. None where it is not known.
    """

    fractions: Tensor
    deletion: Curve
    insertion: Curve
    insertion_fractions: Tensor | None = None
    tied: Tensor | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.deletion.score)

    def auc(self) -> dict[str, Tensor]:
        """Areas under the curves of each image, (B,): "deletion_top1", "insertion_score", ...

        Over `fractions` in both directions. The area of a mean curve is the mean of the areas.
        """
        areas = {}
        for direction in DIRECTIONS:
            curve = getattr(self, direction)
            for field in fields(curve):
                values = getattr(curve, field.name)
                if values is not None:
                    areas[f"{direction}_{field.name}"] = area_under_curve(values, self.fractions)
        return areas

    def to_frame(self) -> pd.DataFrame:
        """A tidy table, a row an image, direction and point.

        Returns:
            Columns "row" (0 to B - 1), "direction" ("deletion" or "insertion"), "fraction", and
            those of "score", "probability", "top1", "top5" that there are, float64.

        Raises:
            ImportError: If pandas is not installed.

        Example:
            >>> import torch
            >>> curve = Curve(score=torch.tensor([[1.0, 0.5, 0.0]]))
            >>> fractions = torch.tensor([0.0, 0.25, 0.5])
            >>> FaithfulnessCurves(fractions, curve, curve).to_frame().head(2)
               row direction  fraction  score
            0    0  deletion      0.00    1.0
            1    0  deletion      0.25    0.5
        """
        with needed_by("to_frame"):
            import pandas as pd

        images, points = len(self), len(self.fractions)
        parts = []
        for direction in DIRECTIONS:
            curve, fractions = getattr(self, direction), self.fractions
            if direction == "insertion" and self.insertion_fractions is not None:
                fractions = self.insertion_fractions
            columns = {
                "row": [image for image in range(images) for _ in range(points)],
                "direction": direction,
                "fraction": fractions.tolist() * images,
            }
            for field in fields(curve):
                values = getattr(curve, field.name)
                if values is not None:
                    columns[field.name] = values.double().flatten().cpu().numpy()
            parts.append(pd.DataFrame(columns))
        return pd.concat(parts, ignore_index=True)
