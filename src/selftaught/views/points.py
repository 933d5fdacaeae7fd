"""Views of point clouds: which points are seen, then one matrix for turn and scale, a shift, jitter; a draw for every sample.

Sources: PointNet and PointNet++ (Qi et al., 2017) for turns, jitter and dropped points; PointBERT and Point-MAE (Yu et al., 2022; Pang
et al., 2022) for scaling and shifts; PointContrast (Xie et al., 2020) and DepthContrast (Zhang et al., 2021) for parts of a scene.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import TRANSFORM_WIDTH, Batch, Draws, OptionError, View, nearest
from .told_apart import ToldApart

AXES = {"x": 0, "y": 1, "z": 2}
LEAST = 4  # points that a view shows at least of a cloud that has them


@dataclass(frozen=True)
class PointSpec:
    """What is done to a centred cloud in the unit ball; `*_p` is the probability a sample, everything is off by default.

    turn: degrees either way about `axis` (x, y or z, which points up), or any turn of space where the axis is 'any'. scale: a factor
    an axis. move: largest shift along each axis. jitter: standard deviation of the noise of every place. crop: part of the points that
    is kept, those nearest to one of them (small_crop: the same for local views). drop: part of the points that is left out, any.
    """

    turn_p: float = 0.0
    turn: float = 180.0
    axis: str = "z"
    scale_p: float = 0.0
    scale: tuple[float, float] = (0.8, 1.25)
    move_p: float = 0.0
    move: float = 0.1
    jitter_p: float = 0.0
    jitter: float = 0.01
    crop_p: float = 0.0
    crop: tuple[float, float] = (0.6, 1.0)
    small_crop: tuple[float, float] = (0.2, 0.5)
    drop_p: float = 0.0
    drop: tuple[float, float] = (0.0, 0.5)

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name.endswith("_p") and not 0 <= value <= 1:
                raise OptionError(f"points option '{f.name}' is a probability, so it lies in 0..1, not at {value}.")
            if isinstance(value, tuple) and not 0 <= value[0] <= value[1] <= (10 if f.name == "scale" else 1):
                raise OptionError(f"points option '{f.name}' is a range, lowest first, not {value}.")
        if self.axis not in (*AXES, "any"):
            raise nearest(self.axis, (*AXES, "any"), what="axis of points")
        if min(self.crop[0], self.small_crop[0], self.scale[0]) <= 0 or self.drop[1] >= 1:
            raise OptionError("views of points need crops and scales of more than nothing, and never drop all points.")

    @property
    def chooses(self) -> bool:
        """Whether some points may not be seen."""
        return bool(self.crop_p or self.drop_p)


@dataclass(frozen=True)
class PointSide:
    """One view to be made: what is done, the points of its x, its role."""

    spec: PointSpec
    points: int
    role: str


class PointViews:
    """The views of a batch of clouds: `maker(batch, draws)` → a View a side, x float32 [B, C, points], x, y, z first.

    batch.x: float [B, C, P], lengths int64 [B] where they vary. mean, std: of the C − 3 columns behind the places. normals: where in x
    the three columns of normals begin, which turn along; None where there are none. Every cloud is centred at its centroid and scaled
    into the unit ball. What a view leaves out it fills, where all clouds are of one size (not varied), with points that it shows, again;
    where they are not, its length says how many it shows. applied: quaternion [B, 4] of the turn, scale [B, 3], move [B, 3], kept [B].
    """

    def __init__(self, sides: Sequence[PointSide], mean: Sequence[float], std: Sequence[float], normals: int | None = None, *,
                 varied: bool = True):
        self.sides, self.normals, self.varied = tuple(sides), normals, varied
        self.mean = torch.tensor(mean, dtype=torch.float32)[:, None]
        self.std = torch.tensor(std, dtype=torch.float32)[:, None]

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        x = self._normalised(batch.x.float(), batch.lengths)
        return [self._view(x, batch.lengths, side, draws.split(f"view {i}")) for i, side in enumerate(self.sides)]

    def _normalised(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if self.mean.device != x.device:
            self.mean, self.std = self.mean.to(x.device), self.std.to(x.device)
        features = (x[:, 3:] - self.mean) / self.std
        x = torch.cat([in_unit_ball(x[:, :3], lengths), features], 1)
        return x if lengths is None else x * inside(lengths, x.shape[2])

    def _view(self, x: Tensor, lengths: Tensor | None, side: PointSide, draws: Draws) -> View:
        spec, applied = side.spec, {}
        fills = lengths is None or spec.chooses and not self.varied
        given = torch.full_like(draws.keys, x.shape[2]) if lengths is None else lengths
        count, positions = given, F.pad(torch.zeros_like(x[:, :, 0])[:, :3], (0, 1), value=1.0)
        if spec.chooses or side.points != x.shape[2]:
            x, count, positions = chosen(x, given, side, draws, again=fills)
        applied["kept"] = count / given
        x = self._moved(x, spec, draws, applied)
        if fills:
            return View(x, positions=positions, applied=applied, role=side.role)
        return View(x * inside(count, x.shape[2]), count, positions=positions, applied=applied, role=side.role)

    def _moved(self, x: Tensor, spec: PointSpec, draws: Draws, applied: dict[str, Tensor]) -> Tensor:
        """Scaled, turned, shifted and jittered, normals turned along."""
        xyz, rest = x[:, :3], x[:, 3:]
        applied["quaternion"] = quaternion = turns(spec, draws)
        low, high = (math.log(end) for end in spec.scale)
        scale = draws.uniform("scale", 3, low=low, high=high).exp()
        applied["scale"] = scale = torch.where(draws.happens("scale?", spec.scale_p, 1), scale, 1.0)
        applied["move"] = move = draws.uniform("move", 3, low=-spec.move, high=spec.move) * draws.happens("move?", spec.move_p, 1)
        if spec.turn_p or spec.scale_p:
            turn = matrices(quaternion)
            xyz = mapped(turn * scale[:, None], xyz)
            if self.normals is not None:
                at = self.normals - 3
                normals = mapped(turn, F.normalize(rest[:, at:at + 3] / scale[:, :, None], dim=1))
                rest = torch.cat([rest[:, :at], normals, rest[:, at + 3:]], 1)
        if spec.move_p:
            xyz = xyz + move[:, :, None]
        if spec.jitter_p:
            sigma = spec.jitter * draws.happens("jitter?", spec.jitter_p, 1, 1)
            xyz = xyz + sigma * draws.normal("jitter", 3, xyz.shape[2])
        return torch.cat([xyz, rest], 1)


def inside(lengths: Tensor, points: int) -> Tensor:
    """bool [B, 1, points]: True before the end of each cloud."""
    return (torch.arange(points, device=lengths.device) < lengths[:, None])[:, None]


def in_unit_ball(xyz: Tensor, lengths: Tensor | None) -> Tensor:
    """Places [B, 3, P], their centroid at 0 and the farthest of them at 1; 0 past the end."""
    valid = torch.ones_like(xyz[:, :1], dtype=torch.bool) if lengths is None else inside(lengths, xyz.shape[2])
    centred = (xyz - (xyz * valid).sum(2, keepdim=True) / valid.sum(2, keepdim=True)) * valid
    return centred / centred.norm(dim=1).amax(1).clamp(min=1e-12)[:, None, None]


def chosen(x: Tensor, given: Tensor, side: PointSide, draws: Draws, *, again: bool) -> tuple[Tensor, Tensor, Tensor]:
    """(x [B, C, side.points], int64 [B] how many points it shows, float32 [B, 4] around which place and how large a part).

    The points nearest to a random one, and of these all but some; behind them the same `again`, or zeros."""
    spec, points = side.spec, x.shape[2]
    part = draws.uniform("crop", low=spec.crop[0], high=spec.crop[1])
    part = torch.where(draws.happens("crop?", spec.crop_p), part, 1.0)
    near = (part * given).ceil().long().clamp(min=LEAST).minimum(given)
    seed = x[:, :3].gather(2, draws.integers("seed", given)[:, None, None].expand(-1, 3, 1))
    past = ~inside(given, points)[:, 0]
    distance = (x[:, :3] - seed).square().sum(1).masked_fill(past, torch.inf)  # [B, P]
    score = draws.uniform("points", points)
    if spec.crop_p:
        reach = distance.sort(1).values.gather(1, near[:, None] - 1)
        score = score + 2.0 * (distance > reach)
    order = (score + 4.0 * past).argsort(1)
    left = torch.where(draws.happens("drop?", spec.drop_p), draws.uniform("drop", low=spec.drop[0], high=spec.drop[1]), 0.0)
    count = ((1.0 - left) * near).ceil().long().clamp(min=LEAST, max=side.points).minimum(near)
    place = torch.arange(side.points, device=x.device)[None]
    place = place % count[:, None] if again else place.clamp(max=points - 1)
    x = x.gather(2, order.gather(1, place.expand(len(x), -1))[:, None].expand(-1, x.shape[1], -1))
    return x, count, torch.cat([seed[:, :, 0], part[:, None]], 1)


def turns(spec: PointSpec, draws: Draws) -> Tensor:
    """float32 [B, 4]: unit quaternions (w ≥ 0) of the turns; (1, 0, 0, 0) where none happens."""
    still = torch.zeros(len(draws), 4, device=draws.keys.device)
    still[:, 0] = 1.0
    if not spec.turn_p:
        return still
    if spec.axis == "any":
        found = F.normalize(draws.normal("turn", 4), dim=1)
    else:
        half = draws.uniform("turn", low=-0.5, high=0.5) * math.radians(spec.turn)
        found = torch.zeros_like(still)
        found[:, 0], found[:, 1 + AXES[spec.axis]] = half.cos(), half.sin()
    found = torch.where(found[:, :1] < 0, -found, found)
    return torch.where(draws.happens("turn?", spec.turn_p, 1), found, still)


def matrices(quaternion: Tensor) -> Tensor:
    """Rotation matrices [B, 3, 3] of unit quaternions [B, 4] (w, x, y, z)."""
    w, x, y, z = quaternion.unbind(1)
    return torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
                        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
                        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1).view(-1, 3, 3)


def mapped(matrix: Tensor, xyz: Tensor) -> Tensor:
    """matrix [B, 3, 3] times places [B, 3, P], summed in one order: what a sample becomes does not depend on its batch."""
    x, y, z = (matrix[:, :, axis, None] * xyz[:, axis, None] for axis in range(3))
    return x + y + z


# ---- pretexts --------------------------------------------------------------------------------------------------------------


class TransformedPoints(ToldApart):
    """turn: quarter turns about a level axis (x, or y where x points up): upright, tipped, upside down, tipped back; classes 0 to 3
    (after Poursaeed et al., 2020)."""

    def changed(self, view: View, number: Tensor, draws: Draws) -> Tensor:
        spec = self.views.sides[0].spec
        half = number * (math.pi / 4)
        quaternion = torch.zeros(len(number), 4, device=view.x.device)
        quaternion[:, 0], quaternion[:, 2 if spec.axis == "x" else 1] = half.cos(), half.sin()
        turn, x = matrices(quaternion), view.x.clone()
        for at in (0, self.views.normals):
            if at is not None:
                x[:, at:at + 3] = mapped(turn, view.x[:, at:at + 3])
        return x


class KnownPoints:
    """Maker for `Pair(known=True)`: the views of `views`, each with `applied["transform"]`: the quaternion, the logarithms of the scales
    in parts of the largest, and the part of the points that is kept (−1 none, 1 all)."""

    def __init__(self, views: PointViews):
        self.views = views

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        found = []
        for view, side in zip(self.views(batch, draws), self.views.sides, strict=True):
            most = max(abs(math.log(end)) for end in side.spec.scale) or 1.0
            told = torch.cat([view.applied["quaternion"], view.applied["scale"].log() / most, 2 * view.applied["kept"][:, None] - 1], 1)
            found.append(view.with_(applied=view.applied | {"transform": F.pad(told, (0, TRANSFORM_WIDTH - told.shape[1]))}))
        return found
