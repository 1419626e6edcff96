"""The rules of the simulated shop: three departments, three kinds of users, and what each kind buys next.

Every kind shops in a department of its own, so a user's kind shows in the first purchases:

- **habit** (pantry): the next item goes with the last one. Every item has a few known companions.
- **memory** (household): a collector who buys objects in turn, a mug, a lamp, a bowl, ... and after ``rooms`` of them
  a mug again. The next mug goes with the *last mug*, a whole turn back, whatever came in between.
- **composer** (wardrobe): buys outfits, a top, then bottoms, then shoes. The next piece goes with *both* pieces before
  it: its material follows from the colour of the other one, and its colour from the last one's colour together with
  the other one's material, by a Latin square: one of the two alone says nothing.

With probability ``noise`` a user buys anything from the department by popularity instead, with probability ``stray``
anything from the whole shop. Where a rule lacks its inputs (nothing of that sort bought yet, or the last item came from
another department) the department's popularity takes its place. Popularity is long-tailed (Zipf in every department).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import msgspec
import numpy as np

from leanrec.core.errors import ConfigError
from leanrec.data.simulate import names

KINDS = ("habit", "memory", "composer")
HABIT, MEMORY, COMPOSER = range(3)
_PIECES = len(names.PIECES)


class Shop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a simulated shop; equal parameters give the same shop and the same histories.

    Attributes:
        users: Number of users.
        items: Number of items on offer; those that nobody buys do not reach the store.
        shares: Share of users, and of items, of each kind: habit, memory, composer.
        min_length: Purchases of the shortest history.
        mean_length: Mean purchases of a history before the cut at ``max_length``.
        max_length: Purchases of the longest history.
        noise: Probability of a purchase by popularity in the user's department.
        stray: Probability of a purchase by popularity in the whole shop.
        zipf: Exponent of the popularity of items by rank.
        follow: Probabilities of the companions of an item, for habit and memory users.
        rooms: Objects that a memory user buys in turn, so the distance of the item that matters.
        colours: Colours, and as many materials, in the wardrobe.
        seed: Seed of the shop and of its users.
    """

    users: int = 2000
    items: int = 500
    shares: tuple[float, float, float] = (0.4, 0.3, 0.3)
    min_length: int = 14
    mean_length: float = 30.0
    max_length: int = 50
    noise: float = 0.08
    stray: float = 0.02
    zipf: float = 0.8
    follow: tuple[float, ...] = (0.6, 0.25, 0.15)
    rooms: int = 8
    colours: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        pantry, household, wardrobe = self.department_sizes()
        companions, outfits = len(self.follow), _PIECES * self.colours**2
        lengths = (self.min_length, self.mean_length, self.max_length)
        checks = (
            (self.users >= 1, f"users of at least 1, got {self.users}"),
            (is_distribution(self.shares), f"shares that sum to 1, got {self.shares}"),
            (
                3 <= lengths[0] <= lengths[1] <= lengths[2],
                f"3 <= min_length <= mean_length <= max_length, got {', '.join(map(str, lengths))}",
            ),
            (
                min(self.noise, self.stray) >= 0 and self.noise + self.stray <= 1,
                f"noise and stray to be probabilities with a sum of at most 1, got {self.noise} and {self.stray}",
            ),
            (is_distribution(self.follow), f"follow that sums to 1, got {self.follow}"),
            (0 <= self.zipf <= 3, f"zipf between 0 and 3, got {self.zipf}"),
            (1 <= self.rooms <= len(names.OBJECTS), f"1 to {len(names.OBJECTS)} rooms, got {self.rooms}"),
            (2 <= self.colours <= len(names.COLOURS), f"2 to {len(names.COLOURS)} colours, got {self.colours}"),
            (not 0 < pantry <= companions, f"more than {companions} items in the pantry, got {pantry}"),
            (
                not 0 < household < self.rooms * (companions + 1),
                f"at least {self.rooms * (companions + 1)} items in the household department, got {household}",
            ),
            (not 0 < wardrobe < outfits, f"at least {outfits} items in the wardrobe, got {wardrobe}"),
        )
        for fine, expected in checks:
            if not fine:
                raise ConfigError(f"simulated shop: expected {expected}")

    def department_sizes(self) -> list[int]:
        """Items of each department; the sizes sum to ``items``."""
        return apportion(self.items, self.shares)


