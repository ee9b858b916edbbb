"""Per-image K-means of patch embeddings."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Literal, get_args

import torch
from torch import Tensor

from .._checks import check_choice
from . import _torch_backend
from ._steps import draw_races

Backend = Literal["auto", "torch", "faiss"]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CPU_BYTES = 64 * 2**20  # of memory for images clustered together; more is not faster
_DEVICE_BYTES = 512 * 2**20  # enough work for each launch of a kernel


@dataclass(frozen=True)
class KMeans:
    """K-means of each image's patches, as CCI uses it (arXiv 2511.12978: per image, K = 7).

    Seeds come from greedy k-means++ and Lloyd's iterations run until no label changes. Given the
    seed the labels are deterministic. They depend on the image alone, not on the rest of its
    batch. Clusters are numbered in the order in which they first appear among the patches, and
    none is empty: an image with fewer than `n_clusters` distinct patches gets fewer clusters.

    Patches whose squared distance is below 1e-12 of the mean squared norm count as equal.

    Large ViTs put a few tokens of up to ten times the usual norm on patches of little content
    (Darcet et al., arXiv 2309.16588). Left as they are they get most clusters, one token each;
    `max_length` takes their length, and leaves all ordinary tokens as they are. See
    `cci_captum.benchmarks.comparison.outlier_tokens` for how this default was found.

    Args:
        n_clusters: the number of clusters K of an image.
        backend: `"torch"` clusters a whole batch at once in float64, on the device of the
            embeddings (on the CPU where the device has no float64). `"faiss"` goes image by
            image, and finds nearest centroids with faiss in float32; it needs the extra
            `cci-captum[faiss]` or, for work on the GPU, `cci-captum[gpu]`. `"auto"` is
            `"torch"`, whatever is installed, so that installing faiss changes no result.
        n_iter: the most Lloyd iterations.
        n_redo: the number of restarts; the one with the smallest inertia is returned.
        seed: seeds the k-means++ draws; from 0 to 2**63 - 1.
        spherical: cluster by direction: embeddings and centroids are scaled to unit length.
        max_length: a patch longer than so many times the median length of its image's patches is
            scaled to that median. `None` leaves every patch as it is.

    Raises:
        TypeError: a number is not an integer, `spherical` is not a bool, or `max_length` is no
            number.
        ValueError: a number is out of range, or the backend is unknown.
        ImportError: `backend="faiss"` and faiss is not installed.

    Example:
        >>> import torch
        >>> from cci_captum.clustering import KMeans
        >>> embeddings = torch.tensor([[[0.0], [9.0], [0.1], [9.1], [5.0]]])  # (B, N, D)
        >>> KMeans(3)(embeddings)
        tensor([[0, 1, 0, 1, 2]])
    """

    n_clusters: int = 7
    _: KW_ONLY
    backend: Backend = "auto"
    n_iter: int = 50
    n_redo: int = 3
    seed: int = 0
    spherical: bool = False
    max_length: float | None = 3.0

    def __post_init__(self) -> None:
        for name, least in {"n_clusters": 1, "n_iter": 1, "n_redo": 1, "seed": 0}.items():
            value = _checked_int(name, getattr(self, name), least)
            object.__setattr__(self, name, value)
        if not isinstance(self.spherical, bool):
            raise TypeError(f"spherical: expected a bool, got {type(self.spherical).__name__}")
        if self.max_length is not None:
            if isinstance(self.max_length, bool) or not isinstance(self.max_length, Real):
                raise TypeError(
                    f"max_length: expected a number or None, got {type(self.max_length).__name__}"
                )
            if not self.max_length >= 1:
                raise ValueError(f"max_length: expected at least 1, got {self.max_length}")
        check_choice("backend", self.backend, get_args(Backend))
        if self.backend == "faiss":
            from ._faiss_backend import import_faiss

            import_faiss()

    @torch.no_grad()
    def __call__(self, embeddings: Tensor) -> Tensor:
        """Cluster the patches of each image.

        Args:
            embeddings: `(B, N, D)`, float16, bfloat16, float32 or float64: N patches an image.

        Returns:
            `(B, N)` int64 labels on the device of the embeddings. Image b has the labels
            0 to `labels[b].max()`, all of them used.

        Raises:
            TypeError: embeddings is not a tensor of one of these types.
            ValueError: embeddings has another shape, no patches or channels, NaN or infinity.
        """
        _check_embeddings(embeddings)
        batch, n_patches, width = embeddings.shape
        if batch == 0:
            return embeddings.new_empty((0, n_patches), dtype=torch.int64)
        device = embeddings.device if _has_float64(embeddings.device) else torch.device("cpu")
        n_clusters = min(self.n_clusters, n_patches)
        races = draw_races(self.n_redo, n_clusters, n_patches, self.seed).to(device)
        floats = n_patches * (2 * width + 2 * n_patches + 6 * self.n_redo * n_clusters)
        budget = _CPU_BYTES if device.type == "cpu" else _DEVICE_BYTES
        chunk = max(1, budget // (8 * floats))
        labels = [self._cluster(part.to(device), races) for part in embeddings.split(chunk)]
        return torch.cat(labels).to(embeddings.device)

    def _cluster(self, embeddings: Tensor, races: Tensor) -> Tensor:
        points = _prepare(embeddings, self.spherical, self.max_length)
        if self.backend == "faiss":
            from . import _faiss_backend

            run = _faiss_backend.cluster
        else:
            run = _torch_backend.cluster
        labels = run(points, races, n_iter=self.n_iter, spherical=self.spherical)
        return _canonical(labels, races.shape[1])


def _prepare(embeddings: Tensor, spherical: bool, max_length: float | None) -> Tensor:
    """Return float64 points (B, N, D): unit rows if spherical, else of scale 1 and centred."""
    points = embeddings.to(torch.float64, copy=True)
    lengths = torch.linalg.vector_norm(points, dim=-1, keepdim=True)  # (B, N, 1)
    squares = lengths.square().mean(dim=1, keepdim=True)
    if not squares.isfinite().all():
        raise ValueError("embeddings: expected finite values up to 1e150, got others")
    if max_length is not None and not spherical:
        usual = lengths.median(dim=1, keepdim=True).values
        outlier = (lengths > max_length * usual) & (usual > 0)
        points *= (usual / lengths).where(outlier, 1)
        squares = usual.where(outlier, lengths).square().mean(dim=1, keepdim=True)
    scale = lengths if spherical else squares.sqrt()
    points /= scale.masked_fill(scale == 0, 1)
    if not spherical:
        points -= points.mean(dim=1, keepdim=True)  # faiss computes in float32
    return points


def _canonical(labels: Tensor, n_clusters: int) -> Tensor:
    """Renumber labels (B, N) in the order in which they first appear."""
    members = labels[:, None] == torch.arange(n_clusters, device=labels.device)[:, None]
    first = members.int().argmax(dim=2).masked_fill(~members.any(dim=2), labels.shape[1])
    rank = first.argsort(dim=1, stable=True).argsort(dim=1)  # (B, K)
    return rank.gather(1, labels)


def _has_float64(device: torch.device) -> bool:
    return device.type != "mps"


def _checked_int(name: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__} ({value!r})")
    number = int(value)
    if not least <= number < 2**63:
        raise ValueError(f"{name}: expected at least {least} and below 2**63, got {number}")
    return number


def _check_embeddings(embeddings: Tensor) -> None:
    if not isinstance(embeddings, Tensor):
        raise TypeError(f"embeddings: expected a Tensor, got {type(embeddings).__name__}")
    if embeddings.dtype not in _DTYPES:
        expected = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        raise TypeError(f"embeddings: expected one of {expected}, got {embeddings.dtype}")
    shape = tuple(embeddings.shape)
    if len(shape) != 3 or 0 in shape[1:]:
        raise ValueError(
            "embeddings must have the shape (B, N, D) with at least one patch and one channel, "
            f"got {shape}"
        )
