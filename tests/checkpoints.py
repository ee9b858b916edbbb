"""Small random checkpoints of transformers, with their tokenizers and processors, as downloaded."""

from __future__ import annotations

import json
import string
from io import BytesIO
from pathlib import Path
from typing import Any

import sentencepiece
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

TEXTS = ["a cat", "a dog on snow", "guitar", "a penguin, and a bus"]
LENGTH = 12
SIDE, PATCH = 32, 8
BLOCKS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
KINDS = ["clip", "metaclip_2", "siglip", "siglip2"]

# Which processors use PIL, and which torchvision: the names changed with transformers 5.
PIL, TORCHVISION = ("Pil", "") if hasattr(transformers, "CLIPImageProcessorPil") else ("", "Fast")
CLIP_PIL, CLIP_TORCHVISION, SIGLIP_PIL, SIGLIP_TORCHVISION = (
    getattr(transformers, f"{family}ImageProcessor{backend}")
    for family in ("CLIP", "Siglip")
    for backend in (PIL, TORCHVISION)
)
CLIP_SIZES = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
SIGLIP_SIZES = {"size": {"height": SIDE, "width": SIDE}}


def save_clip_tokenizer(folder: Path) -> int:
    """A tokenizer of bytes, no merges; returns the number of tokens, the last of which ends."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{x}</w>" for x in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    merges.write_text("#version: 0.2\n")
    transformers.CLIPTokenizer(str(vocabulary), str(merges)).save_pretrained(folder)
    return len(tokens)


def save_letter_tokenizer(folder: Path) -> int:
    """A tokenizer as SigLIP 2's: of letters, an end, padding on the right, and no mask."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    vocabulary = {token: i for i, token in enumerate([*special, "▁", *string.ascii_lowercase])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{token[1:-1]}_token": token for token in special},
        add_eos_token=True,
        padding_side="right",
        model_input_names=["input_ids"],
    ).save_pretrained(folder)
    return len(vocabulary)


def save_sentencepiece_tokenizer(folder: Path) -> int:
    """SigLIP's own tokenizer, which needs sentencepiece, trained on a few words."""
    trained = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*TEXTS, string.ascii_lowercase] * 10),
        model_writer=trained,
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    vocabulary = folder / "spiece.model"
    vocabulary.write_bytes(trained.getvalue())
    # Without attention mask, as the published checkpoints: the model is to attend to padding.
    tokenizer = transformers.SiglipTokenizer(str(vocabulary), model_input_names=["input_ids"])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


SAVE_TOKENIZER = {
    "clip": save_clip_tokenizer,
    "metaclip_2": save_clip_tokenizer,
    "siglip": save_sentencepiece_tokenizer,
    "siglip2": save_letter_tokenizer,
}


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights large enough that inputs matter; scale and bias of the logits stay."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        if not name.startswith("logit"):
            noise = torch.randn(value.shape, generator=generator)
            is_norm = value.ndim == 1 and name.endswith("weight")
            value.data = 1 + 0.2 * noise if is_norm else noise * value[0].numel() ** -0.5
    return model.eval()


def save_checkpoint(kind: str, folder: Path) -> Path:
    """A small random model with its tokenizer and image processor, as users download them."""
    folder.mkdir()
    words = SAVE_TOKENIZER[kind](folder)
    text = {**BLOCKS, "vocab_size": words, "max_position_embeddings": LENGTH}
    vision = {**BLOCKS, "patch_size": PATCH, "image_size": SIDE}
    model: Any
    processor: Any
    if kind in ("clip", "metaclip_2"):
        family = "CLIP" if kind == "clip" else "MetaClip2"
        text |= {"bos_token_id": words - 2, "eos_token_id": words - 1, "pad_token_id": words - 1}
        make_config = getattr(transformers, f"{family}Config")
        config = make_config(text_config=text, vision_config=vision, projection_dim=24)
        model = getattr(transformers, f"{family}Model")(config)
        processor = transformers.CLIPProcessor(
            CLIP_PIL(**CLIP_SIZES), transformers.AutoTokenizer.from_pretrained(folder)
        )
    else:
        text |= {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "projection_size": 32}
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        if kind == "siglip":
            config = transformers.SiglipConfig(text_config=text, vision_config=vision)
            model = transformers.SiglipModel(config)
            processor = transformers.SiglipProcessor(SIGLIP_PIL(**SIGLIP_SIZES), tokenizer)
        else:
            del vision["image_size"]
            vision["num_patches"] = (SIDE // PATCH) ** 2
            config = transformers.Siglip2Config(text_config=text, vision_config=vision)
            model = transformers.Siglip2Model(config)
            processor = transformers.Siglip2Processor(
                transformers.Siglip2ImageProcessor(
                    patch_size=PATCH, max_num_patches=vision["num_patches"]
                ),
                tokenizer,
            )
        model.logit_bias.data.fill_(-3.0)
        model.logit_scale.data.fill_(4.0)
    randomize(model)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
