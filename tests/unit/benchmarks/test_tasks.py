"""Retrieval through the loop of comparisons, against brute force; several models; facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Subset
from torchvision.datasets import FakeData
from toy_comparison import PREPROCESS, SEED, Toy, toy_sample

from cci_captum import CCI, ImageTextSimilarity, Margin, ZeroShotClassifier
from cci_captum.baselines import METHODS, MaskCLIP, MethodSpec, Random
from cci_captum.benchmarks.comparison import Comparison, FolderStore, compare, figures, report
from cci_captum.benchmarks.data import MapStyle, Sample, Scenes, open_data
from cci_captum.benchmarks.faithfulness import Protocol, area_under_curve
from cci_captum.benchmarks.statistics import paired_interval
from cci_captum.benchmarks.tasks import KINDS, Classification, Retrieval

TEXTS = [("red kite", "owl", "a jar"), ("blue",), (), ("an igloo", "owl"), ("tram", "bus 9")]
OWNERS = [image for image, own in enumerate(TEXTS) for _ in own]
FLAT = [text for own in TEXTS for text in own]
RECALLS = {f"{way}r{k}": k for way in "it" for k in (1, 5, 10)}
# No noise and no ties: what is painted follows from the map alone.
NEGATIVE = Protocol("negative", (0.0, 0.3, 1.0), torch.neg, torch.neg)


class Gallery:
    """Photos in memory with captions; an exception stands for one that cannot be read."""

    name = "gallery"
    class_names: tuple[str, ...] = ()
    templates = "{}"
    has_masks = False

    def __init__(self, broken: Sequence[int] = ()) -> None:
        self.broken = broken
        self.captions = TEXTS
        self.targets = [-1] * len(TEXTS)
        self.reads = [0] * len(TEXTS)

    def __len__(self) -> int:
        return len(TEXTS)

    def __getitem__(self, index: Any) -> Sample:
        self.reads[index] += 1
        if index in self.broken:
            raise OSError("torn")
        sample = toy_sample(index)
        facts = {"group": f"g{index % 2}", "cocoid": index}
        return Sample(sample.name, sample.image, -1, captions=TEXTS[index], facts=facts)


@pytest.fixture(scope="module")
def clip(make_clip) -> nn.Module:
    return make_clip(seed=3, image_size=32, patch_size=8)[0]


class Noise:
    """Values that all differ, by the image alone: no order of ties, no resizing."""

    def __init__(self, forward_func: Any = None) -> None: ...

    def attribute(self, inputs: Tensor, target: Any = None, additional_forward_args: Any = None):
        seeds = [int(1000 * image.abs().sum()) for image in inputs]
        return (
            torch.stack(
                [torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(s)) for s in seeds]
            )
            .mean(dim=1, keepdim=True)
            .expand(-1, 3, -1, -1)
        )


def task(clip: nn.Module, tokenizer: Callable[..., Tensor], data: Gallery) -> Retrieval:
    return Retrieval(data, clip, tokenizer, PREPROCESS, batch_size=2)


def compared(of: Retrieval, methods: Any = None, **options: Any) -> Comparison:
    methods = {"cci": CCI, "maskclip": MaskCLIP, "noise": Noise} if methods is None else methods
    options = {"protocols": [NEGATIVE], "ties": (), "batch_size": 3, "seed": SEED} | options
    return compare(methods, of, **options)


@pytest.fixture(scope="module")
def found(clip, tokenizer) -> Comparison:
    return compared(task(clip, tokenizer, Gallery()))


# Brute force, in float64: every perturbed image against the whole gallery, one at a time.


def unit(features: Tensor) -> Tensor:
    return F.normalize(features.double(), dim=-1)


def shown(sample: Sample) -> Tensor:
    """What the model sees of a photo: the crop, made smaller."""
    from toy_comparison import BOXES

    return PREPROCESS(sample.image.crop(BOXES[sample.image.size]))


def painted(image: Tensor, values: Tensor, fraction: float, *, insertion: bool) -> Tensor:
    """The image with its most important pixels negated, or the negative with them put back."""
    start, end = (-image, image) if insertion else (image, -image)
    size = values.numel()
    order = sorted(range(size), key=lambda p: -float(values.flatten()[p]))
    result = start.clone()
    for p in order[: int(fraction * size + 0.5)]:
        result[:, p // values.shape[1], p % values.shape[1]] = end[
            :, p // values.shape[1], p % values.shape[1]
        ]
    return result


@torch.no_grad()
def recalled(seen: Tensor, m: int, gallery: Tensor, texts: Tensor) -> dict[str, float]:
    """As CLIP_benchmark counts it, with the perturbed image in its original's place."""
    images = gallery.clone()
    images[OWNERS[m]] = seen
    cosines = images @ texts.T  # images x captions
    by_caption = [i for i in range(len(TEXTS)) if cosines[i, m] > cosines[OWNERS[m], m] - 1e-6]
    order = sorted(range(len(FLAT)), key=lambda c: -float(cosines[OWNERS[m], c]))
    first_own = next(place for place, c in enumerate(order) if OWNERS[c] == OWNERS[m])
    return {"score": float(cosines[OWNERS[m], m])} | {
        name: float((len(by_caption) - 1 if name[0] == "i" else first_own) < k)
        for name, k in RECALLS.items()
    }


