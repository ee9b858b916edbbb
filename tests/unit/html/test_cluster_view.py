"""Clusters without photos: what the page holds, and what a browser makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from markup import HOSTILE, Page, picture

from cci_captum import ClusterEffects
from cci_captum.html import cluster_view
from cci_captum.visualization._page import DIVERGING

MINUS = "\N{MINUS SIGN}"
LABELS = [[0, 0, 1], [2, 0, 1]]
DROPS = {"a cat": [[0.5, -0.25, 0.0]], "a dog": [[0.125, 1.0, -2e-7]]}


def effects(images: int = 1, targets: int = 3) -> ClusterEffects:
    """Of a drop of (t + 1) (k - 1) / 8 for target t and cluster k."""
    drops = (torch.arange(targets)[None] + 1) * (torch.arange(3)[:, None] - 1.0) / 8
    outputs = torch.arange(images * targets).view(images, targets) % 7 + 1.0
    return ClusterEffects(
        labels=torch.tensor([LABELS] * images),
        outputs=outputs,
        masked_outputs=outputs[:, None] - drops,
        image_shape=(3, 16, 24),
        clusters=torch.tensor([[4, 8, 9]] * images),
    )


def test_a_page_of_clusters_holds_their_drops_and_no_photo() -> None:
    page = Page(cluster_view([LABELS], DROPS, clusters=[[7, 8, 9]], unit="logit"))
    (row,) = page.data["rows"]
    assert row["labels"] == LABELS and row["clusters"] == [7, 8, 9]
    for held, drops in zip(row["maps"], DROPS.values(), strict=True):
        assert held == np.array(drops[0])[np.array(LABELS)].tolist()
    (image,) = page.all("img")
    assert image["alt"] == "clusters of image 1"
    pixels = np.asarray(picture(image))
    side = pixels.shape[0] // 2
    assert pixels.shape[:2] == (2 * side, 3 * side)
    middles = pixels[side // 2 :: side, side // 2 :: side]
    colours = {k: {tuple(c) for c in middles[np.array(LABELS) == k]} for k in range(3)}
    assert [len(own) for own in colours.values()] == [1, 1, 1]
    assert len(set.union(*colours.values())) == 3
    numbers = [e for e in page.all("span") if e.get("class") == "cci-number"]
    assert [text for tag, text in page.texts if tag == "span" and text in "789"] == ["7", "8", "9"]
    assert len(numbers) == 3 and "left: 83.33%; top: 25.0%" in numbers[1]["style"]
    assert not page.all("input")  # no opacity: there is nothing below


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": 3}, TypeError, "labels: expected a clustering an image, got 3"),
        ({"labels": []}, ValueError, "labels: expected at least one image, got none"),
        ({"labels": [[0, 1]]}, ValueError, r"labels\[0\]: expected a map \(h, w\) of numbers"),
        ({"labels": [[[0.5]]]}, ValueError, r"labels\[0\]: expected whole numbers from 0"),
        ({"labels": [[[-1]]]}, ValueError, r"labels\[0\]: expected whole numbers from 0"),
        ({"columns": []}, TypeError, "columns: expected title -> drops, got list"),
        ({"columns": {}}, ValueError, "columns: expected at least one column, got none"),
        ({"columns": {"a": [[0.5]]}}, ValueError, r"\['a'\]\[0\]: .* each of 3 clusters, got 1"),
        ({"columns": {"a": [0.5]}}, ValueError, r"\['a'\]\[0\]: expected a row \(K,\) of num"),
        ({"columns": {"a": []}}, ValueError, r"columns\['a'\]: expected 1 rows of drops"),
        ({"columns": {"a": [[0, 0, np.nan]]}}, ValueError, "got NaN or infinity"),
        ({"clusters": [[1, 2]]}, ValueError, r"clusters\[0\]: .* each of 3 clusters, got 2"),
        (
            {"scores": {"x": [1]}},
            ValueError,
            r"scores: expected columns among .*, got",
        ),
    ],
)
def test_what_is_refused(change: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        cluster_view(**{"labels": [LABELS], "columns": DROPS, **change})


def test_texts_are_escaped() -> None:
    view = cluster_view(
        [LABELS], {HOSTILE: [[1, 2, 3]]}, row_titles=[HOSTILE], scores={HOSTILE: [HOSTILE]},
        unit=HOSTILE, title=HOSTILE,
    )  # fmt: skip
    page = Page(view)
    assert len(page.all("script")) == 2 and len(page.all("img")) == 1
    assert page.all("img")[0]["alt"] == f"clusters of {HOSTILE}"


def test_effects_show_themselves() -> None:
    found = effects()
    page = Page(str(found._repr_html_()))
    (row,) = page.data["rows"]
    assert row["clusters"] == [4, 8, 9] and page.data["unit"] == "drop"
    names = [text for tag, text in page.texts if tag == "figcaption"]
    assert names == ["clusters", "target 2", "target 1", "target 0"]  # the strongest first
    for held, target in zip(row["maps"], (2, 1, 0), strict=True):
        expected = found.drops(target)[0][found.labels[0]]
        torch.testing.assert_close(torch.tensor(held), expected, rtol=1e-3, atol=1e-9)


def test_targets_are_chosen_and_named() -> None:
    found = effects(images=2, targets=7)  # whose largest outputs are 6 of both, then 5
    page = Page(found.to_html({"a cat": 4, "a dog": [1, 0]}, row_titles=["a", "b"]))
    assert [t for tag, t in page.texts if tag == "figcaption"][:3] == ["clusters", "a cat", "a dog"]
    held = torch.tensor(page.data["rows"][1]["maps"][1])
    torch.testing.assert_close(held, found.drops([1, 0])[1][found.labels[1]], rtol=1e-3, atol=1e-9)
    assert "score 5.000" in [text for tag, text in page.texts if tag == "span"]
    for targets, names in (([1, 3], [1, 3]), (None, [6, 5])):
        page = Page(found.to_html(targets, most=2))
        captions = [text for tag, text in page.texts if tag == "figcaption"][1:3]
        assert captions == [f"target {name}" for name in names]
    with pytest.raises(ValueError, match="targets: expected at least one, got none"):
        found.to_html([])
    with pytest.raises(ValueError, match="most: expected"):
        found.to_html(most=0)


def test_each_image_has_its_own_strongest_target() -> None:
    found = effects(images=2, targets=4)
    outputs = torch.tensor([[9.0, 1, 2, 8], [1.0, 9, torch.inf, 8]])
    found = replace(found, outputs=outputs)
    captions = [t for tag, t in Page(found.to_html()).texts if tag == "figcaption"][:4]
    assert captions == ["clusters", "target 0", "target 1", "target 3"]  # and not the infinite


def test_outputs_of_any_shape() -> None:
    found = effects(targets=6)
    one = replace(found, outputs=found.outputs[:, 0], masked_outputs=found.masked_outputs[..., 0])
    assert ("figcaption", "output") in Page(str(one._repr_html_())).texts
    many = replace(
        found,
        outputs=found.outputs.view(1, 2, 3),
        masked_outputs=found.masked_outputs.view(1, 3, 2, 3),
    )
    page = Page(str(many._repr_html_()))
    assert ("figcaption", "target (1, 2)") in page.texts
    assert ("p", "3 of 6 outputs, the strongest") in page.texts


def test_many_images_are_the_first_eight() -> None:
    page = Page(str(effects(images=11)._repr_html_()))
    assert len(page.data["rows"]) == 8 and ("p", "8 of 11 images") in page.texts
    assert effects()[[]]._repr_html_() is None


def test_drops_within_rounding_are_zero() -> None:
    found = effects(targets=1)
    still = replace(found, masked_outputs=found.outputs[:, None].repeat(1, 3, 1) * (1 + 1e-7))
    page = Page(still.to_html())
    assert page.data["rows"][0]["maps"] == [[[0, 0, 0], [0, 0, 0]]]
    said = [text for tag, text in page.texts if tag == "span"]
    assert "score 1.000, drops zero within rounding" in said


# In a browser.


def test_the_pointer_gives_the_drop_of_its_cluster(opened: Any) -> None:
    page = cluster_view(
        [LABELS, LABELS],
        {name: drops * 2 for name, drops in DROPS.items()},
        clusters=[[7, 8, 9]] * 2,
        fragment=False,
    )
    shown = opened(html=page)
    assert (shown.pixels(0)[:, :, 3] == 255).all()
    before = shown.pixels(1)
    shown.hover(0.9, 0.9)
    values = [f"cluster 8: {MINUS}0.25 drop", "cluster 8: +1 drop", "", ""]
    assert shown.values() == values
    assert shown.live() == f"row 2 of 2, column 3 of 3: {values[0]}"
    # The cluster is outlined in the image's other map too: column 3, from top to bottom.
    changed = np.argwhere((shown.pixels(1) != before).any(axis=2))
    height, width = before.shape[:2]
    assert changed[:, 0].min() <= 2 and changed[:, 0].max() >= height - 3
    assert abs(changed[:, 1].min() - width * 2 / 3) < 0.08 * width
    assert changed[:, 1].max() >= width - 6
    box = shown.page.locator("img").nth(1).bounding_box()  # the picture of the clusters
    shown.page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.9 * box["height"])
    assert shown.values() == ["", "", "cluster 9: 0 drop", f"cluster 9: {MINUS}2e{MINUS}7 drop"]
    shown.page.mouse.move(1, 1)
    assert shown.values() == [""] * 4 and (shown.pixels(1) == before).all()


def test_keys_move_and_colours_are_those_of_figures(opened: Any) -> None:
    shown = opened(html=effects().to_html([2], fragment=False))
    pixels = shown.pixels()
    height, width = pixels.shape[:2]
    for (row, column), cluster in np.ndenumerate(np.array(LABELS)):
        middle = pixels[int((row + 0.5) * height / 2), int((column + 0.5) * width / 3), :3]
        expected = 255 * np.array(DIVERGING(cluster / 2)[:3])  # drops of -3/8, 0 and 3/8
        assert np.abs(middle - expected).max() <= 2
    shown.page.locator("canvas").focus()
    assert shown.values() == [f"cluster 4: {MINUS}0.375 drop"]
    for key, text in (("ArrowRight", "4: \N{MINUS SIGN}0.375"), ("ArrowRight", "8: 0")):
        shown.page.keyboard.press(key)
        assert shown.values() == [f"cluster {text} drop"]
    shown.page.keyboard.press("ArrowDown")
    shown.page.keyboard.press("ArrowLeft")
    shown.page.keyboard.press("ArrowLeft")
    assert shown.live() == "row 2 of 2, column 1 of 3: cluster 9: +0.375 drop"
