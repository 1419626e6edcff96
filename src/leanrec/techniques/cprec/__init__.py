"""CpRec: item table and softmax in blocks by popularity, layers that share weights (Sun et al., SIGIR 2020, arXiv 2004.13139)."""

from leanrec.techniques.cprec.technique import CpRecConfig, CpRecTechnique

__all__ = ["CpRecConfig", "CpRecTechnique"]
