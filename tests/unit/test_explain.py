"""The one line: what it takes, where its maps lie in a photo, and what it keeps."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from captum.attr import FeatureAblation, Saliency
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from selection import exhaustive_unless, quick_first
from skimage import data
from torch import Tensor, nn

from cci_captum import (
    CCI,
    ClusterEffects,
    Explanation,
    FieldOfView,
    ImageTextSimilarity,
    KMeans,
    LoadedCLIP,
    Margin,
    ZeroShotClassifier,
    explain,
    load_clip,
)
from cci_captum.baselines import RISE, GradECLIP, MethodSpec
from cci_captum.models._transformers import preprocessing_of
from cci_captum.side_by_side import side_by_side
from cci_captum.visualization._picture import Picture

TEXTS = ["a cat", "a dog on grass"]
THREE = MethodSpec.parse("cci(clusters=3)")


@pytest.fixture(scope="module")
def tiny() -> LoadedCLIP:
    return load_clip("tiny")


@pytest.fixture(scope="module")
def chelsea() -> Image.Image:
    return Image.fromarray(data.chelsea())


@pytest.fixture(scope="module")
def explained(tiny: LoadedCLIP, chelsea: Image.Image) -> Explanation:
    return explain([chelsea, Image.fromarray(data.astronaut())], TEXTS, tiny, method=THREE)


# What it takes.


@pytest.mark.parametrize("name", ["tiny", exhaustive_unless(False, "ViT-S-32-alt")])
def test_every_kind_of_image_gives_the_same(
    name: str, chelsea: Image.Image, tmp_path: Path
) -> None:
    clip = load_clip(name, None if name == "tiny" else "random")
    chelsea.save(tmp_path / "chelsea.png")
    pixels = np.asarray(chelsea)
    kinds = [
        chelsea,
        str(tmp_path / "chelsea.png"),
        tmp_path / "chelsea.png",
        [chelsea],
        pixels,
        torch.from_numpy(pixels.copy()).permute(2, 0, 1),
        clip.preprocess(chelsea),
        clip.preprocess(chelsea)[None],
    ]
    first, *others = [explain(kind, TEXTS, clip) for kind in kinds]
    assert first.maps.shape == (1, 2, *first.maps.shape[2:]) and first.maps.abs().max() > 0.1
    for other in others:
        assert torch.equal(other.inputs, first.inputs)
        torch.testing.assert_close(other.maps, first.maps, rtol=0, atol=1e-6)
        torch.testing.assert_close(other.drops, first.drops, rtol=0, atol=1e-6)


def test_dark_grey_of_16_bits_is_said(tiny: LoadedCLIP, tmp_path: Path) -> None:
    """As it is of a file, also of a picture that is open already."""
    dark = Image.fromarray(np.full((8, 9), 4000, dtype=np.uint16))
    dark.save(tmp_path / "dark.png")
    for image in (dark, tmp_path / "dark.png"):
        with pytest.warns(UserWarning, match="grey of 16 bits, of which the largest value, 4000"):
            explain(image, "a cat", tiny, method=THREE)


def test_it_is_the_library_text_by_text(explained: Explanation, tiny: LoadedCLIP) -> None:
    """Cosines, drops and maps are those of CCI on the similarity with each text alone."""
    cci = CCI(ImageTextSimilarity(tiny.model), clustering=KMeans(3))
    for place, text in enumerate(TEXTS):
        own = cci.effects(explained.inputs, tiny.tokenizer([text]))
        torch.testing.assert_close(explained.scores[:, place], own.outputs, rtol=0, atol=1e-5)
        torch.testing.assert_close(explained.drops[:, place], own.drops(), rtol=0, atol=1e-5)
        torch.testing.assert_close(explained.maps[:, place], own.patch_map(), rtol=0, atol=1e-3)
    assert torch.equal(explained.similarities, explained.scores)
    labels = explained.effects.labels
    for place in range(2):
        for index in range(2):
            expected = explained.drops[index, place][labels[index]]
            assert torch.equal(explained.drop_maps()[index, place], expected)


@pytest.mark.parametrize(
    ("method", "shape"), quick_first([(RISE, (96, 96)), (GradECLIP, (12, 12))])
)
def test_other_methods(method: Any, shape: Any, tiny: LoadedCLIP, chelsea: Image.Image) -> None:
    if method is RISE:
        method = MethodSpec.parse("rise(masks=8)")
    found = explain(chelsea, TEXTS, tiny, method=method)
    explainer = method(ImageTextSimilarity(tiny.model))
    for place, text in enumerate(TEXTS):
        own = explainer.attribute(
            found.inputs, additional_forward_args=tiny.tokenizer([text]), upsample="nearest"
        )[:, 0]
        mine = nn.functional.interpolate(found.maps[:, place : place + 1], (96, 96))[:, 0]
        torch.testing.assert_close(mine, own, rtol=1e-3, atol=1e-6)
    assert found.maps.shape == (1, 2, *shape) and found.effects is None
    with pytest.raises(ValueError, match="drops: expected a method that hides clusters, got"):
        _ = found.drops


def test_a_method_of_captums_own(tiny: LoadedCLIP, chelsea: Image.Image) -> None:
    found = explain(chelsea, TEXTS, tiny, method=Saliency)
    assert found.method == "Saliency" and found.maps.shape == (1, 2, 96, 96)


@pytest.mark.parametrize("inside", quick_first([False, True]))
def test_scores_over_the_texts(inside: bool, tiny: LoadedCLIP, chelsea: Image.Image) -> None:
    """Chosen by the argument or within the spec, of the model's own logits."""
    if inside:
        found = explain(chelsea, TEXTS, tiny, method=MethodSpec.parse("cci(score=margin)"))
    else:
        found = explain(chelsea, TEXTS, tiny, score="margin")
    classifier = ZeroShotClassifier(tiny.model, tiny.tokenizer, TEXTS, "{}")
    with torch.no_grad():
        expected = Margin(classifier)(found.inputs)
        cosines = classifier(found.inputs) / tiny.model.logit_scale.exp()
    torch.testing.assert_close(found.scores, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(found.similarities, cosines, rtol=0, atol=1e-5)
    assert found.score == "margin" and found.scores.abs().max() > 1
    own = CCI(Margin(classifier)).effects(found.inputs).drops(1)
    torch.testing.assert_close(found.drops[:, 1], own, rtol=1e-4, atol=1e-4)


@pytest.mark.exhaustive
def test_names_that_come_with_their_weights(chelsea: Image.Image) -> None:
    assert explain(chelsea, "a cat", "tiny").model == "tiny"
    assert explain(chelsea, "a cat", "tiny", device="cpu").texts == ("a cat",)
    with pytest.raises(ValueError, match="pretrained: 'tiny' comes with its weights"):
        explain(chelsea, "a cat", "tiny", "laion400m_e32")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": "https://x.org/a.png"}, ValueError, r"images\[0\]: expected a file, got a URL"),
        ({"images": ["none.png"]}, FileNotFoundError, "no such image: none.png"),
        ({"images": []}, ValueError, "images: expected at least one image, got none"),
        ({"images": 3}, TypeError, "images: expected files, PIL images, .* got int"),
        ({"images": [3]}, TypeError, r"images\[0\]: expected a file, .* got int"),
        ({"images": np.zeros((4, 4, 3))}, ValueError, r"images\[0\]: .*uint8.* got float64"),
        ({"images": torch.zeros(4, 4)}, ValueError, r"images\[0\]: .*\(3, H, W\), got \(4, 4\)"),
        (
            {"images": [torch.zeros(3, 96, 96), torch.zeros(3, 64, 64)]},
            ValueError,
            r"images: expected inputs of one size, got \(3, 96, 96\) of image 0, \(3, 64, 64\)",
        ),
        ({"texts": []}, ValueError, "texts: expected at least one text, got none"),
        ({"texts": ["a", " "]}, ValueError, "texts: expected some words, got an empty text"),
        ({"texts": [3]}, TypeError, "texts: expected strings, got int"),
        ({"texts": "one", "score": "margin"}, ValueError, "texts: margin compares a text"),
        ({"score": "nosuch"}, ValueError, "score: expected"),
        ({"method": 3}, TypeError, "method: expected a class like cci_captum.CCI"),
        ({"device": "cpu"}, ValueError, "device: expected None, since a model object stays"),
        ({"model": nn.Linear(2, 2)}, TypeError, "model: expected a CLIP-like model"),
        ({"model": (nn.Linear(2, 2), 1)}, TypeError, r"model: expected one object; as_clip\(model"),
        ({"pretrained": nn.Linear(2, 2)}, TypeError, r"pretrained: expected a tag .*as_clip\(mod"),
        ({"method": "cci"}, TypeError, r"method: expected .* MethodSpec.parse\('cci'\)"),
    ],
)
def test_wrong_arguments(
    change: dict[str, Any], error: Any, message: str, tiny: LoadedCLIP, chelsea: Image.Image
) -> None:
    given = {"images": chelsea, "texts": TEXTS, "model": tiny} | change
    with pytest.raises(error, match=message):
        explain(given.pop("images"), given.pop("texts"), **given)


