"""Captions of scenes, and the words of the tiny model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cci_captum.tiny import BACKGROUND_NAMES, CLASS_NAMES, TEMPLATES
from cci_captum.tiny.loader import tokenizer

_OPENINGS = ("{}", "a photo of {}", "a picture of {}", "an image of {}")

FRAMES: tuple[str, ...] = _OPENINGS + tuple(f"{opening}." for opening in _OPENINGS)
"""What captions are put into in training, one for a whole batch, so that equal captions stay
equal texts."""

_PLURALS = {
    "octopus": "octopuses",
    "fish": "fish",
    "grapes": "grapes",
    "bus": "buses",
    "cactus": "cactuses",
    "ladybug": "ladybugs",
    "strawberry": "strawberries",
}


def plural(name: str) -> str:
    """Return the plural of a class name.

    Example:
        >>> plural("strawberry"), plural("cat")
        ('strawberries', 'cats')
    """
    return _PLURALS.get(name, f"{name}s")


def caption(classes: Sequence[int], background: int, draws: Sequence[float]) -> str:
    """Return a caption for a scene.

    Args:
        classes: Indices of the classes of its objects: none, one, two, or the same twice.
        background: Index of its background.
        draws: Three numbers in [0, 1) that decide what is said.

    Example:
        >>> caption((0,), 2, (0.6, 0.0, 0.0))
        'a penguin on snow'
        >>> caption((0, 0), 2, (0.0, 0.0, 0.0))
        'two penguins'
    """
    behind = BACKGROUND_NAMES[background]
    say, which, order = draws
    if not classes or say >= 0.9:
        return behind
    names = [CLASS_NAMES[i] for i in classes]
    if len(names) == 2 and names[0] == names[1]:
        objects = f"two {plural(names[0])}"
    elif len(names) == 2 and which < 0.7:
        objects = " and ".join(f"a {name}" for name in (names if order < 0.5 else names[::-1]))
    else:
        objects = f"a {names[0] if order < 0.5 else names[-1]}"
    return objects if say < 0.55 else f"{objects} on {behind}"


def vocabulary() -> list[str]:
    """Return texts that hold every token that training can use."""
    words = [*FRAMES, *TEMPLATES, *BACKGROUND_NAMES, "two", "and", "on"]
    words += [f"a {name} {plural(name)}" for name in CLASS_NAMES]
    return [word.replace("{}", " ") for word in words]


class Vocabulary:
    """The tokens that training uses, renumbered without gaps and in the same order.

    Training only these rows of the token embedding saves most of an optimizer step. The order
    matters: open_clip finds the end of a text as its largest token.
    """

    def __init__(self) -> None:
        self._tokenize = tokenizer()
        self.token_ids = torch.unique(self._tokenize(vocabulary()))

    def __len__(self) -> int:
        return len(self.token_ids)

    def encode(self, texts: list[str]) -> Tensor:
        """Return renumbered tokens (B, 16) int64.

        Raises:
            ValueError: If a text has a token outside the vocabulary.
        """
        tokens = self._tokenize(texts)
        rows = torch.searchsorted(self.token_ids, tokens).clamp(max=len(self) - 1)
        if not torch.equal(self.token_ids[rows], tokens):
            raise ValueError(f"texts: expected only words of the vocabulary, got {texts}")
        return rows
