"""What each word of a text adds to its cosine with an image."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ._cut_texts import CheckedTokenizer, checked, warn_about_cuts
from ._encoders import check_clip
from ._tokens import tokenizer_for
from .clip import TextScores, text_features

_ROUNDINGS = 4  # units of rounding by which features of the same text may differ


class Word(NamedTuple):
    """A word of a text, or a phrase.

    Attributes:
        text: The word.
        places: From which character of the text to before which it stands, each time.
    """

    text: str
    places: tuple[tuple[int, int], ...]


class WordScores(TextScores):
    """What each word adds to the cosine of a text with an image: images -> (B, W).

    A word is hidden in the text encoder as CCI hides patches in the image encoder: no token
    attends to the word's in any layer, and every token keeps its place. With v the image's
    normalised features, t the text's and t_w the text's with word w hidden, the score is
    v . (t - t_w), by how much hiding the word lowers the cosine. Being linear in v, it is explained
    as any other score: where hiding region k turns v into v_k, the drop is
    (v - v_k) . (t - t_w), how much of what the word adds comes from that region.

    Words of no influence above the rounding of the text's features score 0.

    Args:
        model: A CLIP-like model whose text encoder is that of a CLIP or SigLIP of open_clip or
            transformers.
        tokenizer: See `ZeroShotClassifier`.
        text: The text.
        words: Words or phrases of the text, whose every occurrence is hidden. None is each word
            between white space by itself, without the punctuation round it. Words of which the
            model reads no token are left out then.

    Attributes:
        text: The text.
        words: Tuple of W `Word`.
        hidden: (W, L) bool, the tokens of each word.
        text_features: (W, D), t - t_w.

    Raises:
        TypeError: If the model lacks the methods, or its text encoder is of another kind.
        ValueError: If a phrase is not in the text, or shares a token with what is beside it; if
            the model reads none of it; or if there is no word.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> scores = WordScores(clip.model, clip.tokenizer, "a cat and a dog")
        >>> scores.class_names
        ('a', 'cat', 'and', 'a', 'dog')
        >>> scores(torch.zeros(2, 3, 96, 96)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[..., Tensor],
        text: str,
        words: Sequence[str] | None = None,
    ) -> None:
        check_clip(model)
        own = checked(tokenizer_for(model, tokenizer))
        warn_about_cuts(own.tokenize([text])[1], stacklevel=3)
        hidden = find_words(own, text, words)
        names = [word.text for word in hidden]
        super().__init__(model, names, word_features(model, own, text, hidden), logit_scale=1.0)
        self.text = text
        self.words = tuple(hidden)
        self.hidden = torch.stack([*hidden.values()])


@torch.inference_mode(False)  # where the caller may be: gradients never pass what is made there
def word_features(
    model: nn.Module, tokenizer: CheckedTokenizer, text: str, hidden: Mapping[Word, Tensor]
) -> Tensor:
    """(W, D), t - t_w of each word of a text; see `WordScores`.

    Args:
        model: A CLIP-like model.
        tokenizer: Its own.
        text: The text.
        hidden: What `find_words` found in it.

    Raises:
        TypeError: If the text encoder is of a kind that is not known.
        RuntimeError: If it reads hidden tokens all the same.
    """
    (tokens,), _ = tokenizer.tokenize([text])
    masks = torch.stack([torch.zeros_like(tokens, dtype=torch.bool), *hidden.values()])
    rows = tokens.expand(len(masks), -1)
    features, rounding = text_features(model, rows, masks)
    others = torch.where(masks, rows.roll(1, dims=1), rows)  # what stands before each
    seen = text_features(model, others, masks)[0] - features
    if bool((seen.norm(dim=1) > rounding).any()):  # hidden keys weigh nothing at all
        raise RuntimeError(
            "model: expected a text encoder that does not read what is hidden from its attention, "
            f"got features of {text!r} that depend on it all the same (attention that ignores "
            "masks, dropout, or a text without an end, whose last word the features are read from?)"
        )
    added = features[0] - features[1:]
    added[added.norm(dim=1) <= _ROUNDINGS * rounding] = 0.0
    return added


def find_words(
    tokenizer: CheckedTokenizer, text: str, words: Sequence[str] | None = None
) -> dict[Word, Tensor]:
    """Which tokens of a text each of its words is, (L,) bool.

    Nothing is asked of the tokenizer but tokens: a beginning of the text has those that the text
    begins with, unless it ends within a token.

    Args:
        tokenizer: From strings to tokens (B, L).
        text: The text.
        words: See `WordScores`.

    Raises:
        TypeError: If words are no list of strings.
        ValueError: See `WordScores`.
    """
    reading = _Reading(tokenizer, text)
    if words is not None:
        return {word: reading.of_phrase(word) for word in _phrases(text, words)}
    found = {}
    for match in re.finditer(r"\S+", text):
        place = _stripped(match)
        hidden = reading.between(*place)
        if hidden is None or not bool(hidden.any()):  # tokens hold what is round it, too
            place = match.span()
            hidden = reading.between(*place)
        if hidden is None:
            warnings.warn(
                f"words: {match.group()!r} is left out, which shares a token with what is beside "
                f"it in {text!r}",
                stacklevel=4,
            )
        elif bool(hidden.any()):
            found[Word(text[slice(*place)], (place,))] = hidden
    if not found:
        raise ValueError(f"text: expected at least one word that the model reads, got {text!r}")
    return found


