"""What every registered method promises: these tests run over the registry."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from captum.attr import Attribution, NoiseTunnel
from helpers import NAMES, Failure, close, hooks
from torch import Tensor, nn

import cci_captum.baselines
from cci_captum import (
    CCI,
    GateGradient,
    ImageTextSimilarity,
    KMeans,
    ShapleyCCI,
    ZeroShotClassifier,
)
from cci_captum.baselines import METHODS, LayerGradCAM, find_method

pytestmark = pytest.mark.shared(among=6)

OPTIONS = {
    "cci": {"clustering": KMeans(4)},
    "rise": {"n_masks": 16, "grid": 3},
    "gated-cci": {"clusters": (3,)},
    "m2ib": {"steps": 2, "n_samples": 4},
    "shapley-cci": {"clustering": KMeans(3)},
    "cluster-ablation": {"clustering": KMeans(4)},
    "cluster-lime": {"clustering": KMeans(4), "n_samples": 8},
    "cluster-kernelshap": {"clustering": KMeans(4), "n_samples": 8},
}
EVERY = sorted(METHODS)
RUNNING = [name for name in EVERY if not METHODS[name].needs_masks]
ON_PATCHES = [name for name in EVERY if METHODS[name].resolution == "patch"]
WITH_TEXT = [name for name in EVERY if METHODS[name].needs_text]
ON_SCORES = [name for name in RUNNING if not METHODS[name].needs_text]
TARGETED = [n for n in RUNNING if n not in ("random", "rollout", "self-attention")]


class Quadrants:
    """Four clusters, the quarters of a 4 x 4 patch grid, whatever the embeddings are."""

    n_clusters = 4

    def __call__(self, embeddings: Tensor) -> Tensor:
        patches = torch.arange(16, device=embeddings.device)
        return (patches // 8 * 2 + patches % 4 // 2).expand(len(embeddings), -1)


def make(name, forward_func, vision_tower=None, **options):
    return METHODS[name](forward_func, vision_tower, **OPTIONS.get(name, {}) | options)


def explain(name, method, images, target=None, args=None, **options):
    """`attribute`, with masks for the method that wants them: the brighter pixels."""
    if METHODS[name].needs_masks:
        options["masks"] = images.mean(dim=1) > 0
    return method.attribute(images, target, args, **options)


def same_map(actual, expected, tolerance=1e-4):
    if expected.any():
        close(actual, expected, tolerance)
    else:
        assert not actual.any()


def snapshot(model):
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "modules": [type(module) for module in model.modules()],
    }


def assert_untouched(model, before):
    after = snapshot(model)
    assert all(torch.equal(after["weights"][name], w) for name, w in before["weights"].items())
    assert all(after[key] == before[key] for key in ("modes", "requires_grad", "modules"))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hooks(model) == 0


class TestInterface:
    @pytest.mark.parametrize("name", EVERY)
    def test_attributions_have_the_inputs_shape(self, classifier, model, make_images, name):
        images = make_images(model)
        method = make(name, classifier)
        assert isinstance(method, Attribution)
        attributions = explain(name, method, images, [0, 1, 4])
        assert attributions.shape == images.shape
        assert attributions.dtype == torch.float32
        assert not attributions.requires_grad
        assert torch.isfinite(attributions).all()
        assert torch.equal(attributions, attributions[:, :1].expand_as(images))
        assert attributions.any()
        assert not method.has_convergence_delta()

    @pytest.mark.usefixtures("no_shared_lock")
    @pytest.mark.parametrize("name", EVERY)
    def test_processes_do_not_wait_for_each_other(self, classifier, model, make_images, name):
        explain(name, make(name, classifier), make_images(model), [0, 1, 4])

    @pytest.mark.parametrize("name", RUNNING)
    def test_a_tuple_for_a_tuple(self, classifier, model, make_images, name):
        images = make_images(model)
        method = make(name, classifier)
        (attributions,) = method.attribute((images,), 1)
        assert torch.equal(attributions, method.attribute(images, 1))

    @pytest.mark.parametrize("name", RUNNING)
    def test_similarity_with_texts(self, model, make_images, tokenizer, name):
        images, text = make_images(model), tokenizer(["fox", "ship", "igloo"])
        method = make(name, ImageTextSimilarity(model))
        assert method.attribute(images, additional_forward_args=text).any()
        assert method.attribute(images, None, (text,)).shape == images.shape

    @pytest.mark.parametrize("name", ON_PATCHES)
    @pytest.mark.parametrize("upsample", ["nearest", "bilinear"])
    def test_patch_map_is_what_is_enlarged(self, classifier, model, make_images, name, upsample):
        images = make_images(model)
        method = make(name, classifier)
        patch_map = method.patch_map(images, 2)
        assert patch_map.shape == (3, 4, 4)
        assert not patch_map.requires_grad
        options = {} if upsample == "nearest" else {"align_corners": False}
        expected = nn.functional.interpolate(patch_map[:, None], (32, 32), mode=upsample, **options)
        attributions = method.attribute(images, 2, upsample=upsample)
        same_map(attributions, expected.expand_as(images), 1e-6)

    @pytest.mark.parametrize("name", ON_PATCHES)
    def test_average_pooling_and_non_square_grids(self, make_clip, make_images, tokenizer, name):
        model, _ = make_clip(6, pool_type="avg", image_size=(16, 32))
        method = make(name, ZeroShotClassifier(model, tokenizer, NAMES))
        patch_map = method.patch_map(make_images(model), [0, 3, 2])
        assert patch_map.shape == (3, 2, 4)
        assert patch_map.flatten(1).any(dim=1).all()

    @pytest.mark.parametrize("name", ON_SCORES)
    def test_a_function_with_its_tower(self, classifier, model, make_images, name):
        images = make_images(model)
        method = make(name, lambda x: classifier(x)[:, 3], model.visual)
        same_map(method.attribute(images), make(name, classifier).attribute(images, 3))

    @pytest.mark.parametrize("name", RUNNING)
    def test_captums_noise_tunnel(self, classifier, model, make_images, name):
        images = make_images(model)
        method = make(name, classifier)
        smooth = NoiseTunnel(method).attribute(images, nt_samples=2, stdevs=0.0, target=1)
        same_map(smooth, method.attribute(images, 1))


class TestBatching:
    @pytest.mark.parametrize("name", EVERY)
    def test_batch_of_8_equals_8_of_1(self, classifier, model, make_images, name):
        images, target = make_images(model, batch=8), [0, 1, 2, 3, 4, 0, 1, 2]
        method = make(name, classifier)
        together = explain(name, method, images, target)
        for row in range(8):
            one = slice(row, row + 1)
            same_map(explain(name, method, images[one], target[one]), together[one])

    @pytest.mark.parametrize("name", RUNNING)
    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_internal_batch_size(self, model, make_images, tokenizer, name, size):
        images, text = make_images(model, batch=5), tokenizer([str(i) * 4 for i in range(5)])
        method = make(name, ImageTextSimilarity(model))
        expected = method.attribute(images, None, text)
        same_map(method.attribute(images, None, text, internal_batch_size=size), expected)

    @pytest.mark.parametrize("name", RUNNING)
    def test_internal_batch_size_bounds_the_batch(self, classifier, model, make_images, name):
        sizes = []
        handle = model.visual.register_forward_pre_hook(lambda m, args: sizes.append(len(args[0])))
        make(name, classifier).attribute(make_images(model, batch=5), 1, internal_batch_size=2)
        handle.remove()
        assert max(sizes) <= 2

    @pytest.mark.parametrize(("size", "most"), [(2, 4), (8, 8), (11, 8)])
    def test_m2ib_bounds_its_copies(self, classifier, model, make_images, size, most):
        """Four copies of as many images as fit, and never less than one image's."""
        sizes = []
        last = model.visual.transformer.resblocks[-1]
        handle = last.register_forward_pre_hook(lambda m, args: sizes.append(len(args[0])))
        make("m2ib", classifier).attribute(
            make_images(model, batch=11), 1, internal_batch_size=size
        )
        handle.remove()
        copies = [count for count in sizes if count % 4 == 0]
        assert max(copies) == most
        assert max(sizes) <= max(size, 4)

    @pytest.mark.parametrize("name", RUNNING)
    def test_deterministic_and_no_global_random_state(self, classifier, model, make_images, name):
        images = make_images(model)
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = make(name, classifier).attribute(images, 1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        assert torch.equal(make(name, classifier).attribute(images, 1), first)

    @pytest.mark.parametrize(
        "name", ["random", "rise", "m2ib", "cluster-lime", "cluster-kernelshap"]
    )
    def test_another_seed_is_another_draw(self, classifier, model, make_images, name):
        images = make_images(model)
        maps = [make(name, classifier, seed=seed).attribute(images, 1) for seed in (0, 1)]
        assert not torch.equal(*maps)

    def test_random_maps_differ_between_images(self, classifier, model, make_images):
        first, second, third = make("random", classifier).patch_map(make_images(model))
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)


