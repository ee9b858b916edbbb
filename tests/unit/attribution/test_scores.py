"""What a forward_func may return: numbers that are none, ties, indices, buffers it uses again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import NAMES
from PIL import Image
from torch import Tensor, nn

from cci_captum import CCI, ClusterEffects, ImageTextSimilarity, KMeans, ZeroShotClassifier
from cci_captum.attribution.targets import select_target
from cci_captum.baselines import M2IB, METHODS, RISE, ClusterLime, Random
from cci_captum.benchmarks.comparison import compare
from cci_captum.benchmarks.data import Sample
from cci_captum.benchmarks.faithfulness import DeletionInsertion
from cci_captum.benchmarks.faithfulness.curves import score
from cci_captum.benchmarks.tasks import Classification
from cci_captum.models.preprocessing import Preprocessing, whole
from cci_captum.models.ranking import among_best, predicted

NAN, INF = math.nan, math.inf
BAD = {"nan": NAN, "inf": INF, "-inf": -INF}


class Spoilt(ZeroShotClassifier):
    """A classifier whose score of some classes is no number where an image is bright."""

    classes: tuple[int, ...] = (1,)
    value: float = NAN

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        bright = images[:, 0, 0, 0] > 100
        spoilt = torch.zeros_like(logits, dtype=torch.bool)
        spoilt[:, list(self.classes)] = bright[:, None]
        return logits.masked_fill(spoilt, self.value)


@pytest.fixture
def spoilt(model, tokenizer) -> Spoilt:
    return Spoilt(model, tokenizer, NAMES)


def brighten(images: Tensor, *rows: int) -> Tensor:
    """The images, of which some have one very bright pixel."""
    images = images.clone()
    images[list(rows), 0, 0, 0] = 101.0
    return images


def explainer(name: str, forward_func: Callable[..., Tensor]) -> Any:
    options: dict[str, dict[str, Any]] = {
        "cci": {"clustering": KMeans(3)},
        "rise": {"n_masks": 8, "p": 1.0},
        "m2ib": {"steps": 1, "n_samples": 1},
        "gated-cci": {"clusters": (3,)},
        "cluster-ablation": {"clustering": KMeans(3)},
        "shapley-cci": {"clustering": KMeans(3)},
        "cluster-lime": {"clustering": KMeans(3), "n_samples": 8},
        "cluster-kernelshap": {"clustering": KMeans(3), "n_samples": 8},
    }
    return METHODS[name](forward_func, **options.get(name, {}))


def ask(method: Any, name: str, images: Tensor, target: Any = None, **options: Any) -> Tensor:
    if METHODS[name].needs_masks:
        options["masks"] = torch.zeros(len(images), *images.shape[2:], dtype=torch.bool)
    return method.attribute(images, target, **options)


# Right, or not.


def plain_rank(row: list[float], target: int) -> int:
    """How many other classes are not below the target."""
    others = [value for index, value in enumerate(row) if index != target]
    return sum(not value < row[target] for value in others)


@pytest.mark.parametrize("seed", range(3))
def test_a_class_is_right_where_fewer_than_k_others_are_as_high(seed: int) -> None:
    """Against plain loops, on scores with many ties and some that are no numbers."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([0.0, 1.0, 2.0, 3.0, -INF, INF, NAN])
    index = torch.randint(0, 40, (200, 8), generator=generator).clamp(max=6) % 7
    outputs = values[torch.where(index == 6, torch.randint(0, 7, (200, 8), generator=generator), 2)]
    outputs[::2] = torch.randint(0, 6, (100, 8), generator=generator).float()
    curve = score(outputs, target=2)
    for row, top1, top5, guess in zip(
        outputs.tolist(), curve.top1, curve.top5, predicted(outputs), strict=True
    ):
        finite = math.isfinite(row[2])
        assert [top1, top5] == [finite and plain_rank(row, 2) < k for k in (1, 5)]
        firsts = [c for c in range(8) if math.isfinite(row[c]) and plain_rank(row, c) < 1]
        assert [guess] == (firsts or [-1])
    assert 0 < curve.top1.mean() < curve.top5.mean() < 1


