"""Shares of patches against exact fractions, Shapley values against both orders of two players."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations

import numpy as np
import pytest
import torch
from helpers import randn

from cci_captum.attribution.field_of_view import FieldOfView
from cci_captum.regions import Outcomes, RegionEffects, patch_shares


def exact(mask: list[list[bool]], grid: tuple[int, int], view: tuple[Fraction, ...]) -> list:
    """Every patch's share by the areas of its overlaps with every pixel."""
    top, left, height, width = view
    tall, wide = height / grid[0], width / grid[1]

    def overlap(start: Fraction, side: Fraction, pixel: int) -> Fraction:
        return max(
            Fraction(0), min(start + side, Fraction(pixel + 1)) - max(start, Fraction(pixel))
        )

    return [
        [
            float(
                sum(
                    overlap(top + i * tall, tall, y) * overlap(left + j * wide, wide, x)
                    for y, row in enumerate(mask)
                    for x, value in enumerate(row)
                    if value
                )
                / (tall * wide)
            )
            for j in range(grid[1])
        ]
        for i in range(grid[0])
    ]


@pytest.mark.parametrize(
    "view",
    [
        ("0", "0", "5", "7"),
        ("0", "0", "4", "6"),
        ("0", "0", "8", "9"),
        ("-3/4", "5/4", "11/2", "8"),
    ],
)
@pytest.mark.parametrize("grid", [(2, 3), (7, 4)])
def test_shares_are_exact(view: tuple[str, ...], grid: tuple[int, int]) -> None:
    mask = randn(5, 7) > 0
    fractions = tuple(map(Fraction, view))
    found = patch_shares(mask, grid, FieldOfView(*map(float, fractions)))
    expected = torch.tensor(exact(mask.tolist(), grid, fractions), dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    if view[:2] == ("0", "0"):
        size = (int(view[2]), int(view[3]))
        torch.testing.assert_close(patch_shares(mask, grid, size), expected, rtol=0, atol=1e-12)


def test_masks_are_checked() -> None:
    with pytest.raises(TypeError, match=r"masks: expected a bool tensor, got torch\.float32"):
        patch_shares(torch.ones(2, 2), (1, 1))
    with pytest.raises(ValueError, match="masks: expected shape"):
        patch_shares(torch.ones(0, 2, dtype=torch.bool), (1, 1))
    with pytest.raises(ValueError, match="grid: expected at least one"):
        patch_shares(torch.ones(2, 2, dtype=torch.bool), (0, 1))


def made(seed: int = 0) -> RegionEffects:
    def outcomes(m: int, seed: int) -> Outcomes:
        return Outcomes(
            randn(2, 3, m, 4, seed=seed).double(),
            randn(2, 3, m, 4, seed=seed + 1).double(),
            randn(2, m, 4, seed=seed + 2).double(),
        )

    regions = torch.ones(2, 3, 1, 1, dtype=torch.bool)
    whole = randn(2, 4, seed=seed).double()
    return RegionEffects(regions, whole, outcomes(1, seed + 1), outcomes(2, seed + 5))


def scored(outputs: np.ndarray, target: int, score: str) -> float:
    others = np.delete(outputs, target)
    return {
        "logit": outputs[target],
        "centred": outputs[target] - outputs.mean(),
        "margin": outputs[target] - others.max(),
        "log-probability": -np.log(np.exp(outputs - outputs[target]).sum()),
    }[score]


@pytest.mark.parametrize("score", ["logit", "centred", "margin", "log-probability"])
@pytest.mark.parametrize("by", ["hidden", "replaced", "both"])
def test_shapley_values_of_both_orders(score: str, by: str) -> None:
    effects, targets = made(), [2, 0]
    found = effects.shapley_values(targets, by=by, score=score)
    ways = {"hidden": ["hidden"], "replaced": ["replaced"]}.get(by, ["hidden", "replaced"])
    for b, target in enumerate(targets):
        for r in range(3):
            values = np.zeros(2)
            for way in ways:
                how = getattr(effects, way)
                game = {
                    frozenset(seen): np.mean([scored(row.numpy(), target, score) for row in rows])
                    for seen, rows in (
                        ((), how.none[b]),
                        ((0,), how.only[b, r]),
                        ((1,), how.without[b, r]),
                        ((0, 1), effects.outputs[b : b + 1]),
                    )
                }
                for order in permutations((0, 1)):
                    seen: frozenset[int] = frozenset()
                    for player in order:
                        values[player] += game[seen | {player}] - game[seen]
                        seen |= {player}
            np.testing.assert_allclose(found[b, r].numpy(), values / 2 / len(ways), atol=1e-12)


def test_rest_and_region_change_places() -> None:
    effects = made()
    hidden = effects.hidden
    swapped = RegionEffects(
        effects.regions, effects.outputs, Outcomes(hidden.without, hidden.only, hidden.none)
    )
    torch.testing.assert_close(swapped.shapley_values(1), effects.shapley_values(1).flip(2))


def test_what_is_not_finite_names_its_image() -> None:
    effects = made()
    effects.hidden.only[1, 0, 0, 2] = float("nan")
    with pytest.raises(ValueError, match="1"):
        effects.gains(2)
    assert effects.gains(0).isfinite().all()  # another class is not concerned
    with pytest.raises(ValueError, match="by: expected"):
        effects.drops(0, by="other")  # type: ignore[arg-type]
    alone = RegionEffects(effects.regions, effects.outputs, effects.hidden)
    with pytest.raises(ValueError, match="by: expected hidden where nothing was replaced"):
        alone.drops(0, by="both")
