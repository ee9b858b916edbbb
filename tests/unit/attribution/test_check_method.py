"""What is asked of a method: all of ours and Captum's pass, each kind of mistake is found."""

from __future__ import annotations

import inspect
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, InputXGradient, Lime, Saliency
from helpers import FAST, NAMES
from selection import exhaustive_unless
from torch import Tensor, nn

import cci_captum
import cci_captum.attribution
from cci_captum import (
    CCI,
    ImageTextSimilarity,
    KMeans,
    LogProbability,
    PatchAttribution,
    Shared,
    ZeroShotClassifier,
    check_method,
)
from cci_captum.attribution import GridAttribution, MethodError, MethodReport
from cci_captum.baselines import METHODS, Random

RUNNING = sorted(name for name in METHODS if not METHODS[name].needs_masks)
EVERY_CHECK = [
    "inputs",
    "grad mode",
    "random state",
    "shape",
    "dtype",
    "detached",
    "finite",
    "not zero",
    "channels",
    "model",
    "again",
    "additional_forward_args",
    "one by one",
    "internal_batch_size",
    "target",
    "tuple",
    "no_grad",
    "inference_mode",
    "error",
]


@pytest.fixture
def images(images: Tensor) -> Tensor:
    return images[:3]


def factory(name: str) -> Callable[..., Any]:
    def make(forward_func: Any) -> Any:
        return METHODS[name](forward_func, **FAST.get(name, {}))

    return make


# Those that keep their promises.


QUICK = ("cci", "grad-eclip", "rise", "maskclip")
EACH = [exhaustive_unless(name in QUICK, name) for name in RUNNING]


@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", EACH)
def test_every_method_passes(name, classifier, images) -> None:
    """One image has a target of its own: 0 and 4, as a list."""
    report = check_method(factory(name), classifier, images, target=[0, 4, 0])
    assert report.method == type(factory(name)(classifier)).__name__
    assert list(report.passed) == [c for c in EVERY_CHECK if c != "additional_forward_args"]
    assert report.skipped == {"additional_forward_args": "no tensor among them"}


@pytest.mark.exhaustive
@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", EACH)
def test_every_method_passes_with_a_text_an_image(name, model, images, tokenizer) -> None:
    texts = tokenizer(["fox", "ship", "jar"])
    report = check_method(factory(name), ImageTextSimilarity(model), images, None, texts)
    assert list(report.passed) == [check for check in EVERY_CHECK if check != "target"]
    assert report.skipped == {"target": "target is None"}


def test_the_reference_that_takes_masks(classifier, images) -> None:
    """Masks are an argument of its own: a function makes them of the images."""

    class Masked(METHODS["ground-truth"].cls):
        def attribute(self, inputs: Any, target: Any = None, **options: Any) -> Any:
            (first,) = inputs if isinstance(inputs, tuple) else (inputs,)
            return super().attribute(inputs, target, masks=first.mean(dim=1) > 0, **options)

    report = check_method(Masked, classifier, images, target=1)
    assert set(report.skipped) == {"additional_forward_args", "internal_batch_size", "error"}


