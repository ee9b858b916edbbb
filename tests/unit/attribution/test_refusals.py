"""Calls in the order of other methods of Captum's work, or say how to write them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from helpers import FAST
from torch import Tensor, nn

from cci_captum import (
    CCI,
    ImageTextSimilarity,
    KMeans,
    LogProbability,
    PatchAttribution,
    ZeroShotClassifier,
)
from cci_captum.baselines import METHODS, RISE, GradCAM, GroundTruth, LayerGradCAM, MaskCLIP


@pytest.fixture
def classifier(model: Any, tokenizer: Any) -> ZeroShotClassifier:
    return ZeroShotClassifier(model, tokenizer, ["fox", "ship"], "{}")


@pytest.mark.shared(among=3)
@pytest.mark.parametrize("name", [name for name in METHODS if name != "ground-truth"])
def test_inputs_target_and_arguments_by_position(
    name: str, model: Any, classifier: Any, images: Tensor, tokenizer: Any
) -> None:
    """The first three of Captum's Saliency and LayerGradCam, as of every method here."""
    method = partial(METHODS[name], **FAST.get(name, {}))
    found = method(classifier).attribute(images, 1)
    assert found.shape == images.shape
    torch.testing.assert_close(found, method(classifier).attribute(images, target=1))
    similarity = method(ImageTextSimilarity(model))
    text = tokenizer(["fox"])  # one for all images, as it stands or as transformers gives it
    expected = similarity.attribute(images, None, text.expand(len(images), -1))
    for tokens in (text, {"input_ids": text}, {"input_ids": text.expand(len(images), -1)}):
        torch.testing.assert_close(similarity.attribute(images, None, tokens), expected)


class Own(PatchAttribution):
    """A method of a user's."""

    def __init__(self, forward_func: Any, tower: Any = None, *, power: int = 1) -> None:
        super().__init__(forward_func, tower)
        self.power = power

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        return torch.zeros(len(images), *self.vision_tower.grid_of(images.shape[-2:]))


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "an option": (
        lambda f, x: RISE(f, None, 100),
        r"RISE: expected forward_func and vision_tower by position and the rest by name "
        r"\(n_masks=\.\.\., .*\), got 3 by position",
    ),
    "an option of a user's": (
        lambda f, x: Own(f, None, 2),
        r"Own: expected forward_func and tower by position and the rest by name \(power=\.\.\.\)",
    ),
    "an option in place of the tower": (
        lambda f, x: CCI(f, KMeans(3)),
        "vision_tower: expected .*, got KMeans; options go by name",
    ),
    "where no tower is looked for": (
        lambda f, x: RISE(f, 100),
        "vision_tower: expected .*, got int; options go by name",
    ),
    "a fourth": (
        lambda f, x: MaskCLIP(f).attribute(x, 0, None, 4),
        r"attribute: expected inputs, target and additional_forward_args by position and the rest "
        r"by name \(internal_batch_size=\.\.\., ",
    ),
    "a fourth of patch_map": (
        lambda f, x: MaskCLIP(f).patch_map(x, 0, None, 4),
        "patch_map: expected inputs, target and additional_forward_args by position",
    ),
    "masks": (
        lambda f, x: GroundTruth(f).attribute(x, 0, None, torch.ones(4, 8, 8) > 0),
        r"GroundTruth\.attribute: expected .* by name \(masks=\.\.\., ",
    ),
    "a target of effects": (
        lambda f, x: CCI(f).effects(x, 0),
        "additional_forward_args: expected what forward_func, ZeroShotClassifier, takes after the "
        "images, nothing, got 0 .* effects inputs and additional_forward_args",
    ),
    "baselines, target": (
        lambda f, x: MaskCLIP(f).attribute(x, torch.zeros_like(x), 1),
        "additional_forward_args: .*, nothing, got 1 ",
    ),
    "a string": (
        lambda f, x: MaskCLIP(f).attribute(x, 0, "a cat"),
        "additional_forward_args: .*, nothing, got 'a cat' ",
    ),
    "a string for tokens": (
        lambda f, x: MaskCLIP(ImageTextSimilarity(f.model)).attribute(x, None, "a cat"),
        r"text: expected tokens \(B, L\) .*, as the model's tokenizer gives them, .*, got str",
    ),
    "tokens in place of the target": (
        lambda f, x: CCI(ImageTextSimilarity(f.model)).attribute(x, torch.ones(4, 8).long()),
        "additional_forward_args: expected what forward_func, ImageTextSimilarity, takes after the "
        "images, text, got nothing ",
    ),
    "within a score": (
        lambda f, x: CCI(LogProbability(f)).attribute(x, 0, "a cat"),
        "takes 2 positional arguments but 3 were given",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_orders_are_refused(case: str, classifier: Any, images: Tensor) -> None:
    call, message = REFUSED[case]
    with pytest.raises(TypeError, match=message):
        call(classifier, images)


def test_a_layer_in_place_of_the_image_encoder(classifier: Any, images: Tensor) -> None:
    """As LayerGradCam of Captum takes it, second; here it has a method of its own."""
    layer: nn.Module = classifier.model.visual.transformer.resblocks[-1]
    with pytest.raises(ValueError, match=r"GradCAM\(forward_func, layer=index of its block\)"):
        GradCAM(classifier, layer)
    conv = classifier.model.visual.conv1
    assert LayerGradCAM(classifier, conv).attribute(images, 0).shape == images.shape


def test_a_bug_within_forward_func_stays_as_it_is(model: Any, images: Tensor) -> None:
    def scores(inputs: Tensor, mode: str = "") -> Tensor:
        raise TypeError(f"a bug, {mode}")

    with pytest.raises(TypeError, match=r"^a bug, bright$"):
        CCI(scores, model).attribute(images, None, "bright")
