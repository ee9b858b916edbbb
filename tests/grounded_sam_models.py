"""Small random Grounding DINO, SAM and SAM 2, of the library's classes, and one that is told."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from PIL import Image
from torch import nn
from transformers.models.sam2.configuration_sam2 import Sam2HieraDetConfig, Sam2VisionConfig

WORDS = ["a", "cat", "dog", "bear", "polar", "ice", "st", "bernard", "animal"]
_SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1010: ","}
# Where BERT has them: Grounding DINO tells phrases apart by these numbers.
_SPECIAL |= {1012: ".", 1029: "?"}
VOCABULARY = [_SPECIAL.get(number, f"[unused{number}]") for number in range(1030)] + WORDS
DOT = 1012
SIDE = 64  # of what the segmenters see
QUERIES = 12
LONGEST = 16  # tokens of a prompt
CLASSES = {"sam": "Sam", "sam2": "Sam2"}


class Box(NamedTuple):
    """What a detector is told to find: corners in shares of the image, a score, a token."""

    corners: tuple[float, float, float, float]
    score: float = 0.9
    token: int = 1  # which scores so, of the prompt: 0 is [CLS], the last [SEP]


class ToldDetector(transformers.GroundingDinoForObjectDetection):
    """Runs as it is, and then gives the boxes it was told, by the image's level and the word.

    `told[level, word]`: of an image whose corner has this grey level, for a prompt whose last word
    is this; none where there is nothing. A level among `raising` raises.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.told: dict[tuple[int, str], Sequence[Box]] | None = None
        self.raising: dict[int, Exception] = {}

    def forward(self, pixel_values: Any = None, input_ids: Any = None, **kwargs: Any) -> Any:
        outputs = super().forward(pixel_values=pixel_values, input_ids=input_ids, **kwargs)
        if self.told is None:
            return outputs
        logits = torch.full_like(outputs.logits, -9.0)
        boxes = torch.full_like(outputs.pred_boxes, 0.5)
        for row, (pixels, tokens) in enumerate(zip(pixel_values, input_ids, strict=True)):
            level = round(255 * float(pixels[0, 1, 1] * 0.229 + 0.485))
            level = min(self.levels(), key=lambda known: abs(known - level))
            if level in self.raising:
                raise self.raising[level]
            tokens = tokens[tokens != 0].tolist()
            word = VOCABULARY[tokens[-3]]  # before the dot and [SEP]
            for query, (corners, score, token) in enumerate(self.told.get((level, word), ())):
                left, top, right, bottom = corners
                middle = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
                boxes[row, query] = torch.tensor(middle)
                place = range(len(tokens))[token]
                logits[row, query, place] = torch.tensor(score).logit()
        outputs.logits, outputs.pred_boxes = logits, boxes
        return outputs

    def levels(self) -> set[int]:
        return {level for level, _ in self.told or {}} | self.raising.keys() | {255}


def tokenizer() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(VOCABULARY))
        if transformers.__version__.startswith("4."):
            return transformers.BertTokenizerFast(vocab_file=str(path))
        return transformers.BertTokenizer(vocab=str(path))


def detector(told: dict[tuple[int, str], Sequence[Box]] | None = None) -> tuple[Any, Any]:
    """A Grounding DINO and its processor."""
    torch.manual_seed(0)
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=transformers.BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=LONGEST,
        ),
        num_queries=QUERIES,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_n_points=2,
        decoder_n_points=2,
        num_feature_levels=3,
        max_text_len=LONGEST,
    )
    model = ToldDetector(config).eval()
    model.told = told
    images = transformers.GroundingDinoImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 96}
    )
    return model, transformers.GroundingDinoProcessor(images, tokenizer())


def _spread(model: nn.Module) -> nn.Module:
    """Weights so large that the image and the box decide where the mask is."""
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=(parameter.numel() / len(parameter)) ** -0.5)
    return model.eval()


def segmenter(kind: str) -> tuple[Any, Any]:
    """A SAM or SAM 2 and its processor."""
    torch.manual_seed(1)
    decoder = {
        "hidden_size": 16,
        "mlp_dim": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
        "iou_head_depth": 2,
    }
    prompts = {"hidden_size": 16, "image_size": SIDE, "mask_input_channels": 4}
    if kind == "sam":
        vision = {
            "hidden_size": 16,
            "output_channels": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 8,
            "window_size": 4,
            "global_attn_indexes": [0],
            "mlp_dim": 16,
            "num_pos_feats": 8,
        }
        config = transformers.SamConfig(
            vision_config=vision,
            prompt_encoder_config={**prompts, "patch_size": 8},
            mask_decoder_config=decoder,
        )
        images = transformers.SamImageProcessor(
            size={"longest_edge": SIDE},
            pad_size={"height": SIDE, "width": SIDE},
            mask_size={"longest_edge": 16},
            mask_pad_size={"height": 16, "width": 16},
        )
        return _spread(transformers.SamModel(config)), transformers.SamProcessor(images)
    hiera = Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[4, 4],
    )
    config = transformers.Sam2Config(
        vision_config=Sam2VisionConfig(
            backbone_config=hiera,
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
            fpn_hidden_size=16,
            num_feature_levels=3,
        ),
        prompt_encoder_config={**prompts, "patch_size": 16},
        mask_decoder_config=decoder,
    )
    # Its name before version 5, when the plain one had none.
    made = getattr(transformers, "Sam2ImageProcessor", None) or transformers.Sam2ImageProcessorFast
    images = made(size={"height": SIDE, "width": SIDE}, mask_size={"height": 16, "width": 16})
    return _spread(transformers.Sam2Model(config)), transformers.Sam2Processor(images)


def photo(level: int, size: tuple[int, int] = (70, 50)) -> Image.Image:
    """Noise, with a corner of one grey level, which says which photo it is."""
    width, height = size
    pixels = np.random.default_rng(level).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[: max(height // 4, 4), : max(width // 4, 4)] = level
    return Image.fromarray(pixels)
