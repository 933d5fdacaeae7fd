"""Images that lie in memory as one array: what its axes mean, and batches of square canvases from it."""

from __future__ import annotations

import numpy as np
import torch

from ..contracts import BadItem, DataError, Facts, OptionError, Source
from .decoding import DEPTHS, Pixels, conform
from .fingerprints import fingerprint_of, hash_rows
from .labels import encode_groups, encode_labels

IMAGE_LAYOUTS = ("NHW", "NHWC", "NCHW")


class ImageArrays(Source):
    """Images from an array [N, H, W], [N, H, W, C] or [N, C, H, W]; uint8, uint16 or float32 [C, S, S] come out.

    layout: 'NHWC' or 'NCHW' where the channel axis cannot be told. y, group: [N] or None. A square array is its own canvas;
    others are stretched to `set_canvas`'s side (at first the longer side). `hash` comes from the stored pixels, batch by batch.
    Whole numbers of more than 16 bits are pixels of whatever depth holds them: asked for another one, they stay the same numbers.
    """

    modality = "image"
    resident = True

    def __init__(self, x: np.ndarray, *, y=None, group=None, layout: str | None = None, origin: str = "array",
                 classes: list[str] | None = None, least: int = 2):
        x = np.asarray(x)
        self._plain = x.dtype.kind in "iu" and x.dtype not in (np.uint8, np.uint16)
        x, notes = _pixels(x, origin)
        check_samples(len(x), origin, "images", least)
        axis = channel_axis(x.shape, layout, origin)
        self.origin, self._axis = origin, axis
        self._x = x[:, None] if axis is None else x  # [N, 1, H, W] is a channels-first array
        channels, height, width = (self._x.shape[i] for i in ((3, 1, 2) if axis == 3 else (1, 2, 3)))
        if axis is not None and layout is None:
            read, other = ("NHWC", "NCHW") if axis == 3 else ("NCHW", "NHWC")
            notes.append(f"{origin}: shape {x.shape} read as {read}, {channels} channels of {height} × {width}; if that is "
                         f"wrong, pass layout={other}.")
        self._size = np.array([height, width], dtype=np.int64)
        self._side = max(height, width)
        labels = None if y is None else encode_labels(y, samples=len(x), classes=classes)
        if labels is not None:
            self.labels, self.classes = labels.values, labels.classes
            notes += [labels.note] if labels.note else []
        self.groups = None if group is None else encode_groups(group, samples=len(x))
        self._pixels = self._own = Pixels(channels, x.dtype.name)
        self.facts = Facts("image", len(x), (channels, height, width), classes=len(self.classes) if self.classes else None,
                           bit_depth=x.dtype.itemsize * 8, notes=tuple(notes))

    def set_canvas(self, side: int) -> None:
        """The side that images which are not square are stretched to."""
        self._side = int(side)

    def set_pixels(self, channels: int, bits: int, white: float | None = None) -> None:
        """Channels, bits a sample and the value of white that come out. DataError where the array has none that can become these."""
        pixels = Pixels(channels, DEPTHS[bits], white)
        try:
            self._conform(np.zeros((self._own.channels, 1, 1), self._own.dtype), pixels)
        except BadItem as bad:
            other = {1: "NHWC", 3: "NCHW"}.get(self._axis)
            read = f" Were its axes read wrongly, open it with open_source(data, layout={other})." if other else ""
            raise DataError(f"{self.origin}: its images have {bad.reason}, as in training: give the array that training had, of other "
                            f"images.{read}") from None
        self._pixels = pixels

    def _conform(self, x: np.ndarray, pixels: Pixels) -> np.ndarray:
        if (pixels.channels, pixels.dtype) == (self._own.channels, self._own.dtype):
            return x
        return conform(x.astype(np.float32), pixels.dtype if self._plain else self._own.dtype, pixels)

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {k: v[0] for k, v in self.take(np.array([index])).items()}

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """x: [b, C, S, S]; size: int64 [b, 2]; hash: uint64 [b]."""
        stored = self._x[indices]
        x = stored.transpose(0, 3, 1, 2) if self._axis == 3 else stored
        size = np.broadcast_to(self._size, (len(x), 2)).copy()
        x = self._conform(np.ascontiguousarray(x) if self._size[0] == self._size[1] else stretch(x, self._side), self._pixels)
        return {"x": x, "size": size, "hash": hash_rows(stored)}

    def name(self, index: int) -> str:
        return f"{self.origin}, row {index}"

    def fingerprint(self) -> str:
        return fingerprint_of("image", self._x, self._axis)


