"""What the user said besides the data itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from ..contracts import OptionError


@dataclass(frozen=True)
class Asked:
    """target, group: names of columns or arrays. layout: the axes. modality: image, series or table. least: fewest items.
    read_as: how the target is read, number or class, where it was named NAME:number or NAME:class."""

    target: str | None = None
    group: str | None = None
    layout: str | None = None
    modality: str | None = None
    least: int = 2
    read_as: str | None = None

    def among(self, names: Collection[str]) -> Asked:
        """The same with a target NAME:number or NAME:class taken apart, unless one of the names is written so."""
        name, _, read_as = (self.target or "").rpartition(":")
        taken = self.target not in names and name and read_as in ("number", "class")
        return replace(self, target=name, read_as=read_as) if taken else self

    def no_columns(self, what: object, instead: str) -> None:
        """OptionError where a target or group was named for something without columns; `instead` says what to do."""
        word = self.target or self.group
        if word is not None:
            raise OptionError(f"{what} has no column '{word}' to take a {'target' if self.target else 'group'} from: "
                              f"{instead}.")
