"""Metrics of predictions against loops over their rows; figures and the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from cci_captum.benchmarks.covar import CONTROLS, TRANSFORMATIONS, Design
from cci_captum.benchmarks.covar.evaluation import effects, matrix, rule_of, summary
from cci_captum.benchmarks.covar.figures import bars, class_map, heat_map
from cci_captum.benchmarks.covar.report import headlines, page, text
from cci_captum.benchmarks.statistics import interval, paired_interval

NAMES = ("cat", "cow", "bus")
DESIGN = Design.of(NAMES, 6, ["snow", "sand"], transformations=TRANSFORMATIONS[:3])
VERDICTS = ("FG-Co", "BG-Co"), ("FG-Er", "BG-Er", "Fine-Er")


def predictions(seed: int, lost: float = 0.25) -> pd.DataFrame:
    """A model that is right less often the more is changed; 3 % of images are not measured."""
    rng = np.random.default_rng(seed)
    rows = []
    for item in DESIGN.items():
        chance = 0.9 - lost * (item.factor != "photo") - 0.3 * (item.factor == "scale")
        chance -= 0.3 * (item.background == "sand")
        right = rng.random() < chance + lost * bool(item.control)
        out = rng.random() < 0.03
        guess = item.class_ if right else (item.class_ + 1) % 3
        rows.append(
            {
                "index": item.number,
                "image": f"{item.class_}/{item.name}",
                "source": f"photo {item.class_} {item.photo}",
                "true": item.class_,
                "predicted": -1 if out else guess,
                "status": "damaged" if out else "",
                "background": np.nan if out else item.background,
                "factor": np.nan if out else item.factor,
                "level": np.nan if out else item.level,
                "control": np.nan if out else item.control,
                "energy_share": np.nan if out else rng.uniform(-1, 1),
                "energy_verdict": None
                if out or rng.random() < 0.05
                else rng.choice(VERDICTS[0] if right else VERDICTS[1]),
            }
        )
    return pd.DataFrame(rows)


TABLE = predictions(0)


MEASURED = [row for row in TABLE.to_dict("records") if row["status"] == ""]
PHOTO_WAS_RIGHT = {
    row["source"]: float(row["true"] == row["predicted"])
    for row in MEASURED
    if row["factor"] == "photo"
}


def rows_of(**wanted: Any) -> list[dict[str, Any]]:
    """Measured rows, as plain dictionaries."""
    return [row for row in MEASURED if all(row[key] == value for key, value in wanted.items())]


def check(found: pd.Series, rows: list[dict[str, Any]]) -> None:
    """All numbers of a group, from its rows one by one."""
    right = [float(row["true"] == row["predicted"]) for row in rows]
    sources = [row["source"] for row in rows]
    assert found["images"] == len(rows) and found["photos"] == len(set(sources))
    assert found["accuracy"] == pytest.approx(sum(right) / len(right))
    expected = interval(right, sources, bounds=(0, 1))
    assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx(expected, nan_ok=True)
    pairs = [
        (before, now, source)
        for row, now, source in zip(rows, right, sources, strict=True)
        if (before := PHOTO_WAS_RIGHT.get(row["source"])) is not None
    ]
    assert found["paired"] == len(pairs)
    before, after, photos = zip(*pairs, strict=True)
    assert found["drop"] == pytest.approx(np.mean(before) - np.mean(after))
    if rows[0]["factor"] != "photo":
        expected = paired_interval(before, after, photos, bounds=(0, 1))
        assert (found["drop_low"], found["drop_high"]) == pytest.approx(expected, nan_ok=True)
    said = [row["energy_verdict"] for row in rows if isinstance(row["energy_verdict"], str)]
    wrong = [verdict for verdict in said if verdict in VERDICTS[1]]
    assert found["errors"] == len(wrong)
    # An error without a verdict may be any; a right image is no error.
    known = len(wrong) + sum(row["true"] == row["predicted"] for row in rows)
    for name, verdict in (("bg_er", "BG-Er"), ("fine_er", "Fine-Er")):
        hits = said.count(verdict)
        assert found[f"{name}_of_images"] == pytest.approx(hits / known)
        if wrong:
            assert found[f"{name}_of_errors"] == pytest.approx(hits / len(wrong))
        else:
            assert np.isnan(found[f"{name}_of_errors"])
    assert found["share"] == pytest.approx(np.mean([row["energy_share"] for row in rows]))


def test_by_factor_and_level() -> None:
    found = summary(TABLE, "factor").set_index("factor")
    assert list(found.index) == ["photo", "original", "scale"]
    for name, row in found.iterrows():
        check(row, rows_of(factor=name, control=""))
    levels = summary(TABLE, "level").set_index("level")
    assert list(levels.index) == ["photo", "original", "scale 30%", "scale 50%"]
    check(levels.loc["scale 50%"], rows_of(factor="scale", level="50%", control=""))
    assert levels.loc["photo", "drop"] == 0 and np.isnan(levels.loc["photo", "drop_low"])


def test_by_class_background_and_control() -> None:
    classes = summary(TABLE, "class", class_names=NAMES).set_index("class")
    made = [row for row in rows_of(true=1, control="") if row["factor"] != "photo"]
    check(classes.loc["cow"], made)
    backgrounds = summary(TABLE, "background").set_index("background")
    assert list(backgrounds.index) == ["own", "snow", "sand"]
    check(backgrounds.loc["sand"], rows_of(background="sand"))
    controls = summary(TABLE, "control").set_index("control")
    assert list(controls.index) == ["photo", *CONTROLS]
    check(controls.loc["mean"], rows_of(control="mean"))
    both = summary(TABLE, ["class", "level"], class_names=NAMES).set_index(["class", "level"])
    check(both.loc[("bus", "original")], rows_of(true=2, factor="original", control=""))
    own = TABLE.assign(planted=TABLE["background"] == "snow")
    pairs = summary(own, "planted").set_index("planted")
    check(pairs.loc[True], rows_of(background="snow"))


def test_what_was_not_measured_is_counted() -> None:
    table = TABLE.copy()
    first = table.index[(table["factor"] == "original") & (table["control"] == "")][0]
    table.loc[first, ["status", "predicted"]] = "no map", -1  # its facts are known
    before, after = (summary(t).set_index("factor").loc["original"] for t in (TABLE, table))
    assert (after["not_measured"], after["images"]) == (1, before["images"] - 1)


def test_no_verdict_is_no_lack_of_a_prediction() -> None:
    """Objects that left the picture, and images that nothing alone scores highest on."""
    table = TABLE.copy()
    scaled = table.index[table["level"] == "30%"]
    table.loc[scaled[:9], ["status", "energy_verdict"]] = "no object", None
    found = summary(table, "level").set_index("level").loc["scale 30%"]
    before = summary(TABLE, "level").set_index("level").loc["scale 30%"]
    assert found["images"] == before["images"] and found["accuracy"] == before["accuracy"]
    assert found["errors"] < before["errors"]
    blank = "no class alone scores highest, so that none is predicted"
    right = [i for i in scaled if table.loc[i, "predicted"] == table.loc[i, "true"]][:3]
    table.loc[right, ["status", "predicted"]] = blank, -1
    found = summary(table, "level").set_index("level").loc["scale 30%"]
    lost = before["accuracy"] - found["accuracy"]
    assert lost == pytest.approx(3 / before["images"])


def test_effects_of_editing_and_of_the_background() -> None:
    found = effects(TABLE).set_index(["what", "against"])
    assert len(found) == len(CONTROLS) * 2 + 1
    for (what, against), row in found.iterrows():
        own = rows_of(control=what) if what in CONTROLS else rows_of(factor="original", control="")
        others = rows_of(control=against) if against in CONTROLS else rows_of(factor="photo")
        pairs = []
        for one in own:
            match = [other for other in others if other["source"] == one["source"]]
            if match:
                pairs.append(
                    (
                        float(one["true"] == one["predicted"]),
                        float(match[0]["true"] == match[0]["predicted"]),
                        one["source"],
                    )
                )
        ours, theirs, sources = zip(*pairs, strict=True)
        assert row["images"] == len(pairs) and row["photos"] == len(set(sources))
        assert row["difference"] == pytest.approx(np.mean(ours) - np.mean(theirs))
        ends = paired_interval(ours, theirs, sources, bounds=(0, 1))
        assert (row["low"], row["high"]) == pytest.approx(ends, nan_ok=True)


def test_a_matrix_has_the_cells_of_the_summary() -> None:
    wide = matrix(TABLE, "class", "background", "drop", class_names=NAMES)
    assert wide.shape == (3, 2) and set(wide.index) == set(NAMES)
    rows = rows_of(true=0, background="sand", control="")
    pairs = [(PHOTO_WAS_RIGHT.get(row["source"]), row["true"] == row["predicted"]) for row in rows]
    known = [before - after for before, after in pairs if before is not None]
    assert wide.loc["cat", "sand"] == pytest.approx(np.mean(known))
    with pytest.raises(ValueError, match=r"^value: expected one of images, photos"):
        matrix(TABLE, value="loss")


def test_tables_without_what_is_needed() -> None:
    plain = TABLE.drop(columns=["energy_verdict", "energy_share"])
    assert rule_of(plain) is None and np.isnan(summary(plain)["bg_er_of_images"]).all()
    with pytest.raises(ValueError, match=r"^rule: expected one that the table has"):
        summary(TABLE, rule="paper-iou")
    with pytest.raises(ValueError, match=r"^table: expected columns source"):
        summary(TABLE.drop(columns="control"))
    with pytest.raises(ValueError, match=r"^by: expected columns of the table, got colour"):
        summary(TABLE, "colour")
    with pytest.raises(ValueError, match=r"^tables: expected at least one model"):
        bars({})
    assert len(bars({"m": plain}).axes) == 1


TABLES = {"steady": predictions(1, 0.05), "leaning": predictions(2, 0.55)}


@pytest.mark.exhaustive
def test_figures_show_the_numbers() -> None:
    figure = bars(TABLES)
    drops, errors = figure.axes
    assert drops.get_yticklabels()[0].get_text() == "background alone"
    for axes, value in ((drops, "drop"), (errors, "bg_er_of_images")):
        for container, table in zip(axes.containers[::2], TABLES.values(), strict=True):
            found = summary(table).set_index("factor")[value]
            widths = [patch.get_width() for patch in container]
            assert widths == pytest.approx([found["original"], found["scale"]])
    cells = heat_map(TABLES).axes[0]
    shown = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in cells.texts}
    found = summary(TABLES["leaning"], "level").set_index("level")["drop"]
    assert shown[(0, 1)] == f"{100 * found['original']:.0f}".replace("-", "\N{MINUS SIGN}")
    assert len(shown) == 3 * 2
    assert len(class_map(TABLES["steady"], NAMES).axes[0].texts) == 3 * 2


@pytest.mark.exhaustive
def test_the_page_says_who_leans_on_the_background() -> None:
    about = {
        "design": DESIGN.described(), "images": len(DESIGN), "data": "photos|mine",
        "background_data": "2 pictures", "refused": {"cut off": 3}, "compositor": "Compositor(8)",
        "editor": "", "licence": "",
    }  # fmt: skip
    found = page(TABLES, NAMES, about, "again", images={"bars": "bars.png"})
    first, second = found.index("**leaning**"), found.index("**steady**")
    assert first < second < found.index("## By factor")  # what loses most comes first
    alone = summary(TABLES["leaning"]).set_index("factor").loc["original", "drop"]
    assert f"Another background alone costs {100 * alone:.1f} points" in headlines(TABLES)[1]
    for part in ("photos\\|mine", "![bars](bars.png)", "3 cut off", "## Not measured", "not said"):
        assert part in found
    assert "another background" in text(TABLES) and "photos as they are" in text(TABLES)