def check_samples(count: int, origin: str, what: str, least: int) -> None:
    """DataError where there are fewer than `least` samples."""
    if count == 0:
        raise DataError(f"{origin} holds no {what}: give it at least two.")
    if count < least:
        raise DataError(f"{origin} holds {count} of {what}: learning compares items with each other, so give it at least "
                        f"{least}.")


def lies_far(low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray | np.bool_:
    """Whether values between low and high lie so far from zero that float32, of 24 bits, would keep less than 13 bits of how they
    differ: timestamps, coordinates in metres. False where either is NaN."""
    return np.maximum(np.abs(low), np.abs(high)) > 2.0**11 * (np.asarray(high, np.float64) - low)


def channel_axis(shape: tuple[int, ...], layout: str | None, origin: str) -> int | None:
    """1 or 3 for the channel axis of an array of images, None where it has none. Raises OptionError where that is ambiguous."""
    if layout is not None and (layout not in IMAGE_LAYOUTS or len(layout) != len(shape)):
        raise OptionError(f"layout={layout} does not fit {origin} of shape {shape}: images are NHW, NHWC or NCHW.")
    if len(shape) == 3:
        return None
    if layout is not None:
        return layout.index("C")
    for most in (4, 16):
        first, last = 1 <= shape[1] <= most, 1 <= shape[3] <= most
        if first != last:
            return 1 if first else 3
        if first and last:
            break
    raise OptionError(f"{origin} of shape {shape} may be NHWC or NCHW: say which with layout=NHWC or layout=NCHW, of volumes "
                      "layout=NDHW, of clips layout=NTHW.")


def stretch(x: np.ndarray, side: int) -> np.ndarray:
    """[b, C, H, W] → [b, C, side, side], bilinear with antialiasing, same dtype."""
    if x.shape[2:] == (side, side):
        return np.ascontiguousarray(x)
    wide = torch.from_numpy(np.ascontiguousarray(x if x.dtype == np.uint8 else x.astype(np.float32)))
    out = torch.nn.functional.interpolate(wide, size=(side, side), mode="bilinear", antialias=True, align_corners=False).numpy()
    return out if out.dtype == x.dtype else np.clip(np.rint(out), 0, 65535).astype(x.dtype)


def one_image(item: np.ndarray, side: int | None, *, layout: str | None = None) -> dict[str, np.ndarray]:
    """One image [H, W], [H, W, C] or [C, H, W] → the item {"x", "size", "hash"}. Raises BadItem where it is none."""
    item = np.asarray(item)
    try:
        pixels, _ = _pixels(item[None], "the item")
        axis = channel_axis(pixels.shape, layout, "the item")
    except (DataError, OptionError) as error:
        raise BadItem(str(error)) from None
    if 0 in pixels.shape:
        raise BadItem(f"an image of shape {item.shape} has no pixels")
    x = pixels[:, None] if axis is None else pixels.transpose(0, 3, 1, 2) if axis == 3 else pixels
    size = np.array(x.shape[2:], dtype=np.int64)
    return {"x": stretch(x, side or int(size.max()))[0], "size": size, "hash": hash_rows(pixels)[0]}


def _pixels(x: np.ndarray, origin: str) -> tuple[np.ndarray, list[str]]:
    """The array as uint8, uint16 or float32, with notes on what was done."""
    if x.dtype.kind not in "buif":
        raise DataError(f"{origin} has dtype {x.dtype}: images are uint8, uint16 or float arrays.")
    if x.ndim not in (3, 4):
        raise DataError(f"{origin} of shape {x.shape} has {x.ndim} dimensions: images are [N, H, W], [N, H, W, C] or "
                        "[N, C, H, W].")
    if x.dtype in (np.uint8, np.uint16) or x.size == 0:
        return x, []
    if x.dtype.kind == "b":
        return x.astype(np.uint8) * np.uint8(255), [f"{origin}: truth values read as 0 and 255."]
    low, high = x.min(), x.max()
    if x.dtype.kind in "iu" and low >= 0 and high <= 65535:
        kind = np.uint8 if high <= 255 else np.uint16
        return x.astype(kind), [f"{origin}: {x.dtype} values from {low} to {high} read as {np.dtype(kind)}."]
    out, notes = x.astype(np.float32, copy=False), []
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = ~np.isfinite(out)
        row = int(np.argmax(bad.reshape(len(out), -1).any(axis=1)))
        notes.append(f"{origin}: {int(bad.sum())} pixels are NaN or infinite, the first in row {row}; they were set to 0.")
        out = np.where(bad, np.float32(0), out)
        low, high = out.min(), out.max()
    return out, [*notes, f"{origin}: float pixels from {low:.4g} to {high:.4g} are kept as float32."]
