"""A diagnosis unit by unit: the same as in one call, whatever is missing, stored or odd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import cci_captum
from cci_captum import ZeroShotClassifier
from cci_captum.benchmarks.comparison import FolderStore, MemoryStore
from cci_captum.benchmarks.data import MapStyle, Sample, Scenes
from cci_captum.benchmarks.diagnosis import DiagnosisRun, report, table_of
from cci_captum.benchmarks.diagnosis.figures import verdict_bars
from cci_captum.benchmarks.diagnosis.segmented import Segmented
from cci_captum.diagnosis import VERDICTS, diagnose, find_rule
from cci_captum.diagnosis.segmentation import Segmentation

RULES = ["shapley-regions", "energy", "paper-iou"]


@pytest.fixture(scope="module")
def small(make_clip: Any, tokenizer: Any) -> Any:
    """A classifier of the scenes' classes, and how its inputs are made."""
    model, _ = make_clip(1, image_size=96, patch_size=16)
    scenes = Scenes(1)
    classifier = ZeroShotClassifier(model, tokenizer, scenes.class_names, "a {}")
    return classifier, cci_captum.load_clip("tiny").preprocess


def run(small: Any, data: Any, **options: Any) -> DiagnosisRun:
    classifier, preprocess = small
    return DiagnosisRun(
        data, classifier, preprocess, options.pop("rules", RULES), "gradcam", **options
    )


def test_a_run_says_what_one_call_says(small) -> None:
    """Donors are chosen by the image's content, from the same part of the data."""
    classifier, preprocess = small
    data = Scenes(7, seed=5)
    found = run(small, data, batch_size=3).all()
    samples = [data[place] for place in range(7)]
    from cci_captum.baselines import GradCAM

    expected = diagnose(
        [sample.image for sample in samples],
        [sample.target for sample in samples],
        classifier,
        [sample.mask for sample in samples],
        RULES,
        GradCAM,
        preprocess=preprocess,
    )
    assert found["image"].tolist() == [sample.name for sample in samples]
    for name in ("true", "predicted", "explained", "status", "true_name", "predicted_name"):
        assert found[name].tolist() == expected[name].tolist()
    for rule in RULES:
        own, other = found[f"{rule}_share"], expected[f"{rule}_share"]
        assert own.to_numpy() == pytest.approx(other, abs=1e-4, nan_ok=True)
    assert found["background"].tolist() == [sample.facts["background"] for sample in samples]


@pytest.mark.exhaustive
def test_only_errors_are_judged_where_that_is_asked(small) -> None:
    data = Scenes(24, seed=7)
    whole = run(small, data, batch_size=12).all()
    wrong = run(small, data, batch_size=12, judged="wrong").all()
    assert wrong["predicted"].tolist() == whole["predicted"].tolist()
    errors = (whole["predicted"] != whole["true"]).to_numpy()
    assert 0 < errors.sum() < 24
    for rule in RULES:
        own, other = wrong[f"{rule}_share"].to_numpy(), whole[f"{rule}_share"].to_numpy()
        assert own[errors] == pytest.approx(other[errors], abs=1e-4, nan_ok=True)
        assert np.isnan(own[~errors]).all()
        verdicts = wrong[f"{rule}_verdict"]
        assert verdicts[errors].tolist() == whole[f"{rule}_verdict"][errors].tolist()
        assert verdicts[~errors].isna().all()
    with pytest.raises(ValueError, match="judged: expected one of all, wrong, got 'right'"):
        run(small, data, judged="right")


def test_units_are_kept_and_only_those_missing_are_measured(small, tmp_path: Path) -> None:
    data = Scenes(5, seed=6)
    made = run(small, data, batch_size=2)
    assert [*made.plan.methods] == ["", "gradcam", "regions"]
    whole = made.all(MemoryStore())
    store = FolderStore(tmp_path)
    store.begin(made.plan)
    places = made.plan.blocks[1]
    for key, unit in made.measure(places, made.plan.keys(1)):
        store.add(key, unit)
    again = run(small, data, batch_size=2)
    assert len(store.missing(again.plan.all_keys())) == 6
    pd.testing.assert_frame_equal(again.all(FolderStore(tmp_path)), whole)
    # Fewer rules are other units; another threshold is not.
    fewer = run(small, data, batch_size=2, rules=["energy(threshold=0.1)"])
    missing = FolderStore(tmp_path)
    missing.begin(fewer.plan)
    assert {key.method for key in missing.missing(fewer.plan.all_keys())} == {"gradcam"}
    strict = run(small, data, batch_size=2, rules=["shapley-regions(threshold=-1)", *RULES[1:]])
    stored = FolderStore(tmp_path)
    stored.begin(strict.plan)
    assert not stored.missing(strict.plan.all_keys())
    table = table_of(strict.plan, stored, strict.rules)
    assert table["shapley-regions(threshold=-1.0)_verdict"].str.startswith("BG").all()


