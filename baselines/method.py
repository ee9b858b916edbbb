"""What a comparison has to know about a method, without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from .options import Option

if TYPE_CHECKING:
    from cci_captum.attribution.base import ImageAttribution


@dataclass(frozen=True)
class Method:
    """One attribution method: called with a forward_func, it makes an object of its class.

    Attributes:
        name: As the command line takes it.
        title: As a paper prints it.
        paper: Where it comes from.
        path: "module:class".
        forward_passes: Forward passes of forward_func an image, with the default options.
        resolution: "patch" (it has `patch_map`) or "pixel".
        needs_gradients: Whether it differentiates the model.
        needs_text: Whether it needs the text's embedding, so that forward_func must be an
            ImageTextSimilarity, a ZeroShotClassifier, or a score of the latter.
        needs_masks: Whether `attribute` takes the true masks (a reference, not a method).
        preset: Arguments of the class, (name, value) each, that set this method apart from
            another of the same class.
        options: What can be chosen, as `MethodSpec` and the command line call it. Arguments that
            are no plain values (a tensor, a clustering of one's own) are left to Python.

    Example:
        >>> import cci_captum
        >>> from cci_captum.baselines.registry import find_method
        >>> clip = cci_captum.load_clip("tiny")
        >>> classifier = cci_captum.ZeroShotClassifier(clip.model, clip.tokenizer, ["cat", "dog"])
        >>> find_method("clip-surgery-2023-04-12")(classifier).revision
        '2023-04-12'
    """

    name: str
    title: str
    paper: str
    path: str
    forward_passes: str
    resolution: Literal["patch", "pixel"] = "patch"
    needs_gradients: bool = False
    needs_text: bool = False
    needs_masks: bool = False
    preset: tuple[tuple[str, Any], ...] = ()
    options: tuple[Option, ...] = ()

    @property
    def cls(self) -> type[ImageAttribution]:
        """The class, imported now; calling the method itself also sets its preset."""
        module, name = self.path.split(":")
        return getattr(import_module(module), name)

    def __call__(
        self, forward_func: Any, vision_tower: Any = None, **options: Any
    ) -> ImageAttribution:
        """An attribution of forward_func by this method.

        Args:
            forward_func: See `PatchAttribution`.
            vision_tower: See `PatchAttribution`.
            options: Further arguments of the class, in place of the method's preset where they
                have the same name.
        """
        make: Any = self.cls
        return make(forward_func, vision_tower, **(dict(self.preset) | options))
