"""From 1000 classes to nine: the table's counts, and the released rule by plain loops."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cci_captum.benchmarks.data.imagenet9 import FOLDERS
from cci_captum.benchmarks.spurious import (
    NineClasses,
    SuperClasses,
    read_super_classes,
    super_classes,
)
from cci_captum.models.ranking import predicted


def test_counts_are_those_of_the_released_table() -> None:
    counts = Counter(super_classes())
    assert [counts[place] for place in range(9)] == [116, 52, 42, 36, 35, 27, 26, 20, 16]
    assert counts[-1] == 630 and len(super_classes()) == 1000


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (151, "dog"), (268, "dog"), (207, "dog"),  # Chihuahua, Mexican hairless, golden retriever
        (269, "carnivore"), (291, "carnivore"), (388, "carnivore"),  # wolf, lion, giant panda
        (171, None), (172, None), (281, None),  # Italian greyhound, whippet, tabby cat
        (7, "bird"), (80, None), (99, "bird"),  # cock, black grouse, goose
        (436, "wheeled vehicle"), (575, None), (404, None),  # beach wagon, golfcart, airliner
        (33, "reptile"), (25, None), (300, "insect"), (72, None),  # turtle, salamander, beetle
        (402, "musical instrument"), (365, "primate"), (0, "fish"), (6, "fish"), (147, None),
    ],
)  # fmt: skip
def test_some_classes(index: int, expected: str | None) -> None:
    place = super_classes()[index]
    assert (None if place == -1 else FOLDERS[place].partition("_")[2]) == expected


def test_predictions_are_those_of_the_released_rule() -> None:
    """What the best of the 1000 maps to; -1 is the tenth."""
    scores = torch.randn(400, 1000, generator=torch.Generator().manual_seed(0))
    found = predicted(SuperClasses(nn.Identity())(scores)).tolist()
    expected = []
    for row in scores.tolist():
        place = super_classes()[row.index(max(row))]
        expected.append(9 if place == -1 else place)
    assert found == expected and set(found) == set(range(10))


def test_scores_are_those_of_the_best_of_each() -> None:
    scores = torch.randn(3, 1000, generator=torch.Generator().manual_seed(1))
    found = SuperClasses(nn.Identity())(scores)
    for row in range(3):
        for place in range(10):
            own = [
                float(scores[row, index])
                for index, at in enumerate(super_classes())
                if at == (-1 if place == 9 else place)
            ]
            assert float(found[row, place]) == max(own)


def test_another_table() -> None:
    table = [index % 10 - 1 for index in range(1000)]
    scores = torch.arange(1000.0)[None]
    found = SuperClasses(nn.Identity(), table)(scores)[0]
    assert found.tolist() == [*range(991, 1000), 990]  # -1 at 990, 980, ...


class _Twice(nn.Module):
    def forward(self, images: Tensor, factor: Tensor) -> Tensor:
        return images * factor


def test_further_arguments_and_gradients() -> None:
    scores = torch.zeros(1, 1000, requires_grad=True)
    found = SuperClasses(_Twice())(scores + torch.arange(1000.0) / 1e3, torch.tensor(2.0))
    found[0, 8].backward()
    best = max(index for index, at in enumerate(super_classes()) if at == 8)
    assert scores.grad is not None and scores.grad[0].nonzero().tolist() == [[best]]
    assert float(scores.grad[0, best]) == 2


def test_nine_names_never_say_something_else() -> None:
    scores = torch.randn(50, 9, generator=torch.Generator().manual_seed(2))
    found = NineClasses(nn.Identity())(scores)
    assert torch.equal(found[:, :9], scores) and bool((found[:, 9] < scores.amin(dim=1)).all())
    assert torch.equal(predicted(found), predicted(scores))


@pytest.mark.parametrize("kind", [SuperClasses, NineClasses])
def test_classifiers_that_are_none(kind: Any) -> None:
    with pytest.raises(TypeError, match="classifier: expected a module, got function"):
        kind(lambda images: images)
    count = {SuperClasses: 1000, NineClasses: 9}[kind]
    with pytest.raises(ValueError, match=rf"\(B, {count}\), got shape \(2, 7\)"):
        kind(nn.Identity())(torch.zeros(2, 7))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([0] * 999, "table: expected 1000 entries from -1 to 8"),
        ([9] * 1000, "table: expected 1000 entries from -1 to 8"),
        ([0] * 1000, "at least one entry of each class, and of -1"),
    ],
)
def test_tables_that_are_wrong(table: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SuperClasses(nn.Identity(), table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "path: no JSON in"),
        ("[]", 'path: expected entries "0" to "999"'),
        (json.dumps({"0": 1}), 'path: expected entries "0" to "999"'),
        (json.dumps({str(n): 9 for n in range(1000)}), "path: expected classes from -1 to 8"),
        (json.dumps({str(n): "1" for n in range(1000)}), "path: expected classes from -1 to 8"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "in_to_in9.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_super_classes(path)


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "in_to_in9.json"
    table = [index % 10 - 1 for index in range(1000)]
    path.write_text(json.dumps({str(index): value for index, value in enumerate(table)}))
    assert read_super_classes(path) == tuple(table)
    with pytest.raises(FileNotFoundError):
        read_super_classes(tmp_path / "nowhere.json")
