"""When a class is right: one rule for curves, for "predicted" and for retrieval.

A class is among the best k where its score is finite and fewer than k others score at least as
high. Ties are not right: two classes with the same embedding cannot be told apart, neither is ever
the first, and no order of the classes matters. NaN counts as high as any score.
"""

from __future__ import annotations

import torch
from torch import Tensor


def among_best(scores: Tensor, chosen: Tensor, k: int) -> Tensor:
    """Whether fewer than k other classes score at least as high as the chosen one.

    Args:
        scores: (n, C), of every class, the chosen one's own among them.
        chosen: (n,) scores of the chosen classes.
        k: How many may be right.

    Returns:
        (n,) bool, False where the chosen score is NaN or infinite.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[2.0, 1.0, 1.0], [2.0, 2.0, 1.0], [2.0, float("nan"), 1.0]])
        >>> among_best(scores, scores[:, 0], 1)
        tensor([ True, False, False])
    """
    at_least_as_high = (~(scores < chosen[:, None])).sum(dim=1)  # itself among them
    return (at_least_as_high <= k) & chosen.isfinite()


def predicted(scores: Tensor) -> Tensor:
    """The class that alone scores highest, -1 where there is none.

    Args:
        scores: (n, C).

    Returns:
        (n,) int64; class c where `among_best` holds for its scores and k = 1.

    Example:
        >>> import torch
        >>> predicted(torch.tensor([[1.0, 2.0], [2.0, 2.0], [2.0, float("nan")]]))
        tensor([ 1, -1, -1])
    """
    best, index = scores.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf).max(dim=1)
    return torch.where(among_best(scores, best, 1), index, -1)
