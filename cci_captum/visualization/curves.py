"""Curves of a score over the perturbed share: a panel a comparison, a line a method."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .._checks import check_positive_int
from ._inputs import Array, check_canvas, positive_number
from ._legend import Legend
from ._lettering import Lettering
from ._looks import Look, method_look, reference_look
from ._page import label_axes, root_of
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

_Panel = dict[str, "Band"]


class Band(NamedTuple):
    """A mean curve and the band around it, such as an interval at each point.

    Attributes:
        mean: (P,) array or tensor.
        low: (P,) the lower end of the band; None draws no band.
        high: (P,) the upper end; None where low is None.
    """

    mean: Any
    low: Any = None
    high: Any = None


def faithfulness_curves(
    fractions: Any,
    panels: Mapping[str, Mapping[str, Band]],
    *,
    references: Collection[str] = (),
    labels: Mapping[str, str] | None = None,
    xlabel: str = "perturbed share (%)",
    ylabel: str = "top-1 accuracy",
    columns: int = 2,
    panel_width: float = 3.2,
    font_size: float | None = None,
    math: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Show the curves of methods: a panel a comparison, such as deletion under one protocol.

    A method looks the same in every panel. Its colour, dashes and marker follow from its place
    among the methods, in the order in which they appear; the first 32 differ, the first 8 in
    colour. References are thin, grey and without markers. The panels of a row share their
    vertical axis, which starts at 0 where all values are shares, in [0, 1].

    Args:
        fractions: (P,) increasing, in [0, 1], shown in percent; or panel title -> (P,).
        panels: Panel title -> method -> `Band` of P points.
        references: The methods to draw as references, such as "Random".
        labels: Method -> what the legend calls it; other methods keep their names.
        xlabel: Label of the horizontal axes.
        ylabel: Label of the vertical axes.
        columns: The most panels in a row.
        panel_width: Width of a panel in inches, without the texts around it.
        font_size: Of all texts, in points; None: titles of 9, labels of 8, ticks of 7.
        math: Whether texts between dollar signs are mathematics, as matplotlib has it.
        ax: Axes to draw one panel into, with their own fonts unless font_size is given. Nothing
            else in their figure changes. There is no legend; `ax.legend()` makes one.

    Returns:
        The figure; `figure.savefig("curves.pdf")` writes it. With ax the one that they belong to.

    Raises:
        TypeError: If panels are not mappings of mappings to `Band`, or ax are no axes.
        ValueError: If there is nothing to draw, shapes differ, values are not finite, a band is
            upside down or lacks an end, a reference is in no panel, or there are ax and several
            panels.

    Example:
        >>> deletion = {
        ...     "CCI": Band([0.9, 0.3, 0.1], low=[0.8, 0.2, 0.0], high=[1.0, 0.4, 0.2]),
        ...     "Random": Band([0.9, 0.8, 0.6]),
        ... }
        >>> figure = faithfulness_curves(
        ...     [0.0, 0.25, 0.5], {"deletion (lower is better)": deletion}, references=["Random"]
        ... )
        >>> len(figure.axes[0].lines)
        2
    """
    check_positive_int("columns", columns)
    positive_number("panel_width", panel_width)
    check_canvas(None, ax)
    lettering = Lettering.of(font_size, math)
    titles = [*_nested("panels", panels)]
    if isinstance(fractions, Mapping) and (missing := [t for t in titles if t not in fractions]):
        raise ValueError(f"fractions: expected a row for each panel, got none for {missing}")
    shares = [
        _shares(f"fractions[{t!r}]", fractions[t])
        if isinstance(fractions, Mapping)
        else _shares("fractions", fractions)
        for t in titles
    ]
    curves = [
        {
            method: _checked(f"panels[{title!r}][{method!r}]", band, len(x))
            for method, band in _nested(f"panels[{title!r}]", panels[title]).items()
        }
        for title, x in zip(titles, shares, strict=True)
    ]
    looks = _looks(curves, references)
    names = renamed(looks, labels)
    if ax is not None:
        if len(titles) != 1:
            raise ValueError(f"ax: expected one panel, got {len(titles)}")
        ax.set(xlim=shares[0][[0, -1]], ylim=_range(curves))
        ax.set_xticks(*_percent(shares[0]))
        _draw(ax, shares[0], curves[0], looks, names)
        label_axes(ax, titles[0], ylabel, xlabel, lettering, font_size)
        return root_of(ax.figure)

    height = 0.72 * panel_width
    columns = min(columns, len(titles))
    ranges = [_range(curves[i - i % columns :][:columns]) for i in range(len(titles))]
    upwards = [ticks(*limit) for limit in ranges]
    label = lettering.fit(ylabel, height, lettering.label)
    side = side_width([text for _, texts in upwards for text in texts], label, lettering)
    legend = Legend(looks, names, side + columns * panel_width, lettering)
    last = len(titles) - columns  # panels from here on have none below them
    foot = lettering.fit(xlabel, panel_width, lettering.label)
    laid_out = Panels(
        heads=[lettering.fit(t, panel_width + OVERHANG, lettering.title) for t in titles],
        feet=[foot * (i >= last) for i in range(len(titles))],
        columns=columns,
        width=panel_width,
        height=height,
        side=side,
        below=legend.height,
        head_size=lettering.title,
        lettering=lettering,
    )
    for i, axes in enumerate(laid_out.axes):
        axes.set(xlim=shares[i][[0, -1]], ylim=ranges[i])
        set_ticks(
            axes, _percent(shares[i]), upwards[i], label if i % columns == 0 else None, lettering
        )
        _draw(axes, shares[i], curves[i], looks, names)
    legend.draw(laid_out.page, laid_out.bottom)
    return laid_out.page.finished()