# Where maps lie in a photo.


class PatchBrightness(nn.Module):
    """A CLIP whose cosine with any text rises with the brightness of one patch alone."""

    def __init__(self, rows: slice, columns: slice) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns
        self.logit_scale = nn.Parameter(torch.zeros(()))

    def encode_image(self, images: Tensor) -> Tensor:
        brightness = images[:, :, self.rows, self.columns].mean(dim=(1, 2, 3))
        return torch.stack([brightness, torch.ones_like(brightness)], dim=1)

    def encode_text(self, text: Tensor) -> Tensor:
        return torch.tensor([[1.0, 0.0]]).repeat(len(text), 1)


def of_open_clip(mode: str) -> Any:
    return image_transform_v2(PreprocessCfg(size=64, resize_mode=mode), is_train=False)


def of_transformers(kind: str) -> Any:
    if kind == "siglip":
        sizes = {"size": {"height": 64, "width": 64}}
        processor = transformers.SiglipImageProcessor(**sizes)
        return preprocessing_of(processor, transformers.SiglipConfig())
    config = transformers.Siglip2Config(vision_config={"num_patches": 64, "patch_size": 8})
    return preprocessing_of(transformers.Siglip2ImageProcessor(), config)


PREPROCESSINGS: dict[str, Callable[[], Any]] = {
    "centre crop": lambda: of_open_clip("shortest"),
    "squash": lambda: of_open_clip("squash"),
    "pad": lambda: of_open_clip("longest"),
    "SigLIP": lambda: of_transformers("siglip"),
    "NaFlex": lambda: of_transformers("siglip2"),
}


