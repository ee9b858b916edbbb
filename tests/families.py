"""A small random model of every family of vision towers, of the libraries' own classes.

The real models' names and configurations, shrunk: 3 blocks, width 32, 4 heads, a few patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any, Literal
from unittest.mock import patch as patched

import open_clip
import timm
import torch
import transformers
from timm.layers import HybridEmbed
from timm.models.eva import Eva
from timm.models.vision_transformer import ResPostBlock
from timm.models.vision_transformer_hybrid import ConvStem
from torch import Tensor, nn
from toy import CONTEXT_LENGTH, EMBEDDING, VOCABULARY, randomize

CLASSES = 7
SHRUNK = {"embed_dim": 32, "depth": 3, "num_heads": 4}


@dataclass(frozen=True)
class Family:
    """How the models of one family are made and run.

    Attributes:
        name: As in a table of families.
        library: "open_clip", "timm" or "transformers".
        readout: What the image feature is made of: "class token", "average", "attention pool",
            "average and maximum", "maximum", "class token and average".
        image_size: (h, w) in pixels.
        patch: Side of a patch in pixels.
        build: Makes a model with arbitrary weights; options go to the library.
        forward: (model, images (B, 3, H, W), options) -> features (B, E), the library's own call.
        has_text: Whether the model encodes texts too.
        any_size: How images of other sizes are taken: "make" and "run" need an option there.
    """

    name: str
    library: Literal["open_clip", "timm", "transformers"]
    readout: str
    image_size: tuple[int, int]
    patch: int
    build: Callable[..., nn.Module]
    forward: Callable[..., Tensor]
    has_text: bool = False
    any_size: Literal["never", "make", "run", "always"] = "never"

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.image_size
        return height // self.patch, width // self.patch

    @property
    def attentions(self) -> tuple[str, ...]:
        """The implementations of attention there are: fused or in the open."""
        fixed = self.library == "open_clip" and "TimmModel" not in self.name
        return ("sdpa",) if fixed else ("sdpa", "eager")

    def make(self, seed: int = 0, attn: str = "sdpa", **options: Any) -> Any:
        """A model in eval mode with weights of this seed."""
        model: Any = self.build(**options)
        randomize(model, seed)
        assert attn in self.attentions
        if self.library == "transformers":
            model.set_attn_implementation(attn)
        for module in model.modules():
            if hasattr(module, "fused_attn"):  # timm's switch
                module.fused_attn = attn == "sdpa"
        return model.eval()

    def images(self, batch: int = 3, seed: int = 0, size: tuple[int, int] | None = None) -> Tensor:
        """Standard normal images (B, 3, H, W)."""
        generator = torch.Generator().manual_seed(1000 + seed)
        return torch.randn(batch, 3, *(size or self.image_size), generator=generator)

    def run(self, model: nn.Module, images: Tensor, **options: Any) -> Tensor:
        """Image features or logits (B, E), as the library computes them."""
        return self.forward(model, images, **options)


# open_clip


def text_config(**more: Any) -> dict[str, Any]:
    sizes = {"context_length": CONTEXT_LENGTH, "vocab_size": VOCABULARY, "width": 16}
    return sizes | {"heads": 2, "layers": 2} | more


def _encode_image(model: Any, images: Tensor) -> Tensor:
    return model.encode_image(images).flatten(1)  # CoCa's newer pools keep a dimension of one query


def _open_clip(name: str, readout: str, image_size: tuple[int, int], **vision: Any) -> Family:
    vision = {"layers": 3, "width": 32, "head_width": 8, "mlp_ratio": 2.0, "patch_size": 8} | vision
    # The newer CoCa pools run only where the embedding is as wide as the tower.
    embedding = 32 if isinstance(vision.get("attentional_pool"), str) else EMBEDDING

    def build(**options: Any) -> nn.Module:
        cfg = vision | {"image_size": image_size} | options
        if "CoCa" not in name:
            return open_clip.CLIP(embedding, cfg, text_config())
        cfg |= {"output_tokens": True, "attn_pooler_queries": 5, "attn_pooler_heads": 4}
        text = text_config(embed_cls=True, output_tokens=True)
        return open_clip.CoCa(embedding, text_config(attn_pooler_heads=2), text, cfg)

    return Family(name, "open_clip", readout, image_size, 8, build, _encode_image, has_text=True)


@contextmanager
def timm_makes(**changes: Any) -> Iterator[None]:
    """open_clip's TimmModel passes few options on: everything timm makes here is changed so."""
    with patched.object(timm, "create_model", partial(timm.create_model, **changes)):
        yield


