"""Every ViT and Eva that the installed timm can make: explained, or refused with the reason.

A quick run holds one of each kind, which a model's name tells.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
from selection import firsts, timm_kind
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from toy import randomize

from cci_captum.vision_towers import check_vision_tower, find_vision_tower

# By name: what the refusal must say. A name that no rule knows must be explained.
REFUSED = {
    r"vit_d(wee|little)_\w+": "DiffAttention",
    r"vit_dpwee_\w+": "DiffParallelScalingBlock",
    r"vit_(\w+_xp_224|pwee_\w+)": "ParallelScalingBlock",
    r"vit_\w+_18x2_224": "ParallelThingsBlock",
    r"vit_\w+_(r26|r50|resnet26d|resnet50d)_?\w*": "convolutional stem",
    r"vit_\w+_r_s16_p8_\d+": "convolutional stem",
}
MODULES = ("vision_transformer", "vision_transformer_hybrid", "deit", "eva")
NAMES = [name for module in MODULES for name in timm.list_models(module=module)]


def shrunk(name: str) -> Any:
    """The model with two narrow blocks and a few patches, all else as timm makes it."""
    patch = re.search(r"patch(\d+)", name)
    size = (3 * int(patch[1]), 4 * int(patch[1])) if patch else (224, 224)
    options = {"embed_dim": 96, "depth": 2, "num_heads": 4, "img_size": size, "num_classes": 5}
    if "sapiens2" in name:
        options["num_kv_heads"] = 2  # timm has one number for each of its own blocks
    if name == "vit_base_mci_224":
        options |= {"embed_dim": 768, "img_size": (48, 64)}  # its stem has this width fixed
    model = timm.create_model(name, **options)
    randomize(model, 0)
    return model.eval()


@pytest.mark.shared(among=2)
@pytest.mark.parametrize("name", firsts(NAMES, timm_kind))
def test_explained_or_refused(name: str) -> None:
    reasons = [reason for rule, reason in REFUSED.items() if re.fullmatch(rule, name)]
    model = shrunk(name)
    if reasons:
        with pytest.raises(TypeError, match=reasons[0]):
            find_vision_tower(model)
        return
    assert type(model) in (VisionTransformer, VisionTransformerDistilled, Eva)
    images = torch.randn(3, 3, *model.patch_embed.img_size, generator=torch.manual_seed(0))
    check_vision_tower(find_vision_tower(model), model, images)
