"""CCI as a Captum user meets it: interface, targets, arguments, Captum's own tools, errors."""

from __future__ import annotations

import copy
import inspect

import matplotlib
import numpy as np
import oracles
import pytest
import torch
from captum.attr import Attribution, FeatureAblation, NoiseTunnel, visualization
from captum.metrics import infidelity, sensitivity_max
from helpers import NAMES
from torch import nn
from transformers import BatchEncoding

from cci_captum import (
    CCI,
    ClusterEffects,
    ImageTextSimilarity,
    KMeans,
    ZeroShotClassifier,
    all_sets,
    find_vision_tower,
)

matplotlib.use("Agg")


def as_encoding(tokens):
    """Tokens as a tokenizer of transformers returns them."""
    return BatchEncoding({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})


@pytest.fixture(scope="module")
def model(make_clip):
    return make_clip(seed=6)[0]


@pytest.fixture(scope="module")
def images(model, make_images):
    return make_images(model, batch=3)


@pytest.fixture(scope="module")
def classifier(model, tokenizer):
    return ZeroShotClassifier(model, tokenizer, NAMES)


@pytest.fixture(scope="module")
def cci(classifier):
    return CCI(classifier, clustering=KMeans(4))


@pytest.fixture(scope="module")
def truth(cci, images):
    """Attributions (C, B, 3, H, W), each class explained by a forward_func of one output."""
    maps = []
    for c in range(len(NAMES)):
        single = CCI(
            lambda x, c=c: cci.forward_func(x)[:, c],
            cci.vision_tower,
            clustering=cci.clustering,
        )
        maps.append(single.attribute(images))
    return torch.stack(maps)


class TestInterface:
    def test_is_an_attribution(self, cci, classifier):
        assert isinstance(cci, Attribution)
        assert cci.forward_func is classifier
        assert cci.get_name() == CCI.get_name() == "CCI"
        assert cci.has_convergence_delta() is False
        assert cci.multiplies_by_inputs is False

    def test_arguments_are_in_captums_order(self):
        """Same names and order as FeatureAblation's, where both have them."""
        ours = list(inspect.signature(CCI.attribute).parameters)
        theirs = list(inspect.signature(FeatureAblation.attribute).parameters)
        assert ours[1] == theirs[1] == "inputs"
        assert ours[2:4] == ["target", "additional_forward_args"]
        assert set(ours[2:4]) <= set(theirs)

    def test_attributions_look_like_inputs(self, cci, images):
        attributions = cci.attribute(images, 2)
        assert attributions.shape == images.shape
        assert attributions.dtype == images.dtype
        assert torch.equal(attributions[:, 0], attributions[:, 1])
        assert torch.equal(attributions[:, 0], attributions[:, 2])
        attributions += 1  # owns its memory: writing to one pixel writes to one pixel

    def test_attribute_is_effects_attributions(self, cci, images):
        effects = cci.effects(images)
        assert isinstance(effects, ClusterEffects)
        for upsample in ("nearest", "bilinear", "bicubic"):
            expected = effects.attributions(2, upsample=upsample)
            assert torch.equal(cci.attribute(images, 2, upsample=upsample), expected)

    def test_a_one_tuple_gives_a_one_tuple(self, cci, images):
        attributions = cci.attribute((images,), 2)
        assert isinstance(attributions, tuple)
        assert len(attributions) == 1
        assert torch.equal(attributions[0], cci.attribute(images, 2))
        assert torch.equal(cci.effects((images,)).outputs, cci.effects(images).outputs)

    def test_default_clustering_is_the_papers_seven(self, classifier, images):
        assert CCI(classifier).clustering.n_clusters == 7
        assert CCI(classifier).effects(images).masked_outputs.shape == (3, 7, 5)

    def test_the_tower_may_be_given_as_module_or_adapter(self, model, classifier, images):
        expected = CCI(classifier, clustering=KMeans(4)).attribute(images, 1)
        for tower in (model.visual, model, find_vision_tower(model)):
            for forward in (classifier, lambda x: classifier(x)):
                cci = CCI(forward, tower, clustering=KMeans(4))
                assert torch.equal(cci.attribute(images, 1), expected)

    def test_deep_copies_are_independent(self, cci, images):
        twin = copy.deepcopy(cci)
        twin.forward_func.model.visual.proj.data.neg_()
        assert not torch.equal(twin.effects(images).outputs, cci.effects(images).outputs)
        assert torch.equal(twin.effects(images).labels, cci.effects(images).labels)


