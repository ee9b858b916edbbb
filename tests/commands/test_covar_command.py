"""`cci-captum covar`: variants are built, measured and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

import pandas as pd
import pytest

from cci_captum.benchmarks import cli
from cci_captum.benchmarks.covar import BuildRun, Photos
from cci_captum.benchmarks.covar.evaluation import summary
from cci_captum.benchmarks.data import open_data

RULE = "shapley-regions(by=hidden)"
FILES = [
    "classes.png", "factors.png", "levels.png", "measures.parquet", "predictions.parquet",
    "settings.json", "summary.md",
]  # fmt: skip


def build(out: Path, *more: object) -> list[str]:
    data = ["--data", "scenes:n=120,size=64", "--class", "cat", "--class", "bus"]
    small = ["--photos", 2, "--background-count", 2, "--size", 48, "--device", "cpu"]
    return [*map(str, ["covar", "build", *data, *small, "--out", out, *more])]


def evaluate(where: Path, out: Path, *more: object) -> list[str]:
    options = ["--device", "cpu", "--batch-size", 40, "--factor", "original,scale,crop"]
    return [*map(str, ["covar", "evaluate", where, *options, "--out", out, *more])]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("covar") / "images"
    assert cli.main(build(out)) == 0
    return out


def test_the_full_size_is_counted_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["covar", "build", "--data", "scenes:n=500", "--dry-run"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    for number in ("404,250 images of 1,650 photos", "33 classes, 12,250 images each", "33,000"):
        assert number in said
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
def test_what_was_built_is_data(built: Path) -> None:
    manifest = pd.read_parquet(built / "manifest.parquet")
    assert len(manifest) == 2 * 2 * (1 + 4 + 2 * 12)
    assert set(manifest["class"]) == {"cat", "bus"}
    assert all((built / path).exists() for path in manifest["image_path"])
    before = (built / "manifest.parquet").read_bytes()
    assert cli.main(build(built)) == 0  # nothing is missing
    assert (built / "manifest.parquet").read_bytes() == before


@pytest.mark.usefixtures("small_model")
def test_models_are_measured_on_it(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(evaluate(built, tmp_path, "--rule", RULE)) == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == FILES
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert len(table) == 2 * 2 * (1 + 4 + 2 * (1 + 4 + 1))
    assert table[f"{RULE}_verdict"].notna().all()
    names = json.loads((tmp_path / "settings.json").read_text())["models"]["small"]["class_names"]
    measures = pd.read_parquet(tmp_path / "measures.parquet")
    own = measures[measures["by"] == "class"].set_index("value")["accuracy"]
    expected = summary(table, "class", class_names=names).set_index("class")["accuracy"]
    assert own.to_dict() == expected.to_dict()
    said = capsys.readouterr().out
    assert "small" in said and "wrote settings.json" in said


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_the_same_command_measures_nothing_again(built: Path, tmp_path: Path) -> None:
    assert cli.main(evaluate(built, tmp_path, "--rule", RULE)) == 0
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    for name in FILES:
        (tmp_path / name).unlink()
    assert cli.main(evaluate(built, tmp_path, "--rule", RULE)) == 0  # from what was measured
    after = {name: (tmp_path / name).read_bytes() for name in FILES}
    assert after == before


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_a_report_without_a_model(built: Path, tmp_path: Path) -> None:
    words = evaluate(built, tmp_path, "--rule", "none")
    assert cli.main(["run", *words]) == 0
    before = {name: (tmp_path / name).read_bytes() for name in FILES}
    assert "bg_er" not in (tmp_path / "summary.md").read_text()
    for name in FILES:
        (tmp_path / name).unlink()
    assert cli.main(["run", "report", str(tmp_path)]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == before


@pytest.mark.exhaustive
def test_what_is_overwritten_is_no_data_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made = tmp_path / "images", BuildRun._block
    assert cli.main(build(out)) == 0
    monkeypatch.setattr(BuildRun, "_block", lambda *_: _interrupt())
    assert cli.main(build(out)) == 0  # nothing is missing: it stays as it is
    assert len(open_data(f"covar:{out}")) == 116
    assert cli.main(build(out, "--seed", 5, "--restart")) == 130
    with pytest.raises(FileNotFoundError, match="expected a finished build"):
        open_data(f"covar:{out}")
    monkeypatch.setattr(BuildRun, "_block", made)
    assert cli.main(build(out, "--seed", 5)) == 0
    assert open_data(f"covar:{out}").damaged() == []


def _interrupt() -> NoReturn:
    raise KeyboardInterrupt


def test_wrong_options_are_said_before_photos_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Photos, "choose", lambda *_, **__: _interrupt())
    for words, message in (
        (("--controls", "sme"), "--controls: expected some of same, mean, blurred"),
        (("--moves", "size=object"), "--moves: expected some of scale, viewpoint"),
        (("--feather", 40), "--feather: expected 0 to 12 pixels"),
        (("--colour", 2), "--colour: expected a number from 0 to 1"),
        (("--backgrounds", tmp_path / "no"), "--backgrounds: no such folder"),
    ):
        for run in ([], ["run"], ["run", "--workers", "2"]):
            words_of_run = build(tmp_path / "out", *words)
            assert cli.main([*run[:1], *words_of_run, *run[1:]]) == 2, words
            assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rules_are_of_clips(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--model", "tiny", "--model", "torchvision:resnet18,IMAGENET1K_V1"]
    assert cli.main(evaluate(built, tmp_path / "out", *models)) == 2
    assert "--rule none measures any classifier" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_said(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for words, message in (
        (build(out, "--moves", "crop"), "--moves: expected FACTOR=picture or FACTOR=object"),
        (build(out, "--moves", "size=object"), "--moves: expected some of scale, viewpoint"),
        (build(out, "--controls", "sme"), "--controls: expected some of same, mean, blurred"),
        (build(out, "--object-share", "0.5"), "--object-share: expected two numbers, LEAST,MOST"),
        (build(out, "--object-share", "0.5,0.2"), "--object-share: expected 0 <= least < most"),
        (build(out, "--segmenter", "clusters"), "--segmenter: expected masks of objects"),
        (build(out, "--class", "dodo"), "--class: expected names of the 33 classes of scenes"),
        (build(out, "--photos", 50), "--photos: expected 50 usable ones of each class, but of"),
        (build(out, "--backgrounds", tmp_path / "no"), "--backgrounds: no such folder"),
        (build(built, "--colour", 0.5), "--out: expected results of the same run in"),
        (evaluate(tmp_path, out), "DIR: expected covar.json"),
        (evaluate(built, out, "--model", "torchvision:resnet5", "--rule", "none"), "--model: "),
        (evaluate(built, out, "--factor", "size", "--rule", "none"), "--factor: expected"),
    ):
        assert cli.main(words) == 2, words
        assert message in capsys.readouterr().err
