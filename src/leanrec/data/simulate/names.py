"""Readable item titles of the simulated shop, such as "Painted Brass Mug"."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np


def _words(text: str) -> list[str]:
    return text.split()


FLAVOURS = _words(
    "Roasted Smoked Sweet Spicy Organic Salted Crunchy Fresh Dried Creamy Golden Wild Mild Toasted Honeyed Bitter "
    "Rustic Spiced Tangy Whole"
)
FOODS = _words(
    "Almond Tomato Barley Lemon Olive Walnut Apple Ginger Pepper Cherry Oat Sesame Chestnut Mint Plum Garlic Cocoa "
    "Coconut Rice Fig"
)
FORMS = _words("Soup Bread Tea Sauce Crackers Jam Pasta Oil Cereal Cookies Spread Salad Juice Granola Dip Stew")

FINISHES = _words(
    "Glazed Polished Matte Brushed Engraved Painted Striped Folding Compact Rounded Tall Small Large Antique Modern "
    "Woven Frosted Carved Stackable Plain"
)
STUFFS = _words(
    "Ceramic Oak Steel Glass Copper Walnut Marble Brass Clay Pine Iron Stone Porcelain Rattan Tin Cork Enamel Birch "
    "Granite Slate"
)
OBJECTS = _words("Mug Lamp Bowl Vase Tray Stool Clock Basket Plate Shelf Kettle Candle Jar Frame Box Jug")

COLOURS = _words("Blue Red Green Black White Yellow Purple Orange Pink Grey Brown Violet")
MATERIALS = _words("Linen Wool Cotton Denim Silk Velvet Leather Canvas Cashmere Satin Suede Fleece")
PIECES = (
    _words("Shirt Jumper Blouse Jacket Vest Coat Cardigan Tunic"),
    _words("Trousers Skirt Shorts Jeans Leggings Chinos Culottes Kilt"),
    _words("Boots Sandals Sneakers Slippers Loafers Clogs Pumps Moccasins"),
)


def shuffled(first: Sequence[str], second: Sequence[str], rng: np.random.Generator) -> list[str]:
    """All pairs of two words, in random order."""
    pairs = [f"{a} {b}" for a, b in product(first, second)]
    return [pairs[i] for i in rng.permutation(len(pairs))]


def make_distinct(titles: Sequence[str]) -> list[str]:
    """Number the second and later items of the same title: "Blue Wool Coat", "Blue Wool Coat No. 2"."""
    seen: dict[str, int] = {}
    numbered = []
    for title in titles:
        seen[title] = seen.get(title, 0) + 1
        numbered.append(title if seen[title] == 1 else f"{title} No. {seen[title]}")
    return numbered


def slug(title: str) -> str:
    """The item key of a title: "Painted Brass Mug" is sold as "painted-brass-mug"."""
    return title.lower().replace(". ", "-").replace(" ", "-")
