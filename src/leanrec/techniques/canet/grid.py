"""A grid of routes: hidden sizes x depths x embedding sizes, as prefixes of one network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from leanrec.core.backbone import Backbone
from leanrec.core.errors import ConfigError
from leanrec.core.types import FULL, Gates, Route


class RouteGrid(nn.Module):
    """The K routes of a grid, in the order of CANet's code: hidden size outermost, then depth, embedding size innermost.

    Route k = (h * len(depths) + n) * len(embs) + e for the h-th width, n-th depth and e-th embedding size; the first route is
    the smallest and the last one the whole model. Without a projection between embedding and hidden channels an embedding
    larger than the width is the same sub-model as one of the width; such routes are left out and the others keep their order.

    Args:
        backbone: What the routes are taken from.
        widths: Hidden sizes, ascending, the last one the backbone's.
        depths: Numbers of blocks, ascending, the last one the backbone's; a route runs the first of them.
        embs: Embedding sizes, ascending, the last one the item table's.
        projected: Whether embedding and hidden channels differ.

    Raises:
        ConfigError: A list breaks a rule; the message names a list that would work.
    """

    def __init__(
        self, backbone: Backbone, widths: Sequence[int], depths: Sequence[int], embs: Sequence[int], projected: bool
    ) -> None:
        super().__init__()
        check_sizes("widths", widths, backbone.width, backbone.heads)
        check_sizes("depths", depths, len(backbone.blocks), 1)
        check_sizes("embs", embs, backbone.items.dim, 1)
        self.widths, self.depths, self.embs = tuple(widths), tuple(depths), tuple(embs)
        self.index = [
            (h, n, e)
            for h in range(len(widths))
            for n in range(len(depths))
            for e in range(len(embs))
            if projected or embs[e] <= widths[h] or e == 0
        ]
        self.routes = tuple(self._route(*parts) for parts in self.index)
        for name, part, sizes in (("h", 0, widths), ("n", 1, depths), ("e", 2, embs)):
            member = torch.tensor([[float(parts[part] == i) for parts in self.index] for i in range(len(sizes))])
            self.register_buffer(f"in_{name}", member, persistent=False)  # [sizes, K]: which routes have which size
            prefix = torch.arange(sizes[-1]) < torch.tensor(sizes)[:, None]
            self.register_buffer(f"open_{name}", prefix.float(), persistent=False)  # [sizes, channels or blocks]

    def _route(self, h: int, n: int, e: int) -> Route:
        width, depth, emb = self.widths[h], self.depths[n], self.embs[e]
        if (width, depth, emb) == (self.widths[-1], self.depths[-1], self.embs[-1]):
            return FULL
        return Route(emb, width, tuple(range(depth)))

    def gates(self, choice: Tensor) -> Gates:
        """Masks of one route per user or step: one-hot float [B, S, K] to gates; gradients reach ``choice``."""

        def opened(name: str) -> Tensor:
            return choice @ self.get_buffer(f"in_{name}").t() @ self.get_buffer(f"open_{name}")

        return Gates(emb=opened("e"), width=opened("h"), layers=opened("n"))

    def marginals(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(emb), log p(width) and log p(depth), [B, sizes] each, of routes with logits [B, K]."""
        log_p = logits.log_softmax(-1)
        absent = [self.get_buffer(f"in_{name}").log() for name in "ehn"]  # log 0 = -inf leaves a route out
        emb, width, depth = ((log_p[:, None] + outside).logsumexp(-1) for outside in absent)
        return emb, width, depth


def check_sizes(name: str, sizes: Sequence[int], whole: int, multiple: int) -> None:
    """Refuse sizes that are no ascending prefixes of a whole.

    Raises:
        ConfigError: Naming the rule that was broken and a list that would work.
    """
    works = sorted({min(whole, max(multiple, size // multiple * multiple)) for size in sizes} | {whole})
    rules = (
        (all(size % multiple == 0 for size in sizes), f"multiples of backbone.heads ({multiple})"),
        (list(sizes) == sorted(set(sizes)), "ascending sizes, each once"),
        (bool(sizes) and sizes[-1] == whole, f"sizes that end with the whole model's, {whole}"),
    )
    for kept, rule in rules:
        if not kept:
            raise ConfigError(f"expected {rule} in technique.canet.{name}, got {list(sizes)}; {works} would work")


def shares(whole: int, multiple: int, parts: Sequence[float]) -> tuple[int, ...]:
    """Ascending sizes of about these shares of ``whole``, multiples of ``multiple``, ``whole`` last."""
    sizes = {max(multiple, int(whole * part) // multiple * multiple) for part in parts}
    return tuple(sorted(sizes | {whole}))
