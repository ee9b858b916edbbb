"""What predictions on controlled variants say: accuracy, what is lost to the photo, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cci_captum.diagnosis.diagnoser import NOT_PREDICTED
from cci_captum.diagnosis.verdicts import rules_of, share_column, verdict_column

from ..statistics import interval, paired_interval
from .design import CONTROLS, PHOTO
from .transformations import ORIGINAL

_SHARES = {"bg_er": "BG-Er", "fine_er": "Fine-Er"}
_ENDS = ("_low", "_high")
ANOTHER = "another background"
"""What images are called in `effects` that are on another background, and no more."""


def rule_of(table: pd.DataFrame, rule: str | None = None) -> str | None:
    """The rule whose verdicts a table has.

    Args:
        table: Of predictions.
        rule: Which one; None is the first of the table.

    Returns:
        Its name; None where the table has no verdicts.

    Raises:
        ValueError: If the table has none of this rule.

    Example:
        >>> rule_of(pd.DataFrame(columns=["image", "energy_verdict"]))
        'energy'
    """
    known = rules_of(table)
    if rule is None:
        return known[0] if known else None
    if rule not in known:
        raise ValueError(
            f"rule: expected one that the table has verdicts of, {', '.join(known) or 'none'}, "
            f"got {rule!r}"
        )
    return rule


def summary(
    table: pd.DataFrame,
    by: str | Sequence[str] = "factor",
    *,
    rule: str | None = None,
    class_names: Sequence[str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Accuracy and verdicts of groups of images.

    All images of a photo are alike: intervals leave out one photo after another.

    Args:
        table: Of predictions on COVAR's images, a row an image: "source", "true", "predicted",
            "status" ("" where it was measured), "factor", "level", "background" and "control"; and,
            of a rule, "<rule>_share" and "<rule>_verdict".
        by: "factor", "level" (with its factor), "class", "background", "control" or any other
            column; or several.
        rule: Whose verdicts; None is the first of the table.
        class_names: By number, for "class"; None leaves the numbers.
        level: Of the intervals.

    Returns:
        A row a group, in the table's order; all numbers are of measured images, with ends of their
        intervals as "<name>_low" and "<name>_high", NaN where there is none:

        - the columns of by; "images", "photos", and "not_measured", images without a prediction;
        - "accuracy"; "drop", by how much it is less than that of the photos as they are, each image
          against its own photo, with "paired", how many images have one that was measured;
        - "errors", wrong images with a verdict; "bg_er_of_errors" and "fine_er_of_errors", shares
          of these; "bg_er_of_images" and "fine_er_of_images", shares of these and all right images;
          all NaN without verdicts;
        - "share", the mean share of the background, of images that have one.

        Controls count in groups by control alone, photos as they are in groups by factor, level,
        background and control.

    Raises:
        ValueError: If a column is missing.

    Example:
        >>> table = pd.DataFrame({
        ...     "source": ["a", "a", "b", "b"], "true": 0, "predicted": [0, 0, 0, 1], "status": "",
        ...     "factor": ["photo", "original"] * 2, "level": "", "control": "",
        ...     "background": ["own", "snow"] * 2,
        ... })
        >>> summary(table)[["factor", "images", "accuracy", "drop"]].values.tolist()
        [['photo', 2, 1.0, 0.0], ['original', 2, 0.5, 0.5]]
    """
    names = [by] if isinstance(by, str) else list(by)
    rule = rule_of(table, rule)
    rows = _marked(table, class_names)
    if missing := [name for name in names if name not in rows]:
        raise ValueError(f"by: expected columns of the table, got {', '.join(missing)}")
    if "control" not in names:
        rows = rows[rows["control"] == ""]
    else:
        rows = rows[(rows["control"] != "") | (rows["factor"] == PHOTO)]
        rows = rows.assign(control=rows["control"].where(rows["factor"] != PHOTO, PHOTO))
    if not {"factor", "level", "background", "control"} & set(names):
        rows = rows[rows["factor"] != PHOTO]
    found = []
    for key, group in rows.groupby(names, sort=False, dropna=False):
        said = dict(zip(names, key, strict=True))
        found.append({**said, **_of_group(group, rule, level)})
    return pd.DataFrame(found, columns=[*names, *_columns()])


