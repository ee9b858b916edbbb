"""The folder of a saved `Explanation`: JSON, safetensors and PNG."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ._files import as_open_makes_it
from ._version import __version__
from .attribution.field_of_view import FieldOfView
from .effects import ClusterEffects
from .explained_words import ExplainedWords
from .models.words import Word

_FACTS = "explanation.json"
_TENSORS, _EFFECTS = "maps.safetensors", "effects.safetensors"
_WORDS, _WORD_EFFECTS = "words.safetensors", "word_effects.safetensors"

_TEXTS = ("names", "texts", "field_of_view", "model", "method", "score")  # kept as they are
_NUMBERS = ("scores", "similarities", "maps", "inputs")


def write(explanation: Any, folder: Path) -> None:
    """What `Explanation.save` does.

    Raises:
        FileExistsError: See there.
    """
    if folder.exists() and not (folder / _FACTS).is_file() and _holds_something(folder):
        raise FileExistsError(
            f"folder: expected a new or empty one, or a saved explanation, got {folder}"
        )
    part = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _fill(part, explanation)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read(folder: Path) -> dict[str, Any]:
    """The fields of what was written.

    Raises:
        FileNotFoundError: If there is no such folder, or it lacks a file.
        ValueError: If it is of something else.
    """
    facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    if not isinstance(facts, dict) or "field_of_view" not in facts:
        raise ValueError(f"folder: expected a saved explanation, got {folder}")
    photos = []
    for index in range(len(facts["names"])):
        with Image.open(folder / f"{index}.png") as image:
            photos.append(image.convert("RGB"))
    fields = {name: _tuples(facts[name]) for name in _TEXTS}
    fields |= {"photos": tuple(photos), "covered": FieldOfView(**facts["covered"])}
    fields |= {"effects": _effects(folder / _EFFECTS), **load_file(folder / _TENSORS)}
    if facts.get("words") is not None:
        fields["words"] = ExplainedWords(
            words=tuple(tuple(Word(*_tuples(word)) for word in own) for own in facts["words"]),
            effects=_effects(folder / _WORD_EFFECTS),
            **load_file(folder / _WORDS),
        )
    return fields


def _fill(folder: Path, explanation: Any) -> None:
    words = explanation.words
    facts = {name: getattr(explanation, name) for name in _TEXTS}
    facts |= {"covered": asdict(explanation.covered), "cci_captum": __version__}
    facts["words"] = None if words is None else words.words
    text = json.dumps(facts, indent=1, ensure_ascii=False)
    (folder / _FACTS).write_text(text, encoding="utf-8")
    _save(folder / _TENSORS, {name: getattr(explanation, name) for name in _NUMBERS})
    effects = {_EFFECTS: explanation.effects}
    if words is not None:
        _save(folder / _WORDS, {"drops": words.drops, "maps": words.maps})
        effects[_WORD_EFFECTS] = words.effects
    for file, found in effects.items():
        if found is not None:
            found.save(folder / file)
    for index, photo in enumerate(explanation.photos):
        photo.save(folder / f"{index}.png")


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    own_memory = torch.contiguous_format  # no two in one place, which the format refuses
    save_file({name: t.clone(memory_format=own_memory) for name, t in tensors.items()}, path)
    as_open_makes_it(path)


def _effects(path: Path) -> ClusterEffects | None:
    return ClusterEffects.load(path) if path.exists() else None


def _tuples(value: Any) -> Any:
    """Lists, as JSON has them, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _holds_something(path: Path) -> bool:
    return not path.is_dir() or next(path.iterdir(), None) is not None
