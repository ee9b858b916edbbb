"""What pages on predictions have in common: images that are missing, a picture of each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from ..markdown import table


def statuses(tables: Mapping[str, pd.DataFrame]) -> str:
    """How many images have a status, by model and status, the most frequent first.

    Args:
        tables: Model -> its table of predictions.

    Returns:
        A table of Markdown; "" if no image has any.
    """
    rows = [
        [model, status, count]
        for model, own in tables.items()
        for status, count in own.loc[own["status"] != "", "status"].value_counts().items()
    ]
    return table(["model", "why", "images"], rows) if rows else ""


def class_pictures(models: Iterable[str]) -> dict[str, str]:
    """Model -> the name of its picture of classes, beside a page.

    Example:
        >>> class_pictures(["a", "b"])
        {'a': 'classes_1.png', 'b': 'classes_2.png'}
    """
    names = [*models]
    if len(names) == 1:
        return {names[0]: "classes.png"}
    return {name: f"classes_{place}.png" for place, name in enumerate(names, 1)}
