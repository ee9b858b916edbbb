"""Which of CCI's choices decide how faithful its maps are, on fresh scenes.

Varies one choice at a time: how many clusters, of which tokens, what score drops, how the map
is resized; and takes CCI and CLIP Surgery apart: one's score on the other's regions. Prints a
Markdown table of areas under deletion and insertion, with paired differences to CCI as it is.

    python -m cci_captum.benchmarks.comparison.choices --n 200 --seed 2028
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cci_captum.attribution.base import PatchAttribution
from cci_captum.baselines import ClusterAblation, find_method
from cci_captum.cci import CCI
from cci_captum.clustering import KMeans
from cci_captum.models.clip import ZeroShotClassifier, load_clip
from cci_captum.models.scores import LogProbability, Margin

from ..data import Scenes
from .compare import Factory, compare
from .report import areas

# Every state of its released code, the strongest on scenes first.
_CLIP_SURGERY = ("clip-surgery-2023-04-12", "clip-surgery-2023-04-13", "clip-surgery")


class _Derived(PatchAttribution):
    """A map made of CCI's effects: (effects, target) -> (B, h, w)."""

    def __init__(self, forward_func: nn.Module, derive: Callable[..., Tensor], **options: Any):
        super().__init__(forward_func)
        self.derive = derive
        self.cci = CCI(forward_func, **options)

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        return self.derive(self.cci.effects(images, args or None), target)


class _MeanOver(PatchAttribution):
    """The mean of several methods' maps."""

    def __init__(self, forward_func: nn.Module, factories: list[Factory]):
        super().__init__(forward_func)
        self.methods = [make(forward_func) for make in factories]

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        maps = [method.patch_map(images, target, args or None) for method in self.methods]
        return torch.stack(maps).mean(dim=0)


class _OverClusters(PatchAttribution):
    """Another method's map, averaged over each of CCI's clusters; or used to order within them."""

    def __init__(self, forward_func: nn.Module, factory: Factory, within: bool = False):
        super().__init__(forward_func)
        self.cci, self.method, self.within = CCI(forward_func), factory(forward_func), within

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        effects = self.cci.effects(images, args or None)
        values = self.method.patch_map(images, target, args or None)
        if self.within:
            return torch.stack(
                [_refined(*both) for both in zip(effects.patch_map(target), values, strict=True)]
            )
        labels = effects.labels.flatten(1)
        sums = torch.zeros_like(effects.drops(target)).scatter_add(1, labels, values.flatten(1))
        means = sums / effects.sizes.clamp(min=1)
        return means.gather(1, labels).view_as(values)


def _refined(coarse: Tensor, fine: Tensor) -> Tensor:
    """A map (h, w), its equal values told apart by another, by less than what others differ."""
    steps = coarse.unique().diff()
    step = float(steps.min()) if len(steps) else 1.0
    order = fine.flatten().argsort().argsort().view_as(fine)
    return coarse + step / 2 * order / order.numel()


class _Enlarged:
    """A method whose map is enlarged with its patches kept whole."""

    def __init__(self, method: PatchAttribution) -> None:
        self.method = method

    def attribute(self, inputs: Tensor, target: Any) -> Tensor:
        return self.method.attribute(inputs, target, upsample="nearest")


def _per_patch(effects: Any, target: Any) -> Tensor:
    """The drop of each patch's cluster, divided by the cluster's size."""
    labels = effects.labels.flatten(1)
    density = effects.drops(target) / effects.sizes.clamp(min=1)
    return density.gather(1, labels).view(effects.labels.shape)


def _with_k(k: int, **options: Any) -> Factory:
    return lambda f: CCI(f, clustering=KMeans(k, **options))


def _choices(num_blocks: int, patches: int) -> dict[str, Factory]:
    """Name -> method; the first is CCI as it is."""
    several = [_with_k(k) for k in (3, 5, 7, 10, 15, 20)]
    strongest = find_method(_CLIP_SURGERY[0])
    return {
        "CCI: K = 7, last block, logit, bilinear": CCI,
        **{f"K = {k}": _with_k(k) for k in (2, 3, 5, 10, 15, 20, 40)},
        f"K = {patches}: every patch alone": _with_k(patches),
        "mean over K = 3, 5, 7, 10, 15, 20": lambda f: _MeanOver(f, several),
        **{
            f"tokens after block {index + 1}": partial(CCI, embedding_layer=index)
            for index in range(num_blocks - 1)
        },
        "tokens before the first block": partial(CCI, embedding_layer="input"),
        "final tokens, projected": partial(CCI, embedding_layer="projected"),
        **{f"another seed of K-means: {seed}": _with_k(7, seed=seed) for seed in (1, 2)},
        "log probability": lambda f: CCI(LogProbability(f)),
        "margin over the best other class": lambda f: CCI(Margin(f)),
        "drop divided by the cluster's size": lambda f: _Derived(f, _per_patch),
        "log probability, divided by size": lambda f: _Derived(LogProbability(f), _per_patch),
        "log probability, mean over K": lambda f: _MeanOver(LogProbability(f), several),
        "weights as in the paper": partial(CCI, normalization="paper"),
        "patches kept whole": lambda f: _Enlarged(CCI(f)),
        "pixels replaced instead of hidden": ClusterAblation,
        **{find_method(name).title: find_method(name) for name in _CLIP_SURGERY},
        f"{strongest.title}, averaged over CCI's clusters": lambda f: _OverClusters(f, strongest),
        f"CCI, ordered within clusters by {strongest.title}": lambda f: _OverClusters(
            f, strongest, within=True
        ),
    }


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="scenes (%(default)s)")
    parser.add_argument("--seed", type=int, default=2028, help="of the scenes (%(default)s)")
    parser.add_argument("--artwork", choices=("train", "held-out"), default="train")
    parser.add_argument(
        "--choice",
        action="append",
        metavar="NAME",
        help="a row, may be repeated (all)",
    )
    parser.add_argument("--protocol", default="grad-eclip", help="(%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    args = parser.parse_args(argv)

    torch.set_num_threads(args.threads)
    clip = load_clip("tiny", device=args.device)
    scenes = Scenes(args.n, artwork=args.artwork, seed=args.seed)
    classifier = ZeroShotClassifier(
        clip.model, clip.tokenizer, scenes.class_names, scenes.templates
    )
    visual: Any = clip.model.visual
    choices = _choices(len(visual.transformer.resblocks), visual.grid_size[0] * visual.grid_size[1])
    unknown = [name for name in args.choice or () if name not in choices]
    if unknown:
        parser.error(f"--choice: expected some of {'; '.join(choices)}, got {unknown[0]!r}")
    if args.choice:
        choices = {name: choices[name] for name in (next(iter(choices)), *args.choice)}
    comparison = compare(
        choices,
        scenes,
        [args.protocol],
        forward_func=classifier,
        preprocess=clip.preprocess,
        ties=(),
        show_progress=True,
    )
    print(areas(comparison, args.protocol))


if __name__ == "__main__":
    main()
