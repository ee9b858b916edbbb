"""The core against plain float64 attention (oracles.py), on random open_clip models."""

from __future__ import annotations

import warnings

import open_clip
import oracles
import pytest
import torch
from torch import nn

from cci_captum import CCI, ImageTextSimilarity, KMeans, ZeroShotClassifier, find_vision_tower

pytestmark = pytest.mark.shared(among=4)

TOLERANCE = 1e-5  # relative, fp32
EFFECT = 1e-3  # hiding changes outputs at least this much, a hundred times the tolerance

CUSTOM = {"qk_norm": True, "scale_heads": True, "scale_attn": True, "scale_attn_inner": True}
MODELS = {
    "base": {},
    "one-block-one-head": {"layers": 1, "head_width": 32},
    "deep-many-heads": {"layers": 8, "width": 48, "head_width": 4},
    "wide-large-patch": {"width": 128, "head_width": 32, "patch_size": 16, "image_size": 48},
    "many-patches": {"patch_size": 4, "image_size": 40, "layers": 2},
    "tall-image": {"image_size": (56, 16)},
    "oblong-patch": {"patch_size": (4, 8), "image_size": (20, 32)},
    "ragged-border": {"image_size": (35, 29)},
    "average-pool": {"pool_type": "avg"},
    "average-pool-then-norm": {"pool_type": "avg", "final_ln_after_pool": True},
    "class-token-then-norm": {"final_ln_after_pool": True},
    "no-ln-pre": {"no_ln_pre": True},
    "layer-scale": {"ls_init_value": 0.1},
    "quick-gelu": {"quick_gelu": True},
    "sine-positions": {"pos_embed_type": "sin_cos_2d"},
    "large-epsilon": {"norm_kwargs": {"eps": 0.05}},
    "patch-dropout": {"patch_dropout": 0.5},
    "custom-block": {"block_type": "custom"},
    "custom-qk-norm": {"qk_norm": True},
    "custom-scale-heads": {"scale_heads": True},
    "custom-all": {**CUSTOM, "scale_fc": True, "ls_init_value": 0.1},
    "custom-average-pool": {**CUSTOM, "pool_type": "avg", "image_size": (24, 40)},
}


@pytest.fixture(params=MODELS, scope="module")
def case(request, make_clip, make_images):
    """A model, its Spec, images of its size, and the number of its patches."""
    model, spec = make_clip(seed=len(request.param), **MODELS[request.param])
    images = make_images(model)
    return model, spec, images, len(model.visual.positional_embedding) - 1


def random_masks(count: int, batch: int, seed: int = 0) -> torch.Tensor:
    """Masks (B, N) that hide different patches, and different numbers of them, in each image."""
    generator = torch.Generator().manual_seed(seed)
    fractions = torch.linspace(0.2, 0.7, batch)[:, None]
    return torch.rand(batch, count, generator=generator).argsort(1) < fractions * count


