"""Log probabilities and margins over classes, alone and in every method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import FAST, NAMES, counted_texts
from torch import Tensor, nn

import cci_captum
from cci_captum import (
    CCI,
    Centred,
    ImageTextSimilarity,
    KMeans,
    LogProbability,
    Margin,
    Shared,
    ZeroShotClassifier,
    find_vision_tower,
)
from cci_captum.baselines import M2IB, METHODS, CLIPSurgery, GradECLIP
from cci_captum.models.scores import OF_OUTPUTS, SCORES, find_score, without_score

OVER_CLASSES = [Centred, LogProbability, Margin]
EVERY = sorted(METHODS)
WITH_TEXT = [  # and no score
    name
    for name in EVERY
    if METHODS[name].needs_text and "score" not in {option.name for option in METHODS[name].options}
]
BLACK_BOX = [name for name, m in METHODS.items() if not (m.needs_text or m.needs_masks)]
UNMOVED = ("random", "rollout", "self-attention", "ground-truth")  # read no score at all


class Fixed(nn.Module):
    """Outputs that do not depend on the images."""

    def __init__(self, outputs: Any) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images: Tensor, *args: Any) -> Any:
        return self.outputs


class SharedTexts(nn.Module):
    """Logits of texts that belong to all images: (images, texts) -> (B, C)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.similarity = ImageTextSimilarity(model)

    def forward(self, images: Tensor, texts: Tensor) -> Tensor:
        features = self.similarity.encode_images(images)
        return 10 * features @ self.similarity.encode_texts(texts).T


def make(name: str, forward_func: nn.Module) -> Any:
    return METHODS[name](forward_func, **FAST.get(name, {}))


def explain(name: str, forward_func: nn.Module, images: Tensor, target: Any) -> Tensor:
    options = {"masks": images.mean(dim=1) > 0} if METHODS[name].needs_masks else {}
    return make(name, forward_func).attribute(images, target, **options)


def log_softmax(outputs: Tensor) -> np.ndarray:
    """In float64, in the order of the definition."""
    z = outputs.double().numpy()
    largest = z.max(axis=-1, keepdims=True)
    return z - largest - np.log(np.exp(z - largest).sum(axis=-1, keepdims=True))


def margins(outputs: Tensor) -> np.ndarray:
    """In float64, class by class."""
    z = outputs.double().numpy()
    return np.stack([z[:, c] - np.delete(z, c, axis=1).max(axis=1) for c in range(z.shape[1])], 1)


def above_mean(outputs: Tensor) -> np.ndarray:
    """In float64, class by class."""
    z = outputs.double().numpy()
    return np.stack([z[:, c] - z.sum(axis=1) / z.shape[1] for c in range(z.shape[1])], 1)


TRUTH = {Centred: above_mean, LogProbability: log_softmax, Margin: margins}


# The numbers.


@pytest.mark.parametrize("score", OVER_CLASSES)
@pytest.mark.parametrize("n_classes", [2, 3, 40])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_scores_are_those_of_a_plain_computation(score, n_classes, scale) -> None:
    generator = torch.Generator().manual_seed(n_classes)
    outputs = scale * torch.randn(6, n_classes, generator=generator, dtype=torch.float64)
    outputs[:3] = outputs[:3].mul(2 / scale).round().mul(scale)  # many ties
    assert n_classes < 40 or (outputs[:3] == outputs[:3].amax(1, keepdim=True)).sum() > 3
    for dtype, tolerance in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        given = outputs.to(dtype)
        found = score(Fixed(given))(torch.zeros(6, 3, 8, 8))
        assert found.dtype == dtype
        largest = max(1.0, float(given.abs().max()))
        assert np.abs(found.double().numpy() - TRUTH[score](given)).max() <= tolerance * largest