@pytest.mark.parametrize("value", BAD.values(), ids=BAD)
@pytest.mark.parametrize("n_classes", [3, 8])
def test_what_is_no_number_is_never_right(value: float, n_classes: int) -> None:
    outputs = torch.arange(float(n_classes)).expand(2, -1).clone()
    outputs[0, 1] = value
    curve = score(outputs, target=1)
    assert curve.top1[0] == curve.top5[0] == 0
    assert score(outputs, target=n_classes - 1).top1[1] == 1


def test_classes_that_are_ruled_out_harm_no_other() -> None:
    outputs = torch.tensor([[-INF, 2.0, 1.0, -INF]])
    assert score(outputs, 1).top1 == 1
    assert score(outputs, 1).probability.item() == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)
    assert predicted(outputs) == 1


def test_of_two_equal_classes_neither_is_first_whatever_their_order() -> None:
    outputs = torch.tensor([[3.0, 3.0, 1.0, 0.0, -1.0, -2.0, -3.0]])
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 1, 5, 0, 4, 2, 3]):
        shuffled = outputs[:, order]
        assert predicted(shuffled) == -1
        for c in (0, 1):
            chosen = shuffled[:, order.index(c)]
            assert not among_best(shuffled, chosen, 1)
            assert among_best(shuffled, chosen, 5)


