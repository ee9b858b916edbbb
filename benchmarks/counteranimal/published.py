"""What the paper of CounterAnimal reports, with its misprints marked.

"A Sober Look at the Robustness of CLIPs to Spurious Features" (Wang et al. 2024, arXiv
2403.11497v1), tables 3 to 5 and 9 to 16. Its ConvNeXts, and ViT-B/32 of LAION-400M, are not what a
right loader gets; column "note" says so, "reproduced" what another evaluation found.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import pandas as pd

from ..clip_variants import COUNTERANIMAL_VARIANTS, Variant

SETUPS = ("1 vs 1000", "1 vs 1000, 80 prompts", "1 vs 1000, by photo", "1 vs 20")
"""How the paper measured: all names of ImageNet, one prompt and the mean of 45 classes; with
OpenAI's 80 prompts; the mean of all photos; and 20 names a class, the mean of classes."""

TOLERANCES = {"1 vs 1000": 0.35, "1 vs 20": 1.0}
"""How far a run may be from the paper, in points: nearly all of another evaluation is as near."""

CURATED = ("DataComp-1B", "DFN-2B", "DFN-5B")
"""What the paper calls high-quality data."""

_IMAGENET_PARAMETERS = {  # in millions, as torchvision counts them
    "alexnet": 61.1, "vgg11": 132.9, "vgg13": 133.0, "vgg19": 143.7, "resnet18": 11.7,
    "resnet34": 21.8, "resnet50": 25.6, "resnet101": 44.5, "vit_b_16": 86.6, "vit_b_32": 88.2,
    "vit_l_16": 304.3, "vit_l_32": 306.5, "convnext_small": 50.2, "convnext_base": 88.6,
    "convnext_large": 197.8,
}  # fmt: skip
_TORCHVISION, _WEIGHTS = "torchvision:", "IMAGENET1K_V1"


def published_results() -> pd.DataFrame:
    """Every model and setup of the paper's tables.

    Returns:
        A row each: "family" ("clip", "imagenet" or "lvlm"), "model", as the paper calls it; "name",
        as `--model` takes it, "ViT-B-16,openai" or "torchvision:resnet50"; "architecture" and
        "tag", open_clip's; "data", what it was trained on; "curated", whether the paper calls that
        high-quality; "parameters", of the image encoder, in millions; "setup", one of `SETUPS`;
        "table", the paper's; "common", "counter" and "drop", as printed, in percent;
        "reproduced_common" and "reproduced_counter", what another evaluation found where that is
        far from it, else NaN; and "note", what is wrong with the row, "" if nothing is known.

    Example:
        >>> found = published_results()
        >>> row = found[(found["name"] == "ViT-B-16,openai") & (found["setup"] == "1 vs 1000")]
        >>> row[["common", "counter", "drop"]].values.tolist()
        [[73.08, 56.56, 16.52]]
    """
    return _results().copy()


def published_classwise(corrected: bool = True) -> pd.DataFrame:
    """The accuracies of each class, 1 vs 1000, of the five CLIPs of which the paper has them.

    Args:
        corrected: Whether three misprints are set right: "note" has the reason.

    Returns:
        A row each class and model: "ca_id", 1 to 45, "index", ImageNet's, "name", as
        `published_results` has it, "common", "counter" and "drop" in percent, and "note".

    Example:
        >>> bear = published_classwise().query("index == 296 and name == 'ViT-B-32,openai'")
        >>> bear[["common", "counter", "drop"]].values.tolist()
        [[100.0, 83.64, 16.36]]
        >>> print(bear["note"].item())
        common 100.00 - drop 16.36 = 83.64, which is 92 of 110 photos
    """
    found = _read("published_classwise.csv").astype({"note": object, "misprint": object})
    if corrected:
        for row in found[found["misprint"].notna()].itertuples():
            found.loc[row.Index, row.misprint] = row.corrected
    found["note"] = found["note"].fillna("")
    return found.drop(columns=["misprint", "corrected"])


def published_row(model: str, setup: str = "1 vs 1000") -> pd.Series | None:
    """What the paper reports of a model.

    Args:
        model: As `--model` takes it or a table of a comparison calls it: "ViT-B-16,openai",
            "ViT-B-16 openai", "torchvision:resnet50"; with "-quickgelu" or slashes, too, and with
            the weights that torchvision's models have here by default.
        setup: One of `SETUPS`.

    Returns:
        A row of `published_results`; None where it has none.

    Example:
        >>> float(published_row("ViT-B/16-quickgelu openai")["counter"])
        56.56
        >>> float(published_row("torchvision:resnet50 IMAGENET1K_V1")["counter"])
        66.07
        >>> published_row("torchvision:resnet50,IMAGENET1K_V2") is None
        True
    """
    name = plain_name(model)
    found = _results()
    found = found[(found["name"] == name) & (found["setup"] == setup)]
    return None if found.empty else found.iloc[0].copy()


def plain_name(model: str) -> str:
    """A model's name as `published_results` has it, however it is called; see `published_row`.

    Example:
        >>> plain_name("ViT-B/16-quickgelu openai"), plain_name("torchvision:vgg11 IMAGENET1K_V1")
        ('ViT-B-16,openai', 'torchvision:vgg11')
    """
    name = model.strip().replace(" ", ",")
    if name.startswith(_TORCHVISION):
        return name.removesuffix(f",{_WEIGHTS}")
    return name.replace("/", "-").replace("-quickgelu", "")


@cache
def _results() -> pd.DataFrame:
    found = _read("published_results.csv").astype({"note": object})
    found["note"] = found["note"].fillna("")
    known = [_facts(family, name) for family, name in found[["family", "name"]].to_numpy()]
    facts = pd.DataFrame(known, columns=["architecture", "tag", "data", "curated", "parameters"])
    return pd.concat([found.iloc[:, :3], facts, found.iloc[:, 3:]], axis=1)


def _read(name: str) -> pd.DataFrame:
    with files(__package__).joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file)


def _facts(family: str, name: str) -> tuple[str, str, str, bool, float]:
    """Architecture, tag, data, whether these are curated, and parameters of the image encoder."""
    if family == "clip":
        architecture, tag = name.split(",")
        variant = Variant(architecture, tag)
        small = variant.model not in _LARGEST and variant.data in CURATED  # a small DataComp
        data = f"{variant.data.split('-')[0]}, {tag.split('_')[1]}" if small else variant.data
        return architecture, tag, data, data in CURATED, variant.image_parameters
    if family == "imagenet":
        architecture = name.removeprefix(_TORCHVISION)
        return architecture, _WEIGHTS, "ImageNet", False, _IMAGENET_PARAMETERS[architecture]
    return name, "", "", False, float("nan")


_LARGEST = frozenset(variant.model for variant in COUNTERANIMAL_VARIANTS)
