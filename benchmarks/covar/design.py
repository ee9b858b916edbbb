"""What a set of controlled variants holds: which images there are, before any is made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from cci_captum._checks import check_positive_int, check_seed

from .transformations import ORIGINAL, TRANSFORMATIONS, Transformation

CONTROLS = ("same", "mean", "blurred", "inpainted")
"""Backgrounds that tell what editing does from what another background does, of the photo itself:
the object pasted again on its own photo; on the mean colour of its own background; on that
background blurred; and on that background with the object's place, and a rim around it, filled."""

PHOTO = "photo"
"""The factor of a photo as it is: nothing was cut out or pasted."""

OWN = "own"
"""The background of a photo as it is."""


class Item(NamedTuple):
    """An image of a design.

    Attributes:
        number: From 0; those of one photo follow each other.
        class_: Number of its class in the design.
        photo: Number of its photo in the class.
        background: Name; that of a control is the control's, of a photo as it is `OWN`.
        control: Which one; "" where it is none.
        factor: What was changed beside the background: that of its transformation, or `PHOTO`.
        level: How far.
        transformation: What moves, and where to.
    """

    number: int
    class_: int
    photo: int
    background: str
    control: str
    factor: str
    level: str
    transformation: Transformation

    @property
    def name(self) -> str:
        """A name for files, different from those of all others of its class; no dots in it."""
        if self.factor == PHOTO:
            return f"{self.photo:03d}_photo"
        parts = [self.background]
        if not self.control:
            parts += [self.factor, self.level]
        return "_".join([f"{self.photo:03d}", *(slug(part) for part in parts if part)])


