"""Figures, looked at through the pixels and texts that they hold."""

from __future__ import annotations

import io
import itertools
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from helpers import texts
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from selection import exhaustive_unless, quick_first
from torch import Tensor

from cci_captum import ClusterEffects, attribution_grid, show_clusters
from cci_captum.visualization import denormalize

MINUS = "\N{MINUS SIGN}"
WHITE_IMAGE = torch.ones(1, 3, 256, 256)  # shows the colours of a map as they are


def pictures(figure: Figure) -> list[np.ndarray]:
    """The pixels in each cell, row by row."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def saturation(rgb: np.ndarray) -> np.ndarray:
    return rgb.max(axis=-1) - rgb.min(axis=-1)


def extents(figure: Figure) -> list[Bbox]:
    """The rectangle of every text in the figure, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = [*figure.texts]
    for axes in figure.axes:
        found += [*axes.texts, *axes.get_yticklabels(), axes.yaxis.label]
    return [t.get_window_extent(canvas.get_renderer()) for t in found if t.get_text()]


def grid(values: Tensor, images: Tensor = WHITE_IMAGE, **options: Any) -> list[np.ndarray]:
    """The cells; maps of any shape are those of the whole image."""
    whole = [(0, 0, images.shape[3], images.shape[2])] * len(images)
    return pictures(attribution_grid(images, {"map": values}, fields_of_view=whole, **options))


# attribution_grid


@pytest.mark.parametrize(("rows", "columns"), quick_first([(3, 2), (1, 1), (2, 8)]))
def test_one_cell_for_each_map(rows: int, columns: int) -> None:
    maps = {f"m{i}": torch.randn(rows, 4, 4) for i in range(columns)}
    figure = attribution_grid(torch.rand(rows, 3, 8, 8), maps)
    assert len(pictures(figure)) == rows * (columns + 1)
    assert len(figure.axes) == rows * (columns + 1) + 1  # the colour bar
    assert texts(figure) == ["image", *maps]


def test_zero_is_the_gray_image() -> None:
    images = torch.rand(1, 3, 256, 256)
    for values in (torch.zeros(1, 4, 4), torch.tensor([[[0.0, 1.0]]])):
        left = grid(values, images)[1][:, :128]
        assert saturation(left).max() < 1e-12
        luma = torch.einsum(
            "chw,c->hw", images[0].double(), torch.tensor([0.299, 0.587, 0.114]).double()
        )
        assert np.allclose(left[..., 0], 1 - 0.55 * (1 - luma[:, :128].numpy()), atol=1e-6)


def test_positive_is_red_and_negative_is_blue() -> None:
    cell = grid(torch.tensor([[[1.0, -1.0, 0.4, -0.4]]]))[1][0]
    strong, weak = cell[[32, 96]], cell[[160, 224]]
    for colours in (strong, weak):
        assert colours[0, 0] > colours[0, 2] + 0.1  # red
        assert colours[1, 2] > colours[1, 0] + 0.1  # blue
    assert (saturation(strong) > saturation(weak) + 0.1).all()


def test_colours_grow_with_the_value() -> None:
    for sign in (1, -1):
        cell = grid(sign * torch.arange(9.0).view(1, 1, 9))[1][0]
        centres = (np.arange(9) + 0.5) * 256 / 9
        assert (np.diff(cell[centres.astype(int)].sum(axis=-1)) < -0.02).all()  # darker and darker


def test_channels_are_averaged() -> None:
    values = torch.randn(1, 4, 6)
    repeated = values[:, None].repeat(1, 3, 1, 1)
    assert np.allclose(grid(values)[1], grid(repeated)[1])
    split = torch.stack([3 * values[0], 0 * values[0], 0 * values[0]])[None]
    assert np.allclose(grid(values, scale=5.0)[1], grid(split, scale=5.0)[1])


