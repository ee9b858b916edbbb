"""What a run holds; the fixtures of all tests are in small_models.py.

Options and variables, as CONTRIBUTING.md says: `--exhaustive`, CCI_CAPTUM_TEST_THREADS.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from selection import mark_exhaustive

# Of the libraries that torch.set_num_threads (small_models.py) says nothing to, such as faiss and
# BLAS, and of processes that tests start: more threads than cores wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("CCI_CAPTUM_TEST_THREADS", "1"))

LEFT_OUT = "left_to_exhaustive"  # how many tests, in what a worker of pytest-xdist reports
_left_out = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="also run what a quick run leaves out: every configuration, every combination "
        "(with -m exhaustive: only that)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist keep a file's tests on one worker, so that its fixtures are made once.

    The process that only hands tests out needs no models, which take seconds to import.
    """
    if config.getoption("dist", None) == "load":
        config.option.dist = "loadfile"
    if not config.getoption("numprocesses", None) or config.option.collectonly:
        config.pluginmanager.import_plugin("small_models")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked, unless asked for it; see selection.py."""
    mark_exhaustive(items)
    if config.getoption("exhaustive"):
        return
    left_out = [item for item in items if item.get_closest_marker("exhaustive")]
    items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]
    config.hook.pytest_deselected(items=left_out)
    config.stash[_left_out] = len(left_out)
    if hasattr(config, "workeroutput"):
        config.workeroutput[LEFT_OUT] = len(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Every worker of pytest-xdist collects the same tests, so that one number is all."""
    node.config.stash[_left_out] = getattr(node, "workeroutput", {}).get(LEFT_OUT, 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    left_out = config.stash.get(_left_out, 0)
    if left_out:
        terminalreporter.write_line(f"left to --exhaustive: {left_out} tests")
