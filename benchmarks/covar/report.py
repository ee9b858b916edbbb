"""COVAR as a page, and as a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..markdown import NO_INTERVAL, literal, with_interval
from ..markdown import table as markdown_table
from ..predictions.pages import statuses
from .design import PHOTO
from .evaluation import ANOTHER, effects, rule_of, summary
from .transformations import ORIGINAL

_FEW = 10  # rows of a table by class


def page(
    tables: Mapping[str, pd.DataFrame],
    class_names: Sequence[str],
    about: Mapping[str, Any],
    note: str,
    *,
    rule: str | None = None,
    images: Mapping[str, str] | None = None,
) -> str:
    """A page of Markdown.

    Args:
        tables: Model -> predictions; see `cci_captum.benchmarks.covar.evaluation.summary`.
        class_names: By number.
        about: What the folder of the images says of itself; see `COVAR.about`.
        note: How to make the page again.
        rule: Whose verdicts; None is the first of each table.
        images: What figures show -> their files, which are shown in this order.
    """
    ordered = dict(sorted(tables.items(), key=lambda pair: -_alone(pair[1])))
    said = [
        "# Which model leans on the background, and what hurts most?",
        _what(about),
        "\n".join(f"- {line}" for line in headlines(ordered, rule=rule)),
    ]
    said += [f"![{literal(alt)}]({path})" for alt, path in (images or {}).items()]
    said += ["## By factor and level", *(_levels(n, t, rule) for n, t in ordered.items())]
    said += [
        "Dropped is what is lost to the photo as it is, each image against its own photo, in "
        "points. 95 % intervals leave out one photo after another, since images of a photo are "
        f"alike; {NO_INTERVAL}",
        "## Editing, or the background?",
        "Controls put the object on what was behind it anyway: what they lose, editing loses. "
        'Another background against the control "same" is what the background does by itself.',
        *(_effects(name, table) for name, table in ordered.items()),
        "## By class and background",
        *(_extremes(n, t, class_names, rule) for n, t in ordered.items()),
        "## How it was made",
        note,
        _made(about),
    ]
    if missing := statuses(ordered):
        said += ["## Not measured, or without a verdict", missing]
    return "\n\n".join(filter(None, said)) + "\n"


def headlines(tables: Mapping[str, pd.DataFrame], *, rule: str | None = None) -> list[str]:
    """A sentence or two a model, in Markdown: what it leans on, and what hurts it most."""
    lines = []
    for name, table in tables.items():
        found = summary(table, "level", rule=rule).set_index("level")
        parts = [f"**{literal(name)}**:"]
        if PHOTO in found.index:
            photo = found.loc[PHOTO]
            parts.append(f"right on {_percent(photo, 'accuracy')} of the photos as they are.")
        if ORIGINAL.factor in found.index:
            alone = found.loc[ORIGINAL.factor]
            parts.append(f"Another background alone costs {_points(alone)}.")
            if np.isfinite(alone["bg_er_of_images"]):
                share = _percent(alone, "bg_er_of_images")
                parts.append(f"There the background drives {share} of images into an error.")
        others = found.drop([PHOTO, ORIGINAL.factor], errors="ignore")
        if len(others) and others["drop"].notna().any():
            worst = others["drop"].idxmax()
            parts.append(f"With {literal(worst)} it costs most: {_points(others.loc[worst])}.")
        lines.append(" ".join(parts))
    return lines


def text(tables: Mapping[str, pd.DataFrame], *, rule: str | None = None) -> str:
    """For the terminal: accuracy lost by factor, model by model."""
    found = {name: summary(table, "factor", rule=rule) for name, table in tables.items()}
    factors = list(dict.fromkeys(name for frame in found.values() for name in frame["factor"]))
    width = max(map(len, factors))
    columns = {name: max(len(name), 9) for name in found}
    head = "  ".join(f"{name:>{columns[name]}}" for name in found)
    lines = [f"{'accuracy, and points from it':{max(width, 25)}}  {head}"]
    for factor in factors:
        cells = []
        for name, frame in found.items():
            own = frame[frame["factor"] == factor]
            value = np.nan
            if len(own):
                value = own["accuracy" if factor == PHOTO else "drop"].iloc[0]
            said = f"{value:.1%}" if factor == PHOTO else f"{-100 * value:+.1f}"
            cells.append(f"{said:>{columns[name]}}")
        title = {PHOTO: "photos as they are", ORIGINAL.factor: ANOTHER}.get(factor, factor)
        lines.append(f"{title:{max(width, 25)}}  " + "  ".join(cells))
    return "\n".join(lines)


def _alone(table: pd.DataFrame) -> float:
    """What another background alone costs; models that lose most come first."""
    found = summary(table, "factor").set_index("factor")["drop"]
    value = float(found.get(ORIGINAL.factor, np.nan))
    return value if np.isfinite(value) else -np.inf


def _levels(name: str, table: pd.DataFrame, rule: str | None) -> str:
    known = rule_of(table, rule)
    head = ["factor and level", "images", "right", "dropped, points"]
    if known:
        head += [
            "BG-Er of errors", "BG-Er of images", "Fine-Er of errors", "Fine-Er of images",
            f"background's share ({known})",
        ]  # fmt: skip
    rows = []
    for _, row in summary(table, "level", rule=rule).iterrows():
        cells = [row["level"], row["images"], _percent(row, "accuracy"), _points(row, plain=True)]
        if known:
            for value in ("bg_er_of_errors", "bg_er_of_images"):
                cells.append(_percent(row, value))
            for value in ("fine_er_of_errors", "fine_er_of_images"):
                cells.append(_percent(row, value))
            cells.append(_number(row, "share"))
        rows.append(cells)
    return f"**{literal(name)}**\n\n{markdown_table(head, rows)}"


def _effects(name: str, table: pd.DataFrame) -> str:
    rows = [
        [
            row["what"], row["against"], row["images"], f"{row['accuracy']:.1%}",
            f"{row['accuracy_against']:.1%}",
with_interval(100 * row["difference"], 100 * row["low"], 100 * row["high"], 1, True),
        ]
        for _, row in effects(table).iterrows()
    ]  # fmt: skip
    head = ["what", "against", "images", "right", "right against", "difference, points"]
    return f"**{literal(name)}**\n\n{markdown_table(head, rows)}" if rows else ""


def _extremes(name: str, table: pd.DataFrame, class_names: Sequence[str], rule: str | None) -> str:
    lines = []
    for by in ("class", "background"):
        found = summary(table, by, rule=rule, class_names=class_names)
        found = found[(found[by] != "own") & found["drop"].notna()]
        found = found.sort_values("drop", ascending=False, kind="stable").head(_FEW)
        rows = [
            [row[by], row["images"], _percent(row, "accuracy"), _points(row, plain=True)]
            for _, row in found.iterrows()
        ]
        if rows:
            lines.append(markdown_table([by, "images", "right", "dropped, points"], rows))
    head = f"**{literal(name)}**, what loses most, all factors together"
    return "\n\n".join([head, *lines]) if lines else ""


def _what(about: Mapping[str, Any]) -> str:
    design = about["design"]
    backgrounds, changes = design["backgrounds"][0], design["transformations"]
    return (
        f"{about['images']:,} images of {sum(design['photos']):,} photos of "
        f"{len(design['classes'])} classes ({literal(about['data'])}): each photo as it is, on "
        f"{len(backgrounds)} other backgrounds ({literal(about['background_data'])}) in "
        f"{len(changes)} versions each, and on {len(design['controls'])} controls."
    )


def _made(about: Mapping[str, Any]) -> str:
    design = about["design"]
    rows = [
        [change["factor"], change["level"], change["moves"]] for change in design["transformations"]
    ]
    refused = ", ".join(f"{count} {why}" for why, count in about["refused"].items())
    editor = "an editor of the user's" if about["editor"] else about["compositor"]
    said = [
        f"{design['size']} pixels a side, made by {literal(editor)}, seed {design['seed']}.",
        f"Photos looked at and refused: {refused or 'none'}.",
        f"Licence, as the builder says: {literal(about['licence'] or 'not said')}.",
    ]
    return "\n\n".join([" ".join(said), markdown_table(["factor", "level", "moves"], rows)])


def _percent(row: pd.Series, name: str) -> str:
    value, low, high = (100 * float(row[name + end]) for end in ("", "_low", "_high"))
    if np.isnan(value):
        return "-"
    ends = "" if np.isnan(low) else f" ({low:.1f} to {high:.1f})"
    return f"{value:.1f} %{ends}"


def _points(row: pd.Series, plain: bool = False) -> str:
    value, low, high = (100 * float(row[f"drop{end}"]) for end in ("", "_low", "_high"))
    if np.isnan(value) or (plain and row.get("level") == PHOTO):
        return "-"
    ends = " (-)" if np.isnan(low) else f" ({low:.1f} to {high:.1f})"
    return f"{value:.1f}{'' if plain else ' points'}{ends}"


def _number(row: pd.Series, name: str) -> str:
    value, low, high = (float(row[name + end]) for end in ("", "_low", "_high"))
    return "-" if np.isnan(value) else with_interval(value, low, high, 2)
