"""One method against others, image by image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .._checks import check_positive_int
from ._inputs import Array, positive_number
from ._lettering import Lettering, signed
from ._page import INK, MARGIN
from ._panels import (
    OVERHANG,
    Panels,
    finite_row,
    limits,
    renamed,
    set_ticks,
    side_width,
    ticks,
)

_DOTS = "#1F56A3"
_SHADE = "#F3EFE2"


def paired_scatter(
    values: Mapping[str, Any],
    reference: str,
    *,
    lower_is_better: bool = False,
    title: str = "",
    labels: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    columns: int = 4,
    panel_width: float = 1.95,
    font_size: float | None = None,
    math: bool = False,
) -> Figure:
    """Show the values of one method against those of every other, a dot an image.

    The reference is on the vertical axis of every panel, the other method on the horizontal
    one. Dots in the shaded half are images for which the reference is better; above the panel
    stand their share, the share of images on the diagonal, and the mean of y - x (the
    reference's value minus the other's). All axes are the same.

    Args:
        values: Method -> (n,) numbers, one an image, the same images for all.
        reference: The method to compare with the others.
        lower_is_better: Whether the smaller of two values is the better, as in deletion.
        title: What the values are, above all panels.
        labels: Method -> what the figure calls it; other methods keep their names.
        notes: Method -> text after the mean difference, such as its interval.
        columns: The most panels in a row.
        panel_width: Width and height of a panel in inches, without the texts around it.
        font_size: Of all texts, in points; None: a title of 9, labels of 8, others of 7.
        math: Whether texts between dollar signs are mathematics, as matplotlib has it.

    Returns:
        The figure; `figure.savefig("scatter.pdf")` writes it.

    Raises:
        TypeError: If values are no mapping.
        ValueError: If lengths differ, values are not finite, there are no images, the reference
            or a method of notes is unknown, or there is no other method.

    Example:
        >>> values = {"CCI": [0.1, 0.2, 0.2], "GradCAM": [0.4, 0.2, 0.1]}
        >>> figure = paired_scatter(values, "CCI", lower_is_better=True)
        >>> [text.get_text() for text in figure.texts][:2]
        ['CCI better (shaded): 33%, equal: 33%', 'mean y − x: −0.067']
    """
    check_positive_int("columns", columns)
    positive_number("panel_width", panel_width)
    lettering = Lettering.of(font_size, math)
    rows = _checked(values, reference)
    others = [name for name in rows if name != reference]
    notes = notes or {}
    if unknown := [name for name in notes if name not in others]:
        raise ValueError(f"notes: expected some of {others}, got {unknown}")

    names = renamed(rows, labels)
    columns = min(columns, len(others))
    span = limits(np.concatenate([*rows.values()]))
    both = ticks(*span)
    label = lettering.fit(names[reference], panel_width, lettering.label)
    side = side_width(both[1], label, lettering)
    above = lettering.fit(title, columns * panel_width, lettering.title)
    laid_out = Panels(
        heads=[
            [
                line
                for text in _summary(
                    rows[reference], rows[name], names[reference], lower_is_better, notes.get(name)
                )
                for line in lettering.fit(text, panel_width + OVERHANG, lettering.small)
            ]
            for name in others
        ],
        feet=[lettering.fit(names[name], panel_width, lettering.label) for name in others],
        columns=columns,
        width=panel_width,
        height=panel_width,
        side=side,
        above=lettering.height(above, lettering.title) + 0.08 if above else 0,
        head_size=lettering.small,
        lettering=lettering,
    )
    page = laid_out.page
    page.text(page.width / 2, MARGIN, above, lettering.title, "center")
    for i, (name, axes) in enumerate(zip(others, laid_out.axes, strict=True)):
        axes.set(xlim=span, ylim=span)
        set_ticks(axes, both, both, label if i % columns == 0 else None, lettering)
        _draw(axes, rows[name], rows[reference], lower_is_better)
    return page.finished()


def _checked(values: Any, reference: str) -> dict[str, Array]:
    """Rows of finite numbers of the same length, the reference's and at least one more."""
    if not isinstance(values, Mapping):
        raise TypeError(f"values: expected method -> numbers, got {type(values).__name__}")
    if reference not in values:
        raise ValueError(f"reference: expected one of {[*values]}, got {reference!r}")
    if len(values) < 2:
        raise ValueError(f"values: expected another method beside {reference!r}, got none")
    images = len(finite_row(f"values[{reference!r}]", values[reference]))
    if images == 0:
        raise ValueError("values: expected at least one image, got none")
    return {name: finite_row(f"values[{name!r}]", row, images) for name, row in values.items()}


def _summary(
    reference: Array, other: Array, name: str, lower_is_better: bool, note: str | None
) -> list[str]:
    """What stands above a panel."""
    difference = reference - other
    better = (difference < 0) if lower_is_better else (difference > 0)
    spread = float(np.ptp([reference, other])) or 1.0
    mean = signed(float(difference.mean()), max(3, 2 - math.floor(math.log10(spread))))
    plus = "+" if mean[0].isdigit() and float(mean) else ""
    return [
        f"{name} better (shaded): {better.mean():.0%}, equal: {(difference == 0).mean():.0%}",
        f"mean y \N{MINUS SIGN} x: {plus}{mean} {note or ''}",
    ]


def _draw(axes: Axes, other: Array, reference: Array, lower_is_better: bool) -> None:
    """Draw the dots over the diagonal and the half in which the reference is better."""
    low, high = axes.get_xlim()
    corner = (high, low) if lower_is_better else (low, high)
    axes.fill(*zip((low, low), (high, high), corner, strict=True), color=_SHADE, zorder=0)
    axes.plot((low, high), (low, high), color=INK, linewidth=0.5, zorder=1)
    axes.plot(
        other,
        reference,
        linestyle="none",
        marker="o",
        markersize=2.6,
        markeredgewidth=0,
        color=_DOTS,
        alpha=float(np.clip(6 / np.sqrt(len(other)), 0.08, 0.7)),
        zorder=2,
    )
