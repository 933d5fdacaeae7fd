"""Point clouds: centred and scaled into the unit ball, views for each need, backbones that know no order, a projection as picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..contracts import (
    BadItem,
    Batch,
    Clean,
    Draws,
    Facts,
    MultiCrop,
    Need,
    NotApplicable,
    OptionError,
    Pair,
    Single,
    Source,
    Transformed,
    register,
)
from ..views.options import with_options
from ..views.points import KnownPoints, PointSide, PointSpec, PointViews, TransformedPoints, inside
from .base import Modality, Preprocessing, ViewMaker, innermost, unreadable

CLEAN = PointSpec()
WEAK = PointSpec(scale_p=1.0, move_p=1.0)  # after Point-MAE, whose code scales by 2/3 to 3/2 and shifts by .2: gentler here
STRONG = PointSpec(turn_p=1.0, scale_p=1.0, move_p=1.0, jitter_p=1.0, crop_p=0.5, drop_p=0.8)
MOST = 1024  # points that the network sees unless asked for more: what the field's sets have
CELLS = 6  # of the occupancy along each axis: the input itself, as a baseline
BACKBONES = ("pointnet", "point_transformer", "voxel_transformer")
NORMALS, COLOURS = ("nx", "ny", "nz"), ("red", "green", "blue")


class PointsModality(Modality):
    """Items are float32 [C, P], places x, y, z first, with how many of the points are valid.

    The network sees `facts.shape` = (C, P): P is the resolution, else what 95 in 100 clouds have, at most 1,024; a larger cloud gives
    that many of its points. Columns behind the places are standardised, normals left as they are."""

    name = "points"
    default_backbone = "pointnet"
    token_backbone = "point_transformer"
    opens_with = {"modality": "points"}  # arrays and .npy files do not say that they are points

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = 512) -> Preprocessing:
        """Settles how many points the network sees, then mean and deviation of the columns behind the places."""
        if resolution is not None and resolution < 4:
            raise OptionError(f"resolution={resolution} is too small: of point clouds it is the points that the network sees, at least 4.")
        base = innermost(source)
        counts, columns = base.counts, base.columns
        points = resolution or int(max(4, min(MOST, np.quantile(counts, 0.95, method="higher"))))
        points = min(points, int(counts.max()))
        source.set_canvas((points, columns))
        fewest = min(points, int(counts.min()))
        facts = source.facts.with_(shape=(len(columns), points), lengths=(fewest, points) if fewest < points else None)
        mean, std = _features(source, sample, columns)
        return Preprocessing(self.name, facts, {"columns": list(columns), "mean": mean, "std": std})

    def configure(self, source: Source, preprocessing: Preprocessing) -> None:
        """Has the source give as many points, and the columns of training."""
        source.set_canvas((preprocessing.facts.shape[1], tuple(preprocessing.statistics["columns"])))

    def collate(self, items: dict[str, np.ndarray] | list[dict[str, np.ndarray]], preprocessing: Preprocessing
                ) -> tuple[dict[str, Tensor], Tensor | None]:
        """x: float32 [B, C, P], 0 past the end; size: int64 [B, 2]; hash; lengths int64 [B] unless all clouds of the data have P points."""
        if isinstance(items, list):
            items = {k: np.stack([item[k] for item in items]) for k in items[0]}
        fields = {k: torch.from_numpy(np.ascontiguousarray(v.view(np.int64) if v.dtype == np.uint64 else v)) for k, v in items.items()}
        lengths = fields["size"][:, 0].contiguous()
        varied = preprocessing.facts.lengths is not None
        return fields, lengths if varied or bool((lengths < fields["x"].shape[2]).any()) else None

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        """Clean: the cloud. Single: weak (scale, shift) or strong (also turn about the axis that points up, jitter, crop, dropped points).
        Pair: strong twice; asymmetric: weak and strong. MultiCrop: strong views, and the nearest fifth to half of the points
        (`small_crop`) as local ones; the need's own scales are areas of images and not used. Transformed: a weak view in quarter turns
        about a level axis. Options are fields of PointSpec and hold for every view but the clean one.
        """
        if need.fields != ("x",):
            raise NotApplicable(f"points: the fields {', '.join(need.fields)} were asked for, but a cloud has one field, x.")
        statistics, points = preprocessing.statistics, preprocessing.facts.shape[1]
        columns = statistics["columns"]
        normals = columns.index("nx") if all(name in columns for name in NORMALS) else None
        weak, strong = (with_options(spec, options, what="points view") for spec in (WEAK, STRONG))
        views = PointViews(_sides(need, weak, strong, points), statistics["mean"], statistics["std"], normals,
                           varied=preprocessing.facts.lengths is not None)
        if isinstance(need, Transformed):
            return TransformedPoints(views, need)
        return KnownPoints(views) if isinstance(need, Pair) and need.known else views

    def backbone(self, facts: Facts, spec: str | nn.Module | None = None, **options: Any) -> nn.Module:
        """As of every modality; a named one that reads points in their order is NotApplicable."""
        if isinstance(spec, str) and spec not in BACKBONES and spec != "frames":
            raise NotApplicable(f"The backbone '{spec}' reads items in an order, and the points of a cloud have none: use "
                                f"{' or '.join(BACKBONES)}.")
        return super().backbone(facts, spec, **options)

    def raw(self, batch: Batch, preprocessing: Preprocessing) -> Tensor:
        """The part of a cloud's points in each of 6 × 6 × 6 cells, and the mean of its other columns: [B, 216 + C − 3]."""
        view = self.views(Clean(), preprocessing)(batch, Draws(batch.index))[0]
        x, valid = view.x, torch.ones_like(view.x[:, 0])
        if view.lengths is not None:
            valid = valid * inside(view.lengths, x.shape[2])[:, 0]
        share = valid / valid.sum(1, keepdim=True)
        cell = ((x[:, :3] + 1) / 2 * CELLS).floor().long().clamp(0, CELLS - 1)
        cell = (cell[:, 0] * CELLS + cell[:, 1]) * CELLS + cell[:, 2]  # [B, P]
        occupied = x.new_zeros(len(x), CELLS**3).scatter_add_(1, cell, share)
        return torch.cat([occupied, (x[:, 3:] * share[:, None]).sum(2)], 1)

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """The points from the front, a little from the left and above, z upward; near ones dark and in front, in their colours if any."""
        from PIL import Image, ImageDraw

        x = np.asarray(item["x"], np.float64)[:, : int(item["size"][0])]
        places = x[:3] - x[:3].mean(1, keepdims=True)
        places /= max(np.sqrt((places**2).sum(0)).max(), 1e-12)
        a, b = np.radians(35.0), np.radians(20.0)
        across = np.cos(a) * places[0] + np.sin(a) * places[1]
        away = -np.sin(a) * places[0] + np.cos(a) * places[1]
        up, away = np.cos(b) * places[2] + np.sin(b) * away, np.cos(b) * away - np.sin(b) * places[2]
        shade = np.clip((away + 1) / 2, 0, 1)[:, None]  # 0 near, 1 far
        columns = preprocessing.statistics["columns"]
        own = x[[columns.index(name) for name in COLOURS]].T * 255 if all(name in columns for name in COLOURS) else (31, 92, 170)
        colour = (np.asarray(own) * (1 - 0.75 * shade) + 255 * 0.75 * shade).clip(0, 255).astype(int)
        fine = 3 * side  # drawn three times too large, then reduced
        image = Image.new("RGB", (fine, fine), (255, 255, 255))
        pen, radius = ImageDraw.Draw(image), max(2.0, fine / (2.5 * np.sqrt(x.shape[1]) + 20))
        for i in np.argsort(-away):
            h, v = (0.5 + 0.47 * across[i]) * fine, (0.5 - 0.47 * up[i]) * fine
            pen.ellipse([h - radius, v - radius, h + radius, v + radius], fill=tuple(colour[i]))
        return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))


