"""What the timing programs share: medians of calls in turn, and a score of images to time."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import open_clip
import torch
from torch import Tensor, nn


class ImageScores(nn.Module):
    """Image features against fixed text features, so that only the image encoder is timed.

    Args:
        model: An open_clip model, whose `encode_image` makes features (B, dim) of images.
        dim: Width of the features.
    """

    def __init__(self, model: nn.Module, dim: int) -> None:
        super().__init__()
        self.model: Any = model
        self.text_features = nn.Parameter(torch.randn(10, dim))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 10) scores."""
        images = images.to(self.text_features.dtype)
        features = nn.functional.normalize(self.model.encode_image(images), dim=-1)
        return (features @ self.text_features.T).float()


def add_options(parser: argparse.ArgumentParser, *, repeats: int) -> None:
    """Add the options that `set_up` reads, and how often to time by default."""
    parser.add_argument("--model", default="ViT-B-32", help="open_clip model name (random weights)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--threads", type=int, default=2)


def set_up(args: argparse.Namespace) -> tuple[ImageScores, Callable[[Any], Tensor], Tensor]:
    """The scores of a model with random weights, its preprocessing, and a batch of noise."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms(args.model, device=args.device)
    scores = ImageScores(model, open_clip.get_model_config(args.model)["embed_dim"])
    height, width = model.visual.image_size
    dtype = getattr(torch, args.dtype)
    images = torch.randn(args.batch_size, 3, height, width, device=args.device, dtype=dtype)
    return scores.to(args.device, dtype).eval(), preprocess, images


def describe(args: argparse.Namespace) -> str:
    """The line that says what was timed, and on what."""
    device = torch.device(args.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return (
        f"{args.model}, {args.batch_size} images, {name}, {args.dtype},\n"
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.repeats} repeats"
    )


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
