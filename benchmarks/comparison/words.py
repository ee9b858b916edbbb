"""Does the map of a word lie on what the word names? On scenes with two objects it is known.

A text names both objects of a scene. The map of each object's word (`explain(..., words=True)`) is
held against its own object and against the other, beside the map of a prompt that names that object
alone, that of the whole text, and a random map. All maps of CCI are of the same passes.

    python -m cci_captum.benchmarks.comparison.words --n 200 --seed 5000 --artwork held-out
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from torch import Tensor

from cci_captum.baselines import GradECLIP
from cci_captum.cci import CCI
from cci_captum.explaining import explain
from cci_captum.models.loading import LoadedCLIP, load_clip

from ..localization import energy, pointing_game
from ..markdown import table, with_interval
from ..scenes import Scene, SceneGenerator
from ..statistics import interval, paired_interval

_TEXT, _PROMPT = "a photo of {} and {}.", "a photo of {}."
_METHODS = {"CCI": CCI, "Grad-ECLIP": GradECLIP}
MAPS = ("its word in the text", "a prompt of its own", "the whole text")
COLUMNS = ("pointing, own", "pointing, other", "energy, own", "energy, other")


def two_objects(n: int, seed: int, artwork: str) -> list[Scene]:
    """Scenes with two objects of different classes."""
    generator = SceneGenerator(artwork=artwork, seed=seed)
    found: list[Scene] = []
    start = 0
    while len(found) < n:
        drawn = generator.scenes(range(start, start + n), kind="two")
        found += [scene for scene in drawn if scene.classes[0] != scene.classes[1]]
        start += n
    return found[:n]


def maps_of(clip: LoadedCLIP, scene: Scene, method: type) -> Tensor:
    """Maps (2, 3, h, w) of the two objects: those of `MAPS`."""
    names = [f"a {name}" for name in scene.class_names]
    texts = [_TEXT.format(*names), *(_PROMPT.format(name) for name in names)]
    words = [[*scene.class_names], *([name] for name in scene.class_names)]
    found = explain(scene.picture, texts, clip, method=method, words=words)
    assert found.words is not None
    whole, *prompts = found.maps[0]
    return torch.stack(
        [
            torch.stack([found.words.maps[0, 0, index], prompts[index], whole])
            for index in range(len(names))
        ]
    )


def scored(maps: Tensor, scene: Scene) -> Tensor:
    """(2, 4) of maps (2, h, w), one an object: the columns of `COLUMNS`."""
    own, other = scene.masks, scene.masks.flip(0)
    measured = [
        measure(maps, masks) for measure in (pointing_game, energy) for masks in (own, other)
    ]
    return torch.stack(measured, dim=1)


def measure(n: int, seed: int, artwork: str) -> dict[str, Tensor]:
    """Of each kind of map (2 n, 4): two rows a scene, the columns of `COLUMNS`."""
    clip = load_clip("tiny")
    generator = torch.Generator().manual_seed(seed)
    scores: dict[str, list[Tensor]] = {}
    for scene in two_objects(n, seed, artwork):
        for name, method in _METHODS.items():
            for kind, maps in zip(MAPS, maps_of(clip, scene, method).unbind(dim=1), strict=True):
                scores.setdefault(f"{name}, {kind}", []).append(scored(maps, scene))
        chance = torch.rand(2, *maps.shape[1:], generator=generator)
        scores.setdefault("Chance", []).append(scored(chance, scene))
    return {name: torch.cat(rows) for name, rows in scores.items()}


def rows_of(scores: dict[str, Tensor]) -> list[list[str]]:
    """Rows of the table: means with their intervals, then differences of word and prompt."""
    (first, *_) = scores.values()
    groups = torch.arange(len(first)) // 2  # the two objects of a scene are not independent
    rows = [
        [name, *_cells(values, interval(values, groups, bounds=(0, 1)))]
        for name, values in scores.items()
    ]
    for method in _METHODS:
        word, prompt = (scores[f"{method}, {kind}"] for kind in MAPS[:2])
        ends = paired_interval(word, prompt, groups, bounds=(0, 1))
        rows.append([f"{method}, word less prompt", *_cells(word - prompt, ends, signed=True)])
    return rows


def _cells(
    values: Tensor, ends: tuple[Sequence[float], Sequence[float]], signed: bool = False
) -> list[str]:
    return [
        with_interval(float(mean), float(low), float(high), signed=signed)
        for mean, low, high in zip(values.mean(dim=0), *ends, strict=True)
    ]


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=200, help="scenes (%(default)s)")
    parser.add_argument("--seed", type=int, default=5000, help="(%(default)s)")
    parser.add_argument("--artwork", default="held-out", help="train or held-out (%(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    scores = measure(args.n, args.seed, args.artwork)
    print(table(["map", *COLUMNS], rows_of(scores)))


if __name__ == "__main__":
    main()
