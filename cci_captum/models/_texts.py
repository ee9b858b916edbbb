"""What training did to a family's texts that the files of its tokenizer do not say."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from open_clip.tokenizer import get_clean_fn
from torch import Tensor

# The multilingual T5 vocabulary, with or without the tokens that fill it up.
_MT5_VOCABULARY = range(250_000, 250_113)


class Family(NamedTuple):
    """How texts become tokens, the same in every checkpoint of a family.

    Padding is on the right, and an end that follows the text stays where the text is cut.

    Attributes:
        clean: What is done to a text first, as open_clip names it: "lower" (lower case) or
            "canonicalize" (lower case, no punctuation, spaces for underscores); both, and
            "whitespace", also mend broken Unicode and HTML entities, and leave one space
            between words.
        begins: Whether a token for the beginning precedes a text.
        pad: The token that follows the end; None is the one that the tokenizer's files name.
    """

    clean: str
    begins: bool
    pad: int | None


CLIP = Family("lower", begins=True, pad=0)
SIGLIP = Family("canonicalize", begins=False, pad=None)
METACLIP_2 = Family("whitespace", begins=True, pad=None)
METACLIP_2_MT5 = Family("canonicalize", begins=False, pad=0)


def find_family(config: Any, tokenizer: Any) -> Family | None:
    """The family of a transformers checkpoint, by its configuration and its tokenizer's class.

    Sources: open_clip's configurations of the same weights, with their `tokenizer_kwargs`; for
    SigLIP also big_vision's demos and `prompt_engineering.canonicalize_text` ("sticky" end, no
    beginning; SigLIP 2 was trained on lower case, and is evaluated without punctuation). SigLIP 2
    of fixed resolution has the model_type of SigLIP: both do the same to texts, whatever the
    vocabulary.

    Args:
        config: Of the model, with a `model_type` and a `text_config`.
        tokenizer: Of the same checkpoint.

    Returns:
        None where the tokenizer is not one that models of this type were trained with.
    """
    kind = type(tokenizer).__name__
    if config.model_type in ("siglip", "siglip2"):
        return SIGLIP
    if config.model_type == "clip" and kind.startswith("CLIPTokenizer"):
        return CLIP
    if config.model_type == "metaclip_2":
        if kind.startswith("XLMRoberta"):
            return METACLIP_2
        sentencepiece = kind.startswith(("Siglip", "T5", "MT5"))
        if sentencepiece or config.text_config.vocab_size in _MT5_VOCABULARY:
            return METACLIP_2_MT5
    return None


class FamilyTokenizer:
    """Tokens of texts, as they were in the training of a transformers checkpoint.

    The tokenizer cuts a text to pieces. What comes before is the family's; beginning, end and
    padding are put around the pieces here, for they differ with the version of transformers
    where a checkpoint's files are silent. Of a checkpoint that belongs to no known family, texts
    are given to its tokenizer as they are, with a UserWarning.

    Args:
        tokenizer: Of transformers.
        config: Of the checkpoint's model.

    Raises:
        ValueError: If the tokenizer has no token for the end of a text.
    """

    def __init__(self, tokenizer: Any, config: Any) -> None:
        family, kind = find_family(config, tokenizer), type(tokenizer).__name__
        if family is None:
            warnings.warn(
                f"tokenizer: {kind} is not known for checkpoints of type "
                f"{config.model_type}: texts are given to it as they are; case and punctuation are "
                "left to you",
                stacklevel=2,
            )
        self.tokenizer = tokenizer
        self.context_length: int = config.text_config.max_position_embeddings
        # To open_clip, the name of CLIP's end token in a text is letters like any others.
        self._options = {"add_special_tokens": False, "split_special_tokens": family is CLIP}
        self._clean = None if family is None else get_clean_fn(family.clean)
        begin, end, pad = (getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
        if family is not None:
            begin = begin if family.begins else None
            pad = pad if family.pad is None else family.pad
        if end is None:
            raise ValueError(f"tokenizer: expected an end token, {kind} has none")
        self._beginning = [] if begin is None else [begin]
        self._end: int = end
        self._pad: int = end if pad is None else pad

    def __call__(self, texts: str | list[str], context_length: int | None = None) -> Tensor:
        """Tokens (B, L) int64 of one text or several.

        Args:
            texts: B texts; one string is a list of one.
            context_length: L; None is the model's own.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        length = context_length or self.context_length
        tokens = torch.full((len(texts), length), self._pad, dtype=torch.int64)
        if not texts:
            return tokens
        cleaned = texts if self._clean is None else [self._clean(text) for text in texts]
        pieces = self.tokenizer(cleaned, verbose=False, **self._options).input_ids
        for row, ids in zip(tokens, pieces, strict=True):
            kept = [*self._beginning, *ids][: length - 1]
            row[: len(kept) + 1] = torch.tensor([*kept, self._end])
        return tokens
