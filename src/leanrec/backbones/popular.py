"""Popular: everyone gets the items that most people have, or had lately. Counted, not trained: the baseline under all others.

    score_i = scale log((c_i + 1) / (sum of c + N))

c_i counts the training events of item i, of the newest days if that is asked for. There is no block; a table of one channel holds
the logarithms, and the state of every user is the same number. A technique that adds what it knows of a user's own items (a table
of followers, say) makes a model without a network of it.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from leanrec.backbones import backbones
from leanrec.core.backbone import Backbone
from leanrec.core.errors import DataError
from leanrec.core.plain import LAST_SECOND
from leanrec.core.ranges import Count, Positive, Whole
from leanrec.core.training_events import TrainingEvents, popularity
from leanrec.items.tables import PlainTable

DAY = 86_400
"""Seconds."""


class PopularConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The items that most people have, for everyone; no network.

    Attributes:
        days: Count the events of so many newest days; 0 counts all.
        scale: Factor of the scores at the start.
        max_length: Longest history read, in events, by what is added to the scores.
    """

    days: Whole = 0
    scale: Positive = 1.0
    max_length: Count = 50


class SameState(nn.Module):
    """In the place of the final norm: states [B, S, 1] that are the same for all.

    Args:
        scale: The state.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor, channels: Tensor | None) -> Tensor:
        return x * 0 + self.weight


@backbones.register("popular", PopularConfig)
class Popular(Backbone):
    """The backbone without a network.

    Args:
        config: What is counted.
        num_items: Items N of the catalogue.
    """

    def __init__(self, config: PopularConfig, num_items: int) -> None:
        super().__init__()
        self.config = config
        self.width, self.max_length = 1, config.max_length
        self.items, self.blocks, self.norm = PlainTable(num_items, 1, 0.0), nn.ModuleList(), SameState(config.scale)

    def count(self, events: TrainingEvents) -> None:
        """Count the events of all items.

        Raises:
            DataError: The newest days are asked for, and the log has no times, or none in seconds.
        """
        found, table = popularity(events, self._since(events)), self.items.matrix
        assert table is not None
        table.data[1:, 0] = torch.from_numpy(found).float()

    def _since(self, events: TrainingEvents) -> int | None:
        if not self.config.days:
            return None
        if events.newest is None or events.newest > LAST_SECOND:
            got = "none" if events.newest is None else f"others, up to {events.newest}"
            raise DataError(
                f"expected times in seconds since 1970 for the newest {self.config.days} days, got {got}; import the log with its "
                "time column in seconds, or take backbone.days=0"
            )
        return events.newest - self.config.days * DAY
