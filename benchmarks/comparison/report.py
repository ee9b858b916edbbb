"""A comparison as people read it: a page of tables, and a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cci_captum.baselines.registry import REFERENCES
from cci_captum.models._cut_texts import CutText, describe_cuts
from cci_captum.models._equal_names import describe

from ..markdown import NO_INTERVAL, literal, table, with_interval
from .measures import COSTS, LOCALIZATION
from .results import Comparison, photos_of
from .titles import heading, title

_MAIN = ("deletion_top1", "insertion_top1")
_COSTS = tuple(measure.name for measure in COSTS)
_LOCALIZATION = tuple(measure.name for measure in LOCALIZATION)
_OTHERS = ("deletion_top5", "insertion_top5", "deletion_probability", "insertion_probability")


def page(comparison: Comparison, reference: str | None = None, note: str = "") -> str:
    """All means with their intervals, as a Markdown page.

    Args:
        comparison: What was measured.
        reference: See `Comparison.summary`.
        note: A paragraph of Markdown that says what was run, put before the tables.
    """
    reference = comparison.methods[0] if reference is None else reference
    summary = comparison.summary(reference)
    plain = summary[summary["check"] == ""]
    parts = [
        f"# {literal(comparison.settings['data'])}",
        note,
        _setting(comparison, reference),
        _texts(comparison),
    ]
    parts += [literal(text) for text in comparison.settings.get("notes", [])]
    for protocol in comparison.protocols:
        of_protocol = plain[plain["protocol"] == protocol]
        parts.append(f'## Deletion and insertion, "{literal(protocol)}"')
        parts += [_areas(of_protocol, reference), _table(of_protocol, _OTHERS)]
        parts += [_ties(of_protocol, comparison.settings["ties"])]
    if comparison.settings["masks"]:
        parts += ["## Where maps lie", _table(plain, _LOCALIZATION)]
    parts += ["## What a map costs", _costs(plain)]
    if (summary["check"] != "").any():
        parts += ["## Sanity checks", _checks(comparison, summary)]
    if len(comparison.failures):
        parts += ["## What failed", _failures(comparison)]
    if len(comparison.errors):
        rows = comparison.errors[["index", "error"]].itertuples(index=False)
        parts += ["## Images that could not be read", table(["place", "error"], rows)]
    if any("(-)" in part for part in parts[4:]):
        parts.insert(3, NO_INTERVAL)
    return "\n\n".join(filter(None, parts)) + "\n"


def text(comparison: Comparison) -> str:
    """The areas under both curves, and where maps lie, as plain text for a terminal."""
    located = [name for name in ("pointing_game", "energy") if name in comparison.results]
    summary = comparison.summary(measures=[*_MAIN, *located])
    summary = summary[summary["check"] == ""]
    width = max(20, 2 + max(len(title(method)) for method in comparison.methods))
    lines = []
    for protocol in comparison.protocols:
        rows = summary[summary["protocol"].isin([protocol, ""])]
        heads = [f"{heading(name):25}" for name in _MAIN] + [f"{heading(n):>15}" for n in located]
        lines += ["", f"{protocol:{width}}" + "".join(heads)]
        for method, part in rows.groupby("method", sort=False):
            by_measure = part.set_index("measure")
            cells = [f"{_interval(by_measure.loc[name], 'mean', ''):25}" for name in _MAIN]
            cells += [f"{by_measure.loc[name, 'mean']:15.2f}" for name in located]
            lines.append(f"{title(method):{width}}" + "".join(cells))
    if any("(-)" in line for line in lines):
        lines += ["", NO_INTERVAL]
    return "\n".join(line.rstrip() for line in lines)


def _setting(comparison: Comparison, reference: str) -> str:
    """What was explained, and how to read the tables."""
    settings = comparison.settings
    first = comparison.results.drop_duplicates("index")
    right = (first["target"] == first["predicted"]).mean()
    explained = {
        "true": f"the true class, which is the predicted one in {right:.1%}",
        "predicted": "the predicted class",
    }[settings["explained"]]
    return (
        f"{settings['images']} images{_photos(comparison)}, {settings['classes']} classes. "
        f"Explained: {explained}. Seed {settings['seed']}. Means with 95 % intervals over the "
        f"images, each for itself; differences to {literal(title(reference))} are paired, image by "
        "image. Rank: among the methods without the references, 1 is best, by the area under the "
        "class's probability. Tied: the share of the ranked pixels (or patches) whose value "
        "another has too; beside it mean areas under several orders of these, of which the tables "
        "above have the protocol's own."
    )


def _failures(comparison: Comparison) -> str:
    """How many maps there are not, of which method, and the first reason."""
    lines = [
        [title(method), check, len(rows), rows["error"].iloc[0]]
        for (method, check), rows in comparison.failures.groupby(["method", "check"], sort=False)
    ]
    return table(["method", "check", "images without a map", "the first reason"], lines)


def _photos(comparison: Comparison) -> str:
    """How many source photos there are, where they are fewer than the images."""
    photos = photos_of(comparison.results)
    return "" if photos is None else f" made from {photos.nunique()} photos, which intervals count"


def _texts(comparison: Comparison) -> str:
    """What limits any method: classes that the model cannot tell apart, texts that it cut."""
    settings = comparison.settings
    lines = []
    if groups := settings.get("indistinguishable"):
        lines.append(
            f"{sum(map(len, groups))} of the {settings['classes']} classes have the same text "
            f"embedding as another: {literal(describe(groups))}. The model cannot tell them apart, "
            "so that which of them is predicted, and with it top-1, means nothing."
        )
    if cut := settings.get("cut_texts"):
        lines.append(literal(describe_cuts([CutText(**text) for text in cut])) + ".")
    return "\n\n".join(lines)


def areas(comparison: Comparison, protocol: str, reference: str | None = None) -> str:
    """Areas under both curves with differences to the reference, and ranks, as Markdown.

    Args:
        comparison: What was measured.
        protocol: One of its protocols.
        reference: See `Comparison.summary`.
    """
    reference = comparison.methods[0] if reference is None else reference
    summary = comparison.summary(reference, [*_MAIN, "deletion_rank", "insertion_rank"])
    plain = summary[(summary["protocol"] == protocol) & (summary["check"] == "")]
    shown = _areas(plain, reference)
    return f"{shown}\n\n{NO_INTERVAL}" if "(-)" in shown else shown


def _areas(summary: pd.DataFrame, reference: str) -> str:
    """The same, of a protocol's rows of the summary."""
    head = ["method"]
    for name in _MAIN:
        head += [heading(name), f"minus {title(reference)}"]
    lines = []
    for method, rows in summary.groupby("method", sort=False):
        by_measure = rows.set_index("measure")
        line = [title(method)]
        for name in _MAIN:
            row = by_measure.loc[name]
            line += [_interval(row, "mean", ""), _interval(row, "difference", "difference_")]
        line += [
            f"{by_measure.loc[rank, 'mean']:.1f}" if rank in by_measure.index else ""
            for rank in ("deletion_rank", "insertion_rank")
        ]
        lines.append(line)
    shown = table([*head, "deletion rank", "insertion rank"], lines)
    together = (_together(summary, name, reference) for name in _MAIN)
    return "\n\n".join(filter(None, [shown, *together]))


