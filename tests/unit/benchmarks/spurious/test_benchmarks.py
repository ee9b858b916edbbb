"""The benchmarks as a command goes over them: classifiers, headlines, pages, pictures."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from cci_captum.benchmarks.data import SOURCES, open_data
from cci_captum.benchmarks.data.imagenet9 import FOLDERS, VARIANTS
from cci_captum.benchmarks.data.object_variants import MADE, NOISES
from cci_captum.benchmarks.data.waterbirds import GROUPS
from cci_captum.benchmarks.spurious import (
    BENCHMARKS,
    NineClasses,
    SuperClasses,
    find_benchmark,
    report,
)
from cci_captum.benchmarks.spurious.figures import picture
from cci_captum.models.preprocessing import mean_and_std, seen_box
from cci_captum.models.ranking import predicted

RATES = {"leans": 0.5, "looks": 0.9}  # how often a model is right where the background misleads


def predictions(scheme: str, rate: float, seed: int = 0) -> pd.DataFrame:
    """A model that is right everywhere but where the background misleads it."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(60):
        source = f"{number}"
        if scheme == "imagenet9":
            hard = ("mixed_rand", "mixed_next")
            facts = [({"variant": name}, name in hard) for name in VARIANTS]
        elif scheme == "imagenet9-challenge":
            facts = [({"background": f"{n}", "background_class": "dog"}, n < 1) for n in range(4)]
        elif scheme == "waterbirds":
            facts = [({"group": GROUPS[number % 4]}, number % 4 in (1, 2))]
        else:
            made = [(name, 1) for name in MADE if name not in NOISES]
            made += [(name, trial) for name in NOISES for trial in (1, 2, 3)]
            hard = ("noisy_bg",)
            facts = [({"variant": name, "trial": n}, name in hard) for name, n in made]
        for own, misled in facts:
            right = rng.random() < (rate if misled else 0.95)
            rows.append({"source": source, "true": number % 9, **own, "right": right})
    table = pd.DataFrame(rows)
    table["predicted"] = np.where(table.pop("right"), table["true"], 9)
    table["image"], table["status"] = [f"{n}" for n in range(len(table))], ""
    return table


@pytest.fixture(params=BENCHMARKS)
def both(request: pytest.FixtureRequest) -> tuple[Any, dict[str, pd.DataFrame]]:
    scheme = request.param
    made = {model: predictions(scheme, rate) for model, rate in RATES.items()}
    return BENCHMARKS[scheme], made


# what a benchmark is


@pytest.mark.parametrize("scheme", BENCHMARKS)
def test_every_benchmark_opens(scheme: str) -> None:
    benchmark = find_benchmark(scheme)
    assert benchmark.scheme == scheme and SOURCES[scheme].path
    known = {option.name for option in SOURCES[scheme].options}
    assert set(benchmark.options) <= known and {"n", "seed"} <= known
    assert benchmark.better in ("higher", "lower") and benchmark.says and benchmark.limits
    with pytest.raises(ValueError, match="scheme: expected one of imagenet9, imagenet9-challenge"):
        find_benchmark("imagenet")


def test_the_model_that_leans_less_is_first(both: tuple[Any, dict[str, pd.DataFrame]]) -> None:
    benchmark, made = both
    measured = report.measures(made, benchmark)
    assert report.by_headline(measured, benchmark) == ["looks", "leans"]
    values = {model: float(benchmark.value(own)["value"]) for model, own in measured.items()}
    assert (values["looks"] < values["leans"]) == (benchmark.better == "lower")
    table, part = benchmark.headline
    for own in measured.values():
        assert (own[table]["part"] == part).sum() == 1 and benchmark.panel[0] in own


def test_a_headline_that_is_not_there() -> None:
    table = predictions("imagenet9", 0.9)
    some = table[table["variant"] == "original"]
    with pytest.raises(ValueError, match=re.escape("expected BG-Gap of ImageNet-9, got ['orig")):
        report.page({"a": some}, BENCHMARKS["imagenet9"])


# classifiers