def mobileclip_stem(**options: Any) -> HybridEmbed:
    """vit_base_mci_224's patch embedding of three convolutions, narrower: timm fixes its width."""
    stem = ConvStem(
        channels=(8, 8, 32),
        stride=(4, 2, 2),
        kernel_size=(4, 2, 2),
        padding=0,
        act_layer=nn.GELU,
    )
    return HybridEmbed(stem, proj=False, **options)


def _timm_model(name: str, readout: str, config: str, patch: int = 8, **changes: Any) -> Family:
    image_size = (3 * patch, 5 * patch)
    size = {"img_size": image_size} if patch == 16 else {"img_size": image_size, "patch_size": 8}

    def build(**options: Any) -> nn.Module:
        cfg = open_clip.get_model_config(config)["vision_cfg"] | {"image_size": image_size}
        embedding = SHRUNK["embed_dim"] if cfg.get("timm_proj") == "none" else EMBEDDING
        with timm_makes(**SHRUNK, **size, **changes, **options):
            return open_clip.CustomTextCLIP(embedding, cfg, text_config())

    return Family(
        f"open_clip TimmModel {name}",
        "open_clip",
        readout,
        image_size,
        patch,
        build,
        _encode_image,
        has_text=True,
        any_size="make",
    )


# timm


def _timm(name: str, readout: str, model_name: str, **changes: Any) -> Family:
    image_size = (24, 40)
    options = SHRUNK | {"img_size": image_size, "patch_size": 8, "num_classes": CLASSES} | changes

    def build(**more: Any) -> nn.Module:
        return timm.create_model(model_name, **(options | more))

    def forward(model: nn.Module, images: Tensor) -> Tensor:
        return model(images)

    return Family(f"timm {name}", "timm", readout, image_size, 8, build, forward, any_size="make")


# transformers

VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 8,
}
_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": CONTEXT_LENGTH,
    "bos_token_id": 0,
    "eos_token_id": VOCABULARY - 1,
    "pad_token_id": 0,
}


def _siglip2_inputs(images: Tensor, patch: int) -> dict[str, Tensor]:
    """Patches (B, N, patch * patch * 3) in raster order, channels last, and their grid."""
    batch, channels, height, width = images.shape
    h, w = height // patch, width // patch
    patches = images.reshape(batch, channels, h, patch, w, patch).permute(0, 2, 4, 3, 5, 1)
    return {
        "pixel_values": patches.reshape(batch, h * w, -1),
        "pixel_attention_mask": torch.ones(batch, h * w, dtype=torch.long),
        "spatial_shapes": torch.tensor([[h, w]]).expand(batch, 2),
    }


def _image_features(model: Any, images: Tensor, **options: Any) -> Tensor:
    if isinstance(model, transformers.Siglip2Model):
        options |= _siglip2_inputs(images, 8)
    else:
        options["pixel_values"] = images
    features = model.get_image_features(**options)
    return getattr(features, "pooler_output", features)  # a tensor before transformers 5


def _output(field: str) -> Callable[..., Tensor]:
    return lambda model, images, **options: model(pixel_values=images, **options)[field]


def _transformers(
    class_name: str,
    readout: str,
    config: Callable[[], Any],
    forward: Callable[..., Tensor],
    any_size: Literal["run", "always"] = "run",
    detail: str = "",
) -> Family:
    def build() -> nn.Module:
        return getattr(transformers, class_name)(config())

    return Family(
        f"transformers {class_name}{detail}",
        "transformers",
        readout,
        (32, 32),
        8,
        build,
        forward,
        has_text=forward is _image_features,
        any_size=any_size,
    )


