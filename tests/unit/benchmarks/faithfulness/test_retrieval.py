"""Retrieval by deletion and insertion against plain float64 loops, and against standard recall."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import Failure, randn
from torch import Tensor, nn
from torch.utils.data import Dataset

from cci_captum import CCI, ImageTextSimilarity, find_vision_tower, load_clip
from cci_captum.baselines import GradECLIP
from cci_captum.benchmarks.faithfulness import (
    DeletionInsertion,
    FaithfulnessCurves,
    Protocol,
    area_under_curve,
)
from cci_captum.benchmarks.faithfulness.retrieval import CaptionRetrieval
from cci_captum.benchmarks.scenes import Scene, SceneGenerator

RECALLS = {f"{way}r{k}": k for way in "it" for k in (1, 5, 10)}
SIDES = ("deletion", "insertion")
NEGATIVE = Protocol("negative", (0.0, 0.2, 0.5, 1.0), torch.neg, lambda x: x.flip(-1))
ENDS = Protocol("ends", (0.0, 1.0), "black", "black")
TEXTS = [
    ["red kite", "owl", "a jar"],
    ["blue", "two ships"],
    ["an igloo", "lemons", "owl"],  # "owl" again, of another image
    ["fox on snow", "fox on snow"],  # the same caption twice
    [],  # an image that nothing describes
    ["tram", "bus 9", "rain"],
    ["zebra", "a hill"],
    ["an igloo", "ice"],  # its image is image 2 again, see `_gallery`
    ["moth", "lamp"],
    ["a fan"],
    ["oak"],
    ["two oars"],
    ["sand"],
]
OWNERS = [image for image, own in enumerate(TEXTS) for _ in own]
FLAT = [text for own in TEXTS for text in own]
World = tuple[nn.Module, Tensor, CaptionRetrieval]


class Refusing(nn.Module):
    """A model that must not be run."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def encode_image(self, images: Tensor) -> Tensor:
        raise Failure

    def encode_text(self, text: Tensor) -> Tensor:
        raise Failure


class Corner(Refusing):
    """A model whose image feature is the first pixel."""

    def encode_image(self, images: Tensor) -> Tensor:
        return images[:, :, 0, 0]


def unit_rows(count: int, size: int, seed: int = 0) -> Tensor:
    return F.normalize(randn(count, size, seed=seed), dim=1)


def _gallery(make_clip: Any, make_images: Any) -> tuple[nn.Module, Tensor]:
    """A random model and thirteen images, of which two are the same."""
    model, _ = make_clip(seed=3, image_size=16, patch_size=4)
    images = make_images(model, batch=13, seed=4)
    images[7] = images[2]
    return model, images


@pytest.fixture(scope="module")
def world(make_clip, make_images, tokenizer) -> World:
    model, images = _gallery(make_clip, make_images)
    return model, images, CaptionRetrieval.from_pairs(model, tokenizer, images, TEXTS)


def recalled(
    retrieval: CaptionRetrieval,
    images: Tensor,
    maps: Tensor,
    captions: Tensor,
    protocol: Protocol | str = NEGATIVE,
    **options: Any,
) -> FaithfulnessCurves:
    harness = DeletionInsertion(retrieval, protocol, score=retrieval.recalls, **options)
    return harness(images, maps, captions)


# The task, in plain loops.


@torch.no_grad()
def vector(encode: Callable[[Tensor], Tensor], x: Tensor) -> list[float]:
    """The unit feature of one image or text."""
    values = encode(x[None])[0].tolist()
    length = sum(value**2 for value in values) ** 0.5
    return [value / length for value in values]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def painted(image: Tensor, values: Tensor, fraction: float, fill: Tensor) -> Tensor:
    """The image with its most important pixels taken from `fill`, one by one."""
    result = image.clone()
    order = sorted(range(values.numel()), key=lambda p: -values.flatten()[p].item())
    for p in order[: int(fraction * values.numel() + 0.5)]:
        y, x = divmod(p, values.shape[1])
        result[:, y, x] = fill[:, y, x]
    return result


