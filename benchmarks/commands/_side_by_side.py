"""The demo's third picture: what several methods say about the same objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from cci_captum.baselines.spec import MethodSpec

from ._common import attribution_of

if TYPE_CHECKING:
    import torch
    from tqdm.auto import tqdm

    from cci_captum.models.clip import ZeroShotClassifier

    from ..faithfulness import DeletionInsertion
    from ..scenes import Scene


class Located(NamedTuple):
    """Maps of B scenes by each method, all of the same object, and how good they are.

    Attributes:
        explained: Name of each scene's explained class.
        maps: Method -> (B, h, w) or (B, H, W).
        energy: Method -> (B,), the object's share of the map's positive part.
        areas: Method -> areas under deletion and insertion, (B,) each; see `FaithfulnessCurves`.
    """

    explained: list[str]
    maps: dict[MethodSpec, torch.Tensor]
    energy: dict[MethodSpec, torch.Tensor]
    areas: dict[MethodSpec, dict[str, torch.Tensor]]

    def draw(self, images: torch.Tensor, row_titles: list[str]) -> Any:
        """A row a scene, a column a method; energy, deletion and insertion below each map."""
        from cci_captum.visualization import attribution_grid

        return attribution_grid(
            images,
            {method.title: maps for method, maps in self.maps.items()},
            row_titles=row_titles,
            scores={
                "image": [f"explained: {name}" for name in self.explained],
                **{method.title: self._captions(method) for method in self.maps},
            },
        )

    def _captions(self, method: MethodSpec) -> list[str]:
        """What stands below a method's maps."""
        from ..comparison.titles import ARROWS, both_areas

        columns = [self.energy[method].tolist()]
        columns += [self.areas[method][f"{way}_probability"].tolist() for way in ARROWS]
        return [
            f"{share:.0%} on the {name}\n{both_areas(*areas)}"
            for share, *areas, name in zip(*columns, self.explained, strict=True)
        ]


def locate(
    classifier: ZeroShotClassifier,
    inputs: torch.Tensor,
    scenes: list[Scene],
    methods: list[MethodSpec],
    harness: DeletionInsertion,
    progress: tqdm,
) -> Located:
    """Explain, in each scene, the object that the classifier is surest of.

    That is the predicted class wherever the prediction is right.

    Args:
        classifier: Over `cci_captum.tiny.CLASS_NAMES`.
        inputs: (B, 3, H, W) images of the scenes, ready for the classifier.
        scenes: B scenes of one object or two.
        methods: What to explain them with.
        harness: What to judge the maps by.
        progress: Updated by one for each method.
    """
    import torch

    from ..localization import energy
    from ..maps import raw_map

    with torch.no_grad():
        logits = classifier(inputs).tolist()
    places = [
        max(range(len(scene.classes)), key=lambda place: row[scene.classes[place]])
        for scene, row in zip(scenes, logits, strict=True)
    ]
    chosen = list(zip(scenes, places, strict=True))
    masks = torch.stack([scene.masks[place] for scene, place in chosen]).to(inputs.device)
    target = [scene.classes[place] for scene, place in chosen]
    maps = {}
    for method in methods:
        progress.set_postfix_str(method.title)
        maps[method] = raw_map(attribution_of(method, classifier), inputs, target, masks=masks)
        progress.update()
    areas = {method: harness(inputs, values, target).auc() for method, values in maps.items()}
    return Located(
        explained=[scene.class_names[place] for scene, place in chosen],
        maps=maps,
        energy={method: energy(values, masks) for method, values in maps.items()},
        areas=areas,
    )
