"""Methods and options as text: round trips, titles, errors, and the objects that they make."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Iterator
from inspect import signature
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cci_captum
from cci_captum.attribution.base import ImageAttribution
from cci_captum.baselines import METHODS, MethodSpec, find_method
from cci_captum.baselines.options import (
    Choice,
    Flag,
    Integer,
    Kind,
    Layer,
    Number,
    Option,
    Several,
)
from cci_captum.clustering import KMeans

# Arguments of classes that no option sets, and why.
LEFT_OUT = {
    "forward_func": "what is explained",
    "vision_tower": "a module",
    "clustering": "an object; options set the fields of KMeans",
    "empty_text": "a tensor of tokens",
    "redundant_text": "a tensor of tokens",
}
OPTIONS = [
    pytest.param(name, option, id=f"{name}-{option.name}")
    for name, method in METHODS.items()
    for option in method.options
]


def some(kind: Kind) -> list[Any]:
    """Values of a kind, the edges of its range among them."""
    found: list[Any]
    if isinstance(kind, Integer):
        found = [kind.least, 7, 50, 2**63 - 1]
    elif isinstance(kind, Number):
        inside = (value for value in (-3.5, 0.0, 1e-9, 0.1, 0.5, 1.0, 2.5, 1e22))
        found = [x for x in inside if kind.least <= x <= kind.most and x > kind.above]
    elif isinstance(kind, Choice):
        found = [*kind.names]
    elif isinstance(kind, Flag):
        found = [True, False]
    elif isinstance(kind, Several):
        each = some(kind.each)
        found = [tuple(each[:1]), tuple(each[:2][::-1]), tuple(each)]
    else:
        assert isinstance(kind, Layer)
        found = [-2, 0, 3, *kind.names]
    return [*found, None] if kind.none else found


def others(option: Option) -> list[Any]:
    return [value for value in some(option.kind) if value != option.default]


def specs() -> Iterator[MethodSpec]:
    """Every method alone, with each value of each option, and with two options at a time."""
    for name, method in METHODS.items():
        yield MethodSpec(name)
        for option in method.options:
            yield from (MethodSpec(name, {option.name: value}) for value in some(option.kind))
        for one in method.options:
            for other in method.options:
                if one is not other:
                    yield MethodSpec(
                        name, {one.name: others(one)[-1], other.name: others(other)[0]}
                    )


# text


def test_round_trips() -> None:
    found = [*specs()]
    assert len(found) > 500
    for spec in found:
        text = str(spec)
        assert not set(text) & set(" \n'\"")
        for again in (
            MethodSpec.parse(text),
            MethodSpec(spec.name, spec.options),
            MethodSpec(spec.name, spec.values),
            MethodSpec.parse(json.loads(json.dumps(text))),
            pickle.loads(pickle.dumps(spec)),
            copy.deepcopy(spec),
            eval(repr(spec)),
        ):
            assert again == spec and hash(again) == hash(spec) and str(again) == text


def test_equal_specs_are_those_of_equal_text_and_of_equal_title() -> None:
    found = {*specs()}
    assert len({str(spec) for spec in found}) == len(found)
    assert len({spec.title for spec in found}) == len(found)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("cci", "cci"),
        (" cci ", "cci"),
        ("cci(clusters=7)", "cci"),
        ("cci( hide = drop , clusters = 010 )", "cci(clusters=10,hide=drop)"),
        ("cci(layer=-1,max-length=3,score=logit)", "cci"),
        ("cci(max-length=none)", "cci(max-length=none)"),
        ("rise(p=.50,baseline=-0.0,masks=4000)", "rise"),
        ("rise(p=2.5e-1,masks=200)", "rise(masks=200,p=0.25)"),
        ("rise(baseline=1e0)", "rise(baseline=1)"),
        ("gradcam(layer=auto,relu=yes)", "gradcam"),
        ("gradcam(relu=no,layer=input)", "gradcam(layer=input,relu=no)"),
        ("clip-surgery(revision=2025-03-01)", "clip-surgery"),
        ("clip-surgery(revision=2023-04-12)", "clip-surgery-2023-04-12"),
        ("clip-surgery(revision=2023-04-13,blocks=3)", "clip-surgery-2023-04-13(blocks=3)"),
        ("clip-surgery-2023-04-12(temperature=1)", "clip-surgery-2023-04-12(temperature=1)"),
        ("random(seed=9223372036854775807)", "random(seed=9223372036854775807)"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    spec = MethodSpec.parse(text)
    assert str(spec) == canonical and spec == MethodSpec.parse(canonical)


def test_values_of_other_libraries() -> None:
    spec = MethodSpec("rise", {"masks": np.int64(200), "p": np.float32(0.25)})
    assert str(spec) == "rise(masks=200,p=0.25)" and type(spec.options["masks"]) is int


def test_what_a_spec_says_of_itself() -> None:
    spec = MethodSpec.parse("rise(masks=200)")
    assert spec.method is METHODS["rise"] and spec.name == "rise"
    assert spec.options == {"masks": 200}
    assert spec.values == {
        "masks": 200,
        "p": 0.5,
        "grid": 7,
        "seed": 0,
        "baseline": 0.0,
        "score": "logit",
    }
    spec.options["masks"] = 3  # a copy
    assert spec.options == {"masks": 200}
    with pytest.raises(AttributeError):
        spec.name = "cci"  # type: ignore[misc]
    assert MethodSpec.parse("clip-surgery(revision=2023-04-12)").method is find_method(
        "clip-surgery-2023-04-12"
    )


@pytest.mark.parametrize(
    ("text", "title"),
    [
        *((name, method.title) for name, method in METHODS.items()),
        ("cci(clusters=10)", "CCI (10 clusters)"),
        ("cci(clusters=1)", "CCI (1 cluster)"),
        ("cci(clusters=10,score=log-probability)", "CCI (10 clusters, log probability)"),
        ("cci(hide=drop,normalization=none)", "CCI (normalization: none, hidden by drop)"),
        ("cci(layer=projected,clustering-seed=3)", "CCI (K-means seed 3, layer projected)"),
        ("rise(masks=200,p=0.25)", "RISE (200 masks, p = 0.25)"),
        ("gradcam(relu=no,average=patches)", "GradCAM (without ReLU, average over patches)"),
        ("grad-eclip(single-head=no)", "Grad-ECLIP (the model's heads)"),
        ("gradcam(single-head=yes)", "GradCAM (single head)"),
        ("clip-surgery(revision=2023-04-12,blocks=1)", "CLIP Surgery 2023-04-12 (1 block)"),
        ("m2ib(steps=20)", "M2IB (20 steps)"),
        ("random(seed=1)", "Random (seed 1)"),
    ],
)
def test_titles(text: str, title: str) -> None:
    assert MethodSpec.parse(text).title == title


# errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a method at character 1 of '', got the end"),
        ("  ", "expected a method at character 3 of '  ', got the end"),
        ("(clusters=1)", "expected a method at character 1 of '(clusters=1)', got '('"),
        ("ccl", f"expected one of {', '.join(METHODS)}, got 'ccl'"),
        ("CCI(clusters=3)", f"expected one of {', '.join(METHODS)}, got 'CCI'"),
        ("cci,rise", "expected \"(\" or the end at character 4 of 'cci,rise', got ','"),
        ("cci=3", "expected \"(\" or the end at character 4 of 'cci=3', got '='"),
        ("cci(", "expected an option at character 5 of 'cci(', got the end"),
        ("cci()", "expected an option at character 5 of 'cci()', got ')'"),
        ("cci(hide)", "expected \"=\" at character 9 of 'cci(hide)', got ')'"),
        ("cci(hide=", "expected a value at character 10 of 'cci(hide=', got the end"),
        ("cci(hide=)", "expected a value at character 10 of 'cci(hide=)', got ')'"),
        ("cci(hide=drop", 'expected "," or ")" at character 14 of \'cci(hide=drop\', got the end'),
        ("cci(hide=a=b)", "expected \",\" or \")\" at character 11 of 'cci(hide=a=b)', got '='"),
        ("cci(hide=drop,)", "expected an option at character 15 of 'cci(hide=drop,)', got ')'"),
        ("cci(hide=drop) x", "expected the end at character 16 of 'cci(hide=drop) x', got 'x'"),
        (
            "cci(hide=drop,hide=mask)",
            "expected each option once, got 'hide' twice in 'cci(hide=drop,hide=mask)'",
        ),
        ("random(masks=3)", "expected an option of random (seed), got 'masks'"),
        ("rollout(layer=3)", "rollout takes no options, got 'layer'"),
        ("random(score=margin)", "expected an option of random (seed), got 'score'"),
        (
            "clip-surgery-2023-04-12(revision=2023-04-13)",
            "expected an option of clip-surgery-2023-04-12 (blocks, feature-surgery, temperature), "
            "got 'revision'",
        ),
        ("cci(clusters=0)", "clusters of cci: expected a positive int, got '0'"),
        ("cci(clusters=2.5)", "clusters of cci: expected a positive int, got '2.5'"),
        ("rise(seed=-1)", "seed of rise: expected an int of at least 0, got '-1'"),
        ("rise(p=0)", "p of rise: expected a number above 0 and of at most 1, got '0'"),
        ("rise(p=x)", "p of rise: expected a number above 0 and of at most 1, got 'x'"),
        ("rise(baseline=nan)", "baseline of rise: expected a number, got 'nan'"),
        ("rise(baseline=inf)", "baseline of rise: expected a number, got 'inf'"),
        (
            "cci(max-length=0.5)",
            "max-length of cci: expected a number of at least 1 or none, got '0.5'",
        ),
        ("cci(hide=erase)", "hide of cci: expected one of mask, drop, got 'erase'"),
        (
            "cci(score=logits)",
            "score of cci: expected one of logit, centred, log-probability, margin, got 'logits'",
        ),
        ("gradcam(relu=true)", "relu of gradcam: expected yes or no, got 'true'"),
        ("cci(layer=out)", "layer of cci: expected a block's index, input or projected, got 'out'"),
        (
            "gradcam(layer=1.5)",
            "layer of gradcam: expected a block's index, input or auto, got '1.5'",
        ),
        ("m2ib(layer=x)", "layer of m2ib: expected a block's index or auto, got 'x'"),
        ("cci(layer=\udce9)", "layer of cci: expected a block's index, input or projected, got "),
        (f"cci(clusters={'9' * 5000})", "clusters of cci: expected a positive int, got '999"),
    ],
)
def test_errors_of_texts(text: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        MethodSpec.parse(text)
    assert str(raised.value).startswith(f"method: {message}")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("ccl", {}, "expected one of cci, "),
        ("cci", {"n_clusters": 3}, "expected an option of cci (clusters, backend, "),
        ("cci", {"clusters": True}, "clusters of cci: expected a positive int, got True"),
        ("cci", {"clusters": "3"}, "clusters of cci: expected a positive int, got '3'"),
        ("cci", {"clusters": 2**63}, "clusters of cci: expected a positive int, got 922"),
        ("cci", {"hide": None}, "hide of cci: expected one of mask, drop, got None"),
        ("cci", {"spherical": 1}, "spherical of cci: expected yes or no, got 1"),
        ("cci", {"layer": True}, "layer of cci: expected a block's index, input or projected, got"),
        ("rise", {"p": True}, "p of rise: expected a number above 0 and of at most 1, got True"),
        ("rise", {"baseline": "0"}, "baseline of rise: expected a number, got '0'"),
    ],
)
def test_errors_of_options(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        MethodSpec(method, options)
    assert str(raised.value).startswith(f"method: {message}")


def test_only_text_is_parsed() -> None:
    with pytest.raises(TypeError, match=r"^method: expected a str, got int$"):
        MethodSpec.parse(3)  # type: ignore[arg-type]


# what is declared


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_defaults_are_the_classes_own(name: str, option: Option) -> None:
    owner, _, argument = option.argument.rpartition(".")
    assert owner in ("", "clustering")
    if argument == "forward_func":
        assert option.name == "score" and option.default == "logit"
        return
    made = KMeans if owner else METHODS[name].cls
    default = signature(made).parameters[argument].default
    assert option.default == default and type(option.default) is type(default)
    assert option.kind.check(default) == default


@pytest.mark.parametrize("name", METHODS)
def test_every_plain_argument_is_an_option(name: str) -> None:
    method = METHODS[name]
    known = signature(method.cls).parameters
    set_by = [option.argument for option in method.options]
    assert len(set(set_by)) == len(set_by) == len({option.name for option in method.options})
    preset = {argument for argument, _ in method.preset}
    assert {*known} - {*LEFT_OUT} == {x for x in set_by if "." not in x} - {*LEFT_OUT} | preset
    fields = {argument.partition(".")[2] for argument in set_by if "." in argument}
    has_clusters = "clustering" in known
    assert fields == ({*signature(KMeans).parameters} - {"_"} if has_clusters else set())


def test_which_methods_explain_a_score() -> None:
    """Not those that compare with the text's embedding, nor those that know no target."""
    without = {name for name in METHODS if "score" not in MethodSpec(name).values}
    compare_texts = {name for name in METHODS if name.startswith("clip-surgery")}
    compare_texts |= {"legrad", "maskclip", "m2ib"}
    assert without == compare_texts | {"self-attention", "rollout", "random", "ground-truth"}


