"""Which part of its inputs a forward_func shows to the image encoder, read off ramps.

A model may resize, crop or pad what it is given before its image encoder runs. What the encoder
is handed of an image whose colours rise along rows and columns says how: by which scale and
offset a pixel of the encoder's image lies in the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# A cubic in [-1, 1], steadily rising and curved, so that its scale and place can be told apart from
# any change of brightness and contrast.
_CUBE, _SQUARE, _LINE = 0.5, 0.15, 0.35
_MISFIT = 0.02  # of the ramp's range: what resizing may leave
_STRAIGHT = 0.05  # of the ramp's range: what an axis-aligned image may vary along the other axis
_ROUNDED = 0.0075  # of the ramp's range: what bfloat16 or bytes may change in what is handed on


@dataclass(frozen=True)
class FieldOfView:
    """The rectangle of the inputs, in their pixels, that the image encoder is shown.

    Attributes:
        top: Its upper edge; negative where the inputs are padded.
        left: Its left edge.
        height: Its height, which the encoder's own rows divide.
        width: Its width.
    """

    top: float
    left: float
    height: float
    width: float

    @classmethod
    def of_box(cls, box: Sequence[float]) -> FieldOfView:
        """That of left, top, right and bottom."""
        left, top, right, bottom = box
        return cls(top, left, bottom - top, right - left)

    def part(self, rows: tuple[float, float], columns: tuple[float, float]) -> FieldOfView:
        """The part between these shares of its height and of its width, 0 to 1 (or beyond)."""
        return FieldOfView(
            self.top + rows[0] * self.height,
            self.left + columns[0] * self.width,
            (rows[1] - rows[0]) * self.height,
            (columns[1] - columns[0]) * self.width,
        )

    def is_whole(self, size: tuple[int, int], entered: tuple[int, int]) -> bool:
        """Whether it is all of an image, as exactly as can be told.

        Args:
            size: Height and width of the image.
            entered: Of what the encoder is handed. Where that is smaller and takes the nearest
                pixels, it is shifted by up to half of what its own pixels leave out.
        """
        sides = zip((self.top, self.left), (self.height, self.width), size, entered, strict=True)
        return all(
            max(abs(first), abs(length - side))
            < max(0.35, 0.005 * side, 0.55 * (length / count - 1))
            for first, length, side, count in sides
        )


class GeometryError(ValueError):
    """The image encoder is shown something else than a rectangle of the inputs."""


def ramps(images: Tensor) -> Tensor:
    """An image (1, 3, H, W) whose first and third channel rise to the right, the second downwards.

    In the range of the images' own values, so that it passes as one of them; where these hardly
    differ, between them and half of them.
    """
    _, _, height, width = images.shape
    wide = images.double()
    mean, spread = float(wide.mean()), float(wide.std(correction=0))
    low, high = max(mean - spread, float(wide.min())), min(mean + spread, float(wide.max()))
    if high - low < max(abs(low), abs(high)) / 2 or high == low:
        # So few steps in half precision that nothing could be read off them.
        low, high = sorted((mean / 2, mean)) if mean else (0.0, 0.5)

    return ((high + low) / 2 + (high - low) / 2 * _ramps(height, width))[None].to(images)


def _ramps(height: int, width: int) -> Tensor:
    """(3, H, W), float64 from -1 to 1."""

    def ramp(count: int) -> Tensor:
        return _cubic((torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 - 1)

    right = ramp(width)[None].expand(height, width)
    down = ramp(height)[:, None].expand(height, width)
    return torch.stack([right, down, right])


def find_field_of_view(entered: Tensor, size: tuple[int, int]) -> FieldOfView:
    """Where the image encoder's image lies in the input that `ramps` made.

    Args:
        entered: (3, h, w), what the encoder was handed of the ramps.
        size: (H, W) of the inputs.

    Returns:
        The `FieldOfView`; brightness and contrast of each channel may have changed.

    Raises:
        GeometryError: If the encoder's image is no axis-aligned, upright rectangle of the inputs.
    """
    wide = entered.double().cpu()
    if _is_as_it_was(wide, size):
        return FieldOfView(0, 0, *size)
    right, down = wide.mean(dim=1), wide.mean(dim=2)  # (3, w), (3, h): what is left of each ramp
    if wide.shape[0] != 3 or right[1].var() > max(right[0].var(), right[2].var()):
        raise GeometryError("expected upright images, got rows in the place of columns")
    profiles = down[1], right[int(right.var(dim=1).argmax())]
    inner = [_without_padding(*pair) for pair in zip(profiles, size, strict=True)]
    ends = [_ends(*parts) for parts in zip(profiles, inner, size, ("rows", "columns"), strict=True)]
    _check_straight(wide[:, inner[0]][:, :, inner[1]])
    (top, bottom), (left, right_end) = ends
    return FieldOfView(top, left, bottom - top, right_end - left)


def place(patch_map: Tensor, size: tuple[int, int], mode: str, view: FieldOfView) -> Tensor:
    """Enlarge maps (B, h, w) into a part of the images, (B, H, W); zero outside.

    Args:
        patch_map: The maps.
        size: Height and width of the images.
        mode: "nearest", "bilinear" or "bicubic", as `torch.nn.functional.interpolate` has them.
        view: The pixels under the map.
    """
    height, width = size
    wide = patch_map[:, None].double()
    # Places of the pixels' centres in the map, -1 and 1 its edges.
    rows = (torch.arange(height, dtype=torch.float64) + 0.5 - view.top) / view.height * 2 - 1
    columns = (torch.arange(width, dtype=torch.float64) + 0.5 - view.left) / view.width * 2 - 1
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
    grid = grid.to(wide.device).expand(len(wide), -1, -1, -1)
    maps = F.grid_sample(wide, grid, mode=mode, padding_mode="border", align_corners=False)
    inside = (rows.abs() <= 1)[:, None] & (columns.abs() <= 1)
    return maps[:, 0].masked_fill(~inside.to(maps.device), 0.0).to(patch_map.dtype)


def _is_as_it_was(entered: Tensor, size: tuple[int, int]) -> bool:
    """Whether an image (3, h, w) is that of `ramps`, but for the contrast of channels and rounding.

    Coefficients of a cubic cannot be read off as exactly in half precision.
    """
    if entered.shape != (3, *size):
        return False
    expected, found = (x - x.mean(dim=(1, 2), keepdim=True) for x in (_ramps(*size), entered))
    contrast = (expected * found).sum(dim=(1, 2)) / expected.square().sum(dim=(1, 2))
    missed = (found - contrast[:, None, None] * expected).abs().amax(dim=(1, 2))
    spread = expected.amax(dim=(1, 2)) - expected.amin(dim=(1, 2))
    return bool((missed < _ROUNDED * contrast * spread).all())


def _cubic(places: Tensor) -> Tensor:
    return _CUBE * places**3 + _SQUARE * places**2 + _LINE * places


def _ends(profile: Tensor, inner: Tensor, length: int, what: str) -> tuple[float, float]:
    """Where a profile of the encoder's image begins and ends in an input of this length."""
    if len(inner) < 5:
        raise GeometryError(
            f"expected {what} that are those of the inputs, got {len(inner)} that differ"
        )
    values = profile[inner]
    spread = float(values.max() - values.min())
    # In units of the encoder's own image, -1 to 1, for the sake of the fit.
    places = (inner.double() + 0.5) / len(profile) * 2 - 1
    powers = places[:, None] ** torch.arange(4, dtype=torch.float64)
    fitted = torch.linalg.lstsq(powers, values[:, None], driver="gelsd").solution[:, 0]
    misfit = float((powers @ fitted - values).abs().max())
    _, line, square, cube = fitted.tolist()
    # values = s c(x0 + k t) + o with the cubic c = A x^3 + B x^2 + C x, so that
    # cube = s A k^3, square = s k^2 (3 A x0 + B), line = s k (3 A x0^2 + 2 B x0 + C).
    stair = float(values.diff().abs().max())  # of nearest neighbours, which stay half a step behind
    squared = 0.0
    if cube and misfit <= max(_MISFIT * spread, stair / 2):
        ratio = square / cube  # (3 x0 + B / A) / k
        bend = line / cube - ratio**2 / 3
        squared = (_LINE / _CUBE - (_SQUARE / _CUBE) ** 2 / 3) / bend if bend else 0.0
    if squared <= 0:
        raise GeometryError(
            f"expected {what} that are those of the inputs, resized, cropped or padded, got others "
            f"(they miss by {misfit / max(spread, 1e-30):.0%})"
        )
    if cube < 0:
        raise GeometryError(f"expected upright images, got {what} in reversed order")
    scale = squared**0.5
    offset = (ratio * scale - _SQUARE / _CUBE) / 3
    first, last = ((offset + scale * end + 1) / 2 * length for end in (-1.0, 1.0))
    return first, last


