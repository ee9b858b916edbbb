"""The one line: images and texts in, an `Explanation` out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .attribution.native_map import native_map, view_of_map
from .cci import CCI
from .effects import ClusterEffects
from .explained_words import ExplainedWords
from .explanation import Explanation
from .models._cut_texts import checked
from .models._encoders import image_device
from .models._tokens import tokenizer_for
from .models.as_clip import as_clip
from .models.clip import TextScores, ZeroShotClassifier
from .models.loading import LoadedCLIP, load_clip
from .models.scores import find_score
from .models.words import Word, find_words, word_features
from .photos import Photo, read_photos
from .tiny import MODEL_NAMES as TINY_MODELS
from .tiny import never_learnt

_COSINE = "cosine"
_OPENAI = "openai"
_WITH_WEIGHTS = (*TINY_MODELS, "hf:", "hf-hub:", "local-dir:")  # how such names begin


def explain(
    images: Any,
    texts: str | Sequence[str],
    model: str | nn.Module | LoadedCLIP = "ViT-B-16",
    pretrained: str | None = _OPENAI,
    *,
    method: Callable[[nn.Module], Any] = CCI,
    score: str | None = None,
    words: bool | Sequence[str] | Sequence[Sequence[str]] = False,
    device: str | torch.device | None = None,
    internal_batch_size: int | None = 32,
    show_progress: bool = False,
) -> Explanation:
    """Which parts of images match which texts.

    Args:
        images: Files, PIL images, uint8 arrays (H, W, 3) or tensors (3, H, W); or floating point
            tensors (3, H, W), which are the model's inputs as its preprocess gives them. One, a
            list of them, or a batch.
        texts: The texts that every image is compared with.
        model: A name that `load_clip` knows, a `LoadedCLIP`, or a model object, which `as_clip`
            takes without a processor.
        pretrained: Tag of the weights of a name; the default is left out where a name comes with
            its weights ("tiny", "hf:...").
        method: From a module with (B, T) outputs to an attribution: `CCI`, a class of
            `cci_captum.baselines`, a `MethodSpec`, `functools.partial(CCI, hide="drop")`, ...
        score: What of the outputs is explained. None is the cosine of each text by itself;
            "logit", "log-probability" and "margin" are of the cosines times the model's own logit
            scale, the latter two of each text among the others, which takes two texts.
        words: Whether what each word of the texts adds is explained too, in the same passes where
            the method hides clusters; see `Explanation.words`. Or the words and phrases to explain:
            a list of them for each text, or of one text its list. Takes texts by themselves:
            score None, and a CLIP or SigLIP of open_clip or transformers.
        device: Where a model is loaded to; None is a GPU if there is one. A model object is used
            where it is.
        internal_batch_size: Most images in one forward pass; see `CCI.attribute`.
        show_progress: Show a progress bar on stderr.

    Returns:
        An `Explanation`: scores, maps, drops, pictures.

    Raises:
        FileNotFoundError: If there is no such image.
        TypeError: If an argument is of another kind.
        ValueError: If an image cannot be read, a text is empty, or model or score is unknown; see
            also `WordScores`.
        RuntimeError: If the text encoder reads words that are hidden from its attention.

    Example:
        >>> import cci_captum
        >>> from PIL import Image
        >>> explanation = cci_captum.explain(
        ...     Image.new("RGB", (96, 96), "green"), ["a cat", "a tree"], "tiny"
        ... )
        >>> explanation.scores.shape, explanation.maps.shape, explanation.drops.shape[:2]
        (torch.Size([1, 2]), torch.Size([1, 2, 12, 12]), torch.Size([1, 2]))
    """
    texts = _check_texts(texts)
    own_score = _score_of(method)
    if score is not None:
        find_score(score)
    chosen = score or (own_score if own_score != "logit" else _COSINE)
    if chosen in ("log-probability", "margin") and len(texts) < 2:
        raise ValueError(
            f"texts: {chosen} compares a text with the others; expected at least two, got one"
        )
    if not callable(method):
        raise TypeError(
            "method: expected a class like cci_captum.CCI, MethodSpec.parse('cci') or another "
            f"function from forward_func to an attribution, got {method!r}"
        )
    if words is not False and chosen != _COSINE:
        raise ValueError(
            "words: expected score None, since a word is hidden in its own text whatever the "
            f"others are, got score {chosen!r}"
        )
    clip = _load(model, pretrained, device)
    spoken = None if words is False else _Spoken.of(clip, texts, words)
    if isinstance(images, Prepared):
        prepared = images
        if prepared.cosines.class_names != texts:
            raise ValueError(f"texts: expected {prepared.cosines.class_names}, got {texts}")
    else:
        prepared = prepare(images, texts, clip)
        if unknown := never_learnt(clip.name, texts):
            warnings.warn(f"texts: {unknown}", stacklevel=2)
    photos, inputs, cosines = prepared
    given: nn.Module = cosines
    if chosen != _COSINE:
        logits = TextScores(clip.model, texts, cosines.text_features)
        given = find_score(score or "logit")(logits)
    options: dict[str, Any] = {
        "internal_batch_size": internal_batch_size,
        "show_progress": show_progress,
    }
    explainer = method(given)
    effects = None
    if isinstance(explainer, CCI):  # the same passes serve all texts, and all their words
        if spoken is not None:
            given = spoken.beside(cosines)
            explainer = method(given)
        effects = explainer.effects(inputs, **options)
    explained = getattr(explainer, "forward_func", given)
    if spoken is not None and explained is not given:
        raise ValueError(
            "words: expected a method that explains the cosines that it is given, got one that "
            f"explains a {type(explained).__name__} of them"
        )
    own = None if effects is None else _columns(effects, slice(len(texts)))
    if own is None:
        maps = _maps(explainer, inputs, len(texts), options)
        scores = _run(explained, inputs, internal_batch_size)
    else:
        maps, scores = own.patch_map(targets=range(len(texts))), own.outputs
    known = chosen == _COSINE and explained is given
    return Explanation(
        names=tuple(photo.name for photo in photos),
        photos=tuple(photo.image for photo in photos),
        texts=texts,
        scores=scores,
        similarities=scores if known else _run(cosines, inputs, internal_batch_size),
        maps=maps,
        inputs=inputs,
        field_of_view=tuple(photo.area for photo in photos),
        covered=view_of_map(explainer, inputs, maps),
        model=clip.name,
        method=str(getattr(method, "title", "") or type(explainer).__name__),
        score=chosen,
        effects=own,
        words=None if spoken is None else spoken.explained(method, effects, inputs, options),
    )


class Prepared(NamedTuple):
    """What `explain` makes of its images and texts before it explains anything."""

    photos: list[Photo]
    inputs: Tensor  # (B, 3, H, W), where the model is
    cosines: ZeroShotClassifier


def prepare(images: Any, texts: Sequence[str], clip: LoadedCLIP) -> Prepared:
    """For several calls of `explain` with the same texts and model, which take it as images."""
    photos = read_photos(images, clip.preprocess)
    inputs = torch.stack([photo.inputs for photo in photos]).to(image_device(clip.model))
    cosines = ZeroShotClassifier(clip.model, clip.tokenizer, texts, "{}", logit_scale=1.0)
    return Prepared(photos, inputs, cosines)


class _Spoken(NamedTuple):
    """The words of T texts.

    Attributes:
        words: Of each text.
        scores: Of each text, what its words add.
    """

    words: tuple[tuple[Word, ...], ...]
    scores: tuple[TextScores, ...]

    @classmethod
    def of(cls, clip: LoadedCLIP, texts: Sequence[str], words: Any) -> _Spoken:
        """Those of `explain`'s arguments.

        Raises:
            TypeError: If words are of another kind, or the model's text encoder is.
            ValueError: If there is not a list for each text; see also `WordScores`.
        """
        listed: Any = [None] * len(texts) if words is True else words
        if not isinstance(listed, (list, tuple)) or any(isinstance(own, bool) for own in listed):
            raise TypeError(
                f"words: expected True, or a list of words for each text, got {words!r}"
            )
        if len(texts) == 1 and listed and isinstance(listed[0], str):
            listed = [listed]
        if len(listed) != len(texts):
            raise ValueError(
                f"words: expected a list of words for each of {len(texts)} texts, got {words!r}"
            )
        tokenizer = checked(tokenizer_for(clip.model, clip.tokenizer))
        found, scores = [], []
        for text, own in zip(texts, listed, strict=True):
            hidden = find_words(tokenizer, text, own)
            added = word_features(clip.model, tokenizer, text, hidden)
            found.append(tuple(hidden))
            scores.append(TextScores(clip.model, [word.text for word in hidden], added, 1.0))
        return cls(tuple(found), tuple(scores))

    def beside(self, cosines: TextScores) -> TextScores:
        """The cosines of the texts, then what each word adds, of the same image features."""
        all_scores = (cosines, *self.scores)
        names = [name for scores in all_scores for name in scores.class_names]
        features = torch.cat([scores.text_features for scores in all_scores])
        return TextScores(cosines.model, names, features, logit_scale=1.0)

    def explained(
        self,
        method: Callable[[nn.Module], Any],
        effects: ClusterEffects | None,
        inputs: Tensor,
        options: dict[str, Any],
    ) -> ExplainedWords:
        """What a method says of the words.

        Args:
            method: See `explain`.
            effects: Of `beside`, where the method hides clusters.
            inputs: (B, 3, H, W).
            options: Of every method's `attribute`.
        """
        if effects is not None:
            count = sum(map(len, self.words))
            own = _columns(effects, slice(-count, None))
            maps = own.patch_map(targets=range(count))
            return ExplainedWords.of_columns(self.words, own.outputs, maps, own)
        all_drops, all_maps = [], []
        for scores in self.scores:
            all_drops.append(_run(scores, inputs, options["internal_batch_size"]))
            all_maps.append(_maps(method(scores), inputs, len(scores.class_names), options))
        drops, maps = torch.cat(all_drops, dim=1), torch.cat(all_maps, dim=1)
        return ExplainedWords.of_columns(self.words, drops, maps)


def _columns(effects: ClusterEffects, columns: slice) -> ClusterEffects:
    """The effects on some of the outputs (B, C)."""
    return replace(
        effects,
        outputs=effects.outputs[:, columns],
        masked_outputs=effects.masked_outputs[:, :, columns],
    )


def _maps(explainer: Any, inputs: Tensor, count: int, options: dict[str, Any]) -> Tensor:
    """Maps (B, C, h, w) of each of so many outputs."""
    maps = [native_map(explainer, inputs, index, **options) for index in range(count)]
    return torch.stack(maps, dim=1)


def _check_texts(texts: str | Sequence[str]) -> tuple[str, ...]:
    listed = (texts,) if isinstance(texts, str) else tuple(texts)
    if not listed:
        raise ValueError("texts: expected at least one text, got none")
    for text in listed:
        if not isinstance(text, str):
            raise TypeError(f"texts: expected strings, got {type(text).__name__}")
        if not text.strip():
            raise ValueError("texts: expected some words, got an empty text")
    return listed


def _score_of(method: Any) -> str:
    """The score that a `MethodSpec` explains of the logits that it is given."""
    return str(getattr(method, "values", {}).get("score", "logit"))


def _load(model: Any, pretrained: Any, device: Any) -> LoadedCLIP:
    if isinstance(model, tuple) and not isinstance(model, LoadedCLIP):
        raise TypeError("model: expected one object; as_clip(model, processor) makes it of a pair")
    if not isinstance(pretrained, str | None):
        raise TypeError(
            "pretrained: expected a tag of weights or None, got "
            f"{type(pretrained).__name__}; as_clip(model, processor) makes one model of both"
        )
    if isinstance(model, (str, Path)):
        name = str(model)
        if pretrained == _OPENAI and name.startswith(_WITH_WEIGHTS):
            pretrained = None
        return load_clip(name, pretrained, device or _any_gpu())
    if device is not None:
        raise ValueError(
            f"device: expected None, since a model object stays where it is, got {device!r}"
        )
    return model if isinstance(model, LoadedCLIP) else as_clip(model)


def _any_gpu() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@torch.no_grad()
def _run(forward_func: Any, inputs: Tensor, batch_size: int | None) -> Tensor:
    return torch.cat([forward_func(part) for part in inputs.split(batch_size or len(inputs))])
