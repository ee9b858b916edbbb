"""What a vision tower says about the attention of its blocks, and that asking changes nothing."""

from __future__ import annotations

import oracles
import pytest
import torch
from helpers import Failure, close, hooks
from torch import nn

from cci_captum import find_vision_tower
from cci_captum.vision_towers import join_heads

VARIANTS = {
    "class-token": {},
    "average": {"pool_type": "avg"},
    "average, norm after": {"pool_type": "avg", "final_ln_after_pool": True},
    "layer scale": {"ls_init_value": 0.5},
    "custom": {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_attn": True},
    "non-square": {"image_size": (16, 32)},
}


@pytest.fixture(params=VARIANTS)
def model(request, make_clip):
    return make_clip(seed=3, **VARIANTS[request.param])[0]


@pytest.fixture
def class_token_model(make_clip):
    return make_clip(seed=3)[0]


@torch.no_grad()
def test_the_open_computation_is_the_same_function(model, make_images):
    images = make_images(model)
    expected = model.encode_image(images)
    with find_vision_tower(model).record_attention(range(3)):
        close(model.encode_image(images), expected)


@torch.no_grad()
def test_hidden_patches_stay_hidden(model, make_images):
    images = make_images(model)
    tower = find_vision_tower(model)
    h, w = tower.grid(images)
    mask = torch.rand(len(images), h * w, generator=torch.Generator().manual_seed(0)) < 0.4
    with tower.hide(mask):
        expected = model.encode_image(images)
    with tower.hide(mask), tower.record_attention(range(3)) as recording:
        close(model.encode_image(images), expected)
    for block in recording.blocks:
        received = block.probabilities.sum(dim=(1, 2))[:, 1:]  # by each patch, from all queries
        assert not received[mask].any()
        assert received[~mask].all()


@torch.no_grad()
def test_what_is_recorded_is_what_pytorch_computes(class_token_model, make_images):
    """Against nn.MultiheadAttention's own weights, which it gives only when asked."""
    model = class_token_model
    images = make_images(model)
    tower = find_vision_tower(model)
    with tower.record_attention([0, 2, -2]) as recording:
        model.encode_image(images)
    assert recording.grid == (4, 4)
    states = []
    handles = [
        block.register_forward_pre_hook(lambda module, args: states.append(args[0]))
        for block in model.visual.transformer.resblocks
    ]
    model.encode_image(images)
    for handle in handles:
        handle.remove()
    for index, recorded in zip([0, 2, 1], recording.blocks, strict=True):
        block = model.visual.transformer.resblocks[index]
        close(recorded.tokens, states[index])
        inputs = block.ln_1(states[index])
        output, weights = block.attn(inputs, inputs, inputs, average_attn_weights=False)
        close(recorded.probabilities, weights)
        close(recorded.block.project_out(recorded.context), output)
        close(recorded.context, join_heads(weights @ recorded.values))


@torch.no_grad()
def test_a_single_head_is_one_head_over_the_full_width(class_token_model, make_images):
    """Against nn.MultiheadAttention with one head and the same weights."""
    model = class_token_model
    block = model.visual.transformer.resblocks[-1]
    single = nn.MultiheadAttention(32, 1, batch_first=True)
    single.load_state_dict(block.attn.state_dict())
    images = make_images(model)
    with find_vision_tower(model).record_attention(single_head=True) as recording:
        features = model.encode_image(images)
    (last,) = recording.blocks
    inputs = block.ln_1(last.tokens)
    _, weights = single(inputs, inputs, inputs)
    close(last.probabilities[:, 0], weights)
    own, block.attn = block.attn, single
    expected = model.encode_image(images)
    block.attn = own
    close(features, expected)
    assert oracles.relative_error(features, model.encode_image(images)) > 1e-3


@torch.no_grad()
def test_the_parts_of_a_block_make_the_block(model, make_images):
    images = make_images(model)
    tower = find_vision_tower(model)
    with tower.record_attention(range(3)) as recording:
        expected = model.encode_image(images)
    tokens = [recorded.tokens for recorded in recording.blocks]
    for index, recorded in enumerate(recording.blocks):
        block = recorded.block
        attended = block.add_attention(recorded.tokens, block.project_out(recorded.context))
        output = block.add_mlp(attended)
        if index < 2:
            close(output, tokens[index + 1])
    close(tower.read_out(output), expected)


@torch.no_grad()
def test_projected_tokens_pool_to_the_image_feature(make_clip, make_images):
    """Where the norm comes before the pool, projecting and pooling change places."""
    for pool in ("tok", "avg"):
        model, _ = make_clip(4, pool_type=pool)
        images = make_images(model)
        tower = find_vision_tower(model)
        with tower.record_attention() as recording:
            expected = model.encode_image(images)
        (last,) = recording.blocks
        block = last.block
        tokens = block.add_mlp(block.add_attention(last.tokens, block.project_out(last.context)))
        close(tower.pool(tower.project(tokens)), expected)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad])
def test_gradients_are_those_of_autograd(class_token_model, make_images, frozen, mode):
    model = class_token_model
    images = make_images(model)
    saved = {}

    def keep(module, args, output):
        saved["tokens"] = output
        output.retain_grad()

    handle = model.visual.transformer.resblocks[0].register_forward_hook(keep)
    model.encode_image(images)[:, 0].sum().backward()
    handle.remove()
    expected = saved["tokens"].grad
    model.zero_grad()
    model.requires_grad_(not frozen)
    with mode():
        before = torch.is_grad_enabled()
        with find_vision_tower(model).record_attention([1], requires_grad=True) as recording:
            features = model.encode_image(images)
            tokens = recording.blocks[0].tokens
            (gradient,) = torch.autograd.grad(features[:, 0].sum(), [tokens])
        assert torch.is_grad_enabled() == before
    close(gradient, expected)
    assert tokens.is_leaf  # nothing is kept of what comes before the block
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gradients_through_the_users_own_no_grad(class_token_model, make_images):
    model = class_token_model
    with find_vision_tower(model).record_attention([1], requires_grad=True) as recording:
        with torch.no_grad():
            features = model.encode_image(make_images(model))
        assert torch.autograd.grad(features.sum(), [recording.blocks[0].context])[0].any()


@pytest.mark.parametrize("where", ["conv1", "transformer.resblocks.1.mlp", "ln_post"])
def test_everything_is_undone_after_an_exception(class_token_model, make_images, where):
    model = class_token_model
    images = make_images(model)
    expected = model.encode_image(images)

    def fail(module, args):
        raise Failure

    handle = model.visual.get_submodule(where).register_forward_pre_hook(fail)
    grad = torch.is_grad_enabled()
    with (
        pytest.raises(Failure),
        find_vision_tower(model).record_attention(range(3), requires_grad=True),
    ):
        model.encode_image(images)
    handle.remove()
    assert torch.is_grad_enabled() == grad
    assert hooks(model) == 0
    assert torch.equal(model.encode_image(images), expected)


def test_misuse_is_named(class_token_model, make_images):
    model = class_token_model
    tower = find_vision_tower(model)
    for index in (3, -4, 1.0, True, "input"):
        with pytest.raises(ValueError, match=r"block: expected a block index from -3 to 2, got"):
            tower.block(index)
    with tower.record_attention() as recording:
        pass
    with pytest.raises(RuntimeError, match="forward_func did not run the vision tower"):
        recording.blocks  # noqa: B018
    with (
        pytest.raises(RuntimeError, match="ran more than once"),
        tower.record_attention(),
    ):
        model.encode_image(make_images(model))
        model.encode_image(make_images(model))
