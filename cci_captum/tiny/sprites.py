"""The sprites that scenes are composed of, one PNG sheet per artwork family."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .names import CLASS_NAMES, HELD_OUT_FAMILIES, TRAIN_FAMILIES

SPRITE_SIZE = 80
"""Height and width of a sprite in pixels."""

_FOLDER = Path(__file__).parent


@cache
def _family(name: str) -> Tensor:
    with Image.open(_FOLDER / f"sprites-{name}.png") as sheet:
        pixels = np.array(sheet.convert("RGBA"))
    rows, columns = (length // SPRITE_SIZE for length in pixels.shape[:2])
    cells = torch.from_numpy(pixels).view(rows, SPRITE_SIZE, columns, SPRITE_SIZE, 4)
    cells = cells.permute(0, 2, 4, 1, 3).reshape(-1, 4, SPRITE_SIZE, SPRITE_SIZE)
    return cells[: len(CLASS_NAMES)].contiguous()


def load_sprites(families: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    """Return the sprites of each artwork family.

    Args:
        families: Names out of `TRAIN_FAMILIES + HELD_OUT_FAMILIES`; None gives all of them.

    Returns:
        For each family a uint8 tensor (33, 4, 80, 80), RGBA with straight alpha, in the order of
        `CLASS_NAMES`. Every drawing is cropped to its outline and centred.

    Raises:
        ValueError: If a family is not known.

    Example:
        >>> from cci_captum.tiny import load_sprites
        >>> load_sprites(("noto",))["noto"].shape
        torch.Size([33, 4, 80, 80])
    """
    known = TRAIN_FAMILIES + HELD_OUT_FAMILIES
    wanted = known if families is None else families
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"families: expected names out of {known}, got {unknown}")
    return {name: _family(name) for name in wanted}
