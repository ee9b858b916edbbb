"""Every method on every family of image encoders: it works, or it is refused with the reason.

These tests also write the table of docs/compatibility.md, and fail where it is not up to date:

    CCI_CAPTUM_WRITE_DOCS=1 python -m pytest tests/properties/test_compatibility.py
"""

from __future__ import annotations

import configparser
import os
from functools import cache
from importlib.metadata import version

import oracles
import pytest
import torch
from families import FAMILIES, Family
from helpers import ROOT
from torch import Tensor, nn
from toy import CONTEXT_LENGTH, VOCABULARY

from cci_captum import ImageTextSimilarity, KMeans
from cci_captum.baselines import METHODS

pytestmark = pytest.mark.shared(among=2)

PAGE = ROOT / "docs" / "compatibility.md"
LIBRARIES = ("torch", "captum", "open_clip_torch", "timm", "transformers")
OPTIONS = {
    "cci": {"clustering": KMeans(3)},
    "rise": {"n_masks": 4, "grid": 2},
    "m2ib": {"steps": 2, "n_samples": 2},
    "shapley-cci": {"clustering": KMeans(3)},
    "cluster-ablation": {"clustering": KMeans(3)},
    "cluster-lime": {"clustering": KMeans(3), "n_samples": 6},
    "cluster-kernelshap": {"clustering": KMeans(3), "n_samples": 6},
}
# CCI hides in two ways; the other methods have no strategy. Other options need no other model.
COLUMNS = {"cci": "CCI, mask", "cci drop": "CCI, drop"} | {
    name: method.title for name, method in METHODS.items() if name != "cci" and not method.preset
}
READS_ATTENTION = ("grad-eclip", "self-attention", "rollout", "game", "legrad", "atman")
PROJECTS_PATCHES = ("maskclip", "clip-surgery", "gated-cci")
NOTES = {
    "a": "needs text embeddings, and this model has no text encoder",
    "b": "patches have no feature of their own in the joint space: the image feature is read from "
    "an attention pool",
    "c": "the image feature is read through two attention pools, one after the other",
}
REASONS = {
    "a": "compares patches with text embeddings",
    "b": "read from an attention pool",
    "c": "two attention pools",
}


def refusal(family: Family, column: str) -> str | None:
    """The note that says why a method is not defined on a family, None where it is."""
    if column in METHODS and METHODS[column].needs_text and not family.has_text:
        return "a"
    if column in PROJECTS_PATCHES and family.readout == "attention pool":
        return "b"
    if column in READS_ATTENTION and "cascade" in family.name:
        return "c"
    return None


def make(family: Family, model: nn.Module, column: str):
    """A method on a model, and the arguments of `attribute` after the images."""
    name = column.removesuffix(" drop")
    options = OPTIONS.get(name, {}) | ({"hide": "drop"} if column == "cci drop" else {})
    if family.has_text:
        tokens = torch.randint(1, VOCABULARY - 1, (2, CONTEXT_LENGTH), generator=seeded())
        tokens[:, -1] = VOCABULARY - 1
        return METHODS[name](ImageTextSimilarity(model), **options), (None, tokens)

    def forward(images: Tensor) -> Tensor:
        return family.run(model, images)

    return METHODS[name](forward, model, **options), ([0, 1], None)


@cache
def model_of(name: str) -> nn.Module:
    """One model a family: methods leave it as it was."""
    return FAMILIES[name].make(seed=1)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def explain(method, column: str, images: Tensor, target, args) -> Tensor:
    masks = {"masks": images.mean(dim=1) > 0} if column == "ground-truth" else {}
    return method.attribute(images, target, args, **masks)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_method_works_or_says_why_not(name: str, column: str) -> None:
    family = FAMILIES[name]
    model, images = model_of(name), family.images(2)
    note = refusal(family, column)
    if note is not None:
        with pytest.raises(TypeError, match=REASONS[note]):
            make(family, model, column)
        return
    method, (target, args) = make(family, model, column)
    attributions = explain(method, column, images, target, args)
    assert attributions.shape == images.shape
    assert bool(attributions.isfinite().all())
    assert float(attributions.std()) > 0
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    last = slice(1, 2)  # each image is explained as if it were alone
    alone = explain(
        method,
        column,
        images[last],
        target and target[last],
        args if args is None else args[last],
    )
    if attributions[last].any():
        assert oracles.relative_error(alone, attributions[last]) < 1e-4
    else:
        assert not alone.any()


