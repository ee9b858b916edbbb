"""Random numbers that belong to an image, wherever it stands in a batch."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def generator_of(image: Tensor, seed: int) -> torch.Generator:
    """A generator that depends on the seed and on the image's content alone.

    Args:
        image: Any tensor, of any dtype and on any device.
        seed: Any int.

    Returns:
        A generator on the CPU.
    """
    content = image.detach().cpu().flatten().clone().view(torch.uint8).numpy().tobytes()
    digest = hashlib.sha256(f"{seed}:".encode() + content).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big"))
