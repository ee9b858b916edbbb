"""Importing CCI imports no library of models; CCI takes the models of those that come later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch
from helpers import ROOT
from selection import exhaustive_unless

import cci_captum
import cci_captum.baselines

PAGE = ROOT / "docs" / "vision_towers.md"
LIBRARIES = ("open_clip", "timm", "transformers", "torchvision", "torch._dynamo", "pandas")
# Loads models, most of them open_clip's; draws.
HEAVY = ("models.loading", "models.as_clip", "visualization", "explaining", "explanation")

# A small random model, and a forward function.
MODELS = {
    "timm": """
import timm
model = timm.create_model(
    "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2,
    num_classes=5,
)
forward = model
""",
    "open_clip": """
import open_clip
model = open_clip.CLIP(
    16,
    {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
)
forward = model.encode_image
""",
    "transformers": """
import transformers
config = transformers.ViTConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
    image_size=32, patch_size=8, num_labels=5,
)
model = transformers.ViTForImageClassification(config)
forward = ImageClassifier(model)
""",
}
EXPLAIN = """
model.eval()
images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
maps = CCI(forward, model, clustering=KMeans(3)).attribute(images, target=1)
"""
# Libraries that stay out where such a model is explained.
WITHOUT = {
    "timm": ("open_clip",),
    "open_clip": (),
    "transformers": ("open_clip", "timm"),
}


def fresh(code: str, *arguments: Path) -> str:
    """What a new process prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(code: str) -> set[str]:
    """Names of all modules that a new process has after it."""
    return set(fresh(f"{code}\nimport sys\nprint(*sys.modules)").split())


@pytest.mark.exhaustive
def test_no_library_is_imported_that_captum_does_not_import() -> None:
    light = [name for name, module in cci_captum._MODULES.items() if module not in HEAVY]
    assert "CCI" in light and "ZeroShotClassifier" in light
    code = f"from cci_captum import {', '.join(light)}\n"
    code += f"from cci_captum.baselines import {', '.join(cci_captum.baselines.__all__)}"
    without = loaded_by("import torch, captum.attr")
    new = loaded_by(code) - without
    packages = {name.split(".")[0] for name in new}
    known = {name.split(".")[0] for name in without} | sys.stdlib_module_names
    assert packages - known == {"cci_captum"}
    assert not new.intersection(LIBRARIES)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "library", [exhaustive_unless(library == "timm", library) for library in MODELS]
)
def test_a_model_is_explained_whose_library_is_imported_later(library: str, tmp_path: Path) -> None:
    """As where everything is imported already: here."""
    build = f"torch.manual_seed(0)\n{MODELS[library]}{EXPLAIN}"
    path = tmp_path / "maps.pt"
    code = f"""
import sys
import torch
from cci_captum import CCI, ImageClassifier, KMeans
assert not {{"open_clip", "timm"}}.intersection(sys.modules)
torch.set_num_threads(1)
{build}
assert not {set(WITHOUT[library])}.intersection(sys.modules)
torch.save(maps, sys.argv[1])
"""
    fresh(code, path)
    from cci_captum import CCI, ImageClassifier, KMeans

    names: dict[str, Any] = {
        "torch": torch,
        "CCI": CCI,
        "KMeans": KMeans,
        "ImageClassifier": ImageClassifier,
    }
    exec(build, names)
    assert names["maps"].std() > 0
    assert oracles.relative_error(torch.load(path), names["maps"]) < 1e-5


@pytest.mark.exhaustive
def test_without_any_library() -> None:
    """A model of one's own, compiled only once patches are hidden; and a refusal's reason."""
    fresh(
        """
import re, sys
from pathlib import Path
import torch
from torch import nn
import cci_captum

text = Path(sys.argv[1]).read_text(encoding="utf-8")
blocks = re.findall(r"```python\\n(.*?)```", text, re.DOTALL)
exec("\\n".join(block for block in blocks if "class Lab" in block))
torch.manual_seed(0)
model, images = LabViT().eval(), torch.randn(2, 3, 32, 32)
expected = cci_captum.CCI(model).attribute(images, target=0)

class ResNet(nn.Module):
    pass

for module, error, reason in (
    (ResNet(), TypeError, "a ResNet has no patch tokens"),
    (nn.Linear(2, 2), ValueError, "no supported image encoder .*open_clip.*timm.*transformers"),
):
    try:
        cci_captum.find_vision_tower(module)
    except error as refusal:
        assert re.search(reason, str(refusal)), refusal
    else:
        raise AssertionError(f"not refused: {module}")
assert not {"open_clip", "timm"}.intersection(sys.modules)

compiled = []
def forward(images):
    if not compiled:
        compiled.append(torch.compile(model, backend="eager"))
    return compiled[0](images)

maps = cci_captum.CCI(forward, model).attribute(images, target=0, check=False)
assert expected.std() > 0 and torch.allclose(maps, expected, atol=1e-5), (maps, expected)
assert torch.allclose(forward(images), model(images), atol=1e-5)
""",
        PAGE,
    )
