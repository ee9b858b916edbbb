"""Hugging Face transformers models as CLIPs, against what the library itself computes."""

from __future__ import annotations

import copy
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import peft
import pytest
import torch
import torch.nn.functional as F
import transformers
from checkpoints import (
    BLOCKS,
    CLIP_PIL,
    CLIP_SIZES,
    CLIP_TORCHVISION,
    KINDS,
    LENGTH,
    PATCH,
    SIDE,
    SIGLIP_PIL,
    SIGLIP_SIZES,
    SIGLIP_TORCHVISION,
    TEXTS,
    randomize,
    save_checkpoint,
)
from PIL import Image
from torch import Tensor, nn

from cci_captum import (
    CCI,
    ImageClassifier,
    ImageTextSimilarity,
    LoadedCLIP,
    ZeroShotClassifier,
    as_clip,
    explain,
    load_clip,
)
from cci_captum.benchmarks.cli import main
from cci_captum.benchmarks.commands._common import CommandError, load_model
from cci_captum.models.preprocessing import mean_and_std, seen_box


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: save_checkpoint(kind, root / kind) for kind in KINDS}


@pytest.fixture(params=KINDS)
def folder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Path:
    return folders[request.param]


@pytest.fixture
def clip(folder: Path) -> LoadedCLIP:
    return load_clip(f"hf:{folder}")


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coarse noise: neighbours differ, so that a wrong filter or a shifted pixel is seen."""
    values = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC)


def photos(count: int = 3, width: int = SIDE, height: int = SIDE) -> list[Image.Image]:
    return [photo(width, height, seed) for seed in range(count)]


def prepared(folder: Path) -> list[str]:
    """TEXTS as training saw them, where the library leaves that to its user."""
    return [text.replace(",", "") for text in TEXTS] if folder.name == "siglip2" else TEXTS


def own_outputs(folder: Path, images: list[Image.Image], **options: Any) -> Any:
    """What the library computes of images and TEXTS, by its own model and processor."""
    if folder.name == "siglip2":
        # Its processor has a default that is not what the checkpoint's image processor says.
        options |= {"patch_size": PATCH, "max_num_patches": (SIDE // PATCH) ** 2}
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    inputs = processor(
        text=prepared(folder),
        images=images,
        padding="max_length",
        max_length=LENGTH,
        truncation=True,
        return_tensors="pt",
        **options,
    )
    with torch.no_grad():
        return model(**inputs)


def test_logits_and_cosines_are_the_librarys(folder: Path, clip: LoadedCLIP) -> None:
    images = torch.stack([clip.preprocess(image) for image in photos()])
    expected = own_outputs(folder, photos())
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, TEXTS, "{}")
    with torch.no_grad():
        logits = classifier(images)
        repeated = clip.tokenizer([TEXTS[i] for i in (2, 0, 2)])
        cosines = ImageTextSimilarity(clip.model)(images, repeated)
    torch.testing.assert_close(logits, expected.logits_per_image, rtol=1e-4, atol=1e-4)
    own = (expected.image_embeds * expected.text_embeds[[2, 0, 2]]).sum(dim=-1)
    torch.testing.assert_close(cosines, own, rtol=0, atol=1e-5)
    assert logits.std(dim=0).min() > 1e-2 and logits.std(dim=1).min() > 1e-2


def test_scale_and_bias_are_the_models(folders: dict[str, Path]) -> None:
    clip = load_clip(f"hf:{folders['siglip']}")
    images = torch.stack([clip.preprocess(image) for image in photos()])
    with torch.no_grad():
        logits = ZeroShotClassifier(clip.model, clip.tokenizer, TEXTS)(images)
        cosines = ZeroShotClassifier(clip.model, clip.tokenizer, TEXTS, logit_scale=1.0)(images)
    torch.testing.assert_close(logits, np.exp(4.0) * cosines - 3.0, rtol=1e-5, atol=1e-5)


def test_loaded_without_network(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    model, preprocess, tokenizer, name = load_clip(f"hf:{folder}")
    assert name == f"hf:{folder}"
    assert type(model) is getattr(transformers, type(model).__name__)
    assert not model.training
    saved = transformers.AutoModel.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    assert preprocess(photo(50, 40)).shape == (3, SIDE, SIDE)
    assert preprocess(photo(50, 40)).dtype == torch.float32
    assert tokenizer("a cat").shape == (1, LENGTH)


@pytest.mark.exhaustive
def test_random_weights(folder: Path, clip: LoadedCLIP) -> None:
    torch.manual_seed(0)
    random = load_clip(f"hf:{folder}", "random")
    assert random.name == f"hf:{folder} random"
    ours, theirs = (
        c.model.state_dict()["text_model.embeddings.token_embedding.weight"] for c in (random, clip)
    )
    assert ours.shape == theirs.shape and not torch.equal(ours, theirs)


SHAPES = [(50, 33), (33, 51), (SIDE, SIDE), (97, 64), (SIDE + 3, SIDE), (20, 23), (SIDE, 35)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_preprocess_is_the_processors(
    kind: str, size: tuple[int, int], folders: dict[str, Path]
) -> None:
    preprocess = load_clip(f"hf:{folders[kind]}").preprocess
    sizes = CLIP_SIZES if kind == "clip" else SIGLIP_SIZES
    by_pil = (CLIP_PIL if kind == "clip" else SIGLIP_PIL)(**sizes)
    by_torchvision = (CLIP_TORCHVISION if kind == "clip" else SIGLIP_TORCHVISION)(**sizes)
    ours = preprocess(photo(*size))
    theirs = by_pil(photo(*size), return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=1e-5)
    # Resized without PIL, pixels are rounded differently; 1 / (255 * 0.26) is one step of 255.
    theirs = by_torchvision(photo(*size), return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2.1 / (255 * 0.26))


def test_other_settings_of_a_processor(folders: dict[str, Path], tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for file in folders["siglip"].iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    settings = {
        "size": {"height": 24, "width": 40},
        "resample": Image.Resampling.BILINEAR,
        "do_center_crop": True,
        "crop_size": {"height": 16, "width": 24},
    }
    processor = CLIP_PIL(**settings, do_normalize=False)
    (own / "processor_config.json").unlink(missing_ok=True)
    processor.save_pretrained(own)
    preprocess = load_clip(f"hf:{own}").preprocess
    expected = processor(photo(50, 33), return_tensors="pt").pixel_values[0]
    assert expected.shape == (3, 16, 24)
    torch.testing.assert_close(preprocess(photo(50, 33)), expected.float(), rtol=0, atol=1e-6)
    assert mean_and_std(preprocess) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    for wrong, match in (
        ({"rescale_factor": 1.0}, "name: expected an image processor that rescales by 1/255"),
        ({"do_rescale": False}, "name: expected an image processor that rescales by 1/255"),
        (
            {"size": {"shortest_edge": 32, "longest_edge": 64}},
            "name: expected an image processor with a size of shortest_edge, or of height",
        ),
    ):
        CLIP_PIL(**wrong).save_pretrained(own)
        with pytest.raises(ValueError, match=match):
            load_clip(f"hf:{own}")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_photos_of_other_modes(mode: str, clip: LoadedCLIP) -> None:
    image = photo(40, 50).convert(mode)
    assert torch.equal(clip.preprocess(image), clip.preprocess(image.convert("RGB")))


def test_what_preprocessing_does_is_known(folders: dict[str, Path]) -> None:
    preprocess = load_clip(f"hf:{folders['clip']}").preprocess
    mean, std = mean_and_std(preprocess)
    assert mean == pytest.approx(open_clip.OPENAI_DATASET_MEAN)
    assert std == pytest.approx(open_clip.OPENAI_DATASET_STD)
    assert seen_box(preprocess, (640, 480)) == (80, 0, 560, 480)
    for kind in ("siglip", "siglip2"):
        preprocess = load_clip(f"hf:{folders[kind]}").preprocess
        assert mean_and_std(preprocess) == ((0.5,) * 3, (0.5,) * 3)
        assert seen_box(preprocess, (640, 480)) == (0, 0, 640, 480)


def test_tokens_are_the_tokenizers(folder: Path, clip: LoadedCLIP) -> None:
    own = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = clip.tokenizer(TEXTS)
    assert tokens.dtype == torch.int64 and tokens.shape == (len(TEXTS), LENGTH)
    # What follows the end is never read by CLIP; open_clip's is 0.
    padding = 0 if folder.name == "clip" else own.pad_token_id
    for text, clean, row in zip(TEXTS, prepared(folder), tokens, strict=True):
        ids = own(clean).input_ids
        assert ids[-1] == own.eos_token_id
        ids = [*ids[: LENGTH - 1], ids[-1]] if len(ids) > LENGTH else ids
        assert row.tolist() == ids + [padding] * (LENGTH - len(ids))
        assert torch.equal(clip.tokenizer(text)[0], row)
    with pytest.warns(UserWarning, match="1 text is longer"):
        long = clip.tokenizer("cat " * 50)
    assert long.shape == (1, LENGTH) and long[0, -1] == own.eos_token_id


@pytest.mark.exhaustive
@pytest.mark.parametrize("size", [(48, 32), (24, 40), (64, 64)])
@pytest.mark.parametrize("kind", KINDS)
def test_images_of_other_sizes(kind: str, size: tuple[int, int], folders: dict[str, Path]) -> None:
    clip = load_clip(f"hf:{folders[kind]}")
    values = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    images = (torch.tensor(values).permute(0, 3, 1, 2) / 255).requires_grad_()
    embedded = ImageTextSimilarity(clip.model).encode_images(images)
    model: Any = clip.model
    if kind == "siglip2":
        # What the processor makes of an image that has as many patches as there may be.
        count = size[0] * size[1] // PATCH**2
        process = transformers.Siglip2ImageProcessor(
            patch_size=PATCH, max_num_patches=count, do_normalize=False
        )
        inputs = process(list(values), return_tensors="pt", input_data_format="channels_last")
        assert inputs.spatial_shapes.tolist() == [[size[0] // PATCH, size[1] // PATCH]] * 2
        out = model.get_image_features(**inputs)
    else:
        out = model.get_image_features(pixel_values=images, interpolate_pos_encoding=True)
    expected = F.normalize(getattr(out, "pooler_output", out), dim=-1)
    torch.testing.assert_close(embedded, expected, rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(embedded.sum(), images)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0


def test_siglip2_needs_whole_patches(folders: dict[str, Path]) -> None:
    model = load_clip(f"hf:{folders['siglip2']}").model
    with pytest.raises(ValueError, match=r"images: expected.*patch size 8, got 32 x 36"):
        ImageTextSimilarity(model).encode_images(torch.zeros(1, 3, 32, 36))


@pytest.mark.exhaustive
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision(precision: Any, folder: Path, clip: LoadedCLIP) -> None:
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    half = load_clip(f"hf:{folder}", precision=precision)
    vision: Any = half.model.vision_model
    assert {value.dtype for value in vision.parameters()} == {dtype}
    images = torch.stack([clip.preprocess(image) for image in photos()])
    with torch.no_grad():
        expected = ZeroShotClassifier(clip.model, clip.tokenizer, TEXTS, logit_scale=1.0)(images)
        low = ZeroShotClassifier(half.model, half.tokenizer, TEXTS, logit_scale=1.0)(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = ZeroShotClassifier(clip.model, clip.tokenizer, TEXTS, logit_scale=1.0)(images)
    assert low.dtype == mixed.dtype == torch.float32
    torch.testing.assert_close(low, expected, rtol=0, atol=0.05)
    torch.testing.assert_close(mixed, expected, rtol=0, atol=0.05)
    assert not torch.equal(low, expected)
    # exp(4.6052) is 100, or 98.9 if it is rounded to bf16 first.
    scales: list[Any] = [c.model.logit_scale for c in (half, clip)]
    assert torch.equal(scales[0], scales[1])


@pytest.mark.parametrize(
    ("name", "pretrained", "error", "match"),
    [
        ("hf:", None, ValueError, "name: expected a repository or folder after 'hf:'"),
        ("hf:a/b", "openai", ValueError, "pretrained: 'hf:a/b' comes with its weights.*'openai'"),
        ("hf:/no/such/folder", None, ValueError, "name: expected a folder that exists.*/no/such"),
        ("a/b", None, ValueError, "Hugging Face checkpoints start with 'hf:'"),
    ],
)
def test_refused_names(
    name: str, pretrained: str | None, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        load_clip(name, pretrained)


def test_other_kinds_of_models_are_refused_before_their_weights(tmp_path: Path) -> None:
    transformers.ViTConfig().save_pretrained(tmp_path)  # a configuration, and nothing else
    with pytest.raises(ValueError, match=r"name: expected a checkpoint of type clip.*got 'vit'"):
        load_clip(f"hf:{tmp_path}")


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path, folders: dict[str, Path]) -> None:
    with pytest.raises(RuntimeError, match=r"^could not load hf:\S+: [^\n]{1,300}$"):
        load_clip(f"hf:{tmp_path}")
    for name in ("config.json", "preprocessor_config.json", "processor_config.json"):
        file = folders["clip"] / name
        if file.exists():
            (tmp_path / name).write_bytes(file.read_bytes())
    with pytest.raises(RuntimeError, match=r"^could not load hf:\S+: [^\n]{1,300}$"):
        load_clip(f"hf:{tmp_path}")


def test_an_unknown_repository_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(source: str, **options: Any) -> None:
        assert options == {"trust_remote_code": False}
        raise OSError(f"{source} is not a valid model identifier\nmany more lines")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", missing)
    match = r"could not load hf:no/model: no/model is not a valid model identifier$"
    with pytest.raises(RuntimeError, match=f"^{match}"):
        load_clip("hf:no/model")
    with pytest.raises(CommandError, match=f"^--model: {match}"):
        load_model("hf:no/model", None, torch.device("cpu"))


@pytest.mark.parametrize(
    ("package", "module"), [("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")]
)
def test_a_tokenizer_that_needs_an_extra_names_it(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, package: str, module: str
) -> None:
    """transformers' own words lead elsewhere."""
    said = f"\nSiglipTokenizer requires the {package.upper()} library but it was not found in your"

    def refuse(source: str, **options: Any) -> None:
        raise ImportError(f"{said} environment.\nmany more lines")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    name = f"hf:{folders['siglip']}"
    with pytest.raises(RuntimeError, match=r"could not load hf:.*requires the"):
        load_clip(name)  # where it is there, something else is the reason
    monkeypatch.setitem(sys.modules, module, None)
    needed = f'{name} needs {package}: pip install "cci-captum[hf]"'
    with pytest.raises(ImportError, match=f"^{re.escape(needed)}$"):
        load_clip(name)


