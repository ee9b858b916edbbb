"""Regions hidden and replaced: against a plain float64 encoder, pixel loops, and counted passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from oracles import families as oracle
from torch import Tensor, nn

from cci_captum import Shared, find_vision_tower
from cci_captum.diagnosis import Donors, Interventions
from cci_captum.diagnosis.donors import on_background, without_object


class Features(nn.Module):
    """Image features as outputs: (B, 3, H, W) -> (B, E)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.visual = model.visual

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


@pytest.fixture(scope="module")
def small(make_clip: Any, make_images: Any) -> Any:
    """Features of images of 4 x 4 patches, four images, and masks of two regions that overlap."""
    model, _ = make_clip(seed=3)
    images = make_images(model, batch=4)
    side = images.shape[-1]
    masks = torch.zeros(4, 2, side, side, dtype=torch.bool)
    for image in range(4):
        masks[image, 0, : side // 2 + image * 3, side // 4 :] = True
        masks[image, 1, side // 3 :, : side // 2 + image] = True
    masks[3, 1] = True  # everything
    masks[2, 0] = False  # nothing
    return model, images, masks


@contextmanager
def counted(model: Any) -> Iterator[list[int]]:
    rows: list[int] = []
    entry = find_vision_tower(model.visual).entry
    handle = entry.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    try:
        yield rows
    finally:
        handle.remove()


def patches_of(mask: Tensor, grid: int, least: float = 0.25) -> Tensor:
    """(N,) bool by plain loops: more than so much of the patch is under the mask."""
    side = mask.shape[0] // grid
    found = []
    for row in range(grid):
        for column in range(grid):
            cell = mask[row * side : (row + 1) * side, column * side : (column + 1) * side]
            found.append(cell.sum().item() / cell.numel() > least)
    return torch.tensor(found)


@pytest.mark.parametrize("hide", ["drop", "mask"])
def test_hidden_regions_are_those_of_a_plain_encoder(small: Any, hide: Any) -> None:
    model, images, masks = small
    effects = Interventions(Features(model), hide=hide).effects(images, masks)
    grid = effects.regions.shape[-1]
    nothing = oracle.features(model, images[:1], torch.ones(1, grid * grid).bool())[0]
    for image in range(4):
        one = images[image : image + 1]
        for region in range(2):
            patches = patches_of(masks[image, region], grid)
            assert effects.regions[image, region].flatten().tolist() == patches.tolist()
            for found, hidden in (
                (effects.hidden.without[image, region, 0], patches),
                (effects.hidden.only[image, region, 0], ~patches),
            ):
                expected = oracle.features(model, one, hidden[None])[0]
                assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
        assert (effects.hidden.none[image, 0] - nothing).abs().max() < 1e-5 * nothing.abs().max()


def test_passes_are_those_promised(small: Any) -> None:
    """As it is, without and with the region alone; nothing seen once a call; donors."""
    model, images, masks = small
    made = Interventions(Features(model))
    first = masks[:, :1].clone()
    first[2, 0, :20] = True
    made.effects(images, first)  # which checks forward_func, once
    with counted(model) as rows:
        made.effects(images, first)
    assert sum(rows) == 3 * len(images) + 1
    both = torch.cat([first, ~first], dim=1)
    with counted(model) as rows:  # patches at the seam may be of both, so that sets differ
        made.effects(images, both)
    assert sum(rows) <= 5 * len(images) + 1
    donors = Donors(images.flip(-1).contiguous(), masks[[0, 1, 0, 1], 0])
    replacing = Interventions(Features(model), donors=donors, n_donors=2)
    replacing.effects(images, first)
    with counted(model) as rows:
        replacing.effects(images, first)
    assert sum(rows) == (3 + 2 * 2) * len(images) + 1  # donors were run in the call before


def test_batches_and_order_change_nothing(small: Any) -> None:
    model, images, masks = small
    donors = Donors(images.flip(-1).contiguous(), masks[[0, 1, 0, 1], 0])
    made = Interventions(Features(model), donors=donors, n_donors=2)
    whole = made.effects(images, masks)
    order = [2, 0, 3, 1]
    for size in (1, 3):
        other = made.effects(images[order], masks[order], internal_batch_size=size)
        for by in ("hidden", "replaced", "both"):
            one, two = (each.shapley_values(3, by=by) for each in (whole, other))
            assert (one[order] - two).abs().max() < 1e-5 * one.abs().max()


def covered_by_loops(image: Tensor, mask: Tensor) -> Tensor:
    """Each pixel under the object from the image shifted by halves, quarters, eighths, in order."""
    height, width = mask.shape
    shifts = []
    for reach in (4, 2, 1):
        for rows in range(0, 8, reach):
            for columns in range(0, 8, reach):
                shift = (int(rows / 8 * height), int(columns / 8 * width))
                if shift != (0, 0) and shift not in shifts:
                    shifts.append(shift)
    background = image[:, ~mask]
    mean = background.mean(dim=1) if background.shape[1] else image.flatten(1).mean(dim=1)
    filled = image.clone()
    for y in range(height):
        for x in range(width):
            if mask[y, x]:
                filled[:, y, x] = mean
                for dy, dx in shifts:
                    source = ((y - dy) % height, (x - dx) % width)
                    if not mask[source]:
                        filled[:, y, x] = image[(slice(None), *source)]
                        break
    return filled


def test_objects_are_covered_with_their_background() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 16, 12, generator=generator)
    masks = (
        torch.rand(5, 16, 12, generator=generator)
        < torch.tensor([0.2, 0.7, 0.97, 1, 0])[:, None, None]
    )
    masks[1, :, :9] = True
    found = without_object(images, masks)
    for image in range(5):
        expected = covered_by_loops(images[image], masks[image])
        assert torch.allclose(found[image], expected, atol=1e-6)
    assert torch.equal(found[4], images[4])
    composed = on_background(images, masks, found.flip(0))
    for image in range(5):
        inside = masks[image]
        assert torch.equal(composed[image][:, inside], images[image][:, inside])
        assert torch.equal(composed[image][:, ~inside], found[4 - image][:, ~inside])


def test_replaced_regions_are_composed_pixel_by_pixel(small: Any) -> None:
    model, images, masks = small
    donor_images, donor_masks = images.flip(-1).contiguous(), masks[[0, 1, 0, 1], 0]
    donors = Donors(donor_images, donor_masks)
    made = Interventions(Features(model), donors=donors, n_donors=2, seed=5)
    effects = made.effects(images[:2], masks[:2])
    assert effects.replaced is not None
    for image in range(2):
        chosen = donors.choose(images[image], 2, (), 5)
        for place, donor in enumerate(chosen):
            behind = covered_by_loops(donor_images[donor], donor_masks[donor])
            for region in range(2):
                mask = masks[image, region]
                only = torch.where(mask, images[image], behind)
                own = covered_by_loops(images[image], mask)
                without = torch.where(donor_masks[donor], donor_images[donor], own)
                for found, shown in (
                    (effects.replaced.only[image, region, place], only),
                    (effects.replaced.without[image, region, place], without),
                    (effects.replaced.none[image, place], donor_images[donor]),
                ):
                    expected = oracle.features(model, shown[None])[0]
                    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_donors_follow_the_image_and_the_seed_alone() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(9, 3, 8, 8, generator=generator)
    masks = torch.ones(9, 8, 8, dtype=torch.bool)
    donors = Donors(images, masks, (0, 0, 0, 1, 1, 1, 2, 2, 2))
    picks = [donors.choose(image, 3, (1,), 0) for image in images]
    assert picks == [donors.choose(image, 3, (1,), 0) for image in images]
    assert picks != [donors.choose(image, 3, (1,), 7) for image in images]
    for place, pick in enumerate(picks):
        assert len(set(pick)) == 3 and place not in pick
        assert not {3, 4, 5} & set(pick)
    with pytest.raises(ValueError, match=r"donors: expected at least 3 .* got 2 of 9"):
        donors.choose(images[0], 3, (1, 2), 0)


def test_further_arguments(make_clip: Any, tokenizer: Any) -> None:
    """Rows go with their images; what is shared is whole; what is seen of nothing follows them."""
    from cci_captum import ImageTextSimilarity

    model, _ = make_clip(1, image_size=96, patch_size=16)
    similarity = ImageTextSimilarity(model)
    images = torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    masks = torch.zeros(3, 1, 96, 96, dtype=torch.bool)
    masks[..., 16:64, 32:80] = True
    texts = tokenizer(["a cat", "a dog", "a car"])
    made = Interventions(similarity, donors=Donors(images.flip(0), masks[:, 0]), n_donors=1)
    whole = made.effects(images, masks, texts)
    for row in range(3):
        one = made.effects(images[[row]], masks[[row]], texts[[row]])
        for by in ("hidden", "both"):
            expected = one.shapley_values(by=by)[0]
            assert (whole.shapley_values(by=by)[row] - expected).abs().max() < 1e-5
    assert len({round(float(v), 5) for v in whole.hidden.none.flatten()}) == 3

    def scores(images: Tensor, texts: Tensor) -> Tensor:
        return similarity.encode_images(images) @ similarity.encode_texts(texts).T

    shared = Interventions(scores, model.visual).effects(images, masks, Shared(texts))
    assert shared.outputs.shape == (3, 3)
    for row in range(3):
        found = shared.shapley_values(row)[row]
        assert (found - whole.shapley_values(by="hidden")[row]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda f, i, m: Interventions(f, donors=3), TypeError, "donors: expected Donors"),
        (lambda f, i, m: Interventions(f, least=1.0), ValueError, "least: expected a share"),
        (lambda f, i, m: Interventions(f, n_donors=0), ValueError, "n_donors: "),
        (lambda f, i, m: Interventions(f, hide="cut"), ValueError, "hide: "),
        (lambda f, i, m: Interventions(f).effects(i, m.float()), TypeError, "regions: "),
        (lambda f, i, m: Interventions(f).effects(i, m[:, 0]), ValueError, r"regions: .*R, "),
        (lambda f, i, m: Interventions(f).effects(i, m, avoid=[[0]]), ValueError, "avoid: "),
        (lambda f, i, m: Donors(i, m[:, 0, :5]), ValueError, "donors.masks: expected shape"),
        (lambda f, i, m: Donors(i, m[:, 0] & False), ValueError, "donors.masks: .*object in each"),
        (lambda f, i, m: Donors(i * torch.nan, m[:, 1]), ValueError, "finite donors.images"),
        (lambda f, i, m: Donors(i, m[:, 1], (1, 2)), ValueError, "donors.labels: expected 4"),
    ],
)
def test_what_cannot_be(small: Any, make: Any, error: Any, said: str) -> None:
    model, images, masks = small
    with pytest.raises(error, match=said):
        make(Features(model), images, masks)


