"""Which tests a quick run holds, and which it leaves to `pytest --exhaustive`.

Two marks say so:

- `exhaustive`: on a test, or on one value of a parameter (`exhaustive_unless`, `quick_first`): left
  out.
- `shared(among=n)`: on a test, a class or a module (`pytestmark`): tests of one file share long
  lists, n or more of them: each takes every n-th value, and the next test the values after these.

And of every test with several lists of parameters as many cases stay as the longest list has
values, and every value of every parameter is among them.

So a quick run holds every family, method, strategy, seed and option of a test, or of those of its
file, but not all of them together; conftest.py marks the rest `exhaustive` and leaves it out.

`pytest --pairs` is between the two: of every test any two values that meet in a case, but not all
that three or more make; the rest is marked `beyond_pairs`. So are, beside `exhaustive`, tests that
take a minute of what others show in part: kinds of killed processes, models built to be counted.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

import pytest


def exhaustive_unless(quick: bool, *values: Any, **options: Any) -> Any:
    """A parameter's value, `pytest.param(*values)`, that a quick run holds only if `quick`."""
    return pytest.param(*values, marks=[] if quick else pytest.mark.exhaustive, **options)


def quick_first(values: Iterable[Any], quick: int = 1) -> list[Any]:
    """Parameters: the values (tuples: of several), of which a quick run holds the first."""
    given = (value if isinstance(value, tuple) else (value,) for value in values)
    return [exhaustive_unless(place < quick, *value) for place, value in enumerate(given)]


_SIZE = re.compile(
    r"tiny|xsmall|small|little|medium|mediumd|betwixt|base|large|huge|giant|giantopt|gigantic"
    r"|enormous|so\d+m2?|intern\d+m|\d+b|plus|patch\d+|s\d+|\d+"
)


def timm_kind(name: str) -> str:
    """A model's name in timm without its sizes: "vit_clip" of "vit_base_patch16_clip_224".

    What is no size that we know stays, so that a new kind is one of its own.
    """
    return "_".join(part for part in name.split("_") if not _SIZE.fullmatch(part))


def firsts(names: Iterable[str], kind: Callable[[str], Hashable]) -> list[Any]:
    """Parameters: the names, of which a quick run holds the first of each kind."""
    names = list(names)
    first = {kind(name): name for name in reversed(names)}
    return [exhaustive_unless(first[kind(name)] == name, name) for name in names]


def covering(rows: Sequence[Sequence[Hashable]]) -> list[bool]:
    """Which cases to keep so that every value of every parameter is among them.

    The longest parameter goes through all of its values once, the others take turns as the digits
    of a counter do: of two short ones that together are no longer than the longest, every
    combination is kept too.

    Args:
        rows: One a case, with a value of each parameter.

    Returns:
        One bool a row.
    """
    places = []  # of the values of each parameter, counted as they come
    for column in zip(*rows, strict=True):
        order = {value: place for place, value in enumerate(dict.fromkeys(column))}
        places.append([order[value] for value in column])
    if not places:
        return [True] * len(rows)
    longest, *others = sorted(places, key=lambda column: -max(column))
    keep = [True] * len(rows)
    step = 1
    for column in others:
        size = max(column) + 1
        if step * size > max(longest) + 1:
            step = 1
        turns = [place // step % size for place in longest]
        keep = [k and turn == own for k, turn, own in zip(keep, turns, column, strict=True)]
        step *= size
    for column in places:  # where the cases are not the whole product, a value may be missing
        missing = set(column) - {value for value, k in zip(column, keep, strict=True) if k}
        for value in missing:
            keep[column.index(value)] = True
    return keep


def pairs(rows: Sequence[Sequence[Hashable]], held: Sequence[bool]) -> list[bool]:
    """Which cases to keep so that any two values that meet in a case meet in one that is kept.

    Of two parameters all cases, then; of more, those that bring most pairs that no other has
    brought, one after the other.

    Args:
        rows: One a case, with a value of each parameter.
        held: One a case: kept already.

    Returns:
        One bool a row.
    """
    met = [
        {(i, row[i], j, row[j]) for j in range(len(row)) for i in range(j)} or {tuple(row)}
        for row in rows
    ]
    missing: set[Any] = set().union(*met)
    keep = list(held)
    for pair, kept in zip(met, keep, strict=True):
        if kept:
            missing -= pair
    # What a case brings only shrinks: it is looked at again once it comes first.
    left = [(-len(pair), place) for place, pair in enumerate(met) if not keep[place]]
    heapify(left)
    while missing:
        _, place = heappop(left)
        brings = len(met[place] & missing)
        if left and (-brings, place) > left[0]:
            heappush(left, (-brings, place))
            continue
        keep[place] = True
        missing -= met[place]
    return keep


def _values(item: Any) -> list[Hashable]:
    """What tells the values of each list of parameters apart; names given together are one."""
    given = [mark.args[0] for mark in item.iter_markers("parametrize")]
    groups = [names.split(",") if isinstance(names, str) else names for names in given]
    groups = [tuple(name.strip() for name in names) for names in groups]
    rest = item.callspec.params.keys() - {name for names in groups for name in names}
    groups += [(name,) for name in item.callspec.params if name in rest]  # of fixtures
    return [tuple(id(item.callspec.params[name]) for name in names) for names in groups]


_SHARED = 12  # values of a list that tests share, at least


def share(rows: Sequence[Sequence[Hashable]], among: int, turn: int) -> list[bool]:
    """Which cases are a test's share, where tests share the values of its longest parameter.

    Args:
        rows: One a case, with a value of each parameter.
        among: How many tests share.
        turn: Which of them this is, counted on and on.

    Returns:
        One bool a row; all where no parameter has as many values as are worth sharing.
    """
    columns = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    longest = max(range(len(columns)), key=lambda place: len(columns[place]), default=0)
    if not columns or len(columns[longest]) < _SHARED:
        return [True] * len(rows)
    chosen = set(columns[longest][turn % among :: among])
    return [row[longest] in chosen for row in rows]


def mark_exhaustive(items: Iterable[pytest.Item]) -> None:
    """Add the mark `exhaustive` to the combinations that a quick run leaves out."""
    cases: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        if hasattr(item, "callspec") and not item.get_closest_marker("exhaustive"):
            cases[item.nodeid.partition("[")[0]].append(item)
    turns: Counter[str] = Counter()  # how many tests of a file have had their share
    for name, same in cases.items():
        mark = same[0].get_closest_marker("shared")
        among = mark.kwargs["among"] if mark else 1
        file = name.partition("::")[0]
        rows = [_values(item) for item in same]
        own = share(rows, among, turns[file])
        turns[file] += among > 1
        left = [place for place, mine in enumerate(own) if mine]
        kept = covering([rows[place] for place in left])
        stay = {place for place, keep in zip(left, kept, strict=True) if keep}
        for place, item in enumerate(same):
            if place not in stay:
                item.add_marker(pytest.mark.exhaustive)


def mark_beyond_pairs(items: Iterable[pytest.Item]) -> None:
    """Add the mark `beyond_pairs` to what `pairs` leaves out, after `mark_exhaustive`."""
    cases: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        if hasattr(item, "callspec") and len(item.callspec.params) > 2:
            cases[item.nodeid.partition("[")[0]].append(item)
    for same in cases.values():
        quick = [not item.get_closest_marker("exhaustive") for item in same]
        kept = pairs([_values(item) for item in same], quick)
        for item, keep in zip(same, kept, strict=True):
            if not keep:
                item.add_marker(pytest.mark.beyond_pairs)
