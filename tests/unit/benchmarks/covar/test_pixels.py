"""Pixels and masks of what is composed, against corners that go by formulas of their own."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image, ImageDraw
from scipy.ndimage import binary_dilation

from cci_captum.benchmarks.covar import (
    TRANSFORMATIONS,
    Background,
    Compositor,
    Transformation,
    transformations,
)
from cci_captum.benchmarks.covar.cutout import Cutout, square_around

SIZE, SIDE = 224, 480  # of what is made, and of the photo
RED, BLUE = (200, 30, 40), (20, 60, 220)
# An L with a slanted side, off the centre: no flip or turn of it is itself.
CORNERS = np.array([(90, 110), (230, 80), (250, 200), (330, 230), (310, 330), (110, 340)], float)

Points = np.ndarray  # (N, 2), in units of the picture's side, from 0 to 1
PLAIN: dict[str, Callable[[Points, Points], Points]] = {}


def formula(name: str) -> Callable:
    def named(function: Callable[[Points, Points], Points]) -> Callable:
        PLAIN[name] = function
        return function

    return named


def _about(points: Points, centre: Points, move: Callable[[Points], Points]) -> Points:
    return move(points - centre) + centre


def middle(box: Points) -> Points:
    return (box[0] + box[1]) / 2


formula("original")(lambda p, box: p)
formula("scale 30%")(lambda p, box: _about(p, middle(box), lambda d: 0.3 * d))
formula("scale 50%")(lambda p, box: _about(p, middle(box), lambda d: 0.5 * d))
formula("scale 70%")(lambda p, box: _about(p, middle(box), lambda d: 0.7 * d))
formula("scale 140%")(lambda p, box: _about(p, middle(box), lambda d: 1.4 * d))
formula("horizontal flip")(lambda p, box: np.stack([1 - p[:, 0], p[:, 1]], 1))
formula("vertical flip")(lambda p, box: np.stack([p[:, 0], 1 - p[:, 1]], 1))
formula("translation right 20%")(lambda p, box: p + np.array([0.2, 0]))
formula("crop 75%")(lambda p, box: (p - 0.125) / 0.75)


@formula("rotation 20°")
def turned(points: Points, box: Points) -> Points:
    """Clockwise as it is seen: in the plane of complex numbers, y up, by minus 20 degrees."""
    z = (points[:, 0] - 0.5) - 1j * (points[:, 1] - 0.5)
    z = z * np.exp(-1j * math.radians(20))
    return np.stack([z.real + 0.5, 0.5 - z.imag], 1)


def _card(points: Points, box: Points, axis: int) -> Points:
    """A card seen by an eye three half sides before it, turned 40 degrees about its middle."""
    half = (box[1] - box[0]).max() / 2
    out = []
    for point in (points - middle(box)) / half:
        space = np.array([point[0], point[1], 0.0])
        turn = np.eye(3)
        angle = math.radians(40)
        turn[axis, axis] = math.cos(angle)
        turn[2, axis] = math.sin(angle)
        x, y, depth = turn @ space
        out.append((3 * x / (3 + depth), 3 * y / (3 + depth)))
    return np.array(out) * half + middle(box)


formula("viewpoint side 40°")(lambda p, box: _card(p, box, 0))
formula("viewpoint above 40°")(lambda p, box: _card(p, box, 1))


def drawn(corners: Points, side: int) -> np.ndarray:
    """A polygon's pixels: those whose centres it holds."""
    y, x = np.mgrid[:side, :side]
    centres = np.stack([x.ravel(), y.ravel()], 1) + 0.5
    return Outline(corners).contains_points(centres).reshape(side, side)


@pytest.fixture(scope="module")
def cutout() -> Cutout:
    mask = drawn(CORNERS, SIDE)
    photo = np.where(mask[..., None], RED, (90, 140, 60)).astype(np.uint8)
    return Cutout.of(Image.fromarray(photo), mask)


@pytest.fixture(scope="module")
def blue() -> Background:
    return Background("blue", Image.new("RGB", (50, 40), BLUE))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_every_transformation_has_a_formula() -> None:
    assert PLAIN.keys() == {str(change) for change in TRANSFORMATIONS}


