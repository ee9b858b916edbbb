"""The baselines against plain float64 formulas (oracles/methods.py), and truths about some."""

from __future__ import annotations

import copy
import itertools
from functools import cached_property, partial

import oracles
import pytest
import torch
from captum.attr import LayerGradCam
from helpers import NAMES
from oracles import black_box
from oracles import methods as truth
from selection import exhaustive_unless
from torch import nn

from cci_captum import CCI, ImageTextSimilarity, KMeans, ZeroShotClassifier, load_clip
from cci_captum.baselines import (
    GAME,
    M2IB,
    RISE,
    AtMan,
    AttentionRollout,
    CLIPSurgery,
    ClusterAblation,
    ClusterKernelShap,
    ClusterLime,
    GradCAM,
    GradECLIP,
    LayerGradCAM,
    LeGrad,
    MaskCLIP,
    SelfAttention,
    find_method,
)
from cci_captum.benchmarks.scenes import SceneGenerator
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

pytestmark = pytest.mark.shared(among=6)

TOLERANCE = 1e-4  # relative, fp32

MODELS = {
    "base": {},
    "one-block-one-head": {"layers": 1, "head_width": 32},
    "deep-many-heads": {"layers": 8, "width": 48, "head_width": 4},
    "wide-large-patch": {"width": 128, "head_width": 32, "patch_size": 16, "image_size": 48},
    "tall-image": {"image_size": (56, 16)},
    "oblong-patch": {"patch_size": (4, 8), "image_size": (20, 32)},
    "ragged-border": {"image_size": (35, 29)},
    "average-pool": {"pool_type": "avg"},
    "average-pool-then-norm": {"pool_type": "avg", "final_ln_after_pool": True},
    "class-token-then-norm": {"final_ln_after_pool": True},
    "quick-gelu-layer-scale": {"quick_gelu": True, "ls_init_value": 0.1, "no_ln_pre": True},
    "custom-block": {"block_type": "custom", "image_size": (24, 40)},
    "custom-norms": {"qk_norm": True, "scale_attn": True, "scale_attn_inner": True},
    "custom-scales": {"scale_heads": True, "scale_fc": True, "pool_type": "avg"},
}
PROMPTS = ["a {}.", "{} there"]
TARGETS = [4, 0, 2]


class Case:
    """A model and images, and for both ready-made scores: function, arguments, truth."""

    def __init__(self, name, make_clip, make_images, tokenizer):
        self.model, self.spec = make_clip(seed=len(name), **MODELS[name])
        self.readout = "class token" if self.spec.pool == "tok" else "average"
        self.images = make_images(self.model)
        self.grid = self.model.visual.grid_size
        text = tokenizer(["a cat", "two dogs", "snow"])
        self.classes = oracles.class_directions(self.model, self.spec, tokenizer, NAMES, PROMPTS)
        self.functions = {
            "similarity": ImageTextSimilarity(self.model),
            "zero-shot": ZeroShotClassifier(self.model, tokenizer, NAMES, PROMPTS),
        }
        self.arguments = {"similarity": (None, text), "zero-shot": (TARGETS, None)}
        self.texts = {
            "similarity": oracles.text_directions(self.model, self.spec, text),
            "zero-shot": self.classes[TARGETS],
        }
        self.scales = {"similarity": 1.0, "zero-shot": self.model.logit_scale.exp().item()}

    @cached_property
    def passes(self):
        """The oracle's pass of every image."""
        return [truth.run(self.model, self.readout, image) for image in self.images]

    @cached_property
    def single_head_passes(self):
        """The same with one head in the last block."""
        return [truth.run(self.model, self.readout, image, True) for image in self.images]

    def check(self, method, score, expected, single_head=False):
        """The method's map of each image is ``expected(pass, text, score function)`` (N,)."""
        actual = method.patch_map(self.images, *self.arguments[score])
        passes = self.single_head_passes if single_head else self.passes
        rows = []
        for forward, text in zip(passes, self.texts[score], strict=True):

            def similarity(embedding, text=text):
                return self.scales[score] * oracles.cosine(embedding, text)

            rows.append(expected(forward, text, similarity))
        wanted = torch.stack(rows).reshape(len(rows), *self.grid)
        assert wanted.flatten(1).std(1).max() > 1e-6 * wanted.abs().max() > 0
        assert oracles.relative_error(actual, wanted) < TOLERANCE


