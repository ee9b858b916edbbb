"""Every family of vision towers against the float64 oracle, and what hiding must not disturb."""

from __future__ import annotations

from collections.abc import Callable

import open_clip
import oracles
import pytest
import timm
import torch
import torchvision
import transformers
from families import FAMILIES, VARIANTS, Family
from helpers import Failure, close
from oracles import families as oracle
from torch import nn

from cci_captum import CCI, find_vision_tower
from cci_captum.clustering import KMeans
from cci_captum.vision_towers import (
    AttentionBlock,
    OpenCLIPTimmTower,
    VisionTower,
    hook_output,
    register_vision_tower,
    split_heads,
)

pytestmark = pytest.mark.shared(among=10)

TOLERANCE = 1e-5
EFFECT = 1e-2  # hiding moves outputs by at least this much, relative to the largest
STRATEGIES = ["mask", "drop"]


@pytest.fixture(params=FAMILIES.values(), ids=lambda family: family.name)
def family(request) -> Family:
    return request.param


def families_where(condition: Callable[[Family], bool]) -> pytest.MarkDecorator:
    """Run a test for these families alone."""
    chosen = [family for family in FAMILIES.values() if condition(family)]
    return pytest.mark.parametrize("family", chosen, ids=lambda family: family.name)


def random_masks(family: Family, batch: int = 3, seed: int = 0, grid=None) -> torch.Tensor:
    """(B, N) bool: random patches, different numbers of them, in each image."""
    h, w = grid or family.grid
    generator = torch.Generator().manual_seed(seed)
    fractions = torch.linspace(0.2, 0.7, batch)[:, None]
    return torch.rand(batch, h * w, generator=generator).argsort(1) < fractions * h * w


