"""What a task measures, as data: which values a curve has, and which of them a report shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ..faithfulness.curves import DIRECTIONS
from ..faithfulness.retrieval import KS


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes:
        name: As settings and reports call it.
        items: What is explained, in the plural.
        axis: What the main values are, on the axis of a picture.
        values: Name -> title, of the values at each point of a curve.
        main: Of these, what a report compares methods by.
        others: What it shows beside.
        ranked: What methods are ranked by on each item: one with few ties.
        ranked_title: The same in words.
        under_ties: Areas of these are measured under several orders of ties, too.

    Example:
        >>> KINDS["classification"].areas("top1")
        ('deletion_top1', 'insertion_top1')
    """

    name: str
    items: str
    axis: str
    values: Mapping[str, str]
    main: tuple[str, ...]
    others: tuple[str, ...]
    ranked: str
    ranked_title: str
    under_ties: tuple[str, ...]

    def areas(self, *values: str) -> tuple[str, ...]:
        """Measures of some values: both directions of the first, of the second, ..."""
        return tuple(f"{direction}_{name}" for name in values for direction in DIRECTIONS)


_RECALLS = {f"{way}r{k}": f"{way.upper()}R@{k}" for way in "it" for k in KS}

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "classification",
            "images",
            "top-1 accuracy",
            MappingProxyType(
                {"score": "score", "probability": "probability", "top1": "top-1", "top5": "top-5"}
            ),
            main=("top1",),
            others=("top5", "probability"),
            ranked="probability",
            ranked_title="class's probability",
            under_ties=("top1", "probability"),
        ),
        Kind(
            "retrieval",
            "captions",
            "recall",
            MappingProxyType({"score": "score", **_RECALLS}),
            main=("ir5", "tr5"),
            others=("ir1", "tr1", "ir10", "tr10"),
            ranked="score",
            ranked_title="caption's cosine",
            under_ties=("ir5", "tr5"),
        ),
    )
}
"""Name -> kind."""
