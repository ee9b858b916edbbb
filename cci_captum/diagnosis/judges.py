"""Which classes look alike: whether an error is one of fine distinction.

A judge is any function from the names of the predicted and the true class to a bool. The paper of
CCI (arXiv 2511.12978) asks a language model; `FineGrainedJudge` asks WordNet, or a table of pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from . import wordnet


class FineGrainedJudge:
    """Classes look alike that are near in WordNet, or that a table of pairs names.

    Near are classes whose path over what both are kinds of has at most `most_edges` edges, see
    `cci_captum.diagnosis.wordnet.distance`. Four is the least that holds the paper's own example,
    siamang and chimpanzee; of all pairs of ImageNet's classes that are 1.5 %. It is a rule about
    kinds, not about looks: a judge of looks is any function of two names.

    Args:
        most_edges: Of the path, 0 or more; None: only pairs count.
        pairs: Names that look alike, too, each way round.
        names: All class names that may come. Either a sequence, or a mapping from each name to what
            `wordnet.find` knows it by, such as `cci_captum.tiny.WORDNET_IDS`. None: any name that
            stands for one thing in WordNet's table, asked for when it comes.

    Raises:
        TypeError: If pairs or names are not such.
        ValueError: If most_edges is negative, there is neither a path nor a pair to go by, or names
            has one that stands for nothing in the table or for several things (the error lists
            all), or that a pair has and names has not.

    Example:
        >>> judge = FineGrainedJudge()
        >>> judge("siamang", "chimpanzee"), judge("American dipper", "black grouse")
        (True, False)
        >>> from cci_captum.tiny import WORDNET_IDS
        >>> judge = FineGrainedJudge(2, names=WORDNET_IDS, pairs=[("ladybug", "strawberry")])
        >>> judge("apple", "banana"), judge("strawberry", "ladybug"), judge("strawberry", "apple")
        (True, True, False)
    """

    def __init__(
        self,
        most_edges: int | None = 4,
        *,
        pairs: Iterable[tuple[str, str]] | None = None,
        names: Sequence[str] | Mapping[str, str | int] | None = None,
    ) -> None:
        known = isinstance(most_edges, int) and not isinstance(most_edges, bool)
        if most_edges is not None and not (known and most_edges >= 0):
            raise ValueError(f"most_edges: expected 0 or more edges, or None, got {most_edges!r}")
        self.most_edges = most_edges
        self._pairs = frozenset(_checked(pairs or ()))
        if most_edges is None and not self._pairs:
            raise ValueError("pairs: expected at least one where most_edges is None, got none")
        self._given = None if names is None else _as_mapping(names)
        self._nouns: dict[str, tuple[str, ...]] = {}
        if self._given is None:
            return
        strangers = sorted({name for pair in self._pairs for name in pair} - self._given.keys())
        if strangers:
            raise ValueError(f"pairs: expected names of classes, got {', '.join(strangers)}")
        if most_edges is not None:
            self._nouns = _all_nouns(self._given)

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[tuple[str, str]],
        *,
        names: Sequence[str] | Mapping[str, str | int] | None = None,
    ) -> FineGrainedJudge:
        """Only these pairs look alike, each way round, whatever WordNet says.

        Args:
            pairs: Two names each.
            names: See `FineGrainedJudge`; they need not be in WordNet's table.

        Raises:
            TypeError: See `FineGrainedJudge`.
            ValueError: See `FineGrainedJudge`.

        Example:
            >>> judge = FineGrainedJudge.from_pairs([("cat", "dog")])
            >>> judge("dog", "cat"), judge("dog", "cow")
            (True, False)
        """
        return cls(None, pairs=pairs, names=names)

    def __call__(self, predicted: str, true: str) -> bool:
        """Whether the two look alike; symmetric, and True of equal names, which nobody tells apart.

        A name that two classes of ImageNet bear, such as "missile", stands for the nearer one.

        Args:
            predicted: The name of the class that a model chose.
            true: The name of the right class.

        Raises:
            ValueError: If names were given and this is none of them; else, if WordNet is asked and
                a name stands for nothing in its table or for several things.
        """
        for argument, name in (("predicted", predicted), ("true", true)):
            if self._given is not None and name not in self._given:
                raise ValueError(
                    f"{argument}: expected one of the names of the judge, got {name!r}"
                )
        if predicted == true or frozenset((predicted, true)) in self._pairs:
            return True
        if self.most_edges is None:
            return False
        every = ((a, b) for a in self._of(predicted) for b in self._of(true))
        return min(wordnet.distance(a, b) for a, b in every) <= self.most_edges

    def __repr__(self) -> str:
        pairs = sorted(tuple(sorted(pair)) for pair in self._pairs)
        said = ["most_edges=" + repr(self.most_edges), *([f"pairs={pairs}"] if pairs else [])]
        return f"{type(self).__name__}({', '.join(said)})"

    def _of(self, name: str) -> tuple[str, ...]:
        if name not in self._nouns:
            self._nouns[name] = _nouns_of(name) or (wordnet.resolve(name),)
        return self._nouns[name]


def _nouns_of(name: str | int) -> tuple[str, ...]:
    """What a name stands for; several only where it is the name of several classes."""
    classes = wordnet.classes_named(name) if isinstance(name, str) else ()
    found = classes or wordnet.find(name)
    return found if classes or len(found) == 1 else ()


def _all_nouns(names: Mapping[str, str | int]) -> dict[str, tuple[str, ...]]:
    """What each name stands for, or an error that lists those that stand for none or several."""
    nouns = {name: _nouns_of(known) for name, known in names.items()}
    left = {name: names[name] for name, found in nouns.items() if not found}
    if not left:
        return nouns
    unknown = [repr(name) for name, known in left.items() if not wordnet.find(known)]
    unclear = [wordnet.ambiguity(known) for known in left.values() if wordnet.find(known)]
    said = [f"unknown: {', '.join(unknown)}"] if unknown else []
    said += [f"unclear: {'; '.join(unclear)}"] if unclear else []
    raise ValueError(
        "names: expected names that stand for one thing in WordNet's table, or a mapping from each "
        f"name to one that does, got {len(left)} of {len(names)} that do not; {'. '.join(said)}"
    )


def _as_mapping(names: Sequence[str] | Mapping[str, str | int]) -> dict[str, str | int]:
    given = dict(names) if isinstance(names, Mapping) else None
    if given is None and not isinstance(names, str) and isinstance(names, Sequence):
        given = {name: name for name in names}
    if given is None or not all(isinstance(name, str) for name in given):
        raise TypeError(
            f"names: expected a sequence of names, or a mapping from names, got {names!r}"
        )
    if not given:
        raise ValueError("names: expected at least one name, got none")
    return given


def _checked(pairs: Iterable[tuple[str, str]]) -> list[frozenset[str]]:
    checked = []
    for pair in pairs:
        two = isinstance(pair, (tuple, list)) and len(pair) == 2
        if not two or not all(isinstance(name, str) for name in pair):
            raise TypeError(f"pairs: expected pairs of names, got {pair!r}")
        if pair[0] == pair[1]:
            raise ValueError(f"pairs: expected two different names, got {tuple(pair)!r}")
        checked.append(frozenset(pair))
    return checked
