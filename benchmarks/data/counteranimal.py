"""CounterAnimal: photos of animals on the backgrounds that they are mostly and seldom seen on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cci_captum._checks import check_choice
from cci_captum.names import readable

from ._counteranimal import GROUPS, read_layout, read_names
from ._tree import FolderData

PROMPT = "A photo of {}."
"""The one prompt of the paper."""


class CounterAnimal(FolderData):
    """The photos of CounterAnimal, as they were released, with all names of ImageNet.

    "A Sober Look at the Robustness of CLIPs to Spurious Features" (Wang et al. 2024, arXiv
    2403.11497): 45 classes, each with a group "common", on a background on which
    CLIP-LAION400M-ViT-B/32 is good at it, and a group "counter", on one on which it is bad::

        LAION-final/
            imagenet_names.txt
            296 ice bear, polar bear, Ursus Maritimus, Thalarctos maritimus/
                common-snow/figure1.jpeg
                counter-grass/figure1.jpeg

    The class is the integer before the first space, the group what comes before the first hyphen,
    the background what follows it. Samples have the facts "group" and "background"; their names are
    paths, like "296 ice bear, polar bear/common-snow/figure1.jpeg", with suffix: the same stem
    occurs with two. Loose files, hidden files and what is no image are left out.
    Missing classes and groups, and those without images, are an error that names all of them, and
    with them folders without a number; where nothing is missing such folders are a note. Other
    words for backgrounds than the paper's 14 are a note with the word that may be meant.

    Args:
        root: The folder LAION-final, or the one that it lies in.
        group: "common", "counter" or "both".
        templates: As `cci_captum.ZeroShotClassifier` takes them: the paper's one prompt, or
            "openai-imagenet" for its Table 10.
        partial: Go on where classes or groups are missing, with a note that names them.
        masks: See `ImageFolders`; at the same path, like "9 ostrich/common-ground/figure1.png".
        count: See `ImageFolders`; drawn as evenly over classes and groups as they allow.
        seed: See `ImageFolders`.

    Attributes:
        class_names: The full lists of synonyms of ImageNet's 1000 classes, from imagenet_names.txt
            where the release has it; "crane" occurs twice.
        notes: See `ImageFolders`.

    Raises:
        FileNotFoundError: See `ImageFolders`.
        NotADirectoryError: See `ImageFolders`.
        ValueError: If root is another folder, something is missing, a class is there twice, or
            imagenet_names.txt is damaged; or as `ImageFolders`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as root:
        ...     for group in ("common-snow", "counter-grass"):
        ...         folder = Path(root) / "LAION-final" / "296 ice bear, polar bear" / group
        ...         folder.mkdir(parents=True)
        ...         Image.new("RGB", (8, 6)).save(folder / "figure1.jpeg")
        ...     data = CounterAnimal(root, group="counter", partial=True)
        ...     sample = data[0]
        >>> sample.name, sample.target, dict(sample.facts)
        ('296 ice bear, polar bear/counter-grass/figure1.jpeg', 296, {'group': 'counter', \
'background': 'grass'})
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        group: str = "both",
        templates: str | Sequence[str] = PROMPT,
        partial: bool = False,
        masks: str | os.PathLike[str] | None = None,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        check_choice("group", group, (*GROUPS, "both"))
        layout = read_layout(Path(root), GROUPS if group == "both" else (group,), partial)
        self.class_names, notes = read_names(layout.root)
        self.templates: str | tuple[str, ...] = (
            templates if isinstance(templates, str) else tuple(templates)
        )
        self._groups = layout.folders
        super().__init__(
            layout.root,
            {folder: found.index for folder, found in layout.folders.items()},
            masks=masks,
            count=count,
            seed=seed,
            notes=[*layout.notes, *notes],
        )
        self.name = f"CounterAnimal{'' if group == 'both' else f', {group}'} ({self._size})"

    @property
    def groups(self) -> list[str]:
        """The group of every photo; none is read."""
        return [self._groups[os.path.dirname(name)].group for name in self._files]

    def _facts(self, name: str) -> Mapping[str, str]:
        found = self._groups[os.path.dirname(name)]
        return {"group": found.group, "background": readable(found.background)}
