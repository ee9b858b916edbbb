"""What clustering the patches of an image costs, and how good the clusters are.

Times, in one process and in turn, KMeans with its torch and faiss backends, ``faiss.Kmeans``
called image by image, and scikit-learn; those that are not installed are left out. All use seven
clusters and three restarts. The embeddings are smooth random fields with noise. Times are for
one image; "slower" is the ratio to the torch backend, "inertia" the mean over images of the
inertia divided by the smallest that any of the methods found.

    OMP_NUM_THREADS=1 python -m cci_captum.benchmarks.speed.clustering --repeats 5

(One thread: on a busy machine several threads wait for each other, and that is what one times.)
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from cci_captum.clustering import KMeans

from .timing import median_seconds

SHAPES = [
    (8, 144, 192),
    (8, 196, 768),
    (32, 196, 768),
    (8, 576, 1024),
    (256, 196, 768),
]  # (B, N, D)
N_CLUSTERS = 7
N_REDO = 3


def smooth_fields(batch: int, n_patches: int, width: int) -> Tensor:
    """Draw embeddings that vary slowly over a square grid, as those of patches do.

    Args:
        batch: number of images B.
        n_patches: number of patches N, a square.
        width: number of channels D.

    Returns:
        ``(B, N, D)`` float32.
    """
    side = math.isqrt(n_patches)
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(batch, width, 4, 4, generator=generator)
    field = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")
    noise = torch.randn(batch, n_patches, width, generator=generator)
    return field.flatten(2).mT + 0.5 * noise


def inertias_of(embeddings: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of squared distances to the cluster means.

    Args:
        embeddings: ``(B, N, D)``.
        labels: ``(B, N)`` int64, below ``N_CLUSTERS``.

    Returns:
        ``(B,)`` float64.
    """
    points = embeddings.double()
    members = torch.nn.functional.one_hot(labels, N_CLUSTERS).double()
    means = members.mT @ points / members.sum(dim=1)[..., None].clamp_min(1)
    return (points - means.take_along_dim(labels[..., None], dim=1)).square().sum(dim=(1, 2))


def _faiss_kmeans(embeddings: Tensor) -> Tensor:
    import faiss

    labels = []
    for points in embeddings.cpu().numpy():
        kmeans = faiss.Kmeans(
            points.shape[1], N_CLUSTERS, niter=50, nredo=N_REDO, min_points_per_centroid=1
        )
        kmeans.train(points)
        labels.append(torch.from_numpy(kmeans.assign(points)[1]))
    return torch.stack(labels).long()


def _sklearn_kmeans(embeddings: Tensor) -> Tensor:
    from sklearn.cluster import KMeans as SklearnKMeans

    kmeans = SklearnKMeans(N_CLUSTERS, n_init=N_REDO, max_iter=50, random_state=0)
    labels = [kmeans.fit_predict(points) for points in embeddings.cpu().numpy()]
    return torch.from_numpy(np.stack(labels)).long()


def _methods() -> dict[str, Callable[[Tensor], Tensor]]:
    methods: dict[str, Callable[[Tensor], Tensor]] = {
        "torch backend": KMeans(N_CLUSTERS, n_redo=N_REDO, backend="torch")
    }
    if find_spec("faiss"):
        methods["faiss backend"] = KMeans(N_CLUSTERS, n_redo=N_REDO, backend="faiss")
        methods["faiss.Kmeans"] = _faiss_kmeans
    if find_spec("sklearn"):
        methods["scikit-learn"] = _sklearn_kmeans
    return methods


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu", help="device of the embeddings")
    parser.add_argument("--repeats", type=int, default=3, help="timed calls of each method")
    options = parser.parse_args(argv)
    device = torch.device(options.device)

    print(f"{'(B, N, D)':16} {'method':14} {'ms/image':>9} {'slower':>7} {'inertia':>8}")
    for shape in SHAPES:
        embeddings = smooth_fields(*shape).to(device)
        methods = _methods()
        inertias = {
            name: inertias_of(embeddings, method(embeddings).to(device))
            for name, method in methods.items()
        }
        best = torch.stack(list(inertias.values())).amin(dim=0)
        calls = {name: partial(method, embeddings) for name, method in methods.items()}
        seconds = median_seconds(calls, options.repeats, device)
        for name in methods:
            print(
                f"{shape!s:16} {name:14} {1e3 * seconds[name] / shape[0]:9.2f} "
                f"{seconds[name] / seconds['torch backend']:7.2f} "
                f"{float((inertias[name] / best).mean()):8.4f}"
            )


if __name__ == "__main__":
    main()
