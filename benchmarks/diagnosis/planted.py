"""Do verdicts find what is known to be there? Rules against the shortcuts planted in tiny-shortcut.

Positives are images of a planted class on its background that the model names; negatives, each
reported apart, are the same classes off their backgrounds, classes without a pair, and the same
planted scenes under "tiny", in which nothing was planted. All are explained for the class that is
predicted, and counted where that is the true one. Wrong predictions have a truth of their own: a
planted class that is seen on its background when it is not there.

    python -m cci_captum.benchmarks.diagnosis.planted --seed 1 --seed 2 --n 40 --out planted
    python -m cci_captum.benchmarks.diagnosis.planted --method all --masks larger --out larger

What is measured is kept in the folder, a file each seed, model and method, so that the same command
goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from cci_captum._files import whole_file
from cci_captum._progress import tqdm
from cci_captum.baselines import METHODS, MethodSpec
from cci_captum.diagnosis import Diagnoser, Donors, find_rule
from cci_captum.diagnosis.border_clusters import BorderClusters
from cci_captum.diagnosis.verdicts import share_column
from cci_captum.models.clip import ZeroShotClassifier, load_clip
from cci_captum.tiny import CLASS_NAMES, PLANTED_PAIRS, TEMPLATES

from ..markdown import table, with_interval
from ..scenes import Scene
from ..statistics import rate_interval, roc_auc
from .planted_scenes import MASKS, Planted, masks_of, planted

INTERVENING = (
    "shapley-regions",
    "shapley-regions(score=margin)",
    "shapley-regions(by=hidden)",
    "shapley-regions(score=margin,by=hidden)",
    "shapley-regions(by=replaced)",
)
"""Rules that need no map."""

OF_MAPS = ("energy", "paper-iou", "paper-iou(cut=otsu)")
"""Rules that read a method's map."""

CONTROLS = {
    "off": "same classes, other backgrounds",
    "unplanted": "other classes",
    "clean": "same scenes, tiny",
}
_MODELS = ("tiny-shortcut", "tiny")
_BATCH = 60
_PAIRS = {(pair.class_name, pair.background_name) for pair in PLANTED_PAIRS}
_SCENES = ["seed", "condition", "kind", "class", "background", "true", "predicted"]