def plain_recalls(
    seen: Sequence[float], caption: int, images: list[list[float]], texts: list[list[float]]
) -> dict[str, float]:
    """Score and recalls of one perturbed image, explained for one caption."""
    own, text = OWNERS[caption], texts[caption]
    score = cosine(seen, text)
    others = [cosine(image, text) for i, image in enumerate(images) if i != own]
    wrong = [cosine(seen, other) for m, other in enumerate(texts) if OWNERS[m] != own]
    best = max(cosine(seen, other) for m, other in enumerate(texts) if OWNERS[m] == own)
    as_high = {
        "i": sum(value > score - 1e-6 for value in others),
        "t": sum(value > best - 1e-6 for value in wrong),
    }
    return {"score": score, **{name: float(as_high[name[0]] < k) for name, k in RECALLS.items()}}


def test_recalls_are_plain_loops(make_clip, make_images, tokenizer) -> None:
    """Every caption on its own image, in float64, with equal images and equal captions."""
    model, images = _gallery(make_clip, make_images)
    model, images = model.double(), images.double()
    retrieval = CaptionRetrieval.from_pairs(model, tokenizer, images, TEXTS, batch_size=4)
    captions, maps = torch.arange(len(FLAT)), randn(len(FLAT), 16, 16, seed=5)
    found = recalled(retrieval, images[retrieval.image_of_caption], maps, captions)
    areas = found.auc()

    gallery = [vector(model.encode_image, image) for image in images]
    texts = [vector(model.encode_text, tokenizer(text)[0]) for text in FLAT]
    occurring = set()
    for side, (c, owner) in product(SIDES, enumerate(OWNERS)):
        image = images[owner]
        start, end = (image, -image) if side == "deletion" else (image.flip(-1), image)
        points = []
        for fraction in NEGATIVE.fractions:
            seen = vector(model.encode_image, painted(start, maps[c], fraction, end))
            points.append(plain_recalls(seen, c, gallery, texts))
        for name in ("score", *RECALLS):
            expected = torch.tensor([point[name] for point in points], dtype=torch.float64)
            actual = getattr(getattr(found, side), name)[c]
            assert (actual - expected).abs().max() < 1e-6, (side, name, c)
            area = float(area_under_curve(expected, found.fractions))
            assert float(areas[f"{side}_{name}"][c]) == pytest.approx(area, abs=1e-6)
            occurring |= {(name, value) for value in expected.tolist() if name in RECALLS}
    assert occurring == set(product(RECALLS, (0.0, 1.0)))


