"""What hiding each cluster did to every output, and the maps that follow for any target."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._checks import check_positive_int
from ._files import as_open_makes_it, check_file
from .attribution.field_of_view import FieldOfView
from .attribution.resizing import Upsample, check_upsample
from .attribution.targets import for_each_target, select_target
from .cluster_maps import Normalization, at_pixels, normalized, spread
from .coalitions import Coalitions, sizes_of

_TENSORS = ("labels", "outputs", "masked_outputs", "clusters")  # a row an image
_SETTINGS = "cci_captum.ClusterEffects"
_SHOWN, _STRONGEST = 8, 3  # images and targets in a notebook


@dataclass(frozen=True, eq=False)
class ClusterEffects(Coalitions):
    """The outputs of a model with all patches seen and with one cluster hidden at a time.

    The `Coalitions` in which set k is cluster k alone; sizes, drops and rounding are those of the
    base. No forward pass depends on a target, so that one object answers for every class, foil or
    prompt at no further cost. Made by `cci_captum.CCI.effects`.

    Attributes:
        labels: (B, h, w) int64, the cluster of each patch.
        outputs: (B,) or (B, C, ...) outputs with nothing hidden, at least float32.
        masked_outputs: (B, K) or (B, K, C, ...) outputs with cluster k hidden, K the most clusters
            of an image. A cluster that an image does not have leaves its outputs as they were.
        image_shape: (channels, H, W) of the inputs.
        normalization: How `weights` scales the drops d of an image: "relative" d / sum abs(d)
            (signs and order kept), "paper" d / sum d (CCI, arXiv 2511.12978), "none" d.
        clusters: See `Coalitions`. Where it is not given, the labels are the numbers.
        sets: (B, K, K) bool, see `Coalitions`; follows from the others.
        covered: See `Coalitions`; pixels beyond it get 0.

    Raises:
        ValueError: If clusters has another shape than (B, K).

    Example:
        >>> import torch, cci_captum
        >>> effects = cci_captum.ClusterEffects(
        ...     labels=torch.tensor([[[0, 0, 1, 2]]]),
        ...     outputs=torch.tensor([1.0]),
        ...     masked_outputs=torch.tensor([[0.25, 1.25, 1.0]]),
        ...     image_shape=(3, 8, 32),
        ... )
        >>> effects.drops()
        tensor([[ 0.7500, -0.2500,  0.0000]])
        >>> effects.patch_map()
        tensor([[[ 0.7500,  0.7500, -0.2500,  0.0000]]])
        >>> effects.attributions().shape
        torch.Size([1, 3, 8, 32])
    """

    normalization: Normalization = "relative"
    clusters: Tensor = field(default=None, kw_only=True)  # type: ignore[assignment]
    sets: Tensor = field(init=False)

    def __post_init__(self) -> None:
        shape = self.masked_outputs.shape[:2]
        numbers = torch.arange(shape[1], device=self.labels.device)
        if self.clusters is None:
            present = sizes_of(self.labels, len(numbers)) > 0
            object.__setattr__(self, "clusters", torch.where(present, numbers, -1))
        if self.clusters.shape != shape:
            raise ValueError(
                f"clusters: expected shape {tuple(shape)}, a number for each column of "
                f"masked_outputs, got {tuple(self.clusters.shape)}"
            )
        alone = numbers[:, None] == numbers
        object.__setattr__(self, "sets", alone & (self.clusters >= 0)[:, None])

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> ClusterEffects:
        """The effects on some of the images; of one where index is an int, still a batch."""
        rows = slice(index, index + 1 or None) if isinstance(index, int) else index
        if isinstance(index, int) and not -len(self) <= index < len(self):
            raise IndexError(f"expected one of {len(self)} images, got {index}")
        return self._with(lambda tensor: tensor[rows])

    def to(self, device: str | torch.device) -> ClusterEffects:
        """The same on another device."""
        return self._with(lambda tensor: tensor.to(device))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, which `load` reads; nothing in it is code.

        Args:
            path: The file, which is replaced if it exists.

        Raises:
            OSError: If there is no such folder, or something else than a file is there.
        """
        from safetensors.torch import save_file

        settings = {
            "image_shape": list(self.image_shape),
            "normalization": self.normalization,
            "covered": astuple(self.covered)
            if isinstance(self.covered, FieldOfView)
            else self.covered,
        }
        tensors = {name: getattr(self, name).contiguous() for name in _TENSORS}
        check_file(Path(path), "path")
        save_file(tensors, path, metadata={_SETTINGS: json.dumps(settings)})
        as_open_makes_it(Path(path))

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], device: str | torch.device = "cpu"
    ) -> ClusterEffects:
        """What `save` wrote.

        Args:
            path: The file.
            device: Where the tensors go.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no file that `save` wrote.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt", device=str(device)) as file:
                settings = json.loads((file.metadata() or {})[_SETTINGS])
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
        except (SafetensorError, KeyError) as error:
            raise ValueError(
                f"path: expected a file that ClusterEffects.save wrote, got {os.fspath(path)}"
            ) from error
        covered = settings["covered"]
        if covered is not None:
            covered = FieldOfView(*covered) if len(covered) == 4 else tuple(covered)
        return cls(
            image_shape=tuple(settings["image_shape"]),
            normalization=settings["normalization"],
            covered=covered,
            **tensors,
        )

    def to_html(
        self,
        targets: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        most: int = _STRONGEST,
        row_titles: Sequence[str] | None = None,
        unit: str = "drop",
        title: str = "",
        fragment: bool = True,
    ) -> str:
        """The clusters and their drops as HTML, which tells those of the cluster under the pointer.

        It holds no photo: effects have none. Drops of an image none of which is above `rounding`
        are shown as zero, and said to be.

        Args:
            targets: Which outputs have a map: name -> target, or a list of targets, each as in
                `drops`. None: the strongest, each image's own first, then each one's second, of
                those that are finite.
            most: How many for None.
            row_titles: One title an image.
            unit: See `cci_captum.html.cluster_view`.
            title: Of the view.
            fragment: True: a `<div>`. False: a page.

        Returns:
            The HTML.

        Raises:
            TypeError: If a text is no string.
            ValueError: If there is no target, most is below 1, or lengths differ; see also `drops`.

        Example:
            >>> import torch, cci_captum
            >>> effects = cci_captum.ClusterEffects(
            ...     labels=torch.tensor([[[0, 0, 1, 2]]]),
            ...     outputs=torch.tensor([[1.0, 0.5]]),
            ...     masked_outputs=torch.tensor([[[0.25, 0.5], [1.25, 0.0], [1.0, 0.5]]]),
            ...     image_shape=(3, 8, 32),
            ... )
            >>> effects.to_html({"a cat": 0, "a dog": 1}).count("<canvas")
            2
        """
        from .html import cluster_view

        check_positive_int("most", most)
        if targets is None:
            chosen = _strongest(self.outputs, self.masked_outputs, most)
            named = {
                "output" if target is None else f"target {target}": target for target in chosen
            }
        elif isinstance(targets, Mapping):
            named = dict(targets)
        else:
            named = {f"target {target}": target for target in targets}
        if not named:
            raise ValueError("targets: expected at least one, got none")
        columns, scores = {}, {}
        for name, target in named.items():
            drops = self.drops(target)
            measured = drops.abs().amax(dim=1) > self.rounding(target)
            columns[name] = [*torch.where(measured[:, None], drops, 0.0)]
            scores[name] = [
                f"{output:.3f}" + ("" if above else ", drops zero within rounding")
                for output, above in zip(
                    select_target(self.outputs, target).tolist(), measured.tolist(), strict=True
                )
            ]
        return cluster_view(
            [*self.labels],
            columns,
            clusters=[*self.clusters],
            row_titles=row_titles,
            scores=scores,
            unit=unit,
            title=title,
            fragment=fragment,
        )

    def _repr_html_(self) -> str | None:
        """As a notebook shows it: `to_html`, of at most 8 images; None of none."""
        if not len(self):
            return None
        outputs = self.outputs[0].numel()
        shown = [(_SHOWN, len(self), "images"), (_STRONGEST, outputs, "outputs, the strongest")]
        said = [f"{most} of {count} {what}" for most, count, what in shown if count > most]
        return self[:_SHOWN].to_html(title="; ".join(said))

    def _with(self, change: Callable[[Tensor], Tensor]) -> ClusterEffects:
        changed: dict[str, Any] = {name: change(getattr(self, name)) for name in _TENSORS}
        return replace(self, **changed)

    def weights(self, target: Any = None, *, targets: Sequence[Any] | None = None) -> Tensor:
        """The drops, scaled within each image as `normalization` says.

        Args:
            target: See `drops`.
            targets: See `drops`.

        Returns:
            (B, K) weights w_k. "relative": their absolute values sum to 1 (no drop above
            `rounding`: all weights zero). "paper": they sum to 1; images whose drops sum to zero
            or less, where the formula is undefined or turns the map over, get "relative", with
            a UserWarning. Of targets (B, T, K).

        Raises:
            TypeError: See `drops`.
            ValueError: See `drops`.
        """
        if targets is not None:
            return for_each_target(self.weights, target, targets)
        drops, rounding = self.drops(target), self.rounding(target)
        return normalized(drops, rounding, self.normalization, "drops")

    def patch_map(self, target: Any = None, *, targets: Sequence[Any] | None = None) -> Tensor:
        """The map on the patch grid: every patch has its cluster's weight, S = sum_k w_k m_k.

        Args:
            target: See `drops`.
            targets: See `drops`.

        Returns:
            (B, h, w) map, before any resizing; of targets (B, T, h, w).

        Raises:
            TypeError: See `drops`.
            ValueError: See `drops`.
        """
        if targets is not None:
            return for_each_target(self.patch_map, target, targets)
        return spread(self.weights(target), self.labels)

    def attributions(
        self,
        target: Any = None,
        upsample: Upsample = "nearest",
        *,
        targets: Sequence[Any] | None = None,
    ) -> Tensor:
        """The map at the inputs' resolution, repeated over the channels.

        Args:
            target: See `drops`.
            upsample: "nearest" keeps the patches' borders; "bilinear" and "bicubic" smooth
                the map, which faithfulness metrics reward on most data.
            targets: See `drops`.

        Returns:
            (B, channels, H, W) attributions, the shape of the inputs; of targets
            (B, T, channels, H, W).

        Raises:
            TypeError: See `drops`.
            ValueError: If upsample is unknown; see also `drops`.
        """
        check_upsample(upsample)
        if targets is not None:
            explain = partial(self.attributions, upsample=upsample)
            return for_each_target(explain, target, targets)
        return at_pixels(self.patch_map(target), self.image_shape, upsample, self.covered)


def _strongest(outputs: Tensor, masked_outputs: Tensor, most: int) -> list[Any]:
    """Targets of outputs (B, ...): each image's largest, then each one's second, and so on."""
    if outputs.ndim == 1:
        return [None]
    shape = outputs.shape[1:]
    flat = outputs.flatten(1)
    finite = flat.isfinite().all(dim=0) & masked_outputs.flatten(2).isfinite().all(dim=(0, 1))
    ranked = flat.masked_fill(~finite, -torch.inf).argsort(dim=1, descending=True, stable=True)
    first = ranked[:, : max(int(finite.sum()), 1)].T.flatten().tolist()
    chosen = [*dict.fromkeys(first)][:most]
    places = [tuple(map(int, np.unravel_index(place, shape))) for place in chosen]
    return [place[0] if len(place) == 1 else place for place in places]
