"""What holds for every model and input: batching, side effects, edge cases, precisions."""

from __future__ import annotations

import contextlib

import oracles
import pytest
import torch
from helpers import Failure, close
from open_clip import CLIP
from torch import nn

from cci_captum import CCI, ImageTextSimilarity, KMeans, ZeroShotClassifier, find_vision_tower

NAMES = ["fox", "ship", "igloo", "lemon", "jar"]
VARIANTS = {"class-token": {}, "average": {"pool_type": "avg"}, "custom": {"qk_norm": True}}


class FixedClusters:
    """The same cluster of each patch for every image: ``labels`` (N,)."""

    def __init__(self, labels):
        self.labels = torch.as_tensor(labels)
        self.n_clusters = int(self.labels.max()) + 1

    def __call__(self, embeddings):
        return self.labels.expand(len(embeddings), -1).to(embeddings.device)


@pytest.fixture(params=VARIANTS)
def model(request, make_clip):
    return make_clip(seed=2, **VARIANTS[request.param])[0]


class TestBatching:
    @pytest.mark.parametrize("hide", ["mask", "drop"])
    def test_batch_of_8_equals_8_batches_of_1(self, model, make_images, tokenizer, hide):
        images, text = make_images(model, batch=8), tokenizer([str(i) * 5 for i in range(8)])
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(4), hide=hide)
        together, whole = cci.effects(images, text), cci.attribute(images, None, text)
        ones = [slice(i, i + 1) for i in range(8)]
        alone = [cci.effects(images[one], text[one]) for one in ones]
        maps = [cci.attribute(images[one], None, text[one]) for one in ones]
        # All together: a cosine near zero rounds as those of other images do, not by its own size.
        assert torch.equal(torch.cat([one.labels for one in alone]), together.labels)
        close(torch.cat([one.outputs for one in alone]), together.outputs)
        close(torch.cat([one.masked_outputs for one in alone]), together.masked_outputs)
        close(torch.cat(maps), whole, 1e-4)

    def test_neighbours_do_not_matter(self, model, make_images, tokenizer):
        """An image's result is the same next to loud, constant or repeated neighbours."""
        images = make_images(model, batch=4)
        odd = torch.stack([100 * images[1], torch.zeros_like(images[0]), images[2], images[2]])
        cci = CCI(ZeroShotClassifier(model, tokenizer, NAMES), clustering=KMeans(4))
        expected = cci.effects(images[2:3])
        effects = cci.effects(odd)
        for row in (2, 3):
            assert torch.equal(effects.labels[row], expected.labels[0])
            close(effects.masked_outputs[row], expected.masked_outputs[0])

    @pytest.mark.parametrize("hide", ["mask", "drop"])
    @pytest.mark.parametrize("size", [1, 3, 100])
    def test_internal_batch_size(self, model, make_images, tokenizer, size, hide):
        images, text = make_images(model, batch=5), tokenizer([str(i) * 5 for i in range(5)])
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(4), hide=hide)
        expected = cci.effects(images, text)
        effects = cci.effects(images, text, internal_batch_size=size)
        assert torch.equal(effects.labels, expected.labels)
        assert torch.equal(effects.num_clusters, expected.num_clusters)
        close(effects.outputs, expected.outputs)
        close(effects.masked_outputs, expected.masked_outputs)
        attributions = cci.attribute(images, None, text, internal_batch_size=size)
        close(attributions, expected.attributions(), 1e-4)

    @pytest.mark.parametrize("size", [1, 2, 5])
    def test_internal_batch_size_bounds_the_forward_passes(self, model, make_images, size):
        sizes = []

        def forward(images):
            sizes.append(len(images))
            return model.encode_image(images)

        tower = find_vision_tower(model)
        CCI(forward, tower, clustering=KMeans(4)).effects(
            make_images(model, batch=5), internal_batch_size=size, check=False
        )
        assert max(sizes) <= size
        assert sum(sizes) >= 5 * 5  # every image once plain and once per cluster

    def test_one_plain_and_k_masked_passes_whatever_the_targets(self, model, make_images):
        rows = []
        tower = find_vision_tower(model)

        def forward(images):
            rows.append(len(images))
            return model.encode_image(images)

        cci = CCI(forward, tower, clustering=FixedClusters(torch.arange(16) % 4))
        effects = cci.effects(make_images(model, batch=3), check=False)
        for target in range(effects.outputs.shape[1]):
            effects.drops(target)
        assert sum(rows) == 3 * (4 + 1)

    def test_show_progress_changes_nothing(self, model, make_images, tokenizer, capsys):
        cci = CCI(ZeroShotClassifier(model, tokenizer, NAMES), clustering=KMeans(3))
        images = make_images(model, batch=4)
        silent = cci.attribute(images, 1, internal_batch_size=2)
        assert capsys.readouterr() == ("", "")
        shown = cci.attribute(images, 1, internal_batch_size=2, show_progress=True)
        out, err = capsys.readouterr()
        assert out == ""
        assert err != ""
        assert torch.equal(shown, silent)

    def test_repeatable_and_the_random_state_is_untouched(self, model, make_images, tokenizer):
        cci = CCI(ZeroShotClassifier(model, tokenizer, NAMES), clustering=KMeans(4))
        images = make_images(model)
        state = torch.get_rng_state()
        first = cci.attribute(images, 1)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(12345)
        assert torch.equal(cci.attribute(images, 1), first)


