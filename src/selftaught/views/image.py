"""Views of images: what a view may do (ImageSpec) and the maker that does it to a whole batch at once (ImageViews)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..contracts import Batch, Draws, OptionError, View
from . import colour, geometry

_GATES = ("flip", "vertical_flip", "jitter", "grey", "blur", "solarise", "cutout", "turn", "sigma")
_CHUNK = 1 << 20  # numbers of the canvas handled at a time on a processor: what its caches hold


@dataclass(frozen=True)
class ImageSpec:
    """One view. Probabilities: flip, vertical_flip, jitter, grey, blur, solarise, cutout. Everything is drawn a sample.

    size: side in pixels. scale, ratio: of the random crop (fraction of the area; width / height). rotate: largest turn in
    degrees either way. brightness, contrast, saturation, hue: strengths of the jitter. sigma: of the blur, pixels.
    cutout_size: side of the square as a fraction. noise: standard deviation, white = 1. cubic: Keys' cubic in place of the
    triangle (not where rotated). centre: no draw at all; the central square, crop_fraction of the shorter side.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    vertical_flip: float = 0.0
    rotate: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey: float = 0.0
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0
    cutout: float = 0.0
    cutout_size: float = 0.5
    noise: float = 0.0
    cubic: bool = False
    centre: bool = False
    crop_fraction: float = 1.0
    role: str = "global"

    def __post_init__(self) -> None:
        for name, most in (("scale", 1.0), ("ratio", math.inf)):
            low, high = getattr(self, name)
            if not 0 < low <= high <= most:
                raise OptionError(f"Views of images: {name}={low:g},{high:g} is no range; give two rising positive numbers"
                                  f"{' up to 1' if most == 1 else ''}, such as 0.5,1.")
        for name in ("flip", "vertical_flip", "jitter", "grey", "blur", "solarise", "cutout", "crop_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise OptionError(f"Views of images: {name}={getattr(self, name)} does not lie between 0 and 1.")
        for name in ("rotate", "brightness", "contrast", "saturation", "hue", "cutout_size", "noise"):
            if getattr(self, name) < 0:
                raise OptionError(f"Views of images: {name}={getattr(self, name)} is negative; 0 switches it off.")
        if self.size < 1:
            raise OptionError(f"Views of images: size={self.size} has no pixels; give at least 1.")


class ImageViews:
    """Maker of the views `specs` from canvases: uint8, int32 or float [B, C, S, S] in `x`, original (h, w) in `size`.

    statistics: `low` and `high` (values of black and white), `mean` and `std` a channel in [0, 1] units, `clamp` (values beyond
    are cut; not for measured floats). A view is float32 [B, C, size, size], normalised. Pure: the same batch and draws give the
    same views; a sample's draws do not depend on the rest of its batch.
    """

    def __init__(self, specs: list[ImageSpec], statistics: dict[str, Any], *, channels_last: bool = False):
        self.specs = list(specs)
        self.low, self.high, self.clamp = statistics["low"], statistics["high"], statistics.get("clamp", True)
        self.mean, self.std = tuple(statistics["mean"]), tuple(statistics["std"])
        self.channels_last = channels_last

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        with torch.autocast(batch.fields["x"].device.type, enabled=False):  # colours need more than bfloat16's 8 bits
            return self._make(batch.fields["x"], batch.fields["size"], draws)

    def _make(self, canvas: Tensor, sizes: Tensor, draws: Draws) -> list[View]:
        """On a processor a few samples at a time, all their views, so that the caches hold what is worked on."""
        b, c, s, _ = canvas.shape
        plans = self._plans(draws, sizes, c)
        chunk = b if canvas.is_cuda else min(b, max(1, _CHUNK // (c * s * s)))
        parts: list[list[Tensor]] = [[] for _ in self.specs]
        for start in range(0, b, chunk):
            rows = slice(start, start + chunk)
            columns_first = canvas[rows].transpose(2, 3).contiguous().to(torch.float32)
            for k, (spec, applied) in enumerate(zip(self.specs, plans, strict=True)):
                own = Draws(draws.keys[rows], draws.step_key).split(f"view{k}")
                parts[k].append(self._render(columns_first, sizes[rows], {n: v[rows] for n, v in applied.items()}, own, spec))
        memory = torch.channels_last if self.channels_last else torch.contiguous_format
        whole = [(p[0] if len(p) == 1 else torch.cat(p)).contiguous(memory_format=memory) for p in parts]
        return [View(x, positions=a["box"], applied=a, role=s.role) for x, a, s in zip(whole, plans, self.specs, strict=True)]

    def _plans(self, draws: Draws, sizes: Tensor, channels: int) -> list[dict[str, Tensor]]:
        """What every view does to each sample."""
        return [self._plan(draws.split(f"view{k}"), sizes, spec, channels) for k, spec in enumerate(self.specs)]

    def _plan(self, draws: Draws, sizes: Tensor, spec: ImageSpec, channels: int) -> dict[str, Tensor]:
        """All that a view does to each sample, but the noise: name → [B, ...]."""
        if spec.centre:
            return {"box": geometry.centre_boxes(sizes, spec.crop_fraction)}
        return self._draw(draws, sizes, spec, channels)

    @staticmethod
    def _draw(draws: Draws, sizes: Tensor, spec: ImageSpec, channels: int) -> dict[str, Tensor]:
        """A gate keeps its place among the draws whatever else is on."""
        u = dict(zip(_GATES, draws.uniform("gates", len(_GATES)).unbind(1), strict=True))
        happens = {name: u[name] < getattr(spec, name) for name in _GATES[:7]}
        photo = channels == 3
        applied = {"box": geometry.crop_boxes(draws, sizes, spec.scale, spec.ratio), "flip": happens["flip"],
                   "vertical_flip": happens["vertical_flip"], "angle": spec.rotate * (2.0 * u["turn"] - 1.0),
                   "jittered": happens["jitter"], "grey": happens["grey"] & photo, "solarised": happens["solarise"],
                   "sigma": torch.where(happens["blur"], spec.sigma[0] + (spec.sigma[1] - spec.sigma[0]) * u["sigma"], 0.0)}
        strengths = (spec.brightness, spec.contrast, spec.saturation * photo, spec.hue * photo)
        applied |= colour.jitter_factors(draws, happens["jitter"], strengths)
        return applied | {"cutout": colour.cutout_boxes(draws, happens["cutout"], spec.cutout_size)}

    def _render(self, columns_first: Tensor, sizes: Tensor, applied: dict[str, Tensor], draws: Draws, spec: ImageSpec
                ) -> Tensor:
        """[B, C, W, H] → normalised [B, C, size, size]: one resampling, one colour matrix, one clamp."""
        random = not spec.centre
        x = self._gather(columns_first, sizes, applied, spec)
        if random and (spec.jitter or spec.grey):
            x = colour.apply_colour(x, applied, applied["grey"], self.low, self.high)
        else:
            x = x.sub_(self.low).mul_(1.0 / (self.high - self.low))
        if self.clamp or (random and spec.solarise):
            x = x.clamp_(0.0, 1.0)
        if random and spec.solarise:
            x = colour.solarise(x, applied["solarised"])
        mean, std = (colour.constants(x.device, *v).view(1, -1, 1, 1) for v in (self.mean, self.std))
        x = x.sub_(mean).div_(std)
        if random and spec.cutout:
            x = colour.cutout_(x, applied["cutout"])
        return x.addcdiv_(colour.noise(draws, x.shape), std, value=spec.noise) if random and spec.noise else x

    @staticmethod
    def _gather(columns_first: Tensor, sizes: Tensor, applied: dict[str, Tensor], spec: ImageSpec) -> Tensor:
        """The one resampling."""
        box = applied["box"]
        if spec.centre:
            still = torch.zeros_like(box[:, 0], dtype=torch.bool)
            return geometry.resample(columns_first, box, (still, still), None, spec.size, cubic=spec.cubic)
        flips, sigma = (applied["vertical_flip"], applied["flip"]), applied["sigma"] if spec.blur else None
        if not spec.rotate:
            return geometry.resample(columns_first, box, flips, sigma, spec.size, cubic=spec.cubic)
        x = geometry.turn(columns_first, box, applied["angle"], flips, sizes, spec.size)
        return x if sigma is None else geometry.blur(x, sigma)