@pytest.mark.parametrize("name", FAMILIES)
def test_cci_does_not_depend_on_how_it_hides(name: str) -> None:
    family = FAMILIES[name]
    model, images = model_of(name), family.images(2)
    maps = []
    for column in ("cci", "cci drop"):
        method, (target, args) = make(family, model, column)
        maps.append(method.attribute(images, target, args))
    assert oracles.relative_error(maps[0], maps[1]) < 1e-4


def table() -> list[str]:
    """The lines of the table."""
    lines = [
        "| | " + " | ".join(COLUMNS.values()) + " |",
        "| --- |" + " :-: |" * len(COLUMNS),
    ]
    for family in FAMILIES.values():
        notes = [refusal(family, column) for column in COLUMNS]
        cells = ["✓" if note is None else f"({note})" for note in notes]
        lines.append(f"| {family.name} | " + " | ".join(cells) + " |")
    return lines


def oldest() -> dict[str, str]:
    """The lower bounds of setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return dict(
        line.split(">=") for line in config["options"]["install_requires"].split() if ">=" in line
    )


def page() -> str:
    """The whole page, with the versions installed here as the newest."""
    versions = [
        "| | " + " | ".join(LIBRARIES) + " |",
        "| --- |" + " --- |" * len(LIBRARIES),
        "| oldest | " + " | ".join(oldest()[name] for name in LIBRARIES) + " |",
        "| newest | " + " | ".join(version(name).split("+")[0] for name in LIBRARIES) + " |",
    ]
    notes = [f"- ({key}) Refused with a TypeError: {text}." for key, text in NOTES.items()]
    return "\n".join(
        [
            "# Which method works on which model",
            "",
            "Written by `tests/properties/test_compatibility.py`, which runs every method on a",
            "small random model of every family: ✓ is tested, a letter is refused with the reason",
            "below. (All of it with `--exhaustive`; a quick run holds every method and every",
            "family once.) Hiding by mask and by drop are tested on every row",
            "(`tests/unit/vision_towers/test_vision_towers.py`); only CCI's own columns tell them",
            "apart: Shapley CCI drops here, the other methods hide nothing.",
            "",
            *table(),
            "",
            *notes,
            "",
            "ResNet, ConvNeXt, Swin and FastViT have no patch tokens that attend to all others;",
            "ViTamin and hybrid ViTs mix the pixels of different patches before the first",
            "block; relative position biases are not supported. `find_vision_tower` refuses all",
            "of them with a TypeError.",
            "",
            "## Versions",
            "",
            "The test suite passes with both:",
            "",
            *versions,
            "",
            "`bash .ci/oldest` makes a virtual environment with the oldest and runs the tests",
            "in it.",
            "",
        ]
    )


def test_the_page_is_up_to_date() -> None:
    if os.environ.get("CCI_CAPTUM_WRITE_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    written = PAGE.read_text(encoding="utf-8").splitlines()
    rows = {line for line in written if line.startswith("| ") and ("✓" in line or "CCI" in line)}
    made = {line for line in table() if line.startswith("| ") and ("✓" in line or "CCI" in line)}
    assert made <= rows
    for line in rows - made:  # an older library lacks the model
        assert line.split("|")[1].strip() not in FAMILIES
        assert "MobileCLIP2" in line
    bounds = "| oldest | " + " | ".join(oldest()[name] for name in LIBRARIES) + " |"
    assert bounds in written
