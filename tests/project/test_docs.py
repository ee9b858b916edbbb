"""The worked examples of three pages run, and their claims hold."""

from __future__ import annotations

from typing import Any

import oracles
import pytest
import torch
from helpers import ROOT
from pages import run_page
from torch import Tensor

from cci_captum import CCI, find_vision_tower
from cci_captum.baselines import GAME, RISE, AttentionRollout, GradCAM, GradECLIP, SelfAttention
from cci_captum.vision_towers import check_vision_tower, hook_input, hook_output

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    from cci_captum.vision_towers import registry

    before = list(registry._REGISTERED)
    torch.manual_seed(0)
    yield run_page(DOCS / "vision_towers.md")
    registry._REGISTERED[:] = before


@pytest.fixture
def tower(example):
    return find_vision_tower(example["model"])


def test_the_example_explains(example) -> None:
    assert example["attributions"].shape == example["images"].shape
    assert float(example["attributions"].std()) > 0
    assert type(find_vision_tower(example["model"])).__name__ == "LabTower"


def test_hidden_patches_are_as_if_they_were_not_there(example, tower) -> None:
    """The model on a sequence without them, written out by hand in float64."""
    model, images = example["model"].double(), example["images"].double()
    mask = torch.rand(4, 16, generator=torch.Generator().manual_seed(1)) < 0.4
    with torch.no_grad():
        rows = []
        for image, hidden in zip(images, mask, strict=True):
            x = model.embed(image[None]).flatten(2).transpose(1, 2) + model.positions
            x = model.norm(model.layers(model.stem_norm(x[:, ~hidden])))
            rows.append(model.head(x.mean(dim=1)))
        expected = torch.cat(rows)
        for strategy in ("mask", "drop"):
            with tower.hide(mask, strategy):
                assert oracles.relative_error(model(images), expected) < 1e-12
    model.float()


@pytest.mark.parametrize("method", [GradECLIP, GradCAM, SelfAttention, AttentionRollout, GAME])
def test_methods_take_it(example, method) -> None:
    attributions = method(example["model"]).attribute(example["images"], target=1)
    assert bool(attributions.isfinite().all()) and float(attributions.std()) > 0


def test_methods_on_pixels_take_it(example) -> None:
    model, images = example["model"], example["images"]
    assert float(RISE(model, n_masks=8, grid=2).attribute(images, target=1).std()) > 0
    by_mask, by_drop = (CCI(model, hide=way).attribute(images, 2) for way in ("mask", "drop"))
    assert oracles.relative_error(by_drop, by_mask) < 1e-5


def _without(tower, **replaced: Any):
    """The example's tower with some of what it says replaced."""
    wrong = type("Wrong", (type(tower),), replaced)
    return wrong(tower.module)


def test_the_check_passes(example, tower) -> None:
    check_vision_tower(tower, example["model"], example["images"])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in tower.module.modules())


def test_the_check_finds_a_forgotten_average(example, tower) -> None:
    def restored_only(self, hiding):
        yield hook_input(self.module.norm, hiding.restore)

    wrong = _without(tower, hide_in_read_out=restored_only)
    with pytest.raises(RuntimeError, match="read_out of kept tokens alone"):
        check_vision_tower(wrong, example["model"], example["images"])


def test_the_check_finds_tokens_that_do_not_return_to_the_grid(example, tower) -> None:
    def average_only(self, hiding):
        if hiding.strategy == "mask":
            yield hook_output(self.module.norm, hiding.average_kept)

    wrong = _without(tower, hide_in_read_out=average_only)
    with pytest.raises(RuntimeError, match="hidden by mask and by drop"):
        check_vision_tower(wrong, example["model"], example["images"])


def test_the_check_finds_wrong_keys(example, tower) -> None:
    class Swapped(example["LabBlock"]):
        def project_qkv(self, tokens: Tensor):
            queries, keys, values = super().project_qkv(tokens)
            return keys, queries, values

    wrong = _without(tower, blocks=property(lambda self: [Swapped(x) for x in self.module.layers]))
    with pytest.raises(RuntimeError, match=r"vision_tower: .*expected no difference"):
        check_vision_tower(wrong, example["model"], example["images"])


def test_the_check_finds_blocks_that_hide_nothing(example, tower) -> None:
    class Blind(example["LabBlock"]):
        def hide(self, hiding):
            yield from ()

    wrong = _without(tower, blocks=property(lambda self: [Blind(x) for x in self.module.layers]))
    with pytest.raises(RuntimeError, match="hidden by mask and by drop"):
        check_vision_tower(wrong, example["model"], example["images"])


def test_the_check_finds_a_foreign_forward_func(example, tower) -> None:
    """Hiding reaches nothing: the function does not run this tower."""
    other = example["LabViT"]().eval()
    with pytest.raises(RuntimeError, match=r"forward_func: .* it ran 0 times"):
        check_vision_tower(tower, other, example["images"])


# docs/your_own_method.md


@pytest.fixture(scope="module")
def own_method() -> dict[str, Any]:
    return run_page(DOCS / "your_own_method.md")


@pytest.mark.exhaustive
def test_the_page_says_what_is_checked(own_method) -> None:
    skipped = {"report": "additional_forward_args", "with_texts": "target"}
    for name, check in skipped.items():
        assert list(own_method[name].skipped) == [check]
        assert own_method[name].method == "InputGradient"
    found = own_method["found"]
    assert found.check == "one by one"
    assert str(found).startswith(
        "Scaled: one by one: expected the maps of images alone, got others in a batch"
    )


@pytest.mark.exhaustive
def test_the_occlusion_of_the_page_is_one_by_hand(own_method) -> None:
    classifier, images = own_method["classifier"], own_method["images"]
    method = own_method["Occlusion"](classifier)
    patch_map = method.patch_map(images, target=1)
    painted = images.clone()
    painted[:, :, :48, 48:] = 0
    with torch.no_grad():
        expected = (classifier(images) - classifier(painted))[:, 1]
    assert oracles.relative_error(patch_map[:, 0, 1], expected) < 1e-4
    assert own_method["attributions"].shape == images.shape
    assert list(own_method["occlusion"].skipped) == ["additional_forward_args"]


def test_the_table_of_the_page_is_what_is_exported() -> None:
    import cci_captum.attribution

    page = (DOCS / "your_own_method.md").read_text(encoding="utf-8")
    missing = [name for name in cci_captum.attribution.__all__ if f"`{name}`" not in page]
    assert missing == ["MethodReport"]


# docs/data.md


def test_the_page_on_data_runs() -> None:
    page = run_page(DOCS / "data.md")
    assert page["data"].name == "scenes (held-out artwork, two objects, seed 3)"
    assert page["sample"].name == "scene 7"
    assert page["captioned"].name.endswith("(1 images; 5 captions, the first 5 of each)")
    assert page["pairs"].class_names == ("cat", "dog") and page["pairs"].targets == [0, 1]
    assert set(page["fake"].targets) == {0, 1}
