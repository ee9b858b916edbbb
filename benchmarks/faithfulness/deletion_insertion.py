"""Deletion and insertion at the cost of the forward passes alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from torch import Tensor, nn

from cci_captum._checks import check_batch_size
from cci_captum.attribution.finite import check_finite
from cci_captum.attribution.forward import check_callable, check_passes, run_forward, tower_of
from cci_captum.attribution.forward_checks import check_once, known_field_of_view
from cci_captum.attribution.inputs import check_additional_forward_args, check_images, rows_of_args
from cci_captum.attribution.resizing import enlarge
from cci_captum.attribution.targets import rows_of_target, select_target
from cci_captum.calls import one_call
from cci_captum.models.preprocessing import check_seen_box, mean_and_std, seen_box
from cci_captum.vision_towers import VisionTower

from .curves import FaithfulnessCurves, score
from .perturbation import filled, perturb, rank_pixels, splits_ties, tied_share, ties_of
from .photos import scaled_down, to_photo, to_pixels
from .protocols import TIES, Protocol, Ties, find_protocol


class DeletionInsertion:
    """Curves of the score as what a map calls important is taken away, and put back.

    What is random (the order among equal values, noise) depends on the seed and on the image
    alone: every method meets the same, results can be compared image by image, and neither the
    batch nor internal_batch_size changes them. Two forward passes a point and image.

    Args:
        forward_func: Module or function from images and further arguments to (B,) scores or
            (B, C) outputs.
        protocol: A name from `PROTOCOLS`, or a `Protocol`.
        vision_tower: Whose patches are hidden where the protocol's resolution is "tokens"; None
            finds it in forward_func.
        seed: Of ties and noise.
        mean: What pixel values in [0, 1] were normalised by, three numbers. None is what
            preprocess says or, without one, OpenAI CLIP's.
        std: The same.
        preprocess: From a PIL image to an input (3, H, W) of the model, as `load_clip` returns it,
            where the protocol's resolution is "original"; of a function of your own
            `cci_captum.models.preprocessing.Preprocessing` says what it does.
        internal_batch_size: Most images in one forward pass; None is as many as come.

    Raises:
        TypeError: If forward_func is not callable, its image encoder cannot be explained, or
            preprocess is missing.
        ValueError: If the protocol is unknown, no image encoder is found, or it is not known of
            preprocess how it normalises or which part of a photo it leaves.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(2, 3, 96, 96)
        >>> maps = cci_captum.CCI(classifier).patch_map(images, target=1)
        >>> curves = DeletionInsertion(classifier, "grad-eclip")(images, maps, target=1)
        >>> curves.deletion.probability.shape, sorted(curves.auc())[0]
        (torch.Size([2, 11]), 'deletion_probability')
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        protocol: str | Protocol = "grad-eclip",
        *,
        vision_tower: nn.Module | VisionTower | None = None,
        seed: int = 0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        preprocess: Callable[[Image.Image], Tensor] | None = None,
        internal_batch_size: int | None = None,
        check: bool = True,
    ) -> None:
        check_callable(forward_func)
        check_batch_size(internal_batch_size, 1)
        self.forward_func = forward_func
        self.protocol = find_protocol(protocol)
        self.seed = seed
        if self.protocol.resolution == "original":
            if not callable(preprocess):
                raise TypeError(
                    f"preprocess: protocol {self.protocol.name!r} needs the model's preprocessing "
                    f"of PIL images, got {preprocess!r}"
                )
            check_seen_box(preprocess)
        usual = (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)
        if preprocess is not None and (mean is None or std is None):
            usual = mean_and_std(preprocess)
        mean, std = usual[0] if mean is None else mean, usual[1] if std is None else std
        self.mean, self.std = (
            _three_numbers(name, values) for name, values in (("mean", mean), ("std", std))
        )
        if not bool((self.std > 0).all()):
            raise ValueError(f"std: expected three positive numbers, got {tuple(std)}")
        self.preprocess = preprocess
        self.internal_batch_size = internal_batch_size
        self.check = check
        self.vision_tower: VisionTower | None = None
        if self.protocol.resolution == "tokens":
            self.vision_tower = tower_of(forward_func, vision_tower)

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor | Sequence[Image.Image],
        attributions: Tensor | Sequence[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
    ) -> FaithfulnessCurves:
        """Curves of B images.

        Args:
            images: (B, 3, H, W) inputs of the model. Where the protocol's resolution is
                "original", B photos, which may differ in size.
            attributions: (B, 3, H, W), ranked by their mean over channels; (B, H, W); or
                (B, h, w) maps on patches, enlarged bilinearly. For the "tokens" protocol they are
                averaged over each patch. For photos B maps (h, w) of any size, each of which
                covers its whole photo. Maps of the model's input cover what preprocess leaves of
                it: cut the photo first, `photo.crop(seen_box(preprocess, photo.size))`. A
                map of the shape of that part is refused; where the part has the photo's own
                shape, this cannot be seen, and the map is stretched.
            target: As in Captum.
            additional_forward_args: As in Captum; tensors have a row an image, or are `Shared`.

        Returns:
            The `FaithfulnessCurves`, on the images' device; for photos that of attributions.

        Raises:
            TypeError: If images or attributions are not floating point tensors, or photos no PIL
                images.
            ValueError: If shapes or target do not fit, or attributions are not finite, or cover
                less than their photos.
        """
        ties = self.protocol.ties
        return self.under_ties(images, attributions, target, additional_forward_args, (ties,))[ties]

    @torch.no_grad()
    def under_ties(
        self,
        images: Tensor | Sequence[Image.Image],
        attributions: Tensor | Sequence[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
        ties: Sequence[Ties] = TIES,
    ) -> dict[Ties, FaithfulnessCurves]:
        """Curves of B images under several orders of pixels that have the same importance.

        A further order costs a forward pass only at points where it decides which pixels are
        among the first: maps whose values all differ cost nothing more.

        Args:
            images: As in a call.
            attributions: As in a call.
            target: As in a call.
            additional_forward_args: As in a call.
            ties: Orders, each once; see `Protocol`. The protocol's own is one like the others.

        Returns:
            Order -> the `FaithfulnessCurves` that a call gives where the protocol has that order.

        Raises:
            TypeError: As in a call.
            ValueError: As in a call; or if an order is unknown, given twice, or there is none.

        Example:
            >>> import torch
            >>> square = torch.nn.Flatten()  # 3 * 4 outputs of an image of 2 x 2
            >>> harness = DeletionInsertion(square, Protocol("half", (0.0, 0.5), "mean", "black"))
            >>> maps = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
            >>> images = torch.ones(1, 3, 2, 2)
            >>> curves = harness.under_ties(images, maps, target=0, ties=("raster", "reversed"))
            >>> float(curves["raster"].tied)
            1.0
        """
        orders = tuple(ties)
        if not orders or len(set(orders)) < len(orders) or not set(orders) <= set(TIES):
            raise ValueError(f"ties: expected some of {', '.join(TIES)}, each once, got {ties!r}")
        given: tuple[Any, Any]
        if self.protocol.resolution == "original":
            given = _check_photos(images, attributions)
            self._check_cover(*given)
            device = given[1][0].device
        else:
            inputs = _check_inputs(images)
            given = inputs, _check_attributions(attributions, inputs)
            device = inputs.device
        batch = len(given[0])
        args = check_additional_forward_args(additional_forward_args, batch)
        rows_of_target(target, slice(0, 1), batch)
        with one_call():
            prepare = getattr(self, f"_{self.protocol.resolution}")
            prepared: _Prepared = prepare(*given, args, orders)
            outputs = self._run(batch, device, target, prepared, len(orders))
        axis, inserted = (
            None if points is None else torch.tensor(points, dtype=torch.float64, device=device)
            for points in (self.protocol.fractions, self.protocol.insertion_fractions)
        )
        assert axis is not None
        return {
            name: FaithfulnessCurves(
                axis, score(deletion, target), score(insertion, target), inserted, prepared.tied
            )
            for name, (deletion, insertion) in zip(orders, outputs, strict=True)
        }

    def _run(
        self, batch: int, device: torch.device, target: Any, prepared: _Prepared, orders: int
    ) -> Tensor:
        """Outputs (O, 2, B, P, ...) under every order, of deletion and insertion, at every point.

        All of the first order; of the others what is not the same.
        """
        size = check_batch_size(self.internal_batch_size, batch)
        wanted = prepared.split.expand(orders, -1, -1, -1).clone()  # (O, 2, P, B)
        wanted[0] = True
        first, others = wanted[:1].nonzero(), wanted[1:].nonzero()
        others[:, 0] += 1
        outputs: list[Tensor] = []
        for part in (*first.split(size), *others.split(size)):
            if len(part):
                output = prepared.scores(_Jobs(*part.unbind(dim=1)))
                if not outputs:  # before the work, not after it
                    select_target(output.new_zeros(batch, *output.shape[1:]), target)
                outputs.append(output)
        joined = torch.cat(outputs)
        own = joined[: len(first)].unflatten(0, wanted[:1].shape)
        found = own.repeat(orders, *[1] * (own.ndim - 1))
        found[others.unbind(dim=1)] = joined[len(first) :]
        return found.transpose(2, 3)

    def _model(
        self, images: Tensor, maps: Tensor, args: tuple[Any, ...], ties: Sequence[Ties]
    ) -> _Prepared:
        """Outputs where pixels of the model's input are replaced."""
        size = (images.shape[2], images.shape[3])
        view = known_field_of_view(self.forward_func, images, None)
        if view is not None and maps.shape[1:] != size:
            maps = enlarge(maps, size, "bilinear", view)
        canvas = self._canvas(images, maps, ties)

        def scores(jobs: _Jobs) -> Tensor:
            painted = canvas.paint(jobs)
            return run_forward(self.forward_func, painted, rows_of_args(args, jobs.row))

        return _Prepared(scores, canvas.ranking.tied, canvas.ranking.split)

    def _original(
        self,
        photos: Sequence[Image.Image],
        maps: Sequence[Tensor],
        args: tuple[Any, ...],
        ties: Sequence[Ties],
    ) -> _Prepared:
        """Outputs where pixels of the photos are replaced, before the model's preprocessing."""
        preprocess, device = self.preprocess, maps[0].device
        assert preprocess is not None  # checked with the protocol
        canvases = []
        for photo, one in zip(photos, maps, strict=True):
            scaled = scaled_down(photo.convert("RGB"), self.protocol.rounding)
            pixels = to_pixels(scaled).to(device)
            normalized = (pixels - self.mean.to(device)) / self.std.to(device)
            canvases.append(self._canvas(normalized, one[None], ties))

        def painted(job: _Jobs) -> Tensor:
            canvas = canvases[int(job.row)]
            pixels = canvas.paint(job._replace(row=torch.zeros_like(job.row)))
            return preprocess(to_photo(pixels * self.std.to(device) + self.mean.to(device)))

        def scores(jobs: _Jobs) -> Tensor:
            each = (_Jobs(*job) for job in zip(*(part.split(1) for part in jobs), strict=True))
            inputs = torch.stack([painted(job) for job in each]).to(device)
            return run_forward(self.forward_func, inputs, rows_of_args(args, jobs.row))

        rankings = [canvas.ranking for canvas in canvases]
        return _Prepared(
            scores,
            torch.cat([ranking.tied for ranking in rankings]),
            torch.cat([ranking.split for ranking in rankings], dim=-1),
        )

    def _check_cover(self, photos: Sequence[Image.Image], maps: Sequence[Tensor]) -> None:
        """Raise ValueError for a map that has the shape of what is left of its photo."""
        assert self.preprocess is not None  # checked with the protocol
        for index, (photo, one) in enumerate(zip(photos, maps, strict=True)):
            left, top, right, bottom = seen_box(self.preprocess, photo.size)
            part = (right - left, bottom - top)
            if max(photo.width - part[0], photo.height - part[1]) <= 1:
                continue
            shape, of_photo, of_part = (
                math.log(width / height) for width, height in (one.shape[::-1], photo.size, part)
            )
            if abs(shape - of_part) < abs(shape - of_photo):
                raise ValueError(
                    f"attributions[{index}]: expected a map of the whole photo, {photo.width} x "
                    f"{photo.height}, got one of {one.shape[1]} x {one.shape[0]}, the shape of the "
                    f"{part[0]} x {part[1]} that preprocess leaves; cut the photo first: "
                    "photo.crop(seen_box(preprocess, photo.size)), from "
                    "cci_captum.models.preprocessing"
                )

    def _canvas(self, images: Tensor, maps: Tensor, ties: Sequence[Ties]) -> _Canvas:
        """What normalised images are painted with, in which order."""
        size = (images.shape[2], images.shape[3])
        assert self.protocol.deletion_fill and self.protocol.insertion_start  # its own check
        fill, start = (
            filled(
                images,
                chosen,
                self.mean.to(images.device),
                self.std.to(images.device),
                self.seed,
                self.protocol.rounding,
            )
            for chosen in (self.protocol.deletion_fill, self.protocol.insertion_start)
        )
        return _Canvas(images, fill, start, self._ranking(images, maps, size, ties))

    def _tokens(
        self, images: Tensor, maps: Tensor, args: tuple[Any, ...], ties: Sequence[Ties]
    ) -> _Prepared:
        """Outputs where patches are hidden from every attention layer."""
        tower = self.vision_tower
        assert tower is not None  # made with the protocol
        if self.check:
            check_once(self.forward_func, images, args, tower, hiding=True)
        view = known_field_of_view(self.forward_func, images, tower)
        if view is not None and maps.shape[1:] == images.shape[2:]:
            raise ValueError(
                "attributions: expected maps on the patch grid, such as `patch_map` gives, since "
                f"forward_func shows the image encoder another part of the images: {view}; got "
                f"maps of their size, {tuple(maps.shape[1:])}"
            )
        first = slice(0, 1)
        with tower.record("input") as recording:
            run_forward(self.forward_func, images[first], rows_of_args(args, first))
        ranking = self._ranking(images, maps, recording.grid, ties)

        def scores(jobs: _Jobs) -> Tensor:
            comes_first = ranking.ranks_of(jobs).flatten(1) < ranking.counts_of(jobs)[:, None]
            hidden = comes_first ^ (jobs.insertion[:, None] == 1)
            # Dropping is cheaper: a batch is mostly of one point, so that its rows are as long.
            with tower.hide(hidden, "drop") as hiding:
                outputs = run_forward(
                    self.forward_func, images[jobs.row], rows_of_args(args, jobs.row)
                )
            check_passes(hiding.passes)
            return outputs

        return _Prepared(scores, ranking.tied, ranking.split)

    def _ranking(
        self, images: Tensor, maps: Tensor, size: tuple[int, int], ties: Sequence[Ties]
    ) -> _Ranking:
        """Which pixels of maps of that size come first."""
        maps = _resized(maps, size).to(images.device)
        ranks = [rank_pixels(maps, ties_of(order, images, size, self.seed)) for order in ties]
        deletion = self.protocol.fractions
        both = (deletion, self.protocol.insertion_fractions or deletion)
        counts = torch.tensor(
            [[self._count(fraction, maps[0].numel()) for fraction in points] for points in both],
            device=maps.device,
        )
        split = torch.stack([splits_ties(maps, some).T for some in counts])
        return _Ranking(torch.stack(ranks), counts, tied_share(maps), split)

    def _count(self, fraction: float, pixels: int) -> int:
        """How many of the pixels are replaced at a fraction."""
        steps = self.protocol.steps
        if steps is None or fraction == 1:
            return math.floor(fraction * pixels + 0.5)
        return min(round(fraction * steps) * max(pixels // steps, 1), pixels)


class _Jobs(NamedTuple):
    """What is scored: (b,) int64 each."""

    order: Tensor  # which order of ties
    insertion: Tensor  # 1, or 0 for deletion
    point: Tensor
    row: Tensor  # which image


class _Prepared(NamedTuple):
    """B images, ready to be scored."""

    scores: Callable[[_Jobs], Tensor]  # outputs (b, ...)
    tied: Tensor  # (B,)
    split: Tensor  # (2, P, B) bool, whether the order of ties matters: see `splits_ties`


class _Ranking(NamedTuple):
    """Which pixels of B maps come first, under O orders of ties."""

    ranks: Tensor  # (O, B, h, w)
    counts: Tensor  # (2, P) replaced pixels at each point, of deletion and of insertion
    tied: Tensor  # see `_Prepared`
    split: Tensor

    def ranks_of(self, jobs: _Jobs) -> Tensor:
        """(b, h, w)."""
        return self.ranks[jobs.order, jobs.row]

    def counts_of(self, jobs: _Jobs) -> Tensor:
        """(b,) pixels that are replaced."""
        return self.counts[jobs.insertion, jobs.point]


class _Canvas(NamedTuple):
    """B images with what replaces their pixels."""

    images: Tensor  # (B, 3, H, W)
    fill: Tensor  # the same, what deletion paints
    start: Tensor  # the same, what insertion starts from
    ranking: _Ranking

    def paint(self, jobs: _Jobs) -> Tensor:
        """Perturbed images (b, 3, H, W)."""
        inserting = (jobs.insertion == 1)[:, None, None, None]
        before = torch.where(inserting, self.start[jobs.row], self.images[jobs.row])
        after = torch.where(inserting, self.images[jobs.row], self.fill[jobs.row])
        return perturb(before, self.ranking.ranks_of(jobs), self.ranking.counts_of(jobs), after)


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h, w) float32 maps at another size: averaged where smaller, else bilinear.

    In float64 on the way: in float32 weights of the same values would sum to other values here
    and there, as the kernel rounds, and pixels that are tied would not be.
    """
    if maps.shape[1:] == size:
        return maps
    if maps.shape[1] >= size[0] and maps.shape[2] >= size[1]:
        return F.adaptive_avg_pool2d(maps[:, None].double(), size)[:, 0].float()
    return enlarge(maps.double(), size, "bilinear").float()


def _check_inputs(images: Any) -> Tensor:
    """The model's inputs, or an error that says what is wrong with them."""
    if isinstance(images, Sequence) and images and isinstance(images[0], Image.Image):
        raise TypeError(
            "images: expected inputs of the model (B, 3, H, W), got PIL images, which only "
            'protocols of resolution "original" take'
        )
    images = check_images(images, "images")
    if images.shape[1] != 3:
        raise ValueError(f"images: expected three channels, got shape {tuple(images.shape)}")
    check_finite(images, "images", "DeletionInsertion")
    return images


def _check_photos(photos: Any, attributions: Any) -> tuple[Sequence[Image.Image], Sequence[Tensor]]:
    """Photos and a map (h, w) of each, or an error that says what is wrong with them."""
    if not isinstance(photos, Sequence) or not photos:
        raise TypeError(
            f"images: expected a sequence of at least one PIL image, got {type(photos).__name__}"
        )
    for index, photo in enumerate(photos):
        if not isinstance(photo, Image.Image):
            raise TypeError(f"images[{index}]: expected a PIL image, got {type(photo).__name__}")
    if len(attributions) != len(photos):
        raise ValueError(
            f"attributions: expected {len(photos)}, a map (h, w) for each photo, got "
            f"{len(attributions)}"
        )
    maps = []
    for index, attribution in enumerate(attributions):
        if not isinstance(attribution, Tensor) or attribution.ndim != 2 or not attribution.numel():
            got = tuple(getattr(attribution, "shape", ())) or type(attribution).__name__
            raise ValueError(f"attributions[{index}]: expected a map (h, w), got {got}")
        maps.append(_finite_maps(attribution[None], f"attributions[{index}]")[0])
    return photos, maps


def _check_attributions(attributions: Any, images: Tensor) -> Tensor:
    """(B, h, w) maps, or an error that says what is wrong with them."""
    if not isinstance(attributions, Tensor):
        raise TypeError(
            f"attributions: expected a floating point tensor, got {type(attributions).__name__}"
        )
    whole = attributions.ndim == 4 and attributions.shape == images.shape
    maps_fit = attributions.ndim == 3 and len(attributions) == len(images) and attributions.numel()
    if not whole and not maps_fit:
        raise ValueError(
            f"attributions: expected the images' shape {tuple(images.shape)}, or one map an image, "
            f"({len(images)}, h, w), got {tuple(attributions.shape)}"
        )
    maps = _finite_maps(attributions, "attributions")
    return maps.mean(dim=1) if whole else maps


def _finite_maps(maps: Tensor, argument: str) -> Tensor:
    """The maps, at least float32, once they are known to be numbers."""
    if not maps.is_floating_point():
        raise TypeError(f"{argument}: expected a floating point tensor, got {maps.dtype}")
    if not bool(maps.isfinite().all()):
        bad = (~maps.isfinite()).flatten(1).any(dim=1).nonzero().flatten().tolist()
        raise ValueError(f"{argument}: expected finite values, got others for images {bad}")
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def _three_numbers(name: str, values: Sequence[float]) -> Tensor:
    if len(values) != 3:
        raise ValueError(f"{name}: expected three numbers, got {values!r}")
    return torch.tensor([float(value) for value in values]).view(3, 1, 1)