def repaint(images: torch.Tensor, mask: torch.Tensor, patch: int) -> torch.Tensor:
    """The images, large noise in place of the hidden patches."""
    h, w = (size // patch for size in images.shape[-2:])
    pixels = mask.reshape(-1, 1, h, w).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    noise = 1e4 * torch.randn(images.shape, generator=torch.Generator().manual_seed(7))
    return torch.where(pixels, noise, images)


def hidden_features(family, model, images, mask, strategy, **options):
    with find_vision_tower(model).hide(mask, strategy=strategy) as hiding:
        result = family.run(model, images, **options)
    assert hiding.passes == 1
    return result


# Exactness


@torch.no_grad()
def test_the_oracle_is_the_plain_model(family):
    """In float64; the libraries compute rotary angles in float32, mixed ones can do no other."""
    model, images = family.make(seed=1), family.images()
    if "mixed" in family.name:
        close(family.run(model, images), oracle.features(model, images), 2e-6)
    else:
        exact = family.run(model.double(), images.double())
        close(exact, oracle.features(model, images), 1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
@torch.no_grad()
def test_outputs(family, seed):
    """By mask, by drop and the oracle agree, with every implementation of attention."""
    images, mask = family.images(seed=seed), random_masks(family, seed=seed)
    for attn in family.attentions if seed == 0 else ["sdpa"]:
        model = family.make(seed, attn)
        expected = oracle.features(model, images, mask)
        for strategy in STRATEGIES:
            close(hidden_features(family, model, images, mask, strategy), expected)
        assert oracles.relative_error(family.run(model, images), expected) > EFFECT


@pytest.mark.parametrize("seed", [0, 1])
@torch.no_grad()
def test_recorded_tokens(family, seed):
    """The tokens of every layer: nothing hidden, and zeros where hidden, by either strategy."""
    model, images = family.make(seed), family.images(seed=seed)
    tower, mask = find_vision_tower(model), random_masks(family, seed=seed)
    plain, kept = (oracle.patch_tokens(model, images, hidden) for hidden in (None, mask))
    assert {"input", 0, 1, 2} <= set(plain)
    for layer in plain:
        with tower.record(layer) as recording:
            family.run(model, images)
        assert recording.grid == family.grid
        close(recording.tokens, plain[layer])
        for strategy in STRATEGIES:
            with tower.hide(mask, strategy=strategy), tower.record(layer) as recording:
                family.run(model, images)
            close(recording.tokens, kept[layer])
            assert (recording.tokens[mask] == 0).all()


def test_projected_tokens_are_refused_where_there_are_none(family):
    model = family.make()
    tower = find_vision_tower(model)
    if oracle.plain_tower(model).project is not None:
        tower.check_layer("projected")
        return
    with pytest.raises(TypeError, match=r"vision_tower: .*(pool|side by side)"):  # noqa: SIM117
        with tower.record("projected"):
            pass


@pytest.mark.parametrize("strategy", STRATEGIES)
@torch.no_grad()
def test_none_one_and_all(family, strategy):
    """In one batch: nothing hidden, all but one patch hidden, everything hidden."""
    model, images = family.make(seed=3), family.images()
    mask = torch.zeros_like(random_masks(family))
    mask[1, 1:] = True
    mask[2] = True
    expected = oracle.features(model, images, mask)
    close(hidden_features(family, model, images, mask, strategy), expected)


@pytest.mark.parametrize("strategy", STRATEGIES)
@torch.no_grad()
def test_everything_hidden(family, strategy):
    """No image of the batch keeps a patch: there is an answer, the same for all images."""
    model, images = family.make(seed=3), family.images()
    mask = torch.ones_like(random_masks(family))
    features = hidden_features(family, model, images, mask, strategy)
    expected = oracle.features(model, images, mask).float()
    torch.testing.assert_close(features, expected, atol=TOLERANCE, rtol=TOLERANCE)  # may be zero
    assert torch.equal(expected, expected[:1].expand_as(expected))


@pytest.mark.parametrize("strategy", STRATEGIES)
@torch.no_grad()
def test_hiding_nothing_changes_nothing(family, strategy):
    model, images = family.make(seed=4), family.images()
    nothing = torch.zeros_like(random_masks(family))
    features = hidden_features(family, model, images, nothing, strategy)
    close(features, family.run(model, images), 2e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
@torch.no_grad()
def test_pixels_of_hidden_patches_do_not_matter(family, strategy):
    model, images, mask = family.make(seed=5), family.images(), random_masks(family)
    painted = repaint(images, mask, family.patch)
    assert oracles.relative_error(family.run(model, painted), family.run(model, images)) > EFFECT
    plain = hidden_features(family, model, images, mask, strategy)
    close(hidden_features(family, model, painted, mask, strategy), plain, 1e-6)


def test_no_gradient_reaches_hidden_patches(family):
    """And none is NaN where nothing is kept."""
    model, images, mask = family.make(5), family.images().requires_grad_(), random_masks(family)
    mask[2] = True
    for strategy in STRATEGIES:
        features = hidden_features(family, model, images, mask, strategy)
        (gradient,) = torch.autograd.grad(features.sum(), images)
        assert torch.isfinite(gradient).all()
        patches = nn.functional.unfold(gradient, family.patch, stride=family.patch)
        strength = patches.abs().amax(1)  # (B, N)
        assert (strength[mask] == 0).all()
        assert (strength[~mask] > 0).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
@torch.no_grad()
def test_images_of_a_batch_do_not_touch(family, strategy):
    """Eight images together, with different numbers of hidden patches, are eight alone."""
    for attn in family.attentions:
        model, images = family.make(6, attn), family.images(8)
        mask = random_masks(family, 8)
        together = hidden_features(family, model, images, mask, strategy)
        for i in range(0, 8, len(family.attentions)):
            row = slice(i, i + 1)
            alone = hidden_features(family, model, images[row], mask[row], strategy)
            close(together[row], alone)


@torch.no_grad()
def test_autocast(family):
    """bfloat16 comes near float32, nearer than the plain output is; paint still has no effect."""
    for attn in family.attentions:
        model, images, mask = family.make(7, attn), family.images(), random_masks(family)
        expected = oracle.features(model, images, mask)
        painted = repaint(images, mask, family.patch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            difference = oracles.relative_error(family.run(model, images), expected)
            for strategy in STRATEGIES:
                features = hidden_features(family, model, images, mask, strategy)
                noisy = hidden_features(family, model, painted, mask, strategy)
                close(noisy, features, 1e-6)
                close(features, expected, min(0.1, difference / 2))


# Sizes


@families_where(lambda family: family.any_size != "never")
@pytest.mark.parametrize("rows, columns", [(2, 1), (-1, 3)])
@torch.no_grad()
def test_other_image_sizes(family, rows, columns):
    """More or fewer rows and columns of patches than the model was made for."""
    model = family.make(8, **({"dynamic_img_size": True} if family.any_size == "make" else {}))
    options = {"interpolate_pos_encoding": True} if family.any_size == "run" else {}
    grid = h, w = family.grid[0] + rows, family.grid[1] + columns
    images = family.images(size=(h * family.patch, w * family.patch))
    tower, mask = find_vision_tower(model), random_masks(family, grid=grid)
    assert tower.grid(images) == grid
    features = {}
    for strategy in STRATEGIES:
        with tower.record(-1) as recording:
            features[strategy] = hidden_features(family, model, images, mask, strategy, **options)
        assert recording.grid == grid
        assert recording.tokens.shape[:2] == mask.shape
        painted = repaint(images, mask, family.patch)
        close(
            hidden_features(family, model, painted, mask, strategy, **options),
            features[strategy],
            1e-6,
        )
    close(features["mask"], features["drop"])
    assert oracles.relative_error(family.run(model, images, **options), features["mask"]) > EFFECT


def test_wrong_image_sizes(family):
    tower = find_vision_tower(family.make())
    with pytest.raises(ValueError, match=r"images: expected shape \(B, 3, H, W\), got \(3, 8, 8\)"):
        tower.grid(torch.zeros(3, 8, 8))
    if "DINOv3" not in family.name and family.any_size in ("never", "make"):
        height, width = family.image_size
        with pytest.raises(ValueError, match=f"images: expected height x width {height} x {width}"):
            tower.grid(torch.zeros(1, 3, height + family.patch, width))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_masks_that_do_not_fit(family, strategy):
    model, images = family.make(), family.images()
    tower, mask = find_vision_tower(model), random_masks(family)
    for wrong in (mask[:2], mask[:, :-1]):
        with (
            pytest.raises(ValueError, match=r"mask: expected shape \(3, \d+\)"),
            tower.hide(wrong, strategy=strategy),
        ):
            family.run(model, images)


# What must not change


def state_of(model):
    """Everything that using a tower must leave as it was."""
    hooks = [
        (name, kind, len(getattr(module, kind)))
        for name, module in model.named_modules()
        for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    ]
    modes = [
        (name, module.training, getattr(module, "fused_attn", None))
        for name, module in model.named_modules()
    ]
    attributes = [
        (name, sorted(key for key in vars(module) if not key.startswith("_")))
        for name, module in model.named_modules()
    ]
    config = getattr(model, "config", None)
    configured = config and (config.to_dict(), config._attn_implementation)
    gradients = [(name, value.requires_grad) for name, value in model.named_parameters()]
    return hooks, modes, attributes, configured, gradients


@pytest.mark.parametrize("strategy", STRATEGIES)
@torch.no_grad()
def test_the_model_is_left_as_it_was(family, strategy):
    model, images, mask = family.make(seed=9), family.images(), random_masks(family)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    before, expected = state_of(model), family.run(model, images)
    tower = find_vision_tower(model)
    with tower.hide(mask, strategy=strategy), tower.record(-1):
        family.run(model, images)
    with tower.record_attention([0, -1], requires_grad=True):
        family.run(model, images)
    assert state_of(model) == before

    def fail(module, args, output):
        raise Failure

    handle = tower.layer_module(1).register_forward_hook(fail)  # in the midst of a pass
    contexts = (
        lambda: tower.hide(mask, strategy=strategy),
        lambda: tower.record(-1),
        lambda: tower.record_attention([0, 1, 2], requires_grad=True),
    )
    for context in contexts:
        with pytest.raises(Failure), context():
            family.run(model, images)
    handle.remove()
    assert not torch.is_grad_enabled()
    assert state_of(model) == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert torch.equal(family.run(model, images), expected)


@families_where(lambda family: family.library != "transformers")
@torch.no_grad()
def test_patch_dropout_is_off_while_looking(family):
    """In train mode, with what else is random or adapts there switched off."""
    option = "patch_drop_rate" if family.any_size == "make" else "patch_dropout"
    model = family.make(10, **{option: 0.5}).train()
    for module in model.modules():
        if type(module).__name__ == "DropPath" or isinstance(module, nn.BatchNorm2d):
            module.eval()
    images, mask = family.images(), random_masks(family)
    torch.manual_seed(0)
    assert oracles.relative_error(family.run(model, images), family.run(model, images)) > EFFECT
    for strategy in STRATEGIES:
        features = hidden_features(family, model, images, mask, strategy)
        close(features, oracle.features(model, images, mask))
    with find_vision_tower(model).record(-1) as recording:
        family.run(model, images)
    close(recording.tokens, oracle.patch_tokens(model, images)[2])
    assert model.training


# Attention


def can_read_pool(family):
    """CoCa's cascade reads the image feature through two attention pools in a row."""
    return "cascade" not in family.name


def test_two_attention_pools_in_a_row_are_refused():
    tower = find_vision_tower(FAMILIES["open_clip CoCa, cascade"].make())
    with pytest.raises(TypeError, match=r"vision_tower: .*two attention pools"):
        tower.check_attention()
    with pytest.raises(TypeError, match=r"two attention pools"), tower.record_attention():
        pass


@torch.no_grad()
def test_the_open_computation_is_the_same_function(family):
    for attn in family.attentions:
        model, images = family.make(11, attn), family.images()
        expected, tower = family.run(model, images), find_vision_tower(model)
        with tower.record_attention(range(3), pool=can_read_pool(family)) as recording:
            close(family.run(model, images), expected)
        prefix = tower.num_prefix_tokens
        tokens = prefix + family.grid[0] * family.grid[1]
        assert [len(recording.blocks), recording.grid] == [3, family.grid]
        for block in recording.blocks:
            assert block.probabilities.shape == (3, 4, tokens, tokens)
            close(block.probabilities.sum(-1), torch.ones(3, 4, tokens))
            assert block.probabilities.std(-1).mean() > 0.01 / tokens  # far from uniform
        has_pool = family.readout == "attention pool" and can_read_pool(family)
        assert (recording.pool is not None) == has_pool
        if recording.pool is not None:
            probabilities = recording.pool.probabilities
            assert recording.pool.patches(probabilities.movedim(-1, 1)).shape[1] == tokens - prefix
            close(probabilities.sum(-1), torch.ones(probabilities.shape[:-1]))


@torch.no_grad()
def test_hidden_patches_get_no_attention(family):
    model, images, mask = family.make(12), family.images(), random_masks(family)
    tower, expected = find_vision_tower(model), oracle.features(model, images, mask)
    with (
        tower.hide(mask),
        tower.record_attention(range(3), pool=can_read_pool(family)) as recording,
    ):
        close(family.run(model, images), expected)
    layers = [*recording.blocks, *([recording.pool] if recording.pool else [])]
    for layer in layers:
        per_key = layer.patches(layer.probabilities.movedim(-1, 1))  # (B, N, H, Q)
        assert (per_key[mask] == 0).all()
        assert (per_key[~mask] > 0).all()


@families_where(can_read_pool)
def test_gradients_reach_the_attention(family):
    """The gradient of an output with respect to what the last attention makes of the values."""
    model, images = family.make(13), family.images()
    with find_vision_tower(model).record_attention(requires_grad=True) as recording:
        output = family.run(model, images)[:, 0].sum()
        (gradient,) = torch.autograd.grad(output, recording.last.context)
        assert torch.isfinite(gradient).all()
        assert (gradient.flatten(1).abs().amax(1) > 0).all()


@pytest.mark.parametrize("family", VARIANTS.values(), ids=lambda family: family.name)
@torch.no_grad()
def test_options(family):
    """Options that few checkpoints use: outputs and tokens are the oracle's all the same."""
    for attn in family.attentions:
        model, images, mask = family.make(15, attn), family.images(), random_masks(family)
        tower = find_vision_tower(model)
        plain, expected = oracle.features(model, images), oracle.features(model, images, mask)
        tokens = oracle.patch_tokens(model, images, mask)
        close(family.run(model, images), plain)
        for strategy in STRATEGIES:
            with tower.hide(mask, strategy=strategy), tower.record(-1) as recording:
                close(family.run(model, images), expected)
            close(recording.tokens, tokens[2])
        with tower.record_attention(range(3), pool=True):
            close(family.run(model, images), plain)
        assert oracles.relative_error(plain, expected) > EFFECT


@torch.no_grad()
def test_cci(family):
    """The whole method, on the tower itself: masked outputs are the oracle's."""
    model, images = family.make(14), family.images(2)

    def forward(images):
        return family.run(model, images)

    cci = CCI(forward, vision_tower=find_vision_tower(model), clustering=KMeans(3))
    effects = cci.effects(images)
    expected = oracles.masked_outputs(
        lambda hidden: oracle.features(model, images, hidden), effects.labels, 3
    )
    close(effects.masked_outputs, expected)


# Finding


REFUSED = {
    "timm ResNet": (lambda: timm.create_model("resnet10t"), "ResNet"),
    "torchvision ResNet": (lambda: torchvision.models.resnet18(), "ResNet"),
    "open_clip ResNet": (
        lambda: open_clip.CLIP(
            8,
            {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32, "head_width": 8},
            {"context_length": 8, "vocab_size": 16, "width": 8, "heads": 1, "layers": 1},
        ),
        "ResNet",
    ),
    "timm ConvNeXt": (
        lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)),
        "ConvNeXt",
    ),
    "timm Swin": (
        lambda: timm.create_model(
            "swin_base_patch4_window7_224", embed_dim=8, depths=(1, 1), num_heads=(1, 1)
        ),
        "Swin",
    ),
    "transformers Swin": (
        lambda: transformers.SwinModel(
            transformers.SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 1], image_size=32)
        ),
        "Swin",
    ),
    "timm FastViT": (lambda: timm.create_model("fastvit_t8"), "FastViT"),
    "timm ViTamin": (
        lambda: timm.create_model("vitamin_small_224", img_size=64, depth=1),
        "stem|Vitamin|ViTamin",
    ),
    "timm ViT on a ResNet": (
        lambda: timm.create_model("vit_tiny_r_s16_p8_224", depth=1, img_size=32),
        "stem",
    ),
    "timm ViT, relative positions": (
        lambda: timm.create_model(
            "vit_relpos_medium_patch16_cls_224", embed_dim=8, depth=1, num_heads=1, img_size=32
        ),
        "relative position",
    ),
    "timm ViT, parallel branches": (
        lambda: timm.create_model(
            "vit_small_patch16_18x2_224", embed_dim=8, depth=1, num_heads=1, img_size=32
        ),
        "blocks of type",
    ),
    "timm ViT, differential attention": (
        lambda: timm.create_model("vit_dwee_patch16_reg1_gap_256", depth=1, img_size=32),
        "attention",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_towers(name):
    """TypeError with the reason, for the image encoder and for a module that holds it."""
    if "differential" in name and not timm.list_models("vit_dwee*"):
        pytest.skip("not in this timm")
    make, reason = REFUSED[name]
    encoder = make()
    for module in (encoder, nn.Sequential(encoder, nn.Identity())):
        with pytest.raises(TypeError, match=rf"vision_tower: .*({reason})"):
            find_vision_tower(module)


def test_refused_inside_open_clip():
    """The name in a configuration makes no difference: the reason is the trunk's."""
    model = open_clip.timm_model.TimmModel("resnet10t", 8, image_size=32)
    with pytest.raises(TypeError, match=r"vision_tower: .*ResNet"):
        find_vision_tower(model)


def test_the_outermost_image_encoder_is_taken(family):
    model = family.make()
    outermost = model.visual if family.library == "open_clip" else model
    for module in (model, nn.Sequential(nn.Identity(), model), find_vision_tower(model)):
        assert find_vision_tower(module).module is outermost
    shared = nn.ModuleList([model, model])  # one image encoder under two names
    assert find_vision_tower(shared).module is outermost


def test_the_trunk_of_a_timm_model():
    """What is passed decides: with open_clip's head around it or without."""
    family = FAMILIES["open_clip TimmModel ViT, average"]
    visual = family.make().visual
    assert isinstance(find_vision_tower(visual), OpenCLIPTimmTower)
    assert find_vision_tower(visual.trunk).module is visual.trunk


def test_two_image_encoders():
    family = FAMILIES["open_clip TimmModel SigLIP"]  # with an image encoder inside each
    pair = nn.ModuleDict({"a": family.make(0), "b": family.make(1)})
    with pytest.raises(ValueError, match=r"vision_tower: 2 image encoders.*\(a.*, b"):
        find_vision_tower(pair)


def test_no_image_encoder():
    with pytest.raises(ValueError, match=r"vision_tower: no supported image encoder in \S*Linear"):
        find_vision_tower(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"module: expected a torch.nn.Module.*got str"):
        find_vision_tower("ViT-B-32")


# A family of one's own


class OurBlock(nn.Module):
    """A pre-norm block with two heads."""

    def __init__(self, width):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = OurAttention(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.Tanh())

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class OurAttention(nn.Module):
    """Softmax attention that takes no mask."""

    def __init__(self, width):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (split_heads(part, 2) for part in (3 * self.qkv(x)).chunk(3, -1))
        x = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        return self.out(x.transpose(1, 2).flatten(2))


class OurViT(nn.Module):
    """Patches of 4 pixels, fixed 3 x 2 grid, averaged."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.positions = nn.Parameter(torch.randn(6, 8))
        self.start = nn.Identity()
        self.blocks = nn.ModuleList([OurBlock(8), OurBlock(8)])
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, images):
        return self.from_tokens(self.embed(images).flatten(2).mT + self.positions)

    def from_tokens(self, x):
        x = self.start(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class OurTowerBlock(AttentionBlock):
    """What a block must answer."""

    num_heads = 2

    def __init__(self, block):
        self.module, self.attention = block, block.attn

    def project_qkv(self, inputs):
        q, k, v = (split_heads(part, 2) for part in (3 * self.attention.qkv(inputs)).chunk(3, -1))
        return q, k, v

    def project_out(self, context):
        return self.attention.out(context)

    def add_attention(self, tokens, attention):
        return tokens + attention

    def add_mlp(self, tokens):
        return tokens + self.module.mlp(self.module.norm2(tokens))


class OurTower(VisionTower):
    """What a tower must answer."""

    num_prefix_tokens = 0

    @property
    def blocks(self):
        return [OurTowerBlock(block) for block in self.module.blocks]

    @property
    def entry(self):
        return self.module.embed

    @property
    def input_module(self):
        return self.module.start

    def grid_of(self, height, width):
        if (height, width) != (12, 8):
            raise ValueError(f"images: expected 12 x 8 pixels, got {height} x {width}")
        return 3, 2

    def pool(self, tokens):
        return tokens.mean(1)

    def project(self, tokens):
        return self.module.head(self.module.norm.forward(tokens))

    def read_out(self, tokens):
        return self.module.head(self.pool(self.module.norm.forward(tokens)))

    def hide_in_read_out(self, hiding):
        if hiding.strategy == "drop":
            yield hook_output(self.module.blocks[-1], hiding.restore)
        yield hook_output(self.module.norm, hiding.average_kept)


@pytest.fixture
def our_vit():
    torch.manual_seed(0)
    return OurViT().eval()


@pytest.fixture
def registration():
    handle = register_vision_tower(lambda module: isinstance(module, OurViT), OurTower)
    yield handle
    handle.remove()


@torch.no_grad()
def test_an_adapter_of_ones_own(our_vit, registration):
    """Hiding is leaving tokens out, computed here by the model on fewer tokens."""
    images = torch.randn(3, 3, 12, 8)
    mask = torch.tensor([[0, 1, 0, 0, 1, 0], [1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]]).bool()
    tokens = our_vit.embed(images).flatten(2).mT + our_vit.positions
    expected = torch.cat([our_vit.from_tokens(t[~m][None]) for t, m in zip(tokens, mask)])  # noqa: B905
    tower = find_vision_tower(nn.Sequential(our_vit))
    assert isinstance(tower, OurTower)
    for strategy in STRATEGIES:
        with tower.hide(mask, strategy=strategy), tower.record(0) as recording:
            close(our_vit(images), expected)
        assert recording.tokens.shape == (3, 6, 8)
        assert (recording.tokens[mask] == 0).all()
    with tower.record_attention([0, 1]) as attention:
        close(our_vit(images), our_vit.from_tokens(tokens))
    close(attention.last.probabilities.sum(-1), torch.ones(3, 2, 6))
    effects = CCI(our_vit, clustering=KMeans(2)).effects(images)
    assert effects.masked_outputs.shape == (3, 2, 5)


def test_registrations_end(our_vit, registration):
    assert isinstance(find_vision_tower(our_vit), OurTower)
    registration.remove()
    registration.remove()  # a second call does nothing
    with pytest.raises(ValueError, match=r"no supported image encoder in \S*OurViT"):
        find_vision_tower(our_vit)


def test_registered_adapters_come_first(our_vit):
    """Before the built-in ones, and the latest first."""

    class Other(OpenCLIPTimmTower):
        pass

    model = FAMILIES["open_clip TimmModel SigLIP"].make()
    first = register_vision_tower(OpenCLIPTimmTower.matches, Other)
    assert type(find_vision_tower(model)) is Other

    class Latest(Other):
        pass

    second = register_vision_tower(OpenCLIPTimmTower.matches, Latest)
    assert type(find_vision_tower(model)) is Latest
    second.remove()
    assert type(find_vision_tower(model)) is Other
    first.remove()
    assert type(find_vision_tower(model)) is OpenCLIPTimmTower


@pytest.mark.parametrize("arguments", [(None, OurTower), (lambda module: True, "OurTower")])
def test_registrations_are_checked(arguments):
    with pytest.raises(TypeError, match=r"(predicate|adapter): expected a callable"):
        register_vision_tower(*arguments)
