"""Gate gradients along a way from hidden to seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cci_captum._checks import check_positive_int
from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.derivatives import gradients
from cci_captum.calls import new_pass


class IntegratedGates(PatchAttribution):
    """The mean slope by each patch's gate, at all gates 1 / steps, 2 / steps, ..., 1.

    Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) of the gates, from hidden to
    seen. A forward and a backward pass a step; with 1 it is `GateGradient`.

    Args:
        forward_func: See `GateGradient`.
        steps: On the way.

    Raises:
        ValueError: If steps is no positive int; see also `GateGradient`.
    """

    _hides_patches = True

    def __init__(self, forward_func: Any, *, steps: int = 8) -> None:
        super().__init__(forward_func)
        check_positive_int("steps", steps)
        self.steps = steps

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        h, w = self.vision_tower.grid(images)
        total = images.new_zeros(len(images), h * w)
        for step in range(1, self.steps + 1):
            new_pass()
            gates = torch.full_like(total, step / self.steps).requires_grad_()
            with self.vision_tower.gate(gates):
                scores = self._score(images, target, args)
                (slopes,) = gradients(scores, [gates])
            total = total + slopes
        return (total / self.steps).unflatten(1, (h, w))
