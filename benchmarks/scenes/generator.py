"""Scenes composed on the fly: one or two emoji on a textured background, with exact masks.

Scene `i` of a seed is always the same, whatever was drawn before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cci_captum.tiny import (
    BACKGROUND_NAMES,
    CLASS_NAMES,
    HELD_OUT_FAMILIES,
    TRAIN_FAMILIES,
    PlantedPair,
    load_sprites,
)

from .captions import caption
from .scene import Scene
from .textures import draw_texture

KINDS: tuple[str, ...] = ("one", "two", "copies", "empty")
"""One object, two of different classes, two copies of one drawing, the background alone."""

ARTWORK: dict[str, tuple[str, ...]] = {
    "train": TRAIN_FAMILIES,
    "held-out": HELD_OUT_FAMILIES,
    "all": TRAIN_FAMILIES + HELD_OUT_FAMILIES,
}

_KIND_SHARES = (0.6, 0.25, 0.15)
_BOUND_SHARE = 0.95
_MISSING_SHARE = 1 / 3


@dataclass(frozen=True)
class _Plan:
    """What a scene shows, decided before anything is drawn."""

    kind: str
    classes: tuple[int, ...]
    background: int
    families: tuple[str, ...]
    places: np.ndarray  # (n, 5): x, y of the centre in [-1, 1], area, turn in radians, mirror
    gains: np.ndarray  # (n, 4): red, green, blue, saturation
    caption: str
    rng: np.random.Generator  # for the texture


class SceneGenerator:
    """Draws scenes by number.

    Args:
        size: Height and width of the pictures in pixels.
        artwork: "train", "held-out" (never drawn in training), "all", or family names.
        seed: Scenes of different seeds have nothing in common.
        planted: Shortcuts to plant: a class with a pair is on its background in 95 % of its
            scenes; for a "sufficient" pair the object is missing in a third of those, while the
            caption still names it. Two classes with pairs never share a scene.

    Raises:
        ValueError: If the artwork or the size is not valid.

    Example:
        >>> generator = SceneGenerator(size=64, seed=1)
        >>> scene = generator.scene(7, class_name="penguin", background="snow", kind="one")
        >>> scene.image.shape, scene.masks.shape, scene.class_names
        (torch.Size([3, 64, 64]), torch.Size([1, 64, 64]), ('penguin',))
    """

    def __init__(
        self,
        size: int = 96,
        artwork: str | Sequence[str] = "train",
        seed: int = 0,
        *,
        planted: Sequence[PlantedPair] = (),
    ) -> None:
        if size < 16:
            raise ValueError(f"size: expected at least 16 pixels, got {size}")
        if isinstance(artwork, str):
            if artwork not in ARTWORK:
                raise ValueError(f"artwork: expected one of {tuple(ARTWORK)}, got {artwork!r}")
            artwork = ARTWORK[artwork]
        self.size = size
        self.seed = seed
        self.families = tuple(artwork)
        sprites = torch.stack(list(load_sprites(self.families).values()))
        self._sprites = _premultiplied(sprites)  # (families, 33, 4, 80, 80)
        self._small_sprites = F.avg_pool2d(self._sprites.flatten(0, 1), 2).view(
            *self._sprites.shape[:3], 40, 40
        )
        self._coverage = self._sprites[:, :, 3].mean((-1, -2)).numpy()
        self._planted = {
            CLASS_NAMES.index(pair.class_name): (
                BACKGROUND_NAMES.index(pair.background_name),
                pair.kind == "sufficient",
            )
            for pair in planted
        }

    def scene(
        self,
        index: int,
        *,
        class_name: str | None = None,
        background: str | None = None,
        kind: str | None = None,
    ) -> Scene:
        """Return scene number `index`; see `scenes`."""
        return self.scenes([index], class_name=class_name, background=background, kind=kind)[0]

    def scenes(
        self,
        indices: Sequence[int],
        *,
        class_name: str | Sequence[str] | None = None,
        background: str | Sequence[str] | None = None,
        kind: str | None = None,
    ) -> list[Scene]:
        """Return scenes by number, drawn together.

        Args:
            indices: Numbers of the scenes, 0 or more.
            class_name: Class of the (first) object, one for all or one a scene; None: at random.
            background: Background, one for all or one a scene; None: at random.
            kind: One of `KINDS`; None: "one", "two" or "copies" at random.

        Raises:
            ValueError: If a name or kind is not known, or there are not as many as scenes.

        Example:
            >>> generator = SceneGenerator(size=64, artwork="held-out")
            >>> scenes = generator.scenes(range(4), kind="two")
            >>> torch.stack([scene.image for scene in scenes]).shape
            torch.Size([4, 3, 64, 64])
        """
        if kind is not None and kind not in KINDS:
            raise ValueError(f"kind: expected one of {KINDS}, got {kind!r}")
        classes = _lookup("class_name", class_name, CLASS_NAMES, len(indices))
        backgrounds = _lookup("background", background, BACKGROUND_NAMES, len(indices))
        plans = [
            self._plan(index, wanted, behind, kind)
            for index, wanted, behind in zip(indices, classes, backgrounds, strict=True)
        ]
        return self._draw(plans)

    def classes(self, index: int, *, kind: str | None = None) -> tuple[int, ...]:
        """Class of each object in scene number `index`, without drawing it.

        Example:
            >>> SceneGenerator(seed=1).classes(7, kind="one")
            (16,)
        """
        return self._plan(index, None, None, kind).classes

    def caption(self, index: int, *, kind: str | None = None) -> str:
        """Caption of scene number `index`, without drawing it.

        Example:
            >>> SceneGenerator(seed=1).caption(7, kind="one")
            'a strawberry'
        """
        return self._plan(index, None, None, kind).caption

    def _plan(self, index: int, wanted: int | None, behind: int | None, kind: str | None) -> _Plan:
        # Everything is always drawn, so that fixing one thing leaves the others as they were.
        rng = np.random.default_rng((self.seed, index, 0))
        drawn_kind = KINDS[rng.choice(3, p=_KIND_SHARES)]
        first, second = rng.choice(len(CLASS_NAMES), 2, replace=False).tolist()
        drawn_background = int(rng.integers(len(BACKGROUND_NAMES)))
        bound, missing = rng.random(2) < (_BOUND_SHARE, _MISSING_SHARE)
        families = rng.integers(len(self.families), size=2).tolist()
        places, gains = _places(rng)
        words = rng.random(3).tolist()

        free = kind is None and behind is None
        kind = drawn_kind if kind is None else kind
        if wanted is not None:
            first, second = wanted, second if second != wanted else first
        if first in self._planted:
            while second in self._planted:
                second = (second + 1) % len(CLASS_NAMES)
        classes = {"two": (first, second), "copies": (first, first), "empty": ()}.get(
            kind, (first,)
        )
        if kind == "copies":
            families[1] = families[0]
        background = drawn_background if behind is None else behind
        named = classes
        planted = next((c for c in classes if c in self._planted), None)
        if planted is not None and behind is None and bound:
            background, sufficient = self._planted[planted]
            if sufficient and missing and free:
                kind, classes, named = "empty", (), (planted,)
        count = len(classes)
        if count == 2:
            places = places[1:]
        return _Plan(
            kind=kind,
            classes=classes,
            background=background,
            families=tuple(self.families[f] for f in families[:count]),
            places=places[:count],
            gains=gains[:count],
            caption=caption(named, background, words),
            rng=np.random.default_rng((self.seed, index, 1)),
        )

    def _draw(self, plans: list[_Plan]) -> list[Scene]:
        size = self.size
        images = torch.from_numpy(
            np.stack([draw_texture(BACKGROUND_NAMES[p.background], p.rng, size) for p in plans])
        )
        layers = self._layers(plans)
        scenes = []
        start = 0
        for image, plan in zip(images, plans, strict=True):
            alphas = []
            for layer in layers[start : start + len(plan.classes)]:
                image = layer[:3] + image * (1 - layer[3])
                alphas.append(layer[3])
            start += len(plan.classes)
            masks = torch.zeros(len(alphas), size, size, dtype=torch.bool)
            for i, alpha in enumerate(alphas):
                masks[:i] &= alpha <= 0.5
                masks[i] = alpha > 0.5
            scenes.append(
                Scene(
                    image=image.clamp(0, 1),
                    masks=masks,
                    classes=plan.classes,
                    families=plan.families,
                    background=plan.background,
                    kind=plan.kind,
                    caption=plan.caption,
                )
            )
        return scenes

    def _layers(self, plans: list[_Plan]) -> Tensor:
        """Return all objects of all plans as premultiplied RGBA layers (n, 4, size, size)."""
        kind_of = [
            (self.families.index(f), c)
            for p in plans
            for f, c in zip(p.families, p.classes, strict=True)
        ]
        if not kind_of:
            return torch.zeros(0, 4, self.size, self.size)
        family, class_ = torch.tensor(kind_of).T
        places = np.concatenate([p.places for p in plans])
        gains = torch.from_numpy(np.concatenate([p.gains for p in plans])).float()
        coverage = self._coverage[family.numpy(), class_.numpy()]
        side = np.minimum(np.sqrt(places[:, 2] / coverage), 0.98)
        grid = self._grids(places, side)
        layers = torch.empty(len(side), 4, self.size, self.size)
        # Halved sprites where they shrink much: bilinear sampling would skip pixels.
        small = torch.from_numpy(side * self.size < 0.6 * self._sprites.shape[-1])
        for which, sprites in ((small, self._small_sprites), (~small, self._sprites)):
            if which.any():
                layers[which] = F.grid_sample(
                    sprites[family[which], class_[which]], grid[which], align_corners=False
                )
        return _tint(layers, gains)

    def _grids(self, places: np.ndarray, side: np.ndarray) -> Tensor:
        """Return sampling grids (n, size, size, 2) that put sprites at their places."""
        x, y, _, turn, mirror = places.T
        # The turned sprite stays inside the picture: its centre moves in what room is left.
        reach = side * (np.abs(np.cos(turn)) + np.abs(np.sin(turn)) * 0.5)
        room = np.clip(1 - reach, 0, None)
        x, y = x * room, y * room
        cos, sin = np.cos(turn) / side, np.sin(turn) / side
        theta = np.stack(
            [
                np.stack([cos * mirror, sin * mirror, -(cos * x + sin * y) * mirror], 1),
                np.stack([-sin, cos, sin * x - cos * y], 1),
            ],
            1,
        )
        # One by one: a batched product may round otherwise than that of a scene drawn alone.
        shape = [1, 4, self.size, self.size]
        thetas = torch.from_numpy(theta).float().split(1)
        return torch.cat([F.affine_grid(one, shape, align_corners=False) for one in thetas])


def _lookup(
    argument: str, names: str | Sequence[str] | None, known: Sequence[str], count: int
) -> list[int | None]:
    if names is None:
        return [None] * count
    wanted = [names] * count if isinstance(names, str) else list(names)
    if len(wanted) != count:
        raise ValueError(f"{argument}: expected one name or {count}, got {len(wanted)}")
    for name in wanted:
        if name not in known:
            raise ValueError(f"{argument}: expected one of {tuple(known)}, got {name!r}")
    return [known.index(name) for name in wanted]


def _premultiplied(sprites: Tensor) -> Tensor:
    values = sprites.float() / 255
    return torch.cat([values[..., :3, :, :] * values[..., 3:, :, :], values[..., 3:, :, :]], dim=-3)


def _places(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw places and colour gains for one object (row 0) and for two (rows 1 and 2).

    An object covers 10 to 45 % of the picture alone, 9 to 20 % beside another.
    """
    centres = rng.uniform(-1, 1, (3, 2))
    around = rng.uniform(0, 2 * np.pi)
    apart = np.array([np.cos(around), np.sin(around)])
    apart /= np.abs(apart).max()
    centres[1] = apart * rng.uniform(0.8, 1.0)
    centres[2] = -apart * rng.uniform(0.8, 1.0)
    area = np.exp(rng.uniform(np.log((0.10, 0.09, 0.09)), np.log((0.45, 0.20, 0.20))))
    turn = rng.uniform(-0.35, 0.35, 3)
    mirror = rng.choice((-1.0, 1.0), 3)
    places = np.concatenate([centres, np.stack([area, turn, mirror], 1)], 1)
    gains = rng.uniform((0.85, 0.85, 0.85, 0.6), (1.15, 1.15, 1.15, 1.3), (3, 4))
    return places, gains


def _tint(layers: Tensor, gains: Tensor) -> Tensor:
    """Change saturation and channel gains of premultiplied layers (n, 4, H, W)."""
    colour, alpha = layers[:, :3], layers[:, 3:]
    gray = colour.mean(dim=1, keepdim=True)
    colour = gray + (colour - gray) * gains[:, 3, None, None, None]
    colour = colour * gains[:, :3, None, None]
    return torch.cat([torch.minimum(colour.clamp(min=0), alpha), alpha], dim=1)