def _without_padding(profile: Tensor, length: int) -> Tensor:
    """Indices of the part of a profile that rises or falls.

    Without its outermost pixels, whose value depends on how a resize treats the border, and
    without the blends beside a padding.
    """
    steps = profile.diff().abs()
    moving = (steps > 1e-4 * steps.max().clamp(min=1e-30)).nonzero().flatten()
    if not len(moving):
        return moving
    first, last = int(moving[0]), int(moving[-1]) + 1  # the first and last pixel that differ
    blend = 3 + len(profile) // length
    first += blend if first > 0 else 1
    last -= blend if last < len(profile) - 1 else 1
    return torch.arange(first, max(first, last + 1))


def _check_straight(image: Tensor) -> None:
    """Raise GeometryError unless (3, h, w) values are sums of one of the row and one of the column.

    As those of ramps are, also where colours were mixed.
    """
    rows, columns = image.mean(dim=2, keepdim=True), image.mean(dim=1, keepdim=True)
    uneven = (image - rows - columns + image.mean(dim=(1, 2), keepdim=True)).abs().amax()
    spread = (image.amax(dim=(1, 2)) - image.amin(dim=(1, 2))).max().clamp(min=1e-30)
    if uneven > _STRAIGHT * spread:
        raise GeometryError(
            "expected images that are resized, cropped or padded along their sides, got rotated or "
            f"warped ones (uneven by {float(uneven / spread):.0%})"
        )
