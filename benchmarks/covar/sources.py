"""Which photos a set of variants is made of: those whose object can be cut out, class by class."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cci_captum._checks import check_positive_int, check_seed
from cci_captum.images import could_not_be_read_now

from ..comparison.parts import write_text
from ..data import ImageData
from .cutout import square_around
from .design import check_different

SEGMENTATION = "segmentation"  # the fact of `cci_captum.benchmarks.diagnosis.segmented`
_SHOWN = 10  # classes in an error


@dataclass(frozen=True)
class Usable:
    """Which photos are: limits are ours.

    Attributes:
        least: Share of the photo's square that the object covers, at least.
        most: The same, at most.
        cut: How much of the object's outline may be the square's edge, where the object is cut
            off: pixels of it at the edge over the perimeter of its box.

    Example:
        >>> mask = np.zeros((10, 10), bool)
        >>> mask[2:8, 5:] = True
        >>> Usable().refused(mask), Usable(cut=0.5).refused(mask)
        ('cut off', '')
    """

    least: float = 0.02
    most: float = 0.6
    cut: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.least < self.most < 1:
            raise ValueError(
                f"usable: expected 0 <= least < most < 1, got {self.least} and {self.most}"
            )
        if not 0 <= self.cut <= 1:
            raise ValueError(f"usable: expected cut from 0 to 1, got {self.cut}")

    def refused(self, mask: NDArray[np.bool_]) -> str:
        """Why a photo is not usable, by the mask (H, W) of its object; "" where it is."""
        if not mask.any():
            return "no object"
        left, top, right, bottom = square_around(mask)
        inside = mask[top:bottom, left:right]
        if (share := inside.mean()) < self.least:
            return "object too small"
        if share > self.most:
            return "object too large"
        rows, columns = (int(inside.any(axis=axis).sum()) for axis in (1, 0))
        at_edge = sum(int(line.sum()) for line in (inside[0], inside[-1], *inside.T[[0, -1]]))
        return "cut off" if at_edge > self.cut * 2 * (rows + columns) else ""


@dataclass(frozen=True)
class Photos:
    """The photos of a set of variants.

    Attributes:
        data: That they are of.
        targets: Of the classes taken, as numbers of the data's classes.
        places: Of each class, the photos taken, as places in the data.
        refused: Why photos were not taken -> how many, of those that were looked at.
        asked: All that decided which, for JSON.

    Example:
        >>> from cci_captum.benchmarks.data import Scenes
        >>> photos = Photos.choose(Scenes(99, size=64), 1, classes=["cat", "bus"], seed=3)
        >>> photos.classes, [len(places) for places in photos.places]
        (('cat', 'bus'), [1, 1])
    """

    data: ImageData
    targets: tuple[int, ...]
    places: tuple[tuple[int, ...], ...]
    refused: Mapping[str, int]
    asked: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes taken."""
        return tuple(self.data.class_names[target] for target in self.targets)

    @property
    def all_places(self) -> tuple[int, ...]:
        """Of all photos, class by class."""
        return tuple(place for places in self.places for place in places)

    @classmethod
    def choose(
        cls,
        data: ImageData,
        count: int,
        *,
        classes: Sequence[str] | None = None,
        seed: int = 0,
        usable: Usable | None = None,
        fewer: bool = False,
        stored: Path | None = None,
    ) -> Photos:
        """The first usable photos of each class, in an order drawn at random.

        Args:
            data: Images of classes, with masks.
            count: How many of each class.
            classes: Names of the classes; None is all that have images.
            seed: Of the order.
            usable: Which are.
            fewer: Whether to go on with classes that have not as many; those without any are left
                out.
            stored: A file that says which were chosen before, for the same question: then none is
                looked at again. Written where there is none.

        Raises:
            ValueError: If the data have no masks or no such class, names of classes are alike, or
                classes have too few photos.
        """
        check_positive_int("photos", count)
        check_seed(seed)
        usable = usable or Usable()
        if not data.has_masks:
            raise ValueError(
                f"data: expected masks of the objects, {data.name} has none; a segmenter finds some"
            )
        targets = _targets(data, classes)
        check_different("classes", [data.class_names[target] for target in targets])
        listing = [*map(str, getattr(data, "listing", ())), str(list(data.targets))]
        asked = {
            "data": data.name,
            "listing": hashlib.sha256("\0".join(listing).encode("utf-8", "replace")).hexdigest(),
            "classes": [data.class_names[target] for target in targets],
            "photos": count,
            "seed": seed,
            "usable": asdict(usable),
            "fewer": fewer,
        }
        found = _stored(stored, asked)
        if found is None:
            found = _chosen(data, targets, count, seed, usable)
            if stored is not None:
                stored.parent.mkdir(parents=True, exist_ok=True)
                write_text(stored, json.dumps({"asked": asked, **found}, indent=1) + "\n")
        places, refused = found["places"], found["refused"]
        if not fewer:
            _check_enough(data, targets, places, count, refused)
        there = [number for number, own in enumerate(places) if own]
        if not there:
            raise ValueError(f"data: expected usable photos, got none of {data.name}: {refused}")
        return cls(
            data,
            tuple(targets[number] for number in there),
            tuple(tuple(places[number]) for number in there),
            refused,
            asked,
        )


