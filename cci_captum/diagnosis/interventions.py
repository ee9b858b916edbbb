"""Hide regions of images from the image encoder, or put those of other images in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from .._checks import check_choice, check_positive_int, check_seed
from .._progress import Progress, progress_bar
from ..attribution.base import PatchAttribution
from ..attribution.clusters import compacted
from ..attribution.inputs import Inputs, has_rows
from ..coalitions import run_sets
from ..regions import Outcomes, RegionEffects, check_masks, patch_shares
from ..vision_towers import HideStrategy, VisionTower
from .donors import N_DONORS, Donors, on_background, without_object

_MOST_REGIONS = 62  # bits of a label
_EXACT = 1e-5  # of a patch: what the place of a crop, read off ramps, may add to a share


class Interventions:
    """What regions of images contribute to a model's outputs, by leaving them out.

    A region is hidden inside attention, as CCI hides a cluster of patches (arXiv 2511.12978), or
    replaced by that of another image, pixel by pixel, before the model sees it.

    Costs a pass an image, two an image and region (without it, with it alone; sets of patches that
    are alike share one), and one a call (nothing seen). With donors 2 m more an image and region:
    the region on m other backgrounds, and m other objects in its place; and one for each donor,
    once, or in each call that has further arguments. Make a new one where the model changes.

    Args:
        forward_func: Module or function from images (B, 3, H, W) and any further arguments to (B,)
            scores or (B, C) outputs.
        vision_tower: The image encoder that forward_func runs, once a call: a module, or its
            adapter from `find_vision_tower`. None finds it in forward_func.
        donors: Whose objects and backgrounds replace those of images; None: nothing is replaced.
        n_donors: How many of them for each image, m.
        hide: "drop" or "mask", two ways to the same result; see `VisionTower.hide`.
        least: A patch belongs to a region that covers more than this share of it; where a region
            covers so much of none, those of which it covers most. On planted truth a quarter told
            object and background apart best.
        seed: Which donors an image gets.

    Raises:
        TypeError: If an argument has the wrong type or the image encoder is of a kind that
            cannot be explained.
        ValueError: If no image encoder or several are found, or an option is out of its range.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.diagnosis import Interventions
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> masks = torch.zeros(2, 1, 96, 96, dtype=torch.bool)
        >>> masks[..., 20:70, 20:70] = True
        >>> effects = Interventions(classifier).effects(torch.rand(2, 3, 96, 96), masks)
        >>> effects.shapley_values(target=1, score="centred").shape  # the region, and its rest
        torch.Size([2, 1, 2])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        donors: Donors | None = None,
        n_donors: int = N_DONORS,
        hide: HideStrategy = "drop",
        least: float = 0.25,
        seed: int = 0,
    ) -> None:
        self._passes = _Passes(forward_func, vision_tower)
        if donors is not None and not isinstance(donors, Donors):
            raise TypeError(f"donors: expected Donors or None, got {type(donors).__name__}")
        check_positive_int("n_donors", n_donors)
        check_choice("hide", hide, get_args(HideStrategy))
        check_seed(seed)
        if not 0 <= least < 1:
            raise ValueError(f"least: expected a share from 0 to below 1, got {least!r}")
        self.donors, self.n_donors = donors, n_donors
        self.hide, self.least, self.seed = hide, least, seed
        self._donors_outputs: Tensor | None = None

    def effects(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        regions: Tensor,
        additional_forward_args: Any = None,
        *,
        avoid: Sequence[Sequence[int]] | None = None,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        check: bool = True,
    ) -> RegionEffects:
        """What leaving out each region does to every output at once.

        Args:
            inputs: See `cci_captum.CCI.attribute`.
            regions: (B, R, H, W) bool, the pixels of each region; they may overlap.
            additional_forward_args: See `cci_captum.CCI.attribute`.
            avoid: B, classes of which an image gets no donors; None: of any.
            internal_batch_size: See `cci_captum.CCI.attribute`.
            show_progress: See `cci_captum.CCI.attribute`.
            check: See `cci_captum.CCI.attribute`.

        Returns:
            A `RegionEffects`, which gives drops, gains and Shapley values for any target.

        Raises:
            TypeError: If regions is no bool tensor; see also `cci_captum.CCI.attribute`.
            ValueError: If its shape does not fit, or there are too few donors; see also
                `cci_captum.CCI.attribute`.
            RuntimeError: See `cci_captum.CCI.attribute`.
        """
        passes = self._passes
        with passes._explaining(
            inputs, None, additional_forward_args, internal_batch_size, check
        ) as given:
            regions = self._checked(regions, given)
            if avoid is not None and len(avoid) != len(given):
                raise ValueError(f"avoid: expected {len(given)}, one an image, got {len(avoid)}")
            total = len(given) * (1 + (2 * self.n_donors * regions.shape[1] if self.donors else 0))
            with progress_bar(show_progress, total, "Interventions", unit="img") as progress:
                outputs, grid = passes.run_whole(given, progress)
                patches = passes.patches(given, regions, grid, self.least)
                hidden = self._hidden(given, patches, outputs, progress)
                replaced = self._replaced(given, regions, avoid, progress)
            return RegionEffects(patches, outputs, hidden, replaced)

    def _checked(self, regions: Any, given: Inputs) -> Tensor:
        check_masks(regions, "regions")
        batch, _, height, width = given.images.shape
        fits = regions.ndim == 4 and (len(regions), *regions.shape[2:]) == (batch, height, width)
        if not fits or regions.shape[1] > _MOST_REGIONS:
            raise ValueError(
                f"regions: expected shape ({batch}, R, {height}, {width}), R at most "
                f"{_MOST_REGIONS}, got {tuple(regions.shape)}"
            )
        return regions.to(given.images.device)

    def _hidden(
        self, given: Inputs, patches: Tensor, outputs: Tensor, progress: Progress
    ) -> Outcomes:
        """What comes of hiding patches (B, R, h, w) bool."""
        count = patches.shape[1]
        bits = torch.arange(count, device=patches.device)
        # Patches that the same regions have are hidden together, as one cluster.
        labels, codes = compacted((patches.long() << bits[:, None, None]).sum(dim=1))
        there = (codes >= 0)[:, None]
        inside = (codes.clamp(min=0)[:, None] >> bits[:, None] & 1).bool()
        without, only, none = inside & there, ~inside & there, there.clone()
        alike = not any(map(has_rows, given.args))
        if alike:
            none[1:] = False  # what is seen of no image is the same of all
        found = run_sets(
            self._passes.forward_func,
            self._passes.vision_tower,
            given,
            outputs,
            labels,
            torch.cat([without, only, none], dim=1),
            hide=self.hide,
            progress=progress,
        )
        nothing = found[:, 2 * count :]
        if alike:
            nothing = nothing[:1].expand(nothing.shape)
        without_outputs, only_outputs = found[:, :count], found[:, count : 2 * count]
        return Outcomes(only_outputs[:, :, None], without_outputs[:, :, None], nothing)

    def _replaced(
        self,
        given: Inputs,
        regions: Tensor,
        avoid: Sequence[Sequence[int]] | None,
        progress: Progress,
    ) -> Outcomes | None:
        if self.donors is None:
            return None
        choices = [
            self.donors.choose(image, self.n_donors, avoid[row] if avoid else (), self.seed)
            for row, image in enumerate(given.images)
        ]
        chosen = torch.tensor(choices)  # (B, m)
        masks = self.donors.masks.to(given.images.device)
        images, backgrounds = (
            each.to(given.images) for each in (self.donors.images, self.donors.backgrounds)
        )
        only: list[Tensor] = []
        without: list[Tensor] = []
        for region in regions.unbind(dim=1):
            own = without_object(given.images, region)
            for column in chosen.unbind(dim=1):
                for into, composed in (
                    (only, on_background(given.images, region, backgrounds[column])),
                    (without, on_background(images[column], masks[column], own)),
                ):
                    into.append(self._passes.run(replace(given, images=composed), progress))
        shape = (regions.shape[1], self.n_donors)
        none = self._of_donors(given, images, chosen)
        rest = torch.stack(without, dim=1).unflatten(1, shape)
        everything = regions.flatten(2).all(dim=2)  # without it nothing of the image is left
        everything = everything.view(*everything.shape, *[1] * (rest.ndim - 2))
        return Outcomes(
            torch.stack(only, dim=1).unflatten(1, shape),
            torch.where(everything, none[:, None], rest),
            none,
        )

    def _of_donors(self, given: Inputs, images: Tensor, chosen: Tensor) -> Tensor:
        """Outputs of the chosen donors (G, 3, H, W) as they are, (B, m, ...)."""
        if any(map(has_rows, given.args)):  # of each image's own arguments
            each = [
                self._passes.run(replace(given, images=images[column]))
                for column in chosen.unbind(dim=1)
            ]
            return torch.stack(each, dim=1)
        outputs = self._donors_outputs
        if outputs is None or given.args:
            size = given.batch_size or len(given)
            outputs = self._passes.run(replace(given, images=images, batch_size=size))
            if not given.args:
                self._donors_outputs = outputs
        return outputs[chosen.to(outputs.device)]