@pytest.mark.parametrize("pooler", ["parallel", "cascade"])
def test_coca_features_are_flat(pooler: str, tokenizer: Callable[..., Tensor]) -> None:
    torch.manual_seed(0)
    vision: dict[str, Any] = {
        "layers": 1,
        "width": 32,
        "head_width": 16,
        "patch_size": 16,
        "image_size": 32,
    }
    vision |= {
        "output_tokens": True,
        "attentional_pool": pooler,
        "attn_pooler_heads": 2,
        "attn_pooler_queries": 4,
    }
    text: dict[str, Any] = {
        "context_length": 12,
        "vocab_size": 64,
        "width": 24,
        "heads": 2,
        "layers": 1,
    }
    coca = open_clip.CoCa(
        32, text, {**text, "embed_cls": True, "output_tokens": True}, vision
    ).eval()
    images, tokens = torch.randn(3, 3, 32, 32), tokenizer(["cat", "dog", "cat"])
    with torch.no_grad():
        similarity = ImageTextSimilarity(coca)(images, tokens)
        logits = ZeroShotClassifier(coca, tokenizer, ["cat", "dog"], "{}")(images)
        embedded = coca.encode_image(images).reshape(3, -1)
        expected = F.cosine_similarity(embedded, coca.encode_text(tokens))
    torch.testing.assert_close(similarity, expected, rtol=0, atol=1e-5)
    chosen = logits[torch.arange(3), torch.tensor([0, 1, 0])]
    torch.testing.assert_close(chosen, coca.logit_scale.exp() * expected, rtol=1e-4, atol=1e-4)


