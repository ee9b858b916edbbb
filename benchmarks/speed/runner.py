"""What a run in a folder costs beside a bare loop over the same batches.

In turn, in one process, over the same blocks of scenes: a loop that reads each block and measures
its methods, and keeps the rows in memory; and a worker with its folder: claims, files, their fsync.
Ratios are of pairs that follow each other; the folder's rows are those of the loop.

    python -m cci_captum.benchmarks.speed.runner --n 64 --repeats 7
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from cci_captum.models.clip import ZeroShotClassifier, load_clip

from ..comparison import FolderStore, MemoryStore, Run
from ..data import Scenes
from ..runner import Claims, Stop, Worker


def loop(run: Run) -> tuple[float, MemoryStore]:
    """Seconds of a bare loop, and what it measured."""
    store, start = MemoryStore(), time.perf_counter()
    for block, places in enumerate(run.plan.blocks):
        for key, unit in run.measure(places, run.plan.keys(block)):
            store.add(key, unit)
    return time.perf_counter() - start, store


def worker(run: Run, folder: Path) -> tuple[float, FolderStore]:
    """Seconds of a worker that is alone, and what it stored."""
    start = time.perf_counter()
    store = FolderStore(folder)
    store.begin(run.plan)
    with Stop() as stop, Claims(folder / "claims") as claims:
        Worker(run, store, claims, stop).work()
    return time.perf_counter() - start, store


def main(argv: list[str] | None = None) -> None:
    """Print the ratios; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=64, help="scenes (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="pairs (%(default)s)")
    parser.add_argument("--protocol", default="tokens", help='or "none" (%(default)s)')
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    clip, scenes = load_clip("tiny", device=args.device), Scenes(args.n)
    classifier = ZeroShotClassifier(
        clip.model, clip.tokenizer, scenes.class_names, scenes.templates
    )
    run = Run(
        ["cci", "grad-eclip"],
        scenes,
        [] if args.protocol == "none" else [args.protocol],
        forward_func=classifier,
        preprocess=clip.preprocess,
        ties=(),
        batch_size=args.batch_size,
    )
    loop(run)  # to warm up
    ratios, seconds = [], []
    for number in range(args.repeats):
        with tempfile.TemporaryDirectory() as folder:
            if number % 2:  # the first of a pair is now one, now the other
                (own, store), (bare, memory) = worker(run, Path(folder)), loop(run)
            else:
                (bare, memory), (own, store) = loop(run), worker(run, Path(folder))
            drop = ["seconds"]
            pd.testing.assert_frame_equal(
                run.comparison(store).results.drop(columns=drop),
                run.comparison(memory).results.drop(columns=drop),
            )
        ratios.append(bare / own)
        seconds.append(bare)
    print(
        f"{len(run.plan.all_keys())} units, {args.n} scenes, {args.device}, torch "
        f"{torch.__version__}, {args.threads} threads, {args.repeats} pairs\n"
        f"loop {statistics.median(seconds):.2f} s; throughput of the worker in units of the "
        f"loop's: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
    )


if __name__ == "__main__":
    main()
