"""AdaRec: a student whose architecture is searched while it learns from a teacher (Chen et al., 2021, arXiv 2107.07173)."""

from leanrec.techniques.adarec.technique import AdaRecConfig, AdaRecTechnique

__all__ = ["AdaRecConfig", "AdaRecTechnique"]
