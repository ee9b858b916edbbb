"""The variants of CCI that the study of its choices compares."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cci_captum import CCI, KMeans, ZeroShotClassifier, load_clip
from cci_captum.baselines import CLIPSurgery
from cci_captum.benchmarks.comparison import choices
from cci_captum.benchmarks.data import Scenes
from cci_captum.benchmarks.markdown import NO_INTERVAL


@pytest.fixture(scope="module")
def scenes() -> tuple[ZeroShotClassifier, Tensor, list[int]]:
    clip, data = load_clip("tiny"), Scenes(3, seed=3)
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, data.class_names, data.templates)
    samples = [data[index] for index in range(3)]
    inputs = torch.stack([clip.preprocess(sample.image) for sample in samples])
    return classifier, inputs, [sample.target for sample in samples]


@pytest.mark.exhaustive
def test_drop_per_patch(scenes: tuple[ZeroShotClassifier, Tensor, list[int]]) -> None:
    classifier, inputs, target = scenes
    effects = CCI(classifier).effects(inputs)
    maps = choices._Derived(classifier, choices._per_patch).patch_map(inputs, target)
    drops = effects.drops(target)
    for image in range(3):
        for cluster in range(7):
            members = effects.labels[image] == cluster
            if members.any():
                expected = drops[image, cluster] / members.sum()
                assert torch.allclose(maps[image][members], expected)
                total = maps[image][members].sum()
                assert torch.allclose(total, drops[image, cluster], atol=1e-5)


@pytest.mark.exhaustive
def test_another_map_over_clusters_and_within(
    scenes: tuple[ZeroShotClassifier, Tensor, list[int]],
) -> None:
    classifier, inputs, target = scenes
    labels = CCI(classifier).effects(inputs).labels
    own = CCI(classifier).patch_map(inputs, target)
    other = CLIPSurgery(classifier).patch_map(inputs, target)
    over = choices._OverClusters(classifier, CLIPSurgery).patch_map(inputs, target)
    within = choices._OverClusters(classifier, CLIPSurgery, within=True).patch_map(inputs, target)
    for image in range(3):
        for cluster in range(7):
            members = labels[image] == cluster
            assert torch.allclose(over[image][members], other[image][members].mean(), atol=1e-6)
        # Patches of different weight keep their order; those of the same get the other map's.
        order = within[image].flatten().argsort()
        assert torch.equal(own[image].flatten()[order], own[image].flatten().sort().values)
        for weight in own[image].unique():
            members = own[image] == weight
            assert torch.equal(within[image][members].argsort(), other[image][members].argsort())


@pytest.mark.exhaustive
def test_mean_over_k(scenes: tuple[ZeroShotClassifier, Tensor, list[int]]) -> None:
    classifier, inputs, target = scenes
    maps = [CCI(classifier, clustering=KMeans(k)).patch_map(inputs, target) for k in (3, 7)]
    mean = choices._MeanOver(classifier, [choices._with_k(3), CCI]).patch_map(inputs, target)
    assert torch.equal(mean, (maps[0] + maps[1]) / 2)


@pytest.mark.exhaustive
@pytest.mark.beyond_pairs
def test_the_program_prints_a_row_for_each_choice(capsys: pytest.CaptureFixture[str]) -> None:
    choices.main(["--n", "1", "--threads", "1", "--protocol", "tokens", "--device", "cpu"])
    table, *notes = capsys.readouterr().out.strip().split("\n\n")
    names = [row.split(" | ")[0].removeprefix("| ") for row in table.splitlines()[2:]]
    assert names == [*choices._choices(5, 144), "Random", "Ground truth"]
    assert notes == [NO_INTERVAL]  # of one scene; so nothing is compared
