"""A CLIP that is in memory already, with what prepares its images and its texts."""

from __future__ import annotations

from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import nn

from ._cut_texts import checked
from ._encoders import check_clip
from ._tokens import tokenizer_for
from ._transformers import MODEL_TYPES, preprocessing_of
from .loading import LoadedCLIP

_CLIP_VOCABULARY = 49408  # that of OpenAI's byte pairs, and of no other tokenizer of open_clip


def as_clip(model: nn.Module, processor: Any = None, *, name: str | None = None) -> LoadedCLIP:
    """A model object with what belongs to it, as `load_clip` would have loaded it.

    Args:
        model: A CLIP-like model in eval mode: transformers' `CLIPModel`, `SiglipModel`,
            `Siglip2Model` or MetaCLIP 2's, also within peft; or open_clip's. It is not changed.
        processor: What prepares images and texts. Of models of transformers, their
            `AutoProcessor`; None loads that from where the model came from. Of all others, a pair
            (preprocess, tokenizer), as `load_clip` returns them; None takes those of an open_clip
            model where it knows them: the preprocessing of its weights, and OpenAI's tokenizer
            where the model has its vocabulary.
        name: What tables and pictures call it; None is where it came from, or its class.

    Returns:
        A `LoadedCLIP`. Texts become tokens as in the training of the model's family, whatever the
        version of transformers (docs/texts.md).

    Raises:
        TypeError: If model is not CLIP-like, or processor is of another kind.
        ValueError: If model is in train mode, if what prepares its images or texts is not known,
            or if model is of a kind of transformers that `load_clip` refuses.

    Example:
        >>> import cci_captum
        >>> model, preprocess, tokenizer, _ = cci_captum.load_clip("tiny")
        >>> cci_captum.as_clip(model, (preprocess, tokenizer), name="mine").name
        'mine'
    """
    check_clip(model)
    if model.training:
        raise ValueError(
            "model: expected one in eval mode, got one in train mode, whose outputs depend on "
            "chance; model.eval() sets it"
        )
    pair = processor if isinstance(processor, tuple) else None
    if pair is not None and not (len(pair) == 2 and all(map(callable, pair))):
        raise TypeError(
            f"processor: expected (preprocess, tokenizer), got {[type(p).__name__ for p in pair]}"
        )
    if pair is None:
        of_transformers = hasattr(getattr(model, "config", None), "model_type")
        pair = (_of_transformers if of_transformers else _of_open_clip)(model, processor)
    preprocess, tokenizer = pair
    source = getattr(model, "name_or_path", "") or type(model).__name__
    own = checked(tokenizer_for(model, tokenizer))
    return LoadedCLIP(model, preprocess, own, name or source)


def _of_transformers(model: Any, processor: Any) -> tuple[Any, Any]:
    if model.config.model_type not in MODEL_TYPES:
        raise ValueError(
            f"model: expected one of type {', '.join(MODEL_TYPES)}, got {model.config.model_type!r}"
        )
    if processor is None:
        processor = _load_processor(model)
    parts = [getattr(processor, part, None) for part in ("image_processor", "tokenizer")]
    if any(part is None for part in parts):
        raise TypeError(
            "processor: expected an AutoProcessor of transformers, with image_processor and "
            f"tokenizer, or a pair (preprocess, tokenizer), got {type(processor).__name__}"
        )
    return preprocessing_of(parts[0], model.config), parts[1]


def _load_processor(model: Any) -> Any:
    import transformers

    source = getattr(model, "name_or_path", "")
    try:
        if not source:
            raise OSError("it was not loaded from a folder or repository")
        return transformers.AutoProcessor.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"processor: expected the AutoProcessor of {type(model).__name__}, got None, and none "
            f"was found: {str(error).splitlines()[0]}"
        ) from error


def _of_open_clip(model: Any, processor: Any) -> tuple[Any, Any]:
    if processor is not None:
        raise TypeError(
            f"processor: expected a pair (preprocess, tokenizer) for {type(model).__name__}, got "
            f"{type(processor).__name__}"
        )
    settings = getattr(getattr(model, "visual", None), "preprocess_cfg", None)
    text = getattr(model, "text", model)
    embedding = getattr(text, "token_embedding", None)
    words = embedding.num_embeddings if isinstance(embedding, nn.Embedding) else None
    length = getattr(model, "context_length", None)
    if settings is None or words != _CLIP_VOCABULARY or length is None:
        lacking = "preprocessing" if settings is None else "tokenizer"
        raise ValueError(
            f"processor: expected (preprocess, tokenizer), got None, and {type(model).__name__} "
            f"does not say its {lacking}"
        )
    preprocess = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    return preprocess, open_clip.SimpleTokenizer(context_length=length)
