"""Retrieval: do an image and the caption that a map explains still find each other?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cci_captum._checks import check_positive_int
from cci_captum._progress import Progress, progress_bar
from cci_captum.attribution.seeds import generator_of
from cci_captum.baselines.spec import MethodSpec
from cci_captum.models._cut_texts import checked, warn_about_cuts
from cci_captum.models._encoders import text_device
from cci_captum.models.clip import ImageTextSimilarity
from cci_captum.models.preprocessing import Preprocess
from cci_captum.models.ranking import predicted

from ..data import CaptionData
from ..data.part import caption_data
from ..faithfulness import CaptionRetrieval, RetrievalCurve
from ..faithfulness.gallery import encode_images, encode_texts
from ..faithfulness.retrieval import KS
from .base import Batch, Question, Task
from .kinds import KINDS
from .loaded import Loaded, Reader

_ROWS = 1024  # images compared with all captions at once


class Retrieval(Task):
    """Captions of a gallery's images, each explained on its own image.

    An item is a caption: all captions of all images, counted through. Methods explain the cosine of
    image and caption (`ImageTextSimilarity`), so that every method can; those of a spec with a
    score over classes, such as "cci(score=margin)", the caption among those of other images.
    Deletion and insertion run the image among the whole gallery, whose embeddings are computed
    once, here. See `CaptionRetrieval`.

    An image that cannot be read is left out of the gallery with its captions, with an error for
    each.

    Args:
        data: Images with captions, such as `COCOKarpathy`; or a `torch.utils.data.Subset` of such.
        model: A CLIP-like model.
        tokenizer: From strings to (M, L) tokens. Captions that it cuts are warned about.
        preprocess: From a PIL image to an input (3, H, W) of the model.
        batch_size: Images, or different captions, encoded together.
        show_progress: Show a progress bar on stderr while the gallery is encoded.

    Attributes:
        recall: Unperturbed recall of the gallery, as CLIP_benchmark reports it: "ir1" to "ir10"
            the mean over captions, "tr1" to "tr10" over images.

    Raises:
        TypeError: If the model is not CLIP-like, or data are no images.
        ValueError: If data have no captions, or no image can be read.

    Example:
        >>> import cci_captum
        >>> from cci_captum.benchmarks.data import Scenes
        >>> clip = cci_captum.load_clip("tiny")
        >>> task = Retrieval(Scenes(3, seed=1), clip.model, clip.tokenizer, clip.preprocess)
        >>> len(task), task.label(2), sorted(task.recall)
        (3, 'a ladybug', ['ir1', 'ir10', 'ir5', 'tr1', 'tr10', 'tr5'])
    """

    kind = KINDS["retrieval"]

    def __init__(
        self,
        data: CaptionData,
        model: nn.Module,
        tokenizer: Callable[..., Tensor],
        preprocess: Preprocess,
        *,
        batch_size: int = 64,
        show_progress: bool = False,
    ) -> None:
        check_positive_int("batch_size", batch_size)
        data = caption_data(data)
        captions = data.captions
        self._similarity = ImageTextSimilarity(model)
        super().__init__(data, preprocess, self._similarity)
        self._texts = [text for own in captions for text in own]
        self._image_of_text = [place for place, own in enumerate(captions) for _ in own]
        self._starts = [0]
        for own in captions:
            self._starts.append(self._starts[-1] + len(own))
        self._tokens, self._cuts = checked(tokenizer).tokenize(self._texts)
        warn_about_cuts(self._cuts, stacklevel=3)

        self._errors: dict[int, str] = {}  # image -> why it cannot be read
        with progress_bar(show_progress, len(data), "gallery", unit="img") as bar:
            images = encode_images(model, self._read(bar), batch_size)
        kept = [place for place in range(len(data)) if place not in self._errors]
        row_of_image = {place: row for row, place in enumerate(kept)}
        # Captions of images that were read, and where each stands among them.
        self._kept = [m for m, place in enumerate(self._image_of_text) if place in row_of_image]
        self._row_of_text = {m: row for row, m in enumerate(self._kept)}
        owners = [row_of_image[self._image_of_text[m]] for m in self._kept]
        texts = encode_texts(model, self._tokens[self._kept], batch_size)
        self.retrieval = CaptionRetrieval(model, images, texts, torch.tensor(owners))
        self.reader = Reader(data, preprocess, images=self._image_of_text, left_out=self._errors)
        self.forward_func = self.retrieval
        self._logits = _Logits(self.retrieval)
        self.recall = self._recall(images)

    def __len__(self) -> int:
        return len(self._texts)

    def score(self, cosines: Tensor, targets: Any) -> RetrievalCurve:
        """What the cosines of perturbed images say; see `CaptionRetrieval.recalls`."""
        return self.retrieval.recalls(cosines, self._rows(targets))

    def batch(self, loaded: Loaded) -> tuple[Batch | None, dict[int, str]]:
        """See `Task`."""
        errors = dict(loaded.errors)
        if loaded.inputs is None:
            return None, errors
        inputs = self._to_device(loaded.inputs)
        guesses = self._predicted(inputs)
        items = list(zip(loaded.places, loaded.rows, strict=True))
        return Batch(
            indices=loaded.places,
            names=[self._name(m, loaded.names[row]) for m, row in items],
            sources=[loaded.sources[row] for row in loaded.rows],
            photos=[loaded.photos[row] for row in loaded.rows],
            inputs=inputs[loaded.rows],
            masks=None,
            targets=list(loaded.places),
            predicted=[guesses[row] for row in loaded.rows],
            facts=[loaded.facts[row] for row in loaded.rows],
            notes=[loaded.notes[row] for row in loaded.rows],
        ), errors

    def label(self, target: int) -> str:
        """The caption."""
        return self._texts[target]

    def question(self, make: Any) -> Question:
        """The cosine with the caption; of a spec with a score over classes, all captions."""
        if isinstance(make, MethodSpec) and make.values.get("score", "logit") != "logit":
            return Question(self._logits, self._as_class)
        return Question(self._similarity, self._as_text)

    def other_targets(self, batch: Batch, seed: int) -> list[int]:
        """A caption of another image for each."""
        found = []
        for m, image in zip(batch.targets, batch.inputs, strict=True):
            place = self._image_of_text[m]
            others = len(self._kept) - (self._starts[place + 1] - self._starts[place])
            if others < 1:
                raise ValueError("data: expected captions of another image to draw one, got none")
            step = int(torch.randint(0, others, (), generator=generator_of(image, seed)))
            after = self._row_of_text[self._starts[place]] + len(self._kept) - others
            found.append(self._kept[(after + step) % len(self._kept)])
        return found

    def configuration(self) -> dict[str, Any]:
        """See `Task`."""
        whole = super().configuration()
        return {**whole, "listing": [*whole["listing"], *self._texts], "left_out": self._errors}

    def settings(self) -> dict[str, Any]:
        """See `Task`."""
        return {
            **super().settings(),
            "gallery": {"images": len(self.data) - len(self._errors), "captions": len(self._kept)},
            "recall": self.recall,
            "cut_texts": [text._asdict() for text in self._cuts],
        }

    def _read(self, progress: Progress) -> Iterator[Tensor]:
        """Inputs of the images that can be read."""
        reader = Reader(self.data, self.preprocess)
        for place in range(len(self.data)):
            loaded = reader([place])
            self._errors |= loaded.errors
            if loaded.inputs is not None:
                yield loaded.inputs[0]
            progress.update()
        if len(self._errors) == len(self.data):
            raise ValueError(
                f"data: none of the {len(self.data)} images of {self.data.name} could be read; the "
                f"first: {self._errors[0]}"
            )

    def _recall(self, images: Tensor) -> dict[str, float]:
        """Of the gallery as it is."""
        owners = self.retrieval.image_of_caption
        hits: dict[str, list[Tensor]] = {}
        for part in torch.arange(len(owners), device=owners.device).split(_ROWS):
            curve = self.retrieval.recalls(self.retrieval.cosines(images[owners[part]]), part)
            for name in self.kind.values:
                hits.setdefault(name, []).append(getattr(curve, name).double())
        values = {name: torch.cat(parts) for name, parts in hits.items()}
        first = torch.ones_like(owners, dtype=torch.bool)  # of each image's captions
        first[1:] = owners[1:] != owners[:-1]
        recall = {f"ir{k}": float(values[f"ir{k}"].mean()) for k in KS}
        return recall | {f"tr{k}": float(values[f"tr{k}"][first].mean()) for k in KS}

    @torch.no_grad()
    def _predicted(self, inputs: Tensor) -> list[int]:
        """The caption that each image retrieves, -1 where none alone is first."""
        rows = predicted(self.outputs(inputs)).tolist()
        return [self._kept[row] if row >= 0 else -1 for row in rows]

    def _name(self, m: int, image: str) -> str:
        return f"{image} #{m - self._starts[self._image_of_text[m]] + 1}"

    def _rows(self, targets: Any) -> Tensor:
        """(n,) places of captions among those of the gallery."""
        return torch.tensor([self._row_of_text[m] for m in targets])

    def _as_text(self, targets: Sequence[int]) -> tuple[None, Tensor]:
        return None, self._tokens[list(targets)].to(text_device(self._similarity.model))

    def _as_class(self, targets: Sequence[int]) -> tuple[list[int], Tensor]:
        rows = self._rows(targets)
        return rows.tolist(), rows.to(self.device)


class _Logits(nn.Module):
    """(images, captions) -> (B, M) logits over the captions, siblings left out."""

    def __init__(self, retrieval: CaptionRetrieval) -> None:
        super().__init__()
        self.retrieval = retrieval

    def forward(self, images: Tensor, captions: Tensor) -> Tensor:
        return self.retrieval.logits(images, captions)
