"""`cci-captum run`: workers that share a folder, whoever starts them, and what it says of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from runs import ASKED, TABLES, compare, run, tables

from cci_captum.benchmarks import cli, runner
from cci_captum.benchmarks.comparison import FolderStore
from cci_captum.benchmarks.runner import Claims


@pytest.mark.usefixtures("small_model", "no_pictures")
def test_status_compact_and_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run(*compare(out)) == 0
    capsys.readouterr()
    assert run("status", out) == 0
    said = capsys.readouterr().out
    assert "small  gradcam       3 of 3 blocks\n" in said
    assert said.endswith("\n\n3 of 3 blocks (done)\nworkers: 1 done\n")
    assert run("compact", out) == 0 and capsys.readouterr().out == "12 files became 4\n"
    before = tables(out)
    for name in TABLES:
        (out / f"{name}.parquet").unlink()
    assert run("report", out) == 0
    assert tables(out) == before


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_one_worker_gives_what_compare_gives(tmp_path: Path) -> None:
    assert cli.main([str(word) for word in compare(tmp_path / "plain")]) == 0
    out = tmp_path / "run"
    assert run(*compare(out)) == 0
    assert tables(out) == tables(tmp_path / "plain")
    both = [(folder / "summary.md").read_text()[:600] for folder in (out, tmp_path / "plain")]
    assert both[0] == both[1]
    before = tables(out)
    assert run("compact", out) == 0
    assert run(*compare(out)) == 0  # all is there: written anew, nothing is measured
    assert tables(out) == before and len(list((out / "parts").glob("*.parquet"))) == 4


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_records_and_plans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plan = tmp_path / "run", tmp_path / "PLAN.json"
    asked = {"command": "compare", "n": 6, "device": "cpu", "method": ["gradcam"], "ties": "none"}
    asked |= {"protocol": "tokens", "batch_size": 2, "out": str(out), "threads": 1}
    plan.write_text(json.dumps(asked))
    assert run(plan) == 0
    (path,) = (out / "workers").iterdir()
    record = json.loads(path.read_text())
    assert record["how"] == "done" and record["units"] == 9 and record["images"] == 18
    for name in ("host", "pid", "rank", "world", "device", "threads", "versions", "revision"):
        assert name in record
    assert record["versions"]["torch"] and record["threads"] == 1
    first = tables(out)
    stored = json.loads((out / "plan.json").read_text())
    assert stored["n"] == 6 and stored["threads"] == 1 and stored["command"] == "compare"
    assert run(out / "plan.json") == 0  # the folder's own plan is the same run
    assert tables(out) == first and len(list((out / "workers").iterdir())) == 2

    capsys.readouterr()
    assert run(*compare(out), "--threads", 2) == 2
    assert "--threads: the run in " in capsys.readouterr().err
    assert run(*compare(out), "--seed", 1) == 2
    assert "seed 0, not 1; take another folder, or --restart" in capsys.readouterr().err
    assert tables(out) == first
    assert json.loads((out / "plan.json").read_text()) == stored  # not what was refused

    capsys.readouterr()
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    out.rename(moved)
    assert run(moved / "plan.json") == 0  # the folder is the run, wherever it is
    assert not out.exists() and tables(moved) == first


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_files_as_options(tmp_path: Path) -> None:
    for name, colour in (("fox", "red"), ("ship", "blue")):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (96, 96), colour).save(tmp_path / "data" / name / "0.png")
    (tmp_path / "names.txt").write_text("fox\nship\n")
    files = ["--data", tmp_path / "data", "--classes", tmp_path / "names.txt"]
    out = tmp_path / "out"
    assert run("compare", "--device", "cpu", *ASKED, *files, "--out", out) == 0
    assert json.loads((out / "plan.json").read_text())["classes"] == str(tmp_path / "names.txt")
    assert run(out / "plan.json") == 0


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_what_is_restarted_may_have_other_threads(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        assert run(*compare(tmp_path), "--threads", threads) == 0
        assert run(*compare(tmp_path), "--threads", threads + 1, "--restart") == 0
    finally:
        torch.set_num_threads(threads)
    assert json.loads((tmp_path / "plan.json").read_text())["threads"] == threads + 1


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_nothing_is_thrown_away_for_a_wrong_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several workers, too; and it is said once."""
    assert run(*compare(tmp_path)) == 0
    units, started = sorted(tmp_path.glob("parts/*")), list[Sequence[str]]()

    def launch(command: Sequence[str], workers: int) -> list[int]:
        started.append(command)
        return [2] * workers

    monkeypatch.setattr(runner, "launch", launch)
    capsys.readouterr()
    assert run(*compare(tmp_path, "--workers", 2, "--restart", "--data", "nowhere")) == 2
    assert capsys.readouterr().err.count("error: --data") == 1
    assert sorted(tmp_path.glob("parts/*")) == units and not started

    assert run(*compare(tmp_path, "--workers", 2, "--resta")) == 2  # as argparse allows
    assert "--resta" not in started[0] and not list(tmp_path.glob("parts/*"))
    err = capsys.readouterr().err
    assert "error: run: not all workers ended well; the same command goes on" in err


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_who_died_while_writing_elsewhere_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = tmp_path / "parts" / "claims"
    claims.mkdir(parents=True)
    for name in ("draw-grid.png", "write-summary.md"):
        (claims / f"{name}.claim").write_text('{"pid": 1, "machine": ["elsewhere"]}')
    monkeypatch.setattr(Claims.__init__, "__defaults__", (0.5,))
    assert run(*compare(tmp_path)) == 0
    assert (tmp_path / "summary.md").exists() and (tmp_path / "grid.png").exists()


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model")
def test_others_that_asked_for_less_write_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their report is no reason to leave out one's own methods."""
    assert run(*compare(tmp_path)) == 0
    add, added = FolderStore.add, []

    def theirs(self: FolderStore, key: Any, unit: pd.DataFrame) -> None:
        if not added:
            time.sleep(0.05)
            for name in ("grid.png", "summary.md"):
                os.utime(tmp_path / name)
            time.sleep(0.05)
        added.append(key)
        add(self, key, unit)

    monkeypatch.setattr(FolderStore, "add", theirs)
    assert run(*compare(tmp_path, "--method", "maskclip")) == 0
    assert set(pd.read_parquet(tmp_path / "results.parquet")["method"]) > {"gradcam", "maskclip"}


