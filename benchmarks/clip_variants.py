"""CLIP models that studies compare: the CCI paper's eighteen, and CounterAnimal's twenty-eight.

Facts only, no torch. What they are is open_clip's; how large is counted by
`cci_captum.benchmarks.speed.passes`, which prints both lists as tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

Backbone = Literal["ViT", "EVA02", "PE", "ResNet", "ConvNeXt"]
Loss = Literal["softmax", "sigmoid"]


@dataclass(frozen=True)
class Architecture:
    """One of open_clip's configurations.

    Attributes:
        backbone: Family of the image encoder. Those of EVA02 and PE are ViTs with rotary position
            embeddings; EVA02's were trained to predict CLIP features of hidden patches first.
        patch: Side of a patch in pixels; None where there are none, so that CCI cannot explain it.
        image_size: Side of the images that it sees, in pixels.
        image_parameters: Of the image encoder, in millions.
        parameters: Of the whole model, in millions.
        gflops: Floating-point operations of one image through the image encoder, in 1e9; a
            multiplication and its addition are two.
        loss: Over the pairs of a batch: each image's softmax over texts and the reverse (CLIP), or
            a sigmoid for every pair (SigLIP, arXiv 2303.15343).
    """

    backbone: Backbone
    patch: int | None
    image_size: int
    image_parameters: float
    parameters: float
    gflops: float
    loss: Loss = "softmax"


ARCHITECTURES = {
    "RN50": Architecture("ResNet", None, 224, 38.32, 102.01, 12.22),
    "RN101": Architecture("ResNet", None, 224, 56.26, 119.69, 19.54),
    "RN50x4": Architecture("ResNet", None, 288, 87.14, 178.30, 42.56),
    "RN50x16": Architecture("ResNet", None, 384, 167.33, 290.98, 149.39),
    "RN50x64": Architecture("ResNet", None, 448, 420.38, 623.26, 529.11),
    "convnext_base": Architecture("ConvNeXt", None, 224, 88.09, 151.52, 30.71),
    "convnext_base_w": Architecture("ConvNeXt", None, 256, 88.22, 179.39, 40.11),
    "ViT-B-32": Architecture("ViT", 32, 224, 87.85, 151.28, 8.82),
    "ViT-B-32-256": Architecture("ViT", 32, 256, 87.86, 151.29, 11.50),
    "ViT-B-16": Architecture("ViT", 16, 224, 86.19, 149.62, 35.13),
    "ViT-L-14": Architecture("ViT", 14, 224, 303.97, 427.62, 162.03),
    "ViT-L-14-336": Architecture("ViT", 14, 336, 304.29, 427.94, 381.92),
    "ViT-H-14": Architecture("ViT", 14, 224, 632.08, 986.11, 334.59),
    "ViT-H-14-378": Architecture("ViT", 14, 378, 632.68, 986.71, 1006.96),
    "ViT-g-14": Architecture("ViT", 14, 224, 1012.65, 1366.68, 534.06),
    "ViT-bigG-14": Architecture("ViT", 14, 224, 1844.91, 2539.57, 967.50),
    "coca_ViT-B-32": Architecture("ViT", 32, 224, 89.16, 253.56, 9.19),
    "ViT-SO400M-14-SigLIP": Architecture("ViT", 14, 224, 427.68, 877.36, 220.35, "sigmoid"),
    "ViT-B-16-SigLIP2": Architecture("ViT", 16, 224, 92.88, 375.19, 35.42, "sigmoid"),
    "ViT-B-16-SigLIP2-512": Architecture("ViT", 16, 512, 93.52, 375.82, 216.24, "sigmoid"),
    "EVA02-B-16": Architecture("EVA02", 16, 224, 86.26, 149.69, 35.13),
    "PE-Core-T-16-384": Architecture("PE", 16, 384, 6.14, 69.55, 9.45),
}
"""Those of the variants: open_clip's name -> facts."""

_DATA = {
    "openai": "WIT-400M",
    "laion400m": "LAION-400M",
    "laion2b": "LAION-2B",
    "datacomp": "DataComp-1B",
    "commonpool": "CommonPool-12.8B",
    "dfn2b": "DFN-2B",
    "dfn5b": "DFN-5B",
    "metaclip": "MetaCLIP-400M",
    "merged2b": "Merged-2B",
    "webli": "WebLI",
    "meta": "Meta's 5.4B, videos",
}
"""What a tag's weights were trained on, by the tag up to its first underscore."""

