"""The page of CounterAnimal, its pictures, and the scorer that its documentation shows."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ROOT
from matplotlib.figure import Figure
from matplotlib.text import Text
from pages import blocks
from PIL import Image

from cci_captum.benchmarks.counteranimal import (
    Candidates,
    accuracies,
    choose_candidates,
    class_accuracies,
    effective_robustness,
    mean_drops,
    rules_of,
)
from cci_captum.benchmarks.counteranimal.figures import class_dumbbells, robustness_scatter
from cci_captum.benchmarks.counteranimal.report import class_pictures, page
from cci_captum.benchmarks.counteranimal.verdicts import drops_with_verdicts
from cci_captum.benchmarks.data import animal_classes

PAPER = "ViT-B-32 laion400m_e31"


def predicted_table(seed: int, right: tuple[float, float] = (0.8, 0.5)) -> pd.DataFrame:
    """Three photos a class and group, with scores of all names and verdicts."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for each in animal_classes():
        for group, rate in zip(("common", "counter"), right, strict=True):
            for number in range(3):
                scores = rng.normal(size=1000).astype(np.float32)
                scores[each.index] = 9.0 if rng.random() < rate else 2.0
                guess = int(scores.argmax())
                side = "BG" if rng.random() < 0.5 else "FG"
                rows.append(
                    {
                        "image": f"{each.index}/{group}/{number}.jpg", "true": each.index,
                        "predicted": guess, "status": "", "group": group,
                        "background": getattr(each, group), "scores": scores,
                        "energy_verdict": f"{side}-{'Co' if guess == each.index else 'Er'}",
                    }
                )  # fmt: skip
    table = pd.DataFrame(rows)
    table.loc[0, ["status", "predicted"]] = ["cannot be read: a|b.jpg", -1]
    return table


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    mine = predicted_table(1, (0.6, 0.3)).drop(columns="energy_verdict")
    return {PAPER: predicted_table(0), "mine": mine}


@pytest.fixture(scope="module")
def chosen(tables: dict[str, pd.DataFrame]) -> Candidates:
    return choose_candidates(tables[PAPER], model=PAPER, data="small")


@pytest.fixture(scope="module")
def text(tables: dict[str, pd.DataFrame], chosen: Candidates) -> str:
    return page(tables, chosen, data="small data", rules=["energy"], notes=["a note"], again="`me`")


def section(text: str, title: str) -> str:
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found


def cells(text: str, model: str) -> list[str]:
    shown = model.replace("_", r"\_")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {shown} |")]
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


@pytest.mark.exhaustive
def test_accuracies_stand_beside_the_published(
    text: str, tables: dict[str, pd.DataFrame], chosen: Candidates
) -> None:
    printed = {
        "1 vs 1000": (67.13, 36.95),
        "1 vs 1000, by photo": (69.02, 33.94),
        "1 vs 20": (70.46, 39.44),
    }
    for setup, average in (
        ("1 vs 1000", "classes"), ("1 vs 1000, by photo", "photos"), ("1 vs 20", "classes"),
        ("1 vs 20, by photo", "photos"),
    ):  # fmt: skip
        part = section(text, setup)
        for model, table in tables.items():
            among = chosen if setup.startswith("1 vs 20") else None
            found = accuracies(table, among, average=average)
            got = cells(part, model)
            for cell, (_, row) in zip(got, found.iterrows(), strict=False):
                assert cell == f"{row['accuracy']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
            if model == PAPER and setup in printed:
                a, b = printed[setup]
                assert got[3] == f"{a:.2f} / {b:.2f}"
                common, counter = found["accuracy"].iloc[:2]
                assert got[4].startswith(f"{common - a:+.2f} / {counter - b:+.2f}")
                assert got[4].endswith(", outside") == ("photo" not in setup)
            else:
                assert got[3:] == ["-", "-"]
    assert "Another evaluation found 70.12 / 41.29: this one is outside of it." in text


def test_robustness_is_above_or_below_both_lines(
    text: str, tables: dict[str, pd.DataFrame]
) -> None:
    part = section(text, "Effective robustness")
    assert "slope 1.214, intercept -0.619) and CLIPs (1.190, -0.667)" in part
    for model, table in tables.items():
        found = accuracies(table)["accuracy"]
        gap = effective_robustness(found["common"], found["counter"])
        assert cells(part, model)[0] == f"{gap:+.1f}"


@pytest.mark.exhaustive
def test_who_chose_the_names_is_said(text: str, tables: dict[str, pd.DataFrame]) -> None:
    part = section(text, "1 vs 20")
    assert r"chosen by ViT-B-32 laion400m\_e31 on small, from 269 photos" in part
    assert "they may be others" not in part
    other = choose_candidates(tables["mine"], model="mine", data="small")
    assert "they may be others" in section(page(tables, other), "1 vs 20")