def test_equal_best_classes_have_no_margin_and_gradients_of_each_other() -> None:
    outputs = torch.tensor([[2.0, 5.0, 5.0], [4.0, 4.0, 4.0], [1.0, 7.0, 3.0]], requires_grad=True)
    found = Margin(Fixed(outputs))(torch.zeros(3, 3, 8, 8))
    assert found.tolist() == [[-3.0, 0.0, 0.0], [0.0, 0.0, 0.0], [-6.0, 4.0, -4.0]]
    for chosen in (1, 2):
        (gradient,) = torch.autograd.grad(found[0, chosen], outputs, retain_graph=True)
        assert gradient[0].tolist() == [0.0, *([1.0, -1.0] if chosen == 1 else [-1.0, 1.0])]


@pytest.mark.parametrize("ahead", [0.1, 5.0, 20.0, 50.0, 80.0])
def test_log_probabilities_and_slopes_of_a_class_that_is_sure(ahead: float) -> None:
    """In float32 p is 1 from 17 nats on; log p = -log(1 + sum of exp(z_j - z_c)) is not 0."""
    outputs = torch.tensor([[0.3, 1.0 + ahead, -2.0, 1.0]], requires_grad=True)
    score = LogProbability(Fixed(outputs))(torch.zeros(1, 3, 8, 8))[0, 1]
    (slopes,) = torch.autograd.grad(score, outputs)
    exact = outputs.detach().double()[0]
    others = [float(exact[j] - exact[1]) for j in (0, 2, 3)]
    total = sum(np.exp(other) for other in others)
    expected = [np.exp(other) / (1 + total) for other in others]
    assert float(score.detach()) == pytest.approx(-np.log1p(total), rel=1e-5, abs=0)
    assert float(slopes[0, 1]) == pytest.approx(sum(expected), rel=1e-5, abs=0)
    found = [-float(slopes[0, j]) for j in (0, 2, 3)]
    assert found == pytest.approx(expected, rel=1e-5, abs=0)


@pytest.mark.parametrize("others", [[-torch.inf] * 2, [-torch.inf, 1.0]])
def test_log_probabilities_beside_classes_that_are_ruled_out(others: list[float]) -> None:
    outputs = torch.tensor([[3.0, *others]], requires_grad=True)
    score = LogProbability(Fixed(outputs))(torch.zeros(1, 3, 8, 8))[0, 0]
    (slopes,) = torch.autograd.grad(score, outputs)
    expected = 0.0 if others[1] < 0 else -np.log1p(np.exp(-2.0))
    assert float(score.detach()) == pytest.approx(expected) and slopes.isfinite().all()
    assert float(slopes.sum()) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_log_probabilities_of_no_numbers_are_none(value: float) -> None:
    outputs = torch.tensor([[3.0, value, 1.0]])
    assert LogProbability(Fixed(outputs))(torch.zeros(1, 3, 8, 8)).isnan().any()


def test_what_all_classes_share_changes_nothing() -> None:
    outputs = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for score in OVER_CLASSES:
        one, other = (score(Fixed(o))(outputs) for o in (outputs, outputs + 17))
        assert (one - other).abs().max() < 1e-13
        assert (one - outputs).abs().max() > 0.1


def test_classes_that_are_ruled_out_harm_no_other() -> None:
    outputs = torch.tensor([[1.0, -torch.inf, 3.0]])
    for score in OVER_CLASSES:
        found = score(Fixed(outputs))(outputs)
        alone = score(Fixed(outputs[:, [0, 2]]))(outputs)
        assert torch.equal(found[:, [0, 2]], alone)
        assert found[0, 1] == -torch.inf


@pytest.mark.parametrize("score", OVER_CLASSES)
def test_half_precision_is_computed_in_float32(score) -> None:
    generator = torch.Generator().manual_seed(1)
    for dtype in (torch.bfloat16, torch.float16):
        outputs = (30 * torch.randn(5, 4, generator=generator)).to(dtype)
        found = score(Fixed(outputs))(outputs)
        assert found.dtype == torch.float32
        assert np.abs(found.double().numpy() - TRUTH[score](outputs)).max() < 1e-4


# What may be wrapped.


