"""Classification: is the class that a map explains still recognised?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cci_captum._checks import check_choice
from cci_captum.attribution.seeds import generator_of
from cci_captum.models.clip import ZeroShotClassifier
from cci_captum.models.preprocessing import Preprocess
from cci_captum.models.ranking import predicted

from ..data import ImageData
from ..data.part import image_data
from ..faithfulness import Curve, score
from .base import Batch, Question, Task
from .kinds import KINDS
from .loaded import Loaded, Reader

Explained = Literal["true", "predicted"]


class Classification(Task):
    """Images of classes, each explained for one of them.

    Args:
        data: The images, with classes; or a `torch.utils.data.Subset` of such.
        forward_func: Module from inputs to (B, C) scores of the data's classes, such as a
            `ZeroShotClassifier`.
        preprocess: From a PIL image to an input (3, H, W) of the model.
        explained: The "true" class, or the "predicted" one, which masks know nothing of. An image
            without one (`cci_captum.models.ranking.predicted`) is left out, with an error.

    Raises:
        TypeError: If forward_func is no module, or data are no images.
        ValueError: If there are no images, a target is no class, or explained is unknown.

    Example:
        >>> import cci_captum
        >>> from cci_captum.benchmarks.data import Scenes
        >>> clip, scenes = cci_captum.load_clip("tiny"), Scenes(2)
        >>> classifier = cci_captum.ZeroShotClassifier(
        ...     clip.model, clip.tokenizer, scenes.class_names, scenes.templates
        ... )
        >>> task = Classification(scenes, classifier, clip.preprocess)
        >>> batch, errors = task.block([0, 1])
        >>> batch.inputs.shape, errors
        (torch.Size([2, 3, 96, 96]), {})
    """

    kind = KINDS["classification"]

    def __init__(
        self,
        data: ImageData,
        forward_func: nn.Module,
        preprocess: Preprocess,
        explained: Explained = "true",
    ) -> None:
        check_choice("explained", explained, get_args(Explained))
        data = image_data(data)
        super().__init__(data, preprocess, forward_func)
        last = len(data.class_names) - 1
        wrong = [place for place, target in enumerate(data.targets) if not 0 <= target <= last]
        if wrong:
            raise ValueError(
                f"data: expected targets from 0 to {last}, got {data.targets[wrong[0]]} at place "
                f"{wrong[0]} of {data.name}"
            )
        self.explained = explained
        self.has_masks = data.has_masks and explained == "true"
        self.reader = Reader(data, preprocess, masks=self.has_masks)

    def __len__(self) -> int:
        return len(self.data)

    def score(self, outputs: Tensor, targets: Any) -> Curve:
        """What outputs say of classes; see `cci_captum.benchmarks.faithfulness.score`."""
        return score(outputs, targets)

    def batch(self, loaded: Loaded) -> tuple[Batch | None, dict[int, str]]:
        """See `Task`.

        Raises:
            ValueError: If the scores are not of the data's classes.
        """
        errors = dict(loaded.errors)
        if loaded.inputs is None:
            return None, errors
        inputs = self._to_device(loaded.inputs)
        guesses = predicted(self.scores(inputs)).tolist()
        batch = self.batch_of(loaded._replace(inputs=inputs), guesses)
        if batch is not None and self.explained == "predicted":
            blank = [row for row, label in enumerate(batch.predicted) if label < 0]
            reason = "no class alone scores highest, so that none is predicted"
            errors |= {batch.indices[row]: reason for row in blank}
            batch = batch.only([row for row in range(len(batch.names)) if row not in blank])
        return batch if batch is not None and batch.names else None, errors

    def batch_of(self, loaded: Loaded, guesses: list[int]) -> Batch | None:
        """What was read, with the class that is predicted of each; None if nothing was."""
        if loaded.inputs is None:
            return None
        return Batch(
            indices=loaded.places,
            names=loaded.names,
            sources=loaded.sources,
            photos=loaded.photos,
            inputs=loaded.inputs,
            masks=None if loaded.masks is None else self._to_device(loaded.masks),
            targets=loaded.targets if self.explained == "true" else guesses,
            predicted=guesses,
            facts=loaded.facts,
            notes=loaded.notes,
        )

    def label(self, target: int) -> str:
        """The name of a class."""
        return self.data.class_names[target]

    def question(self, make: Any) -> Question:
        """The classifier, and the class as target."""
        return Question(self.forward_func, lambda targets: (list(targets), None))

    def other_targets(self, batch: Batch, seed: int) -> list[int]:
        """Another class for each image."""
        classes = len(self.data.class_names)
        return random_labels(batch.inputs, batch.targets, classes, seed)

    def configuration(self) -> dict[str, Any]:
        """See `Task`."""
        return {
            **super().configuration(),
            "classes": [*self.data.class_names, str(self.data.templates)],
            "explained": self.explained,
        }

    def settings(self) -> dict[str, Any]:
        """See `Task`; and what a zero-shot classifier in forward_func knows of its texts."""
        settings = {
            **super().settings(),
            "classes": len(self.data.class_names),
            "explained": self.explained,
        }
        for module in self.forward_func.modules():
            if isinstance(module, ZeroShotClassifier):
                settings["indistinguishable"] = [list(names) for names in module.indistinguishable]
                settings["cut_texts"] = [text._asdict() for text in module.cut_texts]
                break
        return settings

    def scores(self, inputs: Tensor) -> Tensor:
        """Of the data's classes.

        Args:
            inputs: (B, 3, H, W) on the task's device.

        Returns:
            (B, C).

        Raises:
            ValueError: If the outputs are not of the data's classes.
        """
        outputs = self.outputs(inputs)
        classes = len(self.data.class_names)
        if outputs.shape != (len(inputs), classes):
            raise ValueError(
                f"forward_func: expected scores of the {classes} classes of {self.data.name}, "
                f"({len(inputs)}, {classes}), got shape {tuple(outputs.shape)}"
            )
        return outputs


def random_labels(inputs: Tensor, targets: Sequence[int], num_classes: int, seed: int) -> list[int]:
    """Another class for each image, each as likely; by the seed and the image's content alone.

    Raises:
        ValueError: If there is no other class.
    """
    if num_classes < 2:
        raise ValueError(
            f"num_classes: expected at least 2 to draw another label, got {num_classes}"
        )
    steps = [
        int(torch.randint(1, num_classes, (), generator=generator_of(image, seed)))
        for image in inputs
    ]
    return [(target + step) % num_classes for target, step in zip(targets, steps, strict=True)]
