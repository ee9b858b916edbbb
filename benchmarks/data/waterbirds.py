"""Waterbirds: birds of CUB on land and on water (Sagawa et al. 2020)."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cci_captum._checks import check_choice
from cci_captum._files import check_existing_folder
from cci_captum.images import content_of, errors_named, read_with_scaling
from cci_captum.names import readable

from ._drawing import check_drawing, drawn, fewer
from ._layouts import unlike
from ._notes import ScalingNotes
from ._tree import size_of, some
from .base import MissingImageError, Sample, position

SPLITS = ("train", "val", "test")
BIRDS = ("landbird", "waterbird")
PLACES = ("land", "water")
GROUPS = tuple(f"{bird} on {place}" for bird in BIRDS for place in PLACES)
"""The four groups; group 2 y + place is its place in this list."""

SURE = 128
"""Grey value from which a pixel of CUB's segmentations is the bird: half of full, rounded up."""

_COLUMNS = ("img_filename", "y", "split", "place")
_FOLDER = "waterbird_complete95_forest2water2"
_LAND_BIRDS = ("Eastern_Towhee", "Western_Meadowlark", "Western_Wood_Pewee")

TREE = """\
    waterbird_complete95_forest2water2/
        metadata.csv           (img_id,img_filename,y,split,place,place_filename)
        001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.jpg
        ..."""
MASK_TREE = """\
    segmentations/             (of CUB-200-2011)
        001.Black_footed_Albatross/Black_Footed_Albatross_0001_796111.png
        ..."""


