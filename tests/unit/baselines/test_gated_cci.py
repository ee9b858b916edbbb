"""Gated CCI against plain loops over clusters, and against the methods that its parts come from."""

from __future__ import annotations

from functools import partial
from typing import Any, get_args

import pytest
import torch
from helpers import NAMES, close, randn
from torch import Tensor

from cci_captum import GateGradient, KMeans, LogProbability, ZeroShotClassifier
from cci_captum.baselines import CLIPSurgery, GatedCCI
from cci_captum.baselines.clip_surgery import Revision
from cci_captum.baselines.gated_cci import PARTS, z_score
from cci_captum.vision_towers import find_vision_tower

pytestmark = pytest.mark.shared(among=2)
TARGET = [0, 1, 4]


@pytest.fixture
def scores(classifier: Any) -> LogProbability:
    return LogProbability(classifier)


@pytest.fixture
def images(model: Any, make_images: Any) -> Tensor:
    return make_images(model)


def z(values: Tensor) -> Tensor:
    """The definition, image by image."""
    rows = [(row - row.mean()) / row.std() for row in values.flatten(1)]
    return torch.stack(rows).view(values.shape)


def loops(scores: LogProbability, images: Tensor, clusters: list[int], part: str) -> Tensor:
    """Sums of z-scores of regions, a pass at a time, an image at a time, by attention masks."""
    tower = find_vision_tower(scores)
    total = torch.zeros(len(images), 16)
    for image, (target, pixels) in enumerate(zip(TARGET, images, strict=True)):
        with torch.no_grad():
            with tower.record() as recording:
                whole = scores(pixels[None])[0, target]
            for count in clusters:
                labels = KMeans(count)(recording.tokens)
                values = torch.zeros(16)
                for cluster in labels.unique():
                    inside = labels == cluster
                    with tower.hide(inside if part == "hidden" else ~inside):
                        score = scores(pixels[None])[0, target]
                    worth = (whole - score) / inside.sum() if part == "hidden" else score
                    values[inside[0]] = worth
                total[image] += (values - values.mean()) / values.std()
    return total.view(-1, 4, 4)


@pytest.mark.parametrize("part", ["hidden", "shown"])
def test_parts_of_regions_are_those_of_plain_loops(scores, images, part: str) -> None:
    found = GatedCCI(scores, clusters=[2, 3]).parts_of(images, TARGET)[part]
    close(found, z(loops(scores, images, [2, 3], part)), 1e-4)


@pytest.mark.parametrize("revision", get_args(Revision))
def test_parts_of_the_first_pass_are_those_of_their_methods(
    scores, images, revision: Revision
) -> None:
    found = GatedCCI(scores, clusters=[2], revision=revision).parts_of(images, TARGET)
    close(found["gradient"], z(GateGradient(scores).patch_map(images, TARGET)), 1e-4)
    values = CLIPSurgery(scores, revision=revision).patch_map(images, TARGET)
    close(found["values"], z(values), 1e-4)


@pytest.mark.parametrize("parts", [PARTS, ("values", "gradient"), ("shown",)])
def test_the_map_is_the_sum_of_its_parts(scores, images, parts) -> None:
    method = GatedCCI(scores, parts=parts, clusters=[3])
    found = method.parts_of(images, TARGET, internal_batch_size=2)
    assert tuple(found) == parts
    for values in found.values():
        assert values.flatten(1).mean(dim=1).abs().max() < 1e-5
        close(values.flatten(1).std(dim=1), torch.ones(3), 1e-5)
    close(method.patch_map(images, TARGET), sum(found.values()), 1e-4)


def test_passes(scores, model, images) -> None:
    """One for gradient and values together, two for each cluster; none where no part asks."""
    for parts, clusters, expected in (
        (("gradient", "values"), (3,), 1),
        (PARTS, (3,), 1 + 2 * 3),
        (("gradient", "hidden"), (2, 3), 1 + 2 + 3),
    ):
        method, rows = GatedCCI(scores, parts=parts, clusters=clusters), []
        count = partial(lambda rows, module, args: rows.extend(args[0]), rows)
        handle = model.visual.register_forward_pre_hook(count)
        method.patch_map(images, TARGET, check=False)
        handle.remove()
        assert len(rows) == expected * len(images)


def test_a_part_that_says_nothing_adds_nothing(scores, images) -> None:
    alone = GatedCCI(scores, parts=("gradient",))
    one = GatedCCI(scores, parts=("gradient", "hidden", "shown"), clusters=[1])
    close(one.patch_map(images, TARGET), alone.patch_map(images, TARGET), 1e-5)
    values = randn(2, 16)
    values[1] = 1000 + 1e-5 * values[1]  # rounding is no difference
    scored = z_score(values)
    close(scored[0], z(values[:1])[0], 1e-6)
    assert not scored[1].any()


