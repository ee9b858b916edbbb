"""A small CounterAnimal: the release's 45 folders and quirks, and a model that reads pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from cci_captum.benchmarks.data import ImageData, animal_classes, imagenet_synonyms

SIZE = (8, 6)
_PIXELS = 3 * SIZE[0] * SIZE[1]
# What the texts of the 1000 names look like to the model, in pixels.
TEXTS = np.random.default_rng(0).normal(size=(1000, _PIXELS))
TEXTS /= np.linalg.norm(TEXTS, axis=1, keepdims=True)
DAMAGED = "296 ice bear, polar bear, Ursus Maritimus, Thalarctos maritimus/counter-grass/broken.jpg"
TWICE = "9 ostrich, Struthio camelus/common-ground/figure1"


def make_release(root: Path, photos: int = 3) -> Path:
    """LAION-final in root, with all that is odd about the released one; returns root.

    Photos are noise with the class in it, less of it in counter; classes have different numbers of
    photos, so that the two averages differ.
    """
    top = root / "LAION-final"
    rng = np.random.default_rng(1)
    for each in animal_classes():
        for group, background in (("common", each.common), ("counter", each.counter)):
            said = "green" if (each.index, group) == (37, "common") else background
            folder = top / f"{each.index} {each.name}" / f"{group}-{said}"
            folder.mkdir(parents=True)
            count = photos + each.ca_id % 3 + 2 * (group == "common" and each.ca_id % 5 == 0)
            for number in range(1, count + 1):
                suffix = (".jpeg", ".jpg", ".JPG", ".png")[number % 4]
                _photo(rng, each.index, group).save(folder / f"figure{number}{suffix}", quality=95)
    for suffix in (".jpeg", ".jpg"):
        _photo(rng, 9, "common").save(top / f"{TWICE}{suffix}", quality=95)
    whole = sorted((top / DAMAGED).parent.iterdir())[0].read_bytes()
    (top / DAMAGED).write_bytes(whole[: len(whole) // 2])
    _loose_files(top)
    return root


def _loose_files(top: Path) -> None:
    names = "".join(f"{index}\t{name}\n" for index, name in enumerate(imagenet_synonyms()))
    (top / "imagenet_names.txt").write_text(names)
    (top / "rename.py").write_text("print('not ours')\n")
    (top / "readme").write_text("")
    (top / ".DS_Store").write_bytes(b"\0\1")
    (top / ".cache").mkdir()
    group = next(path for path in sorted(top.iterdir()) if path.is_dir() and path.name[0] != ".")
    (group / ".DS_Store").write_bytes(b"\0\1")
    (next(group.glob("common-*")) / ".hidden.jpg").write_bytes(b"\0")


def _photo(rng: np.random.Generator, index: int, group: str) -> Image.Image:
    strength = 1.1 if group == "common" else 0.7
    values = strength * TEXTS[index] * np.sqrt(_PIXELS) * 0.35 + rng.normal(size=_PIXELS)
    pixels = (128 + 32 * values).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels.reshape(SIZE[1], SIZE[0], 3))


def scores_of(image: Image.Image) -> np.ndarray:
    """(1000,) float64 cosines of an image with all names."""
    values = np.asarray(image.convert("RGB"), dtype=np.float64).ravel() - 128
    return TEXTS @ values / np.linalg.norm(values)


def predictions(data: ImageData, scale: float = 100.0) -> pd.DataFrame:
    """The model's table of predictions, as a run gives it."""
    rows: list[dict[str, Any]] = []
    for place in range(len(data)):
        row: dict[str, Any] = {"index": place, "true": data.targets[place], "predicted": -1}
        try:
            sample = data[place]
        except (OSError, ValueError) as error:
            rows.append({**row, "status": str(error), "scores": None})
            continue
        scores = np.float32(scale * scores_of(sample.image))
        row |= {"image": sample.name, "source": sample.source or sample.name, **sample.facts}
        rows.append({**row, "predicted": int(scores.argmax()), "status": "", "scores": scores})
    return pd.DataFrame(rows)
