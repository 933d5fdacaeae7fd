"""Images: canvases from a source → tensors, the views of each need with the papers' settings, a backbone, a picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import (
    Batch,
    Clean,
    DataError,
    Draws,
    Facts,
    Measured,
    MultiCrop,
    Need,
    NotApplicable,
    Pair,
    Patches,
    Single,
    Source,
    Transformed,
    register,
)
from ..views.image import ImageSpec, ImageViews
from ..views.image_transforms import KnownImages, PatchViews, TransformedImages, patch_size
from ..views.options import with_options
from .base import Modality, Preprocessing, ViewMaker, innermost
from .image_statistics import measure, within_reach

SMALL = 64  # pixels a side: up to here the settings of CIFAR's literature, above ImageNet's


class ImageModality(Modality):
    """Square canvases [C, S, S] (uint8, uint16, float32) with the original's size. Stateless."""

    name = "image"
    default_backbone = "convnet"
    deep_from = 96

    def prepare(self, source: Source, *, resolution: int | None = None, sample: int = 2048) -> Preprocessing:
        """Settles resolution and canvas, reads evenly spaced items for mean, std and range.

        statistics: mean, std a channel in [0, 1] units; low, high: the values of black and white; clamp: False for floats;
        canvas: side to decode to; grey; palette: 'photo' (three channels), 'single' or 'multi'; flip; reasons.
        """
        side = max(source.facts.shape[-2:])
        resolution = int(resolution or default_resolution(side))
        if resolution < 4:
            raise DataError(f"Images: resolution={resolution} is too small to see anything; give at least 4 pixels.")
        canvas = resolution if side <= resolution else min(side, round(resolution * 8 / 7))
        source.set_canvas(canvas)
        _set_pixels(source, innermost(source).facts)
        statistics, channels, bits = measure(source, sample)
        palette = {1: "single", 3: "photo"}.get(channels, "multi")
        reasons = [f"resolution {resolution}: the images' sides reach {side} pixels",
                   *_levels(statistics, bits),
                   "flip .5: colour photographs look as natural in a mirror" if palette == "photo" else
                   "flip 0: a mirrored character or scan may mean something else (flip=0.5 where it does not)"]
        statistics |= {"canvas": canvas, "grey": channels == 1, "palette": palette, "flip": 0.5 if palette == "photo" else 0.0,
                       "reasons": reasons}
        return Preprocessing("image", source.facts.with_(shape=(channels, resolution, resolution), bit_depth=bits), statistics)

    def configure(self, source: Source, preprocessing: Preprocessing) -> None:
        """Has the source decode to the square canvas of training, in its channels and depth. A DataError says where an array has none
        that can become these."""
        source.set_canvas(preprocessing.statistics["canvas"])
        _set_pixels(source, preprocessing.facts, preprocessing.statistics["high"])

    def collate(self, items: dict[str, np.ndarray] | list[dict[str, np.ndarray]], preprocessing: Preprocessing
                ) -> tuple[dict[str, Tensor], Tensor | None]:
        """x: uint8 [B, C, S, S], or int32 where stored as uint16 (torch can hardly index uint16), or float32, NaN as black and broken
        pixels cut (see `within_reach`); size: int64 [B, 2]; further fields as they are, where torch knows their type."""
        if isinstance(items, list):
            items = {k: np.stack([item[k] for item in items]) for k in items[0]}
        have, want = items["x"].shape[1], preprocessing.facts.shape[0]
        if have != want:
            raise DataError(f"These images have {have} channels where the encoder was made for {want}: give images like those of training.")
        fields = {k: _tensor(v) for k, v in items.items()}
        if fields["x"].is_floating_point():
            low, high = preprocessing.statistics["low"], preprocessing.statistics["high"]
            fields["x"] = torch.from_numpy(within_reach(fields["x"].numpy(), low, high))
        if "size" not in fields:
            fields["size"] = torch.tensor(fields["x"].shape[-2:]).expand(len(fields["x"]), 2).contiguous()
        return fields, None

    def views(self, need: Need, preprocessing: Preprocessing, **options: Any) -> ViewMaker:
        """`options`: any field of ImageSpec overrides it in every view, and `channels_last`."""
        channels_last = bool(options.pop("channels_last", False))
        specs = [with_options(spec, options, what="image view") for spec in view_specs(need, preprocessing)]
        statistics = preprocessing.statistics
        if isinstance(need, Patches):
            return PatchViews(specs[-1], need, statistics, whole=specs[0] if need.whole else None, channels_last=channels_last)
        views = ImageViews(specs, statistics, channels_last=channels_last)
        if isinstance(need, Transformed):
            return TransformedImages(views, need)
        return KnownImages(views) if isinstance(need, Pair) and need.known else views

    def raw(self, batch: Batch, preprocessing: Preprocessing) -> Tensor:
        """The clean view's pixels, normalised."""
        draws = Draws(torch.zeros(len(batch), dtype=torch.int64, device=batch.fields["x"].device))
        return self.views(Clean(), preprocessing)(batch, draws)[0].x.flatten(1)

    def picture(self, item: dict[str, np.ndarray], preprocessing: Preprocessing, *, side: int = 96) -> np.ndarray:
        """uint8, longer side `side`: the whole image in its own aspect; grey repeated, the first three of many channels."""
        from PIL import Image

        low, high = preprocessing.statistics["low"], preprocessing.statistics["high"]
        x = np.nan_to_num((np.asarray(item["x"], dtype=np.float32) - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
        x = x[:3] if len(x) >= 3 else x.mean(0, keepdims=True).repeat(3, 0)
        pixels = np.round(x.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        height, width = (int(v) for v in item.get("size", pixels.shape[:2]))
        longest = max(height, width)
        shape = (max(1, round(side * width / longest)), max(1, round(side * height / longest)))
        law = Image.Resampling.NEAREST if longest < side else Image.Resampling.BILINEAR  # a tiny image shows its pixels
        return np.asarray(Image.fromarray(pixels).resize(shape, law))


def _set_pixels(source: Source, facts: Facts, white: float | None = None) -> None:
    """Has the source give the channels and the depth of `facts`, where it can convert at all."""
    source = innermost(source)
    if hasattr(source, "set_pixels") and facts.bit_depth is not None:
        source.set_pixels(facts.shape[0], facts.bit_depth, white)


def default_resolution(side: int) -> int:
    """Up to 64 px the images' own longer side, rounded up to a multiple of 4; above, down to one of 16, at most 224."""
    return max(-(-side // 4) * 4, 8) if side <= SMALL else min(side // 16 * 16, 224)


def _levels(statistics: dict[str, Any], bits: int) -> list[str]:
    """What was taken for black and white, where eight bits do not say it."""
    if bits == 8:
        return []
    if statistics["clamp"]:
        return [f"white {statistics['high']:,.0f}: the brightest pixel looked at needs no more bits"]
    return [f"black {statistics['low']:.4g} and white {statistics['high']:.4g}: nearly all pixels looked at lie between them"]


def _tensor(array: np.ndarray) -> Tensor:
    array = np.ascontiguousarray(array)
    if array.dtype == np.uint64:  # hashes: the same bits
        return torch.from_numpy(array.view(np.int64))
    wider = {np.dtype(np.uint16): np.int32, np.dtype(np.float64): np.float32}.get(array.dtype)
    return torch.from_numpy(array if wider is None else array.astype(wider))


def view_specs(need: Need, preprocessing: Preprocessing) -> list[ImageSpec]:
    """The papers' settings for a need at this resolution and palette. NotApplicable for a need that images cannot supply."""
    size = preprocessing.facts.shape[-1]
    if isinstance(need, Clean):
        return [ImageSpec(size, centre=True, flip=0.0, role="clean")]
    base = ImageSpec(size, flip=preprocessing.statistics["flip"])
    photo = preprocessing.statistics["palette"] == "photo"
    if isinstance(need, Single):
        return [_single(need, base, photo)]
    if isinstance(need, Pair):
        sides = _sides(need.asymmetric, base, photo)
        return [sides[k % 2] for k in range(need.count)]
    if isinstance(need, MultiCrop):
        return _multi_crop(need, base, photo)
    if isinstance(need, Transformed):
        if need.kind == "channels" and preprocessing.facts.shape[0] != 3:
            raise NotApplicable(f"image: orders of three channels cannot be told apart where there are {preprocessing.facts.shape[0]}.")
        return [_single(Single(strength="weak"), base, photo)]
    if isinstance(need, Patches):
        whole = _sides(False, base, photo)[:1] if need.whole else []
        return [*whole, replace(base, size=patch_size(size, need), role="local")]
    raise NotApplicable(f"image: {need.what} ({type(need).__name__}) cannot be supplied: " +
                        ("an image is one moment, and nothing moves in it." if isinstance(need, Measured) else
                         "no view of that kind is defined for an image."))


def _plain(base: ImageSpec) -> ImageSpec:
    """Images that are no photographs (characters, scans, many bands), for all needs but clean and weak: turned a little, most
    of the area kept, brightness and contrast varied, noise where small; hue and grey mean nothing here."""
    small = base.size <= SMALL
    return replace(base, scale=(0.3, 1.0), rotate=15.0, jitter=0.8, noise=0.05 if small else 0.0)


def _single(need: Single, base: ImageSpec, photo: bool) -> ImageSpec:
    """weak: crop of at least half and flip. strong: DIET's (Ibrahim et al., 2024): crop, flip, jitter at .3, grey, blur."""
    if need.strength == "weak":
        return replace(base, scale=(0.5, 1.0), role="weak")
    if not photo:
        return replace(_plain(base), role="strong")
    return replace(base, scale=(0.08, 1.0), jitter=0.3, saturation=0.2, grey=0.2, blur=0.2 if base.size > SMALL else 0.0,
                   role="strong")


def _sides(asymmetric: bool, base: ImageSpec, photo: bool) -> list[ImageSpec]:
    """SimCLR's view twice (Chen et al., 2020: strength 1, or one half without blur for small images), or BYOL's two sides
    (Grill et al., 2020), whose blur is left out for small images and whose solarisation stays."""
    small = base.size <= SMALL
    if not photo:
        side = _plain(base)
    else:
        s = 0.5 if small else 1.0
        side = replace(base, scale=(0.2 if small else 0.08, 1.0), jitter=0.8, brightness=0.8 * s, contrast=0.8 * s,
                       saturation=0.8 * s, hue=0.2 * s, grey=0.2, blur=0.0 if small else 0.5)
    if not asymmetric:
        return [side, side]
    if not photo:
        return [side, replace(side, solarise=0.2)]
    side = replace(side, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
    return [replace(side, blur=0.0 if small else 1.0), replace(side, blur=0.0 if small else 0.1, solarise=0.2)]


def _multi_crop(need: MultiCrop, base: ImageSpec, photo: bool) -> list[ImageSpec]:
    """SwAV's and DINO's crops. Small ones have 96/224 of the side, a multiple of 16 (of 4 for small images, at least 8), so
    that patches fit. A twentieth of a 32-px image is 7 px: small images keep a quarter (plain ones .3) in the large crops and
    from .1 to .35 in the small ones, whatever the need says for photographs at 224."""
    small, size = base.size <= SMALL, base.size
    step = 4 if small else 16
    little = max(8, round(size * 96 / 224 / step) * step)
    sides = _sides(need.asymmetric, base, photo)
    large_scale, small_scale = need.large_scale, need.small_scale
    if small or not photo:
        large_scale, small_scale = (max(large_scale[0], 0.25 if photo else 0.3), large_scale[1]), (0.1, 0.35)
    large = [replace(sides[min(k, 1)], scale=large_scale, role="global") for k in range(need.large)]
    local = replace(sides[0], size=little, scale=small_scale, blur=0.5 if sides[0].blur else 0.0, role="local")
    return large + [local] * need.small


register("image", kind="modality")(ImageModality())
