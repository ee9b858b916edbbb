"""What each word of some texts adds to their match with images, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from ._checks import check_positive_int, chosen_rows
from .effects import ClusterEffects
from .models.words import Word


@dataclass(frozen=True, eq=False)
class ExplainedWords:
    """What one method says of the words of T texts and B images; see `Explanation.words`.

    W is the most words of a text; what a text does not have is NaN.

    Attributes:
        words: For each text its `cci_captum.models.words.Word`, which have `text` and the places
            in the text at which they stand.
        drops: (B, T, W), by how much hiding each word in the text encoder lowers the cosine.
        maps: (B, T, W, h, w), or (B, T, W, H, W') of methods with a value a pixel: where in the
            image that comes from, as `Explanation.maps`.
        effects: Of methods that hide clusters, what hiding each did to the `drops`; else None. Its
            targets are pairs (text, word).

    Example:
        >>> import cci_captum
        >>> from PIL import Image
        >>> photo = Image.new("RGB", (96, 96), "green")
        >>> explanation = cci_captum.explain(photo, ["a cat", "a big tree"], "tiny", words=True)
        >>> words = explanation.words
        >>> [[word.text for word in own] for own in words.words]
        [['a', 'cat'], ['a', 'big', 'tree']]
        >>> words.drops.shape, words.maps.shape
        (torch.Size([1, 2, 3]), torch.Size([1, 2, 3, 12, 12]))
    """

    words: tuple[tuple[Word, ...], ...]
    drops: Tensor
    maps: Tensor
    effects: ClusterEffects | None = None

    @classmethod
    def of_columns(
        cls,
        words: Sequence[Sequence[Word]],
        drops: Tensor,
        maps: Tensor,
        effects: ClusterEffects | None = None,
    ) -> ExplainedWords:
        """What is known of the words of all texts, one text after the other.

        Args:
            words: Of each text.
            drops: (B, n).
            maps: (B, n, h, w).
            effects: On outputs (B, n), of methods that hide clusters.
        """
        if effects is not None:
            effects = replace(
                effects,
                outputs=by_text(effects.outputs, words),
                masked_outputs=by_text(effects.masked_outputs, words),
            )
        return cls(tuple(map(tuple, words)), by_text(drops, words), _of_pairs(maps, words), effects)

    @property
    def region_drops(self) -> Tensor:
        """(B, T, W, K), by how much hiding a cluster lowers what a word adds to the cosine.

        With v, v_k the normalised features of the image and of the image with cluster k hidden,
        and t, t_w those of the text and of the text with word w hidden: (v - v_k) . (t - t_w).

        Raises:
            ValueError: If the method hides no clusters.
        """
        effects = self._of_clusters("region_drops")
        return _of_pairs(effects.drops(targets=self._pairs()), self.words)

    def drop_maps(self) -> Tensor:
        """(B, T, W, h, w), at each patch the `region_drops` of its cluster.

        Unlike `maps`, whose weights sum to 1 for each word, these can be compared between words.

        Raises:
            ValueError: If the method hides no clusters.
        """
        effects = replace(self._of_clusters("drop_maps"), normalization="none")
        return _of_pairs(effects.patch_map(targets=self._pairs()), self.words)

    def strongest(self, text: int, most: int | None) -> tuple[list[str], Tensor, Tensor]:
        """What pictures show of the words of one text.

        Args:
            text: Its index.
            most: How many words at most, those of the largest drops, in the text's order; None is
                all.

        Returns:
            Names, each once; drops (B, n); and maps (B, n, h, w), `drop_maps` of methods that hide
            clusters.

        Raises:
            ValueError: If most is neither a positive int nor None.
        """
        drops = self.drops[:, text, : len(self.words[text])]
        shown = list(range(drops.shape[1]))
        if most is not None:
            check_positive_int("most", most, " or None")
            largest = drops.abs().amax(dim=0).topk(min(most, len(shown)))
            shown = sorted(largest.indices.tolist())
        names = numbered([self.words[text][index].text for index in shown])
        if self.effects is None:
            return names, drops[:, shown], self.maps[:, text, shown]
        effects = replace(self.effects, normalization="none")
        return names, drops[:, shown], effects.patch_map(targets=[(text, i) for i in shown])

    def __getitem__(self, index: int | slice | Sequence[int]) -> ExplainedWords:
        """Of some of the images; of one where index is an int, still a batch.

        Raises:
            IndexError: If there is no such image.
        """
        chosen = chosen_rows(index, len(self.drops))
        effects = None if self.effects is None else self.effects[chosen]
        return replace(self, drops=self.drops[chosen], maps=self.maps[chosen], effects=effects)

    def _pairs(self) -> list[tuple[int, int]]:
        """Every (text, word)."""
        return [(text, word) for text, own in enumerate(self.words) for word in range(len(own))]

    def _of_clusters(self, what: str) -> ClusterEffects:
        if self.effects is None:
            raise ValueError(f"{what}: expected a method that hides clusters")
        return self.effects


def by_text(values: Tensor, words: Sequence[Sequence[Word]]) -> Tensor:
    """Values (..., n) of the n words of all texts, one text after the other, as (..., T, W).

    W is the most words of a text; what a text does not have is NaN.
    """
    counts = [len(own) for own in words]
    most = max(counts)
    parts = values.split(counts, dim=-1)
    padded = [F.pad(part, (0, most - part.shape[-1]), value=torch.nan) for part in parts]
    return torch.stack(padded, dim=-2)


def _of_pairs(values: Tensor, words: Sequence[Sequence[Word]]) -> Tensor:
    """(B, T, W, ...) of values (B, n, ...), one a word, one text after the other."""
    return by_text(values.movedim(1, -1), words).movedim((-2, -1), (1, 2))


def pieces(
    text: str, words: Sequence[Word], values: Sequence[float]
) -> list[tuple[str, float | None]]:
    """A text in pieces, each with the value of its word or None, as pictures of texts take it.

    Args:
        text: The text.
        words: Words of it.
        values: One a word.

    Raises:
        ValueError: If words overlap.

    Example:
        >>> from cci_captum.models.words import Word
        >>> pieces("a cat.", [Word("cat", ((2, 5),))], [0.5])
        [('a ', None), ('cat', 0.5), ('.', None)]
    """
    owner = [-1] * len(text)
    for index, word in enumerate(words):
        for start, stop in word.places:
            taken = {owner[place] for place in range(start, stop)} - {-1, index}
            if taken:
                both = [words[taken.pop()].text, word.text]
                raise ValueError(
                    f"words: expected words that do not overlap, to colour {text!r}, got {both}; "
                    "word_figure shows them all"
                )
            owner[start:stop] = [index] * (stop - start)
    found: list[tuple[str, float | None]] = []
    for index, letters in groupby(range(len(text)), key=lambda place: owner[place]):
        piece = "".join(text[place] for place in letters)
        found.append((piece, None if index < 0 else float(values[index])))
    return found


def numbered(names: Sequence[str]) -> list[str]:
    """The names, those that came before with their number.

    Example:
        >>> numbered(["a", "cat", "a", "dog"])
        ['a', 'cat', 'a (2)', 'dog']
    """
    counts = [list(names[: place + 1]).count(name) for place, name in enumerate(names)]
    return [f"{name} ({n})" if n > 1 else name for name, n in zip(names, counts, strict=True)]
