"""What rules look at, computed once for all of them: a method's map, regions left out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..attribution.native_map import native_map, view_of_map
from ..regions import RegionEffects, patch_shares
from .interventions import Interventions


class Evidence:
    """Of a batch of images, each with the object's mask and the class that is to be explained.

    Args:
        inputs: (B, 3, H, W), as the model takes them.
        masks: (B, H, W) bool, the object's pixels.
        targets: B classes, whose outputs are explained.
        method: An attribution of the classifier, for `maps`; None: no rule asks for them.
        interventions: Of the classifier, for `effects`; None: no rule asks for them.
        avoid: B, classes of which an image gets no donors.
        internal_batch_size: Most images in one forward pass.
    """

    def __init__(
        self,
        inputs: Tensor,
        masks: Tensor,
        targets: Sequence[int],
        method: Any = None,
        interventions: Interventions | None = None,
        *,
        avoid: Sequence[Sequence[int]] | None = None,
        internal_batch_size: int | None = None,
    ) -> None:
        self.inputs, self.masks, self.targets = inputs, masks, list(targets)
        self._method, self._interventions = method, interventions
        self._avoid, self._size = avoid, internal_batch_size

    @cached_property
    def maps(self) -> Tensor:
        """(B, h, w) maps of the method for the targets, before any resizing."""
        return native_map(
            self._method, self.inputs, self.targets, internal_batch_size=self._size
        ).to(self.inputs.device)

    @cached_property
    def object_shares(self) -> Tensor:
        """(B, h, w) float64, the share of each of the maps' cells that the object covers."""
        return self._shares(self.masks)

    @cached_property
    def seen_shares(self) -> Tensor:
        """(B, h, w) float64, the share of each cell that is in the image; 1 but at padded edges."""
        return self._shares(torch.ones_like(self.masks))

    @cached_property
    def effects(self) -> RegionEffects:
        """What hiding and replacing the object, and the rest, does."""
        assert self._interventions is not None
        return self._interventions.effects(
            self.inputs,
            self.masks[:, None],
            avoid=self._avoid,
            internal_batch_size=self._size,
        )

    @property
    def unseen(self) -> Tensor:
        """(B,) bool, whether no part of the object is in what the model is shown of the image."""
        unseen = ~self.masks.flatten(1).any(dim=1)
        if self._method is not None:
            unseen = unseen | (self.object_shares.flatten(1).sum(dim=1) == 0)
        if self._interventions is not None:
            unseen = unseen | ~self.effects.regions.flatten(1).any(dim=1)
        return unseen

    def _shares(self, masks: Tensor) -> Tensor:
        view = view_of_map(self._method, self.inputs, self.maps)
        return patch_shares(masks, (self.maps.shape[1], self.maps.shape[2]), view)
