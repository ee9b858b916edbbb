"""What a deletion and insertion protocol says, as data, and the published ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor

from cci_captum._checks import check_choice, check_positive_int

NamedFill = Literal["uniform-noise", "black", "mean", "blur"]
Fill = NamedFill | Callable[[Tensor], Tensor]
Resolution = Literal["model", "original", "tokens"]
Ties = Literal["random", "raster", "reversed"]
Rounding = Literal["nearest", "down"]
TIES: tuple[Ties, ...] = get_args(Ties)


@dataclass(frozen=True)
class Protocol:
    """How much is perturbed at which points, and what it is replaced by.

    Attributes:
        name: As reports print it.
        fractions: The perturbed share of the pixels (or patches) at each point: increasing
            numbers in [0, 1], at least two.
        deletion_fill: What deleted pixels become: "uniform-noise" (each channel of each pixel
            uniform over its range), "black", "mean" (the mean colour that the model's inputs
            are normalised by), "blur" (RISE's, 11 x 11; see `filled`) or a function from images
            (B, 3, H, W) to images. None for tokens.
        insertion_start: What insertion starts from, the same choices.
        resolution: "model" perturbs pixels of the model's input; "original" those of the photo,
            at most 640 on its shorter side, which then goes through the model's preprocessing;
            "tokens" hides patches from every attention layer, so that no pixel is made up.
        ties: The order of pixels of the same importance: "random", by the seed and the image's
            content; "raster", rows from the top, each from the left, as a stable sort has it;
            "reversed", raster from its end.
        insertion_fractions: What share insertion has put back at each point, where that is not
            `fractions`: as many increasing numbers. Areas are taken over `fractions` all the
            same.
        steps: Pixels are replaced in so many steps, each of floor(n / steps) of n, and at least
            one; the rest comes with fraction 1. None replaces floor(f n + 1/2) at fraction f.
        rounding: How sizes of photos that are made smaller, and values of noise in photos,
            become whole numbers: "nearest", where noise has all 256 values, or "down", where it
            has 0 to 254, as `int(...)` and a cast of 255 * random to bytes have it.

    Raises:
        ValueError: If a value is not one of these.

    Example:
        >>> half = Protocol("half", (0.0, 0.25, 0.5), "mean", "blur")
        >>> half.resolution
        'model'
    """

    name: str
    fractions: tuple[float, ...]
    deletion_fill: Fill | None
    insertion_start: Fill | None
    resolution: Resolution = "model"
    ties: Ties = "random"
    insertion_fractions: tuple[float, ...] | None = None
    steps: int | None = None
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        """Check the values."""
        self._check_fractions("fractions")
        if self.insertion_fractions is not None:
            self._check_fractions("insertion_fractions")
            if len(self.insertion_fractions) != len(self.fractions):
                raise ValueError(
                    f"insertion_fractions: expected {len(self.fractions)} numbers, as many as "
                    f"fractions, got {len(self.insertion_fractions)}"
                )
        for argument, known in (("resolution", Resolution), ("ties", Ties), ("rounding", Rounding)):
            check_choice(argument, getattr(self, argument), get_args(known))
        if self.steps is not None:
            check_positive_int("steps", self.steps)
        for argument in ("deletion_fill", "insertion_start"):
            fill = getattr(self, argument)
            if self.resolution == "tokens":
                if fill is not None:
                    raise ValueError(f"{argument}: expected None for tokens, got {fill!r}")
            elif not callable(fill) and fill not in get_args(NamedFill):
                raise ValueError(
                    f"{argument}: expected one of {', '.join(get_args(NamedFill))} or a function "
                    f"from images to images, got {fill!r}"
                )

    def _check_fractions(self, argument: str) -> None:
        """Make the points floats; raise unless they increase in [0, 1]."""
        points = tuple(float(fraction) for fraction in getattr(self, argument))
        object.__setattr__(self, argument, points)
        steps = list(pairwise(points))
        in_range = all(0 <= point <= 1 for point in points)
        if not steps or not in_range or any(low >= high for low, high in steps):
            raise ValueError(
                f"{argument}: expected at least two increasing numbers in [0, 1], got {points}"
            )


_HALF = tuple(step / 20 for step in range(11))
_WHOLE = tuple(step / 10 for step in range(11))

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # Grad-ECLIP, arXiv 2502.18816, and CCI, arXiv 2511.12978: as published, and without the
        # detour through files.
        Protocol("grad-eclip-original", _HALF, "uniform-noise", "black", "original"),
        Protocol("grad-eclip", _HALF, "uniform-noise", "black"),
        # What the released scripts of Grad-ECLIP compute, so that published numbers can be compared
        # (github.com/Cyang-Zhao/Grad-Eclip, imagenet_eval_deletion.py and _insertion.py): 100 steps
        # of int(area / 200) pixels; insertion records after every tenth and then the whole photo.
        # They compute no area; of their lists of eleven numbers it is taken with equal steps.
        Protocol(
            "grad-eclip-released",
            _HALF,
            "uniform-noise",
            "black",
            "original",
            ties="raster",
            insertion_fractions=(*_HALF[1:], 1.0),
            steps=200,
            rounding="down",
        ),
        # RISE, arXiv 1806.07421, section 4.
        Protocol("rise", _WHOLE, "mean", "blur"),
        Protocol("tokens", _WHOLE, None, None, "tokens"),
    )
}


def find_protocol(protocol: str | Protocol) -> Protocol:
    """The protocol of that name, or the protocol itself.

    Raises:
        ValueError: If there is none; lists all.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    return PROTOCOLS[protocol]
