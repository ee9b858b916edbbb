"""What a study varies: one choice at a time, each level of it a method beside CCI as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cci_captum.baselines.gated_cci import PARTS
from cci_captum.baselines.spec import MethodSpec
from cci_captum.models.scores import LogProbability

from .changed import Enlarged, Shaken
from .integrated import IntegratedGates
from .regions import Agglomerative, Grid, Spatial, SuperpixelCCI
from .replaced import EmbeddingAblation

AS_IT_IS = "cci"
"""What all levels are compared with."""

Make = Callable[..., Any]
"""From forward_func to an attribution."""


@dataclass(frozen=True)
class Level:
    """One level of a choice.

    Attributes:
        choice: What is chosen, such as "clusters".
        level: What it is here, such as "10".
        make: The method: a spec's text, or what makes it.
        base: What it is compared with, the spec's text.
    """

    choice: str
    level: str
    make: str | Make = field(compare=False)
    base: str = AS_IT_IS

    @property
    def name(self) -> str:
        """Of the method in a comparison: the spec's text, else choice and level."""
        return str(self.method) if isinstance(self.make, str) else f"{self.choice}: {self.level}"

    @property
    def method(self) -> Any:
        """What makes the attribution."""
        return MethodSpec.parse(self.make) if isinstance(self.make, str) else self.make


def levels(blocks: int, mean: tuple[float, ...], std: tuple[float, ...]) -> list[Level]:
    """All levels, choice by choice; those that CCI has as it is are left out.

    Args:
        blocks: Of the image encoder, whose tokens may be clustered.
        mean: Of each colour, that inputs are normalised with.
        std: The same.
    """
    from cci_captum.cci import CCI

    superpixels = partial(SuperpixelCCI, mean=mean, std=std)

    def cci(clustering: Any) -> Make:
        return partial(CCI, clustering=clustering)

    return [
        *(Level("clusters", f"{k}", f"cci(clusters={k})") for k in (2, 3, 5, 10, 15, 20, 32)),
        *(
            Level("tokens clustered", name, f"cci(layer={layer})")
            for layer, name in [
                ("input", "before the first block"),
                *((index, f"after block {index + 1}") for index in range(blocks - 1)),
                ("projected", "projected"),
            ]
        ),
        Level("K-means", "of directions", "cci(spherical=yes)"),
        *(Level("K-means", f"seed {seed}", f"cci(clustering-seed={seed})") for seed in (1, 2, 3)),
        Level("regions", "agglomerative, Ward", cci(Agglomerative())),
        Level("regions", "K-means with places, weight 0.5", cci(Spatial(weight=0.5))),
        Level("regions", "K-means with places, weight 2", cci(Spatial(weight=2.0))),
        Level("regions", "superpixels", superpixels),
        Level("regions", "a grid of 3 x 3", cci(Grid(3))),
        Level("taken away", "tokens dropped", "cci(hide=drop)"),
        Level("taken away", "embeddings zero", EmbeddingAblation),
        Level("taken away", "embeddings their mean", partial(EmbeddingAblation, fill="mean")),
        Level("taken away", "pixels grey", "cluster-ablation"),
        *(
            Level("score", name, f"cci(score={score})")
            for score, name in [
                ("centred", "less the mean of all classes"),
                ("log-probability", "log probability"),
                ("margin", "margin"),
            ]
        ),
        *(
            Level("enlarged", upsample, partial(Enlarged, make=CCI, upsample=upsample))
            for upsample in ("nearest", "bicubic")
        ),
        *(
            Level("noise on the image", f"{noise}", partial(Shaken, make=CCI, noise=noise))
            for noise in (0.02, 0.1)
        ),
        Level("normalisation", "the paper's", "cci(normalization=paper)"),
        Level("coalitions", "Shapley values", "shapley-cci"),
        *(
            Level("levers", name, f"gated-cci(parts={parts},score=log-probability)")
            for name, parts in [
                ("log probability, by size", "hidden,clusters=7"),
                ("the same, shown", "shown,clusters=7"),
                ("by size, five K", "hidden"),
                ("by size and shown, five K", "hidden+shown"),
            ]
        ),
        *_of_gates(),
        *_of_parts(),
    ]


def _of_gates() -> list[Level]:
    """Of the gate gradient."""
    base = "gate-gradient(score=log-probability)"
    return [
        *(
            Level("steps from hidden", f"{steps}", partial(_integrated, steps=steps), base)
            for steps in (2, 4, 8)
        ),
        Level("score", "logit", "gate-gradient", base),
        Level("score", "margin", "gate-gradient(score=margin)", base),
    ]


def _integrated(forward_func: Any, steps: int) -> IntegratedGates:
    return IntegratedGates(LogProbability(forward_func), steps=steps)


def _of_parts() -> list[Level]:
    """Of gated CCI with one K."""
    base = "gated-cci(clusters=7,score=log-probability)"
    without = {part: "+".join(other for other in PARTS if other != part) for part in PARTS}

    def gated(options: str, score: str = "log-probability") -> str:
        return str(MethodSpec.parse(f"gated-cci({options},score={score})"))

    return [
        *(
            Level("parts", f"without {part}", gated(f"parts={others},clusters=7"), base)
            for part, others in without.items()
        ),
        *(
            Level("parts", f"{part} alone", gated(f"parts={part},clusters=7"), base)
            for part in PARTS
        ),
        *(
            Level("clusters", clusters.replace("+", ", "), gated(f"clusters={clusters}"), base)
            for clusters in ("3", "10", "20", "4+8", "4+7+10+14+20")
        ),
        Level("score", "logit", gated("clusters=7", "logit"), base),
        Level("score", "margin", gated("clusters=7", "margin"), base),
        *(
            Level("values of", revision, gated(f"clusters=7,revision={revision}"), base)
            for revision in ("2023-04-13", "2025-03-01")
        ),
    ]
