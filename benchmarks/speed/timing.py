"""What the timing programs share: medians of calls in turn, and a score of images to time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


class ImageScores(nn.Module):
    """Image features against fixed text features, so that only the image encoder is timed.

    Args:
        visual: Images (B, 3, H, W) -> features (B, dim).
        dim: Width of the features.
    """

    def __init__(self, visual: nn.Module, dim: int) -> None:
        super().__init__()
        self.visual = visual
        self.text_features = nn.Parameter(torch.randn(10, dim))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 10) scores."""
        return nn.functional.normalize(self.visual(images), dim=-1) @ self.text_features.T


def median_seconds(
    functions: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median wall-clock seconds of each function, called in turn `repeats` times.

    Args:
        functions: Name to function; each is called once more first, to warm up.
        repeats: Timed calls of each.
        device: Device to wait for after each call.

    Returns:
        Name to median seconds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
