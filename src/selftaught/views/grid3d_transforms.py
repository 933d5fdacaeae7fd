"""Views of clips and volumes for pretexts: turns to be told apart, blocks in their places, known transformations."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import TRANSFORM_WIDTH, Batch, Draws, Patches, Transformed, View
from . import colour
from .grid3d import ClipViews, GridSpec, GridViews
from .image_transforms import TransformedImages, aperture_boxes, blur_chroma
from .told_apart import ToldApart

FLIPS = ("reverse", "vertical_flip", "flip")  # along the three axes


class TransformedGrid(ToldApart):
    """turn: of a clip as it is, backward in time, turned by half in space, both; of a volume as it is, turned by half about its first,
    second and third axis. The other kinds are those of images, alike in all frames or slices."""

    def __init__(self, views: GridViews, need: Transformed):
        super().__init__(views, need)
        self.time, self.images = isinstance(views, ClipViews), TransformedImages(views, need)

    def changed(self, view: View, number: Tensor, draws: Draws) -> Tensor:
        if self.need.kind == "turn":
            return half_turned(view.x, number, time=self.time)
        flat = view.x.flatten(2, 3) if self.need.kind == "channels" else view.x.flatten(1, 2)
        return self.images.changed(view.with_(x=flat), number, draws).view(view.x.shape)


def half_turned(x: Tensor, number: Tensor, *, time: bool) -> Tensor:
    """x [B, C, A, H, W] under the classes `number` (int64 [B]) of `TransformedGrid`'s turn."""
    chosen = number.view(-1, 1, 1, 1, 1)
    if time:
        x = torch.where(chosen % 2 == 1, x.flip(2), x)
        return torch.where(chosen >= 2, x.flip(3, 4), x)
    for k, axes in enumerate(((3, 4), (2, 4), (2, 3)), start=1):
        x = torch.where(chosen == k, x.flip(*axes), x)
    return x


class GridPatches:
    """Maker for `Patches`: the clip or volume as side³ cells, a view (a block) of each in reading order, of the first axis first.

    `views`: makes as many as there are blocks, after one of the whole where the need asks for it. A block covers 1 − jitter of its cell
    along each axis and lies anywhere within it, all blocks of an item alike if yoked. Flips are the item's; `turn` is that of
    `Transformed`; an aperture is the same in all frames or slices; chroma is blurred in all frames of a clip in colour. applied: flips,
    aperture [B, 4], turn."""

    def __init__(self, views: GridViews, need: Patches):
        self.views, self.need = views, need
        self.first, self.time = int(need.whole), isinstance(views, ClipViews)

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        own, need = draws.split("patches"), self.need
        if need.blur_chroma and self.time and batch.x.shape[1] == 3:
            frames = batch.x.transpose(1, 2)  # [B, T, 3, S, S]
            chosen = own.happens("chroma", need.blur_chroma).repeat_interleave(frames.shape[1])
            blurred = blur_chroma(frames.flatten(0, 1), chosen).unflatten(0, frames.shape[:2]).transpose(1, 2)
            batch = replace(batch, fields=batch.fields | {"x": blurred})
        turn = torch.where(own.happens("turn?", need.turn), 1 + own.integers("turn", 3), 0)
        views = self.views(batch, draws, lambda plans, sizes: self._placed(plans, sizes, own))
        return views[: self.first] + [self._finished(view, turn, own.split(k)) for k, view in enumerate(views[self.first :])]

    def _placed(self, plans: list[dict[str, Tensor]], sizes: Tensor, draws: Draws) -> list[dict[str, Tensor]]:
        count, spec = self.need.side**3, self.views.specs[-1]
        flips = {name: draws.happens(name, getattr(spec, name)) for name in FLIPS}
        moved = draws.uniform("place", 1 if self.need.yoked else count, 3).expand(-1, count, 3)
        boxes = cell_boxes(self.views.whole(sizes, draws), self.need, moved, torch.stack(list(flips.values()), 1))
        changes = [{"box": boxes[:, k], **flips} for k in range(count)]
        return plans[: self.first] + [plan | change for plan, change in zip(plans[self.first :], changes, strict=True)]

    def _finished(self, view: View, turn: Tensor, draws: Draws) -> View:
        x = half_turned(view.x, turn, time=self.time) if self.need.turn else view.x
        seen = aperture_boxes(draws, self.need.aperture)
        if self.need.aperture:
            x = x.masked_fill(~colour.inside(seen, x.shape[1:])[:, :, None], 0.0)
        return view.with_(x=x, applied=view.applied | {"turn": turn, "aperture": seen})


def cell_boxes(whole: Tensor, need: Patches, moved: Tensor, flips: Tensor) -> Tensor:
    """float32 [B, side³, 6]: where the blocks lie. whole: [B, 6], the box that the grid divides. moved: [B, side³, 3] in [0, 1], the place
    within the room that the jitter leaves. flips: bool [B, 3]."""
    side = need.side
    line = torch.arange(side, device=whole.device)
    cell = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).view(-1, 3)  # [side³, 3]
    start = (cell + need.jitter * moved) / side
    stop = start + (1 - need.jitter) / side
    mirrored = flips[:, None]
    start, stop = torch.where(mirrored, 1 - stop, start), torch.where(mirrored, 1 - start, stop)
    low, extent = whole[:, None, :3], (whole[:, 3:] - whole[:, :3])[:, None]
    return torch.cat([low + extent * start, low + extent * stop], 2)


class KnownGrid:
    """Maker for `Pair(known=True)`: the views of `views`, each with `applied["transform"]`."""

    def __init__(self, views: GridViews):
        self.views, self.time = views, isinstance(views, ClipViews)

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        return [view.with_(applied=view.applied | {"transform": described(view.applied, spec, self.time)})
                for view, spec in zip(self.views(batch, draws), self.views.specs, strict=True)]


def described(applied: dict[str, Tensor], spec: GridSpec, time: bool) -> Tensor:
    """float32 [B, TRANSFORM_WIDTH], each about −1 to 1: centre of the crop along the three axes, log of its part of the area (volume; −1
    the least that may be drawn, 1 all), flip, reverse, the stride of a clip (vertical flip of a volume), brightness in parts of its
    strength."""
    box = applied["box"]
    centre, part = box[:, :3] + box[:, 3:] - 1, (box[:, 4:] - box[:, 1:3]).prod(1) if time else applied["part"]
    part = 1 - 2 * part.log() / min(math.log(spec.scale[0]), -1e-3)
    low, high = spec.stride
    third = 2 * (applied["stride"] - low) / max(high - low, 1) - 1 if time else applied["vertical_flip"].float()
    brightness = (applied["brightness"] - 1) / max(spec.brightness, 1e-3)
    rest = torch.stack([part, applied["flip"].float(), applied["reverse"].float(), third, brightness], 1)
    found = torch.cat([centre, rest], 1)
    return F.pad(found, (0, TRANSFORM_WIDTH - found.shape[1]))
