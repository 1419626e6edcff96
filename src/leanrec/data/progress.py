"""How long steps tell how far they are."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[int, int], None]
"""Called with (done, total)."""
OnStageProgress = Callable[[str, int, int], None]
"""Called with (name of the stage, done, total)."""
