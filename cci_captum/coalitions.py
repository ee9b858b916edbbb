"""Sets of clusters: which there are, and what hiding each did to every output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ._captum import repeat_target
from ._progress import Progress
from .attribution.field_of_view import FieldOfView
from .attribution.finite import check_finite
from .attribution.forward import check_passes, run_forward
from .attribution.inputs import Inputs, rows_of_args
from .attribution.targets import for_each_target, select_target
from .vision_towers import HideStrategy, VisionTower

Sets = Tensor | Callable[[int], Tensor]

_ROUNDINGS = 16  # in units of the dtype's epsilon: what a difference of two outputs makes of one
_MOST_CLUSTERS = 16  # whose sets are all listed: 65,536


@dataclass(frozen=True, eq=False)
class Coalitions:
    """The outputs of a model with all patches seen and with each of M sets of clusters hidden.

    No forward pass depends on a target, so that one object answers for every class, foil or
    prompt at no further cost. Made by `cci_captum.CCI.coalitions`.

    Each image's clusters are numbered without gaps, so that sizes follow K, the most clusters that
    an image of the batch has, whatever the number of clusters that the clustering knows.

    Attributes:
        labels: (B, h, w) int64, the cluster of each patch, the column of `clusters` and `sets`.
        outputs: (B,) or (B, C, ...) outputs with nothing hidden, at least float32.
        masked_outputs: (B, M) or (B, M, C, ...) outputs with set m hidden. A set that hides
            nothing of an image leaves its outputs as they were.
        image_shape: (channels, H, W) of the inputs.
        sets: (B, M, K) bool, whether set m hides cluster k of an image; False where the image
            has no such cluster.
        clusters: (B, K) int64, the number that the clustering gave to each column, ascending; -1
            where an image has fewer clusters than others.
        covered: The pixels under the patch grid, (H', W') from the top left, or a `FieldOfView`
            where forward_func crops, pads or resizes; None is all of the image. Pixels beyond
            it are not seen by the model.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> cci = cci_captum.CCI(classifier, clustering=cci_captum.KMeans(3))
        >>> coalitions = cci.coalitions(images, cci_captum.all_sets)
        >>> coalitions.sets[0].int().tolist()  # of three clusters
        [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1]]
        >>> coalitions.drops(target=1).shape
        torch.Size([2, 8])
    """

    _made_by: ClassVar[str] = "CCI"

    labels: Tensor
    outputs: Tensor
    masked_outputs: Tensor
    image_shape: tuple[int, int, int]
    sets: Tensor = field(kw_only=True)
    clusters: Tensor = field(kw_only=True)
    covered: tuple[int, int] | FieldOfView | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    @property
    def sizes(self) -> Tensor:
        """(B, K) int64, patches in each cluster."""
        return sizes_of(self.labels, self.clusters.shape[1])

    @property
    def num_clusters(self) -> Tensor:
        """(B,) int64, clusters that each image has."""
        return (self.clusters >= 0).sum(dim=1)

    def drops(self, target: Any = None, *, targets: Sequence[Any] | None = None) -> Tensor:
        """By how much hiding each set lowers the target's output: d_m = s - s_m.

        Args:
            target: As in Captum: None where an image has one output, else an int, a list or
                tensor of B ints, a tuple of indices, or a list of B tuples.
            targets: Several in its place, T of them, each for all images unless it says one for
                each: targets=[0, 3] is output 0 and output 3 of every image, where target=[0, 3]
                is output 0 of the first image and output 3 of the second.

        Returns:
            (B, M) drops in the unit of the output; of `ClusterEffects`, where a set is one cluster,
            (B, K). Positive: what is hidden supports the target; negative: it speaks against it.
            Of targets (B, T, M).

        Raises:
            TypeError: If targets is no sequence.
            ValueError: If target does not choose one existing output an image, or its output is
                not finite, with nothing or with a cluster hidden; the error names the images.
                Outputs of other targets may be infinite or NaN. Or if target and targets are
                given, or targets is empty.
        """
        if targets is not None:
            return for_each_target(self.drops, target, targets)
        output, masked = self._scores(target)
        return output[:, None] - masked

    def rounding(self, target: Any = None) -> Tensor:
        """The drop that rounding alone can make: 16 epsilons of the largest output.

        A drop is the difference of two outputs that are each rounded to their dtype, so that what
        is below some units in the last place of them says nothing about what was hidden.

        Args:
            target: See `drops`.

        Returns:
            (B,) in the unit of the output.

        Raises:
            ValueError: See `drops`.
        """
        output = select_target(self.outputs, target)
        masked = output[:, None] - self.drops(target)
        largest = torch.maximum(output.abs(), masked.abs().amax(dim=1))
        return rounding_of(largest)

    def _scores(self, target: Any) -> tuple[Tensor, Tensor]:
        """The target's finite scores, (B,) with nothing hidden and (B, M) with each set hidden."""
        batch, count = self.masked_outputs.shape[:2]
        output = select_target(self.outputs, target)
        repeated = repeat_target(target, count)
        masked = select_target(self.masked_outputs.flatten(0, 1), repeated)
        masked = masked.view(batch, count)
        check_finite(output, "scores of the target", self._made_by)
        check_finite(masked, "scores of the target with a cluster hidden", self._made_by)
        return output, masked


def rounding_of(largest: Tensor) -> Tensor:
    """The difference that rounding alone can make of numbers that are no larger: 16 epsilons."""
    return _ROUNDINGS * torch.finfo(largest.dtype).eps * largest


