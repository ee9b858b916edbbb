"""`cci-captum variants`: a row a model, whatever becomes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import cci_captum
from cci_captum.benchmarks import cli
from cci_captum.benchmarks.clip_variants import COUNTERANIMAL_VARIANTS, PAPER_VARIANTS
from cci_captum.benchmarks.commands import _comparing, _written

FAST = ["--n", "3", "--method", "gradcam", "--protocol", "tokens", "--ties", "none"]


@pytest.fixture
def asked(make_clip: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of models as they are loaded: small ones, but for those that fail."""
    found: list[str] = []
    preprocess = cci_captum.load_clip("tiny").preprocess

    def load(name: str, pretrained: str | None, device: Any) -> cci_captum.LoadedCLIP:
        found.append(f"{name},{pretrained}")
        if name == "ViT-H-14":
            raise ConnectionError("the hub does not answer")
        if name == "ViT-bigG-14":
            raise torch.OutOfMemoryError("CUDA out of memory")
        model, _ = make_clip(len(name), image_size=96, patch_size=32)
        return cci_captum.LoadedCLIP(model, preprocess, tokenizer, f"{name} {pretrained}")

    monkeypatch.setattr(_comparing, "load_model", load)
    monkeypatch.setattr(_written, "DPI", 20)
    return found


def run(*words: object) -> int:
    return cli.main(["variants", *map(str, words)])


def test_three_models_one_of_which_fails(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["ViT-B-32,openai", "ViT-H-14,laion2b_s32b_b79k", "mine,a"]
    words = [word for model in models for word in ("--model", model)]
    assert run("compare", *FAST, *words, "--out", tmp_path) == 0
    assert asked == models
    table = pd.read_parquet(tmp_path / "variants.parquet")
    assert table["model"].tolist() == [model.replace(",", " ") for model in models]
    assert table["error"].tolist() == ["", "ConnectionError: the hub does not answer", ""]
    assert table["gflops"].tolist()[:2] == [8.82, 334.59] and table["gflops"].isna()[2]
    assert table["backbone"].tolist()[:2] == ["ViT", "ViT"]
    results = pd.read_parquet(tmp_path / "results.parquet")
    for place in (0, 2):
        own = results[
            (results["model"] == table["model"][place]) & (results["method"] == "gradcam")
        ]
        mean = table["gradcam: tokens: deletion_top1"][place]
        assert mean == pytest.approx(own["deletion_top1"].mean())
        right = own["predicted"] == own["target"]
        assert table["accuracy"][place] == pytest.approx(right.mean())
        assert table["accuracy_low"][place] <= right.mean() <= table["accuracy_high"][place]
    assert table.loc[1].drop(["model", "error"]).isna().sum() >= 9
    text = (tmp_path / "variants.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 3 and "the hub does not answer |" in rows[2]
    assert rows[0].startswith("| model | backbone | patch | size | trained on | loss | M | GFLOP |")
    assert "variants.md" in capsys.readouterr().out
    assert len(set(results["model"])) == 2


@pytest.mark.exhaustive
def test_a_run_of_other_settings_is_no_fault_of_a_model(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", *FAST, "--model", "mine,a", "--out", tmp_path]
    assert run(*words) == 0
    before = (tmp_path / "variants.parquet").read_bytes()
    assert run(*words, "--seed", 1) == 2
    assert "seed 0, not 1; take another folder, or --restart" in capsys.readouterr().err
    assert (tmp_path / "variants.parquet").read_bytes() == before


@pytest.mark.exhaustive
def test_nothing_can_be_measured(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", "ViT-H-14,laion2b_s32b_b79k", "--model", "ViT-bigG-14,laion2b_s39b_b160k"]
    assert run("compare", *FAST, *words, "--out", tmp_path) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "--model: expected one that can be measured, got none; ViT-H-14 laion2b" in error
    assert error.endswith("ConnectionError: the hub does not answer")
    table = pd.read_parquet(tmp_path / "variants.parquet")
    assert [error.split(":")[0] for error in table["error"]] == [
        *("ConnectionError", "OutOfMemoryError")
    ]


@pytest.mark.exhaustive
@pytest.mark.usefixtures("no_pictures")  # of 18 and 28 models
@pytest.mark.parametrize(
    ("words", "variants"),
    [
        ([], PAPER_VARIANTS),
        pytest.param(
            ["--variants", "counteranimal"],
            COUNTERANIMAL_VARIANTS,
            marks=pytest.mark.beyond_pairs,
        ),
    ],
)
def test_whole_lists(words: list[str], variants: Any, asked: list[str], tmp_path: Path) -> None:
    assert run("retrieval", "--n", 2, *FAST[2:], *words, "--out", tmp_path) == 0
    assert asked == [variant.model for variant in variants]
    table = pd.read_parquet(tmp_path / "variants.parquet")
    assert table["model"].tolist() == [variant.model.replace(",", " ") for variant in variants]
    failed = {"ViT-H-14", "ViT-bigG-14"}
    assert [error != "" for error in table["error"]] == [v.architecture in failed for v in variants]
    assert "accuracy" not in table


@pytest.mark.exhaustive
def test_by_workers(asked: list[str], tmp_path: Path) -> None:
    """The same store; and a model that failed is tried again when the run goes on."""
    models = ["--model", "ViT-B-32,openai", "--model", "ViT-H-14,laion2b_s32b_b79k"]
    words = ["variants", "compare", *FAST, *models, "--out", str(tmp_path)]
    for _ in range(2):
        assert cli.main(["run", *words]) == 0
    assert cli.main(["run", str(tmp_path / "plan.json")]) == 0
    assert asked == ["ViT-B-32,openai", "ViT-H-14,laion2b_s32b_b79k"] * 3
    table = pd.read_parquet(tmp_path / "variants.parquet")
    assert len(table) == 2 and len(list((tmp_path / "workers").iterdir())) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["demo"],
            "variants: expected one of compare, retrieval, counteranimal, spurious, got 'demo'",
        ),
        (["compare", "--variants", "mine"], "--variants: expected one of cci-paper, counteranimal"),
        (["compare", "--modell", "x"], "unrecognized arguments: --modell x"),
    ],
)
def test_wrong_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert message in capsys.readouterr().err
