"""The simulated shop: a store in which the true next-item distribution of every user is known.

It is the default input of the demo and an instrument. Three kinds of users need models of different power, so a
model can be held against the best reachable ranking (`ceiling`) and a router against one that knows every user's
kind (`oracle_saving`). `shop` holds the rules, `generate` draws histories from them, `oracle` reads a store back.
"""

from leanrec.data.simulate.generate import simulate
from leanrec.data.simulate.oracle import Oracle, ceiling, oracle_saving
from leanrec.data.simulate.shop import KINDS, Shop

__all__ = ["KINDS", "Oracle", "Shop", "ceiling", "oracle_saving", "simulate"]