@pytest.mark.parametrize(
    ("scale", "same"),  # which of the cells (row, column) look like (0, 0), all maps constant
    [("per-map", [1, 1, 1, 1]), ("per-row", [1, 0, 1, 0]), ("per-column", [1, 1, 0, 0])],
)
def test_scales(scale: Any, same: list[int]) -> None:
    # Values 4, 2 / 2, 1: halves, in rows and in columns.
    maps = {"a": torch.tensor([4.0, 2]).view(2, 1, 1), "b": torch.tensor([2.0, 1]).view(2, 1, 1)}
    figure = attribution_grid(WHITE_IMAGE.repeat(2, 1, 1, 1), maps, scale=scale)
    cells = pictures(figure)
    found = [cells[i] for i in (1, 2, 4, 5)]
    assert [int(np.allclose(cell, found[0])) for cell in found] == same


def test_shared_scale_equals_that_number() -> None:
    maps = {"a": torch.tensor([[[-4.0, 1.0]]]), "b": torch.tensor([[[2.0, 0.5]]])}
    whole = [(0, 0, 256, 256)]
    shared = attribution_grid(WHITE_IMAGE, maps, scale="shared", fields_of_view=whole)
    number = attribution_grid(WHITE_IMAGE, maps, scale=4.0, fields_of_view=whole)
    for one, other in zip(pictures(shared), pictures(number), strict=True):
        assert np.allclose(one, other)
    ticks = [label.get_text() for label in shared.axes[0].get_yticklabels()]
    assert ticks == [f"{MINUS}4", "0", "4"]


def test_patch_maps_are_enlarged_in_place() -> None:
    values = torch.zeros(1, 3, 3)
    values[0, 0, 2] = 1  # the patch in the upper right corner
    red = saturation(grid(values, torch.ones(1, 3, 30, 60))[1]) > 0.1
    height, width = red.shape
    rows, columns = np.nonzero(red)
    assert rows.max() + 1 == height // 3 and columns.min() == width * 2 // 3
    assert red[: height // 3, width * 2 // 3 :].all()


def test_bilinear_is_smooth() -> None:
    values = torch.tensor([[[0.0, 1.0]]])
    nearest, bilinear = grid(values)[1], grid(values, interpolation="bilinear")[1]
    assert len(np.unique(nearest[0], axis=0)) == 2
    assert len(np.unique(bilinear[0], axis=0)) > 100


@pytest.mark.parametrize("kind", ["tensor", "uint8 tensor", "array", "uint8", "pil", "list"])
def test_kinds_of_images(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 256, 300, 3), dtype=np.uint8)
    first = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    images: Any = {
        "tensor": first / 255,
        "uint8 tensor": first,
        "array": pixels / 255,
        "uint8": pixels,
        "pil": [Image.fromarray(p) for p in pixels],
        "list": list(first / 255),
    }[kind]
    found = pictures(attribution_grid(images, {"map": torch.zeros(2, 1, 1)}))[::2]
    assert np.allclose(found, pixels / 255, atol=1e-6)


def test_images_of_different_sizes() -> None:
    images = [Image.new("L", (300, 260), 255), Image.new("RGBA", (260, 512), (255, 0, 0, 255))]
    figure = attribution_grid(images, {"map": [np.ones((2, 2)), np.ones((7, 3))]})
    assert [p.shape[:2] for p in pictures(figure)] == [(260, 300)] * 2 + [(512, 260)] * 2
    assert pictures(figure)[2][0, 0].tolist() == [1, 0, 0]


def test_titles_and_scores() -> None:
    figure = attribution_grid(
        torch.rand(2, 3, 8, 8),
        {"a": torch.rand(2, 2, 2), "b": torch.rand(2, 2, 2)},
        titles=["photo", "$A$", "B"],
        row_titles=["first", "second"],
        scores={"a": torch.tensor([0.25, -1.5]), "image": ["x", "y"], "b": [1, "z"]},
    )
    expected = [
        "photo",
        "$A$",
        "B",
        "first",
        "second",
        "0.250",
        f"{MINUS}1.500",
        "x",
        "y",
        "1.000",
        "z",
    ]
    assert sorted(texts(figure)) == sorted(expected)


