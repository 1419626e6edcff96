"""Layers of encoders, which honour full, prefix-sliced and masked width. They name no technique."""
