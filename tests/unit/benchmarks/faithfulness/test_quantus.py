"""Deletion and insertion against another library: Quantus' PixelFlipping (Bach et al. 2015).

What the two must be told, for the same thing to be computed:

- Quantus repeats a map over the channels and replaces the 3 * H * W values of an image in their
  order, `features_in_step` of them a step. Steps of 3 k values are k pixels, whichever of a
  pixel's three equal values it takes first. It insists that H * W is a multiple of the step.
- Its order among equal values is that of NumPy's unstable sort, ours is random. Maps have no ties
  here, or none that a step divides.
- It has no point before the first step. Ours at 0 % must be the plain output.
- It deletes only, and up to 100 %. Insertion is deletion read backwards: the least important
  pixels go first, and what is left after a share 1 - f is gone are the f most important ones, on
  the fill. Or it is deletion from the start image, where what is written is the photo.
- Its "black" and "white" are the smallest and the largest value in the image, so that they are
  functions here. Its "mean" is the mean of the image as perturbed so far, which moves from step
  to step: no fill of ours, and left out.
- Its curve is the score, or with softmax=True the probability. Models get float32 images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from oracles import relative_error
from selection import exhaustive_unless
from torch import Tensor, nn

from cci_captum import ZeroShotClassifier, load_clip
from cci_captum.benchmarks.faithfulness import (
    PROTOCOLS,
    Curve,
    DeletionInsertion,
    FaithfulnessCurves,
    Protocol,
)
from cci_captum.benchmarks.scenes import SceneGenerator
from cci_captum.tiny import CLASS_NAMES, TEMPLATES

# ImportError: OpenCV, which Quantus needs, itself needs libGL and GLib from the system.
quantus = pytest.importorskip("quantus", exc_type=ImportError)

SIZE = 30  # of the CNN's images
HALF = (0.5, 0.5, 0.5)  # as mean and standard deviation: black is then -1 in every channel
# Ours, and Quantus' for the same.
FILLS: dict[str, tuple[Any, Any]] = {
    "the mean colour": ("mean", 0.0),
    "black": ("black", -1.0),
    "the smallest value": (lambda x: x.amin((1, 2, 3), keepdim=True).expand_as(x), "black"),
    "the largest value": (lambda x: x.amax((1, 2, 3), keepdim=True).expand_as(x), "white"),
}


class Cnn(nn.Module):
    """A small CNN with random weights that computes in float64."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [nn.Conv2d(3, 6, 5, 2), nn.Tanh(), nn.Conv2d(6, 8, 3), nn.Tanh()]
            self.layers = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(7)).double()
            self(torch.zeros(1, 3, SIZE, SIZE))
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = 5 * self.layers(images.double())
        return outputs


Example = tuple[Tensor, Tensor, list[int]]  # images, maps without ties, targets


def example(seed: int) -> Example:
    """Two images of noise for the CNN, in a random order of pixels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 3, SIZE, SIZE, generator=generator)
    orders = torch.stack([torch.randperm(SIZE**2, generator=generator) for _ in images])
    targets = torch.randint(7, (2,), generator=generator).tolist()
    return images, orders.view(2, SIZE, SIZE) / SIZE**2 - 0.3, targets  # of both signs


def scenes(normalize: Callable[[Tensor], Tensor], seed: int) -> Example:
    """Two scenes for tiny: the objects' pixels first, else in a random order."""
    generator = torch.Generator().manual_seed(seed)
    drawn = SceneGenerator(size=96, seed=seed).scenes(range(2), kind="one")
    orders = torch.stack([torch.randperm(96**2, generator=generator) for _ in drawn])
    objects = torch.stack([scene.foreground for scene in drawn])
    images = normalize(torch.stack([scene.image for scene in drawn]))
    maps = orders.view(2, 96, 96) / 96**2 - 0.3 + objects.float()
    return images, maps, [scene.classes[0] for scene in drawn]


def pixel_flipping(
    model: nn.Module,
    images: Tensor,
    maps: Tensor,
    targets: list[int],
    step: int,
    *,
    softmax: bool = False,
    **options: Any,
) -> Tensor:
    """Quantus' curves, (B, 3 * H * W / step)."""
    metric = quantus.PixelFlipping(
        features_in_step=step, normalise=False, disable_warnings=True, **options
    )
    scores = metric(
        model,
        x_batch=images.numpy(),
        y_batch=np.array(targets),
        a_batch=maps[:, None].numpy(),
        channel_first=True,
        softmax=softmax,
        device="cpu",
    )
    return torch.tensor(scores, dtype=torch.float64)


def taken_from(other: Tensor) -> Callable[..., np.ndarray]:
    """For Quantus: write another image instead of a value."""
    values = other.flatten(1).numpy()

    def write(arr: np.ndarray, indices: np.ndarray, **_: Any) -> np.ndarray:
        result = arr.copy()
        rows = np.arange(len(arr))[:, None]
        result[rows, indices] = values[rows, indices]
        return result

    return write


def of_steps(points: int, fill: Any) -> Protocol:
    """From 0 to 100 % in as many steps."""
    return Protocol("steps", tuple(i / points for i in range(points + 1)), fill, fill)


def both(curves: FaithfulnessCurves, probability: bool) -> tuple[Tensor, Tensor]:
    """(B, P) of deletion and insertion."""

    def values(curve: Curve) -> Tensor:
        if not probability:
            return curve.score
        assert curve.probability is not None
        return curve.probability

    return values(curves.deletion), values(curves.insertion)