def make_classifier(name: str) -> nn.Module:
    config = getattr(transformers, f"{name}Config")(
        **BLOCKS, image_size=SIDE, patch_size=PATCH, num_labels=5
    )
    torch.manual_seed(0)
    return randomize(getattr(transformers, f"{name}ForImageClassification")(config))


@pytest.mark.parametrize("name", ["ViT", "Dinov2"])
def test_image_classifier_gives_the_logits(name: str) -> None:
    model: Any = make_classifier(name)
    for size, options in (
        ((SIDE, SIDE), {}),
        ((48, 24), {"interpolate_pos_encoding": True} if name == "ViT" else {}),
    ):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            logits = ImageClassifier(model)(images)
            assert torch.equal(logits, model(images, **options).logits)
        assert logits.shape == (2, 5)


def test_image_classifier_takes_what_returns_tensors() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).to(torch.bfloat16)
    images = torch.randn(2, 3, 2, 2)
    assert torch.equal(ImageClassifier(model)(images), model(images.to(torch.bfloat16)))


def test_image_classifier_needs_logits() -> None:
    config = transformers.ViTConfig(**BLOCKS, image_size=SIDE, patch_size=PATCH)
    with pytest.raises(TypeError, match=r"model: expected.*logits, got BaseModel.*from ViTModel"):
        ImageClassifier(transformers.ViTModel(config))(torch.zeros(1, 3, SIDE, SIDE))


