"""Models that are nearly of a known family: right all the same, or refused; never wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import oracles
import pytest
import timm
import torch
import transformers
from families import FAMILIES, SHRUNK, VISION
from helpers import close
from open_clip.transformer import VisionTransformer
from selection import quick_first
from torch import Tensor, nn
from toy import EMBEDDING, randomize

from cci_captum import CCI, GateGradient, ImageTextSimilarity, KMeans, find_vision_tower
from cci_captum.baselines import M2IB, CLIPSurgery, GradECLIP, MaskCLIP
from cci_captum.benchmarks.faithfulness import DeletionInsertion
from cci_captum.vision_towers import check_vision_tower, register_vision_tower

SIZES = SHRUNK | {"img_size": 32, "patch_size": 8}


def images_of(batch: int = 3, size: tuple[int, int] = (32, 32)) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(3))


def half_hidden(batch: int = 3, patches: int = 16) -> Tensor:
    return torch.rand(batch, patches, generator=torch.Generator().manual_seed(4)) < 0.5


def made(model: Any) -> Any:
    randomize(model, 3)
    return model.eval()


def mean_of_kept(tokens: Tensor, hidden: Tensor) -> Tensor:
    kept = (~hidden).to(tokens)[..., None]
    return (tokens * kept).sum(1) / kept.sum(1)


# What is read outside the tower


def probes() -> dict[str, tuple[Any, Callable[[Any, Tensor], Tensor]]]:
    """Models, and a mean of their patches that is taken outside of them."""
    clip = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**VISION))
    siglip = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**VISION))
    vit = transformers.ViTModel(transformers.ViTConfig(**VISION), add_pooling_layer=False)
    ours = timm.create_model("vit_base_patch16_224", **SIZES, num_classes=0)
    clipa = VisionTransformer(
        32, 8, 32, 3, 4, 2.0, pool_type="avg", final_ln_after_pool=True, output_dim=EMBEDDING
    )
    return {
        "CLIPVisionModel": (clip, lambda m, x: m(x).last_hidden_state[:, 1:].mean(1)),
        "SiglipVisionModel": (siglip, lambda m, x: m(x).last_hidden_state.mean(1)),
        "ViTModel": (vit, lambda m, x: m(x).last_hidden_state[:, 1:].mean(1)),
        "timm ViT": (ours, lambda m, x: m.forward_features(x)[:, 1:].mean(1)),
        "timm ViT, maximum": (ours, lambda m, x: m.forward_features(x)[:, 1:].amax(1)),
        "CLIPA": (clipa, lambda m, x: m.forward_intermediates(x, [2])["image_features"]),
        "CLIPA, last": (
            clipa,
            lambda m, x: (
                m.forward_intermediates(x, [2])["image_intermediates"][-1].flatten(2).mean(2)
            ),
        ),
    }


@pytest.mark.parametrize("name", probes())
@torch.no_grad()
def test_an_average_outside_the_tower_is_that_of_kept_patches(name: str) -> None:
    model, read = probes()[name]
    model, images, mask = made(model), images_of(), half_hidden()
    tower = find_vision_tower(model)
    outputs = []
    for strategy in ("mask", "drop"):
        with tower.hide(mask, strategy):
            outputs.append(read(model, images))
    close(outputs[0], outputs[1])
    assert oracles.relative_error(outputs[0], read(model, images)) > 1e-2
    pixels = mask.view(-1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    painted = torch.where(pixels, 100 * images.flip(0), images)
    with tower.hide(mask):
        close(read(model, painted), outputs[0])


@pytest.mark.parametrize("name", ["CLIP", "MetaClip2", "Siglip"])
@torch.no_grad()
def test_classifiers_that_average_outside_the_image_encoder(name: str) -> None:
    """Against their own classifier on the mean of the kept tokens alone."""
    config = getattr(transformers, f"{name}Config")(vision_config=VISION, num_labels=5)
    classifier = made(getattr(transformers, f"{name}ForImageClassification")(config))
    images, mask = images_of(), half_hidden()
    tower = find_vision_tower(classifier)
    assert tower.module is classifier.vision_model
    expected = []
    for image, hidden in zip(images, mask, strict=True):

        def drop(module: nn.Module, args: Any, hidden: Tensor = hidden) -> Any:
            kept = torch.cat([torch.ones(args[0].shape[1] - 16, dtype=torch.bool), ~hidden])
            return (args[0][:, kept], *args[1:])

        handle = tower.block(0).module.register_forward_pre_hook(drop)
        output = classifier(image[None])
        handle.remove()
        expected.append(output.logits)
    for strategy in ("mask", "drop"):
        with tower.hide(mask, strategy):
            close(classifier(images).logits, torch.cat(expected))


def test_models_that_may_read_inner_states() -> None:
    config = transformers.ViTConfig(**VISION, encoder_stride=8)
    model = transformers.ViTForMaskedImageModeling(config)
    with pytest.raises(TypeError, match=r"ViTForMaskedImageModeling may read.*vision_tower=model"):
        find_vision_tower(model)
    assert find_vision_tower(model.vit).module is model.vit


class Projected(nn.Module):
    """A CLIP that projects the features of its image encoder outside of it."""

    def __init__(self, visual: nn.Module, width: int) -> None:
        super().__init__()
        self.visual = visual
        self.projection = nn.Linear(32, width, bias=False)
        self.register_buffer("texts", torch.randn(4, width))

    def encode_image(self, images: Tensor) -> Tensor:
        return self.projection(self.visual(images))

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.texts[tokens[:, 0]]


@pytest.mark.parametrize("width", [32, 24])
@pytest.mark.parametrize("method", [MaskCLIP, CLIPSurgery, M2IB])
def test_a_projection_outside_the_tower(method: Any, width: int) -> None:
    visual = timm.create_model("vit_base_patch16_224", **SIZES, num_classes=0)
    similarity = ImageTextSimilarity(made(Projected(visual, width)))
    tokens = torch.zeros(3, 1, dtype=torch.long)
    with pytest.raises(TypeError, match=r"vision_tower: .*projection outside the image encoder"):
        method(similarity).attribute(images_of(), additional_forward_args=tokens)
    # Methods that only need the score take it.
    CCI(similarity).attribute(images_of(), additional_forward_args=tokens)


# Compiled models


@pytest.mark.parametrize(
    "name",
    quick_first(["open_clip ViT, class token", "timm ViT, class token", "transformers CLIPModel"]),
)
@pytest.mark.parametrize("how", quick_first(["blocks", "whole, after a plain pass"]))
def test_compiled_models(name: str, how: str) -> None:
    """A compiled graph knows nothing of hooks that come later: it must not be used."""
    family = FAMILIES[name]
    model, images = family.make(2), family.images(2)

    def forward(inputs: Tensor) -> Tensor:
        return family.run(model, inputs)

    methods = [CCI, GradECLIP, GateGradient]
    expected = [method(forward, model).attribute(images, target=1) for method in methods]
    tower = find_vision_tower(model)
    if how == "blocks":
        for block in tower.blocks:
            block.module.compile(backend="eager")
    else:
        (getattr(model, "visual", None) or getattr(model, "vision_model", model)).compile(
            backend="eager"
        )
        forward(images)
    for method, plain in zip(methods, expected, strict=True):
        assert plain.std() > 0
        close(method(forward, model).attribute(images, target=1), plain, 1e-4)
    torch._dynamo.reset()


# Replaced parts


class Ignoring(nn.Module):
    """Attention that takes a mask and does not look at it."""

    def __init__(self, inner: nn.MultiheadAttention) -> None:
        super().__init__()
        self.inner = inner
        self.num_heads = inner.num_heads

    def forward(self, *args: Any, key_padding_mask: Any = None, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)


def test_replaced_attention() -> None:
    model = FAMILIES["open_clip ViT, class token"].make()
    block = model.visual.transformer.resblocks[1]
    block.attn = Ignoring(block.attn)
    with pytest.raises(TypeError, match=r"Ignoring.*not open_clip's own; register_vision_tower"):
        find_vision_tower(model)
    model = FAMILIES["open_clip CoCa"].make()
    model.visual.attn_pool.attn = Ignoring(model.visual.attn_pool.attn)
    with pytest.raises(TypeError, match=r"attention pool: Ignoring is not open_clip's own"):
        find_vision_tower(model)
    model = FAMILIES["transformers CLIPModel"].make()
    layer = model.vision_model.encoder.layers[1]
    layer.self_attn = Ignoring(nn.MultiheadAttention(32, 4))
    with pytest.raises(TypeError, match=r"Ignoring.*not transformers' own; register_vision"):
        CCI(ImageTextSimilarity(model)).attribute(
            images_of(2), additional_forward_args=torch.zeros(2, 12, dtype=torch.long)
        )


class OwnHead(timm.models.vision_transformer.VisionTransformer):
    """Another read-out than the adapter knows."""

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        return self.head(x[:, 1:].amin(dim=1))


class OwnName(timm.models.vision_transformer.VisionTransformer):
    """A subclass that computes what its base does."""

    def describe(self) -> str:
        return "mine"


class OwnForward(transformers.CLIPVisionModel):
    """Another pass than the adapter knows."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


