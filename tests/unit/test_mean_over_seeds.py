"""The mean over seeds against means of CCI's own maps, and what it costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import Tensor

from cci_captum import CCI, KMeans, MeanOverSeeds, ZeroShotClassifier


@pytest.fixture
def classifier(model: Any, tokenizer: Any) -> ZeroShotClassifier:
    return ZeroShotClassifier(model, tokenizer, ["fox", "ship"], "{}")


@pytest.mark.parametrize("options", [{}, {"hide": "drop", "normalization": "none"}])
def test_is_the_mean_of_the_maps_of_each_seed(
    classifier: ZeroShotClassifier, images: Tensor, options: dict[str, Any]
) -> None:
    seeds, targets = (4, 0, 7), [0, 1, 1, 0]
    kmeans = [KMeans(3, n_redo=1, seed=seed) for seed in seeds]
    each = [
        CCI(classifier, clustering=one, **options).patch_map(images, targets).double().numpy()
        for one in kmeans
    ]
    assert np.abs(each[0] - each[1]).max() > 1e-3  # seeds that differ
    mean = MeanOverSeeds(classifier, seeds=seeds, clustering=kmeans[1], **options)
    found = mean.patch_map(images, targets).numpy()
    assert np.abs(found - np.mean(each, axis=0)).max() < 1e-6 * np.abs(each).max()
    whole = mean.attribute(images, targets)
    assert whole.shape == images.shape and (whole[:, 0] == whole[:, 2]).all()


def test_costs_the_passes_of_each_seed(classifier: ZeroShotClassifier, images: Tensor) -> None:
    seen: list[int] = []
    classifier.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    MeanOverSeeds(classifier, seeds=range(3), clustering=KMeans(4)).attribute(
        images, 0, check=False
    )
    assert sum(seen) == 3 * (4 + 1) * len(images)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seeds": ()}, ValueError, r"^seeds: expected at least one, each once, got \(\)$"),
        ({"seeds": (1, 1)}, ValueError, r"^seeds: expected at least one, each once, got \(1, 1\)"),
        ({"seeds": (-1,)}, ValueError, r"^seed: expected an int that is not negative, got -1"),
        ({"clustering": lambda x: x}, TypeError, "^clustering: expected a KMeans, .* got function"),
        ({"hide": "away"}, ValueError, "^hide: expected one of"),
    ],
)
def test_errors(
    classifier: ZeroShotClassifier, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        MeanOverSeeds(classifier, **options)
