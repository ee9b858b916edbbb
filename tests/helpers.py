"""What tests of several folders share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
