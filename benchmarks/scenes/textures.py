"""The twenty procedural backgrounds; each is drawn afresh for every scene."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Colour = tuple[float, float, float]
Texture = Callable[[np.random.Generator, int], Array]


@lru_cache
def _grid(size: int) -> tuple[Array, Array]:
    """Return the y (size, 1) and x (1, size) coordinates of the pixels, in [0, 1)."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    return line[:, None], line[None, :]


@lru_cache
def _interpolation(size: int, cells: int) -> Array:
    """Return the (size, cells + 1) matrix that interpolates smoothly between lattice points."""
    place = (np.arange(size, dtype=np.float32) + 0.5) / size * cells
    cell = place.astype(np.int64)
    fade = place - cell
    fade = fade * fade * (3 - 2 * fade)
    matrix = np.zeros((size, cells + 1), np.float32)
    matrix[np.arange(size), cell] = 1 - fade
    matrix[np.arange(size), cell + 1] += fade
    return matrix


def _noise(rng: np.random.Generator, size: int, rows: int, columns: int | None = None) -> Array:
    """Return smooth value noise (size, size) in [0, 1] on a lattice of rows x columns cells."""
    columns = columns or rows
    lattice = rng.random((rows + 1, columns + 1), dtype=np.float32)
    return _interpolation(size, rows) @ lattice @ _interpolation(size, columns).T


def _cells(rng: np.random.Generator, size: int, rows: int) -> tuple[Array, NDArray[np.int64]]:
    """Return a Voronoi pattern, two arrays (size, size).

    The first is the gap between the two nearest points in cell widths, the second the number of
    the nearest one, below (rows + 2) ** 2. One jittered point lies in every lattice cell, so only
    the 3 x 3 cells around a pixel count.
    """
    line = (np.arange(size, dtype=np.float32) + 0.5) / size * rows
    cell = np.floor(line).astype(np.int64)
    points = 0.1 + 0.8 * rng.random((2, rows + 2, rows + 2), dtype=np.float32)
    first = np.full((size, size), np.inf, np.float32)
    second, nearest = first, np.zeros((size, size), np.int64)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            at = np.ix_(cell + 1 + dy, cell + 1 + dx)
            y = points[0][at] + (cell + dy - line)[:, None]
            x = points[1][at] + (cell + dx - line)[None, :]
            distance = y * y + x * x
            number = at[0] * (rows + 2) + at[1]
            nearest = np.where(distance < first, number, nearest)
            second = np.minimum(second, np.maximum(distance, first))
            first = np.minimum(first, distance)
    return np.sqrt(second) - np.sqrt(first), nearest


def _mix(low: Colour, high: Colour, amount: Array) -> Array:
    """Blend two colours; amount (H, W) in [0, 1] gives (3, H, W)."""
    a, b = (np.array(colour, np.float32)[:, None, None] for colour in (low, high))
    return a + (b - a) * amount


def _lay(below: Array, colour: Colour, where: Array) -> Array:
    """Paint a colour over a picture (3, H, W) where (H, W) says how much."""
    return below + (np.array(colour, np.float32)[:, None, None] - below) * where


def _grass(rng: np.random.Generator, size: int) -> Array:
    blades = 0.6 * _noise(rng, size, 10, 40) + 0.4 * _noise(rng, size, 4)
    return _mix((0.08, 0.33, 0.05), (0.50, 0.80, 0.22), blades)


def _sand(rng: np.random.Generator, size: int) -> Array:
    y, x = _grid(size)
    phase = 2 * np.pi * ((7 + 3 * rng.random()) * y + (rng.random() - 0.5) * 4 * x)
    ripples = 0.5 + 0.5 * np.sin(phase + 5 * _noise(rng, size, 3))
    return _mix((0.78, 0.62, 0.38), (0.96, 0.86, 0.62), ripples)


def _snow(rng: np.random.Generator, size: int) -> Array:
    drifts = _mix((0.78, 0.86, 0.96), (1.0, 1.0, 1.0), _noise(rng, size, 3, 2))
    return _lay(drifts, (0.62, 0.74, 0.92), 0.7 * (_noise(rng, size, 24) > 0.82))


def _water(rng: np.random.Generator, size: int) -> Array:
    y, x = _grid(size)
    bend = 3 * _noise(rng, size, 4) + 0.35 * np.sin(2 * np.pi * (4 * x + rng.random()))
    waves = 0.5 + 0.5 * np.sin(2 * np.pi * (8 + 2 * rng.random()) * y + 2.5 * bend)
    return _mix((0.02, 0.22, 0.60), (0.20, 0.66, 0.90), waves**2)