def test_subclasses() -> None:
    with pytest.raises(TypeError, match=r"OwnHead overrides forward_head of its class in timm"):
        find_vision_tower(OwnHead(**SIZES, num_classes=5))
    with pytest.raises(
        TypeError, match=r"OwnForward overrides forward of its class in transformers"
    ):
        find_vision_tower(OwnForward(transformers.CLIPVisionConfig(**VISION)))
    own = made(OwnName(**SIZES, num_classes=5))
    check_vision_tower(find_vision_tower(own), own, images_of(4))


def test_patch_embeddings_that_look_at_all_patches() -> None:
    for norm in (lambda width: nn.GroupNorm(4, width), timm.layers.SqueezeExcite):
        model = timm.create_model("vit_base_patch16_224", **SIZES, num_classes=5)
        model.patch_embed.norm = norm(32)
        with pytest.raises(TypeError, match="mixes the pixels of different patches"):
            find_vision_tower(model)


def test_registered_adapters_are_asked_first_everywhere() -> None:
    """Also for a module inside one that comes with the package."""
    model = FAMILIES["open_clip TimmModel SigLIP"].make()
    from cci_captum.vision_towers import TimmVisionTower

    class Mine(TimmVisionTower):
        pass

    handle = register_vision_tower(TimmVisionTower.matches, Mine)
    try:
        tower = find_vision_tower(model)
        assert type(tower) is Mine and tower.module is model.visual.trunk
    finally:
        handle.remove()
    assert find_vision_tower(model).module is model.visual


