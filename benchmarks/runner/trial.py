"""Kill a run again and again, resume it each time, and compare it with one that nobody kills.

On the file system that holds OUT, which is what decides whether a folder can be shared. Says
whether every table has the same bytes, but for how long maps took.

    python -m cci_captum.benchmarks.runner.trial --out trial --n 300 --kills 20 --workers 1
    python -m cci_captum.benchmarks.runner.trial --out trial-2 --n 300 --kills 20 --workers 2,1,3
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

from ..comparison.results import TABLES
from .progress import Progress

_ASKED = ("--protocol", "none", "--batch-size", "4", "--threads", "1")
_METHODS = ("--method", "cci", "--method", "maskclip")


class Trial(NamedTuple):
    """What came of it.

    Attributes:
        kills: Moments, in seconds from the start, and blocks done by then.
        different: Tables whose bytes differ from those of the run that was not killed.
    """

    kills: list[tuple[float, int]]
    different: list[str]


def trial(
    out: Path, scenes: int, kills: int, workers: Sequence[int] = (1,), seed: int = 0
) -> Trial:
    """Run it.

    Args:
        out: An empty folder, or none; both runs stay there.
        scenes: Images compared.
        kills: How many, at random moments of one start after the other, while something is missing.
        workers: How many processes each start has, in turn; the last that needs no kill, too.
        seed: Of the moments.

    Raises:
        RuntimeError: If a run that is not killed fails.
    """
    plain, killed = out / "plain", out / "killed"
    whole, idle = (_finish(_start(plain, scenes, 1)) for _ in range(2))  # idle: all is there
    rng, numbers, moments = random.Random(seed), cycle(workers), list[tuple[float, int]]()
    while len(moments) < kills:
        # At any moment of what it does before the work, or of a share of the work.
        moment = rng.uniform(0, idle + 2 * max(whole - idle, 1) / kills)
        process = _start(killed, scenes, next(numbers))
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            moments.append((round(moment, 2), _done(killed)))
            continue
        if process.returncode:
            raise RuntimeError(f"expected the run to end well, got exit code {process.returncode}")
        break
    _finish(_start(killed, scenes, next(numbers)))
    names = [f"{name}.parquet" for name in TABLES if name != "timings"]
    different = [
        name for name in names if (plain / name).read_bytes() != (killed / name).read_bytes()
    ]
    return Trial(moments, different)


def _start(out: Path, scenes: int, workers: int) -> subprocess.Popen[bytes]:
    words = ["run", "compare", "--n", str(scenes), *_METHODS, *_ASKED]
    command = [sys.executable, "-m", "cci_captum.benchmarks.cli", *words]
    command += ["--workers", str(workers), "--out", str(out)]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)


def _finish(process: subprocess.Popen[bytes]) -> float:
    """Wait for its end; the seconds that took."""
    began = time.monotonic()
    if process.wait():
        raise RuntimeError(f"expected the run to end well, got exit code {process.returncode}")
    return time.monotonic() - began


def _done(out: Path) -> int:
    try:
        return Progress.of(out / "parts").blocks[0]
    except (OSError, ValueError):  # killed before it began
        return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Print what came of it; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=300, help="scenes (%(default)s)")
    parser.add_argument("--kills", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--workers", default="1", metavar="N,N", help="in turn (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    args = parser.parse_args(argv)
    workers = [int(number) for number in args.workers.split(",")]
    found = trial(args.out, args.n, args.kills, workers, args.seed)
    for moment, blocks in found.kills:
        print(f"killed after {moment:6.2f} s, {blocks} blocks done")
    same = f"differ: {', '.join(found.different)}" if found.different else "have the same bytes"
    print(f"{len(found.kills)} kills; the tables {same}")
    return 1 if found.different else 0


if __name__ == "__main__":
    sys.exit(main())
