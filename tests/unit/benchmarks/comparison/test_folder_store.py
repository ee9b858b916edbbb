"""A folder of units under all that happens to folders: nothing lost, nothing counted twice."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cci_captum.benchmarks.comparison import FolderStore, parts
from cci_captum.benchmarks.comparison.folder_store import read_plans
from cci_captum.benchmarks.comparison.plan import Key, Plan

PLAN = Plan({"seed": 0, "model": {"weights": "w"}}, "m", 7, 2, {"": "", "cci": "CCI", "x": "f"})


def unit(key: Key) -> pd.DataFrame:
    """Rows that differ from those of all other units; none of a block that cannot be read."""
    if key.block == 1 and key.method == "x":
        return pd.DataFrame()
    places = list(PLAN.blocks[key.block])
    rng = np.random.default_rng(key.block)
    rows = {
        "index": places,
        "method": key.method,
        "area": rng.random(len(places)),
        "curve": list(rng.random((len(places), 3))),
        "error": "",
    }
    if key.block == 2:
        rows |= {"area": np.nan, "curve": None, "error": "out of memory"}
    return pd.DataFrame(rows)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    found = FolderStore(tmp_path / "parts")
    found.begin(PLAN)
    for key in PLAN.all_keys():
        found.add(key, unit(key))
    return found


def opened(store: FolderStore, plan: Plan = PLAN) -> FolderStore:
    """As another process sees it."""
    found = FolderStore(store.folder)
    found.begin(plan)
    return found


def rows(store: FolderStore, keys: list[Key]) -> pd.DataFrame:
    found = pd.concat(store.load(keys), ignore_index=True)
    found["curve"] = [None if value is None else tuple(value) for value in found["curve"]]
    return found.sort_values(["method", "index"], ignore_index=True)


def expected(keys: list[Key]) -> pd.DataFrame:
    found = pd.concat([unit(key) for key in keys], ignore_index=True)
    found["curve"] = [
        None if value is None or value is np.nan else tuple(value) for value in found["curve"]
    ]
    return found.sort_values(["method", "index"], ignore_index=True)


def test_all_units_are_there(store: FolderStore) -> None:
    again, keys = opened(store), PLAN.all_keys()
    assert len(keys) == 12 and again.missing(keys) == []
    pd.testing.assert_frame_equal(rows(again, keys), expected(keys), check_dtype=False)
    (plan,) = read_plans(store.folder)
    assert plan == replace(PLAN, methods=dict(PLAN.methods), settings={})


@pytest.mark.parametrize("first", [0, 5, 11])
def test_merged_units_are_those_that_were(first: int, store: FolderStore) -> None:
    """Merged, with units that come later, and merged again."""
    keys = PLAN.all_keys()
    for key in keys[first:]:
        parts.unit_path(store.folder, key).unlink()
    done = store.compact()
    assert done == (first, min(first, 3))
    later = opened(store)
    assert later.missing(keys) == keys[first:]
    for key in keys[first:]:
        later.add(key, unit(key))
    for _ in range(2):
        assert opened(store).missing(keys) == []
        pd.testing.assert_frame_equal(rows(later, keys), expected(keys), check_dtype=False)
        later.compact()
    assert len(list(store.folder.glob("*.parquet"))) == 3
    pd.testing.assert_frame_equal(rows(store, keys), expected(keys), check_dtype=False)


def test_what_is_there_twice_counts_once(store: FolderStore) -> None:
    """A merge that was killed before it removed what it merged."""
    kept = store.folder.parent / "kept"
    shutil.copytree(store.folder, kept)
    store.compact()
    for path in kept.glob("*.parquet"):
        shutil.copy(path, store.folder)
    again, keys = opened(store), PLAN.all_keys()
    assert again.missing(keys) == []
    pd.testing.assert_frame_equal(rows(again, keys), expected(keys), check_dtype=False)
    again.compact()
    pd.testing.assert_frame_equal(rows(again, keys), expected(keys), check_dtype=False)


def test_merging_while_another_works(store: FolderStore, monkeypatch: Any) -> None:
    """A worker that saw units in files of their own finds them merged."""
    keys = PLAN.all_keys()
    before = opened(store)
    assert before.missing(keys[:6]) == []
    store.compact()
    pd.testing.assert_frame_equal(rows(before, keys), expected(keys), check_dtype=False)
    late = opened(store)
    late.missing(keys[:1])
    monkeypatch.setattr(
        "cci_captum.benchmarks.comparison.folder_store.time.monotonic", lambda: time.time() + 9**9
    )
    assert late.missing(keys) == []


@pytest.mark.parametrize("keep", [0, 3, -1, -9, -300])
def test_a_truncated_part_is_set_aside(keep: int, store: FolderStore) -> None:
    key = Key("m", 2, "cci", "CCI")
    path = parts.unit_path(store.folder, key)
    torn = path.read_bytes()[:keep]
    path.write_bytes(torn)
    again = opened(store)
    with pytest.warns(UserWarning, match=rf"it is kept as {path.name}\.unreadable, and measured"):
        assert again.missing(PLAN.all_keys()) == [key]
    assert path.with_name(f"{path.name}.unreadable").read_bytes() == torn
    again.add(key, unit(key))
    assert opened(store).missing(PLAN.all_keys()) == []


def test_a_part_with_a_damaged_page_is_no_silent_number(store: FolderStore) -> None:
    """The footer is whole: found when it is read, by its checksum."""
    key = Key("m", 0, "cci", "CCI")
    path = parts.unit_path(store.folder, key)
    content = bytearray(path.read_bytes())
    values = unit(key)["area"].to_numpy().tobytes()
    place = bytes(content).index(values)
    content[place + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"store: cannot read .*{path.name}.*; move it away"):
        opened(store).load([key])


def test_foreign_files_are_left_alone(store: FolderStore) -> None:
    names = ["notes.txt", "results.parquet", "0" * 16 + ".parquet", "0" * 16 + "-x.parquet"]
    for name in names:
        (store.folder / name).write_bytes(b"mine")
    keys = PLAN.all_keys()
    again = opened(store)
    assert again.missing(keys) == []
    again.compact()
    assert all((store.folder / name).read_bytes() == b"mine" for name in names)
    pd.testing.assert_frame_equal(rows(again, keys), expected(keys), check_dtype=False)


def test_a_part_of_another_run_is_refused(store: FolderStore, tmp_path: Path) -> None:
    """Copied by hand: same model, method and block, another seed."""
    other = FolderStore(tmp_path / "other")
    plan = replace(PLAN, configuration={**PLAN.configuration, "seed": 1})
    other.begin(plan)
    key = Key("m", 3, "cci", "CCI")
    other.add(key, unit(key))
    path = parts.unit_path(other.folder, key)
    target = store.folder / path.name
    target.write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=rf"store: .*found {path.name}.*of another; move it away"):
        opened(store).missing(PLAN.all_keys())
    with pytest.raises(ValueError, match=r"store: expected units of one run in .*got those of 2"):
        store.compact()
    assert target.read_bytes() == path.read_bytes()


def test_a_merged_file_of_another_run_is_refused(store: FolderStore, tmp_path: Path) -> None:
    other = FolderStore(tmp_path / "other")
    other.begin(replace(PLAN, configuration={**PLAN.configuration, "seed": 1}))
    for key in PLAN.all_keys():
        other.add(key, unit(key))
    other.compact()
    for path in store.folder.glob("*.parquet"):
        path.unlink()
    for path in other.folder.glob("*.parquet"):
        shutil.copy(path, store.folder)
    with pytest.raises(ValueError, match=r"of another; move it away"):
        opened(store).missing(PLAN.all_keys())


def test_a_part_of_another_block_is_refused(store: FolderStore) -> None:
    """Renamed by hand: it would be counted twice."""
    first, second = (parts.unit_path(store.folder, Key("m", n, "cci", "CCI")) for n in (0, 1))
    shutil.copy(first, second)
    with pytest.raises(ValueError, match=rf"found {second.name}, which is of another block; move"):
        opened(store).missing(PLAN.all_keys())


def test_of_two_runs_that_begin_at_once_one_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    other = replace(PLAN, configuration={**PLAN.configuration, "seed": 1})
    write, began = parts.write_text, list[bool]()

    def faster(path: Path, text: str, **options: Any) -> None:
        if not began:
            began.append(True)
            FolderStore(tmp_path).begin(other)
        write(path, text, **options)

    monkeypatch.setattr("cci_captum.benchmarks.comparison.folder_store.write_text", faster)
    with pytest.raises(ValueError, match="those of another: seed 1, not 0"):
        FolderStore(tmp_path).begin(PLAN)
    FolderStore(tmp_path).begin(other)
    assert not list(tmp_path.glob(".*"))


def test_the_clock_of_the_files_says_what_is_old(store: FolderStore, monkeypatch: Any) -> None:
    writing = store.folder / f".x.parquet.{'a' * 32}"
    writing.write_bytes(b"half")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 7200)
    store.compact()
    assert writing.exists() and [*store.folder.glob(".*")] == [writing]


@pytest.mark.parametrize("jump", [-(10**8), 10**8])
def test_clocks_decide_nothing(jump: int, store: FolderStore, monkeypatch: Any) -> None:
    keys = PLAN.all_keys()
    for number, path in enumerate(sorted(store.folder.iterdir())):
        os.utime(path, (time.time() + jump * (number % 2),) * 2)
    again = opened(store)
    assert again.missing(keys) == []
    again.compact()
    pd.testing.assert_frame_equal(rows(again, keys), expected(keys), check_dtype=False)


def test_unfinished_files_of_the_dead_are_removed_after_an_hour(store: FolderStore) -> None:
    old, new = (store.folder / f".x.parquet.{digit * 32}" for digit in "ab")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 4000,) * 2)
    store.compact()
    assert new.exists() and not old.exists()


def test_a_full_disk_loses_nothing(store: FolderStore, monkeypatch: Any) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    key = Key("m", 0, "cci", "CCI")
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("cci_captum.benchmarks.comparison.parts.os.fsync", full)
        with pytest.raises(OSError, match=r"store: cannot write into .*: No space left on device"):
            store.add(key, unit(key))
    assert before == {path.name: path.read_bytes() for path in store.folder.iterdir()}


@pytest.mark.skipif(shutil.which("mount") is None or os.geteuid() != 0, reason="no mount")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system of 1 MB: what was stored before it was full is there, whole."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mount is not allowed")
    try:
        store = FolderStore(small / "parts")
        plan = replace(PLAN, items=400)
        store.begin(plan)
        large = pd.DataFrame({"index": range(9000), "x": np.random.default_rng(0).random(9000)})
        added = []
        with pytest.raises(OSError, match=r"store: cannot write into .*No space left on device"):
            for key in plan.all_keys():
                store.add(key, large)
                added.append(key)
        assert 2 < len(added) < 20
        again = opened(store, plan)
        left = again.missing(plan.all_keys())
        assert left == plan.all_keys()[len(added) :]
        assert len(again.load(added)) == len(added)
        assert not list(store.folder.glob(".*"))  # nothing half written
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_refusals_name_every_field(store: FolderStore) -> None:
    other = {"seed": 1, "torch": "9", "model": {"weights": "v"}}
    with pytest.raises(ValueError, match="seed 0, not 1; torch None, not '9'"):
        opened(store, replace(PLAN, configuration=other))
    other = {"seed": 0, "model": {"weights": "v"}}
    with pytest.raises(ValueError, match="another: weights 'w', not 'v'"):
        opened(store, replace(PLAN, configuration=other))


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"store: expected a run in .*, found none"):
        read_plans(tmp_path)
    assert FolderStore(tmp_path / "none").compact() == (0, 0)


def test_a_later_method_joins_the_plan(store: FolderStore) -> None:
    more = replace(PLAN, methods={**PLAN.methods, "new": "g"})
    again = opened(store, more)
    assert {key.method for key in again.missing(more.all_keys())} == {"new"}
    assert list(read_plans(store.folder)[0].methods) == ["", "cci", "x", "new"]
    assert json.loads((store.folder / "configuration.json").read_text()) == {"seed": 0}
