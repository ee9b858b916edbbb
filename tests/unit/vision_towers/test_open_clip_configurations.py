"""Every model configuration of the installed open_clip: explained, or refused with the reason.

Each is built at its real size, without memory for its weights, and must be taken or refused as
`refusal` says. Those that are taken are then built small, with the same flags, and patches hidden.
A quick run holds one configuration of each kind.
"""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from functools import cache
from typing import Any

import open_clip
import pytest
import torch
from families import SHRUNK, text_config, timm_makes
from oracles import relative_error
from selection import firsts, timm_kind
from torch import Tensor
from torch.overrides import TorchFunctionMode
from toy import EMBEDDING, randomize

from cci_captum import find_vision_tower

# By timm_model_name: None where the encoder is explained, else what the refusal must say.
TIMM: dict[str, str | None] = {
    r"vit_\w+_patch\d+_siglip_\d+": None,
    r"vit_pe_core_\w+_patch\d+_\d+": None,
    r"vit_\w+_patch\d+_clip_\d+": None,
    r"vit_medium_patch16_gap_256": None,
    r"vit_base_mci_224": None,  # MobileCLIP-B: three convolutions that do not overlap
    r"eva(02)?_\w+_patch\d+(_clip)?_\d+": None,
    r"vitamin_\w+": "convolutional stem",
    r"vit_relpos_\w+": "relative position",
    r"convnext_\w+": "ConvNeXt",
    r"fastvit_\w+": "FastViT",
    r"swin_\w+": "Swin",
}
TIMM_POOLS = ("", "token", "map")  # "": the encoder's own
TIMM_PROJECTIONS = (None, "none", "linear")
SIZES = ("image_size", "patch_size", "layers", "width", "head_width")
# Flags of open_clip's own VisionTransformer that leave it one whose patches can be hidden.
FLAGS = (
    *("mlp_ratio", "ls_init_value", "no_ln_pre", "final_ln_after_pool", "pool_type"),
    *("attentional_pool", "attn_pooler_heads", "output_tokens"),
)


def refusal(vision: dict[str, Any]) -> str | None:
    """What the refusal of an image encoder must say; None if it must be explained."""
    timm_name = vision.get("timm_model_name")
    if timm_name is not None:
        rules = [reason for rule, reason in TIMM.items() if re.fullmatch(rule, timm_name)]
        pooled = vision["timm_pool"] in TIMM_POOLS and vision["timm_proj"] in TIMM_PROJECTIONS
        if len(rules) == 1 and (pooled or rules[0] is not None):
            return rules[0]
    elif isinstance(vision["layers"], (list, tuple)):
        return "ResNet"
    elif set(vision) <= {*SIZES, *FLAGS} and vision.get("pool_type", "tok") in ("tok", "avg"):
        return None
    raise AssertionError(
        f"no rule knows an image encoder configured so: {vision}; look at what open_clip builds, "
        "make find_vision_tower take it or refuse it with the reason, then add the rule here"
    )


CONFIGS = {name: open_clip.get_model_config(name) for name in open_clip.list_models()}


def first_alike(*left_out: str) -> dict[str, str]:
    """For each configuration the first that has the same image encoder, some flags left out."""
    first: dict[str, str] = {}
    return {
        name: first.setdefault(
            json.dumps(
                [
                    config.get("quick_gelu", False),
                    {k: v for k, v in config["vision_cfg"].items() if k not in left_out},
                ],
                sort_keys=True,
            ),
            name,
        )
        for name, config in CONFIGS.items()
    }


def kind(name: str) -> str:
    """What a configuration's image encoder is beside its sizes."""
    config = CONFIGS[name]
    vision = {k: v for k, v in config["vision_cfg"].items() if k not in SIZES}
    if "timm_model_name" in vision:
        vision["timm_model_name"] = timm_kind(vision["timm_model_name"])
    resnet = isinstance(config["vision_cfg"].get("layers"), (list, tuple))
    return json.dumps([config.get("quick_gelu", False), resnet, vision], sort_keys=True)


ALIKE = first_alike()
EXPLAINED = [
    name
    for name in dict.fromkeys(first_alike(*SIZES).values())
    if refusal(CONFIGS[name]["vision_cfg"]) is None
]


