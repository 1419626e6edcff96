from __future__ import annotations

import torch

from leanrec.layers.transformer import sinusoids


def test_one_event_further_is_the_same_rotation_everywhere() -> None:
    table = sinusoids(50, 12).double()
    products = table @ table.t()
    for distance in (1, 7):
        band = products.diagonal(distance)
        torch.testing.assert_close(band, band[:1].expand_as(band), atol=1e-4, rtol=0)
    torch.testing.assert_close(table.square().mean(1), torch.ones(50, dtype=torch.float64), atol=1e-5, rtol=0)