def ends(images: Tensor, maps: Tensor, protocol: Protocol, seed: int) -> tuple[Tensor, Tensor]:
    """The deletion fill and the insertion start, as the model sees them."""
    seen = []

    def look(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x.flatten(1).sum(1)

    DeletionInsertion(look, replace(protocol, fractions=(0.0, 1.0)), seed=seed)(images, maps)
    whole, fill, start, inserted = torch.cat(seen).view(4, *images.shape)
    assert torch.equal(whole, images) and torch.equal(inserted, images)
    return fill, start


def check_both_directions(
    model: nn.Module, case: Example, fill: str, step: int, error: float
) -> None:
    """Scores and probabilities at every step of Quantus."""
    images, maps, targets = case
    ours, theirs = FILLS[fill]
    points = images[0].numel() // step
    harness = DeletionInsertion(model, of_steps(points, ours), mean=HALF, std=HALF)
    curves = harness(images, maps, targets)
    with torch.no_grad():
        plain = model(images).double()
    for softmax in (False, True):
        outputs = plain.softmax(1) if softmax else plain
        first = outputs[[0, 1], targets][:, None]

        def flip(order: Tensor, softmax: bool = softmax) -> Tensor:
            return pixel_flipping(
                model, images, order, targets, step, softmax=softmax, perturb_baseline=theirs
            )

        deletion, insertion = both(curves, softmax)
        expected = torch.cat([first, flip(maps)], 1)
        assert relative_error(deletion, expected) < error
        assert relative_error(insertion, torch.cat([first, flip(-maps)], 1).flip(1)) < error
        # Neither is flat, nor are they the same: the order has its say.
        assert relative_error(expected.flip(1), insertion) > 0.01


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_cnn(fill: str, seed: int) -> None:
    check_both_directions(Cnn(), example(seed), fill, 3 * 30, 1e-12)


@pytest.mark.exhaustive  # seconds
def test_a_cnn_pixel_by_pixel() -> None:
    check_both_directions(Cnn(), example(3), "the mean colour", 3, 1e-12)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("seed", "fill"), [exhaustive_unless(seed == 0, seed, fill) for seed, fill in enumerate(FILLS)]
)
def test_the_tiny_clip(seed: int, fill: str) -> None:
    model, preprocess, tokenizer, _ = load_clip("tiny")
    classifier = ZeroShotClassifier(model, tokenizer, CLASS_NAMES, TEMPLATES).eval()
    case = scenes(preprocess.transforms[-1], seed)  # type: ignore[attr-defined]
    check_both_directions(classifier, case, fill, 3 * 768, 1e-5)


@pytest.mark.parametrize("name", ["grad-eclip", "rise"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_published_protocols_as_they_are(name: str, seed: int) -> None:
    """Noise, blur and black are images that both libraries are given to write, or to start from.

    Three times 5 % of H * W does not divide H * W, so that Quantus takes three steps to 5 %, of
    which the first two may end inside a pixel.
    """
    model, protocol = Cnn(), PROTOCOLS[name]
    images, maps, targets = example(seed)
    curves = DeletionInsertion(model, protocol, seed=seed)(images, maps, targets)
    fill, start = ends(images, maps, protocol, seed)
    points = [round(60 * fraction) for fraction in protocol.fractions]
    assert points == [i * (3 if name == "grad-eclip" else 6) for i in range(11)]
    for softmax in (False, True):
        pairs = zip(both(curves, softmax), ((images, fill), (start, images)), strict=True)
        for actual, (before, after) in pairs:
            outputs = model(before).detach()
            outputs = outputs.softmax(1) if softmax else outputs
            flipped = pixel_flipping(
                model,
                before,
                maps,
                targets,
                SIZE * SIZE // 20,
                softmax=softmax,
                perturb_func=taken_from(after),
            )
            expected = torch.cat([outputs[[0, 1], targets][:, None], flipped], 1)[:, points]
            assert relative_error(actual, expected) < 1e-12


def test_ties_that_no_step_divides_do_not_matter() -> None:
    images, maps, targets = example(0)
    ranks = maps.flatten(1).argsort(1).argsort(1).view(maps.shape)
    coarse = (ranks // 30).float()  # thirty pixels of each value, thirty a step
    curves = DeletionInsertion(Cnn(), of_steps(30, "mean"), seed=5)(images, coarse, targets)
    flipped = pixel_flipping(Cnn(), images, coarse, targets, 3 * 30, perturb_baseline=0.0)
    assert relative_error(curves.deletion.score[:, 1:], flipped) < 1e-12


def test_areas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantus' AUC has points 1 apart and no point at 0 %; ours is the mean height."""
    from scipy.integrate import trapezoid

    # Quantus 0.6 calls numpy.trapz, which NumPy 2.4 no longer has.
    monkeypatch.setattr(np, "trapz", trapezoid, raising=False)
    images, maps, targets = example(3)
    protocol = Protocol("steps", tuple(i / 30 for i in range(1, 31)), "mean", "mean")
    areas = DeletionInsertion(Cnn(), protocol)(images, maps, targets).auc()
    for softmax, name in ((False, "deletion_score"), (True, "deletion_probability")):
        expected = pixel_flipping(
            Cnn(),
            images,
            maps,
            targets,
            3 * 30,
            softmax=softmax,
            perturb_baseline=0.0,
            return_auc_per_sample=True,
        )
        assert relative_error(areas[name] * 29, expected) < 1e-12