def _forest(rng: np.random.Generator, size: int) -> Array:
    foliage = _mix((0.01, 0.10, 0.04), (0.10, 0.36, 0.14), _noise(rng, size, 14))
    trunks = np.clip((_noise(rng, size, 1, 9) - 0.55) * 8, 0, 1)
    return _lay(foliage, (0.26, 0.16, 0.08), trunks)


def _bricks(rng: np.random.Generator, size: int) -> Array:
    y, x = _grid(size)
    rows = int(rng.integers(6, 9))
    row = y * rows + rng.random()
    column = x * rows / 2 + rng.random() + 0.5 * (np.floor(row) % 2)
    shade = rng.random((rows + 2, rows + 2), dtype=np.float32)
    shade = shade[np.floor(row).astype(int), np.floor(column).astype(int)]
    wall = _mix((0.52, 0.16, 0.10), (0.76, 0.32, 0.22), shade)
    return _lay(wall, (0.80, 0.76, 0.70), ((row % 1 < 0.14) | (column % 1 < 0.07)) * 1.0)


def _night_sky(rng: np.random.Generator, size: int) -> Array:
    sky = _mix((0.01, 0.01, 0.07), (0.08, 0.06, 0.26), _noise(rng, size, 3))
    return _lay(sky, (1.0, 1.0, 0.85), np.clip((_noise(rng, size, 22) - 0.84) * 9, 0, 1))


def _clouds(rng: np.random.Generator, size: int) -> Array:
    puffs = 0.65 * _noise(rng, size, 4, 3) + 0.35 * _noise(rng, size, 9)
    return _mix((0.36, 0.64, 0.96), (1.0, 1.0, 1.0), np.clip((puffs - 0.42) * 5, 0, 1))


def _wood(rng: np.random.Generator, size: int) -> Array:
    y, _ = _grid(size)
    planks = int(rng.integers(4, 6))
    place = y * planks + rng.random()
    shade = rng.random(planks + 1, dtype=np.float32)[np.floor(place).astype(int)]
    grain = 0.5 + 0.5 * np.sin(40 * y + 14 * _noise(rng, size, 12, 2))
    boards = _mix((0.45, 0.26, 0.11), (0.78, 0.54, 0.30), 0.5 * shade + 0.5 * grain)
    return _lay(boards, (0.18, 0.09, 0.03), (place % 1 < 0.08) * np.ones_like(grain))


def _stones(rng: np.random.Generator, size: int) -> Array:
    gap, cell = _cells(rng, size, 5)
    shade = rng.random(7 * 7, dtype=np.float32)[cell]
    cobbles = _mix((0.42, 0.43, 0.45), (0.72, 0.72, 0.70), shade)
    return _lay(cobbles, (0.16, 0.16, 0.17), np.clip(1.3 - gap * 5, 0, 1))


def _lava(rng: np.random.Generator, size: int) -> Array:
    gap, _ = _cells(rng, size, 4)
    glow = np.clip(1.2 - gap * 3, 0, 1)
    rock = _mix((0.09, 0.03, 0.03), (0.25, 0.10, 0.08), _noise(rng, size, 12))
    return _lay(_lay(rock, (0.95, 0.18, 0.02), glow), (1.0, 0.80, 0.20), glow**4)


def _tiles(rng: np.random.Generator, size: int) -> Array:
    y, x = _grid(size)
    count = int(rng.integers(5, 8))
    row, column = y * count + rng.random(), x * count + rng.random()
    chequer = (np.floor(row) + np.floor(column)) % 2
    floor = _mix((0.10, 0.55, 0.55), (0.90, 0.96, 0.94), chequer)
    return floor * (0.9 + 0.1 * _noise(rng, size, 6))


def _sunset(rng: np.random.Generator, size: int) -> Array:
    y, _ = _grid(size)
    height = np.clip(y * (1.1 + 0.3 * rng.random()) + 0.35 * (_noise(rng, size, 7, 2) - 0.5), 0, 1)
    sky = _mix((0.36, 0.12, 0.46), (0.98, 0.40, 0.24), np.clip(height * 2, 0, 1))
    return _lay(sky, (1.0, 0.86, 0.36), np.clip(height * 2 - 1, 0, 1))


