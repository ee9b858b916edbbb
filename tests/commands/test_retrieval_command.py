"""`cci-captum retrieval`: captions of files and of scenes, several models, errors."""

from __future__ import annotations

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cci_captum
from cci_captum.benchmarks import cli
from cci_captum.benchmarks.commands import _comparing, _written
from cci_captum.benchmarks.comparison import Comparison

FAST = ["--method", "gradcam", "--ties", "none", "--device", "cpu", "--batch-size", "4"]


@pytest.fixture
def small_models(make_clip: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of models by name: small ones, another for each tag."""
    preprocess = cci_captum.load_clip("tiny").preprocess

    def load(name: str, pretrained: str | None, device: Any) -> cci_captum.LoadedCLIP:
        model, _ = make_clip(len(pretrained or ""), image_size=96, patch_size=32)
        tag = f" {pretrained}" if pretrained else ""
        return cci_captum.LoadedCLIP(model, preprocess, tokenizer, f"{name}{tag}")

    monkeypatch.setattr(_comparing, "load_model", load)
    monkeypatch.setattr(_written, "DPI", 50)


def run(*arguments: object) -> int:
    return cli.main(["retrieval", *map(str, arguments), *FAST])


def coco(folder: Path) -> Path:
    """Three photos in the layout of Karpathy's splits, one of them with six captions."""
    (folder / "val2014").mkdir()
    rng, entries = np.random.default_rng(0), []
    for number, count in enumerate((5, 6, 1)):
        name = f"COCO_val2014_{number:012}.jpg"
        values = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / "val2014" / name)
        sentences = [{"raw": f"{'abc'[number]}, {k}"} for k in range(count)]
        entry = {"filepath": "val2014", "filename": name, "cocoid": number, "split": "test"}
        entries.append(entry | {"sentences": sentences})
    content = json.dumps({"dataset": "coco", "images": entries})
    (folder / "dataset_coco.json").write_text(content)
    return folder


@pytest.mark.usefixtures("small_models")
def test_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = coco(tmp_path), tmp_path / "out"
    options = ["--data", f"coco:{data}", "--captions", 2, "--out", out]
    assert run(*options) == 0
    found = Comparison.load(out)
    assert found.samples["label"].tolist() == ["a, 0", "a, 1", "b, 0", "b, 1", "c, 0"]
    assert found.samples["cocoid"].tolist() == [0, 0, 1, 1, 2]
    settings = json.loads((out / "settings.json").read_text())
    assert settings["command"].startswith(f"cci-captum retrieval --data coco:{data} ")
    assert "--captions 2" in settings["command"] and settings["captions"] == 5
    page = (out / "summary.md").read_text()
    assert "5 captions made from 3 photos" in page and "IR@5" in page
    assert "IR@5" in capsys.readouterr().out
    for name in ("curves.png", "scatter.png", "grid.png"):
        assert (out / name).stat().st_size > 3_000
    assert run(*options, "--seed", 1) == 2
    assert "--out: expected results of the same run" in capsys.readouterr().err


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_models")
def test_captions_in_tar_files(tmp_path: Path) -> None:
    data, out = tmp_path / "pets", tmp_path / "out"
    (data / "val").mkdir(parents=True)
    texts = ["a cat, asleep\nan old cat\n", "a dog", "an owl\nit flies\nit sees"]
    with tarfile.open(data / "val" / "0.tar", "w") as shard:
        for number, text in enumerate(texts):
            values = np.random.default_rng(number).integers(0, 256, (60, 80, 3), dtype=np.uint8)
            image = io.BytesIO()
            Image.fromarray(values).save(image, "png")
            for suffix, content in (("png", image.getvalue()), ("txt", text.encode())):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    (data / "val" / "nshards.txt").write_text("1\n")
    options = ["--data", f"webdataset:{data}", "--split", "val", "--captions", 2]
    assert run(*options, "--protocol", "tokens", "--out", out) == 0
    found = Comparison.load(out)
    labels = ["a cat, asleep", "an old cat", "a dog", "an owl", "it flies"]
    assert found.samples["label"].tolist() == labels
    of = [name.split(" (")[1].split(")")[0] for name in found.samples["image"]]
    assert of == ["0.tar/0", "0.tar/0", "0.tar/1", "0.tar/2", "0.tar/2"]
    assert "5 captions made from 3 photos" in (out / "summary.md").read_text()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_models")
def test_several_models(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ["ViT-B-32,openai", "ViT-B-32,laion2b_s34b_b79k"]
    options = ["--n", 2, "--protocol", "tokens", "--out", out]
    options += [word for name in names for word in ("--model", name)]
    assert run(*options) == 0
    found = Comparison.load(out)
    assert found.models == [name.replace(",", " ") for name in names]
    first, second = (found.of(model).results["deletion_score"] for model in found.models)
    assert not np.allclose(first, second)
    pictures = sorted(path.name for path in out.glob("*.png"))
    assert pictures == sorted(
        f"{k}-{n}-ViT-B-32.png" for k in ("curves", "scatter", "grid") for n in (1, 2)
    )
    assert len(list((out / "parts").glob("model-*.json"))) == 2
    before = pd.read_parquet(out / "results.parquet")
    assert run(*options) == 0  # all of it is there
    pd.testing.assert_frame_equal(pd.read_parquet(out / "results.parquet"), before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--captions", 2], "--captions: scenes has no such option"),
        (["--split", "test"], "--split: scenes has no such option"),
        (["--protocol", "none"], "--protocol: none needs data with masks"),
        (["--method", "ground-truth"], "--method: ground-truth needs masks"),
        (["--model", "a,"], "--model: expected NAME or NAME,TAG, got 'a,'"),
        (["--model", "a", "--model", "a"], "--model: expected each once, got 'a' again"),
        (["--model", "a,x", "--pretrained", "y"], "--pretrained: expected it beside one --model"),
        (["--data", "coco:/none"], "--data: .*no such folder"),
    ],
)
def test_errors(options: list[Any], message: str, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["retrieval", *map(str, options), "--out", str(tmp_path / "out")]) == 2

    assert re.search(message, capsys.readouterr().err)


def test_classes_alone_are_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "cat" / "1.png")
    options = ["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    assert cli.main(["retrieval", *options, "--device", "cpu"]) == 2
    assert "--data: expected images with captions, got none in" in capsys.readouterr().err
