"""Twelve ways in which Grounding DINO and SAM fail, loudly or not, where they are put together.

Each was met in transformers by somebody; each test fails once its handling is taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from grounded_sam_models import (
    CLASSES,
    DOT,
    LONGEST,
    VOCABULARY,
    Box,
    detector,
    photo,
    segmenter,
)
from torch import Tensor

from cci_captum.diagnosis.segmentation import GroundedSAM

LEFT, RIGHT = Box((0.05, 0.1, 0.4, 0.9)), Box((0.55, 0.2, 0.9, 0.8), 0.8)
KINDS = tuple(CLASSES)
TOLD = {
    (40, "cat"): [LEFT],
    (40, "dog"): [RIGHT],
    (40, "bear"): [RIGHT],
    (90, "cat"): [RIGHT],
    (90, "dog"): [LEFT],
    (90, "bear"): [LEFT, RIGHT, Box((0.3, 0.3, 0.6, 0.6), 0.7)],
    (90, "bernard"): [LEFT],
    (90, "st"): [RIGHT],
}


class Seen:
    """What the models of a `GroundedSAM` were given, pass by pass."""

    def __init__(self, grounded: GroundedSAM, patch: pytest.MonkeyPatch) -> None:
        self.prompts: list[list[str]] = []  # one list a pass
        self.tokens: list[list[list[str]]] = []
        self.pixels: list[tuple[int, ...]] = []
        self.boxes: list[Tensor] = []
        detector, sam = grounded._detector, grounded._segmenter
        process, detect, segment = detector.processor, detector.model.forward, sam.model.forward

        class Processor:
            tokenizer = process.tokenizer

            def __call__(_, *, text: Any, **inputs: Any) -> Any:
                self.prompts.append(text)
                return process(text=text, **inputs)

        def detected(**inputs: Any) -> Any:
            self.pixels.append(tuple(inputs["pixel_values"].shape))
            rows = inputs["input_ids"].tolist()
            self.tokens.append([[VOCABULARY[t] for t in row if t] for row in rows])
            return detect(**inputs)

        def segmented(**inputs: Any) -> Any:
            self.boxes.append(inputs["input_boxes"])
            return segment(**inputs)

        patch.setattr(detector, "processor", Processor())
        patch.setattr(detector.model, "forward", detected)
        patch.setattr(sam.model, "forward", segmented)


@pytest.fixture(scope="module")
def dino() -> Any:
    return detector(TOLD)


@pytest.fixture(scope="module", params=KINDS)
def sam(request: pytest.FixtureRequest) -> Any:
    return segmenter(request.param)


def same(found: Any, other: Any) -> bool:
    """Of what the random models find, up to a pixel in a hundred for rounding."""
    assert found.mask is not None and other.mask is not None
    return bool((found.mask == other.mask).float().mean() > 0.99)


def alone(grounded: GroundedSAM, level: int, class_name: str) -> Any:
    return grounded([photo(level)], [class_name], ["alone"])[0]


@pytest.fixture
def first(dino: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[GroundedSAM, Seen]:
    """Two images in a pass, with SAM."""
    grounded = GroundedSAM(dino, segmenter("sam"), internal_batch_size=2)
    return grounded, Seen(grounded, monkeypatch)


def test_1_names_of_two_images_are_not_one_prompt(first: tuple[GroundedSAM, Seen]) -> None:
    """Without dots, a list of names is merged into one prompt for all images."""
    grounded, seen = first
    found = grounded([photo(40), photo(90)], ["cat", "dog"], ["a", "b"])
    assert seen.tokens == [[["[CLS]", "cat", ".", "[SEP]"], ["[CLS]", "dog", ".", "[SEP]"]]]
    for got, level, name in zip(found, (40, 90), ("cat", "dog"), strict=True):
        assert same(got, alone(grounded, level, name))


def test_2_a_dot_within_a_name_ends_no_phrase(first: tuple[GroundedSAM, Seen]) -> None:
    grounded, seen = first
    found = grounded([photo(90)], ["St. Bernard"], ["a"])[0]
    assert seen.prompts == [["st bernard."]]
    assert seen.tokens == [[["[CLS]", "st", "bernard", ".", "[SEP]"]]]
    assert found.status == ""


def test_3_prompts_are_in_lower_case_and_end_with_a_dot(first: tuple[GroundedSAM, Seen]) -> None:
    grounded, seen = first
    for name in ("POLAR Bear", "polar bear.", "  Polar  bear "):
        grounded([photo(40)], [name], ["a"])
    assert seen.prompts == [["polar bear."]] * 3
    dots = [[row.count(VOCABULARY[DOT]) for row in rows] for rows in seen.tokens]
    assert dots == [[1]] * 3


def test_4_prompts_of_different_length_go_together(first: tuple[GroundedSAM, Seen]) -> None:
    grounded, seen = first
    found = grounded([photo(40), photo(90)], ["a polar bear", "dog"], ["a", "b"])
    assert [len(rows) for rows in seen.tokens] == [2]
    assert [f.status for f in found] == ["", ""]
    assert same(found[0], alone(grounded, 40, "a polar bear"))
    assert same(found[1], alone(grounded, 90, "dog"))


@pytest.mark.parametrize(("token", "label"), [(-1, "[SEP]"), (0, "")])
def test_5_the_label_that_is_decoded_does_not_matter(token: int, label: str) -> None:
    """With a score of a special token alone it is "[SEP]", or nothing at all."""
    told = {(40, "cat"): [Box(LEFT.corners, 0.5, token)], (40, "dog"): [Box(RIGHT.corners, 0.1)]}
    dino, models = detector(told), segmenter("sam")
    model, processor = dino
    inputs = processor(
        images=[photo(40)] * 2, text=["cat.", "a polar dog."], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        outputs = model(**inputs)
    decoded = processor.post_process_grounded_object_detection(
        outputs, threshold=0.3, text_threshold=0.25
    )[0]["text_labels"]
    assert decoded == [label]
    found = GroundedSAM(dino, models)([photo(40)], ["cat"], ["a"])[0]
    expected = GroundedSAM(detector(TOLD), models)([photo(40)], ["cat"], ["a"])[0]
    assert found.status == "" and same(found, expected)


def test_6_without_a_box_the_segmenter_is_not_asked(
    dino: Any, sam: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processor raises an error: an IndexError of SAM, a ValueError of SAM 2."""
    grounded = GroundedSAM(dino, sam)
    seen = Seen(grounded, monkeypatch)
    found = grounded([photo(40), photo(90)], ["animal", "cat"], ["a", "b"])
    assert [f.status for f in found] == ["no detection", ""] and found[0].mask is None
    assert len(seen.boxes) == 1
    with pytest.raises((IndexError, ValueError)):
        sam[1](images=photo(40), input_boxes=[torch.zeros(0, 4).tolist()], return_tensors="pt")


