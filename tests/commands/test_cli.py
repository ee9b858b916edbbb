"""The command line, run in this process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from helpers import ROOT, counted_texts
from PIL import Image

import cci_captum
from cci_captum import side_by_side
from cci_captum._files import whole_file
from cci_captum.baselines.registry import METHODS, find_method
from cci_captum.baselines.spec import MethodSpec
from cci_captum.benchmarks import cli
from cci_captum.benchmarks.commands import _common, demo, env, explain
from cci_captum.models import clip
from cci_captum.tiny import CLASS_NAMES, HELD_OUT_FAMILIES, TEMPLATES
from cci_captum.visualization import attribution_grid


@pytest.fixture
def chelsea(tmp_path: Path) -> Path:
    data = pytest.importorskip("skimage.data")
    path = tmp_path / "chelsea.png"
    Image.fromarray(data.chelsea()).save(path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the command runs in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def saved_arrays() -> set[str]:
    """What the page on the method says that a file of maps has."""
    section = (
        (ROOT / "docs" / "method.md").read_text().split("## Saved maps\n")[1].split("\n## ")[0]
    )
    first = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    return {name for cell in first for name in re.findall("`(.*?)`", cell)}


# explain


def test_explain_writes_a_grid_and_the_maps(
    chelsea: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = here.parent / "wide.png"
    Image.new("L", (20_000, 10), 200).save(wide)
    texts = ["a cat", "a dog on grass"]
    options = ["--text", texts[0], "--text", texts[1], "--device", "cpu"]
    options += ["--method", "cci( clusters = 4 )"]
    assert run("explain", chelsea, wide, *options, "--save-maps", "maps.npz") == 0
    assert names(here) == ["explanation.png", "maps.npz"]
    with Image.open("explanation.png") as picture:
        assert picture.width > picture.height > 300

    # The same with the library: text by text, image by image.
    model, preprocess, tokenizer, _ = cci_captum.load_clip("tiny")
    similarity = cci_captum.ImageTextSimilarity(model)
    cci = cci_captum.CCI(similarity, clustering=cci_captum.KMeans(4))
    with np.load("maps.npz") as maps:
        assert maps["images"].tolist() == [str(chelsea), str(wide)]
        assert maps["texts"].tolist() == texts
        assert maps["model"] == "tiny"
        assert maps["photo_sizes"].tolist() == [list(Image.open(chelsea).size), [20_000, 10]]
        assert maps["fields_of_view"][1] == pytest.approx([9995, 0, 10_005, 10])
        assert maps["methods"].tolist() == ["cci(clusters=4)"]
        assert {name.replace("cci(clusters=4)", "SPEC") for name in maps} == saved_arrays()
        for i, image in enumerate([Image.open(chelsea), Image.new("RGB", (80, 10), (200,) * 3)]):
            for t, text in enumerate(texts):
                effects = cci.effects(preprocess(image)[None], tokenizer([text]))
                expected = {
                    "labels.cci(clusters=4)": effects.labels[0],
                    "clusters.cci(clusters=4)": effects.clusters[0],
                    "similarities": effects.outputs[0],
                    "drops.cci(clusters=4)": effects.drops()[0],
                    "patch_maps.cci(clusters=4)": effects.patch_map()[0],
                    "maps.cci(clusters=4)": effects.attributions()[0, 0],
                }
                for name, values in expected.items():
                    whole = name.startswith(("labels", "clusters"))  # for all texts
                    found = maps[name][i] if whole else maps[name][i, t]
                    # Maps divide by the sum of the drops, which may be small.
                    tolerance = 1e-3 if "maps" in name else 1e-5
                    assert np.allclose(found, values.numpy(), rtol=0, atol=tolerance), name
        # As the page says: a cluster's drop at each of its patches, scaled.
        drops, labels = maps["drops.cci(clusters=4)"][0], maps["labels.cci(clusters=4)"][0]
        for own, map_ in zip(drops, maps["patch_maps.cci(clusters=4)"][0], strict=True):
            assert np.allclose(own[labels] / np.abs(own).sum(), map_, rtol=0, atol=1e-6)

    output = capsys.readouterr()
    with torch.no_grad():
        cosine = float(similarity(preprocess(Image.open(chelsea))[None], tokenizer(texts[:1])))
    assert f"{chelsea}: {cosine:.3f} a cat\n" in output.out
    assert "warning" not in output.err


def test_explain_warns_about_words_the_tiny_model_never_learnt(
    chelsea: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", chelsea, "--text", "a cat and a zebra", "--out", "a.pdf") == 0
    assert names(here) == ["a.pdf"]
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "warning" in x]
    assert "the tiny model never learnt zebra, " in line


@pytest.mark.exhaustive
def test_explain_takes_odd_images(here: Path) -> None:
    Image.new("RGB", (1, 1), (255, 0, 0)).save("one.png")
    Image.fromarray(np.full((8, 9), 40_000, dtype=np.uint16)).save("deep.png")
    Image.new("CMYK", (20, 30)).save("cmyk.jpg")
    assert run("explain", "one.png", "deep.png", "cmyk.jpg", "--text", "a cat") == 0
    assert "explanation.png" in names(here)


@pytest.mark.exhaustive
def test_explain_with_an_open_clip_model(chelsea: Path, here: Path) -> None:
    options = ["--model", "ViT-S-32-alt", "--pretrained", "random", "--save-maps", "maps.npz"]
    assert run("explain", chelsea, "--text", "a cat", *options) == 0
    with np.load("maps.npz") as maps:
        assert maps["maps.cci"].shape == (1, 1, 224, 224)
        assert maps["patch_maps.cci"].shape == (1, 1, 7, 7)


@pytest.mark.exhaustive
def test_explain_shows_methods_side_by_side(
    chelsea: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns: dict[str, list[str]] = {}
    draw = attribution_grid

    def recorded(*args: Any, **options: Any) -> Any:
        columns["titles"] = options["titles"]
        return draw(*args, **options)

    monkeypatch.setattr(side_by_side, "attribution_grid", recorded)
    texts = ["a cat", "a dog on grass"]
    options = ["--text", texts[0], "--text", texts[1], "--device", "cpu", "--save-maps", "maps.npz"]
    chosen = ["grad-eclip", "rise(masks=8)", "maskclip"]
    methods = [word for name in [*chosen, "rise(masks=8)"] for word in ("--method", name)]
    assert run("explain", chelsea, *options, *methods) == 0
    titles = ["Grad-ECLIP", "RISE (8 masks)", "MaskCLIP"]
    shown = [f"{text}\n{title}" for text in texts for title in titles]
    assert columns["titles"] == ["image", *shown]

    model, preprocess, tokenizer, _ = cci_captum.load_clip("tiny")
    inputs = preprocess(Image.open(chelsea))[None]
    with np.load("maps.npz") as maps:
        assert maps["methods"].tolist() == chosen
        assert not [name for name in maps if name.startswith(("drops", "labels", "clusters"))]
        assert "patch_maps.rise(masks=8)" not in maps
        for name in chosen:
            explainer = MethodSpec.parse(name)(cci_captum.ImageTextSimilarity(model))
            for t, text in enumerate(texts):
                found = maps[f"maps.{name}"][0, t]
                expected = explainer.attribute(inputs, additional_forward_args=tokenizer([text]))
                assert np.allclose(found, expected[0, 0].numpy(), rtol=1e-3, atol=1e-6), name
        for name in ("grad-eclip", "maskclip"):
            assert maps[f"patch_maps.{name}"].shape == (1, 2, 12, 12)
        with torch.no_grad():
            cosines = cci_captum.ImageTextSimilarity(model)(
                inputs.repeat(2, 1, 1, 1), tokenizer(texts)
            )
        assert np.allclose(maps["similarities"], cosines[None].numpy(), atol=1e-6)


@pytest.mark.exhaustive
def test_explain_prepares_photos_and_texts_once(
    chelsea: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of methods, a photo is prepared and a text encoded once."""
    loaded = cci_captum.load_clip("tiny")
    prepared: list[object] = []

    def preprocess(image: Image.Image) -> torch.Tensor:
        prepared.append(image)
        return loaded.preprocess(image)

    preprocess.transforms = loaded.preprocess.transforms  # type: ignore[attr-defined]
    monkeypatch.setattr(explain, "load_model", lambda *_: loaded._replace(preprocess=preprocess))
    texts = ["--text", "a cat", "--text", "a dog"]
    methods = ["--method", "maskclip", "--method", "cci(clusters=2)", "--method", "gradcam"]
    with counted_texts(loaded.model) as rows:
        assert run("explain", chelsea, *texts, *methods, "--device", "cpu") == 0
    assert len(prepared) == 1 and sum(rows) == 2