@pytest.fixture(params=MODELS, scope="module")
def case(request, make_clip, make_images, tokenizer):
    return Case(request.param, make_clip, make_images, tokenizer)


both_scores = pytest.mark.parametrize("score", ["similarity", "zero-shot"])


def test_the_oracles_forward_pass_is_the_other_oracles(case):
    for image, forward in zip(case.images, case.passes, strict=True):
        expected = oracles.encode_image(case.model, case.spec, image[None])[0]
        assert oracles.relative_error(forward.embedding, expected) < 1e-12
        hidden = torch.zeros(len(forward.blocks[0].x) - 1, dtype=torch.bool)
        states = oracles.vision_states(case.model, case.spec, image, hidden)
        for block, before, after in zip(forward.blocks, states[:-1], states[1:], strict=True):
            assert oracles.relative_error(block.x, before) < 1e-12
            assert oracles.relative_error(block.output, after) < 1e-12


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("single_head", [True, False])
def test_the_oracles_gradients_are_finite_differences(
    make_clip, make_images, tokenizer, pool, single_head
):
    """Where methods differentiate: the last block's context, input tokens and probabilities."""
    model, spec = make_clip(width=16, pool_type=pool, image_size=16)
    text = oracles.text_directions(model, spec, tokenizer(["a cat"]))[0]
    readout = "class token" if pool == "tok" else "average"
    forward = truth.run(model, readout, make_images(model)[0], single_head)
    last, prefix = forward.blocks[-1], forward.prefix
    attention = last.attention

    def from_context(context, x=last.x):
        tokens = truth.add_mlp(truth.add_attention(x, attention, context, last.block), last.block)
        return oracles.cosine(forward.tower.read_out(tokens, prefix), text)

    def from_tokens(x):
        block = truth.run_block(last.block, x, prefix, None, single_head)
        return from_context(block.attention.context, x)

    def from_probabilities(p):
        odds = [*attention.probabilities[:-1], p]
        return from_context(truth.weighted_values(odds, attention.v))

    score = oracles.cosine(forward.embedding, text)
    for function, at in (
        (from_context, attention.context),
        (from_tokens, last.x),
        (from_probabilities, attention.probabilities[-1]),
    ):
        gradient = torch.autograd.grad(score, at, retain_graph=True)[0]
        differences = torch.zeros_like(gradient)
        with torch.no_grad():
            for i, j in itertools.product(*map(range, at.shape)):
                step = torch.zeros_like(at)
                step[i, j] = 1e-5
                differences[i, j] = (function(at + step) - function(at - step)) / 2e-5
        assert oracles.relative_error(gradient, differences) < 1e-7


@both_scores
@pytest.mark.parametrize("single_head", [True, False])
@pytest.mark.parametrize("key_similarity", [True, False])
def test_grad_eclip(case, score, single_head, key_similarity):
    case.check(
        GradECLIP(case.functions[score], single_head=single_head, key_similarity=key_similarity),
        score,
        lambda forward, _, similarity: truth.grad_eclip(
            forward, similarity, key_similarity=key_similarity
        ),
        single_head,
    )


def test_grad_eclip_of_one_patch_has_key_weight_one(make_clip, make_images, tokenizer):
    """Nothing to put between smallest and largest: the weight is 1, not 0 / 0."""
    model, spec = make_clip(image_size=8)
    images, text = make_images(model), tokenizer(["a cat", "two dogs", "snow"])
    directions = oracles.text_directions(model, spec, text)
    expected = [
        truth.grad_eclip(
            truth.run(model, "class token", image, True), partial(oracles.cosine, direction)
        )
        for image, direction in zip(images, directions, strict=True)
    ]
    assert max(expected) > 0
    actual = GradECLIP(ImageTextSimilarity(model)).patch_map(images, None, text)
    assert oracles.relative_error(actual, torch.stack(expected)[..., None]) < TOLERANCE


@both_scores
@pytest.mark.parametrize("key_similarity", [True, False])
def test_maskclip(case, score, key_similarity):
    case.check(
        MaskCLIP(case.functions[score], key_similarity=key_similarity),
        score,
        lambda forward, text, _: truth.maskclip(forward, text, key_similarity=key_similarity),
    )


