"""Groups of points around farthest points, as the tokens of a cloud, and what each of them shows."""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .backbone import valid_steps
from .signal import blank, normalise_tokens

QUANTILES = 8
_CELLS, _BITS = 64, 6  # of the curve along which groups are ordered, to each axis


@dataclass(frozen=True)
class Groups:
    """centre: int64 [B, G], points that groups lie around. index: int64 [B, G, K], their nearest points. there: bool [B, G, K], which of
    these are points of the cloud, or None where all are. valid: bool [B, G], which groups the cloud has, or None."""

    centre: Tensor
    index: Tensor
    there: Tensor | None
    valid: Tensor | None


class Grouping:
    """From clouds to groups of points (Yu et al., 2022, PointBERT): centres by farthest-point sampling, K nearest points to each.

    It is a function of the set: points are first put in the order of their places, the first centre is the farthest from the
    centroid, and groups come in the order of a space-filling curve (Morton's), so that neighbours in it are neighbours in
    space. A cloud of n points has ⌈n · groups / points⌉ groups, `points` being what the network was built for. What was found
    last is remembered, for those who ask again: an encoder, its teacher, what is to be predicted.
    """

    axes = 3

    def __init__(self, points: int, groups: int, size: int):
        self.points, self.groups, self.size = points, groups, size
        self._last: tuple[Any, ...] | None = None

    def __deepcopy__(self, memo: dict) -> Grouping:
        return self  # copies of a network see the same groups

    def __reduce__(self) -> tuple:
        return Grouping, (self.points, self.groups, self.size)

    def count(self, points: int) -> int:
        """How many groups so many points have."""
        return min(-(-points * self.groups // self.points), points)

    def __call__(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Centres [B, G, 3] of the groups of x [B, C, P]."""
        return gather_points(x[:, :3], self.of(x, lengths).centre)

    @torch.no_grad()
    def of(self, x: Tensor, lengths: Tensor | None = None) -> Groups:
        """The groups of x [B, C, P]."""
        if x.is_inference():
            return self._found(x[:, :3], lengths)
        last = self._last
        if last is not None and last[0]() is x and last[1] == x._version and last[2] is lengths:
            return last[3]
        groups = self._found(x[:, :3].detach(), lengths)
        if not torch.compiler.is_compiling():
            self._last = weakref.ref(x), x._version, lengths, groups
        return groups

    def _found(self, xyz: Tensor, lengths: Tensor | None) -> Groups:
        valid = None if lengths is None else valid_steps(lengths, xyz.shape[2])
        order = by_place(xyz, valid)
        xyz = xyz.gather(2, order[:, None].expand_as(xyz))
        count = self.count(xyz.shape[2])
        if valid is not None:
            valid = valid.gather(1, order)
        centre = farthest_points(xyz, valid, count)
        own = None if lengths is None else torch.minimum((lengths * self.groups + self.points - 1) // self.points, lengths)
        there = None if lengths is None else valid_steps(own, count)
        curve = along_curve(gather_points(xyz, centre), there)
        centre = centre.gather(1, curve)
        distance = square_distance(gather_points(xyz, centre), xyz)  # [B, G, P]
        if valid is not None:
            distance = distance.masked_fill(~valid[:, None], torch.inf)
        near, index = distance.topk(min(self.size, xyz.shape[2]), dim=2, largest=False, sorted=False)
        index = order[:, None].expand(-1, count, -1).gather(2, index)
        return Groups(order.gather(1, centre), index, None if valid is None else near.isfinite(),
                      None if there is None else there.gather(1, curve))


def gather_points(x: Tensor, index: Tensor) -> Tensor:
    """x [B, C, P] at int64 [B, ...] → [B, ..., C]."""
    flat = index.flatten(1)
    return x.transpose(1, 2).gather(1, flat[..., None].expand(-1, -1, x.shape[1])).view(*index.shape, -1)


def by_place(xyz: Tensor, valid: Tensor | None) -> Tensor:
    """int64 [B, P]: the order of places [B, 3, P] by x, then y, then z; what is not valid comes last."""
    x, y, z = xyz.unbind(1)
    if valid is not None:
        x = x.masked_fill(~valid, torch.inf)
    order = rising(z)
    for key in (y, x):
        order = order.gather(1, rising(key.gather(1, order)))
    return order


def rising(key: Tensor) -> Tensor:
    """int64 [B, N]: the order of key [B, N], equal ones as they come. ONNX has no such sort, but its TopK keeps that order."""
    if torch.compiler.is_compiling():
        return key.topk(key.shape[1], dim=1, largest=False).indices
    return key.argsort(dim=1, stable=True)


def farthest_points(xyz: Tensor, valid: Tensor | None, count: int) -> Tensor:
    """int64 [B, count]: places [B, 3, P] one after another, each the farthest from those before; the first from the centroid.

    Of several as far the first one; clouds with fewer valid points repeat one."""
    weight = torch.ones_like(xyz[:, :1]) if valid is None else valid[:, None].to(xyz.dtype)
    centroid = ((xyz * weight).double().sum(2, keepdim=True) / weight.double().sum(2, keepdim=True)).to(xyz.dtype)
    distance = _squared(xyz - centroid)
    nearest = torch.full_like(distance, torch.inf)
    if valid is not None:
        distance, nearest = (value.masked_fill(~valid, -1.0) for value in (distance, nearest))
    found = [distance.argmax(1)]
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, _squared(xyz - xyz.gather(2, found[-1][:, None, None].expand(-1, 3, 1))))
        found.append(nearest.argmax(1))
    return torch.stack(found, 1)


def _squared(difference: Tensor) -> Tensor:
    """[B, 3, P] → [B, P], summed in one order whatever the shapes, so that ties are the same."""
    x, y, z = difference.square().unbind(1)
    return x + y + z


def square_distance(a: Tensor, xyz: Tensor) -> Tensor:
    """[B, G, 3] and [B, 3, P] → [B, G, P]."""
    total = (a[:, :, 0, None] - xyz[:, None, 0]).square_()
    for axis in (1, 2):
        total += (a[:, :, axis, None] - xyz[:, None, axis]).square_()
    return total


def along_curve(centres: Tensor, valid: Tensor | None) -> Tensor:
    """int64 [B, G]: the order of centres [B, G, 3] by Morton's curve over the cube of side 2 around 0; what is not valid comes last."""
    cell = ((centres + 1) * (_CELLS / 2)).floor().clamp(0, _CELLS - 1).long()
    code = torch.zeros_like(cell[..., 0])
    for bit in range(_BITS):
        for axis in range(3):
            code = code + (cell[..., axis] // 2**bit % 2) * 2 ** (3 * bit + axis)
    if valid is not None:
        code = code.masked_fill(~valid, _CELLS**3)
    return rising(code)


class PointSignal(nn.Module):
    """What each group shows of a cloud: x [B, C, P] → [B, G, width], the same in whatever order its points are.

    The points' places relative to the group's centre are projected on 7 directions (axes and diagonals), and 8 quantiles of each
    projection are given: squared errors of these are a sliced Wasserstein distance of the groups (Rabin et al., 2011). Then the mean
    of each other column. normalised: each group by the mean and deviation of its values, its own extent.
    """

    def __init__(self, places: Grouping, channels: int):
        super().__init__()
        signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0])] * 2)
        directions = torch.cat([torch.eye(3), torch.cat([torch.ones(4, 1), signs], 1) / math.sqrt(3.0)])
        self.register_buffer("directions", directions, persistent=False)
        self.places, self.zoom, self.width = places, math.sqrt(places.points / places.size), len(directions) * QUANTILES + channels - 3

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, normalised: bool = False) -> Tensor:
        groups = self.places.of(x, lengths)
        points, size = gather_points(x, groups.index), groups.index.shape[2]
        relative = (points[..., :3] - gather_points(x[:, :3], groups.centre)[:, :, None]) * self.zoom
        along = relative @ self.directions.to(relative.dtype).T  # [B, G, K, 7]
        level = (torch.arange(QUANTILES, device=x.device) + 0.5) / QUANTILES
        if groups.there is None:
            count = torch.full_like(groups.centre, size)
            mean = points[..., 3:].mean(2)
        else:
            along, count = along.masked_fill(~groups.there[..., None], torch.inf), groups.there.sum(2)
            mean = (points[..., 3:] * groups.there[..., None]).sum(2) / count[..., None]
        at = (level * count[..., None]).long()[..., None].expand(-1, -1, -1, along.shape[3])  # [B, G, 8, 7]
        target = along.sort(2).values.gather(2, at).transpose(2, 3).flatten(2)
        target = normalise_tokens(target) if normalised else target
        return blank(torch.cat([target, mean], 2), groups.valid)

    def counts(self, places: Tensor) -> None:
        """None: nothing here is a category."""
        return None

    def sets(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """[B, G, K, 3]: the places themselves, relative to the centre and as large as above; NaN where there is none."""
        groups = self.places.of(x, lengths)
        relative = (gather_points(x[:, :3], groups.index) - gather_points(x[:, :3], groups.centre)[:, :, None]) * self.zoom
        if groups.there is not None:
            relative = relative.masked_fill(~(groups.there & groups.valid[..., None])[..., None], torch.nan)
        return relative
