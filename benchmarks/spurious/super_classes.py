"""From ImageNet's 1000 classes to the nine of ImageNet-9."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from cci_captum.diagnosis.wordnet import ancestors, imagenet_ids
from cci_captum.names import readable

from ..data.imagenet9 import FOLDERS

NOUNS = (
    "n02084071",  # dog
    "n01503061",  # bird
    "n04576211",  # wheeled vehicle
    "n01661091",  # reptile
    "n02075296",  # carnivore
    "n02159955",  # insect
    "n03800933",  # musical instrument
    "n02469914",  # primate
    "n02512053",  # fish
)
"""What the nine classes hold: each kind of these nouns of WordNet."""

NONE = -1
"""What a class maps to that is of none of the nine."""

# Kinds of the nouns that the released table has in none of the nine.
_LEFT_OUT = (
    171, 172,  # Italian greyhound, whippet
    80, 81, 82, 83, 84, 85, 86,  # game birds and peacock
    575, 660,  # golfcart, mobile home
    281, 282, 283, 284, 285,  # domestic cats
)  # fmt: skip


@cache
def super_classes() -> tuple[int, ...]:
    """Which of the nine classes each of ImageNet's 1000 is of, -1 for none.

    By WordNet: a class is of the noun that it is a kind of, of the nearer one where of two, as dogs
    are carnivores. 16 kinds are of none: two greyhounds, seven game birds, two vehicles, five
    domestic cats. So it is the table released as in_to_in9.json, all 1000 entries, which was
    compared: 116, 52, 42, 36, 35, 27, 26, 20 and 16 classes, and 630 of none.

    Example:
        >>> [super_classes()[index] for index in (207, 281, 340)]  # retriever, cat, zebra
        [0, -1, -1]
    """
    found = []
    for index, wnid in enumerate(imagenet_ids()):
        near = [NOUNS.index(noun) for noun in ancestors(wnid) if noun in NOUNS]
        found.append(near[0] if near and index not in _LEFT_OUT else NONE)
    return tuple(found)


def read_super_classes(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """The table in a file such as in_to_in9.json.

    Args:
        path: A JSON object from "0" to "999" to a class, 0 to 8, or -1.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no such table.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as root:
        ...     path = Path(root) / "in_to_in9.json"
        ...     _ = path.write_text(json.dumps(dict(enumerate(super_classes()))))
        ...     read_super_classes(path) == super_classes()
        True
    """
    text = Path(path).read_text(encoding="utf-8")
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"path: no JSON in {readable(path)}: {error}") from error
    expected = {str(index) for index in range(len(imagenet_ids()))}
    if not isinstance(table, dict) or set(table) != expected:
        raise ValueError(f'path: expected entries "0" to "999" in {readable(path)}')
    values = tuple(table[str(index)] for index in range(len(table)))
    if not all(type(value) is int and NONE <= value < len(FOLDERS) for value in values):
        raise ValueError(f"path: expected classes from -1 to 8 in {readable(path)}")
    return values


class SuperClasses(nn.Module):
    """Scores of the nine classes and of anything else, from those of ImageNet's 1000.

    A class scores as the best of those it holds. So the prediction is what the best of the 1000
    maps to, as in the released code, and one that maps to nothing is the tenth class, `OTHER` of
    `cci_captum.benchmarks.data.imagenet9`: open the data with `others=True`. What is explained of
    a class is the best of those it holds, image by image.

    Args:
        classifier: Module from inputs to (B, 1000) scores in ImageNet's order, such as a
            `cci_captum.ZeroShotClassifier` of its names or a classifier of torchvision.
        table: Of each of the 1000, its class or -1; None is `super_classes`.

    Raises:
        TypeError: If classifier is no module.
        ValueError: If table has not 1000 entries from -1 to 8, or one class holds none.

    Example:
        >>> scores = torch.zeros(1, 1000)
        >>> scores[0, 207], scores[0, 340] = 2.0, 3.0  # golden retriever, zebra
        >>> SuperClasses(nn.Identity())(scores)[0, [0, 1, 9]].tolist()
        [2.0, 0.0, 3.0]
    """

    def __init__(self, classifier: nn.Module, table: Sequence[int] | None = None) -> None:
        super().__init__()
        if not isinstance(classifier, nn.Module):
            raise TypeError(f"classifier: expected a module, got {type(classifier).__name__}")
        places = list(super_classes() if table is None else table)
        if len(places) != len(imagenet_ids()) or not set(places) <= {NONE, *range(len(FOLDERS))}:
            raise ValueError("table: expected 1000 entries from -1 to 8")
        if set(places) != {NONE, *range(len(FOLDERS))}:
            raise ValueError("table: expected at least one entry of each class, and of -1")
        self.classifier = classifier
        order = [*range(len(FOLDERS)), NONE]
        held = [[index for index, at in enumerate(places) if at == place] for place in order]
        self._held = [torch.tensor(indices) for indices in held]

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, 10) scores.

        Raises:
            ValueError: If the classifier's scores are not of 1000 classes.
        """
        scores = self.classifier(*inputs)
        if scores.ndim != 2 or scores.shape[1] != len(imagenet_ids()):
            raise ValueError(
                "classifier: expected scores of 1000 classes, (B, 1000), got shape "
                f"{tuple(scores.shape)}"
            )
        best = [scores[:, held.to(scores.device)].amax(dim=1) for held in self._held]
        return torch.stack(best, dim=1)


class NineClasses(nn.Module):
    """Scores of the nine classes with a tenth that is never the best, for data with `others=True`.

    For a zero-shot classifier of the nine names, which has to choose one of them, beside models of
    1000 classes on the same data. The tenth scores as the worst of the nine less 1.

    Args:
        classifier: Module from inputs to (B, 9) scores.

    Raises:
        TypeError: If classifier is no module.

    Example:
        >>> NineClasses(nn.Identity())(torch.arange(9.0)[None])[0, -2:].tolist()
        [8.0, -1.0]
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        if not isinstance(classifier, nn.Module):
            raise TypeError(f"classifier: expected a module, got {type(classifier).__name__}")
        self.classifier = classifier

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, 10) scores.

        Raises:
            ValueError: If the classifier's scores are not of nine classes.
        """
        scores = self.classifier(*inputs)
        if scores.ndim != 2 or scores.shape[1] != len(FOLDERS):
            raise ValueError(
                f"classifier: expected scores of 9 classes, (B, 9), got shape {tuple(scores.shape)}"
            )
        return torch.cat([scores, scores.amin(dim=1, keepdim=True) - 1], dim=1)
