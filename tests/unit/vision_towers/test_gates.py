"""Gates against the float64 oracle, its finite differences, and hiding, in every family."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, Family
from helpers import Failure, close, hooks
from oracles import families as oracle
from oracles import relative_error
from torch import Tensor, nn

from cci_captum import find_vision_tower
from cci_captum.vision_towers import VisionTower

pytestmark = pytest.mark.shared(among=12)

STEP = 1e-5  # of finite differences in float64
CLASS_TOKEN = FAMILIES["open_clip ViT, class token"]
NO_PREFIX = [
    "open_clip TimmModel SigLIP",
    "open_clip TimmModel ViT, average",
    "timm ViT, average, no class token",
    "timm ViT, MAP",
    "transformers SiglipModel",
    "transformers Siglip2Model",
]


@pytest.fixture(params=FAMILIES.values(), ids=lambda family: family.name)
def family(request: Any) -> Family:
    return request.param


def random_gates(family: Family, batch: int = 3, seed: int = 0, least: float = 0.0) -> Tensor:
    """(B, N) from `least` to 1; where that is 0, about a fifth are 0 and as many 1."""
    h, w = family.grid
    generator = torch.Generator().manual_seed(seed)
    gates = torch.rand(batch, h * w, generator=generator)
    return (1.6 * gates - 0.3).clamp(0, 1) if least == 0 else least + (0.95 - least) * gates


def gated(family: Family, model: nn.Module, images: Tensor, gates: Tensor) -> Tensor:
    with find_vision_tower(model).gate(gates) as gating:
        features = family.run(model, images)
    assert gating.passes == 1
    return features


def slopes(family: Family, model: nn.Module, images: Tensor, weights: Tensor) -> Tensor:
    """d of each image's weighted outputs / d gates, at 1."""
    with torch.no_grad(), find_vision_tower(model).gate() as gating:
        score = (family.run(model, images) * weights).sum()
        (gradient,) = torch.autograd.grad(score, gating.gates)
    return gradient


def weights_like(features: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(features.shape, generator=generator).to(features.dtype)


# Exactness


@pytest.mark.parametrize("seed", [0, 1])
@torch.no_grad()
def test_outputs(family: Family, seed: int) -> None:
    """With every implementation of attention; gates of 0 and 1 among others."""
    images, gates = family.images(seed=seed), random_gates(family, seed=seed)
    for attn in family.attentions:
        model = family.make(seed, attn)
        expected = oracle.gated_features(model, images, gates)
        close(gated(family, model, images, gates), expected)
        assert relative_error(family.run(model, images), expected) > 1e-2


@torch.no_grad()
def test_slopes_are_the_oracles_finite_differences(family: Family) -> None:
    """At gates of 1, of an image and every patch, central, in float64."""
    model, images = family.make(2).double(), family.images(1, seed=2).double()
    weights = weights_like(family.run(model, images))
    found = slopes(family, model, images, weights)[0]
    moves = STEP * torch.eye(len(found), dtype=torch.float64)
    values = oracle.gated_features(model, images, torch.cat([1 + moves, 1 - moves])) @ weights[0]
    above, below = values.chunk(2)
    expected = (above - below) / (2 * STEP)
    close(found, expected, 1e-4)
    assert found.std() > 0.1 * found.abs().mean() > 0


@torch.no_grad()
def test_slopes_between_are_the_towers_finite_differences(family: Family) -> None:
    """At gates between 0.2 and 0.95, from the tower's own outputs in float64."""
    model, image = family.make(3).double(), family.images(1, seed=3).double()
    gates = random_gates(family, 1, seed=3, least=0.2).double().requires_grad_()
    weights = weights_like(family.run(model, image))
    tower = find_vision_tower(model)
    with tower.gate(gates):
        (found,) = torch.autograd.grad((family.run(model, image) * weights).sum(), gates)
    moves = STEP * torch.eye(gates.shape[1], dtype=torch.float64)
    rows = torch.cat([gates.detach() + moves, gates.detach() - moves])
    with tower.gate(rows):
        values = (family.run(model, image.expand(len(rows), -1, -1, -1)) * weights).sum(dim=1)
    above, below = values.chunk(2)
    close(found[0], (above - below) / (2 * STEP), 1e-4)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "name", ["open_clip ViT, class token", "timm Eva, rotary", "transformers SiglipModel"]
)
@torch.no_grad()
def test_slopes_along_a_way_add_up_to_what_it_does(name: str) -> None:
    """From gates between 0.2 and 0.95 straight to 1: the integral of g dm, by Gauss's rule."""
    family = FAMILIES[name]
    model, images = family.make(3).double(), family.images().double()
    start = random_gates(family, seed=4, least=0.2).double()
    tower, total = find_vision_tower(model), torch.zeros(3, dtype=torch.float64)
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(16))
    for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        gates = (start + t * (1 - start)).requires_grad_()
        with tower.gate(gates):
            score = family.run(model, images).tanh().sum()
            (slope,) = torch.autograd.grad(score, gates)
        total += weight * (slope * (1 - start)).sum(dim=1)
    begun, ended = (
        gated(family, model, images, gates).tanh().sum(dim=1)
        for gates in (start, torch.ones_like(start))
    )
    close(total, ended - begun, 1e-5)


