"""A diagnosis as a page, and as a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cci_captum.diagnosis import VERDICTS, Rule, agreement
from cci_captum.diagnosis.verdicts import verdict_column

from ..markdown import literal, table, with_interval
from ..statistics import rate_interval

MEANINGS = {
    "FG-Co": "right, driven by the object",
    "BG-Co": "right, driven by the background",
    "FG-Er": "wrong, driven by the object",
    "BG-Er": "wrong, driven by the background",
    "Fine-Er": "wrong, driven by the object, for a class that looks like the true one",
}
_SHOWN = 15  # pairs of class and group


def counts(table: pd.DataFrame, rules: Sequence[Rule]) -> pd.DataFrame:
    """How often each rule gives each verdict.

    Args:
        table: Of `diagnose` or `DiagnosisRun`.
        rules: Whose verdicts.

    Returns:
        A row each rule and verdict: "rule", "verdict", "images", "of", how many have a verdict by
        the rule, "rate" with "low" and "high", Clopper and Pearson's 95 % interval; "of_errors",
        of wrong predictions; NaN where there are none.
    """
    rows = []
    for rule in rules:
        said = table[verdict_column(rule)].dropna()
        wrong = int(said.str.endswith("Er").sum())
        for verdict in VERDICTS:
            hits = int((said == verdict).sum())
            low, high = rate_interval(hits, len(said)) if len(said) else (np.nan, np.nan)
            rate = hits / len(said) if len(said) else np.nan
            of_errors = hits / wrong if wrong and verdict.endswith("Er") else np.nan
            rows.append((str(rule), verdict, hits, len(said), rate, low, high, of_errors))
    names = ["rule", "verdict", "images", "of", "rate", "low", "high", "of_errors"]
    return pd.DataFrame(rows, columns=names)


def page(
    table_: pd.DataFrame,
    rules: Sequence[Rule],
    settings: dict[str, Any],
    pairs: pd.DataFrame | None,
    note: str,
) -> str:
    """A page of Markdown.

    Args:
        table_: Of `DiagnosisRun`.
        rules: Its rules.
        settings: Of its plan.
        pairs: Of `shortcuts`; None where the data know of no groups.
        note: How to make it again.
    """
    found = counts(table_, rules)
    judged = table_[table_["status"] == ""]
    right = int((judged["true"] == judged["predicted"]).sum())
    low, high = rate_interval(right, len(judged)) if len(judged) else (np.nan, np.nan)
    said = [
        "# Was it the object, or what is behind it?",
        f"{literal(settings['model'])} on {literal(settings['data'])}: {len(table_)} images, "
        f"{len(judged)} of them judged; "
        f"{with_interval(right / max(len(judged), 1), low, high)} are right.",
        note,
        "## Verdicts",
        "The share of images, with 95 % intervals; of wrong predictions in brackets.",
        _verdicts(found, rules),
        "\n".join(f"- **{verdict}**: {meaning}." for verdict, meaning in MEANINGS.items()),
        "![verdicts](verdicts.png)",
        "## Rules",
        _rules(rules, settings),
    ]
    if len(rules) > 1:
        said += ["## Do the rules agree?", _agreement(agreement(table_, rules))]
    if pairs is not None:
        said += ["## Shortcuts", *_shortcuts(pairs, rules[0])]
    said += ["## The two ends", "![the most and the least background-driven](extremes.png)"]
    left_out = table_.loc[table_["status"] != "", "status"].value_counts()
    if len(left_out):
        rows = [[status, count] for status, count in left_out.items()]
        said += ["## Not judged", table(["why", "images"], rows)]
    said += [f"- {literal(each)}" for each in settings.get("notes", ())]
    return "\n\n".join(said) + "\n"


def text(table_: pd.DataFrame, rules: Sequence[Rule]) -> str:
    """For the terminal: each verdict's share, rule by rule."""
    found = counts(table_, rules)
    width = max(len(str(rule)) for rule in rules)
    lines = [f"{'':{width}}  " + "  ".join(f"{verdict:>7}" for verdict in VERDICTS)]
    for rule in rules:
        own = found[found["rule"] == str(rule)]
        lines.append(f"{rule!s:{width}}  " + "  ".join(f"{rate:7.1%}" for rate in own["rate"]))
    out = int((table_["status"] != "").sum())
    if out:
        lines.append(f"\n{out} of {len(table_)} images are not judged: summary.md says why")
    return "\n".join(lines)


def _verdicts(found: pd.DataFrame, rules: Sequence[Rule]) -> str:
    rows = []
    for rule in rules:
        own = found[found["rule"] == str(rule)]
        cells = []
        for row in own.itertuples():
            share = with_interval(row.rate, row.low, row.high)
            cells.append(share if np.isnan(row.of_errors) else f"{share} [{row.of_errors:.0%}]")
        rows.append([rule, own["of"].iloc[0], *cells])
    return table(["rule", "images", *VERDICTS], rows)


def _rules(rules: Sequence[Rule], settings: dict[str, Any]) -> str:
    rows = [
        [
            rule,
            f"maps of {settings['method']}" if rule.uses_maps else "regions left out",
            f"{rule.limit:g}",
            rule.cost(settings["n_donors"]),
        ]
        for rule in rules
    ]
    said = "A verdict blames the background where its share is above the limit."
    return f"{said}\n\n{table(['rule', 'reads', 'limit', 'passes an image'], rows)}"


def _agreement(found: pd.DataFrame) -> str:
    rows = [
        [row.rule, row.other, row.images, f"{row.same:.1%}", f"{row.kappa:.2f}"]
        for row in found.itertuples()
    ]
    return table(["rule", "other", "images", "blame the same", "Cohen's kappa"], rows)


def _shortcuts(pairs: pd.DataFrame, rule: Rule) -> list[str]:
    known = pairs[pairs["low"].notna()]
    rows = [
        [
            row["class"],
            row["group"],
            row["images"],
            row["elsewhere"],
            f"{row['share']:.2f}",
            with_interval(row["difference"], row["low"], row["high"], 2, True),
            f"{row['p']:.2g}",
            f"{row['right']:.0%}",
            f"{row['right_elsewhere']:.0%}",
            ", ".join(map(str, row["pictures"])),
        ]
        for _, row in known.head(_SHOWN).iterrows()
    ]
    head = [
        "predicted", "group", "images", "elsewhere", "background's share", "more than elsewhere",
        "p (Holm)", "right", "right elsewhere", "pictures",
    ]  # fmt: skip
    said = (
        f"By {literal(rule)}: how much more the background counts for a predicted class in a group "
        f"of images than in all others, the surest first; {len(known)} of {len(pairs)} pairs have "
        "images enough to say."
    )
    return [said, table(head, rows)] if rows else [said]
