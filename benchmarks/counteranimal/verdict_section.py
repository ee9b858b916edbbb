"""The part of CounterAnimal's page on verdicts: whether drops come with the background."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from cci_captum.diagnosis import Rule

from ..markdown import literal, table, with_interval
from .verdicts import background_errors, drops_with_verdicts, mean_drops

_SHOWN = 10  # classes of a model, those of the largest drops


def verdict_section(tables: Mapping[str, pd.DataFrame], rule: str | Rule) -> list[str]:
    """Heading, a line for the data and a table of classes for each model with the rule's verdicts.

    Args:
        tables: Model -> its table of predictions, 1 vs 1000.
        rule: Whose verdicts.

    Returns:
        Paragraphs of Markdown; none where no table has such verdicts.
    """
    said = []
    for model, own in tables.items():
        if f"{rule}_verdict" not in own:
            continue
        drops = drops_with_verdicts(own, rule)
        said += [f"### {literal(model)}", _one_line(own, drops, rule), _by_class(drops)]
    if not said:
        return []
    meaning = (
        "The paper calls a drop reliance on the background. A verdict on each error says whether "
        "the background drove it (BG-Er) or the object did. The drop is the sum of what is more in "
        "counter than in common: errors of the background, of the object, and without a verdict."
    )
    return [f"## Do drops come with the background? By {literal(rule)}", meaning, *said]


def _one_line(own: pd.DataFrame, drops: pd.DataFrame, rule: str | Rule) -> str:
    errors, parts = background_errors(own, rule), mean_drops(drops)
    shares = [
        f"{row['background']:.0f} of {row['judged']:.0f} judged errors on {group} backgrounds, "
        f"{with_interval(row['share'], row['low'], row['high'], 2)}"
        for group, row in errors[::-1].iterrows()
    ]
    points = {
        name: with_interval(row["mean"], row["low"], row["high"], 1)
        for name, row in parts.iterrows()
    }
    return (
        f"The background drove {'; and '.join(shares)}. Of a mean drop of {points['drop']} points "
        f"the background makes {points['background']}, the object {points['object']}, "
        f"{points['unjudged']} without a verdict."
    )


def _by_class(drops: pd.DataFrame) -> str:
    ordered = drops.sort_values("drop", ascending=False, kind="stable").head(_SHOWN)
    rows = [
        [
            row["name"],
            f"{row['drop']:+.1f}",
            f"{row['drop_background']:+.1f}",
            *(_errors(row, group) for group in ("counter", "common")),
        ]
        for row in ordered.to_dict("records")
    ]
    head = ["class", "drop", "of the background", "BG-Er in counter", "BG-Er in common"]
    return table(head, rows)


def _errors(row: Mapping[Any, Any], group: str) -> str:
    """How many of a class's judged errors are the background's; "-" where none is judged."""
    judged = row[f"{group}_judged"]
    if not judged:
        return "-"
    share, low, high = (row[f"{group}_{end}"] for end in ("share", "low", "high"))
    return f"{row[f'{group}_background']} of {judged}: {with_interval(share, low, high, 2)}"
