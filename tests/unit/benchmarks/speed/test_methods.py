"""The program that times methods: its table and its errors, not the times."""

from __future__ import annotations

import pytest

from cci_captum.benchmarks.speed import methods


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