class TestNothingIsLeftBehind:
    @pytest.mark.parametrize("name", EVERY)
    def test_after_success(self, classifier, model, make_images, name):
        images = make_images(model)
        before, expected = snapshot(model), classifier(images)
        explain(name, make(name, classifier), images, 1)
        assert_untouched(model, before)
        assert torch.equal(classifier(images), expected)

    @pytest.mark.parametrize("name", RUNNING)
    @pytest.mark.parametrize("where", ["conv1", "transformer.resblocks.1.attn", "ln_post"])
    def test_after_an_exception_in_the_model(self, classifier, model, make_images, name, where):
        images = make_images(model)
        method, before, grad = make(name, classifier), snapshot(model), torch.is_grad_enabled()

        def fail(module, args):
            raise Failure

        handle = model.visual.get_submodule(where).register_forward_pre_hook(fail)
        with pytest.raises(Failure):
            method.attribute(images, 1)
        handle.remove()
        assert_untouched(model, before)
        assert torch.is_grad_enabled() == grad

    @pytest.mark.parametrize("name", TARGETED)
    def test_after_a_wrong_target(self, classifier, model, make_images, name):
        images, before = make_images(model), snapshot(model)
        for target in (5, -6, [0, 1], [0, 1, 2, 3], [0, 1, 9], (0, 1), None, "fox"):
            with pytest.raises(ValueError, match="target: "):
                make(name, classifier).attribute(images, target)
        assert_untouched(model, before)

    @pytest.mark.parametrize("name", RUNNING)
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_callers_without_gradients(self, classifier, model, make_images, name, mode):
        images = make_images(model)
        expected = make(name, classifier).attribute(images, 1)
        with mode():
            attributions = make(name, classifier).attribute(images.clone(), 1)
        same_map(attributions, expected)

    @pytest.mark.parametrize("name", RUNNING)
    def test_frozen_models_and_inputs_with_gradients(self, classifier, model, make_images, name):
        images = make_images(model)
        expected = make(name, classifier).attribute(images, 1)
        model.requires_grad_(False)
        inputs = images.clone().requires_grad_()
        same_map(make(name, classifier).attribute(inputs, 1), expected)
        assert inputs.grad is None
        assert inputs.requires_grad

    @pytest.mark.parametrize("name", RUNNING)
    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_train_mode(self, classifier, model, make_images, name, checkpointing):
        """These models have no dropout, so train mode computes what eval mode does."""
        images = make_images(model)
        expected = make(name, classifier).attribute(images, 1)
        model.train()
        model.set_grad_checkpointing(checkpointing)
        same_map(make(name, classifier).attribute(images, 1), expected)
        assert model.training
        assert hooks(model) == 0