LONG = (
    "a very long title of the kind that people give to their methods, with_long_identifiers-in-it"
)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [exhaustive_unless(size == (3, 3), *size) for size in [(1, 1), (3, 3), (2, 8)]],
)
def test_no_text_overlaps_or_leaves_the_page(rows: int, columns: int) -> None:
    names = [f"{LONG} {i}" for i in range(columns)]
    figure = attribution_grid(
        torch.rand(rows, 3, 16, 16),
        {name: torch.rand(rows, 2, 2) for name in names},
        row_titles=[LONG * 3] * rows,
        scores={name: [LONG] * rows for name in names},
        scale=1e-5,
        cell_width=1.0,
    )
    check_layout(figure)


def check_layout(figure: Figure) -> None:
    boxes = extents(figure)
    width, height = figure.canvas.get_width_height()
    page = Bbox.from_bounds(0, 0, width, height)
    cells = [axes.get_window_extent() for axes in figure.axes if axes.images]
    assert len(boxes) > len(cells) / 2
    for box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    for one, other in itertools.combinations([*boxes, *cells], 2):
        assert not one.shrunk(0.97, 0.97).overlaps(other.shrunk(0.97, 0.97))


def test_titles_wrap_between_words() -> None:
    words = "alpha beta gamma delta epsilon zeta eta theta"
    maps = {words: torch.rand(1, 2, 2)}
    lines = texts(attribution_grid(WHITE_IMAGE, maps, cell_width=1.0))[1:]
    assert len(lines) > 2 and " ".join(lines) == words


def test_nothing_global_changes() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = dict(matplotlib.rcParams), matplotlib.get_backend(), pyplot.get_fignums()
    figure = attribution_grid(torch.rand(1, 3, 8, 8), {"map": torch.rand(1, 2, 2)})
    figure.savefig(io.BytesIO(), format="png")
    assert (dict(matplotlib.rcParams), matplotlib.get_backend(), pyplot.get_fignums()) == before


@pytest.mark.parametrize(
    ("format", "head"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("png", b"\x89PNG")]
)
def test_formats(format: str, head: bytes) -> None:
    figure = attribution_grid(torch.rand(1, 3, 8, 8), {"map": torch.rand(1, 2, 2)})
    file = io.BytesIO()
    figure.savefig(file, format=format)
    assert file.getvalue().startswith(head)


