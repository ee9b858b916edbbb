"""Pixels of the model's input are replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from cci_captum.attribution.forward import run_forward
from cci_captum.attribution.forward_checks import known_field_of_view
from cci_captum.attribution.inputs import rows_of_args
from cci_captum.attribution.resizing import enlarge

from ..protocols import Ties
from .base import Jobs, Perturbation
from .inputs import OfInputs, PreparedInputs


class Pixels(OfInputs):
    """Outputs where pixels of the model's input are replaced."""

    resolution = "model"

    def perturbation(
        self, images: PreparedInputs, maps: Tensor, args: tuple[Any, ...], ties: Sequence[Ties]
    ) -> Perturbation:
        """As in `Strategy`."""
        size = (images.images.shape[2], images.images.shape[3])
        view = known_field_of_view(self.forward_func, images.images, None)
        if view is not None and maps.shape[1:] != size:
            maps = enlarge(maps, size, "bilinear", view)
        images.draw()
        ranking = images.ranking(maps, size, ties)

        def scores(jobs: Jobs) -> Tensor:
            painted = images.paint(ranking, jobs)
            return run_forward(self.forward_func, painted, rows_of_args(args, jobs.row))

        return Perturbation(scores, ranking.tied, ranking.split)
