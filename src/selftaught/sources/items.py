"""Items that something else reads one by one: torch Datasets and Hugging Face data sets of arrays or Pillow images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, Facts, Source
from .arrayfiles import open_array
from .arrays import IMAGE_LAYOUTS, check_samples, one_image
from .asked import Asked
from .decoding import DEPTHS, Pixels, conform
from .fingerprints import fingerprint_of
from .labels import encode_groups, encode_labels

_GREY = {"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "F"}


class ImageItems(Source):
    """Images that `get(i)` gives as Pillow images or arrays. All have the channels and dtype of the first one, or are BadItems.

    labels_of: gives [N] labels; asked only when `labels` is. A grey picture among coloured ones is repeated, a coloured one
    among grey ones becomes grey.
    """

    modality = "image"

    def __init__(self, get: Callable[[int], Any], count: int, *, labels_of: Callable[[], np.ndarray | None] | None = None,
                 classes: list[str] | None = None, group=None, layout: str | None = None, origin: str = "dataset",
                 least: int = 2, notes: tuple[str, ...] = (), known: int | None = None):
        check_samples(count, origin, "images", least)
        self._get, self._labels_of, self._layout, self.origin = get, labels_of, layout, origin
        self._given_classes, self._labels, self._classes = classes, None, None
        self._own = self._pixels = self._side = None
        first = self._first(count)
        self._own = self._pixels = Pixels(len(first["x"]), first["x"].dtype.name)
        height, width = (int(v) for v in first["size"])
        self._side = max(height, width)
        self.groups = None if group is None else encode_groups(group, samples=count)
        self.facts = Facts("image", count, first["x"].shape[:1] + (height, width), notes=notes, classes=known,
                           bit_depth=first["x"].dtype.itemsize * 8)

    @property
    def labels(self) -> np.ndarray | None:
        self._read_labels()
        return self._labels

    @property
    def classes(self) -> list[str] | None:
        self._read_labels()
        return self._classes

    def set_canvas(self, side: int) -> None:
        """The side of the square canvas that every image is stretched to."""
        self._side = int(side)

    def set_pixels(self, channels: int, bits: int, white: float | None = None) -> None:
        """Channels, bits a sample and the value of white that images are read in; those that cannot be are bad items."""
        self._pixels = Pixels(channels, DEPTHS[bits], white)

    def read(self, index: int) -> dict[str, np.ndarray]:
        try:
            item = self._get(int(index))
        except BadItem:
            raise
        except Exception as error:  # a user's data set may raise anything; the item is reported with what it said
            raise BadItem(f"{type(error).__name__}: {error}") from None
        own, pixels = self._own, self._pixels
        out = one_image(_pillow_pixels(item, pixels and pixels.channels), self._side, layout=self._layout)
        if own is None:
            return out
        found = Pixels(len(out["x"]), out["x"].dtype.name)
        if found.channels not in (own.channels, pixels.channels) or found.dtype != own.dtype:
            raise BadItem(f"{found.channels} channels of {found.dtype} where the first image has {own.channels} of {own.dtype}")
        if (found.channels, found.dtype) != (pixels.channels, pixels.dtype):
            out["x"] = conform(out["x"].astype(np.float32), found.dtype, pixels)
        return out

    def name(self, index: int) -> str:
        return f"{self.origin}, item {index}"

    def fingerprint(self) -> str:
        count = len(self)
        some = sorted({int(i) for i in np.linspace(0, count - 1, min(count, 16))})
        hashes = []
        for index in some:
            try:
                hashes.append(int(self.read(index)["hash"]))
            except BadItem as bad:
                hashes.append(bad.reason)
        return fingerprint_of("items", count, hashes)

    def _first(self, count: int) -> dict[str, np.ndarray]:
        """The first item that can be read; at most 100 are tried."""
        reason = ""
        for index in range(min(count, 100)):
            try:
                return self.read(index)
            except BadItem as bad:
                reason = reason or bad.reason
        raise DataError(f"{self.origin}: none of the first {min(count, 100)} items is an image ({reason}): items are arrays, "
                        "Pillow images or (image, label).")

    def _read_labels(self) -> None:
        if self._labels_of is None or self._labels is not None:
            return
        values = self._labels_of()
        if values is None:
            self._labels_of = None
            return
        labels = encode_labels(values, samples=len(self), classes=self._given_classes)
        self._labels, self._classes = labels.values, labels.classes
        self.facts = self.facts.with_(classes=len(labels.classes) if labels.classes else None)


def open_dataset(dataset: Any, asked: Asked, *, origin: str = "dataset") -> Source:
    """A source for a map-style torch Dataset whose items are x, (x, y) or {"x": …, "y": …}, x a Pillow image, array or tensor.

    Images are read when they are needed; series and rows are read into memory now.
    """
    asked.no_columns(origin, "let its items be (x, y), or give a dict of arrays x, y and group")
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise DataError(f"{origin} has no length or cannot be indexed (an iterable data set?): give a map-style one, a list "
                        "or an array.")
    count = len(dataset)
    check_samples(count, origin, "items", asked.least)
    if type(dataset).__name__ == "TensorDataset":
        tensors = [to_numpy(t) for t in dataset.tensors]
        return open_array(tensors[0], asked, y=tensors[1] if len(tensors) > 1 else None, origin=origin)
    try:
        x, y = _split(dataset[0])
    except Exception as error:  # a user's data set may raise anything
        raise DataError(f"{origin}: its first item cannot be read ({type(error).__name__}: {error}).") from None
    if not _is_image(x, asked):
        items, labels = _collect(dataset, count, origin)
        return open_array(items, asked, y=labels, origin=origin)
    stored = next((getattr(dataset, n) for n in ("targets", "labels", "y") if hasattr(dataset, n)), None)
    labels_of = None
    if stored is not None or y is not None:
        labels_of = (lambda: to_numpy(stored)) if stored is not None else (lambda: _collect(dataset, count, origin)[1])
    return ImageItems(lambda i: _split(dataset[i])[0], count, labels_of=labels_of, classes=getattr(dataset, "classes", None),
                      layout=asked.layout, origin=origin, least=asked.least)


def to_numpy(value: Any) -> Any:
    """A torch tensor, list or array as a plain array, masked values missing (NaN, None); anything else as it is."""
    if isinstance(value, np.ma.MaskedArray):
        return _unmasked(value)
    if isinstance(value, np.matrix):
        return np.asarray(value)
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() and value.element_size() < 4 else value).numpy()
    return np.asarray(value) if isinstance(value, (list, tuple)) and not any(hasattr(v, "shape") for v in value) else value


def _unmasked(value: np.ma.MaskedArray) -> np.ndarray:
    if not np.ma.is_masked(value):
        return value.data
    if value.dtype.kind in "biuf":
        return value.astype(np.promote_types(value.dtype, np.float32)).filled(np.nan)
    if value.dtype.kind in "mM":
        return value.filled(np.array("NaT", value.dtype))
    return np.where(np.ma.getmaskarray(value), None, value.data)


def _split(item: Any) -> tuple[Any, Any]:
    """(x, y or None) of one item."""
    if isinstance(item, dict):
        x = next((item[k] for k in ("x", "image", "img", "pixel_values", "input") if k in item), None)
        if x is None:
            raise KeyError(f"an item holds {sorted(item)} but none of x, image")
        return to_numpy(x), next((item[k] for k in ("y", "label", "labels", "target") if k in item), None)
    if isinstance(item, (tuple, list)) and len(item) and not np.isscalar(item[0]):
        return to_numpy(item[0]), item[1] if len(item) > 1 else None
    return to_numpy(item), None


def _collect(dataset: Any, count: int, origin: str) -> tuple[list, np.ndarray | None]:
    xs, labels = [], []
    for index in range(count):
        try:
            x, y = _split(dataset[index])
        except Exception as error:  # a user's data set may raise anything
            raise DataError(f"{origin}: item {index} of {count} cannot be read ({type(error).__name__}: {error}): mend it or leave it "
                            "out.") from None
        if np.size(y := to_numpy(y)) != 1:
            raise DataError(f"{origin}: the y of item {index} has shape {np.shape(y)}: give one number or word an item.")
        xs.append(x)
        labels.append(y.item() if hasattr(y, "item") else y)
    return xs, None if any(y is None for y in labels) else np.asarray(labels)


def _is_image(x: Any, asked: Asked) -> bool:
    if asked.modality or asked.layout:
        return asked.modality == "image" or asked.layout in IMAGE_LAYOUTS
    if is_pillow(x):
        return True
    shape, dtype = getattr(x, "shape", ()), getattr(x, "dtype", None)
    return len(shape) == 3 or (len(shape) == 2 and (dtype == np.uint8 or shape[0] == shape[1]))


def is_pillow(x: Any) -> bool:
    return hasattr(x, "getbands") and hasattr(x, "convert")


def _pillow_pixels(image: Any, channels: int | None) -> Any:
    """A Pillow image as [H, W] or [H, W, 3], transparency laid over white; an array as it is."""
    if not is_pillow(image):
        return to_numpy(image)
    from PIL import Image

    grey = channels == 1 if channels in (1, 3) else image.mode in _GREY
    if image.mode in ("I", "I;16", "I;16B", "I;16L"):
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image, dtype=np.float32)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("L" if grey else "RGB"))
