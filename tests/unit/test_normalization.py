"""Weights and maps from drops: hand-made effects with known answers."""

from __future__ import annotations

import warnings

import pytest
import torch
from helpers import close
from torch.nn import functional as F

from cci_captum import CCI, ClusterEffects, ImageTextSimilarity, KMeans
from cci_captum.vision_towers import find_vision_tower

# Rows: all positive; mixed, sum > 0; mixed, sum < 0; sum exactly 0; all negative; all zero.
DROPS = torch.tensor(
    [
        [0.5, 0.25, 0.25, 0.0],
        [0.5, -0.25, 0.25, 0.125],
        [0.25, -0.5, 0.125, -0.125],
        [0.5, -0.5, 0.25, -0.25],
        [-0.5, -0.25, -0.125, -0.125],
        [0.0, 0.0, 0.0, 0.0],
    ]
)


def effects_of(drops, normalization="relative", labels=None, size=(8, 8)):
    """Effects of 2 x 2 patches with the given drops (B, K); outputs are 1 everywhere."""
    outputs = torch.ones(len(drops), dtype=drops.dtype)
    if labels is None:
        labels = torch.arange(4).reshape(1, 2, 2).expand(len(drops), -1, -1)
    return ClusterEffects(
        labels=labels,
        outputs=outputs,
        masked_outputs=outputs[:, None] - drops,
        image_shape=(3, *size),
        normalization=normalization,
    )


def test_drops_are_outputs_minus_masked_outputs():
    torch.testing.assert_close(effects_of(DROPS).drops(), DROPS, atol=0, rtol=0)


