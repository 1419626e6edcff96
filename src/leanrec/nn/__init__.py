"""Bricks that honour full, prefix-sliced and masked width."""
