"""Memory: a table of which item follows which, counted and not trained, beside a network."""

from leanrec.techniques.memory.config import MemoryConfig
from leanrec.techniques.memory.technique import MemoryTechnique

__all__ = ["MemoryConfig", "MemoryTechnique"]