@both_scores
@pytest.mark.parametrize("single_head", [True, False])
@pytest.mark.parametrize("layer", [None, "input", 0, -1])
def test_grad_cam(case, score, single_head, layer):
    for relu in (True, False):
        case.check(
            GradCAM(case.functions[score], layer=layer, single_head=single_head, relu=relu),
            score,
            lambda forward, _, similarity, relu=relu: truth.grad_cam(
                forward, similarity, layer=layer, relu=relu
            ),
            single_head,
        )


@both_scores
@pytest.mark.parametrize("layer", [None, "input"])
def test_grad_cam_averaged_over_patches(case, score, layer):
    for relu in (True, False):
        case.check(
            GradCAM(case.functions[score], layer=layer, average="patches", relu=relu),
            score,
            lambda forward, _, similarity, relu=relu: truth.grad_cam(
                forward, similarity, layer=layer, relu=relu, over_patches=True
            ),
        )


@both_scores
@pytest.mark.parametrize("single_head", [True, False])
def test_self_attention(case, score, single_head):
    case.check(
        SelfAttention(case.functions[score], single_head=single_head),
        score,
        lambda forward, *_: truth.self_attention(forward),
        single_head,
    )


def test_attention_rollout(case):
    case.check(
        AttentionRollout(case.functions["zero-shot"]),
        "zero-shot",
        lambda forward, *_: truth.attention_rollout(forward),
    )


@both_scores
@pytest.mark.parametrize("layers", ["last", "all"])
def test_game(case, score, layers):
    case.check(
        GAME(case.functions[score], layers=layers),
        score,
        lambda forward, _, similarity: truth.game(forward, similarity, layers=layers),
    )


@both_scores
@pytest.mark.parametrize("read_out", ["mean", "model"])
@pytest.mark.parametrize("n_blocks", [1, 2, None])
def test_legrad(case, score, n_blocks, read_out):
    count = n_blocks or len(case.passes[0].blocks)
    case.check(
        LeGrad(case.functions[score], n_blocks=n_blocks, read_out=read_out),
        score,
        lambda forward, text, _: truth.le_grad(forward, text, n_blocks=count, read_out=read_out),
    )


@both_scores
def test_legrad_less_what_an_empty_text_looks_at(case, score, tokenizer):
    tokens = tokenizer(["a"])
    empty = oracles.text_directions(case.model, case.spec, tokens)[0]

    def expected(forward, text, _):
        count = len(forward.blocks[-2:])
        map_, looked_at = (truth.le_grad(forward, t, n_blocks=count) for t in (text, empty))
        span = looked_at.max() - looked_at.min()
        return torch.where((looked_at - looked_at.min()) / span > 0.8, 0.0, map_)

    case.check(LeGrad(case.functions[score], empty_text=tokens), score, expected)


@both_scores
@pytest.mark.parametrize("from_minimum", [True, False])
@pytest.mark.parametrize("threshold", [None, 0.3])
@pytest.mark.parametrize("layer", ["input", -1])
def test_atman(case, score, layer, threshold, from_minimum):
    """At some patches: the oracle runs the model for each."""
    options = {"layer": layer, "threshold": threshold, "from_minimum": from_minimum}
    method = AtMan(case.functions[score], suppression=0.7, **options)
    actual = method.patch_map(case.images, *case.arguments[score]).flatten(1)
    some = range(1, actual.shape[1], 5)
    rows = []
    for image, forward, text in zip(case.images, case.passes, case.texts[score], strict=True):
        similarity = partial(oracles.cosine, text)
        value = truth.atman(
            forward, similarity, case.model, image, suppression=0.7, patches=some, **options
        )
        rows.append(case.scales[score] * value)
    wanted = torch.stack(rows)
    assert wanted.std(1).max() > 1e-6 * wanted.abs().max() > 0
    assert oracles.relative_error(actual[:, some], wanted) < TOLERANCE


every_revision = pytest.mark.parametrize("revision", truth.SURGERY)


@both_scores
@every_revision
@pytest.mark.parametrize("n_blocks", [1, 2, 6])
def test_clip_surgery_without_feature_surgery(case, score, n_blocks, revision):
    """The architecture alone: the second path's patch features with the text."""
    case.check(
        CLIPSurgery(
            case.functions[score], n_blocks=n_blocks, feature_surgery=False, revision=revision
        ),
        score,
        lambda forward, text, _: truth.SURGERY[revision].map(
            truth.surgery_rows(forward, n_blocks=n_blocks), text
        ),
    )


