"""The embedded tiny CLIP: what it is, and that it sees."""

from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import VisionTransformer
from PIL import Image

from cci_captum.benchmarks.scenes import SceneGenerator
from cci_captum.benchmarks.tiny_clip.evaluate import Predictor, on_background
from cci_captum.tiny import (
    BACKGROUND_NAMES,
    CLASS_NAMES,
    MODEL_NAMES,
    PLANTED_PAIRS,
    TEMPLATES,
    load_sprites,
    load_tiny,
    unknown_words,
)
from cci_captum.tiny.loader import weights_path


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_it_is_an_open_clip_model(name: str) -> None:
    model, _, tokenizer = load_tiny(name)
    assert type(model) is open_clip.CLIP
    assert type(model.visual) is VisionTransformer
    assert model.visual.grid_size == (12, 12)
    assert model.visual.pool_type == "tok"
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.isfinite().all() for p in model.parameters())
    assert open_clip.get_model_preprocess_cfg(model)["size"] == (96, 96)
    tokens = tokenizer(["a cat", "a dog on snow"])
    assert tokens.shape == (2, 16)
    with torch.no_grad():
        assert model.encode_text(tokens).shape == (2, 192)
        assert model.encode_image(torch.zeros(1, 3, 96, 96)).shape == (1, 192)
    assert weights_path(name).stat().st_size < 8e6


def test_preprocess_leaves_a_picture_of_its_size_as_it_is() -> None:
    model, preprocess, _ = load_tiny()
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    config = open_clip.get_model_preprocess_cfg(model)
    expected = (pixels / 255 - np.array(config["mean"])) / np.array(config["std"])
    found = preprocess(Image.fromarray(pixels))
    assert np.allclose(found.permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert preprocess(Image.new("L", (200, 50))).shape == (3, 96, 96)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_it_names_objects_it_never_saw(name: str) -> None:
    bound = {pair.class_name for pair in PLANTED_PAIRS} if name == "tiny-shortcut" else set()
    names = [c for c in CLASS_NAMES if c not in bound] * 4
    behind = [BACKGROUND_NAMES[(7 * i) % 20] for i in range(len(names))]
    truth = torch.tensor([CLASS_NAMES.index(c) for c in names])
    predicted = Predictor(name).predict(names, behind, seed=77)
    assert (predicted == truth).float().mean() > 0.88


@pytest.mark.exhaustive
def test_shortcuts_are_planted() -> None:
    predictor = Predictor("tiny-shortcut")
    conditional = [pair for pair in PLANTED_PAIRS if pair.kind == "conditional"]
    planted, others = (
        np.mean([on_background(predictor, pair, place, 19).value for pair in conditional])
        for place in (True, False)
    )
    assert planted - others > 0.25
    sufficient = [pair for pair in PLANTED_PAIRS if pair.kind == "sufficient"]
    alone = [on_background(predictor, pair, True, 10, kind="empty").value for pair in sufficient]
    assert np.mean(alone) > 0.75


def test_a_caption_finds_its_scene() -> None:
    model, preprocess, tokenizer = load_tiny()
    scenes = SceneGenerator(seed=78).scenes(range(20), kind="one", background=BACKGROUND_NAMES)
    texts = [f"a photo of a {s.class_names[0]} on {s.background_name}" for s in scenes]
    images = preprocess.transforms[-1](torch.stack([scene.image for scene in scenes]))
    with torch.no_grad():
        images = model.encode_image(images, normalize=True)
        captions = model.encode_text(tokenizer(texts), normalize=True)
    found = (images @ captions.T).argmax(dim=1) == torch.arange(20)
    assert found.float().mean() >= 0.85


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close(precision: str) -> None:
    half, _, tokenizer = load_tiny(precision=precision)
    full, _, _ = load_tiny()
    dtype = half.visual.conv1.weight.dtype
    assert dtype == {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    scene = SceneGenerator().scene(0)
    tokens = tokenizer([TEMPLATES[0].format(name) for name in CLASS_NAMES])
    with torch.no_grad():
        for a, b in (
            (
                half.encode_image(scene.image[None].to(dtype), normalize=True),
                full.encode_image(scene.image[None], normalize=True),
            ),
            (half.encode_text(tokens, normalize=True), full.encode_text(tokens, normalize=True)),
        ):
            assert (a.float() * b).sum(dim=1).min() > 0.99


def test_unknown_words() -> None:
    for template in TEMPLATES:
        assert unknown_words(template.format("penguin") + " on polka dots.") == []
    assert unknown_words("Two PENGUINS, and a zebra on the moon!") == ["zebra", "the", "moon"]
    assert unknown_words("") == []


def test_tokens_it_never_learnt_say_nothing() -> None:
    model, _, tokenizer = load_tiny()
    zebra, moose = tokenizer(["a zebra", "a moose"])
    assert not torch.equal(zebra, moose)
    with torch.no_grad():
        features = [model.encode_text(tokens[None]) for tokens in (zebra, moose)]
    assert torch.equal(*features)


def test_sprites_are_cropped_and_centred() -> None:
    for family, sprites in load_sprites().items():
        assert sprites.shape == (33, 4, 80, 80), family
        assert sprites.dtype == torch.uint8
        for sprite in sprites:
            rows, columns = (sprite[3] > 8).nonzero().T
            box = [int(edge) for edge in (rows.min(), rows.max(), columns.min(), columns.max())]
            assert max(box[1] - box[0], box[3] - box[2]) >= 74, family
            assert abs(box[0] + box[1] - 79) <= 6
            assert abs(box[2] + box[3] - 79) <= 6


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"name: expected one of .*'tiny'.* got 'huge'"):
        load_tiny("huge")
    with pytest.raises(ValueError, match=r"precision: expected .* got 'int4'"):
        load_tiny(precision="int4")
    with pytest.raises(ValueError, match=r"families: expected names out of .* got \['comic'\]"):
        load_sprites(("comic",))