@pytest.mark.exhaustive
def test_explain_takes_every_method_with_one_text(chelsea: Path) -> None:
    """One text leaves CLIP Surgery no other class to compare with: no map may be blank."""
    clip = cci_captum.load_clip("tiny")
    inputs = clip.preprocess(Image.open(chelsea))[None]
    fewer = {"clusters": 3, "masks": 8}
    methods = [
        MethodSpec(name, {key: value for key, value in fewer.items() if key in options})
        for name, options in ((name, MethodSpec(name).values) for name in METHODS)
        if not METHODS[name].needs_masks
    ]
    for spec in methods:
        maps = cci_captum.explain(inputs, ["a cat"], clip, method=spec).maps
        size = (12, 12) if spec.method.resolution == "patch" else (96, 96)
        assert maps.shape == (1, 1, *size)
        assert maps.isfinite().all() and maps.max() > maps.min(), spec
        if "clusters" in spec.options and spec.name != "gated-cci":  # which tells patches apart
            assert len(maps.unique()) == 3, spec


def test_explain_takes_one_method_with_several_options(chelsea: Path, here: Path) -> None:
    specs = ["cci(clusters=3)", "cci(clusters=2)"]
    methods = [word for spec in specs for word in ("--method", spec)]
    options = ["--text", "a cat", "--device", "cpu", "--save-maps", "maps.npz"]
    assert run("explain", chelsea, *options, *methods) == 0
    with np.load("maps.npz") as maps:
        assert maps["methods"].tolist() == specs
        for spec, clusters in zip(specs, (3, 2), strict=True):
            assert len(np.unique(maps[f"labels.{spec}"])) == clusters
            assert maps[f"drops.{spec}"].shape == (1, 1, clusters)


