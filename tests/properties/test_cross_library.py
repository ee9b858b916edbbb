"""The same weights in different libraries give the same attributions, whatever the method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracles
import pytest
import timm
import torch
import transformers
from torch import Tensor, nn
from toy import randomize

from cci_captum import ImageTextSimilarity, KMeans
from cci_captum.baselines import METHODS
from cci_captum.vision_towers import find_vision_tower

SIDE, PATCH, WIDTH, HEADS, DEPTH, EMBEDDING = 32, 8, 32, 4, 3, 24
OPTIONS = {
    "cci": {"clustering": KMeans(4)},
    "rise": {"n_masks": 16, "grid": 2},
    "m2ib": {"steps": 2, "n_samples": 2},
    "shapley-cci": {"clustering": KMeans(4)},
    "cluster-ablation": {"clustering": KMeans(4)},
    "cluster-lime": {"clustering": KMeans(4), "n_samples": 16},
    "cluster-kernelshap": {"clustering": KMeans(4), "n_samples": 16},
}
TEXT_FREE = [name for name, method in METHODS.items() if not method.needs_masks]
WITHOUT_PATCH_FEATURES = (
    "maskclip",
    "clip-surgery",
    "clip-surgery-2023-04-12",
    "clip-surgery-2023-04-13",
    "gated-cci",
)


class WithText(nn.Module):
    """A CLIP of an image encoder and four texts, numbered."""

    def __init__(self, visual: nn.Module, encode: Callable[[Any, Tensor], Tensor], width: int):
        super().__init__()
        self.visual = visual
        self.encode = encode
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("texts", torch.randn(4, width, generator=generator))

    def encode_image(self, images: Tensor) -> Tensor:
        return self.encode(self.visual, images)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.texts[tokens[:, 0]]


def blocks(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Weights and biases of every block, by other names; a list of names splits the rows."""
    found = {}
    for index in range(DEPTH):
        for old, new in names.items():
            for kind in ("weight", "bias"):
                joined = old.endswith("in_proj")
                source = f"{old}_{kind}" if joined else f"{old}.{kind}"
                value = state[source.format(index)]
                for name, part in zip(new.split(), value.chunk(len(new.split())), strict=True):
                    found[f"{name}.{kind}".format(index)] = part
    return found