@pytest.mark.parametrize("strategy", ["mask", "drop"])
@torch.no_grad()
def test_zero_is_hidden_and_one_is_not(family: Family, strategy: Any) -> None:
    """In one batch: some patches hidden, all but one, none."""
    model, images = family.make(4), family.images()
    mask = random_gates(family) < 0.5
    mask[1], mask[1, 0] = True, False
    mask[2] = False
    with find_vision_tower(model).hide(mask, strategy):
        expected = family.run(model, images)
    close(gated(family, model, images, (~mask).float()), expected)


@torch.no_grad()
def test_all_hidden(family: Family) -> None:
    """In one image of the batch, and in all: the answer is that of hide, and it may be zero."""
    model, images = family.make(4), family.images()
    for rows in (slice(1, 2), slice(None)):
        mask = torch.zeros_like(random_gates(family), dtype=torch.bool)
        mask[rows] = True
        with find_vision_tower(model).hide(mask):
            expected = family.run(model, images)
        features = gated(family, model, images, (~mask).float())
        torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_gates_of_one_change_nothing(family: Family) -> None:
    model, images = family.make(5), family.images()
    close(
        gated(family, model, images, torch.ones_like(random_gates(family))),
        family.run(model, images),
        2e-6,
    )


@torch.no_grad()
def test_pixels_under_a_gate_of_zero_do_not_matter(family: Family) -> None:
    model, images, gates = family.make(5), family.images(), random_gates(family)
    h, w = family.grid
    hidden = (gates == 0).view(-1, 1, h, w)
    pixels = hidden.repeat_interleave(family.patch, 2).repeat_interleave(family.patch, 3)
    noise = 1e4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(7))
    painted = gated(family, model, torch.where(pixels, noise, images), gates)
    close(painted, gated(family, model, images, gates), 1e-6)


@torch.no_grad()
def test_eight_images_are_eight_times_one(family: Family) -> None:
    model, images = family.make(6), family.images(8)
    weights = weights_like(family.run(model, images))
    together = slopes(family, model, images, weights)
    for row in range(8):
        one = slice(row, row + 1)
        close(slopes(family, model, images[one], weights[one])[0], together[row])


@pytest.mark.parametrize("name", NO_PREFIX)
@torch.no_grad()
def test_without_prefix_tokens_only_ratios_count(name: str) -> None:
    """Attention and averages over patches alone are homogeneous: slopes add up to 0."""
    family = FAMILIES[name]
    model, images = family.make(7).double(), family.images().double()
    found = slopes(family, model, images, weights_like(family.run(model, images)))
    assert (found.sum(dim=1).abs() < 1e-12 * found.abs().sum(dim=1)).all()
    gates = random_gates(family, least=0.2).double()
    close(gated(family, model, images, gates / 4), gated(family, model, images, gates), 1e-12)


# Precisions