@pytest.mark.parametrize("score", OVER_CLASSES)
@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 4, 2), ()])
def test_other_shapes_are_refused(score, shape) -> None:
    with pytest.raises(ValueError, match=rf"forward_func: {score.__name__} .*at least 2 classes"):
        score(Fixed(torch.zeros(shape)))(torch.zeros(3, 3, 8, 8))


@pytest.mark.parametrize("score", OVER_CLASSES)
@pytest.mark.parametrize("outputs", [[1.0, 2.0], torch.zeros(3, 2, dtype=torch.int64), None])
def test_what_is_no_score_is_refused(score, outputs) -> None:
    with pytest.raises(TypeError, match=r"forward_func: .*expected floating point outputs"):
        score(Fixed(outputs))(torch.zeros(3, 3, 8, 8))


@pytest.mark.parametrize("score", OVER_CLASSES)
def test_functions_are_refused(score) -> None:
    with pytest.raises(TypeError, match=r"forward_func: expected a module, got function; put a"):
        score(lambda images: images)


def test_scores_of_outputs_that_were_measured_are_the_modules(classifier, images) -> None:
    """Of any number of axes before the classes."""
    logits = torch.stack([classifier(images), 3 * classifier(images.flip(-1))])
    assert list(OF_OUTPUTS) == list(SCORES)
    for name, of_outputs in OF_OUTPUTS.items():
        each = [find_score(name)(Fixed(outputs))(images) for outputs in logits]
        found = of_outputs(logits)
        assert torch.equal(found, logits if name == "logit" else torch.stack(each))


def test_it_is_a_module_around_the_same_module(classifier, model) -> None:
    nested = Margin(LogProbability(classifier))
    assert nested.forward_func.forward_func is classifier
    assert without_score(nested) is without_score(classifier) is classifier
    assert find_vision_tower(nested).module is model.visual
    assert without_score(3) == 3


def test_scores_by_name(classifier) -> None:
    assert list(SCORES) == ["logit", "centred", "log-probability", "margin"]
    assert find_score("logit")(classifier) is classifier
    assert [type(find_score(n)(classifier)) for n in list(SCORES)[1:]] == OVER_CLASSES
    with pytest.raises(ValueError, match=r"score: expected one of logit, centred, .*, got 'p'"):
        find_score("p")


def test_public_names() -> None:
    for score in OVER_CLASSES:
        assert getattr(cci_captum, score.__name__) is score
        assert score.__name__ in cci_captum.__all__


# In every method.


@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("score", OVER_CLASSES)
def test_every_method_takes_it(score, name, classifier, images) -> None:
    target = [0, 4, 2, 2]
    plain = explain(name, classifier, images, target)
    for forward_func in (score(classifier), Margin(score(classifier))):
        found = explain(name, forward_func, images, target)
        assert found.shape == images.shape
        assert bool(found.isfinite().all())
        if name in UNMOVED or name in WITH_TEXT:
            assert torch.equal(found, plain)
        else:
            assert (found - plain).abs().max() > 1e-3 * plain.abs().max()


@pytest.mark.parametrize("name", WITH_TEXT)
def test_methods_that_compare_with_texts_know_what_they_look_at(name, classifier, images) -> None:
    method = make(name, LogProbability(Margin(classifier)))
    assert method.clip is classifier
    assert method.forward_func.forward_func.forward_func is classifier
    with pytest.raises(TypeError, match=r"or a score over the classes .* LogProbability of Linear"):
        make(name, LogProbability(nn.Linear(2, 2)))
    with pytest.raises(TypeError, match=r"got Margin of ImageTextSimilarity"):
        make(name, Margin(ImageTextSimilarity(classifier.model)))
    with pytest.raises(ValueError, match="target: "):
        method.attribute(images, 5)


