"""Words hidden in text encoders, against plain float64 computations that leave them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
import transformers
from checkpoints import KINDS, save_checkpoint
from helpers import close, hooks, randn
from oracles.texts import text_features as plain_features
from torch import Tensor
from toy import CONTEXT_LENGTH, EMBEDDING, VOCABULARY, ToyTokenizer, randomize

from cci_captum import ZeroShotClassifier, as_clip, load_clip
from cci_captum.baselines import GradECLIP
from cci_captum.models import _hidden_tokens
from cci_captum.models._cut_texts import checked
from cci_captum.models.clip import text_features
from cci_captum.models.words import Word, WordScores, _phrases, find_words

_VISION = {"layers": 1, "width": 32, "head_width": 8, "patch_size": 8, "image_size": 32}
_TEXT = {
    "context_length": CONTEXT_LENGTH,
    "vocab_size": VOCABULARY,
    "width": 16,
    "heads": 2,
    "layers": 3,
}
_NORMS = ("qk_norm", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
_KINDS: dict[str, dict[str, Any]] = {
    "CLIP": {},
    "SigLIP": {
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
        "norm_kwargs": {"eps": 1e-6},
        "act_kwargs": {"approximate": "tanh"},
    },
    "MobileCLIP 2": {"no_causal_mask": True},
    "custom blocks": {"block_type": "custom", **dict.fromkeys(_NORMS, True)},
}
END = VOCABULARY - 1


def open_clips(custom: bool = True, **text: Any) -> Any:
    make = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    model = make(EMBEDDING, _VISION, {**_TEXT, **text}).eval()
    randomize(model, 1)
    return model


def some_tokens() -> tuple[Tensor, Tensor]:
    """Three texts (3, 12), and which tokens are hidden: two, the first, the last before the end."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, END, (3, CONTEXT_LENGTH), generator=generator)
    tokens[:, 9], tokens[:, 10:] = END, 0
    hidden = torch.zeros_like(tokens, dtype=torch.bool)
    hidden[0, 2:4] = hidden[1, 0] = hidden[2, 8] = True
    return tokens, hidden


@pytest.mark.parametrize("kind", _KINDS)
def test_hidden_tokens_might_as_well_be_left_out_open_clip(kind: str) -> None:
    model = open_clips(**_KINDS[kind])
    tokens, hidden = some_tokens()
    close(text_features(model, tokens, hidden)[0], plain_features(model, tokens, hidden))
    close(text_features(model, tokens)[0], plain_features(model, tokens))
    assert not hooks(model)


def test_a_text_tower_of_clip_itself() -> None:
    model = open_clips(custom=False)
    tokens, hidden = some_tokens()
    close(text_features(model, tokens, hidden)[0], plain_features(model, tokens, hidden))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {kind: save_checkpoint(kind, root / kind) for kind in KINDS}


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", KINDS)
def test_words_left_out_transformers(kind: str, attention: str, folders: dict[str, Path]) -> None:
    folder = folders[kind]
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation=attention).eval()
    clip = as_clip(model, transformers.AutoProcessor.from_pretrained(folder))
    text = "a cat, dog"
    scores = WordScores(model, clip.tokenizer, text)
    assert scores.class_names == ("a", "cat", "dog")
    tokens = clip.tokenizer([text]).expand(4, -1)
    hidden = torch.cat([torch.zeros_like(tokens[:1], dtype=torch.bool), scores.hidden])
    truth = plain_features(model, tokens, hidden)
    close(scores.text_features, truth[0] - truth[1:])
    images = randn(2, 3, 32, 32)
    with torch.no_grad():
        close(scores(images), scores.encode_images(images).double() @ (truth[0] - truth[1:]).T)
    assert not hooks(model)


def test_cocas_class_token_sees_no_hidden_word() -> None:
    model = open_clips(embed_cls=True)
    tokens, hidden = some_tokens()
    others = torch.where(hidden, 5, tokens)
    hiding = text_features(model, tokens, hidden)[0]
    assert torch.equal(hiding, text_features(model, others, hidden)[0])
    plain = text_features(model, tokens)[0]
    assert (plain - text_features(model, others)[0]).abs().max() > 0.01
    assert (plain - hiding).abs().max() > 0.01


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision(precision: str) -> None:
    whole, half = load_clip("tiny"), load_clip("tiny", precision=precision)
    text = "a photo of a cat on snow"
    added = [WordScores(c.model, c.tokenizer, text).text_features for c in (whole, half)]
    assert added[1].dtype == torch.float32
    close(added[1], added[0], 0.03)