@torch.no_grad()
def test_autocast(family: Family) -> None:
    """bfloat16 comes near float32, nearer than the plain output is; slopes point the same way."""
    model, images, gates = family.make(8), family.images(), random_gates(family)
    expected = oracle.gated_features(model, images, gates)
    weights = weights_like(family.run(model, images))
    exact = slopes(family, model, images, weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        difference = relative_error(family.run(model, images), expected)
        close(gated(family, model, images, gates), expected, min(0.1, difference / 2))
        rough = slopes(family, model, images, weights)
    assert rough.dtype == torch.float32
    assert nn.functional.cosine_similarity(rough, exact).min() > 0.95


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision(dtype: torch.dtype) -> None:
    """Of model and images, with gates of the same dtype and of float32."""
    model, images, gates = CLASS_TOKEN.make(8), CLASS_TOKEN.images(), random_gates(CLASS_TOKEN)
    gates = gates.to(dtype)
    expected = oracle.gated_features(model, images, gates)
    model, images = model.to(dtype), images.to(dtype)
    for given in (gates, gates.float()):
        features = gated(CLASS_TOKEN, model, images, given)
        assert features.dtype == dtype
        assert relative_error(features, expected) < 0.1
    found = slopes(CLASS_TOKEN, model, images, weights_like(features))
    assert found.dtype == torch.float32 and torch.isfinite(found).all()


# Recording


@torch.no_grad()
def test_tokens_recorded_under_gates(family: Family) -> None:
    model, images = family.make(9), family.images()
    tower, gates = find_vision_tower(model), random_gates(family, least=0.1)
    expected = oracle.patch_tokens(model, images, gates=gates)
    for layer in expected:
        with tower.gate(gates), tower.record(layer) as recording:
            family.run(model, images)
        close(recording.tokens, expected[layer])
    gates[:, ::2] = 0
    with tower.gate(gates), tower.record(1) as recording:
        family.run(model, images)
    assert not recording.tokens[:, ::2].any() and recording.tokens[:, 1::2].all(dim=-1).any()


@torch.no_grad()
def test_attention_recorded_under_gates(family: Family) -> None:
    """Probabilities are the gated ones, and the pass is the same function."""
    model, images, gates = family.make(10), family.images(), random_gates(family)
    tower, with_pool = find_vision_tower(model), "cascade" not in family.name
    with tower.record_attention([0], pool=with_pool) as plain:
        family.run(model, images)
    with tower.gate(gates), tower.record_attention(range(3), pool=with_pool) as recording:
        features = family.run(model, images)
    close(features, oracle.gated_features(model, images, gates))
    ungated, first = plain.blocks[0].probabilities, recording.blocks[0]
    prefix = ungated.shape[-1] - gates.shape[1]
    weighted = ungated * nn.functional.pad(gates, (prefix, 0), value=1.0)[:, None, None]
    close(first.probabilities, weighted / weighted.sum(dim=-1, keepdim=True))
    if recording.pool is not None:
        per_key = recording.pool.patches(recording.pool.probabilities.movedim(-1, 1))
        assert (per_key[gates == 0] == 0).all() and (per_key[gates > 0] > 0).all()


def test_attention_is_in_the_gates_graph() -> None:
    """g_j = sum over blocks, heads, queries i of A_ij (G_ij - sum_l A_il G_il), G = ds / dA."""
    for name in ("open_clip ViT, class token", "timm Eva, rotary mixed", "transformers CLIPModel"):
        family = FAMILIES[name]
        model, images = family.make(11).double(), family.images().double()
        tower = find_vision_tower(model)
        with torch.no_grad(), tower.gate() as gating, tower.record_attention(range(3)) as recording:
            score = family.run(model, images).sin().sum()
            maps = [block.probabilities for block in recording.blocks]
            found, *gradients = torch.autograd.grad(score, [gating.gates, *maps])
        total = torch.zeros_like(found)
        for a, g in zip(maps, gradients, strict=True):
            entries = a * (g - (a * g).sum(dim=-1, keepdim=True))
            total += tower.patches(entries.sum(dim=(1, 2)).detach())
        close(found, total, 1e-9)


# What must not change


@torch.no_grad()
def test_the_model_is_left_as_it_was(family: Family) -> None:
    model, images, gates = family.make(12), family.images(), random_gates(family, least=0.1)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    next(iter(model.parameters())).requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    before, expected = hooks(model), family.run(model, images)
    tower = find_vision_tower(model)

    def check() -> None:
        assert hooks(model) == before and not tower.hides and not torch.is_grad_enabled()
        assert [parameter.requires_grad for parameter in model.parameters()] == flags
        assert all(parameter.grad is None for parameter in model.parameters())
        assert [module.training for module in model.modules()] == modes
        assert all(torch.equal(v, weights[name]) for name, v in model.state_dict().items())

    for given in (gates, gates.clone().requires_grad_(), 0.5):
        with tower.gate(given) as gating:
            features = family.run(model, images)
            if gating.requires_grad:
                (gradient,) = torch.autograd.grad(features.sum(), gating.gates)
                assert torch.isfinite(gradient).all() and gating.gates.grad is None
            else:
                assert not features.requires_grad
        check()

    def fail(module: nn.Module, args: Any, output: Any) -> None:
        raise Failure

    handle = tower.layer_module(1).register_forward_hook(fail)
    for given in (gates, 1.0):
        with pytest.raises(Failure), tower.gate(given):
            family.run(model, images)
    handle.remove()
    check()
    assert torch.equal(family.run(model, images), expected)


@pytest.mark.parametrize("frozen", [False, True])
def test_slopes_in_any_mode(family: Family, frozen: bool) -> None:
    """With gradients on or off around, parameters frozen or not, the encoder under no_grad."""
    model, images = family.make(13).double(), family.images().double()
    weights = weights_like(family.run(model, images)).detach()
    expected = slopes(family, model, images, weights)
    model.requires_grad_(not frozen)
    tower = find_vision_tower(model)
    for around, inside in ((True, True), (True, False), (False, False)):
        with torch.set_grad_enabled(around), tower.gate() as gating:
            with torch.set_grad_enabled(inside):
                features = family.run(model, images)
            (found,) = torch.autograd.grad((features * weights).sum(), gating.gates)
        close(found, expected, 1e-9)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_graph_of_what_comes_before_the_first_block() -> None:
    model, images = CLASS_TOKEN.make(13), CLASS_TOKEN.images().requires_grad_()
    tower = find_vision_tower(model)
    with tower.gate():
        score = CLASS_TOKEN.run(model, images).sum()
        found = torch.autograd.grad(score, [images, model.visual.conv1.weight], allow_unused=True)
    assert found == (None, None)


def test_gates_without_gradients_leave_gradients_alone() -> None:
    """Of images and parameters: as `hide`, a gate that asks for none changes no mode."""
    model, images = CLASS_TOKEN.make(13), CLASS_TOKEN.images().requires_grad_()
    gates = random_gates(CLASS_TOKEN)
    (gradient,) = torch.autograd.grad(gated(CLASS_TOKEN, model, images, gates).sum(), images)
    patches = nn.functional.unfold(gradient, CLASS_TOKEN.patch, stride=CLASS_TOKEN.patch)
    strength = patches.abs().amax(1)
    assert (strength[gates == 0] == 0).all() and (strength[gates > 0] > 0).all()


def test_this_threads_passes_alone() -> None:
    model, images = CLASS_TOKEN.make(14), CLASS_TOKEN.images()
    gates, others = random_gates(CLASS_TOKEN), []
    with torch.no_grad():
        plain = CLASS_TOKEN.run(model, images)

    def run() -> None:
        with torch.no_grad():
            others.append(CLASS_TOKEN.run(model, images))

    with torch.no_grad(), find_vision_tower(model).gate(gates) as gating:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        own = CLASS_TOKEN.run(model, images)
    assert gating.passes == 1
    close(others[0], plain, 1e-6)
    assert relative_error(own, plain) > 1e-2


@pytest.mark.parametrize("name", ["timm ViT, class token", "timm ViT, MAP", "timm Eva, rotary"])
def test_checkpointed_blocks(name: str) -> None:
    family = FAMILIES[name]
    model, images = family.make(15), family.images()
    weights = weights_like(family.run(model, images)).detach()
    expected = slopes(family, model, images, weights)
    model.set_grad_checkpointing(True)
    close(slopes(family, model, images, weights), expected)


def test_several_passes_of_one_gate() -> None:
    """Gates given as a tensor count in each, and have the slopes of all."""
    model, images = CLASS_TOKEN.make(16), CLASS_TOKEN.images()
    gates = random_gates(CLASS_TOKEN, least=0.1).requires_grad_()
    with find_vision_tower(model).gate(gates) as gating:
        first = CLASS_TOKEN.run(model, images).sin().sum()
        second = CLASS_TOKEN.run(model, images.flip(3)).cos().sum()
        one, other, both = (
            torch.autograd.grad(score, gates, retain_graph=True)[0]
            for score in (first, second, first + second)
        )
    assert gating.passes == 2
    close(one + other, both)


def test_gates_of_a_tower_in_a_larger_graph() -> None:
    """Gates that are a function of something: the gradient goes on to it."""
    model, images = CLASS_TOKEN.make(16), CLASS_TOKEN.images(1)
    logits = torch.linspace(-2, 2, 15)[None].requires_grad_()
    with find_vision_tower(model).gate(logits.sigmoid()):
        (found,) = torch.autograd.grad(CLASS_TOKEN.run(model, images).sum(), logits)
    gates = logits.detach().sigmoid().requires_grad_()
    with find_vision_tower(model).gate(gates):
        (slope,) = torch.autograd.grad(CLASS_TOKEN.run(model, images).sum(), gates)
    close(found, slope * gates.detach() * (1 - gates.detach()))


def test_slopes_at_zero() -> None:
    """Not a number at exactly 0, and right next to it; those of other patches are right."""
    model, images = CLASS_TOKEN.make(17).double(), CLASS_TOKEN.images(1).double()
    gates = random_gates(CLASS_TOKEN, 1, least=0.2).double()
    gates[0, 3] = 0

    def at(value: float) -> tuple[Tensor, Tensor]:
        moved = gates.clone()
        moved[0, 3] = value
        with find_vision_tower(model).gate(moved.requires_grad_()):
            score = CLASS_TOKEN.run(model, images).sin().sum()
            return score, torch.autograd.grad(score, moved)[0][0]

    (score, exact), (_, near), (above, _) = at(0.0), at(1e-6), at(2e-6)
    assert exact[3].isnan() and exact.isnan().sum() == 1
    others = torch.arange(15) != 3
    close(exact[others], near[others], 1e-4)
    close(near[3], (above - score) / 2e-6, 1e-4)


# Errors


def tower_of_three() -> tuple[VisionTower, nn.Module, Tensor]:
    model = CLASS_TOKEN.make(18)
    return find_vision_tower(model), model, CLASS_TOKEN.images()


@pytest.mark.parametrize(
    ("gates", "error", "message"),
    [
        (torch.ones(3, 15, dtype=torch.long), TypeError, "gates: expected a floating point tensor"),
        (torch.ones(3, 15, dtype=torch.bool), TypeError, "or a number, got torch.bool"),
        ([1.0] * 15, TypeError, "or a number, got list"),
        (None, TypeError, "or a number, got NoneType"),
        (True, TypeError, "or a number, got bool"),
        (torch.ones(15), ValueError, r"gates: expected shape \(B, h \* w\), got \(15,\)"),
        (torch.full((3, 15), 1.1), ValueError, "gates: expected values from 0 to 1, got 1.1"),
        (torch.full((3, 15), -0.5), ValueError, "from 0 to 1, got -0.5"),
        (torch.full((3, 15), torch.nan), ValueError, "from 0 to 1, got nan"),
        (torch.full((3, 15), torch.inf), ValueError, "from 0 to 1, got inf"),
        (1.5, ValueError, "gates: expected a number from 0 to 1, got 1.5"),
        (float("nan"), ValueError, "gates: expected a number from 0 to 1, got nan"),
    ],
)
def test_gates_that_are_none(gates: Any, error: type[Exception], message: str) -> None:
    tower, _, _ = tower_of_three()
    with pytest.raises(error, match=message), tower.gate(gates):
        pass
    assert not tower.hides


@pytest.mark.parametrize("shape", [(2, 15), (3, 14), (3, 16)])
def test_gates_that_do_not_fit(shape: tuple[int, int]) -> None:
    tower, model, images = tower_of_three()
    message = r"gates: expected shape \(3, 15\) for this batch \(images, patches\), got "
    with pytest.raises(ValueError, match=message), tower.gate(torch.ones(shape)):
        CLASS_TOKEN.run(model, images)
    assert hooks(model) == 0


def test_gates_and_hiding_do_not_nest() -> None:
    tower, model, _ = tower_of_three()
    ones, nothing = torch.ones(3, 15), torch.zeros(3, 15, dtype=torch.bool)
    for outer in (tower.gate(ones), tower.hide(nothing)):
        with outer:
            with pytest.raises(RuntimeError, match=r"gate: .*multiply the gates"), tower.gate(ones):
                pass
            with pytest.raises(RuntimeError, match=r"hide: .*join"), tower.hide(nothing):
                pass
            assert tower.hides
    assert hooks(model) == 0


@pytest.mark.parametrize("recorded", ["before", "after"])
def test_gradients_begin_once(recorded: str) -> None:
    """At gates or at a recording: the recording's would cut the gates off."""
    tower, model, images = tower_of_three()
    for recording in (
        lambda: tower.record(1, requires_grad=True),
        lambda: tower.record("input", requires_grad=True),
        lambda: tower.record_attention([0], requires_grad=True),
        lambda: tower.record_attention([-1], requires_grad=True),
    ):
        contexts = [tower.gate, recording] if recorded == "after" else [recording, tower.gate]
        with (
            pytest.raises(RuntimeError, match="gradients of one pass begin at two places"),
            contexts[0](),
            contexts[1](),
        ):
            CLASS_TOKEN.run(model, images)
        assert hooks(model) == 0


def test_gates_that_a_pass_makes() -> None:
    tower, model, images = tower_of_three()
    with tower.gate(0.25) as gating:
        for name in ("gates", "grid"):
            with pytest.raises(RuntimeError, match="nothing was gated: forward_func did not run"):
                getattr(gating, name)
        features = CLASS_TOKEN.run(model, images)
        assert torch.equal(gating.gates, torch.full((3, 15), 0.25)) and gating.grid == (3, 5)
        with pytest.raises(RuntimeError, match="the vision tower ran more than once"):
            CLASS_TOKEN.run(model, images)
    close(features, gated(CLASS_TOKEN, model, images, torch.full((3, 15), 0.25)), 1e-6)


def test_inference_mode() -> None:
    tower, model, images = tower_of_three()
    with torch.inference_mode():
        gates = torch.ones(3, 15)
        close(
            gated(CLASS_TOKEN, model, images, gates / 2),
            gated(CLASS_TOKEN, model, images, gates / 2),
            1e-6,
        )
        for given in (gates.clone().requires_grad_(), 1.0):
            message = "gates: expected none that require gradients in inference mode"
            with pytest.raises(RuntimeError, match=message), tower.gate(given):
                pass


def test_layers_without_autograd_are_named() -> None:
    """Beside one run under no_grad the residual passes gradients on, and nothing would tell."""
    tower, model, images = tower_of_three()
    mlp = model.visual.transformer.resblocks[1].mlp.c_fc
    forward = mlp.forward
    mlp.forward = torch.no_grad()(forward)
    with pytest.raises(RuntimeError, match=r"no gradient passes \S*1.mlp.c_fc"), tower.gate():
        CLASS_TOKEN.run(model, images)
    with tower.gate(torch.ones(3, 15)):
        CLASS_TOKEN.run(model, images)
    del mlp.forward