def tokens_of_hooks(module):
    """Every hook of every submodule, in order, and the identity of every attribute."""
    return {
        name: {
            key: list(value.items()) if "hooks" in key and value is not None else id(value)
            for key, value in vars(part).items()
        }
        for name, part in module.named_modules()
    }


def global_hooks():
    parts = vars(torch.nn.modules.module)
    return {k: list(v.items()) for k, v in parts.items() if k.startswith("_global") and v}


@contextlib.contextmanager
def untouched(module, *tensors):
    """Assert that the block leaves the module and the tensors as they were, bit for bit."""
    state = {k: v.clone() for k, v in module.state_dict(keep_vars=False).items()}
    buffers = {k: v.clone() for k, v in module.named_buffers()}
    hooks, everywhere = tokens_of_hooks(module), global_hooks()
    modes = {name: part.training for name, part in module.named_modules()}
    needs = {name: p.requires_grad for name, p in module.named_parameters()}
    copies = [t.clone() for t in tensors]
    grad_mode = torch.is_grad_enabled()
    yield
    assert state.keys() == module.state_dict().keys()
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert all(torch.equal(v, buffers[k]) for k, v in module.named_buffers())
    assert tokens_of_hooks(module) == hooks
    assert global_hooks() == everywhere
    assert {name: part.training for name, part in module.named_modules()} == modes
    assert {name: p.requires_grad for name, p in module.named_parameters()} == needs
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(t, c) and t.grad is None for t, c in zip(tensors, copies, strict=True))
    assert torch.is_grad_enabled() == grad_mode


def dress(model):
    """Mixed training modes and requires_grad flags, and user hooks that log when they run."""
    model.train()
    model.visual.transformer.resblocks[0].eval()
    model.visual.transformer.resblocks[1].attn.eval()
    model.visual.conv1.weight.requires_grad_(False)
    log = []
    for part, name in ((model.visual, "visual"), (model.visual.transformer.resblocks[1], "block")):
        part.register_forward_pre_hook(lambda *_, n=name: log.append(f"before {n}"))
        part.register_forward_hook(lambda *_, n=name: log.append(f"after {n}"))
    attention = model.visual.transformer.resblocks[1].attn
    attention.register_forward_pre_hook(lambda *_: log.append("attention"))
    model.visual.ln_post.register_forward_hook(lambda *_: log.append("norm"))
    return log


