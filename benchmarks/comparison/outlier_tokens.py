"""What a few tokens of many times the usual norm do to clusters, and what to do about them.

Large ViTs put such tokens on a few patches (Darcet et al.: "Vision Transformers Need Registers",
arXiv 2309.16588), up to ten times as long as the others. Squared distances then see nothing else:
K-means spends its clusters on them, one token each. Regions are planted in smooth fields of tokens,
and outliers of ten times the norm on some patches; the table has the adjusted Rand index between
planted and found regions, over the patches that are no outliers, with the standard error over the
fields, and the share of clusters that are left with at most one such patch. The last column is the
embedded model's own tokens with outliers planted: the index against its clusters without them.

    python -m cci_captum.benchmarks.comparison.outlier_tokens --n 60 --seed 1000
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cci_captum.clustering import KMeans
from cci_captum.models.clip import load_clip
from cci_captum.vision_towers import find_vision_tower

from ..markdown import table
from ..scenes import SceneGenerator

REGIONS = 7
OUTLIERS = (0, 1, 2, 4, 8)
_TIMES = 10.0  # the norm of an outlier, in norms of the others

Cluster = Callable[[Tensor], Tensor]


def clipped(tokens: Tensor, limit: float = 2.0) -> Tensor:
    """Tokens (B, N, D), none longer than `limit` times its image's median length."""
    lengths = tokens.norm(dim=-1, keepdim=True)
    longest = limit * lengths.median(dim=1, keepdim=True).values
    return tokens * (longest / lengths).clamp(max=1)


_PLAIN = KMeans(REGIONS, max_length=None)
CHOICES: dict[str, Cluster] = {
    "beyond 3 medians to the median (default)": KMeans(REGIONS),
    "plain": _PLAIN,
    "spherical": KMeans(REGIONS, spherical=True),
    "layer norm": lambda x: _PLAIN(F.layer_norm(x, x.shape[-1:])),
    "centred, spherical": lambda x: KMeans(REGIONS, spherical=True)(
        x - x.median(dim=1, keepdim=True).values
    ),
    "longest clipped at 1.5 medians": lambda x: _PLAIN(clipped(x, 1.5)),
    "longest clipped at 2 medians": lambda x: _PLAIN(clipped(x)),
    "longest clipped at 3 medians": lambda x: _PLAIN(clipped(x, 3.0)),
}


