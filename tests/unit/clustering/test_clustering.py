"""KMeans against brute force, a slow K-means in numpy, scikit-learn, and its own invariances."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from torch import Tensor

from cci_captum.benchmarks.comparison import outlier_tokens
from cci_captum.clustering import KMeans, _faiss_backend, _torch_backend
from cci_captum.clustering._steps import refill

BACKENDS = [
    "torch",
    pytest.param(
        "faiss",
        marks=pytest.mark.skipif(not find_spec("faiss"), reason="faiss is not installed"),
    ),
]
backends = pytest.mark.parametrize("backend", BACKENDS)
directions = pytest.mark.parametrize("spherical", [False, True])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def blobs(batch: int, patches: int, width: int, clusters: int, seed: int = 0) -> Tensor:
    """Well separated clusters, every one used in every image."""
    generator = torch.Generator().manual_seed(seed)
    centres = 10 * torch.randn(batch, clusters, width, generator=generator)
    order = torch.rand(batch, patches, generator=generator).argsort(dim=1) % clusters
    chosen = centres.take_along_dim(order[..., None], dim=1)
    return chosen + 0.2 * torch.randn(chosen.shape, generator=generator)


def smooth(batch: int, side: int, width: int, seed: int = 0) -> Tensor:
    """Fields that vary slowly over the grid, as patch embeddings do, with some noise."""
    field = torch.nn.functional.interpolate(noise(batch, width, 4, 4, seed=seed), (side, side))
    patches = field.flatten(2).mT
    return patches + 0.3 * noise(*patches.shape, seed=seed + 1)


def canonical(labels: np.ndarray) -> list[int]:
    order = list(dict.fromkeys(labels.tolist()))
    return [order.index(label) for label in labels.tolist()]


def slow_centroids(points: np.ndarray, labels: np.ndarray, spherical: bool) -> np.ndarray:
    means = np.array([points[labels == k].mean(axis=0) for k in range(labels.max() + 1)])
    return means / np.linalg.norm(means, axis=1, keepdims=True) if spherical else means


def inertia(points: np.ndarray, labels: np.ndarray, spherical: bool = False) -> float:
    """Sum of squared distances to the centroids; points have unit rows if spherical."""
    return float(((points - slow_centroids(points, labels, spherical)[labels]) ** 2).sum())


def unit_rows(points: np.ndarray) -> np.ndarray:
    return points / np.linalg.norm(points, axis=-1, keepdims=True)


def nearest(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((points[:, None] - centroids[None]) ** 2).sum(axis=-1).argmin(axis=1)


def slow_kmeans(
    points: np.ndarray, n_clusters: int, n_redo: int, seed: int, spherical: bool, n_iter: int = 50
) -> list[int]:
    """K-means as documented, in plain loops, for data without ties or empty clusters."""
    points = unit_rows(points) if spherical else points
    candidates = 2 + int(math.log(n_clusters))
    shape = (n_redo, n_clusters, candidates, len(points))
    generator = torch.Generator().manual_seed(seed)
    races = -np.log(torch.rand(shape, dtype=torch.float64, generator=generator).numpy())
    results = []
    for r in range(n_redo):
        weights, seeds = np.ones(len(points)), []
        left = np.full(len(points), np.inf)
        for k in range(n_clusters):
            options = []
            for t in range(candidates):
                with np.errstate(divide="ignore"):
                    drawn = int((races[r, k, t] / weights).argmin())
                shrunk = np.minimum(left, ((points - points[drawn]) ** 2).sum(axis=1))
                options.append((shrunk.sum(), t, drawn, shrunk))
            _, _, drawn, left = min(options, key=lambda option: option[:2])
            seeds.append(drawn)
            weights = left
        labels = nearest(points, points[seeds])
        for _ in range(n_iter):
            assert len(np.unique(labels)) == n_clusters
            labels = nearest(points, slow_centroids(points, labels, spherical))
        results.append(labels)
    return canonical(min(results, key=lambda found: inertia(points, found, spherical)))


# truth


@backends
def test_reaches_the_optimum_over_all_partitions(backend):
    images = blobs(4, 7, 2, 3)
    labels = KMeans(3, backend=backend)(images).numpy()
    for points, found in zip(images.double().numpy(), labels, strict=True):
        partitions = (np.array(p) for p in itertools.product(range(3), repeat=7))
        best = min(inertia(points, p) for p in partitions if len(np.unique(p)) == p.max() + 1)
        assert inertia(points, found) == pytest.approx(best)


@backends
@directions
@pytest.mark.parametrize(("n_redo", "n_clusters", "seed"), [(1, 7, 0), (3, 5, 1), (2, 2, 5)])
def test_equals_a_slow_kmeans_from_the_same_draws(backend, spherical, n_redo, n_clusters, seed):
    images = noise(6, 40, 5, seed=3)
    kmeans = KMeans(n_clusters, backend=backend, n_redo=n_redo, seed=seed, spherical=spherical)
    for points, found in zip(images.double().numpy(), kmeans(images).tolist(), strict=True):
        assert found == slow_kmeans(points, n_clusters, n_redo, seed, spherical)


@backends
@pytest.mark.parametrize("n_iter", [1, 2])
def test_n_iter_stops_early(backend, n_iter):
    images = noise(4, 60, 3, seed=8)
    options = {"backend": backend, "n_redo": 1, "max_length": None}  # long ones are wanted here
    found = KMeans(6, n_iter=n_iter, **options)(images)
    for points, labels in zip(images.double().numpy(), found.tolist(), strict=True):
        assert labels == slow_kmeans(points, 6, 1, 0, False, n_iter)
    assert not torch.equal(found, KMeans(6, **options)(images))


@backends
def test_finds_the_same_blobs_as_scikit_learn(backend):
    cluster = pytest.importorskip("sklearn.cluster")
    images = blobs(5, 60, 16, 7)
    labels = KMeans(7, backend=backend)(images)
    for points, found in zip(images.double().numpy(), labels.tolist(), strict=True):
        reference = cluster.KMeans(7, n_init=10, random_state=0).fit(points)
        assert found == canonical(reference.labels_)


@backends
def test_is_as_good_as_scikit_learn(backend):
    cluster = pytest.importorskip("sklearn.cluster")
    images = smooth(16, 10, 8)
    labels = KMeans(7, backend=backend)(images).numpy()
    ratios = []
    for points, found in zip(images.double().numpy(), labels, strict=True):
        reference = cluster.KMeans(7, n_init=3, random_state=0).fit(points)
        ratios.append(inertia(points, found) / reference.inertia_)
    assert np.mean(ratios) < 1.01


@backends
@directions
def test_converged_labels_are_a_fixed_point(backend, spherical):
    images = smooth(8, 12, 6)
    labels = KMeans(7, backend=backend, spherical=spherical)(images).numpy()
    for points, found in zip(images.double().numpy(), labels, strict=True):
        points = unit_rows(points) if spherical else points
        assert np.array_equal(nearest(points, slow_centroids(points, found, spherical)), found)


@backends
def test_more_restarts_are_never_worse(backend):
    images = smooth(8, 8, 4)
    totals = []
    for n_redo in (1, 3, 9):
        labels = KMeans(7, backend=backend, n_redo=n_redo)(images).numpy()
        totals.append([inertia(p, k) for p, k in zip(images.double().numpy(), labels, strict=True)])
    assert (np.diff(totals, axis=0) <= 1e-9).all()
    assert (np.diff(totals, axis=0) < -1e-3).any()


@backends
def test_an_emptied_cluster_takes_the_farthest_patch(backend, monkeypatch):
    # From these seeds the second centroid moves to 7.5 = mean(3, 12); then 3 goes to 2, 12 goes
    # to 16.25, and the cluster is empty.
    points = torch.tensor([2.0, 13, 16, 25, 14, 22, 3, 12])[None, :, None]
    seeds = torch.tensor([[[3, 6, 5, 0]]])
    for module in (_torch_backend, _faiss_backend):
        monkeypatch.setattr(module, "choose_seeds", lambda *_: seeds)
    labels = KMeans(4, backend=backend, n_redo=1)(points)
    assert labels.tolist() == [[0, 1, 2, 3, 2, 3, 0, 1]]  # {2, 3} {12, 13} {14, 16} {22, 25}


def test_refill_takes_no_patch_that_is_alone():
    labels = torch.tensor([0, 0, 1, 1, 2])
    distances = torch.tensor([1.0, 2, 0.5, 3, 9])  # the last patch is farthest, but alone
    assert refill(labels, distances, [3, 4]).tolist() == [0, 4, 1, 3, 2]
    assert labels.tolist() == [0, 0, 1, 1, 2]


def test_refill_leaves_a_cluster_empty_when_nothing_is_off_its_centroid():
    labels = torch.tensor([0, 0, 1, 1])
    assert torch.equal(refill(labels, torch.full((4,), 1e-13), [2]), labels)


# what the labels do not depend on


@backends
@directions
def test_depends_on_the_image_alone(backend, spherical):
    images = torch.cat([smooth(6, 9, 12), torch.ones(1, 81, 12), blobs(1, 81, 12, 3)])
    kmeans = KMeans(backend=backend, spherical=spherical)
    together = kmeans(images)
    alone = torch.cat([kmeans(image[None]) for image in images])
    order = torch.tensor([5, 2, 7, 0, 6, 1, 4, 3])
    assert torch.equal(together, alone)
    assert torch.equal(together[order], kmeans(images[order]))


@backends
def test_chunks_change_nothing(backend, monkeypatch):
    images = smooth(5, 9, 12)
    whole = KMeans(backend=backend)(images)
    monkeypatch.setattr("cci_captum.clustering.kmeans._CPU_BYTES", 1)
    assert torch.equal(KMeans(backend=backend)(images), whole)


@backends
@directions
def test_ties_do_not_depend_on_the_batch(backend, spherical):
    grid = torch.cartesian_prod(torch.arange(1.0, 7), torch.arange(1.0, 7))[None]
    kmeans = KMeans(5, backend=backend, spherical=spherical)
    alone = kmeans(grid)
    batch = torch.cat([grid, noise(6, 36, 2), grid])
    assert torch.equal(kmeans(batch)[[0, -1]], alone.expand(2, -1))


@pytest.mark.parametrize("n_clusters", [2, 3, 4, 5, 9])
def test_rounding_does_not_decide_ties(n_clusters):
    side = torch.arange(6, dtype=torch.float64)
    lattice = torch.cartesian_prod(side, side)[None]  # ties between centroids and between restarts
    labels = KMeans(n_clusters)(lattice)
    for seed in range(20):
        rotation = torch.linalg.qr(noise(2, 2, seed=seed).double())[0]
        assert torch.equal(KMeans(n_clusters)(lattice @ rotation / 3), labels)


@backends
def test_is_deterministic_and_seeded(backend):
    images = noise(3, 50, 4)
    first = KMeans(backend=backend)(images)
    torch.manual_seed(99)
    assert torch.equal(KMeans(backend=backend)(images), first)
    assert not torch.equal(KMeans(backend=backend, seed=1)(images), first)


def test_leaves_the_global_random_state_alone():
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    KMeans()(noise(1, 20, 4))
    assert torch.equal(torch.rand(3), expected)


@backends
def test_translation_and_rotation(backend):
    images = smooth(2, 14, 768).double()
    rotation = torch.linalg.qr(noise(768, 768, seed=7).double())[0]
    labels = KMeans(backend=backend)(images)
    assert torch.equal(KMeans(backend=backend)(images + 1000), labels)
    assert torch.equal(KMeans(backend=backend)(images @ rotation), labels)


@backends
@directions
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale(backend, spherical, scale):
    images = smooth(4, 9, 6)
    kmeans = KMeans(backend=backend, spherical=spherical)
    assert torch.equal(kmeans(images * scale), kmeans(images))


@backends
def test_spherical_ignores_lengths(backend):
    images = smooth(4, 9, 6).double()
    lengths = noise(4, 81, 1, seed=5).double().exp()
    labels = KMeans(backend=backend, spherical=True)(images)
    assert torch.equal(KMeans(backend=backend, spherical=True)(images * lengths), labels)
    assert not torch.equal(KMeans(backend=backend)(images * lengths), labels)


@backends
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_takes_any_float_exactly(backend, dtype):
    images = smooth(3, 9, 6).to(dtype)
    kmeans = KMeans(backend=backend)
    assert torch.equal(kmeans(images), kmeans(images.float().double()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(kmeans(images), kmeans(images.float()))


@backends
@directions
def test_leaves_its_input_alone(backend, spherical):
    images = noise(2, 20, 4).double().requires_grad_()
    before = images.detach().clone()
    labels = KMeans(backend=backend, spherical=spherical)(images)
    assert torch.equal(images.detach(), before)
    assert not labels.requires_grad


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@backends
@directions
def test_cuda_gives_the_labels_of_the_cpu(backend, spherical):
    images = torch.cat([blobs(8, 100, 32, 7), smooth(8, 10, 32)])
    kmeans = KMeans(backend=backend, spherical=spherical)
    labels = kmeans(images.cuda())
    assert labels.is_cuda
    assert torch.equal(labels.cpu(), kmeans(images))


# edges


@backends
@directions
@pytest.mark.parametrize("n_clusters", [1, 2, 4, 7, 50])
def test_duplicates_give_as_many_clusters_as_distinct_patches(backend, spherical, n_clusters):
    distinct = torch.tensor([0, 1, 0, 2, 3, 3, 1, 2, 0])
    image = noise(1, 4, 6)[:, distinct]
    labels = KMeans(n_clusters, backend=backend, spherical=spherical)(image)
    assert labels.unique().tolist() == list(range(min(n_clusters, 4)))
    if n_clusters >= 4:
        assert labels.tolist() == [distinct.tolist()]


@backends
@directions
@pytest.mark.parametrize("value", [0.0, 0.3, -1e4])
def test_a_constant_image_is_one_cluster(backend, spherical, value):
    images = torch.full((2, 30, 5), value)
    rounded = images * (1 + 1e-7 * noise(2, 30, 5))  # as a forward pass in float32 would
    for seed in range(5):
        kmeans = KMeans(backend=backend, spherical=spherical, seed=seed)
        assert not kmeans(images).any()
        assert not kmeans(rounded).any()


@backends
@directions
def test_more_clusters_than_patches(backend, spherical):
    images = noise(3, 5, 4)
    labels = KMeans(9, backend=backend, spherical=spherical)(images)
    assert torch.equal(labels, torch.arange(5).expand(3, -1))
    assert KMeans(9, backend=backend, spherical=spherical)(noise(2, 1, 4)).tolist() == [[0], [0]]


@backends
def test_images_of_a_batch_may_have_different_numbers_of_clusters(backend):
    images = torch.stack([noise(6, 3), torch.ones(6, 3), noise(2, 3).repeat(3, 1)])
    labels = KMeans(4, backend=backend)(images)
    assert labels.amax(dim=1).tolist() == [3, 0, 1]


@backends
@directions
def test_every_label_is_used_and_numbered_by_first_appearance(backend, spherical):
    labels = KMeans(11, backend=backend, spherical=spherical)(noise(20, 30, 2))
    for row in labels.numpy():
        assert row.tolist() == canonical(row)
        assert row.max() == 10


@backends
def test_zero_patches_share_a_cluster_when_spherical(backend):
    image = torch.zeros(1, 6, 3)
    image[0, 1], image[0, 4] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 2.0, 0])
    assert KMeans(3, backend=backend, spherical=True)(image).tolist() == [[0, 1, 0, 0, 2, 0]]


@backends
def test_an_empty_batch(backend):
    labels = KMeans(backend=backend)(torch.zeros(0, 9, 4))
    assert labels.shape == (0, 9)
    assert labels.dtype == torch.int64


def test_auto_is_torch():
    images = noise(3, 80, 4)
    assert torch.equal(KMeans()(images), KMeans(backend="torch")(images))


def test_shows_its_settings_and_can_be_copied():
    kmeans = KMeans(5, spherical=True)
    expected = (
        "KMeans(n_clusters=5, backend='auto', n_iter=50, n_redo=3, seed=0, spherical=True, "
        "max_length=3.0)"
    )
    assert repr(kmeans) == expected
    assert copy.deepcopy(kmeans) == pickle.loads(pickle.dumps(kmeans)) == kmeans
    assert KMeans(np.int64(5), spherical=True) == kmeans


# faiss


@pytest.mark.skipif(not find_spec("faiss"), reason="faiss is not installed")
def test_faiss_is_quiet_and_independent_of_threads(capfd):
    import faiss

    images = smooth(4, 14, 64)
    before = faiss.omp_get_max_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            faiss.omp_set_num_threads(threads)
            found.append(KMeans(backend="faiss")(images))
            assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not find_spec("faiss"), reason="faiss is not installed")
def test_backends_agree_on_blobs():
    images = blobs(8, 196, 64, 9)
    assert torch.equal(KMeans(backend="faiss")(images), KMeans(backend="torch")(images))


def test_without_faiss_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'pip install "cci-captum\[faiss\]"'):
        KMeans(backend="faiss")
    assert KMeans()(noise(1, 9, 2)).shape == (1, 9)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import numpy._of_another_version", "numpy._of_another_version"),
        ("raise RuntimeError('nvidia-cublas-cu12 is missing')", "nvidia-cublas-cu12 is missing"),
        ("raise OSError('libcudart.so.12: no such file')", "libcudart.so.12"),
    ],
    ids=["another NumPy", "no cuBLAS", "no CUDA"],
)
def test_a_broken_faiss_says_what_is_wrong(monkeypatch, tmp_path, source, reason):
    (tmp_path / "faiss.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    with pytest.raises(ImportError, match=f"cannot be imported: .*{reason}"):
        KMeans(backend="faiss")


@pytest.mark.exhaustive
def test_faiss_is_imported_only_when_asked_for():
    code = "import sys, cci_captum.clustering as c; c.KMeans(); assert 'faiss' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# errors


# A few tokens of many times the usual length.


@backends
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("count", [2, 8])
def test_outliers_do_not_take_the_clusters(backend, count, shared):
    """Planted regions, by scikit-learn's index over the patches that are no outliers."""
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(3)
    tokens, regions = outlier_tokens.planted(8, generator)
    tokens, where = outlier_tokens.with_outliers(tokens, count, generator, shared=shared)

    def index(labels):
        return np.mean(
            [
                metrics.adjusted_rand_score(truth[~out], found[~out])
                for found, truth, out in zip(labels, regions, where, strict=True)
            ]
        )

    found = KMeans(7, backend=backend)(tokens)
    assert index(found) > 0.85
    for labels, out in zip(found, where, strict=True):
        assert len(labels[~out].unique()) >= 5
    if count == 8 and not shared:
        assert index(KMeans(7, backend=backend, max_length=None)(tokens)) < 0.1