def test_another_seed_of_donors_is_another_run(small, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.begin(run(small, Scenes(4)).plan)
    with pytest.raises(ValueError, match="results of the same run"):
        store.begin(run(small, Scenes(4), seed=1).plan)


def test_images_that_cannot_be_judged_say_why(small) -> None:
    """Unreadable, without an object, and others, which are judged as without them."""
    scenes = Scenes(5, seed=7)

    class Odd(Scenes):
        def __getitem__(self, index: Any) -> Sample:
            if int(index) == 2:
                raise ValueError("expected an image, got a letter: 2.png")
            return super().__getitem__(index)

    def found(images, class_names, names) -> list[Segmentation]:
        (name,) = names
        if name == "scene 1":
            return [Segmentation(None, "no detection")]
        mask = torch.zeros(images[0].height, images[0].width, dtype=torch.bool)
        mask[40:150, 40:150] = True
        return [Segmentation(mask)]

    rules = ["shapley-regions(by=hidden)", "energy"]
    assert Segmented(scenes, found, "found").in_process
    odd = run(small, Segmented(Odd(5, seed=7), found, "found"), batch_size=2, rules=rules).all()
    plain = run(small, Segmented(scenes, found, "found"), batch_size=2, rules=rules).all()
    assert odd["status"].tolist()[1:3] == ["no detection", "expected an image, got a letter: 2.png"]
    judged = [0, 3, 4]
    assert (odd.loc[judged, "status"] == "").all()
    for rule in rules:
        assert odd.loc[[1, 2], f"{rule}_share"].isna().all()
        assert odd.loc[[1, 2], f"{rule}_verdict"].isna().all()
        assert np.allclose(odd.loc[judged, f"{rule}_share"], plain.loc[judged, f"{rule}_share"])
    page = report.page(odd, [find_rule(rule) for rule in rules], settings(), None, "`it`")
    assert "| no detection | 1 |" in page


def settings() -> dict[str, Any]:
    return {"model": "m", "data": "d", "method": "gradcam", "n_donors": 3}


def test_data_without_masks_are_refused(small) -> None:
    rows = [(Image.new("RGB", (96, 96)), 0)]
    data = MapStyle(rows, class_names=Scenes(1).class_names)
    with pytest.raises(ValueError, match="data: expected masks of the objects"):
        run(small, data)


def test_counts_are_rates_of_what_has_a_verdict() -> None:
    rule = find_rule("energy")
    said = ["FG-Co"] * 6 + ["BG-Co"] * 2 + ["BG-Er"] * 3 + ["Fine-Er"] + [None] * 4
    found = report.counts(pd.DataFrame({"energy_verdict": said}), [rule])
    assert found["verdict"].tolist() == list(VERDICTS)
    assert found["images"].tolist() == [6, 2, 0, 3, 1]
    assert (found["of"] == 12).all()
    assert found["rate"].tolist() == pytest.approx([6 / 12, 2 / 12, 0, 3 / 12, 1 / 12])
    assert found["of_errors"].tolist()[2:] == pytest.approx([0, 3 / 4, 1 / 4])
    # Clopper and Pearson's, from tables: 6 of 12, and 0 of 12.
    assert found["low"][0] == pytest.approx(0.2109, abs=1e-4)
    assert found["high"][0] == pytest.approx(0.7891, abs=1e-4)
    assert found["high"][2] == pytest.approx(1 - 0.025 ** (1 / 12), abs=1e-9)


def test_bars_are_as_high_as_the_rates() -> None:
    rules = [find_rule("energy"), find_rule("paper-iou")]
    frame = pd.DataFrame(
        {
            "energy_verdict": ["FG-Co", "FG-Co", "BG-Er", "FG-Er"],
            "paper-iou_verdict": ["BG-Co", "FG-Co", "BG-Er", None],
        }
    )
    (axes,) = verdict_bars(frame, rules).axes
    heights = [[bar.get_height() for bar in group] for group in axes.containers if len(group) == 2]
    bars = {c.get_label(): h for c, h in zip(axes.containers[::2], heights, strict=False)}
    assert bars["FG-Co"] == pytest.approx([0.5, 1 / 3])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["energy", "paper-iou"]
