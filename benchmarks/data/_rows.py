"""What rows of any data set hold, and what the data set says of them without their images."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import IMAGENET_CLASSNAMES
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor

from cci_captum.images import read_with_scaling
from cci_captum.names import readable

from ._pixels import Picture, to_image
from ._tree import size_of, some
from .class_names import spaced

Key = int | str
"""Of a field of a row: its place in a tuple, or its name in a mapping."""

_LABELS = ("targets", "labels", "_labels")  # what torchvision's data sets call them


def length_of(dataset: Any) -> int:
    """How many rows there are.

    Raises:
        TypeError: If dataset is no data set of map style.
        ValueError: If it has no rows.
    """
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(repr, dataset))
        raise TypeError(f"dataset: expected one split, got a mapping of {splits or 'nothing'}")
    if isinstance(dataset, str | bytes | Tensor | np.ndarray):
        raise TypeError(f"dataset: expected rows by number, got {type(dataset).__name__}")
    try:
        length = len(dataset)
    except TypeError:
        raise TypeError(
            "dataset: expected a length and rows by number (map style), got "
            f"{type(dataset).__name__}; of a stream, take some rows into a list"
        ) from None
    if not hasattr(dataset, "__getitem__"):
        raise TypeError(f"dataset: expected rows by number, got {type(dataset).__name__}")
    if not length:
        raise ValueError(
            f"dataset: expected at least one row, got an empty {dataset_name(dataset)}"
        )
    return length


def check_transforms(dataset: Any) -> None:
    """Raise ValueError if a transform, here or under subsets, normalises as torchvision's does."""
    while dataset is not None:
        for attribute in ("transform", "transforms"):
            transform = getattr(dataset, attribute, None)
            if transform is not None and "Normalize(" in repr(transform):
                raise ValueError(
                    f"dataset: expected images as they are, got a {attribute} that normalises "
                    "them; leave that to the model's preprocess"
                )
        dataset = _parent(dataset)


def _parent(dataset: Any) -> Any:
    """What a torch `Subset` is a subset of; None of all others."""
    return getattr(dataset, "dataset", None) if hasattr(dataset, "indices") else None


def field_of(row: Any, argument: str, key: Key | None, place: int, number: int) -> Any:
    """A field of a row; key None is its usual one, which is named as the argument."""
    if isinstance(row, Mapping):
        key = argument if key is None else key
        if key in row:
            return row[key]
        there = f"a mapping with {some(map(str, row))}"
    elif isinstance(row, tuple | list):
        key = place if key is None else key
        if isinstance(key, int) and -len(row) <= key < len(row):
            return row[key]
        there = f"a {type(row).__name__} of {len(row)}"
    else:
        key = place if key is None else key
        there = type(row).__name__
    raise ValueError(f"{argument}: expected {key!r} in every row, got {there} in row {number}")


def column_of(dataset: Any, key: Key | None, usual: str = "") -> list[Any] | None:
    """One field of every row, where no image has to be read for it; else None.

    Args:
        dataset: The rows.
        key: See `_field`.
        usual: The name of the argument, where key may be None or an attribute may say it.
    """
    if isinstance(dataset, list | tuple):
        return [field_of(row, usual or "captions", key, 1, n) for n, row in enumerate(dataset)]
    name = usual if key is None else key
    if name in (getattr(dataset, "column_names", None) or ()):
        plain = dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
        return list(plain[name])
    parent = _parent(dataset)
    if parent is not None:
        column = column_of(parent, key, usual)
        return None if column is None else [column[index] for index in dataset.indices]
    if not usual or key not in (None, 1) or _changes_labels(dataset):
        return None
    for attribute in _LABELS:
        labels = getattr(dataset, attribute, None)
        if isinstance(labels, list | tuple | np.ndarray | Tensor) and len(labels) == len(dataset):
            return labels.tolist() if isinstance(labels, np.ndarray | Tensor) else list(labels)
    return None


def _changes_labels(dataset: Any) -> bool:
    joint = getattr(dataset, "transforms", None)
    changed = [getattr(dataset, "target_transform", None), getattr(joint, "target_transform", None)]
    return any(transform is not None for transform in changed)


def declared_names(dataset: Any, key: Key | None) -> tuple[str, ...]:
    """The class names that the data set says; none if it says none."""
    while dataset is not None:
        features = getattr(dataset, "features", None)
        names: Any = None
        if isinstance(features, Mapping):
            names = getattr(features.get("label" if key is None else key), "names", None)
        elif key in (None, 1):
            names = getattr(dataset, "classes", None)
        if isinstance(names, list | tuple) and names:
            first = [name if isinstance(name, str) else name[0] for name in names]
            ids = ImageNetInfo("imagenet-1k").label_names()
            known = dict(zip(ids, IMAGENET_CLASSNAMES, strict=True))
            return tuple(known.get(name, spaced(name)) for name in first)
        dataset = _parent(dataset)
    return ()


