"""Objectives: what a model is trained on. One file each; importing it registers it.

An objective is a frozen config, and a function that builds an `Objective` from it and the catalogue.
"""

from leanrec.core.recommender import Objective
from leanrec.core.registry import Registry

objectives: Registry[Objective] = Registry("objective", "leanrec.objectives", "leanrec.objectives")
