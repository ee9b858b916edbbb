"""The baselines on every family of towers against plain formulas (oracles/methods.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property, partial
from typing import Any

import oracles
import pytest
import torch
from families import FAMILIES, VARIANTS
from oracles import families
from oracles import methods as truth
from oracles.methods import SURGERY, Pass, Score
from oracles.plain import to_unit
from selection import exhaustive_unless
from torch import Tensor
from toy import CONTEXT_LENGTH, VOCABULARY

from cci_captum import ImageTextSimilarity
from cci_captum.baselines import (
    GAME,
    M2IB,
    AtMan,
    AttentionRollout,
    CLIPSurgery,
    GradCAM,
    GradECLIP,
    LeGrad,
    MaskCLIP,
    SelfAttention,
)

pytestmark = pytest.mark.shared(among=10)

TOLERANCE = 1e-4  # relative, fp32
TARGETS = [4, 0, 2]

# Each library's read-outs on three seeds; all other families on one.
MAIN = [
    "open_clip ViT, average before the norm (CLIPA)",
    "open_clip CoCa",
    "open_clip CoCa, average",
    "open_clip CoCa, parallel",
    "open_clip TimmModel SigLIP",
    "open_clip TimmModel EVA02 (rotary)",
    "open_clip TimmModel PE-Core",
    "open_clip TimmModel MobileCLIP-B",
    "open_clip TimmModel EVA02-E (post-norm)",
    "timm ViT, registers",
    "timm ViT, average, no class token",
    "timm ViT, MAP",
    "transformers CLIPModel",
    "transformers SiglipModel",
    "transformers ViTForImageClassification",
    "transformers Dinov2ForImageClassification",
]
CASCADE = "open_clip CoCa, cascade"  # two pools, one after the other: refused
ALL = {name: family for name, family in (FAMILIES | VARIANTS).items() if name != CASCADE}


def cases(names: Iterable[str]) -> list[Any]:
    """Names of families with seeds; a quick run holds one seed of each, in turn all three."""
    return [
        exhaustive_unless(name not in MAIN or seed == 1 + MAIN.index(name) % 3, (name, seed))
        for name in names
        for seed in ((1, 2, 3) if name in MAIN else (1,))
    ]


def text_directions(model: Any, tokens: Tensor) -> Tensor:
    """Unit text features (B, E), float64, as the library computes them."""
    encode = model.encode_text if hasattr(model, "encode_text") else model.get_text_features
    with torch.no_grad():
        features = encode(tokens)
    return to_unit(getattr(features, "pooler_output", features).double())


class Case:
    """A model and images, and what is explained: a cosine with a text, or one output."""

    def __init__(self, name: str, seed: int) -> None:
        self.family = ALL[name]
        # One seed of three with attention in the open, where the library has it.
        attn = "eager" if seed == 2 and "eager" in self.family.attentions else "sdpa"
        self.model = self.family.make(seed, attn)
        self.images = self.family.images(len(TARGETS), seed)
        if self.family.has_text:
            generator = torch.Generator().manual_seed(seed)
            shape = (len(TARGETS), CONTEXT_LENGTH)
            tokens = torch.randint(1, VOCABULARY - 1, shape, generator=generator)
            tokens[:, -1] = VOCABULARY - 1
            self.texts = text_directions(self.model, tokens)
            self.function = ImageTextSimilarity(self.model)
            self.arguments = (None, tokens)
            self.scores = [partial(oracles.cosine, text) for text in self.texts]
        else:
            self.function = partial(self.family.run, self.model)
            self.arguments = (TARGETS, None)
            self.scores = [lambda outputs, i=i: outputs[i] for i in TARGETS]

    @cached_property
    def passes(self) -> list[Pass]:
        """The oracle's pass of every image."""
        return [truth.run(self.model, self.family.readout, image) for image in self.images]

    @cached_property
    def single_head_passes(self) -> list[Pass]:
        """The same with one head in the last attention."""
        return [truth.run(self.model, self.family.readout, image, True) for image in self.images]

    def make(self, method, **options):
        """The method on this model."""
        return method(self.function, self.model, **options)

    def map(self, method, **options) -> Tensor:
        """The method's map (B, h, w)."""
        return self.make(method, **options).patch_map(self.images, *self.arguments)

    def check(
        self, actual: Tensor, expected: Callable[[Pass, Score], Tensor], single_head: bool = False
    ) -> None:
        """Each image's map is ``expected(pass, score)`` (N,)."""
        passes = self.single_head_passes if single_head else self.passes
        rows = [expected(forward, s) for forward, s in zip(passes, self.scores, strict=True)]
        wanted = torch.stack(rows).reshape(len(rows), *self.family.grid)
        assert wanted.flatten(1).std(1).max() > 5e-4 * wanted.abs().max() > 0
        assert oracles.relative_error(actual, wanted) < TOLERANCE
        mean = wanted.mean()  # most of GAME's map where patches are averaged
        assert oracles.relative_error(actual - mean, wanted - mean) < 10 * TOLERANCE


def label(param: tuple[str, int]) -> str:
    """The test's name."""
    return "{}, seed {}".format(*param)


@pytest.fixture(params=cases(ALL), ids=label, scope="module")
def case(request) -> Case:
    return Case(*request.param)


COMPARABLE = [
    name for name, family in ALL.items() if family.has_text and family.readout != "attention pool"
]


WITH_TEXT = [name for name, family in ALL.items() if family.has_text]


