"""Reads the items of some slots of an epoch, and gives the slot of a bad item to another one by a rule that everyone shares."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..contracts import BadItem, Source, replacement

_ATTEMPTS = 1000

Items = dict[str, np.ndarray] | list[dict[str, np.ndarray]]


@dataclass
class Rows:
    """What is asked for: slot, epoch, index int64 [b]."""

    slot: np.ndarray
    epoch: np.ndarray
    index: np.ndarray

    def at(self, places: np.ndarray) -> Rows:
        return Rows(self.slot[places], self.epoch[places], self.index[places])


@dataclass
class Read:
    """What came of it: items in order (fields stacked where the source is uniform), the index int64 [b] of each after refilling, and
    (index, reason) of the bad ones. `items` is short where the reader gave up: too many were bad."""

    items: Items
    index: np.ndarray
    bad: list[tuple[int, str]] = field(default_factory=list)
    gave_up: bool = False


def read_rows(source: Source, rows: Rows, *, seed: int, stream: str, tolerance: float) -> Read:
    """Reads every row; a bad item's slot goes to contracts.replacement(seed, stream, epoch, slot, attempt, N) for attempt = 0, 1, …
    until one is good. Gives up after more than `tolerance` bad items in these rows alone. A pure function of the files."""
    items: list[dict[str, np.ndarray]] = []
    bad: dict[int, str] = {}
    final = np.array(rows.index, dtype=np.int64)
    for place in range(len(final)):
        wanted, attempt = int(final[place]), 0
        while (item := _try(source, wanted, bad)) is None:
            if len(bad) > tolerance or attempt == _ATTEMPTS:
                return Read([], final[:place], list(bad.items()), gave_up=True)
            wanted = replacement(seed, stream, int(rows.epoch[place]), int(rows.slot[place]), attempt, len(source))
            attempt += 1
        items.append(item)
        final[place] = wanted
    return Read(stack(items) if is_uniform(source) else items, final, list(bad.items()))


def _try(source: Source, index: int, bad: dict[int, str]) -> dict[str, np.ndarray] | None:
    """The item, or None with its reason in `bad`."""
    if index in bad:
        return None
    try:
        return source.read(index)
    except BadItem as reason:
        bad[index] = reason.reason
        return None


def stack(items: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Items of equal shapes → field → [b, ...]."""
    return {name: np.stack([item[name] for item in items]) for name in items[0]} if items else {}


def is_uniform(source: Source) -> bool:
    """True where all items have the same fields, shapes and dtypes (images on a canvas), a subset being as its base."""
    return bool(getattr(innermost(source)[0], "uniform", False))


def innermost(source: Source) -> tuple[Source, np.ndarray | None]:
    """The source that a subset of a subset … is made of, and int64 [n] the places of its items there (None: all, in order)."""
    places = None
    while hasattr(source, "base") and hasattr(source, "indices"):
        places = source.indices if places is None else source.indices[places]
        source = source.base
    return source, places
