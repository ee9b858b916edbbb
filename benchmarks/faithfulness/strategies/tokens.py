"""Patches are hidden from every attention layer, so that no pixel is made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from cci_captum.attribution.forward import check_passes, run_forward, tower_of
from cci_captum.attribution.forward_checks import check_once, known_field_of_view
from cci_captum.attribution.inputs import rows_of_args
from cci_captum.vision_towers import VisionTower

from ..protocols import Ties
from .base import Jobs, Perturbation
from .inputs import OfInputs, PreparedInputs


class Tokens(OfInputs):
    """Outputs where patches are hidden from every attention layer."""

    resolution = "tokens"

    @staticmethod
    def find_tower(
        forward_func: Callable[..., Tensor], vision_tower: nn.Module | VisionTower | None
    ) -> VisionTower:
        """See `tower_of`."""
        return tower_of(forward_func, vision_tower)

    def perturbation(
        self, images: PreparedInputs, maps: Tensor, args: tuple[Any, ...], ties: Sequence[Ties]
    ) -> Perturbation:
        """As in `Strategy`; one forward pass of the first image learns the grid of patches."""
        tower, inputs = self.vision_tower, images.images
        assert tower is not None  # made with the protocol
        if self.check:
            check_once(self.forward_func, inputs, args, tower, hiding=True)
        view = known_field_of_view(self.forward_func, inputs, tower)
        if view is not None and maps.shape[1:] == inputs.shape[2:]:
            raise ValueError(
                "attributions: expected maps on the patch grid, such as `patch_map` gives, since "
                f"forward_func shows the image encoder another part of the images: {view}; got "
                f"maps of their size, {tuple(maps.shape[1:])}"
            )
        first = slice(0, 1)
        with tower.record("input") as recording:
            run_forward(self.forward_func, inputs[first], rows_of_args(args, first))
        ranking = images.ranking(maps, recording.grid, ties)

        def scores(jobs: Jobs) -> Tensor:
            comes_first = ranking.ranks_of(jobs).flatten(1) < ranking.counts_of(jobs)[:, None]
            hidden = comes_first ^ (jobs.insertion[:, None] == 1)
            # Dropping is cheaper: a batch is mostly of one point, so that its rows are as long.
            with tower.hide(hidden, "drop") as hiding:
                outputs = run_forward(
                    self.forward_func, inputs[jobs.row], rows_of_args(args, jobs.row)
                )
            check_passes(hiding.passes)
            return outputs

        return Perturbation(scores, ranking.tied, ranking.split)
