"""CounterAnimal as pictures: models in probits, and the two accuracies of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.special import ndtri

from .published import published_results
from .robustness import published_fit

_INK, _GREY, _OWN, _CLIP = "#222222", "#8A8A8A", "#D95F02", "#33558b"
# The more data, the darker; curated data have another colour and an edge.
_DATA = {
    "WIT-400M": "#B7CBE6",
    "LAION-400M": "#7A9CC6",
    "LAION-2B": "#33558B",
    "DataComp-1B": "#5BB08A",
    "DFN-2B": "#2E8B62",
    "DFN-5B": "#12603F",
}
_TICKS = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98)
_SIZES = (25.0, 300.0, 1800.0)  # millions of parameters, in the legend
_NEAREST, _FARTHEST = 0.5, 99.5  # percent: what is beyond is drawn at the edge
_ROW = 0.158  # inches a class
_COMMON, _COUNTER = "#33558B", "#D95F02"


def robustness_scatter(
    models: Mapping[str, tuple[float, float]], *, width: float = 6.5, height: float = 4.6
) -> Figure:
    """Models among the paper's: counter accuracy against common accuracy, on probit axes.

    Dots are the paper's CLIPs, squares its ImageNet models (tables 3 and 4, 1 vs 1000): larger ones
    have more parameters, colour says what they were trained on, and curated data have an edge.
    Lines are y = x, where the background makes no difference, and the fits of `published_fit`. A
    vertical line through each own model is its drop.

    Args:
        models: Own models: name -> common and counter accuracy in percent, 1 vs 1000 and the mean
            of classes.
        width: In inches.
        height: In inches.

    Returns:
        The figure; `figure.savefig("robustness.pdf")` writes it.

    Raises:
        ValueError: If an accuracy is not from 0 to 100.
    """
    for name, pair in models.items():
        if len(pair) != 2 or not all(0 <= value <= 100 for value in pair):
            raise ValueError(f"models: expected two accuracies from 0 to 100, got {pair} of {name}")
    paper = published_results()
    paper = paper[paper["table"].isin((3, 4))]
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    own = np.array([*models.values()]).reshape(-1, 2)
    x, y = (
        _probit(np.concatenate([paper[name], own[:, place]]))
        for place, name in enumerate(("common", "counter"))
    )
    _axes(axes, x, np.append(y, _probit(own[:, 0])))
    _lines(axes)
    dots = _published(axes, paper)
    _legend(figure, paper)
    _own_models(figure, axes, models, dots)
    return figure


def class_dumbbells(
    classes: pd.DataFrame, *, title: str = "", width: float = 6.5, count: int | None = None
) -> Figure:
    """Each class's accuracy on its common and on its counter background, the largest drop first.

    Args:
        classes: Of `class_accuracies`.
        title: Such as the model's name.
        width: In inches.
        count: How many classes, those of the largest drops; None is all.

    Returns:
        A figure of a row a class: blue is common, orange counter, with the name of the background
        beside each, the 95 % interval as a thin line, and the drop in points at the right.

    Raises:
        ValueError: If no class has photos in both groups.
    """
    known = classes[classes["drop"].notna()].sort_values("drop", ascending=False, kind="stable")
    if known.empty:
        raise ValueError("classes: expected some with photos in both groups, got none")
    known = known.head(count or len(known))
    rows = len(known)
    figure = Figure(figsize=(width, _ROW * rows + 0.75), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(known.to_dict("records")):
        _dumbbell(axes, place, row)
    axes.set(xlim=(-12, 112), ylim=(rows - 0.4, -0.6))
    axes.set_yticks(range(rows), list(known["name"]), fontsize=7)
    axes.set_xticks(range(0, 101, 20), [f"{tick}%" for tick in range(0, 101, 20)], fontsize=7)
    axes.set_xlabel("accuracy", fontsize=8)
    axes.tick_params(length=0)
    axes.grid(axis="x", color="#E4E4E4", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    right = axes.secondary_yaxis("right")
    drops = [f"{drop:+.0f}".replace("-", "\N{MINUS SIGN}") for drop in 0.0 - known["drop"].round()]
    right.set_yticks(range(rows), drops, fontsize=7)
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    right.set_ylabel("points from common to counter", fontsize=7)
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, markersize=5, label=label)
        for colour, label in ((_COMMON, "common background"), (_COUNTER, "counter background"))
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=2, fontsize=8, frameon=False,
        title=title or None, title_fontsize=9,
    )  # fmt: skip
    return figure


def _probit(percent: Any) -> np.ndarray:
    return ndtri(np.clip(np.asarray(percent, dtype=np.float64), _NEAREST, _FARTHEST) / 100)


def _axes(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    room = 0.12
    axes.set(xlim=(x.min() - room, x.max() + room), ylim=(y.min() - room, y.max() + room))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(_probit(_TICKS), [f"{tick}%" for tick in _TICKS], fontsize=8)
    axes.set(xlim=(x.min() - room, x.max() + room), ylim=(y.min() - room, y.max() + room))
    axes.text(
        0.98, 0.03, "the farther below the dashed line,\nthe more it leans on backgrounds",
        transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=_GREY, style="italic",
    )  # fmt: skip
    axes.set_xlabel("accuracy on common backgrounds", fontsize=8)
    axes.set_ylabel("accuracy on counter backgrounds", fontsize=8)
    axes.grid(color="#ECECEC", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _lines(axes: Axes) -> None:
    """The diagonal and both fits, each named at its end."""
    ends = np.array(axes.get_xlim())
    for name, slope, intercept, colour, style in (
        ("no drop", 1.0, 0.0, _INK, (0, (4, 3))),
        ("fit of ImageNet models", *published_fit("imagenet")[:2], _GREY, "-"),
        ("fit of CLIPs", *published_fit("clip")[:2], _CLIP, "-"),
    ):
        axes.plot(
            ends, slope * ends + intercept, color=colour, linestyle=style, linewidth=1, zorder=1,
            label=name,
        )  # fmt: skip


def _published(axes: Axes, paper: pd.DataFrame) -> np.ndarray:
    """The paper's models; returns their places (n, 2)."""
    for row in paper.itertuples():
        clip = row.family == "clip"
        axes.scatter(
            _probit(row.common),
            _probit(row.counter),
            s=_area(row.parameters),
            marker="o" if clip else "s",
            color=_DATA[row.data] if clip else "#C9C9C9",
            edgecolors=_INK if row.curated else "white",
            linewidths=0.9 if row.curated else 0.5,
            zorder=2,
        )
    return np.stack([_probit(paper["common"]), _probit(paper["counter"])], axis=1)


