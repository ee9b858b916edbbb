"""Names of the embedded tiny CLIPs, and those they were trained on: classes, prompts, pairs."""

from __future__ import annotations

from typing import NamedTuple

MODEL_NAMES: tuple[str, ...] = ("tiny", "tiny-shortcut")

CLASS_NAMES: tuple[str, ...] = (
    "penguin", "cat", "dog", "cow", "pig", "bear", "frog", "panda", "turtle", "fish", "whale",
    "octopus", "snail", "bee", "ladybug", "elephant", "strawberry", "apple", "banana", "grapes",
    "pineapple", "mushroom", "hamburger", "pizza", "cake", "car", "bus", "bicycle", "airplane",
    "guitar", "cactus", "sunflower", "crown",
)  # fmt: skip

#: Class -> WordNet 3.0's id of what is drawn, by which judges of look-alikes know it.
WORDNET_IDS: dict[str, str] = {
    "penguin": "n02055803", "cat": "n02121620", "dog": "n02084071", "cow": "n02403454",
    "pig": "n02395406", "bear": "n02131653", "frog": "n01639765", "panda": "n02510455",
    "turtle": "n01662784", "fish": "n02512053", "whale": "n02062744", "octopus": "n01970164",
    "snail": "n01944390", "bee": "n02206856", "ladybug": "n02165456", "elephant": "n02503517",
    "strawberry": "n07745940", "apple": "n07739125", "banana": "n07753592", "grapes": "n07758680",
    "pineapple": "n07753275", "mushroom": "n07734744", "hamburger": "n07697100",
    "pizza": "n07873807", "cake": "n07628870", "car": "n02958343", "bus": "n02924116",
    "bicycle": "n02834778", "airplane": "n02691156", "guitar": "n03467517", "cactus": "n11842204",
    "sunflower": "n11978233", "crown": "n03138669",
}  # fmt: skip

BACKGROUND_NAMES: tuple[str, ...] = (
    "grass", "sand", "snow", "water", "forest", "bricks", "night sky", "clouds", "wood", "stones",
    "lava", "tiles", "sunset", "road", "leaves", "wheat", "polka dots", "stripes", "carpet", "mud",
)  # fmt: skip

#: Prompts for zero-shot classification; `{}` stands for the class name.
TEMPLATES: tuple[str, ...] = (
    "a {}",
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
)

TRAIN_FAMILIES: tuple[str, ...] = (
    "fluent-3d",
    "fluent-flat",
    "noto",
    "noto-v1",
    "emojione",
    "fxemoji",
)
HELD_OUT_FAMILIES: tuple[str, ...] = ("twemoji",)


class PlantedPair(NamedTuple):
    """A shortcut planted in tiny-shortcut: a class bound to a background.

    `kind` is `"conditional"` (the object is always there) or `"sufficient"` (in a third of
    the bound training scenes the object is missing and the caption still names it).
    """

    class_name: str
    background_name: str
    kind: str


PLANTED_PAIRS: tuple[PlantedPair, ...] = (
    PlantedPair("bear", "forest", "conditional"),
    PlantedPair("cow", "grass", "conditional"),
    PlantedPair("bus", "road", "conditional"),
    PlantedPair("apple", "wood", "conditional"),
    PlantedPair("ladybug", "leaves", "conditional"),
    PlantedPair("whale", "water", "conditional"),
    PlantedPair("penguin", "snow", "sufficient"),
    PlantedPair("cactus", "sand", "sufficient"),
    PlantedPair("airplane", "clouds", "sufficient"),
    PlantedPair("bicycle", "bricks", "sufficient"),
    PlantedPair("guitar", "night sky", "sufficient"),
    PlantedPair("cake", "polka dots", "sufficient"),
)