def measured(
    found: Planted, seed: int, model: str, method: str, masks: str = "exact"
) -> pd.DataFrame:
    """Shares of the background by all rules of a method; "" is the rules that need no map.

    Args:
        found: The scenes.
        seed: Theirs.
        model: "tiny-shortcut", or "tiny", for which the planted scenes alone are the control.
        method: Text of a `MethodSpec`, or "".
        masks: One of `MASKS`, or "clusters": none, the clusters that lie at the border are
            background.
    """
    keep = [
        place
        for place, condition in enumerate(found.conditions)
        if model != "tiny" or condition in ("planted", "unplanted")
    ]
    scenes = [found.scenes[place] for place in keep]
    clip = load_clip(model)
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, CLASS_NAMES, TEMPLATES)
    inputs = _inputs(clip.preprocess, scenes)
    donor_inputs, donor_masks = _inputs(clip.preprocess, found.donors), masks_of(found.donors)
    if masks == "clusters":
        segment = BorderClusters(classifier)
        seen, donor_masks = (_by_clusters(segment, each) for each in (inputs, donor_inputs))
    else:
        seen = masks_of(scenes, masks)
    labels = [scene.classes[0] for scene in found.donors]
    rules = OF_MAPS if method else INTERVENING
    diagnoser = Diagnoser(
        classifier,
        rules,
        MethodSpec.parse(method) if method else None,
        donors=Donors.of(donor_inputs, donor_masks, labels, [""] * len(labels)),
        internal_batch_size=_BATCH,
    )
    parts = []
    for start in tqdm(range(0, len(scenes), _BATCH), desc=f"{seed} {model} {method or 'regions'}"):
        rows = slice(start, start + _BATCH)
        true = [scene.classes[0] for scene in scenes[rows]]
        parts.append(diagnoser.rows(inputs[rows], seen[rows], true))
    frame = pd.concat(parts, ignore_index=True)
    facts = {
        "seed": seed,
        "model": model,
        "method": method,
        "condition": [found.conditions[place] for place in keep],
        "kind": [found.kinds[place] for place in keep],
        "class": [CLASS_NAMES[scene.classes[0]] for scene in scenes],
        "background": [scene.background_name for scene in scenes],
    }
    for place, (name, values) in enumerate(facts.items()):
        frame.insert(place, name, values)
    shares = [share_column(find_rule(rule)) for rule in rules]
    long = frame.melt(
        [*facts, "true", "predicted", "status", "object_share"], shares, "rule", "share"
    )
    return long.assign(rule=long["rule"].str.removesuffix("_share"))


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """How well each rule and method tells planted pairs from every control.

    Args:
        frame: Of `measured`, of both models and any number of seeds.

    Returns:
        A row each method, rule and kind: "auc", "low" and "high" of all controls together; of each
        control `<control>_auc`; "found", the share of planted pairs above the rule's limit, and
        `<control>_above`; "positives", "negatives" and "limit".
    """
    rows = []
    frame = frame[frame["true"] == frame["predicted"]]
    for (method, rule), own in frame.groupby(["method", "rule"], sort=False):
        limit = find_rule(rule).limit
        for kind in ("sufficient", "conditional"):
            shortcut = own[own["model"] == "tiny-shortcut"]
            positives = shortcut[(shortcut["condition"] == "planted") & (shortcut["kind"] == kind)]
            of_kind = own["kind"] == kind
            controls = {
                "off": shortcut[(shortcut["condition"] == "off") & (shortcut["kind"] == kind)],
                "unplanted": shortcut[shortcut["condition"] == "unplanted"],
                "clean": own[(own["model"] == "tiny") & (own["condition"] == "planted") & of_kind],
            }
            shares = {name: _known(each) for name, each in controls.items()}
            up, down = _known(positives), np.concatenate([*shares.values()])
            auc = roc_auc(up, down)
            rows.append(
                {
                    "method": method,
                    "rule": rule,
                    "kind": kind,
                    **auc._asdict(),
                    **{f"{name}_auc": roc_auc(up, each).auc for name, each in shares.items()},
                    "found": float((up > limit).mean()),
                    **{f"{name}_above": float((s > limit).mean()) for name, s in shares.items()},
                    "positives": len(up),
                    "negatives": len(down),
                    "limit": limit,
                }
            )
    return pd.DataFrame(rows)


def on_errors(frame: pd.DataFrame) -> pd.DataFrame:
    """What each rule says of wrong predictions: of planted pairs that are not there, and of others.

    Returns:
        A row each method and rule: "planted" and "others", the shares of these errors that are
        called background-driven, with the ends of their intervals, and how many there are.
    """
    wrong = frame[(frame["model"] == "tiny-shortcut") & (frame["true"] != frame["predicted"])]
    wrong = wrong[wrong["share"].notna() & (wrong["predicted"] >= 0)]
    guessed = [CLASS_NAMES[index] for index in wrong["predicted"]]
    pairs = zip(guessed, wrong["background"], strict=True)
    wrong = wrong.assign(pair=[pair in _PAIRS for pair in pairs])
    rows = []
    for (method, rule), own in wrong.groupby(["method", "rule"], sort=False):
        row = {"method": method, "rule": rule}
        for name, part in (("planted", own[own["pair"]]), ("others", own[~own["pair"]])):
            above = part["share"] > find_rule(rule).limit
            low, high = rate_interval(int(above.sum()), len(part)) if len(part) else (np.nan,) * 2
            row |= {
                name: float(above.mean()) if len(part) else np.nan,
                f"{name}_low": low,
                f"{name}_high": high,
                f"{name}_images": len(part),
            }
        rows.append(row)
    return pd.DataFrame(rows)


def thresholds(frame: pd.DataFrame, false_alarms: float = 0.01) -> pd.Series:
    """What a share of the images of "tiny", in which nothing was planted, exceed: rule -> limit."""
    clean = frame[(frame["model"] == "tiny") & (frame["true"] == frame["predicted"])]
    clean = clean[clean["share"].notna()]
    return clean.groupby(["method", "rule"], sort=False)["share"].quantile(1 - false_alarms)


