"""Studies as pages: who leads at what cost, and what each choice changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cci_captum.baselines.registry import REFERENCES

from ..comparison import MEASURES, Comparison
from ..comparison.left_out import reasons
from ..comparison.titles import heading, title
from ..markdown import NO_INTERVAL, literal, table, with_interval
from .choices import Level
from .leading import label_of
from .tables import AREAS, LOCATED, adjusted, areas_of, differences, joined, means

_COSTS = ("forward_passes", "seconds")


def leading_page(
    rows: pd.DataFrame,
    conditions: Mapping[str, pd.DataFrame],
    found: Found,
    comparisons: Sequence[Comparison],
    *,
    about: str,
) -> str:
    """Leading methods against all others.

    Args:
        rows: As `tables.joined` gives them.
        conditions: As `conditions_of` gives them.
        found: As `against_all` gives it.
        comparisons: Of which the rows are; for sanity checks, and for what is missing.
        about: A paragraph of Markdown: what was run.
    """
    parts = ["# Which method leads", about, _counted(rows, conditions)]
    parts += ["## What each costs, and where its maps lie", _costs(rows)]
    parts += ["## Areas under deletion and insertion, top-1"]
    parts += [_means(rows, [*found])]
    parts += [
        "## Does a method lead?",
        "Of its paired differences to each of the other methods, and to the true mask where there "
        "is one, over all protocols and both areas, how many are off zero in its favour, adjusted "
        "by Holm within each condition, leader by leader (p < 0.05).",
        verdicts(found),
    ]
    for leader, by_condition in found.items():
        said = dict.fromkeys([label_of(leader), title(leader)])
        parts += [f"### {literal(': '.join(said))}", _differences(by_condition["all"])]
        parts += [_not_ahead(by_condition["all"]), _by_condition(by_condition)]
    parts += _checks(comparisons)
    parts += _left_out(comparisons)
    if any("(-)" in part for part in parts):
        parts.insert(3, NO_INTERVAL)
    return "\n\n".join(filter(None, parts)) + "\n"


Found = Mapping[str, Mapping[str, pd.DataFrame]]
"""Leader -> condition -> its differences to all others."""


def against_all(conditions: Mapping[str, pd.DataFrame], leaders: Sequence[str]) -> Found:
    """Each leader's differences to every method that does not lead and to the true mask.

    Of a condition, to those that have maps there.

    Args:
        conditions: As `conditions_of` gives them.
        leaders: Methods.
    """

    def found(rows: pd.DataFrame, leader: str) -> pd.DataFrame:
        known = list(rows["method"].unique())
        others = [name for name in known if name not in (*leaders, "random")]
        if leader not in known or not others:
            return pd.DataFrame(columns=["protocol", "measure", "method", "verdict"])
        return adjusted(differences(rows, leader, others=others))

    return {
        leader: {name: found(rows, leader) for name, rows in conditions.items()}
        for leader in leaders
    }


def choices_page(
    rows: pd.DataFrame,
    conditions: Mapping[str, pd.DataFrame],
    changed: pd.DataFrame,
    alike: pd.Series,
    levels: Sequence[Level],
    comparisons: Sequence[Comparison],
    *,
    about: str,
) -> str:
    """What each choice changes.

    Args:
        rows: As `tables.joined` gives them.
        conditions: As `conditions_of` gives them.
        changed: As `changes` gives it.
        alike: As `tables.alike` gives it.
        levels: Those that were measured.
        comparisons: Of which the rows are; for what is missing.
        about: A paragraph of Markdown: what was run.
    """
    columns = areas_of(changed)
    measured = means(rows, AREAS).set_index(["method", "protocol", "measure"])
    keyed = changed.set_index(["base", "method", "protocol", "measure"])
    lines = []
    for base in dict.fromkeys(level.base for level in levels):
        own = [_mean(measured.loc[(base, *key)]) for key in columns]
        lines.append([title(base), "as it is", *own, ""])
        for level in (level for level in levels if level.base == base):
            cells = [_cell(keyed.loc[(base, level.name, *key)]) for key in columns]
            said = f"{level.level}{_of_fewer(rows, level.name)}"
            lines.append([level.choice, said, *cells, f"{alike[base, level.name]:.2f}"])
    parts = [
        "# What each choice changes",
        about,
        _counted(rows, conditions),
        "Below a method as it is, what one choice changes: differences, positive where there is "
        "more of the area; in bold where off zero (p < 0.05, adjusted by Holm over the whole "
        "table). The last column is how alike the maps are to those of the method as it is, by "
        "Spearman's rank correlation.",
        _bold(table(["choice", "level", *map(_area, columns), "alike"], lines)),
        *_left_out(comparisons),
    ]
    if any("(-)" in part for part in parts):
        parts.insert(3, NO_INTERVAL)
    return "\n\n".join(parts) + "\n"


def changes(rows: pd.DataFrame, levels: Sequence[Level]) -> pd.DataFrame:
    """How each level differs from the method that it is a level of, as `adjusted` has it.

    Args:
        rows: As `tables.joined` gives them.
        levels: Those that were measured.

    Returns:
        The columns of `differences` with "base", the method as it is; "difference" and "gain" are
        the level's less the base's.
    """
    parts = []
    for base in dict.fromkeys(level.base for level in levels):
        names = [level.name for level in levels if level.base == base]
        found = differences(rows, base, others=names)
        turned = {name: 0.0 - found[name] for name in ("difference", "gain")}  # no -0
        ends = {"low": 0.0 - found["high"], "high": 0.0 - found["low"]}
        parts.append(found.assign(**turned, **ends, base=base))
    return adjusted(pd.concat(parts, ignore_index=True))


def _counted(rows: pd.DataFrame, conditions: Mapping[str, pd.DataFrame]) -> str:
    """How many items and pictures are behind each condition."""
    lines = [
        [name, own["index"].nunique(), own["photo"].nunique(), own["model"].nunique()]
        for name, own in conditions.items()
    ]
    return table(["condition", "items", "pictures", "models"], lines)


def _of_fewer(rows: pd.DataFrame, name: str) -> str:
    """How many items a method has maps of, where that is not all."""
    own, every = rows.loc[rows["method"] == name, "index"].nunique(), rows["index"].nunique()
    return f" ({own} of {every} items)" if own < every else ""


def _counted_title(rows: pd.DataFrame, name: str) -> str:
    return f"{title(name)}{_of_fewer(rows, name)}"


def _left_out(comparisons: Sequence[Comparison]) -> list[str]:
    """Items that could not be read, and maps that could not be made: sections of a page."""
    unread, failed = [], []
    for comparison in comparisons:
        model = comparison.results["model"].iloc[0]
        unread += [[model, *reason] for reason in reasons(comparison.errors)]
        groups = comparison.failures.groupby(["method", "check"], sort=False)
        for (method, check), rows in groups:
            count, first = rows["index"].nunique(), literal(rows["error"].iloc[0])
            failed.append([model, title(method), check, count, first])
    parts = []
    if unread:
        parts += ["## Items that could not be read"]
        parts += [table(["model", "why", "items", "the first"], unread)]
    if failed:
        parts += ["## Maps that could not be made"]
        parts += [table(["model", "method", "check", "items", "the first error"], failed)]
    return parts


def _costs(rows: pd.DataFrame) -> str:
    once = rows[rows["protocol"] == rows["protocol"].iloc[0]]
    located = [name for name in LOCATED if name in once]
    said = {}
    if located:
        for _, row in means(once, located).iterrows():
            said[row["method"], row["measure"]] = _mean(row)
    lines = []
    for name, own in once.groupby("method", sort=False):
        line = [_counted_title(rows, name)]
        line += [f"{own['forward_passes'].mean():.0f}", f"{own['seconds'].mean():.3f}"]
        lines.append([*line, *(said.get((name, measure), "") for measure in located)])
    head = [MEASURES[name].title for name in (*_COSTS, *located)]
    return table(["method", *head], lines)


def _means(rows: pd.DataFrame, leaders: Sequence[str]) -> str:
    found = means(rows, AREAS)
    columns = [(protocol, area) for protocol in found["protocol"].unique() for area in AREAS]
    keyed = found.set_index(["method", "protocol", "measure"])["mean"]
    names = [*leaders, *(name for name in found["method"].unique() if name not in leaders)]
    lines = [
        [_counted_title(rows, name), *(f"{keyed.get((name, *key), np.nan):.3f}" for key in columns)]
        for name in names
    ]
    return table(["method", *map(_area, columns)], lines)


def verdicts(found: Found) -> str:
    """Leaders by conditions: ahead of others, of the mask where there is one, and behind."""
    with_mask = any(
        own["method"].isin(REFERENCES).any() for each in found.values() for own in each.values()
    )
    lines = []
    for name in next(iter(found.values())):
        line = [name]
        for by_condition in found.values():
            own = by_condition[name]
            mask = own["method"].isin(REFERENCES)
            line += [_ahead(own[~mask]), *([_ahead(own[mask])] if with_mask else [])]
        lines.append(line)
    compared = ("methods", "mask") if with_mask else ("methods",)
    return table(["condition", *(f"{label_of(n)}: {of}" for n in found for of in compared)], lines)


def _differences(own: pd.DataFrame) -> str:
    """A leader's differences, a row a method."""
    columns = areas_of(own)
    lines = []
    for name, of_method in own.groupby("method", sort=False):
        keyed = of_method.set_index(["protocol", "measure"])
        lines.append([title(name), *(_cell(keyed.loc[tuple(key)]) for key in columns)])
    return _bold(table(["less", *map(_area, columns)], lines))