def repaint(images: torch.Tensor, mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The images with loud noise on every pixel of the hidden patches of ``size`` (h, w)."""
    height, width = size
    _, _, rows, columns = images.shape
    grid = mask.reshape(len(images), 1, rows // height, columns // width)
    pixels = grid.repeat_interleave(height, 2).repeat_interleave(width, 3)
    border = (0, columns - pixels.shape[3], 0, rows - pixels.shape[2])
    noise = 20 * torch.randn(images.shape, generator=torch.Generator().manual_seed(9))
    return torch.where(nn.functional.pad(pixels, border), noise, images)


def test_oracle_is_the_model_when_nothing_is_hidden(case):
    model, spec, images, _ = case
    with torch.no_grad():
        actual = model.encode_image(images)
    assert oracles.relative_error(actual, oracles.encode_image(model, spec, images)) < TOLERANCE


@pytest.mark.parametrize("hide", ["mask", "drop"])
def test_masked_outputs(case, hide):
    """Every dimension of the embedding is an output; clusters come from KMeans itself."""
    model, spec, images, _ = case
    effects = CCI(model.visual, clustering=KMeans(3), hide=hide).effects(images)
    expected = oracles.masked_outputs(
        lambda hidden: oracles.encode_image(model, spec, images, hidden), effects.labels, 3
    )
    plain = oracles.encode_image(model, spec, images)
    assert effects.labels.shape == (len(images), *find_vision_tower(model).grid(images))
    assert oracles.relative_error(effects.outputs, plain) < TOLERANCE
    assert oracles.relative_error(effects.masked_outputs, expected) < TOLERANCE
    for b in range(len(images)):
        for k in range(int(effects.num_clusters[b])):
            assert oracles.relative_error(expected[b, k], plain[b]) > EFFECT


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hide_any_patches(case, seed):
    """Masks that share nothing with clusters: by mask, by drop and the oracle agree."""
    model, spec, images, count = case
    mask = random_masks(count, len(images), seed)
    assert len(set(mask.sum(1).tolist())) > 1
    expected = oracles.encode_image(model, spec, images, mask)
    tower = find_vision_tower(model)
    with torch.no_grad():
        plain = model.encode_image(images)
        with tower.hide(mask, strategy="mask"):
            masked = model.encode_image(images)
        with tower.hide(mask, strategy="drop"):
            dropped = model.encode_image(images)
    assert oracles.relative_error(masked, expected) < TOLERANCE
    assert oracles.relative_error(dropped, expected) < TOLERANCE
    assert oracles.relative_error(masked, dropped) < TOLERANCE
    assert oracles.relative_error(plain, expected) > EFFECT


def test_scaled_cosine_attention(make_clip, make_images):
    """Not in the oracle, for open_clip 3.3 cannot run it; where it can, mask equals drop."""
    model, _ = make_clip(scaled_cosine_attn=True)
    images = make_images(model)
    mask, tower = random_masks(16, len(images)), find_vision_tower(model)
    with torch.no_grad():
        try:
            model.encode_image(images)
        except RuntimeError as error:
            pytest.skip(f"open_clip itself cannot run scaled_cosine_attn: {error}")
        with tower.hide(mask, strategy="mask"):
            masked = model.encode_image(images)
        with tower.hide(mask, strategy="drop"):
            assert oracles.relative_error(model.encode_image(images), masked) < TOLERANCE


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("strategy", ["mask", "drop"])
def test_towers_that_also_return_tokens(make_clip, make_images, strategy, pool):
    """CoCa-style output_tokens: the pooled embedding is right, the tokens keep their grid."""
    model, spec = make_clip(pool_type=pool)
    model.visual.output_tokens = True
    images = make_images(model)
    mask = random_masks(16, len(images))
    with torch.no_grad(), find_vision_tower(model).hide(mask, strategy=strategy):
        pooled, tokens = model.visual(images)
    expected = oracles.encode_image(model, spec, images, mask)
    assert oracles.relative_error(pooled, expected) < TOLERANCE
    assert tokens.shape == (3, 16, 32)


@pytest.mark.parametrize("strategy", ["mask", "drop"])
def test_hide_none_one_and_all(case, strategy):
    """In one batch: nothing hidden, all but one patch hidden, everything hidden."""
    model, spec, images, count = case
    mask = torch.zeros(3, count, dtype=torch.bool)
    mask[1, 1:] = True
    mask[2] = True
    with torch.no_grad(), find_vision_tower(model).hide(mask, strategy=strategy):
        actual = model.encode_image(images)
    expected = oracles.encode_image(model, spec, images, mask)
    assert torch.isfinite(actual).all()
    assert oracles.relative_error(actual, expected) < TOLERANCE


@pytest.mark.parametrize("strategy", ["mask", "drop"])
def test_pixels_of_hidden_patches_do_not_matter(case, strategy):
    model, _, images, count = case
    mask = random_masks(count, len(images))
    painted = repaint(images, mask, model.visual.patch_size)
    with torch.no_grad():
        assert oracles.relative_error(model.encode_image(painted), model.encode_image(images)) > 0.1
        with find_vision_tower(model).hide(mask, strategy=strategy):
            plain, noisy = model.encode_image(images), model.encode_image(painted)
    assert oracles.relative_error(noisy, plain) < 1e-6


@pytest.mark.parametrize("strategy", ["mask", "drop"])
def test_hiding_nothing_changes_nothing(case, strategy):
    model, _, images, count = case
    nothing = torch.zeros(len(images), count, dtype=torch.bool)
    with torch.no_grad():
        plain = model.encode_image(images)
        with find_vision_tower(model).hide(nothing, strategy=strategy):
            hidden = model.encode_image(images)
    assert oracles.relative_error(hidden, plain) < 1e-6


@pytest.mark.parametrize("layer", ["input", 0, -1, "projected"])
def test_recorded_tokens(case, layer):
    model, spec, images, _ = case
    tower = find_vision_tower(model)
    with torch.no_grad(), tower.record(layer) as recording:
        model.encode_image(images)
    expected = oracles.patch_tokens(model, spec, images, layer)
    assert recording.grid == tower.grid(images)
    assert oracles.relative_error(recording.tokens, expected) < TOLERANCE


@pytest.mark.parametrize("strategy", ["mask", "drop"])
@pytest.mark.parametrize("layer", ["input", 0, -1, "projected"])
def test_recorded_tokens_under_hide(case, layer, strategy):
    """Hidden patches are recorded as zeros, the others as if the hidden ones were not there."""
    model, spec, images, count = case
    mask = random_masks(count, len(images))
    tower = find_vision_tower(model)
    with torch.no_grad(), tower.hide(mask, strategy=strategy), tower.record(layer) as recording:
        model.encode_image(images)
    expected = oracles.patch_tokens(model, spec, images, layer, mask)
    assert (recording.tokens[mask] == 0).all()
    assert oracles.relative_error(recording.tokens, expected) < TOLERANCE


class Remember(KMeans):
    """K-means that keeps the embeddings it was last given."""

    def __call__(self, embeddings):
        self.embeddings = embeddings
        return super().__call__(embeddings)


@pytest.mark.parametrize("layer", ["input", 1, -2, -1, "projected"])
def test_the_clustered_embeddings_are_the_layers_tokens(make_clip, make_images, layer):
    model, spec = make_clip(seed=5)
    images = make_images(model)
    clustering = Remember(4)
    effects = CCI(model.visual, clustering=clustering, embedding_layer=layer).effects(images)
    expected = oracles.patch_tokens(model, spec, images, layer)
    assert oracles.relative_error(clustering.embeddings, expected) < TOLERANCE
    assert torch.equal(effects.labels.flatten(1), KMeans(4)(clustering.embeddings))


@pytest.mark.parametrize("custom_text", [False, True], ids=["CLIP", "CustomTextCLIP"])
@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("seed", [0, 1])
class TestWithText:
    """The whole of CCI, from pixels and text to drops, for both ready-made score modules."""

    def test_image_text_similarity(
        self, make_clip, make_images, tokenizer, custom_text, pool, seed
    ):
        model, spec = make_clip(seed, custom_text=custom_text, pool_type=pool)
        images, text = make_images(model, seed=seed), tokenizer(["a cat", "two dogs", "snow"])
        effects = CCI(ImageTextSimilarity(model), clustering=KMeans(4)).effects(images, text)
        texts = oracles.encode_text(model, spec, text)

        def score(hidden):
            return oracles.cosine(oracles.encode_image(model, spec, images, hidden), texts)

        expected = oracles.masked_outputs(score, effects.labels, 4)
        plain = oracles.cosine(oracles.encode_image(model, spec, images), texts)
        assert effects.outputs.shape == (3,)
        torch.testing.assert_close(effects.outputs.double(), plain, atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(
            effects.masked_outputs.double(), expected, atol=TOLERANCE, rtol=0
        )
        drops = plain[:, None] - expected
        assert drops.abs().amax(1).min() > EFFECT
        torch.testing.assert_close(effects.drops().double(), drops, atol=2 * TOLERANCE, rtol=0)

    @pytest.mark.parametrize("bias", [None, -3.0])
    @pytest.mark.parametrize("templates", [None, ["a {}.", "{} there", "one more {}"]])
    def test_zero_shot_classifier(
        self, make_clip, make_images, tokenizer, custom_text, pool, seed, bias, templates
    ):
        model, spec = make_clip(seed, custom_text=custom_text, pool_type=pool, logit_bias=bias)
        images, names = make_images(model, seed=seed), ["fox", "ship", "igloo", "lemon", "jar"]
        if templates is None:
            classifier = ZeroShotClassifier(model, tokenizer, names)
            templates = ["a photo of a {}."]
        else:
            classifier = ZeroShotClassifier(model, tokenizer, names, templates)
        effects = CCI(classifier, clustering=KMeans(4)).effects(images)

        def score(hidden):
            embeddings = oracles.encode_image(model, spec, images, hidden)
            return oracles.zero_shot_logits(model, spec, embeddings, tokenizer, names, templates)

        plain = score(torch.zeros_like(effects.labels.flatten(1), dtype=torch.bool))
        expected = oracles.masked_outputs(score, effects.labels, 4)
        assert effects.outputs.shape == (3, 5)
        assert oracles.relative_error(effects.outputs, plain) < TOLERANCE
        assert oracles.relative_error(effects.masked_outputs, expected) < TOLERANCE
        drops = plain[:, None] - expected
        assert drops.abs().amax((1, 2)).min() > EFFECT * plain.abs().max()
        targets = torch.tensor([4, 0, 2])
        chosen = torch.stack([drops[b, :, targets[b]] for b in range(3)])
        assert oracles.relative_error(effects.drops(targets), chosen) < 10 * TOLERANCE


def test_openais_templates(make_clip, make_images, tokenizer):
    model, spec = make_clip(seed=8)
    images, names = make_images(model), ["fox", "igloo"]
    templates = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    assert len(templates) == 80
    embeddings = oracles.encode_image(model, spec, images)
    expected = oracles.zero_shot_logits(model, spec, embeddings, tokenizer, names, templates)
    with torch.no_grad():
        logits = ZeroShotClassifier(model, tokenizer, names, "openai-imagenet")(images)
    assert oracles.relative_error(logits, expected) < TOLERANCE


def test_the_map_is_the_papers(make_clip, make_images, tokenizer):
    """S = sum_k w_k m_k, painted patch by patch, from the oracle's drops alone."""
    model, spec = make_clip(seed=3, image_size=(24, 40), patch_size=(8, 4))
    images, text = make_images(model, batch=6), tokenizer(["a", "b", "c", "d", "e", "f"])
    cci = CCI(ImageTextSimilarity(model), clustering=KMeans(3), normalization="paper")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this test is about images whose sum is positive
        attributions = cci.attribute(images, additional_forward_args=text)
        effects = cci.effects(images, text)
    texts = oracles.encode_text(model, spec, text)
    similarity = oracles.cosine(oracles.encode_image(model, spec, images), texts)
    masked = oracles.masked_outputs(
        lambda hidden: oracles.cosine(oracles.encode_image(model, spec, images, hidden), texts),
        effects.labels,
        3,
    )
    drops = similarity[:, None] - masked
    checked = 0
    for b in range(6):
        if drops[b].sum() <= 0.05:  # too close to zero for a relative comparison
            continue
        checked += 1
        weights = drops[b] / drops[b].sum()
        for y in range(24):
            for x in range(40):
                expected = weights[effects.labels[b, y // 8, x // 4]]
                assert abs(attributions[b, :, y, x].double() - expected).max() < 1e-3
    assert checked > 1
