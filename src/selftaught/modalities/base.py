"""What a modality supplies, and nothing more: arrays → tensors, views for each need, a default backbone, a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..contracts import BadItem, Batch, DataError, Draws, Facts, Mask, Need, NotApplicable, OptionError, Source, View, fit_option, nearest
from ..networks import build_backbone
from ..views.masks import Masked

ViewMaker = Callable[[Batch, Draws], list[View]]
"""`maker(batch, draws)` → the views that a need asks for, on the batch's device; a pure function of its arguments."""


@dataclass(frozen=True)
class Preprocessing:
    """How arrays of one data set become what its network sees; fitted once, stored beside the encoder, JSON through and through.

    facts: after the plan's choices (shape is the network's). statistics: plain lists and numbers (channel mean and std,
    column medians, categories …).
    """

    modality: str
    facts: Facts
    statistics: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"modality": self.modality, "facts": self.facts.to_json(), "statistics": self.statistics}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preprocessing:
        return cls(data["modality"], Facts.from_json(data["facts"]), data["statistics"])


class Modality:
    """Base of image, series, table … One stateless instance a modality is registered under kind='modality'."""

    name: str
    default_backbone: str
    token_backbone: str = "vit_tiny"  # where a method needs one that gives tokens
    deep_from: int | None = None  # beyond so many pixels a side the default backbone is too shallow
    opens_with: ClassVar[dict[str, Any]] = {}  # options that an encoder of this modality opens data with, where they say too little
    inputs: ClassVar[dict[str, Any]] = {}  # settings of `prepare` beyond the resolution, `input.NAME` of a run, and their defaults

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        """`inputs` with `options` in place. An OptionError names the nearest of an unknown one, or says that there are none."""
        for name in options:
            if not self.inputs:
                raise OptionError(f"{self.name} data have no settings of their input but resolution: leave out input.{name}.")
            if name not in self.inputs:
                raise nearest(name, self.inputs, what=f"input option of {self.name}")
        return {name: fit_option(f"input.{name}", options.get(name, default), default) for name, default in self.inputs.items()}

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = 2048) -> Preprocessing:
        """Fits the preprocessing on at most `sample` evenly spaced items (bad ones passed over) and settles the network's shape.
        A modality with `inputs` takes them as options."""
        raise NotImplementedError(f"modality {self.name} does not say how to prepare its data")

    def resolution(self, shape: tuple[int, ...]) -> int:
        """Of items of this shape, in the unit in which one asks for it."""
        return shape[-1]

    def configure(self, source: Source, preprocessing: Preprocessing) -> None:
        """Tells the source what will be asked of it: here, to give the columns or channels of training, in their order."""
        if hasattr(source, "align") and preprocessing.facts.columns:
            source.align(preprocessing.facts.columns)

    def collate(self, items: dict[str, np.ndarray] | list[dict[str, np.ndarray]], preprocessing: Preprocessing
                ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Arrays of one batch (a resident source's dict of stacked fields, or a list of items) → (fields, lengths)."""
        raise NotImplementedError(f"modality {self.name} does not say how to collate its items")

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        """The views that `need` asks for. `options` override single settings (an unknown one is an OptionError naming the nearest).

        Raises NotApplicable with the reason where the modality cannot supply the need."""
        raise NotApplicable(f"{self.name}: {need.what} ({type(need).__name__}) cannot be supplied: the modality makes no views.")

    def hide(self, views: ViewMaker, mask: Mask, grid: Callable[[Sequence[int]], tuple[int, ...]]) -> ViewMaker:
        """`views` with masks on the tokens of a backbone's `grid`."""
        return Masked(views, mask, grid)

    def backbone(self, facts: Facts, spec: str | nn.Module | None = None, **options: Any) -> nn.Module:
        """A backbone for items of `facts.shape`: by name (None: the modality's default), or a module of the user's own."""
        return build_backbone(spec or self.default_backbone, facts, example=torch.zeros(2, *facts.shape), **options)

    def example(self, facts: Facts, n: int = 2) -> Tensor:
        """[n, ...]: an input as the network takes it, of noise."""
        return torch.randn(n, *facts.shape, generator=torch.Generator().manual_seed(0))

    def raw(self, batch: Batch, preprocessing: Preprocessing) -> Tensor:
        """float32 [B, D]: the input itself, flattened after the preprocessing: the baseline without an encoder."""
        raise NotImplementedError(f"modality {self.name} does not say what its raw input is")

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """uint8 [H, W, 3]: what a person is shown of an item."""
        raise NotImplementedError(f"modality {self.name} does not say how to picture an item")

    def take(self, batch: Batch, rows: Tensor) -> Batch:
        """The batch's items at `rows` (int64 [K])."""
        return Batch({k: v[rows] for k, v in batch.fields.items()}, batch.index[rows], batch.slot[rows], batch.epoch[rows],
                     None if batch.y is None else batch.y[rows], None if batch.lengths is None else batch.lengths[rows])

    def concat(self, batches: list[Batch]) -> Batch:
        """One batch of all items, in order; has lengths where one of them has: those of the others are all of x."""
        first = batches[0]
        lengths = None
        if any(b.lengths is not None for b in batches):
            lengths = torch.cat([b.x.new_full((len(b),), b.x.shape[-1], dtype=torch.int64) if b.lengths is None else b.lengths
                                 for b in batches])
        cat = lambda key: torch.cat([getattr(b, key) for b in batches])  # noqa: E731
        return Batch({k: torch.cat([b.fields[k] for b in batches]) for k in first.fields}, cat("index"), cat("slot"), cat("epoch"),
                     None if first.y is None else cat("y"), lengths)


def unreadable(source: Source) -> DataError:
    """For where none of the items looked at can be read, of which the first is one: why."""
    try:
        source.read(0)
        reason = ""
    except BadItem as bad:
        reason = f" ({source.name(0)}: {bad.reason})"
    return DataError(f"None of the items of {getattr(source, 'origin', 'the data')} that were looked at can be read{reason}: mend or "
                     "convert them.")


def innermost(source: Source) -> Source:
    """The source that a subset of a subset … is made of."""
    while hasattr(source, "base"):
        source = source.base
    return source
