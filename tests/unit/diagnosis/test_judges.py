"""Judges of look-alikes: WordNet, pairs, and what they refuse."""

from __future__ import annotations

import itertools

import open_clip
import pytest

from cci_captum.diagnosis import FineGrainedJudge, wordnet
from cci_captum.tiny import CLASS_NAMES, WORDNET_IDS


def test_four_edges_is_the_least_with_the_papers_example() -> None:
    pair = ("siamang", "chimpanzee")
    assert [FineGrainedJudge(most)(*pair) for most in (3, 4, 5)] == [False, True, True]
    judge = FineGrainedJudge()
    assert judge("airliner", "warplane") and judge("jaguar", "cheetah")
    assert not judge("water ouzel", "leopard")


@pytest.mark.parametrize("most_edges", [0, 2, 4, None])
def test_edges_or_pairs(most_edges: int | None) -> None:
    """All pairs of the embedded models' classes, against the two definitions."""
    pairs = [("cat", "crown"), ("bus", "cake")]
    judge = FineGrainedJudge(most_edges, pairs=pairs, names=WORDNET_IDS)
    for a, b in itertools.product(CLASS_NAMES, repeat=2):
        edges = wordnet.distance(WORDNET_IDS[a], WORDNET_IDS[b])
        near = most_edges is not None and edges <= most_edges
        assert judge(a, b) is (a == b or near or (a, b) in pairs or (b, a) in pairs)


def test_pairs_alone_ask_no_table() -> None:
    judge = FineGrainedJudge.from_pairs([("a", "b"), ["c", "a"]])
    said = {(x, y): judge(x, y) for x, y in itertools.permutations("abc", 2)}
    assert said == {(x, y): {x, y} != {"b", "c"} for x, y in said}
    assert judge("unheard of", "unheard of") and not judge("unheard of", "a")
    assert repr(judge) == "FineGrainedJudge(most_edges=None, pairs=[('a', 'b'), ('a', 'c')])"
    assert repr(FineGrainedJudge()) == "FineGrainedJudge(most_edges=4)"


def test_a_name_of_two_classes_is_the_nearer_one() -> None:
    """OpenAI's "missile" is a rocket (657) and a projectile (744), "sunglasses" are two, too."""
    judge = FineGrainedJudge(names=open_clip.IMAGENET_CLASSNAMES)
    for other in range(0, 1000, 37):
        edges = min(wordnet.distance(own, other) for own in (657, 744))
        name = open_clip.IMAGENET_CLASSNAMES[other]
        assert judge("missile", name) == judge(name, "missile") == (edges <= 4)
    assert judge("missile", "missile")


def test_names_given_are_resolved_at_once_and_all_faults_listed() -> None:
    names = ["jaguar", "unicorn", "panda", "grapes", "n02121620"]
    with pytest.raises(ValueError, match="names: expected names that stand for one thing") as error:
        FineGrainedJudge(names=names)
    said = (
        "3 of 5 that do not; unknown: 'unicorn', 'grapes'. unclear: 'panda', which may be n02509815"
    )
    assert said in str(error.value)
    with pytest.raises(ValueError, match=r"unknown: 'unicorn'$"):
        FineGrainedJudge(names={"unicorn": "unicorn", "crane": 134})
    with pytest.raises(ValueError, match="unclear: 'cat', which may be n02121620"):
        FineGrainedJudge(names=CLASS_NAMES)
    assert FineGrainedJudge(names={"a": 290, "b": "cheetah"})("a", "b")


def test_other_names_than_given() -> None:
    judge = FineGrainedJudge(names=["jaguar", "cheetah"])
    with pytest.raises(ValueError, match="predicted: expected one of the names of the judge, got"):
        judge("lion", "jaguar")
    with pytest.raises(
        ValueError, match="true: expected one of the names of the judge, got 'lion'"
    ):
        judge("jaguar", "lion")
    with pytest.raises(ValueError, match="pairs: expected names of classes, got lion"):
        FineGrainedJudge(names=["jaguar", "cheetah"], pairs=[("lion", "jaguar")])


def test_without_names_a_stranger_is_refused_when_it_comes() -> None:
    judge = FineGrainedJudge()
    with pytest.raises(ValueError, match="got 'unicorn'"):
        judge("unicorn", "jaguar")
    with pytest.raises(ValueError, match="'car', which may be n02958343"):
        judge("jaguar", "car")


@pytest.mark.parametrize(
    ("error", "message", "given"),
    [
        (ValueError, "most_edges: expected 0 or more edges", {"most_edges": -1}),
        (ValueError, "most_edges: expected 0 or more edges", {"most_edges": True}),
        (ValueError, "most_edges: expected 0 or more edges", {"most_edges": 2.0}),
        (ValueError, "pairs: expected at least one", {"most_edges": None}),
        (TypeError, "pairs: expected pairs of names", {"pairs": ["ab"]}),
        (TypeError, "pairs: expected pairs of names", {"pairs": [("a", "b", "c")]}),
        (TypeError, "pairs: expected pairs of names", {"pairs": [("a", 1)]}),
        (ValueError, "pairs: expected two different names", {"pairs": [("a", "a")]}),
        (TypeError, "names: expected a sequence of names", {"names": "jaguar"}),
        (TypeError, "names: expected a sequence of names", {"names": [290]}),
        (ValueError, "names: expected at least one name", {"names": []}),
    ],
)
def test_refusals(error: type[Exception], message: str, given: dict) -> None:
    with pytest.raises(error, match=message):
        FineGrainedJudge(**given)