def _road(rng: np.random.Generator, size: int) -> Array:
    y, x = _grid(size)
    asphalt = _mix((0.17, 0.17, 0.19), (0.34, 0.34, 0.36), _noise(rng, size, 36))
    middle = 0.25 + 0.5 * rng.random() + (rng.random() - 0.5) * 0.5 * (y - 0.5)
    dashes = (np.abs(x - middle) < 0.035) & ((y * 4 + rng.random()) % 1 < 0.65)
    return _lay(asphalt, (0.98, 0.84, 0.18), dashes * 1.0)


def _leaves(rng: np.random.Generator, size: int) -> Array:
    gap, cell = _cells(rng, size, 8)
    autumn = np.array(
        [(0.80, 0.36, 0.06), (0.90, 0.62, 0.10), (0.62, 0.16, 0.06), (0.48, 0.28, 0.10)], np.float32
    )
    colour = autumn[rng.integers(0, 4, 10 * 10)][cell].transpose(2, 0, 1)
    return _lay(colour, (0.24, 0.12, 0.04), np.clip(0.9 - gap * 3.5, 0, 1))


def _wheat(rng: np.random.Generator, size: int) -> Array:
    stalks = 0.75 * _noise(rng, size, 3, 32) + 0.25 * _noise(rng, size, 16)
    return _mix((0.66, 0.46, 0.08), (1.0, 0.90, 0.42), np.clip(1.6 * stalks - 0.3, 0, 1))


def _polka_dots(rng: np.random.Generator, size: int) -> Array:
    y, x = _grid(size)
    count = int(rng.integers(5, 8))
    row, column = y * count + rng.random(), x * count + rng.random()
    column = column + 0.5 * (np.floor(row) % 2)
    distance = np.hypot(row % 1 - 0.5, column % 1 - 0.5)
    return _mix((0.95, 0.42, 0.66), (1.0, 0.98, 0.98), np.clip((0.34 - distance) * 12, 0, 1))


def _stripes(rng: np.random.Generator, size: int) -> Array:
    y, x = _grid(size)
    phase = (6 + 3 * rng.random()) * (x + rng.choice((-1.0, 1.0)) * (0.8 + 0.4 * rng.random()) * y)
    bands = np.clip(0.5 + 3 * np.sin(2 * np.pi * (phase + rng.random())), 0, 1)
    return _mix((0.10, 0.16, 0.42), (0.96, 0.93, 0.82), bands)


def _carpet(rng: np.random.Generator, size: int) -> Array:
    y, x = _grid(size)
    knots = 10 + 3 * rng.random()
    weave = np.sin(2 * np.pi * knots * x) * np.sin(2 * np.pi * knots * y)
    weave = 0.5 + 0.35 * weave + 0.5 * (_noise(rng, size, 4) - 0.5)
    return _mix((0.26, 0.06, 0.34), (0.66, 0.36, 0.72), np.clip(weave, 0, 1))


def _mud(rng: np.random.Generator, size: int) -> Array:
    lumps = 0.6 * _noise(rng, size, 7) + 0.4 * _noise(rng, size, 16)
    soil = _mix((0.13, 0.08, 0.04), (0.38, 0.26, 0.15), lumps)
    return _lay(soil, (0.55, 0.46, 0.36), 0.8 * np.clip((lumps - 0.62) * 9, 0, 1))


TEXTURES: dict[str, Texture] = {
    "grass": _grass,
    "sand": _sand,
    "snow": _snow,
    "water": _water,
    "forest": _forest,
    "bricks": _bricks,
    "night sky": _night_sky,
    "clouds": _clouds,
    "wood": _wood,
    "stones": _stones,
    "lava": _lava,
    "tiles": _tiles,
    "sunset": _sunset,
    "road": _road,
    "leaves": _leaves,
    "wheat": _wheat,
    "polka dots": _polka_dots,
    "stripes": _stripes,
    "carpet": _carpet,
    "mud": _mud,
}


def draw_texture(name: str, rng: np.random.Generator, size: int) -> Array:
    """Draw one background.

    Args:
        name: One of `BACKGROUND_NAMES`.
        rng: Source of the random variation.
        size: Height and width in pixels.

    Returns:
        float32 (3, size, size) in [0, 1].

    Raises:
        ValueError: If the name is not known.

    Example:
        >>> import numpy as np
        >>> draw_texture("snow", np.random.default_rng(0), 32).shape
        (3, 32, 32)
    """
    if name not in TEXTURES:
        raise ValueError(f"name: expected one of {tuple(TEXTURES)}, got {name!r}")
    brightness = np.float32(0.85 + 0.3 * rng.random())
    picture = TEXTURES[name](rng, size).astype(np.float32)
    return np.clip(picture * brightness, 0, 1)
