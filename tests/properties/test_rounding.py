"""Rounding error is not a map: what differences of equal scores leave is zero, and is shown so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import texts
from matplotlib.figure import Figure
from selection import quick_first
from torch import Tensor

from cci_captum import (
    ClusterEffects,
    ZeroShotClassifier,
    attribution_grid,
    load_clip,
    show_clusters,
)
from cci_captum.baselines import ClusterAblation, ClusterKernelShap, ClusterLime

WHITE = torch.ones(1, 3, 256, 256)


def saturation(figure: Figure) -> list[float]:
    """The strongest colour in each cell but the image's."""
    cells = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images][1:]
    return [float((cell.max(axis=-1) - cell.min(axis=-1)).max()) for cell in cells]


# where the map is made


@pytest.mark.parametrize("make", quick_first([ClusterAblation, ClusterLime, ClusterKernelShap]))
def test_an_image_that_equals_its_baseline_has_no_map(make: Any) -> None:
    clip = load_clip("tiny")
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
    baseline = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(0))
    other = torch.rand(3, 96, 96, generator=torch.Generator().manual_seed(1))
    options = {} if make is ClusterAblation else {"n_samples": 12}
    method = make(classifier, baseline=baseline, **options)
    maps = method.patch_map(torch.stack([baseline, other]), target=1)
    assert not maps[0].any()
    assert maps[1].abs().max() > 1e-3


def effects(drops: list[float], dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """Of one image of four patches, each a cluster, whose output is 20."""
    return ClusterEffects(
        labels=torch.arange(4).view(1, 2, 2),
        outputs=torch.tensor([20.0], dtype=dtype),
        masked_outputs=20 - torch.tensor([drops], dtype=torch.float64).to(dtype),
        image_shape=(3, 8, 8),
        **options,
    )


def test_rounding_does_not_depend_on_the_sign_of_the_outputs() -> None:
    """As log-probabilities and cosines are below zero: 16 epsilons of the largest, 20."""
    above = effects([12.0, -0.0, 0.5, 19.0])
    below = replace(above, outputs=-above.outputs, masked_outputs=-above.masked_outputs)
    assert below.rounding().tolist() == above.rounding().tolist() == [16 * 2**-23 * 20]


def test_drops_that_rounding_makes_have_no_weight() -> None:
    last_place = 20 * 2**-23
    within, above = [last_place, -last_place, 0.0, 2 * last_place], [1e-3, -last_place, 0.0, 0.0]
    assert not effects(within).weights().any()
    assert effects(above).weights().abs().sum() == pytest.approx(1)
    assert effects(within, torch.float64).weights().abs().sum() == pytest.approx(1)
    assert torch.equal(effects(within, normalization="none").weights(), effects(within).drops())


def test_rounding_grows_with_the_outputs_and_their_dtype() -> None:
    found = effects([1.0, -10.0, 0.0, 0.0]).rounding()
    assert found.tolist() == pytest.approx([16 * 2**-23 * 30])
    double = effects([1.0, -10.0, 0.0, 0.0], torch.float64).rounding()
    assert double.tolist() == pytest.approx([16 * 2**-52 * 30])


# where it is drawn


@pytest.mark.parametrize("scale", ["per-map", "shared", 1e-15])
def test_rounding_is_drawn_as_zero_and_said_to_be(scale: Any) -> None:
    noise = 1e-14 * torch.randn(1, 4, 4, dtype=torch.float64)
    maps = {"lime": noise, "nothing": torch.zeros(1, 4, 4)}
    figure = attribution_grid(WHITE, maps, scores={"lime": [0.25]}, scale=scale)
    assert max(saturation(figure)) < 1e-12
    assert texts(figure)[-3:] == ["0.250", "zero within rounding", "zero everywhere"]


def test_a_map_is_zero_beside_others_of_its_method() -> None:
    """A column has one unit: beside 1, 1e-9 is nothing in float32, and something in float64."""
    values = torch.tensor([[[1.0, -1.0]] * 2, [[1e-9, -1e-9]] * 2])
    images = WHITE.repeat(2, 1, 1, 1)
    single = attribution_grid(images, {"a": values, "b": values[1:].repeat(2, 1, 1)})
    assert [row > 0.5 for row in saturation(single)] == [True, True, False, False, True]
    double = attribution_grid(images, {"a": values.double()})
    assert min(saturation(double)[i] for i in (0, 2)) > 0.5 and not any(
        "zero" in text for text in texts(double)
    )


@pytest.mark.parametrize(
    ("floor", "zero"),
    [
        (0.0, [False, False]),
        (0.02, [True, False]),
        ({"a": [0.02]}, [True, False]),
        ({"a": 1.0, "b": torch.tensor([1.0])}, [True, True]),
    ],
)
def test_a_floor_that_is_known(floor: Any, zero: list[bool]) -> None:
    maps = {"a": torch.full((1, 2, 2), 0.01), "b": torch.full((1, 2, 2), 0.5)}
    figure = attribution_grid(WHITE, maps, floor=floor)
    assert [strongest < 1e-12 for strongest in saturation(figure)] == zero
    assert texts(figure).count("zero within rounding") == sum(zero)


@pytest.mark.parametrize(
    ("floor", "message"),
    [
        (-1.0, "floor: expected one or 1 numbers that are not negative, got -1.0"),
        ({"a": [1.0, 2.0]}, r"floor: expected one or 1 numbers"),
        ({"b": 1.0}, r"floor: expected columns among \['a'\], got \['b'\]"),
        (float("nan"), "floor: expected one or 1 numbers"),
    ],
)
def test_floors_that_are_none(floor: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribution_grid(WHITE, {"a": torch.ones(1, 2, 2)}, floor=floor)


def test_clusters_without_an_effect_are_white_and_said_to_be() -> None:
    last_place = 20 * 2**-23

    def drawn(drops: list[float]) -> tuple[Figure, Tensor]:
        figure = show_clusters(effects(drops), WHITE)
        return figure, torch.tensor(saturation(figure)[0])

    figure, strongest = drawn([last_place, -last_place, 0.0, 0.0])
    assert strongest < 1e-12
    shown = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert shown[-4:] == ["0.00"] * 4
    assert "zero within rounding" in texts(figure)
    figure, strongest = drawn([1.0, -last_place, 0.0, 0.0])
    assert strongest > 0.5 and "zero within rounding" not in texts(figure)
