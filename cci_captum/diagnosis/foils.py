"""Does the region that explains a class explain another class better? The audit of worst foils.

"Beyond Mean Foils: Auditing Worst-Foil Specificity in Frozen CLIP Region Explanations", arXiv
2609.27356.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .._extras import needed_by
from ..attribution.finite import check_finite
from ..effects import ClusterEffects

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class WorstFoils:
    """Whether each image's strongest cluster is specific to its target; see `worst_foil_audit`.

    In what follows, d_R(c) is by how much hiding cluster R lowers the output of class c, t is the
    target, and foils are all other classes. Clusters are columns of `ClusterEffects.clusters`.

    Attributes:
        targets: (B,) int64, t.
        top: (B,) int64, the cluster that explains t: the one with the largest d_R(t).
        drops: (B,) d_top(t), as it was chosen by.
        foils: (B,) int64, the worst foil f of `top`: the one with the largest d_top(f).
        margins: (B,) M = d_top(t) - d_top(f). Negative: the cluster explains f better.
        mean_margins: (B,) d_top(t) less the mean of d_top over all foils, the weaker contrast that
            the audit is set against.
        reranked: (B,) int64, of the clusters whose d_R(t) is within `tolerance` of `drops` the one
            with the largest M, `top` where none has a larger one.
        reranked_margins: (B,) its M.
        tolerance: As given.
    """

    targets: Tensor
    top: Tensor
    drops: Tensor
    foils: Tensor
    margins: Tensor
    mean_margins: Tensor
    reranked: Tensor
    reranked_margins: Tensor
    tolerance: float

    def __len__(self) -> int:
        """Number of images."""
        return len(self.targets)

    @property
    def fails(self) -> Tensor:
        """(B,) bool: the margin is negative. One of exactly 0, as of equal names, passes."""
        return self.margins < 0

    @property
    def repaired(self) -> Tensor:
        """(B,) bool: fails, but the reranked cluster's margin is not negative."""
        return self.fails & (self.reranked_margins >= 0)

    @property
    def failure_rate(self) -> float:
        """Share of images that fail; `cci_captum.benchmarks.statistics` has intervals of rates."""
        return float(self.fails.double().mean())

    @property
    def repair_rate(self) -> float:
        """Share of those that fail which reranking repairs; NaN where none fails."""
        return float(self.repaired.sum() / self.fails.sum().double())

    def table(self, class_names: Sequence[str] | None = None) -> pd.DataFrame:
        """A row an image.

        Args:
            class_names: One a class, for two more columns; None: numbers alone.

        Returns:
            Columns "target", "cluster", "drop", "worst_foil", "margin", "mean_margin", "fails",
            "reranked_cluster", "reranked_margin", "repaired"; with names "target_name" and
            "worst_foil_name".

        Raises:
            MissingExtraError: If pandas is not installed.
            ValueError: If there are fewer names than classes that occur.
        """
        with needed_by("WorstFoils.table"):
            import pandas as pd
        columns = {
            "target": self.targets,
            "cluster": self.top,
            "drop": self.drops,
            "worst_foil": self.foils,
            "margin": self.margins,
            "mean_margin": self.mean_margins,
            "fails": self.fails,
            "reranked_cluster": self.reranked,
            "reranked_margin": self.reranked_margins,
            "repaired": self.repaired,
        }
        table = pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()})
        if class_names is not None:
            most = int(torch.cat([self.targets, self.foils]).amax()) if len(self) else -1
            if len(class_names) <= most:
                raise ValueError(
                    f"class_names: expected a name for class {most}, got {len(class_names)} names"
                )
            for column in ("target", "worst_foil"):
                table[f"{column}_name"] = [class_names[index] for index in table[column]]
        return table


