"""Cells of space as the tokens of a cloud, found in time linear in its points, and a Transformer over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..contracts import Facts, Features, register
from .backbone import Backbone, valid_steps
from .point_groups import Grouping
from .points import of_points
from .signal import blank, replace
from .transformer import Transformer, check_pool, initialise, pool

REACH = 1.25
"""Half of the side of the cube that is divided into cells: clouds fill the unit ball, and their views are a little larger."""
_PRIME = 7919  # scatters cells that hold equally many points


@dataclass(frozen=True)
class Cells:
    """key: int64 [B, G], which cells of the grid the tokens are, rising. token: int64 [B, P], the token that each point belongs to, G =
    none. fine: int64 [B, P], where in its cell it lies. valid: bool [B, G], tokens that the cloud has; the others come last."""

    key: Tensor
    token: Tensor
    fine: Tensor
    valid: Tensor


class Voxels(Grouping):
    """From clouds to the cells of a grid that hold points (Chen et al., 2024, P3P), each cut into `parts`³.

    Points find their cells, and cells their tokens, in a table as large as the grid, so the cost is linear in the points: no two of
    them are compared. A cloud of n points has the cells that are occupied, at most ⌈n · tokens / points⌉ of them, `points` being what
    the network was built for; where there are more, those with fewest points are left out, equal ones as scattered by a prime.
    """

    def __init__(self, points: int, tokens: int, cells: int, parts: int):
        super().__init__(points, tokens, 1)
        self.cells, self.parts = cells, parts

    def __reduce__(self) -> tuple:
        return Voxels, (self.points, self.groups, self.cells, self.parts)

    def count(self, points: int) -> int:
        """How many tokens so many points have at most."""
        return min(super().count(points), self.cells**3)

    def __call__(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Middles [B, G, 3] of the cells of x [B, C, P]; 0 where the cloud has none."""
        found, n = self.of(x, lengths), self.cells
        place = torch.stack([found.key // n**2, found.key // n % n, found.key % n], -1)
        return ((place + 0.5) * (2 * REACH / n) - REACH).to(x.dtype) * found.valid[..., None]

    def inside(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """bool [B, G]: tokens that the clouds x [B, C, P] have."""
        return self.of(x, lengths).valid

    def _found(self, xyz: Tensor, lengths: Tensor | None) -> Cells:
        n, parts, count, grid = self.cells, self.parts, self.count(xyz.shape[2]), self.cells**3
        place = ((xyz / REACH + 1) * (n * parts / 2)).floor().long().clamp(0, n * parts - 1)  # [B, 3, P]
        cell, fine = self._number(place // parts, n), self._number(place % parts, parts)
        if lengths is not None:
            cell = cell.masked_fill(~valid_steps(lengths, xyz.shape[2]), grid)  # padding has a place beyond the table's
        held = torch.zeros(len(cell), grid + 1, dtype=torch.int64, device=cell.device)
        held = held.scatter_add_(1, cell, torch.ones_like(cell))[:, :grid]
        scattered = torch.arange(grid, device=cell.device) * _PRIME % grid
        key = (held * grid + scattered).topk(count, dim=1).indices
        valid = held.gather(1, key) > 0
        if lengths is not None:
            valid &= valid_steps((lengths * self.groups + self.points - 1) // self.points, count)
        key = key.masked_fill(~valid, grid).sort(1).values
        tokens = torch.arange(count, device=cell.device).expand_as(key)
        table = torch.full((len(cell), grid + 1), count, device=cell.device).scatter_(1, key, tokens)
        table[:, grid] = count
        return Cells(key, table.gather(1, cell), fine, key < grid)

    @staticmethod
    def _number(place: Tensor, side: int) -> Tensor:
        """[B, 3, P] → [B, P]: places of a grid in their order."""
        return (place[:, 0] * side + place[:, 1]) * side + place[:, 2]


class VoxelSignal(nn.Module):
    """What each cell shows of a cloud: x [B, C, P] → [B, G, parts³ · (C − 2)], of each part whether a point is in it (1 or 0), then the
    means of its points' other columns, NaN where it has none. P3P predicts the places within a part as well.

    normalised: not at all, as these are no brightnesses."""

    def __init__(self, places: Voxels, channels: int):
        super().__init__()
        self.places, self.channels, self.width = places, channels, places.parts**3 * (channels - 2)

    def forward(self, x: Tensor, lengths: Tensor | None = None, *, normalised: bool = False) -> Tensor:
        found = self.places.of(x, lengths)
        return blank(contents(x, found, self.places.parts, missing=torch.nan), found.valid)

    def counts(self, places: Tensor) -> None:
        """None: nothing here is a category."""
        return None


def contents(x: Tensor, cells: Cells, parts: int, missing: float = 0.0) -> Tensor:
    """[B, G, parts³ · (C − 2)] of x [B, C, P]: occupied or not, part by part, then the mean of each other column in each part, `missing`
    where it is empty."""
    (batch, count), size = cells.key.shape, parts**3
    row = torch.arange(batch, device=x.device)[:, None] * (count + 1)
    index = ((row + cells.token) * size + cells.fine).flatten()
    values = torch.cat([torch.ones_like(x[:, :1]), x[:, 3:]], 1).transpose(1, 2).flatten(0, 1)  # [B · P, C − 2]
    sums = values.new_zeros(batch * (count + 1) * size, values.shape[1]).index_add(0, index, values)
    sums = sums.view(batch, count + 1, size, -1)[:, :count].transpose(2, 3)  # [B, G, C − 2, parts³]
    held = sums[:, :, :1]
    means = (sums[:, :, 1:] / held.clamp(min=1)).masked_fill(held == 0, missing)
    return torch.cat([held.clamp(max=1), means], 2).flatten(2)


class VoxelTransformer(Backbone):
    """P3P's encoder (Chen et al., 2024): x [B, C, P] with places first → tokens [B, G, D] of occupied cells, pooled [B, D].

    A token is the mean over the occupied parts of its cell of the weights of that part times what is in it; where the cell lies comes by
    an MLP of its middle. Clouds have as many tokens as `places` finds; beyond them tokens are not valid, seen by none, and 0. keep,
    masked and mask_token: as of PointTransformer.
    """

    abilities = frozenset({"tokens", "keep", "layers", "mask_tokens"})
    ordered = False  # its tokens are a set

    def __init__(self, channels: int, places: Voxels, *, width: int, depth: int, heads: int, ratio: float, pool: str):
        super().__init__()
        self.width, self.channels, self.pool, self.places = width, channels, check_pool(pool), places
        self.look = nn.Linear(places.parts**3 * (channels - 2), width)
        self.positions = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        nn.init.xavier_uniform_(self.look.weight)
        initialise(self.positions[2])
        self.transformer = Transformer(width, depth, heads, ratio)
        self.transformer.norm = nn.LayerNorm(width, eps=1e-6, bias=False)  # as in PointTransformer

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(most tokens,) of an item or a batch of that shape."""
        return (self.places.count(shape[-1]),)

    def signal(self) -> VoxelSignal:
        """What its tokens show of a cloud, to be predicted where it is hidden."""
        return VoxelSignal(self.places, self.channels)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None, layers: Sequence[int] = (),
                masked: Tensor | None = None, mask_token: Tensor | None = None) -> Features:
        found, size = self.places.of(x, lengths), self.places.parts**3
        shown, centre, valid = contents(x, found, self.places.parts), self.places(x, lengths), found.valid
        if keep is not None:
            shown, centre = (part.gather(1, keep[..., None].expand(-1, -1, part.shape[2])) for part in (shown, centre))
            valid, masked = valid.gather(1, keep), None if masked is None else masked.gather(1, keep)
        shown = shown / shown[..., :size].sum(2, keepdim=True).clamp(min=1)
        tokens = replace(self.look(shown), masked, mask_token) + self.positions(centre)
        cls, tokens, outputs = self.transformer(tokens, valid, layers)
        return Features(pool(cls, tokens, valid, self.pool), tokens, outputs, valid.sum(1))


@register("voxel_transformer", kind="backbone")
def voxel_transformer(facts: Facts, *, cells: int | None = None, parts: int = 3, tokens: int | None = None, width: int = 128,
                      depth: int = 4, heads: int = 4, ratio: float = 2.0, pool: str = "mean") -> VoxelTransformer:
    """cells: of the grid along each axis (None: half the root of the points, 4 to 16). parts: of a cell along each axis. tokens: most of
    a whole cloud (None: one for 4 points, 16 to 512). pool: mean or cls."""
    of_points(facts, "voxel_transformer")
    channels, points = facts.shape
    cells = cells or max(4, min(16, round(math.sqrt(points) / 2)))
    places = Voxels(points, tokens or max(16, min(512, points // 4)), cells, parts)
    return VoxelTransformer(channels, places, width=width, depth=depth, heads=heads, ratio=ratio, pool=pool)