def test_7_images_have_different_numbers_of_boxes(
    dino: Any, sam: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grounded = GroundedSAM(dino, sam)
    seen = Seen(grounded, monkeypatch)
    found = grounded([photo(40), photo(90)], ["bear", "bear"], ["a", "b"])
    assert [tuple(boxes.shape) for boxes in seen.boxes] == [(1, 1, 4), (1, 3, 4)]
    for got, level in zip(found, (40, 90), strict=True):
        assert got.status == "" and same(got, alone(grounded, level, "bear"))
    boxes = [[[1.0, 1.0, 9.0, 9.0]], [[1.0, 1.0, 9.0, 9.0]] * 3]
    with pytest.raises(ValueError):
        sam[1](images=[photo(40)] * 2, input_boxes=boxes, return_tensors="pt")


def test_8_boxes_are_lists_for_the_segmenter(dino: Any, sam: Any) -> None:
    """SAM takes no list of tensors."""
    process, given = sam[1], []

    class Processor:
        image_processor = process.image_processor
        post_process_masks = process.post_process_masks

        def __call__(self, **inputs: Any) -> Any:
            given.append(inputs["input_boxes"])
            return process(**inputs)

    found = GroundedSAM(dino, (sam[0], Processor()))([photo(40)], ["cat"], ["a"])[0]
    assert found.status == ""
    assert [type(level) for level in (given[0], given[0][0], given[0][0][0])] == [list] * 3
    # Pixels of 70 x 50, which the processor scales to what the model sees.
    assert torch.tensor(given[0][0][0]).tolist() == pytest.approx([3.5, 5, 28, 45], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_9_boxes_are_of_the_type_of_the_weights(
    dino: Any, kind: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SAM's processor gives float64."""
    model, processor = segmenter(kind)
    grounded = GroundedSAM(dino, (model.to(dtype), processor))
    seen = Seen(grounded, monkeypatch)
    assert grounded([photo(40)], ["cat"], ["a"])[0].status == ""
    assert [boxes.dtype for boxes in seen.boxes] == [dtype]
    if kind == "sam":
        given = processor(images=photo(40), input_boxes=[[[1.0, 1, 9, 9]]], return_tensors="pt")
        assert given["input_boxes"].dtype == torch.float64


def test_10_one_thing_is_asked_for_at_a_time(dino: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several in one prompt, boxes are others; and a prompt is cut, without a word."""
    grounded = GroundedSAM(dino, segmenter("sam"), parents=lambda name: ["dog", "animal"])
    seen = Seen(grounded, monkeypatch)
    assert grounded([photo(90)], ["ice"], ["a"])[0].status == ""
    assert seen.prompts == [["ice."], ["dog."]]  # found: the next is not asked for
    long = " ".join(["polar"] * (LONGEST - 3)) + " cat"
    plain = GroundedSAM(dino, segmenter("sam"))
    seen = Seen(plain, monkeypatch)
    assert plain([photo(40)], [long], ["a"])[0].status == "name too long"
    assert seen.prompts == []
    assert plain([photo(40)], [long.removeprefix("polar ")], ["a"])[0].status == ""
    assert len(seen.tokens[0][0]) == LONGEST


@pytest.mark.parametrize(
    ("size", "shape"), [(None, (64, 89)), ((32, 96), (32, 44)), ((32, 40), (28, 40))]
)
def test_11_the_detector_may_see_a_smaller_image(
    dino: Any,
    size: tuple[int, int] | None,
    shape: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As published it is 800 pixels at the shorter side; boxes are in the photo's all the same."""
    grounded = GroundedSAM(dino, segmenter("sam"), detector_size=size)
    seen = Seen(grounded, monkeypatch)
    found = grounded([photo(40)], ["cat"], ["a"])[0]
    (got,) = seen.pixels
    # The library's rounding differs by a pixel from version to version.
    assert all(abs(a - b) <= 1 for a, b in zip(got[2:], shape, strict=True))
    scale = torch.tensor([64 / 70, 46 / 50] * 2)  # what SAM sees of a photo of 70 x 50
    expected = torch.tensor([3.5, 5, 28, 45]) * scale
    assert torch.allclose(seen.boxes[0][0, 0], expected, atol=1e-4)
    assert found.mask is not None and found.mask.shape == (50, 70)


@pytest.mark.parametrize(
    ("name", "parents", "expected"),
    [
        ("ice bear, polar bear, animal", [], ["ice bear.", "polar bear.", "animal."]),
        (
            "ice, polar",
            ["animal, a", "st. animal"],
            ["ice.", "polar.", "animal.", "a.", "st animal."],
        ),
    ],
)
def test_12_each_candidate_has_a_dot_of_its_own(
    dino: Any,
    name: str,
    parents: Sequence[str],
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Commas part nothing for the detector, so that synonyms would be one long thing."""
    grounded = GroundedSAM(dino, segmenter("sam"), parents=lambda name: parents, threshold=0.95)
    seen = Seen(grounded, monkeypatch)
    assert grounded([photo(130)], [name], ["a"])[0].status == "no detection"
    assert seen.prompts == [[prompt] for prompt in expected]
