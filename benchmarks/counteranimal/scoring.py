"""1 vs 20 for any model that can score a text for an image, such as a large vision-language model.

The paper asks such a model what the main object of the photo is, and takes the candidate with the
lowest language-model loss of the answer "A <name>" (appendix C.3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from cci_captum._checks import check_positive_int
from cci_captum._progress import progress_bar
from cci_captum.images import could_not_be_read_now
from cci_captum.models.ranking import predicted

from ..data import ImageData, Sample
from .candidates import Candidates
from .measured import SCORES

Scorer = Callable[[list[Image.Image], list[str]], Any]
"""From B images and K texts to scores (B, K), a tensor, array or lists: higher is likelier."""


def score_candidates(
    scorer: Scorer,
    data: ImageData,
    candidates: Candidates,
    *,
    answer: str = "A {}",
    names: Sequence[str] | None = None,
    batch_size: int = 8,
    progress: bool = False,
) -> pd.DataFrame:
    """The predictions of any scorer among the candidates of each photo's class.

    Args:
        scorer: See `Scorer`; for a language model minus the loss of each text as its answer.
            docs/counteranimal.md has one of transformers.
        data: Photos with the classes of candidates, such as `CounterAnimal`.
        candidates: What is told apart: chosen once, by one model, for all.
        answer: What a text says, with {} for the name.
        names: Of all classes; None is the data's.
        batch_size: Photos at a time, all of one class.
        progress: Whether to show a bar.

    Returns:
        A table of predictions, a row an image in the order of the data, for `accuracies(table,
        candidates)`. "scores" (C,) are minus infinity where a class is no candidate.

    Raises:
        OSError: If an image cannot be read now, which says nothing about it.
        ValueError: If a class has no candidates, the scorer gives scores of another shape, or an
            argument is not one of these.

    Example:
        >>> from cci_captum.benchmarks.counteranimal import Candidates, score_candidates
        >>> from cci_captum.benchmarks.data import Scenes
        >>> data = Scenes(2)
        >>> chosen = Candidates({t: (t, 0, 1) for t in data.targets}, "me", data.name, {})
        >>> def first_is_best(images, texts):
        ...     return [[-float(place) for place, _ in enumerate(texts)] for _ in images]
        >>> table = score_candidates(first_is_best, data, chosen)
        >>> (table["predicted"] == table["true"]).tolist()
        [True, True]
    """
    check_positive_int("batch_size", batch_size)
    if "{}" not in answer:
        raise ValueError(f"answer: expected a text with {{}} for the name, got {answer!r}")
    names = tuple(data.class_names if names is None else names)
    if len(names) != len(data.class_names):
        raise ValueError(f"names: expected {len(data.class_names)}, got {len(names)}")
    places: dict[int, list[int]] = {}
    for place, target in enumerate(data.targets):
        places.setdefault(int(target), []).append(place)
    labels = {target: list(candidates.of(target)) for target in places}
    rows: list[dict[str, Any]] = []
    with progress_bar(progress, len(data), "scores", unit="img") as bar:
        for target, own in places.items():
            texts = [answer.replace("{}", names[label]) for label in labels[target]]
            for start in range(0, len(own), batch_size):
                part = own[start : start + batch_size]
                rows += _scored(scorer, data, part, target, texts, labels[target])
                bar.update(len(part))
    table = pd.DataFrame(rows).sort_values("index", ignore_index=True)
    first = ["index", "image", "source", "true", "predicted", "status"]
    facts = [name for name in table if name not in (*first, SCORES)]
    return table[[*first, *facts, SCORES]]


def _scored(
    scorer: Scorer,
    data: ImageData,
    places: Sequence[int],
    target: int,
    texts: list[str],
    labels: list[int],
) -> list[dict[str, Any]]:
    """Rows of a few photos of one class."""
    rows: list[dict[str, Any]] = []
    samples: list[tuple[int, Sample]] = []
    for place in places:
        try:
            samples.append((place, data[place]))
        except (OSError, ValueError) as error:
            if could_not_be_read_now(error):
                raise
            unread = {"image": None, "source": None, "predicted": -1, SCORES: None}
            rows.append({"index": place, "true": target, "status": str(error), **unread})
    if not samples:
        return rows
    scores = _checked(scorer([sample.image for _, sample in samples], texts), len(samples), texts)
    best = predicted(torch.from_numpy(scores)).tolist()
    for (place, sample), own, guess in zip(samples, scores, best, strict=True):
        everywhere = np.full(len(data.class_names), -np.inf, dtype=np.float32)
        everywhere[labels] = own
        row = {
            "index": place,
            "image": sample.name,
            "source": sample.source or sample.name,
            "true": target,
            "predicted": labels[guess] if guess >= 0 else -1,
            "status": "",
        }
        rows.append({**row, **sample.facts, SCORES: everywhere})
    return rows


def _checked(scores: Any, images: int, texts: Sequence[str]) -> np.ndarray:
    """Scores as float32."""
    if isinstance(scores, torch.Tensor):
        scores = scores.detach().float().cpu().numpy()
    found = np.asarray(scores, dtype=np.float32)
    if found.shape != (images, len(texts)):
        raise ValueError(
            f"scorer: expected scores ({images}, {len(texts)}), of each image and text, got shape "
            f"{found.shape}"
        )
    return found
