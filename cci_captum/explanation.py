"""What `cci_captum.explain` returns: maps of images for texts, as the model and the photo see."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ._version import __version__
from .attribution.field_of_view import FieldOfView, place
from .attribution.resizing import Upsample, check_upsample, enlarge
from .effects import ClusterEffects
from .html import map_view
from .models.seen_area import Area
from .pages import ROWS, of_page, rows_of_pages, save_pages
from .side_by_side import side_by_side
from .visualization import show_clusters

_FACTS = "explanation.json"
_TENSORS, _EFFECTS = "maps.safetensors", "effects.safetensors"


@dataclass(frozen=True, eq=False)
class Explanation:
    """What one method says of B images and T texts. Made by `cci_captum.explain`.

    Attributes:
        names: Of the images: their files, or "image 0".
        photos: B RGB images, as a viewer shows them.
        texts: T texts.
        scores: (B, T), what is explained, with nothing hidden: cosines, or `score`'s outputs.
        similarities: (B, T) cosines.
        maps: (B, T, h, w), a value a patch; or (B, T, H, W) of methods with one a pixel.
        inputs: (B, 3, H, W), what the model was given.
        field_of_view: For each image the rectangle of its photo that inputs show: left, top,
            right, bottom in the photo's pixels, beyond it where inputs are padded.
        covered: The pixels of inputs that lie under a map.
        model: Its name.
        method: Its title.
        score: What `scores` are: "cosine", or the name of a score over all texts.
        effects: Of methods that hide clusters, what hiding each did, for all texts; else None.

    Example:
        >>> import cci_captum
        >>> from PIL import Image
        >>> photo = Image.new("RGB", (120, 96), "green")
        >>> explanation = cci_captum.explain(photo, ["a cat", "a tree"], "tiny")
        >>> explanation.maps.shape, explanation.field_of_view
        (torch.Size([1, 2, 12, 12]), ((12.0, 0.0, 108.0, 96.0),))
        >>> explanation.on_photo(0).shape  # height and width of the photo
        torch.Size([2, 96, 120])
    """

    names: tuple[str, ...]
    photos: tuple[Image.Image, ...]
    texts: tuple[str, ...]
    scores: Tensor
    similarities: Tensor
    maps: Tensor
    inputs: Tensor
    field_of_view: tuple[Area, ...]
    covered: FieldOfView
    model: str
    method: str
    score: str
    effects: ClusterEffects | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    @property
    def row_titles(self) -> list[str] | None:
        """What figures call the images: the names of their files; None where there is but one."""
        return [Path(name).name for name in self.names] if len(self) > 1 else None

    @property
    def drops(self) -> Tensor:
        """(B, T, K), by how much hiding each cluster lowers each score.

        Raises:
            ValueError: If the method hides no clusters.
        """
        return self._of_clusters("drops").drops(targets=range(len(self.texts)))

    def drop_maps(self) -> Tensor:
        """(B, T, h, w), at each patch the drop of its cluster, in the unit of the scores.

        Unlike `maps`, whose weights sum to 1 for each text, these can be compared between texts.

        Raises:
            ValueError: If the method hides no clusters.
        """
        effects = replace(self._of_clusters("drop_maps"), normalization="none")
        return effects.patch_map(targets=range(len(self.texts)))

    def on_photo(self, index: int, upsample: Upsample = "nearest") -> Tensor:
        """The maps of one image at its photo's own size and place.

        Args:
            index: Of the image.
            upsample: "nearest" keeps the patches' borders, "bilinear" and "bicubic" smooth.

        Returns:
            (T, H, W) of the photo's height and width, zero where the model did not look.

        Raises:
            IndexError: If there is no such image.
            ValueError: If upsample is unknown.
        """
        check_upsample(upsample)
        image = self.photos[index]
        return self.placed(self.maps[index], index, (image.height, image.width), upsample)

    def map_area(self, index: int) -> Area:
        """Of the photo of one image the rectangle that maps cover, in the photo's pixels.

        That is `field_of_view`, less what the patches leave out of the inputs.
        """
        left, top, right, bottom = self.field_of_view[index]
        across, down = (right - left) / self.inputs.shape[3], (bottom - top) / self.inputs.shape[2]
        first = (left + self.covered.left * across, top + self.covered.top * down)
        wide, high = self.covered.width * across, self.covered.height * down
        return *first, first[0] + wide, first[1] + high

    def placed(self, maps: Tensor, index: int, size: tuple[int, int], upsample: Upsample) -> Tensor:
        """Maps (T, h, w) of an image in its photo, of so many pixels: (T, H, W)."""
        photo = self.photos[index]
        down, across = size[0] / photo.height, size[1] / photo.width
        left, top, right, bottom = self.map_area(index)
        box = (left * across, top * down, right * across, bottom * down)
        return place(maps, size, upsample, FieldOfView.of_box(box))

    def feature_mask(self) -> Tensor:
        """(B, 1, H, W) int64: of each pixel of inputs its cluster, as Captum's methods take it.

        Each image's clusters are numbered from 0. Pixels that the model does not see are one
        more feature, which no hiding can reach.

        Raises:
            ValueError: If the method hides no clusters.

        Example:
            >>> import torch, cci_captum
            >>> from captum.attr import FeatureAblation
            >>> clip = cci_captum.load_clip("tiny")
            >>> inputs = torch.rand(1, 3, 96, 96)
            >>> explanation = cci_captum.explain(inputs, ["a cat"], clip)
            >>> ablation = FeatureAblation(cci_captum.ImageTextSimilarity(clip.model))
            >>> ablation.attribute(
            ...     explanation.inputs,
            ...     additional_forward_args=clip.tokenizer(["a cat"]),
            ...     feature_mask=explanation.feature_mask(),
            ... ).shape
            torch.Size([1, 3, 96, 96])
        """
        labels = self._of_clusters("feature_mask").labels
        size = (self.inputs.shape[2], self.inputs.shape[3])
        # From 1, so that what is not covered, which is 0 here, is told apart.
        numbers = enlarge(labels.double() + 1, size, "nearest", self.covered).long()
        return torch.where(numbers == 0, labels.amax((1, 2), keepdim=True) + 1, numbers - 1)[
            :, None
        ]

    def figure(
        self,
        *,
        images: Sequence[int] | None = None,
        upsample: Upsample = "nearest",
        **options: Any,
    ) -> Figure:
        """A row an image, a column a text: maps over the photos, cosines below.

        Of methods that hide clusters the drops are drawn, all texts of an image on one scale; of
        others the maps, each on its own.

        Args:
            images: Which, by index, in this order; None is all, however long: see `save_figures`.
            upsample: See `on_photo`.
            options: Further ones of `attribution_grid`, such as `scale` or `cell_width`.

        Returns:
            The figure; `figure.savefig("explanation.pdf")` writes it.

        Raises:
            ValueError: If there is no such image.
        """
        return side_by_side([self], images=images, upsample=upsample, **options)

    def save_figures(
        self, path: str | os.PathLike[str], rows: int = ROWS, dpi: float = 200, **options: Any
    ) -> list[Path]:
        """Write `figure` as pages of so many images.

        Args:
            path: "maps.pdf" is one file of all pages; others, such as "maps.png", are numbered
                where there are several: "maps-1.png", "maps-2.png".
            rows: Images on a page, at most.
            dpi: Pixels an inch.
            options: Of `figure`. A scale that maps share is each page's own; give the value
                itself for one of all.

        Returns:
            The files.

        Raises:
            ValueError: If rows is no positive int.

        Example:
            >>> import tempfile, cci_captum
            >>> from PIL import Image
            >>> photos = [Image.new("RGB", (96, 96), colour) for colour in ("red", "green", "blue")]
            >>> explanation = cci_captum.explain(photos, "a cat", "tiny")
            >>> folder = tempfile.mkdtemp()
            >>> [path.name for path in explanation.save_figures(f"{folder}/maps.png", rows=2)]
            ['maps-1.png', 'maps-2.png']
        """
        pages = rows_of_pages(len(self), rows)
        figures = (self.figure(images=page, **of_page(page, options)) for page in pages)
        return save_pages(path, figures, len(pages), dpi=dpi)

    def cluster_figure(self, text: int | str = 0, **options: Any) -> Figure:
        """The clusters of each image, where the model looked, and what hiding each did.

        Args:
            text: One of the texts, or its index.
            options: Further ones of `show_clusters`.

        Raises:
            ValueError: If there is no such text, or the method hides no clusters.
        """
        if isinstance(text, str) and text not in self.texts:
            raise ValueError(f"text: expected one of {', '.join(self.texts)}, got {text!r}")
        usual: dict[str, Any] = {
            "row_titles": self.row_titles,
            "fields_of_view": [self.map_area(index) for index in range(len(self))],
        }
        return show_clusters(
            self._of_clusters("cluster_figure"),
            self.photos,
            target=self.texts.index(text) if isinstance(text, str) else text,
            **(usual | options),
        )

    def _repr_html_(self) -> str:
        """As a notebook shows it: the maps of `figure`, with the value under the pointer."""
        drawn = self.maps if self.effects is None else self.drop_maps()
        return map_view(
            self.photos,
            {text: list(drawn[:, place_].cpu()) for place_, text in enumerate(self.texts)},
            fields_of_view=[self.map_area(index) for index in range(len(self))],
            row_titles=[Path(name).name for name in self.names],
            scores={text: self.similarities[:, p].tolist() for p, text in enumerate(self.texts)},
            unit="" if self.effects is None else f"drop in {self.score}",
            title=f"{self.method}, {self.model}",
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write everything to a folder, which `load` reads: JSON, safetensors and PNG, no code.

        Written beside it and put in its place at the end, so that a folder is whole or as it was.

        Args:
            folder: A new or empty folder, or one that this wrote before, which is replaced.

        Raises:
            FileExistsError: If there is something else.
        """
        path = Path(folder)
        if path.exists() and not (path / _FACTS).is_file() and _any_in(path):
            raise FileExistsError(
                f"folder: expected a new or empty one, or a saved explanation, got {path}"
            )
        part = path.with_name(f".{path.name}.part-{os.getpid()}")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            self._write(part)
            if path.exists():
                shutil.rmtree(path)
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Explanation:
        """What `save` wrote, on the CPU.

        Raises:
            FileNotFoundError: If there is no such folder, or it lacks a file.
            ValueError: If it is of something else.
        """
        path = Path(folder)
        facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or "field_of_view" not in facts:
            raise ValueError(f"folder: expected a saved explanation, got {path}")
        photos = []
        for place_ in range(len(facts["names"])):
            with Image.open(path / f"{place_}.png") as image:
                photos.append(image.convert("RGB"))
        effects = path / _EFFECTS
        return cls(
            names=tuple(facts["names"]),
            photos=tuple(photos),
            texts=tuple(facts["texts"]),
            field_of_view=tuple(map(tuple, facts["field_of_view"])),
            covered=FieldOfView(**facts["covered"]),
            model=facts["model"],
            method=facts["method"],
            score=facts["score"],
            effects=ClusterEffects.load(effects) if effects.exists() else None,
            **load_file(path / _TENSORS),
        )

    def _write(self, folder: Path) -> None:
        kept = ("names", "texts", "field_of_view", "model", "method", "score")
        facts = {name: getattr(self, name) for name in kept}
        facts |= {"covered": asdict(self.covered), "cci_captum": __version__}
        text = json.dumps(facts, indent=1, ensure_ascii=False)
        (folder / _FACTS).write_text(text, encoding="utf-8")
        tensors = ("scores", "similarities", "maps", "inputs")
        own_memory = torch.contiguous_format  # no two in one place, which the format refuses
        save_file(
            {name: getattr(self, name).clone(memory_format=own_memory) for name in tensors},
            folder / _TENSORS,
        )
        if self.effects is not None:
            self.effects.save(folder / _EFFECTS)
        for place_, photo in enumerate(self.photos):
            photo.save(folder / f"{place_}.png")

    def _of_clusters(self, what: str) -> ClusterEffects:
        if self.effects is None:
            raise ValueError(f"{what}: expected a method that hides clusters, got {self.method}")
        return self.effects


def _any_in(path: Path) -> bool:
    return not path.is_dir() or next(path.iterdir(), None) is not None
