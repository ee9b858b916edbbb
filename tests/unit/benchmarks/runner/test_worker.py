"""Workers that are killed, stopped, meet, and come late, against one that nothing disturbs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import forked, killed_again_and_again, steps_of
from selection import exhaustive_unless
from torch import nn
from toy_comparison import NAMES, PREPROCESS, SEED, Toy, toy_sample

from cci_captum import CCI, KMeans, ZeroShotClassifier
from cci_captum.baselines import GradECLIP
from cci_captum.benchmarks.comparison import Comparison, FolderStore, MemoryStore, Run
from cci_captum.benchmarks.comparison.plan import Plan
from cci_captum.benchmarks.comparison.results import TABLES
from cci_captum.benchmarks.runner import Claims, Place, Progress, Stop, Worker, progress

BLOCKS = 7


@pytest.fixture(scope="module")
def run(make_clip: Any, tokenizer: Any, one_thread: None) -> Run:
    model, _ = make_clip(1, layers=2)
    return run_of(ZeroShotClassifier(model, tokenizer, NAMES, "{}").eval().requires_grad_(False))


def run_of(classifier: nn.Module, **options: Any) -> Run:
    options = {"ties": (), "seed": SEED, "batch_size": 2, "internal_batch_size": 64} | options
    data = Toy([toy_sample(index) for index in range(2 * BLOCKS)])
    methods = {"cci": lambda f: CCI(f, clustering=KMeans(3)), "grad-eclip": GradECLIP}
    given = {"forward_func": classifier, "preprocess": PREPROCESS}
    return Run(methods, data, ["tokens"], **given, **options)


@pytest.fixture(scope="module")
def whole(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    store = MemoryStore()
    store.begin(run.plan)
    for block, places in enumerate(run.plan.blocks):
        for key, unit in run.measure(places, run.plan.keys(block)):
            store.add(key, unit)
    return written(run.comparison(store), tmp_path_factory.mktemp("whole"))


def written(comparison: Comparison, folder: Path) -> dict[str, bytes]:
    comparison.save(folder)
    return {name: (folder / f"{name}.parquet").read_bytes() for name in TABLES if name != "timings"}


def work(run: Run, folder: Path, place: Place | None = None, **options: Any) -> bool:
    store = FolderStore(folder)
    store.begin(run.plan)
    with Stop() as stop, Claims(folder / "claims") as claims:
        return Worker(run, store, claims, stop, place, **options).work()


def started(run: Run, folder: Path, place: Place | None = None) -> int:
    """A process that works, its number; it ends with 3 where something is missing."""
    return forked(lambda: work(run, folder, place))


def read(run: Run, folder: Path) -> Comparison:
    store = FolderStore(folder)
    store.begin(run.plan)
    return run.comparison(store)


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    "workers", [exhaustive_unless(value == (2, 1, 3), value) for value in ((1,), (2, 1, 3))]
)
def test_killed_at_any_moment(
    workers: tuple[int, ...], run: Run, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Twelve times, by any number of processes, each resumed by another number."""
    folder = tmp_path / "parts"
    steps = steps_of(lambda: work(run, tmp_path / "counted"))
    worlds = (workers * 12)[:12]
    killed_again_and_again(lambda rank, world: work(run, folder, Place(rank, world)), worlds, steps)
    assert 0 < len(list(folder.glob("*.parquet"))) < BLOCKS * 5
    assert work(run, folder)
    assert written(read(run, folder), tmp_path / "tables") == whole
    assert not list(folder.glob("claims/*"))


