"""leanrec."""