class TestTargets:
    @pytest.mark.parametrize("name", RUNNING)
    def test_captums_targets(self, classifier, model, make_images, name):
        images = make_images(model)
        method = make(name, classifier)
        for target in (2, torch.tensor(2), torch.tensor([2]), torch.tensor([2, 2, 2]), (2,)):
            expected = method.attribute(images, [2, 2, 2])
            assert torch.equal(method.attribute(images, target), expected)
        mixed = method.attribute(images, torch.tensor([0, 4, 2]))
        for row, target in enumerate([0, 4, 2]):
            same_map(mixed[row], method.attribute(images, target)[row])

    @pytest.mark.parametrize("name", ON_SCORES)
    def test_outputs_of_more_dimensions(self, classifier, model, make_images, name):
        images = make_images(model)

        def table(x: Tensor) -> Tensor:
            logits = classifier(x)
            return torch.stack([logits, -logits, 2 * logits], dim=2)  # (B, 5, 3)

        method = make(name, table, model.visual)
        expected = make(name, classifier)
        same_map(method.attribute(images, (3, 0)), expected.attribute(images, 3))
        same_map(
            method.attribute(images, [(1, 0), (2, 0), (0, 0)]),
            expected.attribute(images, [1, 2, 0]),
        )

    @pytest.mark.parametrize("name", TARGETED)
    def test_the_target_matters(self, classifier, model, make_images, name):
        images = make_images(model)
        method = make(name, classifier)
        assert not torch.allclose(method.attribute(images, 0), method.attribute(images, 1))


