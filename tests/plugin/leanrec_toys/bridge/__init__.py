"""A technique: a learned map from states to item vectors."""

from leanrec_toys.bridge.technique import Bridge, BridgeConfig

__all__ = ["Bridge", "BridgeConfig"]
