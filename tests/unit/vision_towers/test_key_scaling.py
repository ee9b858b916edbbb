"""Keys whose attention logits are multiplied: held against the plain oracle, and undone."""

from __future__ import annotations

import threading

import oracles
import pytest
import torch
from families import FAMILIES
from helpers import Failure, close, hooks
from oracles import methods as truth
from torch import Tensor

from cci_captum import find_vision_tower

pytestmark = pytest.mark.shared(among=2)

NAMES = [name for name in FAMILIES if "cascade" not in name]


def drawn(images: int, patches: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Factors from 0 to 1.5, some of them 0 and some 1."""
    generator = torch.Generator().manual_seed(7)
    factors = 1.5 * torch.rand(images, patches, generator=generator, dtype=dtype)
    factors[:, ::4], factors[:, 1::4] = 0.0, 1.0
    return factors


@pytest.mark.parametrize("from_minimum", [True, False])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_it_is_the_oracles_model(name: str, from_minimum: bool) -> None:
    family = FAMILIES[name]
    model, images = family.make(5), family.images(2)
    factors = drawn(2, family.grid[0] * family.grid[1])
    plain = family.run(model, images)
    with find_vision_tower(model).scale_keys(factors, from_minimum=from_minimum) as scaling:
        features = family.run(model, images)
    expected = [
        truth.with_scaled_keys(
            model, family.readout, image, row.double(), from_minimum=from_minimum
        ).embedding
        for image, row in zip(images, factors, strict=True)
    ]
    assert scaling.passes == 1
    assert oracles.relative_error(features, torch.stack(expected)) < 1e-4
    assert oracles.relative_error(features, plain) > 1e-3
    assert hooks(model) == 0


@pytest.mark.parametrize("from_minimum", [True, False])
@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_factors_of_one_leave_the_model_as_it_is(name: str, from_minimum: bool) -> None:
    family = FAMILIES[name]
    model, images = family.make(6), family.images()
    expected = family.run(model, images)
    ones = torch.ones(len(images), family.grid[0] * family.grid[1])
    with find_vision_tower(model).scale_keys(ones, from_minimum=from_minimum):
        close(family.run(model, images), expected)


@pytest.fixture
def model(make_clip):
    return make_clip(seed=3)[0]


@pytest.mark.parametrize("from_minimum", [True, False])
def test_derivatives_are_finite_differences(model, make_images, from_minimum) -> None:
    model.double()
    images, tower = make_images(model)[:1].double(), find_vision_tower(model)
    factors = drawn(1, 16, torch.float64) + 0.1

    def feature(factors: Tensor) -> Tensor:
        with tower.scale_keys(factors, from_minimum=from_minimum):
            return model.encode_image(images)[0, 0]

    leaf = factors.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(feature(leaf), leaf)
    differences = torch.zeros_like(gradient)
    with torch.no_grad():
        for patch in range(16):
            step = torch.zeros_like(factors)
            step[0, patch] = 1e-6
            differences[0, patch] = (feature(factors + step) - feature(factors - step)) / 2e-6
    assert oracles.relative_error(gradient, differences) < 1e-6


@torch.no_grad()
def test_recorded_attention_is_the_scaled(model, make_images) -> None:
    """Inside and outside, in closed form from the queries and keys of the same pass."""
    images, tower, factors = make_images(model), find_vision_tower(model), drawn(3, 16)
    with tower.scale_keys(factors):
        expected = model.encode_image(images)
        with tower.record_attention(range(3)) as inside:
            close(model.encode_image(images), expected)
    with tower.record_attention(range(3)) as outside, tower.scale_keys(factors):
        close(model.encode_image(images), expected)
    for recording in (inside, outside):
        for block in recording.blocks:
            logits = block.queries @ block.keys.mT / block.queries.shape[-1] ** 0.5
            above = logits - logits.min(dim=-1, keepdim=True).values
            above[..., 1:] *= factors[:, None, None]
            close(block.probabilities, above.softmax(dim=-1))


@torch.no_grad()
def test_other_threads_see_the_model_as_it_is(model, make_images) -> None:
    images, tower = make_images(model), find_vision_tower(model)
    expected, found = model.encode_image(images), []

    def run() -> None:
        with torch.no_grad():
            found.append(model.encode_image(images))
            with tower.scale_keys(torch.ones(3, 16)):
                found.append(model.encode_image(images))

    with tower.scale_keys(torch.zeros(3, 16)):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    assert len(found) == 2
    for features in found:
        close(features, expected)


@torch.no_grad()
def test_all_is_undone_after_an_exception(model, make_images) -> None:
    images, tower = make_images(model), find_vision_tower(model)
    expected = model.encode_image(images)
    with pytest.raises(Failure), tower.scale_keys(torch.zeros(3, 16)):
        model.encode_image(images)
        raise Failure
    assert hooks(model) == 0
    assert torch.equal(model.encode_image(images), expected)
    with tower.scale_keys(torch.ones(3, 16)), tower.record():
        close(model.encode_image(images), expected)


@pytest.mark.parametrize("strategy", ["mask", "drop"])
@torch.no_grad()
def test_misuse_is_named(model, make_images, strategy) -> None:
    images, tower = make_images(model), find_vision_tower(model)
    ones, mask = torch.ones(3, 16), torch.eye(3, 16, dtype=torch.bool)
    for wrong, error, message in (
        (mask, TypeError, r"factors: expected a floating point tensor, got torch\.bool"),
        ([1.0], TypeError, "factors: expected a floating point tensor, got list"),
        (ones[0], ValueError, r"factors: expected shape \(B, h \* w\), got \(16,\)"),
        (-ones, ValueError, "factors: expected finite numbers from 0 on, got -1"),
        (ones / 0, ValueError, "factors: expected finite numbers from 0 on, got inf"),
    ):
        with pytest.raises(error, match=message), tower.scale_keys(wrong):
            pass
    for wrong, message in (
        (ones[:, 1:], r"factors: expected 16 patches an image, got shape \(3, 15\)"),
        (ones[1:], r"factors: expected 3 rows for this batch, got shape \(2, 16\)"),
    ):
        with pytest.raises(ValueError, match=message), tower.scale_keys(wrong):
            model.encode_image(images)
    for first, second in (
        (tower.hide(mask, strategy), tower.scale_keys(ones)),
        (tower.scale_keys(ones), tower.scale_keys(ones)),
    ):
        with pytest.raises(RuntimeError, match="hidden, or scaled, already"), first, second:
            pass
    with (
        pytest.raises(RuntimeError, match="hide: expected no scaled keys"),
        tower.scale_keys(ones),
        tower.hide(mask, strategy),
    ):
        model.encode_image(images)
    assert hooks(model) == 0
    cascade = find_vision_tower(FAMILIES["open_clip CoCa, cascade"].make())
    with pytest.raises(TypeError, match="two attention pools"), cascade.scale_keys(ones):
        pass