@pytest.mark.parametrize("feather", [0.0, 1.0])
@pytest.mark.parametrize("change", TRANSFORMATIONS, ids=str)
def test_masks_are_where_corners_go(
    change: Transformation, feather: float, cutout: Cutout, blue: Background
) -> None:
    box = np.stack([CORNERS.min(axis=0), CORNERS.max(axis=0)]) / SIDE
    expected = drawn(PLAIN[str(change)](CORNERS / SIDE, box) * SIZE, SIZE)
    made = Compositor(SIZE, feather=feather).compose(cutout, blue, change)
    assert made.mask is not None and iou(made.mask, expected) >= 0.99
    pixels = np.asarray(made.picture).astype(float)
    far = pixels[~(made.mask | _edge(made.mask))]
    assert np.array_equal(np.unique(far, axis=0), [BLUE])  # no green of the old background
    between = np.array(RED, float) - BLUE
    along = ((pixels - BLUE) @ between / (between @ between)).clip(0, 1)
    assert np.abs(pixels - BLUE - along[..., None] * between).max() <= 1  # nor at the edge
    step = 1 / np.abs(between).max()  # of 8 bits, in which half-way pixels are rounded
    assert made.mask[along > 0.5 + step].all() and not made.mask[along < 0.5 - step].any()


def _edge(mask: np.ndarray, width: int = 4) -> np.ndarray:
    return binary_dilation(mask, np.ones((2 * width + 1,) * 2, bool))


@pytest.mark.parametrize("factor", ["horizontal flip", "vertical flip"])
def test_flips_twice_are_nothing(factor: str, cutout: Cutout) -> None:
    rng = np.random.default_rng(0)
    scene = Background("x", Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)))
    (flip,) = (change for change in TRANSFORMATIONS if change.factor == factor)
    compositor = Compositor(SIZE)
    once = compositor.compose(cutout, scene, flip)
    back = Image.Transpose.FLIP_LEFT_RIGHT if "hor" in factor else Image.Transpose.FLIP_TOP_BOTTOM
    original = compositor.compose(cutout, scene)
    twice = np.asarray(once.picture.transpose(back)).astype(int)
    assert np.abs(twice - np.asarray(original.picture)).max() <= 1  # of 255: rounding
    assert iou(np.asarray(Image.fromarray(once.mask).transpose(back)), original.mask) > 0.999


def test_a_background_stays_where_the_object_moves(cutout: Cutout) -> None:
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8))
    scene, compositor = Background("x", noise), Compositor(SIZE)
    for change in TRANSFORMATIONS:
        made = compositor.compose(cutout, scene, change)
        away = ~_edge(made.mask)
        same = np.asarray(made.picture)[away] == np.asarray(noise)[away]
        assert same.all() if change.moves == "object" else same.mean() < 0.5


def test_a_moved_picture_is_mirrored_where_it_would_be_empty(cutout: Cutout) -> None:
    ramp = np.broadcast_to(np.arange(SIZE, dtype=np.uint8)[None, :, None], (SIZE, SIZE, 3))
    scene = Background("ramp", Image.fromarray(np.ascontiguousarray(ramp)))
    (change,) = (change for change in TRANSFORMATIONS if change.factor == "translation")
    made = Compositor(SIZE).compose(cutout, scene, change)
    row = np.asarray(made.picture)[2, :, 0].astype(float)
    shift = 0.2 * SIZE
    places = np.arange(SIZE) + 0.5 - shift
    expected = np.abs(places) - 0.5
    assert np.abs(row - expected).max() <= 1.5  # a kink is smoothed by the interpolation
    white = Background("white", Image.new("RGB", (30, 30), "white"))
    for change in transformations({"scale": "picture", "viewpoint": "picture"}):
        found = Compositor(SIZE).compose(cutout, white, change)
        assert (np.asarray(found.picture)[~_edge(found.mask)] == 255).all(), str(change)


def test_what_leaves_the_picture_is_said(blue: Background) -> None:
    mask = np.zeros((200, 200), bool)
    mask[60:140, 120:200] = True
    photo = Image.new("RGB", (200, 200), RED)
    (change,) = (change for change in TRANSFORMATIONS if change.factor == "translation")
    made = Compositor(100)(photo, mask, blue, change)
    assert made.visible == 0.5  # 40 of its 80 columns are beyond the edge
    assert made.mask.sum() == pytest.approx(40 * 20, rel=0.03)
    (large,) = (change for change in TRANSFORMATIONS if change.level == "140%")
    assert Compositor(100)(photo, mask, blue, large).visible == pytest.approx(96 / 112, abs=0.01)
    assert Compositor(100)(photo, mask, blue).visible == 1.0


