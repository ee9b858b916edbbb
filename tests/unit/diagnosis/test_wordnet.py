"""The table of WordNet: paths against hand-written chains and scipy, names against timm's."""

from __future__ import annotations

import gzip
import itertools
from collections import Counter, defaultdict
from importlib.resources import files

import numpy as np
import open_clip
import pytest
from helpers import ROOT
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path
from timm.data import ImageNetInfo

import cci_captum.diagnosis
from cci_captum.benchmarks.wordnet_table import Noun, read_nouns, with_ancestors, write_table
from cci_captum.diagnosis import wordnet
from cci_captum.tiny import CLASS_NAMES, WORDNET_IDS

IDS = ImageNetInfo("imagenet-1k").label_names()

# What each is a kind of, as dictionaries have it, up to what is enough for the pairs below.
CHAINS = [
    ["jaguar", "big cat", "feline", "carnivore", "placental"],
    ["cheetah", "big cat"],
    ["tabby", "domestic cat", "cat", "feline"],
    ["giant panda", "procyonid", "carnivore"],
    ["siamang", "lesser ape", "anthropoid ape", "ape", "primate", "placental"],
    ["chimpanzee", "great ape", "anthropoid ape"],
]


@pytest.fixture(scope="module")
def rows() -> dict[str, list[str]]:
    """The table as it lies in the package: id -> ids of parents."""
    packed = files(cci_captum.diagnosis).joinpath("wordnet.tsv.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    split = [line.split("\t") for line in lines if not line.startswith("#")]
    return {node: [one for one in above.split(",") if one] for node, above, _ in split}


@pytest.fixture(scope="module")
def upward(rows) -> np.ndarray:
    """(n, n) edges from each noun up to each other, infinite where there is no way; by scipy."""
    place = {node: index for index, node in enumerate(rows)}
    pairs = np.array([(place[node], place[up]) for node, above in rows.items() for up in above])
    graph = csr_array((np.ones(len(pairs)), pairs.T), shape=(len(rows), len(rows)))
    return shortest_path(graph, unweighted=True)


def _by_hand(a: str, b: str) -> int:
    """Breadth-first search over `CHAINS`, up or down."""
    near = defaultdict(set)
    for chain in CHAINS:
        for one, other in itertools.pairwise(chain):
            near[one].add(other)
            near[other].add(one)
    edges, queue = {a: 0}, [a]
    for one in queue:
        for other in sorted(near[one] - edges.keys()):
            edges[other] = edges[one] + 1
            queue.append(other)
    return edges[b]


@pytest.mark.parametrize(
    ("a", "b", "edges"),
    [
        ("jaguar", "cheetah", 2),
        ("jaguar", "tabby", 5),
        ("jaguar", "giant panda", 5),
        ("jaguar", "siamang", 9),
        ("siamang", "chimpanzee", 4),
        ("tabby", "carnivore", 4),
    ],
)
def test_distances_of_hand_written_chains(a: str, b: str, edges: int) -> None:
    assert _by_hand(a, b) == edges
    assert wordnet.distance(a, b) == wordnet.distance(b, a) == edges


@pytest.mark.parametrize(
    ("a", "b", "edges"),  # measured elsewhere, with another reader of WordNet
    [
        ("lion", "tiger", 2),
        ("airliner", "warplane", 3),
        ("water ouzel", "bulbul", 4),
        ("water ouzel", "black grouse", 7),
        ("water ouzel", "leopard", 10),
    ],
)
def test_distances_known_from_elsewhere(a: str, b: str, edges: int) -> None:
    assert wordnet.distance(a, b) == edges


def test_distances_are_scipys(rows, upward) -> None:
    nodes = list(rows)
    rng = np.random.default_rng(0)
    for i, j in rng.integers(len(nodes), size=(1500, 2)):
        expected = (upward[i] + upward[j]).min()
        assert wordnet.distance(nodes[i], nodes[j]) == expected
    assert all(wordnet.distance(node, node) == 0 for node in nodes[::50])


def test_shares_of_all_pairs_of_classes(rows, upward) -> None:
    """At most 2, 3, ... edges; a known share is rounded as it was published."""
    ways = defaultdict(list)  # ancestor -> classes at most six edges below it
    for index in range(1000):
        for above in np.flatnonzero(upward[index] <= 6):
            ways[above].append((index, int(upward[index, above])))
    nearest: dict[tuple[int, int], int] = {}
    for below in ways.values():
        for place, (a, up) in enumerate(below):
            for b, down in below[place + 1 :]:
                if up + down <= 6:
                    nearest[a, b] = min(up + down, nearest.get((a, b), 6))
    counts = Counter(nearest.values())
    shares = [100 * sum(counts[k] for k in range(most + 1)) / 499_500 for most in range(2, 7)]
    assert shares == pytest.approx([0.23, 0.56, 1.5, 3.2, 6.2], rel=0.03)
    pairs = sorted(nearest)[::97]
    assert all(wordnet.distance(a, b) == nearest[a, b] for a, b in pairs)


def test_classes_are_imagenets_in_its_order(rows) -> None:
    info = ImageNetInfo("imagenet-22k")
    assert wordnet.imagenet_ids() == tuple(IDS) == tuple(rows)[:1000]
    for index, node in enumerate(IDS):
        assert wordnet.find(index) == wordnet.find(np.int64(index)) == (node,)
        assert ", ".join(wordnet.lemmas(node)) == info.label_name_to_description(
            node, detailed=False
        )


def test_every_noun_leads_to_entity_and_no_line_is_idle(rows) -> None:
    kept = set(IDS) | set(WORDNET_IDS.values())
    assert [node for node, above in rows.items() if not above] == ["n00001740"]
    used = {up for above in rows.values() for up in above}
    assert used <= rows.keys() == used | kept
    assert sum(len(rows[node]) > 1 for node in IDS) == 38


def test_names_of_openai() -> None:
    """Each is its class, but for two that OpenAI gives to two classes."""
    shared = {"missile": {657, 744}, "sunglasses": {836, 837}}
    for index, name in enumerate(open_clip.IMAGENET_CLASSNAMES):
        own = {IDS[one] for one in shared.get(name, {index})}
        assert set(wordnet.classes_named(name)) == set(wordnet.find(name)) == own, name


def test_lists_of_synonyms() -> None:
    shared = {"crane": {134, 517}, "missile": {657, 744}}
    for index, node in enumerate(IDS):
        name = ", ".join(wordnet.lemmas(node))
        assert set(wordnet.find(name)) == {IDS[one] for one in shared.get(name, {index})}
    assert wordnet.resolve("Panthera onca, jaguar") == IDS[290]  # some of them, in any order
    assert wordnet.find("jaguar, Panthera leo") == wordnet.find("jaguar, unicorn") == ()


def test_single_synonyms_and_ancestors() -> None:
    assert wordnet.resolve("Felis_onca") == wordnet.resolve(" felis  ONCA ") == IDS[290]
    assert wordnet.lemmas("dog") == ("dog", "domestic dog", "Canis familiaris")
    assert wordnet.distance("penguin", "king penguin") == 1
    assert wordnet.parents("siamang", 3) == ("lesser ape", "anthropoid ape", "ape")
    assert wordnet.parents("king penguin", 99)[-1] == "entity"
    assert len(wordnet.parents("jaguar")) == 2


def test_every_class_has_parents_by_its_name() -> None:
    """Also by one that two classes have: those of both."""
    assert all(wordnet.parents(name) for name in open_clip.IMAGENET_CLASSNAMES)
    assert wordnet.parents("missile") == ("rocket", "weapon")
    assert wordnet.parents("sunglasses") == ("converging lens", "spectacles")
    assert wordnet.parents("crane", 4) == (
        "wading bird",
        "lifting device",
        "aquatic bird",
        "device",
    )


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("crane", ["n02012849 (crane: wading bird)", "n03126707 (crane: lifting device)"]),
        ("cat", ["n02121620 (cat: feline)", "n02127808 (big cat: feline)"]),
        ("missile", ["n03773504 (missile: rocket)", "n04008634 (projectile: weapon)"]),
    ],
)
def test_ambiguous_names_list_what_they_may_be(name: str, candidates: list[str]) -> None:
    with pytest.raises(ValueError, match="name: expected one that stands for one thing") as caught:
        wordnet.distance(name, "jaguar")
    assert str(caught.value).endswith(f"{name!r}, which may be {' or '.join(candidates)}")


