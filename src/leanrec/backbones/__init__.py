"""Backbones, one file each. Importing a module registers it."""

from leanrec.core.backbone import Backbone
from leanrec.core.registry import Registry

backbones: Registry[Backbone] = Registry("backbone", "leanrec.backbones", "leanrec.backbones")