@pytest.mark.parametrize(
    ("name", "revision"),
    [
        ("clip-surgery", "2025-03-01"),
        ("clip-surgery-2023-04-12", "2023-04-12"),
        ("clip-surgery-2023-04-13", "2023-04-13"),
    ],
)
@pytest.mark.parametrize("temperature", [2.0, 30.0])
def test_clip_surgery_of_classes(case, temperature, name, revision):
    """All classes are needed for the map of one."""
    targets = iter(TARGETS)

    def expected(forward, *_):
        maps = truth.SURGERY[revision].maps(truth.surgery_rows(forward), case.classes, temperature)
        return maps[:, next(targets)]

    method = find_method(name)(case.functions["zero-shot"], temperature=temperature)
    case.check(method, "zero-shot", expected)


def test_clip_surgery_of_one_text(case):
    case.check(
        CLIPSurgery(case.functions["similarity"]),
        "similarity",
        lambda forward, text, _: truth.SURGERY["2025-03-01"].map(truth.surgery_rows(forward), text),
    )


@both_scores
@every_revision
def test_clip_surgery_less_a_redundant_text(case, score, tokenizer, revision):
    tokens = tokenizer([""])
    redundant = oracles.text_directions(case.model, case.spec, tokens)[0]
    case.check(
        CLIPSurgery(case.functions[score], redundant_text=tokens, revision=revision),
        score,
        lambda forward, text, _: truth.SURGERY[revision].map(
            truth.surgery_rows(forward), text - redundant
        ),
    )


class Recorder(nn.Module):
    """A forward function that keeps what it gave."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.outputs = []

    def forward(self, *args):
        output = self.function(*args)
        self.outputs.append(output.detach().clone())
        return output


@both_scores
@pytest.mark.parametrize("method", [GradECLIP, GradCAM])
def test_the_score_differentiated_is_the_single_heads(case, score, method):
    recorder = Recorder(case.functions[score])
    target, text = case.arguments[score]
    state = copy.deepcopy(case.model.state_dict())
    with torch.no_grad():
        before = case.model.encode_image(case.images)
    method(recorder, single_head=True).patch_map(case.images, target, text, check=False)
    with torch.no_grad():
        after = case.model.encode_image(case.images)

    seen = torch.cat(recorder.outputs)
    embeddings = torch.stack([forward.embedding for forward in case.single_head_passes])
    plain = torch.stack([forward.embedding for forward in case.passes])
    scale = case.scales[score]
    chosen = seen if score == "similarity" else seen[range(3), TARGETS]
    expected = scale * oracles.cosine(embeddings, case.texts[score])
    assert seen.shape == ((3,) if score == "similarity" else (3, 5))
    assert (chosen.double() - expected).abs().max() < 1e-5 * scale
    if case.spec.vision_heads > 1:
        other = scale * oracles.cosine(plain, case.texts[score])
        assert (expected - other).abs().max() > 1e-3 * scale
    assert torch.equal(before, after)
    assert all(torch.equal(value, state[key]) for key, value in case.model.state_dict().items())
    assert all(parameter.grad is None for parameter in case.model.parameters())


# GradCAM on layers that have a grid.


class SmallCNN(nn.Module):
    """Images (B, 3, H, W) -> (B, 4)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2), nn.Tanh(), nn.Conv2d(6, 5, 3), nn.GELU()
        )
        self.head = nn.Linear(5, 4)

    def forward(self, images):
        return self.head(self.features(images).square().mean((2, 3)))


@pytest.mark.parametrize("target", [1, [0, 3, 2], torch.tensor([2, 2, 1])], ids=str)
@pytest.mark.parametrize("layer", [0, 1, 3])
def test_grad_cam_of_a_cnn_is_captums(target, layer):
    torch.manual_seed(0)
    model = SmallCNN().eval()
    images = torch.randn(3, 3, 21, 16)
    module = model.features[layer]
    expected = LayerGradCam(model, module).attribute(images, target, relu_attributions=True)
    method = LayerGradCAM(model, module)
    assert (expected > 0).any()
    assert oracles.relative_error(method.patch_map(images, target), expected[:, 0]) < 1e-6
    attributions = method.attribute(images, target)
    enlarged = nn.functional.interpolate(expected.detach(), images.shape[2:], mode="nearest-exact")
    assert oracles.relative_error(attributions, enlarged.expand_as(images)) < 1e-6


