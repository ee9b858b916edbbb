"""Other ways to cut an image's patches into regions than K-means of their embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum._checks import check_positive_int
from cci_captum._extras import needed_by
from cci_captum.cci import CCI
from cci_captum.clustering import KMeans
from cci_captum.vision_towers import VisionTower

_SRGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)  # D65


@dataclass(frozen=True)
class Agglomerative:
    """Ward's agglomerative clustering of an image's patch embeddings (Ward 1963), by scipy.

    Args:
        n_clusters: Regions of an image.

    Raises:
        ValueError: If n_clusters is no positive int.

    Example:
        >>> Agglomerative(2)(torch.tensor([[[0.0], [5.0], [0.1], [5.2]]])).tolist()
        [[0, 1, 0, 1]]
    """

    n_clusters: int = 7

    def __post_init__(self) -> None:
        """Check the number."""
        check_positive_int("n_clusters", self.n_clusters)

    def __call__(self, embeddings: Tensor) -> Tensor:
        """(B, N, D) patch embeddings -> (B, N) int64 labels."""
        with needed_by("Agglomerative"):
            from scipy.cluster.hierarchy import cut_tree, linkage

        rows = [
            torch.from_numpy(cut_tree(linkage(tokens, "ward"), self.n_clusters)[:, 0])
            for tokens in embeddings.detach().double().cpu().numpy()
        ]
        return torch.stack(rows).to(embeddings.device, torch.int64)


@dataclass(frozen=True)
class Grid:
    """Squares of a regular grid, whatever is in the image.

    Args:
        side: Squares along a side, of a square image.

    Raises:
        ValueError: If side is no positive int; when called, if there are fewer patches along a
            side, or the image is not square.

    Example:
        >>> Grid(2)(torch.zeros(1, 16, 3)).view(4, 4).tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    """

    side: int = 3

    def __post_init__(self) -> None:
        """Check the number."""
        check_positive_int("side", self.side)

    @property
    def n_clusters(self) -> int:
        """Regions of an image."""
        return self.side**2

    def __call__(self, embeddings: Tensor) -> Tensor:
        """(B, N, D) patch embeddings -> (B, N) int64 labels."""
        batch, patches, _ = embeddings.shape
        along = _side(patches)
        if along < self.side:
            raise ValueError(f"side: expected at most the {along} patches, got {self.side}")
        place = torch.arange(along, device=embeddings.device) * self.side // along
        labels = place[:, None] * self.side + place
        return labels.flatten().expand(batch, -1)


@dataclass(frozen=True)
class Spatial:
    """K-means of embeddings and places together.

    The places of an image's patches, from -1 to 1 along each side, are added to its embeddings,
    of which each has its squared distance from their mean scaled to 1 on average, and that of
    places to `weight`: with 0 it is K-means, with much more it is of places alone.

    Args:
        n_clusters: Regions of an image.
        weight: Of the places' share in squared distances.

    Raises:
        ValueError: If n_clusters is no positive int; when called, if the image is not square.

    Example:
        >>> stripes = torch.tensor([0.0, 1.0]).repeat(8).view(1, 16, 1)  # columns of a 4 by 4 grid
        >>> Spatial(2, weight=0.0)(stripes).view(4, 4)[:, 0].unique().numel()
        1
    """

    n_clusters: int = 7
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the number."""
        check_positive_int("n_clusters", self.n_clusters)

    def __call__(self, embeddings: Tensor) -> Tensor:
        """(B, N, D) patch embeddings -> (B, N) int64 labels."""
        places = _places(embeddings).expand(len(embeddings), -1, -1)
        features = [_to_unit_spread(embeddings), self.weight**0.5 * _to_unit_spread(places)]
        return KMeans(self.n_clusters, max_length=None)(torch.cat(features, dim=-1))


class SuperpixelCCI(CCI):
    """CCI whose regions are superpixels: alike in colour and place, whatever the model sees.

    The distances are those of SLIC (Achanta et al. 2012, equation 3): of patches' mean CIELAB
    colours, and of their places times compactness / S, S the distance of superpixels' centres;
    K-means of patches, from K-means++ in place of centres on a grid, with no window around them.

    Args:
        forward_func: See `CCI`.
        vision_tower: See `CCI`.
        mean: Of each colour, that inputs were normalised with.
        std: The same.
        n_clusters: Regions of an image.
        compactness: How much places count beside colours; 10 is SLIC's.
        options: See `CCI`.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        n_clusters: int = 7,
        compactness: float = 10.0,
        **options: Any,
    ) -> None:
        super().__init__(forward_func, vision_tower, **options)
        self.mean, self.std = mean, std
        self.n_clusters, self.compactness = n_clusters, compactness

    def _cluster(self, images: Tensor, args: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        with self.vision_tower.record("input") as recording:
            outputs = self._run_forward(images, args)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        colours = lab((images * std + mean).clamp(0, 1))
        patches = F.adaptive_avg_pool2d(colours, recording.grid).flatten(2).mT
        h, w = recording.grid
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        places = torch.stack([rows, columns], dim=-1).flatten(0, 1).to(patches)
        apart = (h * w / self.n_clusters) ** 0.5
        features = [patches, places.expand(len(images), -1, -1) * self.compactness / apart]
        labels = KMeans(self.n_clusters, max_length=None)(torch.cat(features, dim=-1))
        return outputs, labels.view(len(images), h, w)


def lab(images: Tensor) -> Tensor:
    """CIELAB colours of sRGB images from 0 to 1, with the white of D65: (B, 3, H, W) both.

    Example:
        >>> lab(torch.ones(1, 3, 1, 1)).round().flatten().tolist()
        [100.0, -0.0, 0.0]
    """
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055) ** 2.4, images / 12.92)
    xyz = torch.einsum("ij,bjhw->bihw", images.new_tensor(_SRGB_TO_XYZ), linear)
    xyz = xyz / images.new_tensor(_WHITE)[:, None, None]
    bent = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = bent.unbind(dim=1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def _to_unit_spread(features: Tensor) -> Tensor:
    """(B, N, D) about their mean, the mean squared distance from it 1."""
    centred = features - features.mean(dim=1, keepdim=True)
    spread = centred.square().sum(dim=-1, keepdim=True).mean(dim=1, keepdim=True).sqrt()
    return centred / spread.clamp(min=1e-12)


def _places(embeddings: Tensor) -> Tensor:
    """(N, 2) of a square image's patches, from -1 to 1."""
    along = torch.linspace(-1, 1, _side(embeddings.shape[1])).to(embeddings)
    return torch.cartesian_prod(along, along)


def _side(patches: int) -> int:
    side = round(patches**0.5)
    if side * side != patches:
        raise ValueError(f"clustering: expected the patches of a square image, got {patches}")
    return side