def test_inputs_are_left_alone() -> None:
    images, values = torch.rand(1, 3, 8, 8), torch.randn(1, 2, 2, requires_grad=True)
    copies = images.clone(), values.detach().clone()
    attribution_grid(images, {"map": values})
    assert torch.equal(images, copies[0]) and torch.equal(values, copies[1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": torch.rand(3, 8, 8)}, ValueError, r"images: expected a batch.*\(3, 8, 8\)"),
        (
            {"images": torch.rand(2, 4, 8, 8)},
            ValueError,
            r"images\[0\]: expected shape \(3, H, W\)",
        ),
        ({"images": torch.rand(2, 3, 8, 8) * 2}, ValueError, r"in \[0, 1\], got .*denormalize"),
        ({"images": torch.full((2, 3, 8, 8), torch.nan)}, ValueError, r"in \[0, 1\], got nan"),
        ({"images": []}, ValueError, "at least one image"),
        ({"images": 3}, TypeError, "images: expected a tensor, an array or a list"),
        (
            {"maps": torch.rand(2, 2, 2)},
            TypeError,
            "maps: expected column name -> maps, got Tensor",
        ),
        ({"maps": {}}, ValueError, "maps: expected columns"),
        ({"maps": {"image": torch.rand(2, 2, 2)}}, ValueError, "other than 'image'"),
        ({"maps": {"a": torch.rand(3, 2, 2)}}, ValueError, r"maps\['a'\]: expected 2 maps.*got 3"),
        (
            {"maps": {"a": torch.rand(2, 2)}},
            ValueError,
            r"\(B, h, w\) or \(B, C, h, w\), got \(2, 2\)",
        ),
        ({"maps": {"a": torch.full((2, 2, 2), torch.inf)}}, ValueError, "NaN or infinity.*image 0"),
        ({"maps": {"a": 1.0}}, TypeError, r"maps\['a'\]: expected a tensor or an array, got float"),
        ({"titles": ["a"]}, ValueError, "titles: expected a list of 2 strings"),
        ({"row_titles": "ab"}, ValueError, "row_titles: expected a list of 2 strings"),
        ({"scores": {"b": [1, 2]}}, ValueError, r"scores: expected columns among .* got \['b'\]"),
        ({"scores": {"a": [1]}}, ValueError, r"scores\['a'\]: expected 2 values, got 1"),
        ({"scale": "row"}, ValueError, "scale: expected a number or one of .* got 'row'"),
        ({"scale": 0.0}, ValueError, "scale: expected a finite number above 0, got 0"),
        ({"interpolation": "cubic"}, ValueError, "interpolation: expected .* got 'cubic'"),
        ({"image_strength": 2}, ValueError, "image_strength: expected 0 to 1, got 2"),
        ({"cell_width": -1}, ValueError, "cell_width: expected a finite number above 0"),
    ],
)
def test_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "images": torch.rand(2, 3, 8, 8),
        "maps": {"a": torch.rand(2, 2, 2)},
    }
    arguments.update(change)
    with pytest.raises(error, match=message):
        attribution_grid(**arguments)


# show_clusters


def make_effects(drops: list[list[float]], labels: Tensor) -> ClusterEffects:
    """Effects with these drops: of two outputs, the second has them negated."""
    masked = -torch.tensor(drops)
    return ClusterEffects(
        labels=labels,
        outputs=torch.zeros(len(drops), 2),
        masked_outputs=torch.stack([masked, -masked], dim=-1),
        image_shape=(3, 256, 256),
    )


LABELS = torch.tensor([[[0, 1], [2, 2]]])
DROPS = [[-0.1, 0.4, 0.2, 0.0]]  # cluster 3 has no patch


def bars(axes: Axes) -> tuple[list[str], list[float]]:
    """Numbers and values of the bars, from top to bottom."""
    assert axes.yaxis_inverted()
    names = [label.get_text() for label in axes.get_yticklabels()]
    return names, [patch.get_width() for patch in axes.patches]  # type: ignore[attr-defined]


def test_clusters_and_bars() -> None:
    figure = show_clusters(make_effects(DROPS, LABELS), WHITE_IMAGE, target=0)
    image, clusters, bar_axes = figure.axes
    assert (np.asarray(image.images[0].get_array()) == 1).all()
    names, values = bars(bar_axes)
    assert names == ["1", "2", "0"]  # sorted, and without the empty cluster
    assert np.allclose(values, [0.4, 0.2, -0.1])
    assert [t.get_text() for t in bar_axes.texts] == ["0.400", "0.200", f"{MINUS}0.100"]

    painted = np.asarray(clusters.images[0].get_array())
    for corner, number in {(64, 64): "0", (64, 192): "1", (192, 128): "2"}.items():
        bar = bar_axes.patches[names.index(number)]
        assert np.allclose(painted[corner], bar.get_facecolor()[:3])  # the same colour
    assert painted[64, 192, 0] > painted[64, 192, 2]  # 0.4: red
    assert painted[64, 64, 2] > painted[64, 64, 0]  # -0.1: blue


