"""Runs that are interrupted, resumed, extended or partly fail, against one that does none of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from selection import exhaustive_unless
from torch import Tensor, nn
from torchvision import transforms
from toy_comparison import NAMES, PREPROCESS, SEED, Toy, by_hand, run, toy_sample

from cci_captum import CCI, KMeans, ZeroShotClassifier
from cci_captum.baselines import RISE, GradECLIP
from cci_captum.benchmarks.comparison import Comparison, FolderStore, MemoryStore, figures, report
from cci_captum.benchmarks.comparison.plan import Key, Plan, configuration, differences
from cci_captum.benchmarks.data import ImageFolders
from cci_captum.benchmarks.faithfulness import PROTOCOLS
from cci_captum.benchmarks.tasks import Classification

METHODS = {"cci": CCI, "grad-eclip": GradECLIP}
OPTIONS = {"protocols": ["tokens"], "checks": ["random-label"], "batch_size": 2, "ties": ()}


@pytest.fixture(scope="module")
def classifier(make_clip: Any, tokenizer: Any) -> ZeroShotClassifier:
    model, _ = make_clip(1, layers=2)
    return ZeroShotClassifier(model, tokenizer, NAMES, "{}").eval().requires_grad_(False)


@pytest.fixture(scope="module")
def data() -> Toy:
    return Toy([toy_sample(index) for index in range(5)])


def compared(classifier: nn.Module, data: Any, methods: Any = METHODS, **options: Any):
    return run(classifier, data, methods, **(OPTIONS | options))


@pytest.fixture(scope="module")
def whole(classifier: ZeroShotClassifier, data: Toy) -> Comparison:
    return compared(classifier, data)


class Counting:
    """A method that counts the images it explains, and stops the run at the last it may."""

    def __init__(self, make: Callable[[nn.Module], Any], allowed: int = 10**6) -> None:
        self.make, self.allowed, self.explained = make, allowed, 0

    def __call__(self, forward_func: nn.Module) -> Any:
        method, outer = self.make(forward_func), self

        class Counted:
            forward_func = method.forward_func
            check_forward_func = method.check_forward_func  # whose passes count for no map

            def attribute(self, inputs: Tensor, target: Any) -> Tensor:
                outer.explained += len(inputs)
                if outer.explained > outer.allowed:
                    raise KeyboardInterrupt
                return method.attribute(inputs, target)

        return Counted()


def written(found: Comparison, folder: Path) -> dict[str, bytes]:
    """What `save` writes, without how long it took."""
    found.save(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(files) == 8 and files.pop("timings.parquet")
    return files


@pytest.mark.parametrize("allowed", [exhaustive_unless(n == 3, n) for n in (0, 3, 7)])
def test_an_interrupted_run_goes_on(
    allowed: int, classifier: ZeroShotClassifier, data: Toy, tmp_path: Path
) -> None:
    """Its tables have the same bytes; what was there is not explained again."""
    plain = compared(classifier, data, {name: Counting(make) for name, make in METHODS.items()})
    methods = {"cci": Counting(CCI), "grad-eclip": Counting(GradECLIP, allowed)}
    with pytest.raises(KeyboardInterrupt):
        compared(classifier, data, methods, store=FolderStore(tmp_path / "parts"))
    again = {name: Counting(make) for name, make in METHODS.items()}
    resumed = compared(classifier, data, again, store=FolderStore(tmp_path / "parts"))
    done = allowed // 4  # blocks of two images, explained once more under a check
    assert again["grad-eclip"].explained == 2 * (5 - 2 * done)
    assert again["cci"].explained == 2 * max(5 - 2 * (done + 1), 0)
    assert written(plain, tmp_path / "one") == written(resumed, tmp_path / "other")

    idle = {name: Counting(make) for name, make in METHODS.items()}
    compared(classifier, data, idle, store=FolderStore(tmp_path / "parts"))
    assert [counted.explained for counted in idle.values()] == [0, 0]


@pytest.mark.exhaustive
def test_notes_of_reading_outlive_the_process(
    classifier: ZeroShotClassifier, tmp_path: Path
) -> None:
    """Each process reads other photos first; the report has the first note of the whole run."""
    for number in range(4):
        pixels = np.full((32, 32), 9 + number, np.uint16)  # of 16 bits, nearly black
        path = tmp_path / "photos" / NAMES[number] / "1.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path)
    options = {"checks": (), "batch_size": 1}
    names, found = list(NAMES), []
    with pytest.warns(UserWarning, match="other images of this kind are read alike"):
        for stops in ((), (2,)):
            store = FolderStore(tmp_path / f"parts {stops}")
            for stop in stops:
                with pytest.raises(KeyboardInterrupt):
                    methods = {"grad-eclip": Counting(GradECLIP, stop)}
                    data = ImageFolders(tmp_path / "photos", class_names=names, templates="{}")
                    compared(classifier, data, methods, store=store, **options)
            data = ImageFolders(tmp_path / "photos", class_names=names, templates="{}")
            for place in stops:
                assert data[place].note == data.notes[0]  # read before the run
            methods = {"grad-eclip": Counting(GradECLIP)}
            found.append(compared(classifier, data, methods, store=store, **options))
    whole, resumed = (one.settings["notes"] for one in found)
    assert whole == resumed and len(whole) == 1
    assert whole[0].startswith(f"{sorted(NAMES[:4])[0]}/1.png: ")
    assert written(found[0], tmp_path / "one") == written(found[1], tmp_path / "other")


@pytest.mark.exhaustive
def test_a_torn_file_is_measured_again(
    classifier: ZeroShotClassifier, data: Toy, whole: Comparison, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path)
    compared(classifier, data, store=store)
    parts = sorted(tmp_path.glob("*.parquet"))
    assert len(parts) == 3 * (1 + 4)  # blocks; images, two methods, two references
    parts[0].write_bytes(parts[0].read_bytes()[:-9])
    parts[1].write_bytes(b"")
    (tmp_path / ".left.parquet.0").write_bytes(b"half")
    found = compared(classifier, data, store=FolderStore(tmp_path))
    drop = ["seconds"]
    pd.testing.assert_frame_equal(
        found.results.drop(columns=drop), whole.results.drop(columns=drop)
    )


@pytest.mark.exhaustive
def test_a_method_may_join_later(
    classifier: ZeroShotClassifier, data: Toy, whole: Comparison, tmp_path: Path
) -> None:
    first = {"cci": Counting(CCI)}
    compared(classifier, data, first, store=FolderStore(tmp_path))
    both = {"cci": Counting(CCI), "grad-eclip": Counting(GradECLIP)}
    found = compared(classifier, data, both, store=FolderStore(tmp_path))
    assert [first["cci"].explained, *(m.explained for m in both.values())] == [10, 0, 10]
    assert found.methods == whole.methods


@pytest.mark.exhaustive
def test_another_method_of_the_same_name_is_measured_anew(
    classifier: ZeroShotClassifier, data: Toy, tmp_path: Path
) -> None:
    def with_clusters(count: int) -> Callable[[nn.Module], Any]:
        return lambda forward_func: CCI(forward_func, clustering=KMeans(count))

    options = {"checks": (), "store": FolderStore(tmp_path)}
    made = [
        {"mine": with_clusters(3)},
        {"mine": with_clusters(5)},
        {"mine": partial(CCI, clustering=KMeans(3))},
        {"mine": partial(CCI, clustering=KMeans(5))},
    ]
    passes = [
        compared(classifier, data, methods, **options).results.query("method == 'mine'")
        for methods in (*made, *made)
    ]
    found = [float(rows["forward_passes"].mean()) for rows in passes]
    assert found == [4, 6, 4, 6] * 2
    assert len([*tmp_path.glob("*.parquet")]) == 3 * (1 + 2 + 4)


def test_another_run_is_refused_with_what_differs(
    classifier: ZeroShotClassifier, data: Toy, tmp_path: Path
) -> None:
    compared(classifier, data, ["cci"], store=FolderStore(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    other = copy.deepcopy(classifier)
    other.model.visual.proj.data.mul_(-1)
    for options, message in (
        ({"seed": SEED + 1}, f"seed {SEED}, not {SEED + 1}$"),
        ({"batch_size": 3}, "batch_size 2, not 3$"),
        ({"ties": ("raster",)}, r"ties \[\], not \['raster'\]$"),
        ({"data": Toy(data.samples[:4])}, "images 5, not 4$"),
        ({"forward_func": other}, "another: weights '"),
    ):
        chosen = {"data": data} | options
        given = chosen.pop("data")
        with pytest.raises(ValueError, match=f"store: expected results of the same .*{message}"):
            compared(classifier, given, ["cci"], store=FolderStore(tmp_path), **chosen)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


class Blind:
    """No finite map of the second image, and none at all of the fourth."""

    def __init__(self, forward_func: nn.Module) -> None:
        self.method = GradECLIP(forward_func)

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        maps = self.method.attribute(inputs, target)
        for row, image in enumerate(inputs):
            place = next(i for i in range(5) if torch.equal(image, PREPROCESSED[i]))
            if place == 1:
                maps[row, 0, 0] = torch.nan
            if place == 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
        return maps


PREPROCESSED = [by_hand(toy_sample(index)).inputs[0] for index in range(5)]


def refuses(forward_func: nn.Module) -> Any:
    raise TypeError("forward_func: expected another model")


@pytest.mark.exhaustive
def test_what_fails_is_a_row_and_the_rest_goes_on(
    classifier: ZeroShotClassifier, data: Toy, whole: Comparison, tmp_path: Path
) -> None:
    """A map with NaN, a batch that is out of memory, a method that refuses, a broken photo."""
    samples: list[Any] = [*data.samples, OSError("torn")]
    methods = METHODS | {"blind": Blind, "refuses": refuses}
    found = compared(classifier, Toy(samples), methods, store=FolderStore(tmp_path))
    for method in METHODS:
        columns = ["index", "protocol", "check", "deletion_probability", "energy"]
        one, other = (f.results[f.results["method"] == method][columns] for f in (found, whole))
        pd.testing.assert_frame_equal(
            one.reset_index(drop=True), other.reset_index(drop=True), atol=1e-6
        )
    blind = found.results.query("method == 'blind' and check == ''")
    assert sorted(set(blind["index"])) == [0, 4]
    plain = whole.results.query("method == 'grad-eclip' and check == '' and index in [0, 4]")
    assert blind["energy"].tolist() == pytest.approx(plain["energy"].tolist(), abs=1e-5)
    failures = found.failures.query("check == ''").groupby("method")
    assert failures.groups.keys() == {"blind", "refuses"}
    by_index = failures.get_group("blind").set_index("index")["error"].to_dict()
    assert by_index == {
        1: "ValueError: expected finite maps, got NaN or infinity",
        2: "OutOfMemoryError: CUDA out of memory",
        3: "OutOfMemoryError: CUDA out of memory",
    }
    assert failures.get_group("refuses")["index"].tolist() == [0, 1, 2, 3, 4]
    assert found.errors[["model", "index", "error"]].to_numpy().tolist() == [["", 5, "torn"]]
    page = report.page(found)
    assert "## What failed" in page
    assert r"refuses |  | 5 | TypeError: forward\_func: expected" in page
    assert "nan" not in page.lower().replace("got nan or infinity", "")
    task = Classification(Toy(samples), classifier, PREPROCESS)
    assert len(figures.grid(found, task).axes) > 3
    figures.curves(found), figures.pairs(found), report.text(found)


@pytest.mark.exhaustive
def test_squashed_photos_are_drawn(classifier: ZeroShotClassifier) -> None:
    """A square map of a photo that is not: all of the photo reached the model."""
    squash = transforms.Compose([transforms.Resize((32, 32)), *PREPROCESS.transforms[1:]])
    data = Toy([toy_sample(index) for index in range(4)])
    found = run(classifier, data, ["cci"], ["tokens"], preprocess=squash)
    figure = figures.grid(found, Classification(data, classifier, squash))
    shapes = {axes.images[0].get_size() for axes in figure.axes if axes.images}
    assert any(height != width for height, width in shapes)


def test_nothing_at_all_is_an_error(classifier: ZeroShotClassifier, data: Toy) -> None:
    with pytest.raises(ZeroDivisionError):  # of the data: no row of a method
        compared(classifier, Toy([*data.samples, ZeroDivisionError()]))


@pytest.mark.exhaustive
def test_saved_and_loaded(whole: Comparison, data: Toy, tmp_path: Path) -> None:
    whole.save(tmp_path / "new" / "folder")
    found = Comparison.load(tmp_path / "new" / "folder")
    pd.testing.assert_frame_equal(found.results, whole.results)
    pd.testing.assert_frame_equal(found.points(), whole.points())
    pd.testing.assert_frame_equal(found.summary(), whole.summary())
    assert found.settings == whole.settings and report.page(found) == report.page(whole)
    assert np.array_equal(found.map_of(3, "cci"), whole.map_of(3, "cci"))
    with pytest.raises(FileNotFoundError):
        Comparison.load(tmp_path)


@pytest.mark.exhaustive
def test_kept_maps(classifier: ZeroShotClassifier, data: Toy, whole: Comparison) -> None:
    inputs = PREPROCESSED[2][None]
    target = [data.samples[2].target]
    own = CCI(classifier).patch_map(inputs, target)[0]
    assert torch.allclose(torch.from_numpy(whole.map_of(2, "cci")), own, atol=1e-5)
    found = compared(classifier, data, {"rise": lambda f: RISE(f, n_masks=9, grid=3)}, checks=())
    pixels = RISE(classifier, n_masks=9, grid=3).attribute(inputs, target)[:, :1]
    coarse = F.adaptive_avg_pool2d(pixels, 24)[0, 0]
    assert torch.allclose(torch.from_numpy(found.map_of(2, "rise")), coarse.float(), atol=1e-5)
    with pytest.raises(ValueError, match="index: expected an image with a map by cci, got 9"):
        whole.map_of(9, "cci")


def test_curves_take_less_than_3_kb_a_map_and_protocol(
    classifier: ZeroShotClassifier, data: Toy, tmp_path: Path
) -> None:
    many = Toy([toy_sample(index) for index in range(12)])
    options = {"protocols": ["rise", "tokens"], "checks": (), "batch_size": 12}
    found = compared(classifier, many, ["cci"], **options)
    found.save(tmp_path)
    rows = len(found.curves)
    assert rows == 12 * 3 * 2
    arrays = [name for name in found.curves if name.startswith(("deletion", "insertion"))]
    in_memory = sum(v.nbytes + 112 for name in arrays for v in found.curves[name] if v is not None)
    in_memory += found.curves.drop(columns=arrays).memory_usage(deep=True).sum()
    assert (tmp_path / "curves.parquet").stat().st_size / rows < 3000
    assert in_memory / rows < 3000


def test_blocks_hold_every_place_once() -> None:
    assert Plan({}, "", 5, 2, {}).blocks == [range(2), range(2, 4), range(4, 5)]
    assert Plan({}, "", 4, 9, {}).blocks == [range(4)]


def test_a_configuration_is_the_same_in_another_process(
    classifier: ZeroShotClassifier, data: Toy
) -> None:
    protocols = list(PROTOCOLS.values())
    task = Classification(data, classifier, PREPROCESS)
    one = configuration(task, protocols, seed=1)
    assert " at 0x" not in str(one) and one["torch"] == torch.__version__.split("+")[0]
    other = configuration(task, protocols, seed=2)
    assert list(differences(one, other)) == ["seed 1, not 2"]


def test_stores_of_files_and_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="store: expected a folder, got the file"):
        FolderStore(tmp_path / "file")
    memory, key = MemoryStore(), Key("", 0, "cci")
    memory.begin(Plan({"seed": 1}, "", 1, 1, {"cci": ""}))
    assert memory.missing([key]) == [key]
    memory.add(key, pd.DataFrame({"index": [1]}))
    assert not memory.missing([key]) and memory.load([key])[0]["index"].tolist() == [1]
    with pytest.raises(ValueError, match="in memory, found those of another: seed 1, not 2"):
        memory.begin(Plan({"seed": 2}, "", 1, 1, {"cci": ""}))
