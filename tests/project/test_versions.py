"""The lower bounds in setup.cfg: kept by what is installed, and what `.ci/oldest` installs."""

from __future__ import annotations

import configparser
import subprocess
from importlib.metadata import version

import pytest
from helpers import ROOT
from packaging.requirements import Requirement
from packaging.version import Version


def requirements() -> list[Requirement]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extra = config["options.extras_require"]["all"]
    lines = (config["options"]["install_requires"] + "\n" + extra).split()
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_each_has_one_lower_bound_which_is_kept(requirement: Requirement) -> None:
    (bound,) = requirement.specifier
    assert bound.operator == ">="
    assert Version(version(requirement.name)) >= Version(bound.version)


def test_the_oldest_environment_pins_the_lower_bounds() -> None:
    shown = subprocess.run(
        ["bash", ROOT / ".ci" / "oldest", "--print"], capture_output=True, text=True, check=True
    )
    pins = dict(line.split("==") for line in shown.stdout.split())
    assert pins == {
        requirement.name: bound.version
        for requirement in requirements()
        for bound in requirement.specifier
    }