def _area(millions: float) -> float:
    """Of a dot in square points: as the root of the parameters, else the largest hides all."""
    return 3.2 * float(np.sqrt(millions))


def _own_models(
    figure: Figure, axes: Axes, models: Mapping[str, tuple[float, float]], dots: np.ndarray
) -> None:
    """Own models over all others, each with its drop and a label where there is room."""
    places = [(float(_probit(x)), float(_probit(y))) for x, y in models.values()]
    for x, y in places:
        axes.vlines(x, y, x, color=_OWN, linewidth=1.2, zorder=3)
        axes.scatter(x, y, s=70, marker="D", color=_OWN, edgecolors="white", zorder=5)
    figure.draw_without_rendering()  # lays it out, so that what is where is known
    figure.set_layout_engine("none")
    across = axes.transData.transform
    drops = [np.linspace(across((x, x)), across((x, y)), 12) for x, y in places]
    lines = [across(_along(line)) for line in axes.get_lines()]
    taken = np.concatenate([across(dots), *lines, *drops, *[across([place]) for place in places]])
    (hint,) = axes.texts
    boxes = [hint.get_window_extent()]
    for (name, (common, counter)), place in zip(models.items(), places, strict=True):
        values = f"{common:.0f}% \N{RIGHTWARDS ARROW} {counter:.0f}%"
        said = f"{name}\n{values}, drop {common - counter:.1f}"
        box, leader = _label(axes, said, place, taken, boxes)
        boxes.append(box)
        taken = np.concatenate([taken, leader])


def _along(line: Line2D) -> np.ndarray:
    """Places (n, 2) on a line, near enough to each other that no label fits between."""
    x, y = (np.asarray(ends, dtype=np.float64) for ends in line.get_data())
    return np.stack([np.linspace(x[0], x[-1], 80), np.linspace(y[0], y[-1], 80)], axis=1)


