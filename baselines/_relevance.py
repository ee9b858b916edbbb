"""How much of each patch reaches the image feature, once blocks are followed."""

from __future__ import annotations

from torch import Tensor

from cci_captum.vision_towers import VisionTower


def patches_read(tower: VisionTower, relevance: Tensor, looks: Tensor | None) -> Tensor:
    """The patches' share in what the image feature is read out from.

    Args:
        tower: The image encoder.
        relevance: (B, T, T), of each token before the blocks (columns) for each one after them.
        looks: (B, S), how the attention pool weighs the last S of the T tokens (all of them, or
            those after prefix tokens that it does not see); None where there is no such pool.

    Returns:
        (B, N).
    """
    if looks is None:
        return tower.patches(tower.pool(relevance))
    seen = relevance[:, relevance.shape[1] - looks.shape[1] :]
    return tower.patches((looks[:, None] @ seen)[:, 0])
