"""How alike tokens are in the space of a block's attention output."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cci_captum.vision_towers import AttentionLayer


def projected_cosine(block: AttentionLayer, asking: Tensor, keys: Tensor) -> Tensor:
    """cos(out(a), out(k_i)) through the block's output projection (arXiv 2502.18816).

    Args:
        block: Whose projection.
        asking: (B, D), a query or key of each image.
        keys: (B, N, D), the keys of its patches.

    Returns:
        (B, N) cosines, at least float32.
    """
    wide = torch.promote_types(keys.dtype, torch.float32)
    one = block.project_out(asking[:, None]).to(wide)
    return F.cosine_similarity(one, block.project_out(keys).to(wide), dim=-1)