def test_the_loop_is_brute_force(clip, tokenizer, found: Comparison) -> None:
    """Maps of the method alone, pixels painted one by one, the gallery searched anew each time."""
    data = Gallery()
    inputs = torch.stack([shown(data[i]) for i in range(len(TEXTS))])
    with torch.no_grad():
        gallery = unit(clip.encode_image(inputs))
        texts = unit(clip.encode_text(tokenizer(FLAT)))
    occurring = set()
    results = found.results.set_index(["method", "index"])
    for name in ("noise",):
        for m, owner in enumerate(OWNERS):
            image = inputs[owner]
            values = Noise().attribute(image[None])[0, 0]
            for direction in ("deletion", "insertion"):
                points = []
                for fraction in NEGATIVE.fractions:
                    picture = painted(image, values, fraction, insertion=direction == "insertion")
                    with torch.no_grad():
                        seen = unit(clip.encode_image(picture[None]))[0]
                    points.append(recalled(seen, m, gallery, texts))
                for value in ("score", *RECALLS):
                    curve = torch.tensor([point[value] for point in points], dtype=torch.float64)
                    area = float(area_under_curve(curve, torch.tensor(NEGATIVE.fractions)))
                    measured = results.loc[(name, m), f"{direction}_{value}"]
                    assert measured == pytest.approx(area, abs=1e-5), (direction, value, m)
                    occurring |= {(value, point) for point in curve.tolist() if value in RECALLS}
    assert {("ir1", 0.0), ("ir1", 1.0), ("tr1", 0.0), ("tr1", 1.0)} <= occurring


def test_unperturbed_recall_is_that_of_the_whole_matrix(clip, tokenizer) -> None:
    of = task(clip, tokenizer, Gallery())
    inputs = torch.stack([shown(Gallery()[i]) for i in range(len(TEXTS))])
    with torch.no_grad():
        images, texts = unit(clip.encode_image(inputs)), unit(clip.encode_text(tokenizer(FLAT)))
    cosines = (texts @ images.T).numpy()
    positive = np.array(OWNERS)[:, None] == np.arange(len(TEXTS))
    for k in (1, 5, 10):
        best = np.argsort(-cosines, axis=1)[:, :k]
        image_recall = np.mean([positive[m, own].any() for m, own in enumerate(best)])
        best = np.argsort(-cosines, axis=0)[:k]
        described = [i for i, own in enumerate(TEXTS) if own]
        text_recall = np.mean([positive[best[:, i], i].any() for i in described])
        assert of.recall[f"ir{k}"] == pytest.approx(image_recall)
        assert of.recall[f"tr{k}"] == pytest.approx(text_recall)


@pytest.mark.exhaustive
def test_a_row_a_caption(clip, tokenizer, found: Comparison) -> None:
    rows = found.results[found.results["method"] == "cci"]
    assert rows["index"].tolist() == rows["target"].tolist() == list(range(len(FLAT)))
    assert rows["image"].tolist()[:4] == ["image 0 #1", "image 0 #2", "image 0 #3", "image 1 #1"]
    assert rows["source"].nunique() == 4 and found.settings["captions"] == len(FLAT)
    assert found.samples["label"].tolist() == FLAT
    assert found.samples["group"].tolist() == [f"g{owner % 2}" for owner in OWNERS]
    assert found.samples["cocoid"].tolist() == OWNERS
    assert found.methods == ["cci", "maskclip", "noise", "random"]
    page = report.page(found)
    assert "8 captions made from 4 photos" in page and "insertion TR@5" in page
    assert "IR@1" in report.text(found) or "IR@5" in report.text(found)
    assert len(figures.grid(found, task(clip, tokenizer, Gallery())).axes) > 3
    figures.curves(found), figures.pairs(found)


