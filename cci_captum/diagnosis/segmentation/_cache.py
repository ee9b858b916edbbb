"""Masks that were found before, kept on disk by what is in the image and what was asked."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from math import isnan, nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..._files import check_folder, whole_file
from ..._version import __version__
from .base import STATUSES, Segmentation

_FORMAT = 1  # of what is written; another is another key
_BYTES = 2**24  # of a tensor hashed at a time


class Found(NamedTuple):
    """What was found in an image.

    Attributes:
        segmentation: As `GroundedSAM` returns it.
        boxes: How many boxes were above the threshold.
        prompt: That they answer; the last that was tried, where there are none.
    """

    segmentation: Segmentation
    boxes: int = 0
    prompt: str = ""


class MaskCache:
    """A folder of masks: for each key a JSON file, and a PNG where there is a mask.

    Both are written whole or not at all, the PNG first, and the JSON holds its hash: what was
    interrupted, is damaged, or was mixed by two writers counts as not there.

    Args:
        folder: Made if there is none.
        facts: Of the models and options, which decide what is found: any JSON.

    Raises:
        NotADirectoryError: If folder is a file.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        check_folder(self.folder, "cache")
        self.folder.mkdir(parents=True, exist_ok=True)
        facts = {**facts, "cci_captum": __version__, "format": _FORMAT}
        self._facts = json.dumps(facts, sort_keys=True).encode()

    def key(self, image: Image.Image, prompts: Sequence[str]) -> str:
        """What tells an image with its prompts from all others, under these facts."""
        digest = hashlib.sha256(self._facts)
        digest.update(json.dumps([image.mode, image.size, list(prompts)]).encode())
        digest.update(np.asarray(image).data)
        return digest.hexdigest()

    def get(self, key: str, image: Image.Image) -> Found | None:
        """What is kept under a key, None where nothing whole is.

        Args:
            key: Of this image and its prompts.
            image: Whose size a mask has to have.
        """
        try:
            facts = json.loads(self._path(key, ".json").read_bytes())
            status, score = facts["status"], facts["score"]
            if status not in ("", *STATUSES):
                return None
            mask = None
            if not status:
                mask = _decoded(self._path(key, ".png").read_bytes(), facts["png"], image)
            segmentation = Segmentation(mask, status, nan if score is None else float(score))
            return Found(segmentation, int(facts["boxes"]), str(facts["prompt"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put(self, key: str, found: Found) -> None:
        """Keep what was found.

        Raises:
            OSError: If it cannot be written.
        """
        mask, status, score = found.segmentation
        facts = {
            "status": status,
            "score": None if isnan(score) else score,
            "boxes": found.boxes,
            "prompt": found.prompt,
            "png": None,
        }
        self._path(key, "").parent.mkdir(exist_ok=True)
        if mask is not None:
            content = _encoded(mask)
            facts["png"] = hashlib.sha256(content).hexdigest()
            with whole_file(self._path(key, ".png")) as path:
                path.write_bytes(content)
        with whole_file(self._path(key, ".json")) as path:
            path.write_text(json.dumps(facts), encoding="utf-8")

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}{suffix}"


def _encoded(mask: Tensor) -> bytes:
    file = io.BytesIO()
    Image.fromarray(mask.numpy()).save(file, format="PNG")
    return file.getvalue()


def _decoded(content: bytes, digest: str, image: Image.Image) -> Tensor:
    """Raises ValueError unless the content is the one that was written, for this size."""
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError("another content")
    with Image.open(io.BytesIO(content)) as file:
        mask = torch.from_numpy(np.array(file, dtype=bool))
    if tuple(mask.shape) != (image.height, image.width):
        raise ValueError("another size")
    return mask


def digest_of(model: nn.Module, processor: Any) -> str:
    """What tells a model from all others: its configuration, its processor's and its weights.

    Names do not: the same one may hold other weights tomorrow, and models in memory have none.
    """
    digest = hashlib.sha256()
    config: Any = model.config
    known = {"model": config.to_dict(), "image_processor": processor.image_processor.to_dict()}
    if hasattr(processor, "tokenizer"):
        known["vocabulary"] = processor.tokenizer.get_vocab()
    for part in known.values():
        for name in ("_name_or_path", "transformers_version"):
            part.pop(name, None)
    digest.update(json.dumps(known, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().contiguous().flatten()
        for piece in flat.split(_BYTES):
            digest.update(piece.cpu().view(torch.uint8).numpy().data)
    return digest.hexdigest()