class Waterbirds:
    r"""Birds cut from photos of CUB-200-2011 and pasted on land and on water of Places.

    Sagawa, Koh, Hashimoto and Liang 2020 (arXiv 1911.08731). In training, 95 % of water birds are
    on water and 95 % of land birds on land; in validation and test half of each. Facts of a
    sample: "group", one of `GROUPS`, "group_number", 0 to 3, "place", "land" or "water", and
    "species".

    The prompt is "a photo of a landbird.", as common in public zero-shot code; the authors of the
    data have none.

    Args:
        root: The folder of metadata.csv, or the one around it.
        split: "test", "val" or "train".
        segmentations: CUB's folder of that name, for masks of the birds: a pixel is the bird's
            where its grey value is at least `SURE`. Values between 0 and 255 are where annotators
            disagree, and where the data blend bird and place. None: there are no masks.
        count: How many images to draw at random, as evenly over the groups as their numbers allow;
            None is all.
        seed: Of what is drawn.

    Attributes:
        training_groups: How many images of each group the training split has, by `GROUPS`: the
            weights of the average that is reported.
        notes: What a reader of the results should know.

    Raises:
        FileNotFoundError: If there is no such folder, or images or masks are missing.
        NotADirectoryError: If it is a file.
        ValueError: If it is laid out in another way, which the error shows; a row of metadata.csv
            is wrong; or another argument is not one of these. When a sample is read: if an image
            or mask is damaged, a mask of another size, or without a bird.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     (Path(root) / "004.Groove_billed_Ani").mkdir()
        ...     Image.new("RGB", (8, 6)).save(Path(root) / "004.Groove_billed_Ani" / "1.jpg")
        ...     lines = ["img_id,img_filename,y,split,place,place_filename"]
        ...     lines += ["1,004.Groove_billed_Ani/1.jpg,0,2,1,/o/ocean/1.jpg"]
        ...     _ = (Path(root) / "metadata.csv").write_text("\n".join(lines))
        ...     sample = Waterbirds(root)[0]
        >>> sample.facts["group"], sample.facts["species"]
        ('landbird on water', 'Groove billed Ani')
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "test",
        *,
        segmentations: str | os.PathLike[str] | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("split", split, SPLITS)
        check_drawing(count, seed)
        self._root = _root(Path(root))
        rows = _rows(self._root / "metadata.csv")
        training = Counter(group_of(row) for row in rows if row["split"] == "0")
        self.training_groups = {name: training[number] for number, name in enumerate(GROUPS)}
        rows = [row for row in rows if row["split"] == str(SPLITS.index(split))]
        if not rows:
            raise ValueError(f"split: expected images of {split}, got none in metadata.csv")
        rows.sort(key=lambda row: (group_of(row), row["img_filename"]))
        size = f"{len(rows)} images of {split}"
        if (few := fewer(count, len(rows))) is not None:
            sizes = np.bincount([group_of(row) for row in rows], minlength=len(GROUPS))
            rows = [rows[place] for place in drawn(sizes.tolist(), few, seed)]
            size = f"{few} of {size}, seed {seed}"
        self._rows = rows
        self.targets = [int(row["y"]) for row in rows]
        self.class_names: tuple[str, ...] = BIRDS
        self.templates: str | tuple[str, ...] = "a photo of a {}."
        self.name = f"Waterbirds ({size})"
        self.notes = _notes(rows)
        self._scaling = ScalingNotes(self.notes)
        self._sizes = [size_of(self._root / row["img_filename"]) for row in rows]
        self._check_there()
        self.has_masks = segmentations is not None
        self._masks = [] if segmentations is None else _masks(Path(segmentations), rows)

    @property
    def listing(self) -> list[str]:
        """The files with their sizes and groups, and those of the masks."""
        named = [
            f"{row['img_filename']} {size} {group_of(row)}"
            for row, size in zip(self._rows, self._sizes, strict=True)
        ]
        return [*named, *(f"{path.name} {size_of(path)}" for path in self._masks)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        number = position(index, len(self))
        row = self._rows[number]
        name = row["img_filename"]
        if self._sizes[number] is None:
            raise MissingImageError(f"not there: {readable(self._root / name)}")
        image, scaling = read_with_scaling(self._root / name)
        group = group_of(row)
        return Sample(
            readable(name),
            image,
            self.targets[number],
            read_segmentation(self._masks[number], image.size) if self.has_masks else None,
            facts={
                "group": GROUPS[group],
                "group_number": group,
                "place": PLACES[int(row["place"])],
                "species": readable(species_of(name).replace("_", " ")),
            },
            note=self._scaling.of(readable(name), scaling),
        )

    def _check_there(self) -> None:
        missing = [
            row["img_filename"]
            for row, size in zip(self._rows, self._sizes, strict=True)
            if size is None
        ]
        if len(missing) == len(self._rows):
            said = f"root: expected the images of metadata.csv, missing {some(missing)}"
            raise FileNotFoundError(f"{said} in {readable(self._root)}; the layout is\n{TREE}")
        if missing:
            self.notes.append(f"{len(missing)} images are not there: {some(missing)}")


def group_of(row: Mapping[str, str]) -> int:
    """The number of a row's group.

    Example:
        >>> group_of({"y": "1", "place": "0"})
        2
    """
    return 2 * int(row["y"]) + int(row["place"])


def species_of(name: str) -> str:
    """The species of an image, as its folder is named.

    Example:
        >>> species_of("021.Eastern_Towhee/Eastern_Towhee_0001_22314.jpg")
        'Eastern_Towhee'
    """
    return name.split("/")[0].partition(".")[2] or name.split("/")[0]


def read_segmentation(path: Path, size: tuple[int, int]) -> Tensor:
    """(H, W) bool: where a grey picture is at least `SURE`.

    Args:
        path: A picture in grey, or in colours that are grey.
        size: Width and height of the image.

    Raises:
        OSError: If the system cannot give the file now.
        ValueError: If it is damaged, of another size, or has no such pixel.
    """
    named = f"the mask {readable(path)}"
    with errors_named(named), Image.open(io.BytesIO(content_of(path))) as file:
        bands = np.asarray(file.convert("RGB" if file.mode in ("P", "RGB", "RGBA") else "L"))
    if (bands.shape[1], bands.shape[0]) != size:
        raise ValueError(
            f"expected the size of the image, {size[0]} x {size[1]}, got {bands.shape[1]} x "
            f"{bands.shape[0]}: {named}"
        )
    bird = bands.reshape(*bands.shape[:2], -1).max(axis=2) >= SURE
    if not bird.any():
        raise ValueError(f"no pixel of at least {SURE}: {named}")
    return torch.from_numpy(bird)


def _root(root: Path) -> Path:
    """The folder of metadata.csv."""
    check_existing_folder(root, "root")
    for folder in (root, root / _FOLDER):
        if (folder / "metadata.csv").is_file():
            return folder
    raise ValueError(unlike("root", "metadata.csv", root, TREE))


def _rows(path: Path) -> list[dict[str, str]]:
    """The rows of metadata.csv, checked."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        head = list(reader.fieldnames or ())
        missing = [name for name in _COLUMNS if name not in head]
        if missing:
            raise ValueError(
                f"root: expected the columns {', '.join(_COLUMNS)} in {readable(path)}, got "
                f"{', '.join(map(readable, head)) or 'none'}; the layout is\n{TREE}"
            )
        rows = [{name: str(row[name]).strip() for name in _COLUMNS} for row in reader]
    allowed = {"y": ("0", "1"), "place": ("0", "1"), "split": ("0", "1", "2")}
    for line, row in enumerate(rows, start=2):
        for name, values in allowed.items():
            if row[name] not in values:
                raise ValueError(
                    f"root: expected {name} to be one of {', '.join(values)}, got {row[name]!r} in "
                    f"line {line} of {readable(path)}"
                )
    twice = [name for name, n in Counter(row["img_filename"] for row in rows).items() if n > 1]
    if twice:
        raise ValueError(f"root: expected each image once in {readable(path)}, got {some(twice)}")
    return rows


def _notes(rows: list[dict[str, str]]) -> list[str]:
    """What is known to be wrong with the labels."""
    wrong = sum(row["y"] == "1" and species_of(row["img_filename"]) in _LAND_BIRDS for row in rows)
    if not wrong:
        return []
    return [
        f"{wrong} images of {', '.join(name.replace('_', ' ') for name in _LAND_BIRDS)} are "
        "labelled waterbird, as released, though these are land birds"
    ]


def _masks(folder: Path, rows: list[dict[str, str]]) -> list[Path]:
    """The mask of every row."""
    check_existing_folder(folder, "segmentations")
    paths = [(folder / row["img_filename"]).with_suffix(".png") for row in rows]
    missing = [f"{path.parent.name}/{path.name}" for path in paths if size_of(path) is None]
    if missing:
        raise FileNotFoundError(
            f"segmentations: expected a mask for each of the {len(rows)} images in "
            f"{readable(folder)}, missing {some(missing)}; the layout is\n{MASK_TREE}"
        )
    return paths
