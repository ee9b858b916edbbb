"""The benchmarks on image encoders of every library, not only open_clip's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from families import FAMILIES
from PIL import Image
from torch import nn
from torchvision import transforms
from toy import ToyTokenizer

from cci_captum import ImageClassifier, ZeroShotClassifier, find_vision_tower
from cci_captum.benchmarks.comparison import CHECKS, compare
from cci_captum.benchmarks.comparison.randomization import with_random_weights
from cci_captum.benchmarks.data import Sample

NAMES = ("fox", "ship", "igloo", "lemon", "jar", "owl", "bus")
CHOSEN = [
    "open_clip CoCa",
    "open_clip TimmModel SigLIP",
    "open_clip TimmModel EVA02 (rotary)",
    "timm ViT, registers",
    "transformers CLIPModel",
    "transformers Siglip2Model",
    "transformers Dinov2ForImageClassification",
]


class Photos:
    """Four random photos with a rectangle as their object."""

    name = "photos"
    class_names = NAMES
    templates = "{}"
    has_masks = True
    targets = (0, 1, 2, 3)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        mask = torch.zeros(64, 64, dtype=torch.bool)
        mask[16:40, 8:32] = True
        return Sample(f"photo {index}", coarse.resize((64, 64)), self.targets[index], mask)


def scores(name: str) -> tuple[nn.Module, transforms.Compose]:
    """A classifier of seven classes, and its preprocessing."""
    family = FAMILIES[name]
    model = family.make(seed=4)
    preprocess = transforms.Compose(
        [
            transforms.Resize(family.image_size),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )
    if family.has_text:
        return ZeroShotClassifier(model, ToyTokenizer(), NAMES, "{}").eval(), preprocess
    return ImageClassifier(model).eval(), preprocess


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", CHOSEN)
def test_methods_are_compared_and_their_passes_counted(name: str) -> None:
    classifier, preprocess = scores(name)
    found = compare(
        ["cci", "grad-eclip", "rollout"],
        Photos(),
        ["grad-eclip", "tokens"],
        forward_func=classifier,
        preprocess=preprocess,
        checks=CHECKS,
        ties=(),
        batch_size=3,
    ).results
    assert found["deletion_score"].notna().all() and found["insertion_top1"].notna().all()
    assert found["energy"].between(0, 1).all()
    passes = found[found["check"] == ""].groupby("method")["forward_passes"].mean()
    assert passes["grad-eclip"] == passes["rollout"] == 1
    assert 2 < passes["cci"] <= 8  # 1 + 7 clusters, fewer where there are fewer distinct patches


@pytest.mark.parametrize("name", CHOSEN)
def test_random_weights_are_those_of_the_image_encoder(name: str) -> None:
    classifier, _ = scores(name)
    shuffled = with_random_weights(classifier, seed=0)
    own = {id(weights) for weights in find_vision_tower(shuffled).parameters()}
    text = {id(weights) for weights in shuffled.parameters()} - own
    assert bool(text) == FAMILIES[name].has_text
    before = dict(classifier.named_parameters())
    for key, weights in shuffled.named_parameters():
        varies = len(weights.detach().unique()) > 1
        assert torch.equal(weights, before[key]) != (id(weights) in own and varies), key
        if id(weights) in own:
            assert torch.equal(weights.flatten().sort()[0], before[key].flatten().sort()[0])
        else:
            assert key.split(".")[1] in (
                *("text", "text_decoder", "text_model", "text_projection"),
                *("logit_scale", "logit_bias"),
            )
