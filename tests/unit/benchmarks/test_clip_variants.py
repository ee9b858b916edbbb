"""The lists of CLIP models, held to open_clip, and their sizes, to a formula."""

from __future__ import annotations

import re
from typing import Any

import open_clip
import pytest

from cci_captum.benchmarks.clip_variants import (
    ARCHITECTURES,
    COUNTERANIMAL_VARIANTS,
    PAPER_VARIANTS,
    VARIANT_LISTS,
    Variant,
    find_variant,
)
from cci_captum.benchmarks.commands import _choices

ALL = {v.model: v for own in VARIANT_LISTS.values() for v in own}


def visual(architecture: str) -> dict[str, Any]:
    return open_clip.get_model_config(architecture)["vision_cfg"]


def backbone(architecture: str) -> str:
    """The family, by open_clip's configuration."""
    config = visual(architecture)
    names = {"eva02_": "EVA02", "vit_pe_": "PE", "convnext": "ConvNeXt", "vit_": "ViT"}
    if "timm_model_name" in config:
        return next(v for k, v in names.items() if config["timm_model_name"].startswith(k))
    return "ResNet" if isinstance(config["layers"], list) else "ViT"


def patch(architecture: str) -> int | None:
    config = visual(architecture)
    found = re.search(r"_patch(\d+)", config.get("timm_model_name", ""))
    return int(found[1]) if found else config.get("patch_size")


def test_counts_and_names() -> None:
    assert len(PAPER_VARIANTS) == 18 and len(COUNTERANIMAL_VARIANTS) == 28
    for variants in VARIANT_LISTS.values():
        assert len({v.model for v in variants}) == len(variants)
    assert [v.model for v in PAPER_VARIANTS if v.known] == [
        "ViT-B-32,datacomp_xl_s13b_b90k",
        "ViT-B-16,datacomp_xl_s13b_b90k",
        "ViT-bigG-14,laion2b_s39b_b160k",
        "ViT-H-14,dfn5b",
        "ViT-B-16-SigLIP2-512,webli",
    ]
    assert {v.architecture for v in ALL.values()} == ARCHITECTURES.keys()
    both = {v.model: v for v in PAPER_VARIANTS}
    assert all(both.get(v.model, v) is v for v in COUNTERANIMAL_VARIANTS)  # one place a fact


@pytest.mark.parametrize("variant", ALL.values(), ids=ALL)
def test_open_clip_has_the_weights(variant: Variant) -> None:
    assert (variant.architecture, variant.pretrained) in open_clip.list_pretrained()
    config = open_clip.get_pretrained_cfg(variant.architecture, variant.pretrained)
    assert bool(config.get("quick_gelu")) == variant.quick_gelu
    assert variant.data and variant.reason.endswith(".")
    assert _choices.models([variant.model], None) == [(variant.architecture, variant.pretrained)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_those_of_open_clip(name: str) -> None:
    facts, config = ARCHITECTURES[name], open_clip.get_model_config(name)
    assert facts.image_size == config["vision_cfg"]["image_size"]
    assert facts.patch == patch(name)
    assert facts.backbone == backbone(name)
    assert facts.loss == ("sigmoid" if "init_logit_bias" in config else "softmax")


@pytest.mark.parametrize(
    "name", ["ViT-B-32", "ViT-B-32-256", "ViT-B-16", "ViT-L-14-336", "ViT-H-14-378", "ViT-bigG-14"]
)
def test_sizes_of_vits_follow_a_formula(name: str) -> None:
    """A ViT's parameters and products, written out."""
    facts, config = ARCHITECTURES[name], visual(name)
    width, depth, side = config["width"], config["layers"], config["patch_size"]
    mlp, out = (
        int(width * config.get("mlp_ratio", 4)),
        open_clip.get_model_config(name)["embed_dim"],
    )
    patches = (config["image_size"] // side) ** 2
    tokens = patches + 1
    embedding, places, head = 3 * side**2 * width, tokens * width, width * out
    block = 4 * width**2 + 2 * width * mlp  # weights of q, k, v, output and the two of the MLP
    norm = 2 * width
    biases = 4 * width + mlp + width + 2 * norm
    parameters = embedding + width + places + 2 * norm + depth * (block + biases) + head
    assert abs(facts.image_parameters - parameters / 1e6) <= 0.005001
    attention = 2 * tokens**2 * width  # q k^T and the average of v
    products = patches * embedding + depth * (tokens * block + attention) + head
    assert abs(facts.gflops - 2 * products / 1e9) <= 0.005001


def test_variants_are_found() -> None:
    for variant in ALL.values():
        assert find_variant(variant.model) is variant
        assert find_variant(f"{variant.architecture} {variant.pretrained}") is variant
    assert find_variant("ViT-L/14-336,openai").patches == 576
    assert find_variant("RN50,openai").patches is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ViT-B-16,openia", "such as .*ViT-B-16,openai.*, got 'ViT-B-16,openia'"),
        ("?", "variant: expected a model of a list, .*, got '\\?'"),
    ],
)
def test_others_are_not(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_variant(text)


def test_the_eighteen_span_what_they_should() -> None:
    """Each is explainable, and each factor has its extremes."""
    assert all(v.explainable for v in PAPER_VARIANTS)
    assert {v.backbone for v in PAPER_VARIANTS} == {"ViT", "EVA02", "PE"}
    assert {v.patch for v in PAPER_VARIANTS} == {14, 16, 32}
    assert {v.image_size for v in PAPER_VARIANTS} == {224, 336, 384, 512}
    assert {v.loss for v in PAPER_VARIANTS} == {"softmax", "sigmoid"}
    assert len({v.data for v in PAPER_VARIANTS}) == 10
    assert not any(v.explainable for v in ALL.values() if v.backbone in ("ResNet", "ConvNeXt"))