def test_choices_are_the_classes_own() -> None:
    from cci_captum.baselines import clip_surgery, game, legrad
    from cci_captum.clustering.kmeans import Backend
    from cci_captum.effects import Normalization
    from cci_captum.vision_towers import HideStrategy

    expected = {
        ("cci", "backend"): Backend,
        ("cci", "normalization"): Normalization,
        ("cci", "hide"): HideStrategy,
        ("game", "layers"): game.Layers,
        ("legrad", "read-out"): legrad.ReadOut,
        ("clip-surgery", "revision"): clip_surgery.Revision,
    }
    for (name, option), literal in expected.items():
        (found,) = (one.kind for one in METHODS[name].options if one.name == option)
        assert isinstance(found, Choice) and {*found.names} == {*get_args(literal)}
    scores = pytest.importorskip("cci_captum.models.scores").SCORES
    (score,) = (one.kind for one in METHODS["cci"].options if one.name == "score")
    assert isinstance(score, Choice) and {*score.names} == {*scores}


# what is made


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    clip = cci_captum.load_clip("tiny")
    return cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["a cat", "a dog"], "{}")


def attributes(explainer: Any) -> dict[str, Any]:
    """Of an attribution, those that options set; towers and models by identity."""

    def of(value: Any) -> Any:
        if isinstance(value, ImageAttribution):  # one that another is made of
            return attributes(value)
        return id(value) if isinstance(value, nn.Module) else value

    return {
        name: of(value)
        for name, value in vars(explainer).items()
        if name != "vision_tower" and "func" not in name
    }


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_a_spec_makes_what_the_class_makes(
    name: str, option: Option, classifier: nn.Module
) -> None:
    method = METHODS[name]
    owner, _, argument = option.argument.rpartition(".")
    if option.name == "score":
        return  # below
    for value in others(option):
        if value == "faiss":
            pytest.importorskip("faiss")
        if isinstance(option.kind, Layer) and isinstance(value, int):
            value = 1  # a block that all models have
        made = MethodSpec(name, {option.name: value})(classifier)
        by_hand: dict[str, Any] = {argument: value}
        if owner:
            by_hand = {"clustering": KMeans(**by_hand)}
        expected = method.cls(classifier, **by_hand, **dict(method.preset))  # type: ignore[call-arg]
        assert type(made) is method.cls
        assert attributes(made) == attributes(expected)
        assert made.forward_func is classifier
        usual = attributes(method.cls(classifier, **dict(method.preset)))  # type: ignore[call-arg]
        assert attributes(made) != usual