class TestPrecisions:
    @pytest.mark.parametrize("name", RUNNING)
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
    def test_other_dtypes(self, make_clip, make_images, tokenizer, name, dtype):
        model, _ = make_clip(seed=5)
        images = make_images(model)
        # Fixed clusters: rounding embeddings to bfloat16 may move a patch to another cluster.
        options = {"clustering": Quadrants()} if "clustering" in OPTIONS.get(name, {}) else {}
        expected = make(name, ZeroShotClassifier(model, tokenizer, NAMES), **options)
        expected = expected.attribute(images, 1)
        model.to(dtype)
        method = make(name, ZeroShotClassifier(model, tokenizer, NAMES), **options)
        attributions = method.attribute(images.to(dtype), 1)
        assert attributions.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.isfinite(attributions).all()
        if name == "random":  # another precision is another image
            return
        if dtype == torch.float64:
            same_map(attributions, expected)
        else:
            both = torch.stack([attributions.flatten(), expected.flatten()])
            assert torch.corrcoef(both)[0, 1] > 0.9

    @pytest.mark.parametrize("name", RUNNING)
    def test_autocast(self, classifier, model, make_images, name):
        images = make_images(model)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            attributions = make(name, classifier).attribute(images, 1)
        assert attributions.dtype == torch.float32
        assert torch.isfinite(attributions).all()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestDevices:
    @pytest.mark.parametrize("name", EVERY)
    def test_cuda_agrees_with_cpu(self, model, make_images, tokenizer, name):
        images = make_images(model)
        options = {"clustering": Quadrants()} if "clustering" in OPTIONS.get(name, {}) else {}
        method = make(name, ZeroShotClassifier(model, tokenizer, NAMES), **options)
        expected = explain(name, method, images, [0, 1, 4])
        on_gpu = model.to("cuda")
        method = make(name, ZeroShotClassifier(on_gpu, tokenizer, NAMES), **options)
        attributions = explain(name, method, images.to("cuda"), [0, 1, 4])
        assert attributions.device.type == "cuda"
        if name in ("cluster-lime", "cluster-kernelshap"):  # Captum draws samples on the device
            assert torch.isfinite(attributions).all()
        else:
            same_map(attributions, expected, 1e-3)