def test_verdicts_of_those_that_have_them(text: str, tables: dict[str, pd.DataFrame]) -> None:
    part = section(text, "Do drops come with the background? By energy")
    drops = drops_with_verdicts(tables[PAPER], "energy")
    means = mean_drops(drops)
    row = means.loc["background"]
    assert f"the background makes {row['mean']:.1f} ({row['low']:.1f} to {row['high']:.1f})" in part
    assert "### mine" not in part and part.count("### ") == 1
    first = drops.sort_values("drop", ascending=False, kind="stable").iloc[0]
    assert cells(part, first["name"])[:2] == [
        f"{first['drop']:+.1f}", f"{first['drop_background']:+.1f}",
    ]  # fmt: skip
    assert "Do drops" not in page({"mine": tables["mine"]}, rules=["energy"])
    assert rules_of(tables[PAPER]) == ["energy"] and rules_of(tables["mine"]) == []


def test_damage_and_notes_are_told(text: str) -> None:
    assert text.count(r"| cannot be read: a\|b.jpg | 1 |") == 2
    assert text.endswith("- a note\n")
    assert "`me`" in text and r'"A photo of \{\}."' in text


def test_the_largest_drops_first(text: str, tables: dict[str, pd.DataFrame]) -> None:
    part = section(text, "Classes: mine")
    rows = [line.split(" | ")[0].strip("| ") for line in part.splitlines() if line.startswith("| ")]
    classes = class_accuracies(tables["mine"]).sort_values("drop", ascending=False, kind="stable")
    assert rows[1:] == classes["name"].head(10).tolist()
    assert "![classes](classes_2.png)" in part
    assert class_pictures(["mine"]) == {"mine": "classes.png"}


def test_eighty_prompts_have_a_table_of_their_own(tables: dict[str, pd.DataFrame]) -> None:
    text = page({"RN50 openai": tables["mine"]}, templates="openai-imagenet")
    assert cells(section(text, "1 vs 1000, 80 prompts"), "RN50 openai")[3] == "64.55 / 44.20"
    assert cells(section(text, "1 vs 1000, by photo"), "RN50 openai")[3] == "-"
    assert "OpenAI's 80 templates" in text and "1 vs 20" not in text


@pytest.mark.exhaustive
def test_a_model_that_scored_candidates_alone(
    tables: dict[str, pd.DataFrame], chosen: Candidates
) -> None:
    def masked(row: pd.Series) -> np.ndarray:
        kept = np.full(1000, -np.inf, dtype=np.float32)
        labels = list(chosen.of(row["true"]))
        kept[labels] = row["scores"][labels]
        return kept

    few = tables["mine"].assign(scores=tables["mine"].apply(masked, axis=1))
    text = page({PAPER: tables[PAPER], "LLaVA1.5-7B": few}, chosen, rules=["energy"])
    assert "LLaVA" not in section(text, "1 vs 1000") + section(text, "Effective robustness")
    assert cells(section(text, "1 vs 20"), "LLaVA1.5-7B")[3] == "40.06 / 30.09"
    assert "classes, 1 vs 20;" in section(text, "Classes: LLaVA1.5-7B")


def test_a_page_needs_a_model() -> None:
    with pytest.raises(ValueError, match="tables: expected at least one model, got none"):
        page({})


# pictures


def written(figure: Figure) -> np.ndarray:
    stored = io.BytesIO()
    figure.savefig(stored, dpi=80)
    return np.asarray(Image.open(stored).convert("RGB"))


