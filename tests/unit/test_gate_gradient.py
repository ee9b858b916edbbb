"""The gate gradient against finite differences of the float64 oracle, its limits and its sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch
from families import FAMILIES
from helpers import NAMES, close
from oracles import families as oracle
from oracles.plain import to_unit
from torch import Tensor

from cci_captum import (
    CCI,
    GateGradient,
    ImageTextSimilarity,
    KMeans,
    LogProbability,
    Margin,
    VisionTower,
    ZeroShotClassifier,
    find_vision_tower,
)
from cci_captum.baselines import MethodSpec

STEP = 1e-5
PROMPTS = ["a {}.", "{} there"]
TARGETS = [4, 0, 2]


def log_softmax(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(dim=-1, keepdim=True).log()


def margin(logits: Tensor) -> Tensor:
    rows = []
    for row in logits:
        others = [row[torch.arange(len(row)) != c].max() for c in range(len(row))]
        rows.append(row - torch.stack(others))
    return torch.stack(rows)


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize(
    ("wrap", "score_of"),
    [(lambda f: f, lambda z: z), (LogProbability, log_softmax), (Margin, margin)],
    ids=["logit", "log-probability", "margin"],
)
def test_maps_are_finite_differences_of_the_oracle(
    make_clip: Any, make_images: Any, tokenizer: Any, pool: str, wrap: Any, score_of: Any
) -> None:
    """g_j = d score / d m_j at m = 1, the model and its classes computed anew in float64."""
    model, spec = make_clip(seed=3, pool_type=pool, image_size=(24, 32))
    images, scale = make_images(model), float(model.logit_scale.exp())
    classes = oracles.class_directions(model, spec, tokenizer, NAMES, PROMPTS)
    method = GateGradient(wrap(ZeroShotClassifier(model, tokenizer, NAMES, PROMPTS)))
    found = method.patch_map(images, TARGETS)
    assert found.shape == (3, 3, 4)

    def scores(image: Tensor, gates: Tensor, target: int) -> Tensor:
        features = oracle.gated_features(model, image[None], gates)
        return score_of(scale * to_unit(features) @ classes.T)[:, target]

    moves = STEP * torch.eye(12, dtype=torch.float64)
    for row, image, target in zip(found, images, TARGETS, strict=True):
        above, below = (scores(image, 1 + d, target) for d in (moves, -moves))
        close(row.flatten(), (above - below) / (2 * STEP), 1e-4)


def test_texts_as_further_arguments(make_clip: Any, make_images: Any, tokenizer: Any) -> None:
    """Cosines of a text a image, which is what `ImageTextSimilarity` gives."""
    model, spec = make_clip(seed=4)
    images, text = make_images(model), tokenizer(["a cat", "two dogs", "snow"])
    found = GateGradient(ImageTextSimilarity(model)).patch_map(images, None, text)
    texts = oracles.text_directions(model, spec, text)
    moves = STEP * torch.eye(16, dtype=torch.float64)
    for row, image, own in zip(found, images, texts, strict=True):
        above, below = (
            to_unit(oracle.gated_features(model, image[None], 1 + d)) @ own for d in (moves, -moves)
        )
        close(row.flatten(), (above - below) / (2 * STEP), 1e-4)


class Case:
    """A family in float64, a smooth score of its outputs, and its images."""

    def __init__(self, name: str) -> None:
        self.family = FAMILIES[name]
        self.model: Any = self.family.make(5).double()
        self.images = self.family.images().double()
        self.tower: VisionTower = find_vision_tower(self.model)

    def __call__(self, images: Tensor) -> Tensor:
        return self.family.run(self.model, images).tanh().sum(dim=1)

    def method(self, **options: Any) -> GateGradient:
        return GateGradient(self, self.tower, **options)

    @torch.no_grad()
    def gated(self, gates: Tensor | float) -> Tensor:
        h, w = self.family.grid
        given = torch.as_tensor(gates, dtype=torch.float64).expand(len(self.images), h * w)
        with self.tower.gate(given):
            return self(self.images)


SOME = [
    "open_clip ViT, class token",
    "open_clip ViT, average",
    "open_clip CoCa",
    "timm ViT, avgmax",
    "timm Eva, rotary",
    "transformers CLIPModel",
    "transformers SiglipModel",
]


@pytest.mark.parametrize("name", SOME)
def test_it_is_the_limit_of_ccis_drops(name: str) -> None:
    """Clusters hidden a little: the drop, over how much, is the sum of their patches' slopes."""
    case = Case(name)
    slopes = case.method().patch_map(case.images)
    labels = KMeans(3)(torch.randn(3, slopes[0].numel(), 4, dtype=torch.float64))
    whole = case.gated(1.0)
    for k in range(3):
        cluster = (labels == k).double()
        drops = (whole - case.gated(1 - STEP * cluster)) / STEP
        expected = (slopes.flatten(1) * cluster).sum(dim=1)
        torch.testing.assert_close(
            drops, expected, rtol=1e-3, atol=1e-4 * float(slopes.abs().max())
        )
    effects = CCI(case, case.tower, clustering=lambda tokens: labels).effects(case.images)
    hidden = torch.stack([case.gated(1 - (labels == k).double()) for k in range(3)], dim=1)
    close(effects.drops(), whole[:, None] - hidden, 1e-6)


