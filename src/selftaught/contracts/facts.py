"""What is known of the data before training, as sources report it and the plan, modalities and methods use it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Column:
    """One column of a table: kind is numeric, categorical, boolean or date; categories in the order of their codes. form: of dates in
    words, the order of day, month and year ('%d/%m/%Y'); '' for ISO 8601 and for what was stored as dates."""

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    missing: int = 0
    form: str = ""


@dataclass(frozen=True)
class Facts:
    """modality: image, series, table … samples: items in the source. shape: of one item as the network will see it, channels first, without
    the batch: (C, H, W), (C, T), (F,), (T,) for token ids. vocabulary: how many ids there are, else None. lengths: shortest and longest
    where they vary. classes: of the target where one was named, else None. columns: of a table. layout: as it was asked for, else None.
    steps: optimiser steps, set by the engine. notes: sentences a person should read (columns left out, label-like columns, duplicates)."""

    modality: str
    samples: int
    shape: tuple[int, ...]
    lengths: tuple[int, int] | None = None
    classes: int | None = None
    fields: tuple[str, ...] = ("x",)
    columns: tuple[Column, ...] = ()
    steps: int | None = None
    bit_depth: int | None = None
    vocabulary: int | None = None
    notes: tuple[str, ...] = ()
    layout: str | None = None

    @property
    def axes(self) -> int:
        """Along how many axes the patches of an item lie: (C, H, W) two, (C, T) and (T,) one."""
        return max(1, len(self.shape) - 1)

    def with_(self, **changes: Any) -> Facts:
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Facts:
        data = dict(data)
        data["columns"] = tuple(Column(**{**c, "categories": tuple(c["categories"])}) for c in data["columns"])
        for key in ("shape", "fields", "notes"):
            data[key] = tuple(data[key])
        data["lengths"] = tuple(data["lengths"]) if data["lengths"] else None
        return cls(**data)