def test_tokens_of_words() -> None:
    clip = load_clip("tiny")
    scores = WordScores(clip.model, clip.tokenizer, "Don't — a “dog”, a CAT!")
    assert [word.text for word in scores.words] == ["Don't", "—", "a", "dog", "a", "CAT"]
    assert scores.words[3].places == ((11, 14),)
    codes = clip.tokenizer(["Don't — a “dog”, a CAT!"])[0]
    names = {name: clip.tokenizer([name])[0, 1].item() for name in ("a", "dog", "cat")}
    for word, own in zip(scores.words[2:], scores.hidden[2:], strict=True):
        assert codes[own].tolist() == [names[word.text.lower()]]
    assert scores.hidden[0].sum() == 2  # "don" and "'t"
    assert not scores.hidden[:, 0].any()
    assert not (scores.hidden.sum(dim=0) > 1).any()


def test_phrases_and_every_occurrence() -> None:
    clip = load_clip("tiny")
    scores = WordScores(clip.model, clip.tokenizer, "a cat and a dog", ["a", "a dog", "and a dog"])
    assert scores.words[0] == Word("a", ((0, 1), (10, 11)))
    assert [own.nonzero().flatten().tolist() for own in scores.hidden] == [
        [1, 4],
        [4, 5],
        [3, 4, 5],
    ]


def test_a_cut_text_has_the_words_that_are_read() -> None:
    clip = load_clip("tiny")
    text = "a cat on snow " * 4 + "and a dog"
    with pytest.warns(UserWarning, match="longer than the model reads") as caught:
        scores = WordScores(clip.model, clip.tokenizer, text)
    assert len(caught) == 1
    assert len(scores.words) == 14
    with pytest.raises(ValueError, match=r"words: expected words that the model reads, got 'dog'"):
        find_words(checked(clip.tokenizer), text, ["dog"])


def test_words_without_influence_score_nothing() -> None:
    """Not the rounding of what ought to be the same features."""
    model = open_clips()
    for block in model.text.transformer.resblocks:
        torch.nn.init.zeros_(block.attn.out_proj.weight)
    scores = WordScores(model, ToyTokenizer(), "a cat")
    assert torch.equal(scores.text_features, torch.zeros(2, EMBEDDING))


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["bird"], ValueError, r"words: expected words of 'a cat and a dog', got 'bird'"),
        (["ca"], ValueError, r"words: expected words of 'a cat and a dog', got 'ca'"),
        ([""], ValueError, r"words: expected words of 'a cat and a dog', got ''"),
        ([], ValueError, r"words: expected different words of .*, got \[\]"),
        (["a", "a"], ValueError, r"words: expected different words of .*, got \['a', 'a'\]"),
        ("cat", TypeError, r"words: expected a list of words of .*, got 'cat'"),
        ([3], TypeError, r"words: expected a list of words of .*, got \[3\]"),
    ],
)
def test_wrong_words(words: Any, error: type[Exception], message: str) -> None:
    clip = load_clip("tiny")
    with pytest.raises(error, match=message):
        WordScores(clip.model, clip.tokenizer, "a cat and a dog", words)


def test_a_phrase_within_a_token() -> None:
    def of_two_letters(texts: list[str]) -> Tensor:
        rows = []
        for text in texts:
            codes = [1 + sum(map(ord, text[i : i + 2])) % 60 for i in range(0, len(text), 2)]
            rows.append([*codes, END, *[0] * CONTEXT_LENGTH][:CONTEXT_LENGTH])
        return torch.tensor(rows)

    tokenizer = checked(of_two_letters)
    (hidden,) = find_words(tokenizer, "ab (cd)", ["ab"]).values()
    assert hidden.nonzero().tolist() == [[0]]
    with pytest.raises(ValueError, match="got 'b', which shares one with what is beside it"):
        find_words(tokenizer, "a-b cd", ["b"])
    # Of its own accord it takes the punctuation that is in a word's tokens.
    found = find_words(tokenizer, "a, bc")
    places = {word.text: own.nonzero().flatten().tolist() for word, own in found.items()}
    assert places == {"a,": [0], "bc": [1, 2]}