@pytest.mark.usefixtures("small_model", "no_pictures")
def test_a_signal_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While packages are imported."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    monkeypatch.setattr(runner.Place, "find", lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        assert run(*compare(tmp_path)) == 75 and not heard
        os.kill(os.getpid(), signal.SIGTERM)
        assert heard
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_reports_compare_with_what_the_run_did(tmp_path: Path) -> None:
    assert run(*compare(tmp_path, "--reference", "random")) == 0
    page = (tmp_path / "summary.md").read_text()
    assert run("report", tmp_path) == 0
    assert (tmp_path / "summary.md").read_text() == page


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_a_report_is_of_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*compare(tmp_path / "out")) == 0
    assert run(*compare(tmp_path / "other", "--seed", 1)) == 0
    for path in (tmp_path / "other" / "parts").glob("*-000001.parquet"):
        shutil.copy(path, tmp_path / "out" / "parts")
    capsys.readouterr()
    assert run("report", tmp_path / "out") == 2
    assert "which is of another; move it away" in capsys.readouterr().err


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_what_is_damaged_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*compare(tmp_path)) == 0
    (tmp_path / "parts" / "configuration.json").write_text("")
    for words in (compare(tmp_path), ["status", tmp_path]):
        capsys.readouterr()
        assert run(*words) == 2
        assert "configuration.json, got a damaged file" in capsys.readouterr().err
    (tmp_path / "parts" / "configuration.json").unlink()
    assert run(*compare(tmp_path)) == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "parts").touch()
    assert run(*compare(tmp_path / "other")) == 2
    assert "error: --out: expected a folder, got the file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ("{", "PLAN: expected JSON in"),
        ("[]", 'PLAN: expected an object with a "command"'),
        (
            '{"command": ""}',
            "PLAN: expected one of compare, retrieval, diagnose, study, counteranimal, "
            "spurious, covar, variants as command in",
        ),
        (
            '{"command": "demo"}',
            "PLAN: expected one of compare, retrieval, diagnose, study, counteranimal, "
            "spurious, covar, variants as command",
        ),
        ('{"command": "compare", "out": {"a": 1}}', "PLAN: expected a text or number as out, got"),
        ('{"command": "compare", "metod": "cci"}', "unrecognized arguments: --metod"),
        (None, "PLAN: cannot read"),
    ],
)
def test_plans_that_are_none(
    plan: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if plan is not None:
        (tmp_path / "p.json").write_text(plan)
    assert run(tmp_path / "p.json") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["demo"],
            "run: expected compare, retrieval, diagnose, study, counteranimal, spurious, covar, "
            "variants",
        ),
        (["status"], "status: expected one folder, got 0 words"),
        (["status", "none"], "status: no such folder: none"),
        (["status", "."], "status: expected the folder of a run"),
        (["compact", "."], "status: expected the folder of a run"),
        (["compare", "--workers", "0"], "--workers: expected an int of at least 1, got '0'"),
        (["compare", "--threads", "x"], "--threads: expected an int of at least 1, got 'x'"),
    ],
)
def test_wrong_words(
    words: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_a_report_needs_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert run(*compare(out)) == 0
    for path in (out / "parts").glob("*-000001.parquet"):
        path.unlink()
    capsys.readouterr()
    assert run("report", out) == 2
    assert "report: expected a run that is done, got 2 of 3 blocks (66.7 %)" in (
        capsys.readouterr().err
    )


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_only_one_worker_may_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*compare(tmp_path)) == 0
    before = tables(tmp_path)
    monkeypatch.setenv("CCI_CAPTUM_WORKER", "0/2/0/2")
    assert run(*compare(tmp_path), "--restart") == 2
    assert "--restart: expected it of one worker" in capsys.readouterr().err
    assert tables(tmp_path) == before
    assert run(*compare(tmp_path), "--restart", "--workers", "2") == 2
    assert "--restart: expected it of one worker" in capsys.readouterr().err
    assert tables(tmp_path) == before


@pytest.mark.exhaustive
@pytest.mark.usefixtures("small_model", "no_pictures")
def test_a_disk_that_fills_while_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was stored stays; the message says what to do; the same command goes on."""
    assert run(*compare(tmp_path / "whole")) == 0
    add, count = FolderStore.add, []

    def full(self: FolderStore, key: Any, unit: pd.DataFrame) -> None:
        count.append(key)
        if len(count) == 6:
            monkeypatch.setattr(os, "fsync", no_space)
        add(self, key, unit)

    def no_space(number: int) -> None:
        raise OSError(28, "No space left on device")

    out, fsync = tmp_path / "out", os.fsync
    monkeypatch.setattr(FolderStore, "add", full)
    capsys.readouterr()
    assert run(*compare(out)) == 2
    err = capsys.readouterr().err
    assert "--out: cannot write into " in err and "No space left on device; what is there" in err
    assert len(list((out / "parts").glob("*.parquet"))) == 5
    monkeypatch.setattr(os, "fsync", fsync)
    assert run(*compare(out)) == 0
    assert tables(out) == tables(tmp_path / "whole")