def _label(
    axes: Axes, said: str, place: tuple[float, float], taken: np.ndarray, boxes: Sequence[Bbox]
) -> tuple[Bbox, np.ndarray]:
    """Write a label where it covers least, with a line to its dot.

    Returns:
        Its box, and places on its line, in pixels.
    """
    text = axes.annotate(
        said, place, place, fontsize=8, color=_OWN, fontweight="bold", va="center", ha="center",
        zorder=6, arrowprops={"arrowstyle": "-", "color": _OWN, "linewidth": 0.7, "shrinkB": 4},
        bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none",
              "alpha": 0.8},
    )  # fmt: skip
    size = Text.get_window_extent(text)  # without its line
    frame, dot = axes.get_window_extent(), axes.transData.transform(place)
    best: tuple[float, Bbox, np.ndarray] | None = None
    for distance in (1.0, 1.3, 1.7, 2.2, 2.8, 3.6, 4.6):
        for angle in np.linspace(0, 2 * np.pi, 32, endpoint=False):
            step = np.array([np.cos(angle) * (size.width / 2 + 10), np.sin(angle) * size.height])
            centre = dot + distance * step
            x, y = (float(value) for value in centre)
            left, bottom = x - size.width / 2, y - size.height / 2
            box = Bbox.from_bounds(left, bottom, size.width, size.height).padded(2)
            leader = np.linspace(dot, centre, 30)
            leader = leader[~_inside(box, leader)]
            cost = 3 * _inside(box, taken).sum() + 100 * sum(box.overlaps(b) for b in boxes)
            cost += 5 * sum(_inside(other, leader).sum() for other in boxes)
            cost += 2 * _near(leader[4:], taken) + 1000 * (not _within(box, frame)) + 5 * distance
            if best is None or cost < best[0]:
                best = (float(cost), box, leader)
    assert best is not None
    # In the data's units, which hold whatever resolution the figure is written in.
    middle = ((best[1].x0 + best[1].x1) / 2, (best[1].y0 + best[1].y1) / 2)
    x, y = (float(value) for value in axes.transData.inverted().transform(middle))
    text.set_position((x, y))
    return best[1:]


def _inside(box: Bbox, points: np.ndarray) -> np.ndarray:
    """Which of the places (n, 2) are in a box."""
    return np.all((points >= box.min) & (points <= box.max), axis=1)


def _near(points: np.ndarray, others: np.ndarray) -> int:
    """How many places have one of the others within six pixels."""
    apart = np.linalg.norm(points[:, None] - others[None], axis=2)
    return int((apart < 6).any(axis=1).sum())


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(np.all(box.min >= frame.min) and np.all(box.max <= frame.max))


def _legend(figure: Figure, paper: pd.DataFrame) -> None:
    """What colours, edges, shapes, sizes and lines mean, at the right."""

    def dot(label: str, **options: Any) -> Line2D:
        return Line2D([], [], linestyle="", label=label, **{"marker": "o", **options})

    plain = {"markeredgecolor": "white", "markersize": 7}
    edged = {"markeredgecolor": _INK, "markeredgewidth": 0.9, "markersize": 7}
    curated = set(paper.loc[paper["curated"], "data"])
    (axes,) = figure.axes
    handles = [dot("your models", marker="D", color=_OWN, markeredgecolor="white", markersize=8)]
    handles.append(dot("their drop", marker="|", color=_OWN, markersize=9, markeredgewidth=1.2))
    handles += [Line2D([], [], color="none", label="CLIPs, by training data")]
    handles += [
        dot(f"{name}, curated" if name in curated else name, color=colour,
            **(edged if name in curated else plain))
        for name, colour in _DATA.items()
    ]  # fmt: skip
    handles.append(dot("ImageNet models", marker="s", color="#C9C9C9", **plain))
    handles += [Line2D([], [], color="none", label="parameters of the backbone")]
    handles += [
        dot(f"{size:.0f} M" if size < 1000 else f"{size / 1000:.1f} B", color="#DDDDDD",
            markeredgecolor=_GREY, markersize=float(np.sqrt(_area(size))))
        for size in _SIZES
    ]  # fmt: skip
    handles += axes.get_lines()
    legend = figure.legend(
        handles=handles, loc="outside right center", fontsize=7, frameon=False, handlelength=1.8,
        labelspacing=0.55,
    )  # fmt: skip
    for text in legend.get_texts():
        if text.get_text() in ("CLIPs, by training data", "parameters of the backbone"):
            text.set_fontweight("bold")
            text.set_x(-24)


def _dumbbell(axes: Axes, place: int, row: Mapping[Any, Any]) -> None:
    """A row of the figure of classes."""
    ends = {name: row[name] for name in ("common", "counter")}
    axes.plot(list(ends.values()), [place, place], color="#BDBDBD", linewidth=2.2, zorder=1)
    left = min(ends, key=lambda name: ends[name])
    for name, colour in (("common", _COMMON), ("counter", _COUNTER)):
        axes.plot(
            [row[f"{name}_low"], row[f"{name}_high"]], [place, place], color=colour, linewidth=0.7,
            alpha=0.6, zorder=2,
        )  # fmt: skip
        axes.plot(ends[name], place, "o", color=colour, markersize=4.5, zorder=3)
        before = name == left
        end = row[f"{name}_low" if before else f"{name}_high"]
        axes.annotate(
            row[f"{name}_background"], (end, place), (-3 if before else 3, 0),
            textcoords="offset points", ha="right" if before else "left", va="center_baseline",
            fontsize=6.5, color=colour,
        )  # fmt: skip