def _together(summary: pd.DataFrame, measure: str, reference: str) -> str:
    """Which differences hold together, as the intervals do not: each is 95 % sure alone.

    Blank where nothing could be compared.
    """
    rows = summary[(summary["measure"] == measure) & summary["p_holm"].notna()]
    if rows.empty:
        return ""
    sure = [title(method) for method in rows.loc[rows["p_holm"] < 0.05, "method"]]
    return (
        f"{heading(measure).capitalize()} other than of {title(reference)}, all {len(rows)} "
        f"comparisons taken together (Holm, 5 %): {', '.join(sure) or 'none'}."
    )


def _table(summary: pd.DataFrame, measures: Sequence[str]) -> str:
    """Means with intervals, a row a method, a column a measure."""
    lines = []
    for method, rows in summary[summary["measure"].isin(measures)].groupby("method", sort=False):
        by_measure = rows.set_index("measure")
        cells = [_interval(by_measure.loc[measure], "mean", "") for measure in measures]
        lines.append([title(method), *cells])
    return table(["method", *(heading(measure) for measure in measures)], lines)


def _ties(summary: pd.DataFrame, orders: Sequence[str]) -> str:
    """How much of the maps is tied, and mean areas under each order of ties, a row a method."""
    areas = [f"{name}_{order}" for name in _MAIN for order in orders]
    rows = summary[summary["measure"].isin(["tied", *areas])]
    means = rows.set_index(["method", "measure"])["mean"]
    lines = [
        [
            title(method),
            f"{means[method, 'tied']:.1%}",
            *(f"{means[method, area]:.3f}" for area in areas),
        ]
        for method in dict.fromkeys(rows["method"])
    ]
    head = ["method", "tied", *(f"{heading(name)}, {order}" for name in _MAIN for order in orders)]
    return table(head, lines)


def _costs(summary: pd.DataFrame) -> str:
    """Means alone: all images of a batch share one measurement."""
    costs = summary[summary["measure"].isin(_COSTS)].set_index(["method", "measure"])["mean"]
    methods = dict.fromkeys(summary["method"])
    lines = [
        [title(method), *(f"{costs[method, name]:.3g}" for name in _COSTS)] for method in methods
    ]
    return table(["method", *map(heading, _COSTS)], lines)


def _checks(comparison: Comparison, summary: pd.DataFrame) -> str:
    """How alike maps stay under each check, and how faithful they then are."""
    protocol = comparison.protocols[0]
    rows = summary[
        ((summary["protocol"] == protocol) & summary["measure"].isin(_MAIN))
        | (summary["measure"] == "similarity")
    ].set_index(["check", "method", "measure"])
    checks = [check for check in comparison.results["check"].unique() if check]
    head = ["method"]
    for check in checks:
        name = check.replace("-", " ")
        head += [f"{name}: similarity", *(f"{heading(area)}, {protocol}" for area in _MAIN)]
    lines = []
    for method in comparison.methods:
        if method in REFERENCES:
            continue
        line = [title(method)]
        for check in checks:
            for name in ("similarity", *_MAIN):
                key = (check, method, name)
                line.append(_interval(rows.loc[key], "mean", "") if key in rows.index else "")
        lines.append(line)
    return table(head, lines)


def _interval(row: pd.Series, mean: str, prefix: str) -> str:
    """One cell: a mean and its interval; blank where there is no mean."""
    if pd.isna(row[mean]):
        return ""
    digits = 3 if abs(row[mean]) < 10 else 1
    return with_interval(
        row[mean], row[f"{prefix}low"], row[f"{prefix}high"], digits, signed=bool(prefix)
    )
