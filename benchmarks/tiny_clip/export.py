"""From a checkpoint to the weights that `cci_captum.tiny` ships."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F

from cci_captum.tiny.loader import build


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Enlarge a positional embedding (1 + n * n, D) to (1 + grid * grid, D), bicubic."""
    token, patches = positions[:1], positions[1:]
    side = math.isqrt(len(patches))
    picture = patches.T.reshape(1, -1, side, side)
    picture = F.interpolate(picture, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([token, picture.flatten(2)[0].T])


def export(state: dict[str, Tensor], token_ids: Tensor, path: Path) -> None:
    """Write weights as `cci_captum.tiny` ships them: fp16, rows of unused tokens left out."""
    state = {key: value.detach().cpu() for key, value in state.items()}
    grid = build().visual.grid_size[0]
    key = "visual.positional_embedding"
    if len(state[key]) != 1 + grid * grid:
        state[key] = resize_positions(state[key], grid)
    tensors = {key: value.half().contiguous() for key, value in state.items()}
    tensors["token_ids"] = token_ids.to(torch.int32)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(save(tensors))
    os.replace(part, path)
