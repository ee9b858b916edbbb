"""Plots of benchmarks, looked at through the lines, dots and texts that they hold."""

from __future__ import annotations

import io
import itertools
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from helpers import texts
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from selection import exhaustive_unless, quick_first

from cci_captum import faithfulness_curves, paired_scatter
from cci_captum.visualization import Band

MINUS = "\N{MINUS SIGN}"
FRACTIONS = np.linspace(0, 0.5, 11)
LONG = "a very long name of the kind that people give to their methods, with_identifiers-in-it"


def panel(methods: list[str], seed: int = 0, points: int = 11) -> dict[str, Band]:
    """A band of random shares for each method."""
    ends = np.sort(np.random.default_rng(seed).random((len(methods), 3, points)), axis=1)
    return {m: Band(mean, low, high) for m, (low, mean, high) in zip(methods, ends, strict=True)}


def lines(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.lines}


def points(line: Line2D) -> list[list[float]]:
    """The (x, y) of a line."""
    return np.asarray(line.get_xydata()).tolist()


def look(line: Line2D) -> tuple[str, ...]:
    """What tells a line from another: its colour and dashes, its marker and the inside of it."""
    dashes = line._dash_pattern  # type: ignore[attr-defined]  # the public getter says only "--"
    parts = line.get_color(), dashes, line.get_marker(), line.get_markerfacecolor()
    return tuple(map(str, parts))


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def is_grey(colour: Any) -> bool:
    code = to_hex(colour)
    return code[1:3] == code[3:5] == code[5:7]


