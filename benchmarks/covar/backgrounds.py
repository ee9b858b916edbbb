"""Where backgrounds come from: a folder of pictures, or the textures of the drawn scenes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from cci_captum._checks import check_positive_int, check_seed
from cci_captum._files import check_existing_folder
from cci_captum.images import read_image
from cci_captum.tiny import BACKGROUND_NAMES

from ..data._tree import image_files, some
from ..scenes.textures import draw_texture
from .cutout import Background, shrunk
from .design import folder_of

_KEPT = 64  # pictures that stay in memory


class Backgrounds(Protocol):
    """Pictures by name, the same for all classes or each class's own.

    Attributes:
        name: Says in reports which these are.
    """

    name: str

    def names(self, class_name: str) -> tuple[str, ...]:
        """Of a class."""
        ...

    def get(self, class_name: str, name: str, photo: int, size: int) -> Background:
        """One of a class, for a photo by its number among all, in images of a size in pixels."""
        ...

    def provenance(self, class_name: str, name: str) -> str:
        """Where it comes from, such as a file's name."""
        ...

    @property
    def listing(self) -> Sequence[str]:
        """Texts that say which pictures these are, so that two runs can tell."""
        ...


class Textures:
    """The drawn textures of the scenes, each drawn anew for every photo.

    Args:
        names: Which; None is all twenty.
        seed: Of what is drawn.

    Raises:
        ValueError: If there is no such texture.

    Example:
        >>> textures = Textures(["grass", "snow"])
        >>> textures.names("cat"), textures.get("cat", "snow", 0, 32).picture.size
        (('grass', 'snow'), (32, 32))
    """

    def __init__(self, names: Sequence[str] | None = None, seed: int = 0) -> None:
        check_seed(seed)
        self._names = tuple(BACKGROUND_NAMES if names is None else names)
        if unknown := [name for name in self._names if name not in BACKGROUND_NAMES]:
            raise ValueError(
                f"backgrounds: expected some of {', '.join(BACKGROUND_NAMES)}, got {some(unknown)}"
            )
        self._seed = seed
        self.name = f"{len(self._names)} textures of scenes, seed {seed}"

    @property
    def listing(self) -> tuple[str, ...]:
        """See `Backgrounds`."""
        return (*self._names, f"seed {self._seed}")

    def names(self, class_name: str) -> tuple[str, ...]:
        """See `Backgrounds`."""
        return self._names

    def get(self, class_name: str, name: str, photo: int, size: int) -> Background:
        """See `Backgrounds`."""
        rng = np.random.default_rng((self._seed, photo, BACKGROUND_NAMES.index(name)))
        texture = draw_texture(name, rng, size)
        pixels = np.rint(texture.transpose(1, 2, 0) * 255).astype(np.uint8)
        return Background(name, Image.fromarray(np.ascontiguousarray(pixels)))

    def provenance(self, class_name: str, name: str) -> str:
        """See `Backgrounds`."""
        return f"drawn texture {name}"


class BackgroundFolder:
    """Pictures of a folder, for all classes; or of a folder a class within it.

    A background's name is the file's, without its suffix unless two differ by that alone.

    Args:
        root: Has the pictures; or folders named as the classes (with underscores for spaces) that
            have them.
        count: How many to take, drawn at random, of each class; None is all.
        seed: Of what is drawn.
        texts: Name -> what it shows, for editors that are told.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If it has neither pictures nor folders with some, or both; or fewer than count.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for name in ("beach", "street"):
        ...         Image.new("RGB", (40, 30)).save(Path(root) / f"{name}.png")
        ...     pictures = BackgroundFolder(root)
        ...     picture = pictures.get("cat", "beach", 0, 64).picture
        >>> pictures.names("cat"), picture.size
        (('beach', 'street'), (40, 30))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        count: int | None = None,
        seed: int = 0,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self._root = Path(root)
        check_existing_folder(self._root, "backgrounds")
        if count is not None:
            check_positive_int("count", count, " or None")
        check_seed(seed)
        self._texts = dict(texts or {})
        loose = image_files(self._root)
        folders = {
            entry.name: image_files(self._root / entry.name)
            for entry in sorted(os.scandir(self._root), key=lambda entry: entry.name)
            if entry.is_dir() and not entry.name.startswith(".")
        }
        own = {name: files for name, files in folders.items() if files}
        if bool(loose) == bool(own):
            got = f"{len(loose)} pictures and {len(own)} folders with some" if loose else "neither"
            raise ValueError(
                f"backgrounds: expected pictures in {self._root}, or a folder of pictures a class, "
                f"got {got}"
            )
        groups = own or {"": loose}
        self._files = {
            name: _by_stem(_drawn(files, count, seed, self._root / name))
            for name, files in groups.items()
        }
        self._kept: dict[tuple[str, str, int], Background] = {}
        total = sum(map(len, self._files.values()))
        drawn = "" if count is None else f", {count} drawn with seed {seed}"
        each = f" of {len(own)} classes" if own else ""
        self.name = f"{total} pictures of {self._root.resolve().name}{each}{drawn}"

    @property
    def listing(self) -> list[str]:
        """See `Backgrounds`: every file with its digest."""
        return [
            f"{group}/{file} {hashlib.sha256((self._root / group / file).read_bytes()).hexdigest()}"
            for group, files in self._files.items()
            for file in files.values()
        ]

    def names(self, class_name: str) -> tuple[str, ...]:
        """See `Backgrounds`.

        Raises:
            ValueError: If the class has no folder, where classes have their own.
        """
        return tuple(self._files[self._group(class_name)])

    def get(self, class_name: str, name: str, photo: int, size: int) -> Background:
        """See `Backgrounds`.

        Raises:
            OSError: If the file cannot be read now.
            ValueError: If it is damaged.
        """
        group = self._group(class_name)
        key = (group, name, size)
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            picture = shrunk(read_image(self._root / group / self._files[group][name]), size)
            self._kept[key] = Background(name, picture, self._texts.get(name, ""))
        return self._kept[key]

    def provenance(self, class_name: str, name: str) -> str:
        """See `Backgrounds`."""
        group = self._group(class_name)
        return "/".join(filter(None, [group, self._files[group][name]]))

    def _group(self, class_name: str) -> str:
        if "" in self._files:
            return ""
        for group in (class_name, folder_of(class_name), class_name.replace(" ", "_")):
            if group in self._files:
                return group
        raise ValueError(
            f"backgrounds: expected a folder {folder_of(class_name)!r} in {self._root}, got "
            f"{some(self._files)}"
        )


def _drawn(files: Sequence[str], count: int | None, seed: int, folder: Path) -> list[str]:
    if count is None:
        return list(files)
    if count > len(files):
        raise ValueError(f"backgrounds: expected {count} pictures in {folder}, got {len(files)}")
    order = np.random.default_rng(seed).permutation(len(files))
    return sorted(files[place] for place in order[:count])


def _by_stem(files: Sequence[str]) -> dict[str, str]:
    """Files by their names without suffix; with it where two have the same."""
    stems = [Path(file).stem for file in files]
    return {
        stem if stems.count(stem) == 1 else file: file
        for stem, file in zip(stems, files, strict=True)
    }