def test_fit_and_redundant_texts_under_a_score(classifier, images, tokenizer) -> None:
    for score in OVER_CLASSES:
        fits = [M2IB(f, **FAST["m2ib"]).fit(images, 1) for f in (classifier, score(classifier))]
        assert torch.equal(fits[0].losses, fits[1].losses)
        maps = [
            CLIPSurgery(f, redundant_text=tokenizer([""])).patch_map(images, 1)
            for f in (classifier, score(classifier))
        ]
        assert torch.equal(*maps)


def test_drops_are_those_of_the_log_softmax_by_hand(classifier, images) -> None:
    options = {"clustering": KMeans(3), "normalization": "none"}
    plain = CCI(classifier, **options).effects(images)
    found = CCI(LogProbability(classifier), **options).effects(images)
    assert torch.equal(found.labels, plain.labels)
    for target in range(len(NAMES)):
        whole, hidden = log_softmax(plain.outputs), log_softmax(plain.masked_outputs)
        expected = whole[:, None, target] - hidden[..., target]
        assert np.abs(expected).max() > 0.1
        assert np.abs(found.drops(target).numpy() - expected).max() < 1e-5
        assert np.abs(plain.drops(target).numpy() - expected).max() > 0.1


def test_gradients_are_those_of_a_module_written_by_hand(classifier, images) -> None:
    class ByHand(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, images: Tensor) -> Tensor:
            z = self.classifier(images)
            return z - z.exp().sum(dim=1, keepdim=True).log()

    found, expected, plain = (
        GradECLIP(f).patch_map(images, [0, 4, 2, 2])
        for f in (LogProbability(classifier), ByHand(), classifier)
    )
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (found - plain).abs().max() > 0.01 * expected.abs().max()


# Further arguments.


@pytest.mark.exhaustive
@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", BLACK_BOX)
@pytest.mark.parametrize("score", OVER_CLASSES)
def test_shared_texts_are_encoded_once_a_call(score, name, model, images, tokenizer) -> None:
    """As many texts as images, and more; maps are those of a classifier that knows its texts."""
    for words in (["fox", "ship", "lemon", "jar"], list("abcdefg")):
        texts = tokenizer(words)
        method = make(name, score(SharedTexts(model)))
        if name != "random":  # which runs no check
            method.check_forward_func(images, Shared(texts))
        with counted_texts(model) as rows:
            found = method.attribute(images, [0, 2, 1, 3], Shared(texts), internal_batch_size=3)
        assert sum(rows) == len(words)
        logits = ZeroShotClassifier(model, tokenizer, words, "{}", logit_scale=10.0)
        expected = make(name, score(logits)).attribute(images, [0, 2, 1, 3])
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("score", OVER_CLASSES)
def test_texts_that_are_not_marked_are_refused_as_without_a_score(
    score, model, images, tokenizer
) -> None:
    """One image with one row has one column, over which there is no score."""
    texts = tokenizer(list("abcd"))
    for forward_func in (score(SharedTexts(model)), Margin(score(SharedTexts(model)))):
        for size in (None, 3, 1):
            with pytest.raises(ValueError, match=r"Shared\(tensor\)"):
                CCI(forward_func, clustering=KMeans(3)).attribute(
                    images, 1, texts, internal_batch_size=size
                )
        with pytest.raises(ValueError, match=r"forward_args\[0\]: .*rows make the columns"):
            CCI(forward_func, clustering=KMeans(3)).attribute(images, 1, texts, check=False)


def test_rows_of_further_arguments_are_passed_on(classifier, images) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = classifier

        def forward(self, images: Tensor, scale: Tensor, unit: str) -> Tensor:
            assert unit == "kg"
            return self.classifier(images) * scale[:, None]

    scale = torch.tensor([1.0, 2.0, -3.0, 0.5])
    found = CCI(LogProbability(Scaled()), clustering=KMeans(3)).effects(images, (scale, "kg"))
    plain = CCI(classifier, clustering=KMeans(3)).effects(images)
    expected = log_softmax(plain.masked_outputs * scale[:, None, None])
    assert np.abs(found.masked_outputs.numpy() - expected).max() < 1e-4
