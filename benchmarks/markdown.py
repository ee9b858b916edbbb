"""Tables as Markdown, and text in it that is shown as it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

# Characters that mean something inside a line (CommonMark 0.31, section 2.4, and tables).
_MARKUP = re.compile(r"[\\`*_{}\[\]<>&|~#$]")


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    r"""Return a Markdown table. Cells are plain text: markup in them is shown, not followed.

    Example:
        >>> print(table(["class", "accuracy"], [["cat", "99.0"], ["a|b", 1]]))
        | class | accuracy |
        |---|---|
        | cat | 99.0 |
        | a\|b | 1 |
    """
    lines = ["| " + " | ".join(literal(cell) for cell in row) + " |" for row in [head, *rows]]
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


def literal(text: object) -> str:
    r"""Text that Markdown shows as it is, in one line: markup is escaped, line ends are spaces.

    Example:
        >>> print(literal("two <b>lines</b>\nof_text"))
        two \<b\>lines\</b\> of\_text
    """
    return _MARKUP.sub(r"\\\g<0>", " ".join(str(text).split()))


def code(text: str) -> str:
    """Text as code, whatever it holds: a span, or a block where it has several lines.

    Example:
        >>> print(code("cci-captum compare --data 'a`b'"))
        `` cci-captum compare --data 'a`b' ``
    """
    longest = max(map(len, re.findall("`+", text)), default=0)
    if len(text.splitlines()) > 1:
        fence = "`" * max(longest + 1, 3)
        return f"{fence}\n{text}\n{fence}"
    space = " " if longest or text.startswith(" ") or text.endswith(" ") else ""
    fence = "`" * (longest + 1)
    return f"{fence}{space}{text}{space}{fence}"
