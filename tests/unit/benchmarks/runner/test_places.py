"""What launchers say in the environment, and what signals do."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from cci_captum.benchmarks.runner import STOPPED, Place, Stop, exit_code
from cci_captum.benchmarks.runner.worker import order_of

SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "6",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x3)",
}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
EVERY_SECOND = {"SLURM_ARRAY_TASK_STEP": "2", "SLURM_ARRAY_TASK_COUNT": "4"}
ARRAY = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "8"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0, 1, 0, 1)),
        (TORCHRUN, (3, 4, 1, 2)),
        (SRUN, (5, 6, 1, 2)),
        (SRUN | ARRAY, (6 * 6 + 5, 48, 1, 2)),
        # a batch script's own process, of an array of one task each
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"} | ARRAY, (6, 8, 0, 1)),
        # every second number: 1, 3, 5, 7
        ({"SLURM_PROCID": "0"} | ARRAY | EVERY_SECOND, (3, 4, 0, 1)),
        # torchrun inside of a Slurm job
        (SRUN | {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, (0, 2, 0, 2)),
        (SRUN | {"RANK": "0", "WORLD_SIZE": "2", "CCI_CAPTUM_WORKER": "1/3/1/3"}, (1, 3, 1, 3)),
    ],
)
def test_places(environ: dict[str, str], expected: tuple[int, ...]) -> None:
    place = Place.find(environ)
    assert (place.rank, place.world, place.local_rank, place.local_world) == expected


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK: expected numbers .*, got rank 'one'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "rank: expected less than the 2 workers of torchrun"),
        (
            {"CCI_CAPTUM_WORKER": "3"},
            "CCI_CAPTUM_WORKER: expected numbers .*, got world ''",
        ),
    ],
)
def test_what_is_no_place(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Place.find(environ)


@pytest.mark.parametrize("blocks", [1, 7, 64])
@pytest.mark.parametrize("world", [1, 3, 10])
def test_every_worker_comes_to_every_block(blocks: int, world: int) -> None:
    orders = [order_of(blocks, Place(rank, world)) for rank in range(world)]
    assert all(sorted(order) == list(range(blocks)) for order in orders)
    ends = [rank * blocks // world for rank in range(world + 1)]
    shares = [order[: ends[r + 1] - ends[r]] for r, order in enumerate(orders)]
    assert [block for own in shares for block in own] == list(range(blocks))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_signals_are_remembered_and_given_back(name: str) -> None:
    number = signal.Signals[name]
    before = signal.getsignal(number)
    with Stop() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop and stop.signal == name
    assert signal.getsignal(number) == before


def test_in_another_thread_signals_are_left_alone() -> None:
    found = []

    def enter() -> None:
        with Stop() as stop:
            found.append(bool(stop))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False]


def test_several_workers_in_place_of_each_task_of_an_array() -> None:
    places = [
        Place.find({"CCI_CAPTUM_WORKER": text})
        for task in range(1, 9)
        for text in Place.find(SRUN | ARRAY | {"SLURM_ARRAY_TASK_ID": str(task)}).split(4)
    ]
    assert [place.rank for place in places][:4] == [20, 21, 22, 23]  # after five tasks of srun
    assert {place.world for place in places} == {8 * 6 * 4}
    assert len({place.rank for place in places}) == 8 * 4
    assert [place.local_rank for place in places[:4]] == [4, 5, 6, 7]


def test_exit_codes_of_many() -> None:
    assert STOPPED == 75  # EX_TEMPFAIL
    assert [exit_code(codes) for codes in ([0, 0], [0, 75], [75, -9], [0, -9], [2, 0])] == [
        *(0, 75, 75, 1, 1)
    ]
