"""Texts through "hf:" become the tokens that open_clip makes of them for the same weights."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import sentencepiece
import torch
import transformers
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

from cci_captum import load_clip
from cci_captum.models._texts import FamilyTokenizer

LENGTH = 16
WORDS = ["a cat", "a dog on snow", "A Cat, a Dog.", "polar bear", "naïve café", "fish and chips"]
TEXTS = [
    *WORDS,
    "A CAT",
    "a photo of a cat.",
    "polar_bear",
    "don't STOP!",
    "fish &amp; chips",
    "  two \n spaces ",
    "cafe\u0301",
    "“quoted” 日本",
    "3 cats",
    "...",
    "",
    "a cat " * 20,
]


def pieces() -> bytes:
    """A small sentencepiece vocabulary, ids as T5's: padding 0, end 1, unknown 2."""
    trained = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*WORDS, string.ascii_letters + string.punctuation] * 10),
        model_writer=trained,
        vocab_size=100,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return trained.getvalue()


def write(folder: Path, name: str, content: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content))


def save_pieces(folder: Path, kind: str, pad: str, model: bytes) -> None:
    """A tokenizer of these pieces, with the settings of published checkpoints."""
    settings = {"tokenizer_class": kind, "eos_token": "</s>", "pad_token": pad}
    own = {"do_lower_case": True} if kind == "SiglipTokenizer" else {"extra_ids": 0}
    settings |= {"unk_token": "<unk>", "model_max_length": 64, "additional_special_tokens": []}
    write(folder, "tokenizer_config.json", settings | own)
    (folder / "spiece.model").write_bytes(model)


def save_gemma(folder: Path, **settings: Any) -> None:
    """A tokenizer as SigLIP 2's: bytes where pieces end, capitals kept, no beginning."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    bytes_ = [f"<0x{value:02X}>" for value in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[*special, *bytes_], show_progress=False
    )
    tokenizer.train_from_iterator([*WORDS, string.ascii_letters + string.punctuation] * 10, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write(
        folder,
        "tokenizer_config.json",
        {"tokenizer_class": "GemmaTokenizer", "add_bos_token": False, "add_eos_token": True}
        | {f"{token[1:-1]}_token": token for token in special[:4]}
        | {"padding_side": "right", "model_input_names": ["input_ids"]}
        | settings,
    )


def save_xlm(folder: Path, model: bytes) -> None:
    """A tokenizer as XLM-V's, of the same pieces: <s> text </s> <pad>."""
    processor = sentencepiece.SentencePieceProcessor()
    processor.LoadFromSerializedProto(model)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    vocabulary = [(token, 0.0) for token in special] + [
        (processor.id_to_piece(i), processor.get_score(i))
        for i in range(3, processor.get_piece_size())
    ]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    names |= {"cls_token": "<s>", "sep_token": "</s>", "tokenizer_class": "XLMRobertaTokenizer"}
    write(folder, "tokenizer_config.json", names)


def save_clip(folder: Path) -> None:
    """CLIP's own vocabulary, in the files of transformers."""
    own = SimpleTokenizer()
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    write(folder, "vocab.json", {renamed.get(k, k): v for k, v in own.encoder.items()})
    merges = "\n".join(" ".join(pair) for pair in own.bpe_ranks)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    end = dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")
    settings = {"tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", **end}
    write(folder, "tokenizer_config.json", settings)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, model = tmp_path_factory.mktemp("tokenizers"), pieces()
    for name, kind, pad in (
        ("siglip", "SiglipTokenizer", "</s>"),
        ("t5", "T5Tokenizer", "</s>"),
        ("mt5", "T5Tokenizer", "<pad>"),
    ):
        save_pieces(root / name, kind, pad, model)
    save_gemma(root / "gemma")
    save_gemma(root / "gemma-left", padding_side="left")
    save_xlm(root / "xlm", model)
    save_clip(root / "clip")
    return root


def family_tokenizer(folder: Path, model_type: str, vocabulary: int = 100) -> FamilyTokenizer:
    # AutoTokenizer asks the configuration for the type of the model.
    write(folder, "config.json", {"model_type": model_type})
    text = SimpleNamespace(max_position_embeddings=LENGTH, vocab_size=vocabulary)
    config = SimpleNamespace(model_type=model_type, text_config=text)
    return FamilyTokenizer(transformers.AutoTokenizer.from_pretrained(folder), config)


def hf(name: str, **options: Any) -> Callable[[Path], Any]:
    return lambda root: HFTokenizer(str(root / name), context_length=LENGTH, **options)


