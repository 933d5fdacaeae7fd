"""What a method asks of a modality: which views of each item, and which abilities of the backbone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

TRANSFORM_WIDTH = 8
STATISTICS = {"motion": 14, "appearance": 13}


@dataclass(frozen=True)
class Mask:
    """What is hidden of every view but the local ones, as `View.masks` on the backbone's grid of tokens.

    kind: 'random' (any tokens), 'block' (one box), 'span' (many boxes, which may overlap: stretches of a series, blocks of an
    image), 'islands' (all but such boxes) or 'tube' (places hidden at all steps of the first of three axes). ratio: the part that
    is hidden, drawn between these once a step, so that all samples hide equally many. count: masks of a view. size: tokens along
    the sides of the boxes of a span, and of the cells in which random tokens come. context: where given, all masks of a view
    leave one set of tokens in common, outside every mask: this part (drawn once a step) of as many as masks apart would leave.
    """

    kind: str = "random"
    ratio: tuple[float, float] = (0.75, 0.75)
    count: int = 1
    size: int = 1
    context: tuple[float, float] | None = None


@dataclass(frozen=True)
class Need:
    """Base of all needs. `backbone` names abilities that the backbone must have ('tokens', 'keep', 'layers'); `mask` what is
    hidden of the views on the grid of its tokens."""

    backbone: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ("x",)
    mask: Mask | None = None
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
    """`count` augmented views of each item. `asymmetric`: even and odd ones have distributions of their own (BYOL's blur and
    solarise). `known`: every view bears in `applied["transform"]` (float [B, TRANSFORM_WIDTH], zeros at the end where fewer are
    drawn) what was done to it, roughly in −1 to 1, for methods that predict across a known transformation."""

    asymmetric: bool = False
    count: int = 2
    known: bool = False
    what: ClassVar[str] = "augmented views of each item"


@dataclass(frozen=True)
class Transformed(Need):
    """Views whose discrete transformation is to be told, its number in `applied["class"]` (int64 [B]), with weak augmentation
    otherwise. `kind`: 'turn' (images: quarter turns; series: forward, backward, negated, both), 'channels' (orders of three
    channels), 'patch_turn' (a random patch of the image is turned, 4 classes) or 'quadrant_turn' (one of four quadrants is turned,
    class = 4 · quadrant + turn). `every`: one view a class, in their order, all under the same augmentation; else one view with
    a class drawn for every sample."""

    kind: str = "turn"
    every: bool = True
    what: ClassVar[str] = "views under transformations that can be told apart"

    @property
    def classes(self) -> int:
        return {"turn": 4, "channels": 6, "patch_turn": 4, "quadrant_turn": 16}[self.kind]


@dataclass(frozen=True)
class Measured(Need):
    """One weakly augmented view that bears what a modality measures in it: `applied[kind]`, float [B, STATISTICS[kind]], roughly in −1 to
    1, for each of `kinds`: 'motion' (where things move, and which way), 'appearance' (where colours change, and which there are)."""

    kinds: tuple[str, ...] = ("motion", "appearance")
    what: ClassVar[str] = "statistics of motion and appearance"


@dataclass(frozen=True)
class TurnedPair(Transformed, Pair):
    """The views of `Pair`, each turned by a class drawn for every sample (kind 'turn'), its number in `applied["class"]`: views that are
    paired and told apart (SiT)."""

    kind: str = field(default="turn", init=False)
    every: bool = field(default=False, init=False)
    known: bool = field(default=False, init=False)
    what: ClassVar[str] = "pairs of views whose turns can be told apart"


@dataclass(frozen=True)
class Patches(Need):
    """A grid of patches, `side` to each axis, one View a patch in reading order, all of one size, for context and jigsaw.

    whole: one augmented view of the whole item comes first (role 'global', the patches' is 'local'; PIRL). jitter: how far a
    patch moves within its cell, a fraction of it; yoked: all patches of an item move alike. blur_chroma: probability a sample
    that colour is blurred and brightness kept. aperture: probability a patch that only a part of it is seen. turn: probability
    a sample that all its patches are turned by a quarter or more (`applied["turn"]`)."""

    side: int = 3
    whole: bool = False
    jitter: float = 0.2
    yoked: bool = False
    blur_chroma: float = 0.0
    aperture: float = 0.0
    turn: float = 0.0
    what: ClassVar[str] = "patches in their places"


@dataclass(frozen=True)
class MultiCrop(Need):
    """`large` views with role 'global', then `small` ones with role 'local' (SwAV, DINO). Scales are fractions of the area."""

    large: int = 2
    small: int = 6
    large_scale: tuple[float, float] = (0.14, 1.0)
    small_scale: tuple[float, float] = (0.05, 0.14)
    asymmetric: bool = False
    what: ClassVar[str] = "large and small crops"