def test_one_pass(classifier: ZeroShotClassifier, model: Any, make_images: Any) -> None:
    rows: list[int] = []
    model.visual.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    GateGradient(classifier).patch_map(make_images(model), 1, check=False)
    assert rows == [3]


def test_slopes_are_linear_in_the_score() -> None:
    case = Case("open_clip ViT, average")

    def map_of(*weights: float) -> Tensor:
        def score(images: Tensor) -> Tensor:
            return case.family.run(case.model, images)[:, :3] @ torch.tensor(weights).double()

        return GateGradient(score, case.tower).patch_map(case.images)

    close(map_of(1, -2, 0.5), map_of(1, 0, 0) - 2 * map_of(0, 1, 0) + map_of(0, 0, 0.5), 1e-9)


def test_a_saturated_probability_has_no_slope(model: Any, make_images: Any) -> None:
    """The log of it has."""
    images = make_images(model)

    def logits(images: Tensor) -> Tensor:
        outputs = model.encode_image(images).double()[:, :3]
        return outputs + torch.tensor([100.0, 0.0, 0.0])

    plain = GateGradient(logits, model.visual).patch_map(images, 0)
    flat = GateGradient(lambda x: logits(x).softmax(dim=1), model.visual).patch_map(images, 0)
    other = GateGradient(lambda x: logits(x).log_softmax(dim=1), model.visual).patch_map(images, 1)
    assert plain.abs().max() > 1e-3 and other.abs().max() > 1e-3
    assert flat.abs().max() < 1e-20


# How it is asked for


def test_as_text(classifier: ZeroShotClassifier) -> None:
    spec = MethodSpec.parse("gate-gradient(score = log-probability)")
    assert str(spec) == "gate-gradient(score=log-probability)"
    assert spec.title == "Gate gradient (log probability)"
    method: Any = spec(classifier)
    assert isinstance(method, GateGradient)
    assert isinstance(method.forward_func, LogProbability)


def test_not_inside_hide_or_gate(classifier: Any, model: Any, make_images: Any) -> None:
    images, method = make_images(model), GateGradient(classifier)
    tower = method.vision_tower
    contexts: list[Callable[[], Any]] = [
        lambda: tower.hide(torch.zeros(3, 16, dtype=torch.bool)),
        lambda: tower.gate(torch.ones(3, 16)),
    ]
    for context in contexts:
        with context(), pytest.raises(RuntimeError, match="gate: patches of this tower are hid"):
            method.patch_map(images, 1)


def test_patches_that_count_elsewhere_are_found(model: Any, make_images: Any) -> None:
    """What is read past the tower has no gate: the map would be of another score."""
    kept: list[Tensor] = []
    model.visual.ln_pre.register_forward_hook(lambda module, args, output: kept.append(output))

    def forward(images: Tensor) -> Tensor:
        return model.encode_image(images) + kept.pop().mean(dim=(1, 2))[:, None]

    with pytest.raises(RuntimeError, match=r"forward_func: .*hidden patches"):
        GateGradient(forward, model.visual).patch_map(make_images(model), 0)
