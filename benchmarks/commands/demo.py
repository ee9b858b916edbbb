"""`cci-captum demo`: the embedded tiny CLIP explained on six scenes, and methods compared."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex

from cci_captum.baselines.spec import MethodSpec

from ._common import add_method_option, add_shared_options, choose_device, choose_methods
from ._outputs import DPI, Outputs

if TYPE_CHECKING:
    import torch

    from cci_captum.effects import ClusterEffects
    from cci_captum.models.clip import ZeroShotClassifier
    from cci_captum.models.preprocessing import Preprocess

    from ..comparison import Comparison
    from ..data import Sample
    from ..scenes import Scene
    from ..tasks import Task

# Artwork, kind, class of the first object, background, number. The numbers were chosen, among the
# first twelve of seed 0, for scenes that show what the models do; other seeds are not chosen.
_SCENES = (
    ("train", "one", "penguin", "snow", 2),
    ("train", "two", "dog", "grass", 10),
    ("train", "one", "guitar", "bricks", 1),
    ("held-out", "one", "elephant", "sand", 4),
    ("held-out", "two", "strawberry", "wood", 9),
    ("held-out", "one", "apple", "clouds", 4),
)

_FRESH_SCENES = 24  # compared

_FILES = ("grid.png", "clusters.png", "methods.png", "curves.png")

_METHODS = ("cci", "grad-eclip", "maskclip", "gradcam")

_NEXT = """
The same in your own code:

    model, preprocess, tokenizer, _ = cci_captum.load_clip("tiny")  # or any open_clip model
    classifier = cci_captum.ZeroShotClassifier(model, tokenizer, ["penguin", "cat", "dog"])
    attributions = cci_captum.CCI(classifier).attribute(images, target=0)  # shape of images
"""


class _Answers(NamedTuple):
    """What one model says about B scenes and C classes."""

    classifier: ZeroShotClassifier
    preprocess: Preprocess
    inputs: torch.Tensor  # (B, 3, H, W), normalised
    effects: ClusterEffects
    probabilities: torch.Tensor  # (B, C)
    predicted: list[int]


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser(
        "demo",
        help="explain a tiny CLIP on six scenes",
        description="Explain the embedded tiny CLIP on six scenes: which parts made it predict "
        "what it predicts, and what other methods say; then compare these methods on fresh scenes. "
        "Writes grid.png, clusters.png, methods.png and curves.png.",
    )
    add_method_option(parser, _METHODS)
    parser.add_argument(
        "--out", type=Path, default=Path("cci-captum-demo"), help="folder (%(default)s)"
    )
    add_shared_options(parser, "--device", "--seed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Draw the scenes and ask both tiny models; then the comparison, which takes longest."""
    methods = choose_methods(arguments.method or _METHODS, masks=True)
    outputs = Outputs(announce=True)
    outputs.expect_in(arguments.out, "--out", _FILES)
    device = choose_device(arguments.device)

    import torch

    from cci_captum._progress import tqdm
    from cci_captum.visualization import show_clusters

    from ..comparison import figures, report
    from ..data import Scenes
    from ..tasks import Classification

    grid, clusters, side_by_side, curves = (arguments.out / name for name in _FILES)
    steps = tqdm(total=3, desc="demo", unit="step")
    scenes = draw_scenes(arguments.seed)
    images = torch.stack([scene.image for scene in scenes])
    steps.update()
    tiny = _ask("tiny", images, device)
    steps.update()
    shortcut = _ask("tiny-shortcut", images, device)
    steps.update()
    steps.close()
    others = [_other_class(scene, tiny, row) for row, scene in enumerate(scenes)]
    row_titles = [
        _described(scene, artwork) for scene, (artwork, *_) in zip(scenes, _SCENES, strict=True)
    ]
    outputs.write(
        grid,
        lambda path: _grid(images, tiny, others, shortcut, row_titles).savefig(path, dpi=DPI),
    )
    titles = [_named(tiny, row, tiny.predicted[row]) for row in range(len(scenes))]
    outputs.write(
        clusters,
        lambda path: show_clusters(
            tiny.effects, images, target=tiny.predicted, row_titles=titles
        ).savefig(path, dpi=DPI),
    )
    six = SixScenes(scenes, tiny.probabilities.tolist(), row_titles)
    known = Classification(six, tiny.classifier, tiny.preprocess)
    beside = _compare(methods, known, arguments.seed)
    places = list(range(len(scenes)))
    outputs.write(
        side_by_side,
        lambda path: figures.grid(beside, known, places).savefig(path, dpi=DPI),
    )
    _print_table(scenes, tiny, others)
    print(_NEXT, flush=True)
    drawn = Scenes(_FRESH_SCENES, seed=arguments.seed)
    fresh = Classification(drawn, tiny.classifier, tiny.preprocess)
    comparison = _compare(methods, fresh, arguments.seed)
    outputs.write(curves, lambda path: figures.curves(comparison).savefig(path, dpi=DPI))
    print(report.text(comparison))
    print(
        f"areas with 95 % intervals over {_FRESH_SCENES} scenes, not picked, too few to rank "
        "methods by;\ncci-captum compare takes more, and docs/benchmarks.md has what 500 said"
    )
    outputs.finish()


def draw_scenes(seed: int) -> list[Scene]:
    """The six scenes: three in artwork known from training, three in artwork never seen."""
    from ..scenes import SceneGenerator

    generators = {artwork: SceneGenerator(artwork=artwork, seed=seed) for artwork, *_ in _SCENES}
    return [
        generators[artwork].scene(number, class_name=name, background=background, kind=kind)
        for artwork, kind, name, background, number in _SCENES
    ]