def is_distribution(values: tuple[float, ...]) -> bool:
    """Whether these are probabilities that sum to 1."""
    return len(values) > 0 and min(values) >= 0 and math.isclose(sum(values), 1)


def apportion(total: int, shares: tuple[float, ...]) -> list[int]:
    """Split a number by shares into whole parts that sum to it."""
    edges = np.rint(np.cumsum(shares) * total).astype(int)
    return np.diff(edges, prepend=0).tolist()


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """A shop made concrete. Items are numbered 0..N-1 department by department; -1 stands for "no item".

    Attributes:
        shop: The parameters.
        titles: Title of every item.
        department: int [N], index into `KINDS`.
        popularity: float [N], sums to 1 over the shop.
        turn: int [N], the object (household) or the piece (wardrobe) that an item is; 0 in the pantry.
        companions: int [N, F], what goes with each pantry or household item.
        colour: int [N], 0 outside the wardrobe.
        material: int [N], 0 outside the wardrobe.
        next_colour: int [colours, colours], a Latin square: by the last piece's colour and the other one's material.
        next_material: int [colours], by the other piece's colour.
        cells: int [pieces, colours, colours, C], the items of each piece, colour and material, padded with any item.
        cell_weights: float, shaped like ``cells``, their probabilities, 0 for padding.
    """

    shop: Shop
    titles: tuple[str, ...]
    department: np.ndarray
    popularity: np.ndarray
    turn: np.ndarray
    companions: np.ndarray
    colour: np.ndarray
    material: np.ndarray
    next_colour: np.ndarray
    next_material: np.ndarray
    cells: np.ndarray
    cell_weights: np.ndarray

    def shelves(self, kind: int) -> np.ndarray:
        """float [1 + turns, N]: popularity in the kind's department and, from row 1 on, within each of its turns."""
        turns = np.arange(self.turn[self.department == kind].max() + 1)
        inside = self.department == kind
        weights = self.popularity * np.stack([inside, *(inside & (self.turn == turn) for turn in turns)])
        return weights / weights.sum(axis=1, keepdims=True)

    def rule(self, kind: int, history: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the kind's rule says about the next item.

        Args:
            kind: Index into `KINDS`.
            history: int [B, T], the newest item last, -1 on the left where the history is shorter; T at least 1.

        Returns:
            Candidates, int [B, C]; their probabilities, float [B, C], a row of zeros where the rule lacks an input; and
            the row of `shelves`, int [B], that the item is then taken from.
        """
        last = history[:, -1]
        if kind == COMPOSER:
            other = self._newest_of_turn(kind, history, (self.turn[last] + _PIECES - 1) % _PIECES)
            cell = (
                (self.turn[last] + 1) % _PIECES,
                self.next_colour[self.colour[last], self.material[other]],
                self.next_material[self.colour[other]],
            )
            inputs, candidates, weights = np.stack([last, other]), self.cells[cell], self.cell_weights[cell]
        else:
            source = last
            if kind == MEMORY:
                source = self._newest_of_turn(kind, history, (self.turn[last] + 1) % self.shop.rooms)
            inputs, candidates = np.stack([last, source]), self.companions[source]
            weights = np.broadcast_to(self.shop.follow, candidates.shape)
        own = (inputs >= 0) & (self.department[inputs] == kind)
        turns = (1, self.shop.rooms, _PIECES)[kind]
        shelf = np.where(own[0], 1 + (self.turn[last] + 1) % turns, 0)
        return candidates, weights * own.all(axis=0)[:, None], shelf

    def _newest_of_turn(self, kind: int, history: np.ndarray, turn: np.ndarray) -> np.ndarray:
        """int [B], each history's newest item of the kind's department with the wanted turn, or -1."""
        fits = (history >= 0) & (self.department[history] == kind) & (self.turn[history] == turn[:, None])
        newest = history.shape[1] - 1 - fits[:, ::-1].argmax(axis=1)
        return np.where(fits.any(axis=1), history[np.arange(len(history)), newest], -1)


@lru_cache(maxsize=4)
def open_shop(shop: Shop) -> World:
    """Build the shop's items and rules from its parameters."""
    rng = np.random.default_rng([shop.seed, 0])
    sizes = shop.department_sizes()
    bounds = np.cumsum([0, *sizes])
    pantry, household, wardrobe = (np.arange(a, b) for a, b in pairwise(bounds))
    popularity = np.concatenate(
        [share * _zipf(size, shop.zipf, rng) for size, share in zip(sizes, shop.shares, strict=True)]
    )
    turn, colour, material = np.zeros((3, shop.items), dtype=np.int64)
    turn[household] = _deal(popularity[household], shop.rooms, rng)
    cell = _deal(popularity[wardrobe], _PIECES * shop.colours**2, rng)
    turn[wardrobe], colour[wardrobe], material[wardrobe] = np.unravel_index(cell, (_PIECES, shop.colours, shop.colours))
    companions = np.zeros((shop.items, len(shop.follow)), dtype=np.int64)
    for group in (pantry, *(household[turn[household] == room] for room in range(shop.rooms))):
        companions[group] = group[_companions(popularity[group], len(shop.follow), rng)]
    cells, weights = _cells(shop, wardrobe, cell, popularity)
    return World(
        shop=shop,
        titles=_titles(sizes, turn, colour, material, rng),
        department=np.repeat(np.arange(3), sizes),
        popularity=popularity,
        turn=turn,
        companions=companions,
        colour=colour,
        material=material,
        next_colour=_latin(shop.colours, rng),
        next_material=rng.permutation(shop.colours),
        cells=cells,
        cell_weights=weights,
    )


def _zipf(size: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """float [size], popularity by a random rank; sums to 1."""
    weights = 1.0 / np.arange(1, size + 1) ** exponent
    return rng.permutation(weights) / weights.sum()


def _deal(popularity: np.ndarray, groups: int, rng: np.random.Generator) -> np.ndarray:
    """int, the group of every item, dealt in turn from the most popular on, so that groups are alike."""
    dealt = np.empty(len(popularity), dtype=np.int64)
    dealt[np.argsort(-popularity)] = rng.permutation(groups)[np.arange(len(popularity)) % groups]
    return dealt


def _companions(popularity: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """int [G, count]: for each item of a group, different others of it, popular ones more often (by the root)."""
    cumulative = np.cumsum(np.sqrt(popularity))
    drawn, wrong = np.zeros((len(popularity), count), dtype=np.int64), np.arange(len(popularity))
    while len(wrong):
        drawn[wrong] = np.searchsorted(cumulative, rng.random((len(wrong), count)) * cumulative[-1], side="right")
        together = np.sort(np.column_stack([drawn[wrong], wrong]), axis=1)
        wrong = wrong[(np.diff(together, axis=1) == 0).any(axis=1)]
    return drawn


def _cells(shop: Shop, wardrobe: np.ndarray, cell: np.ndarray, popularity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The wardrobe's items by cell and their probabilities, both [pieces, colours, colours, C]."""
    number = _PIECES * shop.colours**2
    cells = np.zeros((number, -(-len(wardrobe) // number)), dtype=np.int64)
    weights = np.zeros(cells.shape)
    for index in range(number if len(wardrobe) else 0):
        inside = wardrobe[cell == index]
        cells[index, : len(inside)] = inside
        weights[index, : len(inside)] = popularity[inside] / popularity[inside].sum()
    shape = (_PIECES, shop.colours, shop.colours, -1 if len(wardrobe) else 0)
    return cells.reshape(shape), weights.reshape(shape)


def _latin(size: int, rng: np.random.Generator) -> np.ndarray:
    """A scrambled addition table [size, size]: neither index alone says anything about the value."""
    return rng.permutation(size)[np.add.outer(rng.permutation(size), rng.permutation(size)) % size]


def _titles(
    sizes: list[int], turn: np.ndarray, colour: np.ndarray, material: np.ndarray, rng: np.random.Generator
) -> tuple[str, ...]:
    """Three words for each item; the last tells the object or the piece, the others colour and material."""
    foods = names.shuffled(names.FLAVOURS, names.FOODS, rng)
    stuffs = names.shuffled(names.FINISHES, names.STUFFS, rng)
    titles = [f"{foods[i % len(foods)]} {names.FORMS[i % len(names.FORMS)]}" for i in range(sizes[HABIT])]
    titles += [f"{stuffs[i % len(stuffs)]} {names.OBJECTS[turn[sizes[HABIT] + i]]}" for i in range(sizes[MEMORY])]
    for item in range(len(titles), sum(sizes)):
        nouns = names.PIECES[turn[item]]
        noun = nouns[rng.integers(len(nouns))]
        titles.append(f"{names.COLOURS[colour[item]]} {names.MATERIALS[material[item]]} {noun}")
    return tuple(names.make_distinct(titles))
