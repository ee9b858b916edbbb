"""Grounded SAM on small random models, against its steps, one image and box at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from grounded_sam_models import CLASSES, SIDE, Box, detector, photo, segmenter
from PIL import Image
from torch import Tensor

from cci_captum.diagnosis.segmentation import STATUSES, GroundedSAM, _sam
from cci_captum.diagnosis.segmentation._transformers_versions import (
    check_transformers,
    detects_in_half_precision,
)

KINDS = tuple(CLASSES)


def mask_logits(kind: str, sam: Any, image: Image.Image, box: list[float]) -> Tensor:
    """(H, W) float64 of one box: the model once, its small mask enlarged by hand."""
    model, processor = sam
    width, height = image.size
    scale = SIDE / max(width, height)
    seen = (int(height * scale + 0.5), int(width * scale + 0.5)) if kind == "sam" else (SIDE, SIDE)
    pixels = processor.image_processor(image, return_tensors="pt")["pixel_values"]
    ratio = torch.tensor([seen[1] / width, seen[0] / height] * 2)
    with torch.no_grad():
        outputs = model(
            pixel_values=pixels,
            input_boxes=(torch.tensor(box) * ratio)[None, None],
            multimask_output=False,
        )
    logits = outputs.pred_masks[0, 0].double()[None]  # (1, 1, h, w)
    if kind == "sam":
        logits = F.interpolate(logits, (SIDE, SIDE), mode="bilinear", align_corners=False)
        logits = logits[..., : seen[0], : seen[1]]
    return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0, 0]


def boxes_of(dino: Any, image: Image.Image, prompt: str, threshold: float) -> Any:
    """As the library gives them."""
    model, processor = dino
    inputs = processor(images=image, text=prompt, return_tensors="pt")
    with torch.no_grad():
        outputs = model(**inputs)
    return processor.post_process_grounded_object_detection(
        outputs, threshold=threshold, target_sizes=[image.size[::-1]]
    )[0]


def assert_same_mask(found: Tensor | None, logits: list[Tensor]) -> None:
    """Equal but where a logit is so near to 0 that rounding decides."""
    assert found is not None and found.dtype == torch.bool
    highest = torch.stack(logits).amax(dim=0)
    sure = highest.abs() > 1e-4 * highest.std()
    assert found.shape == highest.shape and sure.float().mean() > 0.99
    assert torch.equal(found[sure], (highest > 0)[sure])


@pytest.fixture(scope="module")
def dino() -> Any:
    return detector()


@pytest.fixture(scope="module", params=KINDS)
def sam(request: pytest.FixtureRequest) -> Any:
    return request.param, segmenter(request.param)


@pytest.mark.parametrize("size", [(70, 50), (33, 90)])
def test_end_to_end(dino: Any, sam: Any, size: tuple[int, int]) -> None:
    kind, models = sam
    image = photo(40, size)
    scores = boxes_of(dino, image, "polar bear.", 0.0)["scores"].sort(descending=True).values
    threshold = float(scores[2:4].mean())  # between the third and the fourth
    expected = boxes_of(dino, image, "polar bear.", threshold)
    assert len(expected["boxes"]) == 3
    found = GroundedSAM(dino, models, threshold=threshold)([image], ["Polar bear"], ["a"])[0]
    assert found.status == "" and abs(found.score - float(scores[0])) < 1e-6
    assert_same_mask(
        found.mask, [mask_logits(kind, models, image, box.tolist()) for box in expected["boxes"]]
    )


LEFT, RIGHT = (0.05, 0.1, 0.4, 0.9), (0.55, 0.2, 0.9, 0.8)


def in_pixels(corners: tuple[float, ...], image: Image.Image) -> list[float]:
    sides = image.size * 2
    return [share * side for share, side in zip(corners, sides, strict=True)]


def test_several_boxes(sam: Any) -> None:
    """The score is the best one's, which the detector does not give first."""
    kind, models = sam
    told = {(40, "cat"): [Box(LEFT, 0.6), Box(RIGHT, 0.8), Box((0, 0, 1, 1), 0.2)]}
    dino, image = detector(told), photo(40)
    left, right = (mask_logits(kind, models, image, in_pixels(box, image)) for box in (LEFT, RIGHT))
    expected = {"union": [left, right], "best": [right]}
    for several, logits in expected.items():
        grounded = GroundedSAM(dino, models, several=several)
        found = grounded([image], ["cat"], ["a"])[0]
        assert found.status == "" and abs(found.score - 0.8) < 1e-6
        assert_same_mask(found.mask, logits)
        assert grounded.counts == {"images": 1, "several boxes": 1}
    assert ((left > 0) != (right > 0)).float().mean() > 0.1
    grounded = GroundedSAM(dino, models, several="status")
    found = grounded([image] * 2, ["cat", "dog"], ["a", "b"])
    assert [f[:2] for f in found] == [(None, "several boxes"), (None, "no detection")]
    assert grounded.counts == {"images": 2, "several boxes": 1, "no detection": 1}
    assert {f.status for f in found} < set(STATUSES)


