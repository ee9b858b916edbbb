"""What ClusterAblation, ClusterLime and ClusterKernelShap share: clusters replaced as pixels.

They are controls for CCI. It hides a cluster inside attention; these replace the same cluster's
pixels, as Captum's own methods do. The difference is what masking attention brings.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cci_captum._captum import Model
from cci_captum._checks import check_positive_int
from cci_captum.attribution.clusters import ClusterAttribution, Clustering
from cci_captum.attribution.inputs import rows_of_args
from cci_captum.attribution.resizing import enlarge
from cci_captum.attribution.targets import rows_of_target
from cci_captum.vision_towers import Layer, VisionTower

_ROUNDINGS = 16  # in units of the dtype's epsilon: what a difference of two scores makes of one

# Captum draws with the random state of the process: of threads that explain, one at a time.
_DRAWS = threading.RLock()


class ClusterPixels(ClusterAttribution):
    """A method that replaces the pixels of clusters by a baseline.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        clustering: See `CCI`.
        embedding_layer: See `CCI`.
        baseline: What replaces pixels, in the units of inputs: a number, or a tensor that
            broadcasts to (3, H, W). 0 is the mean colour of normalised images.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        clustering: Clustering | None = None,
        embedding_layer: Layer = -1,
        baseline: float | Tensor = 0.0,
    ) -> None:
        super().__init__(
            forward_func, vision_tower, clustering=clustering, embedding_layer=embedding_layer
        )
        self.baseline = baseline

    def _baselines(self, images: Tensor) -> Tensor:
        """The replaced pixels of every image, (B, 3, H, W)."""
        return torch.as_tensor(self.baseline).to(images).expand_as(images)

    def _feature_mask(self, labels: Tensor, images: Tensor) -> Tensor:
        """Patch labels (B, h, w) as Captum's feature_mask of the images, (B, 3, H, W) int64.

        Pixels that the tower does not see go with cluster 0.
        """
        size = (images.shape[2], images.shape[3])
        covered = self._covered(images, (labels.shape[1], labels.shape[2]))
        enlarged = enlarge(labels.float(), size, "nearest", covered).long()
        return enlarged[:, None].expand(-1, images.shape[1], -1, -1)

    def _score_of(self, target: Any, seen: list[Tensor]) -> Callable[..., Tensor]:
        """forward_func, reduced to the target's score: (images, *args) -> (B,), added to seen."""

        def scores(images: Tensor, *args: Any) -> Tensor:
            seen.append(self._score(images, target, args))
            return seen[-1]

        return scores


class SampledClusters(ClusterPixels):
    """A linear model, fitted to each image, of the score over which clusters are kept.

    Args:
        forward_func: See `ClusterPixels`.
        vision_tower: See `ClusterPixels`.
        clustering: See `ClusterPixels`.
        embedding_layer: See `ClusterPixels`.
        baseline: See `ClusterPixels`.
        n_samples: Sets of kept clusters that are tried, a forward pass of one image each.
        seed: Of the sets; each image starts from it, so that results do not depend on what
            else is in the batch.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        clustering: Clustering | None = None,
        embedding_layer: Layer = -1,
        baseline: float | Tensor = 0.0,
        n_samples: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__(
            forward_func,
            vision_tower,
            clustering=clustering,
            embedding_layer=embedding_layer,
            baseline=baseline,
        )
        check_positive_int("n_samples", n_samples)
        self.n_samples = n_samples
        self.seed = seed

    def _explainer(self, scores: Callable[..., Tensor]) -> Any:
        """Captum's explainer of a (B,) score."""
        raise NotImplementedError(f"{type(self).__name__} has no _explainer")

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        _, labels = self._cluster(images, args)
        baselines = self._baselines(images)
        devices = [images.device] if images.device.type == "cuda" else []
        maps = []
        for row in range(len(images)):
            one = slice(row, row + 1)
            own_target = rows_of_target(target, one, len(images))
            if isinstance(own_target, list):
                (own_target,) = own_target  # so that it holds for any number of samples
            own_args, seen = rows_of_args(args, one), list[Tensor]()
            scores = self._score_of(own_target, seen)
            clusters, index = labels[row].unique(return_inverse=True)
            # One pass holds samples of this image, as many as there are images.
            with self._running_on([row] * len(images)):
                if len(clusters) == 1:
                    values = scores(images[one], *own_args) - scores(baselines[one], *own_args)
                else:
                    with _DRAWS, torch.random.fork_rng(devices):
                        torch.manual_seed(self.seed)
                        values = self._explainer(scores).attribute(
                            images[one],
                            baselines=baselines[one],
                            additional_forward_args=own_args,
                            feature_mask=self._feature_mask(index[None], images[one]),
                            n_samples=self.n_samples,
                            perturbations_per_eval=len(images),
                            return_input_shape=False,
                        )[0]
            values = without_rounding(values[None].to(images.device), torch.cat(seen)[None])[0]
            maps.append(values[index])
        return torch.stack(maps)


def without_rounding(values: Tensor, scores: Tensor) -> Tensor:
    """Rows (B, ...) of differences of scores, zero where rounding alone can make all of them.

    Where replacing pixels changes nothing, as in an image that equals its baseline, the differences
    are what rounding leaves: 1e-14 of a score. Scaled to its largest value, such a map looks like
    any other.

    Args:
        values: (B, ...) differences.
        scores: (B, n) scores that they are differences of.

    Example:
        >>> without_rounding(torch.tensor([[1e-6, -1e-7], [1e-3, -1e-7]]), torch.ones(2, 1))
        tensor([[ 0.0000e+00,  0.0000e+00],
                [ 1.0000e-03, -1.0000e-07]])
    """
    floor = _ROUNDINGS * torch.finfo(scores.dtype).eps * scores.abs().amax(dim=1)
    measured = values.abs().flatten(1).amax(dim=1) > floor.to(values)
    return torch.where(measured.view(-1, *[1] * (values.ndim - 1)), values, 0.0)


class LeastSquares(Model):
    """Weighted linear regression with an intercept, for Captum's surrogate methods.

    Captum's own need scikit-learn, and the default of its Lime, a Lasso with alpha = 0.01, puts
    every weight to zero where scores move in hundredths, as cosines do.
    """

    def fit(self, train_data: DataLoader, **kwargs: object) -> None:
        """Fit to one batch of (kept clusters (n, K), scores (n,), weights (n,))."""
        ((kept, scores, weights),) = train_data
        kept, scores = kept.double().cpu(), scores.double().cpu().flatten()
        scale = weights.double().cpu().flatten().sqrt()[:, None]
        design = torch.cat([kept, torch.ones(len(kept), 1, dtype=torch.float64)], dim=1)
        # gelsd finds the smallest solution where the sets do not determine one.
        self._solution = torch.linalg.lstsq(
            design * scale, scores[:, None] * scale, driver="gelsd"
        ).solution[:, 0]

    def representation(self) -> Tensor:
        """(1, K) float64 coefficients, without the intercept."""
        return self._solution[None, :-1]

    def __call__(self, x: Tensor) -> Tensor:
        """The model's scores, (n,), of kept clusters (n, K)."""
        return x.double().cpu() @ self._solution[:-1] + self._solution[-1]
