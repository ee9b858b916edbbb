"""K-means image by image, with faiss for the search of the nearest centroid.

faiss, with float32 and sums of its own, rounds differently from the torch backend: from the same
seeds both find the same clusters unless a patch lies as good as midway between two centroids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor

from .._extras import MissingExtraError, needed_by
from ._steps import SAME, choose_seeds, refill

Nearest = Callable[[Tensor, Tensor], Tensor]


def import_faiss() -> ModuleType:
    """Return the module faiss.

    Raises:
        ImportError: faiss is not installed, and the message says what to install; or it does
            not go with the installed NumPy.
    """
    try:
        with needed_by('backend="faiss"'):
            import faiss
    except MissingExtraError as error:
        raise MissingExtraError(
            f'{error} (or "cci-captum[gpu]" for clustering on the GPU)', name=error.name
        ) from error.__cause__
    # faiss-gpu raises RuntimeError or OSError where CUDA's libraries are missing.
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            f'backend="faiss": faiss is installed, but cannot be imported: {error}'
        ) from error
    return faiss


def cluster(points: Tensor, races: Tensor, *, n_iter: int, spherical: bool) -> Tensor:
    """Cluster the patches of each image.

    Arguments and result are those of :func:`cci_captum.clustering._torch_backend.cluster`. Tensors
    on a CUDA device stay there if faiss has GPUs, else they go to the CPU and the labels back.
    """
    faiss = import_faiss()
    device = points.device
    if device.type == "cuda" and faiss.get_num_gpus() == 0:
        points, races = points.cpu(), races.cpu()
    norms = torch.linalg.vector_norm(points, dim=-1).square()

    def squared_distances(patches: Tensor) -> Tensor:
        products = points.take_along_dim(patches[..., None], dim=1) @ points.mT
        return (norms[:, None] - 2 * products + norms.gather(1, patches)[..., None]).clamp_min(0)

    seeds = choose_seeds(squared_distances, races, len(points))
    with _search(faiss, points.device) as nearest:
        labels = []
        for image, starts in zip(points, seeds, strict=True):
            runs = [
                _lloyd(image, start[start >= 0], n_iter, spherical, nearest) for start in starts
            ]
            limit = min(inertia for _, inertia in runs) + SAME * len(image)
            # of equally good restarts the first
            labels.append(next(found for found, inertia in runs if inertia <= limit))
    return torch.stack(labels).to(device)


@contextmanager
def _search(faiss: ModuleType, device: torch.device) -> Iterator[Nearest]:
    """Yield a function from points (N, D) and centroids (K, D) to the nearest centroids (N,).

    On a CUDA device this imports `faiss.contrib.torch_utils`, which lets the methods of faiss
    take tensors as well as arrays, for the whole process. On the CPU faiss works in one thread
    meanwhile: more do not pay at this size, and rounding then depends on no setting.
    """
    if device.type == "cuda":
        import_module("faiss.contrib.torch_utils")
        resources = faiss.StandardGpuResources()
        resources.setTempMemory(32 * 2**20)
        with torch.cuda.device(device):
            index = torch.cuda.current_device()
            yield lambda points, centroids: faiss.knn_gpu(
                resources, points, centroids, 1, device=index
            )[1].squeeze(1)
        return
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield lambda points, centroids: torch.from_numpy(
            faiss.knn(points.numpy(), centroids.numpy(), 1)[1]
        ).squeeze(1)
    finally:
        faiss.omp_set_num_threads(threads)


def _lloyd(
    points: Tensor, seeds: Tensor, n_iter: int, spherical: bool, nearest: Nearest
) -> tuple[Tensor, float]:
    """Iterate until no label changes.

    Returns:
        `(N,)` labels without gaps, and their inertia less the sum of the points' squares.
    """
    single = points.float()
    labels = _without_gaps(nearest(single, single[seeds]))
    for _ in range(n_iter):
        centroids, _ = _centroids(points, labels, spherical)
        updated = nearest(single, centroids.float())
        sizes = updated.bincount(minlength=len(centroids))
        if not sizes.all():
            own = (points - centroids[updated]).square().sum(dim=-1)
            updated = refill(updated, own, (sizes == 0).nonzero().flatten().tolist())
            updated = _without_gaps(updated)
        if torch.equal(updated, labels):
            break
        labels = updated
    return labels, _centroids(points, labels, spherical)[1]


def _centroids(points: Tensor, labels: Tensor, spherical: bool) -> tuple[Tensor, float]:
    """Return the means (K, D), or the sums scaled to unit length, and the inertia they give."""
    members = labels == torch.arange(int(labels.max()) + 1, device=labels.device)[:, None]
    sums = members.to(points.dtype) @ points
    counts = members.sum(dim=1, keepdim=True)
    if spherical:
        lengths = torch.linalg.vector_norm(sums, dim=-1, keepdim=True)
        centroids = (sums / lengths).where(lengths > 1e-12 * counts, 0)
    else:
        centroids = sums / counts
    return centroids, float((centroids * (counts * centroids - 2 * sums)).sum())


def _without_gaps(labels: Tensor) -> Tensor:
    return labels.unique(return_inverse=True)[1]
