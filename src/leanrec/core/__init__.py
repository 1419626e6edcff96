"""Contracts and plain data. Imports nothing else of leanrec."""
