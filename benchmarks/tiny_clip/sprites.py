r"""Build the sprite sheets of `cci_captum/tiny` from the artists' npm packages.

Needed only to remake the sheets: they are shipped. It wants Node's npm and `pip install
resvg_py`::

    npm install @lobehub/fluent-emoji-3d@1.1.0 @iconify-json/fluent-emoji-flat@1.2.6 \
        @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 @iconify-json/emojione@1.2.3 \
        @iconify-json/fxemoji@1.2.2 @iconify-json/twemoji@1.2.5
    python -m cci_captum.benchmarks.tiny_clip.sprites --node-modules node_modules --out sprites

NOTICE credits the artists and their licences.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from pathlib import Path
from typing import Any

from PIL import Image

from cci_captum.tiny import CLASS_NAMES, HELD_OUT_FAMILIES, SPRITE_SIZE, TRAIN_FAMILIES

COLUMNS = 11
_RENDER_SIZE = 256

#: Class -> (code point, icon name in most sets, icon name in fxemoji).
ICONS: dict[str, tuple[str, str, str]] = {
    "penguin": ("1f427", "penguin", "penguin"),
    "cat": ("1f431", "cat-face", "cat"),
    "dog": ("1f436", "dog-face", "dog"),
    "cow": ("1f42e", "cow-face", "cowface"),
    "pig": ("1f437", "pig-face", "pig"),
    "bear": ("1f43b", "bear", "bear"),
    "frog": ("1f438", "frog", "frog"),
    "panda": ("1f43c", "panda", "pandaface"),
    "turtle": ("1f422", "turtle", "turtle"),
    "fish": ("1f420", "tropical-fish", "fish"),
    "whale": ("1f433", "spouting-whale", "spurtingwhale"),
    "octopus": ("1f419", "octopus", "octopus"),
    "snail": ("1f40c", "snail", "snail"),
    "bee": ("1f41d", "honeybee", "honeybee"),
    "ladybug": ("1f41e", "lady-beetle", "ladybeetle"),
    "elephant": ("1f418", "elephant", "elephant"),
    "strawberry": ("1f353", "strawberry", "strawberry"),
    "apple": ("1f34e", "red-apple", "redapple"),
    "banana": ("1f34c", "banana", "banana"),
    "grapes": ("1f347", "grapes", "grapes"),
    "pineapple": ("1f34d", "pineapple", "pineapple"),
    "mushroom": ("1f344", "mushroom", "mushroom"),
    "hamburger": ("1f354", "hamburger", "hamburger"),
    "pizza": ("1f355", "pizza", "sliceofpizza"),
    "cake": ("1f382", "birthday-cake", "birthdaycake"),
    "car": ("1f697", "automobile", "automobile"),
    "bus": ("1f68c", "bus", "bus"),
    "bicycle": ("1f6b2", "bicycle", "bicycle"),
    "airplane": ("2708-fe0f", "airplane", "airplane"),
    "guitar": ("1f3b8", "guitar", "guitar"),
    "cactus": ("1f335", "cactus", "cactus"),
    "sunflower": ("1f33b", "sunflower", "sunflower"),
    "crown": ("1f451", "crown", "crown"),
}


def _svg(icons: dict[str, Any], name: str) -> str:
    """Return the SVG text of one icon of an Iconify set."""
    name = icons.get("aliases", {}).get(name, {}).get("parent", name)
    icon = icons["icons"][name]
    defaults = {"left": 0, "top": 0, "width": 16, "height": 16}
    box = [icon.get(key, icons.get(key, value)) for key, value in defaults.items()]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{" ".join(map(str, box))}">{icon["body"]}</svg>'
    )


def draw(node_modules: Path, family: str, class_name: str) -> Image.Image:
    """Return one drawing as an RGBA picture, as its package has it."""
    code, name, fxemoji_name = ICONS[class_name]
    if family == "fluent-3d":
        assets = node_modules / "@lobehub" / "fluent-emoji-3d" / "assets"
        return Image.open(assets / f"{code}.webp").convert("RGBA")
    import resvg_py

    package = {"fluent-flat": "fluent-emoji-flat"}.get(family, family)
    icons = json.loads((node_modules / "@iconify-json" / package / "icons.json").read_text())
    svg = _svg(icons, fxemoji_name if family == "fxemoji" else name)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=_RENDER_SIZE, height=_RENDER_SIZE)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def fit(drawing: Image.Image, size: int = SPRITE_SIZE) -> Image.Image:
    """Crop a drawing to its outline and centre it in a square with one pixel to spare."""
    drawing = drawing.crop(drawing.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox())
    scale = (size - 2) / max(drawing.size)
    width, height = (max(1, round(length * scale)) for length in drawing.size)
    drawing = drawing.resize((width, height), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (size, size))
    square.paste(drawing, ((size - width) // 2, (size - height) // 2))
    return square


def sheet(node_modules: Path, family: str) -> Image.Image:
    """Return the sheet of one family: sprites in the order of `CLASS_NAMES`, 11 a row."""
    rows = -(-len(CLASS_NAMES) // COLUMNS)
    picture = Image.new("RGBA", (COLUMNS * SPRITE_SIZE, rows * SPRITE_SIZE))
    for i, class_name in enumerate(CLASS_NAMES):
        corner = (i % COLUMNS * SPRITE_SIZE, i // COLUMNS * SPRITE_SIZE)
        picture.paste(fit(draw(node_modules, family, class_name)), corner)
    return picture


def main() -> None:
    """Write every family's sheet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--node-modules", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for family in TRAIN_FAMILIES + HELD_OUT_FAMILIES:
        target = options.out / f"sprites-{family}.png"
        part = target.with_suffix(".png.part")
        sheet(options.node_modules, family).save(part, format="PNG", optimize=True)
        os.replace(part, target)


if __name__ == "__main__":
    main()
