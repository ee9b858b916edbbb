"""What a run holds; the fixtures of all tests are in small_models.py.

Options and variables, as CONTRIBUTING.md says: `--exhaustive`, `--pairs`, CCI_CAPTUM_TEST_THREADS.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from typing import Any

import pytest
from selection import mark_beyond_pairs, mark_exhaustive

# Of the libraries that torch.set_num_threads (small_models.py) says nothing to, such as faiss and
# BLAS, and of processes that tests start: more threads than cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("CCI_CAPTUM_TEST_THREADS", "1"))

# Until the tests are collected: a third of that time, for nothing to find. The process of
# pytest-xdist that only hands tests out collects none, and keeps none of them.
gc.disable()

LEFT_OUT = "left_to_exhaustive"  # how many tests, in what a worker of pytest-xdist reports
_left_out = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="also run what a quick run leaves out: every configuration, every combination "
        "(with -m exhaustive: only that)",
    )
    parser.addoption(
        "--pairs",
        action="store_true",
        help="as --exhaustive, but of a test with three lists of parameters or more only as many "
        "cases as hold any two values together",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist keep a file's tests on one worker, so that its fixtures are made once.

    The process that only hands tests out needs no models, which take seconds to import.
    """
    if config.getoption("dist", None) == "load":
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False  # `_longest_first` does
    if not config.getoption("numprocesses", None) or config.option.collectonly:
        config.pluginmanager.import_plugin("small_models")


def _longest_first(items: list[pytest.Item]) -> None:
    """Bring files with many tests to the front, before them those whose tests are commands.

    So that no worker is left alone at the end with one that takes a minute.
    """
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.parent.name != "commands", -counts[item.path]))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked, unless asked for it; see selection.py."""
    if hasattr(config, "workerinput"):
        _longest_first(items)
    mark_exhaustive(items)
    mark = "exhaustive"
    if config.getoption("exhaustive"):
        return
    if config.getoption("pairs"):
        mark_beyond_pairs(items)
        mark = "beyond_pairs"
    left_out = [item for item in items if item.get_closest_marker(mark)]
    items[:] = [item for item in items if not item.get_closest_marker(mark)]
    config.hook.pytest_deselected(items=left_out)
    config.stash[_left_out] = len(left_out)
    if hasattr(config, "workeroutput"):
        config.workeroutput[LEFT_OUT] = len(left_out)


def pytest_collection_finish() -> None:
    """What there is by now, libraries and tests, stays: no need to look through it again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker of pytest-xdist collects the same tests, so that one number is all."""
    node.config.stash[_left_out] = getattr(node, "workeroutput", {}).get(LEFT_OUT, 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    left_out = config.stash.get(_left_out, 0)
    if left_out:
        terminalreporter.write_line(f"left to --exhaustive: {left_out} tests")
