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
from selection import exhaustive_unless

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

# Examples that run a model, or take a quarter of a second or more; so do most of benchmarks.
SLOW = {
    "cci_captum.attribution.base",
    "cci_captum.attribution.checking",
    "cci_captum.attribution.forward_checks",
    "cci_captum.attribution.native_map",
    "cci_captum.baselines.atman",
    "cci_captum.baselines.attention_rollout",
    "cci_captum.baselines.clip_surgery",
    "cci_captum.baselines.cluster_ablation",
    "cci_captum.baselines.cluster_kernel_shap",
    "cci_captum.baselines.cluster_lime",
    "cci_captum.baselines.game",
    "cci_captum.baselines.gated_cci",
    "cci_captum.baselines.grad_cam",
    "cci_captum.baselines.grad_eclip",
    "cci_captum.baselines.layer_grad_cam",
    "cci_captum.baselines.legrad",
    "cci_captum.baselines.m2ib",
    "cci_captum.baselines.mask_clip",
    "cci_captum.baselines.self_attention",
    "cci_captum.baselines.spec",
    "cci_captum.calls",
    "cci_captum.coalitions",
    "cci_captum.diagnosis.border_clusters",
    "cci_captum.diagnosis.diagnosing",
    "cci_captum.diagnosis.interventions",
    "cci_captum.explained_words",
    "cci_captum.explanation",
    "cci_captum.mean_over_seeds",
    "cci_captum.memory",
    "cci_captum.models.preprocessing",
    "cci_captum.models.scores",
    "cci_captum.models.words",
    "cci_captum.shapley",
    "cci_captum.shared",
    "cci_captum.vision_towers.base",
    "cci_captum.vision_towers.checking",
    "cci_captum.vision_towers.hideable",
}


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


@pytest.mark.parametrize(
    "name",
    [
        exhaustive_unless(name not in SLOW and not name.startswith("cci_captum.benchmarks"), name)
        for name in MODULES
    ],
)
def test_documented_examples_run(name: str) -> None:
    module = importlib.import_module(name)
    results = doctest.testmod(module)
    assert results.failed == 0


def test_examples_are_found() -> None:
    module = importlib.import_module("cci_captum.cci")
    assert sum(len(found.examples) for found in doctest.DocTestFinder().find(module)) >= 5
    assert set(MODULES) >= SLOW


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
