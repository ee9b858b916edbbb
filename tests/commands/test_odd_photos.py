"""`cci-captum compare` on a folder with photos that are odd, and some that cannot be read."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from odd_photos import READ, WHY, write_odd_photos
from PIL import Image
from toy_comparison import PREPROCESS

from cci_captum import ZeroShotClassifier
from cci_captum.benchmarks import cli
from cci_captum.benchmarks.commands import _written
from cci_captum.benchmarks.comparison import compare, figures
from cci_captum.benchmarks.data import ImageFolders
from cci_captum.benchmarks.markdown import table
from cci_captum.benchmarks.tasks import Classification


@pytest.mark.exhaustive
def test_a_folder_of_odd_photos_runs_through(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be read is explained; what cannot is counted by reason, everywhere."""
    monkeypatch.setattr(_written, "DPI", 50)
    photos, out = tmp_path / "photos", tmp_path / "out"
    write_odd_photos(photos)
    options = ["--data", photos, "--method", "gradcam", "--protocol", "tokens", "--ties", "none"]
    command = ["compare", "--device", "cpu", *options, "--batch-size", 5, "--out", out]
    assert cli.main([str(word) for word in command]) == 0

    results = pd.read_parquet(out / "results.parquet").query("method == 'gradcam'")
    assert results["image"].tolist() == [f"odd/{name}" for name in READ]
    errors = pd.read_parquet(out / "errors.parquet")
    assert errors["index"].tolist() == [*range(len(READ), len(READ) + len(WHY))]
    assert dict(zip(sorted(WHY), errors["reason"], strict=True)) == WHY
    for name, error in zip(sorted(WHY), errors["error"], strict=True):
        assert error == f"{WHY[name]}: {photos}/unreadable/{name}"
    settings = json.loads((out / "settings.json").read_text())
    assert settings["images"] == len(READ)
    assert any("odd/damaged-exif.png: its EXIF data" in note for note in settings["notes"])

    summary, printed = (out / "summary.md").read_text(), capsys.readouterr().out
    section = summary[summary.index("## Images that could not be read") :].split("\n\n")
    said = f"Left out: {len(WHY)} of {len(READ) + len(WHY)} images"
    assert section[1].startswith(said) and f"\n{said}" in printed
    rows = []
    for why, count in Counter(WHY.values()).most_common():
        names = ", ".join(f"{photos}/unreadable/{name}" for name in WHY if WHY[name] == why)
        assert re.search(rf"^ *{count} x {re.escape(why)}: {re.escape(names)}$", printed, re.M)
        rows.append((why, count, names))
    assert section[2].strip() == table(["why", "images", "the first"], rows)


@pytest.mark.exhaustive
def test_a_large_photo_is_drawn_as_large_as_it_is_shown(
    tmp_path: Path, make_clip: Any, tokenizer: Any
) -> None:
    """Not pixel by pixel, at 100 bytes each."""
    for name, size in (("large", (2400, 2000)), ("small", (50, 40))):
        (tmp_path / name).mkdir()
        Image.effect_noise(size, 64).save(tmp_path / name / "1.png")
    model, _ = make_clip(1, image_size=32, patch_size=8)
    data = ImageFolders(tmp_path)
    classifier = ZeroShotClassifier(model, tokenizer, data.class_names, "{}")
    task = Classification(data, classifier, PREPROCESS)
    found = compare(["gradcam"], task, ["tokens"], ties=())
    shown = [
        image.get_array().shape[:2]
        for axes in figures.grid(found, task, places=[0, 1]).axes
        for image in axes.images
    ]
    assert max(map(max, shown)) == 1024