def test_a_small_region_is_the_patch_that_it_covers_most(small: Any) -> None:
    """And is not nothing, whose hiding would leave all of the score to the rest."""
    model, images, _ = small
    side = images.shape[-1] // 4
    masks = torch.zeros(4, 1, 4 * side, 4 * side, dtype=torch.bool)
    masks[:, 0, side + 1, side - 2 : side + 1] = True  # two pixels of patch (1, 0), one of (1, 1)
    regions = Interventions(Features(model)).effects(images, masks).regions[:, 0]
    assert regions.nonzero()[:, 1:].tolist() == [[1, 0]] * 4


def test_without_all_of_an_image_is_without_the_image(small: Any) -> None:
    """Its background is nothing, so that no part of what is seen is owed to that."""
    model, images, masks = small
    others = Donors(images.flip(-1).contiguous(), masks[[0, 1, 0, 1], 0])
    effects = Interventions(Features(model), donors=others, n_donors=2).effects(images, masks)
    assert effects.replaced is not None and bool(masks[3, 1].all())
    assert torch.equal(effects.replaced.without[3, 1], effects.replaced.none[3])
    values = effects.shapley_values(3, by="replaced")[3, 1]
    assert values[1].abs() < 1e-5 * values[0].abs()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_objects_in_half_precision_are_covered(dtype: Any) -> None:
    """More pixels than float16 can count."""
    images = torch.full((1, 3, 300, 300), 1.5, dtype=dtype)
    found = without_object(images, torch.ones(1, 300, 300, dtype=torch.bool))
    assert torch.equal(found, images)