@pytest.mark.parametrize("size", [(480, 320), (320, 480), (400, 400)])
@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_a_patch_lies_on_its_own_pixels(name: str, size: tuple[int, int]) -> None:
    """What is marked in the photo, painted white there, arrives in the patch and nowhere else."""
    preprocess = PREPROCESSINGS[name]()
    rows, columns = slice(24, 32), slice(32, 40)
    clip = LoadedCLIP(
        PatchBrightness(rows, columns).eval(),
        preprocess,
        lambda texts: torch.zeros(len(texts), 4, dtype=torch.long),
        "brightness",
    )
    found = explain(Image.new("RGB", size, "grey"), "any", clip, method=Saliency)
    on_photo = found.on_photo(0)[0]
    assert on_photo.shape == (size[1], size[0])
    marked = on_photo > 0.5 * on_photo.max()
    assert 0 < marked.sum() < 0.1 * marked.numel()
    painted = Image.fromarray((255 * marked.numpy()).astype(np.uint8)).convert("RGB")
    black, white = (preprocess(Image.new("RGB", size, colour)) for colour in ("black", "white"))
    # From 0 to 1, but where the input is padded.
    arrived = ((preprocess(painted) - black) / (white - black).clamp(min=1e-3)).mean(dim=0)
    assert arrived[rows, columns].mean() > 0.9
    assert arrived[24:32, 32:40].min() > 0.3  # its corners, where painted pixels are partly outside
    assert arrived.sum() == pytest.approx(64, rel=0.08)


def test_of_inputs_the_photo_is_drawn(tiny: LoadedCLIP, chelsea: Image.Image) -> None:
    inputs = tiny.preprocess(chelsea)
    found = explain(inputs, TEXTS, tiny, method=THREE)
    photo = torch.from_numpy(np.asarray(found.photos[0]).copy()).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (tiny_mean(tiny), tiny_std(tiny)))
    torch.testing.assert_close((photo - mean) / std, inputs, rtol=0, atol=0.01)
    assert found.field_of_view == ((0, 0, 96, 96),)
    own = nn.functional.interpolate(found.maps[0][None], (96, 96), mode="nearest-exact")[0]
    assert torch.equal(found.on_photo(0), own)


