"""Items of which nothing was measured: how many, and why."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

_NAMES = 3  # of each reason that are shown
_REASONS = 20  # that are shown


class Reason(NamedTuple):
    """Why some items were left out.

    Attributes:
        text: What is wrong with each.
        items: How many.
        names: The first few images, or places of items, and how many more there are.
    """

    text: str
    items: int
    names: str


def reason_of(error: str) -> str:
    """What is wrong with an item, without which item it is.

    Errors of reading are "what is wrong: which image"; of another text all is the reason.

    Example:
        >>> reason_of("not an image, or of an unknown kind: cat/1.jpg"), reason_of("torn")
        ('not an image, or of an unknown kind', 'torn')
    """
    reason = error.rpartition(": ")[0]
    return reason if " " in reason else error  # else it begins with the name of an argument


def reasons(errors: pd.DataFrame) -> list[Reason]:
    """Why items were left out, most frequent first.

    Args:
        errors: `Comparison.errors` of one model.

    Returns:
        At most 20; the last is of all others, where there are more.

    Example:
        >>> rows = [(0, "not an image: a.jpg"), (4, "torn"), (7, "not an image: b.jpg")]
        >>> for reason in reasons(pd.DataFrame(rows, columns=["index", "error"])):
        ...     print(*reason, sep=" | ")
        not an image | 2 | a.jpg, b.jpg
        torn | 1 | place 4
    """
    found = []
    for text, rows in errors.groupby(errors["error"].map(reason_of), sort=False):
        named = zip(rows["index"], rows["error"], strict=True)
        found.append(
            Reason(str(text), len(rows), _first([_name(*row, str(text)) for row in named]))
        )
    found.sort(key=lambda reason: -reason.items)
    if len(found) > _REASONS:
        others = found[_REASONS - 1 :]
        count = sum(reason.items for reason in others)
        found[_REASONS - 1 :] = [Reason(f"{len(others)} other reasons", count, "see the errors")]
    return found


def _name(place: int, error: str, reason: str) -> str:
    return error.removeprefix(reason).removeprefix(": ") or f"place {place}"


def _first(names: list[str]) -> str:
    """Captions of one image have the same name."""
    different = list(dict.fromkeys(names))
    more = f" and {len(different) - _NAMES} more" if len(different) > _NAMES else ""
    return ", ".join(different[:_NAMES]) + more
