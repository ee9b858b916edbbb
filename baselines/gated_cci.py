"""Gated CCI: what hiding does at the margin, to whole regions, and what regions do alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from cci_captum._captum import repeat_target
from cci_captum._checks import check_choice, check_positive_int
from cci_captum._progress import Silent
from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.clusters import compacted
from cci_captum.attribution.derivatives import gradients
from cci_captum.attribution.finite import check_finite
from cci_captum.attribution.inputs import Inputs
from cci_captum.attribution.targets import select_target
from cci_captum.calls import new_pass
from cci_captum.cluster_maps import spread
from cci_captum.clustering import KMeans
from cci_captum.coalitions import rounding_of, run_sets, sizes_of
from cci_captum.vision_towers import AttentionRecording, TokenRecording, VisionTower

from .clip_surgery import CLIPSurgery, Revision

Part = Literal["gradient", "values", "hidden", "shown"]
PARTS: tuple[Part, ...] = get_args(Part)


class GatedCCI(PatchAttribution):
    """Four answers to what a patch is worth, each a z-score over the image's patches, added.

    - "gradient": g_j = d s / d m_j at m = 1, what hiding patch j a little takes from the score
      (`GateGradient`).
    - "values": s_j, the patch's feature by a path of values, compared with the text
      (`CLIPSurgery`).
    - "hidden": for every K of `clusters`, the drop of the score with the patch's cluster of K
      hidden (`CCI`), divided by the cluster's patches; z-scores of all K, added.
    - "shown": the same of the score with the patch's cluster alone shown.

    The map is the sum over `parts` of z(part), z(x) = (x - mean x) / std x. No part has a weight of
    its own. The first two tell patches of a region apart, and are right where the score is near
    what it is; the last two are of the model with much hidden, and give all patches of a region
    one value.

    "gradient" and "values" come from one forward and one backward pass; "hidden" and "shown" take
    a further pass each for every cluster, as short as the tokens that are kept.

    When parts fail: g is small everywhere where the score is saturated, and of many patches that
    show the same each looks dispensable. "values" needs patches with a feature of their own in the
    joint space: no attention pool (SigLIP, CoCa), no forward_func that is not made of texts.
    "hidden" and "shown" know no more than the clusters. A constant part adds nothing.

    Args:
        forward_func: See `PatchAttribution`; with "values" as for `CLIPSurgery`. Of a classifier
            explain `LogProbability(classifier)`: what lifts all classes alike does not count then.
        vision_tower: See `PatchAttribution`.
        parts: Which are added, at least one.
        clusters: The K of K-means, of the last block's patches.
        revision: Of the values; see `CLIPSurgery`. Those of the first release insert better here.

    Raises:
        TypeError: With "values", as `CLIPSurgery`; see also `PatchAttribution`.
        ValueError: If parts, clusters or revision are not these; see also `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import GatedCCI
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> method = GatedCCI(cci_captum.LogProbability(classifier), clusters=[3])
        >>> images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> method.patch_map(images, target=1).shape
        torch.Size([2, 12, 12])
    """

    _hides_patches = True

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        parts: Sequence[Part] = PARTS,
        clusters: Sequence[int] = (4, 7, 10, 14, 20),
        revision: Revision = "2023-04-12",
    ) -> None:
        super().__init__(forward_func, vision_tower)
        self.parts = _checked(parts, "parts", f"some of {', '.join(PARTS)}, each once")
        if not set(self.parts) <= set(PARTS):
            raise ValueError(
                f"parts: expected some of {', '.join(PARTS)}, each once, got {self.parts!r}"
            )
        self.clusters = _checked(clusters, "clusters", "numbers of clusters, each once")
        for count in self.clusters:
            check_positive_int("clusters", count)
        check_choice("revision", revision, get_args(Revision))
        self.revision = revision
        self._values: CLIPSurgery | None = None
        self._read_out_known = False
        if "values" in self.parts:
            self._values = CLIPSurgery(forward_func, self.vision_tower, revision=revision)

    def parts_of(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
        check: bool = True,
    ) -> dict[Part, Tensor]:
        """Each part by itself, as it is added: z-scores over an image's patches.

        Args:
            inputs: See `attribute`.
            target: See `attribute`.
            additional_forward_args: See `attribute`.
            internal_batch_size: See `attribute`.
            check: See `attribute`.

        Returns:
            Part -> (B, h, w), detached; their sum is `patch_map`.

        Raises:
            TypeError: See `attribute`.
            ValueError: See `attribute`.
            RuntimeError: See `attribute`.
        """
        with self._explaining(
            inputs, target, additional_forward_args, internal_batch_size, check
        ) as given:
            found = []
            for places, part in given.parts():
                new_pass()
                with self._running_on(places):
                    found.append(self._parts(part.images, part.target, part.args))
        return {part: torch.cat([each[part] for each in found]) for part in self.parts}

    def _check_once(self, images: Tensor, args: tuple[Any, ...]) -> None:
        if self._values is not None and not self._read_out_known:
            self._values._check_texts(args)
            self._values._check_read_out(images[:1])
            self._read_out_known = True
        super()._check_once(images, args)

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        return torch.stack([*self._parts(images, target, args).values()]).sum(dim=0)

    def _parts(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> dict[Part, Tensor]:
        """Part -> (B, h, w) z-scores."""
        tower, found = self.vision_tower, dict[Part, Tensor]()
        text = None
        if self._values is not None:
            text = self._values._text_features(target, args, len(images))
        with ExitStack() as stack:
            gating = stack.enter_context(tower.gate(1.0)) if "gradient" in self.parts else None
            recording = stack.enter_context(tower.record())
            attention: AttentionRecording | None = None
            if self._values is not None:
                attention = stack.enter_context(tower.record_attention(self._values._blocks))
            outputs = self._run_forward(images, args)
            score = select_target(outputs, target)
            check_finite(score, "scores of the target")
            if gating is not None:
                (found["gradient"],) = gradients(score, [gating.gates])
        if self._values is not None and attention is not None and text is not None:
            found["values"] = self._values._map_of(attention, text, target).flatten(1)
        if {"hidden", "shown"} & set(self.parts):
            found |= self._of_regions(images, target, args, outputs.detach(), recording)
        for part in self.parts:
            check_finite(found[part], f'values of the part "{part}"')
        h, w = recording.grid
        return {part: z_score(found[part]).unflatten(1, (h, w)) for part in self.parts}

    def _of_regions(
        self,
        images: Tensor,
        target: Any,
        args: tuple[Any, ...],
        outputs: Tensor,
        recording: TokenRecording,
    ) -> dict[Part, Tensor]:
        """Of "hidden" and "shown" those that are parts: (B, N) sums of z-scores over all K."""
        given, score = Inputs(images, target, args, len(images)), select_target(outputs, target)
        sums: dict[Part, Tensor] = {}
        for count in self.clusters:
            labels = KMeans(count)(recording.tokens).to(images.device)
            labels, clusters = compacted(labels.unflatten(1, recording.grid))
            asked: list[Part] = [part for part in self.parts if part in ("hidden", "shown")]
            sets = _sets(asked, clusters)
            scores = run_sets(
                self.forward_func, self.vision_tower, given, outputs, labels, sets,
                hide="drop", progress=Silent(),
            )  # fmt: skip
            k = clusters.shape[1]
            chosen = select_target(scores.flatten(0, 1), repeat_target(target, len(asked) * k))
            chosen = chosen.view(len(images), -1)
            check_finite(chosen, "scores of the target with a cluster hidden or shown alone")
            for part, values in zip(asked, chosen.split(k, dim=1), strict=True):
                if part == "hidden":
                    drops = score[:, None] - values
                    rounding = rounding_of(torch.maximum(score.abs(), values.abs().amax(dim=1)))
                    measured = drops.abs().amax(dim=1) > rounding
                    drops = torch.where(measured[:, None], drops, 0.0)
                    values = drops / sizes_of(labels, k).clamp(min=1)
                own = z_score(spread(values, labels).flatten(1))
                sums[part] = sums[part] + own if part in sums else own
        return sums


def z_score(values: Tensor) -> Tensor:
    """Rows of (B, N) less their mean, in standard deviations; zeros where all are the same.

    Rows with NaN or infinity give NaN.

    Example:
        >>> z_score(torch.tensor([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0]]))
        tensor([[-1.,  0.,  1.],
                [ 0.,  0.,  0.]])
    """
    centred = values - values.mean(dim=1, keepdim=True)
    total = centred.square().sum(dim=1, keepdim=True)
    deviation = (total / max(values.shape[1] - 1, 1)).sqrt()
    same = deviation <= rounding_of(values.abs().amax(dim=1, keepdim=True))
    return torch.where(same, 0.0, centred / torch.where(same, 1.0, deviation))


def _sets(asked: Sequence[Part], clusters: Tensor) -> Tensor:
    """Of each image's clusters each hidden alone, then each shown alone: (B, M, K) bool.

    Args:
        asked: "hidden", "shown" or both, in their order.
        clusters: (B, K), -1 for what an image does not have: nothing is hidden there.
    """
    has = clusters >= 0
    alone = torch.eye(clusters.shape[1], dtype=torch.bool, device=clusters.device)
    sets = [alone if part == "hidden" else ~alone for part in asked]
    return torch.cat([own & has[:, None] & has[:, :, None] for own in sets], dim=1)


def _checked(values: Any, argument: str, expected: str) -> tuple[Any, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{argument}: expected a sequence of {expected}, got {values!r}")
    if not values or any(value in values[:place] for place, value in enumerate(values)):
        raise ValueError(f"{argument}: expected {expected}, got {values!r}")
    return tuple(values)
