"""What `cci_captum.explain` returns: maps of images for texts, as the model and the photo see."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ._checks import chosen_rows
from .attribution.field_of_view import FieldOfView, place
from .attribution.resizing import Upsample, check_upsample, enlarge
from .effects import ClusterEffects
from .explained_words import ExplainedWords
from .explanation_files import read, write
from .explanation_view import described, view_of
from .models.seen_area import Area
from .pages import ROWS, of_page, rows_of_pages, save_pages
from .side_by_side import MOST_WORDS, side_by_side, texts_coloured, words_apart
from .visualization import show_clusters

_OF_EACH = ("names", "photos", "field_of_view", "scores", "similarities", "maps", "inputs")


@dataclass(frozen=True, eq=False, repr=False)
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
        words: What each word of the texts adds, if that was asked for; else None.

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
    words: ExplainedWords | None = None

    __repr__ = described

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def __getitem__(self, index: int | slice | Sequence[int]) -> Explanation:
        """What is said of some of the images; of one where index is an int, still a batch.

        Raises:
            IndexError: If there is no such image.
        """
        chosen = chosen_rows(index, len(self))
        own = {name: getattr(self, name) for name in _OF_EACH}
        changed: dict[str, Any] = {
            name: value[chosen] if isinstance(value, Tensor) else tuple(value[i] for i in chosen)
            for name, value in own.items()
        }
        for name in ("effects", "words"):
            whole = getattr(self, name)
            changed[name] = None if whole is None else whole[chosen]
        return replace(self, **changed)

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
        size = (self.photos[index].height, self.photos[index].width)
        return place(self.maps[index], size, upsample, FieldOfView.of_box(self.map_area(index)))

    def map_area(self, index: int) -> Area:
        """Of the photo of one image the rectangle that maps cover, in the photo's pixels.

        That is `field_of_view`, less what the patches leave out of the inputs.
        """
        left, top, right, bottom = self.field_of_view[index]
        across, down = (right - left) / self.inputs.shape[3], (bottom - top) / self.inputs.shape[2]
        first = (left + self.covered.left * across, top + self.covered.top * down)
        wide, high = self.covered.width * across, self.covered.height * down
        return *first, first[0] + wide, first[1] + high

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
        beyond = labels.amax((1, 2), keepdim=True) + 1
        return torch.where(numbers == 0, beyond, numbers - 1)[:, None]

    def figure(
        self,
        *,
        upsample: Upsample = "nearest",
        outline: bool | Sequence[int] = False,
        **options: Any,
    ) -> Figure:
        """A row an image, a column a text: maps over the photos, cosines below.

        Of methods that hide clusters the drops are drawn, all texts of an image on one scale; of
        others the maps, each on its own.

        Args:
            upsample: See `on_photo`.
            outline: True draws a line around the cluster with the largest drop for each text, or
                none where no drop is above rounding; or around those of B numbers.
            options: Further ones of `attribution_grid`, such as `scale`, `style` or `width`.

        Returns:
            The figure; `figure.savefig("explanation.pdf")` writes it.

        Raises:
            ValueError: If outline asks for clusters of a method without; see `attribution_grid`.
        """
        return side_by_side([self], upsample=upsample, outline=outline, **options)

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
            >>> explanation = cci_captum.explain([Image.new("RGB", (9, 9))] * 3, "a cat", "tiny")
            >>> folder = tempfile.mkdtemp()
            >>> [path.name for path in explanation.save_figures(f"{folder}/maps.png", rows=2)]
            ['maps-1.png', 'maps-2.png']
        """
        pages = rows_of_pages(len(self), rows)
        options = {"row_titles": self.row_titles} | options
        figures = (self[page].figure(**of_page(page, options)) for page in pages)
        return save_pages(path, figures, len(pages), dpi=dpi)

    def cluster_figure(self, text: int | str = 0, **options: Any) -> Figure:
        """The clusters of each image, where the model looked, and what hiding each did.

        Args:
            text: One of the texts, or its index.
            options: Further ones of `show_clusters`.

        Raises:
            ValueError: If there is no such text, or the method hides no clusters.
        """
        usual: dict[str, Any] = {
            "row_titles": self.row_titles,
            "fields_of_view": [self.map_area(index) for index in range(len(self))],
        }
        return show_clusters(
            self._of_clusters("cluster_figure"),
            self.photos,
            target=self._index(text),
            **(usual | options),
        )

    def text_figure(self, **options: Any) -> Figure:
        """The texts, each word in the colour of its drop, of each image; all on one scale.

        Args:
            options: Further ones of `cci_captum.visualization.text_heat`, such as `width`.

        Raises:
            ValueError: If words were not explained.
        """
        self._of_words("text_figure")
        return texts_coloured(self, **options)

    def word_figure(
        self,
        text: int | str = 0,
        *,
        most: int | None = MOST_WORDS,
        upsample: Upsample = "nearest",
        **options: Any,
    ) -> Figure:
        """A row an image, a column a word of one text: maps over the photos, the drops below.

        Of methods that hide clusters the `region_drops` are drawn, all words of an image on one
        scale; of others the maps, each on its own.

        Args:
            text: One of the texts, or its index.
            most: How many words at most: those of the largest drops. None is all.
            upsample: See `on_photo`.
            options: Further ones of `attribution_grid`.

        Raises:
            ValueError: If words were not explained, or there is no such text.
        """
        self._of_words("word_figure")
        return words_apart(self, self._index(text), most=most, upsample=upsample, **options)

    def _repr_html_(self) -> str:
        """As a notebook shows it: the maps of `figure`, with the value under the pointer.

        Then those of the words, below each text with its words in the colours of their drops.
        """
        return view_of(self)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write everything to a folder, which `load` reads: JSON, safetensors and PNG, no code.

        Written beside it and put in its place at the end, so that a folder is whole or as it was.

        Args:
            folder: A new or empty folder, or one that this wrote before, which is replaced.

        Raises:
            FileExistsError: If there is something else.
        """
        write(self, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Explanation:
        """What `save` wrote, on the CPU.

        Raises:
            FileNotFoundError: If there is no such folder, or it lacks a file.
            ValueError: If it is of something else.
        """
        return cls(**read(Path(folder)))

    def _of_clusters(self, what: str) -> ClusterEffects:
        if self.effects is None:
            raise ValueError(f"{what}: expected a method that hides clusters, got {self.method}")
        return self.effects

    def _of_words(self, what: str) -> ExplainedWords:
        if self.words is None:
            raise ValueError(f"{what}: expected words to be explained: explain(..., words=True)")
        return self.words

    def _index(self, text: int | str) -> int:
        """Of a text, or an index as it is."""
        places = range(len(self.texts))
        if text in self.texts or text in places:
            return self.texts.index(text) if isinstance(text, str) else places[text]
        raise ValueError(f"text: expected one of {', '.join(self.texts)}, got {text!r}")