def test_numbers_stand_in_their_clusters() -> None:
    labels = torch.randint(0, 5, (1, 12, 12), generator=torch.Generator().manual_seed(0))
    figure = show_clusters(make_effects([[0.1] * 5], labels), WHITE_IMAGE, target=0)
    numbers = figure.axes[1].texts
    assert sorted(t.get_text() for t in numbers) == list("01234")
    for text in numbers:
        x, y = text.get_position()
        assert labels[0, int(y * 12 / 256), int(x * 12 / 256)] == int(text.get_text())


def test_numbers_are_the_clusterings() -> None:
    """Of a data set's clusters, an image has some: columns 0 to 2 here."""
    effects = replace(
        make_effects([[-0.1, 0.4, 0.2]], LABELS), clusters=torch.tensor([[7, 30, 99_999]])
    )
    _, clusters, bar_axes = show_clusters(effects, WHITE_IMAGE, target=0).axes
    assert [text.get_text() for text in clusters.texts] == ["7", "30", "99999"]
    names, values = bars(bar_axes)
    assert names == ["30", "99999", "7"] and np.allclose(values, [0.4, 0.2, -0.1])


def test_a_number_stands_in_the_widest_part() -> None:
    labels = torch.zeros(1, 9, 9, dtype=torch.int64)
    labels[0, 1:8, 1:8] = 1
    labels[0, 4, 8] = 1  # a thin tail
    figure = show_clusters(make_effects([[0.1, 0.2]], labels), WHITE_IMAGE, target=0)
    x, y = next(t for t in figure.axes[1].texts if t.get_text() == "1").get_position()
    assert (int(x * 9 / 256), int(y * 9 / 256)) == (4, 4)


def test_borders_lie_between_clusters() -> None:
    figure = show_clusters(make_effects(DROPS, LABELS), WHITE_IMAGE, target=0)
    (collection,) = figure.axes[1].collections
    segments = {tuple(map(tuple, segment)) for segment in collection.get_segments()}
    middle = 127.5  # pixel centres are whole numbers
    assert segments == {
        ((middle, -0.5), (middle, middle)),
        ((-0.5, middle), (middle, middle)),
        ((middle, middle), (255.5, middle)),
    }


def test_target_chooses_the_output() -> None:
    effects = make_effects(DROPS, LABELS)
    names, values = bars(show_clusters(effects, WHITE_IMAGE, target=1).axes[2])
    assert names == ["0", "2", "1"] and np.allclose(values, [0.1, -0.2, -0.4])
    with pytest.raises(ValueError, match="target"):
        show_clusters(effects, WHITE_IMAGE)


@pytest.mark.parametrize(
    ("scale", "top", "bottom"), [("per-image", 1.0, 1.0), ("shared", 1.0, 0.25), (0.8, 0.5, 0.125)]
)
def test_cluster_scales(scale: Any, top: float, bottom: float) -> None:
    effects = make_effects([[0.4, 0.0], [0.1, 0.0]], torch.tensor([[[0, 1], [0, 1]]] * 2))
    images = WHITE_IMAGE.repeat(2, 1, 1, 1)
    figure = show_clusters(effects, images, target=0, scale=scale)
    for painted, part in zip(pictures(figure)[1::2], (top, bottom), strict=True):
        expected = grid(torch.tensor([[[part, 0.0]]]), scale=1.0, image_strength=0)[1]
        assert np.allclose(painted, expected)


def test_no_drops_at_all() -> None:
    figure = show_clusters(make_effects([[0.0] * 3], LABELS), WHITE_IMAGE, target=0)
    assert (pictures(figure)[1] == 1).all()
    assert bars(figure.axes[2])[1] == [0, 0, 0]


