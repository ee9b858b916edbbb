"""Sanity checks: what becomes of a map when the model, or the question, becomes a random one.

Adebayo et al. 2018, "Sanity Checks for Saliency Maps", arXiv 1810.03292. A map that stays as it was
does not show what the model has learnt; one that stays as faithful as it was cannot owe that to
the model.
"""

from __future__ import annotations

import copy
from typing import Literal, get_args

import pandas as pd
import torch
from torch import Tensor, nn

from cci_captum.vision_towers import find_vision_tower
from cci_captum.vision_towers.quantized import is_quantized

Check = Literal["random-weights", "random-label"]
CHECKS: tuple[Check, ...] = get_args(Check)


def with_random_weights(forward_func: nn.Module, seed: int) -> nn.Module:
    """A copy whose image encoder has its weights shuffled within each tensor.

    Every layer keeps the distribution of its weights and loses what they had learnt. (Adebayo et
    al., section 3, draw weights from the initial distribution, which differs between
    architectures and is not known for all; here all layers are randomised at once, the end of
    their cascade.)

    Args:
        forward_func: A module that holds one supported image encoder. It stays as it is.
        seed: Of the shuffling.

    Returns:
        The copy, on the same device, in the same mode.

    Raises:
        TypeError: If the image encoder is of a kind that cannot be explained.
        ValueError: If none or several are found, or layers hold weights that are not numbers to
            shuffle: quantised ones.
    """
    shuffled = copy.deepcopy(forward_func)
    tower = find_vision_tower(shuffled)
    fixed = [name for name, layer in tower.named_modules() if _is_fixed(layer)]
    if fixed:
        raise ValueError(
            f"random-weights: expected weights that can be shuffled, got {len(fixed)} quantised "
            f"layers ({', '.join(fixed[:3])}{', ...' if len(fixed) > 3 else ''}), which would keep "
            "what they had learnt; compare the model as it was before it was quantised"
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in tower.parameters():
            order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
            weights.copy_(weights.flatten()[order].view_as(weights))
    return shuffled


def _is_fixed(layer: nn.Module) -> bool:
    """Whether a layer packs its weights: PyTorch's, bitsandbytes', GPTQ's and AWQ's do."""
    integers = any(not weights.is_floating_point() for weights in layer.parameters(recurse=False))
    return is_quantized(layer) or integers or hasattr(layer, "qweight")


def rank_correlation(maps: Tensor, others: Tensor) -> list[float]:
    """Spearman's rank correlation of each pair of maps, (B, h, w) each; NaN for constant maps.

    Example:
        >>> maps = torch.tensor([[[1.0, 2.0, 3.0]], [[1.0, 2.0, 3.0]]])
        >>> rank_correlation(maps, torch.tensor([[[2.0, 4.0, 9.0]], [[3.0, 2.0, 1.0]]]))
        [1.0, -1.0]
    """
    columns = [pd.DataFrame(m.flatten(1).double().cpu().numpy().T).rank() for m in (maps, others)]
    return columns[0].corrwith(columns[1]).tolist()
