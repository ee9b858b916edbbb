"""`cci-captum compare`: what it writes, that it is what the library gives, and its errors."""

from __future__ import annotations

import io
import json
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cci_captum
from cci_captum.baselines import GradECLIP
from cci_captum.benchmarks import cli
from cci_captum.benchmarks.comparison import FolderStore, compare
from cci_captum.benchmarks.data import ImageFolders, Scenes

TABLES = ["curves", "errors", "failures", "maps", "results", "samples", "timings"]
FILES = sorted(
    [
        *(f"{name}.parquet" for name in TABLES),
        *("curves.png", "grid.png", "parts", "scatter.png", "settings.json", "summary.md"),
    ]
)


def run(*arguments: object) -> int:
    return cli.main(["compare", "--device", "cpu", *(str(argument) for argument in arguments)])


def without_time(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="seconds", errors="ignore")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of two photos each, and masks of their left halves."""
    rng = np.random.default_rng(0)
    for name in ("cat", "hot_dog"):
        for kind in ("photos", "masks"):
            (tmp_path / kind / name).mkdir(parents=True)
        for number in range(2):
            values = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
            Image.fromarray(values).save(tmp_path / "photos" / name / f"{number}.png")
            mask = np.zeros((60, 80), np.uint8)
            mask[:, :40] = 255
            Image.fromarray(mask).save(tmp_path / "masks" / name / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.exhaustive
def test_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "folder"
    # Random maps are compared in any case.
    options = "--n 2 --seed 5 --method cci(clusters=4) --method random --method grad-eclip "
    options += "--protocol grad-eclip,tokens --ties none --checks random-label"
    assert run(*options.split(), "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == FILES
    for name in ("curves", "grid", "scatter"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.width > 1000 and picture.height > 400

    # The same with the library.
    clip, scenes = cci_captum.load_clip("tiny"), Scenes(2, seed=5)
    classifier = cci_captum.ZeroShotClassifier(
        clip.model, clip.tokenizer, scenes.class_names, scenes.templates
    )
    expected = compare(
        {
            "cci(clusters=4)": lambda f: cci_captum.CCI(f, clustering=cci_captum.KMeans(4)),
            "grad-eclip": GradECLIP,
        },
        scenes,
        ["grad-eclip", "tokens"],
        forward_func=classifier,
        preprocess=clip.preprocess,
        checks=["random-label"],
        ties=(),
        seed=5,
        model="tiny",
    )
    for name in ("results", "curves"):
        written = pd.read_parquet(out / f"{name}.parquet")
        pd.testing.assert_frame_equal(
            without_time(written), without_time(getattr(expected, name)), atol=1e-6
        )
    settings = json.loads((out / "settings.json").read_text())
    assert settings["images"] == 2 and settings["errors"] == [] and settings["model"] == "tiny"
    summary = (out / "summary.md").read_text()
    printed = capsys.readouterr().out
    cci = expected.results[(expected.results["method"] == "cci(clusters=4)")][:2]
    mean = f"{cci['deletion_top1'].mean():.3f}"
    assert f"| CCI (4 clusters) | {mean}" in summary
    assert re.search(rf"^CCI \(4 clusters\) +{mean} ", printed, re.MULTILINE)
    assert "Sanity checks" in summary and "nan" not in summary

    # The command in the report is the command, defaults written out.
    words = shlex.split(settings["command"])
    assert words[:2] == ["cci-captum", "compare"]
    methods = [words[place + 1] for place, word in enumerate(words) if word == "--method"]
    assert methods == ["cci(clusters=4)", "grad-eclip"]  # random maps are compared in any case
    again = tmp_path / "again"
    assert cli.main([*words[1:], "--out", str(again)]) == 0
    pd.testing.assert_frame_equal(
        without_time(pd.read_parquet(again / "results.parquet")),
        without_time(pd.read_parquet(out / "results.parquet")),
    )


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_folders_with_masks_and_class_names(photos: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\nhot dog\n\ncat\n")
    out = tmp_path / "out"
    options = ["--data", photos, "--classes", classes, "--masks", photos.parent / "masks"]
    options += ["--method", "gradcam", "--protocol", "grad-eclip-original", "--out", out]
    assert run(*options, "--ties", "none") == 0
    results = pd.read_parquet(out / "results.parquet")
    assert sorted(set(results["method"])) == ["gradcam", "ground-truth", "random"]
    targets = dict(zip(results["image"], results["target"], strict=True))
    assert targets == {"cat/0.png": 2, "cat/1.png": 2, "hot_dog/0.png": 1, "hot_dog/1.png": 1}
    truth = results[results["method"] == "ground-truth"]
    assert (truth["average_precision"] == 1).all() and (truth["iou"] == 1).all()

    options = [
        "--data",
        photos,
        "--n",
        2,
        "--method",
        "gradcam",
        "--ties",
        "raster",
        "--out",
        tmp_path / "2",
    ]
    assert run(*options) == 0
    results = pd.read_parquet(tmp_path / "2" / "results.parquet")
    names = [ImageFolders(photos, count=2)[index].name for index in range(2)]
    assert list(results.query("method == 'gradcam'")["image"]) == names
    assert "energy" not in results and "ground-truth" not in set(results["method"])


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_where_maps_lie_alone(tmp_path: Path) -> None:
    """No protocol: the maps' measures, all others compared with the reference."""
    options = ["--n", 3, "--method", "gradcam", "--protocol", "none", "--reference", "random"]
    assert run(*options, "--out", tmp_path) == 0
    summary = (tmp_path / "summary.md").read_text()
    assert "| minus Random | pointing game | energy | best IoU | average precision |" in summary
    assert "--reference random" in json.loads((tmp_path / "settings.json").read_text())["command"]
    assert not (tmp_path / "curves.png").exists()
    # The reference is no part of what was measured: nothing runs again.
    parts = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*")}
    assert run(*options[:-2], "--out", tmp_path) == 0
    assert parts == {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*")}
    assert "| minus GradCAM | pointing game |" in (tmp_path / "summary.md").read_text()


PLAIN = ["--method", "gradcam", "--protocol", "tokens", "--ties", "none", "--batch-size", "2"]


def written(folder: Path) -> dict[str, bytes]:
    """What two runs write alike: all but how long it took."""
    names = [*(f"{name}.parquet" for name in TABLES), "settings.json", "grid.png"]
    return {n: (folder / n).read_bytes() for n in names if n != "timings.parquet"}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_the_same_command_goes_on_and_another_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--n", 4, *PLAIN]
    assert run(*options, "--out", tmp_path / "whole") == 0
    add, calls = FolderStore.add, []

    def interrupted(self: FolderStore, key: Any, unit: pd.DataFrame) -> None:
        add(self, key, unit)
        calls.append(key)
        if len(calls) == 3:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr(FolderStore, "add", interrupted)
    assert run(*options, "--out", out) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert len([*out.glob("parts/*.parquet")]) == 3
    assert run(*options, "--out", out) == 0
    assert len(calls) == 2 * (1 + 3)  # two blocks: their images, a method and two references
    assert written(out) == written(tmp_path / "whole")

    assert run(*options, "--seed", 1, "--out", out) == 2
    err = capsys.readouterr().err
    assert "--out: expected results of the same run in " in err
    assert "seed 0, not 1; take another folder, or --restart" in err
    assert written(out) == written(tmp_path / "whole")
    assert run(*options, "--seed", 1, "--out", out, "--restart") == 0
    assert written(out) != written(tmp_path / "whole")


@pytest.mark.exhaustive
@pytest.mark.beyond_pairs
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_process_goes_on(sign: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cci_captum.benchmarks.cli", "compare", "--device", "cpu"]
    command += ["--n", "6", *PLAIN, "--out"]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*command, str(out)],
        stderr=subprocess.DEVNULL,
        # A shell starts what runs in its background with this signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len([*out.glob("parts/*.parquet")]) < 4:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(sign)
    assert process.wait() in (130, -sign)
    assert 4 <= len([*out.glob("parts/*.parquet")]) < 12
    subprocess.run([*command, str(out)], check=True, capture_output=True)
    assert written(out) == written(tmp_path / "whole")


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_photos_in_tar_files(photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as shard:
        for number, name in enumerate(("cat", "hot_dog")):
            shard.add(photos / name / "0.png", f"{name}.png")
            label = tarfile.TarInfo(f"{name}.cls")
            label.size = 1
            shard.addfile(label, io.BytesIO(b"%d" % number))
    (tmp_path / "classnames.txt").write_text("cat\nhot dog\n")
    options = ["--data", f"webdataset:{tmp_path}", "--protocol", "tokens", "--ties", "none"]
    assert run(*options, "--method", "gradcam", "--out", tmp_path / "out") == 0
    results = pd.read_parquet(tmp_path / "out" / "results.parquet")
    targets = dict(zip(results["image"], results["target"], strict=True))
    assert targets == {"image 0 (0.tar/cat)": 0, "image 1 (0.tar/hot_dog)": 1}


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_an_unreadable_photo_is_reported_and_the_rest_goes_on(photos: Path, tmp_path: Path) -> None:
    (photos / "cat" / "0.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert run("--data", photos, "--method", "gradcam", "--ties", "none", "--out", out) == 0
    (error,) = json.loads((out / "settings.json").read_text())["errors"]
    assert error["index"] == 0 and "cat/0.png" in error["error"]
    assert "cat/0.png" in (out / "summary.md").read_text()
    assert pd.read_parquet(out / "results.parquet")["image"].nunique() == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "cci", "--method", "ccl"], "--method: expected one of cci, grad-eclip, "),
        (["--method", "cci,rise"], '--method: expected "(" or the end at character 4 of'),
        (["--method", "rise(masks=x)"], "--method: masks of rise: expected a positive int, got"),
        (["--methods", "cci,rise"], "unrecognized arguments: --methods cci,rise"),
        (["--method", "random"], "--method: expected at least one beside random"),
        (["--data", "photos", "--method", "ground-truth"], "--method: ground-truth needs masks"),
        (["--protocol", "grad"], "--protocol: expected one of grad-eclip-original, "),
        (["--reference", "ccl"], "--reference: expected one of cci, grad-eclip, maskclip, "),
        (["--method", "cci", "--reference", "rise"], "--reference: expected one of cci, random, "),
        (
            ["--data", "photos", "--method", "cci", "--reference", "ground-truth"],
            "--reference: expected one of cci, random, got 'ground-truth'",
        ),
        (["--checks", "random"], "--checks: expected some of random-weights, random-label, got"),
        (["--n", "0"], "--n: expected an int of at least 1, got '0'"),
        (["--objects", "three"], "--objects: expected one of one, two, each, got 'three'"),
        (["--artwork", "new"], "--artwork: expected one of train, held-out, each, got 'new'"),
        (["--explained", "false"], "--explained: expected one of true, predicted, got 'false'"),
        (["--batch-size", "-1"], "--batch-size: expected an int of at least 1, got '-1'"),
        (["--seed", "-1"], "--seed: expected an int of at least 0, got '-1'"),
        (["--masks", "masks"], "--masks: scenes have their own"),
        (["--data", "imagenet:x", "--classes", "c.txt"], "--classes: ImageNet has its own"),
        (["--data", "nowhere"], "--data: "),
        (["--data", "empty"], "--data: "),
        (["--data", "loose"], "--data: "),
        (["--data", "photos", "--classes", "wrong.txt"], "--classes: 1 of the 2 folders"),
        (["--data", "photos", "--n", "99"], "--n: expected at most the 4"),
        (["--data", "photos", "--masks", "nowhere"], "--masks: no such folder"),
        (["--data", "photos", "--classes", "missing.txt"], "--classes: "),
        (["--data", "imagenet:photos"], "--data: "),
        (["--model", "ViT-X"], "--model: unknown model 'ViT-X'"),
        (["--device", "gpu"], "--device: 'gpu' is not available"),
        (["--out", "file"], "--out: expected a folder, got a file: file"),
    ],
)
def test_errors_come_before_any_work(
    options: list[str],
    message: str,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here = photos.parent
    monkeypatch.chdir(here)
    (here / "file").touch()
    (here / "wrong.txt").write_text("cat\ndog\n")
    for folder in ("empty", "loose"):
        (here / folder).mkdir()
    (here / "loose" / "photo.png").touch()
    assert run("--out", "out", *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("cci-captum: error: " + message) and error.count("\n") == 1
    assert not (here / "out").exists() or not any((here / "out").iterdir())
