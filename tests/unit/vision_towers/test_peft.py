"""LoRA adapters of peft, on models of all three libraries: right, or refused with the remedy."""

from __future__ import annotations

import copy
from typing import Any

import oracles
import peft
import pytest
import torch
from families import FAMILIES
from helpers import close
from oracles import families as oracle
from selection import exhaustive_unless
from torch import Tensor, nn

from cci_captum import CCI, KMeans, find_vision_tower
from cci_captum.baselines import GAME, AttentionRollout, GradECLIP, SelfAttention

# Layers that the model calls, so that what LoRA adds there runs.
CALLED = [
    ("open_clip ViT, class token", ["c_fc", "c_proj"]),
    ("open_clip CoCa", ["c_fc"]),
    ("open_clip TimmModel SigLIP", ["qkv", "proj"]),
    ("open_clip TimmModel SigLIP", ["q", "kv", "fc1"]),
    ("timm ViT, class token", ["qkv"]),
    ("timm ViT, class token", ["proj", "fc1", "fc2"]),
    ("timm Eva, rotary", ["q_proj", "k_proj", "v_proj", "fc1_g"]),
    ("timm Eva, DINOv3", ["qkv", "proj"]),
    ("transformers CLIPModel", ["q_proj", "v_proj"]),
    ("transformers CLIPModel", ["out_proj", "fc1", "fc2"]),
    ("transformers SiglipModel", ["q_proj", "k_proj", "fc1"]),
]
called = pytest.mark.parametrize(
    ("name", "targets"),
    [exhaustive_unless(place % 4 == 0, *one) for place, one in enumerate(CALLED)],
)
# Layers whose weight the attention takes without calling them.
NOT_CALLED = [
    ("open_clip ViT, class token", ["out_proj"]),
    ("open_clip CoCa", ["attn_pool.attn.out_proj"]),
    ("timm Eva", ["qkv"]),
    ("transformers SiglipModel", ["head.attention.out_proj"]),
]
not_called = pytest.mark.parametrize(("name", "targets"), NOT_CALLED)


def adapted(name: str, targets: list[str]) -> Any:
    """A model of a family with LoRA of random weights."""
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False)
    return peft.get_peft_model(FAMILIES[name].make(2), config).eval()


def merged(model: Any) -> Any:
    return copy.deepcopy(model).merge_and_unload()


def map_of(method: Any, name: str, model: nn.Module, **options: Any) -> Tensor:
    def forward(images: Tensor) -> Tensor:
        return FAMILIES[name].run(model, images)

    return method(forward, model, **options).patch_map(FAMILIES[name].images(2), target=1)


@pytest.mark.exhaustive
@called
@torch.no_grad()
def test_hidden_patches_of_adapted_models(name: str, targets: list[str]) -> None:
    """Against a plain float64 computation with the merged weights."""
    family, model = FAMILIES[name], adapted(name, targets)
    images = family.images(2)
    h, w = family.grid
    mask = torch.rand(2, h * w, generator=torch.Generator().manual_seed(0)) < 0.5
    expected = oracle.features(merged(model), images, mask)
    assert oracles.relative_error(oracle.features(family.make(2), images, mask), expected) > 1e-2
    tower = find_vision_tower(model)
    for strategy in ("mask", "drop"):
        with tower.hide(mask, strategy):
            close(family.run(model, images), expected)


@called
def test_maps_of_adapted_models(name: str, targets: list[str]) -> None:
    """The maps of the merged model, in which no adapter is left."""
    model = adapted(name, targets)
    for method, options in (
        (CCI, {"clustering": KMeans(3)}),
        (GradECLIP, {"single_head": False}),
        (GAME, {"layers": "all"}),
        (AttentionRollout, {}),
    ):
        expected = map_of(method, name, merged(model), **options)
        assert expected.std() > 0
        close(map_of(method, name, model, **options), expected, 1e-4)


@not_called
def test_adapters_that_the_model_never_runs(name: str, targets: list[str]) -> None:
    """Methods that read attention refuse them; the others explain the model as it runs."""
    family, model = FAMILIES[name], adapted(name, targets)
    images = family.images(2)
    without = oracle.features(family.make(2), images)
    close(family.run(model, images), without)
    remedy = r"never calls it, so that peft's Linear there does not run; .*merge_and_unload\(\)"
    for method in (GradECLIP, SelfAttention, GAME, AttentionRollout):
        with pytest.raises(TypeError, match=remedy):
            map_of(method, name, model)
    options = {"clustering": KMeans(3)}
    close(map_of(CCI, name, model, **options), map_of(CCI, name, family.make(2), **options))
    explainable = merged(model)
    assert oracles.relative_error(oracle.features(explainable, images), without) > 1e-2
    for method in (CCI, GradECLIP, AttentionRollout):
        assert map_of(method, name, explainable).std() > 0


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("open_clip ViT, class token", ["attn"]),
        ("transformers SiglipModel", ["head.attention"]),
    ],
)
def test_attention_that_peft_replaces(name: str, targets: list[str]) -> None:
    model = adapted(name, targets)
    with pytest.raises(TypeError, match=r"MultiheadAttention is not .* own; .*merge_and_un"):
        find_vision_tower(model)
    images = FAMILIES[name].images(2)
    explainable = merged(model)
    close(FAMILIES[name].run(explainable, images), oracle.features(explainable, images))
    assert map_of(GradECLIP, name, explainable).std() > 0


def test_biases_that_are_added_after_qkv() -> None:
    """timm's Eva with qkv_bias_separate calls qkv, and adds the biases to what it gives."""
    name = "timm Eva"
    model = FAMILIES[name].make(2)
    for block in model.blocks:
        block.attn.qkv_bias_separate = True
    torch.manual_seed(0)
    config = peft.LoraConfig(r=4, lora_alpha=16, target_modules=["qkv"], init_lora_weights=False)
    model = peft.get_peft_model(model, config).eval()
    close(map_of(GAME, name, model), map_of(GAME, name, merged(model)), 1e-4)
