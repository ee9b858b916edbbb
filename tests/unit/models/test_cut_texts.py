"""Texts longer than a model reads, and names it cannot tell apart, are said."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

import cci_captum
from cci_captum import ZeroShotClassifier, load_clip
from cci_captum.benchmarks.cli import main
from cci_captum.benchmarks.comparison import compare, report
from cci_captum.benchmarks.data import ImageFolders
from cci_captum.benchmarks.faithfulness import CaptionRetrieval
from cci_captum.models._cut_texts import CheckedTokenizer, CutText
from cci_captum.models._equal_names import equal_rows

# The tiny models read 16 tokens: the beginning, 14 of words, the end.
FITS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
LONG = f"{FITS} a red guitar"
OWN = SimpleTokenizer(context_length=16)


@pytest.fixture(scope="module")
def clip() -> cci_captum.LoadedCLIP:
    return load_clip("tiny")


def lost(tokenizer: Any, text: str) -> list[str]:
    return [cut.lost for cut in CheckedTokenizer(tokenizer).tokenize([text])[1]]


def black_box(texts: list[str]) -> torch.Tensor:
    """A tokenizer that cannot be asked for another length."""
    return OWN(texts)


def padded_to_the_longest(texts: list[str]) -> torch.Tensor:
    tokens = black_box(texts)
    return tokens[:, : int((tokens != 0).sum(dim=1).max())]


@pytest.mark.parametrize("tokenizer", [OWN, black_box])
def test_what_is_lost(tokenizer: Any) -> None:
    for text in ("", "a cat", FITS, FITS.rsplit(" ", 1)[0], f"  {FITS}\n"):
        assert lost(tokenizer, text) == [], text
    assert lost(tokenizer, LONG) == ["a red guitar"]
    assert lost(tokenizer, f"{FITS} a") == ["a"]
    assert lost(tokenizer, "cat " * 20) == ["cat cat cat cat cat cat"]


def test_a_word_that_is_read_in_part() -> None:
    tokenizer = OWN
    start, word = FITS.rsplit(" ", 1)[0], "hippopotamusses"
    assert len(tokenizer.encode(word)) > 1
    assert lost(tokenizer, f"{start} {word}") == [word]
    # Without spaces: letter by letter.
    text = "日本語の長い文章です" * 4
    (end,) = lost(tokenizer, text)
    assert text.endswith(end)
    assert len(tokenizer.encode(text.removesuffix(end))) <= 14
    assert len(tokenizer.encode(text.removesuffix(end[1:]))) > 14


def test_padding_to_the_longest_text_is_no_cut() -> None:
    texts = ["a cat", "a dog on the snow", "a bus"]
    assert CheckedTokenizer(padded_to_the_longest).tokenize(texts)[1] == ()
    assert lost(padded_to_the_longest, LONG) == ["a red guitar"]


def test_tokens_are_the_tokenizers_own(clip: cci_captum.LoadedCLIP) -> None:
    own = OWN
    with pytest.warns(UserWarning, match="^1 text is longer"):
        assert torch.equal(clip.tokenizer([LONG, "a cat"]), own([LONG, "a cat"]))
    assert torch.equal(clip.tokenizer("a cat"), own("a cat"))
    assert torch.equal(clip.tokenizer("a cat", context_length=20), own("a cat", 20))
    for tokenizer in (copy.deepcopy(clip.tokenizer), pickle.loads(pickle.dumps(clip.tokenizer))):
        assert tokenizer.encode("a cat") == own.encode("a cat")
    with pytest.raises(AttributeError, match="nothing"):
        clip.tokenizer.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_one_warning_for_all(clip: cci_captum.LoadedCLIP) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clip.tokenizer([f"{LONG} {number}" for number in range(200)] * 2)
    (warning,) = caught
    message = str(warning.message)
    assert warning.category is UserWarning and warning.filename == __file__
    assert message.startswith("200 texts are longer than the model reads: 'one two three four")
    assert "loses 'a red guitar 0'" in message and message.endswith("; and 197 more")
    assert len(message) < 500


def test_classifier_names_what_it_cuts(clip: cci_captum.LoadedCLIP) -> None:
    templates = ["{}", "a photo of {}"]
    for tokenizer in (clip.tokenizer, OWN, black_box):
        with pytest.warns(UserWarning, match=r"^1 text is longer .* loses 'thirteen fourteen'"):
            classifier = ZeroShotClassifier(
                clip.model, tokenizer, ["cat", FITS.removeprefix("one ")], templates
            )
        text = f"a photo of {FITS.removeprefix('one ')}"
        assert classifier.cut_texts == (CutText(text, "thirteen fourteen"),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
    assert plain.cut_texts == () and plain.indistinguishable == ()


def test_captions_are_checked(clip: cci_captum.LoadedCLIP) -> None:
    images = torch.zeros(2, 3, 96, 96)
    with pytest.warns(UserWarning, match="1 text is longer .* loses 'a red guitar'"):
        CaptionRetrieval.from_pairs(clip.model, black_box, images, [["a cat", LONG], ["a dog"]])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_names_that_cannot_be_told_apart(precision: Any) -> None:
    clip = load_clip("tiny", precision=precision)
    names = [*cci_captum.tiny.CLASS_NAMES[:8], "zebra", f"{LONG} 1", "yak", f"{LONG} 2"]
    with pytest.warns(UserWarning) as caught:
        classifier = ZeroShotClassifier(clip.model, clip.tokenizer, names, "{}")
    assert classifier.indistinguishable == (("zebra", "yak"), (f"{LONG} 1", f"{LONG} 2"))
    messages = [str(warning.message) for warning in caught]
    assert messages[0].startswith("2 texts are longer")
    assert messages[1].startswith("4 of 12 names have the same embedding as another")
    assert "'zebra' = 'yak'; 'one two" in messages[1]
    # What is said is true: no image tells them apart.
    logits = classifier(torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(logits[:, 8], logits[:, 10], rtol=0, atol=1e-3)
    assert (logits[:, 0] - logits[:, 8]).abs().min() > 1e-3


def test_equal_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(2500, 24, generator=generator), dim=1)
    assert equal_rows(rows) == []
    rows[2400] = rows[3] * (1 + 1e-6)
    rows[1500] = rows[3]
    rows[2] = rows[1]
    nudged = rows[1].clone()
    nudged[0] += 1e-3
    rows[0] = torch.nn.functional.normalize(nudged, dim=0)
    assert equal_rows(rows) == [[1, 2], [3, 1500, 2400]]
    assert equal_rows(rows, rounding=1e-2)[0] == [0, 1, 2]
    assert equal_rows(rows[:1].expand(300, -1)) == [list(range(300))]


def test_openai_and_siglip_lengths() -> None:
    for length in (16, 64, 77):
        tokenizer = open_clip.tokenizer.SimpleTokenizer(context_length=length)
        words = ["cat"] * (length - 2)
        assert lost(tokenizer, " ".join(words)) == []
        assert lost(tokenizer, " ".join([*words, "dog"])) == ["dog"]


def test_explain_says_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 40)).save(photo)
    options = ["--method", "maskclip", "--device", "cpu", "--out", str(tmp_path / "out.png")]
    assert main(["explain", str(photo), "--text", LONG, "--text", "a cat", *options]) == 0
    lines = capsys.readouterr().err.splitlines()
    found = [line for line in lines if line.startswith("cci-captum: warning: 1 text is longer")]
    assert len(found) == 1 and found[0].endswith("loses 'a red guitar'")


@pytest.mark.exhaustive
def test_compare_reports_it(clip: cci_captum.LoadedCLIP, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "zebra", "yak"):
        (tmp_path / name).mkdir()
        values = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / name / "1.png")
    data = ImageFolders(tmp_path, class_names=["cat", "zebra", "yak", LONG])
    with pytest.warns(UserWarning, match="2 of 4 names have the same embedding"):
        classifier = ZeroShotClassifier(
            clip.model, clip.tokenizer, data.class_names, data.templates
        )
    comparison = compare(
        ["maskclip"], data, forward_func=classifier, preprocess=clip.preprocess, ties=()
    )
    summary = report.page(comparison)
    assert "2 of the 4 classes have the same text embedding as another: 'zebra' = 'yak'" in summary
    assert "1 text is longer than the model reads" in summary
    settings = json.loads(json.dumps(comparison.settings))
    assert settings["indistinguishable"] == [["zebra", "yak"]]
    assert [text["text"] for text in settings["cut_texts"]] == [f"a photo of a {LONG}."]