class _Colours(nn.Module):
    """Scores of so many classes: that of a number is its green, whatever else there is."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        chosen = (images[:, 1].amax(dim=(1, 2)) * 255).round().long()
        return nn.functional.one_hot(chosen, self.classes).float() * 2


@pytest.fixture
def nine(tmp_path: Path) -> Path:
    """Photos whose green is the class that a classifier of nine says, right but for the dogs."""
    for variant in ("mixed_same", "mixed_rand"):
        for place, folder in enumerate(FOLDERS):
            own = tmp_path / variant / "val" / folder
            own.mkdir(parents=True)
            green = 8 if (variant, place) == ("mixed_rand", 0) else place
            image = Image.new("RGB", (8, 8), (0, green, 0))
            image.save(own / f"n0000000{place}_1.JPEG", format="PNG")
    return tmp_path


def to_input(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1) / 255


@pytest.mark.parametrize("classes", [9, 1000, 10])
def test_any_classifier_is_made_one_of_the_data(nine: Path, classes: int) -> None:
    """Of nine names, of 1000 classes (0 to 8 are fish and a cock) and of the data's own ten."""
    benchmark = BENCHMARKS["imagenet9"]
    data = open_data(f"imagenet9:{nine}", **benchmark.options)
    classifier = benchmark.adapt(_Colours(classes), classes, data)
    kinds = {9: NineClasses, 1000: SuperClasses, 10: _Colours}
    assert isinstance(classifier, kinds[classes])
    samples = [data[place] for place in range(len(data))]
    guesses = predicted(classifier(torch.stack([to_input(each.image) for each in samples])))
    table = pd.DataFrame(
        {
            "image": [each.name for each in samples],
            "source": [each.source for each in samples],
            "variant": [each.facts["variant"] for each in samples],
            "true": data.targets,
            "predicted": guesses.tolist(),
            "status": "",
        }
    )
    gap = benchmark.value(benchmark.measures(table, benchmark.known(data)))
    if classes == 1000:  # 0 to 6 are fish, 7 and 8 birds
        assert guesses.tolist()[:9] == [8, 8, 8, 8, 8, 8, 8, 1, 1]
        assert gap["value"] == 0  # the dogs are wrong in both
    else:
        assert gap["value"] == pytest.approx(1 / 9) and gap["images"] == 9


def test_texts_of_zero_shot_classifiers(nine: Path) -> None:
    data = open_data(f"imagenet9:{nine}", others=True)
    texts = BENCHMARKS["imagenet9"].texts_of(data)
    assert len(texts.class_names) == 1000 and texts.templates == "openai-imagenet"
    birds = BENCHMARKS["waterbirds"].texts_of(data)
    assert birds.class_names == data.class_names  # the data's own


def test_classifiers_of_other_classes(nine: Path) -> None:
    data = open_data(f"imagenet9:{nine}", others=True)
    message = "classifier: expected one of 9 or 10 or 1000 classes for ImageNet-9, got one of 21"
    with pytest.raises(ValueError, match=message):
        BENCHMARKS["imagenet9"].adapt(nn.Identity(), 21, data)


def test_training_groups_come_from_the_data(tmp_path: Path) -> None:
    head = "img_id,img_filename,y,split,place,place_filename"
    (tmp_path / "1.A").mkdir()
    for number in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / "1.A" / f"{number}.jpg")
    rows = ["1,1.A/0.jpg,0,0,0,p", "2,1.A/1.jpg,1,0,1,p", "3,1.A/2.jpg,0,2,0,p"]
    (tmp_path / "metadata.csv").write_text("\n".join([head, *rows]))
    benchmark = BENCHMARKS["waterbirds"]
    data = open_data(f"waterbirds:{tmp_path}")
    known = benchmark.known(data)
    assert known == {"training_groups": dict(zip(GROUPS, (1, 0, 0, 1), strict=True))}
    table = predictions("waterbirds", 0.5)
    found = benchmark.measures(table, known)["groups"].set_index("part")["value"]
    mean = (found[GROUPS[0]] + found[GROUPS[3]]) / 2
    assert found["average, as in training"] == pytest.approx(mean)
    (tmp_path / "metadata.csv").write_text("\n".join([head, rows[2]]))
    assert benchmark.known(open_data(f"waterbirds:{tmp_path}")) == {}  # as published


# preprocessing


