"""What `check_forward_func` says of models that explanations may trust, and of others.

The table in docs/vision_towers.md is written here: every family, and every kind of broken model.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from families import FAMILIES, Family
from helpers import ROOT, randn
from torch import Tensor, nn
from torchvision.transforms import functional as TF
from toy import randomize

from cci_captum import (
    CCI,
    FieldOfView,
    ImageTextSimilarity,
    ZeroShotClassifier,
    check_forward_func,
    find_vision_tower,
)
from cci_captum.attribution import forward_checks
from cci_captum.baselines import RISE, ClusterAblation, GradECLIP, Random
from cci_captum.benchmarks.faithfulness import DeletionInsertion

PAGE = ROOT / "docs" / "vision_towers.md"
NAMES = ["fox", "ship", "igloo", "lemon", "jar"]
SIZE = (32, 32)


def vit(**options: Any) -> Any:
    """A timm ViT with a class token, 16 patches, 3 blocks, 7 logits."""
    options = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 4} | options
    model = timm.models.VisionTransformer(img_size=32, num_classes=7, **options)
    randomize(model, 0)
    return model.eval()


class Head(nn.Module):
    """A function of a timm ViT and images as a module."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], model: Any = None) -> None:
        super().__init__()
        self.model = vit() if model is None else model
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self.model, images)


# What is right: (name, forward_func)


def logits(model: Any, images: Tensor) -> Tensor:
    return model(images)


def averaged_patches(model: Any, images: Tensor) -> Tensor:
    return model.forward_features(images)[:, 1:].mean(dim=1)


RIGHT: dict[str, Callable[[], nn.Module]] = {
    "log probabilities": lambda: Head(lambda m, x: m(x).log_softmax(dim=-1)),
    "margin to the best other class": lambda: Head(lambda m, x: m(x) - m.head.bias.amax()),
    "patches averaged outside": lambda: Head(averaged_patches),
    "train mode without anything random": lambda: Head(logits).train(),
    "BatchNorm in eval mode": lambda: nn.Sequential(Head(logits), nn.BatchNorm1d(7)).eval(),
    "resized, cropped or padded inside": lambda: Head(
        lambda m, x: m(F.interpolate(F.pad(x[..., 4:28, 2:30], (6, 2, 4, 8)), SIZE))
    ),
    "float16 weights": lambda: Head(lambda m, x: m(x.half()).float(), vit().half()),
    "bfloat16 weights": lambda: Head(lambda m, x: m(x.bfloat16()).float(), vit().bfloat16()),
    "masked classes, -inf": lambda: Head(
        lambda m, x: m(x).masked_fill(torch.arange(7) == 2, -torch.inf)
    ),
}


# What is broken: name -> (forward_func, error)


def rows_centred(model: Any, images: Tensor) -> Tensor:
    output = model(images)
    return output - output.mean(dim=0)


def by_place(model: Any, images: Tensor) -> Tensor:
    return model(images) + torch.arange(len(images))[:, None]


def normed_then_averaged(model: Any, images: Tensor) -> Tensor:
    tokens = model.forward_features(images)[:, 1:]
    return F.gelu(3 * tokens).mean(dim=1)


