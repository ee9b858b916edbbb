"""Measures of where maps lie, against closed forms, and the program that reports them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from cci_captum.benchmarks.localization import (
    average_precision,
    best_iou,
    energy,
    pointing_game,
)

Measure = Callable[[Tensor, Tensor], Tensor]
MEASURES = [energy, pointing_game, best_iou, average_precision]
BY_ORDER = [best_iou, average_precision]  # only the order of a map's values counts


def upper_left(height: int, width: int, rows: int, columns: int) -> Tensor:
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, :rows, :columns] = True
    return mask


def random_case(shape: tuple[int, int], size: tuple[int, int], seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(3, *shape, generator=generator).round(decimals=1)  # ties are likely
    return maps, torch.rand(3, *size, generator=generator) < 0.4


def on_common_grid(map_: Tensor, mask: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Both enlarged by whole factors to one size, so that every cell is a block of pixels."""
    (rows, columns), (height, width) = map_.shape, mask.shape
    enlarged = np.kron(map_.double().numpy(), np.ones((height, width)))
    return enlarged, np.kron(mask.numpy(), np.ones((rows, columns), dtype=bool))


# metrics


def test_patches_half_on_the_object() -> None:
    masks = upper_left(8, 8, 4, 4)  # the upper left patch of 2 x 2 ...
    masks[:, :2, 4:] = True  # ... and half of the upper right one
    maps = torch.tensor([[[3.0, 3.0], [2.0, -9.0]]])
    assert energy(maps, masks).item() == pytest.approx((3 * 1 + 3 * 0.5) / 8)
    assert pointing_game(maps, masks).item() == pytest.approx(0.75)


@pytest.mark.parametrize("measure", MEASURES)
def test_constant_maps_get_the_objects_share_of_the_picture(measure: Measure) -> None:
    _, masks = random_case((1, 1), (15, 22), seed=0)
    for shape in ((1, 1), (4, 6), (7, 7), (15, 22), (40, 30)):
        found = measure(torch.full((3, *shape), 0.3), masks)
        assert torch.allclose(found, masks.double().mean(dim=(1, 2)))


@pytest.mark.parametrize("measure", MEASURES)
def test_the_mask_itself_lies_on_the_object(measure: Measure) -> None:
    _, masks = random_case((1, 1), (9, 14), seed=1)
    assert torch.equal(measure(masks.float(), masks), torch.ones(3, dtype=torch.float64))
    nothing = masks.double().mean(dim=(1, 2)) if measure in BY_ORDER else torch.zeros(3)
    assert torch.allclose(measure((~masks).float(), masks), nothing.double())


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


@pytest.mark.parametrize("measure", MEASURES)
def test_an_enlarged_map_is_the_same_map(measure: Measure) -> None:
    maps, masks = random_case((4, 6), (20, 30), seed=2)
    enlarged = maps.repeat_interleave(5, dim=1).repeat_interleave(5, dim=2)
    assert torch.allclose(measure(maps, masks), measure(enlarged, masks))


@pytest.mark.parametrize("measure", MEASURES)
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


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_are_independent(measure: Measure) -> None:
    cases = [random_case((5, 7), (10, 10), seed) for seed in (4, 5, 6)]
    maps, masks = (torch.cat(part)[:8] for part in zip(*cases, strict=True))
    alone = [measure(maps[i : i + 1], masks[i : i + 1]) for i in range(8)]
    torch.testing.assert_close(torch.cat(alone), measure(maps, masks), rtol=1e-12, atol=0)


def test_a_strip_by_hand() -> None:
    """Values 4 3 2 1 on four columns; the object covers two and a half of them."""
    maps = torch.tensor([[[4.0, 3.0, 2.0, 1.0]]])
    masks = upper_left(6, 16, 6, 10)
    assert best_iou(maps, masks).item() == pytest.approx(2.5 / 3)
    assert average_precision(maps, masks).item() == pytest.approx((1 + 1 + 0.5 * 2.5 / 3) / 2.5)
    # Tied with the last column, the half covered one comes too late to help the IoU.
    maps = torch.tensor([[[4.0, 3.0, 1.0, 1.0]]])
    assert best_iou(maps, masks).item() == pytest.approx(2 / 2.5)
    assert average_precision(maps, masks).item() == pytest.approx((1 + 1 + 0.5 * 2.5 / 4) / 2.5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (4, 5), (7, 9), (10, 14), (13, 11), (20, 28)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_threshold(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Against a loop over thresholds and against scikit-learn, pixel by pixel."""
    maps, masks = random_case(shape, (10, 14), seed=sum(shape))
    maps = maps.to(dtype)
    ious, precisions = best_iou(maps, masks), average_precision(maps, masks)
    for i in range(len(maps)):
        map_, mask = on_common_grid(maps[i], masks[i])
        best = area = recall = 0.0
        for threshold in np.unique(map_)[::-1]:
            taken = map_ >= threshold
            found = (taken & mask).sum()
            best = max(best, found / (taken | mask).sum())
            area += (found / mask.sum() - recall) * found / taken.sum()
            recall = found / mask.sum()
        assert ious[i].item() == pytest.approx(best, abs=1e-12)
        assert precisions[i].item() == pytest.approx(area, abs=1e-12)
        by_sklearn = average_precision_score(mask.ravel(), map_.ravel())
        assert precisions[i].item() == pytest.approx(by_sklearn, abs=1e-9)


@pytest.mark.parametrize("measure", BY_ORDER)
def test_only_order_counts(measure: Measure) -> None:
    maps, masks = random_case((6, 8), (20, 30), seed=7)
    maps = maps.double()
    ranks = torch.stack([map_.unique(return_inverse=True)[1] for map_ in maps]).double()
    for same in (maps - 9, maps.exp(), maps**3, ranks):
        assert torch.equal(measure(same, masks), measure(maps, masks))
    assert not torch.allclose(measure(-maps, masks), measure(maps, masks))


@pytest.mark.parametrize("measure", BY_ORDER)
def test_the_range(measure: Measure) -> None:
    """No mask, no value; cells that the object fills are found exactly, whatever the sizes."""
    nothing = torch.zeros(1, 9, 9, dtype=torch.bool)
    assert measure(torch.rand(1, 4, 4), nothing).tolist() == [0]
    assert measure(torch.ones(1, 4, 4), nothing).tolist() == [0]
    for cells, pixels in ((1, 192), (2, 49), (3, 7), (6, 100), (14, 224), (29, 97)):
        everything = torch.ones(1, pixels, pixels, dtype=torch.bool)
        assert measure(torch.rand(1, cells, cells), everything).tolist() == [1]
    for pixels in (12, 49, 96):
        half = upper_left(7 * pixels, pixels, 3 * pixels, pixels)
        assert measure(upper_left(7, 3, 3, 3).double(), half).tolist() == [1]
    maps, masks = random_case((5, 6), (13, 17), seed=8)
    assert (best_iou(maps, masks) >= masks.double().mean(dim=(1, 2)) - 1e-12).all()


@pytest.mark.parametrize("measure", MEASURES)
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
