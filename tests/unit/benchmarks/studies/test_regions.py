"""Other regions than K-means', against other libraries and by construction."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import close, randn
from skimage.color import rgb2lab
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from cci_captum import CCI, GateGradient, KMeans
from cci_captum.benchmarks.studies.changed import Enlarged, Shaken
from cci_captum.benchmarks.studies.integrated import IntegratedGates
from cci_captum.benchmarks.studies.regions import Agglomerative, Grid, Spatial, SuperpixelCCI, lab
from cci_captum.benchmarks.studies.replaced import EmbeddingAblation
from cci_captum.vision_towers import find_vision_tower

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.3, 0.2)


@pytest.mark.parametrize("n_clusters", [1, 3, 7])
def test_agglomerative_is_scikit_learns(n_clusters: int) -> None:
    tokens = randn(2, 25, 6)
    labels = Agglomerative(n_clusters)(tokens)
    for own, found in zip(tokens, labels, strict=True):
        expected = AgglomerativeClustering(n_clusters, linkage="ward").fit_predict(own.numpy())
        assert adjusted_rand_score(expected, found) == 1
        assert len(found.unique()) == n_clusters


def test_lab_is_scikit_images() -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    images[0, :, 0, 0], images[0, :, 0, 1] = 0.0, 0.01
    expected = rgb2lab(images.permute(0, 2, 3, 1).double().numpy())
    close(lab(images), torch.from_numpy(expected).permute(0, 3, 1, 2).float(), 1e-4)


def test_a_grid_has_squares_of_like_size() -> None:
    labels = Grid(3)(torch.zeros(2, 49, 4)).view(2, 7, 7)
    assert labels[1].tolist() == labels[0].tolist()
    for row in range(7):
        for column in range(7):
            assert labels[0, row, column] == row * 3 // 7 * 3 + column * 3 // 7


def test_places_count_as_much_as_they_are_told_to() -> None:
    """Four stripes of embeddings across two halves: stripes with no weight, halves with all."""
    stripes = (torch.arange(64) % 8 // 2).float()
    tokens = torch.stack([stripes, 0.01 * randn(64)], dim=-1)[None]
    assert adjusted_rand_score(stripes, Spatial(4, weight=0.0)(tokens)[0]) == 1
    quarters = Spatial(4, weight=1e4)(tokens)[0].view(8, 8)
    for half in (quarters[:4, :4], quarters[4:, 4:], quarters[:4, 4:]):
        values, counts = half.unique(return_counts=True)
        assert counts.max() >= 12, (values, counts)


def painted(model: torch.nn.Module, make_images) -> Tensor:
    """Images of two colours, the left half and the right."""
    images = torch.zeros_like(make_images(model))
    images[..., 16:] = torch.tensor([1.0, 0.2, 0.1])[:, None, None]
    return (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def test_superpixels_follow_colours(model, classifier, make_images) -> None:
    images = painted(model, make_images)
    method = SuperpixelCCI(classifier, mean=MEAN, std=STD, n_clusters=2, compactness=0.1)
    labels = method.effects(images).labels
    for own in labels:
        assert len(own[:, :2].unique()) == len(own[:, 2:].unique()) == 1
        assert own[0, 0] != own[0, 3]


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_embeddings_are_overwritten_before_the_first_block(
    model, classifier, make_images, fill: str
) -> None:
    images, clustering = make_images(model), KMeans(3)
    tower = find_vision_tower(model)
    with torch.no_grad(), tower.record() as recording:
        whole = classifier(images)[:, 1]
    labels, expected = clustering(recording.tokens), torch.zeros(3, 16)
    for cluster in range(3):

        def overwrite(module, args, output, inside=labels == cluster):
            patches = output[:, 1:].clone()
            filled = patches.mean(1, keepdim=True) if fill == "mean" else torch.zeros(())
            patches = torch.where(inside[..., None], filled, patches)
            return torch.cat([output[:, :1], patches], dim=1)

        handle = model.visual.ln_pre.register_forward_hook(overwrite)
        with torch.no_grad():
            drops = whole - classifier(images)[:, 1]
        handle.remove()
        expected = torch.where(labels == cluster, drops[:, None], expected)
    method = EmbeddingAblation(classifier, clustering=clustering, fill=fill)
    close(method.patch_map(images, 1).flatten(1), expected, 1e-4)


def test_what_is_changed_is_all_that_is_changed(model, classifier, make_images) -> None:
    images, plain = make_images(model), CCI(classifier)
    still = Shaken(classifier, make=CCI, noise=0.0)
    close(still.patch_map(images, 1), plain.patch_map(images, 1), 1e-5)
    moved = Shaken(classifier, make=CCI, noise=0.5)
    assert not np.allclose(moved.patch_map(images, 1), plain.patch_map(images, 1))
    enlarged = Enlarged(classifier, make=CCI, upsample="bicubic").attribute(images, 1)
    close(enlarged, plain.attribute(images, 1, upsample="bicubic"), 1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Agglomerative(0), "n_clusters: expected a positive int, got 0"),
        (lambda: Grid(5)(torch.zeros(1, 16, 2)), "side: expected at most the 4 patches, got 5"),
        (lambda: Grid(2)(torch.zeros(1, 15, 2)), "clustering: expected the patches of a square im"),
        (lambda: Spatial(-1), "n_clusters: expected a positive int, got -1"),
    ],
)
def test_errors(make, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_integrated_gates_are_mean_slopes_along_the_way(model, classifier, make_images) -> None:
    """Of 1 step it is the gate gradient; sums are slopes of the score by all gates together."""
    images, double = make_images(model).double(), classifier.double()
    one = IntegratedGates(double, steps=1).patch_map(images, 1)
    close(one, GateGradient(double).patch_map(images, 1), 1e-6)
    tower = find_vision_tower(model)

    def score(gate: float) -> Tensor:
        with torch.no_grad(), tower.gate(torch.full((3, 16), gate, dtype=torch.float64)):
            return double(images)[:, 1]

    ways = [(score(t + 1e-5) - score(t - 1e-5)) / 2e-5 for t in (0.25, 0.5, 0.75)]
    slopes = torch.stack([*ways, (score(1.0) - score(1 - 1e-6)) / 1e-6])
    found = IntegratedGates(double, steps=4).patch_map(images, 1)
    close(found.flatten(1).sum(dim=1), slopes.mean(dim=0), 1e-4)
