"""Loading models, similarity and zero-shot classification, against open_clip's own functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum import ImageTextSimilarity, LoadedCLIP, ZeroShotClassifier, load_clip
from cci_captum.models import _names

NAMES = ["cat", "dog", "penguin", "car"]


@pytest.fixture(scope="module")
def tiny() -> LoadedCLIP:
    return load_clip("tiny")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))


def test_load_clip_unpacks(tiny: LoadedCLIP) -> None:
    model, _, tokenizer, name = tiny
    assert isinstance(model, open_clip.CLIP)
    assert not model.training
    assert name == "tiny"
    assert tokenizer(["a cat"]).dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "pretrained", "match"),
    [
        ("ViT-B-61", "openai", r"name: unknown model 'ViT-B-61'.*ViT-B-16"),
        ("tinny", None, r"name: unknown model 'tinny'.*tiny"),
        ("ViT-B-32", None, r"pretrained: ViT-B-32 needs a tag.*laion2b_s34b_b79k"),
        ("ViT-B-32", "opena", r"pretrained: expected a tag of ViT-B-32.*got 'opena'.*: openai"),
        ("tiny", "openai", r"pretrained: 'tiny' comes with its weights.*got 'openai'"),
    ],
)
def test_unknown_names_list_what_there_is(name: str, pretrained: str | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load_clip(name, pretrained)


def test_names_of_models_are_known_without_open_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    known = open_clip.list_models()
    assert _names._architectures() == known
    monkeypatch.delitem(sys.modules, "open_clip")
    assert sorted(_names._architectures()) == sorted(known)
    assert "open_clip" not in sys.modules


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match=r"precision: expected one of .*got 'int8'"):
        load_clip("tiny", precision="int8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "tag", "forced"),
    [
        ("ViT-B-16", "openai", True),  # trained with QuickGELU, the name does not say so
        ("ViT-B-16-quickgelu", "openai", False),  # the name says so
        ("ViT-B-16", "laion2b_s34b_b88k", False),
        ("ViT-B-16", "laion2b-s34b-b88k", False),  # open_clip takes dashes too
    ],
)
def test_quick_gelu_follows_the_weights(
    name: str, tag: str, forced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def create(name: str, **options: Any) -> tuple[nn.Module, None, None]:
        seen.update(options)
        return nn.Identity(), None, None

    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    loaded = load_clip(name, tag)
    assert seen.get("force_quick_gelu", False) is forced
    assert seen["pretrained"] == tag
    assert loaded.name == f"{name} {tag}"


def test_download_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(*args: Any, **options: Any) -> None:
        raise OSError("no route to host\nmany more lines")

    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    with pytest.raises(RuntimeError, match=r"^could not load ViT-B-16 openai: no route to host$"):
        load_clip("ViT-B-16", "openai")


@pytest.mark.exhaustive
def test_checkpoint_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "weights.pt"
    source = open_clip.create_model("ViT-S-32-alt")
    torch.save(source.state_dict(), path)
    loaded = load_clip("ViT-S-32-alt", str(path)).model.state_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(loaded[name], value)


def test_similarity_is_the_cosine(tiny: LoadedCLIP, images: Tensor) -> None:
    # Repeated texts are encoded once: every row must still get its own text.
    text = tiny.tokenizer(["a cat", "a dog", "a cat", "a penguin"])
    with torch.no_grad():
        similarity = ImageTextSimilarity(tiny.model)(images, text)
        expected = F.cosine_similarity(
            tiny.model.encode_image(images).double(), tiny.model.encode_text(text).double()
        )
    torch.testing.assert_close(similarity.double(), expected, rtol=0, atol=1e-6)


def test_similarity_needs_a_text_an_image(tiny: LoadedCLIP, images: Tensor) -> None:
    similarity = ImageTextSimilarity(tiny.model)
    with pytest.raises(ValueError, match=r"text: expected 4 rows of tokens, .* got 3"):
        similarity(images, tiny.tokenizer(["a cat"] * 3))
    one = similarity(images, tiny.tokenizer(["a cat"]))
    assert torch.allclose(one, similarity(images, tiny.tokenizer(["a cat"] * 4)), rtol=0, atol=1e-6)


def test_similarity_has_gradients(tiny: LoadedCLIP, images: Tensor) -> None:
    inputs = images.clone().requires_grad_()
    text = tiny.tokenizer(["a cat"] * 4)
    (gradient,) = torch.autograd.grad(ImageTextSimilarity(tiny.model)(inputs, text).sum(), inputs)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0


@pytest.mark.parametrize("templates", ["a photo of a {}.", ("a {}", "one {} there")])
def test_classifier_equals_open_clips(
    tiny: LoadedCLIP, images: Tensor, templates: str | tuple[str, ...]
) -> None:
    classifier = ZeroShotClassifier(tiny.model, tiny.tokenizer, NAMES, templates)
    every = (templates,) if isinstance(templates, str) else templates
    with torch.no_grad():
        weights = open_clip.build_zero_shot_classifier(
            tiny.model, tiny.tokenizer, NAMES, [t.format for t in every]
        )
        features = tiny.model.encode_image(images, normalize=True)
        expected = tiny.model.logit_scale.exp() * features @ weights
        torch.testing.assert_close(classifier(images), expected, rtol=1e-5, atol=1e-4)


def test_openai_templates(tiny: LoadedCLIP, images: Tensor) -> None:
    by_name = ZeroShotClassifier(tiny.model, tiny.tokenizer, NAMES, "openai-imagenet")
    with torch.no_grad():
        weights = open_clip.build_zero_shot_classifier(
            tiny.model, tiny.tokenizer, NAMES, open_clip.OPENAI_IMAGENET_TEMPLATES
        )
    assert len(open_clip.OPENAI_IMAGENET_TEMPLATES) == 80
    torch.testing.assert_close(by_name.text_features, weights.T, rtol=0, atol=1e-6)


def test_logit_bias_is_added(tiny: LoadedCLIP, images: Tensor) -> None:
    plain = ZeroShotClassifier(tiny.model, tiny.tokenizer, NAMES)
    biased = load_clip("tiny").model
    biased.logit_bias = nn.Parameter(torch.tensor(-10.0))
    with torch.no_grad():
        expected = plain(images) - 10.0
        logits = ZeroShotClassifier(biased, tiny.tokenizer, NAMES)(images)
    torch.testing.assert_close(logits, expected)


@pytest.mark.exhaustive
def test_low_precision_gives_float32_near_the_truth(images: Tensor) -> None:
    full = load_clip("tiny")
    half = load_clip("tiny", precision="bf16")
    text = full.tokenizer(NAMES)
    assert half.model.visual.conv1.weight.dtype == torch.bfloat16
    with torch.no_grad():
        expected = ImageTextSimilarity(full.model)(images, text)
        low = ImageTextSimilarity(half.model)(images, text)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = ImageTextSimilarity(full.model)(images, text)
            logits = ZeroShotClassifier(full.model, full.tokenizer, NAMES)(images)
    assert low.dtype == mixed.dtype == logits.dtype == torch.float32
    # bf16 has 8 bits of precision.
    torch.testing.assert_close(low, expected, rtol=0, atol=0.05)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=0.05)
    assert not torch.equal(low, expected)


@pytest.mark.parametrize(
    ("class_names", "templates", "match"),
    [
        ([], "a {}", "class_names: expected a sequence of at least one name"),
        ("cat", "a {}", "class_names: expected a sequence of at least one name, got 'cat'"),
        (NAMES, "a photo", r"templates: expected 'openai-imagenet' or strings with \{\}"),
        (NAMES, [], "templates: expected at least one template, got none"),
    ],
)
def test_classifier_refuses(tiny: LoadedCLIP, class_names: Any, templates: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ZeroShotClassifier(tiny.model, tiny.tokenizer, class_names, templates)


def test_models_without_encoders_are_refused() -> None:
    with pytest.raises(TypeError, match=r"model: expected a CLIP-like model.*Linear.*encode_image"):
        ImageTextSimilarity(nn.Linear(2, 2))
