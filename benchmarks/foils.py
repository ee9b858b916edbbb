"""How often the strongest cluster explains another class better: the audit of worst foils.

Draws scenes, explains the class of the first object with each embedded model, and prints a Markdown
table of `cci_captum.diagnosis.worst_foil_audit` beside the paper's figures (arXiv 2609.27356). As
in the paper, one prompt chooses the cluster and three others judge it, by the mean of their
logits.

    python -m cci_captum.benchmarks.foils --count 100
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

import cci_captum
from cci_captum._extras import needed_by
from cci_captum._progress import tqdm
from cci_captum.diagnosis import WorstFoils, worst_foil_audit
from cci_captum.tiny import CLASS_NAMES, MODEL_NAMES, TEMPLATES
from cci_captum.vision_towers import Layer

from .markdown import table, with_interval
from .scenes import SceneGenerator

with needed_by("foils"):
    from .statistics import rate_interval

SETTINGS: dict[str, tuple[int, Layer]] = {
    "paper's: K = 8, projected": (8, "projected"),
    "default: K = 7, last block": (7, -1),
}
"""Clusters, and whose tokens."""

KINDS = ("one", "two")
PUBLISHED = "41 to 65 %"
_BATCH = 20
_OVERLAP = 0.5  # of a cluster's patches that touch the object, by area


class Audited(NamedTuple):
    """The audit of some scenes, and which pass the checks that the paper audits beyond.

    Attributes:
        audit: Of the strongest cluster of every scene.
        passes: (B,) bool: at least half of the cluster's area is object, and the drop is larger
            than the mean drop of all other classes.
    """

    audit: WorstFoils
    passes: Tensor


def audited(model: str, kind: str, setting: tuple[int, Layer], *, count: int, seed: int) -> Audited:
    """Scenes of one kind, explained by one model.

    Args:
        model: One of `cci_captum.tiny.MODEL_NAMES`.
        kind: See `cci_captum.benchmarks.scenes.SceneGenerator`.
        setting: Clusters, and whose tokens are clustered.
        count: Scenes.
        seed: Of the scenes.

    Example:
        >>> found = audited("tiny", "one", (3, -1), count=2, seed=0)
        >>> len(found.audit), found.passes.shape
        (2, torch.Size([2]))
    """
    clusters, layer = setting
    clip = cci_captum.load_clip(model)
    prompts = [template.replace("{}", name) for template in TEMPLATES for name in CLASS_NAMES]
    classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, prompts, "{}")
    cci = cci_captum.CCI(classifier, clustering=cci_captum.KMeans(clusters), embedding_layer=layer)
    generator = SceneGenerator(seed=seed)
    parts = [
        _part(cci, clip, generator.scenes(range(start, min(start + _BATCH, count)), kind=kind))
        for start in tqdm(range(0, count, _BATCH), desc=f"{model}, {kind}", leave=False)
    ]
    audits = [audit for audit, _ in parts]
    joined = {
        name: torch.cat([getattr(audit, name) for audit in audits])
        for name in vars(audits[0])
        if name != "tolerance"
    }
    audit = WorstFoils(**joined, tolerance=audits[0].tolerance)
    overlaps = torch.cat([overlap for _, overlap in parts])
    return Audited(audit, (overlaps >= _OVERLAP) & (audit.mean_margins > 0))


def _part(cci: Any, clip: Any, scenes: Sequence[Any]) -> tuple[WorstFoils, Tensor]:
    """The audit of a few scenes, and how much of the top cluster's area is object."""
    images = torch.stack([clip.preprocess(scene.picture) for scene in scenes])
    effects = cci.effects(images)
    outputs = effects.outputs.unflatten(-1, (len(TEMPLATES), len(CLASS_NAMES)))
    hidden = effects.masked_outputs.unflatten(-1, (len(TEMPLATES), len(CLASS_NAMES)))
    chosen_by = replace(effects, outputs=outputs[:, 0], masked_outputs=hidden[:, :, 0])
    judged_by = replace(
        effects, outputs=outputs[:, 1:].mean(dim=1), masked_outputs=hidden[:, :, 1:].mean(dim=2)
    )
    targets = [scene.classes[0] for scene in scenes]
    audit = worst_foil_audit(chosen_by, targets, judged_by=judged_by)
    masks = torch.stack([scene.masks[0] for scene in scenes]).float()
    object_area = torch.nn.functional.adaptive_avg_pool2d(masks, effects.labels.shape[1:])
    inside = effects.labels == audit.top[:, None, None].cpu()
    overlap = (object_area * inside).sum(dim=(1, 2)) / inside.sum(dim=(1, 2))
    return audit, overlap


def _rate(hits: Tensor) -> str:
    """A share in %, with its interval; "-" of none."""
    if not len(hits):
        return "-"
    low, high = rate_interval(int(hits.sum()), len(hits))
    return with_interval(100 * float(hits.double().mean()), 100 * low, 100 * high, digits=0)


def rows(count: int, seed: int) -> Iterator[list[str]]:
    """A row a model, kind of scenes and setting."""
    for model in MODEL_NAMES:
        for kind in KINDS:
            for name, setting in SETTINGS.items():
                audit, passes = audited(model, kind, setting, count=count, seed=seed)
                yield [
                    model,
                    kind,
                    name,
                    _rate(audit.fails),
                    str(int(passes.sum())),
                    _rate(audit.fails[passes]),
                    _rate(audit.repaired[audit.fails]),
                ]


_HEAD = [
    *("model", "objects", "clusters", "all fail, %", "pass checks"),
    *("of these fail, %", "of all that fail repaired, %"),
]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="scenes a row")
    parser.add_argument("--seed", type=int, default=7001, help="of the scenes")
    arguments = parser.parse_args(argv)
    print(table(_HEAD, rows(arguments.count, arguments.seed)))
    print(f"\nThe paper, on COCO and VOC with OpenAI's ViT-B/16 and B/32: {PUBLISHED} fail.")


if __name__ == "__main__":
    main()
