"""Image encoders with layers that autograd, hiding or shuffling cannot reach."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import oracles
import pytest
import torch
from families import FAMILIES
from torch import Tensor, nn
from toy import ToyTokenizer

from cci_captum import ImageTextSimilarity
from cci_captum.baselines import GAME, M2IB, GradCAM, GradECLIP

NAMES = ["open_clip ViT, class token", "timm ViT, class token", "transformers CLIPModel"]
GRADIENTS: dict[str, Callable[..., Any]] = {
    "GradECLIP": GradECLIP,
    "GAME": GAME,
    "GAME, all layers": lambda *of: GAME(*of, layers="all"),
    "GradCAM": GradCAM,
    "GradCAM, input": lambda *of: GradCAM(*of, layer="input"),
    "GradCAM, one head": lambda *of: GradCAM(*of, single_head=True),
}
with_gradients = pytest.mark.parametrize("method", GRADIENTS)


def quantized(model: nn.Module) -> Any:
    """The model with its linear layers quantised dynamically, activations by tensor."""
    quantize = pytest.importorskip("torch.ao.quantization").quantize_dynamic
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("needs the quantised kernels of x86")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        return quantize(model, {nn.Linear}, dtype=torch.qint8)


def map_of(method: str, name: str, model: nn.Module, run: Any = None) -> Tensor:
    def forward(images: Tensor) -> Tensor:
        return (run or FAMILIES[name].run)(model, images)

    return GRADIENTS[method](forward, model).patch_map(FAMILIES[name].images(2), target=1)


# Gradients


@with_gradients
@pytest.mark.parametrize("name", NAMES)
def test_layers_that_stop_gradients_are_named(name: str, method: str) -> None:
    model = quantized(FAMILIES[name].make(2))
    with pytest.raises(
        RuntimeError, match=r"no gradient passes \S+ \(Linear\).*as quantised layers"
    ):
        map_of(method, name, model)


def test_gradients_from_a_convolution() -> None:
    name = "open_clip ViT, class token"
    model = FAMILIES[name].make(2)
    model.visual = quantized(model.visual)
    similarity = ImageTextSimilarity(model)
    text = ToyTokenizer()(["a cat", "a dog"])
    with pytest.raises(RuntimeError, match="no gradient passes"):
        GradCAM(similarity, layer=model.visual.conv1).patch_map(
            FAMILIES[name].images(2), additional_forward_args=text
        )


def test_m2ib_names_them_too() -> None:
    family = FAMILIES["open_clip ViT, class token"]
    model = family.make(2)
    model.visual = quantized(model.visual)
    method = M2IB(ImageTextSimilarity(model))
    text = ToyTokenizer()(["a cat", "a dog"])
    with pytest.raises(RuntimeError, match="no gradient passes"):
        method.patch_map(family.images(2), additional_forward_args=text)


def test_layers_before_the_recorded_ones_may_be_quantised() -> None:
    name = "timm ViT, class token"
    model = FAMILIES[name].make(2)
    model.blocks[0] = quantized(model.blocks[0])
    assert map_of("GradECLIP", name, model).std() > 0
    assert map_of("GradCAM", name, model).std() > 0


@with_gradients
@pytest.mark.parametrize("name", NAMES)
def test_under_no_grad_around_the_encoder(name: str, method: str) -> None:
    model = FAMILIES[name].make(2)

    def run(model: nn.Module, images: Tensor) -> Tensor:
        with torch.no_grad():
            features = FAMILIES[name].run(model, images)
        return features.sin()

    expected = map_of(method, name, model, lambda *of: FAMILIES[name].run(*of).sin())
    assert expected.std() > 0
    assert oracles.relative_error(map_of(method, name, model, run), expected) < 1e-5


@with_gradients
def test_scores_that_are_not_made_of_the_features(method: str) -> None:
    """No gradient arrives: an error, and not a map of zeros."""
    name, scale = NAMES[0], torch.ones((), requires_grad=True)
    model = FAMILIES[name].make(2)

    def detached(model: nn.Module, images: Tensor) -> Tensor:
        return FAMILIES[name].run(model, images).detach() * scale

    with pytest.raises(RuntimeError, match=r"forward_func: .*no gradient arrives"):
        map_of(method, name, model, detached)


@with_gradients
def test_a_gradient_of_zero_is_a_map(method: str) -> None:
    name = NAMES[0]
    found = map_of(method, name, FAMILIES[name].make(2), lambda *of: 0.0 * FAMILIES[name].run(*of))
    assert not found.any()
