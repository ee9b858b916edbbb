"""Deletion and insertion where the task is retrieval between images and captions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cci_captum._checks import check_positive_int
from cci_captum.models._cut_texts import checked
from cci_captum.models._encoders import device_of, weights_at_hand
from cci_captum.models.clip import ImageTextSimilarity

from .curves import Curve
from .gallery import encode_images, encode_texts

KS = (1, 5, 10)
"""Of recall@k, as CLIP_benchmark and most papers report it."""

_ROWS = 1024  # captions compared with the gallery at once
# Cosines this close are equal: two passes over one image differ by rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class RetrievalCurve(Curve):
    """What perturbed images, each explained for one caption, retrieve and are retrieved by.

    `score` is the cosine of image and caption; `probability`, `top1` and `top5` are None.

    Attributes:
        ir1: Image recall, IR@1: 1 where the caption scores no other image of the gallery as high as
            its own, else 0; of the shape of `score`.
        ir5: IR@5: 1 where it scores at most four as high.
        ir10: IR@10: at most nine.
        tr1: Text recall, TR@1: 1 where the image scores no caption of another image as high as the
            best of its own, else 0.
        tr5: TR@5: 1 where it scores at most four as high.
        tr10: TR@10: at most nine.
    """

    ir1: Tensor
    ir5: Tensor
    ir10: Tensor
    tr1: Tensor
    tr5: Tensor
    tr10: Tensor


class CaptionRetrieval(nn.Module):
    """Images and their captions among those of a gallery: images -> (B, M) cosines.

    Each caption is explained on its own image, as `target`; `recalls` says what the cosines of a
    perturbed image mean for retrieval. Recall is CLIP_benchmark's: IR@k asks of a caption whether
    its image is among the first k, TR@k of an image whether any of its captions is.

    Args:
        model: A CLIP-like model with `encode_image` and `encode_text`, such as open_clip's.
        image_features: (N, E) of the gallery, L2-normalised.
        text_features: (M, E) of all captions, L2-normalised. Equal rows get equal cosines.
        image_of_caption: (M,) int64, which of the N images each caption describes.

    Attributes:
        image_of_caption: (M,), as given, a buffer.

    Raises:
        TypeError: If the model lacks a method, or a tensor has the wrong type.
        ValueError: If shapes do not fit, features are not normalised, or a caption belongs to no
            image.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.benchmarks.faithfulness import DeletionInsertion
        >>> clip = cci_captum.load_clip("tiny")
        >>> gallery = torch.rand(3, 3, 96, 96)
        >>> texts = [["a cat", "a cat on snow"], ["a dog"], ["a bus"]]
        >>> retrieval = CaptionRetrieval.from_pairs(clip.model, clip.tokenizer, gallery, texts)
        >>> captions = torch.tensor([0, 2])  # "a cat" and "a dog"
        >>> images = gallery[retrieval.image_of_caption[captions]]
        >>> maps = cci_captum.CCI(retrieval).patch_map(images, captions)
        >>> harness = DeletionInsertion(retrieval, score=retrieval.recalls)
        >>> harness(images, maps, captions).auc()["deletion_ir1"].shape
        torch.Size([2])
    """

    image_of_caption: Tensor
    _text_features: Tensor
    _row_of_caption: Tensor
    _rivals: Tensor

    def __init__(
        self,
        model: nn.Module,
        image_features: Tensor,
        text_features: Tensor,
        image_of_caption: Tensor,
    ) -> None:
        super().__init__()
        self._similarity = ImageTextSimilarity(model)
        _check_features("image", image_features)
        _check_features("text", text_features)
        if text_features.shape[1] != image_features.shape[1]:
            raise ValueError(
                f"text_features: expected {image_features.shape[1]} numbers a caption, as many as "
                f"in image_features, got {text_features.shape[1]}"
            )
        _check_indices("image_of_caption", image_of_caption, len(text_features), image_features)
        device = device_of(model)
        images, texts, owners = (
            tensor.to(device) for tensor in (image_features, text_features, image_of_caption)
        )
        # Equal captions as one row: a matrix product may round equal rows differently.
        rows, row_of_caption = torch.unique(texts, dim=0, return_inverse=True)
        for name, buffer in (
            ("image_of_caption", owners),
            ("_text_features", rows),
            ("_row_of_caption", row_of_caption),
            ("_rivals", _kth_rivals(images, texts, owners)),
        ):
            self.register_buffer(name, buffer, persistent=False)

    @classmethod
    @torch.no_grad()
    def from_pairs(
        cls,
        model: nn.Module,
        tokenizer: Callable[..., Tensor],
        inputs: Iterable[Tensor],
        captions: Sequence[Sequence[str]],
        batch_size: int = 64,
    ) -> CaptionRetrieval:
        """Encode a gallery.

        Args:
            model: See the class.
            tokenizer: From strings to (M, L) tokens. Captions that it cuts are warned about.
            inputs: N preprocessed images (3, H, W): one tensor (N, 3, H, W), or a data set that
                reads them as they are needed.
            captions: The captions of each image; an image may have none. Counted through, image
                by image, they are captions 0 to M - 1.
            batch_size: Images, or different captions, in one forward pass.

        Raises:
            TypeError: If the captions of an image are a string.
            ValueError: If there are not as many images as lists of captions, or no caption.
        """
        check_positive_int("batch_size", batch_size)
        texts = _flat(captions)
        if isinstance(inputs, Sized):
            _check_count(len(inputs), captions)
        text_features = encode_texts(model, checked(tokenizer)(texts), batch_size)
        image_features = encode_images(model, inputs, batch_size)
        _check_count(len(image_features), captions)
        owners = [image for image, own in enumerate(captions) for _ in own]
        return cls(model, image_features, text_features, torch.tensor(owners))

    def forward(self, images: Tensor, captions: Tensor | None = None) -> Tensor:
        """Cosines of images with all captions.

        Args:
            images: (B, 3, H, W) preprocessed images, perturbed or not.
            captions: None; or (B,) int64, the caption each is explained for, whose siblings on the
                same image then are no rivals: for scores over the captions, such as `Margin`.

        Returns:
            (B, M) cosines, at least float32; -inf for other captions of the image of `captions`.

        Raises:
            TypeError: If captions are not int64.
            ValueError: If they are not one an image, or there is no such caption.
        """
        if captions is not None:
            _check_indices("captions", captions, len(images), self.image_of_caption)
        cosines = self.cosines(self._similarity.encode_images(images))
        if captions is None:
            return cosines
        captions = captions.to(self.image_of_caption.device)
        return cosines.masked_fill(
            self._own(captions).scatter_(1, captions[:, None], False), -torch.inf
        )

    def logits(self, images: Tensor, captions: Tensor) -> Tensor:
        """The same, times the model's own logit scale, for scores over the captions.

        Args:
            images: See `forward`.
            captions: See `forward`; (B,).

        Returns:
            (B, M) logits, at least float32; -inf for other captions of the image of `captions`.
        """
        cosines = self(images, captions)
        with weights_at_hand(self._similarity.model):
            return cosines * self._similarity.model.logit_scale.exp().to(cosines)

    def cosines(self, features: Tensor) -> Tensor:
        """Cosines (n, M) of image features (n, E), L2-normalised, with all captions."""
        with torch.autocast(features.device.type, enabled=False):
            cosines = features @ self._text_features.to(features).T
        return cosines.to(self.image_of_caption.device)[:, self._row_of_caption]

    def recalls(self, cosines: Tensor, captions: Tensor) -> RetrievalCurve:
        """What images retrieve, and are retrieved by, for `DeletionInsertion`'s `score`.

        An image takes the place of the one that its caption describes; the rest of the gallery
        stays. Whatever is as high counts against the target, as in `Curve`: of two images that are
        the same, or two captions of different images, neither is retrieved first.

        Args:
            cosines: (n, M), as this module gives them without captions.
            captions: (n,) int64, the caption that each image is explained for.

        Returns:
            A `RetrievalCurve` of (n,) values.

        Raises:
            TypeError: If captions are not int64.
            ValueError: If they are not one an image, there is no such caption, or cosines are of
                another gallery.
        """
        if cosines.ndim != 2 or cosines.shape[1] != len(self.image_of_caption):
            raise ValueError(
                f"cosines: expected shape (n, {len(self.image_of_caption)}), one of each caption "
                f"of the gallery, got {tuple(cosines.shape)}"
            )
        _check_indices("captions", captions, len(cosines), self.image_of_caption)
        captions = captions.to(self.image_of_caption.device)
        score = cosines.gather(1, captions[:, None])
        own = self._own(captions)
        best = cosines.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)  # NaN stays
        above = (~(cosines < best) & ~own).sum(dim=1)
        wrong = ~best[:, 0].isfinite() | ~score[:, 0].isfinite()
        below = self._rivals[captions].to(score) < score - _ROUNDING
        recalled = {f"ir{k}": hit for k, hit in zip(KS, below.unbind(dim=1), strict=True)}
        recalled |= {f"tr{k}": (above < k) & ~wrong for k in KS}
        return RetrievalCurve(
            score=score[:, 0], **{name: hit.to(score.dtype) for name, hit in recalled.items()}
        )

    def _own(self, captions: Tensor) -> Tensor:
        """(n, M) bool, all captions of the image that each of these (n,) describes."""
        return self.image_of_caption == self.image_of_caption[captions][:, None]


def _kth_rivals(images: Tensor, texts: Tensor, image_of_caption: Tensor) -> Tensor:
    """(M, 3): each caption's 1st, 5th and 10th largest cosine with images other than its own.

    -inf where the gallery has not as many others. A caption retrieves its image within the first
    k where the k-th is below that image.
    """
    parts = []
    for rows, owners in zip(texts.split(_ROWS), image_of_caption.split(_ROWS), strict=True):
        cosines = (rows @ images.T.to(rows.dtype)).scatter_(1, owners[:, None], -torch.inf)
        best = cosines.topk(min(KS[-1], len(images)), dim=1).values
        padded = F.pad(best, (0, KS[-1] - best.shape[1]), value=-torch.inf)
        parts.append(padded[:, [k - 1 for k in KS]])
    return torch.cat(parts)


def _check_features(kind: str, features: Tensor) -> None:
    """Raise unless features are a matrix of unit rows."""
    argument = f"{kind}_features"
    if not isinstance(features, Tensor) or not features.is_floating_point():
        got = features.dtype if isinstance(features, Tensor) else type(features).__name__
        raise TypeError(f"{argument}: expected a floating point tensor, got {got}")
    if features.ndim != 2 or not features.numel():
        raise ValueError(
            f"{argument}: expected shape (n, E), one row for each {kind}, got "
            f"{tuple(features.shape)}"
        )
    lengths = features.norm(dim=1)
    wrong = ~((lengths - 1).abs() < 1e-2)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"{argument}: expected L2-normalised rows, got row {row} of length "
            f"{float(lengths[row]):.3g}; torch.nn.functional.normalize(features, dim=-1) gives them"
        )


def _check_indices(argument: str, indices: Tensor, count: int, indexed: Tensor) -> None:
    """Raise unless there are `count` int64 indices into the rows of `indexed`."""
    if not isinstance(indices, Tensor) or indices.dtype != torch.int64:
        got = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
        raise TypeError(f"{argument}: expected an int64 tensor, got {got}")
    if indices.shape != (count,):
        raise ValueError(f"{argument}: expected shape ({count},), got {tuple(indices.shape)}")
    low, high = (int(end) for end in indices.aminmax())
    if low < 0 or high >= len(indexed):
        raise ValueError(
            f"{argument}: expected indices from 0 to {len(indexed) - 1}, got {low} to {high}"
        )


def _flat(captions: Sequence[Sequence[str]]) -> list[str]:
    """All captions, image by image."""
    for image, own in enumerate(captions):
        if isinstance(own, str):
            raise TypeError(
                f"captions[{image}]: expected a list of captions for each image, got {own!r}; "
                "one caption is a list of one"
            )
    texts = [text for own in captions for text in own]
    if not texts:
        raise ValueError("captions: expected at least one caption, got none")
    return texts


def _check_count(count: int, captions: Sequence[Sequence[str]]) -> None:
    if count != len(captions):
        raise ValueError(
            f"captions: expected a list for each of the {count} images, got {len(captions)} lists"
        )
