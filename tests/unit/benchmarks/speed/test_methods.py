"""The program that times methods: its table and its errors, not the times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import cci_captum
from cci_captum.benchmarks.speed import methods


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of seconds, the images that the image encoder runs on."""
    load, seen = cci_captum.load_clip, [0]

    def count(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen[0] += len(args[0])

    def loaded(*args: Any, **options: Any) -> cci_captum.LoadedCLIP:
        clip = load(*args, **options)
        clip.model.visual.register_forward_pre_hook(count)
        return clip

    def images(
        functions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
    ) -> dict[str, float]:
        found = {}
        for name, function in functions.items():
            function()  # with one-off checks
            seen[0] = 0
            function()
            found[name] = float(seen[0])
        return found

    monkeypatch.setattr(methods, "load_clip", loaded)
    monkeypatch.setattr(methods, "median_seconds", images)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("counted")
def test_ratios_are_passes(capsys: pytest.CaptureFixture[str]) -> None:
    specs = ["cci(clusters=3)", "grad-eclip", "rise(masks=5)", "ground-truth"]
    given = [word for spec in specs for word in ("--method", spec)]
    methods.main([*given, "--batch-size", "2", "--threads", "1", "--device", "cpu"])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        "| CCI (3 clusters) | 4.0 |",  # K + 1
        "| Grad-ECLIP | 1.0 |",
        "| RISE (5 masks) | 5.0 |",
        "| Ground truth | 0.0 |",
    ]


def test_a_row_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--batch-size", "1", "--repeats", "1", "--threads", "1", "--device", "cpu"]
    chosen = ["--method", "gradcam", "--method", "rise(masks=2)", "--method", "ground-truth"]
    methods.main([*options, *chosen])
    head, _, rows = capsys.readouterr().out.partition("\n\n")
    assert head.startswith("tiny, 1 images, cpu, float32,")
    lines = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]
    assert lines[0] == ["method", "plain passes"]
    assert [name for name, _ in lines[2:]] == ["GradCAM", "RISE (2 masks)", "Ground truth"]
    assert all(float(ratio) >= 0 for _, ratio in lines[2:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "ccl"], "expected one of cci, grad-eclip, "),
        (["--repeats", "0"], "--repeats: expected at least 1"),
    ],
)
def test_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        methods.main(arguments)
    assert message in capsys.readouterr().err