class TestTargets:
    @pytest.mark.parametrize("c", range(len(NAMES)))
    def test_an_int_for_all(self, cci, images, truth, c):
        for target in (c, torch.tensor(c), torch.tensor([c]), (c,)):
            torch.testing.assert_close(cci.attribute(images, target), truth[c])

    def test_one_for_each_image(self, cci, images, truth):
        expected = torch.stack([truth[4, 0], truth[0, 1], truth[4, 2]])
        for target in ([4, 0, 4], torch.tensor([4, 0, 4]), [(4,), (0,), (4,)]):
            for size in (None, 1, 2):
                attributions = cci.attribute(images, target, internal_batch_size=size)
                torch.testing.assert_close(attributions, expected, atol=1e-4, rtol=1e-4)

    def test_one_image(self, cci, images, truth):
        for target in (3, [3], torch.tensor([3]), torch.tensor(3), (3,), [(3,)]):
            attributions = cci.attribute(images[:1], target)
            torch.testing.assert_close(attributions, truth[3, :1], atol=1e-4, rtol=1e-4)

    def test_outputs_of_more_dimensions(self, cci, classifier, images, truth):
        def table(x):  # (B, 5, 2)
            logits = classifier(x)
            return torch.stack([-logits, logits], 2)

        wide = CCI(table, cci.vision_tower, clustering=cci.clustering)
        assert wide.effects(images).masked_outputs.shape == (3, 4, 5, 2)
        torch.testing.assert_close(wide.attribute(images, (3, 1)), truth[3])
        torch.testing.assert_close(wide.attribute(images, (3, 0)), -truth[3])
        mixed = wide.attribute(images, [(3, 1), (2, 0), (0, 1)])
        torch.testing.assert_close(mixed, torch.stack([truth[3, 0], -truth[2, 1], truth[0, 2]]))

    def test_outputs_of_shape_b_and_b_by_1(self, cci, images, truth):
        for forward in (lambda x: cci.forward_func(x)[:, 2], lambda x: cci.forward_func(x)[:, 2:3]):
            single = CCI(forward, cci.vision_tower, clustering=cci.clustering)
            torch.testing.assert_close(single.attribute(images), truth[2])

    @pytest.mark.parametrize(
        "target",
        [
            None,
            5,
            [0, 1],
            [0, 1, 5],
            (0, 0),
            (5,),
            torch.tensor([0, 1]),
            torch.tensor([0, 1, 7]),
            torch.tensor([[0, 1, 2]]),
            torch.tensor([0.0, 1.0, 2.0]),
            torch.tensor(1.5),
            1.5,
            "fox",
            [0, 1, (2,)],
        ],
        ids=str,
    )
    def test_wrong_targets(self, cci, images, target):
        with pytest.raises((ValueError, TypeError), match="target"):
            cci.attribute(images, target)

    def test_a_target_where_there_is_one_output(self, cci, images):
        single = CCI(lambda x: cci.forward_func(x)[:, 2], cci.vision_tower, clustering=KMeans(2))
        with pytest.raises(ValueError, match="target"):
            single.attribute(images, 0)