def test_scores_over_classes_need_two(small: Any) -> None:
    model, images, masks = small

    class One(Features):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)[:, :1]

    effects = Interventions(One(model)).effects(images, masks)
    assert effects.drops(0).shape == (4, 2)
    for score in ("centred", "margin", "log-probability"):
        with pytest.raises(ValueError, match=f"score: {score} compares classes"):
            effects.drops(0, score=score)


def test_a_quarter_is_no_more_where_the_model_crops(small: Any) -> None:
    """The crop's place is read off an image, and is never quite that of whole pixels."""
    model, images, _ = small
    count = images.shape[-1]
    side = count // 4
    masks = torch.zeros(4, 1, count, count, dtype=torch.bool)
    masks[..., side : side + side // 2, side // 2 : 2 * side + side // 2] = True  # 1/4, 1/2, 1/4
    whole = Interventions(Features(model)).effects(images, masks)
    assert whole.regions[0, 0].nonzero().tolist() == [[1, 1]]

    class Cropping(Features):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images[:, :, 5 : 5 + count, 3 : 3 + count])

    padding = (3, 8, 5, 9)
    padded = nn.functional.pad(images, padding)
    effects = Interventions(Cropping(model)).effects(padded, nn.functional.pad(masks, padding))
    assert torch.equal(effects.regions, whole.regions)