def test_each_caption_is_explained_on_its_image(clip, tokenizer, found: Comparison) -> None:
    """Maps that are kept are the method's own, for each caption by itself."""
    for m, owner in enumerate(OWNERS):
        image = shown(Gallery()[owner])[None]
        cci = CCI(ImageTextSimilarity(clip))
        expected = cci.patch_map(image, None, tokenizer([FLAT[m]]))[0]
        assert np.abs(found.map_of(m, "cci") - expected.numpy()).max() < 1e-4


def test_the_gallery_is_read_once_and_images_once_a_block(clip, tokenizer) -> None:
    data = Gallery()
    of = task(clip, tokenizer, data)
    assert data.reads == [1] * 5
    compared(of, {"cci": CCI})
    # Blocks of three captions: 0, 0, 0 | 1, 3, 3 | 4, 4; image 2 has none.
    assert data.reads == [2, 2, 1, 2, 2]


@pytest.mark.exhaustive
def test_every_method_runs_and_scores_over_captions_too(clip, tokenizer) -> None:
    masks = {name for name, method in METHODS.items() if method.needs_masks}
    names = [name for name in METHODS if name not in masks and name != "random"]
    few = {"rise": "rise(masks=20)"}
    specs = [few.get(name, name) for name in names] + ["cci(score=margin)"]
    protocol = Protocol("ends", (0.0, 1.0), "black", "black")
    data = Gallery()
    data.captions = [own[:1] for own in TEXTS]
    found = compared(task(clip, tokenizer, data), specs, protocols=[protocol])
    assert found.failures.empty, found.failures[["method", "error"]].to_string()
    assert found.methods == [*specs, "random"]
    retrieval = task(clip, tokenizer, data)
    cosines = retrieval.retrieval(shown(data[0])[None])[0]
    rivals = [m for m in range(4) if m != 0]
    margin = float(cosines[0] - cosines[rivals].max()) * float(clip.logit_scale.exp())
    question = retrieval.question(MethodSpec("cci", {"score": "margin"}))
    target, args = question.arguments([0])
    with torch.no_grad():
        asked = Margin(question.forward_func)(shown(data[0])[None], args)[0, target[0]]
    assert float(asked) == pytest.approx(margin, rel=1e-4)


def test_a_broken_image_leaves_the_gallery_with_its_captions(clip, tokenizer) -> None:
    of = task(clip, tokenizer, Gallery(broken=[0]))
    found = compared(of, {"cci": CCI}, checks=["random-label"])
    assert found.errors["index"].tolist() == [0, 1, 2] and set(found.errors["error"]) == {"torn"}
    assert found.samples["index"].tolist() == [3, 4, 5, 6, 7]
    assert found.settings["gallery"] == {"images": 4, "captions": 5}
    batch, _ = of.block(range(8))
    for own, other in zip(batch.targets, of.other_targets(batch, 0), strict=True):
        assert OWNERS[own] != OWNERS[other] and OWNERS[other] != 0
    with pytest.raises(ValueError, match=r"data: none of the 5 images of gallery.*torn"):
        task(clip, tokenizer, Gallery(broken=range(5)))
    empty = Gallery()
    empty.captions = [()] * 5
    with pytest.raises(ValueError, match="data: expected images with captions, got none"):
        task(clip, tokenizer, empty)


@pytest.mark.exhaustive
def test_a_run_of_captions_goes_on(clip, tokenizer, found: Comparison, tmp_path: Path) -> None:
    of = task(clip, tokenizer, Gallery())
    compared(of, {"cci": CCI}, store=FolderStore(tmp_path))
    resumed = compared(of, store=FolderStore(tmp_path))
    columns = [name for name in found.results if name != "seconds"]
    pd.testing.assert_frame_equal(resumed.results[columns], found.results[columns])
    resumed.save(tmp_path / "saved")
    loaded = Comparison.load(tmp_path / "saved")
    pd.testing.assert_frame_equal(loaded.samples, resumed.samples)
    assert loaded.kind is KINDS["retrieval"]


# Several models, facts, maps alone.


def classified(make_clip: Any, tokenizer: Any, seed: int, data: Toy) -> Classification:
    clip = make_clip(seed=seed, image_size=32, patch_size=8)[0]
    return Classification(data, ZeroShotClassifier(clip, tokenizer, data.class_names), PREPROCESS)


