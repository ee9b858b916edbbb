"""What tests of several folders share."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from oracles import relative_error
from torch import Tensor, nn

from cci_captum import KMeans

ROOT = Path(__file__).resolve().parents[1]
NAMES = ["fox", "ship", "igloo", "lemon", "jar"]
# Options with which every registered method is fast.
FAST: dict[str, dict[str, Any]] = {
    "cci": {"clustering": KMeans(3)},
    "rise": {"n_masks": 12, "grid": 3},
    "gated-cci": {"clusters": (3,)},
    "m2ib": {"steps": 2, "n_samples": 2},
    "cluster-lime": {"n_samples": 8, "clustering": KMeans(3)},
    "cluster-kernelshap": {"n_samples": 8, "clustering": KMeans(3)},
    "shapley-cci": {"clustering": KMeans(3)},
    "cluster-ablation": {"clustering": KMeans(3)},
}


class Failure(Exception):
    """Raised on purpose."""


def forked(work: Callable[[], object]) -> int:
    """A copy of this process that does the work alone, its number; it ends with 3 if that is False.

    As workers of torch's DataLoader it has one thread: a pool of threads does not outlive a fork,
    and who asks it for work waits for ever.
    """
    pid = os.fork()
    if not pid:
        ended = 1
        try:
            torch.set_num_threads(1)
            ended = 3 if work() is False else 0
        finally:
            os._exit(ended)
    return pid


def steps_of(work: Callable[[], object]) -> int:
    """How often a piece of work enters or leaves a function, of Python's or of C's."""
    return _profiled(work, lambda step: None)


def killed_again_and_again(
    work: Callable[[int, int], object], worlds: Sequence[int], steps: int, seed: int = 0
) -> None:
    """Start so many processes at a time, and kill each at a random step.

    Unlike a moment in seconds, a step is the same share of the work on every machine. Together
    their steps are four fifths of `steps`, those of the whole work, so that they cannot end it.
    """
    rng = random.Random(seed)
    shares = [rng.random() for _ in range(sum(worlds))]
    last = (round(0.8 * steps * share / sum(shares)) for share in shares)
    for world in worlds:
        pids = [forked(_killed_at(next(last), partial(work, rank, world))) for rank in range(world)]
        for pid in pids:
            assert os.WIFSIGNALED(os.waitpid(pid, 0)[1]), "it ended by itself"


def _killed_at(last: int, work: Callable[[], object]) -> Callable[[], object]:
    def kill(step: int) -> None:
        if step >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    return lambda: _profiled(work, kill)


def _profiled(work: Callable[[], object], each: Callable[[int], None]) -> int:
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1
        each(steps)

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return steps


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Assert that no difference is larger, relative to the largest expected magnitude."""
    assert relative_error(actual, expected) < tolerance


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hooks(module: nn.Module) -> int:
    """How many there are, in all submodules."""
    return sum(
        len(hooks)
        for m in module.modules()
        for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    )


def texts(figure: Figure) -> list[str]:
    """What is written in the figure."""
    return [text.get_text() for text in figure.texts]


@contextmanager
def counted_texts(model: nn.Module) -> Iterator[list[int]]:
    """Rows of tokens in each pass of the text encoder."""
    rows: list[int] = []
    handle = model.token_embedding.register_forward_pre_hook(
        lambda module, args: rows.append(len(args[0]))
    )
    try:
        yield rows
    finally:
        handle.remove()