def all_sets(k: int) -> Tensor:
    """Every set of k clusters, as `cci_captum.CCI.coalitions` takes it.

    Row m holds cluster i where bit i of m is set: row 0 is the empty set, row 2**i cluster i alone,
    the last row all clusters; and the first 2**j rows are the sets of the first j clusters.

    Args:
        k: The number of clusters, from 1 to 16.

    Returns:
        (2**k, k) bool, True where hidden.

    Raises:
        ValueError: If k is no such number.

    Example:
        >>> import cci_captum
        >>> cci_captum.all_sets(2)
        tensor([[False, False],
                [ True, False],
                [False,  True],
                [ True,  True]])
    """
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= _MOST_CLUSTERS:
        raise ValueError(
            f"k: expected 1 to {_MOST_CLUSTERS} clusters, which have up to {2**_MOST_CLUSTERS:,} "
            f"sets, got {k!r}"
        )
    return (torch.arange(2**k)[:, None] >> torch.arange(k) & 1).bool()


def check_sets(sets: Any, columns: int) -> Tensor:
    """The sets (M, columns), or an error that says what is wrong with them.

    Raises:
        TypeError: If sets is no bool tensor.
        ValueError: If it has another shape, or holds no set.
    """
    if not isinstance(sets, Tensor) or sets.dtype != torch.bool:
        got = sets.dtype if isinstance(sets, Tensor) else type(sets).__name__
        raise TypeError(
            f"sets: expected a bool tensor (M, {columns}), True where a cluster is hidden, or a "
            f"function from the number of clusters to one, got {got}"
        )
    if sets.ndim != 2 or sets.shape[1] != columns or len(sets) == 0:
        raise ValueError(
            f"sets: expected shape (M, {columns}), M at least 1, a column for each of {columns} "
            f"clusters, got {tuple(sets.shape)}"
        )
    return sets


def own_sets(sets: Sets, clusters: Tensor) -> Tensor:
    """What each set hides of the clusters that an image has.

    Args:
        sets: (M, n_clusters) bool over the clustering's own numbers, or a function from K to
            (M, K) bool over the columns of `clusters`.
        clusters: (B, K) int64, the clustering's own numbers, -1 for none.

    Returns:
        (B, M, K) bool, False for what an image does not have.

    Raises:
        TypeError: If the function gives no bool tensor.
        ValueError: If the function gives another shape.
    """
    if isinstance(sets, Tensor):
        chosen = sets[:, clusters.clamp(min=0).to(sets.device)].transpose(0, 1)
    else:
        chosen = check_sets(sets(clusters.shape[1]), clusters.shape[1])[None]
    return chosen.to(clusters.device) & (clusters >= 0)[:, None]


def sizes_of(labels: Tensor, n_clusters: int) -> Tensor:
    """(B, K) int64, patches of each cluster from labels (B, h, w)."""
    numbers = torch.arange(n_clusters, device=labels.device)
    return (labels.flatten(1)[:, None] == numbers[:, None]).sum(dim=2)


def run_sets(
    forward_func: Callable[..., Tensor],
    tower: VisionTower,
    given: Inputs,
    outputs: Tensor,
    labels: Tensor,
    sets: Tensor,
    *,
    hide: HideStrategy,
    progress: Progress,
) -> Tensor:
    """Outputs with each set of clusters hidden, each set of patches of an image in one pass.

    Args:
        forward_func: What is run.
        tower: The image encoder in it.
        given: Images, further arguments, and the most rows of a pass.
        outputs: (B, ...) with nothing hidden, which empty sets repeat.
        labels: (B, h, w) int64, the cluster of each patch.
        sets: (B, M, K) bool, what each set hides, False for clusters that an image does not have.
        hide: See `VisionTower.hide`.
        progress: Its total grows by the passes to come, one an image and set.

    Returns:
        (B, M, ...) outputs.

    Raises:
        TypeError: See `cci_captum.attribution.forward.run_forward`.
        ValueError: See `cci_captum.attribution.forward.run_forward`.
        RuntimeError: If forward_func does not run the tower once.
    """
    count = sets.shape[1]
    masked_outputs = outputs[:, None].repeat(1, count, *[1] * (outputs.ndim - 1))
    flat_labels = labels.flatten(1)
    alike = _first_alike(sets)
    repeated = alike != torch.arange(count, device=alike.device)
    images, which = (sets.any(dim=2) & ~repeated).nonzero(as_tuple=True)
    if hide == "drop":
        # A batch is as long as its longest row: put rows of like length together.
        each = zip(sets, sizes_of(labels, sets.shape[2]), strict=True)
        hidden = torch.stack([(own * sizes).sum(dim=1) for own, sizes in each])  # (B, M) patches
        order = hidden[images, which].argsort(stable=True)
        images, which = images[order], which[order]
    progress.total += len(images)
    progress.refresh()
    step = given.batch_size or len(given)
    for rows, columns in zip(images.split(step), which.split(step), strict=True):
        mask = sets[rows, columns].gather(1, flat_labels[rows])
        with tower.hide(mask, hide) as hiding:
            masked_outputs[rows, columns] = run_forward(
                forward_func, given.images[rows], rows_of_args(given.args, rows)
            )
        check_passes(hiding.passes)
        progress.update(len(rows))
    images, which = repeated.nonzero(as_tuple=True)
    masked_outputs[images, which] = masked_outputs[images, alike[images, which]]
    return masked_outputs


def _first_alike(sets: Tensor) -> Tensor:
    """The first set of each image that equals a set, (B, M, K) bool -> (B, M) int64."""
    firsts = []
    for packed in np.packbits(sets.cpu().numpy(), axis=2):
        first: dict[bytes, int] = {}
        firsts.append([first.setdefault(row.tobytes(), m) for m, row in enumerate(packed)])
    return torch.tensor(firsts, device=sets.device)
