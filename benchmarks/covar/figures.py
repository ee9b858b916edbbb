"""COVAR as pictures: what each factor costs each model, and where; contact sheets of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from ..data import ImageData
from .design import PHOTO
from .evaluation import matrix, rule_of, summary
from .transformations import ORIGINAL

_COLOURS = ("#33558b", "#d95f02", "#1b9e77", "#7a5aa6", "#c1272d", "#8c8c8c", "#e6ab02", "#66a0c8")
_SMALL = 8  # points
_FEW = 9  # cells a side that are labelled with their numbers
_ALONE = "background alone"  # the original on another background
_CELL = 0.28  # inches a row of a heat map


def bars(
    tables: Mapping[str, pd.DataFrame],
    *,
    by: str = "factor",
    rule: str | None = None,
    width: float = 6.5,
) -> Figure:
    """What each factor costs each model, with 95 % intervals, the dearest first.

    Args:
        tables: Model -> predictions; see `cci_captum.benchmarks.covar.evaluation.summary`.
        by: "factor" or "level".
        rule: Whose verdicts; None is the first of each table.
        width: In inches.

    Returns:
        A figure of a panel, points of accuracy lost to the photo as it is; and, where there are
        verdicts, a second one: errors that the background drove, of all images.

    Raises:
        ValueError: If by is another, or there are no tables.
    """
    if by not in ("factor", "level"):
        raise ValueError(f"by: expected factor or level, got {by!r}")
    if not tables:
        raise ValueError("tables: expected at least one model, got none")
    found = {
        name: summary(table, by, rule=rule).set_index(by).drop(PHOTO, errors="ignore")
        for name, table in tables.items()
    }
    panels = [("drop", "accuracy lost to the photo as it is")]
    if any(rule_of(table, rule) for table in tables.values()):
        panels.append(("bg_er_of_images", "errors that the background drove, of all images"))
    mean = pd.concat([frame["drop"] for frame in found.values()], axis=1).mean(axis=1)
    order = [
        ORIGINAL.factor,
        *mean.drop(ORIGINAL.factor, errors="ignore").sort_values().index[::-1],
    ]
    order = [name for name in order if name in mean.index]
    high = 0.8 + len(order) * (0.14 + 0.13 * len(found))
    figure = Figure(figsize=(width, high), layout="constrained")
    all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (value, title) in zip(all_axes, panels, strict=True):
        _bars_of(axes, found, order, value)
        axes.set_title(title, fontsize=_SMALL, loc="left")
    names = [_ALONE if name == ORIGINAL.factor else name for name in order]
    all_axes[0].set_yticks(range(len(order)), names)
    all_axes[0].invert_yaxis()
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside upper center", ncols=min(len(found), 4), fontsize=_SMALL,
        frameon=False,
    )  # fmt: skip
    return figure


def heat_map(
    tables: Mapping[str, pd.DataFrame], value: str = "drop", *, rule: str | None = None
) -> Figure:
    """A number of each factor and level, model by model.

    Args:
        tables: See `bars`.
        value: See `cci_captum.benchmarks.covar.evaluation.matrix`.
        rule: See `bars`.

    Returns:
        A figure with a row each factor and level, a column each model, and the number in each cell.
    """
    columns = {
        name: summary(table, "level", rule=rule).set_index("level")[value]
        for name, table in tables.items()
    }
    wide = pd.DataFrame(columns)
    wide = wide.reindex(next(iter(columns.values())).index).drop(PHOTO, errors="ignore")
    wide = wide.rename(index={ORIGINAL.factor: _ALONE})
    return _painted(wide, _title(value), numbers=True)


def class_map(
    table: pd.DataFrame,
    class_names: Sequence[str],
    value: str = "drop",
    *,
    rule: str | None = None,
) -> Figure:
    """A number of each class on each background, all factors together.

    Args:
        table: Of one model; see `bars`.
        class_names: By number.
        value: See `heat_map`.
        rule: See `bars`.

    Returns:
        A figure with a row a class and a column a background, those with the largest means first.
    """
    wide = matrix(table, "class", "background", value, rule=rule, class_names=class_names)
    wide = wide.loc[wide.mean(axis=1).sort_values(ascending=False, kind="stable").index]
    wide = wide[wide.mean(axis=0).sort_values(ascending=False, kind="stable").index]
    return _painted(wide, _title(value), numbers=max(wide.shape) <= _FEW)


def contact_sheet(data: ImageData, numbers: Sequence[Sequence[int]], size: int = 96) -> Image.Image:
    """Images of data side by side, as they are.

    Args:
        data: Such as `cci_captum.benchmarks.data.COVAR`.
        numbers: Of the images, row by row.
        size: Height and width of each in pixels.

    Returns:
        A picture.
    """
    gap = 2
    widest = max(map(len, numbers))
    sheet = Image.new(
        "RGB", (widest * (size + gap) - gap, len(numbers) * (size + gap) - gap), "white"
    )
    for row, places in enumerate(numbers):
        for column, place in enumerate(places):
            image = data[place].image.resize((size, size), Image.Resampling.LANCZOS)
            sheet.paste(image, (column * (size + gap), row * (size + gap)))
    return sheet


def _bars_of(
    axes: Any, found: Mapping[str, pd.DataFrame], order: Sequence[str], value: str
) -> None:
    thick = 0.8 / len(found)
    for place, (name, frame) in enumerate(found.items()):
        own = frame.reindex(order)
        centres = np.arange(len(order)) + (place - (len(found) - 1) / 2) * thick
        values = own[value].to_numpy(dtype=float)
        low, high = (own[value + end].to_numpy(dtype=float) for end in ("_low", "_high"))
        ends = np.nan_to_num(np.stack([values - low, high - values])).clip(min=0)
        colour = _COLOURS[place % len(_COLOURS)]
        axes.barh(centres, np.nan_to_num(values), 0.9 * thick, color=colour, label=name)
        axes.errorbar(
            np.nan_to_num(values), centres, xerr=ends, fmt="none", ecolor="black", elinewidth=0.7
        )
    axes.axvline(0, color="black", linewidth=0.6)
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axes.tick_params(labelsize=_SMALL)
    axes.spines[["top", "right"]].set_visible(False)


def _painted(wide: pd.DataFrame, title: str, numbers: bool) -> Figure:
    values = wide.to_numpy(dtype=float)
    rows, columns = values.shape
    longest = max(len(str(name)) for name in wide.index)
    across = columns * (0.62 if numbers else _CELL) + 0.075 * longest + 1.1
    figure = Figure(figsize=(max(across, 3.2), _CELL * rows + 1.5), layout="constrained")
    axes = figure.subplots()
    least, most = np.nanmin(values, initial=0), np.nanmax(values, initial=0)
    signed = least < 0
    far = max(most, -least, 1e-9)
    image = axes.imshow(
        values,
        aspect="auto",
        cmap="PuOr_r" if signed else "Oranges",
        vmin=-far if signed else 0,
        vmax=far,
    )
    axes.set_xticks(range(columns), list(map(str, wide.columns)), rotation=45, ha="right")
    axes.set_yticks(range(rows), list(map(str, wide.index)))
    axes.tick_params(labelsize=_SMALL, length=0)
    figure.suptitle(title, fontsize=_SMALL, x=0.02, ha="left")
    axes.spines[:].set_visible(False)
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = abs(value) > 0.6 * far
                said = f"{100 * value:.0f}".replace("-", "\N{MINUS SIGN}")
                axes.text(
                    column, row, said, ha="center", va="center", fontsize=_SMALL,
                    color="white" if dark else "black",
                )  # fmt: skip
    else:
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        bar.ax.tick_params(labelsize=_SMALL)
        bar.outline.set_visible(False)
    return figure


def _title(value: str) -> str:
    return {
        "accuracy": "right, % of images",
        "drop": "accuracy lost to the photo as it is, points",
        "bg_er_of_images": "errors that the background drove, % of images",
        "bg_er_of_errors": "errors that the background drove, % of errors",
        "fine_er_of_images": "errors for a look-alike, % of images",
        "fine_er_of_errors": "errors for a look-alike, % of errors",
        "share": "share of the background, %",
    }.get(value, value)
