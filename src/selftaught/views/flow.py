"""What moves in a clip and where: optical flow between frames, and the statistics of motion and appearance that can be read off a clip.

Flow is that of Lucas & Kanade (1981) on a pyramid (Bouguet, 2000); the statistics are those of Wang et al. (2019), as their code has
them. Everything is batched and made of sums over neighbours, the same for a clip whatever else is in its batch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import Batch, Draws, Measured, View
from . import colour
from .grid3d import ClipViews

LEVELS, DIRECTIONS = 16, 8  # of a colour histogram; of a gradient
PARTITIONS = (16, 4, 8)  # blocks of each: squares, rings, and halves of the quarters


# ---- flow ---------------------------------------------------------------------------------------------------------------------


def optical_flow(first: Tensor, second: Tensor, *, levels: int = 2, steps: int = 3, radius: int = 4, floor: float = 2e-3) -> Tensor:
    """float32 [B, 2, H, W]: (right, down) in pixels, so that second(p + flow(p)) ≈ first(p). first, second: [B, H, W] in [0, 1].

    levels: of the pyramid, fewer where it would fall below 8 pixels; each doubles what motion is found. steps: on every level.
    radius: of the window, pixels. floor: added to the squared gradients, so that where nothing is seen nothing moves.
    """
    flow = torch.zeros(len(first), 2, *first.shape[1:], device=first.device)
    if levels > 1 and min(first.shape[1:]) >= 16:
        halves = (F.avg_pool2d(frame[:, None], 2)[:, 0] for frame in (first, second))
        coarse = optical_flow(*halves, levels=levels - 1, steps=steps, radius=radius, floor=floor)
        flow = 2 * F.interpolate(coarse, size=first.shape[1:], mode="bilinear", align_corners=False)
    slope = gradient(first)  # [B, 2, H, W]
    square = windowed(torch.stack([slope[:, 0] ** 2, slope[:, 0] * slope[:, 1], slope[:, 1] ** 2], 1), radius)
    xx, xy, yy = square[:, 0] + floor, square[:, 1], square[:, 2] + floor
    determinant = xx * yy - xy**2
    for _ in range(steps):
        x, y = windowed(slope * (first - warped(second, flow))[:, None], radius).unbind(1)
        change = torch.stack([yy * x - xy * y, xx * y - xy * x], 1) / determinant[:, None]
        flow = flow + change.clamp(-1, 1)  # a linear guess holds no farther
    return median(flow)


def warped(frame: Tensor, flow: Tensor) -> Tensor:
    """[B, H, W]: frame(p + flow(p)), linear between pixels; beyond the edge, the edge."""
    height, width = frame.shape[1:]
    rows, columns = (torch.arange(n, device=frame.device, dtype=flow.dtype) for n in (height, width))
    x, y = (2 * (flow[:, 0] + columns) + 1) / width - 1, (2 * (flow[:, 1] + rows[:, None]) + 1) / height - 1
    return F.grid_sample(frame[:, None], torch.stack([x, y], -1), padding_mode="border", align_corners=False)[:, 0]


def gradient(x: Tensor) -> Tensor:
    """[..., 2, H, W]: central differences of x [..., H, W] to the right and down."""
    padded = F.pad(x.flatten(0, -3)[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    right, down = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2], padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
    return (torch.stack([right, down], 1) / 2).unflatten(0, x.shape[:-2])


def windowed(x: Tensor, radius: int) -> Tensor:
    """x [B, C, H, W] as means over binomial windows of 2 · radius + 1 pixels a side."""
    weights = [math.comb(2 * radius, k) / 4**radius for k in range(2 * radius + 1)]
    padded = F.pad(x, (radius,) * 4, mode="replicate")
    rows = sum(w * padded[:, :, k : k + x.shape[2]] for k, w in enumerate(weights))
    return sum(w * rows[..., k : k + x.shape[3]] for k, w in enumerate(weights))


def median(x: Tensor) -> Tensor:
    """x [B, C, H, W] with every value replaced by the median of 3 × 3 (Sun et al., 2010: outliers go, edges stay): the middle one of the
    largest low, the middle middle and the lowest high of three sorted columns, which is far faster than sorting nine."""
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    low, mid, high = _sorted(*(padded[:, :, i : i + height] for i in range(3)))
    lows, mids, highs = (_sorted(*(part[..., j : j + width] for j in range(3))) for part in (low, mid, high))
    return _sorted(lows[2], mids[1], highs[0])[1]


def _sorted(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    return torch.minimum(low, c), torch.maximum(low, torch.minimum(high, c)), torch.maximum(high, c)


def clip_flow(clip: Tensor) -> Tensor:
    """[B, T − 1, 2, H, W]: flow from each frame to the next. clip: [B, C, T, H, W] in [0, 1]; of colours, their mean, a little smoothed
    against noise."""
    grey = windowed(clip.mean(1), 1)  # of frames, as channels
    flow = optical_flow(grey[:, :-1].flatten(0, 1), grey[:, 1:].flatten(0, 1))
    return flow.unflatten(0, (len(clip), -1))


# ---- statistics -----------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def partitions(height: int, width: int, device: torch.device | str) -> Tensor:
    """int64 [3, H · W]: the block of every pixel among all 28: a grid of 4 × 4 squares, four rings from the middle outward, and the four
    quarters, each cut along its diagonal through the middle. Of a few pixels some blocks are empty: a
    ring where a side has less than 7."""
    y, x = ((2 * torch.arange(n, device=device) + 1) / n - 1 for n in (height, width))  # −1 to 1
    y, x = y[:, None].expand(height, width), x.expand(height, width)
    grid = ((y + 1) * 2).long() * 4 + ((x + 1) * 2).long()
    rings = (torch.maximum(y.abs(), x.abs()) * 4).long()
    halves = ((y > 0).long() * 2 + (x > 0).long()) * 2 + (y.abs() > x.abs()).long()
    return torch.stack([grid, rings + PARTITIONS[0], halves + sum(PARTITIONS[:2])]).flatten(1)


@lru_cache(maxsize=16)
def membership(height: int, width: int, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor]:
    """float32 [H · W, 28]: 1 where a pixel lies in a block; the pixels of each, at least 1 [28]; which are empty, bool [28]."""
    inside = F.one_hot(partitions(height, width, device), sum(PARTITIONS)).sum(0).float()
    pixels = inside.sum(0)
    return inside, pixels.clamp(min=1), pixels == 0


def placed(number: Tensor, count: int) -> Tensor:
    """Numbers 0 … count − 1 in −1 to 1."""
    return (2.0 * number + 1) / count - 1


def motion_statistics(flow: Tensor) -> Tensor:
    """float32 [B, 14] in −1 to 1, from flow [B, T − 1, 2, H, W]. Of the gradients of u, then of v, summed over the clip: for each of three
    partitions the block where they are largest and their direction there, of 8 (12 numbers); the frames in which those of u and of v are
    largest. Motion that the whole frame has in common has no gradient."""
    pairs, (height, width) = flow.shape[1], flow.shape[-2:]
    inside, pixels, empty = membership(height, width, flow.device)
    blocks = inside.to(flow.dtype)
    edges = gradient(flow)  # [B, T − 1, (u, v), 2, H, W]
    total = edges.sum(1).flatten(-2)  # [B, 2, 2, H · W]
    size = total.square().sum(2).sqrt()  # [B, 2, H · W]
    angle = torch.atan2(total[:, :, 1], total[:, :, 0]) * (DIRECTIONS / (2 * math.pi)) % DIRECTIONS
    bins = torch.arange(DIRECTIONS, device=flow.device)[:, None]
    apart = (angle[:, :, None] - bins).abs()
    votes = (1 - torch.minimum(apart, DIRECTIONS - apart)).clamp(min=0) * size[:, :, None]  # [B, 2, 8, H · W]: to both bins beside it
    here, ways = (size @ blocks / pixels).masked_fill(empty, -1.0).split(PARTITIONS, -1), (votes @ blocks).split(PARTITIONS, -1)
    found = []
    for count, mean, way in zip(PARTITIONS, here, ways):
        largest = mean.argmax(-1)  # [B, 2]
        way = way.gather(-1, largest[..., None, None].expand(*way.shape[:3], 1))[..., 0].argmax(-1)
        found.append(torch.stack([placed(largest, count), placed(way, DIRECTIONS)], -1).flatten(1))
    frame = edges.square().sum(3).sqrt().mean((-2, -1)).argmax(1)  # [B, 2]
    return torch.cat([*found, placed(frame, pairs)], 1)


def appearance_statistics(clip: Tensor) -> Tensor:
    """float32 [B, 13] in −1 to 1, from a clip [B, C, T, H, W] in [0, 1]: for each of three partitions the block whose colours change most,
    its dominant colour, the block whose colours change least, and its; the dominant colour of all. Change: one less the overlap of the
    frames' histograms, least over most, of each channel, in 16 levels (the authors' 256 are too many for small blocks). Colours: 8, each
    of the first three channels dark or bright."""
    b, channels, frames, height, width = clip.shape
    place, empty = partitions(height, width, clip.device), membership(height, width, clip.device)[2]  # [3, H · W], [28]
    level = (clip.flatten(-2) * LEVELS).long().clamp(0, LEVELS - 1)  # [B, C, T, H · W]
    counts = histogram(level, place, LEVELS)  # [B, C, T, 16, 28]
    overlap = (counts.amin(2).sum(2) / counts.amax(2).sum(2).clamp(min=1)).mean(1)  # [B, 28]
    weights = 2 ** torch.arange(min(channels, 3), device=clip.device)
    hue = ((clip[:, :3] >= 0.5).long() * weights.view(-1, 1, 1, 1)).sum(1)  # [B, T, H, W]
    colours = 2 ** min(channels, 3)
    shown = histogram(hue.flatten(1), place.repeat(1, frames), colours)  # [B, 8, 28]
    found = []
    least, most = (overlap.masked_fill(empty, out).split(PARTITIONS, 1) for out in (2.0, -1.0))
    for count, changed, same, seen in zip(PARTITIONS, least, most, shown.split(PARTITIONS, 2)):
        for block in (changed.argmin(1), same.argmax(1)):
            dominant = seen.gather(2, block[:, None, None].expand(b, colours, 1))[..., 0].argmax(1)
            found += [placed(block, count), placed(dominant, colours)]
    return torch.stack([*found, placed(shown.split(PARTITIONS, 2)[0].sum(2).argmax(1), colours)], 1)


def histogram(values: Tensor, place: Tensor, count: int) -> Tensor:
    """float32 [..., count, 28]: how often each of `count` values (int64 [..., N]) is in each block. place: int64 [3, N]."""
    blocks, rows = sum(PARTITIONS), values.flatten(0, -2)
    found = torch.zeros(len(rows), count * blocks, device=values.device)
    for partition in place:
        found.scatter_add_(1, rows * blocks + partition, torch.ones_like(rows, dtype=found.dtype))
    return found.view(*values.shape[:-1], count, blocks)


MEASURES = {"motion": lambda clip: motion_statistics(clip_flow(clip)), "appearance": appearance_statistics}


class MeasuredClips:
    """Maker for `Measured`: the views of `views`, each with what its `need` asks for, measured in its own pixels."""

    def __init__(self, views: ClipViews, need: Measured):
        self.views, self.need = views, need

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        return [view.with_(applied=view.applied | self.measured(view.x)) for view in self.views(batch, draws)]

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        mean, std = (colour.constants(x.device, *v).view(-1, 1, 1, 1) for v in (self.views.mean, self.views.std))
        with torch.autocast(x.device.type, enabled=False):
            clip = (x * std + mean).clamp(0, 1)
            return {kind: MEASURES[kind](clip) for kind in self.need.kinds}