def test_options_of_clusters_go_together(classifier: nn.Module) -> None:
    text = "cluster-lime(clusters=3,clustering-seed=5,layer=input,samples=9,seed=2)"
    made: Any = MethodSpec.parse(text)(classifier)
    assert made.clustering == KMeans(3, seed=5)
    assert (made.embedding_layer, made.n_samples, made.seed) == ("input", 9, 2)


class Doubled(nn.Module):
    """A score of the tests' own."""

    def __init__(self, forward_func: nn.Module) -> None:
        super().__init__()
        self.forward_func = forward_func

    def forward(self, images: Tensor) -> Tensor:
        return 2 * self.forward_func(images)


@pytest.mark.parametrize("name", [name for name in METHODS if "score" in MethodSpec(name).values])
def test_a_score_wraps_what_is_explained(
    name: str, classifier: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def find_score(score: str) -> type[nn.Module]:
        asked.append(score)
        return Doubled

    scores = ModuleType("cci_captum.models.scores")
    scores.find_score = find_score  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, scores.__name__, scores)
    monkeypatch.setattr(cci_captum.models, "scores", scores, raising=False)
    # One that compares with texts as well would see none in a score that is not the library's.
    further = {"parts": ("gradient",)} if METHODS[name].needs_text else {}
    spec = MethodSpec(name, {"score": "margin", **further})
    made: Any = spec(classifier)
    assert asked == ["margin"] and isinstance(made.forward_func, Doubled)
    assert made.forward_func.forward_func is classifier
    assert attributes(made) == attributes(METHODS[name](classifier, **further))
    MethodSpec(name, {"score": "logit", **further})(classifier)
    assert asked == ["margin"]


