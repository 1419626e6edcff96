"""CANet: one person, one model (Liu et al., ICDM 2022, arXiv 2211.02824)."""

from leanrec.techniques.canet.technique import CANetConfig, CANetTechnique

__all__ = ["CANetConfig", "CANetTechnique"]