@pytest.mark.exhaustive
def test_many_boxes_go_a_few_at_a_time(sam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, models = sam
    corners = [(x / 8, 0.1, x / 8 + 0.2, 0.9) for x in range(7)]
    dino, image = detector({(40, "cat"): [Box(box) for box in corners]}), photo(40)
    logits = [mask_logits(kind, models, image, in_pixels(box, image)) for box in corners]
    seen: list[int] = []
    forward = models[0].forward
    monkeypatch.setattr(
        models[0],
        "forward",
        lambda **inputs: seen.append(inputs["input_boxes"].shape[1]) or forward(**inputs),
    )
    for most, expected in ((3, [3, 3, 1]), (32, [7])):
        monkeypatch.setattr(_sam, "_BOXES", most)
        seen.clear()
        assert_same_mask(GroundedSAM(dino, models)([image], ["cat"], ["a"])[0].mask, logits)
        assert seen == expected
    monkeypatch.setattr(_sam, "_PIXELS", 2 * 70 * 50 + 1)
    seen.clear()
    assert_same_mask(GroundedSAM(dino, models)([image], ["cat"], ["a"])[0].mask, logits)
    assert seen == [2, 2, 2, 1]


def test_parents_are_asked_where_the_name_finds_nothing() -> None:
    told = {(40, "cat"): [Box(LEFT)], (40, "animal"): [Box(RIGHT)], (90, "animal"): [Box(RIGHT)]}
    told[130, "cat"] = []
    dino, models = detector(told), segmenter("sam2")
    above = {"cat": ["dog", "animal"]}
    grounded = GroundedSAM(dino, models, parents=lambda name: above[name])
    photos = [photo(40), photo(90), photo(130)]
    found = grounded(photos, ["cat"] * 3, list("abc"))
    assert [f.status for f in found] == ["", "", "no detection"]
    for image, mask, box in zip(
        photos, (found[0].mask, found[1].mask), (LEFT, RIGHT), strict=False
    ):
        assert_same_mask(mask, [mask_logits("sam2", models, image, in_pixels(box, image))])
    counted = {"images": 3, "by a parent or synonym": 1, "no detection": 1}
    assert grounded.counts == counted
    alone = GroundedSAM(dino, models)(photos, ["cat"] * 3, list("abc"))
    assert [f.status for f in alone] == ["", "no detection", "no detection"]
    with pytest.raises(TypeError, match="parents: expected strings for 'cat', got 'dog'"):
        GroundedSAM(dino, models, parents=lambda name: "dog")(photos, ["cat"] * 3, list("abc"))


def test_a_photo_has_the_same_mask_in_any_company() -> None:
    """The same bits one by one, as by default; in larger passes up to rounding."""
    dino, models = detector(), segmenter("sam")
    sizes = [(70, 50), (50, 70), (70, 50), (120, 50)]
    photos = [photo(level, size) for level, size in zip((40, 90, 130, 180), sizes, strict=True)]
    names = ["cat", "polar bear", "dog", "a cat"]
    grounded = GroundedSAM(dino, models, threshold=0.9)
    together = grounded(photos, names, list("abcd"))
    for place, found in enumerate(together):
        alone = grounded([photos[place]], [names[place]], ["x"])[0]
        assert found.status == alone.status and found.score == alone.score
        assert found.mask is not None and torch.equal(found.mask, alone.mask)
    batched = GroundedSAM(dino, models, threshold=0.9, internal_batch_size=8)
    for one, other in zip(together, batched(photos, names, list("abcd")), strict=True):
        assert abs(one.score - other.score) < 1e-5


def test_by_folder(tmp_path: Path, sam: Any) -> None:
    """A checkpoint as the Hub has it is what the models in memory are."""
    kind, models = sam
    dino = detector()
    for name, pair in (("dino", dino), ("sam", models)):
        for part in pair:
            part.save_pretrained(tmp_path / name)
    image = photo(40)
    expected = GroundedSAM(dino, models, threshold=0.9)([image], ["cat"], ["a"])[0]
    loaded = GroundedSAM(str(tmp_path / "dino"), str(tmp_path / "sam"), threshold=0.9)
    found = loaded([image], ["cat"], ["a"])[0]
    assert found.score == expected.score and found.mask is not None
    assert torch.equal(found.mask, expected.mask)
    with pytest.raises(ValueError, match=f"detector: expected a model of type .*, got '{kind}'"):
        GroundedSAM(str(tmp_path / "sam"), models)
    with pytest.raises(ValueError, match=r"segmenter: expected .* got 'grounding-dino'"):
        GroundedSAM(dino, str(tmp_path / "dino"))


# Versions


@pytest.mark.parametrize("version", ["5.9.0", "5.12.1", "5.22.2"])
def test_versions_with_wrong_text_positions_are_refused(
    version: str, dino: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.__version__", version)
    with pytest.raises(ImportError, match=rf"got {re.escape(version)}, .*text positions.*47674"):
        GroundedSAM(dino, segmenter("sam"))


@pytest.mark.parametrize("version", ["4.57.1", "5.8.1", "5.23.0", "5.23.0.dev0", "6.0.0"])
def test_other_versions_are_not(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.__version__", version)
    check_transformers()
    assert detects_in_half_precision() == (version not in ("4.57.1", "5.8.1"))


def test_text_positions_are_told_apart() -> None:
    """What is wrong in the versions refused: words in another order are the same there."""
    model, _ = detector()
    layer = model.model.encoder.layers[0]
    features = torch.zeros(1, 6, 32)
    places = torch.arange(6)[None]
    embedded = layer.get_text_position_embeddings(features, None, places)
    distances = torch.cdist(embedded.double(), embedded.double())[0]
    assert float((distances + 9 * torch.eye(6)).min()) > 0.05
    assert (embedded[0, 1:] % 1 != 0).float().mean() > 0.5


@pytest.mark.exhaustive
def test_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of checkpoints: the detector's only where it runs. SAM's mask is nearly that of float32."""
    dino, models = detector({(40, "cat"): [Box(LEFT)]}), segmenter("sam2")
    dino[0].save_pretrained(tmp_path / "dino")
    dino[1].save_pretrained(tmp_path / "dino")
    options: dict[str, Any] = {"dtype": torch.bfloat16}
    detected = GroundedSAM(str(tmp_path / "dino"), models, **options)._detector
    expected = torch.bfloat16 if detects_in_half_precision() else torch.float32
    assert next(detected.model.parameters()).dtype == expected
    assert len(detected.find([photo(40)], ["cat."], 0.0)[0].scores)
    monkeypatch.setattr("transformers.__version__", "5.8.0")
    detected = GroundedSAM(str(tmp_path / "dino"), models, **options)._detector
    assert next(detected.model.parameters()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"expected weights in float32, got torch.bfloat16.*5.17"):
        GroundedSAM((detector()[0].bfloat16(), dino[1]), models)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_of_the_segmenter(kind: str) -> None:
    dino, models, image = detector({(40, "cat"): [Box(LEFT)]}), segmenter(kind), photo(40)
    exact = GroundedSAM(dino, models)([image], ["cat"], ["a"])[0]
    half = GroundedSAM(dino, (segmenter(kind)[0].bfloat16(), models[1]))([image], ["cat"], ["a"])[0]
    assert half.status == "" and exact.mask is not None and half.mask is not None
    assert (half.mask == exact.mask).float().mean() > 0.9
    assert 0.02 < exact.mask.float().mean() < 0.98


# Failures


def test_one_failure_is_one_status() -> None:
    """Of either model; also in a batch, whose others are found all the same."""
    told = {(level, "cat"): [Box(LEFT)] for level in (40, 90, 130)}
    dino, models = detector(told), segmenter("sam")
    dino[0].raising = {90: ValueError("no such image\nat all")}
    photos = [photo(level) for level in (40, 90, 130)]
    for batch in (1, 2, 3):
        grounded = GroundedSAM(dino, models, internal_batch_size=batch)
        with pytest.warns(UserWarning, match=r"^two: failed: no such image$") as warned:
            found = grounded(photos, ["cat"] * 3, ["one", "two", "three"])
        assert [f.status for f in found] == ["", "failed", ""] and found[1].mask is None
        assert len(warned) == 1 and grounded.counts == {"images": 3, "failed": 1}

    dino[0].raising = {}
    embed = models[0].get_image_embeddings
    calls = []

    def second_fails(pixels: Tensor) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("odd shape")
        return embed(pixels)

    models[0].get_image_embeddings = second_fails
    with pytest.warns(UserWarning, match="two: failed: odd shape"):
        found = GroundedSAM(dino, models)(photos, ["cat"] * 3, ["one", "two", "three"])
    assert [f.status for f in found] == ["", "failed", ""]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: device-side assert triggered"),
    ],
)
def test_what_is_no_matter_of_one_image_is_raised(error: Exception) -> None:
    dino = detector({})
    dino[0].raising = {90: error}
    with pytest.raises(type(error)):
        GroundedSAM(dino, segmenter("sam"))([photo(90)], ["cat"], ["a"])


def test_scores_that_are_no_numbers_are_no_missing_object(monkeypatch: pytest.MonkeyPatch) -> None:
    dino = detector({(40, "cat"): [Box(LEFT, float("nan"))]})
    with pytest.warns(UserWarning, match="a: failed: the detector's scores are not numbers"):
        found = GroundedSAM(dino, segmenter("sam"))([photo(40)], ["cat"], ["a"])[0]
    assert found.status == "failed"


def test_an_empty_mask_is_a_status() -> None:
    dino, models = detector({(40, "cat"): [Box(LEFT)]}), segmenter("sam2")
    with torch.no_grad():  # every logit below 0
        for network in models[0].mask_decoder.output_hypernetworks_mlps:
            for parameter in network.parameters():
                parameter.zero_()
    found = GroundedSAM(dino, models)([photo(40)], ["cat"], ["a"])[0]
    assert found.mask is None and found.status == "empty mask" and abs(found.score - 0.9) < 1e-6


@pytest.mark.parametrize("size", [(900, 2), (2, 900), (1, 1), (3, 3)])
def test_odd_shapes(size: tuple[int, int], sam: Any) -> None:
    """One is found or not; the other photo is."""
    _, models = sam
    grounded = GroundedSAM(detector(), models, threshold=0.5)
    odd = photo(90, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)
        found = grounded([odd, photo(40)], ["cat", "cat"], ["odd", "fine"])
    assert found[1].status == ""
    assert found[0].status in ("failed", "empty mask", "no detection") or (
        found[0].mask is not None and tuple(found[0].mask.shape) == size[::-1]
    )


# Arguments


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"threshold": 1.0}, ValueError, "threshold: expected a number from 0 to below 1, got 1.0"),
        ({"several": "first"}, ValueError, "several: expected one of union, best, status"),
        ({"internal_batch_size": 0}, ValueError, "internal_batch_size: expected a positive int"),
        ({"detector_size": (0, 9)}, ValueError, "detector_size: expected a positive int"),
        ({"parents": 2}, TypeError, "parents: expected a callable or None, got 2"),
        ({"segmenter": 3}, TypeError, "segmenter: expected a name, or a model and its processor"),
        ({"detector": segmenter("sam")}, ValueError, "detector: expected .* got 'sam'"),
    ],
)
def test_options_are_checked(
    options: dict[str, Any], error: type[Exception], message: str, dino: Any
) -> None:
    with pytest.raises(error, match=message):
        GroundedSAM(**{"detector": dino, "segmenter": segmenter("sam"), **options})


def test_models_stay_as_they_are(dino: Any) -> None:
    models = segmenter("sam")
    models[0].train()
    with pytest.raises(ValueError, match="segmenter: expected a model in eval mode, got"):
        GroundedSAM(dino, models)
    assert models[0].training


def test_what_is_asked_is_checked(dino: Any) -> None:
    grounded = GroundedSAM(dino, segmenter("sam"))
    with pytest.raises(ValueError, match="class_names: expected one for each of 1 images, got 2"):
        grounded([photo(1)], ["cat", "dog"], ["a"])
    with pytest.raises(TypeError, match="names: expected a string for each image, got 'a'"):
        grounded([photo(1)], ["cat"], "a")
    with pytest.raises(ValueError, match=r"images\[0\]: expected mode 'RGB'.* got 'L'"):
        grounded([photo(1).convert("L")], ["cat"], ["a"])
    with pytest.raises(ValueError, match=r"class_names: expected names with letters, got ' \.'"):
        grounded([photo(1)], [" ."], ["a"])
    assert grounded([], [], []) == []
