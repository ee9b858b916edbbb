"""Grounding DINO in transformers: boxes of what one prompt names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

KINDS = ("grounding-dino", "mm-grounding-dino")


class Boxes(NamedTuple):
    """Of one image, the best first; on the CPU in float32.

    Attributes:
        corners: (N, 4), left, top, right and bottom in pixels of the image.
        scores: (N,).
    """

    corners: Tensor
    scores: Tensor


class Detector:
    """Finds what is named, in images of one size.

    The words that the library decodes for each box are not read: with one thing a prompt they
    could only be wrong, as "[SEP]" and "" are.

    Args:
        model: Of one of `KINDS`, in eval mode.
        processor: Its own.
        size: Of the shorter side, and the most of the longer, that the model sees; None is what
            the processor says, 800 and 1333 for the published ones.
    """

    def __init__(self, model: nn.Module, processor: Any, size: tuple[int, int] | None) -> None:
        self.model = model
        self.processor = processor
        self._resized: dict[str, Any] = {}
        if size is not None:
            self._resized["size"] = {"shortest_edge": size[0], "longest_edge": size[1]}

    def fits(self, prompt: str) -> bool:
        """Whether the model reads all of a prompt."""
        length = len(self.processor.tokenizer(prompt)["input_ids"])
        config: Any = self.model.config
        return bool(length <= config.max_text_len)

    @torch.no_grad()
    def find(
        self, images: Sequence[Image.Image], prompts: Sequence[str], threshold: float
    ) -> list[Boxes]:
        """The boxes whose score is above the threshold, one prompt an image.

        Args:
            images: All of one size, since what pads smaller ones is seen, too.
            prompts: One an image, each with a dot at its end: a list without dots would be one
                prompt for all images.
            threshold: From 0 to 1.

        Raises:
            ValueError: If a score is no number.
        """
        inputs = self.processor(
            images=list(images),
            text=list(prompts),
            padding=True,  # prompts differ in length
            return_tensors="pt",
            **self._resized,
        )
        weights = next(self.model.parameters())
        inputs = inputs.to(weights.device)
        inputs["pixel_values"] = inputs["pixel_values"].to(weights.dtype)
        outputs = self.model(**inputs)
        # Of the words that a prompt does not have the logits are -inf.
        scores = outputs.logits.float().sigmoid().amax(dim=-1).cpu()  # (B, queries)
        if scores.isnan().any():
            raise ValueError("the detector's scores are not numbers")
        centre, extent = outputs.pred_boxes.float().cpu().split(2, dim=-1)
        size = torch.tensor(images[0].size * 2, dtype=torch.float32)
        corners = torch.cat([centre - extent / 2, centre + extent / 2], dim=-1) * size
        return [_best_first(*row, threshold) for row in zip(corners, scores, strict=True)]


def _best_first(corners: Tensor, scores: Tensor, threshold: float) -> Boxes:
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > threshold]
    return Boxes(corners[order], scores[order])
