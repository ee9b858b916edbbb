"""What may import what: arrows run down only, read off the source of all three packages."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers import ROOT

PACKAGES = {
    "cci_captum": ROOT / "cci_captum",
    "cci_captum.baselines": ROOT / "baselines",
    "cci_captum.benchmarks": ROOT / "benchmarks",
}
# From the ground up. A module belongs to the longest name that begins its own, and imports from
# floors below, or what shares that name. CONTRIBUTING.md draws the same house.
FLOORS = (
    (
        "cci_captum._captum",
        "cci_captum._checks",
        "cci_captum._colours",
        "cci_captum._extras",
        "cci_captum._progress",
        "cci_captum._regions",
        "cci_captum._version",
        "cci_captum.spec_text",
    ),
    (
        "cci_captum.vision_towers",
        "cci_captum.clustering",
        "cci_captum.tiny",
        "cci_captum.calls",
        "cci_captum.memory",
        "cci_captum.names",
        "cci_captum.shared",
    ),
    ("cci_captum.models", "cci_captum.images", "cci_captum._files"),
    ("cci_captum.attribution", "cci_captum.mask_files"),
    (
        "cci_captum.cluster_maps",
        "cci_captum.coalitions",
        "cci_captum.html",
        "cci_captum.regions",
        "cci_captum.shapley_values",
    ),
    ("cci_captum.effects", "cci_captum.shapley_effects"),
    ("cci_captum.cci", "cci_captum.gate_gradient", "cci_captum.visualization"),
    (
        "cci_captum.explained_words",
        "cci_captum.mean_over_seeds",
        "cci_captum.pages",
        "cci_captum.photos",
        "cci_captum.shapley",
    ),
    ("cci_captum.diagnosis", "cci_captum.explanation_files", "cci_captum.side_by_side"),
    ("cci_captum.explanation_view",),
    ("cci_captum.explanation",),
    ("cci_captum.explaining", "cci_captum.diagnosis"),
    ("cci_captum",),  # its __init__: the public names
    ("cci_captum.baselines",),
    (
        "cci_captum.benchmarks.clip_variants",
        "cci_captum.benchmarks.markdown",
        "cci_captum.benchmarks.measures",
        "cci_captum.benchmarks.statistics",
        "cci_captum.benchmarks.versions",
        "cci_captum.benchmarks.wordnet_table",
    ),
    (
        "cci_captum.benchmarks.scenes",
        "cci_captum.benchmarks.coverage",
    ),
    (
        "cci_captum.benchmarks.data",
        "cci_captum.benchmarks.foils",
        "cci_captum.benchmarks.tiny_clip",
    ),
    ("cci_captum.benchmarks.faithfulness",),
    ("cci_captum.benchmarks.maps",),
    ("cci_captum.benchmarks.localization", "cci_captum.benchmarks.tasks"),
    ("cci_captum.benchmarks.comparison",),
    ("cci_captum.benchmarks.predictions",),
    ("cci_captum.benchmarks.diagnosis",),
    (
        "cci_captum.benchmarks.counteranimal",
        "cci_captum.benchmarks.covar",
        "cci_captum.benchmarks.spurious",
        "cci_captum.benchmarks.studies",
    ),
    ("cci_captum.benchmarks.runner",),
    ("cci_captum.benchmarks.commands", "cci_captum.benchmarks.speed"),
    ("cci_captum.benchmarks.cli",),
    ("cci_captum.benchmarks",),
)
HEIGHTS = {name: height for height, names in enumerate(FLOORS) for name in names}


def modules() -> dict[str, Path]:
    """Dotted name -> file."""
    found = {}
    for name, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([name, *(part for part in parts if part != "__init__")])] = path
    return found


MODULES = modules()


@cache
def imports(name: str) -> list[tuple[int, str, int]]:
    """(line, module or name, dots) of every import, inside functions too."""
    return [*_imports(name)]


def _imports(name: str) -> Iterator[tuple[int, str, int]]:
    path = MODULES[name]
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield node.lineno, inner if inner in MODULES else module, node.level


def floor_of(name: str) -> str:
    return max((known for known in HEIGHTS if f"{name}.".startswith(f"{known}.")), key=len)


def package_of(name: str) -> str:
    return max((known for known in PACKAGES if f"{name}.".startswith(f"{known}.")), key=len)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_arrows_run_down(name: str) -> None:
    own = floor_of(name)
    for line, other, dots in imports(name):
        if other not in MODULES:
            continue
        assert own == floor_of(other) or HEIGHTS[floor_of(other)] < HEIGHTS[own], f"line {line}"
        if other != "cci_captum":
            assert (package_of(name) == package_of(other)) == (dots > 0), f"line {line}: dots"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_one_door_to_captum(name: str) -> None:
    private = [
        other
        for _, other, _ in imports(name)
        if other.startswith("captum.") and other.split(".")[1] != "attr"
    ]
    assert not private or name == "cci_captum._captum"


def test_no_circles() -> None:
    """Between modules; importing a package runs its __init__, which imports lazily."""
    below = {name: {other for _, other, _ in imports(name)} for name in MODULES}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name in done or name in PACKAGES or name not in MODULES:
            return
        for other in below[name]:
            visit(other, (*path, name))
        done.add(name)

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10_000))
    for name in MODULES:
        visit(name, ())


def test_the_table_has_no_names_of_the_past() -> None:
    assert {floor_of(name) for name in MODULES} == set(HEIGHTS)


def test_no_module_is_longer_than_a_reader_holds() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert {name for name, count in lines.items() if count > 350} == set()
