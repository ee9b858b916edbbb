"""The interface that CCI and its rivals share: Captum's, for maps over images and patches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from .._captum import as_given, log_usage
from .._progress import progress_bar
from ..calls import new_pass, one_call
from ..vision_towers import VisionTower
from ._refusals import name_arguments
from .field_of_view import FieldOfView
from .finite import NotFiniteError, check_finite, check_map
from .forward import check_callable, run_forward, tower_of
from .forward_checks import buffers_kept, check_once, known_field_of_view
from .inputs import Inputs, check_images
from .resizing import Upsample, check_upsample, enlarge
from .targets import select_target

TensorOrTuple = TypeVar("TensorOrTuple", Tensor, tuple[Tensor, ...])


class ImageAttribution(Attribution):
    """A Captum method that gives every image one map, repeated over the channels.

    Subclasses write `_pixel_map`.

    Attributes:
        vision_tower: Adapter of the image encoder; None for methods that look into none.

    Args:
        forward_func: Module or function from images (B, 3, H, W) and any further arguments to
            (B,) scores or (B, C) outputs.

    Raises:
        TypeError: If forward_func is not callable.
    """

    vision_tower: VisionTower | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        """Arguments by position beyond Captum's first ones are refused with their names."""
        super().__init_subclass__(**options)
        name_arguments(cls)

    def __init__(self, forward_func: Callable[..., Tensor]) -> None:
        check_callable(forward_func)
        super().__init__(forward_func)

    @log_usage()  # Captum's NoiseTunnel relies on this decorator
    def attribute(
        self,
        inputs: TensorOrTuple,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        upsample: Upsample = "nearest",
        check: bool = True,
    ) -> TensorOrTuple:
        """How much each pixel's surroundings contribute to the target.

        Args:
            inputs: (B, 3, H, W) floating point images, ready for forward_func, or a one-tuple
                of them.
            target: The output to explain, by Captum's rules: None where forward_func returns
                one score an image, else an int, a list or tensor of B ints, or a tuple.
                Unlike there, negative indices are refused in each of these.
            additional_forward_args: Further arguments of forward_func; tensors have one row
                an image (0-dimensional ones and other objects are passed on as they are); what
                belongs to all images is marked, `Shared(tensor)`.
            internal_batch_size: Most images in one forward pass; bounds the memory and changes
                results by rounding alone. (In half precision that is enough to move some patches
                to other clusters; see `CCI`.) None is B, as many as in inputs; on a GPU, more
                than a small B is faster.
            show_progress: Show a progress bar on stderr.
            upsample: How a map on the patch grid is enlarged: "nearest" keeps the patches'
                borders; "bilinear" and "bicubic" smooth the map, which faithfulness metrics
                reward on most data.
            check: Check forward_func by `check_forward_func`, at most four passes of two images,
                the first time that it is used with this image encoder, these shapes and modes.
                What it finds of resizing, cropping and padding inside forward_func is followed.

        Returns:
            Attributions of the inputs' shape (every channel holds the same map), detached, at
            least float32; a one-tuple for a one-tuple.

        Raises:
            TypeError: If inputs or the output of forward_func have the wrong type.
            ValueError: If shapes, target or an option do not fit; if outputs of forward_func
                depend on chance or on other images; if an image, the target's score or the map of
                an image is not finite, with the places of these images.
            RuntimeError: If forward_func does not run the vision tower exactly once, or hidden
                patches still count in its outputs.
        """
        check_upsample(upsample)
        with self._explaining(
            inputs, target, additional_forward_args, internal_batch_size, check
        ) as given:
            maps = self._pixel_map(given, upsample, show_progress)
            batch, _, height, width = given.images.shape
        check_map(maps, f"{self.get_name()}._pixel_map", (batch, height, width))
        check_finite(maps, "maps", self.get_name())
        return repeat_over_channels(maps, inputs)

    def _pixel_map(self, given: Inputs, upsample: Upsample, show_progress: bool) -> Tensor:
        """(B, H, W) maps of what was given to `attribute`. Called without gradients."""
        raise NotImplementedError(f"{type(self).__name__} has no _pixel_map")

    @contextmanager
    def _explaining(
        self,
        inputs: Any,
        target: Any,
        additional_forward_args: Any,
        internal_batch_size: int | None,
        check: bool,
    ) -> Iterator[Inputs]:
        """What every public call begins and ends with.

        Arguments are checked and cut loose from inference mode, in which the caller may be; texts
        are encoded once; buffers of the model keep their values; forward_func is checked once.
        """
        given = Inputs.of(inputs, target, additional_forward_args, internal_batch_size)
        check_finite(given.images, "inputs", self.get_name())
        kept = buffers_kept(self.forward_func, self.vision_tower)
        with one_call(), kept, torch.inference_mode(False), torch.no_grad():
            if check:
                self._check_once(given.images, given.args)
            yield given.outside_inference()

    def check_forward_func(self, inputs: Any, additional_forward_args: Any = None) -> None:
        """What `attribute` checks before it explains, once; see `check_forward_func`.

        Args:
            inputs: See `attribute`.
            additional_forward_args: See `attribute`.

        Raises:
            TypeError: See `attribute`.
            ValueError: See `attribute`.
            RuntimeError: See `attribute`.
        """
        given = Inputs.of(inputs, None, additional_forward_args)
        self._check_once(given.images, given.args)

    def _check_once(self, images: Tensor, args: tuple[Any, ...]) -> None:
        check_once(self.forward_func, images, args, None, hiding=False)

    @classmethod
    def get_name(cls) -> str:
        """The name in Captum's reports."""
        return cls.__name__

    def has_convergence_delta(self) -> bool:
        """False: the maps need not add up to anything (Captum's interface)."""
        return False

    def _run_forward(self, images: Tensor, args: tuple[Any, ...]) -> Tensor:
        """The output of forward_func, checked, at least float32: (B,) or (B, C, ...)."""
        return run_forward(self.forward_func, images, args)

    def _score(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        """The target's score, (B,), finite."""
        scores = select_target(self._run_forward(images, args), target)
        check_finite(scores, "scores of the target")
        return scores

    @contextmanager
    def _running_on(self, images: Sequence[int]) -> Iterator[None]:
        """Where only some of the images are run: errors name them by their places in the batch."""
        try:
            yield
        except NotFiniteError as error:
            raise error.within(self.get_name(), images) from None


name_arguments(ImageAttribution)


class GridAttribution(ImageAttribution):
    """A Captum method whose map is coarser than the image.

    Subclasses write `_patch_map`.
    """

    def patch_map(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        check: bool = True,
    ) -> Tensor:
        """The method's raw values, before any resizing or normalisation.

        Args:
            inputs: See `attribute`.
            target: See `attribute`.
            additional_forward_args: See `attribute`.
            internal_batch_size: See `attribute`.
            show_progress: See `attribute`.
            check: See `attribute`.

        Returns:
            (B, h, w) map on the patch grid, detached, at least float32.

        Raises:
            TypeError: See `attribute`.
            ValueError: See `attribute`.
            RuntimeError: See `attribute`.
        """
        with self._explaining(
            inputs, target, additional_forward_args, internal_batch_size, check
        ) as given:
            return self._patch_maps(given, show_progress)

    def _patch_maps(self, given: Inputs, show_progress: bool) -> Tensor:
        """(B, h, w) maps, internal_batch_size images at a time."""
        maps = []
        with progress_bar(show_progress, len(given), self.get_name(), unit="img") as progress:
            for places, part in given.parts():
                new_pass()
                with self._running_on(places):
                    chunk = self._patch_map(part.images, part.target, part.args)
                    check_map(chunk, f"{self.get_name()}._patch_map", (len(part.images), "h", "w"))
                    check_finite(chunk, "maps")
                maps.append(chunk.detach().to(given.images.device))
                progress.update(len(chunk))
        joined = torch.cat(maps)
        return joined.to(torch.promote_types(joined.dtype, torch.float32))

    def _patch_map(self, images: Tensor, target: Any, args: tuple[Any, ...]) -> Tensor:
        """(B, h, w) maps of a batch: checked images, their targets and forward arguments.

        Called without gradients; `VisionTower.record_attention(requires_grad=True)` gives them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no _patch_map")

    def _pixel_map(self, given: Inputs, upsample: Upsample, show_progress: bool) -> Tensor:
        patch_map = self._patch_maps(given, show_progress)
        size = (given.images.shape[2], given.images.shape[3])
        grid = (patch_map.shape[1], patch_map.shape[2])
        return enlarge(patch_map, size, upsample, self._covered(given.images, grid))

    def _covered(self, images: Tensor, grid: tuple[int, int]) -> tuple[int, int] | FieldOfView:
        """The pixels of these images under a map's grid."""
        return images.shape[2], images.shape[3]


class PatchAttribution(GridAttribution):
    """A Captum method whose map lives on the patches of an image encoder.

    To write one's own, subclass it and write `_patch_map` for a batch of images, as in the
    example; arguments, batching, resizing and errors are then those of all methods here.

    Args:
        forward_func: Module or function from images (B, 3, H, W) and any further arguments to
            (B,) scores or (B, C) outputs.
        vision_tower: The image encoder that forward_func runs, once a call: a module, or its
            adapter from `find_vision_tower`. None finds it in forward_func.

    Raises:
        TypeError: If an argument has the wrong type or the image encoder is of a kind that
            cannot be explained.
        ValueError: If no image encoder or several are found.

    Example:
        >>> import torch, cci_captum
        >>> class InputGradient(cci_captum.PatchAttribution):
        ...     def _patch_map(self, images, target, args):
        ...         with self.vision_tower.record_attention([-1], requires_grad=True) as recording:
        ...             scores = self._score(images, target, args)
        ...             (last,) = recording.blocks
        ...             (gradient,) = torch.autograd.grad(scores.sum(), [last.tokens])
        ...         patches = self.vision_tower.patches(gradient)
        ...         return patches.norm(dim=-1).unflatten(1, recording.grid)
        >>> clip = cci_captum.load_clip("tiny")
        >>> method = InputGradient(cci_captum.ImageTextSimilarity(clip.model))
        >>> text = clip.tokenizer(["a cat", "a dog"])
        >>> method.attribute(torch.zeros(2, 3, 96, 96), additional_forward_args=text).shape
        torch.Size([2, 3, 96, 96])
    """

    vision_tower: VisionTower
    _hides_patches = False  # whether the method hides patches, so that hiding must be right

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
    ) -> None:
        super().__init__(forward_func)
        self.vision_tower = tower_of(forward_func, vision_tower)

    def _check_once(self, images: Tensor, args: tuple[Any, ...]) -> None:
        hiding = self._hides_patches
        check_once(self.forward_func, images, args, self.vision_tower, hiding=hiding)

    def _covered(self, images: Tensor, grid: tuple[int, int]) -> tuple[int, int] | FieldOfView:
        view = known_field_of_view(self.forward_func, images, self.vision_tower)
        return view or self.vision_tower.covered((images.shape[2], images.shape[3]), grid)


def repeat_over_channels(maps: Tensor, inputs: Any) -> Any:
    """(B, H, W) maps as attributions of the inputs: their shape, and a tuple for a tuple."""
    images = check_images(inputs)
    maps = maps.to(torch.promote_types(images.dtype, torch.float32))
    attributions = maps[:, None].repeat(1, images.shape[1], 1, 1)
    return as_given(inputs, attributions)