@pytest.mark.exhaustive
def test_explained_by_the_command_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "photo.png", tmp_path / "out.png"
    photo(50, 40).save(file)
    options = ["--text", TEXTS[0], "--method", "cci", "--device", "cpu", "--out", str(out)]
    assert main(["explain", str(file), "--model", f"hf:{folder}", *options]) == 0
    assert out.stat().st_size > 0
    clip = load_clip(f"hf:{folder}")
    images = clip.preprocess(photo(50, 40))[None]
    with torch.no_grad():
        similarity = ImageTextSimilarity(clip.model)(images, clip.tokenizer(TEXTS[0]))
    assert f"{similarity.item():.3f}" in capsys.readouterr().out


# Models that are in memory already.


def in_memory(folder: Path) -> tuple[Any, Any]:
    model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    return model, transformers.AutoProcessor.from_pretrained(folder)


def outputs_of(clip: LoadedCLIP) -> Tensor:
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, TEXTS, "{}")
    inputs = torch.stack([clip.preprocess(image) for image in photos(3, 41, 33)])
    return classifier(inputs).detach()


def test_objects_are_what_load_clip_loads(folder: Path, clip: LoadedCLIP) -> None:
    model, processor = in_memory(folder)
    given, found = as_clip(model, processor), as_clip(model)  # its processor, from the folder
    assert given.model is model and given.name == str(folder)
    assert torch.equal(given.tokenizer(TEXTS), clip.tokenizer(TEXTS))
    expected = outputs_of(clip)
    assert expected.std() > 0.01
    for own in (given, found):
        torch.testing.assert_close(outputs_of(own), expected, rtol=0, atol=1e-5)