@both_scores
def test_grad_cam_of_the_patch_convolution_is_captums(case, score):
    layer, function = case.model.visual.conv1, case.functions[score]
    target, text = case.arguments[score]
    captums = LayerGradCam(function, layer)
    for relu in (True, False):
        expected = captums.attribute(case.images, target, text, relu_attributions=relu)
        actual = LayerGradCAM(function, layer, relu=relu).patch_map(case.images, target, text)
        assert oracles.relative_error(actual, expected[:, 0]) < 1e-6


def test_grad_cam_of_a_clip_resnet_is_captums(make_clip, tokenizer):
    """open_clip's ModifiedResNet, for which there is no vision tower."""
    model, _ = make_clip(layers=(1, 1, 1, 1), width=8, head_width=16, image_size=64)
    function, text = ImageTextSimilarity(model), tokenizer(["a cat", "snow"])
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    for layer in (model.visual.layer4, model.visual.layer2):
        captums = LayerGradCam(function, layer)
        expected = captums.attribute(images, additional_forward_args=text, relu_attributions=True)
        actual = LayerGradCAM(function, layer).patch_map(images, additional_forward_args=text)
        assert (expected > 0).any()
        assert oracles.relative_error(actual, expected[:, 0]) < 1e-6


# RISE.


class Linear(nn.Module):
    """f(x) = sum(slope * x) + offset, one score an image."""

    def __init__(self, slope, offset):
        super().__init__()
        self.register_buffer("slope", slope.float())
        self.offset = offset

    def forward(self, images):
        return (self.slope * images).flatten(1).sum(1) + self.offset


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("size", "grid", "p", "baseline", "flat"),
    [
        pytest.param((12, 10), 3, 0.5, 0.0, False, id="plain"),
        exhaustive_unless(False, (9, 16), 4, 0.3, 0.7, False, id="oblong"),
        exhaustive_unless(False, (14, 14), 7, 0.6, -0.4, False, id="many-cells"),
        pytest.param((12, 10), 3, 0.5, 0.0, True, id="constant-model"),
    ],
)
def test_rise_in_expectation(size, grid, p, baseline, flat):
    """No pixel is off by more than five standard errors of a mean over the masks.

    A model that is constant has the constant everywhere: there is no bias towards any place.
    """
    n_masks = 8000
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(2, 3, *size, generator=generator) + 1
    slope, offset = torch.zeros(3, *size, dtype=torch.float64), 2.0
    if not flat:  # only what the upper left corner shows matters
        slope[:, :4, :5] = torch.rand(3, 4, 5, generator=generator, dtype=torch.float64)
    method = RISE(Linear(slope, offset), n_masks=n_masks, p=p, grid=grid, baseline=baseline)
    attributions = method.attribute(images).double()
    assert attributions.shape == images.shape
    options = {"p": p, "grid": grid, "baseline": baseline}
    for image, attribution in zip(images, attributions, strict=True):
        expected = black_box.rise_expectation(image, slope, offset, **options)
        own = black_box.rise_samples(image, slope, offset, n=2000, **options)
        error = own.std(0) / n_masks**0.5
        if flat:
            assert torch.allclose(expected, torch.full(size, 2.0, dtype=torch.float64))
        else:
            assert expected.std() > 5 * error.mean()  # there is something to find
        assert ((own.mean(0) - expected) / (own.std(0) / 2000**0.5)).abs().max() < 5
        assert torch.equal(attribution[0], attribution[1])
        assert torch.equal(attribution[0], attribution[2])
        assert ((attribution[0] - expected) / error).abs().max() < 5