def planted(
    n: int, generator: torch.Generator, *, side: int = 14, width: int = 64
) -> tuple[Tensor, Tensor]:
    """Tokens (n, side * side, width) of smooth fields with regions, and the regions, (n, ...).

    A token is what all share, plus its region's mean, a smooth field and noise.
    """
    rows = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij"), -1)
    centres = torch.rand(n, REGIONS, 2, generator=generator) * side
    regions = torch.cdist(rows.view(1, -1, 2).float().expand(n, -1, -1), centres).argmin(dim=2)
    means = torch.randn(n, REGIONS, width, generator=generator)
    common = 2 * torch.randn(n, 1, width, generator=generator)
    coarse = torch.randn(n, width, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic").flatten(2).mT
    noise = torch.randn(n, side * side, width, generator=generator)
    own = means.gather(1, regions[..., None].expand(-1, -1, width))
    return common + own + 0.7 * smooth + 0.5 * noise, regions


def with_outliers(
    tokens: Tensor, count: int, generator: torch.Generator, *, shared: bool
) -> tuple[Tensor, Tensor]:
    """Tokens with `count` outliers an image, and where they are, (B, N) bool.

    Args:
        tokens: (B, N, D).
        count: Outliers of each image.
        generator: Draws the patches, and the directions.
        shared: Whether the outliers of an image have nearly one direction, as massive activations
            of a few channels give; else each has its own.
    """
    batch, patches, width = tokens.shape
    where = torch.zeros(batch, patches, dtype=torch.bool)
    chosen = torch.rand(batch, patches, generator=generator).argsort(dim=1)[:, :count]
    where.scatter_(1, chosen, True)
    own = torch.randn(batch, patches, width, generator=generator)
    if shared:
        own = torch.randn(batch, 1, width, generator=generator) + 0.2 * own
    lengths = tokens.norm(dim=-1, keepdim=True).median(dim=1, keepdim=True).values
    return torch.where(where[..., None], _TIMES * lengths * F.normalize(own, dim=-1), tokens), where


def rand_index(found: Tensor, truth: Tensor) -> float:
    """Adjusted Rand index of two labelings of the same points (Hubert and Arabie 1985).

    Example:
        >>> rand_index(torch.tensor([0, 0, 1, 1]), torch.tensor([5, 5, 2, 2]))
        1.0
    """
    counts = torch.zeros(int(found.max()) + 1, int(truth.max()) + 1, dtype=torch.float64)
    counts.index_put_((found, truth), torch.ones(len(found), dtype=torch.float64), accumulate=True)

    def pairs(sizes: Tensor) -> float:
        return float((sizes * (sizes - 1) / 2).sum())

    both, ours, theirs = pairs(counts), pairs(counts.sum(dim=1)), pairs(counts.sum(dim=0))
    expected = ours * theirs / pairs(torch.tensor(float(len(found)), dtype=torch.float64))
    most = (ours + theirs) / 2
    return 1.0 if most == expected else (both - expected) / (most - expected)


def recovered(cluster: Cluster, tokens: Tensor, truth: Tensor, outlier: Tensor) -> Tensor:
    """(B, 2): the Rand index without outliers, and the share of clusters with one patch at most."""
    rows = []
    for labels, regions, out in zip(cluster(tokens), truth, outlier, strict=True):
        sizes = torch.bincount(labels[~out], minlength=REGIONS)
        rows.append((rand_index(labels[~out], regions[~out]), float((sizes <= 1).double().mean())))
    return torch.tensor(rows)


def tiny_tokens(n: int, seed: int) -> Tensor:
    """The embedded model's patch tokens of scenes, (n, 144, D)."""
    clip = load_clip("tiny")
    scenes = SceneGenerator(artwork="train", seed=seed).scenes(range(n), kind="two")
    model: Any = clip.model
    preprocess: Any = clip.preprocess  # torchvision's steps, of which the last normalises
    images = preprocess.transforms[-1](torch.stack([scene.image for scene in scenes]))
    with torch.no_grad(), find_vision_tower(model).record() as recording:
        model.encode_image(images)
    return recording.tokens


def measure(n: int, seed: int) -> list[list[str]]:
    """Rows of the table: a choice, then its cells."""
    generator = torch.Generator().manual_seed(seed)
    tokens, regions = planted(n, generator)
    real = tiny_tokens(n, seed)
    cases = [(0, False)] + [(count, shared) for count in OUTLIERS[1:] for shared in (False, True)]
    inputs = [with_outliers(tokens, *case[:1], generator, shared=case[1]) for case in cases]
    ours = with_outliers(real, 4, generator, shared=True)
    rows = []
    for name, cluster in CHOICES.items():
        cells = [name]
        for planted_tokens, where in inputs:
            index, single = recovered(cluster, planted_tokens, regions, where).T
            error = float(index.std()) / len(index) ** 0.5
            cells.append(f"{float(index.mean()):.2f} ± {error:.2f} / {float(single.mean()):.0%}")
        index, single = recovered(cluster, ours[0], cluster(real), ours[1]).T
        cells.append(f"{float(index.mean()):.2f} / {float(single.mean()):.0%}")
        rows.append(cells)
    return rows


def head() -> list[str]:
    """The head of the table."""
    kinds = [f"{count} {kind}" for count in OUTLIERS[1:] for kind in ("apart", "alike")]
    return ["K-means of 7", "no outlier", *kinds, "tiny, 4 alike"]


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=60, help="fields, and scenes (%(default)s)")
    parser.add_argument("--seed", type=int, default=1000, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(table(head(), measure(args.n, args.seed)))


if __name__ == "__main__":
    main()
