"""Tables: rows of standardised numbers and codes; corrupted, noisy and thinned views, an MLP, bars as the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Batch, Clean, DataError, Facts, MultiCrop, Need, NotApplicable, Pair, Single, Source, Transformed, register
from ..views.options import with_options
from ..views.table import TableSpec, TableViews, standardise
from .base import Modality, Preprocessing, ViewMaker
from .series import PALETTE, sampled

CLEAN = TableSpec()
WEAK = TableSpec(noise=0.1)
STRONG = TableSpec(corrupt=(0.3, 0.6), light_corrupt=(0.0, 0.3))
SCARF = TableSpec(corrupt=(0.6, 0.6))
MARGINAL_ROWS, MARGINAL_CELLS = 1024, 200_000


class TableModality(Modality):
    """Items are rows: numeric float32 [Fn] (NaN = missing; dates and booleans too), codes int64 [Fc] (−1 = missing).

    The order is that of `facts.columns`. Networks get x float32 [B, F]: numbers standardised and softly clipped at ten
    deviations, missing ones left NaN; codes as floats."""

    name = "table"
    default_backbone = "mlp"
    token_backbone = "table_transformer"

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = 2048) -> Preprocessing:
        """Mean and standard deviation of the numeric columns; reference rows that corruption draws from (at most 1,024)."""
        facts = source.facts
        if not facts.columns:
            raise DataError("This table has no usable column: constant, id-like and all-missing ones are left out; add others.")
        numeric = _numeric(facts)
        items = list(sampled(source, max(sample, MARGINAL_ROWS)))
        rows = np.stack([_row(item, dtype=np.float64) for item in items])
        rows[:, :numeric][~np.isfinite(rows[:, :numeric])] = np.nan
        there = ~np.isnan(rows[:, :numeric])
        count = np.maximum(there.sum(0), 1)
        mean = np.where(there, rows[:, :numeric], 0).sum(0) / count
        std = np.sqrt(np.where(there, (rows[:, :numeric] - mean) ** 2, 0).sum(0) / count)
        std = np.where(std > 1e-12 * np.maximum(np.abs(mean), 1e-300), std, 1.0)
        kept = min(len(rows), MARGINAL_ROWS, max(MARGINAL_CELLS // len(facts.columns), 64))
        reference = rows[np.linspace(0, len(rows) - 1, kept).round().astype(np.int64)]
        offset = {}
        if items[0]["numeric"].dtype == np.float64:  # too far from zero for the float32 of the views: rows are centred before they go there
            offset = {"offset": mean.tolist()}
            reference[:, :numeric] -= mean
            mean = np.zeros_like(mean)
        statistics = {"mean": mean.tolist(), "std": std.tolist(), "marginal": _nested(reference), **offset}
        return Preprocessing(self.name, facts.with_(shape=(len(facts.columns),)), statistics)

    def collate(self, items: dict[str, np.ndarray] | list[dict[str, np.ndarray]], preprocessing: Preprocessing
                ) -> tuple[dict[str, Tensor], Tensor | None]:
        """x float32 [B, F]: numbers as they are or centred, NaN = missing, then codes as floats; the views standardise on the device."""
        offset = preprocessing.statistics.get("offset", 0)
        x = _row(items, offset) if isinstance(items, dict) else np.stack([_row(item, offset) for item in items])
        if x.shape[1] != preprocessing.facts.shape[0]:
            raise DataError(f"These rows have {x.shape[1]} columns where the encoder was made for "
                            f"{preprocessing.facts.shape[0]}: give a table with the same columns.")
        return {"x": torch.from_numpy(x)}, None

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        """Clean: the row. Single: weak (noise) or strong (corrupted). Pair: both sides corrupted at a rate of .3 to .6.

        Pair(asymmetric): SCARF's, the clean row and one corrupted at .6. On Adult (SimCLR, 400 steps, two seeds) k-NN AUC was
        .877 for the symmetric pair, .875 for SCARF's, .876 for .6 twice and for 0-.3 with .6: no loss in the pair of one law.
        MultiCrop: lightly corrupted rows, and ones that besides keep a random part of their columns (`small_keep`). Options are
        fields of TableSpec and hold for every view but the clean ones.
        """
        if need.fields != ("x",):
            raise NotApplicable(f"table: the fields {', '.join(need.fields)} were asked for, but a row has one field, x.")
        if isinstance(need, Pair) and need.known:
            raise NotApplicable("table: known transformations cannot be supplied: cells take other rows' values at random, and no few "
                                "numbers say how one view of a row becomes another.")
        if isinstance(need, Transformed) or not isinstance(need, (Clean, Single, Pair, MultiCrop)):
            raise NotApplicable(f"table: {need.what} ({type(need).__name__}) cannot be supplied: the columns of a row have "
                                "neither order nor neighbours, so nothing can be turned, moved or cropped.")
        change = lambda spec: with_options(spec, options, what="table view")  # noqa: E731
        strong, scarf = change(STRONG), change(SCARF)
        light = replace(strong, corrupt=strong.light_corrupt)
        if isinstance(need, Clean):
            sides = [(CLEAN, "clean")]
        elif isinstance(need, Single):
            sides = [(change(WEAK) if need.strength == "weak" else strong, need.strength)]
        elif isinstance(need, Pair) and need.asymmetric:
            sides = [[(CLEAN, "clean"), (scarf, "strong")][k % 2] for k in range(need.count)]
        elif isinstance(need, Pair):
            sides = [(strong, "global")] * need.count
        else:
            thin = replace(light, keep=strong.small_keep)
            sides = [(light, "global")] * need.large + [(thin, "local")] * need.small
        marginal = torch.tensor([[np.nan if v is None else v for v in row] for row in preprocessing.statistics["marginal"]])
        return TableViews(sides, preprocessing.statistics["mean"], preprocessing.statistics["std"], marginal)

    def raw(self, batch: Batch, preprocessing: Preprocessing) -> Tensor:
        """Numbers standardised with missing = 0, then a one-hot block a categorical column, all zero where missing."""
        mean, std = (torch.tensor(preprocessing.statistics[k], device=batch.x.device) for k in ("mean", "std"))
        x = standardise(batch.x.float(), mean, std)
        blocks = [x[:, : len(mean)].nan_to_num(0.0)]
        for place, column in enumerate(preprocessing.facts.columns[len(mean) :], len(mean)):
            codes = torch.arange(len(column.categories), device=x.device)
            blocks.append((x[:, place, None] == codes).float())
        return torch.cat(blocks, 1)

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """A bar a column: numbers rise or fall from the middle by their standardised value (blue above, orange below, full at
        three deviations); categories are blocks along the foot, coloured by code; missing cells stay grey dots."""
        from PIL import Image, ImageDraw

        numeric = _numeric(preprocessing.facts)
        mean, std = (np.asarray(preprocessing.statistics[k]) for k in ("mean", "std"))
        row = _row(item, preprocessing.statistics.get("offset", 0)).astype(np.float64)
        z = (row[:numeric] - mean) / std
        codes = row[numeric:].astype(np.int64)
        fine = 3 * side
        image = Image.new("RGB", (fine, fine), (255, 255, 255))
        pen = ImageDraw.Draw(image)
        foot = fine if not len(codes) else (fine * 3 // 4 if numeric else 0)
        middle = foot / 2
        if numeric:
            pen.line([(0, middle), (fine, middle)], fill=(205, 205, 205), width=3)
        for i, value in enumerate(z):
            left, right = (fine * (i + 0.1) / numeric, fine * (i + 0.9) / numeric)
            if not np.isfinite(value):
                pen.ellipse([(left + right) / 2 - 4, middle - 4, (left + right) / 2 + 4, middle + 4], fill=(150, 150, 150))
                continue
            end = middle - np.clip(value / 3, -1, 1) * (middle - 3)
            pen.rectangle([left, min(middle, end), right, max(middle, end)], fill=PALETTE[0] if value > 0 else PALETTE[1])
        for i, code in enumerate(codes):
            box = [fine * (i + 0.1) / len(codes), foot + 6, fine * (i + 0.9) / len(codes), fine - 3]
            pen.rectangle(box, fill=PALETTE[code % len(PALETTE)] if code >= 0 else (225, 225, 225))
        return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def _numeric(facts: Facts) -> int:
    """How many columns are numbers; they come first."""
    return sum(column.kind != "categorical" for column in facts.columns)


def _row(item: dict[str, np.ndarray], offset: float | list[float] = 0, dtype: type = np.float32) -> np.ndarray:
    """[..., F]: the numeric columns less `offset`, then the codes as numbers."""
    numeric = item["numeric"] if offset == 0 else item["numeric"] - np.asarray(offset, np.float64)
    return np.concatenate([np.asarray(part, dtype) for part in (numeric, item.get("codes")) if part is not None], -1)


def _nested(rows: np.ndarray) -> list[list[float | None]]:
    """Lists for JSON: float32 numbers in their shortest form, None = missing."""
    return [[None if np.isnan(v) else float(str(v)) for v in row] for row in rows.astype(np.float32)]


register("table", kind="modality")(TableModality())
