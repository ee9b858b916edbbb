"""What every family of image encoders must answer.

An adapter of a family is a `cci_captum.vision_towers.VisionTower`, which is a `TowerLayout` with
what methods ask of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NoReturn

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .blocks import AttentionBlock, AttentionLayer, AttentionPool
from .hiding import Hiding
from .hooks import first_argument

Layer = int | Literal["input", "projected"]


# Of towers with an attention pool, for `TowerLayout.unprojectable`.
READ_BY_POOL = (
    "the image feature is read from an attention pool: a patch token has no feature of its own in "
    "the joint space"
)


class TowerLayout(ABC):
    """Which modules of an image encoder the tokens pass through, and what the blocks compute.

    Args:
        module: The image encoder.

    Attributes:
        module: The image encoder, unchanged.
        num_prefix_tokens: Tokens before the patch tokens (class token, registers).
        unprojectable: Why a patch token has no feature of its own in the joint space; None
            where `project` gives it.
    """

    num_prefix_tokens: int
    unprojectable: str | None = None

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @property
    @abstractmethod
    def blocks(self) -> Sequence[AttentionBlock]:
        """The attention blocks, first to last."""

    @property
    def attention_pool(self) -> AttentionPool | None:
        """The pool that reads the image feature out by attention; None where there is none."""
        return None

    @property
    @abstractmethod
    def entry(self) -> nn.Module:
        """The module that is called first in a pass, with the images as its first argument."""

    @property
    @abstractmethod
    def input_module(self) -> nn.Module:
        """The module that puts out all tokens, (B, T, D), as they enter the first block."""

    @abstractmethod
    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        """The patch grid (h, w) of images of this size in pixels.

        Raises:
            ValueError: If the tower does not take images of this size.
        """

    @property
    def patch_size(self) -> tuple[int, int] | None:
        """Height and width of a patch in pixels; None where images are whole numbers of patches."""
        return None

    def covered(self, size: tuple[int, int], grid: tuple[int, int]) -> tuple[int, int]:
        """The pixels under a patch grid, rows and columns from the top left.

        Fewer than the image has where its last rows or columns fill no patch and are not seen,
        more where the model pads it.

        Args:
            size: Height and width of an image.
            grid: Its patch grid (h, w). If the tower would see another in an image of this size,
                forward_func resizes images, and the grid covers all of it.
        """
        try:
            seen_as_it_is = self.patch_size is not None and self.grid_of(*size) == tuple(grid)
        except ValueError:
            seen_as_it_is = False
        if not seen_as_it_is or self.patch_size is None:
            return size
        return grid[0] * self.patch_size[0], grid[1] * self.patch_size[1]

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor:
        """Reduce all T tokens to what the image feature is read out from.

        The class token itself, or the mean over the patches where the model pools so (over all
        tokens where its pool includes the prefix): features (B, T, D) -> (B, D), queries by keys
        (B, T, T) -> (B, T). Towers with an attention pool have it in `attention_pool` instead.
        """

    @abstractmethod
    def project(self, tokens: Tensor) -> Tensor:
        """Any tokens of the last block's output into the joint space: norm and projection.

        Args:
            tokens: (..., D).

        Returns:
            (..., E), not normalised; rows are independent of one another.

        Raises:
            TypeError: If the tower is `unprojectable`.
        """

    @abstractmethod
    def read_out(self, tokens: Tensor) -> Tensor:
        """The image feature, (B, E), from all tokens of the last block's output, (B, T, D)."""

    @abstractmethod
    def hide_in_read_out(self, hiding: Hiding) -> Iterator[RemovableHandle]:
        """Register the hooks that keep hidden patches out of the read-out.

        After the last block, tokens go back to the grid (`Hiding.restore`); averages leave
        hidden patches out (`Hiding.average_kept`), attention pools do not attend to them
        (`AttentionPool.hide`). A class token needs none of it. Yield each handle as soon as it
        exists.
        """

    def keep_every_patch(self) -> Iterator[RemovableHandle]:
        """Register the hooks that undo patch dropout, which in train mode removes patches."""
        yield from ()

    def check_hideable(self) -> None:  # noqa: B027 (most towers always are)
        """Raise ValueError if the module is in a state in which patches cannot be hidden."""

    def entered_grid(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
        """The patch grid (h, w), from what `entry` is called with."""
        return self.grid(first_argument(args, kwargs))

    def entered_images(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """The images (B, 3, H, W) that `entry` is called with; None where it gets no images."""
        images = first_argument(args, kwargs)
        return images if isinstance(images, Tensor) and images.ndim == 4 else None

    def grid(self, images: Tensor) -> tuple[int, int]:
        """The patch grid (h, w) of images that go straight into the tower.

        Args:
            images: (B, 3, H, W).

        Raises:
            ValueError: If the tower does not take images of this shape.
        """
        if images.ndim != 4:
            raise ValueError(f"images: expected shape (B, 3, H, W), got {tuple(images.shape)}")
        return self.grid_of(*images.shape[-2:])

    @property
    def num_blocks(self) -> int:
        """Number of attention blocks."""
        return len(self.blocks)

    def block(self, index: int) -> AttentionBlock:
        """The block of this index; negative ones count from the end.

        Raises:
            ValueError: If there is no such block.
        """
        self.check_block(index)
        return self.blocks[index]

    def layer_module(self, layer: int | Literal["input"]) -> nn.Module:
        """The module whose output, (B, T, D), is all tokens of a layer; see `record`.

        Raises:
            ValueError: If there is no such block.
        """
        return self.input_module if layer == "input" else self.block(layer).module

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """The modules that make the image feature, without a text encoder's, and their names."""
        return self.module.named_modules()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that make the image feature, without a text encoder's."""
        return self.module.parameters()

    def patches(self, tokens: Tensor) -> Tensor:
        """All T tokens without the prefix tokens: (B, T, ...) -> (B, h * w, ...)."""
        return tokens[:, self.num_prefix_tokens :]

    def check_attention(self, *, all_blocks: bool = False) -> None:
        """Raise TypeError unless what the attention computes can be read.

        Args:
            all_blocks: Of every block and the attention pool; else of the attention that the
                image feature is read from, the pool's or the last block's.
        """
        pool = self.attention_pool
        last = [] if pool is None else [pool]
        check_readable([*self.blocks, *last] if all_blocks else last or [self.blocks[-1]])

    def check_projection(self) -> None:
        """Raise TypeError, with the reason, where patches have no feature in the joint space."""
        if self.unprojectable is not None:
            raise TypeError(f"vision_tower: {type(self.module).__name__}: {self.unprojectable}")

    def check_layer(self, layer: Layer, argument: str = "layer") -> None:
        """Raise what `record` would raise for this layer, naming `argument`."""
        is_index = isinstance(layer, int) and not isinstance(layer, bool)
        last = self.num_blocks - 1
        if layer in range(-last - 1, last + 1) if is_index else layer in ("input", "projected"):
            if layer == "projected":
                self.check_projection()
            return
        raise ValueError(
            f"{argument}: expected a block index from {-last - 1} to {last}, 'input' or "
            f"'projected', got {layer!r}"
        )

    def check_block(self, index: int, argument: str = "block") -> None:
        """Raise ValueError, naming `argument`, unless there is a block of this index."""
        last = self.num_blocks - 1
        if not isinstance(index, int) or isinstance(index, bool) or not -last - 1 <= index <= last:
            raise ValueError(
                f"{argument}: expected a block index from {-last - 1} to {last}, got {index!r}"
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.module).__name__}, num_blocks={self.num_blocks})"


