"""Claims: one owner at a time, living or dead, whatever the clock says."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cci_captum.benchmarks.runner import Claims
from cci_captum.benchmarks.runner.claims import _identity

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def of_another_machine(path: Path) -> None:
    owner = _identity(os.getpid())
    owner["machine"] = ["elsewhere", "0", "0"]
    path.write_text(json.dumps(owner))


def take_many(folder: Path, all_here: Any) -> list[int]:
    with Claims(folder) as claims:
        all_here.wait()
        own = [number for number in range(200) if claims.take(f"{number}")]
        all_here.wait()  # nobody's claims are given back before all have tried
    return own


@needs_fork
def test_each_thing_has_one_owner(tmp_path: Path) -> None:
    """Three processes that want 200 things at the same time."""
    context = multiprocessing.get_context("fork")  # others import torch, for seconds
    queue, all_here = context.Queue(), context.Barrier(3)

    def tell() -> None:
        queue.put(take_many(tmp_path, all_here))

    workers = [context.Process(target=tell) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    owned = [number for own in found for number in own]
    assert sorted(owned) == list(range(200))
    assert not list(tmp_path.iterdir())  # all were given back


def test_given_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as one, Claims(tmp_path) as other:
        assert one.take("a") and not one.take("a") and not other.take("a")
        assert other.is_taken("a") and not one.is_taken("a")
        one.release("a")
        assert not other.is_taken("a") and other.take("a")


@needs_fork
@pytest.mark.parametrize("waited_for", [True, False])
def test_a_killed_owner_of_this_machine_is_gone_at_once(waited_for: bool, tmp_path: Path) -> None:
    """Whether or not its parent has asked how it ended, which not every container's first does."""
    pid = os.fork()
    if not pid:
        try:
            Claims(tmp_path).take("a")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    ended = os.waitid(os.P_PID, pid, os.WEXITED if waited_for else os.WEXITED | os.WNOWAIT)
    assert ended is not None and ended.si_code == os.CLD_KILLED
    assert (tmp_path / "a.claim").read_text()
    with Claims(tmp_path) as claims:
        assert not claims.is_taken("a") and claims.take("a")
    if not waited_for:
        os.waitpid(pid, 0)


def test_a_number_of_a_process_is_no_process(tmp_path: Path) -> None:
    """The owner's number was given to another process since."""
    owner = _identity(os.getpid())
    (tmp_path / "a.claim").write_text(json.dumps(owner | {"started": "1"}))
    with Claims(tmp_path) as claims:
        assert claims.take("a")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"machine": null}'])
def test_an_unknown_owner_may_live(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.claim").write_text(content)
    with Claims(tmp_path) as claims:
        assert not claims.take("a") and claims.is_taken("a")


@pytest.mark.parametrize("jump", [-(10**6), 0, 10**6])
def test_a_silent_owner_elsewhere_is_waited_for_by_our_own_clock(
    jump: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever time the file says: another machine's clock, or one that jumped."""
    path = tmp_path / "a.claim"
    of_another_machine(path)
    os.utime(path, (time.time() + jump, time.time() + jump))
    now = [1000.0]
    monkeypatch.setattr("cci_captum.benchmarks.runner.claims.time.monotonic", lambda: now[0])
    claims = Claims(tmp_path, lease=120)
    assert not claims.take("a") and not claims.is_alive("a")
    now[0] += 119
    assert not claims.take("a")
    os.utime(path, (5 + jump, 5 + jump))  # a sign of life
    now[0] += 2
    assert not claims.take("a") and claims.is_alive("a")
    now[0] += 119
    assert not claims.take("a")
    now[0] += 2
    assert not claims.is_alive("a") and claims.take("a")


def test_one_killed_before_it_signed_is_waited_for_briefly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.claim").touch()
    now = [1000.0]
    monkeypatch.setattr("cci_captum.benchmarks.runner.claims.time.monotonic", lambda: now[0])
    claims = Claims(tmp_path, lease=120)
    assert not claims.take("a")
    now[0] += 4
    assert not claims.take("a")
    now[0] += 2
    assert claims.take("a")


def test_what_the_dead_left_is_taken_away_at_the_end(tmp_path: Path) -> None:
    """The block was done, so that nobody asks for it again."""
    owner = _identity(os.getpid())
    (tmp_path / "done.claim").write_text(json.dumps(owner | {"started": "1"}))
    of_another_machine(tmp_path / "others.claim")
    with Claims(tmp_path) as claims:
        claims.take("a")
    assert [path.name for path in tmp_path.iterdir()] == ["others.claim"]


def test_owners_give_signs_of_life(tmp_path: Path) -> None:
    with Claims(tmp_path, lease=0.3) as claims:
        claims.take("a")
        path = tmp_path / "a.claim"
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 20
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert path.stat().st_mtime > 0


def test_a_worker_that_ends_takes_the_empty_folder_with_it(tmp_path: Path) -> None:
    """Between two blocks of another, which has no claim just then."""
    with Claims(tmp_path / "claims") as claims:
        (tmp_path / "claims").rmdir()
        assert claims.take("a") and (tmp_path / "claims" / "a.claim").exists()


def test_a_folder_that_takes_no_files_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names can be made on a disk without room, where nothing can be written into them."""

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    with Claims(tmp_path / "claims") as claims:
        monkeypatch.setattr("cci_captum.benchmarks.runner.claims.os.fdopen", full)
        with pytest.raises(OSError, match="No space left on device; what is"):
            claims.take("a")
        assert not list((tmp_path / "claims").iterdir())
        monkeypatch.undo()
        assert claims.take("a")


def test_what_cannot_be_read_for_once_is_no_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, claims = tmp_path / "a.claim", Claims(tmp_path)
    of_another_machine(path)
    assert claims.is_taken("a") and not claims.is_alive("a")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(OSError(116, "")))
    monkeypatch.setattr(Path, "stat", lambda *_, **__: (_ for _ in ()).throw(OSError(116, "")))
    assert not claims.is_alive("a")
    monkeypatch.undo()
    assert claims.is_taken("a") and not claims.is_alive("a")
