"""What a deletion and insertion protocol says, as data, and the published ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

NamedFill = Literal["uniform-noise", "black", "mean", "blur"]
Fill = NamedFill | Callable[[Tensor], Tensor]
Resolution = Literal["model", "original", "tokens"]


@dataclass(frozen=True)
class Protocol:
    """How much is perturbed at which points, and what it is replaced by.

    Attributes:
        name: As reports print it.
        fractions: The perturbed share of the pixels (or patches) at each point: increasing
            numbers in [0, 1], at least two.
        deletion_fill: What deleted pixels become: "uniform-noise" (each channel of each pixel
            uniform over its range), "black", "mean" (the mean colour that the model's inputs
            are normalised by), "blur" (11 x 11 Gaussian, sigma 5) or a function from images
            (B, 3, H, W) to images. None for tokens.
        insertion_start: What insertion starts from, the same choices.
        resolution: "model" perturbs pixels of the model's input; "original" those of the photo,
            at most 640 on its shorter side, which then goes through the model's preprocessing;
            "tokens" hides patches from every attention layer, so that no pixel is made up.

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

    def __post_init__(self) -> None:
        """Check the values."""
        object.__setattr__(self, "fractions", tuple(float(f) for f in self.fractions))
        steps = list(zip(self.fractions, self.fractions[1:], strict=False))
        in_range = all(0 <= fraction <= 1 for fraction in self.fractions)
        if not steps or not in_range or any(low >= high for low, high in steps):
            raise ValueError(
                "fractions: expected at least two increasing numbers in [0, 1], got "
                f"{self.fractions}"
            )
        if self.resolution not in get_args(Resolution):
            raise ValueError(
                f"resolution: expected one of {get_args(Resolution)}, got {self.resolution!r}"
            )
        for argument in ("deletion_fill", "insertion_start"):
            fill = getattr(self, argument)
            if self.resolution == "tokens":
                if fill is not None:
                    raise ValueError(f"{argument}: expected None for tokens, got {fill!r}")
            elif not callable(fill) and fill not in get_args(NamedFill):
                raise ValueError(
                    f"{argument}: expected one of {get_args(NamedFill)} or a function from images "
                    f"to images, got {fill!r}"
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
