"""Views of images for pretexts: transformations to be told apart, patches in their places, transformations that are known."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import TRANSFORM_WIDTH, Batch, Draws, Patches, View
from . import colour, geometry
from .image import ImageSpec, ImageViews
from .told_apart import ToldApart

LEAST_PATCH = 8  # pixels: a network of three halvings still sees one place
APERTURE = (0.5, 1.0)  # part of a patch's side that stays visible


# ---- transformations to be told apart ------------------------------------------------------------------------------------


class TransformedImages(ToldApart):
    """turn: np.rot90's quarter turns, counterclockwise. channels: the six orders of itertools.permutations. patch_turn: a square of
    a sixteenth to half of the side, anywhere (LoRot-I; Moon et al., 2022). quadrant_turn: a quadrant in reading order (LoRot-E).
    """

    def changed(self, view: View, number: Tensor, draws: Draws) -> Tensor:
        x, side, zero = view.x, view.x.shape[-1], torch.zeros_like(number)
        if self.need.kind == "channels":
            return x.gather(1, channel_orders(x.device)[number][:, :, None, None].expand_as(x))
        if self.need.kind == "turn":
            return turned(x, number, zero, zero, zero + side)
        if self.need.kind == "quadrant_turn":
            half, quadrant = side // 2, number // 4
            return turned(x, number % 4, (quadrant // 2) * (side - half), (quadrant % 2) * (side - half), zero + half)
        least = max(2, side // 16)
        size = least + draws.integers("size", max(side // 2 - least, 0) + 1)
        room = side - size + 1
        return turned(x, number, draws.integers("top", room), draws.integers("left", room), size)


@lru_cache(maxsize=4)
def channel_orders(device: torch.device) -> Tensor:
    """int64 [6, 3]: the orders of three channels, the first as they are."""
    return torch.tensor(list(itertools.permutations(range(3))), device=device)


def turned(images: Tensor, quarters: Tensor, top: Tensor, left: Tensor, size: Tensor) -> Tensor:
    """Images [B, C, S, S] of which the square of `size` pixels at (top, left) is turned in place by `quarters`, as np.rot90
    turns; all int64 [B]. Everything outside the square stays."""
    side = images.shape[-1]
    pixel = torch.arange(side, device=images.device)
    u, v = (pixel - top[:, None])[:, :, None], (pixel - left[:, None])[:, None, :]  # place within the square
    last, k = (size - 1)[:, None, None], quarters[:, None, None]
    row = torch.where(k == 0, u, torch.where(k == 1, v, torch.where(k == 2, last - u, last - v)))
    column = torch.where(k == 0, v, torch.where(k == 1, last - u, torch.where(k == 2, last - v, u)))
    within = (u >= 0) & (u <= last) & (v >= 0) & (v <= last)
    moved = (row + top[:, None, None]) * side + column + left[:, None, None]
    source = torch.where(within, moved, (pixel[:, None] * side + pixel)[None]).flatten(1)  # [B, S · S]
    return images.flatten(2).gather(2, source[:, None].expand(-1, images.shape[1], -1)).view(images.shape)


# ---- patches in their places -----------------------------------------------------------------------------------------------


class PatchViews(ImageViews):
    """Maker for `Patches`: the central square of every image as a grid of `side` × `side` cells, a view of each in reading order.

    A patch covers 1 − jitter of its cell and lies anywhere within it, all patches of an item alike if yoked. Flips are the item's:
    the whole grid is mirrored. Other settings of `spec` (jitter of colours, grey, blur) are drawn anew for every patch. Chroma is
    blurred on the item before it is cut (three channels only); what an aperture hides is the mean. `whole`: spec of a view of
    the whole that comes first. applied: flip, aperture [B, 4] (what is seen, in the patch's [0, 1]), turn and chroma_blurred.
    """

    def __init__(self, spec: ImageSpec, need: Patches, statistics: dict[str, Any], *, whole: ImageSpec | None = None,
                 channels_last: bool = False):
        self.need, self.first = need, 0 if whole is None else 1
        specs = [whole] * self.first + [spec] * need.side**2
        super().__init__(specs, statistics, channels_last=channels_last)

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        own = draws.split("patches")
        blurred = own.happens("chroma", self.need.blur_chroma)
        if self.need.blur_chroma and batch.x.shape[1] == 3:
            batch = replace(batch, fields=batch.fields | {"x": blur_chroma(batch.x, blurred)})
        happens = own.happens("turn?", self.need.turn)
        turn = torch.where(happens, 1 + own.integers("turn", 3), 0)
        views = super().__call__(batch, draws)
        patches = [self._finished(view, own.split(k), turn, blurred) for k, view in enumerate(views[self.first:])]
        return views[: self.first] + patches

    def _finished(self, view: View, draws: Draws, turn: Tensor, blurred: Tensor) -> View:
        x, zero = view.x, torch.zeros_like(turn)
        if self.need.turn:
            x = turned(x, turn, zero, zero, zero + x.shape[-1])
        seen = aperture_boxes(draws, self.need.aperture)
        if self.need.aperture:
            x = x.masked_fill(~colour.inside(seen, x.shape), 0.0)
        return view.with_(x=x, applied=view.applied | {"turn": turn, "aperture": seen, "chroma_blurred": blurred})

    def _plans(self, draws: Draws, sizes: Tensor, channels: int) -> list[dict[str, Tensor]]:
        plans, own, spec = super()._plans(draws, sizes, channels), draws.split("patches"), self.specs[-1]
        count = self.need.side**2
        flips = own.happens("vertical flip", spec.vertical_flip), own.happens("flip", spec.flip)
        moved = own.uniform("place", 1 if self.need.yoked else count, 2).expand(-1, count, 2)
        boxes = patch_boxes(geometry.centre_boxes(sizes), self.need.side, self.need.jitter, moved, flips)
        changes = [{"box": boxes[:, k], "vertical_flip": flips[0], "flip": flips[1]} for k in range(count)]
        return plans[: self.first] + [plan | change for plan, change in zip(plans[self.first:], changes, strict=True)]


def patch_size(side: int, need: Patches) -> int:
    """Pixels of a patch's view: about as many as it covers, a multiple of 16 (64 at 224 with a third and jitter .2), of 4 where
    the image is small, and at least 8."""
    step = 4 if side <= 64 else 16
    return max(LEAST_PATCH, round(side / need.side * (1 - need.jitter) / step) * step)


def patch_boxes(whole: Tensor, side: int, jitter: float, moved: Tensor, flips: tuple[Tensor, Tensor]) -> Tensor:
    """float32 [B, side², 4]: where the patches lie in the image. whole: [B, 4], the box that the grid divides. moved: [B, side², 2]
    in [0, 1], the place within the room that `jitter` leaves. flips: bool [B], vertical and horizontal."""
    cell = torch.arange(side * side, device=whole.device)
    corners = []
    for axis, number in ((0, cell // side), (1, cell % side)):
        start = (number + jitter * moved[..., axis]) / side
        stop = start + (1 - jitter) / side
        flip = flips[axis][:, None]
        start, stop = torch.where(flip, 1 - stop, start), torch.where(flip, 1 - start, stop)
        low, extent = whole[:, axis, None], (whole[:, axis + 2] - whole[:, axis])[:, None]
        corners.append((low + extent * start, low + extent * stop))
    (top, bottom), (left, right) = corners
    return torch.stack([top, left, bottom, right], 2)


def aperture_boxes(draws: Draws, probability: float) -> Tensor:
    """float32 [B, 4]: the square that is seen of a patch, half to all of the side, anywhere; the whole patch where none happens."""
    side = torch.where(draws.happens("aperture?", probability), draws.uniform("aperture", low=APERTURE[0], high=APERTURE[1]), 1.0)
    corner = draws.uniform("aperture place", 2) * (1 - side)[:, None]
    return torch.cat([corner, corner + side[:, None]], 1)


def blur_chroma(images: Tensor, chosen: Tensor) -> Tensor:
    """RGB [B, 3, S, S] (any type) as float32 with its chroma blurred where `chosen` (bool [B]); the luminance stays.

    Two box means of an eighth of the side each, mirrored at the edges: enough to wipe out what chromatic aberration leaves at
    edges (Mundhenk et al., 2018, blur the chroma channels of Lab; the chroma here is what remains beside BT.601's luminance).
    """
    x = images.to(torch.float32)
    luminance = torch.einsum("bchw,c->bhw", x, colour.constants(x.device, *colour.LUMINANCE))[:, None]
    chroma, reach = x - luminance, max(1, round(x.shape[-1] / 16))
    for _ in range(2):
        chroma = F.avg_pool2d(F.pad(chroma, (reach,) * 4, mode="reflect"), 2 * reach + 1, stride=1)
    return torch.where(chosen[:, None, None, None], luminance + chroma, x)


# ---- known transformations ----------------------------------------------------------------------------------------------


class KnownImages:
    """Maker for `Pair(known=True)`: the views of `views`, each with `applied["transform"]`."""

    def __init__(self, views: ImageViews):
        self.views = views

    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        views = self.views(batch, draws)
        return [view.with_(applied=view.applied | {"transform": described(view.applied, spec)})
                for view, spec in zip(views, self.views.specs, strict=True)]


def described(applied: dict[str, Tensor], spec: ImageSpec) -> Tensor:
    """float32 [B, TRANSFORM_WIDTH] of what was drawn: centre of the crop (y, x: −1 to 1 over the image), log of its area (−1 the
    least that may be drawn, 1 all), flip (0 or 1), sine and cosine of the turn, hue and brightness (in parts of their strength)."""
    box = applied["box"]
    centre, extent = box[:, :2] + box[:, 2:] - 1, box[:, 2:] - box[:, :2]
    area = 1 - 2 * extent.prod(1).log() / min(math.log(spec.scale[0]), -1e-3)
    angle = torch.deg2rad(applied["angle"])
    hue = applied["hue"] / max(spec.hue, 1e-3)
    brightness = (applied["brightness"] - 1) / max(spec.brightness, 1e-3)
    rest = torch.stack([area, applied["flip"].float(), angle.sin(), angle.cos(), hue, brightness], 1)
    found = torch.cat([centre, rest], 1)
    return F.pad(found, (0, TRANSFORM_WIDTH - found.shape[1]))
