"""Whether a name is one of a model, said at once: nothing is loaded, and little imported."""

from __future__ import annotations

import difflib
import sys
from importlib.util import find_spec
from pathlib import Path

from ..tiny.names import MODEL_NAMES as TINY_MODELS

HUGGING_FACE = "hf:"
_FOLDER = "local-dir:"
_WITH_WEIGHTS = (HUGGING_FACE, "hf-hub:", _FOLDER)


def check_name(name: str, pretrained: str | None = None) -> None:
    """Raise ValueError if there can be no model of that name with these weights.

    What a hub or a file holds is found out when the model is loaded. An unknown name is refused
    without importing open_clip, which takes seconds; its tags are looked up there.

    Args:
        name: See `load_clip`.
        pretrained: See `load_clip`.

    Raises:
        ValueError: If the name or tag is unknown, or a tag is missing, with what there is.

    Example:
        >>> check_name("tiny")
        >>> check_name("tiny", "openai")
        Traceback (most recent call last):
        ValueError: pretrained: 'tiny' comes with its weights; expected None, got 'openai'
    """
    if name in TINY_MODELS:
        if pretrained is not None:
            raise ValueError(
                f"pretrained: {name!r} comes with its weights; expected None, got {pretrained!r}"
            )
    elif name.startswith(_WITH_WEIGHTS):
        _check_source(name, pretrained)
    else:
        _check_open_clip(name.replace("/", "-"), pretrained)


def _check_source(name: str, pretrained: str | None) -> None:
    """A name that says where its weights are."""
    kind = next(kind for kind in _WITH_WEIGHTS if name.startswith(kind))
    source = name.removeprefix(kind)
    if not source:
        raise ValueError(f"name: expected a repository or folder after {name!r}, got nothing")
    folder = Path(source).expanduser()
    only_folder = kind == _FOLDER or folder.is_absolute() or source.startswith(".")
    if kind != "hf-hub:" and only_folder and not folder.is_dir():
        raise ValueError(f"name: expected a folder that exists, got {folder}")
    if kind == HUGGING_FACE and pretrained not in (None, "random"):
        raise ValueError(
            f"pretrained: {name!r} comes with its weights; expected None or 'random', got "
            f"{pretrained!r}"
        )


def _check_open_clip(name: str, pretrained: str | None) -> None:
    """A name of an architecture, and a tag of its weights."""
    names = [*TINY_MODELS, *_architectures()]
    if name not in names:
        close = difflib.get_close_matches(name, names, n=5, cutoff=0.4) or list(TINY_MODELS)
        raise ValueError(
            f"name: unknown model {name!r}; close ones: {', '.join(close)} "
            "(open_clip.list_models() lists all; Hugging Face checkpoints start with 'hf:')"
        )
    if pretrained == "random" or (pretrained and Path(pretrained).is_file()):
        return
    import open_clip

    if pretrained and open_clip.is_pretrained_cfg(name, pretrained):
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained is None:
        choice = ", ".join([*tags, "random"])
        raise ValueError(f"pretrained: {name} needs a tag of pretrained weights: {choice}")
    close = difflib.get_close_matches(pretrained, tags, n=5, cutoff=0.4) or tags
    raise ValueError(
        f"pretrained: expected a tag of {name} or a checkpoint file, got {pretrained!r}; close "
        f"tags: {', '.join(close)} (open_clip.list_pretrained_tags_by_model({name!r}) lists all)"
    )


def _architectures() -> list[str]:
    """Names that open_clip knows; where it is not imported yet, those of its files."""
    if "open_clip" not in sys.modules:
        spec = find_spec("open_clip")
        folders = (spec and spec.submodule_search_locations) or []
        files = [path for folder in folders for path in Path(folder).glob("model_configs/*.json")]
        if files:
            return sorted(path.stem for path in files)
    import open_clip

    return list(open_clip.list_models())
