"""Does a data-set verdict name the planted shortcuts? All pairs of class and background, sorted.

Scenes of any class on any background are diagnosed under tiny-shortcut, and `shortcuts` sorts the
660 pairs; the 12 that were planted should come first.

    python -m cci_captum.benchmarks.diagnosis.planted_pairs --seed 1 --n 3000 --out pairs
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cci_captum.models.clip import ZeroShotClassifier, load_clip
from cci_captum.tiny import BACKGROUND_NAMES, CLASS_NAMES, PLANTED_PAIRS

from ..comparison.folder_store import FolderStore
from ..data import Scenes
from ..markdown import table, with_interval
from ..statistics import roc_auc
from .run import DiagnosisRun
from .shortcuts import shortcuts

_KIND = {(pair.class_name, pair.background_name): pair.kind for pair in PLANTED_PAIRS}


def ranked(
    seed: int, n: int, out: Path, rules: Sequence[str], model: str = "tiny-shortcut"
) -> dict[str, pd.DataFrame]:
    """By rule, all pairs as `shortcuts` sorts them, with "kind", that of a planted pair, or ""."""
    clip, scenes = load_clip(model), Scenes(n, seed=seed)
    classifier = ZeroShotClassifier(
        clip.model, clip.tokenizer, scenes.class_names, scenes.templates
    )
    run = DiagnosisRun(scenes, classifier, clip.preprocess, rules, model=model)
    diagnosed = run.all(FolderStore(out / f"{model}-{seed}-{n}"))
    found = {}
    for rule in rules:
        own = shortcuts(diagnosed, rule)
        pairs = zip(own["class"], own["group"], strict=True)
        found[rule] = own.assign(kind=[_KIND.get(pair, "") for pair in pairs])
    return found


def report(found: dict[str, pd.DataFrame]) -> str:
    """Where the planted pairs stand, as Markdown."""
    count = len(CLASS_NAMES) * len(BACKGROUND_NAMES)
    parts = []
    for rule, own in found.items():
        planted = own[own["kind"] != ""]
        sure = own["low"].fillna(-1.0)
        rows = [
            [place + 1, row["class"], row["group"], row["kind"] or "-", row["images"],
             row["elsewhere"], with_interval(row["difference"], row["low"], row["high"], 2, True),
             f"{row['right']:.0%}", f"{row['right_elsewhere']:.0%}"]
            for place, row in own.head(16).iterrows()
        ]  # fmt: skip
        areas = [
            f"{kind} {roc_auc(sure[own['kind'] == kind], sure[own['kind'] == '']).auc:.4f}"
            for kind in ("sufficient", "conditional")
        ]
        first = int((planted.index < len(_KIND)).sum())
        head = ["", "class", "background", "planted", "images", "elsewhere", "more than elsewhere",
                "right", "right elsewhere"]  # fmt: skip
        parts += [
            f"{rule}: {first} of the {len(_KIND)} planted pairs among the first {len(_KIND)} of "
            f"{len(own)} that were seen of {count}; the last of them at place "
            f"{planted.index.max() + 1}; ROC AUC {', '.join(areas)}.",
            table(head, rows),
        ]
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print the tables; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=101, help="of the scenes (%(default)s)")
    parser.add_argument("--n", type=int, default=3000, help="scenes (%(default)s)")
    parser.add_argument("--rule", action="append", help="may be repeated (shapley-regions)")
    parser.add_argument("--model", default="tiny-shortcut", help="(%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is measured")
    args = parser.parse_args(argv)
    print(report(ranked(args.seed, args.n, args.out, args.rule or ["shapley-regions"], args.model)))


if __name__ == "__main__":
    main()