@pytest.mark.parametrize("clusters", quick_first([7, 1, 30]))
def test_cluster_layout(clusters: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(144).view(1, 12, 12) % clusters
    drops = (torch.randn(2, clusters, generator=generator) * 1e-3).tolist()
    effects = make_effects(drops, labels.repeat(2, 1, 1))
    figure = show_clusters(effects, torch.rand(2, 3, 96, 96), target=0, row_titles=[LONG, "b"])
    for axes in figure.axes[1::3]:
        for text in [*axes.texts]:
            text.remove()  # numbers in patches of 0.15 inch: not what this test is about
    check_layout(figure)
    figure.savefig(io.BytesIO(), format="pdf")


def test_cluster_errors() -> None:
    effects = make_effects(DROPS, LABELS)
    with pytest.raises(ValueError, match="images: expected 1, one for each of effects, got 2"):
        show_clusters(effects, torch.rand(2, 3, 8, 8), target=0)
    with pytest.raises(ValueError, match="row_titles: expected a list of 1"):
        show_clusters(effects, WHITE_IMAGE, target=0, row_titles=["a", "b"])
    for scale in ("per-map", -1.0):
        with pytest.raises(ValueError, match="scale: expected"):
            show_clusters(effects, WHITE_IMAGE, target=0, scale=scale)  # type: ignore[arg-type]


# denormalize


def test_denormalize_undoes_normalisation() -> None:
    images = torch.rand(2, 3, 4, 5)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    normalised = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert torch.allclose(denormalize(normalised, mean, std), images, atol=1e-6)
    assert torch.allclose(denormalize(normalised[0], mean, std), images[0], atol=1e-6)
    assert denormalize(torch.full((1, 3, 1, 1), 1e3), mean, std).max() == 1


def test_denormalize_wants_a_value_for_each_channel() -> None:
    with pytest.raises(ValueError, match=r"mean and std: expected 3 values each.*got 1 and 3"):
        denormalize(torch.rand(1, 3, 2, 2), (0.5,), (0.5, 0.5, 0.5))


# Notebooks and journals.


def test_figures_show_themselves() -> None:
    figure = attribution_grid(torch.rand(1, 3, 8, 8), {"a": torch.randn(1, 8, 8)})
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:
        assert picture.size == tuple(round(side * figure.dpi) for side in figure.get_size_inches())
    again = pickle.loads(pickle.dumps(figure))
    assert isinstance(again, type(figure)) and len(again.axes) == len(figure.axes)


def test_text_in_pdfs_is_of_type_42(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    figure = attribution_grid(torch.rand(1, 3, 8, 8), {"a": torch.randn(1, 8, 8)})
    figure.savefig(tmp_path / "grid.pdf")
    content = (tmp_path / "grid.pdf").read_bytes()
    assert b"/FontFile2" in content and b"/Type3" not in content
    assert dict(matplotlib.rcParams) == before


# Where maps lie, and what one can choose.


def test_maps_that_cannot_be_of_the_whole_image() -> None:
    """A square map of a centre crop is not stretched over the photo in silence."""
    photo = torch.rand(1, 3, 60, 90)
    for shape in ((12, 12), (60, 60), (3, 12)):
        with pytest.raises(ValueError, match=r"maps\['map'\]: .*60 x 90.*fields_of_view"):
            attribution_grid(photo, {"map": torch.rand(1, *shape)})
    for shape in ((8, 12), (60, 90), (7, 11), (13, 20)):  # a part of a patch is left out
        attribution_grid(photo, {"map": torch.rand(1, *shape)})
    square = ClusterEffects(
        labels=torch.zeros(1, 12, 12, dtype=torch.long),
        outputs=torch.ones(1),
        masked_outputs=torch.zeros(1, 1),
        image_shape=(3, 96, 96),
    )
    with pytest.raises(ValueError, match=r"effects: .*60 x 90.*fields_of_view"):
        show_clusters(square, photo)
    figure = show_clusters(square, photo, fields_of_view=[(15, 0, 75, 60)])
    assert [picture.shape[0] == picture.shape[1] for picture in pictures(figure)] == [True] * 2


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_a_map_lies_in_its_box(interpolation: Any) -> None:
    box = (64, -64, 192, 192)  # of an image of 256 x 256, above which it was padded
    values = torch.ones(1, 4, 4)
    figure = attribution_grid(
        WHITE_IMAGE, {"map": values}, fields_of_view=[box], interpolation=interpolation
    )
    red = saturation(pictures(figure)[1]) > 0.1
    expected = np.zeros((256, 256), dtype=bool)
    expected[:192, 64:192] = True
    assert np.array_equal(red, expected)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [([], "expected 1 boxes, one an image, got 0"), ([(5, 0, 5, 9)], "expected left, top, right")],
)
def test_boxes_that_are_none(boxes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"fields_of_view.*{message}"):
        attribution_grid(WHITE_IMAGE, {"map": torch.ones(1, 4, 4)}, fields_of_view=boxes)


@pytest.mark.parametrize("colorbar", [True, False])
@pytest.mark.parametrize("image_column", [True, False])
@pytest.mark.parametrize("width", quick_first([3.25, 7.0]))
def test_a_figure_is_as_wide_as_asked_for(width: float, image_column: bool, colorbar: bool) -> None:
    maps = {name: torch.randn(3, 4, 4) for name in ("one", "another", "a third")}
    figure = attribution_grid(
        torch.rand(3, 3, 8, 8), maps, width=width, image_column=image_column, colorbar=colorbar
    )
    assert figure.get_size_inches()[0] == pytest.approx(width)
    columns = 3 + image_column
    assert len(pictures(figure)) == 3 * columns
    assert len(figure.axes) == 3 * columns + colorbar
    assert texts(figure)[:columns] == [*(["image"] if image_column else []), *maps]
    right = max(axes.get_position().x1 for axes in figure.axes)
    assert right <= 1
    with pytest.raises(ValueError, match=r"width: expected at least .* inches for \d columns"):
        attribution_grid(torch.rand(3, 3, 8, 8), maps, width=1.0)


def test_colours_are_those_of_the_colormap() -> None:
    values = torch.tensor([[[1.0, -1.0], [1.0, -1.0]]])
    cell = grid(values, cmap="PiYG", image_strength=0)[1]
    for column, place in ((0, 1.0), (-1, 0.0)):
        assert np.allclose(cell[0, column], matplotlib.colormaps["PiYG"](place)[:3], atol=1e-6)
    with pytest.raises(ValueError, match="cmap: expected a matplotlib colormap or its name"):
        grid(values, cmap="nosuch")


def test_the_strongest_value_and_its_unit() -> None:
    values = torch.tensor([[[0.5, -0.75], [0, 0]], [[0.0, 0], [0, 0]]])
    figure = attribution_grid(
        WHITE_IMAGE.repeat(2, 1, 1, 1), {"map": values}, scores={"map": [1, 2]}, unit="drop"
    )
    assert "\N{MINUS SIGN}0.75 drop" in texts(figure) and "zero everywhere" in texts(figure)


def test_borders_of_masks_are_dashed() -> None:
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[:, 4:12, 6:16] = True
    figure = attribution_grid(WHITE_IMAGE, {"map": torch.zeros(1, 4, 4)}, masks=mask)
    axes = figure.axes[-1]
    (line,) = [c for c in axes.collections if len(c.get_paths())]
    points = np.concatenate([path.vertices for path in line.get_paths()])
    low, high = points.min(axis=0) + 0.5, points.max(axis=0) + 0.5
    assert np.allclose(low, (6 * 16, 4 * 16), atol=8.1) and np.allclose(high, (256, 192), atol=8.1)
    assert axes.get_xlim() == (-0.5, 255.5) and axes.get_ylim() == (255.5, -0.5)
    for wrong in (mask[:0], mask.float(), [torch.zeros(3, dtype=torch.bool)]):
        with pytest.raises(ValueError, match="masks"):
            attribution_grid(WHITE_IMAGE, {"map": torch.zeros(1, 4, 4)}, masks=wrong)