@pytest.mark.exhaustive
def test_explained_as_what_load_clip_loads(folder: Path) -> None:
    model, processor = in_memory(folder)
    image = photo(41, 33)
    expected = explain(image, TEXTS[:2], f"hf:{folder}", device="cpu")
    for own in (model, as_clip(model, processor)):
        found = explain(image, TEXTS[:2], own)
        torch.testing.assert_close(found.maps, expected.maps, rtol=0, atol=1e-3)
        torch.testing.assert_close(found.drops, expected.drops, rtol=0, atol=1e-5)
    assert expected.drops.abs().max() > 1e-3 and found.model == str(folder)


def test_a_tokenizer_or_processor_is_that_of_the_family(folder: Path, clip: LoadedCLIP) -> None:
    model, processor = in_memory(folder)
    expected = ZeroShotClassifier(model, clip.tokenizer, ["A Cat", "dog"]).text_features
    for own in (processor, processor.tokenizer):
        found = ZeroShotClassifier(model, own, ["A Cat", "dog"]).text_features
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.exhaustive
def test_encodings_are_read(folder: Path, clip: LoadedCLIP) -> None:
    """What users write by the library's own documentation gives the library's own cosines."""
    model, processor = in_memory(folder)
    text = prepared(folder)[:1]
    encoding = processor.tokenizer(
        text, padding="max_length", max_length=LENGTH, return_tensors="pt"
    )
    images = torch.stack([clip.preprocess(image) for image in photos()])
    own = own_outputs(folder, photos())
    expected = (own.image_embeds * own.text_embeds[:1]).sum(-1)
    expected = expected / own.image_embeds.norm(dim=-1) / own.text_embeds[:1].norm(dim=-1)
    found = ImageTextSimilarity(model)(images, encoding).detach()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_encodings_that_would_be_read_wrongly(folders: dict[str, Path]) -> None:
    model, processor = in_memory(folders["siglip"])
    images = torch.zeros(1, 3, SIDE, SIDE)
    short = processor.tokenizer(["a cat"], return_tensors="pt")
    with pytest.raises(ValueError, match=rf"text: expected {LENGTH} tokens.*padding='max_length'"):
        ImageTextSimilarity(model)(images, short)
    model, processor = in_memory(folders["clip"])
    processor.tokenizer.padding_side = "left"
    texts = processor.tokenizer(["a cat", "a dog on snow"], padding=True, return_tensors="pt")
    with pytest.raises(ValueError, match="text: expected texts padded on the right"):
        ImageTextSimilarity(model)(images.repeat(2, 1, 1, 1), texts)
    with pytest.raises(TypeError, match="text: expected a BatchEncoding with input_ids"):
        ImageTextSimilarity(model)(images, {"tokens": torch.zeros(1, 3)})
    with pytest.raises(TypeError, match=r"return_tensors='pt'\), got list"):
        ImageTextSimilarity(model)(images, processor.tokenizer(["a cat"]))