class TestAdditionalForwardArgs:
    def test_tensors_follow_their_image(self, model, images, tokenizer):
        """Rows of text and of a scale, a plain number, None and a string, in any batching."""
        similarity = ImageTextSimilarity(model)
        text, scale = tokenizer(["a fox", "b", "c"]), torch.tensor([1.0, -2.0, 30.0])

        def forward(x, words, factor, power, nothing, unit):
            assert nothing is None
            assert unit == "kg"
            assert len(x) == len(words) == len(factor)
            return factor * similarity(x, words) * power

        scaled = CCI(forward, model.visual, clustering=KMeans(3))
        plain = CCI(similarity, clustering=KMeans(3)).effects(images, text)
        for size in (None, 1, 2):
            args = (text, scale, 0.5, None, "kg")
            effects = scaled.effects(images, args, internal_batch_size=size)
            expected = plain.masked_outputs * scale[:, None] * 0.5
            torch.testing.assert_close(effects.masked_outputs, expected, atol=1e-5, rtol=1e-4)

    def test_swapping_texts_swaps_results(self, model, images, tokenizer):
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(3))
        text = tokenizer(["a fox", "b", "c"])
        one, other = cci.effects(images, text), cci.effects(images, text.flip(0))
        torch.testing.assert_close(one.masked_outputs[1], other.masked_outputs[1])
        assert (one.masked_outputs[0] - other.masked_outputs[0]).abs().min() > 1e-4

    def test_a_bare_tensor_and_a_tuple_are_the_same(self, model, images, tokenizer):
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(3))
        text = tokenizer(["a fox", "b", "c"])
        cci.check_forward_func(images, text)  # which encodes two texts at a time, in one call alone
        assert torch.equal(cci.attribute(images, None, text), cci.attribute(images, None, (text,)))

    @pytest.mark.parametrize("kind", [lambda tokens: tokens, as_encoding])
    def test_one_row_is_for_all_images(self, model, images, tokenizer, kind):
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(3))
        one = tokenizer(["a cat"])
        expected = cci.attribute(images, None, one.repeat(len(images), 1))
        found = cci.attribute(images, None, kind(one), internal_batch_size=2)
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)
        assert found.abs().amax() > 0.1

    def test_encodings_have_a_row_an_image(self, model, images, tokenizer):
        """Each hidden pass gets the rows of its own images, not the first ones."""
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(3))
        text = tokenizer(["a cat", "a dog", "guitar"])
        found = cci.attribute(images, None, as_encoding(text), internal_batch_size=2)
        expected = cci.attribute(images, None, text)
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)
        with pytest.raises(ValueError, match=r"additional_forward_args.*3.*2"):
            cci.attribute(images, None, as_encoding(text[:2]))

    @pytest.mark.parametrize("text", ["a cat", ["a cat"], torch.zeros(3, 12)])
    def test_texts_that_are_no_tokens(self, model, images, text):
        with pytest.raises(TypeError, match=r"text: expected tokens \(B, L\) of whole numbers"):
            CCI(ImageTextSimilarity(model), clustering=KMeans(3)).attribute(images, None, text)

    @pytest.mark.parametrize("rows", [0, 2, 4])
    def test_tensors_of_another_length(self, model, images, tokenizer, rows):
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(3))
        text = torch.zeros(rows, 12, dtype=torch.long)
        with pytest.raises(ValueError, match=rf"additional_forward_args.*3.*{rows}"):
            cci.attribute(images, None, text)


