"""Tables as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table.

    Example:
        >>> print(table(["class", "accuracy"], [["cat", "99.0"]]))
        | class | accuracy |
        |---|---|
        | cat | 99.0 |
    """
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [head, *rows]]
    lines.insert(1, "|" + "---|" * len(head))
    return "\n".join(lines)


NO_INTERVAL = (
    "(-): no interval, since the images are too few or their values too much alike to say how sure "
    "the mean is."
)
"""What `with_interval` means by "-"."""


def with_interval(
    mean: float, low: float, high: float, digits: int = 3, signed: bool = False
) -> str:
    """A mean and its interval; "-" where there is none, see `NO_INTERVAL`.

    Example:
        >>> with_interval(0.5, 0.25, 0.75, digits=2)
        '0.50 (0.25 to 0.75)'
        >>> with_interval(0.5, float("nan"), float("nan"), signed=True)
        '+0.500 (-)'
    """
    middle, *ends = (f"{number:{'+' * signed}.{digits}f}" for number in (mean, low, high))
    return f"{middle} (-)" if math.isnan(low) else f"{middle} ({' to '.join(ends)})"
