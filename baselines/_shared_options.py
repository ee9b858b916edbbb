"""Options that several methods have, or that many values belong to. Facts only, no torch."""

from __future__ import annotations

from .options import Choice, Flag, Integer, Layer, Number, Option, Several

SEED = Integer(least=0)
SCORE = Option(
    "score",
    "forward_func",
    Choice(names=("logit", "centred", "log-probability", "margin")),
    "logit",
    "of a class: its output, that less the mean of all or less the best other's, or the logarithm "
    "of its softmax",
    "{}",
)
CLUSTERS = (
    Option(
        "clusters", "clustering.n_clusters", Integer(), 7, "of an image's patches", "{} clusters"
    ),
    Option(
        "backend",
        "clustering.backend",
        Choice(names=("auto", "torch", "faiss")),
        "auto",
        "of K-means",
        "{} K-means",
    ),
    Option(
        "iterations",
        "clustering.n_iter",
        Integer(),
        50,
        "of K-means, at most",
        "{} K-means iterations",
    ),
    Option("restarts", "clustering.n_redo", Integer(), 3, "of K-means", "{} K-means restarts"),
    Option("clustering-seed", "clustering.seed", SEED, 0, "of K-means", "K-means seed {}"),
    Option(
        "spherical",
        "clustering.spherical",
        Flag(),
        False,
        "cluster by direction alone",
        "spherical K-means",
    ),
    Option(
        "max-length",
        "clustering.max_length",
        Number(least=1, none="none"),
        3.0,
        "medians of length beyond which a patch is scaled to the median",
        "max length {}",
    ),
    Option(
        "layer",
        "embedding_layer",
        Layer(names=("input", "projected")),
        -1,
        "whose patches are clustered: a block's, what enters the first, or the projected",
        "layer {}",
    ),
)
NORMALIZATION = Option(
    "normalization",
    "normalization",
    Choice(names=("relative", "paper", "none")),
    "relative",
    "of the clusters' values",
    "normalization: {}",
)
BASELINE = Option(
    "baseline",
    "baseline",
    Number(),
    0.0,
    "what replaces pixels, after normalization",
    "baseline {}",
)
SAMPLES = (
    Option("samples", "n_samples", Integer(), 100, "sets of kept clusters", "{} samples"),
    Option("seed", "seed", SEED, 0, "of the sets", "seed {}"),
)


def hide(default: str) -> Option:
    return Option(
        "hide",
        "hide",
        Choice(names=("mask", "drop")),
        default,
        "a cluster's tokens: masked in attention or dropped, which is the same to rounding",
        "hidden by {}",
    )


def single_head(default: bool) -> Option:
    return Option(
        "single-head",
        "single_head",
        Flag(),
        default,
        "in the last block's attention, as in the released comparison of Grad-ECLIP",
        "the model's heads" if default else "single head",
    )


def key_similarity(help: str) -> Option:
    return Option("key-similarity", "key_similarity", Flag(), True, help, "without key similarity")


CLIP_SURGERY = (
    Option("blocks", "n_blocks", Integer(), 6, "with a second path", "{} blocks"),
    Option(
        "feature-surgery",
        "feature_surgery",
        Flag(),
        True,
        "take away what classes share",
        "without feature surgery",
    ),
    Option(
        "temperature", "temperature", Number(), 2.0, "of the classes' softmax", "temperature {}"
    ),
)


def revision(default: str) -> Option:
    return Option(
        "revision",
        "revision",
        Choice(names=("2023-04-12", "2023-04-13", "2025-03-01")),
        default,
        "of CLIP Surgery's released code",
        "{}",
    )


ATMAN = (
    Option(
        "suppression",
        "suppression",
        Number(least=0, most=1),
        0.9,
        "logits of a patch's key times 1 less this",
        "suppression {}",
    ),
    Option(
        "threshold",
        "threshold",
        Number(least=0, most=1, none="none"),
        0.6,
        "cosine from which patches alike are weakened with it, or none",
        "threshold {}",
    ),
    Option(
        "layer",
        "layer",
        Layer(names=("input", "projected")),
        "input",
        "whose tokens are compared: a block's, what enters the first, or the projected",
        "layer {}",
    ),
    Option(
        "from-minimum",
        "from_minimum",
        Flag(),
        True,
        "count logits from the least of their query",
        "raw logits",
    ),
    SCORE,
)
GATED = (
    Option(
        "parts",
        "parts",
        Several(each=Choice(names=("gradient", "values", "hidden", "shown"))),
        ("gradient", "values", "hidden", "shown"),
        "whose z-scores are added",
        "{}",
    ),
    Option(
        "clusters",
        "clusters",
        Several(each=Integer()),
        (4, 7, 10, 14, 20),
        "of an image's patches, each K in turn",
        "{} clusters",
    ),
    revision("2023-04-12"),
    SCORE,
)
