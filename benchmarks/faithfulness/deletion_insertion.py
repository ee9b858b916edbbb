"""Deletion and insertion at the cost of the forward passes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from captum._utils.common import ExpansionTypes, _expand_target
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from cci_captum._arguments import (
    check_additional_forward_args,
    check_batch_size,
    check_forward_func,
    check_images,
    enlarge,
    rows_of_args,
    rows_of_target,
    run_forward,
    select_target,
    tower_of,
)
from cci_captum.vision_towers import VisionTower

from .curves import Curve, FaithfulnessCurves
from .perturbation import filled, perturb, random_ties, rank_pixels
from .protocols import Protocol, find_protocol


class DeletionInsertion:
    """Curves of the score as what a map calls important is taken away, and put back.

    What is random (the order among equal values, noise) depends on the seed and on the image
    alone: every method meets the same, results can be compared image by image, and neither the
    batch nor internal_batch_size changes them. Two forward passes a point and image.

    Args:
        forward_func: Module or function from images and further arguments to (B,) scores or
            (B, C) outputs.
        protocol: A name from `PROTOCOLS`, or a `Protocol`.
        vision_tower: Whose patches are hidden where the protocol's resolution is "tokens"; None
            finds it in forward_func.
        seed: Of ties and noise.
        mean: What pixel values in [0, 1] were normalised by, three numbers.
        std: The same.
        internal_batch_size: Most images in one forward pass; None is as many as come.

    Raises:
        TypeError: If forward_func is not callable, or its image encoder cannot be explained.
        ValueError: If the protocol is unknown, or no image encoder is found.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(2, 3, 96, 96)
        >>> maps = cci_captum.CCI(classifier).patch_map(images, target=1)
        >>> curves = DeletionInsertion(classifier, "grad-eclip")(images, maps, target=1)
        >>> curves.deletion.probability.shape, sorted(curves.auc())[0]
        (torch.Size([2, 11]), 'deletion_probability')
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        protocol: str | Protocol = "grad-eclip",
        *,
        vision_tower: nn.Module | VisionTower | None = None,
        seed: int = 0,
        mean: Sequence[float] = OPENAI_DATASET_MEAN,
        std: Sequence[float] = OPENAI_DATASET_STD,
        internal_batch_size: int | None = None,
    ) -> None:
        check_forward_func(forward_func)
        check_batch_size(internal_batch_size, 1)
        self.forward_func = forward_func
        self.protocol = find_protocol(protocol)
        self.seed = seed
        self.mean, self.std = (
            _three_numbers(name, values) for name, values in (("mean", mean), ("std", std))
        )
        if not bool((self.std > 0).all()):
            raise ValueError(f"std: expected three positive numbers, got {tuple(std)}")
        self.internal_batch_size = internal_batch_size
        self.vision_tower: VisionTower | None = None
        if self.protocol.resolution == "tokens":
            self.vision_tower = tower_of(forward_func, vision_tower)

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        attributions: Tensor,
        target: Any = None,
        additional_forward_args: Any = None,
    ) -> FaithfulnessCurves:
        """Curves of B images.

        Args:
            images: (B, 3, H, W) inputs of the model.
            attributions: (B, 3, H, W), ranked by their mean over channels; (B, H, W); or
                (B, h, w) maps on patches, enlarged bilinearly. For the "tokens" protocol they are
                averaged over each patch.
            target: As in Captum.
            additional_forward_args: As in Captum; tensors have a row an image.

        Returns:
            The `FaithfulnessCurves`, on the images' device.

        Raises:
            TypeError: If images or attributions are not floating point tensors.
            ValueError: If shapes or target do not fit, or attributions are not finite.
        """
        images = check_images(images, "images")
        if images.shape[1] != 3:
            raise ValueError(f"images: expected three channels, got shape {tuple(images.shape)}")
        args = check_additional_forward_args(additional_forward_args, len(images))
        maps = _check_attributions(attributions, images)
        rows_of_target(target, slice(0, 1), len(images))
        passes = self._hiding if self.protocol.resolution == "tokens" else self._painting
        outputs = self._run(images, args, target, passes(images, maps, args))
        deletion, insertion = (_curve(values, target) for values in outputs)
        fractions = torch.tensor(self.protocol.fractions, dtype=torch.float64, device=images.device)
        return FaithfulnessCurves(fractions, deletion, insertion)

    def _run(self, images: Tensor, args: tuple[Any, ...], target: Any, scores: _Scores) -> Tensor:
        """Outputs (2, B, P, ...) of deletion and insertion at every point."""
        batch, points = len(images), len(self.protocol.fractions)
        every = torch.arange(2 * points * batch, device=images.device)
        outputs: list[Tensor] = []
        for some in every.split(check_batch_size(self.internal_batch_size, batch)):
            rows, point = some % batch, some // batch % points
            output = scores(rows, point, some >= points * batch)
            if not outputs:  # before the work, not after it
                select_target(output.new_zeros(batch, *output.shape[1:]), target)
            outputs.append(output)
        joined = torch.cat(outputs)
        return joined.view(2, points, batch, *joined.shape[1:]).transpose(1, 2)

    def _painting(self, images: Tensor, maps: Tensor, args: tuple[Any, ...]) -> _Scores:
        """Outputs where pixels are replaced."""
        size = (images.shape[2], images.shape[3])
        ranks = self._ranks(images, _resized(maps, size), size)
        counts = self._counts(ranks)
        options = {"mean": self.mean.to(images.device), "std": self.std.to(images.device)}
        assert self.protocol.deletion_fill and self.protocol.insertion_start  # its own check
        fill = filled(images, self.protocol.deletion_fill, seed=self.seed, **options)
        start = filled(images, self.protocol.insertion_start, seed=self.seed, **options)

        def scores(rows: Tensor, point: Tensor, insertion: Tensor) -> Tensor:
            inserting = insertion[:, None, None, None]
            before = torch.where(inserting, start[rows], images[rows])
            after = torch.where(inserting, images[rows], fill[rows])
            perturbed = perturb(before, ranks[rows], counts[point], after)
            return run_forward(self.forward_func, perturbed, rows_of_args(args, rows))

        return scores

    def _hiding(self, images: Tensor, maps: Tensor, args: tuple[Any, ...]) -> _Scores:
        """Outputs where patches are hidden from every attention layer."""
        tower = self.vision_tower
        assert tower is not None  # made with the protocol
        first = slice(0, 1)
        with tower.record("input") as recording:
            run_forward(self.forward_func, images[first], rows_of_args(args, first))
        ranks = self._ranks(images, _resized(maps, recording.grid), recording.grid)
        counts = self._counts(ranks)

        def scores(rows: Tensor, point: Tensor, insertion: Tensor) -> Tensor:
            comes_first = ranks[rows].flatten(1) < counts[point][:, None]
            with tower.hide(comes_first ^ insertion[:, None]):
                return run_forward(self.forward_func, images[rows], rows_of_args(args, rows))

        return scores

    def _ranks(self, images: Tensor, maps: Tensor, size: tuple[int, int]) -> Tensor:
        return rank_pixels(maps.to(images.device), random_ties(images, size, self.seed))

    def _counts(self, ranks: Tensor) -> Tensor:
        """(P,) pixels that are perturbed at each point."""
        pixels = ranks[0].numel()
        counts = [math.floor(fraction * pixels + 0.5) for fraction in self.protocol.fractions]
        return torch.tensor(counts, device=ranks.device)