def make_model(name: str, *, small: bool) -> Any:
    """The image encoder of a configuration, in a CLIP with a small text encoder."""
    config = CONFIGS[name]
    vision = config["vision_cfg"] | {"timm_model_pretrained": False}
    embedding = config["embed_dim"]
    changed: Any = nullcontext()
    if small:
        embedding = EMBEDDING
        sizes = {"img_size": (24, 40), "patch_size": 8}
        if vision.get("timm_model_name") == "vit_base_mci_224":  # its stem has these sizes fixed
            sizes = {"img_size": (48, 80), "embed_dim": 768}
        if "timm_model_name" in vision:
            vision["image_size"] = sizes["img_size"]
            changed = timm_makes(**(SHRUNK | sizes))
        else:
            vision |= zip(SIZES, ((24, 40), 8, 2, 32, 8), strict=True)
    with changed:
        quick_gelu = config.get("quick_gelu", False)
        return open_clip.CLIP(embedding, vision, text_config(), quick_gelu=quick_gelu).eval()


class Uninitialized(TorchFunctionMode):
    """Leaves out the arithmetic that draws weights: it is slow even where there are none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and func.__name__ in ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_"):
            return args[0]
        return func(*args, **(kwargs or {}))


@cache
def found_refusal(name: str) -> str | None:
    """Why `find_vision_tower` refuses a configuration at its real size; None if it does not."""
    with torch.device("meta"), Uninitialized():  # no memory for weights
        model = make_model(name, small=False)
    try:
        assert find_vision_tower(model).module is model.visual
    except TypeError as error:
        return str(error)
    return None


@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", firsts(CONFIGS, kind))
def test_each_is_taken_or_refused_with_the_reason(name: str) -> None:
    expected, found = refusal(CONFIGS[name]["vision_cfg"]), found_refusal(ALIKE[name])
    if expected is None:
        assert found is None
    else:
        assert found is not None and expected in found


@pytest.mark.parametrize("name", firsts(EXPLAINED, kind))
def test_patches_are_hidden_in_small_copies(name: str) -> None:
    model = make_model(name, small=True)
    randomize(model, seed=0)
    tower = find_vision_tower(model)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, *model.visual.image_size, generator=generator)
    h, w = tower.grid(images)
    assert (h, w) == (3, 5)
    mask = torch.zeros(3, h * w, dtype=torch.bool)
    mask[1, [0, 7, 8]] = True
    mask[2, 2:] = True
    patch = images.shape[-1] // w
    hidden = mask.view(3, 1, h, w).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    noise = 10 * torch.randn(images.shape, generator=generator)
    painted = torch.where(hidden, noise, images)

    def run(images: Tensor) -> Tensor:
        output = model.visual(images)
        return (output[0] if isinstance(output, tuple) else output).flatten(1)

    with torch.no_grad():
        plain, plain_painted = run(images), run(painted)
        with tower.hide(mask, "drop"):
            dropped = run(images)
        with tower.hide(mask):
            masked, masked_painted = run(images), run(painted)
    assert relative_error(masked, dropped) < 1e-5
    assert relative_error(masked_painted, masked) < 1e-6
    assert relative_error(masked[0], plain[0]) < 1e-5
    for image in (1, 2):  # where something is hidden, it matters
        assert relative_error(masked[image], plain[image]) > 1e-2
        assert relative_error(plain_painted[image], plain[image]) > 1e-2


@pytest.mark.parametrize(
    "vision",
    [
        {"timm_model_name": "hiera_base_224", "timm_pool": "", "timm_proj": "linear"},
        {"timm_model_name": "eva02_base_patch16_clip_224", "timm_pool": "avg", "timm_proj": "mlp"},
        {"layers": 12, "width": 768, "patch_size": 16, "registers": 4},
        {"layers": 12, "width": 768, "patch_size": 16, "pool_type": "none"},
    ],
)
def test_a_configuration_of_a_new_kind_fails(vision: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match="add the rule here"):
        refusal(vision)


@pytest.mark.exhaustive  # builds every one
def test_as_many_are_explained_as_documented() -> None:
    counted = {"3.0.0": (91, 131), "3.3.0": (100, 144)}
    if open_clip.__version__ not in counted:
        pytest.skip(f"nobody counted those of open_clip {open_clip.__version__}")
    explained = [name for name in CONFIGS if found_refusal(ALIKE[name]) is None]
    assert (len(explained), len(CONFIGS)) == counted[open_clip.__version__]