class _Reading:
    """How a tokenizer reads one text."""

    def __init__(self, tokenizer: CheckedTokenizer, text: str) -> None:
        self.text = text
        self._tokenizer = tokenizer
        (whole, empty), _ = tokenizer.tokenize([text, ""])
        # What an empty text has too begins, ends or fills up; it may also stand within a text.
        new = (whole != empty).nonzero().flatten().tolist()
        own = (~torch.isin(whole, empty)).nonzero().flatten().tolist()
        self._special = empty
        self.tokens = whole
        self._first: int = new[0] if new else 0
        self._end: int = own[-1] + 1 if own else self._first

    def between(self, start: int, stop: int) -> Tensor | None:
        """(L,) bool, the tokens from one character to before another; None if one is cut."""
        ends = (self._tokens_before(start), self._tokens_before(stop))
        if ends[0] is None or ends[1] is None:
            return None
        hidden = torch.zeros_like(self.tokens, dtype=torch.bool)
        hidden[ends[0] : ends[1]] = True
        return hidden

    def of_phrase(self, word: Word) -> Tensor:
        """(L,) bool, the tokens of every occurrence.

        Raises:
            ValueError: If there are none, or one is cut.
        """
        hidden = torch.zeros_like(self.tokens, dtype=torch.bool)
        for start, stop in word.places:
            here = self.between(start, stop)
            if here is None:
                raise ValueError(
                    f"words: expected words whose tokens are their own, got {word.text!r}, which "
                    f"shares one with what is beside it in {self.text!r}"
                )
            hidden |= here
        if not bool(hidden.any()):
            raise ValueError(
                f"words: expected words that the model reads, got {word.text!r}, of which it reads "
                f"nothing in {self.text!r}"
            )
        return hidden

    def _tokens_before(self, stop: int) -> int | None:
        """Where the tokens of the first characters end; None if within one of the whole text's."""
        beginning = self.text[:stop].rstrip()
        if not beginning:
            return self._first
        (tokens,), _ = self._tokenizer.tokenize([beginning])
        own = (~torch.isin(tokens, self._special)).nonzero().flatten().tolist()
        end = min(own[-1] + 1 if own else self._first, self._end)
        same = torch.equal(tokens[self._first : end], self.tokens[self._first : end])
        return end if same else None


def _stripped(match: re.Match[str]) -> tuple[int, int]:
    """The span of a match without punctuation at its ends; as it is if there is nothing else.

    Marks and joiners stay with what they follow.
    """
    kinds = [unicodedata.category(character)[0] for character in match.group()]
    first = next((place for place, kind in enumerate(kinds) if kind in "LNS"), None)
    if first is None:
        return match.span()
    last = max(place for place, kind in enumerate(kinds) if kind in "LNSMC")
    return match.start() + first, match.start() + last + 1


def _phrases(text: str, words: Sequence[str]) -> list[Word]:
    """The words of a list, with their places in the text.

    Raises:
        TypeError: If one is no string.
        ValueError: If there is none, one is listed twice, or one is not in the text.
    """
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"words: expected a list of words of {text!r}, got {words!r}")
    if not words or len(set(words)) < len(words):
        raise ValueError(f"words: expected different words of {text!r}, got {list(words)}")
    found = []
    for word in words:
        pattern = re.compile(f"(?=({re.escape(word)}))")  # those that overlap, too
        spans = [match.span(1) for match in pattern.finditer(text)] if word else []
        places = tuple(span for span in spans if _stands_alone(text, *span))
        if not places:
            raise ValueError(f"words: expected words of {text!r}, got {word!r}")
        found.append(Word(word, places))
    return found


def _stands_alone(text: str, start: int, stop: int) -> bool:
    """Whether a part of a text begins and ends where words do; anywhere in scripts without them."""
    return not any(
        _in_word(text[edge - 1]) and _in_word(text[edge])
        for edge in (start, stop)
        if 0 < edge < len(text)
    )


def _in_word(character: str) -> bool:
    """Whether a letter has others of its word beside it."""
    without = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
    return (character.isalnum() or character == "_") and not unicodedata.name(
        character, ""
    ).startswith(without)