class TestCaptumsTools:
    @pytest.mark.parametrize(
        ("method", "sign"),
        [
            ("heat_map", "all"),
            ("heat_map", "positive"),
            ("heat_map", "absolute_value"),
            ("blended_heat_map", "all"),
            ("masked_image", "positive"),
        ],
    )
    def test_visualize_image_attr(self, cci, images, method, sign):
        effects = cci.effects(images)  # Captum needs some positive value where it shows those
        target = max(range(len(NAMES)), key=lambda c: effects.drops(c)[0].max())
        attribution = np.transpose(cci.attribute(images, target)[0].numpy(), (1, 2, 0))
        original = np.transpose(images[0].sigmoid().numpy(), (1, 2, 0))
        _figure, axes = visualization.visualize_image_attr(
            attribution, original, method=method, sign=sign, use_pyplot=False
        )
        shown = np.asarray(axes.get_images()[-1].get_array())
        assert shown.shape[:2] == (32, 32)
        if method == "heat_map":
            heat = np.abs(attribution).sum(2) if sign == "absolute_value" else attribution.sum(2)
            heat = heat.clip(0) if sign == "positive" else heat
            correlation = np.corrcoef(shown.ravel(), heat.ravel())[0, 1]
            assert correlation > 0.9  # the same map up to Captum's clipping of outliers

    def test_noise_tunnel_without_noise_is_cci(self, cci, images):
        for target in (2, [0, 1, 2], torch.tensor([0, 1, 2])):
            smooth = NoiseTunnel(cci).attribute(images, nt_samples=2, stdevs=0.0, target=target)
            torch.testing.assert_close(smooth, cci.attribute(images, target), atol=1e-4, rtol=1e-4)

    def test_noise_tunnel_is_the_mean_over_noisy_images(self, cci, images):
        torch.manual_seed(0)
        smooth = NoiseTunnel(cci).attribute(images, nt_samples=4, stdevs=0.3, target=2)
        torch.manual_seed(0)
        noise = torch.normal(0, torch.full((12, 3, 32, 32), 0.3))
        noisy = cci.attribute(images.repeat_interleave(4, 0) + noise, 2)
        expected = noisy.reshape(3, 4, 3, 32, 32).mean(1)
        torch.testing.assert_close(smooth, expected, atol=1e-4, rtol=1e-4)

    def test_noise_tunnel_expands_texts(self, model, images, tokenizer):
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(3))
        text = tokenizer(["a fox", "b", "c"])
        smooth = NoiseTunnel(cci).attribute(
            images, nt_samples=2, stdevs=0.0, additional_forward_args=text
        )
        expected = cci.attribute(images, None, text)
        torch.testing.assert_close(smooth, expected, atol=1e-4, rtol=1e-4)

    def test_sensitivity_max(self, cci, images):
        still = sensitivity_max(
            cci.attribute, images, lambda x: x, n_perturb_samples=2, target=[0, 1, 2]
        )
        torch.testing.assert_close(still, torch.zeros(3), atol=1e-3, rtol=0)
        moved = sensitivity_max(
            cci.attribute, images, perturb_radius=1.0, n_perturb_samples=3, target=[0, 1, 2]
        )
        assert moved.shape == (3,)
        assert (moved > 1e-3).all()

    def test_infidelity(self, cci, classifier, images):
        """Perturbing by nothing, every map is faithful; maps of raw drops are not all alike."""
        attributions = cci.attribute(images, [0, 1, 2])

        def nothing(x):
            return torch.zeros_like(x), x

        def darken(x):
            step = 0.1 * torch.ones_like(x)
            return step, x - step

        with torch.no_grad():
            zero = infidelity(classifier, nothing, images, attributions, target=[0, 1, 2])
            score = infidelity(classifier, darken, images, attributions, target=[0, 1, 2])
            before = classifier(images)[range(3), [0, 1, 2]]
            after = classifier(images - 0.1)[range(3), [0, 1, 2]]
        torch.testing.assert_close(zero, torch.zeros(3), atol=1e-8, rtol=0)
        predicted = 0.1 * attributions.sum((1, 2, 3))
        torch.testing.assert_close(score, (predicted - (before - after)) ** 2, rtol=1e-3, atol=1e-4)

    def test_clusters_as_feature_mask(self, cci, images):
        """FeatureAblation over our clusters runs, one value a cluster."""
        labels = cci.effects(images).labels[:, None]
        mask = labels.repeat_interleave(8, 2).repeat_interleave(8, 3)
        attributions = FeatureAblation(cci.forward_func).attribute(
            images[:1], target=1, feature_mask=mask[:1]
        )
        for k in range(4):
            assert len(attributions[0, 0][mask[0, 0] == k].unique()) == 1


