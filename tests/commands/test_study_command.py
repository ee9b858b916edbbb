"""`cci-captum study`: what it compares, what it writes, on small models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

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
    words = ["study", "leading", "--n", 8, "--protocol", "tokens", "--only", "gradcam"]
    words += [
        "--model",
        "ViT-B-32,openai",
        "--model",
        "ViT-L-14,openai",
        "--checks",
        "random-label",
    ]
    assert run("run", *words, "--out", tmp_path) == 0
    results = pd.read_parquet(tmp_path / "results.parquet")
    assert set(results["method"]) == {LEADER, "gradcam", "random", "ground-truth"}
    assert results["index"].nunique() == 16 and results["photo"].nunique() == 8
    assert results.groupby(["objects", "artwork"])["photo"].nunique().tolist() == [2] * 4
    differences = pd.read_parquet(tmp_path / "differences.parquet")
    assert set(differences["method"]) == {"gradcam", "ground-truth"}
    assert set(differences["leader"]) == {LEADER} and differences["condition"].nunique() == 7
    page = (tmp_path / "summary.md").read_text()
    assert "| all | 16 | 8 | 2 |" in page and "## Sanity checks" in page
    assert "wrote settings.json, results.parquet, differences.parquet" in capsys.readouterr().out
    (tmp_path / "summary.md").unlink()
    assert run("run", "report", tmp_path) == 0  # without a model
    assert (tmp_path / "summary.md").read_text() == page


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["choices", "--only", "colour"], "--only: expected one of clusters, tokens clustered, "),
        (["leading", "--only", "colour"], "--method: expected one of cci, "),
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