def test_unperturbed_recall_is_the_standard_one(make_clip, make_images, tokenizer) -> None:
    """IR@k a caption; TR@k an image, which is a hit where any of its captions is."""
    model, _ = make_clip(seed=5, image_size=16, patch_size=4)
    images = make_images(model, batch=12, seed=6)
    texts = [[f"{chr(97 + 2 * i + j)}{i * j} {'mu' * j}" for j in range(3)] for i in range(12)]
    retrieval = CaptionRetrieval.from_pairs(model, tokenizer, images, texts)
    captions = torch.arange(36)
    shown = images[retrieval.image_of_caption]
    found = recalled(retrieval, shown, randn(36, 16, 16), captions, ENDS).deletion

    with torch.no_grad():
        features = F.normalize(model.encode_image(images).double(), dim=1)
        embedded = model.encode_text(tokenizer([text for own in texts for text in own]))
        cosines = (features @ F.normalize(embedded.double(), dim=1).T).numpy()
    best_images, best_texts = np.argsort(-cosines, axis=0), np.argsort(-cosines, axis=1)
    rates = []
    for k in (1, 5, 10):
        image_recall = [c // 3 in best_images[:k, c] for c in range(36)]
        text_recall = [i in best_texts[i, :k] // 3 for i in range(12)]
        assert getattr(found, f"ir{k}")[:, 0].tolist() == image_recall
        by_caption = getattr(found, f"tr{k}")[:, 0].view(12, 3).T
        assert [column.tolist() for column in by_caption] == [text_recall] * 3
        rates += [np.mean(image_recall), np.mean(text_recall)]
    assert all(0 < rate < 1 for rate in rates[:5])


def test_equal_images_and_captions_are_not_told_apart() -> None:
    """Images 0 and 1 are one photo and have the same caption; image 2 is nearer to caption 2."""
    features = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])
    images = features[:, :, None, None].expand(-1, -1, 4, 4)
    features = features * torch.tensor([[1.0], [1 + 3e-7], [1.0]])  # another pass rounds otherwise
    texts = torch.tensor([[0.6, 0.0, 0.8], [0.6, 0.0, 0.8], [0.0, 1.0, 0.0], [0.8, 0.6, 0.0]])
    retrieval = CaptionRetrieval(Corner(), features, texts, torch.tensor([0, 1, 2, 0]))
    captions = torch.tensor([0, 1, 2, 3])
    assert retrieval(images[:2], captions[:2]).isneginf().tolist() == [
        [False, False, False, True],
        [False, False, False, False],
    ]
    shown, maps = images[[0, 1, 2, 0]], randn(4, 4, 4)
    found = recalled(retrieval, shown, maps, captions, ENDS).deletion
    # Captions 0 and 1 are as near to both photos, which are one; caption 3 is nearest to image 2.
    assert found.ir1[:, 0].tolist() == [0, 0, 1, 0]
    # Image 0 is as near to caption 1, of image 1, as to caption 0, but owns caption 3, the nearest;
    # images 1 and 2 are nearer to that than to their own.
    assert found.tr1[:, 0].tolist() == [1, 0, 0, 1]
    assert found.ir5[:, 0].tolist() == found.tr5[:, 0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("gallery", [1, 3, 400])
def test_image_recall_counts_the_images_above(gallery: int) -> None:
    """From scores alone; the thresholds are computed in parts of 1024 captions."""
    images, texts = unit_rows(gallery, 4, seed=1).double(), unit_rows(2500, 4, seed=2).double()
    owners = torch.randint(gallery, (2500,), generator=torch.Generator().manual_seed(3))
    retrieval = CaptionRetrieval(Refusing(), images, texts, owners)
    captions = torch.arange(7, 2500, 50)
    own = torch.zeros(len(captions), 2500).double()
    noise = randn(len(captions), seed=4).double()
    score = 0.9 + 0.1 * noise if gallery == 400 else noise / 2
    rows = torch.arange(len(captions))
    own[rows, captions] = score
    found = retrieval.recalls(own, captions)
    assert torch.equal(found.score, score)
    cosines = (texts @ images.T).numpy()
    for b, c in enumerate(captions.tolist()):
        above = int((np.delete(cosines[c], owners[c]) > float(score[b])).sum())
        hits = [found.ir1[b], found.ir5[b], found.ir10[b]]
        assert hits == [above < 1, above < 5, above < 10]
    assert gallery < 400 or 0 < found.ir1.mean() < found.ir5.mean() < found.ir10.mean() < 1


def test_what_is_no_number_retrieves_nothing() -> None:
    """Of NaN cosines nothing is known; one NaN of another image's caption is a rival."""
    owners = torch.tensor([0, 0, 1, 1, 2])
    retrieval = CaptionRetrieval(Refusing(), unit_rows(3, 4), unit_rows(5, 4), owners)
    cosines = torch.zeros(3, 5)
    cosines[0, 0], cosines[1, 1], cosines[2, 3] = 1.0, torch.nan, torch.nan
    cosines[2, 0] = 1.0
    found = retrieval.recalls(cosines, torch.tensor([0, 0, 0]))
    assert found.tr1.tolist() == [1, 0, 0]
    assert found.tr5.tolist() == [1, 0, 1]


def test_batches_change_nothing(world: World) -> None:
    """Eight at once are eight one by one, and parts of three."""
    _, images, retrieval = world
    captions, maps = torch.tensor([0, 3, 5, 7, 8, 13, 15, 17]), randn(8, 16, 16, seed=7)
    shown = images[retrieval.image_of_caption[captions]]
    whole = recalled(retrieval, shown, maps, captions).auc()
    parts = recalled(retrieval, shown, maps, captions, internal_batch_size=3).auc()
    rows = [slice(i, i + 1) for i in range(8)]
    single = [recalled(retrieval, shown[r], maps[r], captions[r]).auc() for r in rows]
    for name, area in whole.items():
        alone = torch.cat([areas[name] for areas in single])
        # A caption found in one and not in the other would move an area by a tenth or more.
        assert (area - alone).abs().max() <= 1e-6, name
        assert (area - parts[name]).abs().max() <= 1e-6, name


# The module.


def test_cosines_are_those_of_similarity(world: World, tokenizer) -> None:
    model, images, retrieval = world
    captions = torch.tensor([0, 6, 9])
    shown = images[retrieval.image_of_caption[captions]]
    with torch.no_grad():
        cosines = retrieval(shown, captions)
        for m, text in enumerate(FLAT):
            expected = ImageTextSimilarity(model)(shown, tokenizer([text] * 3))
            for b, c in enumerate(captions.tolist()):
                if OWNERS[m] == OWNERS[c] and m != c:
                    assert cosines[b, m] == -torch.inf
                else:
                    assert abs(float(cosines[b, m] - expected[b])) < 1e-6
    owls = [m for m, text in enumerate(FLAT) if text == "owl"]
    unrelated = retrieval(images[[8]], torch.tensor([len(FLAT) - 1]))[0, owls]
    assert unrelated[0] == unrelated[1]


def test_methods_explain_the_caption(world: World, tokenizer) -> None:
    """Maps are those of the cosine with the caption: with gradients and without."""
    model, images, retrieval = world
    assert find_vision_tower(retrieval).module is model.visual
    captions = torch.tensor([1, 4, 10])
    shown = images[retrieval.image_of_caption[captions]]
    tokens = tokenizer([FLAT[c] for c in captions])
    for method in (CCI, GradECLIP):
        found = method(retrieval).patch_map(shown, captions, captions)
        expected = method(ImageTextSimilarity(model)).patch_map(shown, None, tokens)
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_tokens_are_hidden_in_the_model_of_the_task(world: World) -> None:
    _, images, retrieval = world
    captions = torch.tensor([3, 12])
    shown = images[retrieval.image_of_caption[captions]]
    curves = recalled(retrieval, shown, randn(2, 4, 4), captions, "tokens")
    cosines = retrieval(shown, captions).gather(1, captions[:, None])[:, 0]
    assert (curves.deletion.score[:, 0] - cosines).abs().max() < 1e-6
    assert (curves.insertion.score[:, -1] - cosines).abs().max() < 1e-6
    assert curves.auc()["deletion_ir1"].shape == (2,)


class Photos(Dataset):
    """Images that are read one by one."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def test_galleries_of_any_batch_size_and_source(world: World, tokenizer) -> None:
    model, images, expected = world
    assert expected.image_of_caption.tolist() == OWNERS
    captions = torch.tensor([2, 11])
    shown = images[[0, 5]]
    for inputs, batch_size in ((images, 1), (Photos(images), 4), (iter(images), 100)):
        found = CaptionRetrieval.from_pairs(model, tokenizer, inputs, TEXTS, batch_size)
        same = (found(shown, captions) - expected(shown, captions)).abs()
        assert same[~same.isnan()].max() < 1e-6
        assert (found._rivals - expected._rivals).abs().max() < 1e-6


# Errors, before the model is run.


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"image_features": unit_rows(3, 4) * 2}, ValueError, "image_features: .*length 2"),
        ({"image_features": torch.full((3, 4), torch.nan)}, ValueError, "image_features: .*nan"),
        ({"image_features": torch.ones(3, 4).long()}, TypeError, "image_features: .*int64"),
        ({"image_features": torch.ones(4)}, ValueError, r"image_features: .*\(4,\)"),
        ({"text_features": randn(5, 4)}, ValueError, "text_features: .*row 0"),
        ({"text_features": torch.ones(0, 4)}, ValueError, r"text_features: .*\(0, 4\)"),
        ({"text_features": unit_rows(5, 3)}, ValueError, "text_features: expected 4 .*got 3"),
        ({"image_of_caption": torch.tensor([0, 1, 2, 3, 0])}, ValueError, "image_of.* 0 to 3"),
        ({"image_of_caption": torch.tensor([0, 1, 2, -1, 0])}, ValueError, "image_of.* -1 to 2"),
        ({"image_of_caption": torch.tensor([0, 1])}, ValueError, r"image_of.*\(5,\).*\(2,\)"),
        ({"image_of_caption": torch.zeros(5)}, TypeError, "image_of_caption: .*float32"),
        ({"image_of_caption": [0, 0, 1, 1, 2]}, TypeError, "image_of_caption: .*list"),
        ({"model": nn.Linear(2, 2)}, TypeError, "model: .*Linear"),
    ],
)
def test_bad_galleries(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {
        "model": Refusing(),
        "image_features": unit_rows(3, 4),
        "text_features": unit_rows(5, 4),
        "image_of_caption": torch.tensor([0, 0, 1, 1, 2]),
    }
    CaptionRetrieval(**arguments)
    with pytest.raises(error, match=message):
        CaptionRetrieval(**{**arguments, **change})


BAD_CAPTIONS = [
    (torch.tensor([0, 5]), ValueError, "captions: expected indices from 0 to 4, got 0 to 5"),
    (torch.tensor([-1, 0]), ValueError, "captions: .*-1"),
    (torch.tensor([0]), ValueError, r"captions: expected shape \(2,\), got \(1,\)"),
    (torch.tensor(0), ValueError, r"captions: expected shape \(2,\), got \(\)"),
    (torch.tensor([0.0, 1.0]), TypeError, "captions: .*float32"),
    ([0, 1], TypeError, "captions: .*list"),
]


@pytest.mark.parametrize(("captions", "error", "message"), BAD_CAPTIONS)
def test_bad_captions(captions: Any, error: type[Exception], message: str) -> None:
    owners = torch.tensor([0, 0, 1, 1, 2])
    retrieval = CaptionRetrieval(Refusing(), unit_rows(3, 4), unit_rows(5, 4), owners)
    with pytest.raises(error, match=message):
        retrieval(torch.zeros(2, 3, 4, 4), captions)
    with pytest.raises(error, match=message):
        retrieval.recalls(torch.zeros(2, 5), captions)


@pytest.mark.parametrize("shape", [(2,), (2, 4), (2, 1, 5)])
def test_outputs_of_something_else(shape: tuple[int, ...]) -> None:
    owners = torch.tensor([0, 0, 1, 1, 2])
    retrieval = CaptionRetrieval(Refusing(), unit_rows(3, 4), unit_rows(5, 4), owners)
    with pytest.raises(ValueError, match=r"cosines: expected shape \(n, 5\)"):
        retrieval.recalls(torch.zeros(shape), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("count", "captions", "options", "error", "message"),
    [
        (3, [["a"], ["b"]], {}, ValueError, "captions: .*each of the 3 images, got 2"),
        (2, [["a"], "bus"], {}, TypeError, r"captions\[1\]: .*'bus'"),
        (2, [[], []], {}, ValueError, "captions: expected at least one caption"),
        (2, [["a"], ["b"]], {"batch_size": 0}, ValueError, "batch_size: .*0"),
    ],
)
def test_bad_pairs(
    tokenizer, count: int, captions: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        CaptionRetrieval.from_pairs(
            Refusing(), tokenizer, torch.zeros(count, 3, 4, 4), captions, **options
        )


def test_bad_images(world: World, tokenizer) -> None:
    """What can be known of a stream only when it is read."""
    model, images, _ = world
    with pytest.raises(ValueError, match="each of the 8 images, got 13"):
        CaptionRetrieval.from_pairs(model, tokenizer, iter(images[:8]), TEXTS)
    with pytest.raises(ValueError, match=r"inputs: expected images of shape \(B, 3, H, W\)"):
        CaptionRetrieval.from_pairs(model, tokenizer, images.split(1), TEXTS)


# The embedded trained model.


def described(count: int) -> list[Scene]:
    """Scenes of one object that their captions name, no two captions alike."""
    scenes: dict[str, Scene] = {}
    for scene in SceneGenerator(seed=17).scenes(range(3 * count), kind="one"):
        if scene.class_names[0] in scene.caption:
            scenes.setdefault(scene.caption, scene)
    assert len(scenes) >= count
    return list(scenes.values())[:count]


@pytest.mark.exhaustive
def test_masks_beat_random_maps() -> None:
    """Deleting the object that the caption names costs more recall than deleting at random."""
    model, preprocess, tokenizer, _ = load_clip("tiny")
    scenes = described(24)
    normalize = preprocess.transforms[-1]  # type: ignore[attr-defined]
    images = normalize(torch.stack([scene.image for scene in scenes]))
    retrieval = CaptionRetrieval.from_pairs(
        model, tokenizer, images, [[scene.caption] for scene in scenes]
    )
    captions = torch.arange(24)
    masks = torch.stack([scene.masks[0] for scene in scenes]).float()
    protocol = Protocol("three points", (0.0, 0.1, 0.3), "uniform-noise", "black")
    by_mask, by_chance = (
        recalled(retrieval, images, maps, captions, protocol)
        for maps in (masks, torch.rand(masks.shape, generator=torch.Generator().manual_seed(0)))
    )
    assert by_mask.deletion.ir1[:, 0].mean() > 0.7
    assert by_mask.deletion.tr1[:, 0].mean() > 0.7
    found, chance = by_mask.auc(), by_chance.auc()
    for recall in ("ir1", "tr1"):
        assert found[f"deletion_{recall}"].mean() < chance[f"deletion_{recall}"].mean() - 0.1
        assert found[f"insertion_{recall}"].mean() > chance[f"insertion_{recall}"].mean()
