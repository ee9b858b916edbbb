"""`cci-captum diagnose`: what it writes, alone, shared, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from cci_captum.benchmarks import cli
from cci_captum.benchmarks.commands._diagnosing import segmented
from cci_captum.benchmarks.data import Scenes
from cci_captum.benchmarks.diagnosis import shortcuts
from cci_captum.diagnosis import VERDICTS, FineGrainedJudge
from cci_captum.tiny import WORDNET_IDS

CLI = [sys.executable, "-m", "cci_captum.benchmarks.cli"]
RULES = ["--rule", "shapley-regions(by=hidden)", "--rule", "energy"]
FILES = [
    "extremes.png", "settings.json", "shortcuts.parquet", "summary.md", "verdicts.parquet",
    "verdicts.png",
]  # fmt: skip


def diagnose(out: Path, *more: object) -> list[str]:
    options = ["--device", "cpu", "--method", "gradcam", "--n", 8]
    return [*map(str, ["diagnose", *options, "--batch-size", 3, "--out", out, *more])]


@pytest.mark.usefixtures("small_model")
def test_it_writes_a_row_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(diagnose(tmp_path, *RULES)) == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == FILES
    said = capsys.readouterr().out
    assert "FG-Co" in said and "energy" in said
    table = pd.read_parquet(tmp_path / "verdicts.parquet")
    assert table["index"].tolist() == list(range(8))
    assert set(table["energy_verdict"]) <= {*VERDICTS}
    right = table["true"] == table["predicted"]
    assert table["energy_verdict"].str.endswith("Co").tolist() == right.tolist()
    assert (table["shapley-regions(by=hidden)_share"].abs() <= 1).all()
    page = (tmp_path / "summary.md").read_text()
    assert "small on scenes" in page and "## Shortcuts" in page
    pairs = pd.read_parquet(tmp_path / "shortcuts.parquet")
    again = shortcuts(table, "shapley-regions(by=hidden)")
    assert pairs["class"].tolist() == again["class"].tolist()
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["rules"] == ["shapley-regions(by=hidden)", "energy"]

    capsys.readouterr()
    before = (tmp_path / "verdicts.parquet").read_bytes()
    (tmp_path / "verdicts.parquet").unlink()
    parts = sorted((tmp_path / "parts").glob("*.parquet"))
    times = [path.stat().st_mtime_ns for path in parts]
    assert cli.main(diagnose(tmp_path, *RULES)) == 0
    assert [path.stat().st_mtime_ns for path in parts] == times  # nothing was measured anew
    assert (tmp_path / "verdicts.parquet").read_bytes() == before

    # Another threshold is another verdict of the same shares.
    asked = ["--rule", "shapley-regions(by=hidden,threshold=-1)", "--rule", "energy"]
    assert cli.main(diagnose(tmp_path, *asked)) == 0
    assert [path.stat().st_mtime_ns for path in parts] == times
    other = pd.read_parquet(tmp_path / "verdicts.parquet")
    assert other["shapley-regions(by=hidden,threshold=-1.0)_verdict"].str.startswith("BG").all()


@pytest.mark.exhaustive
@pytest.mark.beyond_pairs
def test_killed_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    """By workers that come and go, each killed at any moment."""
    words = ["run", *diagnose(tmp_path / "whole", "--n", 18), "--threads", "1"]
    assert subprocess.run([*CLI, *words], check=False).returncode == 0
    out = tmp_path / "killed"
    words = [*CLI, "run", *diagnose(out, "--n", 18), "--threads", "1"]
    kills = 0
    for count in range(1, 40):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Of 18 units the fifth is not reached: who is killed while it claims the report is waited
        # for until its lease ends.
        while process.poll() is None and len([*out.glob("parts/*-0*.parquet")]) < 4 * count:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0 and kills >= 4
    for name in ("verdicts.parquet", "shortcuts.parquet"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_a_report_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *diagnose(tmp_path, *RULES, "--n", 4), "--threads", "1"]) == 0
    before = (tmp_path / "verdicts.parquet").read_bytes()
    for name in ("verdicts.parquet", "summary.md", "extremes.png"):
        (tmp_path / name).unlink()
    capsys.readouterr()
    assert cli.main(["run", "report", str(tmp_path)]) == 0
    assert (tmp_path / "verdicts.parquet").read_bytes() == before
    assert (tmp_path / "summary.md").exists()
    assert cli.main(["run", "status", str(tmp_path)]) == 0
    assert "regions" in capsys.readouterr().out


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_objects_from_clusters_alone(tmp_path: Path) -> None:
    words = diagnose(tmp_path, "--rule", "shapley-regions(by=hidden)", "--segmenter", "clusters")
    assert cli.main([*words, "--n", "4"]) == 0
    table = pd.read_parquet(tmp_path / "verdicts.parquet")
    assert set(table["segmentation"]) <= {"", "empty mask"}
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["data"].endswith("objects by clusters")


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_look_alikes_by_wordnet_and_by_pairs(tmp_path: Path) -> None:
    """The same shares, some of whose errors are Fine-Er."""
    rule = ["--rule", "energy(threshold=1)", "--n", "24"]  # no background is to blame
    tables = {}
    for alike in ("none", "wordnet", "pairs"):
        path = tmp_path / "pairs.tsv"
        if alike == "pairs":
            wrong = tables["none"].query("true != predicted").iloc[0]
            path.write_text(f"{wrong['true_name']}\t{wrong['predicted_name']}\n\n")
        said = str(path) if alike == "pairs" else alike
        assert cli.main(diagnose(tmp_path / "out", *rule, "--alike", said)) == 0
        tables[alike] = pd.read_parquet(tmp_path / "out" / "verdicts.parquet")
    column = "energy(threshold=1.0)_verdict"
    assert not tables["none"][column].eq("Fine-Er").any()
    judge = FineGrainedJudge(names=WORDNET_IDS)
    for _, row in tables["wordnet"].query("true != predicted").iterrows():
        alike = judge(row["predicted_name"], row["true_name"])
        assert row[column] == ("Fine-Er" if alike else "FG-Er")
    named = {wrong["true_name"], wrong["predicted_name"]}
    for _, row in tables["pairs"].query("true != predicted").iterrows():
        same = {row["true_name"], row["predicted_name"]} == named
        assert row[column] == ("Fine-Er" if same else "FG-Er")


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--rule", "shapley"], "--rule: expected one of shapley-regions, energy, paper-iou, got"),
        (["--rule", "energy(cut=otsu)"], "--rule: expected an option of energy (threshold), got"),
        (["--segmenter", "sam"], '--segmenter: expected "data", masks of the data; "clusters"'),
        (["--segmenter", "folder:nowhere"], "--segmenter: expected folder:DIR, got"),
        (["--method", "ground-truth"], "--method: ground-truth needs masks of the objects"),
        (["--method", "all"], "--method: expected one method, got"),
        (["--alike", "nowhere.tsv"], "--alike: expected"),
        (["--by", "colour"], "--by: expected a column 'colour', got"),
    ],
)
def test_what_cannot_be(
    more: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        diagnose(tmp_path, "--rule", "energy", "--n", 2)
        if "--rule" not in more
        else diagnose(tmp_path)
    )
    assert cli.main([*words, *more]) == 2
    assert said in capsys.readouterr().err


def test_data_without_masks_need_a_segmenter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (96, 96), (name == "cat" and "red") or "blue").save(
            tmp_path / "data" / name / "1.png"
        )
    words = diagnose(tmp_path / "out", "--data", tmp_path / "data")
    assert cli.main(words) == 2
    assert "--segmenter: expected another than data, which has no masks" in capsys.readouterr().err


def test_changed_masks_are_another_run(tmp_path: Path) -> None:
    """What is resumed is of these masks, or nothing is."""
    (tmp_path / "a").mkdir()
    Image.new("L", (9, 9), 255).save(tmp_path / "a" / "1.png")
    wrap = segmented(f"folder:{tmp_path}", masks=False)
    before = wrap(Scenes(2), None, torch.device("cpu"))
    assert wrap(Scenes(2), None, torch.device("cpu")).listing == before.listing
    Image.effect_noise((9, 9), 50).save(tmp_path / "a" / "1.png")
    assert wrap(Scenes(2), None, torch.device("cpu")).listing != before.listing
