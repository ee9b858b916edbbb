"""`cci-captum counteranimal` and `spurious`: what they write, shared, reported, with verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from animals import SIZE, make_release
from PIL import Image

import cci_captum
from cci_captum.benchmarks import cli, predictions
from cci_captum.benchmarks.commands._common import CommandError
from cci_captum.benchmarks.commands._verdicts import verdicts_in, with_verdicts_of
from cci_captum.benchmarks.counteranimal import Candidates, accuracies
from cci_captum.benchmarks.data.imagenet9 import FOLDERS
from cci_captum.benchmarks.predictions import Recogniser
from cci_captum.benchmarks.spurious import worst_group

ANIMALS = [
    "accuracy.parquet", "candidates.json", "classes.parquet", "classes.png", "predictions.parquet",
    "robustness.png", "settings.json", "summary.md",
]  # fmt: skip
SETS = [
    "backgrounds.png", "measures.parquet", "predictions.parquet", "settings.json", "summary.md",
]  # fmt: skip


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def counteranimal(where: Path, out: Path, *more: object) -> list[str]:
    return [*map(str, ["counteranimal", where, "--device", "cpu", "--out", out, *more])]


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("animals"), photos=2)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    root, rng = tmp_path / "birds", np.random.default_rng(0)
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for number in range(24):
        y, place = number % 2, number // 2 % 2
        name = f"{number % 2 + 1:03d}.Bird/{number}.jpg"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
        lines.append(f"{number},{name},{y},{2 if number < 20 else 0},{place},/p/{number}.jpg")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.usefixtures("small_model")
def test_counteranimal(animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *counteranimal(animals, tmp_path)]) == 0
    assert files(tmp_path) == sorted([*ANIMALS, "plan.json"])
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert set(table["group"].dropna()) == {"common", "counter"}
    assert (table["status"] != "").sum() == 1  # the damaged one
    measured = pd.read_parquet(tmp_path / "accuracy.parquet")
    whole = measured[(measured["setup"] == "1 vs 1000") & (measured["average"] == "classes")]
    expected = accuracies(table)["accuracy"]
    assert whole.set_index("group")["accuracy"].to_dict() == expected.to_dict()
    few = measured[(measured["setup"] == "1 vs 20") & (measured["average"] == "classes")]
    assert (few["accuracy"].to_numpy()[:2] >= whole["accuracy"].to_numpy()[:2]).all()
    chosen = Candidates.load(tmp_path / "candidates.json")
    assert chosen.model == "small" and set(map(len, chosen.labels.values())) == {20}
    said = capsys.readouterr().out
    assert f"{expected['common']:.2f}" in said and "small" in said


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_counteranimals_report_without_a_model(animals: Path, tmp_path: Path) -> None:
    assert cli.main(["run", *counteranimal(animals, tmp_path)]) == 0
    before = {name: (tmp_path / name).read_bytes() for name in ANIMALS}
    for name in ANIMALS:
        (tmp_path / name).unlink()
    assert cli.main(["run", "report", str(tmp_path)]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in ANIMALS} == before


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_candidates_of_another_run(animals: Path, tmp_path: Path) -> None:
    numbers = {int(path.name.split()[0]) for path in animals.glob("LAION-final/[0-9]*")}
    alone = Candidates({n: (n, (n + 1) % 1000) for n in numbers}, "other", "data", {})
    alone.save(tmp_path / "few.json")
    out = tmp_path / "out"
    more = ["--candidates", tmp_path / "few.json", "--n", 60]
    assert cli.main(counteranimal(animals, out, *more)) == 0
    assert Candidates.load(out / "candidates.json") == alone
    table = pd.read_parquet(out / "accuracy.parquet")
    assert table[table["setup"] == "1 vs 20"]["accuracy"].max() > 0
    assert "other" in (out / "summary.md").read_text()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_drops_with_verdicts(animals: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    for path in animals.glob("LAION-final/[0-9]*/*/*"):
        if path.is_file() and not path.name.startswith("."):
            target = masks / path.relative_to(animals / "LAION-final")
            target.parent.mkdir(parents=True, exist_ok=True)
            half = np.zeros(SIZE[::-1], dtype=np.uint8)
            half[:, : SIZE[0] // 2] = 255
            Image.fromarray(half).save(f"{target}.png")
    out, verdicts = tmp_path / "out", tmp_path / "verdicts"
    words = ["diagnose", "--data", f"counteranimal:{animals}", "--n", 20, "--masks", masks]
    rule = ["--rule", "shapley-regions(by=hidden)", "--device", "cpu", "--out", verdicts]
    assert cli.main([*map(str, [*words, *rule])]) == 0
    assert cli.main(counteranimal(animals, out, "--n", 20, "--verdicts", verdicts)) == 0
    table = pd.read_parquet(out / "predictions.parquet")
    judged = pd.read_parquet(verdicts / "verdicts.parquet").set_index("image")["predicted"]
    same = table["predicted"] == judged[table["image"]].to_numpy()  # photos this small differ
    known = table["shapley-regions(by=hidden)_verdict"].notna()
    assert same.sum() >= 10 and known.tolist() == same.tolist()
    assert "background" in (out / "summary.md").read_text()


@pytest.mark.usefixtures("small_model")
def test_waterbirds(birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["spurious", f"waterbirds:{birds}", "--device", "cpu", "--out", str(out)]
    assert cli.main(words) == 0
    assert files(out) == SETS
    table = pd.read_parquet(out / "predictions.parquet")
    assert len(table) == 20
    settings = json.loads((out / "settings.json").read_text())
    counts = settings["models"]["small"]["known"]["training_groups"]
    assert sum(counts.values()) == 4
    measures = pd.read_parquet(out / "measures.parquet").set_index("part")["value"]
    expected = worst_group(table, counts).set_index("part")["value"]
    assert measures.to_dict() == expected.to_dict()
    assert "Worst group" in capsys.readouterr().out

    before = {name: (out / name).read_bytes() for name in SETS}
    for name in SETS:
        (out / name).unlink()
    capsys.readouterr()
    assert cli.main(["run", "report", str(out)]) == 2
    assert "report: expected plan.json in" in capsys.readouterr().err
    assert cli.main(words) == 0
    assert {name: (out / name).read_bytes() for name in SETS} == before


@pytest.fixture
def three_models(
    small_model: None, make_clip: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of models by name: "b" and "a", and one that is refused."""
    preprocess = cci_captum.load_clip("tiny").preprocess

    def load(name: str, pretrained: str | None = None, device: Any = "cpu") -> Recogniser:
        if name == "bad":
            raise ValueError("name: no weights of bad|x")
        model, _ = make_clip(ord(name), image_size=96, patch_size=32)

        def of(class_names: Any, templates: Any) -> Any:
            return cci_captum.ZeroShotClassifier(model, tokenizer, class_names, templates)

        return Recogniser(name, "clip", preprocess, of)

    monkeypatch.setattr(predictions, "load_recogniser", load)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("three_models")
