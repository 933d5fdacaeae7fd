"""What the rest of the house asks of a source of data. Sources turn bytes into NumPy arrays and know nothing of losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .facts import Facts

if TYPE_CHECKING:
    import numpy as np


class Source:
    """N items that can be read by index.

    modality: its name. facts: what is known (shape as stored, before the plan chose a resolution). labels: int64 [N] (−1 =
    unlabelled) or float [N], or None; only where the user named a target or the folder has classes, and pretraining never
    reads it. classes: names of the label values. groups: [N] or None, ids that splits must not tear apart. resident: items
    lie in memory, so `take` gathers them without workers. decodes: reading an item is work that workers may share. Some
    sources also have `set_canvas(side)` (images: the square that items are stretched to) and `align(columns)` (tables, series: give
    the columns of training, in their order).
    """

    modality: str
    facts: Facts
    labels: np.ndarray | None = None
    classes: list[str] | None = None
    groups: np.ndarray | None = None
    resident: bool = False
    decodes: bool = True

    def __len__(self) -> int:
        return self.facts.samples

    def read(self, index: int) -> dict[str, np.ndarray]:
        """One item: field → array. Raises BadItem with the reason when it cannot be decoded."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to read an item")

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Many items of a resident source at once: field → array [len(indices), ...] (object array where lengths vary)."""
        raise NotImplementedError(f"{type(self).__name__} is not resident")

    def name(self, index: int) -> str:
        """Path or row of an item, for messages and predictions."""
        return f"row {index}"

    def fingerprint(self) -> str:
        """A short hash of the data's identity (names, sizes, times; contents where resident), to refuse a changed source."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to tell that it changed")
