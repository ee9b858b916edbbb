"""The object without a mask: what clusters leave when those at the border are background."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from .._checks import check_batch_size
from ..attribution.clusters import ClusterAttribution, Clustering
from ..attribution.field_of_view import FieldOfView
from ..attribution.resizing import enlarge
from ..models._encoders import device_of
from ..models.preprocessing import Preprocess
from ..models.seen_area import seen_area
from ..vision_towers import Layer, VisionTower
from .segmentation import Segmentation
from .segmentation.base import EMPTY_MASK
from .sources import as_photo


class BorderClusters:
    """Takes clusters of patches that lie along the border of the image for background.

    A cluster is background where the part of it that lies on the outermost patches is at least half
    of what it is for the whole image. Photos of objects mostly have them in the middle; where they
    do not, this is wrong, and masks are better.

    Args:
        classifier: Module or function from images (B, 3, H, W) to outputs.
        vision_tower: See `cci_captum.CCI`.
        clustering: See `cci_captum.CCI`.
        embedding_layer: See `cci_captum.CCI`. What enters the first block tells objects from
            backgrounds better than what leaves the last, on scenes whose objects are known.
        preprocess: Of the model; with it photos may be given, too, as to any `Segmenter`.
        least: Of the part that the border has of the image, what a cluster needs to be background.
        internal_batch_size: Most images in one forward pass.

    Raises:
        TypeError: See `cci_captum.CCI`.
        ValueError: See `cci_captum.CCI`.

    Example:
        >>> import torch, cci_captum
        >>> from cci_captum.diagnosis import BorderClusters
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
        >>> [(mask, status)] = BorderClusters(classifier).of_inputs(images[:1])
        >>> mask.shape
        torch.Size([96, 96])
    """

    def __init__(
        self,
        classifier: Callable[..., Tensor],
        vision_tower: nn.Module | VisionTower | None = None,
        *,
        clustering: Clustering | None = None,
        embedding_layer: Layer = "input",
        preprocess: Preprocess | None = None,
        least: float = 0.5,
        internal_batch_size: int | None = None,
    ) -> None:
        check_batch_size(internal_batch_size, 1)
        self._clusters = _Clusters(
            classifier, vision_tower, clustering=clustering, embedding_layer=embedding_layer
        )
        self.least, self._size, self._preprocess = least, internal_batch_size, preprocess
        self._device = device_of(self._clusters.vision_tower.module)

    def __call__(
        self, images: Sequence[Image.Image], class_names: Sequence[str], names: Sequence[str]
    ) -> list[Segmentation]:
        """See `Segmenter`; whatever the class is.

        Raises:
            TypeError: If there was no preprocess.
        """
        if self._preprocess is None:
            raise TypeError("preprocess: expected the model's, for photos, got None")
        inputs = torch.stack([self._preprocess(image) for image in images]).to(self._device)
        found = []
        for image, (mask, status) in zip(images, self.of_inputs(inputs), strict=True):
            if mask is not None:
                area = seen_area(self._preprocess, image.size)
                mask = as_photo(mask.cpu(), area, (image.height, image.width))
            found.append(Segmentation(mask, status))
        return found

    def of_inputs(self, inputs: Tensor) -> list[tuple[Tensor | None, str]]:
        """A mask (H, W) bool for each of (B, 3, H, W) inputs, and "" or why there is none."""
        found: list[tuple[Tensor | None, str]] = []
        size = (inputs.shape[2], inputs.shape[3])
        for labels, covered in self._clusters.of(inputs, self._size):
            inside = _inside(labels, self.least).float()
            masks = enlarge(inside, size, "nearest", covered) > 0.5
            found += [
                (mask, "") if bool(mask.any()) else (None, EMPTY_MASK) for mask in masks.unbind()
            ]
        return found


def _inside(labels: Tensor, least: float) -> Tensor:
    """(B, h, w) bool, patches of clusters (B, h, w) that are not of the border."""
    border = torch.ones_like(labels[0], dtype=torch.bool)
    border[1:-1, 1:-1] = False
    one_hot = torch.nn.functional.one_hot(labels).double()  # (B, h, w, K)
    sizes = one_hot.sum(dim=(1, 2)).clamp(min=1)
    on_border = (one_hot * border[None, :, :, None]).sum(dim=(1, 2)) / sizes
    object_ = on_border < least * border.double().mean()
    return object_.gather(1, labels.flatten(1)).view(labels.shape)


class _Clusters(ClusterAttribution):
    """How images are clustered; no method of its own."""

    @classmethod
    def get_name(cls) -> str:
        return "BorderClusters"

    def of(
        self, inputs: Tensor, size: int | None
    ) -> list[tuple[Tensor, tuple[int, int] | FieldOfView]]:
        """Labels (b, h, w) of some images at a time, and the pixels under them."""
        with self._explaining(inputs, None, None, size, True) as given:
            found = []
            for places, part in given.parts():
                with self._running_on(places):
                    labels = self._cluster(part.images, part.args)[1]
                grid = (labels.shape[1], labels.shape[2])
                found.append((labels, self._covered(part.images, grid)))
            return found