def test_a_report_is_of_the_models_in_their_order(birds: Path, tmp_path: Path) -> None:
    models = [word for name in ("b", "bad", "a") for word in ("--model", name)]
    words = ["spurious", f"waterbirds:{birds}", "--device", "cpu", "--out", str(tmp_path), *models]
    assert cli.main(["run", "variants", *words]) == 0
    page = (tmp_path / "summary.md").read_text()
    assert "## Models that were not measured" in page and r"| bad | no weights of bad\|x |" in page
    before = {name: (tmp_path / name).read_bytes() for name in SETS}
    assert [*json.loads(before["settings.json"])["models"]] == ["b", "a"]
    assert cli.main(["run", "compact", str(tmp_path)]) == 0
    assert cli.main(["run", "report", str(tmp_path)]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in SETS} == before


def test_verdicts_are_of_what_was_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.DataFrame(
        {
            "image": ["a", "b", "c", None, None],
            "predicted": [1, 1, 0, -1, -1],
            "energy_verdict": ["BG-Er", "FG-Co", "FG-Co", None, None],
            "energy_share": [0.9, 0.1, 0.2, np.nan, np.nan],
        }
    )
    table.to_parquet(tmp_path / "verdicts.parquet")
    (tmp_path / "settings.json").write_text('{"model": "m"}')
    own = pd.DataFrame({"image": ["c", "b", "d", None, None], "predicted": [0, 2, 0, -1, -1]})
    joined = with_verdicts_of({"m": own}, verdicts_in([str(tmp_path)]))["m"]
    assert joined["energy_verdict"].isna().tolist() == [False, True, True, True, True]
    assert joined["energy_share"].isna().tolist() == [False, True, True, True, True]
    assert list(joined) == ["image", "predicted", "energy_verdict", "energy_share"]
    said = capsys.readouterr().err
    assert "of 3 images of m 1 have none, and 1 were taken for another class" in said
    pd.concat([table, table[:1]]).to_parquet(tmp_path / "verdicts.parquet")
    with pytest.raises(CommandError, match=r"--verdicts: expected names .* got 'a' again"):
        verdicts_in([str(tmp_path)])