def early_block(model: Any, images: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.blocks[0].register_forward_hook(lambda m, a, output: seen.append(output))
    model(images)
    handle.remove()
    return seen[0][:, 1:].mean(dim=1)


def intermediates(model: Any, images: Tensor) -> Tensor:
    maps = model.forward_intermediates(images, indices=[1], intermediates_only=True)[0]
    return maps.mean(dim=(2, 3))


class NormHook(nn.Module):
    """Averages what a hook on the final norm, older than ours, has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.model = vit()
        self.seen = torch.empty(0)
        self.model.norm.register_forward_hook(self.see)

    def see(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.seen = output

    def forward(self, images: Tensor) -> Tensor:
        self.model(images)
        return self.seen[:, 1:].mean(dim=1)


def deaf(attention: Any) -> Callable[..., Tensor]:
    """A forward of timm's attention that takes a mask and does not heed it."""

    def forward(x: Tensor, attn_mask: Tensor | None = None, **unused: Any) -> Tensor:
        batch, count, width = x.shape
        qkv = attention.qkv(x).reshape(batch, count, 3, attention.num_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        context = ((q @ k.mT) * attention.scale).softmax(dim=-1) @ v
        return attention.proj(context.transpose(1, 2).reshape(batch, count, width))

    return forward


def with_deaf_block() -> nn.Module:
    model = vit()
    model.blocks[1].attn.forward = deaf(model.blocks[1].attn)
    return Head(logits, model)


def quantised() -> nn.Module:
    with warnings.catch_warnings():  # torch.ao moves to another package
        warnings.simplefilter("ignore")
        return Head(logits, torch.ao.quantization.quantize_dynamic(vit(), {nn.Linear})).eval()


def by_image_statistics(model: Any, images: Tensor) -> Tensor:
    mean, std = (f(images, dim=(1, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
    return model((images - mean) / std)


BROKEN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "dropout in train mode": (lambda: Head(logits, vit(proj_drop_rate=0.3)).train(), "second call"),
    "drop path in train mode": (
        lambda: Head(logits, vit(drop_path_rate=0.5)).train(),
        "second call",
    ),
    "BatchNorm in train mode": (
        lambda: nn.Sequential(Head(logits), nn.BatchNorm1d(7)).train(),
        "beside another image; it is in train mode",
    ),
    "outputs less their mean over the batch": (lambda: Head(rows_centred), "beside another image"),
    "outputs by place in the batch": (lambda: Head(by_place), "place in the batch"),
    "attention with a forward that ignores masks": (with_deaf_block, "attention of block 1"),
    "dynamic quantisation": (quantised, "scale of a whole tensor"),
    "patches of an early block": (lambda: Head(early_block), "inside the image encoder"),
    "forward_intermediates": (lambda: Head(intermediates), "inside the image encoder"),
    "a hook on the final norm": (NormHook, "inside the image encoder"),
    "a bent step, then the average": (lambda: Head(normed_then_averaged), "bends them"),
    "the image's own mean and spread": (
        lambda: Head(by_image_statistics),
        "its own mean|their own",
    ),
    "images read beside the encoder": (
        lambda: Head(lambda m, x: m(x) + x.mean(dim=(1, 2, 3))[:, None]),
        "beside the image encoder",
    ),
    "flipped inside": (lambda: Head(lambda m, x: m(x.flip(-1))), "reversed order"),
    "turned by 90 degrees inside": (lambda: Head(lambda m, x: m(x.rot90(1, (2, 3)))), "upright"),
    "turned by 20 degrees inside": (lambda: Head(lambda m, x: m(TF.rotate(x, 20))), "traced back"),
    "two views in one call": (
        lambda: Head(lambda m, x: m(x) + m(x.roll(1, 0).roll(-1, 0))),
        "more than once in one call",
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_ones_pass(name: str) -> None:
    check_forward_func(RIGHT[name](), randn(2, 3, *SIZE))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Dropout may happen to drop the same again."""
    torch.manual_seed(0)


@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", BROKEN)
def test_broken_ones_are_named(name: str) -> None:
    make, reason = BROKEN[name]
    with pytest.raises((ValueError, RuntimeError), match=reason):
        check_forward_func(make(), randn(2, 3, *SIZE))


@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", BROKEN)
def test_methods_refuse_them_unless_told_not_to(name: str) -> None:
    make, reason = BROKEN[name]
    model, images = make(), randn(2, 3, *SIZE)
    with pytest.raises((ValueError, RuntimeError), match=reason):
        CCI(model).attribute(images, 0)
    if name != "two views in one call":
        CCI(model).attribute(images, 0, check=False)


def test_chance_is_named_when_it_repeats_itself() -> None:
    """Two calls give the same: the comparison of hidden patches stumbles over it first."""
    draws, count = randn(20), [0]

    def shifted(model: Any, images: Tensor) -> Tensor:
        count[0] += 1
        return model(images) + draws[max(0, count[0] - 2)]

    with pytest.raises(ValueError, match="second call"):
        check_forward_func(Head(shifted), randn(2, 3, *SIZE))


def test_leaks_are_seen_in_images_of_one_colour() -> None:
    beside = Head(lambda m, x: m(x) + x.mean(dim=(1, 2, 3))[:, None])
    for colour in (0.0, 1.0):
        with pytest.raises(RuntimeError, match="beside the image encoder"):
            check_forward_func(beside, torch.full((2, 3, *SIZE), colour))


def test_more_images_in_the_encoder_than_were_given() -> None:
    both = Head(lambda m, x: m(torch.cat([x, x.flip(-1)])).unflatten(0, (2, -1)).mean(dim=0))
    for method in (CCI, GradECLIP):
        with pytest.raises(ValueError, match="its 2 images, it ran it on 4"):
            method(both).attribute(randn(2, 3, *SIZE), 0)


# Right ones in unusual circumstances


@pytest.mark.parametrize("size", [(30, 30), (33, 37), (9, 80)])
def test_padding_up_to_whole_patches(size: tuple[int, int]) -> None:
    model = vit(dynamic_img_size=True, dynamic_img_pad=True)
    assert check_forward_func(model, randn(2, 3, *size)) is None


@pytest.mark.parametrize("size", [(8, 8), (10, 14), (16, 16)])
def test_small_images_enlarged_inside(size: tuple[int, int]) -> None:
    """A kernel's reach in pixels of the small image is more than half a patch."""
    for options in ({"mode": "bicubic", "antialias": True}, {"mode": "bilinear"}):
        enlarged = Head(lambda m, x, options=options: m(F.interpolate(x, SIZE, **options)))
        check_forward_func(enlarged, torch.rand(2, 3, *size))


RANGES: dict[str, tuple[float, float]] = {
    "hardly any contrast": (0.9, 0.91),
    "no contrast to speak of": (0.9, 0.90001),
    "far from zero": (200, 200.001),
    "bytes": (0, 255),
    "one colour": (1, 1),
    "black": (0, 0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", RANGES)
def test_ranges_and_precisions(name: str, dtype: torch.dtype) -> None:
    low, high = RANGES[name]
    images = low + (high - low) * torch.rand(
        2, 3, 96, 96, generator=torch.Generator().manual_seed(0)
    )
    model = Head(lambda m, x: m(x.to(dtype)).float(), vit(dynamic_img_size=True).to(dtype))
    assert check_forward_func(model, images) is None


def test_images_shown_stay_in_the_range_of_the_inputs() -> None:
    images = (torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0)) < 0.1).float()

    def strict(model: Any, shown: Tensor) -> Tensor:
        assert shown.min() >= 0 and shown.max() <= 1
        return model((shown * 255).to(torch.uint8) / 255)

    for given in (images, torch.rand_like(images), images * 0, images * 0 + 1):
        assert check_forward_func(Head(strict), given) is None


class Unhashable:
    """As data classes are: equal by their values, hence without a hash."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[Tensor], Tensor]) -> None:
        self.run = run

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable) and other.run is self.run

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, images: Tensor) -> Tensor:
        return self.run(images)


class Slots(Unhashable):
    """With a hash, but nothing refers to it weakly."""

    __slots__ = ()

    __hash__ = object.__hash__


@pytest.mark.parametrize("kind", [Unhashable, Slots])
def test_callables_that_no_dictionary_takes(kind: type[Unhashable]) -> None:
    model, count = vit(), [0]
    model.patch_embed.register_forward_pre_hook(lambda m, a: count.__setitem__(0, count[0] + 1))
    images = randn(2, 3, 64, 80)
    cropped = kind(lambda x: model(x[..., 12:44, 16:48]))
    method = CCI(cropped, model)
    first = method.attribute(images, 1)
    assert first[..., 12:44, 16:48].any() and not first[..., :12, :].any()
    checked = count[0]
    torch.testing.assert_close(method.attribute(images, 1), first)
    assert checked - (count[0] - checked) == 4  # once


@contextmanager
def replaced_attention() -> Iterator[None]:
    """torch's scaled_dot_product_attention by one that ignores its mask."""
    original = F.scaled_dot_product_attention

    def unmasked(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return original(query, key, value)

    F.scaled_dot_product_attention = unmasked
    try:
        yield
    finally:
        F.scaled_dot_product_attention = original


def test_replaced_scaled_dot_product_attention() -> None:
    with replaced_attention(), pytest.raises(RuntimeError, match="attention of block 0"):
        check_forward_func(Head(logits), randn(2, 3, *SIZE))


@pytest.fixture(params=FAMILIES.values(), ids=lambda family: family.name)
def family(request) -> Family:
    return request.param


class Runs(nn.Module):
    """A family's model, its way to features."""

    def __init__(self, family: Family, seed: int = 0) -> None:
        super().__init__()
        self.family, self.model = family, family.make(seed)

    def forward(self, images: Tensor) -> Tensor:
        return self.family.run(self.model, images)


def test_every_family_passes_in_four_passes_of_two_images(family: Family) -> None:
    model = Runs(family)
    entry = find_vision_tower(model).entry
    sizes: list[int] = []
    handle = entry.register_forward_pre_hook(
        lambda m, args, kwargs: sizes.append(len((*args, *kwargs.values())[0])), with_kwargs=True
    )
    assert check_forward_func(model, family.images()) is None
    handle.remove()
    assert sizes == [2, 2, 2, 2]


def test_once_for_each_forward_func_shape_and_mode(make_clip, make_images, tokenizer) -> None:
    model, _ = make_clip(seed=1)
    classifier, images = ZeroShotClassifier(model, tokenizer, NAMES), make_images(model)
    count = [0]
    entry = find_vision_tower(model).entry
    entry.register_forward_pre_hook(lambda m, args: count.__setitem__(0, count[0] + len(args[0])))

    def passes(run: Callable[[], object]) -> int:
        before = count[0]
        run()
        return count[0] - before

    plain = passes(lambda: GradECLIP(classifier).attribute(images, 0, check=False))
    assert passes(lambda: GradECLIP(classifier).attribute(images, 0)) == plain + 4  # no hiding
    assert passes(lambda: GradECLIP(classifier).attribute(images[:1], 0)) == 1
    cci = passes(lambda: CCI(classifier).attribute(images, 0, check=False))
    assert passes(lambda: CCI(classifier).attribute(images, 0)) == cci + 8
    assert passes(lambda: CCI(classifier).effects(images)) == cci
    assert passes(lambda: CCI(classifier).patch_map(images, 0)) == cci
    assert passes(lambda: GradECLIP(classifier).attribute(images, 0)) == plain
    classifier.train()
    assert passes(lambda: GradECLIP(classifier).attribute(images, 0)) == plain + 4
    plain = passes(lambda: Random(classifier).attribute(images, 0, check=False))
    assert passes(lambda: Random(classifier).attribute(images, 0)) == plain
    harness = DeletionInsertion(classifier.eval(), "tokens")
    first, second = (passes(lambda: harness(images, torch.rand(3, 4, 4), 0)) for _ in range(2))
    assert first == second + 8


def test_black_boxes_are_checked_for_chance(make_images) -> None:
    def chance(images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3)) + torch.rand(len(images))

    with pytest.raises(ValueError, match="second call"):
        RISE(chance, n_masks=4, grid=3).attribute(randn(2, 3, *SIZE))
    RISE(chance, n_masks=4, grid=3).attribute(randn(2, 3, *SIZE), check=False)


def test_one_image_and_texts(make_clip, make_images, tokenizer) -> None:
    model, _ = make_clip(seed=1)
    images, similarity = make_images(model), ImageTextSimilarity(model)
    tokens = tokenizer(["a", "bcd", "ef"])
    for rows in (slice(1), slice(3)):
        assert check_forward_func(similarity, images[rows], tokens[rows]) is None


@pytest.mark.parametrize("modes", [(True, True), (False, True)], ids=["all", "BatchNorm alone"])
def test_buffers_are_not_written(modes: tuple[bool, bool]) -> None:
    model = nn.Sequential(Head(logits), nn.BatchNorm1d(7))
    model[0].train(modes[0])
    before = {name: value.clone() for name, value in model.named_buffers()}
    for call in (
        lambda: CCI(model).attribute(randn(2, 3, *SIZE), 0),
        lambda: CCI(model).attribute(randn(2, 3, *SIZE), 0, check=False),
        lambda: GradECLIP(model).attribute(randn(2, 3, *SIZE), 0, check=False),
        lambda: RISE(model, n_masks=4).attribute(randn(2, 3, *SIZE), 0, check=False),
    ):
        try:
            call()
        except (ValueError, RuntimeError) as error:
            assert "train mode" in str(error)
        for name, value in model.named_buffers():
            assert torch.equal(value, before[name]), name


# Geometry


CHANGES: dict[str, tuple[Callable[[Tensor], Tensor], tuple[float, float, float, float]]] = {
    "crop": (lambda x: x[..., 12:44, 16:48], (12, 16, 32, 32)),
    "resize": (lambda x: F.interpolate(x, SIZE, mode="bilinear", antialias=True), (0, 0, 64, 80)),
    "crop and resize": (
        lambda x: F.interpolate(x[..., 8:56, 10:74], SIZE, mode="bilinear", antialias=True),
        (8, 10, 48, 64),
    ),
    "pad to a square and resize": (
        lambda x: F.interpolate(F.pad(x, (0, 0, 8, 8)), SIZE, mode="bilinear", antialias=True),
        (-8, 0, 80, 80),
    ),
    "normalised": (
        lambda x: (F.interpolate(x, SIZE, mode="bicubic") - 0.4) / 0.25,
        (0, 0, 64, 80),
    ),
    "colours in reverse": (lambda x: x.flip(1)[..., 12:44, 16:48], (12, 16, 32, 32)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_fields_of_view(name: str) -> None:
    change, expected = CHANGES[name]
    images = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0))
    view = check_forward_func(Head(lambda m, x: m(change(x))), images)
    if expected == (0, 0, 64, 80):
        assert view is None
    else:
        assert isinstance(view, FieldOfView)
        found = (view.top, view.left, view.height, view.width)
        assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 0.5


@pytest.mark.parametrize("upsample", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("method", [CCI, GradECLIP, ClusterAblation])
def test_maps_lie_where_the_model_looked(method: Any, upsample: Any) -> None:
    """A crop inside forward_func and the crop before it: the same map, in its place."""
    model = vit()
    whole = randn(2, 3, 64, 80)
    crop = whole[..., 12:44, 16:48]
    expected = method(Head(logits, model)).attribute(crop, 1, upsample=upsample)
    inside = Head(lambda m, x: m(x[..., 12:44, 16:48]), model)
    found = method(inside).attribute(whole, 1, upsample=upsample)
    scale = expected.abs().max()
    assert (found[..., 12:44, 16:48] - expected).abs().max() < 0.05 * scale
    rest = found.clone()
    rest[..., 12:44, 16:48] = 0
    assert not rest.any()


def test_a_further_argument_may_move_the_crop() -> None:
    model, images = vit(), randn(2, 3, 64, 80)
    method = CCI(lambda x, top: model(x[..., top : top + 32, 16:48]), model)
    for top in (0, 32, 0, torch.tensor(32)):
        found = method.attribute(images, 1, (top,))
        inside = found[..., int(top) : int(top) + 32, 16:48]
        assert inside.any() and found.count_nonzero() == inside.count_nonzero()


def test_another_encoder_at_the_same_address() -> None:
    """What was found of an encoder that is gone is not taken for another's."""
    images, known = randn(2, 3, *SIZE), set()
    for _ in range(8):
        tower: Any = SimpleNamespace(entry=nn.Identity())
        key = forward_checks._view_key(images, tower)
        assert key not in known
        known.add(key)
        del tower, key  # the next one takes its place in memory


def test_resized_to_nearly_the_same_size(make_clip) -> None:
    """Of images as large as that, the encoder alone would leave the last pixels out."""
    visual = make_clip(seed=1)[0].visual
    (height, width), (rows, _) = visual.image_size, visual.patch_size
    images = randn(1, 3, height + rows // 2, width + rows // 2)
    alone = CCI(visual).attribute(images, 1)
    assert not alone[..., height:, :].any() and not alone[..., width:].any()

    def resized(shown: Tensor) -> Tensor:
        return visual(F.interpolate(shown, (height, width), mode="bilinear"))

    assert CCI(resized, visual).attribute(images, 1)[..., -1, -1].all()


def test_curves_of_a_cropping_model_take_patch_maps() -> None:
    inside = Head(lambda m, x: m(x[..., 12:44, 16:48]))
    images = randn(2, 3, 64, 80)
    maps = CCI(inside).patch_map(images, 1)
    with pytest.raises(ValueError, match="attributions: expected maps on the patch grid"):
        DeletionInsertion(inside, "tokens")(images, CCI(inside).attribute(images, 1), 1)
    DeletionInsertion(inside, "tokens")(images, maps, 1)


# The table


def table() -> list[str]:
    """Verdicts as a Markdown table."""
    rows = [f"| {family.library}: {family.name} | passes |" for family in FAMILIES.values()]
    rows += [f"| {name} | passes |" for name in RIGHT]
    for name, (make, _) in BROKEN.items():
        try:
            check_forward_func(make(), randn(2, 3, *SIZE))
        except (ValueError, RuntimeError) as error:
            text = str(error).split(" (")[0].split("; ")[0].replace("|", "\\|")
            rows.append(f"| {name} | refused: {text} |")
    return ["| forward_func | verdict |", "| --- | --- |", *rows]


def test_the_page_has_the_verdicts() -> None:
    start, end = "<!-- verdicts -->\n", "<!-- end of verdicts -->"
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(start)
    written, _, tail = rest.partition(end)
    made = "\n".join(table()) + "\n"
    if os.environ.get("CCI_CAPTUM_WRITE_DOCS"):
        PAGE.write_text(head + start + made + end + tail, encoding="utf-8")
        written = made
    # An older library may lack a family.
    assert set(made.splitlines()) <= set(written.splitlines())
