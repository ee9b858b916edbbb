"""Texts are encoded once a call, never with old weights; arguments that belong to all images."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from captum.attr import NoiseTunnel
from helpers import FAST, close, counted_texts
from torch import Tensor

import cci_captum
from cci_captum import CCI, ImageTextSimilarity, KMeans, Shared, ZeroShotClassifier
from cci_captum.baselines import M2IB, METHODS, RISE, CLIPSurgery, GradECLIP
from cci_captum.benchmarks.faithfulness import CaptionRetrieval, DeletionInsertion

TEXTS = ["fox", "ship", "jar", "fox"]


@pytest.fixture
def tokens(tokenizer) -> Tensor:
    return tokenizer(TEXTS)


def wrapped(similarity: ImageTextSimilarity) -> Callable[..., Tensor]:
    return lambda images, text: 3 * similarity(images, text)


# Once a call.


@pytest.mark.shared(among=3)
@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("name", [name for name in METHODS if name != "ground-truth"])
def test_every_method_encodes_each_text_once_a_call(name, size, model, images, tokens) -> None:
    method = METHODS[name](ImageTextSimilarity(model), **FAST.get(name, {}))
    if name != "random":
        method.check_forward_func(
            images, tokens
        )  # once for each forward_func, in passes of its own
    for _ in range(2):
        with counted_texts(model) as rows:
            method.attribute(images, None, tokens, internal_batch_size=size)
        # Its first pass is one with gradients, which have a memory of their own; others have none.
        assert sum(rows) == (6 if name == "gated-cci" else 3)


@pytest.mark.parametrize("protocol", ["rise", "tokens"])
def test_the_curves_encode_each_text_once(protocol, model, images, tokens) -> None:
    harness = DeletionInsertion(ImageTextSimilarity(model), protocol, internal_batch_size=3)
    with counted_texts(model) as rows:
        harness(images, torch.rand(4, 4, 4), None, tokens)
    assert sum(rows) == 3


def test_other_ways_in(model, images, tokens, tokenizer) -> None:
    """Through a function, `effects`, `fit`, and the text that CLIP Surgery subtracts."""
    similarity = ImageTextSimilarity(model)
    surgery = CLIPSurgery(similarity, redundant_text=tokenizer([""]))
    for call, texts in (
        (lambda: CCI(wrapped(similarity), model.visual).attribute(images, None, tokens), 3),
        (lambda: CCI(partial(similarity), model.visual).attribute(images, None, tokens), 3),
        (lambda: CCI(similarity).effects(images, tokens, internal_batch_size=1), 3),
        (lambda: M2IB(similarity, **FAST["m2ib"]).fit(images, None, tokens), 3),
        (lambda: surgery.patch_map(images, None, tokens, internal_batch_size=1), 4),
    ):
        with counted_texts(model) as rows:
            call()
        assert sum(rows) == texts


@pytest.mark.parametrize("name", ["cci", "grad-eclip", "gradcam", "rise", "cluster-lime", "m2ib"])
def test_maps_are_those_of_texts_encoded_in_every_pass(name, model, images, tokens) -> None:
    class Plain(ImageTextSimilarity):
        def encode_texts(self, text: Tensor) -> Tensor:
            return torch.nn.functional.normalize(self.model.encode_text(text), dim=-1)

    found, expected = (
        METHODS[name](cls(model), **FAST.get(name, {})).attribute(images, None, tokens)
        for cls in (ImageTextSimilarity, Plain)
    )
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_nothing_old_where_texts_or_weights_change_between_calls(model, images, tokens) -> None:
    cci = CCI(ImageTextSimilarity(model), normalization="none")

    def check() -> Tensor:
        found = cci.patch_map(images, None, tokens, check=False)
        fresh = CCI(ImageTextSimilarity(copy.deepcopy(model)), normalization="none")
        assert torch.equal(found, fresh.patch_map(images, None, tokens, check=False))
        return found

    maps = [check()]
    tokens[0, 0] += 1  # in place
    maps.append(check())
    with torch.no_grad():
        model.token_embedding.weight[tokens[0, 0]].mul_(1.5)
    maps.append(check())
    model.text_projection.data = model.text_projection.data.flip(1)
    maps.append(check())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    ImageTextSimilarity(model)(images, tokens).sum().backward()
    optimizer.step()
    maps.append(check())
    for before, after in pairwise(maps):
        assert not torch.equal(before, after)
    model.half()
    check()


def test_an_adapter_switched_within_a_pass_is_no_other_text(model, images, tokens) -> None:
    """What fine-tuning changed, f_tuned - f_base, with one model and a switch."""
    similarity = ImageTextSimilarity(model)
    tuned = [False]
    model.token_embedding.register_forward_hook(
        lambda module, args, output: output * 1.5 if tuned[0] else output
    )

    def difference(images: Tensor, text: Tensor) -> Tensor:
        features = similarity.encode_images(images)
        scores = []
        for tuned[0] in (True, False):
            scores.append((features * similarity.encode_texts(text)).sum(dim=1))
        return scores[0] - scores[1]

    with counted_texts(model) as rows:
        effects = CCI(difference, model.visual).effects(images, tokens, internal_batch_size=2)
    assert sum(rows) == 2 * 3
    with torch.no_grad():
        expected = difference(images, tokens)
    assert expected.abs().min() > 1e-3
    assert (effects.outputs - expected).abs().max() < 1e-6


def test_outside_calls_nothing_is_kept_and_gradients_flow(model, images, tokens) -> None:
    similarity = ImageTextSimilarity(model)
    state = set(vars(similarity)) | set(vars(model))
    GradECLIP(similarity).attribute(images, None, tokens)
    assert set(vars(similarity)) | set(vars(model)) == state
    assert cci_captum.call_memory(similarity) is None
    gradients = []
    for encode in (similarity.encode_texts, model.encode_text):
        model.zero_grad()
        features = torch.nn.functional.normalize(encode(tokens), dim=-1)
        (features * torch.arange(24.0)).sum().backward()
        gradients.append(model.text_projection.grad.clone())
    assert gradients[0].abs().max() > 0
    assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[1].abs().max()


def test_gradients_flow_to_the_text_within_a_call(model, images, tokens) -> None:
    """A method of one's own that explains words, not patches, by gradients."""
    found = []

    class TextGradient(cci_captum.PatchAttribution):
        def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
            self._score(images, target, args)  # without gradients first
            with torch.enable_grad():
                scores = self._score(images, target, args).sum()
            found.append(torch.autograd.grad(scores, model.text_projection)[0])
            return images.new_zeros(len(images), 4, 4)

    similarity = ImageTextSimilarity(model)
    TextGradient(similarity).patch_map(images, None, tokens)
    expected = torch.autograd.grad(similarity(images, tokens).sum(), model.text_projection)[0]
    assert (found[0] - expected).abs().max() < 1e-5 * expected.abs().max()