def effects(table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """What editing does, and what another background does, each photo against itself.

    Args:
        table: See `summary`.
        level: Of the intervals.

    Returns:
        A row each: the controls against the photo as it is; then another background, without a
        transformation, against the photo and against each control. "what", "against", "images",
        "photos", "accuracy" and "accuracy_against" on these pairs, their "difference", "low" and
        "high". An image whose counterpart was not measured is left out.

    Example:
        >>> table = pd.DataFrame({
        ...     "source": "a", "true": 0, "predicted": [0, 0, 1], "status": "",
        ...     "factor": ["photo", "original", "original"], "level": "",
        ...     "control": ["", "same", ""], "background": ["own", "same", "snow"],
        ... })
        >>> effects(table)[["what", "against", "difference"]].values.tolist()
        [['same', 'photo', 0.0], ['another background', 'photo', -1.0], ['another background', \
'same', -1.0]]
    """
    rows = _marked(table, None)
    rows = rows[rows["_measured"]]
    kinds = {PHOTO: rows[rows["factor"] == PHOTO]}
    kinds |= {name: rows[rows["control"] == name] for name in CONTROLS}
    kinds[ANOTHER] = rows[(rows["factor"] == ORIGINAL.factor) & (rows["control"] == "")]
    asked = [(name, PHOTO) for name in (*CONTROLS, ANOTHER)]
    asked += [(ANOTHER, name) for name in CONTROLS]
    found = []
    for what, against in asked:
        own = kinds[what]
        other = _right_by_source(kinds[against])
        own = own[own["source"].isin(other.index)]
        if own.empty:
            continue
        right = own["_right"].to_numpy(dtype=float)
        counterpart = other.loc[own["source"]].to_numpy()
        low, high = paired_interval(
            right, counterpart, own["source"].to_numpy(), bounds=(0, 1), level=level
        )
        found.append(
            {
                "what": what, "against": against, "images": len(own),
                "photos": own["source"].nunique(), "accuracy": right.mean(),
                "accuracy_against": counterpart.mean(),
                "difference": right.mean() - counterpart.mean(), "low": low, "high": high,
            }
        )  # fmt: skip
    names = [
        "what", "against", "images", "photos", "accuracy", "accuracy_against", "difference",
        "low", "high",
    ]  # fmt: skip
    return pd.DataFrame(found, columns=names)


def matrix(
    table: pd.DataFrame,
    rows: str = "class",
    columns: str = "background",
    value: str = "accuracy",
    *,
    rule: str | None = None,
    class_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One number of `summary` by two columns, for a heat map; without photos and controls.

    Args:
        table: See `summary`.
        rows: A column.
        columns: Another one.
        value: Such as "accuracy", "drop", "bg_er_of_images" or "share".
        rule: See `summary`.
        class_names: See `summary`.

    Returns:
        A row each value of rows, a column each of columns; NaN where there are no images.

    Raises:
        ValueError: If there is no such number or column.
    """
    if value not in _columns():
        raise ValueError(f"value: expected one of {', '.join(_columns())}, got {value!r}")
    images = table[table["factor"] != PHOTO]
    photos = table[table["factor"] == PHOTO]
    both = pd.concat([photos, images])  # drops need the photos
    found = summary(both, [rows, columns], rule=rule, class_names=class_names)
    kept = _marked(images, class_names)
    kept = kept[kept["control"] == ""]
    wide = found.pivot(index=rows, columns=columns, values=value)
    return wide.reindex(index=kept[rows].unique(), columns=kept[columns].unique())


def _columns() -> list[str]:
    names = ["images", "photos", "not_measured", "accuracy", "drop", "paired", "errors"]
    for name in ("accuracy", "drop"):
        place = names.index(name) + 1
        names[place:place] = [name + end for end in _ENDS]
    for of in ("errors", "images"):
        for kind in _SHARES:
            names += [f"{kind}_of_{of}", *(f"{kind}_of_{of}{end}" for end in _ENDS)]
    return [*names, "share", *("share" + end for end in _ENDS)]


def _marked(table: pd.DataFrame, class_names: Sequence[str] | None) -> pd.DataFrame:
    """Rows of which it is known what they are, with what each row counts as."""
    needed = ("source", "true", "predicted", "status", "factor", "level", "background", "control")
    if missing := [name for name in needed if name not in table]:
        raise ValueError(f"table: expected columns {', '.join(needed)}, without {missing}")
    rows = table[table["factor"].notna()].copy()
    # Where there is no object left in the picture, or nothing alone scores highest, a diagnosis has
    # a status and no verdict: the image was read and recognised, or not, all the same.
    read = (rows["status"].isin(("", NOT_PREDICTED))) | (rows["predicted"] >= 0)
    rows["_measured"] = read
    rows["_right"] = (rows["predicted"] == rows["true"]) & rows["_measured"]
    rows["level"] = (rows["factor"] + " " + rows["level"].fillna("")).str.strip()
    names = rows["true"] if class_names is None else [class_names[i] for i in rows["true"]]
    rows["class"] = names
    photos = rows[(rows["factor"] == PHOTO) & rows["_measured"]]
    rows["_photo"] = rows["source"].map(_right_by_source(photos))
    return rows


def _right_by_source(rows: pd.DataFrame) -> pd.Series:
    return rows.drop_duplicates("source").set_index("source")["_right"].astype(float)


def _of_group(group: pd.DataFrame, rule: str | None, level: float) -> dict[str, float]:
    own = group[group["_measured"]]
    found: dict[str, float] = dict.fromkeys(_columns(), np.nan)
    found |= {
        "images": len(own),
        "photos": own["source"].nunique(),
        "not_measured": len(group) - len(own),
        "paired": int(own["_photo"].notna().sum()),
    }
    found |= _mean("accuracy", own["_right"].astype(float), own["source"], level)
    pairs = own[own["_photo"].notna()]
    if len(pairs):
        before, after = pairs["_photo"].to_numpy(), pairs["_right"].to_numpy(dtype=float)
        found["drop"] = float((before - after).mean())
        if not (pairs["factor"] == PHOTO).all():
            found["drop_low"], found["drop_high"] = paired_interval(
                before, after, pairs["source"].to_numpy(), bounds=(0, 1), level=level
            )
    if rule is None:
        return found
    # Where errors alone are judged, right images have no verdict: they are none of an error.
    said = own[own[verdict_column(rule)].notna() | own["_right"]]
    verdicts = said[verdict_column(rule)]
    wrong = said[verdicts.astype(str).str.endswith("Er")]
    found["errors"] = len(wrong)
    for of, rows in (("errors", wrong), ("images", said)):
        for kind, verdict in _SHARES.items():
            hits = (rows[verdict_column(rule)] == verdict).astype(float)
            found |= _mean(f"{kind}_of_{of}", hits, rows["source"], level)
    if share_column(rule) in own:
        shares = own[own[share_column(rule)].notna()]
        values = shares[share_column(rule)].astype(float)
        found |= _mean("share", values, shares["source"], level, rate=False)
    return found


def _mean(
    name: str, values: pd.Series, groups: pd.Series, level: float, rate: bool = True
) -> dict[str, float]:
    """A mean and the ends of its interval; of rates those of rates."""
    if values.empty:
        return {}
    numbers = values.to_numpy()
    bounds = (0.0, 1.0) if rate else (-np.inf, np.inf)
    low, high = interval(numbers, groups.to_numpy(), bounds=bounds, level=level)
    return {name: float(numbers.mean()), f"{name}_low": low, f"{name}_high": high}