# Of the tag; but of LAION-400M's ViTs those of patch 32 alone.
_QUICK_GELU = ("openai", "dfn2b", "dfn5b", "metaclip_400m")
_QUICK_GELU_MODEL = "ViT-B-32,laion400m_e31"


@dataclass(frozen=True)
class Variant:
    """An architecture with a set of weights.

    Args:
        architecture: open_clip's name of it, a key of `ARCHITECTURES`.
        pretrained: open_clip's tag of the weights.
        reason: Why it is in the list, in a sentence.
        known: Whether the CCI paper is known to have it; `reason` says what that leaves open.

    Example:
        >>> variant = find_variant("ViT-B-16,openai")
        >>> variant.patch, variant.patches, variant.data, variant.quick_gelu
        (16, 196, 'WIT-400M', True)
    """

    architecture: str
    pretrained: str
    reason: str = "One of CounterAnimal's 28 CLIPs."
    known: bool = False

    @property
    def model(self) -> str:
        """As the option `--model` takes it."""
        return f"{self.architecture},{self.pretrained}"

    @property
    def data(self) -> str:
        """What the weights were trained on."""
        return _DATA[self.pretrained.split("_")[0]]

    @property
    def quick_gelu(self) -> bool:
        """Whether the weights need x sigmoid(1.702 x) in place of GELU.

        `load_clip` sees to it; `open_clip.create_model` 3.x does when it is given
        `force_quick_gelu=True`.
        """
        return self.pretrained in _QUICK_GELU or self.model == _QUICK_GELU_MODEL

    @property
    def explainable(self) -> bool:
        """Whether it has patch tokens that CCI can hide; ResNets and ConvNeXts do not."""
        return self.patch is not None

    @property
    def patches(self) -> int | None:
        """Patch tokens of an image."""
        return None if self.patch is None else (self.image_size // self.patch) ** 2

    @property
    def backbone(self) -> Backbone:
        """See `Architecture`, as for those below."""
        return self._facts.backbone

    @property
    def patch(self) -> int | None:
        """Side of a patch in pixels."""
        return self._facts.patch

    @property
    def image_size(self) -> int:
        """Side of the image in pixels."""
        return self._facts.image_size

    @property
    def image_parameters(self) -> float:
        """Of the image encoder, in millions."""
        return self._facts.image_parameters

    @property
    def parameters(self) -> float:
        """Of the whole model, in millions."""
        return self._facts.parameters

    @property
    def gflops(self) -> float:
        """Floating-point operations of one image through the image encoder, in 1e9."""
        return self._facts.gflops

    @property
    def loss(self) -> Loss:
        """Softmax or sigmoid."""
        return self._facts.loss

    @property
    def _facts(self) -> Architecture:
        return ARCHITECTURES[self.architecture]


PAPER_VARIANTS = (
    Variant("ViT-B-32", "datacomp_xl_s13b_b90k", "The paper's, by name.", known=True),
    Variant("ViT-B-16", "datacomp_xl_s13b_b90k", "The paper's, by name.", known=True),
    Variant(
        "ViT-bigG-14",
        "laion2b_s39b_b160k",
        "The paper has a ViT-bigG, without saying whose weights: the first ones published.",
        known=True,
    ),
    Variant(
        "ViT-H-14",
        "dfn5b",
        "The paper's, by name; of its two image sizes, that of most others.",
        known=True,
    ),
    Variant(
        "ViT-B-16-SigLIP2-512",
        "webli",
        "The paper has a SigLIP 2 at 512 pixels, without saying how large: the smallest.",
        known=True,
    ),
    Variant("ViT-B-16", "openai", "The first CLIP; the one most often explained."),
    Variant("ViT-L-14-336", "openai", "The first CLIP at its largest, with 576 patches."),
    Variant("ViT-B-32", "laion400m_e31", "The model that CounterAnimal's photos were chosen by."),
    Variant("ViT-B-16", "laion2b_s34b_b88k", "Like DataComp's B/16, on data that are not curated."),
    Variant("ViT-B-16", "metaclip_400m", "Like OpenAI's B/16, on public data curated alike."),
    Variant(
        "ViT-L-14",
        "datacomp_xl_s13b_b90k",
        "The third size on DataComp-1B: size and patch on the same data.",
    ),
    Variant(
        "ViT-L-14",
        "commonpool_xl_s13b_b90k",
        "Like DataComp's L/14, as many pairs of the same pool unfiltered: curation alone.",
    ),
    Variant("ViT-H-14", "laion2b_s32b_b79k", "Like DFN-5B's H/14: data alone, at that size."),
    Variant("ViT-B-16-SigLIP2", "webli", "Like the one at 512 pixels: image size alone."),
    Variant("ViT-SO400M-14-SigLIP", "webli", "The first SigLIP, in a size between L and H."),
    Variant("EVA02-B-16", "merged2b_s8b_b131k", "Another backbone at B/16, pretrained on images."),
    Variant("coca_ViT-B-32", "laion2b_s13b_b90k", "A captioning loss beside the contrastive one."),
    Variant("PE-Core-T-16-384", "meta", "The smallest image encoder, with 576 patches."),
)
"""The eighteen of the study of COVAR (arXiv 2511.12978), as far as they are known.

Five are: `Variant.known`. The other thirteen are chosen here to span backbone, patch, image size,
data and loss, in pairs that differ in one of these where there are such pairs. CCI explains all.
"""

_OF_PAPER = {variant.model: variant for variant in PAPER_VARIANTS}


def _of_counteranimal(architecture: str, pretrained: str) -> Variant:
    variant = Variant(architecture, pretrained)
    return _OF_PAPER.get(variant.model, variant)


COUNTERANIMAL_VARIANTS = tuple(
    _of_counteranimal(architecture, pretrained)
    for architecture, pretrained in (
        ("RN50", "openai"),
        ("RN101", "openai"),
        ("RN50x4", "openai"),
        ("RN50x16", "openai"),
        ("RN50x64", "openai"),
        ("ViT-B-16", "laion400m_e31"),
        ("ViT-B-16", "openai"),
        ("ViT-B-16", "datacomp_xl_s13b_b90k"),
        ("ViT-B-16", "laion2b_s34b_b88k"),
        ("ViT-B-16", "dfn2b"),
        ("ViT-B-32", "laion400m_e31"),
        ("ViT-B-32", "openai"),
        ("ViT-B-32", "datacomp_xl_s13b_b90k"),
        ("ViT-B-32", "laion2b_s34b_b79k"),
        ("ViT-B-32-256", "datacomp_s34b_b86k"),
        ("ViT-L-14", "laion400m_e31"),
        ("ViT-L-14", "openai"),
        ("ViT-L-14", "datacomp_xl_s13b_b90k"),
        ("ViT-L-14", "laion2b_s32b_b82k"),
        ("ViT-L-14", "dfn2b"),
        ("ViT-L-14-336", "openai"),
        ("ViT-H-14", "laion2b_s32b_b79k"),
        ("ViT-H-14", "dfn5b"),
        ("ViT-H-14-378", "dfn5b"),
        ("ViT-g-14", "laion2b_s34b_b88k"),
        ("ViT-bigG-14", "laion2b_s39b_b160k"),
        ("convnext_base", "laion400m_s13b_b51k"),
        ("convnext_base_w", "laion2b_s13b_b82k"),
    )
)
"""The twenty-eight CLIPs of CounterAnimal (arXiv 2403.11497), in the order of its table 3.

Its table 6 names the LAION and DataComp weights. It gives two tags that do not exist, for
DataComp's ViT-L/14 and LAION-2B's ViT-bigG/14: here are the only ones of those data. For the others
the tag is the one of that size and data; DFN's "384" sees 378 pixels. Weights that need QuickGELU
have it here (`Variant.quick_gelu`), whatever the paper did: LAION-400M's ViT-B/32 is then a better
model than the paper's figures say.
"""

VARIANT_LISTS = {"cci-paper": PAPER_VARIANTS, "counteranimal": COUNTERANIMAL_VARIANTS}
"""The lists by the names that commands give them."""

_VARIANTS = {variant.model: variant for own in VARIANT_LISTS.values() for variant in own}


def find_variant(text: str) -> Variant:
    """The variant of that name.

    Args:
        text: "NAME,TAG", as `--model` takes it, or "NAME TAG", as `load_clip` and the tables of a
            comparison call a model; slashes in the name are dashes ("ViT-B/16").

    Raises:
        ValueError: If no list has it; names those like it.

    Example:
        >>> find_variant("ViT-B/16 openai").model
        'ViT-B-16,openai'
    """
    name = text.strip().replace("/", "-").replace(" ", ",")
    if name not in _VARIANTS:
        like = get_close_matches(name, _VARIANTS, n=3)
        known = f"such as {' or '.join(like)}" if like else "one of VARIANT_LISTS"
        raise ValueError(f"variant: expected a model of a list, {known}, got {text!r}")
    return _VARIANTS[name]