def _ask(name: str, images: torch.Tensor, device: torch.device) -> _Answers:
    from torchvision.transforms.functional import normalize

    from cci_captum.cci import CCI
    from cci_captum.models.clip import ZeroShotClassifier, load_clip
    from cci_captum.models.preprocessing import mean_and_std
    from cci_captum.tiny import CLASS_NAMES, TEMPLATES

    clip = load_clip(name, device=device)
    classifier = ZeroShotClassifier(clip.model, clip.tokenizer, CLASS_NAMES, TEMPLATES)
    mean, std = mean_and_std(clip.preprocess)
    inputs = normalize(images, mean, std).to(device)
    effects = CCI(classifier).effects(inputs)
    probabilities = effects.outputs.softmax(dim=1).cpu()
    predicted = probabilities.argmax(dim=1).tolist()
    return _Answers(classifier, clip.preprocess, inputs, effects, probabilities, predicted)


class SixScenes:
    """The demo's scenes as images of a data set, with the object that the model is surest of.

    That is the predicted class wherever the prediction is right.

    Args:
        scenes: Scenes of one object or two.
        probabilities: What the model gives each class, a row a scene.
        row_titles: What the scenes are called.
    """

    name = "six scenes"
    has_masks = True

    def __init__(
        self, scenes: list[Scene], probabilities: list[list[float]], row_titles: list[str]
    ) -> None:
        from cci_captum.tiny import CLASS_NAMES, TEMPLATES

        self.class_names = CLASS_NAMES
        self.templates: str | tuple[str, ...] = TEMPLATES
        self._scenes, self._row_titles = scenes, row_titles
        self._objects = [
            max(range(len(scene.classes)), key=lambda place: row[scene.classes[place]])
            for scene, row in zip(scenes, probabilities, strict=True)
        ]
        chosen = zip(scenes, self._objects, strict=True)
        self.targets = [scene.classes[place] for scene, place in chosen]

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: SupportsIndex) -> Sample:
        from ..data import Sample
        from ..data.base import position

        place = position(index, len(self))
        scene, title = self._scenes[place], self._row_titles[place]
        mask = scene.masks[self._objects[place]]
        return Sample(title, scene.picture, self.targets[place], mask)


def _compare(methods: list[MethodSpec], task: Task, seed: int) -> Comparison:
    from ..comparison import compare

    return compare(methods, task, ties=(), seed=seed, show_progress=True)


def _other_class(scene: Scene, tiny: _Answers, row: int) -> int:
    """The other object of the scene, or the second guess where there is none."""
    predicted = tiny.predicted[row]
    ranked = tiny.probabilities[row].argsort(descending=True).tolist()
    candidates = [*scene.classes, *ranked] if scene.kind == "two" else ranked
    return next(index for index in candidates if index != predicted)


def _named(answers: _Answers, row: int, index: int) -> str:
    from cci_captum.tiny import CLASS_NAMES

    return f"{CLASS_NAMES[index]} {answers.probabilities[row, index]:.2f}"


def _described(scene: Scene, artwork: str) -> str:
    objects = " and ".join(scene.class_names) or "nothing"
    drawn = ", artwork never seen in training" if artwork == "held-out" else ""
    return f"{objects} on {scene.background_name}{drawn}"


def _grid(
    images: torch.Tensor,
    tiny: _Answers,
    others: list[int],
    shortcut: _Answers,
    row_titles: list[str],
) -> Any:
    from cci_captum.visualization import attribution_grid

    columns = {
        "tiny: predicted class": (tiny, tiny.predicted),
        "tiny: other object, or second guess": (tiny, others),
        "tiny-shortcut: predicted class": (shortcut, shortcut.predicted),
    }
    return attribution_grid(
        images,
        {name: answers.effects.patch_map(target) for name, (answers, target) in columns.items()},
        scores={
            name: [_named(answers, row, index) for row, index in enumerate(target)]
            for name, (answers, target) in columns.items()
        },
        row_titles=row_titles,
    )


def _print_table(scenes: list[Scene], tiny: _Answers, others: list[int]) -> None:
    from cci_captum.tiny import CLASS_NAMES

    from ..localization import energy, pointing_game

    print(
        f"{'scene':32} {'explained':18} {'prob.':>5} {'top drop':>8} {'energy':>6} {'pointing':>8}"
    )
    for row, scene in enumerate(scenes):
        targets = [tiny.predicted[row], *([others[row]] if scene.kind == "two" else [])]
        for place, target in enumerate(targets):
            name = _described(scene, "train") if place == 0 else ""
            drop = float(tiny.effects.drops(target)[row].max())
            probability = float(tiny.probabilities[row, target])
            cells = f"{name:32} {CLASS_NAMES[target]:18} {probability:5.2f} {drop:8.2f}"
            if target in scene.classes:
                patch_map = tiny.effects.patch_map(target)[row, None]
                mask = scene.masks[scene.classes.index(target), None]
                shares = [measure(patch_map, mask).item() for measure in (energy, pointing_game)]
                cells += f" {shares[0]:6.2f} {shares[1]:8.2f}"
            print(cells)
    print(
        "top drop: of the logit, when the most important cluster is hidden; energy and pointing: "
        "how much\nof the map's positive part, and of its maximum, lies on the explained object"
    )
