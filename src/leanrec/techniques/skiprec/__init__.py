"""SkipRec: skip, per user, the blocks of a very deep model (Chen et al., AAAI 2021, doi 10.1609/aaai.v35i5.16518)."""

from leanrec.techniques.skiprec.technique import SkipRecConfig, SkipRecTechnique

__all__ = ["SkipRecConfig", "SkipRecTechnique"]
