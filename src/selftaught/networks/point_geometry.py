"""The geometry of groups of points, to be predicted where they are hidden: centroid, occupancy, surface normal and curvature."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .point_groups import Grouping, gather_points
from .signal import blank

CELLS, REACH = 3, 1.5
"""Cells along each side of the cube around a group's centre whose occupancy is told, and half of that side: most points of a group lie
within 1 of it."""
PARTS = {"centroid": 3, "occupied": CELLS**3, "normal": 3, "curvature": 3}


class GeometrySignal(nn.Module):
    """x [B, C, P] → [B, G, 36], the `PARTS` in their order, after GeoMAE (Tian et al., 2023); NaN where a cloud has no such group.

    centroid: of the group's points, relative to its centre. occupied: 1 where a cell of the cube around the centre holds a point, else
    0. normal: the direction in which the points vary least, of either sign. curvature: eigenvalues of their covariance, rising, in
    parts of their sum: (0, ½, ½) is a flat disc. Groups are as large as about 1, as in `PointSignal`.
    """

    def __init__(self, places: Grouping):
        super().__init__()
        self.places, self.zoom, self.width = places, math.sqrt(places.points / places.size), sum(PARTS.values())

    @torch.no_grad()
    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        groups = self.places.of(x, lengths)
        points = (gather_points(x[:, :3], groups.index) - gather_points(x[:, :3], groups.centre)[:, :, None]) * self.zoom
        there = torch.ones_like(groups.index, dtype=torch.bool) if groups.there is None else groups.there
        weight = there.to(points.dtype)[..., None]
        weight = weight / weight.sum(2, keepdim=True).clamp(min=1)
        centroid = (points * weight).sum(2)
        centred = points - centroid[:, :, None]
        covariance = (centred * weight).transpose(2, 3) @ centred  # [B, G, 3, 3]
        values, vectors = torch.linalg.eigh(covariance)
        curvature = values.clamp(min=0.0) / values.clamp(min=0.0).sum(-1, keepdim=True).clamp(min=1e-12)
        return blank(torch.cat([centroid, self._occupied(points, there), vectors[..., 0], curvature], -1), groups.valid)

    @staticmethod
    def _occupied(points: Tensor, there: Tensor) -> Tensor:
        """[B, G, 27] of points [B, G, K, 3]; those beyond the cube count in its nearest cell."""
        cell = ((points / REACH + 1) / 2 * CELLS).floor().long().clamp(0, CELLS - 1)
        cell = (cell[..., 0] * CELLS + cell[..., 1]) * CELLS + cell[..., 2]  # [B, G, K]
        found = points.new_zeros(*cell.shape[:2], CELLS**3)
        return found.scatter_reduce(2, cell, there.to(points.dtype), "amax")
