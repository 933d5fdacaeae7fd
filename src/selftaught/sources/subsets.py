"""Some items of a source, or the same items with other labels: label budgets, splits, corrected labels."""

from __future__ import annotations

import numpy as np

from ..contracts import Column, DataError, OptionError, Source
from .fingerprints import fingerprint_of


class Subset(Source):
    """The items of `base` at `indices`, in that order; labels, classes and groups are the base's unless given.

    indices: int64 [n] places in the base (repeats allowed). labels: [n]. groups: [n].
    """

    def __init__(self, base: Source, indices: np.ndarray, *, labels: np.ndarray | None = None, classes: list[str] | None = None,
                 groups: np.ndarray | None = None):
        indices = np.asarray(indices)
        if indices.dtype == bool:
            if indices.shape != (len(base),):
                raise DataError(f"The mask of a subset has shape {indices.shape} for {len(base)} items: give one truth value "
                                "an item.")
            indices = np.flatnonzero(indices)
        indices = indices.astype(np.int64).reshape(-1)
        if len(indices) and not (0 <= indices.min() and indices.max() < len(base)):
            raise DataError(f"A subset asks for item {indices.max() if indices.min() >= 0 else indices.min()} of {len(base)}: "
                            f"indices run from 0 to {len(base) - 1}.")
        self.base, self.indices = base, indices
        self.modality = base.modality
        self.labels = _rows(base.labels, indices) if labels is None else _checked(labels, len(indices), "labels")
        self.classes = classes if classes is not None else base.classes if labels is None or _integral(labels) else None
        self.groups = _rows(base.groups, indices) if groups is None else _checked(groups, len(indices), "groups")

    @property
    def facts(self):
        classes = len(self.classes) if self.classes is not None and self.labels is not None else None
        return self.base.facts.with_(samples=len(self.indices), classes=classes)

    @property
    def resident(self) -> bool:
        return self.base.resident

    @property
    def decodes(self) -> bool:
        return self.base.decodes

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> dict[str, np.ndarray]:
        return self.base.read(int(self.indices[index]))

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        return self.base.take(self.indices[indices])

    def name(self, index: int) -> str:
        return self.base.name(int(self.indices[index]))

    def fingerprint(self) -> str:
        return fingerprint_of(self.base.fingerprint(), self.indices)

    def set_canvas(self, side: int) -> None:
        """Images: the side of the square canvas, handed on to the base."""
        self.base.set_canvas(side)

    def set_reach(self, count: int) -> None:
        """Packed texts: bytes that an item holds at least, handed on to the base."""
        self.base.set_reach(count)

    def align(self, columns: tuple[Column, ...]) -> Subset:
        """Tables and series: takes the columns of a training source, in the base and so in all of its subsets; gives itself."""
        self.base.align(columns)
        return self


def subset(source: Source, indices: np.ndarray) -> Source:
    """The items of `source` at `indices` (int64 [n], or a truth value an item)."""
    return Subset(source, indices)


def with_labels(source: Source, labels: np.ndarray, classes: list[str] | None = None) -> Source:
    """The same items with other labels: int64 [N] (−1 = unlabelled) or float [N]. `classes` None keeps the source's names."""
    return Subset(source, np.arange(len(source)), labels=labels, classes=classes)


def align_classes(source: Source, classes: list[str] | None) -> Source:
    """The same items with labels counted in the order of `classes` (a training source's), so that class 2 is class 2 in both.

    Raises OptionError where the source has a class that `classes` has not."""
    if source.labels is None or classes is None or source.classes is None or list(source.classes) == list(classes):
        return source
    place = {name: i for i, name in enumerate(classes)}
    present = np.unique(source.labels[source.labels >= 0])
    strange = [source.classes[i] for i in present if source.classes[i] not in place]
    if strange:
        raise OptionError(f"The class '{strange[0]}' is not among the training classes ({', '.join(classes[:12])}"
                          f"{' …' if len(classes) > 12 else ''}): leave its items out or name another --target.")
    table = np.array([place.get(name, -1) for name in source.classes] + [-1], dtype=np.int64)
    return with_labels(source, table[source.labels], list(classes))


def _integral(labels: np.ndarray) -> bool:
    return np.asarray(labels).dtype.kind in "iu"


def _rows(values: np.ndarray | None, indices: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[indices]


def _checked(values: np.ndarray, count: int, what: str) -> np.ndarray:
    values = np.asarray(values)
    if values.shape[:1] != (count,):
        raise DataError(f"There are {len(values) if values.ndim else 1} {what} for {count} items: give one an item.")
    return values