@dataclass(frozen=True)
class Design:
    """Classes x photos x backgrounds x transformations, with controls and the photos as they are.

    Of every photo there are, in this order: the photo as it is, one image a control, and each
    transformation on each background.

    Attributes:
        classes: Names, all different.
        photos: How many of each class.
        backgrounds: Names, of each class; as many for all.
        transformations: Each on each background; the first is the original.
        controls: Some of `CONTROLS`.
        size: Height and width of the images in pixels.
        seed: Of all that is drawn.

    Raises:
        ValueError: If a name occurs twice, a control is none, or a number is out of its range.

    Example:
        >>> design = Design.of(range(33), 50, [f"background {n}" for n in range(20)])
        >>> len(design), design.counts("factor")["original"], design.counts("factor")["scale"]
        (404250, 33000, 132000)
        >>> design.item(245 + 5 + 13).name, design.block_of(1).start
        ('001_background-1_scale_30', 245)
    """

    classes: tuple[str, ...]
    photos: tuple[int, ...]
    backgrounds: tuple[tuple[str, ...], ...]
    transformations: tuple[Transformation, ...] = TRANSFORMATIONS
    controls: tuple[str, ...] = CONTROLS
    size: int = 224
    seed: int = 0

    @classmethod
    def of(
        cls,
        classes: Sequence[Any],
        photos: int | Sequence[int],
        backgrounds: Sequence[str] | Mapping[str, Sequence[str]],
        **options: Any,
    ) -> Design:
        """A design from numbers and names as people have them.

        Args:
            classes: Their names.
            photos: How many of each class, or of every class its own.
            backgrounds: Names, or class -> names.
            options: The other attributes.
        """
        names = tuple(map(str, classes))
        counts = (photos,) * len(names) if isinstance(photos, int) else tuple(photos)
        if isinstance(backgrounds, Mapping):
            own = tuple(tuple(backgrounds[name]) for name in names)
        else:
            own = (tuple(backgrounds),) * len(names)
        return cls(names, counts, own, **options)

    def __post_init__(self) -> None:
        if not self.classes:
            raise ValueError("classes: expected at least one, got none")
        check_different("classes", self.classes)
        if len(self.photos) != len(self.classes) or len(self.backgrounds) != len(self.classes):
            raise ValueError(
                f"photos: expected numbers and backgrounds of {len(self.classes)} classes, got "
                f"{len(self.photos)} and {len(self.backgrounds)}"
            )
        for count in self.photos:
            check_positive_int("photos", count)
        for names in self.backgrounds:
            check_different("backgrounds", names)
            if len(names) != len(self.backgrounds[0]):
                raise ValueError(
                    "backgrounds: expected as many for every class, got "
                    f"{len(self.backgrounds[0])} and {len(names)}"
                )
            taken = {slug(name) for name in (*CONTROLS, OWN, PHOTO)}
            if ours := [name for name in names if slug(name) in taken]:
                raise ValueError(
                    f"backgrounds: expected other names than {', '.join(sorted(taken))}, got "
                    f"{', '.join(ours)}"
                )
        check_controls(self.controls)
        if ORIGINAL.factor not in [change.factor for change in self.transformations[:1]]:
            raise ValueError("transformations: expected the original first")
        check_different("transformations", [str(change) for change in self.transformations])
        check_positive_int("size", self.size)
        check_seed(self.seed)

    @property
    def images_a_photo(self) -> int:
        """How many images are made of each photo, with the photo as it is."""
        made = len(self.backgrounds[0]) * len(self.transformations)
        return 1 + len(self.controls) + made

    def __len__(self) -> int:
        return sum(self.photos) * self.images_a_photo

    def photo_of(self, number: int) -> tuple[int, int]:
        """Class and number within it of a photo, by its number among all."""
        for class_, count in enumerate(self.photos):
            if number < count:
                return class_, number
            number -= count
        raise IndexError(f"number: expected less than the {sum(self.photos)} photos")

    def block_of(self, photo: int) -> range:
        """Numbers of the images of a photo, by its number among all."""
        return range(photo * self.images_a_photo, (photo + 1) * self.images_a_photo)

    def item(self, number: int) -> Item:
        """An image, by its number.

        Raises:
            IndexError: If there is no such image.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"number: expected 0 to {len(self) - 1}, got {number}")
        photo, place = divmod(number, self.images_a_photo)
        class_, own = self.photo_of(photo)
        if place == 0:
            return Item(number, class_, own, OWN, "", PHOTO, "", ORIGINAL)
        place -= 1
        if place < len(self.controls):
            control = self.controls[place]
            return Item(number, class_, own, control, control, ORIGINAL.factor, "", ORIGINAL)
        behind, change = divmod(place - len(self.controls), len(self.transformations))
        made = self.transformations[change]
        background = self.backgrounds[class_][behind]
        return Item(number, class_, own, background, "", made.factor, made.level, made)

    def items(self) -> Iterator[Item]:
        """All images, in their order."""
        return map(self.item, range(len(self)))

    def counts(self, by: str) -> dict[str, int]:
        """How many images there are of each kind; no image is made.

        Args:
            by: "class"; or "factor", "level" (with its factor), or "background", of images that
                are no controls; or "control", with "" for all others.

        Raises:
            ValueError: If by is none of these.
        """
        photos, backgrounds = sum(self.photos), len(self.backgrounds[0])
        if by == "class":
            named = zip(self.classes, self.photos, strict=True)
            return {name: count * self.images_a_photo for name, count in named}
        if by == "control":
            others = len(self) - photos * len(self.controls)
            return {"": others, **dict.fromkeys(self.controls, photos)}
        found = {PHOTO: photos}
        if by == "background":
            found = {OWN: photos}
            for names, count in zip(self.backgrounds, self.photos, strict=True):
                for name in names:
                    found[name] = found.get(name, 0) + count * len(self.transformations)
            return found
        if by not in ("factor", "level"):
            raise ValueError(
                f"by: expected class, factor, level, background or control, got {by!r}"
            )
        for change in self.transformations:
            kind = change.factor if by == "factor" else str(change)
            found[kind] = found.get(kind, 0) + photos * backgrounds
        return found

    def as_table(self) -> pd.DataFrame:
        """All images, a row each: "number", "class", "photo", "background", "control", ..."""
        rows = [
            (
                item.number, self.classes[item.class_], item.photo, item.background, item.control,
                item.factor, item.level, item.transformation.moves,
            )
            for item in self.items()
        ]  # fmt: skip
        names = ["number", "class", "photo", "background", "control", "factor", "level", "moves"]
        return pd.DataFrame(rows, columns=names)

    def described(self) -> dict[str, Any]:
        """All that decides which images there are, for JSON."""
        return {
            "classes": list(self.classes),
            "photos": list(self.photos),
            "backgrounds": [list(names) for names in self.backgrounds],
            "transformations": [change.described() for change in self.transformations],
            "controls": list(self.controls),
            "size": self.size,
            "seed": self.seed,
        }


def slug(name: str) -> str:
    """A name as a part of a file's name: letters, digits and "-" alone.

    Example:
        >>> slug("night sky"), slug("side 40\u00b0"), slug("a/b.c")
        ('night-sky', 'side-40', 'a-b-c')
    """
    return re.sub(r"[^\w]+", "-", name.replace("_", "-")).strip("-") or "x"


def folder_of(class_name: str) -> str:
    """A class's name as the name of a folder.

    Example:
        >>> folder_of("hot air balloon")
        'hot_air_balloon'
    """
    return slug(class_name).replace("-", "_")


def check_controls(names: Sequence[str]) -> None:
    """Raise ValueError unless these are some of `CONTROLS`, each once."""
    if unknown := [name for name in names if name not in CONTROLS]:
        raise ValueError(
            f"controls: expected some of {', '.join(CONTROLS)}, got {', '.join(unknown)}"
        )
    check_different("controls", names)


def check_different(argument: str, names: Sequence[str]) -> None:
    """Raise ValueError unless all names are different, also as names of files."""
    seen: dict[str, str] = {}
    for name in names:
        key = slug(name).lower()
        if key in seen:
            raise ValueError(
                f"{argument}: expected names that differ in letters and digits, got {seen[key]!r} "
                f"and {name!r}"
            )
        seen[key] = name
