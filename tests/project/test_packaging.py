"""What is installed, and that every documented example runs."""

from __future__ import annotations

import configparser
import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest
from helpers import ROOT

import cci_captum
import cci_captum.baselines
import cci_captum.benchmarks

PACKAGES = {
    "cci_captum": ROOT / "cci_captum",
    "cci_captum.baselines": ROOT / "baselines",
    "cci_captum.benchmarks": ROOT / "benchmarks",
}
MODULES = sorted(
    {
        info.name
        for package in (cci_captum, cci_captum.baselines, cci_captum.benchmarks)
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    }
    | set(PACKAGES)
)


def test_setup_cfg_lists_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = config["options"]["packages"].split()
    found = [
        ".".join([name, *init.parent.relative_to(folder).parts])
        for name, folder in PACKAGES.items()
        for init in folder.rglob("__init__.py")
    ]
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize("name", MODULES)
def test_documented_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module)
    assert results.failed == 0


def test_examples_are_found() -> None:
    module = importlib.import_module("cci_captum.cci")
    assert doctest.testmod(module).attempted >= 5


def test_public_names() -> None:
    assert sorted(cci_captum.__all__) == cci_captum.__all__
    assert all(hasattr(cci_captum, name) for name in cci_captum.__all__)


def test_version_is_the_changelogs_and_the_citations() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {cci_captum.__version__}\n" in citation


def test_the_command_line_answers_without_loading_torch() -> None:
    code = (
        "import sys; from cci_captum.benchmarks.cli import build_parser; build_parser(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
