"""What rules say of images whose objects are known, before any verdict: one row an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._checks import check_batch_size, check_positive_int, check_seed
from .._extras import needed_by
from ..attribution.finite import NotFiniteError
from ..attribution.forward import run_forward
from ..attribution.inputs import check_images
from ..models.ranking import predicted
from .donors import N_DONORS, Donors, check_masks_of
from .evidence import Evidence
from .interventions import Interventions
from .rules import Rule, find_rules
from .verdicts import share_column

with needed_by("cci_captum.diagnosis"):
    import pandas as pd

NO_OBJECT = "no object"
FEW_DONORS = "expected donors of other classes than the one that is explained"
NOT_PREDICTED = "no class alone scores highest, so that none is predicted"


class Diagnoser:
    """Rules for one classifier, and what they say of images.

    Args:
        classifier: Module from images (B, 3, H, W) to (B, C) outputs, such as a
            `ZeroShotClassifier`.
        rules: Texts or rules; see `find_rule`.
        method: From a classifier to an attribution of it, for rules that read a map: a class such
            as `cci_captum.CCI`, or a `MethodSpec`.
        donors: Other images of the same data, for rules that replace; None: there are none.
        n_donors: How many of them for each image.
        internal_batch_size: Most images in one forward pass; None: as many as are given at once.
        seed: Which donors an image gets.

    Attributes:
        rules: The rules.

    Raises:
        TypeError: If an argument has the wrong type, or the classifier cannot be explained.
        ValueError: If there is no such rule, a rule needs donors and there are none, or a number is
            out of its range.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.diagnosis import Diagnoser
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> masks = torch.zeros(2, 96, 96, dtype=torch.bool)
        >>> masks[:, 20:70, 20:70] = True
        >>> diagnoser = Diagnoser(classifier, ["energy", "shapley-regions(by=hidden)"])
        >>> table = diagnoser.rows(torch.rand(2, 3, 96, 96), masks, [0, 1])
        >>> [column for column in table if column.endswith("_share")]
        ['object_share', 'energy_share', 'shapley-regions(by=hidden)_share']
    """

    def __init__(
        self,
        classifier: nn.Module,
        rules: Sequence[str | Rule],
        method: Callable[[Any], Any] | None = None,
        *,
        donors: Donors | None = None,
        n_donors: int = N_DONORS,
        internal_batch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        if not isinstance(classifier, nn.Module):
            raise TypeError(f"classifier: expected a module, got {type(classifier).__name__}")
        self.classifier, self.rules = classifier, find_rules(rules)
        check_batch_size(internal_batch_size, 1)
        check_positive_int("n_donors", n_donors)
        check_seed(seed)
        self._size = internal_batch_size
        for rule in self.rules:
            if rule.needs_donors and donors is None:
                raise ValueError(
                    f"donors: {rule} replaces regions by those of other images, got none; "
                    f"shapley-regions(by=hidden) needs none"
                )
        replaces = any(rule.needs_donors for rule in self.rules)
        self._donors, self._n_donors = donors if replaces else None, n_donors
        if self._donors is not None and len(self._donors) < n_donors:
            raise ValueError(
                f"donors: expected at least {n_donors} other images, got {len(self._donors)}; "
                f"shapley-regions(by=hidden) needs none"
            )
        self._method = self._interventions = None
        if any(rule.uses_maps for rule in self.rules):
            self._method = _made(method, classifier)
        if not all(rule.uses_maps for rule in self.rules):
            self._interventions = Interventions(
                classifier, donors=self._donors, n_donors=n_donors, seed=seed
            )

    def predict(self, inputs: Tensor) -> list[int]:
        """The class that alone scores highest, -1 where there is none, of (B, 3, H, W) inputs."""
        parts = inputs.split(self._size or len(inputs))
        with torch.no_grad():
            outputs = torch.cat([run_forward(self.classifier, part, ()) for part in parts])
        if outputs.ndim != 2:
            raise ValueError(
                f"classifier: expected outputs (B, C), got shape {tuple(outputs.shape)}"
            )
        return predicted(outputs).tolist()

    def rows(
        self,
        inputs: Tensor,
        masks: Tensor,
        true: Sequence[int],
        *,
        guesses: Sequence[int] | None = None,
        explained: Sequence[int] | None = None,
        statuses: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """What is known of images, and their shares of the background.

        Args:
            inputs: (B, 3, H, W), as the model takes them.
            masks: (B, H, W) bool, the object's pixels; what is not the object is background.
            true: B classes.
            guesses: B classes, as `predict` gives them; None: they are asked for.
            explained: B classes whose outputs are explained; None: the predicted ones.
            statuses: B reasons why an image has no mask, "" where it has one.

        Returns:
            A row an image: "true", "predicted" (-1 where nothing alone scores highest),
            "explained", "status" ("" where the rules were asked, else why not), "object_share" (of
            the image that the object covers), and the share of each rule, NaN where it says
            nothing.

        Raises:
            TypeError: If masks is no bool tensor.
            ValueError: If lengths or shapes differ.
        """
        check_images(inputs)
        check_masks_of(inputs, masks, "masks")
        guesses = list(guesses) if guesses is not None else self.predict(inputs)
        explained = list(explained) if explained is not None else guesses
        said = list(statuses) if statuses is not None else [""] * len(inputs)
        for name, values in {"true": true, "explained": explained, "statuses": said}.items():
            if len(values) != len(inputs):
                raise ValueError(f"{name}: expected {len(inputs)}, one an image, got {len(values)}")
        said = statuses_of(masks, explained, said)
        left = [row for row, status in enumerate(said) if not status]
        found, errors = self.shares(
            inputs[left], masks[left], [true[r] for r in left], [explained[r] for r in left]
        )
        for place, reason in errors.items():
            said[left[place]] = reason
        table = pd.DataFrame(
            {
                "true": [*map(int, true)],
                "predicted": [*map(int, guesses)],
                "explained": [*map(int, explained)],
                "status": said,
                "object_share": masks.double().mean(dim=(1, 2)).tolist(),
            }
        )
        for name, values in found.items():
            table[share_column(name)] = float("nan")
            table.loc[left, share_column(name)] = values
        return table

    def shares(
        self,
        inputs: Tensor,
        masks: Tensor,
        true: Sequence[int],
        explained: Sequence[int],
        internal_batch_size: int | None = None,
    ) -> tuple[dict[str, list[float]], dict[int, str]]:
        """The share of the background in what is explained of images that have an object.

        Args:
            inputs: (b, 3, H, W).
            masks: (b, H, W) bool, none of them empty.
            true: b classes.
            explained: b classes.
            internal_batch_size: Most images in one forward pass; None: that of the diagnoser.

        Returns:
            Rule, as text -> b shares, NaN where it says nothing; and the place of an image whose
            outputs are not finite, whose object lies outside of what the model is shown, or for
            which there are too few donors -> that reason.
        """
        found = {str(rule): [float("nan")] * len(inputs) for rule in self.rules}
        errors: dict[int, str] = {}
        avoided = [
            self._avoided(image, int(target), int(label))
            for image, target, label in zip(inputs, explained, true, strict=True)
        ]
        left = []
        for row, avoid in enumerate(avoided):
            if avoid is None:
                errors[row] = f"{FEW_DONORS}, got fewer than {self._n_donors}"
            else:
                left.append(row)
        while left:
            own = [int(explained[row]) for row in left]
            evidence = Evidence(
                inputs[left],
                masks[left],
                own,
                self._method,
                self._interventions,
                avoid=[avoided[row] or () for row in left],
                internal_batch_size=internal_batch_size or self._size,
            )
            try:
                shares = {str(rule): rule.shares(evidence).tolist() for rule in self.rules}
                unseen = evidence.unseen.tolist()
            except NotFiniteError as error:
                reason = f"expected finite {error.what}, got NaN or infinity"
                errors |= {left[place]: reason for place in error.images}
                left = [row for place, row in enumerate(left) if place not in error.images]
                continue
            errors |= {row: NO_OBJECT for row, out in zip(left, unseen, strict=True) if out}
            for name, values in shares.items():
                for row, value, out in zip(left, values, unseen, strict=True):
                    found[name][row] = float("nan") if out else value
            break
        return found, errors

    def _avoided(self, image: Tensor, target: int, true: int) -> tuple[int, ...] | None:
        """Classes of which an image gets no donors; None where too few are left.

        The true class is one of them only where others are enough: with two classes there are none
        beside it and one that is taken for it.
        """
        donors = self._donors
        for avoid in ((target, true), (target,)):
            if donors is None or donors.has(image, self._n_donors, avoid):
                return avoid
        return None


def statuses_of(masks: Tensor, explained: Sequence[int], said: Sequence[str]) -> list[str]:
    """Why an image is not explained: as was said, no object, or no class; "" where it is."""
    objects = masks.flatten(1).any(dim=1).tolist()
    return [
        status or ("" if there else NO_OBJECT) or ("" if target >= 0 else NOT_PREDICTED)
        for status, there, target in zip(said, objects, explained, strict=True)
    ]


def _made(method: Callable[[Any], Any] | None, classifier: nn.Module) -> Any:
    if method is None:
        from ..cci import CCI

        method = CCI
    if not callable(method):
        raise TypeError(
            "method: expected a class or function from a classifier to an attribution, such as "
            f"cci_captum.CCI, got {type(method).__name__}"
        )
    return method(classifier)
