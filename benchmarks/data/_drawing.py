"""Which images a source takes at random, where not all of them were asked for."""

from __future__ import annotations

import numpy as np

from cci_captum._checks import check_positive_int, check_seed


def check_drawing(count: int | None, seed: int, captions: int | None = None) -> None:
    """Raise unless these are a number of images or None, a seed, and as many captions or None."""
    for argument, value in (("captions", captions), ("count", count)):
        if value is not None:
            check_positive_int(argument, value, " or None")
    check_seed(seed)


def fewer(count: int | None, total: int) -> int | None:
    """The count, if not all images were asked for; raises ValueError if there are fewer."""
    if count is not None and count > total:
        raise ValueError(f"count: expected at most the {total} images, got {count}")
    return None if count == total else count


def drawn(sizes: list[int], count: int, seed: int) -> list[int]:
    """Places of `count` images drawn at random, as many of each folder as its size allows.

    Every folder is shuffled and all are then dealt from in turns, the turn that is not completed
    to folders at random: what is drawn for a smaller count is part of what is for a larger one.
    """
    rng = np.random.default_rng(seed)
    turns = np.concatenate([rng.permutation(size) for size in sizes])
    order = np.lexsort((rng.random(len(turns)), turns))
    return np.sort(order[:count]).tolist()


def drawn_alike(total: int, count: int, seed: int) -> list[int]:
    """Places of `count` images drawn at random."""
    order = np.random.default_rng(seed).permutation(total)
    return np.sort(order[:count]).tolist()