def test_controls(cutout: Cutout) -> None:
    rng = np.random.default_rng(2)
    rough = Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8)).resize((SIDE, SIDE))
    pixels = np.asarray(rough).copy()
    mask = cutout.mask.numpy()
    pixels[mask] = RED
    own, compositor = Cutout.of(Image.fromarray(pixels), mask), Compositor(SIZE)
    photo = np.asarray(compositor.photo(own).picture).astype(int)
    made = {
        name: compositor.compose(own, own.control(name))
        for name in ("same", "mean", "blurred", "inpainted")
    }
    found = {name: np.asarray(image.picture).astype(int) for name, image in made.items()}
    inside = made["same"].mask
    edge = _edge(inside) & _edge(~inside)
    assert np.array_equal(found["same"][~edge], photo[~edge])
    assert np.abs(found["same"] - photo).mean() < 0.5
    mean = pixels[~mask].mean(axis=0)
    assert np.abs(found["mean"][~inside & ~edge] - mean).max() <= 1
    for name, image in found.items():  # the object is the same on each
        assert np.array_equal(image[inside & ~edge], photo[inside & ~edge]), name
        assert np.array_equal(made[name].mask, inside)
    away = ~_edge(inside, 9)
    assert np.array_equal(found["inpainted"][away], photo[away])
    flat = [image[away].std(axis=0).mean() for image in (photo, found["blurred"], found["mean"])]
    assert flat[0] > 2 * flat[1] > 2 * flat[2] and flat[2] < 1e-6
    reds = {name: own.control(name) for name in ("blurred", "inpainted")}
    for name, ground in reds.items():  # nothing of the object is left in what is behind it
        there = np.asarray(ground.picture.resize((SIDE, SIDE))).astype(int)[mask]
        assert np.abs(there - RED).max(axis=1).min() > 10, name


def test_colours_are_matched_as_they_are_defined(cutout: Cutout) -> None:
    rng = np.random.default_rng(3)
    pixels = rng.normal((120, 90, 150), (12, 20, 8), (SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)
    behind = rng.normal((100, 160, 60), (20, 10, 9), (SIZE, SIZE, 3)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[60:160, 50:170] = True
    scene = Background("x", Image.fromarray(behind))
    plain = np.asarray(Compositor(SIZE)(Image.fromarray(pixels), mask, scene).picture).astype(float)
    inner = np.zeros_like(mask)
    inner[65:155, 55:165] = True
    assert np.array_equal(plain[inner], pixels[inner])
    for colour in (0.5, 1.0):
        made = Compositor(SIZE, colour=colour)(Image.fromarray(pixels), mask, scene).picture
        own = pixels[mask].astype(float)
        target = (pixels - own.mean(0)) / own.std(0) * behind.std((0, 1)) + behind.mean((0, 1))
        expected = pixels + colour * (target - pixels)
        assert np.abs(np.asarray(made)[inner] - expected[inner].clip(0, 255)).max() <= 0.51


def test_the_square_holds_the_object() -> None:
    mask = np.zeros((60, 100), bool)
    mask[10:20, 3:9] = True
    assert square_around(mask) == (3, 0, 63, 60)
    mask[10:20, 30:90] = True
    assert square_around(mask) == (16, 0, 76, 60)  # longer than the square: in its middle
    with pytest.raises(ValueError, match=r"^mask: expected an object"):
        square_around(np.zeros((4, 4), bool))
    with pytest.raises(ValueError, match=r"^mask: expected 100 x 60 pixels"):
        Cutout.of(Image.new("RGB", (100, 60)), np.ones((5, 5), bool))


def test_large_photos_are_made_smaller_first(blue: Background) -> None:
    mask = drawn(CORNERS * 2, SIDE * 2)
    drawing = Image.new("RGB", (SIDE * 2,) * 2, "green")
    ImageDraw.Draw(drawing).polygon([tuple(point) for point in CORNERS * 2], fill=RED)
    small = Cutout.of(drawing, mask, 64)
    assert small.picture.shape == (3, 192, 192)
    made = Compositor(64).compose(small, blue)
    assert iou(made.mask, drawn(CORNERS / SIDE * 64, 64)) > 0.98
    lines = np.zeros((SIDE * 2,) * 2, bool)
    lines[SIDE // 2 : SIDE, 10:-10:8] = True  # thinner than half a pixel of what is made
    thin = Cutout.of(drawing, lines, SIDE // 12)
    assert len(thin.mask) == SIDE // 12 * 3 and thin.mask.any()
    assert Compositor(SIDE // 12).compose(thin, blue).picture.size == (SIDE // 12,) * 2
