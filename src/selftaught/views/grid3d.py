"""Views of what has three axes (clips, volumes): images' colours, shared over the first axis; time or depth in place of nothing.

A canvas [B, C, A, H, W] is gathered by one linear resampling along each axis, then seen as an image of A·h rows for all that is
done to values: what is drawn for a sample holds for all of its frames or slices. Boxes are (a0, y0, x0, a1, y1, x1) in [0, 1] of
the item's own frames and pixels (of a volume: of its canvas).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ..contracts import Batch, Draws, OptionError, View
from . import colour, geometry
from .image import ImageSpec, ImageViews
from .image_transforms import turned

_CHUNK = 1 << 21  # numbers of the canvas handled at a time on a processor
Change = Callable[[list[dict[str, Tensor]], Tensor], list[dict[str, Tensor]]]


@dataclass(frozen=True)
class GridSpec(ImageSpec):
    """One view. shape: its cells along the three axes (`size` is the last side). reverse: probability that the first axis is turned
    around. Of clips, stride: frames of the canvas from one to the next, uniform in the range, less where the clip is too short.
    Of volumes, scale: part of the volume's cells; ratio: of two sides; turn: probability of 1 to 3 quarter turns about the first axis
    (where the other two are equally long and spaced; a half turn where not). No cutout, and volumes are not rotated by degrees."""

    shape: tuple[int, int, int] = (1, 1, 1)
    reverse: float = 0.0
    stride: tuple[int, int] = (1, 1)
    turn: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("reverse", "turn"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"Views on three axes: {name}={getattr(self, name)} does not lie between 0 and 1.")
        if not 1 <= self.stride[0] <= self.stride[1]:
            raise OptionError(f"Views on three axes: stride={self.stride} is no rising range of whole numbers from 1.")
        if self.cutout:
            raise OptionError("Views on three axes know no cutout: leave it at 0.")


def lifted(spec: ImageSpec, depth: int, **more: Any) -> GridSpec:
    """A view of images as one of `depth` frames."""
    own = {f.name: getattr(spec, f.name) for f in fields(spec)}
    return GridSpec(**{**own, "shape": (depth, spec.size, spec.size), **more})


class GridViews(ImageViews):
    """Maker of the views `specs` from canvases [B, C, A, H, W] in `x`, with int64 [B, 3] in `size`: float32 [B, C, *spec.shape]. A
    subclass says in `_plan` what is drawn, and in `gathered` how it is read."""

    def __call__(self, batch: Batch, draws: Draws, change: Change | None = None) -> list[View]:
        """change: (plans, size) → plans, for makers that put views in places of their own."""
        with torch.no_grad(), torch.autocast(batch.x.device.type, enabled=False):
            return self._views(batch.x, batch.fields["size"], draws, change)

    def _views(self, canvas: Tensor, sizes: Tensor, draws: Draws, change: Change | None) -> list[View]:
        plans = self._plans(draws, sizes, canvas.shape[1])
        plans = plans if change is None else change(plans, sizes)
        b = len(canvas)
        chunk = b if canvas.is_cuda else min(b, max(1, _CHUNK // canvas[0].numel()))
        found = []
        for k, (spec, applied) in enumerate(zip(self.specs, plans, strict=True)):
            parts = []
            for start in range(0, b, chunk):
                rows = slice(start, start + chunk)
                own = Draws(draws.keys[rows], draws.step_key).split(f"view{k}")
                parts.append(self._render(canvas[rows], sizes[rows], {n: v[rows] for n, v in applied.items()}, own, spec))
            x = (parts[0] if len(parts) == 1 else torch.cat(parts)).unflatten(2, (spec.shape[0], -1))
            found.append(View(x, positions=applied["box"].clamp(0.0, 1.0), applied=applied, role=spec.role))
        return found

    def _gather(self, canvas: Tensor, sizes: Tensor, applied: dict[str, Tensor], spec: GridSpec) -> Tensor:
        """[B, C, A · h, w]: an image, for what is done to values."""
        return self.gathered(canvas, sizes, applied, spec).flatten(2, 3)

    def gathered(self, canvas: Tensor, sizes: Tensor, applied: dict[str, Tensor], spec: GridSpec) -> Tensor:
        """float32 [B, C, *spec.shape], a tensor of its own."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it reads a canvas")