class _Passes(PatchAttribution):
    """How forward_func is checked and run; no method of its own."""

    _hides_patches = True

    @classmethod
    def get_name(cls) -> str:
        return "Interventions"

    def run(self, given: Inputs, progress: Progress | None = None) -> Tensor:
        """Outputs of images, as many at a time as they allow."""
        outputs = []
        for _, part in given.parts():
            outputs.append(self._run_forward(part.images, part.args))
            if progress is not None:
                progress.update(len(part))
        return torch.cat(outputs)

    def run_whole(self, given: Inputs, progress: Progress) -> tuple[Tensor, tuple[int, int]]:
        """Outputs of images, and the grid of their patches."""
        grids, outputs = [], []
        for _, part in given.parts():
            with self.vision_tower.record("input") as recording:
                outputs.append(self.run(part, progress))
            grids.append(recording.grid)
        return torch.cat(outputs), grids[0]

    def patches(
        self, given: Inputs, regions: Tensor, grid: tuple[int, int], least: float
    ) -> Tensor:
        """(B, R, h, w) bool, the patches of regions (B, R, H, W)."""
        shares = patch_shares(regions, grid, self._covered(given.images, grid))
        taken = shares > least + _EXACT
        # What is smaller than that is not nothing, whose hiding would change nothing.
        small = ~taken.flatten(2).any(dim=2)[:, :, None, None]
        most = shares.amax(dim=(2, 3), keepdim=True)
        return taken | (small & (shares == most) & (most > 0))