MODELS = {
    "our ViT-B/16": (81.0, 71.5),
    "our CLIP": (80.5, 71.0),
    "ViT-B-32 laion400m_e31": (70.1, 41.3),
    "ViT-L-14 datacomp_xl_s13b_b90k": (89.3, 79.9),
    "tiny": (12.0, 3.0),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("models", [{}, dict([*MODELS.items()][:2]), MODELS], ids=len)
def test_own_models_have_labels_that_do_not_overlap(models: dict) -> None:
    figure = robustness_scatter(models)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    labels = [text for text in axes.texts if "drop" in text.get_text()]
    assert [text.get_text() for text in labels] == [
        f"{name}\n{common:.0f}% → {counter:.0f}%, drop {common - counter:.1f}"
        for name, (common, counter) in models.items()
    ]
    every = [Text.get_window_extent(text) for text in axes.texts]  # without their lines
    frame = axes.get_window_extent()
    for place, box in enumerate(every):
        assert not any(box.overlaps(other) for other in every[place + 1 :])
        assert (box.min >= frame.min).all() and (box.max <= frame.max).all()
    assert written(figure).std() > 10


def test_axes_are_probits_and_lines_are_the_fits() -> None:
    from scipy.stats import norm

    from cci_captum.benchmarks.counteranimal import published_fit

    (axes,) = robustness_scatter({}).axes
    lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
    for name, slope, intercept in (
        ("no drop", 1.0, 0.0),
        ("fit of CLIPs", *published_fit("clip")[:2]),
        ("fit of ImageNet models", *published_fit("imagenet")[:2]),
    ):
        assert lines[name][:, 1] == pytest.approx(slope * lines[name][:, 0] + intercept)
    for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        share = float(label.get_text().rstrip("%")) / 100
        assert place == pytest.approx(norm.ppf(share)) or share == 0.01
    assert len(axes.collections) == 28 + 15
    edges = [each.get_linewidth()[0] for each in axes.collections]
    assert edges.count(0.9) == 8  # curated data


@pytest.mark.parametrize("pair", [(101, 50), (50,), (float("nan"), 3)])
def test_what_is_no_accuracy_is_refused(pair: tuple) -> None:
    with pytest.raises(ValueError, match="models: expected two accuracies from 0 to 100, got"):
        robustness_scatter({"mine": pair})


@pytest.mark.exhaustive
def test_the_ends_of_probits_are_drawn_at_the_edge() -> None:
    assert written(robustness_scatter({"all": (100.0, 0.0)})).std() > 10


@pytest.mark.exhaustive
def test_dumbbells(tables: dict[str, pd.DataFrame]) -> None:
    classes = class_accuracies(tables["mine"])
    figure = class_dumbbells(classes, title="mine", count=7)
    axes = figure.axes[0]
    shown = classes.sort_values("drop", ascending=False, kind="stable").head(7)
    assert [label.get_text() for label in axes.get_yticklabels()] == shown["name"].tolist()
    texts = [text.get_text() for text in axes.texts]
    for row in shown.to_dict("records"):
        assert row["common_background"] in texts and row["counter_background"] in texts
    dots = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
    assert dots == pytest.approx(shown[["common", "counter"]].to_numpy().ravel().tolist())
    assert written(figure).std() > 5
    with pytest.raises(ValueError, match="classes: expected some with photos in both groups"):
        class_dumbbells(classes.assign(drop=math.nan))


# the scorer of the documentation


def test_the_scorer_of_the_page_is_minus_the_mean_loss() -> None:
    """A tiny random LLaVA, against log-probabilities token by token in float64."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    image_token, question = 63, [1, 63, 63, 63, 63, 5, 9]
    words = {"A cat": [7, 8], "A dog": [7, 3, 4]}
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config={"model_type": "clip_vision_model", "hidden_size": 16, "image_size": 8,
                       "patch_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "intermediate_size": 16, "projection_dim": 16},
        text_config={"model_type": "llama", "vocab_size": 64, "hidden_size": 16,
                     "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
                     "intermediate_size": 16},
        image_token_index=image_token, image_token_id=image_token, vision_feature_layer=-1,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).double().eval()

    class Inputs(dict):
        def to(self, device: Any, dtype: Any) -> Inputs:
            return Inputs({k: v.to(dtype) if v.is_floating_point() else v for k, v in self.items()})

    def processor(images: Image.Image, text: str, return_tensors: str) -> Inputs:
        answer = words.get(text.partition("ASSISTANT: ")[2], [])
        pixels = torch.from_numpy(np.array(images.resize((8, 8)))).permute(2, 0, 1)[None] / 255
        ids = torch.tensor([question + answer])
        return Inputs(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels)

    names: dict[str, Any] = {}
    (code,) = [b for b in blocks(ROOT / "docs" / "counteranimal.md") if "def minus_loss" in b.code]
    exec(code.code, names)
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)) for _ in range(2)]
    scores = names["minus_loss"](model, processor)(images, [*words])
    for image, row in zip(images, scores, strict=True):
        for score, answer in zip(row, words.values(), strict=True):
            given = processor(image, "ASSISTANT: ", "pt").to("cpu", torch.float64)
            given["input_ids"] = torch.tensor([question + answer])
            given["attention_mask"] = torch.ones_like(given["input_ids"])
            with torch.no_grad():
                said = model(**given).logits[0].log_softmax(dim=1)
            start = len(question) - 1  # what follows the last token of the question
            expected = [float(said[start + i, token]) for i, token in enumerate(answer)]
            assert score == pytest.approx(np.mean(expected), abs=1e-6)
    assert len({round(score, 6) for row in scores for score in row}) == 4
