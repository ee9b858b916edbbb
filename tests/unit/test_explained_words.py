"""What explanations say of words: drops of pairs of word and region, maps, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import close, texts
from oracles.texts import text_features
from PIL import Image
from selection import quick_first
from skimage import data
from torch import Tensor

from cci_captum import CCI, Explanation, LoadedCLIP, Margin, explain, find_vision_tower, load_clip
from cci_captum.baselines import RISE, CLIPSurgery, GradECLIP, MethodSpec
from cci_captum.models.words import WordScores

TEXTS = ["a cat and a dog", "snow"]
THREE = MethodSpec.parse("cci(clusters=3)")


@pytest.fixture(scope="module")
def tiny() -> LoadedCLIP:
    return load_clip("tiny")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [Image.fromarray(data.chelsea()), Image.fromarray(data.astronaut())]


@pytest.fixture(scope="module")
def explained(tiny: LoadedCLIP, photos: list[Image.Image]) -> Explanation:
    return explain(photos, TEXTS, tiny, method=THREE, words=True)


def cosines(tiny: LoadedCLIP, explanation: Explanation, hidden: Tensor | None) -> Tensor:
    """(B, 6) float64, of images with patches hidden, (B, h, w), and TEXTS[0] with nothing hidden
    and with each of its words hidden."""
    model: Any = tiny.model
    images = explanation.inputs
    if hidden is None:
        hidden = torch.zeros(len(images), 12, 12, dtype=torch.bool)
    with torch.no_grad(), find_vision_tower(model).hide(hidden.flatten(1)):
        features = model.encode_image(images).double()
    tokens = tiny.tokenizer([TEXTS[0]]).expand(6, -1)
    words = torch.zeros_like(tokens, dtype=torch.bool)
    words[1:, 1:6] = torch.eye(5, dtype=torch.bool)  # a token each, after the first
    features = features / features.norm(dim=1, keepdim=True)
    return features @ text_features(tiny.model, tokens, words).T


def test_drops_of_every_word_and_region(tiny: LoadedCLIP, explained: Explanation) -> None:
    words = explained.words
    assert words is not None and words.effects is not None
    assert [[word.text for word in own] for own in words.words] == [
        ["a", "cat", "and", "a", "dog"],
        ["snow"],
    ]
    nothing = cosines(tiny, explained, None)
    close(words.drops[:, 0], nothing[:, :1] - nothing[:, 1:])
    assert words.region_drops.shape == (2, 2, 5, 3)
    for cluster in range(3):
        hiding = cosines(tiny, explained, words.effects.labels == cluster)
        drop = nothing - hiding
        close(words.region_drops[:, 0, :, cluster], drop[:, :1] - drop[:, 1:])


def test_maps_hold_the_drops_of_their_clusters(explained: Explanation) -> None:
    words = explained.words
    assert words is not None and words.effects is not None
    drops = words.region_drops
    for place in [(0, 0, 1), (1, 0, 4), (1, 1, 0)]:
        own = drops[place]
        expected = own[words.effects.labels[place[0]]]
        close(words.drop_maps()[place], expected)
        close(words.maps[place], expected / own.abs().sum())


def test_what_a_text_does_not_have_is_nan(explained: Explanation) -> None:
    words = explained.words
    assert words is not None
    for values in (words.drops, words.maps, words.drop_maps(), words.region_drops):
        assert bool(values[:, 1, 1:].isnan().all())
        assert bool(values[:, 0].isfinite().all()) and bool(values[:, 1, 0].isfinite().all())


def test_texts_are_explained_as_without_words(
    tiny: LoadedCLIP, photos: list[Image.Image], explained: Explanation
) -> None:
    without = explain(photos, TEXTS, tiny, method=THREE)
    assert without.words is None
    for name in ("scores", "similarities", "maps", "drops"):
        close(getattr(explained, name), getattr(without, name))


@pytest.mark.exhaustive
def test_words_take_no_passes_of_their_own(tiny: LoadedCLIP, photos: list[Image.Image]) -> None:
    counts = []
    for words in (False, True):
        model: Any = load_clip("tiny")
        images = 0

        def count(module: Any, args: Any) -> None:
            nonlocal images
            images += len(args[0])

        handle = model.model.visual.register_forward_pre_hook(count)
        explain(photos, TEXTS, model, words=words)
        handle.remove()
        counts.append(images)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize(
    "method", quick_first([GradECLIP, CLIPSurgery, MethodSpec.parse("rise(masks=8)")])
)
def test_other_methods(method: Any, tiny: LoadedCLIP, photos: list[Image.Image]) -> None:
    found = explain(photos[:1], TEXTS, tiny, method=method, words=True)
    words = found.words
    assert words is not None and words.effects is None
    side = 96 if isinstance(method, MethodSpec) else 12
    assert words.maps.shape == (1, 2, 5, side, side)
    scores = WordScores(tiny.model, tiny.tokenizer, TEXTS[0])
    with torch.no_grad():
        close(words.drops[:, 0], scores(found.inputs))
    attribution = method(scores).attribute(found.inputs, target=1)[:, 0]
    own = words.maps[:, 0, 1]
    if side == 12:
        own = own.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    close(own, attribution)
    with pytest.raises(ValueError, match="region_drops: expected a method that hides clusters"):
        _ = words.region_drops


def test_phrases(tiny: LoadedCLIP, photos: list[Image.Image]) -> None:
    one = explain(photos[0], TEXTS[0], tiny, method=THREE, words=["a cat", "dog"]).words
    assert one is not None and one.drops.shape == (1, 1, 2)
    both = explain(photos[0], TEXTS, tiny, method=THREE, words=[["dog"], ["snow"]]).words
    assert both is not None
    close(both.drops[0, 0, 0], one.drops[0, 0, 1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"words": "cat"}, TypeError, "words: expected True, or a list of words for each text"),
        ({"words": ["cat", "dog"]}, TypeError, "words: expected a list of words of .*got 'cat'"),
        ({"words": [["cat"]]}, ValueError, "words: expected a list of words for each of 2 texts"),
        ({"words": [["cow"], ["snow"]]}, ValueError, "words: expected words of .* got 'cow'"),
        ({"words": True, "score": "margin"}, ValueError, "words: expected score None.* 'margin'"),
        (
            {"words": True, "method": lambda f: CCI(Margin(f))},
            ValueError,
            "words: expected a method that explains the cosines .* explains a Margin of them",
        ),
    ],
)
def test_wrong_arguments(
    change: dict[str, Any],
    error: Any,
    message: str,
    tiny: LoadedCLIP,
    photos: list[Image.Image],
) -> None:
    with pytest.raises(error, match=message):
        explain(photos, TEXTS, tiny, **change)


@pytest.mark.parametrize("method", quick_first([THREE, GradECLIP, RISE]))
def test_saved_and_loaded(
    method: Any, tiny: LoadedCLIP, photos: list[Image.Image], tmp_path: Path
) -> None:
    if method is RISE:
        method = MethodSpec.parse("rise(masks=4)")
    explained = explain(photos[:1], TEXTS, tiny, method=method, words=True)
    explained.save(tmp_path / "cat")
    found, own = Explanation.load(tmp_path / "cat").words, explained.words
    assert found is not None and own is not None
    assert found.words == own.words
    assert torch.equal(found.drops.nan_to_num(), own.drops.nan_to_num())
    assert torch.equal(found.maps.nan_to_num(), own.maps.nan_to_num())
    if own.effects is None:
        assert found.effects is None
    else:
        close(found.drop_maps().nan_to_num(), own.drop_maps().nan_to_num())


@pytest.mark.exhaustive
def test_figures(explained: Explanation, tiny: LoadedCLIP, photos: list[Image.Image]) -> None:
    words = explained.words
    assert words is not None
    minus = "\N{MINUS SIGN}"
    own = texts(explained.text_figure())
    for text in ["image 0", "cat", f"{words.drops[0, 0, 1]:.3f}".replace("-", minus)]:
        assert text in own
    two = explained.word_figure(most=2)
    order = words.drops[:, 0].abs().amax(dim=0).topk(2).indices.sort().values.tolist()
    names = [words.words[0][index].text for index in order]
    found = texts(two)
    assert [text for text in found if text in ("a", "cat", "and", "dog")] == names
    adds = [f"adds {words.drops[i, 0, j]:.3f}" for i in range(2) for j in order]
    assert [t for t in found if t.startswith("adds")] == [a.replace("-", minus) for a in adds]
    assert "snow" in texts(explained.word_figure("snow"))
    every = texts(explained.word_figure(most=None))
    assert "a" in every and "a (2)" in every
    without = explain(photos[0], TEXTS, tiny, method=THREE)
    for draw in (without.text_figure, without.word_figure):
        with pytest.raises(ValueError, match="expected words to be explained"):
            draw()
    with pytest.raises(ValueError, match=r"text: expected one of .*, got 'grass'"):
        explained.word_figure("grass")


def test_a_notebook_shows_sentences_and_a_map_a_word(explained: Explanation) -> None:
    html = explained._repr_html_()
    for name in ("cat", "and", "a", "a (2)", "dog", "snow"):
        assert f'<figcaption class="cci-name" dir="auto">{name}</figcaption>' in html
    assert html.count('class="cci-sentence"') == 4  # of two images and texts
    assert html.count(">cat</span>") == 2


def test_words_that_overlap_colour_no_text(tiny: LoadedCLIP, photos: list[Image.Image]) -> None:
    found = explain(photos[0], TEXTS[0], tiny, method=THREE, words=["a cat", "cat and"])
    with pytest.raises(ValueError, match=r"words that do not overlap.* got \['a cat', 'cat and'\]"):
        found.text_figure()
    assert "cat and" in texts(found.word_figure())
    assert "cci-sentence" not in found._repr_html_().split("</style>")[-1]