@backends
def test_outliers_are_scaled_to_the_median(backend):
    images = smooth(4, 10, 8) + 3
    lengths = images.norm(dim=-1, keepdim=True)
    median = lengths.median(dim=1, keepdim=True).values
    assert float((lengths / median).max()) < 3
    plain = KMeans(7, backend=backend, max_length=None)
    assert torch.equal(KMeans(7, backend=backend)(images), plain(images))  # none is one
    images[:, 17] *= 40
    scaled = images.clone()
    scaled[:, 17:18] *= median / images[:, 17:18].norm(dim=-1, keepdim=True)
    assert torch.equal(KMeans(7, backend=backend)(images), plain(scaled))
    assert torch.equal(
        KMeans(7, backend=backend, spherical=True)(images),
        KMeans(7, backend=backend, spherical=True, max_length=None)(images),
    )


def test_images_of_mostly_zeros_are_left_as_they_are():
    image = torch.zeros(1, 9, 2)
    image[0, :3] = torch.tensor([[5.0, 0], [5, 0], [0, 5]])
    assert KMeans(3)(image).tolist() == [[0, 0, 1, 2, 2, 2, 2, 2, 2]]


@pytest.mark.exhaustive
def test_the_study_of_outliers():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    for classes in (1, 3, 9):
        one, other = (torch.randint(classes, (40,), generator=generator) for _ in range(2))
        for pair in ((one, other), (one, one), (one, torch.arange(40))):
            expected = metrics.adjusted_rand_score(*pair)
            assert outlier_tokens.rand_index(*pair) == pytest.approx(expected, abs=1e-12)
    rows = outlier_tokens.measure(2, seed=0)
    assert [row[0] for row in rows] == list(outlier_tokens.CHOICES)
    assert {len(row) for row in rows} == {len(outlier_tokens.head())}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"n_clusters": 0}, ValueError, "n_clusters: expected at least 1"),
        ({"n_clusters": 2.0}, TypeError, "n_clusters: expected an int, got float"),
        ({"n_clusters": True}, TypeError, "n_clusters: expected an int, got bool"),
        ({"n_iter": 0}, ValueError, "n_iter: expected at least 1"),
        ({"n_redo": -1}, ValueError, "n_redo: expected at least 1"),
        ({"seed": -1}, ValueError, "seed: expected at least 0"),
        ({"seed": 2**63}, ValueError, r"seed: expected at least 0 and below 2\*\*63"),
        ({"seed": None}, TypeError, "seed: expected an int, got NoneType"),
        ({"spherical": 1}, TypeError, "spherical: expected a bool, got int"),
        ({"max_length": "3"}, TypeError, "max_length: expected a number or None, got str"),
        ({"max_length": True}, TypeError, "max_length: expected a number or None, got bool"),
        ({"max_length": 0.5}, ValueError, "max_length: expected at least 1, got 0.5"),
        ({"max_length": math.nan}, ValueError, "max_length: expected at least 1, got nan"),
        ({"backend": "numpy"}, ValueError, "expected one of auto, torch, faiss, got 'numpy'"),
    ],
)
def test_wrong_settings(settings, error, message):
    with pytest.raises(error, match=message):
        KMeans(**settings)


@pytest.mark.parametrize(
    ("embeddings", "error", "message"),
    [
        (np.zeros((1, 2, 3)), TypeError, "embeddings: expected a Tensor, got ndarray"),
        (torch.zeros(1, 2, 3, dtype=torch.int64), TypeError, "float32.*, got torch.int64"),
        (torch.zeros(1, 2, 3, dtype=torch.complex64), TypeError, "got torch.complex64"),
        (torch.zeros(2, 3), ValueError, r"shape \(B, N, D\).*got \(2, 3\)"),
        (torch.zeros(1, 0, 3), ValueError, r"at least one patch.*got \(1, 0, 3\)"),
        (torch.zeros(1, 3, 0), ValueError, r"one channel.*got \(1, 3, 0\)"),
        (torch.full((2, 2, 3), math.nan), ValueError, "embeddings: expected finite"),
        (torch.full((2, 2, 3), math.inf), ValueError, "embeddings: expected finite"),
        (torch.full((2, 2, 3), 1e200, dtype=torch.float64), ValueError, "up to 1e150"),
    ],
)
def test_wrong_embeddings(embeddings, error, message):
    with pytest.raises(error, match=message):
        KMeans()(embeddings)
