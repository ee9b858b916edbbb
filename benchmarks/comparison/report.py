"""A comparison as people read it: a page of tables, and a few lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cci_captum.baselines.registry import REFERENCES
from cci_captum.models._cut_texts import CutText, describe_cuts
from cci_captum.models._equal_names import describe
from cci_captum.names import readable

from ..markdown import NO_INTERVAL, literal, table, with_interval
from ..tasks import Kind
from .left_out import reasons
from .measures import COSTS, LOCALIZATION, RANKS
from .results import Comparison, reference_of
from .summary import photos_of
from .titles import heading, title

_COSTS = tuple(measure.name for measure in COSTS)
_LOCALIZATION = tuple(measure.name for measure in LOCALIZATION)


def page(comparison: Comparison, reference: str | None = None, note: str = "") -> str:
    """All means with their intervals, as a Markdown page; of several models one after the other.

    Args:
        comparison: What was measured.
        reference: See `Comparison.summary`; of several models, one that refuses it has its own
            first method instead.
        note: A paragraph of Markdown that says what was run, put before the tables.
    """
    reference = reference_of(comparison, reference)
    head = [f"# {literal(comparison.settings['data'])}", note]
    if len(comparison.models) == 1:
        parts = head + _of_model(comparison, reference)
    else:
        parts = [*head, _models(comparison)]
        for model in comparison.models:
            own = _of_model(comparison.of(model), reference)
            parts.append(f"## {literal(model)}")
            parts += [part.replace("## ", "### ", 1) if part[:3] == "## " else part for part in own]
    if any("(-)" in part for part in parts):
        parts.insert(2, NO_INTERVAL)
    return "\n\n".join(filter(None, parts)) + "\n"


def _of_model(comparison: Comparison, reference: str) -> list[str]:
    """The parts of a page about one model; of one that refuses the reference, to its first."""
    reference = reference if reference in comparison.methods else comparison.methods[0]
    summary = comparison.summary(reference)
    plain = summary[summary["check"] == ""]
    kind = comparison.kind
    parts = [_setting(comparison, reference), _texts(comparison)]
    parts += [literal(text) for text in comparison.settings.get("notes", [])]
    for protocol in filter(None, comparison.protocols):
        of_protocol = plain[plain["protocol"] == protocol]
        parts.append(f'## Deletion and insertion, "{literal(protocol)}"')
        parts += [_areas(of_protocol, reference, kind)]
        parts += [_table(of_protocol, kind.areas(*kind.others))]
        parts += [_ties(of_protocol, comparison.settings["ties"], kind)]
    if comparison.settings["masks"]:
        parts += ["## Where maps lie", _table(plain, _LOCALIZATION)]
        parts += [_table(plain, _LOCALIZATION, reference)]
    parts += ["## What a map costs", _costs(plain)]
    if (summary["check"] != "").any():
        parts += ["## Sanity checks", _checks(comparison, summary)]
    if len(comparison.failures):
        parts += ["## What failed", _failures(comparison)]
    if len(comparison.errors):
        parts += [f"## {kind.items.capitalize()} that could not be read", _left_out(comparison)]
        parts += [table(["why", kind.items, "the first"], reasons(comparison.errors))]
    return parts


def _left_out(comparison: Comparison) -> str:
    """How many items there are no numbers of."""
    errors, read = comparison.errors["index"], comparison.samples["index"]
    items = comparison.kind.items
    return (
        f"Left out: {errors.nunique()} of {pd.concat([errors, read]).nunique()} {items}; "
        "errors.parquet has each."
    )


def _models(comparison: Comparison) -> str:
    """What all models have in common to show: the main areas under the first protocol."""
    kind, protocol = comparison.kind, comparison.protocols[0]
    measures = kind.areas(*kind.main) if protocol else ("pointing_game", "energy")
    summary = comparison.summary(measures=measures)
    rows = summary[(summary["check"] == "") & summary["protocol"].isin([protocol, ""])]
    cells = rows.set_index(["method", "model", "measure"])
    lines = []
    for method in dict.fromkeys(rows["method"]):
        for model in comparison.models:
            keys = [(method, model, measure) for measure in measures]
            known = [
                _interval(cells.loc[key], "mean", "") if key in cells.index else "" for key in keys
            ]
            lines.append([title(method), model, *known])
    head = ["method", "model", *map(heading, measures)]
    said = f'Under "{literal(protocol)}":\n\n' if protocol else ""
    return said + table(head, lines)


def text(comparison: Comparison) -> str:
    """The areas under both curves, where maps lie, and what was left out, for a terminal."""
    kind, models = comparison.kind, comparison.models
    located = [name for name in ("pointing_game", "energy") if name in comparison.results]
    areas = kind.areas(*kind.main)
    measures = [name for name in (*areas, *located) if name in comparison.results]
    areas = tuple(name for name in areas if name in measures)
    summary = comparison.summary(measures=measures)
    summary = summary[summary["check"] == ""]
    width = max(24, 2 + max(len(title(method)) for method in comparison.methods))
    lines = []
    for model in models:
        of_model = summary[summary["model"] == model]
        for protocol in comparison.protocols:
            rows = of_model[of_model["protocol"].isin([protocol, ""])]
            heads = [f"{heading(name):25}" for name in areas] + [
                f"{heading(n):>15}" for n in located
            ]
            said = f'under "{protocol}"' if protocol else ""  # some have the name of a method
            name = ", ".join(filter(None, [model, said])) if len(models) > 1 else said
            lines += ["", f"{name:{width}} " + "".join(heads)]
            for method, part in rows.groupby("method", sort=False):
                by_measure = part.set_index("measure")
                cells = [f"{_interval(by_measure.loc[area], 'mean', ''):25}" for area in areas]
                cells += [f"{by_measure.loc[name, 'mean']:15.2f}" for name in located]
                lines.append(f"{title(method):{width}} " + "".join(cells))
    if any("(-)" in line for line in lines):
        lines += ["", NO_INTERVAL]
    if len(comparison.errors):
        lines += ["", _left_out(comparison)]
        for reason in reasons(comparison.errors.drop_duplicates(["index", "error"])):
            lines.append(f"{reason.items:6} x {readable(reason.text)}: {readable(reason.names)}")
    return "\n".join(line.rstrip() for line in lines)


def _setting(comparison: Comparison, reference: str) -> str:
    """What was explained, and how to read the tables."""
    kind = comparison.kind
    paragraphs = [
        f"{_explained(comparison)} Seed {comparison.settings['seed']}. Means with 95 % intervals "
        f"over the {kind.items}, each for itself; differences to {literal(title(reference))} are "
        f"paired, {kind.items[:-1]} by {kind.items[:-1]}."
    ]
    if comparison.protocols[0]:
        paragraphs.append(
            "Rank: among the methods without the references, 1 is best, by the area under the "
            f"{kind.ranked_title}. Tied: the share of the ranked pixels (or patches) whose value "
            "another has too; beside it mean areas under several orders of these, of which the "
            "tables above have the protocol's own."
        )
    return " ".join(paragraphs)


def _explained(comparison: Comparison) -> str:
    """Which items there are, and what of them is explained."""
    settings = comparison.settings
    count = settings[comparison.kind.items]
    if comparison.kind.name == "retrieval":
        gallery, recall = settings["gallery"], settings["recall"]
        said = ", ".join(f"{name[:2].upper()}@{name[2:]} {v:.1%}" for name, v in recall.items())
        return (
            f"{count} captions{_photos(comparison)}, each explained on its own image, among the "
            f"{gallery['images']} images and {gallery['captions']} captions of the gallery. "
            f"Unperturbed recall, over captions (IR) and over images (TR): {said}."
        )
    first = comparison.results.drop_duplicates("index")
    right = (first["target"] == first["predicted"]).mean()
    explained = {
        "true": f"the true class, which is the predicted one in {right:.1%}",
        "predicted": "the predicted class",
    }[settings["explained"]]
    return (
        f"{count} images{_photos(comparison)}, {settings['classes']} classes. Explained: "
        f"{explained}."
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
    kind = comparison.kind
    summary = comparison.summary(reference, [*kind.areas(*kind.main), *RANKS])
    plain = summary[(summary["protocol"] == protocol) & (summary["check"] == "")]
    shown = _areas(plain, reference, kind)
    return f"{shown}\n\n{NO_INTERVAL}" if "(-)" in shown else shown


def _areas(summary: pd.DataFrame, reference: str, kind: Kind) -> str:
    """The same, of a protocol's rows of the summary; a table for each main value."""
    parts, together = [], []
    for value in kind.main:
        areas = kind.areas(value)
        head = ["method"]
        for name in areas:
            head += [heading(name), f"minus {title(reference)}"]
        ranks = RANKS if value == kind.main[-1] else ()
        lines = []
        for method, rows in summary.groupby("method", sort=False):
            by_measure = rows.set_index("measure")
            line = [title(method)]
            for name in areas:
                row = by_measure.loc[name]
                line += [_interval(row, "mean", ""), _interval(row, "difference", "difference_")]
            line += [
                f"{by_measure.loc[rank, 'mean']:.1f}" if rank in by_measure.index else ""
                for rank in ranks
            ]
            lines.append(line)
        parts.append(table([*head, *(heading(rank) for rank in ranks)], lines))
        together += [_together(summary, name, reference) for name in areas]
    return "\n\n".join(filter(None, [*parts, *together]))


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