# Masks of the caller's own


def test_attention_masks_of_the_callers_own() -> None:
    model = FAMILIES["timm ViT, class token"].make()
    images = FAMILIES["timm ViT, class token"].images(2)
    tower = find_vision_tower(model)
    nothing = torch.zeros(2, 15, dtype=torch.bool)
    causal = torch.ones(16, 16, dtype=torch.bool).tril()
    with tower.hide(nothing), pytest.raises(ValueError, match="mask of its own"):
        model(images, attn_mask=causal)
    with tower.record_attention(), pytest.raises(ValueError, match="mask of its own"):
        model(images, attn_mask=causal)
    with tower.hide(nothing):  # a mask that keeps everything is none
        close(model(images, attn_mask=torch.ones(16, 16, dtype=torch.bool)), model(images), 1e-5)


def test_padded_images() -> None:
    """SigLIP 2 pads small images to the longest of their batch."""
    model = FAMILIES["transformers Siglip2Model"].make()
    inputs = {
        "pixel_values": torch.randn(2, 16, 192),
        "pixel_attention_mask": (torch.arange(16) < torch.tensor([[16], [12]])).long(),
        "spatial_shapes": torch.tensor([[4, 4], [3, 4]]),
    }
    tower = find_vision_tower(model)
    nothing = torch.zeros(2, 16, dtype=torch.bool)
    with tower.hide(nothing), pytest.raises(ValueError, match=r"images: .*without padding"):
        model.get_image_features(**inputs)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# Pixels that fill no patch


