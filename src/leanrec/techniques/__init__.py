"""Techniques, one file or package each. Importing a module registers it."""

from leanrec.core.registry import Registry
from leanrec.core.technique import Technique

techniques: Registry[Technique] = Registry("technique", "leanrec.techniques", "leanrec.techniques")