def _nested(name: str, value: Any) -> Mapping[str, Any]:
    """The value, if it is a mapping with something in it."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: expected a mapping, got {type(value).__name__}")
    if not value:
        raise ValueError(f"{name}: expected at least one entry, got none")
    return value


def _shares(name: str, values: Any) -> Array:
    row = finite_row(name, values)
    if len(row) < 2 or (np.diff(row) <= 0).any() or row[0] < 0 or row[-1] > 1:
        raise ValueError(
            f"{name}: expected at least two increasing shares in [0, 1], got {row.tolist()}"
        )
    return row


def _checked(name: str, band: Any, points: int) -> Band:
    """The band as arrays of so many finite numbers."""
    if not isinstance(band, Band):
        raise TypeError(f"{name}: expected a Band, got {type(band).__name__}")
    mean = finite_row(f"{name}.mean", band.mean, points)
    if band.low is None and band.high is None:
        return Band(mean)
    if band.low is None or band.high is None:
        raise ValueError(f"{name}: expected both low and high or neither, got one of them")
    low = finite_row(f"{name}.low", band.low, points)
    high = finite_row(f"{name}.high", band.high, points)
    if (low > high).any():
        raise ValueError(f"{name}: expected low <= high, got low above at {(low > high).argmax()}")
    return Band(mean, low, high)


def _looks(curves: list[_Panel], references: Collection[str]) -> dict[str, Look]:
    """The look of each method, those of references last."""
    if isinstance(references, str):
        raise TypeError(f"references: expected a list of names, got {references!r}")
    names = [*dict.fromkeys(name for panel in curves for name in panel)]
    if unknown := [name for name in references if name not in names]:
        raise ValueError(f"references: expected some of {names}, got {unknown}")
    methods = [name for name in names if name not in references]
    others = [name for name in names if name in references]
    return {
        **{name: method_look(i) for i, name in enumerate(methods)},
        **{name: reference_look(i) for i, name in enumerate(others)},
    }


def _range(row: list[_Panel]) -> tuple[float, float]:
    """The vertical limits of the panels in a row."""
    drawn = [line for panel in row for band in panel.values() for line in band if line is not None]
    values = np.concatenate(drawn)
    low, high = limits(values)
    return (0.0, high) if values.min() >= 0 and values.max() <= 1 else (low, high)


def _percent(shares: Array) -> tuple[list[float], list[str]]:
    """Ticks of the horizontal axis."""
    percent, texts = ticks(*(100 * shares[[0, -1]]))
    return [place / 100 for place in percent], texts


def _draw(
    axes: Axes,
    shares: Array,
    panel: _Panel,
    looks: Mapping[str, Look],
    names: Mapping[str, str],
) -> None:
    """Draw the lines of a panel over their bands, the first method on top."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.5)
    axes.set_axisbelow(True)
    places = {name: place for place, name in enumerate(looks)}
    step = -(-len(shares) // 6)  # markers at every so many points, not the same ones for all
    for name, band in panel.items():
        look, place = looks[name], places[name]
        if band.low is not None:
            axes.fill_between(
                shares,
                band.low,
                band.high,
                color=look.colour,
                alpha=0.15 if len(panel) < 8 else 0.08,
                linewidth=0,
                zorder=1.5,
            )
        axes.plot(
            shares,
            band.mean,
            markevery=(place % step, step),
            zorder=3 - place / len(places),  # 2 to 3: above bands
            clip_on=False,
            label=names[name],
            **look.options(),
        )
