"""Volumes: canvases at one spacing → tensors; crops, turns and intensities along three axes of space; a 3-D backbone; a slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..contracts import Clean, Measured, MultiCrop, Need, OptionError, Pair, Patches, Single, Source, Transformed, register
from ..views.grid3d import GridSpec, VolumeViews
from .base import Preprocessing, innermost
from .grid3d import GridModality, default_side, moments, unavailable

_MOST = 64  # cells along the longest axis unless asked for more
LEAST = 4  # cells along an axis of a local view or a block
STRONG = {"scale": (0.3, 1.0), "reverse": 0.5, "vertical_flip": 0.5, "flip": 0.5, "turn": 0.5, "jitter": 0.8, "noise": 0.05, "blur": 0.3}

STILL = {"reverse": 0.0, "vertical_flip": 0.0, "flip": 0.0, "turn": 0.0}


class VolumeModality(GridModality):
    """Items are float32 [C, D, H, W] at one spacing, in 0..1 between each volume's percentiles, in the middle of their canvas. The network
    sees `facts.shape` = (C, D, H, W), the whole canvas or crops that are resized to it."""

    name = "volume"
    opens_with = {"modality": "volume"}  # arrays do not say that they are volumes
    maker = VolumeViews
    idle = ("size", "stride", "rotate", "saturation", "hue", "grey", "solarise", "cutout_size", "crop_fraction")

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = 64) -> Preprocessing:
        """Settles spacing and canvas: the median spacing, coarser along the axes that would have more than `resolution` cells, and room
        for the longest volume looked at; then reads evenly spaced volumes for mean and deviation."""
        if resolution is not None and resolution < 4:
            raise OptionError(f"resolution={resolution} is too small: of volumes it is the cells along the longest axis, at least 4.")
        measured = innermost(source).measured
        extent = measured.extents.max(0)
        resolution = int(resolution or default_side(max(measured.shape), _MOST, 8))
        spacing = np.maximum(measured.spacing, extent / resolution)
        shape = tuple(int(min(-(-round(cells, 6) // 4) * 4, max(resolution, 4))) for cells in extent / spacing)
        source.set_canvas((shape, spacing))
        mean, std = moments(source, sample, lambda item: middle(item["x"], item["size"]))
        said = " × ".join(f"{v:.3g}" for v in spacing)
        reasons = [f"spacing {said}: {'the median' if (spacing == measured.spacing).all() else 'as fine as the resolution allows'}",
                   f"{' × '.join(map(str, shape))} cells: room for the longest of {len(measured.extents)} volumes looked at"]
        statistics = {"mean": mean, "std": std, "low": 0.0, "high": 1.0, "clamp": True, "canvas": list(shape),
                      "spacing": spacing.tolist(), "reasons": reasons}
        return Preprocessing(self.name, source.facts.with_(shape=(len(mean), *shape)), statistics)

    def resolution(self, shape: tuple[int, ...]) -> int:
        return max(shape[1:])

    def configure(self, source: Source, preprocessing: Preprocessing) -> None:
        """Has the source resample to the spacing and the canvas of training."""
        source.set_canvas((tuple(preprocessing.statistics["canvas"]), preprocessing.statistics["spacing"]))

    def specs(self, need: Need, preprocessing: Preprocessing) -> list[GridSpec]:
        """Clean: the canvas. weak (Single, Transformed, Patches): a crop of at least half. strong (Single, Pair, MultiCrop): a crop of at
        least .3, flips along each axis, quarter turns, brightness, contrast, blur and noise. Pair(asymmetric): blur in one, more noise
        in the other; Pair(known): no turns. A Transformed turn is by half about one of the axes; a TurnedPair has no other turns or
        flips. Patches: blocks."""
        shape = preprocessing.facts.shape[1:]
        weak = GridSpec(shape[-1], shape=shape, flip=0.0, scale=(0.5, 1.0), sigma=(0.1, 1.0), role="weak")
        strong = replace(weak, **STRONG, role="global")
        if isinstance(need, Clean):
            return [replace(weak, centre=True, role="clean")]
        if isinstance(need, Single):
            return [weak if need.strength == "weak" else replace(strong, role="strong")]
        if isinstance(need, Pair):
            sides = [replace(strong, blur=0.8), replace(strong, blur=0.1, noise=0.1)] if need.asymmetric else [strong, strong]
            still = STILL if isinstance(need, Transformed) else {"turn": 0.0} if need.known else {}
            return [replace(sides[k % 2], **still) for k in range(need.count)]
        if isinstance(need, MultiCrop):
            return [strong] * need.large + [_sized(replace(strong, scale=(0.1, 0.3), role="local"), 0.5)] * need.small
        if isinstance(need, Patches):
            block = _sized(replace(weak, role="local"), (1 - need.jitter) / need.side)
            return [*([strong] if need.whole else []), block]
        if isinstance(need, Transformed) and (need.kind == "turn" or need.kind != "channels" and shape[1] == shape[2]):
            return [weak]
        if not isinstance(need, Transformed):
            raise unavailable(self.name, need, "a volume is one moment, and nothing moves in it" if isinstance(need, Measured) else
                              "no view of that kind is defined for a volume")
        raise unavailable(self.name, need, "a volume has no colours" if need.kind == "channels" else
                          f"its slices of {shape[1]} × {shape[2]} cells are not square")

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """The middle slice along the first axis, in its own proportions."""
        from PIL import Image

        x = middle(item["x"], item["size"])
        pixels = (x[:, x.shape[1] // 2].mean(0).clip(0, 1) * 255).round().astype(np.uint8)
        extent = np.array(pixels.shape) * np.asarray(preprocessing.statistics["spacing"])[1:]
        height, width = (max(1, round(side * v / extent.max())) for v in extent)
        return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR).convert("RGB"))


def middle(x: np.ndarray, size: np.ndarray) -> np.ndarray:
    """[C, d, h, w]: what the volume takes of its canvas."""
    starts = [(room - int(n)) // 2 for room, n in zip(x.shape[1:], size)]
    return x[(slice(None), *(slice(start, start + int(n)) for start, n in zip(starts, size)))]


def _sized(spec: GridSpec, part: float) -> GridSpec:
    """The spec, with that part of the cells along each axis, an even number."""
    shape = tuple(min(n, max(LEAST, round(n * part / 2) * 2)) for n in spec.shape)
    return replace(spec, shape=shape, size=shape[-1])


register("volume", kind="modality")(VolumeModality())
