"""Techniques, a folder each. Importing one registers it."""

from leanrec.core.registry import Registry
from leanrec.core.technique import Technique

techniques: Registry[Technique] = Registry("technique", "leanrec.techniques", "leanrec.techniques")


def filling(slot: str) -> list[str]:
    """Names of the techniques that fill a slot of a recommender; see `Technique.fills`."""
    return [
        name for name in techniques.names() if slot in techniques.get(name).build(techniques.get(name).config()).fills
    ]