class TestErrors:
    """Wrong use says what is wrong, in terms of the argument."""

    @pytest.mark.parametrize(
        ("inputs", "error", "message"),
        [
            (torch.zeros(3, 32, 32), ValueError, r"inputs.*\(B, 3, H, W\).*\(3, 32, 32\)"),
            (torch.zeros(1, 1, 3, 32, 32), ValueError, r"inputs.*\(1, 1, 3, 32, 32\)"),
            (torch.zeros(0, 3, 32, 32), ValueError, r"inputs.*\(0, 3, 32, 32\)"),
            (torch.zeros(1, 3, 32, 32).byte(), TypeError, r"inputs.*uint8"),
            (np.zeros((1, 3, 32, 32)), TypeError, r"inputs.*ndarray"),
            ((torch.zeros(1, 3, 32, 32),) * 2, ValueError, r"inputs.*one.*2"),
            ((), ValueError, r"inputs.*one.*0"),
            (None, TypeError, r"inputs.*NoneType"),
        ],
    )
    def test_inputs(self, cci, inputs, error, message):
        with pytest.raises(error, match=message):
            cci.attribute(inputs, 0)

    @pytest.mark.parametrize("size", [0, -1, 1.5, "2", True])
    def test_internal_batch_size(self, cci, images, size):
        with pytest.raises((ValueError, TypeError), match="internal_batch_size"):
            cci.attribute(images, 0, internal_batch_size=size)

    def test_upsample(self, cci, images):
        with pytest.raises(ValueError, match=r"upsample.*nearest.*bilinear.*bicubic.*area"):
            cci.attribute(images, 0, upsample="area")

    def test_constructor_options(self, classifier):
        with pytest.raises(ValueError, match=r"hide.*mask.*drop.*blur"):
            CCI(classifier, hide="blur")
        with pytest.raises(ValueError, match=r"normalization.*relative.*paper.*none.*max"):
            CCI(classifier, normalization="max")
        for layer in (3, -4, "output"):
            with pytest.raises(ValueError, match=rf"embedding_layer.*{layer}"):
                CCI(classifier, embedding_layer=layer)
        for clustering in (7, "kmeans"):
            with pytest.raises(TypeError, match=r"clustering.*KMeans"):
                CCI(classifier, clustering=clustering)

    def test_forward_func_and_tower(self, classifier):
        with pytest.raises(TypeError, match=r"forward_func.*int"):
            CCI(3)
        with pytest.raises(ValueError, match="vision_tower"):
            CCI(lambda x: x)
        with pytest.raises(ValueError, match=r"Linear.*VisionTransformer"):
            CCI(nn.Linear(2, 2))
        with pytest.raises(TypeError, match="str"):
            CCI(classifier, "visual")

    def test_a_tower_that_forward_func_does_not_run(self, classifier, images, make_clip):
        other, _ = make_clip(seed=1)
        with pytest.raises(RuntimeError, match=r"vision.tower"):
            CCI(classifier, other.visual).attribute(images, 0)

    def test_a_tower_that_runs_twice(self, classifier, images):
        cci = CCI(lambda x: classifier(x) + classifier(x.flip(3)), classifier)
        with pytest.raises(RuntimeError, match=r"vision tower.*more than once"):
            cci.attribute(images, 0)

    def test_a_tower_that_does_not_run_again(self, classifier, images):
        """A forward_func that remembers its answers would make every drop zero."""
        memory = {}

        def remembering(x):
            key = float(x.sum())
            if key not in memory:
                memory[key] = classifier(x)
            return memory[key]

        with pytest.raises(RuntimeError, match=r"vision tower"):
            CCI(remembering, classifier, clustering=KMeans(3)).attribute(
                images, 0, internal_batch_size=1
            )

    def test_a_tower_that_runs_on_more_images(self, classifier, images):
        """Test-time augmentation inside forward_func: patches and images no longer pair up."""

        def augmented(x):
            return classifier(torch.cat([x, x.flip(3)])).reshape(2, len(x), -1).mean(0)

        with pytest.raises((RuntimeError, ValueError), match=r"forward_func.* 2 images, .* 4"):
            CCI(augmented, classifier).attribute(images, 0)

    @pytest.mark.parametrize(
        ("output", "error", "message"),
        [
            (lambda y: y.sum(), ValueError, r"forward_func.*2.*\(\)"),
            (lambda y: y[:1], ValueError, r"forward_func.*2.*\(1, 5\)"),
            (lambda y: (y, y), TypeError, r"forward_func.*tuple"),
            (lambda y: {"logits": y}, TypeError, r"forward_func.*dict"),
            (lambda y: None, TypeError, r"forward_func.*None"),
        ],
    )
    def test_forward_func_outputs(self, classifier, images, output, error, message):
        with pytest.raises(error, match=message):
            CCI(lambda x: output(classifier(x)), classifier).attribute(images, 0)

    @pytest.mark.parametrize(
        "labels",
        [
            torch.zeros(3, 15, dtype=torch.int64),
            torch.zeros(3, 4, 4, dtype=torch.int64),
            torch.zeros(3, 16),
            torch.full((3, 16), 2),
            torch.full((3, 16), -1),
        ],
    )
    def test_clusterings_that_break_their_promise(self, classifier, images, labels):
        class Wrong:
            n_clusters = 2

            def __call__(self, embeddings):
                return labels

        with pytest.raises((ValueError, TypeError), match="clustering"):
            CCI(classifier, clustering=Wrong()).attribute(images, 0)