class Photos:
    """Uniform photos, the first pixel of which says what the model answers."""

    name = "photos"
    class_names = tuple(NAMES)
    templates = ("{}",)
    has_masks = False

    def __init__(self, count: int) -> None:
        self.targets = [row % len(NAMES) for row in range(count)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Sample:
        image = Image.new("RGB", (32, 32), (index, index, index))
        return Sample(name=f"photo {index}", image=image, target=self.targets[index])


def fill(image: Image.Image) -> Tensor:
    """An image of the photo's first red value."""
    value = image.getpixel((0, 0))[0]  # type: ignore[index]
    return torch.full((3, image.height, image.width), float(value))


to_tensor = Preprocessing(fill, (0, 0, 0), (1, 1, 1), whole)


class Answers(nn.Module):
    """The logits of photo n are row n of a table."""

    def __init__(self, model: nn.Module, table: Tensor) -> None:
        super().__init__()
        self.model: Any = model
        self.table = table

    def forward(self, images: Tensor) -> Tensor:
        self.model.encode_image(images)
        return self.table[images[:, 0, 0, 0].long()]


TABLE = torch.tensor(
    [
        [5.0, 1.0, 1.0, 0.0, 0.0],  # right: 0
        [2.0, 2.0, 1.0, 0.0, 0.0],  # a tie of 0 and 1
        [1.0, 1.0, NAN, 0.0, 0.0],
        [1.0, -INF, 0.0, 2.0, -INF],  # right: 3
    ]
)


def test_predicted_agrees_with_the_curves(model) -> None:
    """An image is right at the start of deletion where its class is the predicted one."""
    task = Classification(Photos(4), Answers(model, TABLE), to_tensor, "true")
    batch, _ = task.block(range(4))
    assert batch is not None
    assert batch.predicted == [0, -1, -1, 3]
    curves = DeletionInsertion(Answers(model, TABLE), "rise")(
        batch.inputs, torch.rand(4, 4, 4), batch.targets
    )
    right = [guess == target for guess, target in zip(batch.predicted, batch.targets, strict=True)]
    assert curves.deletion.top1[:, 0].tolist() == right == [True, False, False, True]


def test_images_without_a_prediction_are_named_and_left_out(model) -> None:
    task = Classification(Photos(4), Answers(model, TABLE), to_tensor, "predicted")
    batch, errors = task.block(range(4))
    assert batch is not None and batch.targets == [0, 3] and batch.names == ["photo 0", "photo 3"]
    assert [*errors] == [1, 2]
    assert all("no class alone" in error for error in errors.values())
    assert task.block([1, 2]) == (None, errors)


# Targets.


@pytest.mark.parametrize(
    "target",
    [-1, [-1, 0], torch.tensor(-1), torch.tensor([-1, 0]), (-1,), [(-1,), (0,)], 3, [3, 0], True],
)
def test_targets_count_from_zero_in_every_form(target: Any) -> None:
    with pytest.raises(ValueError, match=r"target: expected indices .* from 0"):
        select_target(torch.zeros(2, 3), target)


@pytest.mark.parametrize("target", [(-1, 0), (0, -1), (2, 0), [(0, 1), (1, -1)]])
def test_targets_of_several_dimensions_count_from_zero(target: Any) -> None:
    with pytest.raises(ValueError, match="target: expected indices"):
        select_target(torch.zeros(2, 2, 3), target)


def test_targets_in_range_mean_what_they_mean_in_captum() -> None:
    outputs = torch.arange(12.0).view(2, 2, 3)
    assert select_target(outputs, (1, 2)).tolist() == [5, 11]
    assert select_target(outputs, [(0, 1), (1, 0)]).tolist() == [1, 9]
    assert select_target(outputs[:, 0], torch.tensor([2, 1])).tolist() == [2, 7]


# Not a number: which image, which method.


@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_images_that_are_not_finite(name, classifier, images) -> None:
    images[1, 0, 5, 5] = NAN
    images[3, 2, 0, 0] = INF
    method = explainer(name, classifier)
    match = rf"{type(method).__name__}: expected finite inputs, got .* images \[1, 3\]"
    with pytest.raises(ValueError, match=match):
        ask(method, name, images, 1, internal_batch_size=3)


@pytest.mark.shared(among=2)
@pytest.mark.parametrize("value", [NAN, -INF])
@pytest.mark.parametrize(
    "name", [n for n, m in METHODS.items() if not (m.needs_text or m.needs_masks)]
)
def test_every_method_names_images_whose_score_is_not_finite(name, value, spoilt, images) -> None:
    """With forward_func's own scores; the other images and classes are explained as ever."""
    spoilt.value = value
    method, bright = explainer(name, spoilt), brighten(images, 2)
    if name in ("self-attention", "rollout"):  # ask about no class
        assert ask(method, name, bright, 1).isfinite().all()
        return
    for size in (None, 3):
        match = rf"{type(method).__name__}: expected finite .*scores.* for images \[2\]"
        with pytest.raises(ValueError, match=match):
            ask(method, name, bright, 1, internal_batch_size=size)
    assert ask(method, name, bright, 0).isfinite().all()
    assert ask(method, name, bright[[0, 1, 3]], 1).isfinite().all()


def test_effects_hold_targets_that_are_not_finite(spoilt, images) -> None:
    spoilt.value, spoilt.classes = -INF, (1, 4)
    bright = brighten(images, 0, 3)
    effects = CCI(spoilt, clustering=KMeans(3)).effects(bright)
    plain = CCI(ZeroShotClassifier(spoilt.model, _tokens, NAMES), clustering=KMeans(3))
    assert torch.equal(effects.drops(2), plain.effects(bright).drops(2))
    for ask_for in (effects.drops, effects.weights, effects.patch_map, effects.attributions):
        with pytest.raises(ValueError, match=r"CCI: expected finite scores .* \[0, 3\]"):
            ask_for(4)


def _tokens(texts: list[str]) -> Tensor:
    from toy import ToyTokenizer

    return ToyTokenizer()(texts)


def test_scores_that_are_not_finite_only_where_a_cluster_is_hidden() -> None:
    effects = ClusterEffects(
        labels=torch.tensor([[[0, 1]], [[0, 1]]]),
        outputs=torch.tensor([1.0, 2.0]),
        masked_outputs=torch.tensor([[0.5, 0.25], [-INF, 1.0]]),
        image_shape=(3, 8, 16),
    )
    with pytest.raises(ValueError, match=r"with a cluster hidden, .* for images \[1\]"):
        effects.patch_map()


def test_patch_embeddings_that_are_not_finite_name_their_images(model, images) -> None:
    """Half precision overflows in some images; K-means cannot say in which."""

    def spoil(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        bright = args[0][:, 0, 0, 0] > 100
        return output.masked_fill(bright[:, None, None, None], INF)

    handle = model.visual.conv1.register_forward_hook(spoil)
    try:
        for cls in (CCI, Random):
            method = cls(model.encode_image, model.visual)
            with pytest.raises(ValueError, match=r"expected finite .* for images \[3\]"):
                method.attribute(brighten(images, 3), 0, internal_batch_size=2)
    finally:
        handle.remove()


def test_a_fitted_bottleneck_is_finite(classifier, images) -> None:
    method = M2IB(classifier, steps=1, n_samples=1, lr=INF)
    with pytest.raises(ValueError, match=r"M2IB: expected finite maps, .* \[0, "):
        method.fit(images, 1)


def test_the_curves_refuse_images_that_are_not_finite(classifier, images) -> None:
    images[2] = NAN
    with pytest.raises(ValueError, match=r"DeletionInsertion: .* for images \[2\]"):
        DeletionInsertion(classifier, "rise")(images, torch.rand(4, 4, 4), 0)


def test_a_comparison_names_the_photo(model, tokenizer) -> None:
    failing = _Failing(model, tokenizer, NAMES)
    found = compare(["gradcam"], Photos(3), forward_func=failing, preprocess=to_tensor)
    rows = found.failures[found.failures["method"] == "gradcam"]
    assert rows["image"].tolist() == ["photo 1", "photo 2"]
    assert set(rows["error"]) == {
        "ValueError: expected finite scores of the target, got NaN or infinity"
    }


class _Failing(ZeroShotClassifier):
    """Not finite for any photo but the first, except in the first call, which asks what it sees."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).masked_fill(images[:, :1, 0, 0] > 0, -INF)


# Buffers.


class Reusing(nn.Module):
    """A classifier that writes every output to the same memory, as graphed heads do."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.buffer = torch.zeros(64, len(NAMES))

    def forward(self, images: Tensor) -> Tensor:
        out = self.buffer[: len(images)]
        with torch.no_grad():
            out.copy_(self.classifier(images))
        return out


@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_outputs_that_reuse_a_buffer_are_copied(size, classifier, images) -> None:
    found = CCI(Reusing(classifier)).effects(images, internal_batch_size=size)
    expected = CCI(classifier).effects(images, internal_batch_size=size)
    assert torch.equal(found.outputs, expected.outputs)
    assert torch.equal(found.masked_outputs, expected.masked_outputs)


@pytest.mark.parametrize("protocol", ["rise", "tokens"])
def test_curves_of_outputs_that_reuse_a_buffer(protocol, classifier, images) -> None:
    maps = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0))
    found, expected = (
        DeletionInsertion(f, protocol, internal_batch_size=3)(images, maps, 1).deletion.score
        for f in (Reusing(classifier), classifier)
    )
    assert torch.equal(found, expected)


@pytest.mark.parametrize("cls", [RISE, ClusterLime])
def test_sampled_scores_that_reuse_a_buffer(cls, classifier, images) -> None:
    options = {"n_masks": 12} if cls is RISE else {"n_samples": 12}
    found, expected = (
        cls(f, **options).attribute(images, 1, internal_batch_size=3)
        for f in (Reusing(classifier), classifier)
    )
    assert torch.equal(found, expected)


def _double_in_place(module: nn.Module, args: tuple[Tensor, ...]) -> None:
    args[0].mul_(2)


def test_recorded_tokens_are_copied(make_clip, make_images) -> None:
    model, _ = make_clip(seed=7)
    images = make_images(model, batch=2)
    tower = CCI(ImageTextSimilarity(model)).vision_tower
    tokens = []
    for change in (False, True):
        if change:
            last = model.visual.transformer.resblocks[-1]
            last.register_forward_pre_hook(_double_in_place)
        with torch.no_grad(), tower.record(1) as recording:
            model.encode_image(images)
        tokens.append(recording.tokens)
    assert torch.equal(*tokens)
