"""What hiding each cluster did to every output, and the maps that follow for any target."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ._captum import repeat_target
from .attribution.field_of_view import FieldOfView
from .attribution.finite import check_finite
from .attribution.resizing import Upsample, check_upsample, enlarge
from .attribution.targets import select_target

Normalization = Literal["relative", "paper", "none"]

_ROUNDINGS = 16  # in units of the dtype's epsilon: what a difference of two outputs makes of one


@dataclass(frozen=True, eq=False)
class ClusterEffects:
    """The outputs of a model with all patches seen and with one cluster hidden at a time.

    No forward pass depends on a target, so that one object answers for every class, foil or
    prompt at no further cost. Made by `cci_captum.CCI.effects`.

    Attributes:
        labels: (B, h, w) int64, the cluster of each patch.
        outputs: (B,) or (B, C, ...) outputs with nothing hidden, at least float32.
        masked_outputs: (B, K) or (B, K, C, ...) outputs with cluster k hidden. A cluster that
            an image does not have leaves its outputs as they were.
        image_shape: (channels, H, W) of the inputs.
        normalization: How `weights` scales the drops d of an image: "relative" d / sum abs(d)
            (signs and order kept), "paper" d / sum d (CCI, arXiv 2511.12978), "none" d.
        covered: The pixels under the patch grid, (H', W') from the top left, or a `FieldOfView`
            where forward_func crops, pads or resizes; None is all of the image. Pixels beyond
            it are not seen by the model and get 0.

    Example:
        >>> import torch, cci_captum
        >>> effects = cci_captum.ClusterEffects(
        ...     labels=torch.tensor([[[0, 0, 1, 2]]]),
        ...     outputs=torch.tensor([1.0]),
        ...     masked_outputs=torch.tensor([[0.25, 1.25, 1.0]]),
        ...     image_shape=(3, 8, 32),
        ... )
        >>> effects.drops()
        tensor([[ 0.7500, -0.2500,  0.0000]])
        >>> effects.patch_map()
        tensor([[[ 0.7500,  0.7500, -0.2500,  0.0000]]])
        >>> effects.attributions().shape
        torch.Size([1, 3, 8, 32])
    """

    labels: Tensor
    outputs: Tensor
    masked_outputs: Tensor
    image_shape: tuple[int, int, int]
    normalization: Normalization = "relative"
    covered: tuple[int, int] | FieldOfView | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def sizes(self) -> Tensor:
        """(B, K) int64, patches in each cluster."""
        return F.one_hot(self.labels.flatten(1), self.masked_outputs.shape[1]).sum(dim=1)

    @property
    def num_clusters(self) -> Tensor:
        """(B,) int64, clusters that each image has."""
        return (self.sizes > 0).sum(dim=1)

    def drops(self, target: Any = None) -> Tensor:
        """By how much hiding each cluster lowers the target's output: d_k = s - s_k.

        Args:
            target: As in Captum: None where an image has one output, else an int, a list or
                tensor of B ints, a tuple of indices, or a list of B tuples.

        Returns:
            (B, K) drops in the unit of the output. Positive: the cluster supports the target;
            negative: it speaks against it.

        Raises:
            ValueError: If target does not choose one existing output an image, or its output is
                not finite, with nothing or with a cluster hidden; the error names the images.
                Outputs of other targets may be infinite or NaN.
        """
        batch, clusters = self.masked_outputs.shape[:2]
        output = select_target(self.outputs, target)
        repeated = repeat_target(target, clusters)
        masked = select_target(self.masked_outputs.flatten(0, 1), repeated)
        masked = masked.view(batch, clusters)
        check_finite(output, "scores of the target", "CCI")
        check_finite(masked, "scores of the target with a cluster hidden", "CCI")
        return output[:, None] - masked

    def rounding(self, target: Any = None) -> Tensor:
        """The drop that rounding alone can make: 16 epsilons of the largest output.

        A drop is the difference of two outputs that are each rounded to their dtype, so that what
        is below some units in the last place of them says nothing about the cluster.

        Args:
            target: See `drops`.

        Returns:
            (B,) in the unit of the output.

        Raises:
            ValueError: See `drops`.
        """
        output = select_target(self.outputs, target).abs()
        largest = torch.maximum(output, (output[:, None] - self.drops(target)).abs().amax(dim=1))
        return _ROUNDINGS * torch.finfo(output.dtype).eps * largest

    def weights(self, target: Any = None) -> Tensor:
        """The drops, scaled within each image as `normalization` says.

        Args:
            target: See `drops`.

        Returns:
            (B, K) weights w_k. "relative": their absolute values sum to 1 (no drop above
            `rounding`: all weights zero). "paper": they sum to 1; images whose drops sum to zero
            or less, where the formula is undefined or turns the map over, get "relative", with
            a UserWarning.

        Raises:
            ValueError: See `drops`.
        """
        drops = self.drops(target)
        if self.normalization == "none":
            return drops
        measured = drops.abs().amax(dim=1) > self.rounding(target)
        drops = torch.where(measured[:, None], drops, 0.0)
        absolute = drops.abs().sum(dim=1, keepdim=True)
        relative = drops / torch.where(absolute > 0, absolute, 1.0)
        if self.normalization == "relative":
            return relative
        total = drops.sum(dim=1, keepdim=True)
        defined = total > 0
        if not bool(defined.all()):
            warnings.warn(
                f"normalization='paper' is undefined for {int((~defined).sum())} of "
                f"{len(drops)} images, whose drops sum to zero or less; these use 'relative'",
                UserWarning,
                stacklevel=2,
            )
        return torch.where(defined, drops / torch.where(defined, total, 1.0), relative)

    def patch_map(self, target: Any = None) -> Tensor:
        """The map on the patch grid: every patch has its cluster's weight, S = sum_k w_k m_k.

        Args:
            target: See `drops`.

        Returns:
            (B, h, w) map, before any resizing.

        Raises:
            ValueError: See `drops`.
        """
        labels = self.labels.flatten(1)
        return self.weights(target).gather(1, labels).view(self.labels.shape)

    def attributions(self, target: Any = None, upsample: Upsample = "nearest") -> Tensor:
        """The map at the inputs' resolution, repeated over the channels.

        Args:
            target: See `drops`.
            upsample: "nearest" keeps the patches' borders; "bilinear" and "bicubic" smooth
                the map, which faithfulness metrics reward on most data.

        Returns:
            (B, channels, H, W) attributions, the shape of the inputs.

        Raises:
            ValueError: If upsample is unknown; see also `drops`.
        """
        check_upsample(upsample)
        channels, height, width = self.image_shape
        maps = enlarge(self.patch_map(target), (height, width), upsample, self.covered)
        return maps[:, None].repeat(1, channels, 1, 1)