class TestRelative:
    def test_equals_the_formula(self):
        weights = effects_of(DROPS).weights()
        for b in range(5):
            total = sum(abs(d) for d in DROPS[b].tolist())
            expected = [d / total for d in DROPS[b].tolist()]
            assert weights[b].tolist() == pytest.approx(expected, abs=1e-7)
        assert (weights[5] == 0).all()

    @pytest.mark.parametrize("seed", range(5))
    def test_keeps_order_and_sign_whatever_the_signs(self, seed):
        drops = torch.randn(50, 7, generator=torch.Generator().manual_seed(seed))
        drops[10:20] -= 2  # mostly negative
        effects = effects_of(drops)
        drops, weights = effects.drops(), effects.weights()
        assert (weights.gather(1, drops.argsort(1)).diff(dim=1) >= 0).all()
        assert torch.equal(weights.sign(), drops.sign())
        torch.testing.assert_close(weights.abs().sum(1), torch.ones(50))

    def test_equals_the_papers_where_no_drop_is_negative(self):
        drops = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
        effects, paper = effects_of(drops), effects_of(drops, "paper")
        torch.testing.assert_close(effects.weights(), paper.weights(), rtol=1e-6, atol=0)

    @pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
    def test_does_not_depend_on_the_scale_of_the_score(self, scale):
        drops = DROPS[:5].double()
        scaled = ClusterEffects(
            labels=torch.zeros(5, 2, 2, dtype=torch.int64),
            outputs=torch.zeros(5, dtype=torch.float64),
            masked_outputs=-drops * scale,
            image_shape=(3, 8, 8),
            normalization="relative",
        )
        torch.testing.assert_close(
            scaled.weights().double(), effects_of(drops).weights().double(), atol=1e-6, rtol=0
        )

    def test_zero_drops_give_zeros_without_a_warning(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            effects = effects_of(torch.zeros(2, 4))
            assert (effects.weights() == 0).all()
            assert (effects.attributions() == 0).all()


class TestPaper:
    def test_equals_the_formula_where_the_sum_is_positive(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            weights = effects_of(DROPS[:2], "paper").weights()
        assert weights[0].tolist() == pytest.approx([0.5, 0.25, 0.25, 0.0])
        assert weights[1].tolist() == pytest.approx([0.8, -0.4, 0.4, 0.2])
        torch.testing.assert_close(weights.sum(1), torch.ones(2))

    @pytest.mark.parametrize("row", [2, 3, 4, 5])
    def test_warns_and_falls_back_where_it_is_not(self, row):
        with pytest.warns(UserWarning, match="sum"):
            weights = effects_of(DROPS[row : row + 1], "paper").weights()
        assert torch.equal(weights, effects_of(DROPS[row : row + 1]).weights())
        assert torch.isfinite(weights).all()

    def test_the_fallback_is_image_by_image(self):
        with pytest.warns(UserWarning):
            weights = effects_of(DROPS, "paper").weights()
        assert weights[1].tolist() == pytest.approx([0.8, -0.4, 0.4, 0.2])
        relative = effects_of(DROPS).weights()
        assert torch.equal(weights[2:], relative[2:])
        assert not torch.equal(weights[1], relative[1])


def test_none_gives_the_drops():
    assert torch.equal(effects_of(DROPS, "none").weights(), effects_of(DROPS).drops())


def test_unknown_normalization(make_clip):
    model, _ = make_clip()
    with pytest.raises(ValueError, match=r"normalization.*relative.*paper.*none.*softmax"):
        CCI(model, normalization="softmax")


class TestTargets:
    """Outputs (B, C): the normalisation is that of the chosen column alone."""

    def make(self):
        generator = torch.Generator().manual_seed(0)
        return ClusterEffects(
            labels=torch.tensor([[[0, 1], [2, 2]], [[0, 0], [0, 1]]]),
            outputs=torch.randn(2, 5, generator=generator),
            masked_outputs=torch.randn(2, 3, 5, generator=generator),
            image_shape=(3, 4, 6),
            normalization="relative",
        )

    @pytest.mark.parametrize("target", range(5))
    def test_one_class(self, target):
        effects = self.make()
        drops = effects.outputs[:, target, None] - effects.masked_outputs[:, :, target]
        assert torch.equal(effects.drops(target), drops)
        torch.testing.assert_close(effects.weights(target), drops / drops.abs().sum(1, True))

    def test_a_class_per_image(self):
        effects = self.make()
        expected = torch.stack([effects.drops(4)[0], effects.drops(1)[1]])
        for target in ([4, 1], torch.tensor([4, 1]), [(4,), (1,)]):
            assert torch.equal(effects.drops(target), expected)

    def test_of_one_image_alone(self):
        """A batch of one takes the same kinds of target, lists of one among them."""
        both = self.make()
        effects = ClusterEffects(
            both.labels[:1], both.outputs[:1], both.masked_outputs[:1], (3, 4, 6), "relative"
        )
        for target in (4, [4], torch.tensor([4]), torch.tensor(4), (4,), [(4,)]):
            assert torch.equal(effects.drops(target), both.drops(4)[:1])

    def test_patch_map_and_attributions(self):
        effects = self.make()
        weights, patches = effects.weights(3), effects.patch_map(3)
        assert patches.shape == (2, 2, 2)
        attributions = effects.attributions(3)
        assert attributions.shape == (2, 3, 4, 6)
        for b in range(2):
            for i in range(2):
                for j in range(2):
                    weight = weights[b, effects.labels[b, i, j]]
                    assert patches[b, i, j] == weight
                    block = attributions[b, :, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3]
                    assert (block == weight).all()


class TestUpsampling:
    @pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
    @pytest.mark.parametrize("size", [(8, 8), (12, 20), (7, 9)])
    def test_smooth_modes_are_torchs(self, mode, size):
        effects = effects_of(DROPS, size=size)
        patches = effects.patch_map()[:, None]
        expected = F.interpolate(patches, size, mode=mode, align_corners=False)
        attributions = effects.attributions(upsample=mode)
        torch.testing.assert_close(attributions, expected.expand(-1, 3, -1, -1))

    @pytest.mark.parametrize("size", [(8, 8), (6, 10), (7, 9)])
    def test_nearest_makes_no_new_values(self, size):
        effects = effects_of(DROPS, size=size)
        attributions = effects.attributions()
        assert attributions.shape == (6, 3, *size)
        for b in range(6):
            assert set(attributions[b].unique().tolist()) == set(effects.weights()[b].tolist())

    def test_unknown_mode(self):
        with pytest.raises(ValueError, match=r"upsample.*nearest.*bilinear.*bicubic.*lanczos"):
            effects_of(DROPS).attributions(upsample="lanczos")


def test_negative_drops_on_a_real_model(make_clip, make_images):
    """Random models oppose as often as they support: order must survive on every column."""
    model, _ = make_clip(seed=1)
    effects = CCI(model.visual, clustering=KMeans(5)).effects(make_images(model))
    negative = 0
    for target in range(24):
        drops, weights = effects.drops(target), effects.weights(target)
        negative += int((drops.sum(1) <= 0).sum())
        # Divided by one number, two neighbouring floats may become one, but never change places.
        assert (weights.gather(1, drops.argsort(dim=1)).diff(dim=1) >= 0).all()
        patches, flat = effects.patch_map(target).flatten(1), effects.labels.flatten(1)
        assert torch.equal(patches, weights.gather(1, flat))
    assert negative > 0


class TestSeveralTargets:
    """Stacked along a dimension of their own, beside Captum's rule of one target an image."""

    @staticmethod
    def effects(*shape):
        rng = torch.Generator().manual_seed(len(shape))
        return ClusterEffects(
            labels=torch.randint(0, 4, (2, 3, 3), generator=rng),
            outputs=torch.randn(2, *shape, generator=rng, dtype=torch.float64),
            masked_outputs=torch.randn(2, 4, *shape, generator=rng, dtype=torch.float64),
            image_shape=(3, 6, 6),
            clusters=torch.arange(4).expand(2, -1),
        )

    @pytest.mark.parametrize("targets", [[0, 3], (3, 0), range(5), torch.tensor([4, 1])])
    def test_are_plain_differences_of_their_outputs(self, targets):
        effects = self.effects(5)
        listed = [int(target) for target in targets]
        for b in range(2):
            for t, target in enumerate(listed):
                output = float(effects.outputs[b, target])
                drops = [output - float(value) for value in effects.masked_outputs[b, :, target]]
                weights = [drop / sum(map(abs, drops)) for drop in drops]
                found = effects.drops(targets=targets)[b, t].tolist()
                assert found == pytest.approx(drops, abs=1e-12)
                found = effects.weights(targets=targets)[b, t].tolist()
                assert found == pytest.approx(weights, abs=1e-12)
                patch_map = effects.patch_map(targets=targets)[b, t]
                expected = [weights[label] for label in effects.labels[b].flatten().tolist()]
                assert patch_map.flatten().tolist() == pytest.approx(expected, abs=1e-12)
                maps = effects.attributions(targets=targets, upsample="nearest")
                assert maps.shape == (2, len(listed), 3, 6, 6)
                assert torch.equal(maps[b, t, 1, ::2, ::2], patch_map)

    def test_leave_captums_rule_as_it_is(self):
        """A list is one target an image; of `targets` each for all, or one for each by itself."""
        effects = self.effects(5)
        one_each = effects.drops([0, 3])
        assert one_each.shape == (2, 4)
        both = effects.drops(targets=[0, 3])
        assert torch.equal(one_each, torch.stack([both[0, 0], both[1, 1]]))
        assert torch.equal(effects.drops(targets=[[0, 3], 1])[:, 0], one_each)
        assert torch.equal(
            self.effects(5, 2).drops(targets=[(4, 1)])[:, 0], self.effects(5, 2).drops((4, 1))
        )

    @pytest.mark.parametrize("name", ["drops", "weights", "patch_map", "attributions"])
    def test_errors(self, name):
        explain = getattr(self.effects(5), name)
        with pytest.raises(ValueError, match=r"^targets: expected no target beside them, got targ"):
            explain(1, targets=[0])
        for wrong in (3, "cat", {0: 1}):
            with pytest.raises(TypeError, match=r"^targets: expected a sequence of targets"):
                explain(targets=wrong)
        with pytest.raises(ValueError, match=r"^targets: expected at least one target, got none"):
            explain(targets=[])
        with pytest.raises(ValueError, match=r"^target: expected indices into outputs"):
            explain(targets=[0, 5])


def test_the_papers_cci_is_its_formulas(model, make_images, tokenizer) -> None:
    """Cosines, K-means of 7 of the last block's tokens, d_k / sum_j d_j, by plain loops."""
    similarity = ImageTextSimilarity(model)
    images, text = make_images(model, batch=12), tokenizer(["fox", "ship", "igloo"] * 4)
    tower = find_vision_tower(model)
    with torch.no_grad(), tower.record() as recording:
        whole = similarity(images, text)
    labels = KMeans(7, max_length=None)(recording.tokens)
    drops = torch.zeros(12, 7)
    for cluster in range(7):
        with torch.no_grad(), tower.hide(labels == cluster):
            drops[:, cluster] = whole - similarity(images, text)
    defined = drops.sum(dim=1) > 0
    assert defined.any()
    expected = (drops / drops.sum(dim=1, keepdim=True)).gather(1, labels).view(12, 4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those whose drops sum to less than 0
        found = CCI.paper(similarity).patch_map(images, additional_forward_args=text)
    close(found[defined], expected[defined], 1e-4)