@pytest.mark.parametrize("method", [CCI, GradECLIP])
def test_maps_lie_on_the_pixels_of_their_patches(method: Any) -> None:
    """A 39 x 47 image of 8 x 8 patches: the last rows and columns are not seen."""
    vit = made(
        transformers.ViTForImageClassification(transformers.ViTConfig(**VISION, num_labels=5))
    )
    images = images_of(2, (39, 47))

    def forward(inputs: Tensor) -> Tensor:
        return vit(inputs, interpolate_pos_encoding=True).logits

    explain = method(forward, vit)
    patches = explain.patch_map(images, target=1)
    assert patches.shape == (2, 4, 5)
    attributions = explain.attribute(images, target=1)
    assert attributions.shape == images.shape
    close(attributions[:, 0, :32, :40], patches.repeat_interleave(8, 1).repeat_interleave(8, 2))
    assert not attributions[:, :, 32:].any() and not attributions[:, :, :, 40:].any()


def test_maps_of_padded_images() -> None:
    model = made(
        timm.create_model(
            "vit_base_patch16_224",
            **SIZES,
            num_classes=5,
            dynamic_img_size=True,
            dynamic_img_pad=True,
        )
    )
    images = images_of(2, (29, 37))
    explain = CCI(model, clustering=KMeans(4))
    patches = explain.patch_map(images, target=0)
    assert patches.shape == (2, 4, 5)
    expected = patches.repeat_interleave(8, 1).repeat_interleave(8, 2)[:, :29, :37]
    close(explain.attribute(images, target=0)[:, 0], expected)


def test_maps_of_images_that_the_model_resizes() -> None:
    """The grid then covers all of them."""
    vit = FAMILIES["timm ViT, class token"].make()

    def forward(inputs: Tensor) -> Tensor:
        return vit(nn.functional.interpolate(inputs, (24, 40), mode="bilinear", antialias=True))

    attributions = CCI(forward, vit).attribute(images_of(2, (50, 70)), target=0)
    assert attributions[:, :, -1].any() and attributions[:, :, :, -1].any()


# Errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: timm.create_model("beit_base_patch16_224", depth=1), "relative position"),
        (
            lambda: transformers.BeitModel(transformers.BeitConfig(**VISION)),
            "relative position",
        ),
        (
            lambda: transformers.Swinv2Model(
                transformers.Swinv2Config(image_size=32, embed_dim=8, depths=[1], num_heads=[1])
            ),
            "windows",
        ),
        (lambda: timm.create_model("samvit_base_patch16", depth=1), "windows"),
    ],
)
def test_other_transformers_are_refused_with_the_reason(make: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        find_vision_tower(make())


def test_the_check_wants_eval_mode() -> None:
    model = FAMILIES["timm ViT, class token"].make().train()
    with pytest.raises(ValueError, match=r"vision_tower: expected .*eval mode"):
        check_vision_tower(find_vision_tower(model), model, images_of())


def test_the_harness_sees_that_the_tower_does_not_run() -> None:
    family = FAMILIES["timm ViT, class token"]
    model, other, images = family.make(), family.make(1), family.images(2)
    calls = []

    def forward(inputs: Tensor) -> Tensor:
        calls.append(len(inputs))
        return (model if len(calls) < 3 else other)(inputs)

    harness = DeletionInsertion(forward, "tokens", vision_tower=model)
    with pytest.raises(RuntimeError, match="forward_func: expected it to run the vision tower"):
        harness(images, torch.rand(2, 3, 5), target=0)