def check_layout(figure: Figure) -> None:
    """No text is over another text or a plot, and none leaves the page."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = [*figure.texts, *(text for box in figure.legends for text in box.get_texts())]
    for axes in figure.axes:
        found += [axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            found += [t.label1 for t in axis.get_major_ticks() if t.label1.get_visible()]
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in found if t.get_text()]
    page = Bbox.from_bounds(0, 0, *canvas.get_width_height())
    for box in boxes:
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    plots = [axes.get_window_extent() for axes in figure.axes]
    for one, other in itertools.combinations([*boxes, *plots], 2):
        assert not one.shrunk(0.97, 0.97).overlaps(other.shrunk(0.97, 0.97)), (one, other)


# faithfulness_curves


@pytest.mark.parametrize("kind", [np.array, torch.from_numpy, np.ndarray.tolist])
def test_lines_and_bands_are_what_was_given(kind: Any) -> None:
    given = panel(["a", "b"])
    handed = {m: Band(*map(kind, band)) for m, band in given.items()}
    (axes,) = faithfulness_curves(kind(FRACTIONS), {"p": handed}).axes
    for (method, band), filled in zip(given.items(), axes.collections, strict=True):
        line = lines(axes)[method]
        assert np.array_equal(points(line), np.stack([FRACTIONS, band.mean], axis=1))
        corners = set(map(tuple, np.asarray(filled.get_paths()[0].vertices).tolist()))
        assert corners == {*zip(FRACTIONS, band.low, strict=True)} | {
            *zip(FRACTIONS, band.high, strict=True)
        }
        assert to_hex(np.asarray(filled.get_facecolor())[0]) == str(line.get_color()).lower()


def test_a_band_is_optional() -> None:
    (axes,) = faithfulness_curves([0, 1], {"p": {"a": Band([0.1, 0.2])}}).axes
    assert len(axes.lines) == 1 and not axes.collections


def test_low_precision_tensors() -> None:
    mean = torch.tensor([0.5, 0.25], dtype=torch.bfloat16, requires_grad=True)
    (axes,) = faithfulness_curves([0, 1], {"p": {"a": Band(mean)}}).axes
    assert points(lines(axes)["a"]) == [[0, 0.5], [1, 0.25]]


def test_thirty_two_methods_look_different() -> None:
    names = [f"m{i}" for i in range(32)]
    (axes,) = faithfulness_curves(FRACTIONS, {"p": panel(names)}).axes
    looks = [look(lines(axes)[name]) for name in names]
    assert len(set(looks)) == 32
    assert len({colour for colour, *_ in looks[:8]}) == 8
    for colour in {colour for colour, *_ in looks}:  # the same colour: other dashes and marker
        same = [(dashes, marker) for c, dashes, marker, _ in looks if c == colour]
        assert all(len(set(column)) == len(same) for column in zip(*same, strict=True))


def test_a_method_looks_the_same_in_every_panel() -> None:
    panels = {"one": panel(["a", "b", "R", "c"]), "two": panel(["c", "R", "a"])}
    one, two = map(lines, faithfulness_curves(FRACTIONS, panels, references=["R"]).axes)
    assert set(two) == {"a", "c", "R"}
    assert all(look(one[method]) == look(two[method]) for method in two)


def test_references_are_grey_and_last_and_take_no_colour() -> None:
    names = ["Random", "a", "Ground truth", "b"]
    figure = faithfulness_curves(
        FRACTIONS, {"p": panel(names)}, references=["Ground truth", "Random"]
    )
    drawn = lines(figure.axes[0])
    plain = lines(faithfulness_curves(FRACTIONS, {"p": panel(["a", "b"])}).axes[0])
    for method in ("a", "b"):
        assert look(drawn[method]) == look(plain[method])
        assert not is_grey(drawn[method].get_color())
    for name in ("Random", "Ground truth"):
        assert is_grey(drawn[name].get_color()) and drawn[name].get_marker() == ""
        assert drawn[name].get_zorder() < min(drawn[m].get_zorder() for m in ("a", "b"))
        assert drawn[name].get_linewidth() < drawn["a"].get_linewidth()
    assert look(drawn["Random"]) != look(drawn["Ground truth"])
    assert legend(figure) == ["a", "b", "Random", "Ground truth"]


def test_legend_handles_look_like_the_lines() -> None:
    figure = faithfulness_curves(FRACTIONS, {"p": panel(["a", "b", "R"])}, references=["R"])
    handles = figure.legends[0].get_lines()
    for handle, line in zip(handles, figure.axes[0].lines, strict=True):
        assert look(handle) == look(line)


def test_the_first_method_is_on_top() -> None:
    (axes,) = faithfulness_curves(FRACTIONS, {"p": panel(["a", "b", "c"])}).axes
    order = [lines(axes)[method].get_zorder() for method in "abc"]
    assert order == sorted(order, reverse=True)
    assert min(order) > max(c.get_zorder() for c in axes.collections)  # bands


def test_markers_of_equal_curves_do_not_hide_each_other() -> None:
    shares = np.linspace(0, 1, 22)
    (axes,) = faithfulness_curves(shares, {"p": {m: Band(shares) for m in "abcd"}}).axes
    every: list[Any] = [line.get_markevery() for line in axes.lines]
    places = [range(start, 22, step) for start, step in every]
    assert all(len(row) >= 5 for row in places)
    assert len({place for row in places for place in row}) == sum(map(len, places))


def test_labels() -> None:
    figure = faithfulness_curves(
        FRACTIONS,
        {"first": panel(["a", "b"]), "second": panel(["a", "b"]), "third": panel(["a"])},
        labels={"a": "A (0.312)", "other": "unused"},
        xlabel="hidden (%)",
        ylabel="recall",
    )
    assert texts(figure).count("hidden (%)") == 2  # under the lowest panel of both columns
    assert [t for t in texts(figure) if t != "hidden (%)"] == ["first", "second", "third"]
    assert legend(figure) == ["A (0.312)", "b"]
    assert [axes.get_ylabel() for axes in figure.axes] == ["recall", "", "recall"]


def test_dollars_are_no_formulas() -> None:
    panels = {"$p$ $": panel(["$a_b$ $"])}
    figure = faithfulness_curves(FRACTIONS, panels, xlabel="$", ylabel="$y $")
    everything = [*figure.texts, *figure.legends[0].get_texts(), figure.axes[0].yaxis.label]
    assert len(everything) == 4 and not any(text.get_parse_math() for text in everything)


@pytest.mark.parametrize("end", [0.3, 0.5, 1.0])
def test_shares_are_shown_in_percent(end: float) -> None:
    (axes,) = faithfulness_curves(
        np.linspace(0, end, 4), {"p": panel(["a"], points=4)}, ylabel="score"
    ).axes
    ticks = [float(label.get_text()) for label in axes.get_xticklabels()]
    assert axes.get_xlim() == (0, end)
    assert ticks[0] == 0 and ticks[-1] == 100 * end and len(ticks) > 3
    assert np.allclose(axes.get_xticks(), np.array(ticks) / 100)


def test_vertical_axis_starts_at_zero_for_shares_only() -> None:
    shares, scores = Band([0.5, 0.6]), Band([-3.0, 2.0])
    figure = faithfulness_curves(
        [0, 1], {"p": {"a": shares}, "q": {"a": scores}}, columns=1, ylabel="score"
    )
    (low, high), (least, most) = (axes.get_ylim() for axes in figure.axes)
    assert low == 0 and 0.6 < high < 0.7
    assert -3.5 < least < -3 and 2 < most < 2.5
    assert figure.axes[1].get_yticklabels()[0].get_text() == f"{MINUS}3"


def test_a_row_shares_its_vertical_axis_and_its_ticks() -> None:
    heights = (0.9, 0.2, 0.3, 0.4, 0.1)
    panels = {f"p{h}": {"a": Band([0.0, h])} for h in heights}
    figure = faithfulness_curves([0, 1], panels, columns=2)
    tops = [axes.get_ylim()[1] for axes in figure.axes]
    assert tops[0] == tops[1] > 0.9 and 0.4 < tops[2] == tops[3] < 0.5 and 0.1 < tops[4] < 0.2
    shown = [axes.yaxis.get_tick_params()["labelleft"] for axes in figure.axes]
    assert shown == [True, False, True, False, True]


def test_every_panel_may_have_its_own_fractions() -> None:
    figure = faithfulness_curves(
        {"p": [0, 0.5], "q": [0, 0.1, 1.0], "unused": [1, 0]},
        {"p": panel(["a"], points=2), "q": panel(["a"], points=3)},
    )
    assert [len(points(axes.lines[0])) for axes in figure.axes] == [2, 3]
    assert [axes.get_xlim() for axes in figure.axes] == [(0, 0.5), (0, 1)]


@pytest.mark.parametrize(
    ("panels", "methods", "columns", "width", "name"),
    [
        (1, 1, 2, 3.2, "{}"),
        (2, 16, 2, 3.2, "method {}"),
        exhaustive_unless(False, 8, 15, 4, 2.0, "{}, a longer name, 0.312 [0.300, 0.324]"),
        (3, 9, 2, 1.5, LONG + " {}"),
    ],
)
def test_no_text_overlaps(panels: int, methods: int, columns: int, width: float, name: str) -> None:
    curves = panel([name.format(i) for i in range(methods)])
    figure = faithfulness_curves(
        FRACTIONS,
        {name.format(f"panel {i}"): curves for i in range(panels)},
        columns=columns,
        panel_width=width,
        xlabel=LONG,
        ylabel=LONG,
    )
    assert len(figure.axes) == panels and len(legend(figure)) == methods
    check_layout(figure)


@pytest.mark.parametrize("scale", quick_first([1e-6, 1e-3, 1.0, 1e4]))
def test_values_of_any_size(scale: float) -> None:
    mean = scale * (FRACTIONS - 0.2)
    figure = faithfulness_curves(FRACTIONS, {"p": {"a": Band(mean)}, "q": {"a": Band(mean)}})
    check_layout(figure)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    places = figure.axes[0].get_yticks()
    assert len(labels) > 3
    assert np.allclose([float(t.replace(MINUS, "-")) for t in labels], places, atol=1e-3 * scale)


def test_constant_curves_have_room() -> None:
    for value in (0.0, 1.0, -7.0):
        for noise in (0.0, 1e-15):
            band = Band([value, value + noise])
            (axes,) = faithfulness_curves([0, 1], {"p": {"a": band}}).axes
            low, high = axes.get_ylim()
            assert low <= value < high and high - low > 1e-3 * abs(value)
            assert len(axes.get_yticks()) > 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"panels": {}}, ValueError, "panels: expected at least one entry, got none"),
        ({"panels": [1]}, TypeError, "panels: expected a mapping, got list"),
        ({"panels": {"p": {}}}, ValueError, r"panels\['p'\]: expected at least one entry"),
        ({"panels": {"p": Band([1, 2])}}, TypeError, r"panels\['p'\]: expected a mapping"),
        (
            {"panels": {"p": {"a": [1, 2]}}},
            TypeError,
            r"panels\['p'\]\['a'\]: expected a Band, got list",
        ),
        (
            {"panels": {"p": {"a": Band([1, 2, 3])}}},
            ValueError,
            r"panels\['p'\]\['a'\].mean: expected a row of 2 numbers, got shape \(3,\)",
        ),
        ({"panels": {"p": {"a": Band([[1, 2]])}}}, ValueError, r"got shape \(1, 2\)"),
        ({"panels": {"p": {"a": Band(["x", "y"])}}}, ValueError, "a row of 2 numbers, got .*<U1"),
        (
            {"panels": {"p": {"a": Band([1, np.nan])}}},
            ValueError,
            r"\['a'\].mean: NaN or infinity at 1",
        ),
        (
            {"panels": {"p": {"a": Band([1, 2], [0, 1])}}},
            ValueError,
            "expected both low and high or neither",
        ),
        (
            {"panels": {"p": {"a": Band([1, 2], [0, 3], [2, 2])}}},
            ValueError,
            "expected low <= high, got low above at 1",
        ),
        (
            {"panels": {"p": {"a": Band([1, 2], [0, 1], [2, np.inf])}}},
            ValueError,
            r"\.high: NaN or infinity at 1",
        ),
        ({"fractions": [0, 50]}, ValueError, r"fractions: expected .* shares in \[0, 1\], got"),
        ({"fractions": [0.5, 0.5]}, ValueError, "at least two increasing shares"),
        ({"fractions": [0.5]}, ValueError, "at least two increasing shares"),
        ({"fractions": {"q": [0, 1]}}, ValueError, r"a row for each panel, got none for \['p'\]"),
        ({"fractions": {"p": [1, 0]}}, ValueError, r"fractions\['p'\]: expected at least two"),
        ({"references": ["b"]}, ValueError, r"references: .*some of \['a'\], got \['b'\]"),
        ({"references": "a"}, TypeError, "references: expected a list of names, got 'a'"),
        ({"columns": 0}, ValueError, "columns: expected a positive int, got 0"),
        ({"panel_width": 0.0}, ValueError, "panel_width: expected a finite number above 0"),
    ],
)
def test_curve_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"fractions": [0, 1], "panels": {"p": {"a": Band([0.1, 0.2])}}}
    with pytest.raises(error, match=message):
        faithfulness_curves(**{**arguments, **change})


# paired_scatter

VALUES = {
    "ours": [0.1, 0.2, 0.5, 0.4],
    "x": [0.3, 0.2, 0.4, 0.8],  # below ours once, equal once
    "y": [0.0, 0.1, 0.2, 0.3],  # below ours always
}


def dots(axes: Axes) -> list[list[float]]:
    return points(axes.lines[1])


def test_dots_are_pairs() -> None:
    figure = paired_scatter(
        {m: torch.tensor(v, dtype=torch.float64) for m, v in VALUES.items()}, "ours"
    )
    assert len(figure.axes) == 2
    for axes, name in zip(figure.axes, ("x", "y"), strict=True):
        assert dots(axes) == [*map(list, zip(VALUES[name], VALUES["ours"], strict=True))]
    assert [axes.get_ylabel() for axes in figure.axes] == ["ours", ""]


def test_axes_are_equal_and_the_diagonal_joins_their_corners() -> None:
    figure = paired_scatter(VALUES, "ours")
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert axes.get_ylim() == (low, high) and low < 0 and high > 0.8
        assert points(axes.lines[0]) == [[low, low], [high, high]]
        assert np.array_equal(axes.get_xticks(), axes.get_yticks())
        box = axes.get_window_extent()
        assert np.isclose(box.width, box.height)


@pytest.mark.parametrize(("lower", "x", "y"), [(False, "25%", "100%"), (True, "50%", "0%")])
def test_the_side_of_the_reference(lower: bool, x: str, y: str) -> None:
    figure = paired_scatter(VALUES, "ours", lower_is_better=lower)
    found = " ".join(texts(figure))
    assert f"ours better (shaded): {x}, equal: 25%" in found
    assert f"ours better (shaded): {y}, equal: 0%" in found
    for axes in figure.axes:
        (shade,) = axes.patches
        better = [(x, y) for x, y in dots(axes) if (y < x if lower else y > x)]
        worse = [(x, y) for x, y in dots(axes) if (y > x if lower else y < x)]
        path = shade.get_path()
        assert all(path.contains_point(dot) for dot in better)
        assert not any(path.contains_point(dot) for dot in worse)


def test_mean_differences_and_notes() -> None:
    values = {"ours": [0.5, 0.5], "same": [0.4, 0.6], "less": [0.0, 0.5], "more": [1.0, 0.75]}
    figure = paired_scatter(values, "ours", notes={"less": "[0.1, 0.4]"}, panel_width=4)
    assert [t for t in texts(figure) if t.startswith("mean")] == [
        f"mean y {MINUS} x: 0.000",
        f"mean y {MINUS} x: +0.250 [0.1, 0.4]",
        f"mean y {MINUS} x: {MINUS}0.375",
    ]


def test_small_differences_keep_their_digits() -> None:
    values = {"ours": [2e-6, 4e-6], "x": [1e-6, 2e-6]}
    assert f"mean y {MINUS} x: +0.00000150" in texts(paired_scatter(values, "ours"))


def test_names_and_title() -> None:
    figure = paired_scatter(VALUES, "ours", labels={"ours": "CCI", "x": "X-CAM"}, title="AUC")
    found = texts(figure)
    assert figure.axes[0].get_ylabel() == "CCI" and "CCI better (shaded): 25%, equal: 25%" in found
    assert {"X-CAM", "y", "AUC"} <= set(found) and not {"x", "ours"} & set(found)


def test_more_dots_are_more_translucent() -> None:
    rng = np.random.default_rng(0)
    pairs = [{"a": rng.random(n), "b": rng.random(n)} for n in (1, 100, 2500, 100_000)]
    dots = [paired_scatter(pair, "a").axes[0].lines[1] for pair in pairs]
    alphas = [line.get_alpha() or 0.0 for line in dots]
    assert alphas == sorted(alphas, reverse=True) and 0.05 < alphas[-1] < alphas[0] < 1


@pytest.mark.parametrize(
    ("methods", "columns", "name"),
    [(1, 4, "m{}"), exhaustive_unless(False, 14, 4, "method {}"), (3, 2, LONG + " {}")],
)
def test_no_text_overlaps_around_dots(methods: int, columns: int, name: str) -> None:
    rng = np.random.default_rng(0)
    values = {name.format(i): rng.random(20) for i in range(methods + 1)}
    names = [*values]
    notes = dict.fromkeys(names[1:], "[\N{MINUS SIGN}0.033, \N{MINUS SIGN}0.013]")
    figure = paired_scatter(values, names[0], columns=columns, notes=notes, title=LONG)
    assert len(figure.axes) == methods
    check_layout(figure)


def test_an_interval_fits_on_the_line_of_its_mean() -> None:
    note = f"[{MINUS}0.433, {MINUS}0.413]"
    figure = paired_scatter({"a": [0.0], "b": [0.423]}, "a", notes={"b": note})
    assert f"mean y {MINUS} x: {MINUS}0.423 {note}" in texts(figure)


def test_one_image_with_equal_values() -> None:
    figure = paired_scatter({"a": [0.5], "b": [0.5]}, "a")
    assert "a better (shaded): 0%, equal: 100%" in texts(figure)
    assert f"mean y {MINUS} x: 0.000" in texts(figure)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"values": [1, 2]}, TypeError, "values: expected method -> numbers, got list"),
        ({"reference": "b"}, ValueError, r"reference: expected one of \['a', 'c'\], got 'b'"),
        ({"values": {"a": [1.0]}}, ValueError, "another method beside 'a', got none"),
        ({"values": {"a": [], "c": []}}, ValueError, "values: expected at least one image"),
        (
            {"values": {"a": [1, 2], "c": [1]}},
            ValueError,
            r"values\['c'\]: expected a row of 2 numbers, got shape \(1,\)",
        ),
        ({"values": {"a": [1.0], "c": [np.nan]}}, ValueError, r"values\['c'\]: NaN or infinity at"),
        ({"values": {"a": 1.0, "c": 1.0}}, ValueError, r"values\['a'\]: .* got shape \(\)"),
        ({"notes": {"a": "x"}}, ValueError, r"notes: expected some of \['c'\], got \['a'\]"),
        ({"columns": 1.5}, ValueError, "columns: expected a positive int, got 1.5"),
        ({"panel_width": -1}, ValueError, "panel_width: expected a finite number above 0"),
    ],
)
def test_scatter_errors(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"values": {"a": [0.1], "c": [0.2]}, "reference": "a"}
    with pytest.raises(error, match=message):
        paired_scatter(**{**arguments, **change})


# both


def draw_both() -> list[Figure]:
    return [
        faithfulness_curves(FRACTIONS, {"p": panel(["a", "b"])}, references=["b"]),
        paired_scatter(VALUES, "ours"),
    ]


def test_nothing_global_changes() -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = dict(matplotlib.rcParams), matplotlib.get_backend(), pyplot.get_fignums()
    for figure in draw_both():
        figure.savefig(io.BytesIO(), format="png")
    assert (dict(matplotlib.rcParams), matplotlib.get_backend(), pyplot.get_fignums()) == before


@pytest.mark.parametrize(("kind", "head"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_vector_formats(kind: str, head: bytes) -> None:
    for figure in draw_both():
        file = io.BytesIO()
        figure.savefig(file, format=kind)
        assert file.getvalue().startswith(head)


def test_inputs_are_left_alone() -> None:
    mean, fractions = torch.tensor([0.5, 0.25]), torch.tensor([0.0, 1.0])
    panels, values = {"p": {"a": Band(mean)}}, {"a": mean, "b": fractions}
    faithfulness_curves(fractions, panels)
    paired_scatter(values, "a")
    assert panels["p"]["a"].mean is mean and values == {"a": mean, "b": fractions}
    assert mean.tolist() == [0.5, 0.25] and fractions.tolist() == [0.0, 1.0]
