"""What methods share that compare patches with a text's embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum.attribution.base import PatchAttribution
from cci_captum.attribution.targets import select_target
from cci_captum.models._tokens import tokens_of
from cci_captum.models.clip import ImageTextSimilarity, TextScores
from cci_captum.models.scores import without_score
from cci_captum.shared import Shared
from cci_captum.vision_towers import BlockAttention, VisionTower

_SAME = 0.99  # cosine of features that differ by half-precision rounding at the most


class TextAttribution(PatchAttribution):
    """A method that needs the embedding of the text to explain, not only a score.

    It reads no score: under `LogProbability` and `Margin` its map is that of the classifier.

    Attributes:
        clip: What encodes images and texts: forward_func, or what its scores are made of.

    Args:
        forward_func: An `ImageTextSimilarity` or a `ZeroShotClassifier`, or a `LogProbability`
            or `Margin` of a classifier.
        vision_tower: See `PatchAttribution`.

    Raises:
        TypeError: If forward_func is of another kind; see also `PatchAttribution`.
        ValueError: See `PatchAttribution`.
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
    ) -> None:
        clip = without_score(forward_func)
        # One text is no class among others: its score would be refused in the first pass.
        known = (ImageTextSimilarity, TextScores)
        if not isinstance(clip, known if clip is forward_func else TextScores):
            inside = "" if clip is forward_func else f" of {type(clip).__name__}"
            raise TypeError(
                f"forward_func: {type(self).__name__} compares patches with text embeddings; "
                "expected an ImageTextSimilarity or a ZeroShotClassifier, or a score over the "
                f"classes of the latter, got {type(forward_func).__name__}{inside}"
            )
        super().__init__(forward_func, vision_tower)
        self.clip: ImageTextSimilarity | TextScores = clip

    def _check_once(self, images: Tensor, args: tuple[Any, ...]) -> None:
        self._check_texts(args)
        super()._check_once(images, args)

    def _check_texts(self, args: tuple[Any, ...]) -> None:
        """Raise ValueError unless an ImageTextSimilarity is given texts, and nothing else."""
        if isinstance(self.clip, ImageTextSimilarity) and len(args) != 1:
            raise ValueError(
                "additional_forward_args: expected the text tokens that ImageTextSimilarity takes, "
                f"got {len(args)} arguments"
            )

    def _text_features(self, target: Any, args: tuple[Any, ...], batch: int) -> Tensor:
        """(B, E) unit embeddings of the texts to explain, at least float32."""
        if isinstance(self.clip, TextScores):
            return class_features(self.clip)[class_index(self.clip, target, batch)]
        self._check_texts(args)
        (text,) = (arg.tensor if isinstance(arg, Shared) else arg for arg in args)
        text = tokens_of(text, self.clip.model)
        if len(text) not in (1, batch):
            raise ValueError(
                f"additional_forward_args[0]: expected {batch} rows of tokens, one an image, or "
                f"one for all, got {len(text)}"
            )
        features = self.clip.encode_texts(text).expand(batch, -1)
        select_target(features[:, 0], target)  # one score an image: only None fits
        return features

    @torch.no_grad()
    def _check_read_out(self, images: Tensor) -> None:
        """Raise TypeError unless the tower's read-out is what `clip` takes for image features."""
        with self.vision_tower.record_attention([-1]) as recording:
            encoded = self.clip.encode_images(images)
        self._read_out(recording.last, encoded)

    def _read_out(self, last: BlockAttention, encoded: Tensor | None) -> Tensor:
        """The image features (B, E) as the tower reads them out, not normalised.

        Args:
            last: The last block's attention.
            encoded: (B, E), what `clip.encode_images` gave in the same pass; None where it is known
                to be the same.

        Raises:
            TypeError: Unless that is what `clip` takes for image features.
        """
        block = self.vision_tower.block(-1)
        tokens = block.add_attention(last.tokens, block.project_out(last.context))
        features = self.vision_tower.read_out(block.add_mlp(tokens))
        if encoded is None or self.vision_tower.module.training:  # dropout would tell them apart
            return features
        own = features.to(encoded.dtype)
        alike = own.shape == encoded.shape
        if not alike or float(F.cosine_similarity(own, encoded, dim=-1).min()) < _SAME:
            raise TypeError(
                f"vision_tower: {type(self).__name__} takes the tower's read-out for the image "
                "features that texts are compared with; expected the two to be the same, got a "
                "model that goes on computing with them (a projection outside the image encoder?)"
            )
        return features


def class_features(classifier: TextScores) -> Tensor:
    """(C, E) unit embeddings of the classes, at least float32; of words, unit directions."""
    features = classifier.text_features
    return F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), dim=-1)


def class_index(classifier: TextScores, target: Any, batch: int) -> Tensor:
    """(B,) index of the target class."""
    count, device = len(classifier.class_names), classifier.text_features.device
    return select_target(torch.arange(count, device=device).expand(batch, -1), target)


def check_one_text(argument: str, tokens: Tensor) -> None:
    """Raise an error that names the argument unless these are the tokens of one text."""
    if not isinstance(tokens, Tensor):
        raise TypeError(
            f"{argument}: expected the tokens of one text, a tensor (1, L), got "
            f"{type(tokens).__name__}"
        )
    if tokens.ndim != 2 or len(tokens) != 1:
        raise ValueError(
            f"{argument}: expected the tokens of one text, shape (1, L), got {tuple(tokens.shape)}"
        )
