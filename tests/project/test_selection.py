"""What a quick run holds of a test with many parameters."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
from selection import covering, mark_beyond_pairs, mark_exhaustive, pairs, share

SIZES = [(7,), (5, 2), (3, 3, 3), (45, 2, 3), (2, 3, 45), (14, 2, 2, 4), (4, 4, 2), (1, 1), ()]


def kept(rows: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [row for row, keep in zip(rows, covering(rows), strict=True) if keep]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_value_of_every_parameter_once_the_longest_has_had_its_turn(
    sizes: tuple[int, ...],
) -> None:
    rows = kept([*itertools.product(*map(range, sizes))])
    assert len(rows) == max(sizes, default=1)
    for place, size in enumerate(sizes):
        assert {row[place] for row in rows} == set(range(size))


@pytest.mark.parametrize("sizes", [(45, 2, 3), (14, 2, 2), (12, 4, 3)], ids=str)
def test_short_parameters_meet_in_every_combination(sizes: tuple[int, ...]) -> None:
    rows = kept([*itertools.product(*map(range, sizes))])
    assert len({row[1:] for row in rows}) == math.prod(sizes[1:])


class Case:
    """What `mark_exhaustive` looks at of a test."""

    def __init__(self, names: str, values: tuple[object, ...]) -> None:
        pairs = zip(names.replace(",", "").split(), values, strict=True)
        self.nodeid = f"test_file.py::test[{values}]"
        self.callspec = SimpleNamespace(params=dict(pairs))
        self.marks = [pytest.mark.parametrize("a, b", []).mark]

    def iter_markers(self, name: str) -> list[pytest.Mark]:
        return [mark for mark in self.marks if mark.name == name]

    def get_closest_marker(self, name: str) -> pytest.Mark | None:
        return next(iter(self.iter_markers(name)), None)

    def add_marker(self, marker: pytest.MarkDecorator) -> None:
        self.marks.append(marker.mark)


def test_names_given_together_are_one_parameter() -> None:
    """Pairs of a and b, and a fixture's c, whose values cannot be hashed: every pair stays."""
    pairs = itertools.product((0, 1), "xy")
    cases = [Case("a, b, c", (*pair, c)) for pair, c in itertools.product(pairs, ([], {}))]
    mark_exhaustive(cases)  # type: ignore[arg-type]
    left = [case for case in cases if not case.get_closest_marker("exhaustive")]
    assert len(left) == 4
    assert len({(case.callspec.params["a"], case.callspec.params["b"]) for case in left}) == 4
    assert len({id(case.callspec.params["c"]) for case in left}) == 2


def met(rows: Sequence[tuple[int, ...]]) -> set[tuple[int, ...]]:
    """Any two values that are together in a row, with their places."""
    return {
        (i, row[i], j, row[j])
        for row in rows
        for i, j in itertools.combinations(range(len(row)), 2)
    }


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_any_two_values_meet(sizes: tuple[int, ...]) -> None:
    rows = [*itertools.product(*map(range, sizes))]
    held = covering(rows)
    keep = pairs(rows, held)
    kept = [row for row, own in zip(rows, keep, strict=True) if own]
    assert all(own for own, quick in zip(keep, held, strict=True) if quick)
    assert met(kept) == met(rows)
    assert {row[0] for row in kept if row} == {row[0] for row in rows if row}
    if len(sizes) > 2 and min(sizes) > 1:
        assert len(kept) < len(rows)
        longest, second, *_ = sorted(sizes, reverse=True)
        assert longest * second <= len(kept) <= 2 * longest * second


def test_pairs_that_no_case_holds_are_not_waited_for() -> None:
    rows = [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 0, 0)]
    assert pairs(rows, [True, False, False, False]) == [True, True, True, True]
    rows += [(0, 0, 1)]  # which the others hold: 0 with 0, 0 with 1, and 0 with 1
    assert pairs(rows, [True, False, False, False, False]) == [True, True, True, True, False]


def test_what_is_beyond_pairs_is_marked() -> None:
    """a and b are given together, and are one parameter: nine values, with two of c and of d."""
    values = itertools.product(range(3), range(3), "xy", (None, ...))
    cases = [Case("a, b, c, d", row) for row in values]
    mark_exhaustive(cases)  # type: ignore[arg-type]
    mark_beyond_pairs(cases)  # type: ignore[arg-type]
    left = [case for case in cases if not case.get_closest_marker("beyond_pairs")]
    quick = [case for case in cases if not case.get_closest_marker("exhaustive")]
    assert (len(cases), len(left), len(quick)) == (36, 18, 9)
    assert {*map(id, quick)} < {*map(id, left)}
    for other in "cd":
        kept = {tuple(case.callspec.params[name] for name in ("a", "b", other)) for case in left}
        assert len(kept) == 18


def test_values_that_only_some_cases_have_are_kept() -> None:
    rows = [(0, 0), (1, 0), (2, 0), (2, 1)]
    assert {row[1] for row in kept(rows)} == {0, 1}


def test_tests_of_a_file_share_long_lists() -> None:
    """Three tests hold every one of 14 values, and each of them both values of the other list."""
    rows = [*itertools.product(range(14), range(2))]
    shares = [
        [row for row, own in zip(rows, share(rows, 3, turn), strict=True) if own]
        for turn in range(3)
    ]
    assert {row[0] for rows in shares for row in rows} == set(range(14))
    for own in shares:
        assert 4 <= len(kept(own)) <= 5 and {row[1] for row in kept(own)} == {0, 1}
    short = rows[:6]
    assert all(share(short, 3, 1))