@pytest.mark.exhaustive
def test_two_workers_on_the_same_blocks(
    run: Run, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without claims, as where two take an abandoned one at once: both measure all."""
    monkeypatch.setattr(Claims, "take", lambda self, name: True)
    monkeypatch.setattr(Worker, "_still_missing", lambda self, block: self._run.plan.keys(block))
    measured: list[Any] = []
    for _ in range(2):
        store = FolderStore(tmp_path / "parts")
        store.begin(run.plan)
        monkeypatch.setattr(store, "missing", lambda keys: list(keys))
        with Claims(tmp_path / "claims") as claims:
            worker = Worker(run, store, claims, Stop(), done=lambda *one: measured.append(one))
            worker._without_claimed(range(BLOCKS))
    assert len(measured) == 2 * BLOCKS * 5
    assert len(list((tmp_path / "parts").glob("*.parquet"))) == BLOCKS * 5
    assert written(read(run, tmp_path / "parts"), tmp_path / "tables") == whole


@pytest.mark.exhaustive
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_workers_that_meet_measure_nothing_twice(
    run: Run, whole: dict[str, bytes], tmp_path: Path
) -> None:
    """Three that are all told to be the first, so that they want the same blocks."""
    folder = tmp_path / "parts"
    pids = [started(run, folder, Place(0, 1)) for _ in range(3)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert 0 in ends and set(ends) <= {0, 3}  # the last to end sees that nothing is missing
    assert written(read(run, folder), tmp_path / "tables") == whole
    assert Progress.of(folder).complete


@pytest.mark.exhaustive
def test_stopped_after_the_unit_in_progress(
    run: Run, whole: dict[str, bytes], tmp_path: Path
) -> None:
    folder, units = tmp_path / "parts", []

    def done(key: Any, items: int) -> None:
        units.append(key)
        if len(units) == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    assert not work(run, folder, done=done)
    assert len(units) == 7 == len(list(folder.glob("*.parquet")))
    assert not list(folder.glob("claims/*")) and not list(folder.glob(".*"))
    progress = Progress.of(folder)
    assert progress.blocks == (1, BLOCKS) and not progress.complete
    assert work(run, folder, done=lambda key, items: units.append(key))
    assert sorted(units) == sorted(run.plan.all_keys())
    assert written(read(run, folder), tmp_path / "tables") == whole


@pytest.mark.exhaustive
def test_a_worker_leaves_what_the_living_measure(run: Run, tmp_path: Path) -> None:
    """It does all else, and does not wait for their end."""
    folder = tmp_path / "parts"
    store = FolderStore(folder)
    store.begin(run.plan)
    held = folder / "claims"
    with Claims(held, lease=1.2) as others, Stop() as stop, Claims(held, lease=600) as claims:
        worker = Worker(run, store, claims, stop)
        assert others.take(worker._claim(4))
        assert not worker.work()
    assert {key.block for key in store.missing(run.plan.all_keys())} == {4}


@pytest.mark.exhaustive  # of claims: test_claims.py
def test_it_takes_over_from_the_dead(run: Run, whole: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    (folder / "claims").mkdir(parents=True)
    store = FolderStore(folder)
    store.begin(run.plan)
    with Stop() as stop, Claims(folder / "claims", lease=0.5) as claims:
        worker = Worker(run, store, claims, stop)
        dead = folder / "claims" / f"{worker._claim(0)}.claim"
        dead.write_text('{"pid": 1, "machine": ["elsewhere"], "started": "1"}')
        assert worker.work()
    assert written(read(run, folder), tmp_path / "tables") == whole


def test_progress(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    store = FolderStore(folder)
    store.begin(run.plan)
    assert Progress.of(folder).line() == f"0 of {BLOCKS} blocks (0.0 %)"
    for key in run.plan.all_keys():
        if key.block < 5:
            store.add(key, pd.DataFrame({"index": [0]}))
    for path in folder.glob("*.parquet"):
        block = int(path.stem[-6:])
        os.utime(path, (10_000 + 2 * block,) * 2)
    found = Progress.of(folder)
    assert found.blocks == (5, BLOCKS)
    # Two images every two seconds; the first unit of all was begun before the first time known.
    assert found.images_a_second == pytest.approx((10 - 0.5) / 8)
    assert found.seconds_left == pytest.approx(4 / found.images_a_second)
    assert found.line() == f"5 of {BLOCKS} blocks (71.4 %), 1.19 images a second, 3 s left"
    assert "nothing was stored for" in found.text()
    for jump in (-(10**9), 10**9):  # a clock that jumped says nothing, and breaks nothing
        os.utime(path, (10**9 + jump,) * 2)
        assert Progress.of(folder).blocks == (5, BLOCKS)
    store.compact()
    assert Progress.of(folder).line() == f"5 of {BLOCKS} blocks (71.4 %)"


def test_progress_while_files_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merged file may become part of another between being listed and being read."""
    store, plan = FolderStore(tmp_path), Plan({}, "m", 6, 2, {"": "", "cci": ""})
    store.begin(plan)
    for key in plan.all_keys()[:-1]:
        store.add(key, pd.DataFrame({"index": [0]}))
    store.compact()
    read = progress.read_footer

    def merged(path: Path) -> Any:
        monkeypatch.setattr(progress, "read_footer", read)
        last = plan.all_keys()[-1]
        store.add(last, pd.DataFrame({"index": [0]}))
        store.compact()
        return read(path)

    monkeypatch.setattr(progress, "read_footer", merged)
    assert Progress.of(tmp_path).complete
