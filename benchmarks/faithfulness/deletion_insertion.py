"""Deletion and insertion at the cost of the forward passes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from torch import Tensor, nn

from cci_captum._checks import check_batch_size
from cci_captum.attribution.forward import check_callable
from cci_captum.attribution.inputs import check_additional_forward_args
from cci_captum.attribution.targets import rows_of_target
from cci_captum.calls import one_call
from cci_captum.models.preprocessing import mean_and_std
from cci_captum.vision_towers import VisionTower

from .curves import Curve, FaithfulnessCurves, Scoring, mapped, score
from .protocols import TIES, Protocol, Ties, find_protocol
from .strategies import STRATEGIES, Jobs, Perturbation, PreparedImages, Recipe, Strategy

_LEAST = 32  # perturbed images in a forward pass, so that a photo's curves are not a pass a point


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
        internal_batch_size: Most perturbed images in one forward pass; None is as many as there
            are images, or 32 where there are fewer.
        score: What outputs say about the target, such as `CaptionRetrieval.recalls`; from outputs
            (n, ...) and n targets to a `Curve`. Kept are its values alone, however many outputs
            there are.

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
        score: Scoring = score,
        check: bool = True,
    ) -> None:
        check_callable(forward_func)
        check_batch_size(internal_batch_size, 1)
        self.forward_func = forward_func
        self.protocol = find_protocol(protocol)
        self.seed = seed
        strategy = STRATEGIES[self.protocol.resolution]
        strategy.check_preprocess(self.protocol, preprocess)
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
        self.score = score
        self.check = check
        self.vision_tower: VisionTower | None = strategy.find_tower(forward_func, vision_tower)

    @torch.no_grad()
    def prepare(self, images: Tensor | Sequence[Image.Image]) -> PreparedImages:
        """Images to hand over in several calls, for several maps of the same ones.

        Every call with images hashes each of them, draws noise and the order of ties, blurs, and
        makes photos smaller. Of prepared images only the first call does. Curves are the same.

        Args:
            images: As in a call, but not prepared.

        Returns:
            Copies, so that what becomes of these images afterwards does not matter: prepare those
            that have changed again. For this harness, and others of the same protocol, seed, mean
            and std, whatever their forward_func.

        Raises:
            TypeError: As in a call.
            ValueError: As in a call, about images.

        Example:
            >>> import torch
            >>> harness = DeletionInsertion(torch.nn.Flatten(), "rise")
            >>> images = torch.rand(2, 3, 8, 8)
            >>> prepared = harness.prepare(images)
            >>> for maps in (torch.rand(2, 8, 8), torch.rand(2, 4, 4)):
            ...     one, other = harness(prepared, maps, target=5), harness(images, maps, target=5)
            ...     print(torch.equal(one.deletion.score, other.deletion.score))
            True
            True
        """
        return self._strategy().prepare(images).copied()

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor | Sequence[Image.Image] | PreparedImages,
        attributions: Tensor | Sequence[Tensor],
        target: Any = None,
        additional_forward_args: Any = None,
    ) -> FaithfulnessCurves:
        """Curves of B images.

        Args:
            images: (B, 3, H, W) inputs of the model. Where the protocol's resolution is
                "original", B photos, which may differ in size. Either also as `prepare` gives
                them.
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
                less than their photos, or images were prepared otherwise.
        """
        ties = self.protocol.ties
        return self.under_ties(images, attributions, target, additional_forward_args, (ties,))[ties]

    @torch.no_grad()
    def under_ties(
        self,
        images: Tensor | Sequence[Image.Image] | PreparedImages,
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
        strategy = self._strategy()
        held = strategy.take(images)
        maps = strategy.check_maps(attributions, held)
        batch = len(held)
        args = check_additional_forward_args(additional_forward_args, batch)
        rows_of_target(target, slice(0, 1), batch)
        with one_call():
            perturbation = strategy.perturbation(held, maps, args, orders)
            curves = self._run(batch, target, perturbation, len(orders))
        tied = perturbation.tied
        axis, inserted = (
            None
            if points is None
            else torch.tensor(points, dtype=torch.float64, device=tied.device)
            for points in (self.protocol.fractions, self.protocol.insertion_fractions)
        )
        assert axis is not None
        return {
            name: FaithfulnessCurves(
                axis,
                mapped(itemgetter((order, 0)), curves),
                mapped(itemgetter((order, 1)), curves),
                inserted,
                tied,
            )
            for order, name in enumerate(orders)
        }

    def _strategy(self) -> Strategy[Any, Any]:
        """How this protocol perturbs images."""
        return STRATEGIES[self.protocol.resolution](
            Recipe(self.protocol, self.seed, self.mean, self.std),
            self.forward_func,
            self.preprocess,
            self.vision_tower,
            self.check,
        )

    def _run(self, batch: int, target: Any, perturbation: Perturbation, orders: int) -> Curve:
        """Values (O, 2, B, P) under every order, of deletion and insertion, at every point.

        All of the first order; of the others what is not the same.
        """
        size = check_batch_size(self.internal_batch_size, max(batch, _LEAST))
        wanted = perturbation.split.expand(orders, -1, -1, -1).clone()  # (O, 2, P, B)
        wanted[0] = True
        first, others = wanted[:1].nonzero(), wanted[1:].nonzero()
        others[:, 0] += 1
        parts: list[Curve] = []
        for part in (*first.split(size), *others.split(size)):
            if len(part):
                jobs = Jobs(*part.unbind(dim=1))
                own = rows_of_target(target, jobs.row, batch)
                parts.append(self.score(perturbation.scores(jobs), own))

        def placed(*values: Tensor) -> Tensor:
            joined = torch.cat(values)
            found = joined[: len(first)].view(wanted[:1].shape).repeat(orders, 1, 1, 1)
            found[others.unbind(dim=1)] = joined[len(first) :]
            return found.transpose(2, 3).contiguous()  # areas sum in the order of points

        return mapped(placed, *parts)


def _three_numbers(name: str, values: Sequence[float]) -> Tensor:
    if len(values) != 3:
        raise ValueError(f"{name}: expected three numbers, got {values!r}")
    return torch.tensor([float(value) for value in values]).view(3, 1, 1)