def tiny_mean(clip: LoadedCLIP) -> Any:
    return clip.preprocess.transforms[-1].mean


def tiny_std(clip: LoadedCLIP) -> Any:
    return clip.preprocess.transforms[-1].std


def test_patches_that_do_not_reach_the_edge(explained: Explanation) -> None:
    """A map that covers 10 of 12 parts of the input is placed on 10 parts of what is shown."""
    partly = replace(explained, covered=FieldOfView(0, 0, 80, 80))
    on_photo = partly.on_photo(1)  # 512 x 512
    edge = round(512 * 80 / 96)
    assert (on_photo[:, edge:] == 0).all() and (on_photo[:, :, edge:] == 0).all()
    assert (on_photo[:, : edge - 1, : edge - 1] != 0).any(dim=0).all()
    mask = partly.feature_mask()
    assert (mask[:, :, 80:] == mask[:, :, :80, :80].amax() + 1).all()


@pytest.mark.parametrize("upsample", ["nearest", "bilinear", "bicubic"])
def test_ways_to_enlarge(upsample: Any, explained: Explanation) -> None:
    found = explained.on_photo(0, upsample)
    assert found.shape == (2, 300, 451) and found.isfinite().all()
    assert (found[:, :, :75] == 0).all() and (found[:, :, 376:] == 0).all()
    with pytest.raises(ValueError, match="upsample: expected"):
        explained.on_photo(0, "lanczos")  # type: ignore[arg-type]


def test_feature_masks_are_for_captum(explained: Explanation, tiny: LoadedCLIP) -> None:
    """Replaced cluster by cluster: one value for all pixels of each, another for each."""
    mask = explained.feature_mask()
    assert mask.shape == (2, 1, 96, 96) and mask.dtype == torch.int64
    ablation = FeatureAblation(ImageTextSimilarity(tiny.model))
    text = tiny.tokenizer(TEXTS)
    found = ablation.attribute(explained.inputs, None, None, text, feature_mask=mask)
    for index in range(2):
        labels = explained.effects.labels[index].repeat_interleave(8, 0).repeat_interleave(8, 1)
        assert torch.equal(mask[index, 0], labels)
        own = [found[index, 0][labels == cluster].unique() for cluster in range(3)]
        assert [len(values) for values in own] == [1, 1, 1] and len(torch.cat(own).unique()) == 3


# What it keeps.


