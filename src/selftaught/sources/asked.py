"""What the user said besides the data itself."""

from __future__ import annotations

from dataclasses import dataclass

from ..contracts import OptionError


@dataclass(frozen=True)
class Asked:
    """target, group: names of columns or arrays. layout: the axes. modality: image, series or table. least: fewest items."""

    target: str | None = None
    group: str | None = None
    layout: str | None = None
    modality: str | None = None
    least: int = 2

    def no_columns(self, what: object, instead: str) -> None:
        """OptionError where a target or group was named for something without columns; `instead` says what to do."""
        word = self.target or self.group
        if word is not None:
            raise OptionError(f"{what} has no column '{word}' to take a {'target' if self.target else 'group'} from: "
                              f"{instead}.")