def test_explain_takes_scores_over_the_texts(chelsea: Path) -> None:
    """Of the logits, the probabilities that the model gives the texts; cosines stay cosines."""
    clip, texts = cci_captum.load_clip("tiny"), ["a cat", "a dog"]
    inputs = clip.preprocess(Image.open(chelsea))[None]
    spec = MethodSpec.parse("cci(score=log-probability)")
    explained = cci_captum.explain(inputs, texts, clip, method=spec)
    classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, texts, "{}")
    with torch.no_grad():
        expected = classifier(inputs).log_softmax(dim=1)
        cosines = cci_captum.ImageTextSimilarity(clip.model)(
            inputs.repeat(2, 1, 1, 1), clip.tokenizer(texts)
        )
    assert torch.allclose(explained.effects.outputs, expected, atol=1e-4)
    assert torch.allclose(explained.similarities, cosines[None], atol=1e-5)


BAD_USAGE = [
    (["missing.png", "--text", "a"], "no such image: missing.png"),
    (["folder", "--text", "a"], "expected an image, got a folder: folder"),
    (["text.jpg", "--text", "a"], "not an image, or of an unknown kind: text.jpg"),
    (["cut.jpg", "--text", "a"], "cannot be read, image file is truncated"),
    (["good.png", "--text", " "], "--text: expected some words, got an empty text"),
    (["good.png"], "the following arguments are required: --text"),
    (["--text", "a"], "the following arguments are required: IMAGE"),
    (["good.png", "--text", "a", "--clusters", "3"], "unrecognized arguments: --clusters 3"),
    (["good.png", "--text", "a", "--out", "a.doc"], "--out: expected a file name ending in .png"),
    (["good.png", "--text", "a", "--out", "a"], "--out: expected a file name ending in .png"),
    (["good.png", "--text", "a", "--out", "no/a.png"], "--out: no such folder: "),
    (["good.png", "--text", "a", "--out", "good.png/a.png"], "--out: no such folder: "),
    (["good.png", "--text", "a", "--out", "folder.png"], "--out: expected a file, got a folder"),
    (["good.png", "--text", "a", "--out", "good.png"], "--out: would overwrite the image good.png"),
    (["good.png", "--text", "a", "--save-maps", "a.npy"], "--save-maps: expected a file name"),
    (["good.png", "--text", "a", "--device", "gpu"], "--device: 'gpu' is not available"),
    (
        ["good.png", "--text", "a", "--method", "ccl"],
        f"error: --method: expected one of {', '.join(METHODS)}, got 'ccl'",
    ),
    (["good.png", "--text", "a", "--method", "ground-truth"], "ground-truth needs masks"),
    (
        ["good.png", "--text", "a", "--method", "rise(masks=0)"],
        "error: --method: masks of rise: expected a positive int, got '0'",
    ),
    (
        ["good.png", "--text", "a", "--method", "cci", "--method", "rise(n_masks=8)"],
        "error: --method: expected an option of rise (masks, p, grid, seed, baseline, score), got "
        "'n_masks'",
    ),
    (
        ["good.png", "--text", "a", "--method", "cci,rise"],
        "error: --method: expected \"(\" or the end at character 4 of 'cci,rise', got ','",
    ),
    (
        ["good.png", "--text", "a", "--method", "cci(score=margin)"],
        "error: --method: cci(score=margin) compares a text with the others; expected at least two",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_USAGE)
def test_explain_checks_everything_before_it_loads_a_model(
    arguments: list[str],
    message: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(explain, "load_model", lambda *_: pytest.fail("loaded a model"))
    (here / "folder").mkdir()
    (here / "folder.png").mkdir()
    (here / "text.jpg").write_text("not an image\n")
    Image.new("RGB", (64, 64)).save("good.png")
    Image.effect_noise((64, 64), 90).save("cut.jpg")
    (here / "cut.jpg").write_bytes((here / "cut.jpg").read_bytes()[:-900])
    check_error(["explain", *arguments], message, here, capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "ViT-B-61"], "error: --model: unknown model 'ViT-B-61'"),
        (["--model", "ViT-B-16", "--pretrained", "no-tag"], "error: --pretrained: expected a tag"),
        (["--model", "ViT-B-16"], "--pretrained: ViT-B-16 needs a tag of pretrained weights: "),
        (["--model", "tiny", "--pretrained", "openai"], "comes with its weights"),
    ],
)
def test_explain_names_a_model_it_cannot_use(
    options: list[str],
    message: str,
    chelsea: Path,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_error(["explain", str(chelsea), "--text", "a cat", *options], message, here, capsys)


@pytest.mark.parametrize("command", ["explain", "compare", "retrieval"])
def test_a_model_that_there_is_not_is_refused_before_anything_else(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before images, methods, folders; a tag under the option that it came with."""
    (here / "file").touch()
    others = {
        "explain": ["missing.png", "--text", "a", "--device", "gpu"],
        "compare": ["--data", "nowhere", "--device", "gpu", "--out", "file"],
        "retrieval": ["--data", "nowhere", "--device", "gpu", "--out", "file"],
    }[command]
    bad = {
        "--model: unknown model 'nosuch'; close ones: ": ["nosuch"],
        "--model: expected a folder that exists, got /no/such": ["hf:/no/such"],
        "--model: expected a folder that exists, got no/such": ["local-dir:no/such"],
        "--model: expected a repository or folder after 'hf-hub:', got nothing": ["hf-hub:"],
        "--pretrained: expected a tag of ViT-B-16 or": ["ViT-B-16", "--pretrained", "nosuch"],
        "--pretrained: 'hf:a/b' comes with its": ["hf:a/b", "--pretrained", "openai"],
    }
    if command != "explain":
        bad["--model: expected a tag of ViT-B-16 or"] = ["ViT-B-16,nosuch"]
        bad["--model: unknown model 'nosuch'; "] = ["tiny", "--model", "nosuch"]  # a later one
    for message, words in bad.items():
        check_error([command, *others, "--model", *words], f"error: {message}", here, capsys)


def test_an_unknown_model_is_refused_without_any_library(here: Path) -> None:
    code = """
import sys
from cci_captum.benchmarks import cli
assert cli.main(["explain", "missing.png", "--text", "a", "--model", "nosuch"]) == 2
assert not {"torch", "open_clip", "PIL"}.intersection(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--model: unknown model 'nosuch'" in done.stderr


def check_error(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(folder)
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("cci-captum: error: ") and output.err.count("\n") == 1
    assert message in output.err
    assert names(folder) == before


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(28, "No space left on device"), OSError),
        (RuntimeError("a bug"), RuntimeError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    with pytest.raises(raised), whole_file(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".png"
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == ["a.png"] and path.read_text() == "old"


def test_explain_names_an_image_encoder_without_patches(
    chelsea: Path,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    vision = {"layers": (1, 1, 1, 1), "width": 8, "image_size": 32}
    model = open_clip.CLIP(16, vision, {"width": 16, "heads": 1, "layers": 1, "vocab_size": 8})
    loaded = cci_captum.LoadedCLIP(model, None, None, "resnet")  # type: ignore[arg-type]
    monkeypatch.setattr(cci_captum.models.clip, "load_clip", lambda *_: loaded)
    arguments = ["explain", str(chelsea), "--text", "a cat", "--model", "RN50"]
    check_error([*arguments, "--pretrained", "random"], "ModifiedResNet", here, capsys)


# demo


def test_demo(
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make_clip: Any,
    tokenizer: Any,
) -> None:
    """Of a small model, with few scenes and methods: `.ci/run` runs it as it is, twice."""
    preprocess = cci_captum.load_clip("tiny").preprocess

    def small(name: str, device: torch.device) -> cci_captum.LoadedCLIP:
        model, _ = make_clip(len(name), image_size=96, patch_size=16)
        return cci_captum.LoadedCLIP(model, preprocess, tokenizer, name)

    monkeypatch.setattr(clip, "load_clip", small)
    scenes, methods = 2, ("maskclip", "cci")
    monkeypatch.setattr(demo, "_FRESH_SCENES", scenes)
    monkeypatch.setattr(demo, "_SCENES", demo._SCENES[:3])
    chosen = [word for name in methods for word in ("--method", name)]
    assert run("demo", "--device", "cpu", *chosen) == 0
    assert names(here) == ["cci-captum-demo"]
    pictures = ["clusters.png", "curves.png", "grid.png", "methods.png"]
    assert names(here / "cci-captum-demo") == pictures
    for path in (here / "cci-captum-demo").iterdir():
        with Image.open(path) as picture:
            assert picture.width > 1000 and picture.height > 600
    out = capsys.readouterr().out
    # Each file as soon as it is there; the comparison, which takes longest, at the end.
    order = ["grid.png", "clusters.png", "methods.png", "penguin on snow", "CCI(classifier)"]
    order += ["curves.png", 'under "grad-eclip" ', "areas with 95 %"]
    found = [re.search(f"^.*{re.escape(text)}", out, re.MULTILINE) for text in order]
    places = [match.start() for match in found if match]
    assert len(places) == len(order) and places == sorted(places)
    assert out.count("wrote ") == 4 == len(re.findall("^wrote cci-captum-demo/.*png$", out, re.M))
    assert out.endswith("docs/benchmarks.md has what 500 said\n")
    table = (
        out[out.index('\nunder "grad-eclip" ') :].partition("areas with")[0].strip().splitlines()
    )
    shown = (*methods, "random", "ground-truth")
    titles = [row[:20].strip() for row in table[1 : 1 + len(shown)]]
    assert titles == [find_method(name).title for name in shown]
    assert f"areas with 95 % intervals over {scenes} scenes" in out


@pytest.mark.exhaustive
def test_demo_shows_the_object_that_the_model_is_surest_of() -> None:
    scenes = demo.draw_scenes(0)
    model, preprocess, tokenizer, _ = cci_captum.load_clip("tiny")
    classifier = cci_captum.ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES)
    inputs = preprocess.transforms[-1](torch.stack([scene.image for scene in scenes]))  # type: ignore[attr-defined]
    with torch.no_grad():
        probabilities = classifier(inputs).softmax(dim=1).tolist()
    six = demo.SixScenes(scenes, probabilities, [str(place) for place in range(6)])
    names = [CLASS_NAMES[target] for target in six.targets]
    assert names == ["penguin", "dog", "guitar", "elephant", "strawberry", "apple"]
    for place, scene in enumerate(scenes):
        assert torch.equal(six[place].mask, scene.masks[0])  # here the explained ones
        assert (preprocess(six[place].image) - inputs[place]).abs().max() < 0.01  # of 8 bits


def test_demo_scenes() -> None:
    scenes = demo.draw_scenes(0)
    assert [scene.background_name for scene in scenes] == [row[3] for row in demo._SCENES]
    assert [scene.class_names[0] for scene in scenes] == [row[2] for row in demo._SCENES]
    held_out = [set(scene.families) <= set(HELD_OUT_FAMILIES) for scene in scenes]
    assert held_out == [row[0] == "held-out" for row in demo._SCENES]
    other = demo.draw_scenes(1)
    assert not any(torch.equal(a.image, b.image) for a, b in zip(scenes, other, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "file"], "--out: expected a folder, got a file: file"),
        (["--out", "file/folder"], "--out: cannot make file/folder: "),
        (["--seed", "-1"], "--seed: expected an int of at least 0, got '-1'"),
        (["--seed", "x"], "--seed: expected an int of at least 0, got 'x'"),
        (["--device", "gpu"], "--device: 'gpu' is not available"),
        (["--method", "ccl"], "--method: expected one of cci, "),
    ],
)
def test_demo_errors(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "file").write_text("")
    (here / "cci-captum-demo").mkdir()
    check_error(["demo", *arguments], message, here, capsys)


# methods


def test_methods(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    first_words = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert [word for word in first_words if word in METHODS] == [*METHODS]
    joined = " ".join(" ".join(lines).split())
    words = [word for method in METHODS.values() for word in method.title.split()]
    assert all(word in joined for word in words)  # long titles are wrapped
    (row,) = [line for line in lines if line.startswith("grad-eclip ")]
    assert row.split()[1:5] == ["Grad-ECLIP", "patch", "gradients", "1"]
    for method in METHODS.values():
        options = [f"{x.name}={x.kind.text(x.default)}" for x in method.options]
        assert ", ".join(options) in joined
        assert all(" ".join(option.help.split()) in joined for option in method.options)


def test_options_of_several_commands_are_the_same() -> None:
    """Kept in one place: help, checks and defaults."""
    parser = cli.build_parser()
    (commands,) = (action.choices for action in parser._actions if action.choices)
    seen: dict[str, set[str]] = {}
    several = ("compare", "retrieval", "study", "counteranimal", "spurious")
    for command in commands.values():  # type: ignore[union-attr]
        for action in command._actions:
            for option in {*action.option_strings} & {*_common._SHARED, "--method"}:
                if option == "--model" and command.prog.split()[-1] in several:
                    assert action.nargs is None and action.default is None  # may be repeated
                    continue
                if option == "--method" and command.prog.split()[-1] == "diagnose":
                    assert action.nargs is None and action.default == "cci"  # one
                    continue
                if option == "--data" and command.prog.split()[-1] == "study":
                    assert action.default == "scenes:objects=each,artwork=each"  # all conditions
                    continue
                usual = str(action.help).rpartition(" (")[0] if option == "--method" else ""
                settings = usual or (action.help, action.type, action.default, action.metavar)
                seen.setdefault(option, set()).add(str(settings))
    assert {*seen} == {*_common._SHARED, "--method"}
    assert all(len(settings) == 1 for settings in seen.values())


def test_methods_are_listed_without_loading_torch() -> None:
    code = (
        "import sys; from cci_captum.benchmarks.cli import main; "
        "sys.exit(main(['methods']) or 'torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_choosing_methods() -> None:
    def chosen(*given: str, masks: bool = True) -> list[str]:
        return [str(spec) for spec in _common.choose_methods(given, masks=masks)]

    assert chosen("rise", "cci", "rise") == ["rise", "cci"]
    assert chosen("cci(clusters=3)", "cci", "cci(clusters=7)") == ["cci(clusters=3)", "cci"]
    assert chosen("clip-surgery(revision=2023-04-12)") == ["clip-surgery-2023-04-12"]
    assert chosen("all") == [*METHODS]
    assert chosen("gradcam", "all", masks=False) == [
        "gradcam",
        *(name for name in METHODS if name not in ("gradcam", "ground-truth")),
    ]
    others = [name for name in METHODS if name != "rise"]
    assert chosen("all", "rise(masks=200)") == [*others, "rise(masks=200)"]


# env and the rest


def test_env(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("env") == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert rows["cci-captum"] == cci_captum.__version__
    assert rows["python"] == ".".join(map(str, sys.version_info[:3]))
    assert rows["clustering"].startswith("torch; faiss")


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as exit_info:
            run(option)
        assert exit_info.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"cci-captum {cci_captum.__version__}\n")
    assert all(f"\n    {command} " in out for command in ("demo", "explain", "methods", "env"))


@pytest.mark.parametrize("arguments", [[], ["explode"], ["demo", "--colour"]])
def test_wrong_usage(arguments: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_error(arguments, "--help)", here, capsys)


def test_interruption(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "draw_scenes", interrupt)
    assert run("demo") == 130
    assert names(here / "cci-captum-demo") == []


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env, "_devices", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("env")


def test_module_runs_as_a_program() -> None:
    program = [sys.executable, "-m", "cci_captum.benchmarks.cli"]
    result = subprocess.run([*program, "explain"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("cci-captum: error: the following arguments are required")