@pytest.fixture(params=cases(WITH_TEXT), ids=label, scope="module")
def with_text(request) -> Case:
    """Of the cases, those with a text encoder."""
    return Case(*request.param)


@pytest.fixture(params=cases(COMPARABLE), ids=label, scope="module")
def comparable(request) -> Case:
    """Of the cases, those whose patches can be compared with a text."""
    return Case(*request.param)


one_and_all_heads = pytest.mark.parametrize("single_head", [True, False])


def test_the_oracles_forward_pass_is_the_other_oracles(case):
    expected = families.features(case.model, case.images)
    actual = torch.stack([forward.embedding for forward in case.passes])
    assert oracles.relative_error(actual, expected) < 1e-12
    other = torch.stack([forward.embedding for forward in case.single_head_passes])
    assert oracles.relative_error(other, expected) > 1e-3


@one_and_all_heads
@pytest.mark.parametrize("key_similarity", [True, False])
def test_grad_eclip(case, single_head, key_similarity):
    case.check(
        case.map(GradECLIP, single_head=single_head, key_similarity=key_similarity),
        partial(truth.grad_eclip, key_similarity=key_similarity),
        single_head,
    )


@one_and_all_heads
@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam(case, single_head, relu):
    case.check(
        case.map(GradCAM, single_head=single_head, relu=relu),
        partial(truth.grad_cam, relu=relu),
        single_head,
    )


def test_grad_cam_averaged_over_patches(case):
    case.check(
        case.map(GradCAM, relu=False, average="patches"),
        partial(truth.grad_cam, relu=False, over_patches=True),
    )


@one_and_all_heads
def test_self_attention(case, single_head):
    case.check(
        case.map(SelfAttention, single_head=single_head),
        lambda forward, _: truth.self_attention(forward),
        single_head,
    )


def test_attention_rollout(case):
    case.check(case.map(AttentionRollout), lambda forward, _: truth.attention_rollout(forward))


@pytest.mark.parametrize("layers", ["last", "all"])
def test_game(case, layers):
    case.check(case.map(GAME, layers=layers), partial(truth.game, layers=layers))


@pytest.mark.parametrize("from_minimum", [True, False])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_atman(case, threshold, from_minimum):
    """At some patches: the oracle runs the model for each."""
    options = {"threshold": threshold, "from_minimum": from_minimum}
    actual = case.map(AtMan, **options).flatten(1)
    some = range(1, actual.shape[1], 5)
    wanted = torch.stack(
        [
            truth.atman(forward, score, case.model, image, patches=some, **options)
            for image, forward, score in zip(case.images, case.passes, case.scores, strict=True)
        ]
    )
    assert oracles.relative_error(actual[:, some], wanted) < TOLERANCE
    assert wanted.std(1).max() > 1e-3 * wanted.abs().max() > 0


@pytest.mark.parametrize("key_similarity", [True, False])
def test_maskclip(comparable, key_similarity):
    texts = iter(comparable.texts)
    comparable.check(
        comparable.map(MaskCLIP, key_similarity=key_similarity),
        lambda forward, _: truth.maskclip(forward, next(texts), key_similarity=key_similarity),
    )


@pytest.mark.parametrize("read_out", ["mean", "model"])
@pytest.mark.parametrize("n_blocks", [1, 2, None])
def test_legrad(with_text, n_blocks, read_out):
    texts = iter(with_text.texts)
    with_text.check(
        with_text.map(LeGrad, n_blocks=n_blocks, read_out=read_out),
        lambda forward, _: truth.le_grad(
            forward, next(texts), n_blocks=n_blocks or 3, read_out=read_out
        ),
    )


@pytest.mark.parametrize("revision", ["2023-04-13", "2025-03-01"])  # one text has no weights
@pytest.mark.parametrize("n_blocks", [1, 6])
def test_clip_surgery(comparable, n_blocks, revision):
    texts = iter(comparable.texts)
    comparable.check(
        comparable.map(CLIPSurgery, n_blocks=n_blocks, revision=revision),
        lambda forward, _: SURGERY[revision].map(
            truth.surgery_rows(forward, n_blocks=n_blocks), next(texts)
        ),
    )


ROTARY, POOLED = "open_clip TimmModel EVA02 (rotary)", "transformers SiglipModel"


@pytest.mark.parametrize(
    "name",
    [ROTARY, *(exhaustive_unless(False, x) for x in (POOLED, "open_clip TimmModel PE-Core"))],
)
def test_m2ib_starts_at_its_loss(name):
    """The first loss is the oracle's mean over noises, within five standard errors."""
    case = Case(name, 1)
    beta, n_samples, draws = 0.1, 10, 32
    method = M2IB(case.function, beta=beta, steps=1, n_samples=n_samples)
    first = method.fit(case.images, *case.arguments).losses[:, 0].double()
    for loss, forward, text in zip(first, case.passes, case.texts, strict=True):
        losses = truth.m2ib_first_losses(forward, text, layer=0, beta=beta, draws=draws)
        error = losses.std() * (1 / n_samples + 1 / draws) ** 0.5
        assert error < 2e-3
        assert abs(loss - losses.mean()) < 5 * error + 1e-5 * abs(loss)


@pytest.mark.parametrize("method", [MaskCLIP, CLIPSurgery])
@pytest.mark.parametrize(
    "name", [name for name in ALL if ALL[name].has_text and name not in COMPARABLE]
)
def test_patches_behind_an_attention_pool_have_no_feature_to_compare(name, method):
    with pytest.raises(TypeError, match="attention pool"):
        Case(name, 1).make(method)