def _table(summary: pd.DataFrame, measures: Sequence[str], reference: str | None = None) -> str:
    """Means with intervals, a row a method, a column a measure; or differences to a reference."""
    rows = summary[summary["measure"].isin(measures) & (summary["method"] != reference)]
    value, ends, head = "mean", "", "method"
    if reference is not None:
        value, ends, head = "difference", "difference_", f"minus {title(reference)}"
    lines = []
    for method, own in rows.groupby("method", sort=False):
        by_measure = own.set_index("measure")
        cells = [_interval(by_measure.loc[measure], value, ends) for measure in measures]
        lines.append([title(method), *cells])
    return table([head, *map(heading, measures)], lines)


def _ties(summary: pd.DataFrame, orders: Sequence[str], kind: Kind) -> str:
    """How much of the maps is tied, and mean areas under each order of ties, a row a method."""
    main = kind.areas(*kind.main)
    areas = [f"{name}_{order}" for name in main for order in orders]
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
    head = ["method", "tied", *(f"{heading(name)}, {order}" for name in main for order in orders)]
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
    protocol, kind = comparison.protocols[0], comparison.kind
    main = kind.areas(*kind.main) if protocol else ()
    rows = summary[
        ((summary["protocol"] == protocol) & summary["measure"].isin(main))
        | (summary["measure"] == "similarity")
    ].set_index(["check", "method", "measure"])
    checks = [check for check in comparison.results["check"].unique() if check]
    head = ["method"]
    for check in checks:
        name = check.replace("-", " ")
        head += [f"{name}: similarity", *(f"{heading(area)}, {protocol}" for area in main)]
    lines = []
    for method in comparison.methods:
        if method in REFERENCES:
            continue
        line = [title(method)]
        for check in checks:
            for name in ("similarity", *main):
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