def test_without_values_it_explains_what_has_no_texts(model, images) -> None:
    def norm_of_features(inputs: Tensor) -> Tensor:
        return model.encode_image(inputs).norm(dim=-1)

    parts = ("gradient", "hidden", "shown")
    method = GatedCCI(norm_of_features, model.visual, parts=parts, clusters=[3])
    assert method.patch_map(images).isfinite().all()
    with pytest.raises(TypeError, match="expected an ImageTextSimilarity or a ZeroShotClassifier"):
        GatedCCI(norm_of_features, model.visual)


class Spoilt(ZeroShotClassifier):
    """NaN for bright images in the passes from the given one on."""

    first = 0

    def forward(self, images: Tensor) -> Tensor:
        self.first -= 1
        spoilt = (images[:, 0, 0, 0] > 100) & (self.first < 0)
        return super().forward(images).masked_fill(spoilt[:, None], torch.nan)


@pytest.mark.parametrize(
    ("first", "what"),
    [(0, "scores of the target"), (1, "scores of the target with a cluster hidden or shown alone")],
)
def test_scores_that_are_no_numbers_are_no_zeros(model, tokenizer, images, first, what) -> None:
    classifier = Spoilt(model, tokenizer, NAMES)
    images[1, 0, 0, 0] = 200
    method = GatedCCI(classifier, clusters=[3])
    for ask in (method.patch_map, method.parts_of):
        classifier.first = first
        with pytest.raises(ValueError, match=rf"GatedCCI: expected finite {what}, .* \[1\]"):
            ask(images, TARGET, check=False)


def test_slopes_that_are_no_numbers_are_no_zeros(model, tokenizer, images) -> None:
    class Root(ZeroShotClassifier):
        def forward(self, images: Tensor) -> Tensor:
            outputs = super().forward(images)
            return (outputs - outputs.detach()).sqrt()  # 0, with an infinite slope

    method = GatedCCI(Root(model, tokenizer, NAMES), parts=("gradient",))
    with pytest.raises(ValueError, match='GatedCCI: expected finite values of the part "gradient"'):
        method.patch_map(images, TARGET, check=False)


def test_images_with_fewer_clusters_cost_no_pass_for_those_that_they_lack(
    scores, model, images
) -> None:
    images[1] = 0.5  # patches that look alike, but for where they are
    passes = []
    for given in (images, images[:1], images[1:2], images[2:]):
        rows: list[Tensor] = []
        count = partial(lambda rows, module, args: rows.extend(args[0]), rows)
        handle = model.visual.register_forward_pre_hook(count)
        GatedCCI(scores, clusters=[14]).patch_map(given, TARGET[: len(given)], check=False)
        handle.remove()
        passes.append(len(rows))
    assert passes[0] == sum(passes[1:])


class Further(torch.nn.Module):
    """A CLIP that goes on computing with what its image encoder reads out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.clip, self.visual, self.logit_scale = model, model.visual, model.logit_scale

    def encode_image(self, images: Tensor) -> Tensor:
        return self.clip.encode_image(images).flip(-1)

    def encode_text(self, text: Tensor) -> Tensor:
        return self.clip.encode_text(text)


def test_values_of_other_features_are_refused(model, tokenizer, images) -> None:
    classifier = ZeroShotClassifier(Further(model), tokenizer, NAMES, "{}")
    method = GatedCCI(LogProbability(classifier), model.visual, clusters=[2])
    with pytest.raises(TypeError, match="vision_tower: CLIPSurgery takes the tower's read-out"):
        method.patch_map(images, TARGET)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"parts": ()}, ValueError, "parts: expected some of gradient, values, hidden, shown, eac"),
        ({"parts": ("hidden",) * 2}, ValueError, "parts: expected some of gradient, values, "),
        ({"parts": ("score",)}, ValueError, r"parts: expected some of .*, got \('score',\)"),
        ({"parts": "hidden"}, TypeError, "parts: expected a sequence of some of .*, got 'hidden'"),
        (
            {"clusters": 7},
            TypeError,
            "clusters: expected a sequence of numbers of clusters, ea",
        ),
        (
            {"clusters": ()},
            ValueError,
            r"clusters: expected numbers of clusters, each once, ",
        ),
        ({"clusters": ([3], [3])}, ValueError, "clusters: expected numbers of clusters, each"),
        ({"clusters": ([3],)}, ValueError, r"clusters: expected a positive int, got \[3\]"),
        ({"clusters": (3, 0)}, ValueError, "clusters: expected a positive int, got 0"),
        ({"revision": "2024"}, ValueError, "revision: expected one of 2023-04-12, .*, got '2024'"),
    ],
)
def test_errors(scores, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        GatedCCI(scores, **options)