def worst_foil_audit(
    effects: ClusterEffects,
    targets: int | Sequence[int] | Tensor,
    *,
    judged_by: ClusterEffects | None = None,
    tolerance: float = 0.02,
) -> WorstFoils:
    """Whether the cluster that explains a class explains another class better.

    No further pass: the drops of all classes are in the effects. Ties: of clusters the first
    column, of foils the lowest class, and reranking leaves the top cluster only for a larger
    margin.

    Args:
        effects: With outputs (B, C), C classes, which choose the clusters. Drops, margins and
            tolerance are in their unit: logits of a `ZeroShotClassifier`, exp(logit_scale) x
            cosine, as in the paper.
        targets: The class that is explained: one for all, or one an image.
        judged_by: The effects of the same clusters on the same classes under other prompts; its
            drops give `margins`, `mean_margins`, `foils` and `reranked_margins`. The paper chooses
            by one prompt and judges by three others. None: `effects` judge themselves.
        tolerance: How much smaller a cluster's drop of the target may be, for reranking: 0.02
            logits in the paper.

    Returns:
        A `WorstFoils`. With K = 8 clusters of the projected tokens, the paper finds 41 to 65 % of
        the regions that pass checks of overlap and of mean contrast to fail on COCO and VOC, few
        of which reranking repairs.

    Raises:
        NotFiniteError: If a drop of any class is NaN or infinite; the error names the images.
        TypeError: If effects are no `ClusterEffects`, or targets no such ints.
        ValueError: If outputs are not (B, C) with two classes or more, judged_by is of other
            clusters, targets are not such classes, or tolerance is negative or not finite.

    Example:
        >>> import torch, cci_captum
        >>> effects = cci_captum.ClusterEffects(
        ...     labels=torch.tensor([[[0, 0, 1, 2]]]),
        ...     outputs=torch.tensor([[4.0, 3.0, 1.0]]),
        ...     masked_outputs=torch.tensor([[[3.0, 1.5, 1.0], [3.01, 2.5, 1.0], [4.0, 3.0, 0.0]]]),
        ...     image_shape=(3, 8, 32),
        ... )
        >>> audit = worst_foil_audit(effects, 0)
        >>> audit.top.tolist(), audit.foils.tolist(), audit.margins.tolist()
        ([0], [1], [-0.5])
        >>> audit.reranked.tolist(), audit.repaired.tolist()
        ([1], [True])
    """
    if not isinstance(tolerance, (int, float)) or not 0 <= tolerance < float("inf"):
        raise ValueError(f"tolerance: expected a finite number of 0 or more, got {tolerance!r}")
    drops = _all_drops("effects", effects)
    judged = drops if judged_by is None else _all_drops("judged_by", judged_by)
    if judged_by is not None and (
        judged.shape != drops.shape or not torch.equal(judged_by.labels, effects.labels)
    ):
        raise ValueError(
            "judged_by: expected effects of the same clusters on as many classes, "
            f"{tuple(drops.shape)}, got {tuple(judged.shape)}"
            + (", of other clusters" if judged.shape == drops.shape else "")
        )
    batch, _, classes = drops.shape
    chosen = _checked_targets(targets, batch, classes).to(drops.device)
    present = effects.clusters >= 0
    own = _of_class(drops, chosen).masked_fill(~present, -torch.inf)
    top = _first_largest(own)
    margins = _margins(drops, chosen)
    near = own >= own.gather(1, top[:, None]) - tolerance
    best = _first_largest(margins.masked_fill(~near, -torch.inf))
    better = margins.gather(1, best[:, None]) > margins.gather(1, top[:, None])
    reranked = torch.where(better[:, 0], best, top)

    of_top = judged.gather(1, top[:, None, None].expand(-1, 1, classes))[:, 0]  # (B, C)
    foils_only = of_top.scatter(1, chosen[:, None], -torch.inf)
    target_drop = of_top.gather(1, chosen[:, None])[:, 0]
    mean = (of_top.sum(dim=1) - target_drop) / (classes - 1)
    judged_margins = _margins(judged, chosen)
    return WorstFoils(
        targets=chosen,
        top=top,
        drops=own.gather(1, top[:, None])[:, 0],
        foils=_first_largest(foils_only),
        margins=judged_margins.gather(1, top[:, None])[:, 0],
        mean_margins=target_drop - mean,
        reranked=reranked,
        reranked_margins=judged_margins.gather(1, reranked[:, None])[:, 0],
        tolerance=float(tolerance),
    )


def _all_drops(argument: str, effects: Any) -> Tensor:
    """(B, K, C) finite drops of every class."""
    if not isinstance(effects, ClusterEffects):
        raise TypeError(f"{argument}: expected ClusterEffects, got {type(effects).__name__}")
    if effects.outputs.ndim != 2 or effects.outputs.shape[1] < 2:
        raise ValueError(
            f"{argument}: expected outputs (B, C) of two classes or more, got "
            f"{tuple(effects.outputs.shape)}"
        )
    drops = effects.outputs[:, None] - effects.masked_outputs
    check_finite(drops, "drops of all classes", "worst_foil_audit")
    return drops


def _checked_targets(targets: Any, batch: int, classes: int) -> Tensor:
    """(B,) int64 classes."""
    chosen = torch.as_tensor(targets)
    if chosen.is_floating_point() or chosen.is_complex() or chosen.dtype == torch.bool:
        raise TypeError(f"targets: expected ints, got {targets!r}")
    chosen = chosen.long().expand(batch) if chosen.ndim == 0 else chosen.long()
    if chosen.shape != (batch,) or not bool(((chosen >= 0) & (chosen < classes)).all()):
        raise ValueError(
            f"targets: expected one class, or {batch}, of 0 to {classes - 1}, got {targets!r}"
        )
    return chosen


def _of_class(drops: Tensor, targets: Tensor) -> Tensor:
    """(B, K) drops of one class an image, of (B, K, C)."""
    return drops.gather(2, targets[:, None, None].expand(-1, drops.shape[1], 1))[:, :, 0]


def _margins(drops: Tensor, targets: Tensor) -> Tensor:
    """(B, K) each cluster's drop of the target less its largest of another class."""
    index = targets[:, None, None].expand(-1, drops.shape[1], 1)
    return _of_class(drops, targets) - drops.scatter(2, index, -torch.inf).amax(dim=2)


def _first_largest(values: Tensor) -> Tensor:
    """(B,) the first place of the largest of each row; torch's argmax may be any of equal ones."""
    places = torch.arange(values.shape[1], device=values.device)
    largest = values == values.amax(dim=1, keepdim=True)
    return torch.where(largest, places, values.shape[1]).amin(dim=1)