def _sides(need: Need, weak: PointSpec, strong: PointSpec, points: int) -> list[PointSide]:
    """The views of a need. NotApplicable for one that points cannot supply."""
    if isinstance(need, Clean):
        return [PointSide(CLEAN, points, "clean")]
    if isinstance(need, Single):
        return [PointSide(weak if need.strength == "weak" else strong, points, need.strength)]
    if isinstance(need, Pair):
        pair = [PointSide(weak, points, "weak"), PointSide(strong, points, "strong")]
        return [pair[k % 2] if need.asymmetric else PointSide(strong, points, "global") for k in range(need.count)]
    if isinstance(need, MultiCrop):
        small = PointSide(replace(strong, crop=strong.small_crop, crop_p=1.0), max(4, points // 2), "local")
        return [PointSide(strong, points, "global")] * need.large + [small] * need.small
    if isinstance(need, Transformed) and need.kind == "turn":
        return [PointSide(weak, points, "weak")]
    raise NotApplicable(f"points: {need.what} ({type(need).__name__}{f' {need.kind}' if isinstance(need, Transformed) else ''}) cannot be "
                        "supplied: a cloud is no grid with patches or channels, and cells of space may hold no points.")


def _features(source: Source, sample: int, columns: tuple[str, ...]) -> tuple[list[float], list[float]]:
    """Mean and deviation of the columns behind the places over evenly spaced clouds; 0 and 1 for normals and what never changes."""
    if len(columns) == 3:
        return [], []
    chosen = np.unique(np.linspace(0, len(source) - 1, min(sample, len(source))).round().astype(np.int64))
    found = []
    for i in chosen.tolist():
        try:
            item = source.read(i)
        except BadItem:
            continue  # the loader will quarantine it with its reason
        found.append(item["x"][3:, : int(item["size"][0])].astype(np.float64))
    if not found:
        raise unreadable(source)
    rows = np.concatenate(found, 1)
    mean, std = rows.mean(1), rows.std(1)
    as_is = np.array([name in NORMALS for name in columns[3:]])
    return np.where(as_is, 0.0, mean).tolist(), np.where(as_is | (std < 1e-12), 1.0, std).tolist()


register("points", kind="modality")(PointsModality())
