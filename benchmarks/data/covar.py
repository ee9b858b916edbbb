"""Controlled variants of photos, as `cci_captum.benchmarks.covar` builds them."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cci_captum._checks import check_choice, check_positive_int
from cci_captum._extras import needed_by
from cci_captum._files import check_existing_folder
from cci_captum.images import decode_with_scaling
from cci_captum.names import readable

from ._drawing import check_drawing, drawn, fewer
from ._tree import some
from .base import Sample, position

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "manifest.parquet"
"""A row an image: what it is, where it is, and its digests."""

ABOUT = "covar.json"
"""What the images are, as a whole; written last."""

PARTS = "parts"
"""Where a build keeps what is done."""

Labels = Literal["all", "own"]
_LABELS = ("all", "own")


class COVAR:
    """Photos on other backgrounds, at other scales and places, with controls and masks.

    A sample's source is the photo that it was made from, and its facts are "background" ("own" of
    a photo as it is), "factor" ("photo" of that), "level" (text), "control" ("" where it is none),
    "photo" (as source) and "visible", which share of the object is within the picture.

    Args:
        root: A folder that a build has filled.
        factor: Which factors to take, such as "scale" or "original,scale"; None is all. Photos as
            they are always stay: what is measured is measured against them.
        background: Which backgrounds, in the same way; controls are none of them.
        controls: Whether to take controls.
        labels: The names to tell apart: "all" of the data that the photos are of, or the "own" of
            the photos' classes.
        photos: How many photos of each class, with all their images; the first ones. None is all.
        count: How many images to draw at random, as evenly over the classes as their numbers
            allow; None is all. Photos as they are may then be missing.
        seed: Of what is drawn.

    Attributes:
        manifest: The rows of the images taken, as a table.
        about: What the folder says of itself.

    Raises:
        FileNotFoundError: If there is no such folder, its build is not finished, or files are
            missing.
        ValueError: If its manifest is of another build, or an option is none of these. When a
            sample is read: if a file was changed.
    """

    has_masks = True

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        factor: str | Sequence[str] | None = None,
        background: str | Sequence[str] | None = None,
        controls: bool = True,
        labels: Labels = "all",
        photos: int | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        self._root = Path(root)
        check_existing_folder(self._root, "root")
        check_choice("labels", labels, _LABELS)
        check_drawing(count, seed)
        if photos is not None:
            check_positive_int("photos", photos, " or None")
        self.about, table = read_build(self._root)
        table = _taken(table, factor, background, controls, photos)
        title = f"COVAR {readable(self._root.resolve().name)}"
        size = f"{len(table)} images of {table['source'].nunique()} photos"
        if (few := fewer(count, len(table))) is not None:
            size = f"{few} of {size}, seed {seed}"
            table = _drawn(table, few, seed)
        self.manifest = table
        _check_files(self._root, table)
        names = list(self.about["class_names"])
        targets = table["target"].tolist()
        if labels == "own":
            classes = self.about["design"]["classes"]
            own = {names.index(name): number for number, name in enumerate(classes)}
            names, targets = classes, [own[target] for target in targets]
        self.class_names = tuple(names)
        self.targets: list[int] = targets
        templates = self.about["templates"]
        self.templates: str | tuple[str, ...] = (
            templates if isinstance(templates, str) else tuple(templates)
        )
        self.name = f"{title} ({size}{', own labels' * (labels == 'own')})"
        self.notes = list(self.about.get("notes", ()))
        numbers = ",".join(map(str, table["number"]))
        self.listing = (
            self.about["manifest_sha256"],
            hashlib.sha256(numbers.encode()).hexdigest(),
        )

    def __len__(self) -> int:
        return len(self.manifest)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        place = position(index, len(self))
        row = self.manifest.iloc[place]
        name = str(row["name"])
        content = self._content(row, "image")
        image, _ = decode_with_scaling(content, name)
        facts: dict[str, Any] = {
            key: str(row[key]) for key in ("background", "factor", "level", "control")
        }
        facts |= {"photo": str(row["source"]), "visible": float(row["visible"])}
        return Sample(
            name,
            image,
            self.targets[place],
            _mask(self._content(row, "mask"), name),
            source=str(row["source"]),
            facts=facts,
        )

    def damaged(self) -> list[str]:
        """Names of the images that are not, or whose masks are not, as they were built.

        Every file is read, and its SHA-256 compared with the manifest's.
        """
        found = []
        for _, row in self.manifest.iterrows():
            for kind in ("image", "mask"):
                try:
                    whole = _digest(self._content(row, kind)) == row[f"{kind}_sha256"]
                except ValueError:
                    whole = False
                if not whole:
                    found.append(str(row["name"]))
                    break
        return found

    def _content(self, row: pd.Series, kind: str) -> bytes:
        """Bytes of an image or a mask.

        Raises:
            OSError: If the file cannot be read now.
            ValueError: If it ends too early.
        """
        with (self._root / row[f"{kind}_path"]).open("rb") as file:
            file.seek(int(row[f"{kind}_offset"]))
            content = file.read(int(row[f"{kind}_bytes"]))
        if len(content) != row[f"{kind}_bytes"]:
            raise ValueError(
                f"{kind}: expected {row[f'{kind}_bytes']} bytes as the manifest says, got "
                f"{len(content)}: {row['name']}"
            )
        return content


def read_build(root: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """What a folder says of itself, and its manifest.

    Raises:
        FileNotFoundError: If it holds no build, or one that is not finished.
        ValueError: If the manifest is of another build, or a file is damaged.
    """
    with needed_by("cci_captum.benchmarks.data.COVAR"):
        import pandas as pd
    if not (root / ABOUT).is_file():
        if (root / PARTS).is_dir():
            raise FileNotFoundError(
                f"root: expected a finished build in {readable(root)}, got one that is not done: "
                "run the same `cci-captum covar build` again, which goes on"
            )
        raise FileNotFoundError(
            f"root: expected {ABOUT} and {MANIFEST} in {readable(root)}, as `cci-captum covar "
            "build` writes them, got neither"
        )
    try:
        about = json.loads((root / ABOUT).read_text(encoding="utf-8"))
        wanted = about["manifest_sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"root: expected what a build says of itself in {readable(root / ABOUT)}: {error!r}"
        ) from error
    if not (root / MANIFEST).is_file():
        raise FileNotFoundError(f"root: no such file: {readable(root / MANIFEST)}")
    content = (root / MANIFEST).read_bytes()
    if _digest(content) != wanted:
        raise ValueError(
            f"root: expected the manifest of this build in {readable(root)}, got that of another, "
            "or a damaged one"
        )
    return about, pd.read_parquet(io.BytesIO(content))


def _taken(
    table: pd.DataFrame,
    factor: str | Sequence[str] | None,
    background: str | Sequence[str] | None,
    controls: bool,
    photos: int | None,
) -> pd.DataFrame:
    is_photo, is_control = table["factor"] == "photo", table["control"] != ""
    keep = ~is_control
    for argument, asked, column in (
        ("factor", factor, table["factor"]),
        ("background", background, table["background"]),
    ):
        if asked is not None:
            known = column[~is_photo & ~is_control].unique()
            keep &= is_photo | column.isin(_chosen(argument, asked, known.tolist()))
    if controls:
        keep |= is_control
    if photos is not None:
        keep &= table["photo"] < photos
    return table[keep].reset_index(drop=True)


def _chosen(argument: str, asked: str | Sequence[str], known: Sequence[str]) -> list[str]:
    names = [name.strip() for name in asked.split(",")] if isinstance(asked, str) else list(asked)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{argument}: expected some of {', '.join(known)}, got {some(unknown)}")
    return names


def _drawn(table: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    by_class = [places.tolist() for places in table.groupby("target").indices.values()]
    places = [place for own in by_class for place in own]
    chosen = sorted(places[turn] for turn in drawn(list(map(len, by_class)), count, seed))
    return table.iloc[chosen].reset_index(drop=True)


def _check_files(root: Path, table: pd.DataFrame) -> None:
    """Raise FileNotFoundError if files are missing, by the names in their folders."""
    paths = set(table["image_path"]) | set(table["mask_path"])
    there: set[str] = set()
    for folder in {path.rpartition("/")[0] for path in paths}:
        if (root / folder).is_dir():
            there.update(f"{folder}/{entry.name}" for entry in os.scandir(root / folder))
    if missing := sorted(paths - there):
        raise FileNotFoundError(
            f"root: {len(missing)} of the {len(paths)} files of {readable(root)} are missing: "
            f"{some(missing)}; remove its folder {PARTS!r} and {ABOUT}, and build it again: the "
            "same files come out"
        )


def _mask(content: bytes, name: str) -> Tensor:
    try:
        with Image.open(io.BytesIO(content)) as file:
            values = np.asarray(file)
    except OSError as error:
        raise ValueError(f"mask: cannot read that of {name}: {error}") from error
    return torch.from_numpy(values != 0)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