def report(frame: pd.DataFrame) -> str:
    """The tables, as Markdown."""
    found = summary(frame)
    head = ["method", "rule", "planted", "ROC AUC"]
    head += [f"AUC: {said}" for said in CONTROLS.values()]
    head += ["limit", "found", *(f"above: {said}" for said in CONTROLS.values())]
    rows = [
        [
            row.method or "-",
            row.rule,
            row.kind,
            with_interval(row.auc, row.low, row.high),
            *(f"{getattr(row, f'{name}_auc'):.3f}" for name in CONTROLS),
            f"{row.limit:g}",
            f"{row.found:.1%}",
            *(f"{getattr(row, f'{name}_above'):.1%}" for name in CONTROLS),
        ]
        for row in found.itertuples()
    ]
    errors = [
        [
            row.method or "-",
            row.rule,
            *(
                with_interval(
                    getattr(row, name), getattr(row, f"{name}_low"), getattr(row, f"{name}_high"), 2
                )
                for name in ("planted", "others")
            ),
        ]
        for row in on_errors(frame).itertuples()
    ]
    counts = on_errors(frame).iloc[0]
    limits = [
        [method or "-", rule, f"{limit:.3f}"] for (method, rule), limit in thresholds(frame).items()
    ]
    return "\n\n".join(
        [
            f"{found['positives'].iloc[0]} and {found['positives'].iloc[1]} planted images, "
            f"{found['negatives'].iloc[0]} and {found['negatives'].iloc[1]} controls.",
            table(head, rows),
            f"Wrong predictions that are called background-driven: of {counts['planted_images']} on"
            f" a planted pair that is not there, and of {counts['others_images']} others.",
            table(["method", "rule", "on a planted pair", "others"], errors),
            "What 1 % of the images of tiny exceed.",
            table(["method", "rule", "share"], limits),
        ]
    )


def _known(frame: pd.DataFrame) -> np.ndarray:
    """Shares; what has none counts as no finding, below every other."""
    return frame["share"].fillna(-1.0).to_numpy()


def _inputs(preprocess: object, scenes: Sequence[Scene]) -> Tensor:
    return torch.stack([preprocess(scene.picture) for scene in scenes])  # type: ignore[operator]


def _by_clusters(segment: BorderClusters, inputs: Tensor) -> Tensor:
    blank = torch.zeros(inputs.shape[2:], dtype=torch.bool)
    found = [each for part in inputs.split(_BATCH) for each in segment.of_inputs(part)]
    return torch.stack([blank if mask is None else mask for mask, _ in found])


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print the tables; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, action="append", help="of scenes; repeat (101)")
    parser.add_argument("--n", type=int, default=40, help="of each pair (%(default)s)")
    parser.add_argument(
        "--method", action="append", help='a spec whose maps are judged, "all", or none (cci)'
    )
    parser.add_argument("--masks", choices=(*MASKS, "clusters"), default="exact")
    parser.add_argument("--artwork", choices=("train", "held-out"), default="train")
    parser.add_argument("--objects", choices=("one", "two"), default="one")
    parser.add_argument("--out", type=Path, required=True, help="folder of what is measured")
    args = parser.parse_args(argv)
    methods = ["", *dict.fromkeys(m for text in args.method or ["cci"] for m in _methods(text))]
    args.out.mkdir(parents=True, exist_ok=True)
    frames = []
    for seed in args.seed or [101]:
        found = planted(seed, args.n, artwork=args.artwork, objects=args.objects)
        for model in _MODELS:
            for method in methods:
                name = f"{seed}-{args.n}-{args.artwork}-{args.objects}-{args.masks}-{model}"
                path = args.out / f"{name}-{method or 'regions'}.parquet"
                if not path.exists():
                    with whole_file(path) as part:
                        measured(found, seed, model, method, args.masks).to_parquet(part)
                frames.append(pd.read_parquet(path))
    print(report(pd.concat(frames, ignore_index=True)))


def _methods(text: str) -> list[str]:
    """Specs of methods; of RISE with fewer passes."""
    if text == "none":
        return []
    if text != "all":
        return [str(MethodSpec.parse(text))]
    names = [name for name, method in METHODS.items() if not method.needs_masks]
    return ["rise(masks=200)" if name == "rise" else name for name in names]


if __name__ == "__main__":
    main()