def _not_ahead(own: pd.DataFrame) -> str:
    """What a leader is not ahead of, area by area."""
    lines = []
    for area, rows in own[own["verdict"] != "better"].groupby(["protocol", "measure"], sort=False):
        behind = rows["verdict"] == "worse"
        names = [
            title(name) + (" (behind)" if worse else "")
            for name, worse in zip(rows["method"], behind, strict=True)
        ]
        lines.append([_area(area), ", ".join(names)])
    return table(["area", "not ahead of"], lines) if lines else ""


def _by_condition(by_condition: Mapping[str, pd.DataFrame]) -> str:
    """In how many areas a leader is ahead of each other method, a column a condition."""
    lines = []
    for name in dict.fromkeys(name for own in by_condition.values() for name in own["method"]):
        cells = [_ahead(own[own["method"] == name]) for own in by_condition.values()]
        lines.append([title(name), *cells])
    return table(["areas ahead of", *by_condition], lines)


def _ahead(own: pd.DataFrame) -> str:
    """How many rows are in favour of the leader, and how many against it; "" without rows."""
    if not len(own):
        return ""
    ahead, behind = ((own["verdict"] == word).sum() for word in ("better", "worse"))
    return f"{ahead} of {len(own)}" + (f", behind in {behind}" if behind else "")