@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (lambda features: features.argmax(dim=1), "int64"),
        (lambda features: features > 0, "bool"),
        (lambda features: features.to(torch.complex64), "complex64"),
    ],
)
def test_outputs_that_are_no_scores_are_refused(model, images, convert, dtype):
    """The index of a class is no score: the drop of an argmax explains nothing."""
    cci = CCI(lambda x: convert(model.encode_image(x)), model.visual, clustering=KMeans(3))
    with pytest.raises(TypeError, match=rf"forward_func: expected floating .* got torch\.{dtype}"):
        cci.effects(images)


def test_a_count_as_floats_is_a_score(model, images):
    cci = CCI(lambda x: (model.encode_image(x) > 0).sum(1).float(), model.visual)
    drops = cci.effects(images).drops()
    assert oracles.relative_error(drops, drops.round()) == 0


class TestAnyClustering:
    """A function of one's own needs nothing but labels."""

    @staticmethod
    def halves(embeddings):
        half = embeddings.shape[1] // 2
        labels = torch.zeros(embeddings.shape[:2], dtype=torch.int64)
        labels[:, half:] = 9
        return labels

    def test_a_function(self, classifier, images):
        cci = CCI(classifier, clustering=self.halves)
        effects = cci.effects(images)
        assert effects.clusters.tolist() == [[0, 9]] * len(images)
        assert effects.drops(1).shape == (len(images), 2)
        known = CCI(classifier, clustering=Counted(self.halves)).effects(images)
        assert torch.equal(known.drops(1), effects.drops(1))
        found = cci.coalitions(images, all_sets)
        assert found.drops(1).shape == (len(images), 4)

    def test_sets_over_unknown_columns(self, classifier, images):
        cci = CCI(classifier, clustering=self.halves)
        with pytest.raises(ValueError, match=r"sets: expected a function .* has no n_clusters"):
            cci.coalitions(images, torch.eye(2, dtype=torch.bool))

    def test_negative_labels(self, classifier, images):
        cci = CCI(classifier, clustering=lambda tokens: self.halves(tokens) - 1)
        with pytest.raises(ValueError, match="clustering: expected labels from 0, got -1 to 8"):
            cci.effects(images)


class Counted:
    n_clusters = 10

    def __init__(self, function):
        self.function = function

    def __call__(self, embeddings):
        return self.function(embeddings)
