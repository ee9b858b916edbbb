"""SAM and SAM 2 in transformers: the mask of what is in boxes."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

KINDS = ("sam", "sam2")

_BOXES = 32  # in one pass of the mask decoder
_PIXELS = 2**26  # of masks at the photo's size at a time: 256 MB


class BoxSegmenter:
    """The mask of what is in boxes of an image.

    Each box gives one mask, not three to choose from: a box says what is meant better than a
    point. Images go one by one, since neither processor takes different numbers of boxes.

    Args:
        model: Of one of `KINDS`, in eval mode.
        processor: Its own.
    """

    def __init__(self, model: nn.Module, processor: Any) -> None:
        self.model: Any = model
        self.processor = processor

    @torch.no_grad()
    def union(self, image: Image.Image, corners: Tensor) -> Tensor:
        """Every pixel that is in the mask of a box.

        Args:
            image: Of mode "RGB" and any size.
            corners: (N, 4) in its pixels, at least one: without boxes there is nothing to ask.

        Returns:
            (H, W) bool on the CPU, at the image's size.
        """
        # Lists: the processors take no list of tensors.
        inputs = self.processor(images=image, input_boxes=[corners.tolist()], return_tensors="pt")
        weights = next(self.model.parameters())
        pixels = inputs["pixel_values"].to(weights.device, weights.dtype)
        boxes = inputs["input_boxes"].to(weights.device, weights.dtype)  # SAM's are float64
        sizes = [inputs["original_sizes"]]
        if self.model.config.model_type == "sam":  # SAM 2 pads nothing, whatever it gives
            sizes.append(inputs["reshaped_input_sizes"])
        seen = self.model.get_image_embeddings(pixels)
        found = torch.zeros(image.height, image.width, dtype=torch.bool)
        step = max(1, min(_BOXES, _PIXELS // (image.height * image.width)))
        for some in boxes.split(step, dim=1):
            outputs = self.model(image_embeddings=seen, input_boxes=some, multimask_output=False)
            logits = outputs.pred_masks.float()
            masks = self.processor.post_process_masks(logits, *sizes)[0]  # (n, 1, H, W)
            found |= masks.any(dim=1).any(dim=0).cpu()
        return found