def renamed(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Weights and biases, by other names."""
    pairs = ((old, new, kind) for old, new in names.items() for kind in ("weight", "bias"))
    return {f"{new}.{kind}": state[f"{old}.{kind}"] for old, new, kind in pairs}


def clips(make_clip) -> list[WithText]:
    """One class-token CLIP in open_clip, transformers and timm."""
    model, _ = make_clip(seed=8)
    state = model.visual.state_dict()
    layer, block = "transformer.resblocks.{}.", "vision_model.encoder.layers.{}."

    hugging_face = transformers.CLIPVisionModelWithProjection(
        transformers.CLIPVisionConfig(
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=2 * WIDTH,
            image_size=SIDE,
            patch_size=PATCH,
            projection_dim=EMBEDDING,
            hidden_act="gelu",
        )
    )
    attention = [f"{block}self_attn.{name}_proj" for name in ("q", "k", "v")]
    converted = blocks(
        state,
        {
            f"{layer}ln_1": f"{block}layer_norm1",
            f"{layer}attn.in_proj": " ".join(attention),
            f"{layer}attn.out_proj": f"{block}self_attn.out_proj",
            f"{layer}ln_2": f"{block}layer_norm2",
            f"{layer}mlp.c_fc": f"{block}mlp.fc1",
            f"{layer}mlp.c_proj": f"{block}mlp.fc2",
        },
    )
    converted |= renamed(
        state,
        {"ln_pre": "vision_model.pre_layrnorm", "ln_post": "vision_model.post_layernorm"},
    )
    embeddings = "vision_model.embeddings."
    hugging_face.load_state_dict(
        converted
        | {
            f"{embeddings}class_embedding": state["class_embedding"],
            f"{embeddings}patch_embedding.weight": state["conv1.weight"],
            f"{embeddings}position_embedding.weight": state["positional_embedding"],
            "visual_projection.weight": state["proj"].T,
        }
    )

    pytorch_image_model = timm.create_model(
        "vit_base_patch16_clip_224",
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=2,
        num_classes=EMBEDDING,
    )
    converted = blocks(
        state,
        {
            f"{layer}ln_1": "blocks.{}.norm1",
            f"{layer}attn.in_proj": "blocks.{}.attn.qkv",
            f"{layer}attn.out_proj": "blocks.{}.attn.proj",
            f"{layer}ln_2": "blocks.{}.norm2",
            f"{layer}mlp.c_fc": "blocks.{}.mlp.fc1",
            f"{layer}mlp.c_proj": "blocks.{}.mlp.fc2",
        },
    )
    converted |= renamed(state, {"ln_pre": "norm_pre", "ln_post": "norm"})
    pytorch_image_model.load_state_dict(
        converted
        | {
            "cls_token": state["class_embedding"][None, None],
            "pos_embed": state["positional_embedding"][None],
            "patch_embed.proj.weight": state["conv1.weight"],
            "head.weight": state["proj"].T,
            "head.bias": torch.zeros(EMBEDDING),
        }
    )
    encoders: list[tuple[nn.Module, Callable[..., Tensor]]] = [
        (model.visual, lambda visual, images: visual(images)),
        (hugging_face, lambda visual, images: visual(images).image_embeds),
        (pytorch_image_model, lambda visual, images: visual(images)),
    ]
    return [WithText(visual.eval(), encode, EMBEDDING) for visual, encode in encoders]


def siglips(make_clip) -> list[WithText]:
    """One SigLIP image encoder in timm and transformers."""
    ours = timm.create_model(
        "vit_base_patch16_siglip_224",
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=2,
        num_classes=0,
    )
    randomize(ours, 9)
    state = ours.state_dict()
    theirs = transformers.SiglipVisionModel(
        transformers.SiglipVisionConfig(
            hidden_size=WIDTH,
            num_hidden_layers=DEPTH,
            num_attention_heads=HEADS,
            intermediate_size=2 * WIDTH,
            image_size=SIDE,
            patch_size=PATCH,
            hidden_act="gelu",
        )
    )
    # Before version 5 of transformers the encoder was one level deeper.
    root = "vision_model." if hasattr(theirs, "vision_model") else ""
    block = f"{root}encoder.layers.{{}}."
    converted = blocks(
        state,
        {
            "blocks.{}.norm1": f"{block}layer_norm1",
            "blocks.{}.attn.qkv": " ".join(f"{block}self_attn.{x}_proj" for x in "qkv"),
            "blocks.{}.attn.proj": f"{block}self_attn.out_proj",
            "blocks.{}.norm2": f"{block}layer_norm2",
            "blocks.{}.mlp.fc1": f"{block}mlp.fc1",
            "blocks.{}.mlp.fc2": f"{block}mlp.fc2",
        },
    )
    converted |= renamed(
        state,
        {
            "patch_embed.proj": f"{root}embeddings.patch_embedding",
            "norm": f"{root}post_layernorm",
            "attn_pool.norm": f"{root}head.layernorm",
            "attn_pool.mlp.fc1": f"{root}head.mlp.fc1",
            "attn_pool.mlp.fc2": f"{root}head.mlp.fc2",
            "attn_pool.proj": f"{root}head.attention.out_proj",
        },
    )
    for kind in ("weight", "bias"):
        converted[f"{root}head.attention.in_proj_{kind}"] = torch.cat(
            [state[f"attn_pool.q.{kind}"], state[f"attn_pool.kv.{kind}"]]
        )
    theirs.load_state_dict(
        converted
        | {
            f"{root}embeddings.position_embedding.weight": state["pos_embed"][0],
            f"{root}head.probe": state["attn_pool.latent"],
        }
    )
    return [
        WithText(ours.eval(), lambda visual, images: visual(images), WIDTH),
        WithText(theirs.eval(), lambda visual, images: visual(images).pooler_output, WIDTH),
    ]


@pytest.fixture(scope="module", params=[clips, siglips])
def same_models(request, make_clip) -> list[WithText]:
    return request.param(make_clip)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_they_are_the_same_function(same_models, images) -> None:
    first, *others = (model.encode_image(images) for model in same_models)
    for other in others:
        assert oracles.relative_error(other, first) < 1e-5
    kinds = {type(find_vision_tower(model)).__name__ for model in same_models}
    assert len(kinds) == len(same_models)


@pytest.mark.parametrize("name", TEXT_FREE)
def test_attributions_are_the_same(same_models, images, name) -> None:
    if name in WITHOUT_PATCH_FEATURES and len(same_models) == 2:
        for model in same_models:
            with pytest.raises(TypeError, match="attention pool"):
                METHODS[name](ImageTextSimilarity(model))
        return
    tokens = torch.tensor([[0], [2], [3]])
    found = [
        METHODS[name](ImageTextSimilarity(model), **OPTIONS.get(name, {})).attribute(
            images, additional_forward_args=tokens
        )
        for model in same_models
    ]
    for other in found[1:]:
        assert found[0].std() > 0
        assert oracles.relative_error(other, found[0]) < 1e-4