CASES = {  # a checkpoint's type and tokenizer -> open_clip's tokenizer of the same weights
    "CLIP": ("clip", "clip", lambda root: SimpleTokenizer(context_length=LENGTH)),
    "SigLIP": ("siglip", "siglip", hf("t5", clean="canonicalize")),
    "SigLIP, T5 files": ("siglip", "t5", hf("t5", clean="canonicalize")),
    "SigLIP 2": ("siglip", "gemma", hf("gemma", clean="canonicalize")),
    "SigLIP 2, files of the left side": (
        "siglip", "gemma-left", hf("gemma", clean="canonicalize")
    ),
    "MetaCLIP 2": ("metaclip_2", "xlm", hf("xlm")),
    "MetaCLIP 2, mT5": ("metaclip_2", "siglip", hf("mt5", clean="canonicalize")),
    "MetaCLIP 2, mT5 files": ("metaclip_2", "mt5", hf("mt5", clean="canonicalize")),
}  # fmt: skip


@pytest.mark.parametrize("family", CASES)
def test_tokens_are_open_clips(family: str, root: Path) -> None:
    model_type, folder, open_clips = CASES[family]
    expected = open_clips(root)(TEXTS)
    tokens = family_tokenizer(root / folder, model_type)(TEXTS)
    assert tokens.dtype == torch.int64 and tokens.shape == (len(TEXTS), LENGTH)
    for text, ours, theirs in zip(TEXTS, tokens.tolist(), expected.tolist(), strict=True):
        assert ours == theirs, text


def test_open_clips_configurations_clean_as_we_do() -> None:
    """What CASES says of a family is what open_clip's configurations say of its models."""
    seen = set()
    for name in open_clip.list_models():
        text = open_clip.get_model_config(name)["text_cfg"]
        clean = text.get("tokenizer_kwargs", {}).get("clean", "")
        source = text.get("hf_tokenizer_name", "")
        if "SigLIP" in name and source.startswith("timm/"):
            assert clean == "canonicalize", name
            seen.add("SigLIP 2" if "SigLIP2" in name else "SigLIP")
        elif "worldwide" in name:
            assert clean == ("canonicalize" if "mt5" in source else ""), name
            seen.add("MetaCLIP 2")
    assert {"SigLIP", "SigLIP 2"} <= seen


def test_a_name_of_clips_end_token_is_letters(root: Path) -> None:
    text = "a cat <|endoftext|> and more"
    tokens = family_tokenizer(root / "clip", "clip")(text)
    assert torch.equal(tokens, SimpleTokenizer(context_length=LENGTH)(text))


def test_no_text_and_another_length(root: Path) -> None:
    tokenizer = family_tokenizer(root / "gemma", "siglip")
    assert tokenizer([]).shape == (0, LENGTH)
    assert tokenizer("a cat", context_length=9).shape == (1, 9)
    assert tokenizer("a cat " * 20, context_length=9)[0, -1] == 1


def test_a_tokenizer_of_no_known_family_is_said(root: Path) -> None:
    with pytest.warns(UserWarning, match=r"tokenizer: T5\w+ is not known.* type clip: .*as they"):
        tokenizer = family_tokenizer(root / "t5", "clip")
    capital, small = tokenizer(["A CAT", "a cat"])
    assert not torch.equal(capital, small)


def save_siglip2(folder: Path, root: Path) -> Path:
    """A checkpoint of fixed resolution: the type of SigLIP, the tokenizer of SigLIP 2."""
    shutil.copytree(root / "gemma-left", folder)
    blocks = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {**blocks, "vocab_size": 400, "max_position_embeddings": LENGTH, "projection_size": 16}
    config = transformers.SiglipConfig(
        text_config={**text, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0},
        vision_config={**blocks, "image_size": 16, "patch_size": 8},
    )
    transformers.SiglipModel(config).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    transformers.SiglipImageProcessor(size=size).save_pretrained(folder)
    return folder


def test_siglip_2_of_fixed_resolution_sees_no_capitals(root: Path, tmp_path: Path) -> None:
    clip = load_clip(f"hf:{save_siglip2(tmp_path / 'checkpoint', root)}")
    tokens: Tensor = clip.tokenizer(["A Cat", "a cat", "a cat."])
    assert torch.equal(tokens[0], tokens[1]) and torch.equal(tokens[1], tokens[2])
    assert torch.equal(tokens, hf("gemma", clean="canonicalize")(root)(["A Cat"]).repeat(3, 1))


def test_open_clips_route_pads_on_the_right(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = hf("gemma-left", clean="canonicalize")(root)
    assert left("a cat")[0, 0] == 0
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda name: left)
    monkeypatch.setattr(
        open_clip, "create_model_and_transforms", lambda *a, **k: (torch.nn.Identity(), None, None)
    )
    tokens = load_clip("ViT-B-16-SigLIP2", "random").tokenizer("A Cat")
    assert torch.equal(tokens, hf("gemma", clean="canonicalize")(root)("a cat"))
