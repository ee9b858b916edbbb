"""AtMan: by how much the score falls when attention to a patch, and to those alike, is weakened.

Deiseroth, Deb, Weinbach, Brack, Schramowski, Kersting: "AtMan: Understanding Transformer
Predictions Through Memory Efficient Attention Manipulation", NeurIPS 2023, arXiv 2301.08110.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum._checks import check_fraction
from cci_captum._progress import Progress, progress_bar
from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.finite import check_finite
from cci_captum.attribution.forward import check_passes
from cci_captum.attribution.inputs import Inputs, rows_of_args
from cci_captum.attribution.targets import select_target
from cci_captum.vision_towers import Layer, VisionTower

_BATCH = 32  # images in one forward pass where the caller does not say


class AtMan(PatchAttribution):
    """s - s_i, s_i the score with the attention logits of patch i's key multiplied by 1 - f.

    In every block, head and query, l_ij is replaced by (l_ij - min over k of l_ik) * F_j with
    F_i = 1 - f at patch i itself, F_j = 1 - f c_ij at the patches alike, whose embeddings have a
    cosine c_ij of at least the threshold with its own (conceptual suppression), and F_j = 1
    elsewhere. Class token and registers keep their logits. The class token's output, an average
    or the attention pool, whose logits are multiplied too, then gives s_i. One forward pass a
    patch, and one for s; `internal_batch_size` counts images in one pass (None: at least 32, more
    where there are more images).

    The paper's loss is the cross entropy of the target: s - s_i is its rise where forward_func is
    a `LogProbability` of a classifier. With other scores it is their fall.

    The paper explains language models and those that read images as such; image encoders are our
    reading of it. Defaults are those of the released code for MAGMA
    (github.com/Aleph-Alpha/AtMan): f = 0.9, a threshold of 0.6, embeddings as they enter the first
    block, and logits counted from the least of their query. The paper has the logits themselves;
    a negative one, multiplied by less than 1, rises, and the patch is looked at more:
    `from_minimum=False`. The released code for BLIP's image encoder does that too, and takes the
    similarities of another model, and weakens the patches alike without the patch itself.

    Args:
        forward_func: See `PatchAttribution`.
        vision_tower: See `PatchAttribution`.
        suppression: f, from 0, which changes nothing, to 1.
        threshold: Least cosine of patches alike, from 0 to 1; None weakens single patches.
        layer: Whose tokens are the embeddings; see `VisionTower.record`.
        from_minimum: Count logits from the least of their query.

    Raises:
        TypeError: If the attention cannot be read; see also `PatchAttribution`.
        ValueError: If an option is out of range; see also `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import AtMan
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> method = AtMan(cci_captum.LogProbability(classifier), threshold=None)
        >>> method.patch_map(torch.zeros(1, 3, 96, 96), target=1).shape
        torch.Size([1, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        suppression: float = 0.9,
        threshold: float | None = 0.6,
        layer: Layer = "input",
        from_minimum: bool = True,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        check_fraction("suppression", suppression)
        if threshold is not None:
            check_fraction("threshold", threshold, ", or None")
        if not isinstance(from_minimum, bool):
            raise ValueError(f"from_minimum: expected True or False, got {from_minimum!r}")
        self.vision_tower.check_layer(layer)
        self.vision_tower.check_attention(all_blocks=True)
        self.suppression = suppression
        self.threshold = threshold
        self.layer: Layer = layer
        self.from_minimum = from_minimum

    def _patch_maps(self, given: Inputs, show_progress: bool) -> Tensor:
        limit = given.batch_size or max(len(given), _BATCH)
        maps = []
        with progress_bar(show_progress, 0, "AtMan", unit="pass") as progress:
            for places, part in given.parts(limit):
                with self._running_on(places):
                    maps.append(self._maps_of(part, len(given), limit, progress))
        return torch.cat(maps)

    def _maps_of(self, given: Inputs, batch: int, limit: int, progress: Progress) -> Tensor:
        """(b, h, w) of b images out of a batch, at most `limit` of them in one pass."""
        with self.vision_tower.record(self.layer) as recording:
            scores = self._score(given.images, given.target, given.args).double()
        tokens = recording.tokens
        patches = tokens.shape[1]
        progress.total = batch * (patches + 1)
        progress.update(len(scores))
        unit = F.normalize(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), dim=-1)
        falls = []
        for some in torch.arange(patches, device=unit.device).split(max(1, limit // len(scores))):
            factors = self._factors(unit, some)
            falls.append(scores[:, None] - self._scores(given, factors).to(scores.device))
            progress.update(falls[-1].numel())
        return torch.cat(falls, dim=1).unflatten(1, recording.grid)

    def _factors(self, unit: Tensor, some: Tensor) -> Tensor:
        """(b, m, N), what the keys' logits are multiplied by for each of m patches.

        Args:
            unit: (b, N, D) embeddings of length 1.
            some: (m,) indices of the patches.
        """
        itself = some[:, None] == torch.arange(unit.shape[1], device=unit.device)
        weights = itself.to(unit.dtype).expand(len(unit), -1, -1)
        if self.threshold is not None:
            cosines = (unit[:, some] @ unit.mT).clamp(max=1)
            weights = torch.where(~itself & (cosines >= self.threshold), cosines, weights)
        return 1 - self.suppression * weights

    def _scores(self, given: Inputs, factors: Tensor) -> Tensor:
        """(b, m) scores of b images, each under m rows of factors, in one pass, in float64."""
        count = factors.shape[1]
        index = torch.arange(len(given)).repeat_interleave(count)
        images = given.images.repeat_interleave(count, dim=0)
        scaled = self.vision_tower.scale_keys(factors.flatten(0, 1), from_minimum=self.from_minimum)
        with scaled as scaling:
            outputs = self._run_forward(images, rows_of_args(given.args, index))
        check_passes(scaling.passes)
        outputs = outputs.unflatten(0, (-1, count))
        chosen = [select_target(outputs[:, m], given.target) for m in range(count)]
        scores = torch.stack(chosen, dim=1).double()
        check_finite(scores, "scores of the target under weakened attention")
        return scores