@pytest.mark.parametrize(("size", "grid"), [((12, 10), 3), ((9, 16), 4)], ids=str)
def test_rises_masks_are_shifted_enlargements_of_cells(size, grid):
    """Seen from inside the model: white images show the masks. And the map is their sum."""
    shown = []

    def scores(images):
        shown.append(images)
        return images.square().flatten(1).sum(1)

    n_masks, p = 500, 0.3
    attributions = RISE(scores, n_masks=n_masks, p=p, grid=grid).attribute(
        torch.ones(1, 3, *size), check=False
    )
    masks = torch.cat(shown)[:, 0].double()
    assert len(masks) == n_masks
    weights = black_box.mask_weights(*size, grid)
    best = torch.full((n_masks,), torch.inf, dtype=torch.float64)
    for w in weights:  # which cells would make each mask at this shift, and do they
        cells = (torch.linalg.pinv(w) @ masks.flatten(1).T).round().clamp(0, 1)
        best = torch.minimum(best, (w @ cells - masks.flatten(1).T).abs().amax(0))
    assert best.max() < 1e-6
    variance = p * (1 - p) * torch.stack([w.mean(0).square().sum() for w in weights]).mean()
    assert abs(masks.mean() - p) < 5 * (variance / n_masks) ** 0.5
    expected = (3 * masks.square().sum((1, 2)) @ masks.flatten(1)).reshape(size) / (n_masks * p)
    assert oracles.relative_error(attributions[0, 0], expected) < 1e-5


def test_rise_of_a_model_that_gives_zero_is_zero():
    images = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    attributions = RISE(Linear(torch.zeros(3, 8, 8), 0.0), n_masks=50).attribute(images)
    assert (attributions == 0).all()


# M2IB.


@pytest.mark.exhaustive
@both_scores
@pytest.mark.parametrize("layer", [None, 0, -2])
@pytest.mark.parametrize("name", ["deep-many-heads", "oblong-patch", "average-pool"])
def test_m2ib_starts_at_its_loss_and_lowers_it(
    make_clip, make_images, tokenizer, name, score, layer
):
    """The first loss is the oracle's mean over noises, within five standard errors."""
    case = Case(name, make_clip, make_images, tokenizer)
    target, text = case.arguments[score]
    beta, n_samples, draws = 0.1, 10, 32
    method = M2IB(
        case.functions[score], layer=layer, beta=beta, steps=10, n_samples=n_samples, seed=3
    )
    bottleneck = method.fit(case.images, target, text)
    assert bottleneck.losses.shape == (3, 10)
    place = max(len(case.passes[0].blocks) - 3, 0) if layer is None else layer
    for b, forward in enumerate(case.passes):
        losses = truth.m2ib_first_losses(
            forward, case.texts[score][b], layer=place, beta=beta, draws=draws
        )
        error = losses.std() * (1 / n_samples + 1 / draws) ** 0.5
        first, last = bottleneck.losses[b, 0].double(), bottleneck.losses[b, -1].double()
        assert error < 2e-3
        assert abs(first - losses.mean()) < 5 * error + 1e-5 * abs(first)
        assert last < first - 0.01
    assert bottleneck.patch_map.shape == (3, *case.grid)
    assert (bottleneck.patch_map > 0).all()
    assert torch.equal(method.patch_map(case.images, target, text), bottleneck.patch_map)


@pytest.mark.exhaustive  # tens of seconds; with fewer samples in test_methods_on_scenes.py
def test_m2ib_finds_the_object():
    """On the trained model: the map lies on the object far beyond the object's share."""
    model, preprocess, tokenizer, _ = load_clip("tiny")
    classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES)
    scenes = SceneGenerator(seed=21).scenes(range(6), kind="one")
    normalize = preprocess.transforms[-1]
    images = normalize(torch.stack([scene.image for scene in scenes]))
    maps = M2IB(classifier).patch_map(images, [scene.classes[0] for scene in scenes])
    objects = torch.stack([scene.foreground for scene in scenes]).double()  # (B, H, W)
    covered = nn.functional.adaptive_avg_pool2d(objects, maps.shape[1:])
    positive = maps.double().clamp(min=0)
    energy = (positive * covered).sum((1, 2)) / positive.sum((1, 2))
    assert energy.mean() > 2 * objects.mean()


# Captum's methods on CCI's clusters.


class OnPixels(nn.Module):
    """A model's tower runs, for its clusters; the score is a function of the pixels alone."""

    def __init__(self, model, function):
        super().__init__()
        self.visual = model.visual
        self.function = function

    def forward(self, images):
        self.visual(images)
        return self.function(images)


@pytest.fixture(scope="module")
def small(make_clip, make_images, tokenizer):
    model, _ = make_clip(seed=2, layers=1, image_size=(24, 32))
    images, text = make_images(model), tokenizer(["a cat", "two dogs", "snow"])
    return model, images, text


