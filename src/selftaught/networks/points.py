"""Backbones of point clouds: a Transformer over groups around farthest points, and PointNet; neither knows an order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..contracts import Facts, Features, NotApplicable, register
from .backbone import Backbone, mask_steps, valid_steps
from .point_groups import Grouping, PointSignal, gather_points
from .signal import replace
from .transformer import Transformer, check_pool, initialise, pool


class GroupEmbedding(nn.Module):
    """A PointNet over the points of a group: [B, G, K, C] → [B, G, D] (Yu et al., 2022, narrower): two layers and the largest values of
    the group beside each point's own, two more and the largest again. there: bool [B, G, K]."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        narrow, half = max(width // 4, 1), max(width // 2, 1)
        self.first = nn.Sequential(nn.Linear(channels, narrow), nn.GELU(), nn.Linear(narrow, narrow))
        self.own, self.whole = nn.Linear(narrow, half), nn.Linear(narrow, half, bias=False)
        self.last = nn.Linear(half, width)

    def forward(self, points: Tensor, there: Tensor | None) -> Tensor:
        own = self.first(points)
        own = self.own(own) + self.whole(largest(own, there))[:, :, None]
        return largest(self.last(nn.functional.gelu(own)), there)


def largest(x: Tensor, there: Tensor | None) -> Tensor:
    """[..., K, D] → [..., D]: the largest of the values that are there, bool [..., K]; zeros where none is."""
    if there is None:
        return x.max(-2).values  # whose gradient costs less than that of amax
    return x.masked_fill(~there[..., None], -torch.inf).max(-2).values.masked_fill(~there.any(-1, keepdim=True), 0.0)


class PointTransformer(Backbone):
    """PointBERT's Transformer (Yu et al., 2022): x [B, C, P] with places first → tokens [B, G, D] of groups, pooled [B, D].

    `places` finds the groups and their centres, by which a token knows where it is. keep: int64 [B, K], groups to encode; only their
    points are embedded. masked: bool [B, G], where `mask_token` [D] stands in place of what the group looks like, not of its place.
    """

    abilities = frozenset({"tokens", "keep", "layers", "mask_tokens"})
    ordered = False  # its tokens are a set

    def __init__(self, channels: int, points: int, *, groups: int, size: int, width: int, depth: int, heads: int, ratio: float, pool: str):
        super().__init__()
        self.width, self.channels, self.pool = width, channels, check_pool(pool)
        self.places = Grouping(points, groups, size)
        self.zoom = math.sqrt(points / size)  # groups as large as about 1
        self.look = GroupEmbedding(channels, width)
        self.positions = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width))
        initialise(self.positions[2])
        self.transformer = Transformer(width, depth, heads, ratio)
        self.transformer.norm = nn.LayerNorm(width, eps=1e-6, bias=False)  # a mean would hand it on as it is, and heads have their own

    def grid(self, shape: Sequence[int]) -> tuple[int, ...]:
        """(number of groups,) of an item or a batch of that shape."""
        return (self.places.count(shape[-1]),)

    def signal(self) -> PointSignal:
        """What its tokens show of a cloud, to be predicted where it is hidden."""
        return PointSignal(self.places, self.channels)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None, layers: Sequence[int] = (),
                masked: Tensor | None = None, mask_token: Tensor | None = None) -> Features:
        groups = self.places.of(x, lengths)
        index, centre, there, valid = groups.index, groups.centre, groups.there, groups.valid
        if keep is not None:
            wide = keep[..., None].expand(-1, -1, index.shape[2])
            index, centre = index.gather(1, wide), centre.gather(1, keep)
            there, valid = (None, None) if there is None else (there.gather(1, wide), valid.gather(1, keep))
            masked = None if masked is None else masked.gather(1, keep)
        points, centre = gather_points(x, index), gather_points(x[:, :3], centre)
        points = torch.cat([(points[..., :3] - centre[:, :, None]) * self.zoom, points[..., 3:]], 3)
        tokens = replace(self.look(points, there), masked, mask_token) + self.positions(centre)
        cls, tokens, outputs = self.transformer(tokens, valid, layers)
        return Features(pool(cls, tokens, valid, self.pool), tokens, outputs, None if valid is None else valid.sum(1))


class PointNet(Backbone):
    """PointNet (Qi et al., 2017) without its alignment networks: x [B, C, P] → pooled [B, 2 D], the largest and the mean of what the
    same layers make of every point. LayerNorm (without shift) in place of BatchNorm: padding has no part in it."""

    def __init__(self, channels: int, widths: Sequence[int]):
        super().__init__()
        self.width = 2 * widths[-1]
        parts: list[nn.Module] = []
        for before, after in zip([channels, *widths], widths):
            parts += [nn.Linear(before, after), nn.LayerNorm(after, bias=False), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*parts)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None, layers: Sequence[int] = ()) -> Features:
        self.refuse(keep, layers)
        points = self.layers(mask_steps(x, lengths).transpose(1, 2))  # [B, P, D]
        if lengths is None:
            return Features(torch.cat([largest(points, None), points.mean(1)], 1))
        there = valid_steps(lengths, x.shape[2])
        mean = (points * there[..., None]).sum(1) / lengths.clamp(min=1)[:, None].to(points.dtype)
        return Features(torch.cat([largest(points, there), mean], 1))


def of_points(facts: Facts, name: str) -> None:
    if facts.modality != "points":
        raise NotApplicable(f"The backbone '{name}' needs points in space, not {facts.modality} items: use vit_tiny or convnet.")


@register("pointnet", kind="backbone")
def pointnet(facts: Facts, *, widths: Sequence[int] = (32, 64, 128)) -> PointNet:
    """widths: of the layers; the encoder is twice as wide as the last."""
    of_points(facts, "pointnet")
    return PointNet(facts.shape[0], tuple(widths))


@register("point_transformer", kind="backbone")
def point_transformer(facts: Facts, *, groups: int | None = None, size: int | None = None, width: int = 128, depth: int = 4,
                      heads: int = 4, ratio: float = 2.0, pool: str = "mean") -> PointTransformer:
    """groups: of a whole cloud (None: one for 16 points, at least 16). size: points of a group (None: twice the points over the groups,
    at most 32). pool: mean or cls."""
    of_points(facts, "point_transformer")
    channels, points = facts.shape
    groups = min(groups or max(16, points // 16), points)
    size = min(size or max(4, min(32, 2 * points // groups)), points)
    return PointTransformer(channels, points, groups=groups, size=size, width=width, depth=depth, heads=heads, ratio=ratio, pool=pool)