USER_HOOKS = [
    "before visual",
    "before block",
    "attention",
    "after block",
    "norm",
    "after visual",
]


class TestSideEffects:
    @pytest.mark.parametrize("hide", ["mask", "drop"])
    @pytest.mark.parametrize("layer", ["input", 0, -1, "projected"])
    def test_everything_is_as_before(self, model, make_images, tokenizer, hide, layer):
        log = dress(model)
        classifier = ZeroShotClassifier(model, tokenizer, NAMES)
        images = make_images(model)
        cci = CCI(classifier, clustering=KMeans(3), hide=hide, embedding_layer=layer)
        log.clear()
        with untouched(classifier, images):
            cci.attribute(images, 2)
        assert log
        assert len(log) % len(USER_HOOKS) == 0
        assert log == USER_HOOKS * (len(log) // len(USER_HOOKS))
        log.clear()
        model.encode_image(images)
        assert log == USER_HOOKS

    @pytest.mark.parametrize("hide", ["mask", "drop"])
    @pytest.mark.parametrize("where", ["in the score", "in the tower", "in a block"])
    @pytest.mark.parametrize("when", ["first", "middle", "last"])
    def test_after_an_exception(self, model, make_images, hide, where, when):
        calls, fatal = 0, None

        def tick(*_):
            nonlocal calls
            calls += 1
            if calls == fatal:
                raise Failure

        def score(images):
            embeddings = model.encode_image(images)
            if where == "in the score":
                tick()
            return embeddings

        dress(model)
        if where == "in the tower":
            model.visual.register_forward_hook(tick)
        if where == "in a block":
            model.visual.transformer.resblocks[1].mlp.register_forward_hook(tick)
        images, tower = make_images(model), find_vision_tower(model)
        cci = CCI(score, tower, clustering=KMeans(4), hide=hide)
        expected = cci.attribute(images, 0, internal_batch_size=2, check=False)
        passes, calls = calls, 0
        assert passes > 3
        fatal = {"first": 1, "middle": passes // 2, "last": passes}[when]
        with untouched(model, images), pytest.raises(Failure):
            cci.attribute(images, 0, internal_batch_size=2)
        assert calls == fatal
        assert torch.equal(cci.attribute(images, 0, internal_batch_size=2), expected)

    def test_after_the_clustering_raises(self, model, make_images):
        class Broken(KMeans):
            def __call__(self, embeddings):
                raise Failure

        dress(model)
        images = make_images(model)
        with untouched(model, images), pytest.raises(Failure):
            CCI(model.visual, clustering=Broken(3)).attribute(images, 0)

    @pytest.mark.parametrize("strategy", ["mask", "drop"])
    def test_hide_and_record_are_undone_on_an_exception(self, model, make_images, strategy):
        images, tower = make_images(model), find_vision_tower(model)
        mask = torch.zeros(3, 16, dtype=torch.bool)
        mask[:, ::2] = True
        with (
            untouched(model),
            pytest.raises(Failure),
            tower.hide(mask, strategy=strategy),
            tower.record(-1),
        ):
            model.encode_image(images)
            raise Failure
        with torch.no_grad(), tower.hide(mask, strategy=strategy), tower.record(-1) as recording:
            model.encode_image(images)  # usable again, nothing left over
        assert recording.tokens.shape == (3, 16, 32)

    @pytest.mark.parametrize(
        "mode", [torch.no_grad, torch.enable_grad, torch.inference_mode, contextlib.nullcontext]
    )
    def test_grad_modes_of_the_caller(self, model, make_images, mode):
        images = make_images(model)
        cci = CCI(model.visual, clustering=KMeans(3))
        expected = cci.attribute(images, 1)
        with untouched(model, images), mode():
            before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            attributions, effects = cci.attribute(images, 1), cci.effects(images)
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
        close(attributions, expected, 1e-4)
        results = (attributions, effects.outputs, effects.masked_outputs, effects.weights(1))
        assert not any(t.requires_grad for t in results)

    def test_no_graph_is_built(self, model, make_images):
        """Results would be detached anyway, but the memory of a graph would be held meanwhile."""
        seen = []

        def score(images):
            seen.append(model.encode_image(images))
            return seen[-1]

        cci = CCI(score, find_vision_tower(model), clustering=KMeans(3))
        with torch.enable_grad():
            cci.attribute(make_images(model).requires_grad_(), 1)
        assert seen
        assert not any(embedding.requires_grad for embedding in seen)

    def test_the_models_gradients_are_the_same_afterwards(self, model, make_images):
        images = make_images(model).requires_grad_()

        def gradient():
            return torch.autograd.grad(model.encode_image(images).sum(), images)[0]

        before = gradient()
        CCI(model.visual, clustering=KMeans(3)).attribute(images, 1)
        assert torch.equal(gradient(), before)

    def test_inputs_that_require_grad(self, model, make_images):
        plain = make_images(model)
        images = plain.clone().requires_grad_()
        cci = CCI(model.visual, clustering=KMeans(3))
        with untouched(model, images):
            attributions = cci.attribute(images, 1)
        assert images.requires_grad
        assert images.is_leaf
        assert not attributions.requires_grad
        assert attributions.grad_fn is None
        assert torch.equal(attributions, cci.attribute(plain, 1))


class TestEdges:
    """Degenerate partitions and images: the results are defined, and the known ones."""

    @pytest.mark.parametrize("hide", ["mask", "drop"])
    def test_a_cluster_of_all_patches(self, model, make_images, tokenizer, hide):
        cci = CCI(ZeroShotClassifier(model, tokenizer, NAMES), clustering=KMeans(1), hide=hide)
        images = make_images(model)
        effects = cci.effects(images)
        assert (effects.labels == 0).all()
        assert effects.masked_outputs.shape == (3, 1, 5)
        assert torch.isfinite(effects.masked_outputs).all()
        # Nothing of the image is left, so what remains is the same for every image.
        first = effects.masked_outputs[:1].expand(3, -1, -1)
        torch.testing.assert_close(effects.masked_outputs, first, atol=1e-5, rtol=1e-5)
        weights = effects.weights(2)
        assert torch.equal(weights, effects.drops(2).sign())
        attributions = cci.attribute(images, 2)
        assert torch.equal(attributions, weights[:, :, None, None].expand_as(images))

    @pytest.mark.parametrize("hide", ["mask", "drop"])
    @pytest.mark.parametrize("pool", ["tok", "avg"])
    def test_one_patch(self, make_clip, make_images, hide, pool):
        model, spec = make_clip(1, image_size=16, patch_size=16, pool_type=pool)
        images = make_images(model)
        effects = CCI(model.visual, clustering=KMeans(5), hide=hide).effects(images)
        assert effects.labels.shape == (3, 1, 1)
        assert effects.num_clusters.tolist() == [1, 1, 1]
        everything = torch.ones(3, 1, dtype=torch.bool)
        expected = oracles.encode_image(model, spec, images, everything)
        assert (effects.masked_outputs[:, 0] - expected).abs().max() < 1e-5
        assert effects.drops(0).shape == (3, 1)
        assert torch.isfinite(effects.attributions(0)).all()

    def test_a_constant_image(self, make_clip, tokenizer):
        """Without positions all patches are the same, so there is one cluster."""
        model, _ = make_clip(4)
        model.visual.positional_embedding.data[1:] = model.visual.positional_embedding.data[1]
        images = torch.stack([torch.zeros(3, 32, 32), torch.full((3, 32, 32), 0.7)])
        for layer in ("input", -1, "projected"):
            cci = CCI(
                ZeroShotClassifier(model, tokenizer, NAMES),
                clustering=KMeans(4),
                embedding_layer=layer,
            )
            effects = cci.effects(images)
            assert torch.isfinite(effects.attributions(3)).all()
            if layer == "input":  # bitwise equal patches; deeper, rounding may tell them apart
                assert effects.num_clusters.tolist() == [1, 1]

    def test_a_constant_image_with_positions(self, model, tokenizer):
        cci = CCI(ZeroShotClassifier(model, tokenizer, NAMES), clustering=KMeans(4))
        for value in (0.0, 1.0, -3.0):
            images = torch.full((1, 3, 32, 32), value)
            assert torch.isfinite(cci.attribute(images, 0)).all()

    @pytest.mark.parametrize("k", [16, 17, 40])
    def test_as_many_clusters_as_patches_or_more(self, model, make_images, k):
        """Each patch is its own cluster, and there is no column without one."""
        images = make_images(model)
        effects = CCI(model.visual, clustering=KMeans(k)).effects(images)
        assert effects.num_clusters.tolist() == [16, 16, 16]
        assert effects.labels.flatten(1).sort(1).values.tolist() == [list(range(16))] * 3
        assert effects.masked_outputs.shape[:2] == (3, 16)
        assert effects.clusters.tolist() == [list(range(16))] * 3
        assert (effects.drops(5) != 0).all()

    def test_empty_clusters_of_some_images_only(self, model, make_images):
        """A clustering may return fewer clusters for one image than for another."""

        class Uneven:
            n_clusters = 4

            def __call__(self, embeddings):
                position = torch.arange(embeddings.shape[1])
                return torch.stack([position % (1 + b % 4) for b in range(len(embeddings))])

        images = make_images(model, batch=4)
        effects = CCI(model.visual, clustering=Uneven()).effects(images)
        assert effects.num_clusters.tolist() == [1, 2, 3, 4]
        drops = effects.drops(1)
        for b in range(4):
            assert (drops[b, : b + 1] != 0).all()
            assert (drops[b, b + 1 :] == 0).all()
            assert torch.equal(effects.masked_outputs[b, b + 1 :], effects.outputs[[b] * (3 - b)])

    def test_a_score_that_ignores_the_image(self, model, make_images):
        tower = find_vision_tower(model)

        def constant(images):
            return model.encode_image(images)[:, 0] * 0 + 3

        cci = CCI(constant, tower, clustering=KMeans(3))
        effects = cci.effects(make_images(model))
        assert (effects.drops() == 0).all()
        assert (effects.weights() == 0).all()
        assert (cci.attribute(make_images(model)) == 0).all()

    def test_an_ignored_patch_opposes_and_a_used_one_supports(self, make_clip):
        """A model that reads patches alone: hiding one moves the average by a known amount."""
        model, _ = make_clip(0, pool_type="avg", layers=1, no_ln_pre=True)
        visual = model.visual
        with torch.no_grad():
            block = visual.transformer.resblocks[0]
            for part in (block.attn.out_proj, block.mlp.c_proj):
                part.weight.zero_()
                part.bias.zero_()
            visual.positional_embedding.zero_()
            visual.conv1.weight.zero_()
            visual.conv1.weight[0] = 1 / 192  # channel 0 is the mean of the patch
        visual.ln_post = nn.Identity()
        visual.proj = nn.Parameter(torch.eye(32)[:, :1])
        values = torch.arange(16.0) - 4  # some patches below zero
        images = values.reshape(1, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
        for hide in ("mask", "drop"):
            cci = CCI(visual, clustering=FixedClusters(torch.arange(16)), hide=hide)
            drops = cci.effects(images.expand(1, 3, -1, -1)).drops(0)[0]
            expected = values.mean() - (values.sum() - values) / 15
            torch.testing.assert_close(drops, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("hide", ["mask", "drop"])
class TestPrecisions:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
    def test_half_precision_model(self, make_clip, make_images, dtype, hide, pool):
        model, spec = make_clip(0, pool_type=pool)
        images = make_images(model)
        model, images = model.to(dtype), images.to(dtype)
        try:
            with torch.no_grad():
                model.encode_image(images)
        except RuntimeError as error:
            pytest.skip(f"this device lacks an operation in {dtype}: {error}")
        self.check(model, spec, images, hide, attribution_dtype=torch.float32)

    @pytest.mark.parametrize("train", [False, True])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
    def test_autocast(self, make_clip, make_images, hide, pool, train, dtype):
        model, spec = make_clip(0, pool_type=pool)
        with torch.autocast("cpu", dtype=dtype):
            self.check(model.train(train), spec, make_images(model), hide, torch.float32)

    def test_double(self, make_clip, make_images, hide, pool):
        model, spec = make_clip(0, pool_type=pool)
        images = make_images(model).double()
        self.check(model.double(), spec, images, hide, torch.float64, tolerance=1e-10)

    @pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
    @pytest.mark.parametrize("pixels", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
    def test_images_of_another_precision(
        self, make_clip, make_images, tokenizer, hide, pool, weights, pixels
    ):
        """The ready-made scores cast images, so that either may be in half precision."""
        model, _ = make_clip(0, pool_type=pool)
        images, text = make_images(model), tokenizer(["a", "b", "c"])
        expected = CCI(ImageTextSimilarity(model), clustering=KMeans(3)).effects(images, text)
        model, images = model.to(weights), images.to(pixels)
        for forward, args in (
            (ImageTextSimilarity(model), text),
            (ZeroShotClassifier(model, tokenizer, NAMES), None),
        ):
            cci = CCI(forward, clustering=FixedClusters(torch.arange(16) % 3), hide=hide)
            effects = cci.effects(images, args)
            target = None if args is not None else 1
            attributions = effects.attributions(target)
            assert attributions.dtype == effects.outputs.dtype == torch.float32
            assert torch.isfinite(attributions).all()
        similarity = CCI(ImageTextSimilarity(model), hide=hide).effects(images, text)
        torch.testing.assert_close(similarity.outputs, expected.outputs, atol=0.02, rtol=0)

    def check(self, model, spec, images, hide, attribution_dtype, tolerance=0.05):
        effects = CCI(model.visual, clustering=KMeans(3), hide=hide).effects(images)
        expected = oracles.masked_outputs(
            lambda hidden: oracles.encode_image(model, spec, images, hidden), effects.labels, 3
        )
        assert oracles.relative_error(effects.masked_outputs, expected) < tolerance
        plain = effects.outputs[:, None].expand_as(expected)
        assert oracles.relative_error(plain, expected) > 4 * tolerance
        attributions = CCI(model.visual, clustering=KMeans(3), hide=hide).attribute(images, 1)
        assert attributions.dtype == attribution_dtype
        assert attributions.shape == images.shape
        assert torch.isfinite(attributions).all()
        one_norm = effects.weights(1).abs().sum(1)
        torch.testing.assert_close(one_norm.float(), torch.ones(3), atol=1e-2, rtol=0)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
    def test_hidden_is_hidden_exactly(self, make_clip, make_images, dtype, hide, pool):
        """No residue of a hidden patch, however coarse the arithmetic."""
        model, _ = make_clip(0, pool_type=pool)
        model, images = model.to(dtype), make_images(model).to(dtype)
        mask = torch.zeros(3, 16, dtype=torch.bool)
        mask[:, :4] = True  # the top row of patches
        painted = images.clone()
        painted[:, :, :8] = 30 * torch.randn(3, 3, 8, 32).to(dtype)
        try:
            with torch.no_grad(), find_vision_tower(model).hide(mask, strategy=hide):
                assert torch.equal(model.encode_image(painted), model.encode_image(images))
        except RuntimeError as error:
            pytest.skip(f"this device lacks an operation in {dtype}: {error}")


class TestModes:
    @pytest.mark.parametrize("hide", ["mask", "drop"])
    @pytest.mark.parametrize("checkpointing", [False, True])
    def test_train_mode_and_checkpointing(self, model, make_images, hide, checkpointing):
        """These models have no dropout, so train mode computes what eval mode does."""
        images = make_images(model)
        cci = CCI(model.visual, clustering=KMeans(3), hide=hide)
        expected = cci.effects(images)
        model.train()
        if checkpointing:
            model.set_grad_checkpointing()
            try:
                model.encode_image(images)
            except TypeError as error:
                pytest.skip(f"open_clip cannot checkpoint this block itself: {error}")
        effects = cci.effects(images)
        assert torch.equal(effects.labels, expected.labels)
        close(effects.masked_outputs, expected.masked_outputs)
        close(effects.outputs, expected.outputs)

    @pytest.mark.parametrize("hide", ["mask", "drop"])
    def test_patch_dropout_is_inactive(self, make_clip, make_images, hide):
        """In train mode too: a dropped patch would be hidden from some passes only."""
        model, spec = make_clip(0, patch_dropout=0.5)
        images = make_images(model)
        model.train()
        with torch.no_grad():
            assert not torch.equal(model.encode_image(images), model.encode_image(images))
        effects = CCI(model.visual, clustering=KMeans(3), hide=hide).effects(images)
        plain = oracles.encode_image(model, spec, images)
        expected = oracles.masked_outputs(
            lambda hidden: oracles.encode_image(model, spec, images, hidden), effects.labels, 3
        )
        close(effects.outputs, plain)
        close(effects.masked_outputs, expected)
        with torch.no_grad():
            assert not torch.equal(model.encode_image(images), model.encode_image(images))

    def test_channels_last_and_non_contiguous_inputs(self, model, make_images):
        images = make_images(model)
        cci = CCI(model.visual, clustering=KMeans(3))
        expected = cci.attribute(images, 1)
        strided = torch.randn(3, 3, 32, 64)
        strided[..., ::2] = images
        for same in (images.to(memory_format=torch.channels_last), strided[..., ::2]):
            close(cci.attribute(same, 1), expected, 1e-4)


class TestTower:
    """What the tower says of itself, and what it refuses."""

    def test_facts(self, make_clip):
        model, _ = make_clip(image_size=(24, 40), patch_size=(8, 4))
        tower = find_vision_tower(model)
        assert tower.module is model.visual
        assert tower.num_prefix_tokens == 1
        assert tower.grid(torch.zeros(2, 3, 24, 40)) == (3, 10)

    def test_found_at_any_depth(self, make_clip, tokenizer):
        model, _ = make_clip()
        classifier = ZeroShotClassifier(model, tokenizer, NAMES)
        for module in (model, model.visual, nn.Sequential(nn.Identity(), model), classifier):
            assert find_vision_tower(module).module is model.visual

    def test_none_or_several(self, make_clip):
        with pytest.raises(ValueError, match="VisionTransformer"):
            find_vision_tower(nn.Sequential(nn.Linear(2, 2)))
        two = nn.ModuleDict({"teacher": make_clip()[0], "student": make_clip()[0]})
        with pytest.raises(ValueError, match=r"(?s)teacher\.visual.*student\.visual"):
            find_vision_tower(two)

    def test_the_same_tower_twice_is_one(self, make_clip):
        model, _ = make_clip()
        assert find_vision_tower(nn.ModuleList([model, model])).module is model.visual

    @pytest.mark.parametrize(
        ("cfg", "message"),
        [
            ({"layers": (1, 1, 1, 1), "width": 16}, "ModifiedResNet"),
            ({"layers": 1, "width": 16, "head_width": 8, "pool_type": "none"}, "none"),
        ],
    )
    def test_towers_it_cannot_read(self, cfg, message):
        text = {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1}
        cfg = {"image_size": 32, "patch_size": 8, **cfg}
        model = CLIP(16, cfg, text)
        with pytest.raises(TypeError, match=message):
            find_vision_tower(model)

    @pytest.mark.parametrize(
        ("mask", "error"),
        [
            (torch.zeros(3, 16), (TypeError, ValueError)),
            (torch.zeros(3, 16, dtype=torch.int64), (TypeError, ValueError)),
            (torch.zeros(16, dtype=torch.bool), ValueError),
            (torch.zeros(3, 4, 4, dtype=torch.bool), ValueError),
            (torch.zeros(3, 15, dtype=torch.bool), ValueError),
            (torch.zeros(3, 17, dtype=torch.bool), ValueError),
            (torch.zeros(2, 16, dtype=torch.bool), ValueError),
            ([[False] * 16] * 3, TypeError),
        ],
    )
    @pytest.mark.parametrize("strategy", ["mask", "drop"])
    def test_wrong_masks(self, make_clip, make_images, mask, error, strategy):
        model, _ = make_clip()
        images, tower = make_images(model), find_vision_tower(model)
        with (
            untouched(model),
            pytest.raises(error, match="mask"),
            tower.hide(mask, strategy=strategy),
        ):
            model.encode_image(images)

    def test_unknown_strategy_and_layers(self, make_clip, make_images):
        model, _ = make_clip(layers=3)
        images, tower = make_images(model), find_vision_tower(model)
        mask = torch.zeros(3, 16, dtype=torch.bool)
        blurred = pytest.raises(ValueError, match="strategy: expected one of mask, drop, got")
        with blurred, tower.hide(mask, strategy="blur"):
            pass
        for layer in (3, -4, "output", 1.5, None):
            refused = pytest.raises((ValueError, TypeError), match=rf"layer.*{layer}")
            with refused, tower.record(layer):
                model.encode_image(images)

    def test_hide_inside_hide(self, make_clip):
        model, _ = make_clip()
        mask = torch.zeros(3, 16, dtype=torch.bool)
        outer, again = find_vision_tower(model), find_vision_tower(model)
        for tower in (outer, again):
            refused = pytest.raises(RuntimeError, match="hide")
            with untouched(model), outer.hide(mask), refused, tower.hide(mask):
                pass
        with outer.hide(mask):  # free again
            pass

    def test_images_of_another_size(self, make_clip):
        model, _ = make_clip()
        with untouched(model), pytest.raises(ValueError, match="32"):
            CCI(model.visual).attribute(torch.zeros(1, 3, 40, 40), 0)

    @pytest.mark.parametrize("pool", ["tok", "avg"])
    @pytest.mark.parametrize("strategy", ["mask", "drop"])
    def test_cci_inside_hide_is_refused_or_right(self, make_clip, make_images, pool, strategy):
        """CCI makes its own adapter: hiding the same module twice must not mix silently."""
        model, spec = make_clip(qk_norm=True, pool_type=pool)
        images = make_images(model, batch=1)
        outer = torch.zeros(1, 16, dtype=torch.bool)
        outer[:, 3:7] = True
        cci = CCI(model.visual, clustering=FixedClusters(torch.arange(16) % 4))
        with find_vision_tower(model).hide(outer, strategy=strategy):
            try:
                effects = cci.effects(images, internal_batch_size=1)
            except RuntimeError as error:
                assert "hid" in str(error)
                return
        hidden = outer | (torch.arange(16) % 4 == 0)
        close(effects.masked_outputs[:, 0], oracles.encode_image(model, spec, images, hidden))

    def test_recording_without_a_forward_pass(self, make_clip):
        """Asking for tokens of a model that never ran is an error, not an attribute puzzle."""
        model, _ = make_clip()
        with find_vision_tower(model).record(-1) as recording:
            pass
        with pytest.raises(RuntimeError, match="forward"):
            recording.tokens  # noqa: B018