def test_saved_and_loaded(explained: Explanation, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cat"
    explained.save(folder)
    explained.save(folder)  # once more: replaced
    assert sorted(os.listdir(folder.parent)) == ["cat"]
    found = Explanation.load(folder)
    for name in ("scores", "similarities", "maps", "inputs", "drops"):
        assert torch.equal(getattr(found, name), getattr(explained, name)), name
    for name in ("names", "texts", "field_of_view", "covered", "model", "method", "score"):
        assert getattr(found, name) == getattr(explained, name), name
    assert torch.equal(found.on_photo(0), explained.on_photo(0))
    pixels = [np.asarray(e.photos[0]) for e in (found, explained)]
    assert np.array_equal(*pixels)


def test_saving_touches_nothing_else(explained: Explanation, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years")
    with pytest.raises(FileExistsError, match="folder: expected a new or empty one"):
        explained.save(tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"] and os.listdir(tmp_path) == ["mine"]
    (tmp_path / "empty").mkdir()
    without = replace(explained, effects=None)
    without.save(tmp_path / "empty")
    assert Explanation.load(tmp_path / "empty").effects is None
    with pytest.raises(FileNotFoundError):
        Explanation.load(tmp_path / "none")


def test_what_fails_half_way_leaves_the_old(
    explained: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    explained.save(tmp_path / "cat")
    broken = replace(explained, photos=(explained.photos[0], None))  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        broken.save(tmp_path / "cat")
    assert os.listdir(tmp_path) == ["cat"]
    assert torch.equal(Explanation.load(tmp_path / "cat").maps, explained.maps)


def test_effects_are_kept_and_taken_apart(explained: Explanation, tmp_path: Path) -> None:
    effects = replace(explained.effects, covered=FieldOfView(1.5, 0, 60, 90))
    effects.save(tmp_path / "effects.safetensors")
    found = ClusterEffects.load(tmp_path / "effects.safetensors")
    assert found.covered == effects.covered and found.image_shape == effects.image_shape
    assert torch.equal(found.attributions(1), effects.attributions(1))
    second = explained.effects[1]
    assert len(second) == 1 and len(explained.effects[[1, 0, 1]]) == 3
    assert torch.equal(second.drops(0), explained.effects.drops(0)[1:])
    assert torch.equal(explained.effects[-1].labels, second.labels)
    assert torch.equal(explained.effects.to("cpu").labels, explained.effects.labels)
    with pytest.raises(IndexError, match="expected one of 2 images, got 2"):
        explained.effects[2]
    (tmp_path / "other.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"path: expected a file that ClusterEffects.save wrote"):
        ClusterEffects.load(tmp_path / "other.safetensors")


@pytest.mark.skipif(os.name != "posix", reason="pipes as on Unix")
def test_what_cannot_be_written_stays_as_it_is(explained: Explanation, tmp_path: Path) -> None:
    """Neither a device, as /dev/full is one, nor a folder is replaced; nothing is half written."""
    folder, pipe = tmp_path / "folder.pdf", tmp_path / "pipe.pdf"
    folder.mkdir()
    os.mkfifo(pipe)
    before = sorted(tmp_path.iterdir())
    savers: list[Callable[[Path], object]] = [explained.effects.save, explained.save_figures]
    for save in savers:
        for path, message in (
            (pipe, "path: expected a file, got a device or pipe: "),
            (folder, "path: expected a file, got a folder: "),
            (tmp_path / "no" / "a.pdf", "path: no such folder: "),
        ):
            with pytest.raises(OSError, match=message):
                save(path)
    with pytest.raises(FileExistsError, match="folder: expected a new or empty one"):
        explained.save(pipe)
    with pytest.raises(ValueError, match=r"^path: expected a name with an ending, such as \.pdf"):
        explained.save_figures(tmp_path / "maps")
    with pytest.raises(ValueError, match="scale"):  # after the file of pages was begun
        explained.save_figures(tmp_path / "a.pdf", rows=1, scale="no such")
    assert sorted(tmp_path.iterdir()) == before and pipe.is_fifo()


# Pictures.


def test_texts_are_drawn_on_one_scale(explained: Explanation, monkeypatch: Any) -> None:
    """Of two texts the one with a fifth of the drops is a fifth as strong."""
    drawn: dict[str, Any] = {}

    def recorded(images: Any, maps: Any, **options: Any) -> Any:
        drawn.update(images=images, maps=maps, **options)

    monkeypatch.setattr("cci_captum.side_by_side.attribution_grid", recorded)
    explained.figure()
    assert drawn["scale"] == "per-row" and drawn["titles"] == ["image", *TEXTS]
    for place, column in enumerate(drawn["maps"].values()):
        for index, map_ in enumerate(column):
            assert drawn["fields_of_view"][index] == pytest.approx(explained.map_area(index))
            largest = explained.drops[index, place].abs().max()
            torch.testing.assert_close(map_.abs().max(), largest, rtol=1e-6, atol=0)
    side_by_side([explained, explained])
    assert drawn["scale"] == "per-map" and len(drawn["maps"]) == 4
    with pytest.raises(ValueError, match="explanations: expected the same images and texts"):
        side_by_side([explained, replace(explained, texts=("a", "b"))])


@pytest.mark.exhaustive
def test_pages_are_the_rows_of_the_whole_figure(
    tiny: LoadedCLIP, tmp_path: Path, monkeypatch: Any
) -> None:
    pages: list[Any] = []
    saved = Picture.savefig
    monkeypatch.setattr(Picture, "savefig", lambda *a, **k: (pages.append(a[0]), saved(*a, **k)))
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(3)]
    found = explain(photos, TEXTS, tiny, method=THREE)
    files = found.save_figures(tmp_path / "a.b.png", rows=2, dpi=30)
    assert [path.name for path in files] == ["a.b-1.png", "a.b-2.png"]
    assert files == sorted(tmp_path.iterdir())
    assert found.save_figures(tmp_path / "c.png", rows=3, dpi=30) == [tmp_path / "c.png"]
    assert found.save_figures(str(tmp_path / "c.pdf"), rows=1) == [tmp_path / "c.pdf"]
    assert len(pages) == 6

    drawn = [found.figure(), *pages[:2], found[[2, 0]].figure()]
    cells = [[axes.images[0].get_array() for axes in f.axes if axes.images] for f in drawn]
    assert [len(own) for own in cells] == [9, 6, 3, 6]
    for own, rows in zip(cells[1:], [(0, 1), (2,), (2, 0)], strict=True):
        for place, row in enumerate(rows):
            for column in range(3):
                assert (own[3 * place + column] == cells[0][3 * row + column]).all()
    titles = [[text.get_text() for text in f.texts] for f in pages[:2]]
    assert "image 1" in titles[0] and "image 2" in titles[1] and "image 1" not in titles[1]

    given: list[dict[str, Any]] = []

    def recorded(*images: Any, **options: Any) -> Any:
        given.append(options)
        return drawn[0]

    monkeypatch.setattr("cci_captum.side_by_side.attribution_grid", recorded)
    masks = torch.rand(3, 96, 96) > 0.5
    found.save_figures(tmp_path / "d.pdf", 2, masks=masks, row_titles=["a", "b", "c"], unit=None)
    assert [options["row_titles"] for options in given] == [["a", "b"], ["c"]]
    assert (given[1]["masks"][0] == masks[2]).all() and given[1]["unit"] is None
    for images in ([3], 3, []):
        with pytest.raises(IndexError):
            found[images]  # type: ignore[index]
    marks = [False, True, False]
    for images in (1, np.int64(1), [-2], slice(1, 2), marks, torch.tensor(marks), np.array(marks)):
        assert found[images].names == ("image 1",)
        assert torch.equal(found[images].drops, found.drops[1:2])
    with pytest.raises(ValueError, match=r"^rows: expected a positive int, got 0"):
        found.save_figures(tmp_path / "e.png", rows=0)


@pytest.mark.exhaustive
def test_large_photos_are_drawn_smaller(tiny: LoadedCLIP) -> None:
    found = explain(Image.new("RGB", (3000, 1000), "blue"), "a cat", tiny, method=THREE)
    figure = found.figure(upsample="bilinear")
    assert found.on_photo(0).shape == (1, 1000, 3000)
    sizes = [axes.images[0].get_size() for axes in figure.axes if axes.images]
    assert sizes == [(256, 768)] * 2


def test_clusters_are_shown_where_the_model_looked(explained: Explanation) -> None:
    figure = explained.cluster_figure(TEXTS[1])
    shapes = [axes.images[0].get_size() for axes in figure.axes if axes.images]
    assert len(shapes) == 4 and all(abs(h - w) <= 1 for h, w in shapes)
    with pytest.raises(ValueError, match="text: expected one of a cat, a dog on grass, got 'no'"):
        explained.cluster_figure("no")


def test_an_explanation_is_a_line(explained: Explanation) -> None:
    assert repr(explained) == (
        "Explanation(2 images, 2 texts, CCI (3 clusters) of tiny, cosine, maps 12 x 12)"
    )
    assert repr(explained[0]).startswith("Explanation(1 image, 2 texts, ")


def test_words_that_tiny_never_learnt_are_warned_about(tiny: LoadedCLIP) -> None:
    with pytest.warns(
        UserWarning, match="^texts: the tiny model never learnt zebra, saxophone, of"
    ):
        explain(Image.new("RGB", (9, 9)), ["a zebra", "a cat", "a saxophone"], tiny, method=THREE)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [(40, 60), (40, 60, 1), (40, 60, 4)])
def test_arrays_of_other_colours(shape: tuple[int, ...], tiny: LoadedCLIP) -> None:
    """As Pillow reads them: grey, and colours under transparency."""
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    picture = Image.fromarray(pixels.squeeze())
    one, other = (explain(image, "a cat", tiny, method=THREE) for image in (pixels, picture))
    assert torch.equal(one.inputs, other.inputs) and len(one) == 1


def test_saved_files_are_as_others_can_read_them(explained: Explanation, tmp_path: Path) -> None:
    explained.save(tmp_path / "cat")
    rights = {file.stat().st_mode for file in (tmp_path / "cat").iterdir()}
    (tmp_path / "plain").write_text("")
    assert rights == {(tmp_path / "plain").stat().st_mode}