def as_caption(value: Any, place: int) -> tuple[str, ...]:
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise TypeError(
            f"captions: expected a string or several, got {type(value).__name__} in row {place}"
        )
    return tuple(texts)


def is_picture(value: Any) -> bool:
    kinds = (str, bytes, os.PathLike, Image.Image, np.ndarray, Tensor)
    return isinstance(value, kinds) or _is_encoded(value)


def _is_encoded(value: Any) -> bool:
    """Whether this is an image as Hugging Face keeps it."""
    return isinstance(value, Mapping) and bool({"bytes", "path"} & set(value))


def _path_of(value: Any) -> str:
    """The file an image is from, as the data set says it, or ""."""
    if _is_encoded(value):
        value = value.get("path")
    elif isinstance(value, Image.Image):
        value = getattr(value, "filename", "")
    return os.fspath(value) if isinstance(value, str | os.PathLike) else ""


def name_of(value: Any, place: int) -> str:
    path = _path_of(value)
    return f"image {place} ({readable(path)})" if path else f"image {place}"


def picture_of(value: Any, name: str) -> Picture:
    if isinstance(value, str | os.PathLike):
        return Picture(*read_with_scaling(value))
    if _is_encoded(value):
        content = value.get("bytes")
        value = Path(value["path"]) if content is None else content
        return picture_of(value, name)
    return to_image(value, name)


def dataset_name(dataset: Any) -> str:
    """What a data set is called: its own name, and its split where it has one."""
    parent = _parent(dataset)
    if parent is not None:
        return f"part of {dataset_name(parent)}"
    info = getattr(dataset, "info", None)
    name = getattr(info, "dataset_name", None) or type(dataset).__name__
    split = getattr(dataset, "split", None)
    return f"{name}" if split is None or callable(split) else f"{name} {split}"


def listing_of(dataset: Any, image: Key | None) -> list[str]:
    own = getattr(dataset, "listing", None)
    if own is not None:
        return [str(text) for text in own]
    if isinstance(fingerprint := getattr(dataset, "_fingerprint", None), str):
        return [fingerprint]
    parent = _parent(dataset)
    if parent is not None:
        return [*listing_of(parent, image), str([int(index) for index in dataset.indices])]
    if (images := images_at_hand(dataset, image)) is not None:
        return [_identity(value) for value in images]
    pixels = getattr(dataset, "data", None)
    if isinstance(pixels, np.ndarray | Tensor):
        return [_identity(pixels)]
    return [re.sub(r" at 0x[0-9a-f]+", "", repr(dataset))]


def images_at_hand(dataset: Any, image: Key | None) -> list[Any] | None:
    """The image of every row, or its path, where no row has to be read for it; else None."""
    if isinstance(dataset, list | tuple):
        return [field_of(row, "image", image, 0, place) for place, row in enumerate(dataset)]
    samples = getattr(dataset, "samples", None)
    if isinstance(samples, list) and all(isinstance(row, tuple) and row for row in samples):
        return [row[0] for row in samples]
    return None


def missing_files(dataset: Any, image: Key | None) -> set[int]:
    """Places of rows whose image is a file that is not there, as far as rows need not be read."""
    parent = _parent(dataset)
    if parent is not None:
        missing = missing_files(parent, image)
        return {place for place, index in enumerate(dataset.indices) if int(index) in missing}
    found = set()
    for place, value in enumerate(images_at_hand(dataset, image) or ()):
        if _is_encoded(value) and value.get("bytes") is None:
            value = value.get("path")
        if isinstance(value, str | os.PathLike) and size_of(Path(value)) is None:
            found.add(place)
    return found


def _identity(value: Any) -> str:
    """Which image a value is: its file and its size, or a digest of what is in memory."""
    if _is_encoded(value) and value.get("bytes") is not None:
        value = value["bytes"]
    path = _path_of(value)
    if path:
        size = os.path.getsize(path) if os.path.exists(path) else "missing"
        return f"{readable(path)} {size}"
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        shape, content = (
            (value.dtype, *value.shape),
            value.flatten().view(torch.uint8).numpy().tobytes(),
        )
    elif isinstance(value, np.ndarray):
        shape, content = (value.dtype, *value.shape), value.tobytes()
    elif isinstance(value, Image.Image):
        shape, content = (value.mode, *value.size), value.tobytes()
    elif isinstance(value, bytes):
        shape, content = ("bytes",), value
    else:
        return type(value).__name__
    return f"{' '.join(map(str, shape))} {hashlib.sha256(content).hexdigest()}"
