"""`cci-captum study`: what it compares, what it writes, on small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from families import FAMILIES
from toy import ToyTokenizer

import cci_captum
from cci_captum.benchmarks import cli, studies
from cci_captum.benchmarks.commands import _evaluating, study

LEADER = "gated-cci(clusters=2,score=log-probability)"


@pytest.fixture
def small(make_clip: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    preprocess = cci_captum.load_clip("tiny").preprocess

    def load(name: str, pretrained: str | None, device: Any) -> cci_captum.LoadedCLIP:
        model, _ = make_clip(len(name), image_size=96, patch_size=32)
        return cci_captum.LoadedCLIP(model, preprocess, tokenizer, name)

    monkeypatch.setattr(study, "load_model", load)
    monkeypatch.setattr(studies, "LEADERS", (LEADER,))
    monkeypatch.setattr(_evaluating, "DPI", 20)


def run(*words: object) -> int:
    return cli.main([*map(str, words)])


def test_leading(small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["study", "leading", "--n", 4, "--protocol", "tokens", "--only", "gradcam"]
    words += ["--model", "ViT-B-32,openai", "--model", "ViT-L-14,openai"]
    words += ["--checks", "random-label"]
    assert run("run", *words, "--out", tmp_path) == 0
    results = pd.read_parquet(tmp_path / "results.parquet")
    assert set(results["method"]) == {LEADER, "gradcam", "random", "ground-truth"}
    assert results["index"].nunique() == 8 and results["photo"].nunique() == 4
    assert results.groupby(["objects", "artwork"])["photo"].nunique().tolist() == [1] * 4
    differences = pd.read_parquet(tmp_path / "differences.parquet")
    assert set(differences["method"]) == {"gradcam", "ground-truth"}
    assert set(differences["leader"]) == {LEADER} and differences["condition"].nunique() == 7
    page = (tmp_path / "summary.md").read_text()
    assert "| all | 8 | 4 | 2 |" in page and "## Sanity checks" in page
    assert "wrote settings.json, results.parquet, differences.parquet" in capsys.readouterr().out
    (tmp_path / "summary.md").unlink()
    assert run("run", "report", tmp_path) == 0  # without a model
    assert (tmp_path / "summary.md").read_text() == page


@pytest.mark.exhaustive
def test_choices(small: None, tmp_path: Path) -> None:
    words = ["study", "choices", "--n", 4, "--protocol", "tokens", "--model", "ViT-B-32,openai"]
    for name in ("regions", "taken away", "noise on the image", "enlarged"):
        words += ["--only", name]
    assert run(*words, "--out", tmp_path) == 0
    differences = pd.read_parquet(tmp_path / "differences.parquet")
    assert set(differences["base"]) == {"cci"} and differences["method"].nunique() == 13
    assert not pd.read_parquet(tmp_path / "results.parquet")["insertion_top1"].isna().any()
    page = (tmp_path / "summary.md").read_text()
    assert "| regions | superpixels |" in page and "| taken away | pixels grey |" in page


CHOICES = list(dict.fromkeys(level.choice for level in studies.levels(3, (0.5,) * 3, (0.2,) * 3)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("only", CHOICES)
def test_each_choice_alone(small: None, only: str, tmp_path: Path) -> None:
    """Two choices may have a level of the same spec, of different methods as they are."""
    words = ["study", "choices", "--n", 2, "--protocol", "tokens", "--model", "ViT-B-32,openai"]
    assert run(*words, "--only", only, "--out", tmp_path) == 0
    known = [level for level in studies.levels(3, (0.5,) * 3, (0.2,) * 3) if level.choice == only]
    differences = pd.read_parquet(tmp_path / "differences.parquet")
    found = set(zip(differences["base"], differences["method"], strict=True))
    assert found == {(level.base, level.name) for level in known}


def test_a_model_that_those_that_lead_do_not_take(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured, with the reason."""

    def load(name: str, pretrained: str | None, device: Any) -> cci_captum.LoadedCLIP:
        preprocess = cci_captum.load_clip("tiny").preprocess
        model = FAMILIES["open_clip CoCa"].make()
        return cci_captum.LoadedCLIP(model, preprocess, ToyTokenizer(), name)

    monkeypatch.setattr(study, "load_model", load)
    for words in (["leading", "--only", "gradcam"], ["choices", "--only", "parts"]):
        command = ["study", *words, "--n", 2, "--model", "ViT-B-32,openai", "--out", tmp_path]
        assert run(*command) == 2
        err = capsys.readouterr().err
        assert "--model: ViT-B-32: gated-cci(" in err and "does not take it: " in err
    assert not [*tmp_path.glob("parts/*.parquet")]


@pytest.mark.exhaustive
def test_a_report_of_a_study_without_a_plan_is_refused(
    small: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["study", "leading", "--n", 2, "--protocol", "tokens", "--only", "gradcam"]
    assert run(*words, "--model", "ViT-B-32,openai", "--out", tmp_path) == 0
    page = (tmp_path / "summary.md").read_text()
    assert run("run", "report", tmp_path) == 2
    assert "report: expected plan.json in " in capsys.readouterr().err
    assert (tmp_path / "summary.md").read_text() == page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["choices", "--only", "colour"], "--only: expected one of clusters, tokens clustered, "),
        (["leading", "--only", "colour"], "--only: expected one of cci, "),
        (["leading", "--only", "random"], "--only: expected a method beside those that lead, got "),
        (["choices", "--checks", "random-label"], "--checks: expected none of choices, got rand"),
        (["leading", "--protocol", "none"], "--protocol: expected at least one, got none"),
        (["leading", "--protocol", "half"], "--protocol: expected one of "),
        (["leading", "--checks", "none"], "--checks: expected some of "),
        (["both"], "leading|choices: invalid choice: 'both' (choose from 'leading', 'choices')"),
    ],
)
def test_errors(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert run("study", *words) == 2
    except SystemExit as end:
        assert end.code == 2
    assert message in capsys.readouterr().err
