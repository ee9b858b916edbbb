"""Hard ImageNet: does noise on the object hurt more than noise behind it (Moayeri et al. 2022)?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..data._ablations import ABLATIONS
from ..data.object_variants import NOISES
from ._tables import Found, accuracy, as_table, ends, linearised, measured
from .background_gap import difference

RFS = "RFS"
NOISY_OBJECT, NOISY_BACKGROUND = "noisy object", "noisy background"
CLEAN = "clean"


def relative_foreground_sensitivity(table: pd.DataFrame) -> pd.DataFrame:
    """RFS, and the accuracies with a noisy object and with a noisy background that it is made of.

    With a their mean, RFS = (noisy background - noisy object) / (2 min(a, 1 - a)): the difference
    as a share of the largest that is possible with this mean, from -1 to 1; 0 where a is 0 or 1. A
    model that leans on the object is hurt by noise on it: its RFS is high. Accuracies are means
    over classes of the means over a class's photos and trials. Photos count that were measured in
    both.

    The interval is by the delta method: what each photo adds to RFS, with all its trials together.

    Args:
        table: Predictions on `cci_captum.benchmarks.data.HardImageNet`, or on other data of
            `ObjectVariants`.

    Returns:
        Rows "part", "images", "value", "low", "high": "RFS", "noisy object", "noisy background".
        Images are photos.

    Raises:
        ValueError: If the table has no variants, or no photo has both kinds of noise.

    Example:
        >>> rows = [(f"{n}", v, n < right) for v, right in [("noisy_fg", 2), ("noisy_bg", 6)]
        ...         for n in range(10)]
        >>> table = pd.DataFrame(rows, columns=["source", "variant", "predicted"])
        >>> table = table.assign(image=table["source"], true=True, status="")
        >>> relative_foreground_sensitivity(table)["value"].round(3).tolist()  # 0.4 / (2 * 0.4)
        [0.5, 0.2, 0.6]
    """
    known = measured(table, "variant")
    noisy = known[known["variant"].isin(NOISES)]
    photos = noisy.pivot_table(
        index=["true", "source"], columns="variant", values="right", aggfunc="mean"
    )
    photos = photos.reindex(columns=list(NOISES)).dropna()
    if photos.empty:
        raise ValueError("table: expected photos with noise on the object and behind it, got none")
    classes, strata = np.unique(photos.index.get_level_values("true"), return_inverse=True)
    slope = np.full(len(classes), 1 / len(classes))
    object_, behind = (photos[name].to_numpy() for name in NOISES)
    means = [float(x.reshape(-1) @ _weights(strata)) for x in (object_, behind)]
    value, by_object, by_behind = rfs(*means)
    together = linearised(value, by_object * slope, strata, object_)
    together += linearised(0.0, by_behind * slope, strata, behind)
    found = [Found(RFS, len(photos), value, *ends(together, -1.0, 1.0))]
    for part, x, mean in zip(
        (NOISY_OBJECT, NOISY_BACKGROUND), (object_, behind), means, strict=True
    ):
        found.append(
            Found(part, len(photos), mean, *ends(linearised(mean, slope, strata, x), 0.0, 1.0))
        )
    return as_table(found)


def rfs(noisy_object: float, noisy_background: float) -> tuple[float, float, float]:
    """RFS of two accuracies, and its derivatives by each.

    Args:
        noisy_object: With noise on the object.
        noisy_background: With noise behind it.

    Example:
        >>> rfs(0.2, 0.6)[0].__round__(3), rfs(1.0, 1.0)[0]
        (0.5, 0.0)
    """
    mean = (noisy_object + noisy_background) / 2
    room = min(mean, 1 - mean)
    if room <= 0:
        return 0.0, 0.0, 0.0
    more = noisy_background - noisy_object
    value = more / (2 * room)
    # Of 1 / (2 room), by either accuracy: half of what the mean moves, down or up.
    bends = (-1 if mean < 0.5 else 1) * more / (4 * room**2)
    return value, bends - 1 / (2 * room), bends + 1 / (2 * room)


def ablation_drops(table: pd.DataFrame) -> pd.DataFrame:
    """The accuracy on clean photos, without the object, and what it loses.

    A model that hardly loses anything was not looking at the object.

    Args:
        table: See `relative_foreground_sensitivity`.

    Returns:
        Rows "part", "images", "value", "low", "high": "clean"; of each ablation "grey" and "grey,
        drop", over the photos measured in both, with the interval of pairs.

    Raises:
        ValueError: If the table has no variants.

    Example:
        >>> rows = [(f"{n}", v, n < right) for v, right in [("clean", 9), ("grey", 6)]
        ...         for n in range(10)]
        >>> table = pd.DataFrame(rows, columns=["source", "variant", "predicted"])
        >>> table = table.assign(image=table["source"], true=True, status="")
        >>> ablation_drops(table)[["part", "value"]].round(3).values.tolist()
        [['clean', 0.9], ['grey', 0.6], ['grey, drop', 0.3]]
    """
    known = measured(table, "variant")
    there = [name for name in (CLEAN, *ABLATIONS) if (known["variant"] == name).any()]
    found = []
    for name in there:
        found.append(accuracy(name, known[known["variant"] == name]))
        if name != CLEAN and CLEAN in there:
            found.append(difference(known, CLEAN, name, f"{name}, drop"))
    return as_table(found)


def _weights(strata: np.ndarray) -> np.ndarray:
    """What each photo weighs where every class weighs the same."""
    sizes = np.bincount(strata)
    return 1 / (len(sizes) * sizes[strata])