def cluster_pixels(model, images, n_clusters, layer=-1):
    """Which pixels belong to which cluster: bool (B, K, 1, H, W)."""
    cci = CCI(model.visual, clustering=KMeans(n_clusters), embedding_layer=layer)
    labels = cci.effects(images).labels
    height, width = (size // n for size, n in zip(images.shape[2:], labels.shape[1:], strict=True))
    pixels = labels.repeat_interleave(height, 1).repeat_interleave(width, 2)
    return torch.stack([pixels == k for k in range(n_clusters)], 1)[:, :, None]


@pytest.mark.parametrize("layer", [-1, "input"])
@pytest.mark.parametrize("baseline", [0.0, 0.8])
def test_cluster_ablation_is_a_plain_loop(small, layer, baseline):
    model, images, text = small
    function = ImageTextSimilarity(model)
    regions = cluster_pixels(model, images, 4, layer)
    expected = torch.zeros_like(images)
    with torch.no_grad():
        plain = function(images, text)
        for k in range(4):
            ablated = torch.where(regions[:, k], baseline, images)
            drop = plain - function(ablated, text)
            expected = torch.where(regions[:, k], drop[:, None, None, None], expected)
    method = ClusterAblation(
        function, clustering=KMeans(4), embedding_layer=layer, baseline=baseline
    )
    actual = method.attribute(images, additional_forward_args=text)
    assert expected.flatten(1).std(1).min() > 1e-3
    assert oracles.relative_error(actual, expected) < 1e-5


@pytest.mark.exhaustive  # tens of seconds
@pytest.mark.parametrize("n_clusters", [3, 4])
def test_cluster_kernel_shap_is_near_exact_shapley(small, n_clusters):
    """A product of two linear functions: half of every cluster's share comes from the others.

    Captum draws coalitions, so that shares are exact only in the limit: on random games of as
    many players 4000 draws leave at most 0.12 of the standard deviation of the games' values.
    """
    model, images, _ = small
    images, baseline = images[:1], 0.3
    slopes = torch.randn(2, *images.shape[1:], generator=torch.Generator().manual_seed(8))

    def product(x):
        return (slopes[0] * x).flatten(1).mean(1) * (slopes[1] * x).flatten(1).mean(1)

    regions = cluster_pixels(model, images, n_clusters)
    attributions = ClusterKernelShap(
        OnPixels(model, product),
        clustering=KMeans(n_clusters),
        baseline=baseline,
        n_samples=4000,
    ).attribute(images)
    for image, parts, attribution in zip(images, regions, attributions, strict=True):
        worths = {}
        for present in itertools.product((False, True), repeat=n_clusters):
            hidden = (parts & ~torch.tensor(present)[:, None, None, None]).any(0)
            worths[present] = product(torch.where(hidden, baseline, image)[None]).item()
        shares = black_box.shapley_values(worths.__getitem__, n_clusters)
        scale = torch.tensor(list(worths.values())).std()
        found = torch.stack([attribution[0][part[0]].mean() for part in parts]).double()
        for part, share in zip(parts, found, strict=True):
            assert (attribution[part.expand(3, -1, -1)] - share).abs().max() < 1e-5 * scale
        nothing = (False,) * n_clusters
        alone = [
            worths[tuple(i == k for i in range(n_clusters))] - worths[nothing]
            for k in range(n_clusters)
        ]
        assert (shares - torch.tensor(alone)).abs().max() > 0.5 * scale
        assert (found - shares).abs().max() < 0.2 * scale
        total = worths[(True,) * n_clusters] - worths[nothing]
        assert abs(found.sum() - total) < 1e-3 * scale


@pytest.mark.exhaustive
def test_cluster_methods_recover_a_linear_function(small):
    """f = sum of slope times pixel: a cluster's coefficient is its pixels' share of that sum."""
    model, images, _ = small
    slope = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(8))
    function = OnPixels(model, lambda x: (slope * x).flatten(1).sum(1))
    regions = cluster_pixels(model, images, 4)
    shares = (slope * images)[:, None] * regions
    expected = torch.zeros_like(images)
    for k in range(4):
        expected = torch.where(
            regions[:, k], shares[:, k].flatten(1).sum(1)[:, None, None, None], expected
        )
    for method in (
        ClusterAblation(function, clustering=KMeans(4)),
        ClusterKernelShap(function, clustering=KMeans(4), n_samples=200),
        ClusterLime(function, clustering=KMeans(4), n_samples=200),
    ):
        assert oracles.relative_error(method.attribute(images), expected) < 1e-5