def test_what_cannot_be_measured_is_said_before_it_is(
    animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for variant in ("original", "mixed_same"):
        for folder in FOLDERS:
            path = tmp_path / "nine" / variant / "val" / folder / "n02085620_1.JPEG"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(path)
    for words, message in (
        (counteranimal(animals, tmp_path / "out", "--n", 10), "--n: expected photos of a class in"),
        (
            ["spurious", f"imagenet9:{tmp_path / 'nine'}", "--out", str(tmp_path / "out")],
            "--option variants: expected mixed_same and mixed_rand, which BG-Gap is made of, got "
            "original, mixed_same without mixed_rand",
        ),
    ):
        assert cli.main(words) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()  # no model was loaded


def test_what_is_wrong_is_said(
    animals: Path, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    Candidates({9: (9, 10)}, "other", "data", {}).save(tmp_path / "few.json")
    for words, message in (
        (["spurious", "scenes"], "DATA: expected one of imagenet9:DIR, imagenet9-challenge:DIR"),
        (["spurious", "waterbirds:"], "DATA: expected one of imagenet9:DIR"),
        (["spurious", f"imagenet9:{birds}"], "00_dog"),
        (["spurious", f"waterbirds:{tmp_path / 'empty'}"], "metadata.csv"),
        (["spurious", f"waterbirds:{birds}", "--option", "size=3"], "--option: expected one of"),
        (["spurious", f"waterbirds:{birds}", "--option", "split=all"], "--option: split: expected"),
        (["spurious", f"waterbirds:{birds}", "--verdicts", str(birds)], "--verdicts: expected a"),
        (
            ["spurious", f"waterbirds:{birds}", "--model", "torchvision:resnet18,random"],
            "--model: torchvision:resnet18 random: data: expected the 1000 classes of ImageNet",
        ),
        (counteranimal(birds, tmp_path / "out"), "DIR: "),
        (
            counteranimal(animals, tmp_path / "out", "--candidates", birds / "metadata.csv"),
            "--candidates: ",
        ),
        (
            counteranimal(animals, tmp_path / "out", "--candidates", tmp_path / "few.json"),
            "--candidates: expected those of class 10, got some for 1 other classes",
        ),
        (counteranimal(animals, tmp_path / "out", "--model", "timm:no"), "--model: unknown model"),
        (counteranimal(animals, tmp_path / "out", "--templates", "two"), "--templates: expected"),
    ):
        out = [] if "--out" in words else ["--out", str(tmp_path / "sets")]
        assert cli.main([*words, *out]) == 2, words
        assert message in capsys.readouterr().err