def test_other_text_encoders_are_refused() -> None:
    class Other(torch.nn.Module):
        def encode_image(self, images: Tensor) -> Tensor:
            return images.flatten(1)

        def encode_text(self, text: Tensor) -> Tensor:
            return F.one_hot(text, 64).double().mean(dim=1)

    with pytest.raises(
        TypeError, match=r"expected the text encoder of a CLIP or SigLIP .* got Other"
    ):
        WordScores(Other(), ToyTokenizer(), "a cat")


def test_attention_that_ignores_masks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_clips(block_type="custom")
    blind: Callable[..., Tensor] = F.scaled_dot_product_attention

    def attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        return blind(q, k, v)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    with pytest.raises(RuntimeError, match="attention that ignores masks"):
        WordScores(model, ToyTokenizer(), "a cat")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("I ❤️ cats", ["I", "❤️", "cats"]),
        ("a 👩‍👩‍👧 photo.", ["a", "👩‍👩‍👧", "photo"]),
        ("a cat &amp; a dog", ["a", "cat", "&amp;", "a", "dog"]),
        ("C++ (code)", ["C++", "code"]),
        ("!!! a cat", ["!!!", "a", "cat"]),
    ],
)
def test_odd_words(text: str, names: list[str]) -> None:
    clip = load_clip("tiny")
    scores = WordScores(clip.model, clip.tokenizer, text)
    assert [*scores.class_names] == names
    covered = scores.hidden.sum(dim=0)
    tokens = clip.tokenizer([text])[0]
    end = int(tokens.argmax())
    brackets = {"C++ (code)": [2, 4], "a 👩‍👩‍👧 photo.": [end - 1]}.get(text, [])
    rest = [place for place in range(1, end) if not covered[place]]
    assert covered.max() == 1 and len(rest) <= len(brackets)


def test_a_word_that_is_read_with_its_neighbour_is_said_to_be_left_out() -> None:
    clip = load_clip("tiny")
    with pytest.warns(UserWarning, match="words: 'voilÃ' is left out, which shares a token"):
        scores = WordScores(clip.model, clip.tokenizer, "voilÃ\xa0 le chat")
    assert "chat" in scores.class_names


def test_words_of_scripts_without_spaces_and_words_that_overlap() -> None:
    clip = load_clip("tiny")
    assert _phrases("一只猫和狗", ["猫"]) == [Word("猫", ((2, 3),))]
    twice = WordScores(clip.model, clip.tokenizer, "ha ha ha", ["ha ha"])
    assert twice.words[0].places == ((0, 5), (3, 8)) and twice.hidden.sum() == 3


@pytest.mark.exhaustive
def test_compiled_text_encoders(folders: dict[str, Path]) -> None:
    clip = load_clip(f"hf:{folders['clip']}")
    model: Any = clip.model
    plain = WordScores(model, clip.tokenizer, "a cat").text_features
    model.text_model = torch.compile(model.text_model)
    close(WordScores(model, clip.tokenizer, "a cat").text_features, plain)


def test_in_half_precision_a_mask_that_does_nothing_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_hidden_tokens._Mask, "__call__", lambda self, m, args, kwargs: None)
    clip = load_clip("tiny", precision="bf16")
    with pytest.raises(RuntimeError, match="attention that ignores masks"):
        WordScores(clip.model, clip.tokenizer, "an image of a penguin on grass with a dog", ["dog"])


def test_made_in_inference_mode_and_explained_by_gradients_later() -> None:
    clip = load_clip("tiny")
    with torch.inference_mode():
        made = [
            WordScores(clip.model, clip.tokenizer, "a cat"),
            ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"]),
        ]
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    for scores in made:
        assert GradECLIP(scores).attribute(images, target=1).abs().max() > 0