@pytest.mark.parametrize("name", ["unicorn", "n99999999", "", ",", "jaguar,"])
def test_unknown_names(name: str) -> None:
    if name == "jaguar,":
        assert wordnet.find(name) == ()
    with pytest.raises(ValueError, match="name: expected the index of a class"):
        wordnet.resolve(name)


@pytest.mark.parametrize("index", [-1, 1000])
def test_indices_beyond_the_classes(index: int) -> None:
    with pytest.raises(ValueError, match=f"0 to 999, got {index}"):
        wordnet.lemmas(index)


@pytest.mark.parametrize("name", [None, 1.0, True, ("jaguar",)])
def test_what_is_no_name(name) -> None:
    with pytest.raises(TypeError, match="name: expected a string, or the index of a class"):
        wordnet.find(name)


@pytest.mark.parametrize("n", [0, -1, True, 1.5])
def test_parents_count(n) -> None:
    with pytest.raises(ValueError, match="n: expected a positive int"):
        wordnet.parents("jaguar", n)


def test_classes_of_the_embedded_models() -> None:
    """What is drawn: every id has the class's own name among its words."""
    assert tuple(WORDNET_IDS) == CLASS_NAMES
    for name, node in WORDNET_IDS.items():
        assert {"grapes": "grape"}.get(name, name) in wordnet.lemmas(node)
    living = {name for name, node in WORDNET_IDS.items() if "animal" in wordnet.parents(node, 99)}
    assert living == set(CLASS_NAMES[:16])


