"""What clips and volumes share as modalities: canvases with three axes → tensors, statistics, raw input, makers of views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import BadItem, Batch, Clean, DataError, Draws, Need, NotApplicable, OptionError, Pair, Patches, Source, Transformed
from ..views.grid3d import GridSpec, GridViews
from ..views.grid3d_transforms import GridPatches, KnownGrid, TransformedGrid
from ..views.options import with_options
from .base import Modality, Preprocessing, ViewMaker, unreadable

_RAW = 12  # cells a side of the raw input


class GridModality(Modality):
    """Items are canvases [C, A, H, W] with three sizes. A subclass prepares, and says in `maker` which kind of views, in `specs` which."""

    default_backbone = "convnet"
    maker: type[GridViews]
    idle: tuple[str, ...]
    """Fields of GridSpec that mean nothing here: to set one is refused."""

    def specs(self, need: Need, preprocessing: Preprocessing) -> list[GridSpec]:
        """The views of a need, of `Patches` the whole (where asked for) and one patch. NotApplicable where they cannot be supplied."""
        raise NotImplementedError(f"modality {self.name} does not say how its views are made")

    def collate(self, items: dict[str, np.ndarray] | list[dict[str, np.ndarray]], preprocessing: Preprocessing
                ) -> tuple[dict[str, Tensor], Tensor | None]:
        """x: [B, C, A, H, W] as stored; size: int64 [B, 3]; hash."""
        if isinstance(items, list):
            items = {k: np.stack([item[k] for item in items]) for k in items[0]}
        wanted, there = preprocessing.facts.shape[0], items["x"].shape[1]
        if there != wanted:
            said = "1 channel" if there == 1 else f"{there} channels"
            one = ", and one item alone with an axis of items before its own, as x[None]" if there == 1 else ""
            raise DataError(f"These items of {self.name} have {said} where the encoder was made for {wanted}: give the same channels, in "
                            f"the same order{one}.")
        return {k: torch.from_numpy(np.ascontiguousarray(v.view(np.int64) if v.dtype == np.uint64 else v)) for k, v in items.items()}, None

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        """`options`: any field of GridSpec but the `idle` ones overrides it in every view."""
        if need.fields != ("x",):
            raise NotApplicable(f"{self.name}: the fields {', '.join(need.fields)} were asked for, but an item has one field, x.")
        if ignored := [name for name in options if name in self.idle]:
            raise OptionError(f"{self.name} view option {ignored[0]} would change nothing: of this modality no view is made "
                              "with it; leave it out.")
        specs = [with_options(spec, options, what=f"{self.name} view") for spec in self.specs(need, preprocessing)]
        if isinstance(need, Patches):
            return GridPatches(self.maker([*specs[:-1], *specs[-1:] * need.side**3], preprocessing.statistics), need)
        views = self.maker(specs, preprocessing.statistics)
        if isinstance(need, Transformed):
            return TransformedGrid(views, need)
        return KnownGrid(views) if isinstance(need, Pair) and need.known else views

    def raw(self, batch: Batch, preprocessing: Preprocessing) -> Tensor:
        """The clean view, averaged to at most 12 cells along each axis."""
        draws = Draws(torch.zeros(len(batch), dtype=torch.int64, device=batch.x.device))
        x = self.views(Clean(), preprocessing)(batch, draws)[0].x
        return F.adaptive_avg_pool3d(x, tuple(min(side, _RAW) for side in x.shape[2:])).flatten(1)


def unavailable(modality: str, need: Need, why: str) -> NotApplicable:
    kind = f" {need.kind}" if isinstance(need, Transformed) else ""
    return NotApplicable(f"{modality}: {need.what} ({type(need).__name__}{kind}) cannot be supplied: {why}.")


def default_side(longest: int, most: int, step: int) -> int:
    """Up to 32 the items' own, rounded up to a multiple of 4; above, down to one of `step`, at most `most`."""
    return max(-(-longest // 4) * 4, 8) if longest <= 32 else min(longest // step * step, most)


def moments(source: Source, sample: int, held: Callable[[dict[str, np.ndarray]], np.ndarray]) -> tuple[list[float], list[float]]:
    """(mean, std a channel, in parts of the largest number that an integer dtype has) over what evenly spaced items, at most `sample`,
    hold; bad ones are passed over. held: item → [C, ...]. DataError where none can be read."""
    count, total, square = 0, 0.0, 0.0
    for index in np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).round().astype(np.int64)):
        try:
            x = held(source.read(int(index)))
        except BadItem:
            continue  # the loader will quarantine it with its reason
        values = x.reshape(len(x), -1).astype(np.float64) / (np.iinfo(x.dtype).max if x.dtype.kind == "u" else 1)
        count, total, square = count + values.shape[1], total + values.sum(1), square + np.square(values).sum(1)
    if not count:
        raise unreadable(source)
    mean = total / count
    return mean.tolist(), np.sqrt(np.maximum(square / count - mean**2, 1 / 255**2)).tolist()