def test_threads_have_memories_of_their_own(model, images, tokens) -> None:
    rise = RISE(ImageTextSimilarity(model), n_masks=9)
    orders = [torch.tensor(order) for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 1, 0, 0])]
    expected = [rise.attribute(images, None, tokens[order]) for order in orders]
    found: list[Any] = [None] * 3

    def work(place: int) -> None:
        for _ in range(3):
            found[place] = rise.attribute(images, None, tokens[orders[place]])

    threads = [threading.Thread(target=work, args=(place,)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_a_failed_call_leaves_no_memory(model, images, tokens) -> None:
    similarity = ImageTextSimilarity(model)
    with pytest.raises(ValueError, match="target"):
        GradECLIP(similarity).attribute(images, 3, tokens)
    assert cci_captum.call_memory(similarity) is None


def test_dropout_in_training_is_drawn_in_every_pass(model, images, tokens) -> None:
    with counted_texts(model.train()) as rows:
        cci = CCI(ImageTextSimilarity(model), clustering=KMeans(2))
        cci.effects(images, tokens, check=False)
    assert len(rows) == 3


# Arguments that belong to all images.


@pytest.fixture
def scores(model) -> Callable[[Tensor, Tensor], Tensor]:
    similarity = ImageTextSimilarity(model)

    def compare(images: Tensor, texts: Tensor) -> Tensor:
        return 10 * similarity.encode_images(images) @ similarity.encode_texts(texts).T

    return compare


BLACK_BOX = [name for name, m in METHODS.items() if not (m.needs_text or m.needs_masks)]


@pytest.mark.shared(among=3)
@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("name", BLACK_BOX)
def test_shared_texts_are_those_of_a_closure(name, size, scores, model, images, tokenizer) -> None:
    """As many texts as images, and more."""
    for words in (["fox", "ship", "lemon", "jar"], list("abcdefg")):
        texts = tokenizer(words)
        options = FAST.get(name, {})
        method = METHODS[name](scores, model.visual, **options)
        closed = METHODS[name](lambda x, t=texts: scores(x, t), model.visual, **options)
        found = method.attribute(images, [0, 2, 1, 3], Shared(texts), internal_batch_size=size)
        expected = closed.attribute(images, [0, 2, 1, 3], internal_batch_size=size)
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_shared_beside_rows_in_the_curves_and_in_noise_tunnel(model, images, tokenizer) -> None:
    similarity = ImageTextSimilarity(model)

    def margin(images: Tensor, own: Tensor, others: Tensor) -> Tensor:
        features = similarity.encode_images(images)
        rivals = features @ similarity.encode_texts(others).T
        return (features * similarity.encode_texts(own)).sum(dim=1) - rivals.amax(dim=1)

    own, others = tokenizer(TEXTS), tokenizer(["igloo", "lemon"])
    args = (own, Shared(others))

    def closed(images: Tensor, own: Tensor) -> Tensor:
        return margin(images, own, others)

    maps = torch.rand(4, 4, 4, generator=torch.Generator().manual_seed(0))
    found, expected = (
        DeletionInsertion(f, "rise", internal_batch_size=3)(images, maps, None, a).deletion.score
        for f, a in ((margin, args), (closed, own))
    )
    assert (found - expected).abs().max() < 1e-6
    noisy = []
    for f, a in ((margin, args), (closed, own)):
        torch.manual_seed(0)
        tunnel = NoiseTunnel(CCI(f, model.visual, clustering=KMeans(3)))
        noisy.append(tunnel.attribute(images, nt_samples=2, additional_forward_args=a))
    assert (noisy[0] - noisy[1]).abs().max() < 1e-5


@pytest.mark.shared(among=3)
@pytest.mark.parametrize("name", BLACK_BOX)
@pytest.mark.parametrize("count", [1, 4])
def test_texts_for_all_images_are_not_taken_for_rows(
    name, count, scores, model, images, tokenizer
) -> None:
    """As many texts as images: they used to be scrambled where clusters are hidden."""
    method = METHODS[name](scores, model.visual, **FAST.get(name, {}))
    if count == 1:  # one text for one image is both, but not for two images
        alone, text = images[:1], tokenizer(["fox"])
        if name != "random":  # which never runs it
            with pytest.raises(ValueError, match=r"forward_args\[0\]: .*Shared\(tensor\)"):
                method.attribute(alone, 0, text, internal_batch_size=1)
        for options in (
            {"additional_forward_args": Shared(text)},
            {"additional_forward_args": text, "check": False},
        ):
            found = method.attribute(alone, 0, internal_batch_size=1, **options)
            assert found.shape == alone.shape
        return
    for size in (None, 3):
        with pytest.raises(ValueError, match=r"forward_args\[0\]: .*Shared\(tensor\)"):
            method.attribute(images, 1, tokenizer(list("abcd")), internal_batch_size=size)
    with pytest.raises(ValueError, match=r"forward_args\[0\]: .*Shared\(tensor\)"):
        method.attribute(images, 1, tokenizer(list("abc")))


def test_the_curves_do_not_take_texts_for_rows(scores, images, tokenizer) -> None:
    harness = DeletionInsertion(scores, "rise")
    with pytest.raises(ValueError, match=r"forward_args\[0\]: .*Shared\(tensor\)"):
        harness(images, torch.rand(4, 4, 4), 1, tokenizer(list("abcd")))


def test_a_single_image_with_its_text_in_larger_batches(scores, model, images, tokenizer) -> None:
    cci = CCI(scores, model.visual, clustering=KMeans(3))
    with pytest.raises(ValueError, match=r"Shared\(tensor\)"):
        cci.attribute(images[:1], 0, tokenizer(["fox"]), internal_batch_size=8)


def test_rows_of_images_pass_where_classes_are_as_many(model, images, tokenizer) -> None:
    """Four images, each with an argument of its own, and four classes: one more pass of one image,
    in this case alone."""
    classifier = ZeroShotClassifier(model, tokenizer, ["fox", "ship", "lemon", "jar"])
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def scaled(images: Tensor, scale: Tensor) -> Tensor:
        return classifier(images) * scale[:, None]

    seen: list[int] = []
    model.visual.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    cci = CCI(scaled, model.visual, clustering=KMeans(2), normalization="none")
    found = cci.patch_map(images, 1, scale, check=False)
    assert seen == [4, 4, 4, 1]
    expected = CCI(classifier, clustering=KMeans(2), normalization="none").patch_map(images, 1)
    assert (found - expected * scale[:, None, None]).abs().max() < 1e-4
    seen.clear()
    cci.patch_map(images[:3], 1, scale[:3], check=False)
    assert seen == [3, 3, 3]


def test_captions_are_rows_where_there_are_as_many_as_images(model, images, tokenizer) -> None:
    retrieval = CaptionRetrieval.from_pairs(model, tokenizer, images, [[t] for t in "abcd"])
    captions = torch.arange(4)
    assert CCI(retrieval).attribute(images, captions, captions).shape == images.shape


def test_only_tensors_are_marked() -> None:
    with pytest.raises(TypeError, match="tensor: expected a tensor, got list"):
        Shared([1])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name, m in METHODS.items() if m.needs_text])
def test_methods_that_compare_with_texts_take_one_or_one_an_image(
    name, model, images, tokens
) -> None:
    method = METHODS[name](ImageTextSimilarity(model), **FAST.get(name, {}))
    with pytest.raises(
        ValueError, match=r"expected 4 rows of tokens, one an image, or one for all"
    ):
        method.attribute(images, None, Shared(tokens[:2]), check=False)
    one = method.attribute(images, None, tokens[:1], check=False)
    repeated = method.attribute(images, None, tokens[:1].expand(4, -1), check=False)
    close(one, repeated)


def test_shared_arguments_of_inference_mode(model, images, scores, tokenizer) -> None:
    with torch.inference_mode():
        texts = Shared(tokenizer(list("abcd")) + 0)
        found = GradECLIP(scores, model.visual).attribute(images + 0, 1, texts)
    assert found.abs().max() > 0