class ClipViews(GridViews):
    """Views of clips: uint8 canvases [B, C, T, S, S], size (frames that are there, original height, width). Crop, flips and colours are
    those of images, one draw for all frames. A clip that is shorter than the view stands still at its end. statistics: also `window`,
    the frames that the network sees."""

    def __init__(self, specs: list[GridSpec], statistics: dict[str, Any]):
        super().__init__(specs, statistics)
        self.window = statistics["window"]

    def _plan(self, draws: Draws, sizes: Tensor, spec: GridSpec, channels: int) -> dict[str, Tensor]:
        plan = super()._plan(draws, sizes[:, 1:], spec, channels)
        frames, wanted = sizes[:, 0], spec.shape[0]
        stride = torch.ones_like(frames)
        if not spec.centre:
            most = ((frames - 1) // max(wanted - 1, 1)).clamp(min=1, max=spec.stride[1])
            least = most.clamp(max=spec.stride[0])
            stride = least + draws.integers("stride", most - least + 1)
        room = (frames - 1 - stride * (wanted - 1)).clamp(min=0)
        start = room // 2 if spec.centre else draws.integers("start", room + 1)
        first = (start + 0.5 - stride / 2) / frames  # each frame in the middle of its stride
        last = first + stride * wanted / frames
        box = torch.cat([first[:, None], plan["box"][:, :2], last[:, None], plan["box"][:, 2:]], 1)
        reverse = torch.zeros_like(frames, dtype=torch.bool) if spec.centre else draws.happens("reverse", spec.reverse)
        return plan | {"box": box, "stride": stride, "reverse": reverse}

    def whole(self, sizes: Tensor, draws: Draws) -> Tensor:
        """float32 [B, 6]: the box of the central square of as many frames in a row as the network sees, anywhere."""
        frames, square = sizes[:, 0], geometry.centre_boxes(sizes[:, 1:])
        seen = frames.clamp(max=self.window)
        first = draws.integers("window", frames - seen + 1) / frames
        return torch.cat([first[:, None], square[:, :2], (first + seen / frames)[:, None], square[:, 2:]], 1)

    def gathered(self, canvas: Tensor, sizes: Tensor, applied: dict[str, Tensor], spec: GridSpec) -> Tensor:
        box, reverse = applied["box"], applied["reverse"]
        frame = frames_of(box[:, 0], box[:, 3], reverse, sizes[:, 0], spec.shape[0])
        clip = canvas.transpose(1, 2)[torch.arange(len(canvas), device=canvas.device)[:, None], frame]  # [B, T, C, S, S], still uint8
        columns_first = clip.permute(0, 2, 1, 4, 3).contiguous().to(torch.float32).flatten(1, 2)  # [B, C · T, S, S]
        flat = ImageViews._gather(columns_first, sizes[:, 1:], applied | {"box": box[:, [1, 2, 4, 5]]}, replace(spec, size=spec.shape[2]))
        return flat.unflatten(1, (canvas.shape[1], -1))


def frames_of(start: Tensor, stop: Tensor, reverse: Tensor, frames: Tensor, count: int) -> Tensor:
    """int64 [B, count]: the frames in the middles of `count` equal parts of the stretch start … stop (in [0, 1] of `frames`)."""
    step = (torch.arange(count, device=start.device) + 0.5) / count
    step = torch.where(reverse[:, None], 1 - step, step)
    place = (start[:, None] + step * (stop - start)[:, None]) * frames[:, None]
    return place.floor().long().clamp(min=0).minimum(frames[:, None] - 1)


class VolumeViews(GridViews):
    """Views of volumes: float canvases [B, C, D, H, W], size (cells of the middle that the volume takes). A crop keeps the canvas's
    proportions but for `ratio`, and lies within the volume, or around it along an axis where that is shorter. Flips along each axis
    (reverse, vertical_flip, flip), blur along each, brightness and contrast a channel, noise. statistics: also `canvas`, its cells
    (D, H, W), and `spacing`, theirs along each axis."""

    def __init__(self, specs: list[GridSpec], statistics: dict[str, Any]):
        super().__init__(specs, statistics)
        self.canvas = tuple(statistics["canvas"])
        self.alike = math.isclose(*statistics["spacing"][1:], rel_tol=0.01)

    def _plan(self, draws: Draws, sizes: Tensor, spec: GridSpec, channels: int) -> dict[str, Tensor]:
        still = torch.zeros_like(sizes[:, 0], dtype=torch.bool)
        if spec.centre:
            whole = colour.constants(sizes.device, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0).repeat(len(sizes), 1)
            return {"box": whole, "reverse": still, "vertical_flip": still, "flip": still}
        u = draws.uniform("gates", 6)
        plan = {name: u[:, k] < p for k, (name, p) in enumerate((("reverse", spec.reverse), ("vertical_flip", spec.vertical_flip),
                                                                 ("flip", spec.flip), ("jittered", spec.jitter)))}
        plan |= {"box": crop_boxes(draws, self._extent(sizes), spec), "grey": still, "solarised": still}
        plan["part"] = (plan["box"][:, 3:] - plan["box"][:, :3]).prod(1) / self._extent(sizes).prod(1)
        plan["sigma"] = torch.where(u[:, 4] < spec.blur, draws.uniform("sigma", low=spec.sigma[0], high=spec.sigma[1]), 0.0)
        quarters = 1 + draws.integers("turn", 3)
        square = self.alike and spec.shape[1] == spec.shape[2]
        plan["turn"] = torch.where(u[:, 5] < spec.turn, quarters if square else torch.full_like(quarters, 2), 0)
        return plan | colour.jitter_factors(draws, plan["jittered"], (spec.brightness, spec.contrast, 0.0, 0.0))

    def _extent(self, sizes: Tensor) -> Tensor:
        """float32 [B, 3]: which part of the canvas, in its middle, each volume takes."""
        return sizes / colour.constants(sizes.device, *self.canvas)

    def whole(self, sizes: Tensor, draws: Draws) -> Tensor:
        """float32 [B, 6]: the box of all of each volume."""
        extent = self._extent(sizes)
        return torch.cat([(1 - extent) / 2, (1 + extent) / 2], 1)

    def gathered(self, canvas: Tensor, sizes: Tensor, applied: dict[str, Tensor], spec: GridSpec) -> Tensor:
        if spec.centre:
            return canvas.to(torch.float32, copy=True)
        x, box = canvas.to(torch.float32), applied["box"]
        for axis, name in enumerate(("reverse", "vertical_flip", "flip")):
            side = spec.shape[axis]
            x = along(x, axis + 2, geometry.resize_taps(box[:, axis], box[:, axis + 3], applied[name], x.shape[axis + 2], side,
                                                        cubic=spec.cubic))
            if spec.blur and side > 1:
                x = along(x, axis + 2, geometry.blur_taps(applied["sigma"], side))
        return quarter_turned(x, applied["turn"]) if spec.turn else x


def crop_boxes(draws: Draws, extent: Tensor, spec: GridSpec) -> Tensor:
    """float32 [B, 6]: a random crop of every volume. extent: [B, 3], which part of the canvas, in its middle, the volume takes.

    The crop's part of the volume (its cells by the volume's) is uniform in `scale`; the logarithms of the sides' proportions are uniform
    in `ratio`, drawn together where a side would be longer than the canvas."""
    part = (spec.scale[0] + (spec.scale[1] - spec.scale[0]) * draws.uniform("scale")) * extent.prod(1)
    low, high = math.log(spec.ratio[0]), math.log(spec.ratio[1])
    stretch = low + (high - low) * draws.uniform("ratio", 3)
    stretch = (stretch - stretch.mean(1, keepdim=True)) / 2  # [B, 3], in all 0: the part stays as it was drawn
    room = -part.log() / 3
    stretch = stretch * (room / stretch.amax(1).clamp(min=1e-6)).clamp(max=1.0)[:, None]
    side = (part.log()[:, None] / 3 + stretch).exp().clamp(max=1.0)  # 1 but for rounding
    start = (1 - extent) / 2 + draws.uniform("place", 3) * (extent - side)
    start = start.clamp(min=0.0).minimum(1 - side)
    return torch.cat([start, start + side], 1)


def along(x: Tensor, axis: int, taps: geometry.Taps) -> Tensor:
    """Weighted sums along one axis of x [B, C, ...]: its n places become the R of the taps [B, R, T]."""
    moved = x.movedim(axis, 2)
    return geometry.weigh_rows(moved.flatten(3).contiguous(), taps).unflatten(3, moved.shape[3:]).movedim(2, axis)


def quarter_turned(x: Tensor, number: Tensor) -> Tensor:
    """x [B, C, A, H, W] turned by `number` (int64 [B]) quarters about its first axis; only by halves where H ≠ W."""
    if x.shape[3] != x.shape[4]:
        return torch.where((number == 2)[:, None, None, None, None], x.flip(3, 4), x)
    zero = torch.zeros_like(number)
    return turned(x.flatten(1, 2), number, zero, zero, zero + x.shape[3]).view(x.shape)
