"""Ranges of configuration values; a value outside is refused with its path.

Counts have upper ends far above any use, so that a damaged or hostile configuration asks for no endless work.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Few = Annotated[int, msgspec.Meta(ge=1, le=1024)]
Listed = msgspec.Meta(max_length=16)
"""Of lists whose every combination is a route."""
Count = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Whole = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Many = Annotated[int, msgspec.Meta(ge=1, le=2**62)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Chance = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**20)]
