"""The 20 names that 1 vs 20 tells apart: chosen once for each class, by one model, for all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cci_captum._checks import check_positive_int
from cci_captum._files import whole_file

from .measured import SCORES, finite_scores, measured_rows

PAPER_MODEL = "ViT-B-32,laion400m_e31"
"""The model that the paper chooses by, without QuickGELU as it seems; see docs/counteranimal.md."""

COUNT = 20


@dataclass(frozen=True)
class Candidates:
    """For each class, the names that are told apart on its photos.

    Attributes:
        labels: Index of a class -> indices of the classes whose names are candidates, the one that
            is most like its photos first. The class itself is one of them only if it ranks there.
        model: By which they were chosen.
        data: Whose photos.
        photos: Index of a class -> of how many photos, of both groups.

    Example:
        >>> Candidates({9: (9, 134)}, "tiny", "two photos", {9: 2}).of(9)
        (9, 134)
    """

    labels: Mapping[int, tuple[int, ...]]
    model: str
    data: str
    photos: Mapping[int, int]

    def of(self, index: int) -> tuple[int, ...]:
        """The candidates of a class.

        Raises:
            ValueError: If there are none.
        """
        if index not in self.labels:
            raise ValueError(
                f"candidates: expected those of class {index}, got some for {len(self.labels)} "
                f"other classes, chosen by {self.model} on {self.data}"
            )
        return self.labels[index]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to a file of JSON, which `load` reads."""
        with whole_file(Path(path)) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Candidates:
        """Read what `save` has written.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no such file.
        """
        found: Any = None
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            labels = {int(key): tuple(map(_index, row)) for key, row in found["labels"].items()}
            photos = {int(key): int(number) for key, number in found["photos"].items()}
            return cls(labels, str(found["model"]), str(found["data"]), photos)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: expected a JSON object with labels, model, data and photos, as "
                f"Candidates.save writes it, got {type(found).__name__} ({error!r})"
            ) from error


def choose_candidates(
    table: pd.DataFrame, count: int = COUNT, *, model: str = "", data: str = ""
) -> Candidates:
    """The names that a model finds most like the photos of each class.

    As appendix C.1 of the paper has it: by the mean score over all photos of the class, common and
    counter together; the true class is not put in or taken out. The paper's scores are cosines of
    one model, `PAPER_MODEL`; a CLIP's scores are cosines times a positive number, so that the order
    is the same. Means are float64, and of equal ones the class with the lower index comes first.

    Args:
        table: Of predictions, with the column "scores" of all classes.
        count: How many names a class.
        model: What the table is of, to be stored with the names.
        data: The same.

    Raises:
        ValueError: If there are no scores, fewer classes than count, or a score is not finite.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> scores = [np.float32([3, 1, 2]), np.float32([1, 2, 4])]
        >>> table = pd.DataFrame({"true": [0, 0], "status": ["", ""], "scores": scores})
        >>> choose_candidates(table, 2).labels
        {0: (2, 0)}
    """
    check_positive_int("count", count)
    rows = measured_rows(table)
    labels, photos = {}, {}
    for index, own in rows.groupby("true", sort=True):
        scores = finite_scores(own)
        if scores.shape[1] < count:
            raise ValueError(
                f"count: expected at most the {scores.shape[1]} classes of {SCORES}, got {count}"
            )
        mean = scores.mean(axis=0, dtype=np.float64)
        labels[int(index)] = tuple(np.argsort(-mean, kind="stable")[:count].tolist())
        photos[int(index)] = len(own)
    return Candidates(labels, model, data, photos)


def _index(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"no index of a class: {value!r}")
    return value
