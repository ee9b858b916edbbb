"""The predictions of a model as a run: unit by unit, kept in a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from PIL import Image
from torch import Tensor, nn

from cci_captum._checks import check_positive_int
from cci_captum.models.preprocessing import Preprocess
from cci_captum.models.ranking import predicted

from ..comparison.plan import Key, Plan, configuration
from ..comparison.store import MemoryStore, Store, fill
from ..comparison.tables import samples_of
from ..data import ImageData, Sample
from ..tasks import Classification, Loaded, Reader

SCORES = "scores"
"""Column of the scores of all classes, where they are kept."""


class _WholePhotos(Reader):
    """Reads photos as a model's preprocess takes them, whatever part of them it sees."""

    def _prepared(self, sample: Sample) -> tuple[Sample, Tensor]:
        inputs = self.preprocess(sample.image)
        return replace(sample, image=Image.new("RGB", (1, 1)), mask=None), inputs


class _Recognition(Classification):
    """Images to recognise, by a model that need not be one whose patches can be hidden."""

    def __init__(self, data: ImageData, forward_func: nn.Module, preprocess: Preprocess) -> None:
        super().__init__(data, forward_func, preprocess)
        self.has_masks = False
        self.reader = _WholePhotos(self.data, preprocess)

    def _encoder(self) -> nn.Module:
        return self.forward_func


class PredictionRun:
    """What a model says of the images of a data set, block by block.

    Each image goes through the model once, as its own preprocess makes it: nothing is explained, so
    that any classifier will do, a ResNet too.

    Args:
        data: Images of classes.
        classifier: Module from inputs to (B, C) scores of the data's classes.
        preprocess: From a PIL image to an input (3, H, W) of the model.
        keep_scores: Whether the scores of all classes are kept, 4 bytes each.
        batch_size: Images at a time.
        model: Its name.
        about: What else a report should know, for the plan's settings; it changes nothing.

    Attributes:
        task: What is read.
        plan: Its units, and all that decides their numbers.

    Raises:
        TypeError: If classifier is no module, or data are no images.
        ValueError: If there are no images, or a number is out of its range.

    Example:
        >>> import cci_captum
        >>> from cci_captum.benchmarks.data import Scenes
        >>> from cci_captum.benchmarks.predictions import PredictionRun
        >>> clip, scenes = cci_captum.load_clip("tiny"), Scenes(3)
        >>> classifier = cci_captum.ZeroShotClassifier(
        ...     clip.model, clip.tokenizer, scenes.class_names, scenes.templates
        ... )
        >>> table = PredictionRun(scenes, classifier, clip.preprocess).all()
        >>> table[["image", "true", "background"]].values.tolist()[0]
        ['scene 0', 8, 'grass']
    """

    def __init__(
        self,
        data: ImageData,
        classifier: nn.Module,
        preprocess: Preprocess,
        *,
        keep_scores: bool = False,
        batch_size: int = 32,
        model: str = "",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        check_positive_int("batch_size", batch_size)
        self.task = _Recognition(data, classifier, preprocess)
        self._keep_scores = keep_scores
        configured = configuration(
            self.task, [], measured="predictions", scores=keep_scores, batch_size=batch_size
        )
        settings = {
            **self.task.settings(),
            "model": model,
            "class_names": list(data.class_names),
            "notes": list(getattr(data, "notes", ())),
            **(about or {}),
        }
        self.plan = Plan(configured, model, len(self.task), batch_size, {"": ""}, settings)

    def maps_of(self, key: Key) -> int:
        """None; what is counted is images, one a unit's item."""
        return 1

    def measure(
        self, places: Sequence[int], keys: Iterable[Key], loaded: Loaded | None = None
    ) -> Iterator[tuple[Key, pd.DataFrame]]:
        """The unit of a block; see `cci_captum.benchmarks.comparison.Run`.

        Yields:
            Key and rows, an image each.
        """
        for key in keys:
            yield key, self._rows(self.task.reader(places) if loaded is None else loaded)

    def all(self, store: Store | None = None) -> pd.DataFrame:
        """Measure what a store lacks, and give the table; see `predictions_of`."""
        store = MemoryStore() if store is None else store
        store.begin(self.plan)
        fill(store, self)
        return predictions_of(self.plan, store)

    def _rows(self, loaded: Loaded) -> pd.DataFrame:
        scores = None
        if loaded.inputs is not None:
            scores = self.task.scores(loaded.inputs.to(self.task.device))
        guesses = [] if scores is None else predicted(scores).tolist()
        frame = samples_of(self.task, self.task.batch_of(loaded, guesses), loaded.errors)
        frame["target"] = [self.task.data.targets[index] for index in frame["index"]]
        if self._keep_scores:
            kept = [] if scores is None else list(scores.float().cpu().numpy())
            frame[SCORES] = pd.Series([*kept, *[None] * (len(frame) - len(kept))], dtype=object)
        return frame


def predictions_of(plan: Plan, store: Store) -> pd.DataFrame:
    """All units of a plan as a table, a row an image.

    Args:
        plan: Of a `PredictionRun`.
        store: That has all of its units.

    Returns:
        In the order of the data: "index", "image", "source", "true" and "predicted", indices of
        classes, -1 where no class alone scores highest or the image could not be read; what the
        data know of each; "status", "" or why it was not measured; "scores", float32 (C,), where
        they were kept. Of an image that could not be read only its index, class and status are
        known.

    Raises:
        ValueError: If a unit is missing.
    """
    return known_of(store.load(plan.all_keys()))


def known_of(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """What is known of images without any method, in the order of the data.

    Args:
        frames: Units of `cci_captum.benchmarks.comparison.tables.samples_of`.

    Returns:
        See `predictions_of`.
    """
    table = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    table = table.sort_values("index", ignore_index=True)
    if "status" not in table:
        table["status"] = table["error"]
    names: Mapping[str, str] = {"target": "true"}
    table = table.rename(columns=names).drop(columns=["label", "note", "error"])
    for name in ("true", "predicted"):
        table[name] = table[name].fillna(-1).astype(int)
    return table