def pair(side: Any) -> tuple[int, int]:
    """Height and width of what is given as both, or as one number for both."""
    return tuple(side) if isinstance(side, Iterable) else (side, side)


def check_readable(layers: Iterable[AttentionLayer]) -> None:
    """Raise TypeError, with the reason, unless what all these layers compute can be read."""
    for layer in layers:
        if layer.unreadable is not None:
            raise TypeError(f"vision_tower: {type(layer.module).__name__}: {layer.unreadable}")


def refuse_part(part: nn.Module, where: str, owner: str) -> NoReturn:
    """Raise TypeError for a module inside an image encoder that its library did not put there.

    Args:
        part: The module.
        where: What holds it.
        owner: Whose module was expected: "timm's".
    """
    if type(part).__module__.split(".")[0] == "peft":
        remedy = "it is peft's: explain the merged model, model.merge_and_unload()"
    else:
        remedy = "register_vision_tower takes an adapter for it"
    raise TypeError(f"vision_tower: {where}: {type(part).__name__} is not {owner} own; {remedy}")


def check_as_released(module: nn.Module, library: str, methods: Sequence[str]) -> None:
    """Raise TypeError if a subclass of a library's class computes in another way.

    Args:
        module: Of the library's class, or of a subclass.
        library: Top-level name of the library.
        methods: What an adapter takes for granted, unless the library overrides it.
    """
    for base in type(module).__mro__:
        changed = [name for name in methods if name in vars(base)]
        if changed and base.__module__.split(".")[0] not in (library, "torch"):
            raise TypeError(
                f"vision_tower: {base.__name__} overrides {', '.join(changed)} of its class in "
                f"{library}, so that the adapter may not fit; register_vision_tower takes one of "
                "your own"
            )