def _targets(data: ImageData, classes: Sequence[str] | None) -> list[int]:
    if classes is None:
        return sorted(set(data.targets))
    index = {name: number for number, name in enumerate(data.class_names)}
    if unknown := [name for name in classes if name not in index]:
        raise ValueError(
            f"classes: expected names of the {len(index)} classes of {data.name}, got "
            f"{', '.join(map(repr, unknown[:_SHOWN]))}"
        )
    return [index[name] for name in classes]


def _chosen(
    data: ImageData, targets: Sequence[int], count: int, seed: int, usable: Usable
) -> dict[str, Any]:
    refused: Counter[str] = Counter()
    of_class: dict[int, list[int]] = {target: [] for target in targets}
    for place, target in enumerate(data.targets):
        if target in of_class:
            of_class[target].append(place)
    places: list[list[int]] = []
    for target in targets:
        own: list[int] = []
        order = np.random.default_rng((seed, target)).permutation(len(of_class[target]))
        for turn in order.tolist():
            if len(own) == count:
                break
            place = of_class[target][turn]
            reason = _refused(data, place, usable)
            if reason:
                refused[reason] += 1
            else:
                own.append(place)
        places.append(own)
    return {"places": places, "refused": dict(sorted(refused.items()))}


def _refused(data: ImageData, place: int, usable: Usable) -> str:
    try:
        sample = data[place]
    except (OSError, ValueError) as error:
        if could_not_be_read_now(error):
            raise
        return "not to be read"
    if sample.facts.get(SEGMENTATION) or sample.mask is None:
        return "no object"
    return usable.refused(sample.mask.numpy())


def _check_enough(
    data: ImageData,
    targets: Sequence[int],
    places: Sequence[Sequence[int]],
    count: int,
    refused: Mapping[str, int],
) -> None:
    lacking = {
        data.class_names[target]: count - len(own)
        for target, own in zip(targets, places, strict=True)
        if len(own) < count
    }
    if lacking:
        named = [f"{name} lacks {number}" for name, number in list(lacking.items())[:_SHOWN]]
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        why = ", ".join(f"{number} {reason}" for reason, number in refused.items()) or "none"
        raise ValueError(
            f"photos: expected {count} usable ones of each class, but of {data.name} "
            f"{', '.join(named)}{more}; refused: {why}. Take fewer photos, more images, other "
            "limits, or go on with fewer of these classes"
        )


def _stored(path: Path | None, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was chosen before for the same question; None where it was not."""
    try:
        found = {} if path is None else json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"out: expected JSON in {path}, got a damaged file: {error}") from error
    return found if found.get("asked") == json.loads(json.dumps(asked)) else None