QUARTERS = (torch.arange(32) // 16)[None, :] + 2 * (torch.arange(32) // 16)[:, None]


class Quarters(FeatureAblation):
    """Captum's ablation, of four parts of the image in place of every pixel."""

    def attribute(self, inputs: Any, **options: Any) -> Any:
        return super().attribute(inputs, feature_mask=QUARTERS, **options)


@pytest.mark.parametrize("method", [Saliency, Quarters])
def test_captums_own_methods_pass(method, classifier, images) -> None:
    """Its gradients need a caller who is not in inference mode, and say so."""
    report = check_method(method, classifier, images, target=torch.tensor([0, 4, 2]))
    skipped = set(report.skipped)
    assert {"channels", "additional_forward_args", "internal_batch_size"} <= skipped
    assert ("inference_mode" in skipped) == (method is not Quarters)
    assert set(report.passed) | skipped == set(EVERY_CHECK)
    assert "skipped channels: it is no ImageAttribution" in str(report)
    assert str(report).startswith(f"{method.__name__} passed: inputs, grad mode, ")


def test_captums_products_with_gradients_carry_a_graph(classifier, images) -> None:
    with pytest.raises(MethodError, match=r"^InputXGradient: detached: "):
        check_method(InputXGradient, classifier, images, target=1)


def test_captums_gradients_with_a_text_an_image(model, images, tokenizer) -> None:
    texts = tokenizer(["fox", "ship", "jar"])
    report = check_method(Saliency, ImageTextSimilarity(model), images, None, (texts,))
    assert "additional_forward_args" in report.passed


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_callers_in_any_mode(mode, classifier, images) -> None:
    with mode():
        check_method(Plain, LogProbability(classifier), images.requires_grad_(), target=2)
        assert torch.is_grad_enabled() == (mode is torch.enable_grad)
    assert images.requires_grad


@pytest.mark.exhaustive
def test_functions_shared_texts_and_tuples_as_targets(model, classifier, images, tokenizer) -> None:
    similarity = ImageTextSimilarity(model)

    def table(images: Tensor, texts: Tensor) -> Tensor:
        scores = similarity.encode_images(images) @ similarity.encode_texts(texts).T
        return torch.stack([scores, -scores], dim=2)

    shared = Shared(tokenizer(["fox", "ship", "jar", "igloo"]))
    for target in ((3, 1), [(3, 1), (0, 0), (3, 1)]):
        report = check_method(
            lambda f: CCI(f, model.visual, clustering=KMeans(3)), table, images, target, shared
        )
        assert set(report.skipped) == {"additional_forward_args"}
    unknown = check_method(Quarters, lambda x: classifier(x), images, target=1)
    assert {"model", "error"} <= set(unknown.skipped)


def test_in_float64_and_in_half_precision(make_clip, make_images, tokenizer) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        model = make_clip(seed=5)[0].to(dtype)
        images = make_images(model).to(dtype)
        classifier = ZeroShotClassifier(model, tokenizer, NAMES)
        check_method(factory("grad-eclip"), classifier, images, target=1)


# Those that do not.


class Honest(PatchAttribution):
    """Keeps every promise; the mistakes below are one change each."""

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        with self.vision_tower.record("input") as recording:
            scores = self._score(images, target, args)
        return scores[:, None, None] * recording.tokens.mean(dim=-1).unflatten(1, recording.grid)


class Plain:
    """The same without our base classes, for mistakes that these prevent."""

    def __init__(self, forward_func: Any) -> None:
        self.forward_func = forward_func

    def attribute(
        self, inputs: Any, target: Any = None, additional_forward_args: Any = None
    ) -> Any:
        images = inputs[0] if isinstance(inputs, tuple) else inputs
        with torch.no_grad():
            found = self.explain(images, target, additional_forward_args or ())
        return (found,) if isinstance(inputs, tuple) else found

    def explain(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        return self.scores(images, target, args)[:, None, None, None] * images

    def scores(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        outputs = self.forward_func(images, *args)
        if target is None:
            return outputs
        index = torch.as_tensor(target).expand(len(images))
        return outputs.gather(1, index[:, None])[:, 0]


class OfAnotherShape(Plain):
    def explain(self, images, target, args):
        return super().explain(images, target, args).mean(dim=1)


class InHalf(Plain):
    def explain(self, images, target, args):
        return super().explain(images, target, args).bfloat16()


class WithGraph(Plain):
    def explain(self, images, target, args):
        with torch.enable_grad():
            return super().explain(images, target, args)


class Divided(Plain):
    def explain(self, images, target, args):
        found = super().explain(images, target, args)
        found[1, 0, 0, 0] /= 0
        return found


class Silent(Plain):
    def explain(self, images, target, args):
        return 0 * super().explain(images, target, args)


class Colourful(Honest):
    def attribute(self, inputs, target=None, additional_forward_args=None, **options):
        found = super().attribute(inputs, target, additional_forward_args, **options)
        (first,) = found if isinstance(found, tuple) else (found,)
        first[:, 1] += 1
        return found


class Overwriting(Plain):
    def explain(self, images, target, args):
        found = super().explain(images, target, args)
        images.clamp_(min=0)
        return found


class OverwritingArguments(Plain):
    def explain(self, images, target, args):
        found = super().explain(images, target, args)
        args[0][0, 0] += 1
        return found


class OverwritingTargets(Plain):
    def explain(self, images, target, args):
        found = super().explain(images, target, args)
        target.sort()
        return found


class InPlace(Plain):
    def explain(self, images, target, args):
        return images


class LeavingRequiresGrad(Plain):
    def explain(self, images, target, args):
        found = super().explain(images, target, args)
        images.requires_grad_()
        return found


class SwitchingGradients(Plain):
    def attribute(self, *args, **options):
        found = super().attribute(*args, **options)
        torch.set_grad_enabled(False)
        return found


class Drawing(Plain):
    """Noise by the seed of the process, which it puts back."""

    def explain(self, images, target, args):
        with torch.random.fork_rng([]):
            return super().explain(images, target, args) + torch.randn(images.shape)


class DrawingOnTorch(Plain):
    def explain(self, images, target, args):
        torch.rand(1)
        return super().explain(images, target, args)


class DrawingOnNumpy(Plain):
    def explain(self, images, target, args):
        np.random.rand()
        return super().explain(images, target, args)


class DrawingOnPython(Plain):
    def explain(self, images, target, args):
        random.random()
        return super().explain(images, target, args)


class Counting(Plain):
    """Another map in every call of an object."""

    calls = 0

    def explain(self, images, target, args):
        self.calls += 1
        return self.calls * super().explain(images, target, args)


class ByObject(Plain):
    """Another map of every object."""

    made = 0

    def __init__(self, forward_func):
        super().__init__(forward_func)
        ByObject.made += 1
        self.factor = ByObject.made

    def explain(self, images, target, args):
        return self.factor * super().explain(images, target, args)


class OverTheBatch(Plain):
    def explain(self, images, target, args):
        found = super().explain(images, target, args)
        return found / found.abs().max()


class ByPlace(Plain):
    def explain(self, images, target, args):
        places = torch.arange(1.0, 1.0 + len(images))
        return places[:, None, None, None] * super().explain(images, target, args)


class MixingRows(Plain):
    """Each image with the argument of another one."""

    def explain(self, images, target, args):
        return super().explain(images, target, tuple(arg.flip(0) for arg in args))


class ByInternalBatchSize(Honest):
    def attribute(self, inputs, target=None, additional_forward_args=None, **options):
        size = options.pop("internal_batch_size", None)
        found = super().attribute(inputs, target, additional_forward_args, **options)
        if isinstance(found, tuple):
            return found
        return found if size is None else found / size**0.5

    attribute.__signature__ = inspect.signature(PatchAttribution.attribute)


class IntsOnly(Plain):
    """A list of targets is taken for that of the first image."""

    def explain(self, images, target, args):
        first = target[0] if isinstance(target, list) else target
        return super().explain(images, first, args)


class NoTensors(Plain):
    def explain(self, images, target, args):
        if isinstance(target, Tensor):
            raise KeyError("tensor")
        return super().explain(images, target, args)


class NoTuple(Plain):
    def attribute(self, inputs, target=None):
        images = inputs[0] if isinstance(inputs, tuple) else inputs
        return super().attribute(images, target)


class TupleOfTwo(Plain):
    def attribute(self, inputs, target=None):
        found = super().attribute(inputs, target)
        return (*found, *found) if isinstance(found, tuple) else found


class NeedsGradMode(Honest):
    """An ImageAttribution that looks at the caller's mode, which it may not be told by."""

    def attribute(self, inputs, target=None, **options):
        if not torch.is_grad_enabled():
            raise RuntimeError("no gradients here")
        return super().attribute(inputs, target, **options)


class NotInInference(Honest):
    def attribute(self, inputs, target=None, **options):
        if torch.is_inference_mode_enabled():
            raise RuntimeError("no gradients here")
        return super().attribute(inputs, target, **options)


class OtherInNoGrad(Plain):
    def attribute(self, inputs, target=None, **options):
        factor = 1 if torch.is_grad_enabled() else 2
        found = super().attribute(inputs, target, **options)
        return (found[0],) if isinstance(found, tuple) else factor * found


class LeavingHooks(Plain):
    def explain(self, images, target, args):
        self.forward_func.model.visual.register_forward_hook(lambda *_: None)
        return super().explain(images, target, args)


class Training(Plain):
    def explain(self, images, target, args):
        self.forward_func.model.visual.ln_post.train()
        return super().explain(images, target, args)


class Learning(Plain):
    def explain(self, images, target, args):
        found = super().explain(images, target, args)
        self.forward_func.model.visual.proj.data.add_(1e-3)
        return found


class Freezing(Plain):
    def explain(self, images, target, args):
        self.forward_func.model.requires_grad_(False)
        return super().explain(images, target, args)


class Backward(Plain):
    def explain(self, images, target, args):
        with torch.enable_grad():
            self.forward_func(images, *args).sum().backward()
        return super().explain(images, target, args)


class Patching(Plain):
    def explain(self, images, target, args):
        block = self.forward_func.model.visual.transformer.resblocks[1]
        own = type(block).forward
        block.forward = lambda *args, **options: own(block, *args, **options)
        return super().explain(images, target, args)


class SwappingModules(Plain):
    def explain(self, images, target, args):
        self.forward_func.model.visual.ln_post = nn.Identity()
        return super().explain(images, target, args)


class HookAfterErrors(Plain):
    """No `finally`: the hook stays where the model raises."""

    def explain(self, images, target, args):
        handle = self.forward_func.model.visual.conv1.register_forward_hook(lambda *_: None)
        found = super().explain(images, target, args)
        handle.remove()
        return found


class SwallowingErrors(Plain):
    def explain(self, images, target, args):
        try:
            return super().explain(images, target, args)
        except Exception:
            return images + 0


@pytest.mark.parametrize(
    ("method", "check", "message"),
    [
        (OfAnotherShape, "shape", r"inputs' shape \(3, 3, 32, 32\), got \(3, 32, 32\)"),
        (InHalf, "dtype", "expected at least torch.float32, got torch.bfloat16"),
        (WithGraph, "detached", "expected attributions without a graph"),
        (Divided, "finite", r"expected numbers, got NaN or infinity for images \[1\]"),
        (Silent, "not zero", "expected some value that is not 0"),
        (Colourful, "channels", "expected one map in every channel"),
        (Overwriting, "inputs", "expected images with its values"),
        (OverwritingTargets, "inputs", "expected target with its values"),
        (InPlace, "inputs", "memory of their own, got that of the images"),
        (LeavingRequiresGrad, "inputs", "got requires_grad=True"),
        (SwitchingGradients, "grad mode", "expected the grad mode as it was"),
        (Drawing, "again", "got others under another seed|in the first call, got others"),
        (DrawingOnTorch, "random state", "expected the random state of torch as it was"),
        (DrawingOnNumpy, "random state", "expected the random state of numpy as it was"),
        (DrawingOnPython, "random state", "expected the random state of Python as it was"),
        (Counting, "again", "as in the first call, got others, by 0.5 of the largest"),
        (ByObject, "again", "got others from a new object"),
        (OverTheBatch, "one by one", "the maps of images alone, got others in a batch"),
        (ByPlace, "one by one", "the maps of images alone, got others in a batch"),
        (ByInternalBatchSize, "internal_batch_size", "the same maps with 2, got others"),
        (IntsOnly, "one by one", "got others in a batch"),
        (NoTensors, "target", "expected attributions, got KeyError: 'tensor'"),
        (NoTuple, "tuple", "expected a tuple of one for a tuple of one, got Tensor"),
        (TupleOfTwo, "tuple", "expected a tuple of one for a tuple of one, got one of 2"),
        (NeedsGradMode, "no_grad", "expected attributions, got RuntimeError: no gradients here"),
        (NotInInference, "inference_mode", "got RuntimeError: no gradients here"),
        (OtherInNoGrad, "no_grad", "the same maps inside torch.no_grad, got others"),
        (LeavingHooks, "model", "got other hooks in forward_func.model.visual"),
        (Training, "model", "got other train mode in forward_func.model.visual.ln_post"),
        (Learning, "model", "got other values in forward_func.model.visual.proj"),
        (Freezing, "model", "got another requires_grad in forward_func.model"),
        (Backward, "model", "got another grad in forward_func.model"),
        (Patching, "model", r"got other forward in .*resblocks\.1"),
        (SwappingModules, "model", "got other submodules in forward_func.model.visual"),
        (HookAfterErrors, "error", "after an error in it, got other hooks in .*conv1"),
        (SwallowingErrors, "error", "expected an error of the model to come through"),
    ],
)
def test_each_kind_of_mistake_is_found(
    method, check, message, make_clip, tokenizer, images
) -> None:
    classifier = ZeroShotClassifier(make_clip(seed=5)[0], tokenizer, NAMES)
    grad_mode, states = torch.is_grad_enabled(), (torch.get_rng_state(), random.getstate())
    try:
        with pytest.raises(
            MethodError, match=rf"^{method.__name__}: {check}: .*({message})"
        ) as raised:
            check_method(method, classifier, images, target=[4, 0, 1])
    finally:
        assert torch.is_grad_enabled() == grad_mode
        torch.set_grad_enabled(True)
    assert raised.value.check == check
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]


@pytest.mark.parametrize(
    ("method", "check", "message"),
    [
        (MixingRows, "additional_forward_args", "each row .* to stay with its image"),
        (OverwritingArguments, "inputs", r"expected additional_forward_args\[0\] with its values"),
    ],
)
def test_mistakes_with_further_arguments(method, check, message, model, images, tokenizer) -> None:
    texts = tokenizer(["fox", "ship", "jar"])
    with pytest.raises(MethodError, match=rf"^{method.__name__}: {check}: .*{message}"):
        check_method(method, ImageTextSimilarity(model), images, None, texts)


def test_a_target_that_only_an_int_is_read_from(classifier, images) -> None:
    """With one target for all images, a list of it is refused or misread."""
    with pytest.raises(
        MethodError, match=r"^ListsAreNone: target: .*a list of targets, \[1, 1, 1\]"
    ):

        class ListsAreNone(Plain):
            def explain(self, images, target, args):
                target = target if isinstance(target, int) else 0
                return super().explain(images, target, args)

        check_method(ListsAreNone, classifier, images, target=1)


@pytest.mark.parametrize("method", [Plain, Honest])
def test_without_the_mistakes_they_pass(method, classifier, images) -> None:
    report = check_method(method, classifier, images, target=[4, 0, 1])
    plain = {"channels", "internal_batch_size"} if method is Plain else set()
    assert set(report.skipped) == plain | {"additional_forward_args"}


def test_captums_chance_is_found(classifier, images) -> None:
    class Sampled(Lime):
        def attribute(self, inputs: Any, **options: Any) -> Any:
            return super().attribute(inputs, feature_mask=QUARTERS, n_samples=5, **options)

    with pytest.raises(MethodError, match=r"^Sampled: random state: .* of torch"):
        check_method(Sampled, classifier, images, target=1)


def test_tolerance_is_what_rounding_may_change(classifier, images) -> None:
    class Rough(Plain):
        def explain(self, images, target, args):
            return super().explain(images, target, args) * (1 + 1e-4 * len(images))

    check_method(Rough, classifier, images, target=1)
    for options in ({"tolerance": 1e-5}, {"tolerance": 1e-6}):
        with pytest.raises(MethodError, match=r"one by one: .* by 0.0002 of the largest value"):
            check_method(Rough, classifier, images, target=1, **options)


def test_arguments(classifier, images) -> None:
    with pytest.raises(
        TypeError, match="method: expected a class or function, got an object of CCI"
    ):
        check_method(CCI(classifier), classifier, images, target=1)
    with pytest.raises(TypeError, match="method: expected one with `attribute`, got Linear"):
        check_method(lambda f: nn.Linear(1, 1), classifier, images, target=1)
    with pytest.raises(TypeError, match="forward_func: expected a class or function"):
        check_method(CCI, "classifier", images, target=1)
    for few in (images[:2], images[[0, 1, 1]]):
        with pytest.raises(ValueError, match="images: expected at least three different ones"):
            check_method(CCI, classifier, few, target=1)
    with pytest.raises(ValueError, match=r"^target: "):
        check_method(CCI, classifier, images, target=5)


def test_names_and_no_torch() -> None:
    attribution = cci_captum.attribution
    assert cci_captum.check_method is attribution.check_method is check_method
    assert issubclass(MethodError, ValueError)
    assert attribution.__all__ == sorted(attribution._MODULES)
    assert all(hasattr(attribution, name) for name in attribution.__all__)
    assert issubclass(Random, GridAttribution)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        attribution.nothing  # noqa: B018
    code = (
        "import sys, cci_captum.attribution; "
        "sys.exit('torch' in sys.modules or 'CCI' in dir(cci_captum.attribution))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert MethodReport("A", ("b",), {}).passed == ("b",)
