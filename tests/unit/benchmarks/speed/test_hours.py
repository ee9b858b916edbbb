"""Hours of the paper's tables: passes as a run makes them, and arithmetic by hand."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import ROOT
from pytest import approx
from toy_comparison import NAMES, Toy, run, toy_sample

from cci_captum import ZeroShotClassifier
from cci_captum.benchmarks.speed import hours


@pytest.mark.parametrize(
    ("methods", "protocols", "backwards"),
    [
        (["cci", "maskclip"], ["grad-eclip"], 0),
        (["grad-eclip"], ["grad-eclip-released", "rise"], 1),
    ],
)
def test_passes_are_those_of_a_run(
    make_clip: Any, tokenizer: Any, methods: list[str], protocols: list[str], backwards: int
) -> None:
    """Images that the encoder of a comparison runs on, without masks."""
    model, _ = make_clip(1, layers=2)
    classifier = ZeroShotClassifier(model, tokenizer, NAMES, "{}").eval()
    seen = []
    model.visual.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))

    def images(count: int) -> int:
        seen.clear()
        data = Toy([toy_sample(index) for index in range(count)])
        run(classifier, data, methods, protocols, explained="predicted", ties=())
        return sum(seen)

    images(2)  # with one-off checks of the encoder
    own = images(3) - images(2)
    assert own == hours.comparison_passes(methods, protocols) - 2 * backwards


def test_passes_of_maps() -> None:
    assert [hours.map_passes(name) for name in ("cci", "rise", "gradcam")] == [8, 4000, 3]
    assert hours.map_passes("cci", clusters=10) == 11
    with pytest.raises(ValueError, match="method: expected one of whole passes, got 'm2ib'"):
        hours.map_passes("m2ib")


def test_hours_by_hand() -> None:
    """ImageNet: 1 + 1 + 8 + 3 + 1 + 3 for the maps, and five curves of 22 passes."""
    imagenet, coco, *covar = hours.jobs()
    assert (imagenet.items, imagenet.passes) == (50_000, 17 + 110)
    assert (coco.items, coco.passes) == (25_010, 14 + 88)
    assert [(job.items, job.passes) for job in covar] == [(396_000, 11)] * 18
    # 6.35e6 passes of 35.13e9 operations at 41e12 a second.
    assert imagenet.hours(41) == approx(6.35e6 * 35.13e9 / 41e12 / 3600, rel=1e-12)
    assert imagenet.hours(41) == approx(1.511, abs=0.001)
    assert imagenet.core_hours({375: 0.36}) == approx(25, rel=1e-12)  # 250,000 maps
    gflops = 4 * 35.13 + 35.42 + 35.13 + 2 * 8.82 + 9.19 + 9.45 + 2 * 162.03 + 2 * 334.59
    gflops += 967.50 + 216.24 + 381.92 + 220.35
    total = sum(job.hours(1000) for job in covar)
    assert total == approx(396_000 * 11 * gflops * 1e9 / 1e15 / 3600, rel=1e-9)


def test_the_throughput_is_that_of_the_nearest_measured_model() -> None:
    # 512 passes of 35.13e9 in 0.439 s.
    assert hours.assumed_tflops("ViT-B-16") == approx(512 * 35.13 / 0.439 / 1000, rel=1e-12)
    assert hours.assumed_tflops("EVA02-B-16") == hours.assumed_tflops("ViT-B-16")
    large = hours.assumed_tflops("ViT-bigG-14", "bfloat16")
    assert large == approx(256 * 162.03 / 0.095 / 1000, rel=1e-12)
    assert hours.assumed_tflops("PE-Core-T-16-384") == hours.assumed_tflops("ViT-B-32")
    with pytest.raises(ValueError, match="precision: expected one of float32, bfloat16, got 'fp8'"):
        hours.assumed_tflops("ViT-B-16", "fp8")  # type: ignore[arg-type]


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    hours.main(["--tflops", "100"])
    head, rows = capsys.readouterr().out.split("\n\n")
    assert head == "375 pixels: 0.35 core s a map, 500 pixels: 0.61 core s a map"
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows.splitlines()]
    assert cells[2][1:] == ["50,000", "127", "35.13", "24", "100", "0.62"]
    assert len(cells) == 2 + 2 + 18 + 1
    total = sum(float(row[-1]) for row in cells[4:-1])
    assert float(cells[-1][-1]) == approx(total, abs=0.005 * 18)
    with pytest.raises(SystemExit):
        hours.main(["--tflops", "0"])
    assert "--tflops more than 0" in capsys.readouterr().err


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    assert f"\n\n{hours.report()}\n\n" in page


def test_seconds_are_those_of_the_measurements() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for title, precision in (("float32", "float32"), ("bf16", "bfloat16")):
        cells = " | ".join(f"1.00 ({row.seconds[precision]} s)" for row in hours.MEASURED)
        assert f"| {title}: 8 plain passes | {cells} |" in page
    head = " | ".join(f"{row.architecture}, {row.images} images" for row in hours.MEASURED)
    assert f"| | {head} |" in page and {row.passes for row in hours.MEASURED} == {8}


def test_painting_photos_takes_time() -> None:
    assert hours.core_seconds(16, photos=1) > 0
    with pytest.raises(ValueError, match="side: expected a positive int, got 0"):
        hours.core_seconds(0)