def test_the_licence_is_kept() -> None:
    packed = files(cci_captum.diagnosis).joinpath("wordnet.tsv.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()
    said = " ".join(line[1:].strip() for line in lines if line.startswith("#"))
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in said
    assert " ".join(said.split()) in " ".join((ROOT / "NOTICE").read_text().split())
    assert len(packed) < 60_000


NOUNS = """\
  1 A licence.
  2
00000001 03 n 01 thing 0 001 ~ 00000002 n 0000 | all
00000002 05 n 02 cat 0 true_cat 0 003 @ 00000001 n 0000 ~ 00000003 n 0000 + 00000009 v 0101 | a | b
00000003 05 n 01 Tom 1 002 @i 00000002 n 0000 #m 00000004 n 0000 | the cat
00000004 05 n 01 dog 0 001 @ 00000001 n 0000 | not asked for
"""


def test_a_table_is_made(tmp_path) -> None:
    licence, nouns = read_nouns(NOUNS.splitlines())
    assert nouns["n00000003"] == Noun(("n00000002",), ("Tom",))
    ids = with_ancestors(["n00000003"], nouns)
    assert ids == ["n00000003", "n00000001", "n00000002"]
    paths = [tmp_path / "a.gz", tmp_path / "b.gz"]
    for path in paths:
        write_table(path, licence, {node: nouns[node] for node in ids})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert gzip.decompress(paths[0].read_bytes()).decode().splitlines() == [
        "# A licence.",
        "#",
        "n00000003\tn00000002\tTom",
        "n00000001\t\tthing",
        "n00000002\tn00000001\tcat,true cat",
    ]