def _clip_config(config: Any = transformers.CLIPConfig) -> Any:
    return config(text_config=_TEXT, vision_config=VISION, projection_dim=EMBEDDING)


def _clip_vision_config() -> Any:
    return transformers.CLIPVisionConfig(**VISION, projection_dim=EMBEDDING)


def _siglip_config(config: Any = transformers.SiglipConfig, **vision: Any) -> Any:
    text = _TEXT | {"projection_size": 32}
    return config(text_config=text, vision_config=VISION | vision)


def _siglip2_config() -> Any:
    return _siglip_config(transformers.Siglip2Config, num_patches=16)


def _vit_config(**more: Any) -> Any:
    return transformers.ViTConfig(**VISION, num_labels=CLASSES, **more)


def _dinov2_config(config: Any = transformers.Dinov2Config, **more: Any) -> Any:
    vision = {name: value for name, value in VISION.items() if name != "intermediate_size"}
    return config(**vision, mlp_ratio=2, num_labels=CLASSES, **more)


_FAMILIES = [
    _open_clip("open_clip ViT, class token", "class token", (24, 40)),
    _open_clip("open_clip ViT, average", "average", (24, 40), pool_type="avg"),
    _open_clip(
        "open_clip ViT, average before the norm (CLIPA)",
        "average",
        (32, 32),
        pool_type="avg",
        no_ln_pre=True,
        final_ln_after_pool=True,
        pos_embed_type="sin_cos_2d",
    ),
    _open_clip("open_clip CoCa", "attention pool", (24, 40), attentional_pool=True),
    _open_clip(
        "open_clip CoCa, average",
        "attention pool",
        (24, 40),
        attentional_pool=True,
        pool_type="avg",
    ),
    _open_clip("open_clip CoCa, parallel", "attention pool", (24, 40), attentional_pool="parallel"),
    _open_clip("open_clip CoCa, cascade", "attention pool", (24, 40), attentional_pool="cascade"),
    _timm_model("SigLIP", "attention pool", "ViT-B-16-SigLIP"),
    _timm_model("SigLIP 2", "attention pool", "ViT-SO400M-16-SigLIP2-256"),
    _timm_model("EVA01", "class token", "EVA01-g-14"),
    _timm_model("EVA02 (rotary)", "class token", "EVA02-B-16"),
    _timm_model("PE-Core", "attention pool", "PE-Core-B-16"),
    _timm_model("PE-Core bigG", "attention pool", "PE-Core-bigG-14-448"),
    _timm_model(
        "MobileCLIP-B", "class token", "MobileCLIP-B", patch=16, embed_layer=mobileclip_stem
    ),
    _timm_model("EVA02-E (post-norm)", "class token", "EVA02-E-14"),
    _timm_model("ViT, average", "average", "vit_medium_patch16_gap_256"),
    _timm("ViT, class token", "class token", "vit_base_patch16_224"),
    _timm("ViT, registers", "class token", "vit_small_patch14_reg4_dinov2"),
    _timm("ViT, average", "average", "eva_large_patch14_196"),
    _timm("ViT, average, no class token", "average", "vit_medium_patch16_gap_256"),
    _timm("ViT, average, register alone", "average", "vit_wee_patch16_reg1_gap_256"),
    _timm("ViT, MAP", "attention pool", "vit_base_patch16_siglip_224"),
    _timm("ViT, avgmax", "average and maximum", "vit_base_patch16_224", global_pool="avgmax"),
    _timm("ViT, max", "maximum", "vit_base_patch16_224", global_pool="max"),
    _timm("Eva", "average", "eva_giant_patch14_224"),
    _timm("Eva, rotary", "average", "eva02_base_patch14_224"),
    _timm("Eva, rotary, register alone", "average", "vit_medium_patch16_rope_reg1_gap_256"),
    _timm("Eva, post-norm", "average", "eva02_enormous_patch14_clip_224", global_pool="avg"),
    _timm("Eva, rotary mixed", "class token", "vit_small_patch16_rope_mixed_224"),
    _timm("Eva, DINOv3", "average", "vit_small_patch16_dinov3"),
    _timm(
        "Eva, DINOv3, class token", "class token", "vit_small_patch16_dinov3", global_pool="token"
    ),
    _transformers("CLIPModel", "class token", _clip_config, _image_features),
    _transformers(
        "CLIPVisionModelWithProjection",
        "class token",
        _clip_vision_config,
        _output("image_embeds"),
    ),
    _transformers("CLIPVisionModel", "class token", _clip_vision_config, _output("pooler_output")),
    _transformers(
        "MetaClip2Model",
        "class token",
        lambda: _clip_config(transformers.MetaClip2Config),
        _image_features,
    ),
    _transformers("SiglipModel", "attention pool", _siglip_config, _image_features),
    _transformers(
        "SiglipVisionModel",
        "attention pool",
        lambda: transformers.SiglipVisionConfig(**VISION),
        _output("pooler_output"),
    ),
    _transformers(
        "Siglip2Model", "attention pool", _siglip2_config, _image_features, any_size="always"
    ),
    _transformers("ViTForImageClassification", "class token", _vit_config, _output("logits")),
    _transformers("ViTModel", "class token", _vit_config, _output("pooler_output")),
    _transformers(
        "Dinov2ForImageClassification",
        "class token and average",
        _dinov2_config,
        _output("logits"),
        any_size="always",
    ),
    _transformers(
        "Dinov2WithRegistersForImageClassification",
        "class token and average",
        lambda: _dinov2_config(transformers.Dinov2WithRegistersConfig, num_register_tokens=3),
        _output("logits"),
        any_size="always",
    ),
    _transformers(
        "Dinov2Model", "class token", _dinov2_config, _output("pooler_output"), any_size="always"
    ),
    _transformers(
        "Dinov2Model",
        "class token",
        lambda: _dinov2_config(use_swiglu_ffn=True),
        _output("pooler_output"),
        any_size="always",
        detail=", SwiGLU",
    ),
]
if "MobileCLIP2-L-14" in open_clip.list_models():
    _FAMILIES.append(_timm_model("MobileCLIP2-L", "class token", "MobileCLIP2-L-14"))

