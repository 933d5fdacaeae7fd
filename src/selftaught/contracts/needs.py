"""What a method asks of a modality: which views of each item, and which abilities of the backbone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Need:
    """Base of all needs. `backbone` names abilities that the backbone must have ('tokens', 'keep', 'layers')."""

    backbone: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ("x",)
    what: ClassVar[str] = "views"


@dataclass(frozen=True)
class Clean(Need):
    """One view, as evaluation sees the item: no randomness. role: clean."""

    what: ClassVar[str] = "the item as it is"


@dataclass(frozen=True)
class Single(Need):
    """One augmented view. `strength` is 'weak' (supervised training) or 'strong' (DIET)."""

    strength: str = "strong"
    what: ClassVar[str] = "one augmented view"


@dataclass(frozen=True)
class Pair(Need):
    """Two augmented views of each item. `asymmetric`: the two sides have distributions of their own (BYOL's blur and solarise)."""

    asymmetric: bool = False
    what: ClassVar[str] = "two augmented views"


@dataclass(frozen=True)
class MultiCrop(Need):
    """`large` views with role 'global', then `small` ones with role 'local' (SwAV, DINO). Scales are fractions of the area."""

    large: int = 2
    small: int = 6
    large_scale: tuple[float, float] = (0.14, 1.0)
    small_scale: tuple[float, float] = (0.05, 0.14)
    asymmetric: bool = False
    what: ClassVar[str] = "large and small crops"
