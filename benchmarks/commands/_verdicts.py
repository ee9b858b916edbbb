"""`--verdicts`: what `cci-captum diagnose` said of the same images, joined with predictions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cci_captum.names import readable

from ._common import CommandError
from ._evaluating import SETTINGS, Written

if TYPE_CHECKING:
    import pandas as pd

_VERDICTS = "verdicts.parquet"
_JUDGED = "_judged"  # what was predicted of an image when it was judged


def add_verdicts_option(parser: argparse.ArgumentParser) -> None:
    """Add `--verdicts`, whose values `verdicts_in` takes."""
    parser.add_argument(
        "--verdicts",
        action="append",
        metavar="DIR",
        help="what cci-captum diagnose wrote of a model on the same images; may be repeated (none)",
    )


def verdicts_in(folders: Sequence[str] | None) -> dict[str, pd.DataFrame]:
    """Model -> verdicts, a row an image: "image", "predicted", a share and a verdict a rule.

    Args:
        folders: Values of `--verdicts`.

    Raises:
        CommandError: If one is no folder of `cci-captum diagnose`, or two are of one model.
    """
    import pandas as pd

    found: dict[str, pd.DataFrame] = {}
    for name in folders or ():
        folder = Path(name)
        try:
            table = pd.read_parquet(folder / _VERDICTS)
            model = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["model"]
            said = table[["image", "predicted", *(name for name in table if _is_of_rule(name))]]
        except (OSError, KeyError, ValueError) as error:
            raise CommandError(
                f"--verdicts: expected a folder that cci-captum diagnose wrote, with {_VERDICTS} "
                f"and {SETTINGS}, got {readable(folder)}: {error}"
            ) from error
        if model in found:
            raise CommandError(f"--verdicts: expected one folder a model, got two of {model}")
        said = said[said["image"].notna()]  # those that were read
        if twice := said.loc[said["image"].duplicated(), "image"].tolist():
            raise CommandError(
                f"--verdicts: expected names that tell images apart, got {twice[0]!r} again in "
                f"{readable(folder)}"
            )
        found[model] = said
    return found


def predictions_with_verdicts(written: Written) -> dict[str, pd.DataFrame]:
    """Model -> its predictions, with the verdicts that `--verdicts` names.

    Raises:
        CommandError: See `verdicts_in` and `with_verdicts_of`.
    """
    from ..predictions import predictions_of

    tables = {plan.model: predictions_of(plan, written.store) for plan in written.plans}
    return with_verdicts_of(tables, verdicts_in(written.options.get("verdicts")))


def with_verdicts_of(
    tables: Mapping[str, pd.DataFrame], verdicts: Mapping[str, pd.DataFrame]
) -> dict[str, pd.DataFrame]:
    """Tables of predictions, each joined with the verdicts of its model.

    A verdict is of a prediction: where another class was predicted there, as among other names,
    there is none here. How many images have none is said on stderr.

    Raises:
        CommandError: If there are verdicts of no such model, or of other images.
    """
    if unknown := [model for model in verdicts if model not in tables]:
        raise CommandError(
            f"--verdicts: expected those of {', '.join(tables)}, got those of {unknown[0]}"
        )
    joined = dict(tables)
    for model, found in verdicts.items():
        there = tables[model]["image"].dropna().isin(found["image"])
        if not there.any():
            raise CommandError(f"--verdicts: expected verdicts of these images, got none ({model})")
        judged = found.rename(columns={"predicted": _JUDGED})
        own = tables[model].merge(judged, on="image", how="left", validate="m:1")
        other = own[_JUDGED].notna() & (own[_JUDGED] != own["predicted"])
        for name in filter(_is_of_rule, own.columns):
            own[name] = own[name].mask(other)
        if other.any() or not there.all():
            print(
                f"cci-captum: --verdicts: of {len(there)} images of {model} {(~there).sum()} have "
                f"none, and {other.sum()} were taken for another class there, whose verdicts say "
                "nothing of this one",
                file=sys.stderr,
            )
        joined[model] = own.drop(columns=_JUDGED)
    return joined


def _is_of_rule(column: str) -> bool:
    """Whether this is a column of a rule: its share or its verdict."""
    return column.endswith(("_share", "_verdict")) and column != "object_share"
