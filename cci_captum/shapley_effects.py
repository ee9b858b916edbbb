"""What showing sets of clusters did to every output, shared out among the clusters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from .attribution.resizing import Upsample, check_upsample
from .attribution.targets import for_each_target
from .cluster_maps import Normalization, at_pixels, normalized, spread
from .coalitions import Coalitions
from .shapley_values import estimated_values, exact_interactions, exact_values


@dataclass(frozen=True, eq=False)
class ShapleyEffects(Coalitions):
    """The outputs of a model with sets of clusters hidden, and each cluster's Shapley value.

    v(S) is the output when the clusters of S are seen and all others are hidden. No forward pass
    depends on a target, so that one object answers for every class, foil or prompt at no further
    cost. Made by `cci_captum.ShapleyCCI.effects`.

    An image of K_b clusters of which all 2**K_b sets were run has exact values. One with fewer of
    them has estimates with standard errors.

    Attributes:
        labels: See `Coalitions`.
        outputs: See `Coalitions`.
        masked_outputs: See `Coalitions`.
        image_shape: See `Coalitions`.
        normalization: How `weights` scales the values of an image; see `ClusterEffects`.
        sets: (B, M, K) bool, whether set m hides cluster k of an image: all sets, or the empty
            set, that of all clusters, and others with their complements. Sets may come twice.
        clusters: See `Coalitions`.
        covered: See `Coalitions`; pixels beyond it get 0.

    Example:
        >>> import torch, cci_captum
        >>> effects = cci_captum.ShapleyEffects(  # of two clusters, either of which is enough
        ...     labels=torch.tensor([[[0, 1, 1]]]),
        ...     outputs=torch.tensor([1.0]),
        ...     masked_outputs=torch.tensor([[1.0, 1.0, 1.0, 0.0]]),
        ...     image_shape=(3, 8, 24),
        ...     sets=cci_captum.all_sets(2)[None],
        ...     clusters=torch.tensor([[0, 1]]),
        ... )
        >>> effects.shapley_values()
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
        >>> effects.interactions()[0, 0, 1]  # together they add less than each alone
        tensor(-1., dtype=torch.float64)
        >>> effects.drops()  # with nothing, one or both hidden
        tensor([[0., 0., 0., 1.]])
    """

    _made_by: ClassVar[str] = "ShapleyCCI"

    normalization: Normalization = "relative"

    def shapley_values(self, target: Any = None, *, targets: Sequence[Any] | None = None) -> Tensor:
        """What each cluster adds to the output, on average over the orders in which they appear.

        Args:
            target: See `Coalitions.drops`.
            targets: See `Coalitions.drops`.

        Returns:
            (B, K) float64 values in the unit of the output, 0 for clusters that an image does not
            have. Those of an image sum to v(all) - v(none), its output less that with every
            patch hidden, also where they are estimates. Of targets (B, T, K).

        Raises:
            TypeError: See `Coalitions.drops`.
            ValueError: See `Coalitions.drops`; or if the sets of an image are neither all nor
                what an estimate needs.
        """
        return self._estimates(target, targets)[0]

    def standard_errors(
        self, target: Any = None, *, targets: Sequence[Any] | None = None
    ) -> Tensor:
        """How far estimates are from the exact values, by one standard error of their draws.

        Args:
            target: See `Coalitions.drops`.
            targets: See `Coalitions.drops`.

        Returns:
            (B, K) float64, zeros where an image's values are exact. Of targets (B, T, K).

        Raises:
            TypeError: See `shapley_values`.
            ValueError: See `shapley_values`.
        """
        return self._estimates(target, targets)[1]

    def interactions(self, target: Any = None, *, targets: Sequence[Any] | None = None) -> Tensor:
        """What two clusters do together beyond what each does: the Shapley interaction index.

        I_ij is the mean of v(S + i + j) - v(S + i) - v(S + j) + v(S) over the sets S of the other
        clusters, a set of s weighing s! (K - s - 2)! / (K - 1)! (Grabisch and Roubens 1999).
        Negative: either stands in for the other; positive: they need each other.

        Args:
            target: See `Coalitions.drops`.
            targets: See `Coalitions.drops`.

        Returns:
            (B, K, K) float64, symmetric, 0 for clusters that an image does not have. On the
            diagonal is the index of a cluster alone, its Shapley value. Of targets (B, T, K, K).

        Raises:
            TypeError: See `shapley_values`.
            ValueError: See `shapley_values`; or if an image's values are estimates.
        """
        if targets is not None:
            return for_each_target(self.interactions, target, targets)
        batch, count = self.clusters.shape
        found = self.outputs.new_zeros(batch, count, count, dtype=torch.float64)
        for images, seen, outputs in self._games(target):
            own = seen.shape[1]
            if len(seen) < 2**own:
                raise ValueError(
                    f"interactions: expected all {2**own} sets of {own} clusters, got {len(seen)}; "
                    "ShapleyCCI(..., n_samples=None) runs all"
                )
            found[images, :own, :own] = exact_interactions(seen, outputs)
        return found

    def weights(self, target: Any = None, *, targets: Sequence[Any] | None = None) -> Tensor:
        """The Shapley values, scaled within each image as `normalization` says.

        Args:
            target: See `Coalitions.drops`.
            targets: See `Coalitions.drops`.

        Returns:
            (B, K) weights of the outputs' dtype; see `ClusterEffects.weights`. Of targets
            (B, T, K).

        Raises:
            TypeError: See `shapley_values`.
            ValueError: See `shapley_values`.
        """
        if targets is not None:
            return for_each_target(self.weights, target, targets)
        values, rounding = self.shapley_values(target), self.rounding(target)
        scaled = normalized(values, rounding, self.normalization, "Shapley values")
        return scaled.to(self.outputs.dtype)

    def patch_map(self, target: Any = None, *, targets: Sequence[Any] | None = None) -> Tensor:
        """The map on the patch grid: every patch has its cluster's weight.

        Args:
            target: See `Coalitions.drops`.
            targets: See `Coalitions.drops`.

        Returns:
            (B, h, w) map, before any resizing; of targets (B, T, h, w).

        Raises:
            TypeError: See `shapley_values`.
            ValueError: See `shapley_values`.
        """
        if targets is not None:
            return for_each_target(self.patch_map, target, targets)
        return spread(self.weights(target), self.labels)

    def attributions(
        self,
        target: Any = None,
        upsample: Upsample = "nearest",
        *,
        targets: Sequence[Any] | None = None,
    ) -> Tensor:
        """The map at the inputs' resolution, repeated over the channels.

        Args:
            target: See `Coalitions.drops`.
            upsample: See `ClusterEffects.attributions`.
            targets: See `Coalitions.drops`.

        Returns:
            (B, channels, H, W) attributions, the shape of the inputs; of targets
            (B, T, channels, H, W).

        Raises:
            TypeError: See `shapley_values`.
            ValueError: If upsample is unknown; see also `shapley_values`.
        """
        check_upsample(upsample)
        if targets is not None:
            explain = partial(self.attributions, upsample=upsample)
            return for_each_target(explain, target, targets)
        return at_pixels(self.patch_map(target), self.image_shape, upsample, self.covered)

    def _estimates(self, target: Any, targets: Sequence[Any] | None) -> tuple[Tensor, Tensor]:
        """Shapley values and their standard errors, (B, K) or (B, T, K) each."""
        if targets is not None:
            both = for_each_target(
                lambda one: torch.stack(self._estimates(one, None), 1), target, targets
            )
            return both[:, :, 0], both[:, :, 1]
        found = self.outputs.new_zeros(2, *self.clusters.shape, dtype=torch.float64)
        for images, seen, outputs in self._games(target):
            own = seen.shape[1]
            if len(seen) == 2**own:
                found[0, images, :own] = exact_values(seen, outputs)
            else:
                found[0, images, :own], found[1, images, :own] = estimated_values(seen, outputs)
        return found[0], found[1]

    def _games(self, target: Any) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Images (b,) with the same sets of as many clusters K_b: seen (M', K_b), outputs (b, M').

        Each set is there once, as what is seen; outputs are float64.
        """
        _, masked = self._scores(target)
        alike: dict[tuple[int, bytes], list[int]] = {}
        for image, own in enumerate(self.num_clusters.tolist()):
            key = (own, self.sets[image].cpu().numpy().tobytes())
            alike.setdefault(key, []).append(image)
        for (own, _), images in alike.items():
            hidden = self.sets[images[0], :, :own]
            places = {row.tobytes(): m for m, row in enumerate(hidden.cpu().numpy()[::-1])}
            once = torch.tensor(
                [len(hidden) - 1 - m for m in places.values()], device=masked.device
            )
            rows = torch.tensor(images, device=masked.device)
            yield rows, ~hidden[once], masked[rows][:, once].double()