# From image, point and whether it is insertion, (b,) each, to outputs (b, ...).
_Scores = Callable[[Tensor, Tensor, Tensor], Tensor]


def _curve(outputs: Tensor, target: Any) -> Curve:
    """One direction's values from its outputs, (B, P, ...)."""
    shape, points = outputs.shape[:2], outputs.shape[1]
    flat = outputs.flatten(0, 1)
    score = select_target(flat, _expand_target(target, points, ExpansionTypes.repeat_interleave))
    if flat.ndim != 2:
        return Curve(score.view(shape))
    above = (flat > score[:, None]).sum(dim=1)
    return Curve(
        score=score.view(shape),
        probability=(score - flat.logsumexp(dim=1)).exp().view(shape),
        top1=(above < 1).to(score.dtype).view(shape),
        top5=(above < 5).to(score.dtype).view(shape),
    )


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) float32 maps at another size: averaged where smaller, else bilinear."""
    if maps.shape[1:] == size:
        return maps
    if maps.shape[1] >= size[0] and maps.shape[2] >= size[1]:
        return F.adaptive_avg_pool2d(maps[:, None].double(), size)[:, 0].float()
    return enlarge(maps.float(), size, "bilinear")


def _check_attributions(attributions: Tensor, images: Tensor) -> Tensor:
    """(B, h, w) maps, or an error that says what is wrong with them."""
    if not isinstance(attributions, Tensor) or not attributions.is_floating_point():
        got = (
            attributions.dtype if isinstance(attributions, Tensor) else type(attributions).__name__
        )
        raise TypeError(f"attributions: expected a floating point tensor, got {got}")
    whole = attributions.ndim == 4 and attributions.shape == images.shape
    maps_fit = attributions.ndim == 3 and len(attributions) == len(images) and attributions.numel()
    if not whole and not maps_fit:
        raise ValueError(
            f"attributions: expected the images' shape {tuple(images.shape)}, or one map an image, "
            f"({len(images)}, h, w), got {tuple(attributions.shape)}"
        )
    if not bool(attributions.isfinite().all()):
        bad = (~attributions.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"attributions: expected finite values, got others for images {bad}")
    maps = attributions.mean(dim=1) if whole else attributions
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def _three_numbers(name: str, values: Sequence[float]) -> Tensor:
    if len(values) != 3:
        raise ValueError(f"{name}: expected three numbers, got {values!r}")
    return torch.tensor([float(value) for value in values]).view(3, 1, 1)
