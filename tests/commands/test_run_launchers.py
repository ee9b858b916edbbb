"""`cci-captum run` as processes: whoever starts them, signals, and workers that are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from runs import ASKED, compare, tables

from cci_captum.benchmarks.runner import trial

TWO = ["--multi_gpu", "--num_processes", "2"]  # of accelerate: without GPUs, too
CLI = [sys.executable, "-m", "cci_captum.benchmarks.cli"]


def start(words: Sequence[object], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*map(str, words)],
        env={**os.environ, **(env or {})},
        stdout=pipe,
        stderr=pipe,
        text=True,
        # A shell starts what runs in its background with this signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.mark.exhaustive
@pytest.mark.beyond_pairs
def test_an_interrupt_of_the_launcher_alone(tmp_path: Path) -> None:
    """As where there is no terminal, which would send it to the workers too."""
    words = [*CLI, "run", *compare(tmp_path, "--n", 40, "--workers", 2, "--threads", 1)]
    process = start(words)
    while len([*tmp_path.glob("parts/*.parquet")]) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert len([*tmp_path.glob("parts/*.parquet")]) < 160 and "interrupted" in err


@pytest.mark.exhaustive
@pytest.mark.beyond_pairs
@pytest.mark.parametrize(("sign", "workers"), [(signal.SIGTERM, 2), (signal.SIGUSR1, 1)])
def test_a_signal_ends_after_the_unit(sign: signal.Signals, workers: int, tmp_path: Path) -> None:
    words = [*CLI, "run", *compare(tmp_path, "--n", 40, "--workers", workers, "--threads", 1)]
    process = start(words)
    while len([*tmp_path.glob("parts/*.parquet")]) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(sign)
    _, err = process.communicate()
    assert process.returncode == 75, err
    assert "the same command goes on" in err
    done = len([*tmp_path.glob("parts/*.parquet")])
    assert 4 <= done < 80 and not [*tmp_path.glob("parts/.*")]
    assert not (tmp_path / "summary.md").exists() and not (tmp_path / "parts/claims").exists()
    ends = {json.loads(path.read_text())["how"] for path in tmp_path.glob("workers/*")}
    assert ends <= {"stopped by SIGTERM", "stopped by SIGUSR1", "StoppedError: SIGTERM"}


def launched(launcher: str, words: list[object]) -> list[list[object]]:
    """Commands to run at the same time, with variables of theirs."""
    module = ["-m", "cci_captum.benchmarks.cli", *words]
    python = [sys.executable, "-m"]
    return {
        "workers": [[*CLI, *words, "--workers", 2]],
        "torchrun": [[*python, "torch.distributed.run", "--nproc-per-node", 2, *module]],
        "accelerate": [
            [*python, "accelerate.commands.accelerate_cli", "launch", *TWO, *module],
        ],
        "srun": [[*CLI, *words], [*CLI, *words]],
    }[launcher]


@pytest.mark.exhaustive
def test_every_launcher_gives_the_same_store(tmp_path: Path) -> None:
    """Two processes each; srun's are started with the variables that it sets."""
    units: dict[str, set[str]] = {}
    contents: dict[str, dict[str, bytes]] = {}
    for launcher in ("workers", "torchrun", "accelerate", "srun"):
        out = tmp_path / launcher
        # torchrun takes --n for one of its own options, whose names begin so.
        asked = ["compare", "--device", "cpu", "--data", "scenes:n=6", *ASKED, "--out", out]
        commands = launched(launcher, ["run", *asked, "--threads", 1])
        processes = [
            start(command, {"SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"})
            if launcher == "srun"
            else start(command)
            for rank, command in enumerate(commands)
        ]
        ends = [process.communicate() for process in processes]
        assert [process.returncode for process in processes] == [0] * len(commands), ends
        records = [json.loads(path.read_text()) for path in (out / "workers").iterdir()]
        assert sorted(record["rank"] for record in records) == [0, 1]
        assert {record["world"] for record in records} == {2}
        assert sum(record["units"] for record in records) == 3 * 3  # none was measured twice
        units[launcher] = {path.name for path in (out / "parts").glob("*.parquet")}
        contents[launcher] = tables(out)
    assert len({frozenset(names) for names in units.values()}) == 1
    assert all(content == contents["workers"] for content in contents.values())


@pytest.mark.exhaustive
def test_killed_by_the_command_line(tmp_path: Path) -> None:
    """As `python -m cci_captum.benchmarks.runner.trial`, shorter."""
    # The first moment of this seed is .13 of the longest: on any machine before the work ends.
    found = trial.trial(tmp_path, 8, 2, workers=(2, 1), seed=1)
    assert not found.different and found.kills
    shutil.rmtree(tmp_path / "killed")


@pytest.mark.exhaustive
@pytest.mark.beyond_pairs
def test_a_worker_that_is_killed_leaves_the_others(tmp_path: Path) -> None:
    words = [*CLI, "run", *compare(tmp_path, "--n", 40, "--workers", 2, "--threads", 1)]
    process = start(words)
    while len([*tmp_path.glob("parts/*.parquet")]) < 4:
        assert process.poll() is None
        time.sleep(0.02)
    victim = next(iter(tmp_path.glob("workers/*.json")))
    os.kill(json.loads(victim.read_text())["pid"], signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode == 0, err
    assert "ended with signal 9" in err
    assert len([*tmp_path.glob("parts/*-0000??.parquet")]) == 80
    assert (tmp_path / "summary.md").exists()
