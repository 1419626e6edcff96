"""Shipped runs as TOML. Each says in its first line how to run it."""
