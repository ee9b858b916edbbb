"""Texts that are longer than a model reads: which they are, and what is lost of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

_SHOWN_TEXTS = 3  # in a warning
_SHOWN_CHARACTERS = 60  # of each


class CutText(NamedTuple):
    """A text that is longer than a model reads.

    Attributes:
        text: The whole text.
        lost: Its end, from the first word on that is not read, or not to its last letter; letters
            instead of words where the text is one word.
    """

    text: str
    lost: str


class CheckedTokenizer:
    """A tokenizer that warns of the texts that it cuts; the tokens are its own.

    A tokenizer that takes a `context_length`, as open_clip's and those of `load_clip` do, is
    asked again with room for one token more: a text that fills it was cut. Any other is asked
    again without the last word of each text that leaves no room for padding: where that changes
    nothing, the word was not read. So a text that it cuts within the last word is not noticed,
    nor one whose last two tokens are the same.

    Args:
        tokenizer: From strings to tokens (B, L) int64.
    """

    def __init__(self, tokenizer: Callable[..., Tensor]) -> None:
        self.tokenizer = tokenizer
        self._takes_length = _takes_context_length(tokenizer)

    def __getattr__(self, name: str) -> Any:
        """Whatever else the tokenizer has, such as open_clip's `encode` and `decode`."""
        if name == "tokenizer":  # not there yet while it is copied
            raise AttributeError(name)
        return getattr(self.tokenizer, name)

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """The tokenizer's own tokens (B, L), with one UserWarning for all texts that are cut.

        Args:
            texts: B texts; one string is a list of one.
            context_length: L, for tokenizers that take it; None is the model's own.
        """
        tokens, cut = self.tokenize(texts, context_length)
        warn_about_cuts(cut, stacklevel=3)
        return tokens

    def tokenize(
        self, texts: str | Sequence[str], context_length: int | None = None
    ) -> tuple[Tensor, tuple[CutText, ...]]:
        """The tokens, and the texts that are cut, each once, without a warning."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        options = {} if context_length is None else {"context_length": context_length}
        tokens = self.tokenizer(texts, **options)
        if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.shape[1] < 2:
            return tokens, ()
        full = (tokens[:, -1] != tokens[:, -2]).tolist()  # no room is left for padding
        rows = {
            text: row for text, row, is_full in zip(texts, tokens, full, strict=True) if is_full
        }
        return tokens, self._cut(rows)

    def _cut(self, rows: dict[str, Tensor]) -> tuple[CutText, ...]:
        """Those that are cut of some texts, given the tokens (L,) of each."""
        words = {text: _words(text) for text in rows if text.strip()}
        high = {text: len(own) for text, own in words.items()}
        high = {t: high[t] for t, is_read in self._reads(rows, words, high).items() if not is_read}
        low = dict.fromkeys(high, 0)  # so many words are read, and fewer than high
        while middle := {t: (low[t] + high[t]) // 2 for t in high if high[t] - low[t] > 1}:
            for text, is_read in self._reads(rows, words, middle).items():
                (low if is_read else high)[text] = middle[text]
        return tuple(CutText(t, "".join(words[t][read:]).strip()) for t, read in low.items())

    def _reads(
        self, rows: dict[str, Tensor], words: dict[str, list[str]], counts: dict[str, int]
    ) -> dict[str, bool]:
        """Whether so many words of each text are read, the last of them included."""
        if not counts:
            return {}
        length = len(next(iter(rows.values())))
        if self._takes_length:
            beginnings = ["".join(words[text][:count]) for text, count in counts.items()]
            padding = self.tokenizer([""], context_length=length).mode().values
            used = [
                (self.tokenizer(beginnings, context_length=room) != padding).sum(dim=1)
                for room in (length, length + 1)
            ]
            found = used[0] == used[1]
        else:  # only whether it is read at all
            beginnings = ["".join(words[text][: count - 1]) for text, count in counts.items()]
            others = self.tokenizer(beginnings)
            same_length = others.shape[1] == length
            found = torch.tensor(
                [
                    not (same_length and torch.equal(rows[text], other))
                    for text, other in zip(counts, others, strict=True)
                ]
            )
        return dict(zip(counts, found.tolist(), strict=True))


def checked(tokenizer: Callable[..., Tensor]) -> CheckedTokenizer:
    """The tokenizer as one that warns of texts that it cuts; unchanged if it is one already."""
    return tokenizer if isinstance(tokenizer, CheckedTokenizer) else CheckedTokenizer(tokenizer)


def warn_about_cuts(cut: Sequence[CutText], stacklevel: int = 2) -> None:
    """One UserWarning for all texts that are cut; none where there are none.

    Args:
        cut: The texts.
        stacklevel: As `warnings.warn` takes it.
    """
    if cut:
        warnings.warn(describe_cuts(cut), stacklevel=stacklevel)


def describe_cuts(cut: Sequence[CutText]) -> str:
    """How many texts are cut, and what the first ones lose.

    Example:
        >>> describe_cuts([CutText("a cat on a mat", "a mat")])
        "1 text is longer than the model reads: 'a cat on a mat' loses 'a mat'"
    """
    shown = "; ".join(f"{_short(text)} loses {_short(lost)}" for text, lost in cut[:_SHOWN_TEXTS])
    more = f"; and {len(cut) - _SHOWN_TEXTS} more" if len(cut) > _SHOWN_TEXTS else ""
    subject = "1 text is" if len(cut) == 1 else f"{len(cut)} texts are"
    return f"{subject} longer than the model reads: {shown}{more}"


def _words(text: str) -> list[str]:
    """The words with the space before each; the letters where there is one word."""
    words = re.findall(r"\s*\S+", text)
    return words if len(words) > 1 else list(text.strip())


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= _SHOWN_CHARACTERS else f"{line[: _SHOWN_CHARACTERS - 4]} ...")


def _takes_context_length(tokenizer: Callable[..., Any]) -> bool:
    try:
        return "context_length" in signature(tokenizer).parameters
    except (TypeError, ValueError):  # what is written in C may have no signature
        return False