@pytest.mark.parametrize("score", ["log-probability", "margin"])
def test_scores_of_the_library(score: str, classifier: nn.Module) -> None:
    pytest.importorskip("cci_captum.models.scores")
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    logits = classifier(images)
    expected = logits.log_softmax(dim=1) if score == "log-probability" else logits - logits.flip(1)
    made: Any = MethodSpec("cci", {"score": score, "clusters": 3})(classifier)
    assert torch.allclose(made.effects(images).outputs, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["cci", "gradcam", "clip-surgery-2023-04-12"])
def test_the_default_spec_is_the_method(name: str, classifier: nn.Module) -> None:
    """The same call again: bit for bit."""
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    found, expected = (
        make(classifier).attribute(images, target=1) for make in (MethodSpec(name), METHODS[name])
    )
    assert torch.equal(found, expected) and float(found.std()) > 0


def test_a_spec_takes_the_tower(classifier: Any) -> None:
    tower = classifier.model.visual
    made: Any = MethodSpec("gradcam")(lambda images: classifier(images), tower)
    assert made.vision_tower.module is tower


# in a comparison
@pytest.mark.exhaustive
def test_specs_are_keys_and_titles_of_a_comparison() -> None:
    from cci_captum.benchmarks.comparison import compare, report
    from cci_captum.benchmarks.data import Scenes

    clip, scenes = cci_captum.load_clip("tiny"), Scenes(1)
    over_scenes = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, scenes.class_names)
    comparison = compare(
        ["gradcam( relu = no )", MethodSpec("gradcam")],
        scenes,
        forward_func=over_scenes,
        preprocess=clip.preprocess,
        ties=(),
    )
    assert comparison.methods == ["gradcam(relu=no)", "gradcam", "random", "ground-truth"]
    assert "GradCAM (without ReLU)" in report.text(comparison)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("cci", "CCI"),
        ("clip-surgery-2023-04-12", "CLIP Surgery 2023-04-12"),
        ("rise(masks=200)", "RISE (200 masks)"),
        ("mine", "mine"),
        ("K = 3: (a, b)", "K = 3: (a, b)"),
        ("", ""),
        ("cci(clusters=0)", "cci(clusters=0)"),
        ("cci(clusters=7)", "cci(clusters=7)"),  # else two keys would have the title "CCI"
    ],
)
def test_every_name_has_a_title_in_reports(name: str, title: str) -> None:
    from cci_captum.benchmarks.comparison import titles

    assert titles.title(name) == title
