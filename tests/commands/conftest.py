"""What tests of several commands need."""

from __future__ import annotations

from typing import Any

import pytest

import cci_captum
from cci_captum.benchmarks import predictions
from cci_captum.benchmarks.commands import (
    _comparing,
    _covar_evaluate,
    _evaluating,
    _written,
    diagnose,
)
from cci_captum.benchmarks.predictions import Recogniser


@pytest.fixture
def small_model(make_clip: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the tiny model, with its preprocessing, one that takes a tenth of the time."""
    model, _ = make_clip(1, image_size=96, patch_size=16)
    preprocess = cci_captum.load_clip("tiny").preprocess
    loaded = cci_captum.LoadedCLIP(model, preprocess, tokenizer, "small")
    for command in (_comparing, diagnose, _covar_evaluate):
        monkeypatch.setattr(command, "load_model", lambda *_: loaded)
    for command in (_written, diagnose, _evaluating):
        monkeypatch.setattr(command, "DPI", 50)

    def of(class_names: Any, templates: Any) -> Any:
        return cci_captum.ZeroShotClassifier(model, tokenizer, class_names, templates)

    recogniser = Recogniser("small", "clip", preprocess, of)
    monkeypatch.setattr(predictions, "load_recogniser", lambda *_: recogniser)
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "CCI_CAPTUM_WORKER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn: for tests that look at tables and pages alone."""
    monkeypatch.setattr(_written.Written, "draw", lambda *_: None)