def test_images_made_at_the_models_size_are_only_normalised() -> None:
    """Resized to 40, of which 32 are cut, where all 32 should be seen."""
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    cropping = transforms.Compose(
        [transforms.Resize(40), transforms.CenterCrop(32), transforms.ToTensor(),
         transforms.Normalize(mean, std)]
    )  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    plain = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])(image)
    for scheme, benchmark in BENCHMARKS.items():
        found = benchmark.preprocessing(cropping)
        made = scheme != "waterbirds"  # photos of any size
        assert (found is cropping) != made
        if made:
            assert torch.allclose(found(image), plain, rtol=0, atol=1e-6)
            assert not torch.allclose(cropping(image), plain, rtol=0, atol=0.1)
            assert seen_box(found, (32, 32)) == (0, 0, 32, 32)
            assert mean_and_std(found) == (mean, std)
            assert found(image.resize((64, 64))).shape == (3, 32, 32)
            assert torch.equal(pickle.loads(pickle.dumps(found))(image), found(image))


# what people read


def test_page(both: tuple[Any, dict[str, pd.DataFrame]]) -> None:
    benchmark, made = both
    made["leans"].loc[:2, "status"] = "not an image, or of an unknown kind"
    wrong = made["looks"]["predicted"] != made["looks"]["true"]
    made["looks"]["energy_verdict"] = np.where(wrong, "BG-Er", "FG-Co")
    text = report.page(made, benchmark, data="the data", notes=["a <note>"], how="Again: `x`")
    assert text.startswith(f"# {benchmark.name}\n\n{benchmark.question}\n\n")
    row = benchmark.value(report.measures(made, benchmark)["looks"])
    assert f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})" in text
    assert text.index("| looks |") < text.index("| leans |")
    for said in (benchmark.says, benchmark.limits, "the data", "- a \\<note\\>", "Again: `x`"):
        assert said in text
    for model, numbers in benchmark.published.items():
        assert f"| {model} |" in text
        assert all(f"{value:.3f}" in text for value in numbers.values())
    assert "| leans | not an image, or of an unknown kind | 3 |" in text
    errors = int(wrong.sum())
    share = f"| looks | energy | all | {errors} | {errors} | {errors} | 1.000"
    assert share in text
    assert "nan" not in text.lower().replace("nano", "")


def test_text_for_the_terminal(both: tuple[Any, dict[str, pd.DataFrame]]) -> None:
    benchmark, made = both
    first, *lines = report.text(made, benchmark).splitlines()
    assert f"({benchmark.better} is better)" in first
    assert [line.split()[0] for line in lines] == ["looks", "leans"]
    made["leans"].loc[0, "status"] = "damaged"
    assert report.text(made, benchmark).endswith(
        "1 predictions were not measured: the page says why"
    )
    with pytest.raises(ValueError, match="predictions: expected at least one model, got none"):
        report.text({}, benchmark)


def test_picture(both: tuple[Any, dict[str, pd.DataFrame]]) -> None:
    benchmark, made = both
    figure = picture(made, benchmark)
    assert isinstance(figure, Figure)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["looks", "leans"]
    measured = report.measures(made, benchmark)
    widths = [bar.get_width() for bar in left.patches]
    expected = [benchmark.value(measured[model])["value"] for model in ("looks", "leans")]
    assert widths == pytest.approx(expected)
    panel = measured["looks"][benchmark.panel[0]]
    shown = [p for p in panel["part"] if p != benchmark.headline[1] and not p.endswith("drop")]
    labels = [label.get_text() for label in right.get_yticklabels()]
    assert labels == [benchmark.labels.get(part, part) for part in shown]
    dots = {
        round(float(line.get_xdata()[0]), 9) for line in right.lines if len(line.get_xdata()) == 1
    }
    values = {
        round(float(value), 9)
        for own in measured.values()
        for part, value in own[benchmark.panel[0]][["part", "value"]].values
        if part in shown
    }
    assert dots == values
    rings = [line for line in right.lines if line.get_markersize() == 8]
    assert (len(rings) >= 2) == (benchmark.scheme == "waterbirds")


def test_picture_of_one_model_without_an_interval() -> None:
    table = predictions("imagenet9", 0.9)
    few = table[table["source"].isin(["0", "1"])]
    left, _ = picture({"alone": few}, BENCHMARKS["imagenet9"]).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["alone"]
