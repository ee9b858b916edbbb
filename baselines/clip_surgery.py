"""CLIP Surgery: patch features from a second path of value-value attention, less what is common.

Li, Wang, Duan, Li: "CLIP Surgery for Better Explainability with Enhancement in
Open-Vocabulary Tasks", arXiv 2304.05653.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeGuard, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum._checks import check_choice, check_positive_int
from cci_captum.models.clip import ImageTextSimilarity, TextScores
from cci_captum.vision_towers import AttentionRecording, BlockAttention, VisionTower, join_heads

from ._text import TextAttribution, check_one_text, class_features, class_index

Revision = Literal["2023-04-12", "2023-04-13", "2025-03-01"]
"""The states of the released code that compute different maps, by the day of the change."""


class CLIPSurgery(TextAttribution):
    """Products of surgically changed patch features with the text, less redundant features.

    Architecture surgery: beside the model's own path, a second one starts with the tokens that
    enter the first of the last `n_blocks` blocks. In each of these it adds the output projection
    of softmax(v v^T / sqrt(d)) v, with v the values of the model's own path, and no MLP. At the
    end the final norm and the projection make patch features F_i of it. The user's model runs as
    it is; the second path is computed from what its blocks' values were.

    Feature surgery: with C classes, s = softmax_c(temperature * f . t_c) for the image's feature
    f, w_c = s_c / mean(s), and the map is w_c F_i . t_c less its mean over the classes. With one
    text there are no classes to compare: `redundant_text` is subtracted from it,
    F_i . (t - t_redundant); without one the map is F_i . t. One forward pass of the image
    encoder.

    The released code (github.com/xmed-lab/CLIP_Surgery) has computed three different maps, and
    published comparisons do not say which:

    - "2023-04-12", the first release: every channel of the features is divided by its norm over
      the tokens (the image's feature and the patches'), not every feature by its own; and
      weights w_c come from each patch's own feature, f = F_i.
    - "2023-04-13": still that norm; the weights come from the class token, which is the image's
      feature f as normalised there.
    - "2025-03-01", today's: unit features, weights from the image's feature, as in the paper.

    Args:
        forward_func: An `ImageTextSimilarity` or a `ZeroShotClassifier`; of a `LogProbability` or
            `Margin` the classifier inside is explained, with the same map.
        vision_tower: See `PatchAttribution`.
        n_blocks: Blocks with a second path; all of them in a model with fewer.
        feature_surgery: False leaves feature surgery out: F_i . t.
        temperature: Of the softmax over classes.
        revision: Which state of the released code; see above.
        redundant_text: (1, L) tokens of a text that stands for what all texts share (the
            authors take the empty string); subtracted from every text, also from classes.

    Raises:
        TypeError: If forward_func is of another kind; if patches have no feature of their own in
            the joint space, as with an attention pool (SigLIP, CoCa); see also
            `PatchAttribution`.
        ValueError: If an option is out of range or the revision unknown; see also
            `PatchAttribution`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.baselines import CLIPSurgery
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> CLIPSurgery(classifier).patch_map(torch.zeros(2, 3, 96, 96), target=1).shape
        torch.Size([2, 12, 12])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        n_blocks: int = 6,
        feature_surgery: bool = True,
        temperature: float = 2.0,
        revision: Revision = "2025-03-01",
        redundant_text: Tensor | None = None,
    ) -> None:
        super().__init__(forward_func, vision_tower)
        self.vision_tower.check_projection()
        self.vision_tower.check_attention(all_blocks=True)
        check_positive_int("n_blocks", n_blocks)
        check_choice("revision", revision, get_args(Revision))
        if redundant_text is not None:
            check_one_text("redundant_text", redundant_text)
        self.n_blocks = n_blocks
        self.feature_surgery = feature_surgery
        self.temperature = temperature
        self.revision = revision
        self.redundant_text = redundant_text

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        text = self._text_features(target, args, len(images))
        with self.vision_tower.record_attention(self._blocks) as recording:
            encoded = self.clip.encode_images(images)
        return self._map_of(recording, text, target, encoded)

    @property
    def _blocks(self) -> range:
        """Those with a second path."""
        return range(-min(self.n_blocks, self.vision_tower.num_blocks), 0)

    def _map_of(
        self,
        recording: AttentionRecording,
        text: Tensor,
        target: Any,
        encoded: Tensor | None = None,
    ) -> Tensor:
        """The map (B, h, w) of a pass.

        Args:
            recording: The attention of `_blocks` in that pass.
            text: (B, E), what `_text_features` gives.
            target: As for `_patch_map`.
            encoded: See `TextAttribution._read_out`.
        """
        whole, patches = self._features(recording.blocks, encoded, text.dtype)
        with torch.autocast(text.device.type, enabled=False):
            if self.feature_surgery and self.redundant_text is not None:
                patch_map = _dot(patches, text - self._redundant_features(text.device))
            elif self.feature_surgery and _has_classes(self.clip):
                classes = class_features(self.clip)
                cosines = patches @ classes.T  # (B, N, C)
                by_patch = self.revision == "2023-04-12"
                weighing = cosines if by_patch else (whole @ classes.T)[:, None]
                weights = (self.temperature * weighing).softmax(dim=-1)
                weighted = cosines * weights / weights.mean(dim=-1, keepdim=True)
                index = class_index(self.clip, target, len(text))[:, None, None]
                chosen = weighted.gather(2, index.expand(-1, weighted.shape[1], 1))
                patch_map = chosen[..., 0] - weighted.mean(dim=-1)
            else:
                patch_map = _dot(patches, text)
        return patch_map.unflatten(1, recording.grid)

    def _features(
        self, blocks: list[BlockAttention], encoded: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Features of the images (B, E), by the model's own path, and of patches (B, N, E)."""
        tower = self.vision_tower
        tokens = blocks[0].tokens
        for recorded, block in zip(blocks, tower.blocks[-len(blocks) :], strict=True):
            tokens = block.add_attention(tokens, _value_attention(recorded))
        patches = tower.project(tower.patches(tokens))
        whole = self._read_out(blocks[-1], encoded)
        features = torch.cat([whole[:, None], patches], dim=1).to(dtype)
        features = F.normalize(features, dim=-1 if self.revision == "2025-03-01" else 1)
        return features[:, 0], features[:, 1:]

    def _redundant_features(self, device: torch.device) -> Tensor:
        """(1, E) unit embedding of the redundant text."""
        assert self.redundant_text is not None
        return self.clip.encode_texts(self.redundant_text.to(device))


def _has_classes(clip: ImageTextSimilarity | TextScores) -> TypeGuard[TextScores]:
    """Whether there are classes that a text can be compared with."""
    return isinstance(clip, TextScores) and len(clip.class_names) > 1


def _dot(patches: Tensor, text: Tensor) -> Tensor:
    """(B, N, E) patches with their image's text, (B, E): (B, N)."""
    return (patches * text[:, None]).sum(dim=-1)


def _value_attention(recorded: BlockAttention) -> Tensor:
    """The projected output of softmax(v v^T / sqrt(d)) v, head by head: (B, T, D)."""
    values = recorded.values
    attended = F.scaled_dot_product_attention(values, values, values)
    return recorded.block.project_out(join_heads(attended))