def _checks(comparisons: Sequence[Comparison]) -> list[str]:
    """How alike maps under each sanity check are to the maps as they are: a section of a page."""
    known = dict.fromkeys(name for own in comparisons for name in own.results["check"].unique())
    checks = [name for name in known if name]
    said: dict[str, dict[str, str]] = {}
    for check in checks:
        for _, row in means(joined(comparisons, check), ["similarity"]).iterrows():
            said.setdefault(row["method"], {})[check] = f"{_mean(row)}, {row['n']} items"
    if not said:
        return []
    lines = [[title(name), *(own.get(c, "") for c in checks)] for name, own in said.items()]
    return [
        "## Sanity checks",
        "Spearman's rank correlation with the map without the check, mean over items; a method "
        "whose map depends on what the check changes is near 0.",
        table(["method", *checks], lines),
    ]


def _area(area: tuple[str, str]) -> str:
    """A protocol and a measure, as a column is called."""
    protocol, measure = area
    return f"{protocol}, {heading(measure)}"


def _mean(row: pd.Series) -> str:
    return with_interval(row["mean"], row["low"], row["high"])


def _cell(row: pd.Series) -> str:
    """A difference with its interval, marked for `_bold` where it is off zero."""
    said = with_interval(row["difference"], row["low"], row["high"], signed=True)
    return f"\N{BLACK STAR}{said}\N{BLACK STAR}" if row["verdict"] else said


def _bold(text: str) -> str:
    return text.replace("\N{BLACK STAR}", "**")
