"""The comparison against its parts called by hand, one image at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, Saliency
from matplotlib.figure import Figure
from scipy import stats
from selection import exhaustive_unless, quick_first
from torch import Tensor, nn
from torchvision import transforms
from toy_comparison import NAMES, PREPROCESS, SEED, Toy, by_hand, run, toy_sample

from cci_captum import CCI, ZeroShotClassifier
from cci_captum.baselines import METHODS, GradECLIP, find_method
from cci_captum.benchmarks.comparison import CHECKS, Comparison, figures, report
from cci_captum.benchmarks.comparison.randomization import (
    rank_correlation,
    with_random_weights,
)
from cci_captum.benchmarks.comparison.summary import add_ranks
from cci_captum.benchmarks.data import Sample
from cci_captum.benchmarks.faithfulness import PROTOCOLS, DeletionInsertion, Protocol
from cci_captum.benchmarks.localization import MEASURES
from cci_captum.benchmarks.maps import raw_map
from cci_captum.benchmarks.statistics import holm, interval, paired_interval, paired_p_value
from cci_captum.benchmarks.tasks import KINDS, Classification
from cci_captum.benchmarks.tasks.classification import random_labels
from cci_captum.clustering import KMeans

METHOD_NAMES = ("cci", "grad-eclip", "rollout")
PROTOCOL_NAMES = ("grad-eclip", "grad-eclip-original", "tokens")
REFERENCES = ("random", "ground-truth")
LOCALIZATION = {measure.name: measure.function for measure in MEASURES}
AREAS = tuple(
    f"{direction}_{measure}"
    for direction in ("deletion", "insertion")
    for measure in ("score", "probability", "top1", "top5")
)
UNDER_TIES = tuple(
    f"{direction}_{measure}_{order}"
    for direction in ("deletion", "insertion")
    for measure in ("top1", "probability")
    for order in ("random", "raster", "reversed")
)


class Maskless(Toy):
    """Without masks."""

    has_masks = False

    def __getitem__(self, index: Any) -> Sample:
        sample = super().__getitem__(index)
        return Sample(sample.name, sample.image, sample.target)


class Boom:
    """An explainer that must not run, or whose failure is the test."""

    def __init__(self, forward_func: nn.Module) -> None:
        self.forward_func = forward_func

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        self.forward_func(inputs)
        raise RuntimeError("explained")


class Flat:
    """An explainer that says nothing."""

    def __init__(self, forward_func: nn.Module) -> None:
        pass

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        return torch.zeros_like(inputs)


class World(NamedTuple):
    """A classifier, data, and the comparison that most tests look at."""

    classifier: ZeroShotClassifier
    data: Toy
    found: Comparison


@pytest.fixture(scope="module")
def classifier(make_clip: Any, tokenizer: Any) -> ZeroShotClassifier:
    """In double precision, so that batches change nothing."""
    model, _ = make_clip(1, layers=2)
    for weights in model.parameters():
        weights.requires_grad_(False)
    return ZeroShotClassifier(model.double(), tokenizer, NAMES, "{}").eval()


@pytest.fixture(scope="module")
def world(classifier: ZeroShotClassifier) -> World:
    data = Toy([toy_sample(index) for index in range(5)])
    found = run(classifier, data, METHOD_NAMES, PROTOCOL_NAMES, checks=CHECKS, batch_size=5)
    return World(classifier, data, found)


def map_by_hand(world: World, method: str, check: str, sample: Sample) -> Tensor:
    one, model, target = by_hand(sample), world.classifier, sample.target
    if check == "random-weights":
        model = with_random_weights(model, SEED)
    if check == "random-label":
        (target,) = random_labels(one.inputs, [target], len(NAMES), SEED)
    return raw_map(find_method(method)(model), one.inputs, [target], masks=one.mask)


def rows_of(frame: pd.DataFrame, **keys: Any) -> pd.DataFrame:
    for name, value in keys.items():
        frame = frame[frame[name] == value]
    return frame


ALL = [
    *itertools.product((*METHOD_NAMES, *REFERENCES), [""]),
    *itertools.product(METHOD_NAMES, CHECKS),
]


# The table.


def test_a_row_an_image_method_check_and_protocol(world: World) -> None:
    keys = ["protocol", "check", "method", "index", "image"]
    expected = {
        (protocol, check, method, index, f"image {index}")
        for protocol, (method, check), index in itertools.product(PROTOCOL_NAMES, ALL, range(5))
    }
    rows = list(world.found.results[keys].itertuples(index=False, name=None))
    assert set(rows) == expected and len(rows) == len(expected)
    assert world.found.methods == [*METHOD_NAMES, *REFERENCES]
    assert world.found.protocols == list(PROTOCOL_NAMES)
    assert len(world.found.curves) == len(expected)
    assert len(world.found.points()) == len(expected) * 2 * 11
    assert world.found.errors.empty
    assert world.found.settings["images"] == 5 and world.found.settings["classes"] == 7


# Every method, every check, and references.
PAIRS = [("rollout", ""), ("cci", CHECKS[0]), ("grad-eclip", CHECKS[1]), ("ground-truth", "")]


@pytest.mark.parametrize(
    ("method", "check"),
    [exhaustive_unless(pair in PAIRS, *pair) for pair in ALL],
)
def test_values_are_those_of_the_parts(world: World, method: str, check: str) -> None:
    for index, protocol in itertools.product((0, 3), PROTOCOL_NAMES):
        sample = world.data[index]
        one = by_hand(sample)
        maps = map_by_hand(world, method, check, sample)
        harness = DeletionInsertion(world.classifier, protocol, seed=SEED, preprocess=PREPROCESS)
        images = [one.photo] if protocol == "grad-eclip-original" else one.inputs
        expected = {
            name: float(v) for name, v in harness(images, maps, [sample.target]).auc().items()
        }
        assert set(expected) == set(AREAS)
        expected |= {name: float(f(maps, one.mask)) for name, f in LOCALIZATION.items()}
        (row,) = rows_of(
            world.found.results, index=index, method=method, check=check, protocol=protocol
        ).to_dict("records")
        assert {name: row[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        assert row["target"] == sample.target
        assert row["predicted"] == int(world.classifier(one.inputs).argmax())


@pytest.mark.exhaustive
def test_areas_are_those_of_the_curves(world: World) -> None:
    keys = ["index", "method", "check", "protocol"]
    table = world.found.results.set_index(keys).sort_index()
    for (*key, direction), part in world.found.points().groupby([*keys, "direction"]):
        x = torch.tensor(part["fraction"].to_numpy())
        assert len(x) == 11 and (x.diff() > 0).all()
        for measure in ("score", "probability", "top1", "top5"):
            area = torch.trapezoid(torch.tensor(part[measure].to_numpy()), x) / (x[-1] - x[0])
            found = table.loc[tuple(key), f"{direction}_{measure}"]
            assert found == pytest.approx(area.item(), abs=1e-6)


@pytest.mark.parametrize("protocol", ["grad-eclip", "tokens"])
@pytest.mark.parametrize("method", ["cci", "ground-truth", "random"])
def test_ties_are_shown_with_what_they_decide(world: World, method: str, protocol: str) -> None:
    """The tied share by counting, areas of a harness whose protocol has that order."""
    rows = rows_of(world.found.results, method=method, protocol=protocol)
    assert rows[rows["check"] != ""]["tied"].notna().all()
    assert rows[rows["check"] != ""][list(UNDER_TIES)].isna().all(axis=None)
    for index, sample in enumerate(world.data.samples[:2]):
        one = by_hand(sample)
        maps = map_by_hand(world, method, "", sample)
        size = (32, 32) if protocol == "grad-eclip" else (4, 4)
        ranked = maps.double()
        if maps.shape[1] < size[0]:
            ranked = F.interpolate(ranked[:, None], size, mode="bilinear", align_corners=False)
        elif maps.shape[1] > size[0]:
            ranked = F.adaptive_avg_pool2d(ranked, size)
        _, inverse, counts = ranked.float().unique(return_inverse=True, return_counts=True)
        (row,) = rows_of(rows, check="", index=index).to_dict("records")
        assert row["tied"] == pytest.approx((counts[inverse] > 1).double().mean().item())
        for order in ("random", "raster", "reversed"):
            harness = DeletionInsertion(
                world.classifier, replace(PROTOCOLS[protocol], ties=order), seed=SEED
            )
            areas = harness(one.inputs, maps, [sample.target]).auc()
            for name in ("deletion_top1", "insertion_top1", "deletion_probability"):
                expected = areas[name].item()
                assert row[f"{name}_{order}"] == pytest.approx(expected, abs=1e-6)
        assert row["deletion_probability_random"] == row["deletion_probability"]  # its own order


@pytest.mark.exhaustive
def test_orders_of_ties_are_a_choice(world: World) -> None:
    data = Toy(world.data.samples[:1])
    found = run(world.classifier, data, ["cci"], ties=("raster",)).results
    assert {*found.columns} & {*UNDER_TIES} == {n for n in UNDER_TIES if n.endswith("raster")}
    found = run(world.classifier, data, ["cci"], ties=())
    assert not {*found.results.columns} & {*UNDER_TIES}
    assert found.results["tied"].notna().all()
    assert "| method | tied |\n" in report.page(found)
    with pytest.raises(ValueError, match="ties: expected some of random, raster, reversed, got"):
        run(world.classifier, data, ["cci"], ties=("columns",))


def test_the_data_are_no_trivial_ones(world: World) -> None:
    found = world.found.results[world.found.results["check"] == ""]
    for name in (*AREAS, "energy", "iou", "average_precision"):
        assert found[name].nunique() > 3, name


# Costs.


def test_forward_passes_are_counted(classifier: ZeroShotClassifier) -> None:
    expected = {
        "cci": 8,
        "grad-eclip": 1,
        "maskclip": 1,
        "cluster-ablation": 9,
        "cluster-lime": 101,
        "cluster-kernelshap": 101,
        "random": 1,
        "ground-truth": 0,
    }
    data = Toy([toy_sample(index) for index in range(2)])
    found = run(classifier, data, list(expected)[:-2], ["tokens"], batch_size=2).results
    assert found.groupby("method")["forward_passes"].unique().map(list).to_dict() == {
        name: [passes] for name, passes in expected.items()
    }
    assert (found["seconds"] >= 0).all()


# Ranks.


def test_ranks_are_counted_by_hand(world: World) -> None:
    table = world.found.results
    for index, protocol in itertools.product(range(5), PROTOCOL_NAMES):
        rows = rows_of(table, index=index, protocol=protocol, check="")
        rows = rows[rows["method"].isin(METHOD_NAMES)].to_dict("records")
        for direction, sign in (("deletion", 1), ("insertion", -1)):
            values = [sign * row[f"{direction}_probability"] for row in rows]
            for row, value in zip(rows, values, strict=True):
                better, equal = (sum(f(v) for v in values) for f in (value.__gt__, value.__eq__))
                assert row[f"{direction}_rank"] == better + (equal + 1) / 2
    others = table["method"].isin(REFERENCES) | (table["check"] != "")
    assert table.loc[others, ["deletion_rank", "insertion_rank"]].isna().all(axis=None)
    assert table.loc[~others, ["deletion_rank", "insertion_rank"]].notna().all(axis=None)


def test_ties_share_the_mean_of_their_places() -> None:
    values = {"a": (0.2, 0.5), "b": (0.1, 0.5), "c": (0.2, 0.9), "random": (0.0, 1.0)}
    frame = pd.DataFrame(
        [
            {"index": 0, "protocol": "p", "method": method, "check": ""}
            | {"deletion_probability": deletion, "insertion_probability": insertion}
            for method, (deletion, insertion) in values.items()
        ]
    )
    ranked = add_ranks(frame, KINDS["classification"]).set_index("method")
    assert ranked["deletion_rank"][:3].to_dict() == {"a": 2.5, "b": 1, "c": 2.5}
    assert ranked["insertion_rank"][:3].to_dict() == {"a": 2.5, "b": 2.5, "c": 1}
    assert math.isnan(ranked["deletion_rank"]["random"])


# The summary.


@pytest.mark.parametrize("reference", [None, exhaustive_unless(False, "random")])
def test_summary_is_computed_by_hand(world: World, reference: str | None) -> None:
    summary = world.found.summary(reference)
    reference = reference or "cci"
    table = dict(list(world.found.results.groupby(["method", "check", "protocol"])))

    def values(method: str, check: str, protocol: str, measure: str) -> np.ndarray:
        rows = table[method, check, protocol or "tokens"].sort_values("index")
        return rows[measure].to_numpy(dtype=float)

    assert not summary.duplicated(["protocol", "check", "method", "measure"]).any()
    assert set(summary["measure"]) == {
        *AREAS,
        *UNDER_TIES,
        "tied",
        *LOCALIZATION,
        *("deletion_rank", "insertion_rank", "forward_passes", "seconds", "similarity"),
    }
    p_values: dict[tuple[str, str, str], list[float]] = {}
    for row in summary.to_dict("records"):
        key, bounds = (row["protocol"], row["measure"]), bounds_of(row["measure"])
        assert (row["protocol"] == "") == (row["measure"] not in row_measures())
        own = values(row["method"], row["check"], *key)
        known = own[~np.isnan(own)]
        expected = {"mean": known.mean(), "n": len(known)}
        expected["low"], expected["high"] = interval(known, bounds=bounds)
        other = values(reference, "", *key)
        both = ~np.isnan(own - other)
        p_value = math.nan
        if (row["method"], row["check"]) != (reference, "") and both.any():
            pair = own[both], other[both]
            p_value = paired_p_value(*pair, bounds=bounds)
            expected["difference"] = (own - other)[both].mean()
            expected["difference_low"], expected["difference_high"] = paired_interval(
                *pair, bounds=bounds
            )
        else:
            assert all(math.isnan(row[f"difference{end}"]) for end in ("", "_low", "_high"))
        p_values.setdefault((*key, row["check"]), []).append(p_value)
        found = {name: row[name] for name in expected}
        assert found == pytest.approx(expected, abs=1e-9, nan_ok=True)
    for (protocol, measure, check), together in p_values.items():
        rows = rows_of(summary, protocol=protocol, measure=measure, check=check)
        assert rows["p_holm"].tolist() == pytest.approx(holm(together), nan_ok=True)


def bounds_of(measure: str) -> tuple[float, float]:
    """The range of a measure of three methods."""
    if measure.endswith("rank"):
        return 1, 3
    if measure == "similarity":
        return -1, 1
    of_any_size = measure.endswith("score") or measure in ("forward_passes", "seconds")
    return (-math.inf, math.inf) if of_any_size else (0, 1)


def drawn(photos: int, copies: int) -> Comparison:
    """Two methods on images made from photos, which differ from one photo to another alone."""
    rng = np.random.default_rng(0)
    areas = {method: rng.beta(2, 3, size=photos) for method in ("a", "b")}
    frame = pd.DataFrame(
        {"model": "m", "index": index, "image": f"{index}", "source": f"photo {index // copies}"}
        | {"method": method, "check": "", "protocol": "p"}
        | {"deletion_top1": area[index // copies]}
        for method, area in areas.items()
        for index in range(photos * copies)
    )
    return Comparison(frame, frame[:0], frame[:0], {})


def test_images_of_one_photo_count_as_one() -> None:
    ends = ["mean", "low", "high", "difference", "difference_low", "difference_high", "p_holm"]
    once, copied = drawn(12, 1), drawn(12, 5)
    expected = once.summary("a")[ends].to_numpy()
    assert np.allclose(copied.summary("a")[ends], expected, equal_nan=True)
    assert (copied.summary("a")["n"] == 60).all()
    without = Comparison(copied.results.drop(columns="source"), *[once.errors] * 2, {}).summary("a")
    narrower = (without["high"] - without["low"]) / (expected[:, 2] - expected[:, 1])
    assert (narrower < 0.5).all()


@pytest.mark.exhaustive
def test_sources_come_from_the_samples(world: World) -> None:
    samples = [replace(sample, source=f"photo {i // 2}") for i, sample in enumerate(world.data)]
    found = run(world.classifier, Toy(samples), ["cci"])
    sources = dict(zip(found.results["index"], found.results["source"], strict=True))
    assert sources == {i: f"photo {i // 2}" for i in range(5)}
    assert set(found.curves["source"]) == set(sources.values())
    assert set(world.found.results["source"]) == set(world.found.results["image"])
    assert "5 images made from 3 photos" in report.page(found)
    assert "made from" not in report.page(world.found)
    assert "no interval" in report.page(found)  # of three photos
    assert words_on(figures.pairs(found)).count("(no interval)") == 2
    figures.curves(found)


def test_holm_is_told_in_the_page() -> None:
    """One difference that is sure alone and not among all, one that is sure among all."""
    comparison = drawn(12, 1)
    frame = comparison.results
    rng, base = np.random.default_rng(1), frame[frame["method"] == "a"]
    others = [
        base.assign(method=f"m{i}", deletion_top1=base["deletion_top1"] + shift + noise)
        for i, (shift, noise) in enumerate(
            (shift, 0.02 * rng.normal(size=12)) for shift in (0.2, 0.01, 0, 0, 0, 0, 0)
        )
    ]
    summary = Comparison(pd.concat([base, *others]), frame[:0], frame[:0], {}).summary("a")
    rows = summary.set_index("method")
    assert rows.loc["m0", "p_holm"] < 0.05 < rows.loc["m1", "p_holm"]
    assert rows.loc["m1", "difference_low"] > 0
    line = report._together(summary, "deletion_top1", "a")
    assert line.endswith("all 7 comparisons taken together (Holm, 5 %): m0.")


def row_measures() -> set[str]:
    """Measures that a protocol has a say in."""
    return {*AREAS, *UNDER_TIES, "tied", "deletion_rank", "insertion_rank"}


def test_summary_of_some_measures(world: World) -> None:
    summary = world.found.summary(measures=["energy", "deletion_top1"])
    (row,) = rows_of(summary, method="rollout", check="", measure="energy").to_dict("records")
    own, cci = (
        rows_of(world.found.results, method=name, check="", protocol="tokens")["energy"].to_numpy()
        for name in ("rollout", "cci")
    )
    ends = row["low"], row["high"]
    assert ends == pytest.approx(interval(own, bounds=(0, 1)), abs=1e-12)
    ends = row["difference_low"], row["difference_high"]
    assert ends == pytest.approx(paired_interval(own, cci, bounds=(0, 1)), abs=1e-12)
    assert list(summary["measure"].unique()) == ["energy", "deletion_top1"]
    with pytest.raises(ValueError, match=r"measures: .*energy.*precision_at_9"):
        world.found.summary(measures=["precision_at_9"])
    with pytest.raises(ValueError, match=r"reference: .*cci.*occlusion"):
        world.found.summary("occlusion")


def test_disagreement_is_the_range_over_methods(world: World) -> None:
    for protocol in (None, *PROTOCOL_NAMES):
        gaps = {}
        for index in range(5):
            rows = rows_of(
                world.found.results, index=index, protocol=protocol or "grad-eclip", check=""
            )
            gains = [
                row["insertion_probability"] - row["deletion_probability"]
                for row in rows.to_dict("records")
                if row["method"] in METHOD_NAMES
            ]
            gaps[index] = max(gains) - min(gains)
        found = world.found.disagreement(protocol)
        assert found.to_dict() == pytest.approx(gaps)
        assert list(found.index) == sorted(gaps, key=lambda index: -gaps[index])


# What must change nothing.


def same(one: Comparison, other: Comparison, without: Sequence[str] = ()) -> None:
    drop = ["seconds", *without]
    pairs = [
        (one.results.drop(columns=drop), other.results.drop(columns=drop)),
        (one.curves, other.curves),
    ]
    for pair in pairs:
        first, second = (frame.reset_index(drop=True) for frame in pair)
        pd.testing.assert_frame_equal(first, second, rtol=0, atol=1e-7)


def part_of(found: Comparison, **chosen: Sequence[str]) -> Comparison:
    """The rows of some methods, checks and protocols."""
    frames = []
    for frame in (found.results, found.curves):
        for name, values in chosen.items():
            frame = frame[frame[name].isin(values)]
        frames.append(frame)
    return Comparison(*frames, errors=found.errors, settings=found.settings)


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [1, 3, 8])
def test_batches_change_nothing(world: World, size: int) -> None:
    protocols, checks = ["grad-eclip", "tokens"], ["random-label"]
    options = {"internal_batch_size": 7, "batch_size": size}
    found = run(world.classifier, world.data, METHOD_NAMES, protocols, checks=checks, **options)
    same(part_of(world.found, protocol=protocols, check=["", *checks]), found)


def test_other_methods_and_protocols_change_nothing(world: World) -> None:
    alone = run(world.classifier, world.data, ["grad-eclip"], ["tokens"], checks=["random-label"])
    chosen = {
        "method": ["grad-eclip", *REFERENCES],
        "check": ["", "random-label"],
        "protocol": ["tokens"],
    }
    same(part_of(world.found, **chosen), alone, without=["deletion_rank", "insertion_rank"])
    assert set(alone.results["deletion_rank"].dropna()) == {1}


@pytest.mark.exhaustive
def test_the_seed_decides(world: World) -> None:
    names = ["cci", "random"]
    first, again, other = (
        run(world.classifier, world.data, names, seed=seed) for seed in (SEED, SEED, SEED + 1)
    )
    same(first, again)
    assert (first.results["deletion_score"] != other.results["deletion_score"]).any()


@pytest.mark.exhaustive
def test_names_and_factories_are_the_same_methods(world: World) -> None:
    by_name = run(world.classifier, world.data, ["grad-eclip", "cci", "cci"])
    factories = {name: METHODS[name].cls for name in ("grad-eclip", "cci")}
    same(by_name, run(world.classifier, world.data, factories))


def state(module: nn.Module) -> tuple[Any, ...]:
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return (
        {name: value.clone() for name, value in module.state_dict().items()},
        [sum(len(getattr(m, name)) for name in hooks) for m in module.modules()],
        [m.training for m in module.modules()],
        [(p.requires_grad, p.grad is None) for p in module.parameters()],
    )


def assert_same_state(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    assert one[1:] == other[1:] and one[0].keys() == other[0].keys()
    assert all(torch.equal(value, other[0][name]) for name, value in one[0].items())


@pytest.mark.exhaustive
@pytest.mark.parametrize("fails", [exhaustive_unless(fails, fails) for fails in (False, True)])
def test_the_model_and_data_stay_as_they_are(world: World, fails: bool) -> None:
    before = state(world.classifier)
    images = [sample.image.tobytes() for sample in world.data.samples]
    methods = {name: METHODS[name].cls for name in METHOD_NAMES} | ({"boom": Boom} if fails else {})
    data = Toy(world.data.samples[:2])
    found = run(world.classifier, data, methods, PROTOCOL_NAMES, checks=CHECKS)
    failures = set(found.failures[["method", "error"]].itertuples(index=False, name=None))
    assert failures == ({("boom", "RuntimeError: explained")} if fails else set())
    assert found.methods == [*METHOD_NAMES, *REFERENCES]
    assert_same_state(before, state(world.classifier))
    assert images == [sample.image.tobytes() for sample in world.data.samples]
    assert torch.is_grad_enabled()


# References.


@pytest.mark.parametrize(
    ("kind", "explained", "references"),
    quick_first(
        [
            (Toy, "true", ["random", "ground-truth"]),
            (Toy, "predicted", ["random"]),
            (Maskless, "true", ["random"]),
            (Maskless, "predicted", ["random"]),
        ],
        2,
    ),
)
def test_references(world: World, kind: Any, explained: Any, references: list[str]) -> None:
    data = kind(world.data.samples)
    found = run(world.classifier, data, ["cci", *references[1:]], explained=explained)
    assert found.methods == ["cci", *references]
    has_masks = "ground-truth" in references
    assert ("energy" in found.results) == has_masks
    table = found.results
    if explained == "predicted":
        assert (table["target"] == table["predicted"]).all()
    else:
        targets = {sample.name: sample.target for sample in world.data.samples}
        assert (table["target"] == table["image"].map(targets)).all()
        assert (table["target"] != table["predicted"]).any()
    page = report.page(found)
    assert ("Where maps lie" in page) == has_masks


def test_references_that_cannot_be(world: World) -> None:
    with pytest.raises(ValueError, match="methods: ground-truth needs masks"):
        run(world.classifier, Maskless(world.data.samples), ["ground-truth"])
    with pytest.raises(ValueError, match=r"methods\['random'\]: expected another name"):
        run(world.classifier, world.data, {"random": Boom})
    with pytest.raises(ValueError, match=r"protocol: expected one of .*, got 'typo'"):
        world.found.disagreement("typo")


def test_a_crop_that_cuts_twice_is_refused(world: World) -> None:
    steps = [transforms.Resize(40), transforms.CenterCrop(32), *PREPROCESS.transforms[-2:]]
    with pytest.raises(ValueError, match="preprocess: expected a central crop as large as"):
        run(world.classifier, world.data, {"boom": Boom}, preprocess=transforms.Compose(steps))


def test_the_mask_itself_is_found(world: World) -> None:
    rows = rows_of(world.found.results, method="ground-truth")
    assert rows[list(LOCALIZATION)].to_numpy() == pytest.approx(1.0)


@pytest.mark.exhaustive
def test_references_alone(world: World) -> None:
    found = run(world.classifier, world.data, ["random"])
    assert found.methods == list(REFERENCES)
    assert "nan" not in report.page(found).lower()


# Captum's own methods.


def test_captum_s_methods(world: World) -> None:
    class Steps(IntegratedGradients):
        def attribute(self, inputs: Tensor, target: Any) -> Tensor:  # type: ignore[override]
            return super().attribute(inputs, target=target, n_steps=4)

    methods = {"saliency": Saliency, "ig": Steps, "cci 3": lambda f: CCI(f, clustering=KMeans(3))}
    found = run(world.classifier, world.data, methods).results
    expected = {"saliency": 1, "ig": 4, "cci 3": 4}
    for name, passes in expected.items():
        assert set(rows_of(found, method=name)["forward_passes"]) == {passes}
    sample = world.data[1]
    one = by_hand(sample)
    maps = Saliency(world.classifier).attribute(one.inputs.clone(), target=sample.target)
    harness = DeletionInsertion(world.classifier, seed=SEED)
    areas = harness(one.inputs, maps.mean(dim=1), sample.target).auc()
    (row,) = rows_of(found, method="saliency", index=1).to_dict("records")
    for name, value in areas.items():
        assert row[name] == pytest.approx(float(value), abs=1e-6)


# Images that cannot be read.


@pytest.mark.exhaustive
def test_the_rest_goes_on(world: World) -> None:
    samples: list[Any] = list(world.data.samples)
    samples[1:1] = [OSError("torn")]
    samples += [ValueError("empty")]
    found = run(world.classifier, Toy(samples), ["cci"], batch_size=3)
    expected = run(world.classifier, world.data, ["cci"])
    assert found.errors.to_dict("records") == [
        {"model": "", "index": 1, "reason": "torn", "error": "torn"},
        {"model": "", "index": 6, "reason": "empty", "error": "empty"},
    ]
    assert found.settings["images"] == 5
    assert sorted(found.results["index"].unique()) == [0, 2, 3, 4, 5]
    for frames in (found.results, expected.results):
        assert len(frames) == 15
    columns = ["image", "method", *AREAS, *LOCALIZATION]
    pd.testing.assert_frame_equal(found.results[columns], expected.results[columns], atol=1e-7)
    page = report.page(found)
    assert "torn" in page and "empty" in page


def test_nothing_can_be_read(world: World) -> None:
    with pytest.raises(ValueError, match=r"none of the 2 images of toy.*torn"):
        run(world.classifier, Toy([OSError("torn"), OSError("lost")]))


def test_errors_of_other_kinds_are_not_swallowed(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        run(world.classifier, Toy([toy_sample(0), ZeroDivisionError()]))


# Bad arguments.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"methods": ["cci", "limes"]}, ValueError, "method: .*grad-eclip.*'limes'"),
        ({"methods": "cci"}, ValueError, "methods: .*'cci'"),
        ({"methods": []}, ValueError, "methods: expected at least one"),
        ({"methods": {"cci": 3}}, TypeError, r"methods\['cci'\].*int"),
        ({"methods": {"mine": "limes"}}, ValueError, "method: .*grad-eclip.*'limes'"),
        ({"methods": ["cci", Boom]}, TypeError, "methods: .* got Boom; with methods of one's own"),
        ({"protocols": ["rice"]}, ValueError, "protocol: .*rise.*'rice'"),
        ({"protocols": "rise"}, ValueError, "protocols: .*'rise'"),
        (
            {"protocols": [], "data": Maskless([toy_sample(0)])},
            ValueError,
            "protocols: expected at least one",
        ),
        ({"protocols": ["rise", "rise"]}, ValueError, "protocols: .*own name"),
        ({"checks": ["random-wights"]}, ValueError, "checks: .*random-weights.*random-wights"),
        ({"checks": "random-label"}, ValueError, "checks: .*'random-label'"),
        ({"explained": "false"}, ValueError, "explained: .*'false'"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"internal_batch_size": 0}, ValueError, "internal_batch_size"),
        ({"data": Toy([])}, ValueError, "data: .*toy has none"),
        ({"data": Toy([toy_sample(0, target=7)])}, ValueError, "data: .*0 to 6, got 7 at place 0"),
        ({"data": Toy([toy_sample(0, target=-1)])}, ValueError, "data: .*got -1"),
        (
            {"data": Toy([toy_sample(0), toy_sample(1, target=7)]), "batch_size": 1},
            ValueError,
            "data: .*0 to 6, got 7 at place 1 of toy",
        ),
        ({"forward_func": lambda images: images}, TypeError, "forward_func: .*function"),
        (
            {"preprocess": transforms.Compose([transforms.Pad(3), *PREPROCESS.transforms])},
            ValueError,
            "preprocess: .*Pad",
        ),
    ],
)
def test_bad_arguments_are_refused_before_the_work(
    world: World, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    options = {"methods": {"boom": Boom}, "data": world.data, "protocols": ["tokens"]} | options
    methods, data, protocols = (options.pop(name) for name in ("methods", "data", "protocols"))
    with pytest.raises(error, match=message):
        run(world.classifier, data, methods, protocols, **options)


def test_classes_that_do_not_fit(world: World) -> None:
    data = Toy(world.data.samples)
    data.class_names, data.targets = NAMES[:-1], [0] * len(data)
    with pytest.raises(ValueError, match=r"forward_func: .*6 classes of toy.*7"):
        run(world.classifier, data, {"boom": Boom})


# Checks.


def test_random_weights_are_the_same_numbers_elsewhere(world: World) -> None:
    before = state(world.classifier)
    shuffled = with_random_weights(world.classifier, seed=3)
    assert_same_state(before, state(world.classifier))
    visual = dict(world.classifier.model.visual.named_parameters())
    for name, weights in shuffled.model.visual.named_parameters():
        assert torch.equal(weights.flatten().sort().values, visual[name].flatten().sort().values)
        if visual[name].unique().numel() > 1:
            assert not torch.equal(weights, visual[name]), name
    for name, weights in shuffled.state_dict().items():
        if "visual" not in name:
            assert torch.equal(weights, before[0][name]), name
    shared = {p.data_ptr() for p in shuffled.parameters()}
    assert not shared & {p.data_ptr() for p in world.classifier.parameters()}
    same_seed, other_seed = (
        with_random_weights(world.classifier, seed).model.visual.proj for seed in (3, 4)
    )
    assert torch.equal(same_seed, shuffled.model.visual.proj)
    assert not torch.equal(other_seed, same_seed)


def test_random_labels_are_other_labels() -> None:
    images = torch.rand(1500, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    targets = [row % 5 for row in range(1500)]
    labels = random_labels(images, targets, 5, seed=0)
    assert all(label != target for label, target in zip(labels, targets, strict=True))
    steps = np.bincount([(b - a) % 5 for a, b in zip(targets, labels, strict=True)], minlength=5)
    assert steps[0] == 0 and stats.chisquare(steps[1:]).pvalue > 1e-3
    assert labels[700:703] == random_labels(images[700:703], targets[700:703], 5, seed=0)
    assert labels != random_labels(images, targets, 5, seed=1)
    assert random_labels(images[:9], [0, 1] * 4 + [0], 2, seed=5) == [1, 0] * 4 + [1]
    with pytest.raises(ValueError, match=r"num_classes: .*got 1"):
        random_labels(images, targets, 1, seed=0)


@pytest.mark.parametrize("levels", [3, 1000])
def test_rank_correlation_is_spearman_s(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    maps, others = (torch.randint(levels, (6, 5, 7), generator=generator).float() for _ in "ab")
    expected = [
        stats.spearmanr(one.flatten(), other.flatten()).statistic
        for one, other in zip(maps, others, strict=True)
    ]
    assert rank_correlation(maps, others) == pytest.approx(expected, abs=1e-12)
    constant = rank_correlation(maps, torch.ones_like(maps))
    assert all(math.isnan(value) for value in constant)


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize(("method", "check"), list(itertools.product(METHOD_NAMES, CHECKS)))
def test_similarity_compares_with_the_map_as_it_is(world: World, method: str, check: str) -> None:
    for index in range(5):
        pair = [map_by_hand(world, method, kind, world.data[index]) for kind in ("", check)]
        expected = stats.spearmanr(*(one.flatten() for one in pair)).statistic
        rows = rows_of(world.found.results, index=index, method=method, check=check)
        similarity = rows["similarity"].to_numpy()
        assert len(similarity) == len(PROTOCOL_NAMES)
        np.testing.assert_allclose(similarity, expected, atol=1e-6)  # NaN equals NaN
        if (method, check) == ("rollout", "random-label"):
            assert expected == pytest.approx(1.0)  # it knows of no label
        else:
            assert not expected > 0.999
    assert rows_of(world.found.results, method=method, check="")["similarity"].isna().all()


# Reports.


def test_page_names_everything(world: World) -> None:
    page = report.page(world.found, note="As of today.")
    assert page.startswith("# toy\n") and "As of today." in page
    for method in world.found.methods:
        assert METHODS[method].title in page
    for protocol in PROTOCOL_NAMES:
        assert page.count(f'"{protocol}"') == 1
    for check in CHECKS:
        assert check.replace("-", " ") in page
    assert "nan" not in page.lower() and "None" not in page
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    for block in tables:
        assert len({line.count("|") for line in block.splitlines()}) == 1
    mean = rows_of(world.found.results, method="rollout", check="", protocol="tokens")
    value = f"{mean['insertion_top1'].mean():.3f}"
    section = page.split('"tokens"')[1].split("\n## ")[0]
    (ties,) = [block for block in section.split("\n\n") if block.startswith("| method | tied |")]
    (line,) = [line for line in ties.splitlines() if line.startswith("| CCI |")]
    cci = rows_of(world.found.results, method="cci", check="", protocol="tokens")
    shown = [f"{cci['tied'].mean():.1%}"] + [
        f"{cci[f'{direction}_top1_{order}'].mean():.3f}"
        for direction in ("deletion", "insertion")
        for order in ("random", "raster", "reversed")
    ]
    assert line.strip("| ").split(" | ")[1:] == shown
    assert any(value in line for line in section.splitlines() if line.startswith("| Rollout"))


@pytest.mark.exhaustive
def test_page_of_one_image_and_a_map_that_says_nothing(world: World) -> None:
    data = Toy(world.data.samples[:1])
    found = run(world.classifier, data, {"flat": Flat, "cci": CCI}, ["rise"], checks=CHECKS)
    rows = found.results[(found.results["method"] == "flat") & (found.results["check"] != "")]
    assert len(rows) == 2 and rows["similarity"].isna().all()
    for page in (report.page(found), report.page(found, "cci"), report.text(found)):
        assert "flat" in page and "nan" not in page.lower()


def test_text_has_a_line_a_method(world: World) -> None:
    lines = report.text(world.found).splitlines()
    for method in world.found.methods:
        assert sum(line.startswith(METHODS[method].title) for line in lines) == len(PROTOCOL_NAMES)


def words_on(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.texts).split())


def test_curves_have_a_panel_a_protocol_and_direction(world: World) -> None:
    figure = figures.curves(world.found)
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == 2 * len(PROTOCOL_NAMES)
    for direction, protocol in itertools.product(("deletion", "insertion"), PROTOCOL_NAMES):
        assert f"{direction}, {protocol}:" in words_on(figure)
    curves = rows_of(
        world.found.points(), method="cci", check="", protocol="grad-eclip", direction="deletion"
    )
    mean = curves.groupby("fraction")["top1"].mean().to_numpy()
    drawn = [np.asarray(line.get_ydata(), dtype=float) for line in panels[0].lines]
    assert any(len(ys) == 11 and np.allclose(ys, mean) for ys in drawn)


def test_other_figures_draw(world: World) -> None:
    figure = figures.pairs(world.found)
    assert any(axes.collections or axes.lines for axes in figure.axes)
    figure = figures.grid(
        world.found, Classification(world.data, world.classifier, PREPROCESS), rows=2
    )
    words = words_on(figure)
    for index in world.found.disagreement().index[:2]:
        assert world.data[index].name in words
    for method in METHOD_NAMES:
        assert METHODS[method].title in words
    assert words.count("areas of the class's") == 1  # what the numbers below the maps are


@pytest.mark.exhaustive
def test_names_and_classes_side_by_side(world: World) -> None:
    methods = {"few": "cci(clusters=3)", "mine": GradECLIP}
    found = run(world.classifier, Toy([toy_sample(0), toy_sample(1)]), methods, ["tokens"])
    assert {"few", "mine", "random"} <= set(found.results["method"])
    assert found.failures.empty


@pytest.mark.exhaustive
@pytest.mark.parametrize("value", [None, "probability"])
def test_the_scatter_shows_the_measure_that_it_names(world: World, value: str | None) -> None:
    """That of the first table, whose columns its dots are, and whose differences its means."""
    found, name = world.found, value or "top1"
    rows = rows_of(found.results, check="", protocol=PROTOCOL_NAMES[0]).set_index("index")
    gains = {
        method: own[f"insertion_{name}"] - own[f"deletion_{name}"]
        for method, own in rows.groupby("method")
    }
    figure = figures.pairs(found, "cci", value)
    drawn = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    others = [method for method in found.methods if method != "cci"]
    for method, dots in zip(others, drawn, strict=True):
        assert np.allclose(dots.get_xdata(), gains[method])
        assert np.allclose(dots.get_ydata(), gains["cci"])
        mean = (gains["cci"] - gains[method]).mean()
        assert f"mean y - x: {mean:+.3f}" in words_on(figure).replace("\N{MINUS SIGN}", "-")
    title = f"insertion {KINDS['classification'].values[name]}"
    assert f"{title} minus deletion" in words_on(figure)
    assert (title in report.page(found).split("## ")[1].split("\n\n")[1]) is (value is None)


def test_the_scatter_refuses_what_was_not_measured(world: World) -> None:
    with pytest.raises(ValueError, match=r"^value: expected one of .*top1.*, got 'recall'$"):
        figures.pairs(world.found, value="recall")


def test_custom_protocols(world: World) -> None:
    half = Protocol("half", (0.0, 0.5), "mean", "black")
    found = run(world.classifier, world.data, ["cci"], [half, "tokens"])
    assert found.protocols == ["half", "tokens"]
    assert sorted(rows_of(found.points(), protocol="half")["fraction"].unique()) == [0.0, 0.5]
