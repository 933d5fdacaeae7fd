"""Views of table rows: marginal resampling, masking, noise and mixing, all cells of a batch at once; a draw for every sample.

Marginal resampling is SCARF's corruption (Bahri et al., 2022): exactly round(rate · F) columns of a row, chosen at random, take
a value drawn from their own column, of a small reference table, so that a row's view does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..contracts import Batch, Draws, OptionError, View

CLIP = 10.0  # standard deviations that a numeric value approaches but never passes


@dataclass(frozen=True)
class TableSpec:
    """What is done to a row; ranges are rates drawn uniformly a sample, everything is off by default.

    corrupt: part of the columns that take a draw from their marginal (light_corrupt: the same in multi-crop).
    keep: part of the columns that stay, the others become missing (small_keep: the same for local views). noise: standard
    deviation added to numeric values, in the column's standard deviations. mixup: weight of a reference row that numeric values
    are mixed with, and its probability of giving a categorical one.
    """

    corrupt: tuple[float, float] = (0.0, 0.0)
    light_corrupt: tuple[float, float] = (0.0, 0.0)
    keep: tuple[float, float] = (1.0, 1.0)
    small_keep: tuple[float, float] = (0.3, 0.6)
    noise: float = 0.0
    mixup: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, tuple) and not 0 <= value[0] <= value[1] <= 1:
                raise OptionError(f"table option '{f.name}' is a range of rates, lowest first, within 0..1, not {value}.")
        if self.noise < 0:
            raise OptionError(f"table option 'noise' is a standard deviation, not {self.noise}.")


def standardise(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """x [B, F] with the numeric columns (the first, as many as `mean` has) centred, scaled, softly clipped; missing: NaN."""
    numeric = (x[:, : len(mean)] - mean) / std
    numeric = torch.where(x[:, : len(mean)].isfinite(), CLIP * torch.tanh(numeric / CLIP), torch.nan)
    return torch.cat([numeric, x[:, len(mean) :]], 1)


class TableViews:
    """The views of a batch of rows: `maker(batch, draws)` → a View a side, x float32 [B, F] as the networks take it.

    batch.x: float [B, F], numeric columns first (NaN = missing), then codes as floats (−1 = missing). sides: spec and role of
    each view. mean, std: a number a numeric column. marginal: [R, F], reference rows in the form of batch.x.
    """

    def __init__(self, sides: Sequence[tuple[TableSpec, str]], mean: Sequence[float], std: Sequence[float], marginal: Tensor):
        self.sides, self.numeric = tuple(sides), len(mean)
        self.mean, self.std = torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
        self.marginal = standardise(marginal.float(), self.mean, self.std)
        self.missing = torch.full(marginal.shape[1:], -1.0)
        self.missing[: self.numeric] = torch.nan

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        if self.mean.device != batch.x.device:
            for name in ("mean", "std", "marginal", "missing"):
                setattr(self, name, getattr(self, name).to(batch.x.device))
        x = standardise(batch.x.float(), self.mean, self.std)
        return [self._view(x, spec, role, draws.split(f"view {i}")) for i, (spec, role) in enumerate(self.sides)]

    def _view(self, x: Tensor, spec: TableSpec, role: str, draws: Draws) -> View:
        applied = {}
        if spec.mixup[1]:
            applied["mixup"] = weight = draws.uniform("mixup", 1, low=spec.mixup[0], high=spec.mixup[1])
            x = self._mix(x, weight, draws.split("mixup row"))
        if spec.noise and self.numeric:
            noise = spec.noise * draws.normal("noise", self.numeric)
            x = torch.cat([x[:, : self.numeric] + noise, x[:, self.numeric :]], 1)
        if spec.corrupt[1]:
            applied["corrupted"] = corrupted = chosen_columns(draws.split("corrupt"), x.shape[1], spec.corrupt)
            x = torch.where(corrupted, marginal_cells(draws.split("marginal"), self.marginal), x)
        if spec.keep[0] < 1:
            applied["hidden"] = hidden = ~chosen_columns(draws.split("keep"), x.shape[1], spec.keep, least=1)
            x = torch.where(hidden, self.missing, x)
        return View(x, applied=applied, role=role)

    def _mix(self, x: Tensor, weight: Tensor, draws: Draws) -> Tensor:
        """Numeric cells (1 − w)·x + w·r of a reference row r where both are present, categorical ones r with probability w."""
        row = self.marginal[draws.integers("row", len(self.marginal))]
        mixed = x + weight * (row - x)
        taken = draws.uniform("cells", x.shape[1]) < weight
        code = torch.arange(x.shape[1], device=x.device) >= self.numeric
        return torch.where(code, torch.where(taken, row, x), torch.where(mixed.isnan(), x, mixed))


def chosen_columns(draws: Draws, columns: int, rate: tuple[float, float], *, least: int = 0) -> Tensor:
    """bool [B, F]: exactly round(rate · F) columns a sample (and at least `least`), rate uniform in the range."""
    count = (draws.uniform("rate", 1, low=rate[0], high=rate[1]) * columns).round().clamp(min=least)
    return draws.permutation("columns", columns) < count


def marginal_cells(draws: Draws, marginal: Tensor) -> Tensor:
    """[B, F]: every cell a draw from its column of `marginal` [R, F], the rows independent from cell to cell."""
    rows = draws.integers("rows", marginal.shape[0], marginal.shape[1])
    return marginal.gather(0, rows)