class TestRegistry:
    def test_unknown_names_list_the_alternatives(self):
        with pytest.raises(ValueError, match=r"method: expected one of cci, .*random.*got 'lrp'"):
            find_method("lrp")

    def test_every_baseline_is_registered(self):
        ours = {CCI, GateGradient, ShapleyCCI}
        registered = {method.cls for method in METHODS.values()} - ours | {LayerGradCAM}
        exported = {
            value
            for name in cci_captum.baselines.__all__
            if isinstance(value := getattr(cci_captum.baselines, name), type)
            and issubclass(value, Attribution)
        }
        assert registered == exported
        assert all(name == method.name for name, method in METHODS.items())

    def test_public_names(self):
        assert sorted(cci_captum.baselines.__all__, key=str.lower) == sorted(
            cci_captum.baselines._MODULES, key=str.lower
        )

    def test_listing_needs_no_torch(self):
        code = (
            "import sys; from cci_captum.baselines.registry import METHODS; "
            "sys.exit('torch' in sys.modules or not METHODS)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    @pytest.mark.parametrize("name", RUNNING)
    def test_needs_gradients_is_true(self, classifier, model, make_images, monkeypatch, name):
        def fail(*args, **kwargs):
            raise Failure

        monkeypatch.setattr(torch.autograd, "grad", fail)
        method = make(name, classifier)
        if METHODS[name].needs_gradients:
            with pytest.raises(Failure):
                method.attribute(make_images(model), 1)
        else:
            method.attribute(make_images(model), 1)

    @pytest.mark.parametrize("name", EVERY)
    def test_resolution_is_true(self, name):
        assert hasattr(METHODS[name].cls, "patch_map") == (METHODS[name].resolution == "patch")

    @pytest.mark.parametrize("name", ON_SCORES)
    def test_needs_text_is_true_where_false(self, model, make_images, name):
        make(name, model.encode_image, model.visual).attribute(make_images(model), 1)

    @pytest.mark.parametrize("name", WITH_TEXT)
    def test_needs_text_is_true_where_true(self, classifier, model, name):
        for forward_func in (model.visual, classifier.forward):
            with pytest.raises(TypeError, match="expected an ImageTextSimilarity or a ZeroShotCl"):
                make(name, forward_func, model.visual)

    @pytest.mark.parametrize("name", EVERY)
    def test_forward_passes_are_true(self, classifier, model, make_images, name):
        """By default: K = 7 clusters, gated CCI's five K; N = 16 patches; 4000 masks of RISE."""
        images = make_images(model, batch=1)
        count = []
        handle = model.visual.register_forward_pre_hook(lambda m, args: count.extend(args[0]))
        options = {} if METHODS[name].needs_masks else {"check": False}
        explain(name, METHODS[name](classifier), images, 1, **options)
        handle.remove()
        expected = {
            "K + 1": 8,
            "K + 2": 9,
            "N + 1": 17,
            "1 + 100 of 2 blocks": 1,
            "1 + 2 of each cluster": 1 + 2 * (4 + 7 + 10 + 14 + 16),  # 20 of 16 patches
        }
        stated = METHODS[name].forward_passes
        assert len(count) == expected.get(stated) or len(count) == int(stated)


class TestMisuse:
    @pytest.mark.parametrize("name", EVERY)
    def test_forward_func(self, name):
        with pytest.raises(TypeError, match="forward_func: "):
            METHODS[name]("model")

    @pytest.mark.parametrize("name", ON_PATCHES)
    def test_inputs(self, classifier, model, make_images, name):
        method, images = make(name, classifier), make_images(model)
        with pytest.raises(TypeError, match="inputs: expected a floating point tensor"):
            method.attribute(images.long(), 1)
        with pytest.raises(ValueError, match="inputs: expected images of shape"):
            method.patch_map(images[0], 1)
        with pytest.raises(ValueError, match="upsample: expected one of"):
            method.attribute(images, 1, upsample="area")
        with pytest.raises(ValueError, match="internal_batch_size: expected a positive int"):
            method.attribute(images, 1, internal_batch_size=0)

    @pytest.mark.parametrize("name", RUNNING)
    def test_outputs(self, model, make_images, name):
        if METHODS[name].needs_text:
            pytest.skip("its forward_func is one of ours")
        images = make_images(model)
        with pytest.raises(TypeError, match="forward_func: expected it to return a tensor"):
            make(name, lambda x: [model.encode_image(x)], model.visual).attribute(images)
        with pytest.raises(ValueError, match=r"forward_func: expected \d+ rows"):
            make(name, lambda x: model.encode_image(x)[:2], model.visual).attribute(images)

    @pytest.mark.parametrize("name", [n for n in ON_SCORES if METHODS[n].needs_gradients])
    def test_detached_outputs(self, model, make_images, name):
        with pytest.raises(RuntimeError, match="forward_func: no gradient flows"):
            make(name, lambda x: model.encode_image(x).detach(), model.visual).attribute(
                make_images(model), 1
            )

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("game", {"layers": "first"}, "layers: expected one of"),
            ("gradcam", {"layer": 7}, "layer: expected a block index from -3 to 2, got 7"),
            ("gradcam", {"layer": "projected"}, "layer: expected a block's index"),
            ("gradcam", {"average": "class"}, "average: expected one of tokens, patches, got 'cl"),
            ("rise", {"n_masks": 0}, "n_masks: expected a positive int"),
            ("rise", {"p": 0.0}, "p: expected a probability"),
            ("clip-surgery", {"n_blocks": 0}, "n_blocks: expected a positive int"),
            (
                "clip-surgery",
                {"revision": "2023-04-11"},
                "revision: expected one of 2023-04-12, 2023-04-13, 2025-03-01, got '2023-04-11'",
            ),
            ("legrad", {"n_blocks": 0}, "n_blocks: expected a positive int"),
            ("legrad", {"read_out": "class"}, "read_out: expected one of mean, model, got 'class'"),
            (
                "legrad",
                {"empty_text": torch.zeros(2, 5)},
                r"empty_text: expected the tokens of one",
            ),
            ("atman", {"suppression": 1.1}, "suppression: expected a number from 0 to 1, got 1.1"),
            ("atman", {"suppression": "1"}, "suppression: expected a number from 0 to 1, got '1'"),
            ("atman", {"suppression": True}, "suppression: expected a number .*, got True"),
            ("atman", {"from_minimum": "no"}, "from_minimum: expected True or False, got 'no'"),
            ("atman", {"threshold": -0.1}, "threshold: expected a number from 0 to 1, or None"),
            ("atman", {"layer": 3}, "layer: expected a block index from -3 to 2, 'input' or"),
            ("m2ib", {"layer": 2}, r"layer: expected a block before the last \(0 to 1\)"),
            ("m2ib", {"steps": 0}, "steps: expected a positive int"),
            ("cluster-lime", {"n_samples": 0}, "n_samples: expected a positive int"),
        ],
    )
    def test_options(self, classifier, name, options, message):
        with pytest.raises(ValueError, match=message):
            METHODS[name](classifier, **options)

    def test_texts_are_tokens(self, classifier):
        with pytest.raises(TypeError, match=r"empty_text: expected the tokens of one text, .* str"):
            METHODS["legrad"](classifier, empty_text="a photo")

    def test_a_layer_of_maps_has_its_own_method(self, classifier):
        with pytest.raises(TypeError, match=r"got a module, Identity; .*LayerGradCAM takes one"):
            METHODS["gradcam"](classifier, layer=nn.Identity())
        with pytest.raises(TypeError, match="layer: expected a module, got int"):
            LayerGradCAM(classifier, 1)

    def test_masks(self, classifier, model, make_images):
        images, method = make_images(model), make("ground-truth", classifier)
        with pytest.raises(TypeError, match="masks: expected a bool tensor"):
            method.attribute(images, masks=images[:, 0])
        with pytest.raises(ValueError, match=r"masks: expected shape \(3, 32, 32\), got"):
            method.attribute(images, masks=torch.zeros(3, 4, 4, dtype=torch.bool))

    def test_similarity_needs_its_text(self, model, make_images):
        for name in WITH_TEXT:
            with pytest.raises(ValueError, match="additional_forward_args: expected the text"):
                make(name, ImageTextSimilarity(model)).attribute(make_images(model))
