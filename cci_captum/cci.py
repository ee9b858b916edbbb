"""Cluster-based Concept Importance (CCI) as a Captum attribution method.

Agarwal, Karanam, Gandhi: "Concept Regions Matter: Benchmarking CLIP with a New
Cluster-Importance Approach", CVPR 2026, arXiv 2511.12978.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar, get_args

import torch
from captum._utils.common import (
    _format_additional_forward_args,
    _format_output,
    _is_tuple,
    _run_forward,
)
from captum.attr import Attribution
from captum.log import log_usage
from torch import Tensor, nn
from tqdm.auto import tqdm

from .clustering import KMeans
from .effects import ClusterEffects, Normalization, Upsample, check_upsample
from .vision_towers import HideStrategy, Layer, VisionTower, find_vision_tower

TensorOrTuple = TypeVar("TensorOrTuple", Tensor, tuple[Tensor, ...])


class Clustering(Protocol):
    """Anything that puts patches into at most `n_clusters` groups, image by image."""

    @property
    def n_clusters(self) -> int:
        """The most groups an image can have."""
        ...

    def __call__(self, embeddings: Tensor, /) -> Tensor:
        """(B, N, D) patch embeddings -> (B, N) int64 labels from 0 to n_clusters - 1."""
        ...


class CCI(Attribution):
    """How much each cluster of patches contributes to a CLIP-like model's output.

    The image encoder's own patch embeddings are clustered, image by image; each cluster in
    turn is hidden from every attention layer (no pixel is replaced); the drop of the output,
    d_k = s - s_k, is the importance of the cluster's patches. Costs K + 1 forward passes,
    whatever the number of targets, and no gradients.

    Where the paper leaves a choice or breaks, this is what happens:
        - Clustered tokens: the output of the last block (`embedding_layer`); the paper does
          not say which tokens it clusters.
        - Negative drops: the paper's weights d_k / sum_j d_j change sign or explode where
          drops are negative. The default divides by sum_j abs(d_j), which is the same where all
          drops are positive and keeps signs and order where not.

    Args:
        forward_func: Module or function from images (B, 3, H, W) and any further arguments to
            (B,) scores or (B, C) outputs.
        vision_tower: The image encoder that forward_func runs, once a call: a module, or its
            adapter from `find_vision_tower`. None finds it in forward_func.
        clustering: From (B, N, D) patch embeddings to (B, N) labels. None is `KMeans(7)`.
        embedding_layer: Whose output is clustered: a block's index (-1 the last), "input" or
            "projected"; see `VisionTower.record`.
        normalization: "relative", "paper" or "none"; see `ClusterEffects`.
        hide: "mask" or "drop", two ways to the same result; see `VisionTower.hide`.

    Raises:
        TypeError: If an argument has the wrong type or the image encoder is of a kind that
            cannot be explained.
        ValueError: If no image encoder or several are found, or a setting is unknown.

    Example:
        >>> import torch, cci_captum
        >>> clip = cci_captum.load_clip("tiny")
        >>> images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> text = clip.tokenizer(["a penguin", "a dog"])
        >>> cci = cci_captum.CCI(cci_captum.ImageTextSimilarity(clip.model))
        >>> cci.attribute(images, additional_forward_args=text).shape
        torch.Size([2, 3, 96, 96])
    """

    def __init__(
        self,
        forward_func: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        clustering: Clustering | None = None,
        embedding_layer: Layer = -1,
        normalization: Normalization = "relative",
        hide: HideStrategy = "mask",
    ) -> None:
        if not callable(forward_func):
            raise TypeError(
                f"forward_func: expected a module or function, got {type(forward_func).__name__}"
            )
        super().__init__(forward_func)
        if vision_tower is None:
            if not isinstance(forward_func, nn.Module):
                raise ValueError(
                    "vision_tower: a forward_func that is no module needs the image encoder "
                    "that it runs, for instance vision_tower=model.visual"
                )
            vision_tower = forward_func
        self.vision_tower = find_vision_tower(vision_tower)
        self.vision_tower.check_layer(embedding_layer, "embedding_layer")
        if normalization not in get_args(Normalization):
            raise ValueError(
                f"normalization: expected one of {get_args(Normalization)}, got {normalization!r}"
            )
        if hide not in get_args(HideStrategy):
            raise ValueError(f"hide: expected one of {get_args(HideStrategy)}, got {hide!r}")
        if clustering is not None and not (
            callable(clustering) and hasattr(clustering, "n_clusters")
        ):
            raise TypeError(
                "clustering: expected a callable with an attribute n_clusters, such as "
                f"cci_captum.KMeans(7), got {clustering!r}"
            )
        self.clustering: Clustering = KMeans() if clustering is None else clustering
        self.embedding_layer = embedding_layer
        self.normalization = normalization
        self.hide = hide

    @log_usage()
    def attribute(
        self,
        inputs: TensorOrTuple,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
        upsample: Upsample = "nearest",
    ) -> TensorOrTuple:
        """The importance of each pixel's cluster for the target.

        Args:
            inputs: (B, 3, H, W) floating point images, ready for forward_func, or a one-tuple
                of them.
            target: The output to explain, by Captum's rules: None where forward_func returns
                one score an image, else an int, a list or tensor of B ints, or a tuple.
            additional_forward_args: Further arguments of forward_func; tensors have one row
                an image (0-dimensional ones and other objects are passed on as they are).
            internal_batch_size: Most images in one forward pass; bounds the memory and
                changes no result. None is B, as many as in inputs; on a GPU, more than a
                small B is faster.
            show_progress: Show a progress bar on stderr.
            upsample: "nearest", "bilinear" or "bicubic"; see `ClusterEffects.attributions`.

        Returns:
            Attributions of the inputs' shape (every channel holds the same map), detached, at
            least float32; a one-tuple for a one-tuple.

        Raises:
            TypeError: If inputs or the output of forward_func have the wrong type.
            ValueError: If shapes, target or an option do not fit.
            RuntimeError: If forward_func does not run the vision tower exactly once.
        """
        check_upsample(upsample)
        is_inputs_tuple = _is_tuple(inputs)
        effects = self.effects(
            inputs,
            additional_forward_args,
            internal_batch_size=internal_batch_size,
            show_progress=show_progress,
        )
        attributions = effects.attributions(target, upsample)
        dtype = _check_images(inputs).dtype
        attributions = attributions.to(torch.promote_types(dtype, torch.float32))
        return _format_output(is_inputs_tuple, (attributions,))

    @torch.no_grad()
    def effects(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        additional_forward_args: Any = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> ClusterEffects:
        """What hiding each cluster does to every output at once.

        Args:
            inputs: See `attribute`.
            additional_forward_args: See `attribute`.
            internal_batch_size: See `attribute`.
            show_progress: See `attribute`.

        Returns:
            A `ClusterEffects`, which gives drops, weights and maps for any target.

        Raises:
            TypeError: See `attribute`.
            ValueError: See `attribute`.
            RuntimeError: See `attribute`.
        """
        images = _check_images(inputs)
        args = _check_additional_forward_args(additional_forward_args, len(images))
        batch_size = _check_batch_size(internal_batch_size, len(images))
        with tqdm(total=len(images), desc="CCI", unit="img", disable=not show_progress) as progress:
            outputs, labels = self._run_whole(images, args, batch_size, progress)
            masked_outputs = self._run_masked(images, args, outputs, labels, batch_size, progress)
        return ClusterEffects(
            labels=labels,
            outputs=outputs,
            masked_outputs=masked_outputs,
            image_shape=(images.shape[1], images.shape[2], images.shape[3]),
            normalization=self.normalization,
        )

    @classmethod
    def get_name(cls) -> str:
        """The name in Captum's reports."""
        return "CCI"

    def has_convergence_delta(self) -> bool:
        """False: drops of single clusters need not add up to anything (Captum's interface)."""
        return False

    def _run_whole(
        self, images: Tensor, args: tuple[Any, ...], batch_size: int, progress: tqdm
    ) -> tuple[Tensor, Tensor]:
        """Outputs with nothing hidden, and the clusters (B, h, w)."""
        outputs, labels = [], []
        for rows in torch.arange(len(images), device=images.device).split(batch_size):
            with self.vision_tower.record(self.embedding_layer) as recording:
                outputs.append(self._forward(images, args, rows))
            if len(recording.tokens) != len(rows):
                raise ValueError(
                    f"forward_func: expected it to run the vision tower on its {len(rows)} images, "
                    f"it ran it on {len(recording.tokens)}"
                )
            chunk = self.clustering(recording.tokens).to(images.device)
            _check_labels(chunk, recording.tokens, self.clustering.n_clusters)
            labels.append(chunk.view(len(rows), *recording.grid))
            progress.update(len(rows))
        return torch.cat(outputs), torch.cat(labels)

    def _run_masked(
        self,
        images: Tensor,
        args: tuple[Any, ...],
        outputs: Tensor,
        labels: Tensor,
        batch_size: int,
        progress: tqdm,
    ) -> Tensor:
        """Outputs with each cluster hidden, (B, K, ...); absent clusters repeat `outputs`."""
        n_clusters = self.clustering.n_clusters
        masked_outputs = outputs[:, None].repeat(1, n_clusters, *[1] * (outputs.ndim - 1))
        flat_labels = labels.flatten(1)
        for rows, clusters in self._passes(flat_labels, n_clusters, batch_size, progress):
            mask = flat_labels[rows] == clusters[:, None]
            with self.vision_tower.hide(mask, self.hide) as hiding:
                masked_outputs[rows, clusters] = self._forward(images, args, rows)
            if hiding.passes != 1:
                raise RuntimeError(
                    "forward_func: expected it to run the vision tower once in every call, it ran "
                    f"it {hiding.passes} times with patches hidden"
                )
            progress.update(len(rows))
        return masked_outputs

    def _passes(
        self, labels: Tensor, n_clusters: int, batch_size: int, progress: tqdm
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs (image, cluster) that exist, batch by batch."""
        sizes = nn.functional.one_hot(labels, n_clusters).sum(dim=1)  # (B, K)
        rows, clusters = sizes.nonzero(as_tuple=True)
        if self.hide == "drop":
            # A batch is as long as its longest row: put rows of like length together.
            order = sizes[rows, clusters].argsort(stable=True)
            rows, clusters = rows[order], clusters[order]
        progress.total += len(rows)
        progress.refresh()
        yield from zip(rows.split(batch_size), clusters.split(batch_size), strict=True)

    def _forward(self, images: Tensor, args: tuple[Any, ...], rows: Tensor) -> Tensor:
        """forward_func on some rows: its output, checked, at least float32, beside the images."""
        output = _run_forward(
            self.forward_func,
            images[rows],
            additional_forward_args=tuple(
                arg[rows.to(arg.device)] if isinstance(arg, Tensor) and arg.ndim else arg
                for arg in args
            ),
        )
        if not isinstance(output, Tensor):
            raise TypeError(
                "forward_func: expected it to return a tensor of shape (B,) or (B, C), got "
                f"{type(output).__name__}; ImageTextSimilarity and ZeroShotClassifier wrap CLIP "
                "models so that they do"
            )
        if output.ndim == 0 and len(rows) == 1:
            output = output[None]
        if output.ndim == 0 or len(output) != len(rows):
            raise ValueError(
                f"forward_func: expected {len(rows)} rows of output for {len(rows)} images, got "
                f"shape {tuple(output.shape)}"
            )
        dtype = torch.promote_types(output.dtype, torch.float32)
        return output.detach().to(images.device, dtype)


def _check_images(inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """The one tensor of images in `inputs`, or an error that says what is wrong with it."""
    images = inputs
    if isinstance(inputs, tuple):
        if len(inputs) != 1:
            raise ValueError(
                f"inputs: expected one tensor of images, got {len(inputs)}; pass other tensors "
                "as additional_forward_args"
            )
        images = inputs[0]
    if not isinstance(images, Tensor) or not images.is_floating_point():
        got = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(f"inputs: expected a floating point tensor of images, got {got}")
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"inputs: expected images of shape (B, 3, H, W), B at least 1, got "
            f"{tuple(images.shape)}"
        )
    return images


def _check_batch_size(internal_batch_size: int | None, batch: int) -> int:
    if internal_batch_size is None:
        return batch
    is_int = isinstance(internal_batch_size, int) and not isinstance(internal_batch_size, bool)
    if not is_int or internal_batch_size < 1:
        raise ValueError(
            f"internal_batch_size: expected a positive int or None, got {internal_batch_size!r}"
        )
    return internal_batch_size


def _check_additional_forward_args(additional_forward_args: Any, batch: int) -> tuple[Any, ...]:
    args = _format_additional_forward_args(additional_forward_args) or ()
    for index, arg in enumerate(args):
        if isinstance(arg, Tensor) and arg.ndim and len(arg) != batch:
            raise ValueError(
                f"additional_forward_args[{index}]: expected one row for each of the {batch} "
                f"images, got shape {tuple(arg.shape)}; expand it to {batch} rows"
            )
    return args


def _check_labels(labels: Tensor, tokens: Tensor, n_clusters: int) -> None:
    if labels.shape != tokens.shape[:2] or labels.dtype != torch.int64:
        raise ValueError(
            f"clustering: expected int64 labels of shape {tuple(tokens.shape[:2])}, got "
            f"{labels.dtype} of shape {tuple(labels.shape)}"
        )
    if labels.numel() and (int(labels.min()) < 0 or int(labels.max()) >= n_clusters):
        raise ValueError(
            f"clustering: expected labels from 0 to {n_clusters - 1} (n_clusters - 1), got "
            f"{int(labels.min())} to {int(labels.max())}"
        )
