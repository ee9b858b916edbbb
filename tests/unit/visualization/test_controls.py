"""What one chooses of a picture: its style, outlines, letters, and where it is drawn."""

from __future__ import annotations

import itertools
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from helpers import texts
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image
from selection import quick_first

from cci_captum import (
    ClusterEffects,
    attribution_grid,
    explain,
    faithfulness_curves,
    paired_scatter,
    show_clusters,
    text_heat,
)
from cci_captum.baselines import MethodSpec
from cci_captum.visualization import Band

WHITE = torch.ones(1, 3, 256, 256)
WORDS = "alpha beta gamma delta_epsilon zeta"


def pictures(figure: Figure) -> list[np.ndarray]:
    """The pixels in each cell, row by row."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def written(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Every text that is seen, and its rectangle in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = [t for t in figure.findobj(Text) if t.get_text() and t.get_visible()]
    return [(t, t.get_window_extent(canvas.get_renderer())) for t in found if t.axes or t.figure]


def check_layout(figure: Figure) -> None:
    """No text overlaps another or a picture or leaves the page, but for those in a picture."""
    boxes = []
    for text, box in written(figure):
        inside = text.axes is not None and text.axes.images and text in text.axes.texts
        boxes += [] if inside else [box]
    page = figure.bbox
    cells = [axes.get_window_extent() for axes in figure.axes if axes.images]
    for box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    for one, other in itertools.combinations([*boxes, *cells], 2):
        assert not one.shrunk(0.97, 0.97).overlaps(other.shrunk(0.97, 0.97))


# Spotlights.


def test_a_spotlight_dims_the_photo_where_the_map_is_low() -> None:
    """Against the formula: p (0.2 + 0.8 max(v, 0) / max v)."""
    photo = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([[[2.0, 1.0], [0.0, -3.0]]])
    figure = attribution_grid(photo, {"map": values}, style="spotlight", cmap="PiYG")
    light = 0.2 + 0.8 * np.array([[1.0, 0.5], [0.0, 0.0]])
    expected = photo[0].double().permute(1, 2, 0).numpy()
    expected = expected * light.repeat(128, 0).repeat(128, 1)[..., None]
    np.testing.assert_allclose(pictures(figure)[1], expected, atol=1e-6)
    (bar,) = [axes for axes in figure.axes if not axes.images]
    assert [t.get_text() for t in bar.get_yticklabels()] == ["\u2264 0", "max"]
    assert bar.get_ylabel() == "shown as it supports"


def test_spotlights_share_a_scale_and_keep_their_place() -> None:
    maps = {"a": torch.full((1, 2, 2), 4.0), "b": torch.full((1, 2, 2), 1.0)}
    figure = attribution_grid(
        WHITE,
        maps,
        style="spotlight",
        scale="shared",
        image_strength=0.0,
        fields_of_view=[(64, -64, 192, 192)],
        masks=torch.ones(1, 4, 4, dtype=torch.bool),
    )
    strong, weak = pictures(figure)[1:]
    expected = np.zeros((256, 256, 3))
    expected[:192, 64:192] = 1.0
    assert np.array_equal(strong, expected) and np.allclose(weak, expected / 4)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["\u2264 0", "4"]


def test_nothing_positive_is_no_light() -> None:
    """What is negative, or below rounding, does not become the strongest of a spotlight."""
    values = torch.tensor([[[-1.0, 1e-9]], [[0.0, 0.0]]])
    whole = [(0, 0, 256, 256)] * 2
    figure = attribution_grid(
        WHITE.repeat(2, 1, 1, 1), {"m": values}, style="spotlight", unit="x", fields_of_view=whole
    )
    for cell in pictures(figure)[1::2]:
        assert np.allclose(cell, 0.2, atol=1e-6)
    assert {"no positive value", "zero everywhere"} <= {*texts(figure)}


def test_heat_is_the_usual_style() -> None:
    values = {"m": torch.randn(1, 4, 4)}
    for one, other in zip(
        pictures(attribution_grid(WHITE, values)),
        pictures(attribution_grid(WHITE, values, style="heat", image_strength=0.55)),
        strict=True,
    ):
        assert np.array_equal(one, other)
    with pytest.raises(ValueError, match="style: expected 'heat' or 'spotlight', got 'glow'"):
        attribution_grid(WHITE, values, style="glow")  # type: ignore[arg-type]


# Outlines.


def outline_of(axes: Axes) -> set[tuple[tuple[float, ...], ...]]:
    """The thick lines in axes."""
    widest = max(axes.collections, key=lambda c: c.get_linewidths()[0])
    return {tuple(map(tuple, np.round(line, 6))) for line in widest.get_segments()}  # type: ignore[attr-defined]


def square(left: float, top: float, right: float, bottom: float, patch: float) -> set[Any]:
    """The lines around a rectangle, a patch at a time, in pixels whose centres are whole."""
    found = set()
    for x in np.arange(left, right, patch):
        found |= {((x, top), (x + patch, top)), ((x, bottom), (x + patch, bottom))}
    for y in np.arange(top, bottom, patch):
        found |= {((left, y), (left, y + patch)), ((right, y), (right, y + patch))}
    return {tuple((x - 0.5, y - 0.5) for x, y in line) for line in found}


def quarters(drops: list[list[float]]) -> ClusterEffects:
    """Of 4 x 4 patches, a cluster a quarter, numbered 10 to 13."""
    labels = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    count = len(drops)
    return ClusterEffects(
        labels=labels.repeat(count, 1, 1),
        outputs=torch.zeros(count),
        masked_outputs=-torch.tensor(drops),
        image_shape=(3, 256, 256),
        clusters=torch.arange(10, 14).repeat(count, 1),
    )


def test_the_strongest_cluster_is_outlined_along_its_patches() -> None:
    effects = quarters([[0.1, 0.4, -0.9, 0.2], [-0.1, -0.2, -0.3, -0.4]])
    images = WHITE.repeat(2, 1, 1, 1)
    figure = show_clusters(effects, images, outline=True)
    assert outline_of(figure.axes[1]) == square(128, 0, 256, 128, 64)
    assert len(figure.axes[4].collections) == 1  # none supports: borders alone
    figure = show_clusters(effects, images, outline=[12, 13])
    assert outline_of(figure.axes[1]) == square(0, 128, 128, 256, 64)
    assert outline_of(figure.axes[4]) == square(128, 128, 256, 256, 64)
    assert len(show_clusters(effects, images).axes[1].collections) == 1


@pytest.mark.parametrize(
    ("outline", "error", "message"),
    [
        ("strongest", TypeError, "outline: expected True, False or the number .* got 'strongest'"),
        (3, TypeError, "outline: expected True, False or the number .* got 3"),
        ([10, 11], ValueError, "outline: expected 1 numbers, one an image, got 2"),
        ([0], ValueError, r"outline\[0\]: expected one of the clusters \[10, .* 13\], got 0"),
    ],
)
def test_outlines_of_no_cluster(outline: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        show_clusters(quarters([[0.1, 0.4, -0.9, 0.2]]), WHITE, outline=outline)


def test_an_outline_lies_where_the_map_does() -> None:
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 1, 2] = True
    maps = {"a": torch.randn(1, 4, 4), "b": torch.randn(1, 4, 4)}
    figure = attribution_grid(
        torch.rand(1, 3, 30, 60), maps, outlines={"b": mask}, fields_of_view=[(20, -5, 60, 35)]
    )
    _, other, outlined, _ = sorted(figure.axes, key=lambda axes: axes.get_position().x0)
    assert not other.collections
    assert outline_of(outlined) == square(40, 5, 50, 15, 10)
    assert outlined.get_xlim() == (-0.5, 59.5) and outlined.get_ylim() == (29.5, -0.5)


@pytest.mark.parametrize(
    ("outlines", "error", "message"),
    [
        ([], TypeError, "outlines: expected column name -> masks, got list"),
        ({"x": []}, ValueError, r"outlines: expected columns among \['a'\], got \['x'\]"),
        ({"a": []}, ValueError, r"outlines\['a'\]: expected 1 masks, one an image, got 0"),
        ({"a": [np.ones((2, 2))]}, ValueError, r"outlines\['a'\]\[0\]: expected bool of shape"),
        ({"a": [np.ones((2, 9), bool)]}, ValueError, r"outlines\['a'\]: a map of 2 x 9 cannot"),
    ],
)
def test_wrong_outlines(outlines: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        attribution_grid(WHITE, {"a": torch.rand(1, 2, 2)}, outlines=outlines)


def test_explanations_outline_what_supports_each_text() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (96, 120, 3), np.uint8))
    found = explain(photo, ["a cat", "a tree"], "tiny", device="cpu")
    assert found.effects is not None
    figure = found.figure(outline=True, image_column=False, colorbar=False)
    for index, axes in enumerate(figure.axes):
        best = int(found.drops[0, index].argmax())
        assert found.drops[0, index, best] > found.effects.rounding(index)
        lines = outline_of(axes)
        patches = np.pad((found.effects.labels[0] == best).numpy(), 1).astype(int)
        edges = int(np.abs(np.diff(patches, axis=0)).sum() + np.abs(np.diff(patches, axis=1)).sum())
        assert len(lines) == edges
        ends = np.array([*lines]) + 0.5
        assert np.allclose((ends - (12, 0)) / 8 % 1, 0)  # patches of 8 pixels from column 12 on
    other = explain(photo, "a cat", "tiny", method=MethodSpec.parse("rise(masks=4)"), device="cpu")
    with pytest.raises(ValueError, match="outline: expected methods that hide clusters, got RISE"):
        other.figure(outline=True)


# Letters.


@pytest.mark.parametrize("size", quick_first([12, 5]))
def test_all_texts_have_the_size_asked_for(size: float) -> None:
    maps = {WORDS: torch.randn(2, 4, 4), "b": torch.randn(2, 4, 4)}
    figure = attribution_grid(
        torch.rand(2, 3, 8, 8),
        maps,
        row_titles=[WORDS, "b"],
        scores={"b": [WORDS, 1]},
        unit="drop",
        font_size=size,
    )
    assert {text.get_fontsize() for text, _ in written(figure)} == {size}
    check_layout(figure)
    effects = quarters([[0.1, 0.4, -0.9, 0.2]] * 2)
    figure = show_clusters(effects, torch.rand(2, 3, 8, 8), row_titles=["a", "b"], font_size=size)
    assert {text.get_fontsize() for text, _ in written(figure)} == {size}
    check_layout(figure)
    curves = {title: {"CCI": Band([0.0, 1.0]), WORDS: Band([0.5, 0.5])} for title in (WORDS, "b")}
    check_plots(faithfulness_curves([0, 1], curves, font_size=size), size)
    values = {"CCI": [0.1, 0.2], WORDS: [0.3, 0.1], "b": [0.2, 0.2]}
    check_plots(paired_scatter(values, "CCI", title=WORDS, font_size=size), size)


def test_words_have_the_size_asked_for() -> None:
    pieces = [("a ", None), ("cat", 0.31), (" on ", None), ("snow", -0.05)]
    figures = [text_heat([pieces], row_titles=["one"], font_size=size) for size in (5, 12)]
    for figure, size in zip(figures, (5, 12), strict=True):
        assert {text.get_fontsize() for text, _ in written(figure)} == {size}
        check_layout(figure)
    small, large = (figure.get_size_inches() for figure in figures)
    assert (large > 1.5 * small).all()


def check_plots(figure: Figure, size: float) -> None:
    """All is of one size, on the page, and no text of the page lies on another or on a plot."""
    found = written(figure)
    assert {text.get_fontsize() for text, _ in found} == {size}
    page = figure.bbox
    assert all(page.x0 <= b.x0 and b.x1 <= page.x1 and page.y0 <= b.y0 for _, b in found)
    heads = [box for text, box in found if text in figure.texts]
    plots = [axes.get_window_extent() for axes in figure.axes]
    for one, other in itertools.combinations([*heads, *plots], 2):
        assert not one.shrunk(0.97, 0.97).overlaps(other.shrunk(0.97, 0.97))


def test_font_sizes_are_numbers_above_zero() -> None:
    with pytest.raises(ValueError, match="font_size: expected a finite number above 0, got 0"):
        attribution_grid(WHITE, {"m": torch.rand(1, 2, 2)}, font_size=0)


def test_dollars_are_text_or_mathematics() -> None:
    tall = r"$\frac{\frac{a}{b}}{\frac{c}{d}}$ of all the words that there are"
    maps = {tall: torch.rand(1, 4, 4), "costs $5": torch.rand(1, 4, 4)}
    options: dict[str, Any] = {"scores": {tall: [tall]}, "row_titles": [tall]}
    plain = attribution_grid(WHITE, maps, **options)
    assert not any(text.get_parse_math() for text in plain.texts)
    assert sum("$" in text.get_text() for text in plain.texts) > 3
    figure = attribution_grid(WHITE, maps, math=True, **options)
    assert all(text.get_parse_math() for text in figure.texts)
    formulas = [text.get_text() for text in figure.texts if "\\frac" in text.get_text()]
    assert len(formulas) == 3 and all(text.count("$") == 2 for text in formulas)  # never broken
    assert "costs $5" in texts(figure)
    check_layout(figure)
    assert (
        figure.get_size_inches()[1]
        > attribution_grid(
            WHITE, {tall.replace("$", ""): maps[tall]}, cell_width=1.5
        ).get_size_inches()[1]
        - 1
    )
    for broken, message in (
        (r"$\frac{a$", "formulas that matplotlib can read"),
        ("$" + "a + " * 40 + "b$", "formulas of at most"),
    ):
        with pytest.raises(ValueError, match=f"math: expected {message}"):
            attribution_grid(WHITE, {broken: torch.rand(1, 4, 4)}, math=True)
    for figure in (
        faithfulness_curves([0, 1], {"$x^2$": {"$y$": Band([0, 1])}}, math=True),
        paired_scatter({"$x$": [0, 1], "$y$": [1, 1]}, "$x$", title="$z$", math=True),
        show_clusters(quarters([[0.1, 0, 0, 0]]), WHITE, row_titles=["$x$"], math=True),
    ):
        found = [text for text, _ in written(figure) if "$" in text.get_text()]
        assert found and all(text.get_parse_math() for text in found)


# A caller's own figure.


def state(figure: Figure | SubFigure) -> list[Any]:
    """What a figure holds, and how it looks."""
    found = [dict(matplotlib.rcParams), figure.get_facecolor(), tuple(figure.bbox.bounds)]
    for axes in figure.axes:
        texts = [(t.get_text(), t.get_fontsize(), t.get_fontfamily()) for t in axes.findobj(Text)]
        found.append((axes.get_position().bounds, axes.get_xlim(), texts, len(axes.get_children())))
    return found


@pytest.mark.parametrize("kind", ["grid", "clusters"])
@pytest.mark.parametrize("size", [(6.0, 2.5), (4.0, 7.0)])
def test_a_figure_of_ones_own(size: tuple[float, float], kind: str) -> None:
    figure = Figure(figsize=size, dpi=100, facecolor="grey")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 3])
    axes = left.subplots()
    axes.plot([1, 2])
    axes.set_title("$x^2$ \u732b")  # not ours to put into another font
    before = state(left)

    def draw(**options: Any) -> Figure:
        if kind == "grid":
            maps = {"one": torch.randn(2, 4, 4), WORDS: torch.randn(2, 4, 4)}
            return attribution_grid(torch.rand(2, 3, 8, 8), maps, row_titles=["a", "b"], **options)
        effects = quarters([[0.1, 0.4, -0.9, 0.2]] * 2)
        return show_clusters(effects, torch.rand(2, 3, 8, 8), row_titles=["a", "b"], **options)

    assert draw(fig=right, font_size=5) is figure
    assert state(left) == before and tuple(figure.get_size_inches()) == size
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    room = right.bbox
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in right.texts]
    cells = [axes.get_window_extent() for axes in right.axes]
    assert len(cells) == (7 if kind == "grid" else 6)
    for box in [*boxes, *cells]:
        assert room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
    for one, other in itertools.combinations([*boxes, *cells], 2):
        assert not one.shrunk(0.95, 0.95).overlaps(other.shrunk(0.95, 0.95))
    tight = [axes.get_tightbbox(canvas.get_renderer()) for axes in right.axes]  # and their labels
    used = Bbox.union([*boxes, *filter(None, tight)])
    assert used.width > 0.85 * room.width or used.height > 0.85 * room.height  # as large as it can
    middle = (used.x0 + used.x1) / 2 - (room.x0 + room.x1) / 2
    assert abs(middle) < 0.06 * room.width
    with pytest.raises(ValueError, match=r"fig: expected at least .* inches"):
        draw(fig=Figure(figsize=(6, 0.8)))
    with pytest.raises(ValueError, match=r"fig: expected at least .* inches"):
        draw(fig=Figure(figsize=(0.8, 6)))
    with pytest.raises(ValueError, match="width: expected None with fig or ax"):
        draw(fig=right, width=3.25)
    with pytest.raises(TypeError, match="fig: expected a matplotlib Figure or SubFigure, got Axes"):
        draw(fig=axes)
    with pytest.raises(TypeError, match="ax: expected matplotlib Axes, got ndarray"):
        draw(ax=np.array([axes]))
    with pytest.raises(ValueError, match="ax: expected None together with fig"):
        draw(fig=figure, ax=axes)
    with pytest.raises(ValueError, match="ax: expected one image"):
        draw(ax=axes)


def own_axes() -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(6, 3), facecolor="grey")
    first, second = figure.subplots(1, 2)
    first.plot([1, 2])
    first.set_title("mine")
    return figure, first, second


@pytest.mark.parametrize("style", ["heat", "spotlight"])
def test_axes_of_ones_own(style: Any) -> None:
    figure, other, axes = own_axes()
    place = axes.get_position().bounds
    before = state(figure)[:-1]
    image, values = torch.rand(1, 3, 20, 40), torch.tensor([[[0.5, -2.0], [0.25, 1.0]]])
    options: dict[str, Any] = {
        "scores": {"m": [0.25]}, "unit": "drop", "style": style, "fields_of_view": [(0, 0, 20, 20)],
    }  # fmt: skip
    assert attribution_grid(image, {"m": values}, ax=axes, **options) is figure
    assert len(figure.axes) == 2 and state(figure)[:-1] == before
    alone = attribution_grid(image, {"m": values}, **options)
    assert np.array_equal(np.asarray(axes.images[0].get_array()), pictures(alone)[1])
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 39.5), (19.5, -0.5))  # the image's pixels
    strongest = "\N{MINUS SIGN}2" if style == "heat" else "1"
    assert (axes.get_title(), axes.get_xlabel()) == ("m", f"0.250\n{strongest} drop")
    assert axes.title.get_fontsize() == other.title.get_fontsize()
    bar = figure.colorbar(axes.images[-1], ax=axes)  # in the values' own unit
    assert (bar.vmin, bar.vmax) == ((-2, 2) if style == "heat" else (0, 1))
    assert axes.get_position().bounds != place  # by the caller's colour bar, not before
    before_title = axes.get_title()
    attribution_grid(image, {"m": values}, ax=axes, titles=["image", ""], **options)
    assert axes.get_title() == before_title


def test_clusters_and_curves_in_axes_of_ones_own() -> None:
    figure, _, axes = own_axes()
    before = state(figure)[:-1]
    effects = quarters([[0.1, 0.4, -0.9, 0.2]])
    assert show_clusters(effects, WHITE, ax=axes, outline=True, row_titles=["cat"]) is figure
    assert state(figure)[:-1] == before and axes.get_title() == "cat"
    assert [text.get_text() for text in axes.texts] == ["10", "11", "12", "13"]
    assert np.array_equal(
        np.asarray(axes.images[0].get_array()), pictures(show_clusters(effects, WHITE))[1]
    )
    figure, _, axes = own_axes()
    panel = {"CCI": Band([0.9, 0.1], [0.8, 0.0], [1.0, 0.2]), "Random": Band([0.9, 0.6])}
    options: dict[str, Any] = {"references": ["Random"], "labels": {"CCI": "ours"}}
    assert faithfulness_curves([0, 1], {"deletion": panel}, ax=axes, **options) is figure
    assert state(figure)[:-1] == before and axes.get_title() == "deletion"
    assert axes.get_ylabel() == "top-1 accuracy" and axes.get_legend() is None
    assert {t.get_text() for t in axes.legend().get_texts()} == {"ours", "Random"}
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.9, 0.1], [0.9, 0.6]]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="ax: expected one panel, got 2"):
        faithfulness_curves([0, 1], {"a": panel, "b": panel}, ax=axes)


# Clusters in a column of a paper.


def scattered(clusters: int, seed: int = 0) -> ClusterEffects:
    random = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(144, generator=random) for _ in range(2)])
    labels = (order % clusters).view(2, 12, 12)
    drops = torch.randn(2, clusters, generator=random) * 0.05
    return ClusterEffects(
        labels=labels,
        outputs=torch.zeros(2),
        masked_outputs=-drops,
        image_shape=(3, 96, 96),
    )


@pytest.mark.parametrize(("clusters", "seed"), quick_first([(7, 2), (30, 0)]))
def test_numbers_do_not_collide(clusters: int, seed: int) -> None:
    effects = scattered(clusters, seed)
    figure = show_clusters(effects, torch.rand(2, 3, 96, 96), width=3.25)
    assert figure.get_size_inches()[0] == pytest.approx(3.25)
    check_layout(figure)
    boxes = dict(written(figure))
    for row in range(2):
        _, picture, bars = figure.axes[3 * row : 3 * row + 3]
        for one, other in itertools.combinations([boxes[text] for text in picture.texts], 2):
            assert not one.overlaps(other)
        for one, other in itertools.combinations([boxes[text] for text in bars.texts], 2):
            assert not one.shrunk(0.97, 0.97).overlaps(other.shrunk(0.97, 0.97))
        assert min(t.get_fontsize() for t in [*picture.texts, *bars.texts]) >= 5
        assert len(bars.patches) == clusters
        ranked = effects.drops()[row].abs().argsort(descending=True).tolist()
        assert {t.get_text() for t in picture.texts} >= {
            str(k) for k in ranked[: 7 if clusters == 7 else 3]
        }
        for text in picture.texts:
            x, y = text.get_position()
            patch = effects.labels[row, int((y + 0.5) / 8), int((x + 0.5) / 8)]
            assert int(patch) == int(text.get_text())
    said = [t for t in texts(figure) if "no room for" in t or "number" in t or "value" in t]
    assert bool(said) == (clusters == 30)


@pytest.mark.exhaustive
def test_what_has_no_room_is_said() -> None:
    effects = scattered(30)
    figure = show_clusters(effects, torch.rand(2, 3, 96, 96), width=2.6)
    picture, bars = figure.axes[1], figure.axes[2]
    said = " ".join(texts(figure))
    assert f"no room for {30 - len(picture.texts)} number" in said
    assert f"no room for {30 - len(bars.texts)} value" in said


def test_a_width_that_is_too_small() -> None:
    with pytest.raises(ValueError, match=r"width: expected at least \d.\d\d inches for two pict"):
        show_clusters(scattered(7), torch.rand(2, 3, 96, 96), width=1.5)
    least = 3.25
    figure = show_clusters(scattered(7), torch.rand(2, 3, 96, 96), width=least, font_size=8)
    check_layout(figure)


def test_a_small_map_is_not_filled_by_its_outline() -> None:
    mask = torch.zeros(1, 24, 24, dtype=torch.bool)
    mask[0, 3, 3] = True
    widths = []
    for width in (2.0, 7.0):
        figure = attribution_grid(
            WHITE, {"m": torch.rand(1, 24, 24)}, outlines={"m": mask}, width=width
        )
        axes = next(a for a in figure.axes if a.collections and a.images)
        patch = 72 * axes.get_window_extent().width / figure.dpi / 24  # points
        thick = max(float(c.get_linewidths()[0]) for c in axes.collections)
        assert thick <= 0.41 * patch
        widths.append(thick)
    assert widths[0] < widths[1] <= 2.8


def test_values_are_left_alone() -> None:
    values = torch.randn(1, 4, 4)
    before = values.clone()
    attribution_grid(WHITE, {"m": values}, style="spotlight", interpolation="bicubic")
    assert torch.equal(values, before)
