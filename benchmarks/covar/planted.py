r"""Whether the evaluation finds shortcuts that are known to be there.

    cci-captum covar build --data scenes:n=600,seed=77 --photos 1 --size 96 --out mini
    cci-captum covar evaluate mini --model tiny --model tiny-shortcut --judged wrong \
        --out mini-results
    python -m cci_captum.benchmarks.covar.planted mini-results

prints, model by model, how often the background drives an error for the class that
`cci_captum.tiny.PLANTED_PAIRS` binds to it, and how often any other error; and how often it drives
classes of a pair into an error, on their own background, on others, and classes of no pair.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cci_captum.diagnosis.verdicts import verdict_column
from cci_captum.tiny import CLASS_NAMES, PLANTED_PAIRS

from ..markdown import table as markdown_table
from ..markdown import with_interval
from ..statistics import interval
from .design import PHOTO
from .evaluation import rule_of, summary

GROUPS = ("sufficient", "conditional", "other")
"""Of a pair whose background is enough, of one whose object must be there, of no pair."""


def planted_errors(table: pd.DataFrame, rule: str | None = None) -> pd.DataFrame:
    """Errors for a planted class on its own background, and all other errors.

    Args:
        table: Of one model, as `cci-captum covar evaluate` writes it, with class names of scenes.
        rule: Whose verdicts; None is the first of the table.

    Returns:
        A row each of `GROUPS`: "errors", wrong images with a verdict that are no photos as they
        are; "photos" of these; "bg_er", the share that the background drove, with "low" and
        "high", 95 % intervals that leave out one photo after another; "of_images", errors over all
        images on such a background of another class, of "other" over all images.

    Raises:
        ValueError: If the table has no verdicts.

    Example:
        >>> table = pd.DataFrame({
        ...     "source": list("abc"), "true": [3, 3, 3], "status": "", "factor": "scale",
        ...     "control": "", "background": ["snow", "snow", "sand"],
        ...     "predicted": [CLASS_NAMES.index("penguin"), 1, CLASS_NAMES.index("penguin")],
        ...     "energy_verdict": ["BG-Er", "FG-Er", "FG-Er"],
        ... })
        >>> planted_errors(table)[["group", "errors", "bg_er"]].values.tolist()
        [['sufficient', 1, 1.0], ['conditional', 0, nan], ['other', 2, 0.0]]
    """
    rule = rule_of(table, rule)
    if rule is None:
        raise ValueError("table: expected verdicts of a rule, got none")
    rows = table[(table["factor"] != PHOTO) & (table["control"] == "")]
    bound = {pair.background_name: pair for pair in PLANTED_PAIRS}
    kinds = [
        pair.kind
        if (pair := bound.get(row.background)) and row.predicted == _place(pair.class_name)
        else GROUPS[-1]
        for row in rows.itertuples()
    ]
    of_class = {name: _place(pair.class_name) for name, pair in bound.items()}
    rows = rows.assign(_kind=kinds, _bound=rows["background"].map(of_class))
    wrong = rows[(rows["predicted"] != rows["true"]) & rows[verdict_column(rule)].notna()]
    found = []
    for group in GROUPS:
        own = wrong[wrong["_kind"] == group]
        hits = (own[verdict_column(rule)] == "BG-Er").astype(float)
        ends = interval(hits, own["source"], bounds=(0, 1)) if len(own) else (float("nan"),) * 2
        could = rows
        if group != GROUPS[-1]:
            names = [name for name, pair in bound.items() if pair.kind == group]
            could = rows[rows["background"].isin(names) & (rows["true"] != rows["_bound"])]
        found.append(
            {
                "group": group, "errors": len(own), "photos": own["source"].nunique(),
                "bg_er": hits.mean(), "low": ends[0], "high": ends[1],
                "of_images": len(own) / len(could) if len(could) else float("nan"),
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def planted_classes(table: pd.DataFrame, rule: str | None = None) -> pd.DataFrame:
    """Images of classes with a planted pair on its background and on others, and of other classes.

    Args:
        table: See `planted_errors`.
        rule: See `planted_errors`.

    Returns:
        A row each of "on its own background", "on another background" and "of no pair": "images",
        "photos", "accuracy" and "bg_er", the share of images that the background drove into an
        error, each with 95 % intervals as "<name>_low" and "<name>_high".

    Raises:
        ValueError: If the table has no verdicts.
    """
    rows = table[(table["factor"] != PHOTO) & (table["control"] == "")]
    own = {_place(pair.class_name): pair.background_name for pair in PLANTED_PAIRS}
    groups = [
        "of no pair"
        if row.true not in own
        else f"on {'its own' if row.background == own[row.true] else 'another'} background"
        for row in rows.itertuples()
    ]
    found = summary(
        pd.concat([table[table["factor"] == PHOTO].assign(group=PHOTO), rows.assign(group=groups)]),
        "group",
        rule=rule,
    )
    found = found[found["group"] != PHOTO].rename(
        columns=lambda name: name.replace("bg_er_of_images", "bg_er")
    )
    kept = ["accuracy", "accuracy_low", "accuracy_high", "bg_er", "bg_er_low", "bg_er_high"]
    found = found[["group", "images", "photos", *kept]]
    return found.sort_values("group", key=lambda names: names.map(_ORDER)).reset_index(drop=True)


_ORDER = {"on its own background": 0, "on another background": 1, "of no pair": 2}


def _place(class_name: str) -> int:
    return CLASS_NAMES.index(class_name)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables of a folder; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of cci-captum covar evaluate")
    folder = parser.parse_args(argv).folder
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    for about in settings["models"].values():
        if tuple(about["class_names"]) != CLASS_NAMES:
            raise ValueError(f"folder: expected the {len(CLASS_NAMES)} classes of scenes")
    rows, classes = [], []
    whole = pd.read_parquet(folder / "predictions.parquet")
    for model, table in whole.groupby("model", sort=False):
        for row in planted_errors(table).itertuples():
            rate = with_interval(row.bg_er, row.low, row.high)
            rows.append([model, row.group, row.errors, f"{row.of_images:.1%}", row.photos, rate])
        for row in planted_classes(table).itertuples():
            rates = [
                with_interval(getattr(row, n), getattr(row, f"{n}_low"), getattr(row, f"{n}_high"))
                for n in ("accuracy", "bg_er")
            ]
            classes.append([model, row.group, row.images, row.photos, *rates])
    head = ["model", "errors for", "errors", "of images that could", "photos", "BG-Er of these"]
    print(markdown_table(head, rows))
    head = ["model", "classes", "images", "photos", "right", "BG-Er of images"]
    print(f"\n{markdown_table(head, classes)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
