"""One call: the same rows whatever form images and masks have, however many at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import Saliency
from PIL import Image
from torchvision import transforms

import cci_captum
from cci_captum import ZeroShotClassifier
from cci_captum.baselines import GradCAM
from cci_captum.benchmarks.scenes import SceneGenerator
from cci_captum.diagnosis import BorderClusters, Diagnoser, Donors, Interventions, diagnose
from cci_captum.diagnosis.segmentation import Segmentation
from cci_captum.diagnosis.sources import as_photo, as_seen
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

RULES = ["shapley-regions", "energy"]


@pytest.fixture(scope="module")
def given(make_clip: Any, tokenizer: Any) -> Any:
    """A small classifier, its preprocessing, and eight scenes at twice its size."""
    model, _ = make_clip(1, image_size=96, patch_size=16)
    classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, "a {}")
    scenes = SceneGenerator(192, seed=4).scenes(range(8), kind="one")
    return classifier, cci_captum.load_clip("tiny").preprocess, scenes


def ask(given: Any, *rules: str, **options: Any) -> pd.DataFrame:
    classifier, preprocess, scenes = given
    arguments = {
        "images": [scene.picture for scene in scenes],
        "labels": [scene.classes[0] for scene in scenes],
        "segmenter": [scene.masks[0] for scene in scenes],
        "preprocess": preprocess,
        **options,
    }
    images, labels, segmenter = (arguments.pop(name) for name in ("images", "labels", "segmenter"))
    return diagnose(images, labels, classifier, segmenter, rules or RULES, GradCAM, **arguments)


def assert_same(found: pd.DataFrame, expected: pd.DataFrame, *but: str) -> None:
    for name in expected.columns.difference(but):
        own, other = found[name], expected[name]
        if own.dtype.kind == "f":
            assert own.to_numpy() == pytest.approx(other.to_numpy(), abs=2e-4, nan_ok=True), name
        else:
            assert own.tolist() == other.tolist(), name


@pytest.mark.exhaustive
def test_rows_are_those_of_any_form(given: Any, tmp_path: Path) -> None:
    _, preprocess, scenes = given
    expected = ask(given)
    assert expected["status"].eq("").all() and expected["energy_share"].between(0, 1).all()
    assert expected["image"].tolist() == [f"image {place}" for place in range(8)]
    inputs = torch.stack([preprocess(scene.picture) for scene in scenes])
    masks = torch.stack([scene.masks[0][::2, ::2] for scene in scenes])
    small = ask(given, segmenter=masks)
    of_inputs = ask(given, images=inputs, segmenter=masks, preprocess=None)
    assert_same(of_inputs, small)

    files = [tmp_path / f"{place}.png" for place in range(8)]
    for file, scene in zip(files, scenes, strict=True):
        scene.picture.save(file)
    names = [scene.class_names[0] for scene in scenes]
    of_files = ask(given, images=files, labels=names, batch_size=3)
    assert_same(of_files, expected, "image")
    assert of_files["image"].tolist() == [*map(str, files)]
    arrays = [np.asarray(scene.picture) for scene in scenes]
    assert_same(ask(given, images=arrays, batch_size=1), expected)


@pytest.mark.exhaustive
def test_a_file_that_is_none_is_a_row_that_says_so(given: Any, tmp_path: Path) -> None:
    """Alone in its batch, too; the others are judged as without it."""
    rules = ["shapley-regions(by=hidden)", "energy"]
    expected = ask(given, *rules)
    images = [scene.picture for scene in given[2]]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for size in (1, 3, 8):
        odd = ask(
            given,
            *rules,
            images=[*images[:3], tmp_path / "broken.png", *images[4:]],
            batch_size=size,
        )
        assert "broken.png" in odd["status"][3]
        assert odd.loc[3, "energy_verdict"] is None and np.isnan(odd.loc[3, "energy_share"])
        rest = [0, 1, 2, 4, 5, 6, 7]
        assert_same(odd.loc[rest], expected.loc[rest])


def test_a_segmenter_is_asked_for_the_true_class_and_never_means_background(given: Any) -> None:
    asked: list[tuple[str, str]] = []

    def segmenter(images: Any, class_names: Any, names: Any) -> list[Segmentation]:
        asked.extend(zip(class_names, names, strict=True))
        found = []
        for image, name in zip(images, names, strict=True):
            mask = torch.zeros(image.height, image.width, dtype=torch.bool)
            mask[60:130, 60:130] = True
            lost = name == "image 5"
            found.append(Segmentation(None, "no detection") if lost else Segmentation(mask))
        return found

    table = ask(given, "shapley-regions(by=hidden)", segmenter=segmenter, batch_size=4)
    assert asked == [(scene.class_names[0], f"image {i}") for i, scene in enumerate(given[2])]
    assert table["status"].tolist() == ["no detection" if i == 5 else "" for i in range(8)]
    assert table["shapley-regions(by=hidden)_verdict"].isna().tolist() == [i == 5 for i in range(8)]


def test_masks_of_nothing_and_of_everything(given: Any) -> None:
    masks = torch.stack([scene.masks[0] for scene in given[2]])
    masks[1], masks[2] = False, True
    table = ask(given, "shapley-regions(by=hidden)", "energy", segmenter=masks)
    assert table["status"].tolist()[:3] == ["", "no object", ""]
    assert table["energy_share"][2] == 0 and table["object_share"][2] == 1
    # Nothing is behind it: the background adds nothing.
    assert table["shapley-regions(by=hidden)_share"][2] == pytest.approx(0, abs=1e-6)


def test_an_image_that_is_not_finite_spoils_no_other(given: Any) -> None:
    _, preprocess, scenes = given
    inputs = torch.stack([preprocess(scene.picture) for scene in scenes])
    masks = torch.stack([scene.masks[0][::2, ::2] for scene in scenes])
    options = {"images": inputs, "segmenter": masks, "preprocess": None}
    expected = ask(given, "shapley-regions(by=hidden)", "energy", **options)
    inputs = inputs.clone()
    inputs[4, 0, 0, 0] = torch.nan
    table = ask(given, "shapley-regions(by=hidden)", "energy", **{**options, "images": inputs})
    assert table["status"][4] and table["energy_verdict"][4] is None
    rest = [0, 1, 2, 3, 5, 6, 7]
    assert_same(table.loc[rest], expected.loc[rest])


def test_any_method_of_captum_has_maps(given: Any) -> None:
    table = ask(given, "energy")
    classifier, preprocess, scenes = given
    of_captum = diagnose(
        [scene.picture for scene in scenes],
        [scene.classes[0] for scene in scenes],
        classifier,
        [scene.masks[0] for scene in scenes],
        ["energy", "paper-iou"],
        Saliency,
        preprocess=preprocess,
    )
    assert of_captum["energy_share"].between(0, 1).all()
    assert not np.allclose(of_captum["energy_share"], table["energy_share"])


def test_one_photo_alone(given: Any) -> None:
    classifier, preprocess, scenes = given
    one = ([scenes[0].picture], [scenes[0].classes[0]], classifier, [scenes[0].masks[0]])
    table = diagnose(*one, ["shapley-regions(by=hidden)"], preprocess=preprocess)
    assert len(table) == 1 and table["agree"][0] is None
    with pytest.raises(ValueError, match=r"donors: expected at least 3 other images"):
        diagnose(*one, ["shapley-regions"], preprocess=preprocess)
    inputs = torch.stack([preprocess(scene.picture) for scene in scenes[1:]])
    masks = torch.stack([scene.masks[0][::2, ::2] for scene in scenes[1:]])
    table = diagnose(*one, ["shapley-regions"], preprocess=preprocess, donors=Donors(inputs, masks))
    assert table["shapley-regions_share"].notna().all()


def test_a_mask_follows_the_crop_of_its_photo(given: Any) -> None:
    """Of a wide photo the model sees the middle; pixel by pixel."""
    mask = torch.rand(40, 64, generator=torch.Generator().manual_seed(0)) > 0.5
    seen = as_seen(mask, (12, 0, 52, 40), (80, 80))
    for y in range(80):
        for x in range(80):
            assert bool(seen[y, x]) == bool(mask[y // 2, 12 + x // 2])
    back = as_photo(seen, (12, 0, 52, 40), (40, 64))
    assert torch.equal(back[:, 12:52], mask[:, 12:52])
    assert not bool(back[:, :12].any()) and not bool(back[:, 52:].any())
    classifier, preprocess, _ = given
    photo = Image.new("RGB", (200, 96), "green")
    whole = torch.zeros(96, 200, dtype=torch.bool)
    whole[:, :100] = True
    table = diagnose([photo], [0], classifier, [whole], ["energy"], preprocess=preprocess)
    assert table["object_share"][0] == pytest.approx(0.5, abs=0.01)


def test_clusters_at_the_border_are_background() -> None:
    """Planted: clusters in the middle are the object, those along the border are not."""

    class Middle(torch.nn.Module):
        def __call__(self, embeddings: Any) -> Any:
            side = int(embeddings.shape[1] ** 0.5)
            grid = torch.zeros(side, side, dtype=torch.int64)
            grid[2:5, 3:6] = 1
            grid[0, :4] = 2
            return grid.flatten().expand(len(embeddings), -1).clone()

    clip = cci_captum.load_clip("tiny")
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"], TEMPLATES)
    clusters = BorderClusters(classifier, clustering=Middle(), preprocess=clip.preprocess)
    ((mask, status),) = clusters.of_inputs(torch.rand(1, 3, 96, 96))
    expected = torch.zeros(96, 96, dtype=torch.bool)
    expected[16:40, 24:48] = True
    assert status == "" and mask is not None and torch.equal(mask, expected)
    (found,) = clusters([Image.new("RGB", (192, 96))], ["cat"], ["1"])
    assert found.mask is not None and torch.equal(found.mask[:, 48:144], expected)
    assert not bool(found.mask[:, :48].any())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"labels": [0]}, ValueError, "labels: expected 8, one an image, got 1"),
        ({"labels": ["unicorn"] * 8}, ValueError, r"labels\[0\]: expected one of the 33 class"),
        ({"labels": [99] * 8}, ValueError, r"labels\[0\]: expected a class from 0 to 32, got 99"),
        ({"preprocess": None}, TypeError, "preprocess: "),
        ({"segmenter": torch.ones(3, 9, 9).bool()}, ValueError, "segmenter: expected 8 masks"),
        ({"segmenter": torch.ones(8, 9, 9).bool()}, ValueError, "segmenter: expected a mask of"),
        ({"segmenter": torch.ones(8, 9, 9)}, TypeError, r"segmenter\[0\]: expected a bool"),
        ({"images": []}, ValueError, "images: expected at least one"),
        ({"images": 3}, TypeError, "images: expected a floating point tensor"),
        ({"batch_size": 0}, ValueError, "batch_size: "),
    ],
)
def test_what_cannot_be(given: Any, options: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        ask(given, "energy", **options)


def test_planted_shortcuts_get_their_verdict() -> None:
    """Cows on grass and cacti on sand under tiny-shortcut; not under tiny."""
    pairs = [("cow", "grass"), ("cactus", "sand")] * 3
    scenes = SceneGenerator(96, seed=51).scenes(
        range(6), class_name=[p[0] for p in pairs], background=[p[1] for p in pairs], kind="one"
    )
    others = SceneGenerator(96, seed=52).scenes(range(12), kind="one")
    said = {}
    for name in ("tiny-shortcut", "tiny"):
        clip = cci_captum.load_clip(name)
        classifier = ZeroShotClassifier(clip.model, clip.tokenizer, CLASS_NAMES, TEMPLATES)
        donors = Donors(
            torch.stack([clip.preprocess(scene.picture) for scene in others]),
            torch.stack([scene.masks[0] for scene in others]),
            tuple(scene.classes[0] for scene in others),
        )
        table = diagnose(
            [scene.picture for scene in scenes],
            [scene.classes[0] for scene in scenes],
            classifier,
            [scene.masks[0] for scene in scenes],
            ["shapley-regions"],
            preprocess=clip.preprocess,
            donors=donors,
        )
        said[name] = table["shapley-regions_verdict"].tolist()
    assert said["tiny-shortcut"] == ["BG-Co"] * 6
    assert said["tiny"].count("BG-Co") == 0


def test_two_classes_have_donors_for_errors_too(make_clip: Any, tokenizer: Any) -> None:
    """With the true and the predicted class left out there would be none."""
    model, _ = make_clip(1, image_size=96, patch_size=16)
    classifier = ZeroShotClassifier(model, tokenizer, ["cat", "dog"], "a {}")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 96, 96, generator=generator)
    masks = torch.zeros(8, 96, 96, dtype=torch.bool)
    masks[:, 20:60, 30:70] = True
    (guess, *_) = Diagnoser(classifier, ["shapley-regions(by=hidden)"]).predict(images)
    labels = [1 - guess, *[1 - guess] * 3, *[guess] * 4]
    found = diagnose(images, labels, classifier, masks, ["shapley-regions"])
    wrong = found["predicted"] != found["true"]
    assert wrong[0] and found["status"].eq("").all()
    assert found["shapley-regions_verdict"][wrong].isin(["FG-Er", "BG-Er"]).all()
    donors = Donors(images[1:], masks[1:], tuple(labels[1:]))
    interventions = Interventions(classifier, donors=donors)
    effects = interventions.effects(images[:1], masks[:1, None], avoid=[[guess]])
    own, rest = effects.shapley_values(guess, by="both", score="centred")[0, 0].double()
    assert found["shapley-regions_share"][0] == pytest.approx(
        float(rest / (own.abs() + rest.abs())), abs=1e-4
    )

    # Of one class: who is asked about it says so, and spoils no other.
    donors = Donors(images[1:], masks[1:], (guess,) * 7)
    found = Diagnoser(classifier, ["shapley-regions"], donors=donors).rows(
        images, masks, labels, guesses=[guess, *[1 - guess] * 7]
    )
    assert "expected donors of other classes" in found["status"][0]
    assert found["shapley-regions_share"].isna().tolist() == [True] + [False] * 7


def test_an_object_outside_of_what_the_model_is_shown_is_no_background(given: Any) -> None:
    """The model crops; its own view decides what there is of the object."""

    class Cropping(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.classifier = given[0]

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.classifier(images[:, :, 32:128, 32:128])

    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(3))
    masks = torch.zeros(2, 160, 160, dtype=torch.bool)
    masks[0, 2:20, 2:20] = True
    masks[1, 2:60, 2:60] = True
    for rule in ("shapley-regions(by=hidden)", "energy", "paper-iou"):
        found = Diagnoser(Cropping(), [rule], GradCAM).rows(images, masks, [0, 0])
        assert found["status"].tolist() == ["no object", ""]
        assert found[f"{rule}_share"].isna().tolist() == [True, False]


def test_what_was_not_read_has_no_prediction(given: Any, tmp_path: Path) -> None:
    images = [scene.picture for scene in given[2]]
    found = ask(given, "energy", images=[*images[:7], tmp_path / "none.png"])
    assert found["predicted"].ge(0).tolist() == [True] * 7 + [False]
    assert found["predicted_name"][7] is None
    assert found["image"][7] == str(tmp_path / "none.png")


def test_masks_of_inputs_are_not_cropped_again(given: Any) -> None:
    """Also where photos are as large as inputs, of which a model shows the middle alone."""
    classifier, _, scenes = given
    steps = [transforms.Resize(120), transforms.CenterCrop(96), transforms.ToTensor()]

    class Corner:
        def of_inputs(self, inputs: torch.Tensor) -> list[Any]:
            mask = torch.zeros(96, 96, dtype=torch.bool)
            mask[:24, :24] = True
            return [(mask, "")] * len(inputs)

    table = diagnose(
        [scene.picture.resize((96, 96)) for scene in scenes],
        [scene.classes[0] for scene in scenes],
        classifier,
        Corner(),
        ["energy"],
        GradCAM,
        preprocess=transforms.Compose(steps),
    )
    assert table["object_share"].tolist() == [1 / 16] * 8


def test_a_name_that_two_classes_have_is_no_label(given: Any) -> None:
    names = ["crane", "crane", *map(str, range(31))]
    with pytest.raises(ValueError, match=r"labels\[1\]: expected the name of one class.*'crane'"):
        ask(given, "energy", labels=["3", *["crane"] * 7], class_names=names)
