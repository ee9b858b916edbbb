"""How near two classes are in WordNet: a table of ImageNet's 1000 classes and their ancestors.

The table ships with the package: ImageNet's classes, those of the embedded models, and all that
they are kinds or instances of, from WordNet 3.0 (Princeton University; NOTICE has its licence).
`cci_captum.benchmarks.wordnet_table` made it. Nothing is read before it is asked for.
"""

from __future__ import annotations

import gzip
import operator
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple, SupportsIndex

_CLASSES = 1000  # of ImageNet, the first of the table


class _Table(NamedTuple):
    """Every noun by its id: what it is a kind of, and its words; and who bears a word."""

    parents: Mapping[str, tuple[str, ...]]
    lemmas: Mapping[str, tuple[str, ...]]
    bearers: Mapping[str, tuple[str, ...]]


def imagenet_ids() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1000 classes, in the order of the classes.

    Example:
        >>> imagenet_ids()[281]
        'n02123045'
    """
    return tuple(_table().parents)[:_CLASSES]


def classes_named(name: str) -> tuple[str, ...]:
    """The classes of ImageNet of which this is the name, whatever else the word may mean.

    Names are OpenAI's, as of `open_clip.IMAGENET_CLASSNAMES`, and the full lists of synonyms, with
    a comma and a space between them. A few are those of two classes: OpenAI's "missile" and
    "sunglasses", and "crane", the whole list of a bird and of a machine.

    Args:
        name: Upper and lower case are one, underscores are spaces.

    Returns:
        Their WordNet ids in the order of the classes; none where it is no such name.

    Example:
        >>> classes_named("sunglasses"), classes_named("cat")
        (('n04355933', 'n04356056'), ())
    """
    return _class_names().get(_key(name), ())


def find(name: str | SupportsIndex) -> tuple[str, ...]:
    """Everything in the table that a name may stand for.

    The first of these that holds for anything: it is a WordNet id; it is the name of classes of
    ImageNet, see `classes_named`; it is a word of any noun of the table, classes and their
    ancestors alike; it is a list of words with commas, all of which one noun has.

    Args:
        name: As above; or the index of a class of ImageNet, 0 to 999. Upper and lower case are one,
            underscores are spaces.

    Returns:
        WordNet ids, in the table's order; none where nothing is known.

    Raises:
        TypeError: If it is neither a string nor an int.
        ValueError: If it is an int that is no index of a class.

    Example:
        >>> find("penguin"), find(145), find("crane"), find("unicorn")
        (('n02055803',), ('n02056570',), ('n02012849', 'n03126707'), ())
    """
    if not isinstance(name, str):
        return (_of_index(name),)
    table, key = _table(), _key(name)
    if key in table.parents:
        return (key,)
    found = classes_named(name) or table.bearers.get(key, ())
    words = [word for word in map(str.strip, key.split(",")) if word]
    if found or len(words) < 2:
        return found
    every = [set(table.bearers.get(word, ())) for word in words]
    return tuple(node for node in table.bearers.get(words[0], ()) if all(node in e for e in every))


def resolve(name: str | SupportsIndex) -> str:
    """The one noun of the table that a name stands for.

    Args:
        name: See `find`.

    Returns:
        Its WordNet id.

    Raises:
        TypeError: See `find`.
        ValueError: If the table has none or several; the error lists these.

    Example:
        >>> resolve("king penguin"), resolve("Aptenodytes_patagonica"), resolve("penguin")
        ('n02056570', 'n02056570', 'n02055803')
    """
    found = find(name)
    if not found:
        raise ValueError(
            "name: expected the index of a class of ImageNet, the WordNet id, a name or a synonym "
            f"of one or of what it is a kind of, got {name!r}"
        )
    if len(found) > 1:
        raise ValueError(f"name: expected one that stands for one thing, got {ambiguity(name)}")
    return found[0]


def ambiguity(name: str | SupportsIndex) -> str:
    """What a name may stand for, in words, for an error.

    Example:
        >>> ambiguity("crane")
        "'crane', which may be n02012849 (crane: wading bird) or n03126707 (crane: lifting device)"
    """
    said = [f"{node} ({': '.join((lemmas(node)[0], *parents(node, 1)))})" for node in find(name)]
    return f"{name!r}, which may be {' or '.join(said)}"


def lemmas(name: str | SupportsIndex) -> tuple[str, ...]:
    """All words for the same thing, the most frequent first.

    Args:
        name: See `find`.

    Raises:
        TypeError: See `find`.
        ValueError: See `resolve`.

    Example:
        >>> lemmas("jaguar")
        ('jaguar', 'panther', 'Panthera onca', 'Felis onca')
    """
    return _table().lemmas[resolve(name)]


def distance(a: str | SupportsIndex, b: str | SupportsIndex) -> int:
    """The shortest path from one to the other over what both are kinds of, in edges.

    Up from `a` to a common ancestor and down to `b`; 0 for the same, 1 for a kind and its parent, 2
    for two kinds of one parent. All nouns are entities, so that there is always a path.

    Args:
        a: See `find`.
        b: See `find`.

    Raises:
        TypeError: See `find`.
        ValueError: See `resolve`.

    Example:
        >>> distance("jaguar", "cheetah"), distance("siamang", "chimpanzee"), distance("dog", 388)
        (2, 4, 4)
    """
    up, down = _ancestors(resolve(a)), _ancestors(resolve(b))
    return min(up[node] + down[node] for node in up if node in down)


def parents(name: str | SupportsIndex, n: int = 2) -> tuple[str, ...]:
    """The first words of the nearest ancestors, such as prompts for a detector of objects.

    Args:
        name: See `find`.
        n: How many.

    Returns:
        n words, fewer where there are fewer ancestors: the nearest first; of equally near ones in
        WordNet's order. Of a name that several classes of ImageNet have, as OpenAI's "missile" and
        "sunglasses", those of all of them.

    Raises:
        TypeError: See `find`.
        ValueError: If n is not positive; see also `resolve`.

    Example:
        >>> parents("ice bear"), parents("water ouzel", 3), parents("entity")
        (('bear', 'carnivore'), ('oscine', 'passerine', 'bird'), ())
    """
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n: expected a positive int, got {n!r}")
    named = classes_named(name) if isinstance(name, str) else ()
    edges: dict[str, int] = {}
    for node in named or (resolve(name),):
        for above, count in _ancestors(node).items():
            if count and above not in named:
                edges[above] = min(count, edges.get(above, count))
    nearest = sorted(edges, key=edges.__getitem__)
    return tuple(_table().lemmas[node][0] for node in nearest[:n])


def ancestors(name: str | SupportsIndex) -> tuple[str, ...]:
    """The WordNet ids of all that it is a kind of, itself first, then the nearest first.

    Args:
        name: See `find`.

    Raises:
        TypeError: See `find`.
        ValueError: See `resolve`.

    Example:
        >>> ancestors("ice bear")[:3]  # bear, carnivore
        ('n02134084', 'n02131653', 'n02075296')
    """
    return tuple(_ancestors(resolve(name)))


@cache
def _ancestors(node: str) -> dict[str, int]:
    """Edges up to each ancestor, the noun itself with 0 first, then the nearest first."""
    edges = {node: 0}
    queue = [node]
    for one in queue:
        for parent in _table().parents[one]:
            if parent not in edges:
                edges[parent] = edges[one] + 1
                queue.append(parent)
    return edges


def _of_index(index: SupportsIndex) -> str:
    """The id of a class by its number."""
    try:
        number = None if isinstance(index, bool) else operator.index(index)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"name: expected a string, or the index of a class, got {index!r}")
    if not 0 <= number < _CLASSES:
        raise ValueError(f"name: expected the index of a class, 0 to {_CLASSES - 1}, got {number}")
    return imagenet_ids()[number]


def _key(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


@cache
def _table() -> _Table:
    packed = files(__package__).joinpath("wordnet.tsv.gz").read_bytes()
    parents, lemmas = {}, {}
    bearers: dict[str, list[str]] = defaultdict(list)
    for line in gzip.decompress(packed).decode().splitlines():
        if line.startswith("#"):  # the licence
            continue
        node, above, words = line.split("\t")
        parents[node] = tuple(above.split(",")) if above else ()
        lemmas[node] = tuple(words.split(","))
        for key in dict.fromkeys(map(_key, lemmas[node])):
            bearers[key].append(node)
    return _Table(parents, lemmas, {key: tuple(nodes) for key, nodes in bearers.items()})


@cache
def _class_names() -> dict[str, tuple[str, ...]]:
    """Classes by their names, OpenAI's and the full lists of synonyms."""
    from open_clip import IMAGENET_CLASSNAMES

    named: dict[str, list[str]] = defaultdict(list)
    table = _table()
    for node, name in zip(imagenet_ids(), IMAGENET_CLASSNAMES, strict=True):
        for key in {_key(name), _key(", ".join(table.lemmas[node]))}:
            named[key].append(node)
    return {key: tuple(nodes) for key, nodes in named.items()}
