"""What architectures have and take is counted anew, and held to the facts that ship."""

from __future__ import annotations

import pytest
import torch
from helpers import ROOT

from cci_captum import find_vision_tower
from cci_captum.benchmarks.clip_variants import ARCHITECTURES, VARIANT_LISTS, Variant
from cci_captum.benchmarks.speed import passes

_LEFT_OUT = [pytest.mark.exhaustive, pytest.mark.beyond_pairs]
QUICK = ("PE-Core-T-16-384",)
ALL = [pytest.param(name, marks=[] if name in QUICK else _LEFT_OUT) for name in ARCHITECTURES]


@pytest.mark.parametrize("name", ALL)
def test_facts_are_what_is_counted(name: str) -> None:
    facts, model = ARCHITECTURES[name], passes.without_weights(name)
    counts = passes.counts_of(model)
    assert f"{counts.image_parameters / 1e6:.2f}" == f"{facts.image_parameters:.2f}"
    assert f"{counts.parameters / 1e6:.2f}" == f"{facts.parameters:.2f}"
    assert f"{counts.flops / 1e9:.2f}" == f"{facts.gflops:.2f}"
    variant = Variant(name, "openai")
    if not variant.explainable:
        with pytest.raises(TypeError, match="no patch tokens"):
            find_vision_tower(model)
        return
    images = torch.empty(1, 3, facts.image_size, facts.image_size, device="meta")
    height, width = find_vision_tower(model).grid(images)
    assert height * width == variant.patches


@pytest.fixture
def counted_from_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that are the facts: building twenty-two models takes a minute."""

    def counts_of(name: str) -> passes.Counts:
        facts = ARCHITECTURES[name]
        millions = facts.image_parameters, facts.parameters
        return passes.Counts(*(round(1e6 * m) for m in millions), round(1e9 * facts.gflops))

    monkeypatch.setattr(passes, "without_weights", lambda name: name)
    monkeypatch.setattr(passes, "counts_of", counts_of)


@pytest.mark.usefixtures("counted_from_facts")
def test_the_tables_have_a_row_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    passes.main([])
    lines = capsys.readouterr().out.splitlines()
    for name, variants in VARIANT_LISTS.items():
        place = lines.index(f"{name}: {len(variants)} models")
        rows = lines[place + 4 : place + 4 + len(variants)]
        assert [row.split(" | ")[0].strip("| ").replace("\\", "") for row in rows] == [
            variant.model for variant in variants
        ]
    assert any("| 86.19 | 149.62 | 35.13 |" in line for line in lines)
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8").splitlines()
    place = lines.index("cci-paper: 18 models") + 2
    assert lines[place] in page and set(lines[place : place + 20]) <= set(page)