_LIBRARIES = ("open_clip", "timm", "transformers")
_FAMILIES.sort(key=lambda family: _LIBRARIES.index(family.library))
FAMILIES: dict[str, Family] = {family.name: family for family in _FAMILIES}

# Options of the same families that few checkpoints use.
_VARIANTS = [
    _timm("ViT, two class tokens (distilled)", "class token", "deit_base_distilled_patch16_224"),
    _timm("ViT, norms of queries and keys", "average", "vit_medium_patch16_gap_256", qk_norm=True),
    _timm(
        "ViT, norms in the branches", "class token", "vit_base_patch16_224", scale_attn_norm=True
    ),
    _timm("ViT, post-norm", "class token", "vit_base_patch16_224", block_fn=ResPostBlock),
    _timm("ViT, gated MLP", "class token", "vit_giant_patch14_reg4_dinov2"),
    _timm(
        "ViT, average with prefix",
        "average",
        "vit_small_patch14_reg4_dinov2",
        global_pool="avg",
        pool_include_prefix=True,
    ),
    _timm(
        "ViT, MAP with prefix",
        "attention pool",
        "vit_small_patch14_reg4_dinov2",
        global_pool="map",
        pool_include_prefix=True,
    ),
    _timm("Eva, no norm after the blocks", "average", "vit_pe_spatial_tiny_patch16_512"),
]
if "num_kv_heads" in signature(Eva).parameters:
    _VARIANTS += [
        _timm(
            "Eva, shared keys and values",
            "average",
            "vit_small_patch16_rope_224",
            num_kv_heads=2,
            qkv_fused=False,
            qk_norm=True,
            global_pool="avg",
        ),
        _timm(
            "Eva, layer scale of attention alone",
            "average",
            "eva02_base_patch14_224",
            init_values=1.0,
            attn_only_layer_scale=True,
        ),
    ]

VARIANTS: dict[str, Family] = {family.name: family for family in _VARIANTS}
