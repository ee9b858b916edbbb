"""Measures of where maps lie, against closed forms, and the program that reports them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cci_captum import ZeroShotClassifier, load_clip
from cci_captum.baselines import GradECLIP, Random
from cci_captum.benchmarks.localization import energy, pointing_game, scenes
from cci_captum.benchmarks.statistics import bootstrap_interval
from cci_captum.benchmarks.tiny_clip.scenes import SceneGenerator
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

Measure = Callable[[Tensor, Tensor], Tensor]


def upper_left(height: int, width: int, rows: int, columns: int) -> Tensor:
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, :rows, :columns] = True
    return mask


def random_case(shape: tuple[int, int], size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(3, *shape, generator=generator).round(decimals=1)  # ties are likely
    return maps, torch.rand(3, *size, generator=generator) < 0.4


# metrics


def test_patches_half_on_the_object() -> None:
    masks = upper_left(8, 8, 4, 4)  # the upper left patch of 2 x 2 ...
    masks[:, :2, 4:] = True  # ... and half of the upper right one
    maps = torch.tensor([[[3.0, 3.0], [2.0, -9.0]]])
    assert energy(maps, masks).item() == pytest.approx((3 * 1 + 3 * 0.5) / 8)
    assert pointing_game(maps, masks).item() == pytest.approx(0.75)


@pytest.mark.parametrize("measure", [energy, pointing_game])
def test_constant_maps_get_the_objects_share_of_the_picture(measure: Measure) -> None:
    _, masks = random_case((1, 1), (15, 22), seed=0)
    for shape in ((1, 1), (4, 6), (7, 7), (15, 22), (40, 30)):
        found = measure(torch.full((3, *shape), 0.3), masks)
        assert torch.allclose(found, masks.double().mean(dim=(1, 2)))


@pytest.mark.parametrize("measure", [energy, pointing_game])
def test_the_mask_itself_lies_on_the_object(measure: Measure) -> None:
    _, masks = random_case((1, 1), (9, 14), seed=1)
    assert torch.equal(measure(masks.float(), masks), torch.ones(3, dtype=torch.float64))
    assert torch.equal(measure((~masks).float(), masks), torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(2, 3), (4, 5), (5, 7), (7, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_plain_loop(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Cells cut pixels where they do not divide: count on a common refinement of both grids."""
    maps, masks = random_case(shape, (10, 14), seed=sum(shape))
    maps = maps.to(dtype)
    for i in range(len(maps)):
        rows, columns = shape
        on_object = total = on_largest = n_largest = 0.0
        for y in range(rows * 10):
            for x in range(columns * 14):
                value = float(maps[i, y // 10, x // 14])
                hit = float(masks[i, y // rows, x // columns])
                total += max(value, 0)
                on_object += max(value, 0) * hit
                if value == float(maps[i].max()):
                    n_largest += 1
                    on_largest += hit
        assert energy(maps, masks)[i].item() == pytest.approx(on_object / total)
        assert pointing_game(maps, masks)[i].item() == pytest.approx(on_largest / n_largest)


@pytest.mark.parametrize("measure", [energy, pointing_game])
def test_an_enlarged_map_is_the_same_map(measure: Measure) -> None:
    maps, masks = random_case((4, 6), (20, 30), seed=2)
    enlarged = maps.repeat_interleave(5, dim=1).repeat_interleave(5, dim=2)
    assert torch.allclose(measure(maps, masks), measure(enlarged, masks))


@pytest.mark.parametrize("measure", [energy, pointing_game])
@pytest.mark.parametrize("factor", [1e-30, 3.0, 1e37])
def test_scale_does_not_matter(measure: Measure, factor: float) -> None:
    maps, masks = random_case((4, 6), (20, 30), seed=3)
    assert torch.allclose(measure(maps * factor, masks), measure(maps, masks))


def test_maps_without_positive_values() -> None:
    masks = upper_left(8, 8, 4, 8)
    maps = torch.tensor([[[-1.0, -1.0], [-2.0, -3.0]]])
    assert energy(maps, masks).item() == 0
    assert energy(torch.zeros(1, 2, 2), masks).item() == 0
    assert pointing_game(maps, masks).item() == 1  # the maximum is the least negative value


def test_rows_are_independent() -> None:
    maps, masks = random_case((5, 7), (10, 10), seed=4)
    for measure in (energy, pointing_game):
        alone = [measure(maps[i : i + 1], masks[i : i + 1]) for i in range(3)]
        assert torch.equal(torch.cat(alone), measure(maps, masks))


@pytest.mark.parametrize("measure", [energy, pointing_game])
@pytest.mark.parametrize(
    ("maps", "masks", "error", "message"),
    [
        ([[[1.0]]], torch.ones(1, 2, 2).bool(), TypeError, "maps: expected .*, got list"),
        (torch.ones(1, 2, 2).long(), torch.ones(1, 2, 2).bool(), TypeError, "maps: .*torch.int64"),
        (torch.ones(1, 2, 2), torch.ones(1, 2, 2), TypeError, "masks: .*got torch.float32"),
        (torch.ones(2, 2), torch.ones(1, 2, 2).bool(), ValueError, r"got \(2, 2\) and \(1, 2, 2\)"),
        (torch.ones(1, 0, 2), torch.ones(1, 2, 2).bool(), ValueError, r"\(1, 0, 2\)"),
        (torch.ones(2, 2, 2), torch.ones(3, 2, 2).bool(), ValueError, "masks: expected 2.*got 3"),
        (torch.full((1, 2, 2), torch.nan), torch.ones(1, 2, 2).bool(), ValueError, r"maps \[0\]"),
    ],
)
def test_metric_errors(
    measure: Measure, maps: Tensor, masks: Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        measure(maps, masks)


# scenes


def cells(report: str) -> dict[str, dict[str, str]]:
    """The table of a report: method -> column -> cell."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in report.splitlines()
        if line.startswith("| ")
    ]
    assert rows[0][2] == rows[0][4] == "minus random"
    head = ["method", "pointing", "pointing minus random", "energy", "energy minus random", "cost"]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows[1:]}


@pytest.fixture
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_report(tmp_path: Path, same_threads: None, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.md"
    methods = ["--method", "grad-eclip", "--method", "ground-truth", "--method", "rise"]
    options = ["--images", 23, "--seed", 5, "--repeats", 1, "--cost-batch", 1, "--rise-masks", 2]
    scenes.main([str(word) for word in (*methods, *options, "--threads", 1, "--out", out)])
    report = capsys.readouterr().out
    assert out.read_text() == report and [*tmp_path.iterdir()] == [out]
    assert report.startswith("23 one-object scenes (seed 5, train artwork), tiny. ")
    assert "RISE with 2 masks" in report
    table = cells(report)
    assert [*table] == ["Grad-ECLIP", "Ground truth", "RISE", "Random"]
    assert table["Ground truth"]["pointing"] == "1.00 (1.00 to 1.00)"
    assert table["Ground truth"]["energy"] == "1.00 (1.00 to 1.00)"
    assert table["Random"]["energy minus random"] == ""
    assert all(float(row["cost"]) >= 0 for row in table.values())

    # The same with the library, from the scenes on.
    model, preprocess, tokenizer, _ = load_clip("tiny")
    classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES)
    drawn = SceneGenerator(seed=5).scenes(range(23), kind="one")
    inputs = preprocess.transforms[-1](torch.stack([s.image for s in drawn]))  # type: ignore[attr-defined]
    masks = torch.stack([s.masks[0] for s in drawn])
    targets = [s.classes[0] for s in drawn]
    maps = {"Grad-ECLIP": GradECLIP(classifier), "Random": Random(classifier)}
    shares = {name: energy(m.patch_map(inputs, targets), masks) for name, m in maps.items()}
    difference = shares["Grad-ECLIP"] - shares["Random"]
    low, high = bootstrap_interval(difference.numpy())
    expected = f"{difference.mean():+.2f} ({low:+.2f} to {high:+.2f})"
    assert table["Grad-ECLIP"]["energy minus random"] == expected
    assert table["Grad-ECLIP"]["energy"].startswith(f"{shares['Grad-ECLIP'].mean():.2f} ")
    assert f"covers {masks.double().mean():.1%} of the picture" in report


def test_two_objects(same_threads: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The first object alone is explained and looked for."""
    options = ["--images", "4", "--kind", "two", "--artwork", "held-out", "--threads", "1"]
    scenes.main([*options, "--method", "ground-truth", "--repeats", "1"])
    report = capsys.readouterr().out
    drawn = SceneGenerator(seed=11, artwork="held-out").scenes(range(4), kind="two")
    masks = torch.stack([s.masks[0] for s in drawn])
    assert f"covers {masks.double().mean():.1%} of the picture" in report
    assert cells(report)["Ground truth"]["energy"] == "1.00 (1.00 to 1.00)"


def test_variants_and_blank_maps(same_threads: None, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--images", "30", "--threads", "1", "--repeats", "1", "--variants"]
    scenes.main([*options, "--method", "grad-eclip"])
    report = capsys.readouterr().out
    drawn = SceneGenerator(seed=11).scenes(range(30), kind="one")
    model, preprocess, tokenizer, _ = load_clip("tiny")
    classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES)
    inputs = preprocess.transforms[-1](torch.stack([s.image for s in drawn]))  # type: ignore[attr-defined]
    targets = [s.classes[0] for s in drawn]
    heads = GradECLIP(classifier, single_head=False).patch_map(inputs, targets)
    masks = torch.stack([s.masks[0] for s in drawn])
    row = cells(report)["Grad-ECLIP, the model's heads"]
    assert row["energy"].startswith(f"{energy(heads, masks).mean():.2f} ")
    blank = (heads.amax(dim=(1, 2)) <= 0).double().mean()
    assert blank > 0  # ReLU leaves nothing where every patch speaks against the class
    assert f"Grad-ECLIP, the model's heads {blank:.1%}" in report


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "--images: expected at least 1"),
        (["--rise-masks", "0"], "--rise-masks: expected at least 1"),
        (["--method", "ccl"], "argument --method: invalid choice: 'ccl'"),
        (["--out", "no/such/file.md"], "--out: expected a file in an existing folder"),
        (["--out", "."], "--out: expected a file in an existing folder"),
    ],
)
def test_program_errors(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        scenes.main(arguments)
    assert message in capsys.readouterr().err
