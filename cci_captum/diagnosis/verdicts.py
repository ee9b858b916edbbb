"""From shares of the background to verdicts on predictions, and whether rules agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .._extras import needed_by
from .rules import Rule

with needed_by("cci_captum.diagnosis"):
    import numpy as np
    import pandas as pd

Judge = Callable[[str, str], bool]
"""Whether two classes, by their names, look alike: the predicted one and the true one."""

VERDICTS = ("FG-Co", "BG-Co", "FG-Er", "BG-Er", "Fine-Er")
"""A right prediction (Co) or a wrong one (Er), driven by the object (FG) or by the background (BG);
Fine-Er: a wrong one, driven by the object, for a class that looks like the true one."""


def share_column(rule: Rule | str) -> str:
    """Where a table has a rule's share of the background."""
    return f"{rule}_share"


def verdict_column(rule: Rule | str) -> str:
    """Where a table has a rule's verdict."""
    return f"{rule}_verdict"


def rules_of(table: pd.DataFrame) -> list[str]:
    """The rules whose verdicts a table has, in its order.

    Example:
        >>> rules_of(pd.DataFrame({"predicted": [1], "energy_verdict": ["BG-Er"]}))
        ['energy']
    """
    ending = verdict_column("")
    return [str(name).removesuffix(ending) for name in table if str(name).endswith(ending)]


def with_verdicts(
    table: pd.DataFrame, rules: Sequence[Rule], judge: Judge | None = None
) -> pd.DataFrame:
    """The table with a verdict for every share, and whether all rules agree.

    Args:
        table: A row an image, with "predicted", "true", their names "predicted_name" and
            "true_name", and the share of each rule.
        rules: Whose.
        judge: Says which classes look alike; None: no verdict is Fine-Er.

    Returns:
        A copy with the column of each rule's verdict, one of `VERDICTS`, or None where it has no
        share or nothing is predicted; and "agree", whether all that have one blame the same part,
        None where fewer than two have.
    """
    table = table.copy()
    known = table["predicted"] >= 0
    wrong = table["predicted"] != table["true"]
    alike = np.zeros(len(table), dtype=bool)
    if judge is not None:
        pairs = zip(table["predicted_name"], table["true_name"], known & wrong, strict=True)
        answers: dict[tuple[str, str], bool] = {}
        for row, (guess, true, asked) in enumerate(pairs):
            if asked:
                pair = (guess, true)
                if pair not in answers:
                    answers[pair] = bool(judge(*pair))
                alike[row] = answers[pair]
    behind = {}
    for rule in rules:
        shares = table[share_column(rule)]
        has = shares.notna() & known
        behind[str(rule)] = (shares > rule.limit).where(has)
        verdicts = [
            _verdict(bool(background), bool(error), bool(similar)) if one else None
            for background, error, similar, one in zip(
                shares > rule.limit, wrong, alike, has, strict=True
            )
        ]
        # Of dtype object, for pandas 3 makes NaN of None in a column of texts.
        table[verdict_column(rule)] = pd.Series(verdicts, index=table.index, dtype=object)
    table["agree"] = _agreed(pd.DataFrame(behind, index=table.index))
    return table


def agreement(table: pd.DataFrame, rules: Sequence[Rule]) -> pd.DataFrame:
    """How often each two rules blame the same part, beyond what chance would have them do.

    Args:
        table: Of `diagnose`.
        rules: Whose.

    Returns:
        A row each pair: "rule", "other", "images" that both have a verdict on, "same", the share
        of these on which they agree, and "kappa", Cohen's (1960): 0 is chance, 1 is always; NaN
        where both say the same of all images, or there are none.
    """
    rows = []
    names = [str(rule) for rule in rules]
    sides = {name: table[verdict_column(name)].map(_side) for name in names}
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            both = sides[name].notna() & sides[other].notna()
            a, b = (sides[each][both].astype(bool).to_numpy() for each in (name, other))
            same = float((a == b).mean()) if len(a) else np.nan
            chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()) if len(a) else np.nan
            kappa = (same - chance) / (1 - chance) if len(a) and chance < 1 else np.nan
            rows.append((name, other, len(a), same, kappa))
    return pd.DataFrame(rows, columns=["rule", "other", "images", "same", "kappa"])


def _verdict(background: bool, wrong: bool, alike: bool) -> str:
    if not wrong:
        return "BG-Co" if background else "FG-Co"
    if background:
        return "BG-Er"
    return "Fine-Er" if alike else "FG-Er"


def _side(verdict: Any) -> bool | None:
    """Whether a verdict blames the background; None where there is none."""
    return verdict.startswith("BG") if isinstance(verdict, str) else None


def _agreed(behind: pd.DataFrame) -> list[bool | None]:
    """Whether a row's values are all the same, of those that are known."""
    said = [[value for value in row if not pd.isna(value)] for row in behind.to_numpy()]
    return [len(set(row)) == 1 if len(row) > 1 else None for row in said]