@pytest.mark.exhaustive
def test_several_models_are_one_comparison(make_clip, tokenizer, tmp_path: Path) -> None:
    data = Toy([toy_sample(index) for index in range(4)])
    store = FolderStore(tmp_path / "parts")
    options: dict[str, Any] = {"protocols": [NEGATIVE], "ties": (), "store": store}
    parts = [
        compare(
            ["gradcam"], classified(make_clip, tokenizer, seed, data), model=f"m{seed}", **options
        )
        for seed in (1, 2)
    ]
    both = Comparison.join(parts)
    assert both.models == ["m1", "m2"] and len(both.results) == 2 * len(parts[0].results)
    both.save(tmp_path / "both")
    loaded = Comparison.load(tmp_path / "both")
    for part in parts:
        name = part.settings["model"]
        for whole in (both, loaded):
            own = whole.of(name)
            pd.testing.assert_frame_equal(own.results, part.results)
            assert own.settings == part.settings
        rows = both.summary()[both.summary()["model"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows, part.summary())
    page = report.page(both)
    assert (
        "## m1" in page
        and "### Where maps lie" in page
        and 'm2, under "negative"' in report.text(both)
    )
    with pytest.raises(ValueError, match=r"model: expected one of m1, m2, got 'm3'"):
        both.of("m3")
    for draw in (figures.curves, figures.pairs):
        with pytest.raises(ValueError, match="expected that of one model"):
            draw(both)
    with pytest.raises(ValueError, match="expected one of each model, got m1, m1"):
        Comparison.join([parts[0], parts[0]])
    with pytest.raises(ValueError, match=r"store: .*weights '"):  # another model of that name
        compare(["gradcam"], classified(make_clip, tokenizer, 3, data), model="m1", **options)
    other = compare(
        ["gradcam"],
        classified(make_clip, tokenizer, 3, data),
        [NEGATIVE],
        ties=(),
        seed=1,
        model="m3",
    )
    with pytest.raises(
        ValueError, match="expected the same seed of every model, got 0 and, of m3, 1"
    ):
        Comparison.join([parts[0], other])


def test_maps_alone(make_clip, tokenizer) -> None:
    """Without protocols: where maps lie, as with them."""
    of = classified(make_clip, tokenizer, 1, Toy([toy_sample(index) for index in range(4)]))
    alone, judged = (compare(["gradcam"], of, p, ties=()) for p in ([], [NEGATIVE]))
    columns = ["index", "method", "target", "energy", "iou", "forward_passes"]
    pd.testing.assert_frame_equal(alone.results[columns], judged.results[columns])
    assert alone.protocols == [""] and "deletion_top1" not in alone.results
    assert alone.points().empty
    page = report.page(alone)
    assert "## Where maps lie" in page and "Deletion" not in page
    assert "energy" in report.text(alone)
    assert len(figures.grid(alone, of).axes) > 3


def test_where_maps_lie_beside_random_ones(make_clip, tokenizer) -> None:
    """Differences to the reference, paired, as the statistics give them of the measures' values."""
    of = classified(make_clip, tokenizer, 1, Toy([toy_sample(index) for index in range(12)]))
    found = compare(["gradcam", "self-attention"], of, [], ties=())
    rows = found.results.sort_values("index").groupby("method")
    random = rows.get_group("random")
    page = report.page(found, "random")
    assert "differences to Random are paired" in page
    table = page.split("| minus Random | ")[1].split("\n\n")[0].splitlines()
    head = table[0].strip("| ").split(" | ")
    assert head == ["pointing game", "energy", "best IoU", "average precision"]
    cells = {line.strip("| ").split(" | ")[0]: line.strip("| ").split(" | ")[1:] for line in table}
    assert "Random" not in cells
    for method, name in (("gradcam", "GradCAM"), ("self-attention", "Self-attention")):
        for measure, cell in zip(("pointing_game", "energy"), cells[name], strict=False):
            own, other = rows.get_group(method)[measure], random[measure]
            low, high = paired_interval(own.to_numpy(), other.to_numpy(), bounds=(0, 1))
            difference = own.mean() - other.mean()
            assert cell == f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
    with pytest.raises(ValueError, match=r"reference: expected one of gradcam, .*got 'cci'"):
        report.page(found, "cci")


@pytest.mark.exhaustive
def test_a_reference_that_one_model_refuses(make_clip, tokenizer) -> None:
    """Its page compares with its first method instead."""

    def picky(forward_func: Any) -> Any:
        if forward_func is not kept.forward_func:
            raise ValueError("another model")
        return Random(forward_func, seed=1)

    data = Toy([toy_sample(index) for index in range(3)])
    kept, other = (classified(make_clip, tokenizer, seed, data) for seed in (1, 2))
    methods = {"picky": picky, "own": lambda f: Random(f, seed=2)}
    parts = [compare(methods, of, [], model=name) for name, of in (("a", kept), ("b", other))]
    both = Comparison.join(parts)
    assert both.of("b").methods[0] == "own"
    first, second = report.page(both).split("## b\n")
    assert "differences to picky" in first and "differences to own" in second


def test_facts_are_columns(make_clip, tokenizer) -> None:
    samples = [toy_sample(index) for index in range(3)]
    known = [{"group": 1}, {"group": "a", "size": 2}, {}]
    data = Toy(
        [
            Sample(s.name, s.image, s.target, s.mask, facts=facts)
            for s, facts in zip(samples, known, strict=True)
        ]
    )
    found = compare(["gradcam"], classified(make_clip, tokenizer, 1, data), [], batch_size=2)
    assert found.samples["group"].tolist()[:2] == ["1", "a"]
    assert found.samples["size"][1] == 2 and found.samples["size"].isna().tolist() == [1, 0, 1]
    assert found.samples["label"].tolist() == [data.class_names[s.target] for s in samples]
    data.samples = [Sample("a", samples[0].image, 0, samples[0].mask, facts={"target": 1})]
    data.targets = [0]
    with pytest.raises(ValueError, match=r"facts: expected names other than .*got 'target' of a"):
        compare(["gradcam"], classified(make_clip, tokenizer, 1, data), [])


def test_a_subset_is_the_images_at_its_places(make_clip, tokenizer, tmp_path: Path) -> None:
    """Numbers are those of the whole run's rows; another part is another configuration."""
    model, _ = make_clip(seed=3, image_size=32, patch_size=8)
    scenes = Scenes(6, size=32, seed=4)
    classifier = ZeroShotClassifier(model, tokenizer, scenes.class_names, "{}")

    def measured(data: Any, **options: Any) -> pd.DataFrame:
        task = Classification(data, classifier, PREPROCESS)
        found = compare({"maskclip": MaskCLIP}, task, [NEGATIVE], ties=(), **options)
        kept = found.results[found.results["method"] == "maskclip"].set_index("image")
        return kept[["target", "source", "energy", "deletion_score", "insertion_score"]]

    places = [4, 1]
    part = Subset(Subset(scenes, [0, 1, 4, 5]), [2, 1])
    whole = measured(scenes).loc[[f"scene {place}" for place in places]]
    pd.testing.assert_frame_equal(measured(part), whole, rtol=1e-4, atol=1e-5)
    store = FolderStore(tmp_path)
    measured(part, store=store)
    with pytest.raises(ValueError, match=r"^store: "):
        measured(Subset(scenes, [4, 2]), store=store)

    retrieval = Retrieval(Subset(Gallery(), [4, 0]), model, tokenizer, PREPROCESS)
    assert [retrieval.label(place) for place in range(len(retrieval))] == [*TEXTS[4], *TEXTS[0]]


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (Subset([("a.png", "cat")], [0]), TypeError, "data: expected images .*, got list without"),
        (FakeData(2), TypeError, r"got FakeData without .*MapStyle\(dataset\) makes them"),
        (Subset(Scenes(3), [1, 1]), ValueError, "each image once in a Subset, got 1 again"),
        (Subset(Scenes(3), [3]), IndexError, "index: expected -3 to 2, got 3"),
    ],
)
def test_data_that_a_task_cannot_take(
    data: Any, error: type[Exception], message: str, clip: nn.Module, tokenizer: Any
) -> None:
    classifier = ZeroShotClassifier(clip, tokenizer, ["a"], "{}")
    with pytest.raises(error, match=message):
        Classification(data, classifier, PREPROCESS)
    with pytest.raises(error, match=message):
        Retrieval(data, clip, tokenizer, PREPROCESS)


def test_images_need_no_map_style() -> None:
    for data in (Scenes(3), Subset(Scenes(3), [1])):
        with pytest.raises(TypeError, match="got samples, which need no MapStyle"):
            MapStyle(data)
    with pytest.raises(TypeError, match=r"^data: expected a str, got Subset; MapStyle\(dataset\)"):
        open_data(Subset(Scenes(3), [1]))  # type: ignore[arg-type]


def test_a_task_has_its_own_model(make_clip, tokenizer) -> None:
    of = classified(make_clip, tokenizer, 1, Toy([toy_sample(0)]))
    for name, value in (("forward_func", nn.Identity()), ("explained", "true")):
        with pytest.raises(TypeError, match=f"{name}: expected None beside a task"):
            compare(["cci"], of, **{name: value})
    with pytest.raises(TypeError, match="preprocess: expected a function"):
        compare(["cci"], Toy([toy_sample(0)]), forward_func=of.forward_func)


def test_a_picture_is_what_the_model_sees(make_clip, tokenizer) -> None:
    of = classified(make_clip, tokenizer, 1, Toy([toy_sample(1)]))
    assert isinstance(of.photo(0), Image.Image) and of.photo(0).size == (32, 32)
