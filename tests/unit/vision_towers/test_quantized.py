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

from cci_captum import GateGradient, ImageTextSimilarity, find_vision_tower
from cci_captum.baselines import GAME, M2IB, GradCAM, GradECLIP, LayerGradCAM
from cci_captum.benchmarks.comparison.randomization import with_random_weights
from cci_captum.vision_towers import dynamically_quantized

NAMES = ["open_clip ViT, class token", "timm ViT, class token", "transformers CLIPModel"]
GRADIENTS: dict[str, Callable[..., Any]] = {
    "GradECLIP": GradECLIP,
    "GAME": GAME,
    "GAME, all layers": lambda *of: GAME(*of, layers="all"),
    "GradCAM": GradCAM,
    "GradCAM, input": lambda *of: GradCAM(*of, layer="input"),
    "GateGradient": GateGradient,
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


pytestmark = pytest.mark.filterwarnings("ignore:vision_tower. .* dynamically:UserWarning")


def map_of(method: str, name: str, model: nn.Module, run: Any = None) -> Tensor:
    def forward(images: Tensor) -> Tensor:
        return (run or FAMILIES[name].run)(model, images)

    return GRADIENTS[method](forward, model).patch_map(
        FAMILIES[name].images(2), target=1, check=False
    )


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
        LayerGradCAM(similarity, model.visual.conv1).patch_map(
            FAMILIES[name].images(2), additional_forward_args=text, check=False
        )


def test_m2ib_names_them_too() -> None:
    family = FAMILIES["open_clip ViT, class token"]
    model = family.make(2)
    model.visual = quantized(model.visual)
    method = M2IB(ImageTextSimilarity(model))
    text = ToyTokenizer()(["a cat", "a dog"])
    with pytest.raises(RuntimeError, match="no gradient passes"):
        method.patch_map(family.images(2), additional_forward_args=text, check=False)


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


# Hiding


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_hidden_patches_leak_and_it_is_said(name: str) -> None:
    family = FAMILIES[name]
    model, images = family.make(2), family.images(2)
    assert dynamically_quantized(model) == []
    model = quantized(model)
    with pytest.warns(UserWarning, match=r"vision_tower: \d+ layers are dynamically quantised \("):
        tower = find_vision_tower(model)
    names = dynamically_quantized(tower.module)
    assert names and all("dynamic" in str(type(tower.module.get_submodule(n))) for n in names)
    h, w = family.grid
    mask = torch.rand(2, h * w, generator=torch.Generator().manual_seed(0)) < 0.5
    pixels = mask.view(2, 1, h, w).repeat_interleave(family.patch, 2)
    pixels = pixels.repeat_interleave(family.patch, 3)
    with tower.hide(mask):
        plain = family.run(model, images)
        noisy = family.run(model, torch.where(pixels, 3 * images.flip(0), images))
    # The day that this fails, PyTorch scales row by row: take the warning away.
    assert oracles.relative_error(noisy, plain) > 1e-3


def test_a_model_that_is_not_quantised_is_not_warned_of(recwarn: Any) -> None:
    for name in NAMES:
        find_vision_tower(FAMILIES[name].make(2))
    assert not [one for one in recwarn if "quantised" in str(one.message)]


# Shuffling


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_of_quantised_layers(name: str) -> None:
    model = quantized(FAMILIES[name].make(2))
    with pytest.raises(ValueError, match=r"random-weights: .* got \d+ quantised layers \("):
        with_random_weights(model, seed=0)


def test_random_weights_of_integers() -> None:
    """As bitsandbytes keeps them; and as GPTQ and AWQ do."""
    model: Any = FAMILIES[NAMES[1]].make(2)
    layer = model.blocks[1].mlp.fc1
    layer.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    model.blocks[2].mlp.fc2.qweight = torch.ones(4, 4)
    with pytest.raises(ValueError, match=r"got 2 .*\(blocks.1.mlp.fc1, blocks.2.mlp.fc2\)"):
        with_random_weights(model, seed=0)