def test_within_peft(folders: dict[str, Path]) -> None:
    model, processor = in_memory(folders["clip"])
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    wrapped = peft.get_peft_model(model, config).eval()
    merged = copy.deepcopy(wrapped).merge_and_unload().eval()
    adapted, plain = as_clip(wrapped, processor), as_clip(merged, processor)
    torch.testing.assert_close(outputs_of(adapted), outputs_of(plain), rtol=1e-4, atol=1e-4)
    with wrapped.disable_adapter():
        unadapted = outputs_of(as_clip(wrapped, processor))
    assert (outputs_of(adapted) - unadapted).abs().max() > 0.1
    images = torch.stack([plain.preprocess(image) for image in photos()])
    maps = [
        CCI(ZeroShotClassifier(clip.model, clip.tokenizer, TEXTS, "{}")).attribute(images, target=1)
        for clip in (adapted, plain)
    ]
    torch.testing.assert_close(maps[0], maps[1], rtol=0, atol=1e-4)


@pytest.mark.exhaustive
def test_open_clips_models_know_their_preprocessing() -> None:
    model = open_clip.create_model("coca_ViT-B-32", pretrained=None).eval()
    model.visual.preprocess_cfg["resize_mode"] = "squash"
    found = as_clip(model, name="mine")
    assert found.name == "mine"
    tokens = open_clip.get_tokenizer("coca_ViT-B-32")(TEXTS)
    assert torch.equal(found.tokenizer(TEXTS), tokens)
    assert seen_box(found.preprocess, (300, 200)) == (0, 0, 300, 200)
    del model.visual.preprocess_cfg
    with pytest.raises(ValueError, match=r"processor: .*CoCa does not say its preprocessing"):
        as_clip(model)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda m, p: (m.train(), p), ValueError, r"model: expected one in eval mode.*model.eval"),
        (lambda m, p: (nn.Linear(2, 2), p), TypeError, "model: expected a CLIP-like model"),
        (lambda m, p: (m, p.tokenizer), TypeError, "processor: expected an AutoProcessor.* got"),
        (lambda m, p: (m, (p.tokenizer,)), TypeError, r"processor: expected \(preprocess, tok"),
        (lambda m, p: (m, (p.tokenizer, 3)), TypeError, r"processor: expected \(preprocess, tok"),
    ],
)
def test_what_is_no_clip(
    change: Callable[..., Any], error: Any, message: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(error, match=message):
        as_clip(*change(*in_memory(folders["clip"])))


def test_objects_from_nowhere(folders: dict[str, Path]) -> None:
    model, processor = in_memory(folders["clip"])
    made = type(model)(model.config)
    made.config._name_or_path = made.name_or_path = ""
    with pytest.raises(ValueError, match="processor: expected the AutoProcessor of CLIPModel"):
        as_clip(made.eval())
    tiny = load_clip("tiny")
    with pytest.raises(TypeError, match=r"tokenizer: .*open_clip.get_tokenizer"):
        ZeroShotClassifier(tiny.model, processor.tokenizer, ["cat"])


@pytest.mark.exhaustive
def test_a_model_itself_is_no_function_of_images(folder: Path) -> None:
    clip = load_clip(f"hf:{folder}")
    with pytest.raises(TypeError, match=r"forward_func: .* takes texts first; ZeroShotClassifier"):
        CCI(clip.model)
