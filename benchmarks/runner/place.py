"""Which of how many workers this process is: what launchers say in the environment.

No process group is made: nothing is sent between workers, and a group makes each wait for all
others (accelerate's `PartialState` does, and knows no `srun` without MPI), while here a worker may
come late, leave, or never come.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

OWN = "CCI_CAPTUM_WORKER"
"""Variable of what `--workers` starts, before all others: "RANK/WORLD/LOCAL_RANK/LOCAL_WORLD"."""


@dataclass(frozen=True)
class Place:
    """A worker among others.

    Attributes:
        rank: Of this process, from 0.
        world: How many there are.
        local_rank: Of this process on its machine, which chooses its GPU.
        local_world: How many there are on its machine; they share its cores.
        launcher: What said so.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    launcher: str = ""

    @classmethod
    def find(cls, environ: Mapping[str, str] | None = None) -> Place:
        """Read it from the environment.

        Known are `torchrun` and `accelerate launch` (RANK, WORLD_SIZE, ...), tasks of `srun`
        (SLURM_PROCID, SLURM_NTASKS, ...), and job arrays (SLURM_ARRAY_TASK_ID, ...), whose tasks
        may be several workers each.

        Args:
            environ: None is that of the process.

        Raises:
            ValueError: If a variable is no number, or the rank is none of the world's.

        Example:
            >>> Place.find({"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"})
            Place(rank=1, world=4, local_rank=1, local_world=4, launcher='torchrun')
            >>> Place.find({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_ARRAY_TASK_ID": "12",
            ...     "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_COUNT": "8"}).rank
            2
        """
        env = os.environ if environ is None else environ
        if OWN in env:
            names = ("rank", "world", "local_rank", "local_world")
            own = dict(zip_longest(names, env[OWN].split("/")[:4], fillvalue=""))
            return _checked(cls(**_numbers(own, OWN), launcher="--workers"))
        if "RANK" in env and "WORLD_SIZE" in env:
            texts = {
                "rank": env["RANK"],
                "world": env["WORLD_SIZE"],
                "local_rank": env.get("LOCAL_RANK", "0"),
                "local_world": env.get("LOCAL_WORLD_SIZE", env["WORLD_SIZE"]),
            }
            return _checked(cls(**_numbers(texts, "RANK"), launcher="torchrun"))
        if "SLURM_PROCID" in env:
            return _checked(cls(**_of_slurm(env), launcher="srun"))
        return cls()

    def split(self, workers: int) -> list[str]:
        """Values of `OWN`, for so many workers in place of this one.

        Example:
            >>> Place(rank=2, world=3).split(2)
            ['4/6/0/2', '5/6/1/2']
        """
        return [
            f"{self.rank * workers + number}/{self.world * workers}/"
            f"{self.local_rank * workers + number}/{self.local_world * workers}"
            for number in range(workers)
        ]


def _of_slurm(env: Mapping[str, str]) -> dict[str, int]:
    """A task of a job; where the job is one of an array, of all tasks of the array."""
    texts = {
        "rank": env["SLURM_PROCID"],
        "world": env.get("SLURM_NTASKS", "1"),
        "local_rank": env.get("SLURM_LOCALID", "0"),
        # "2(x3),1" on nodes of different numbers; workers on the first have them all
        "local_world": env.get("SLURM_STEP_TASKS_PER_NODE", "1")
        .partition("(")[0]
        .partition(",")[0],
    }
    found = _numbers(texts, "SLURM_PROCID")
    if "SLURM_ARRAY_TASK_ID" in env and "SLURM_ARRAY_TASK_COUNT" in env:
        array = _numbers(
            {
                name: env.get(f"SLURM_ARRAY_TASK_{name}", usual)
                for name, usual in (("ID", "0"), ("MIN", "0"), ("STEP", "1"), ("COUNT", "1"))
            },
            "SLURM_ARRAY_TASK_ID",
        )
        number = (array["ID"] - array["MIN"]) // max(array["STEP"], 1) % array["COUNT"]
        found["rank"] += number * found["world"]
        found["world"] *= array["COUNT"]
    return found


def _numbers(texts: Mapping[str, str], variable: str) -> dict[str, int]:
    wrong = {name: text for name, text in texts.items() if not text.isdecimal()}
    if wrong:
        said = ", ".join(f"{name} {text!r}" for name, text in wrong.items())
        raise ValueError(f"{variable}: expected numbers in the environment, got {said}")
    return {name: int(text) for name, text in texts.items()}


def _checked(place: Place) -> Place:
    if not place.rank < place.world:
        raise ValueError(
            f"rank: expected less than the {place.world} workers of {place.launcher}, got "
            f"{place.rank}"
        )
    return place
