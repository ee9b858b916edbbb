"""How images are written: as files in folders, or as shards of WebDataset; whole or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from cci_captum._files import whole_file

Format = Literal["folders", "webdataset"]
Encoding = Literal["png", "jpg"]

SHARDS = "shards"
"""Folder of the shards."""

_QUALITY = 95


class Written(NamedTuple):
    """An image that is to be written, as bytes.

    Attributes:
        number: Of the image.
        folder: Of its class.
        name: Of its files, without a suffix.
        target: Of its class.
        image: Its content.
        mask: That of its mask.
        facts: What is known of it.
    """

    number: int
    folder: str
    name: str
    target: int
    image: bytes
    mask: bytes
    facts: Mapping[str, Any]


class Place(NamedTuple):
    """Where an image and its mask are.

    Attributes:
        image_path: Of the file, in the set's folder, with "/".
        image_offset: First byte of the image in it.
        image_bytes: How many there are.
        image_sha256: Digest of these.
        mask_path: The same of its mask.
        mask_offset: The same.
        mask_bytes: The same.
        mask_sha256: The same.
    """

    image_path: str
    image_offset: int
    image_bytes: int
    image_sha256: str
    mask_path: str
    mask_offset: int
    mask_bytes: int
    mask_sha256: str


def encoded(picture: Image.Image, encoding: Encoding) -> bytes:
    """A picture as the content of a file, always the same."""
    file = io.BytesIO()
    if encoding == "png":
        picture.save(file, "PNG", compress_level=3)
    else:
        picture.save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue()


def encoded_mask(mask: np.ndarray) -> bytes:
    """A mask (H, W) bool as a PNG of one bit."""
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    return file.getvalue()


def write_folders(out: Path, images: Sequence[Written], encoding: Encoding) -> list[Place]:
    """Write images/<class>/<name>.png or .jpg, and masks/<class>/<name>.png."""
    places = []
    for image in images:
        paths = [
            f"images/{image.folder}/{image.name}.{encoding}",
            f"masks/{image.folder}/{image.name}.png",
        ]
        for path, content in zip(paths, (image.image, image.mask), strict=True):
            _write(out / path, content)
        places.append(_place(image, (paths[0], 0), (paths[1], 0)))
    return places


def write_shard(
    out: Path, block: int, images: Sequence[Written], encoding: Encoding
) -> list[Place]:
    """Write shards/<block>.tar: of each image itself, .mask.png, .json and .cls, its class."""
    path = f"{SHARDS}/{block:06d}.tar"
    content, places = io.BytesIO(), []
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as shard:
        for image in images:
            key = f"{image.number:07d}"
            facts = json.dumps(dict(image.facts), sort_keys=True).encode()
            at = [
                _add(shard, f"{key}.{suffix}", part)
                for suffix, part in (
                    (encoding, image.image),
                    ("mask.png", image.mask),
                    ("json", facts),
                    ("cls", str(image.target).encode()),
                )
            ]
            places.append(_place(image, (path, at[0]), (path, at[1])))
    _write(out / path, content.getvalue())
    return places


def check_format(format_: str, encoding: str) -> None:
    """Raise ValueError unless there are such a format and encoding."""
    for argument, value, known in (
        ("format", format_, get_args(Format)),
        ("encoding", encoding, get_args(Encoding)),
    ):
        if value not in known:
            raise ValueError(f"{argument}: expected one of {', '.join(known)}, got {value!r}")


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _place(image: Written, picture: tuple[str, int], mask: tuple[str, int]) -> Place:
    return Place(
        *picture, len(image.image), digest(image.image), *mask, len(image.mask), digest(image.mask)
    )


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> int:
    """Add a file that is the same whoever adds it when; its first byte in the shard."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644  # owner and time are 0
    shard.addfile(member, io.BytesIO(content))
    whole = -(-len(content) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return int(shard.offset) - whole


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
