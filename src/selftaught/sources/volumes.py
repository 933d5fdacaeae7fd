"""Volumes: .npy, .npz and NIfTI files in folders, lists and archives, and volumes that lie in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, Facts, OptionError
from .archives import Archive
from .arrayfiles import VOLUME_LAYOUTS
from .asked import Asked
from .canvases import CanvasSource, check_count
from .decoding import content_hash
from .files import Files
from .fingerprints import fingerprint_of
from .items import to_numpy
from .labels import encode_groups, encode_labels
from .laid_out import LaidOut, check_items
from .listing import VOLUME_SUFFIXES
from .volume_decoding import cells_of, channels_first, checked_spacing, is_cut, on_canvas, read_volume

_SAMPLE = 16  # volumes looked at


class Measured:
    """What is known of the volumes that were looked at: channels (of most), spacing float64 [3] (the median) and extents float64 [n, 3],
    how long they are along D, H, W in its unit."""

    def __init__(self, shapes: list[tuple[int, ...]], spacings: list[np.ndarray]):
        self.channels = int(np.bincount([shape[0] for shape in shapes]).argmax())
        self.spacing = np.median(spacings, axis=0)
        self.extents = np.array([np.array(shape[1:]) * spacing for shape, spacing in zip(shapes, spacings)])

    def notes(self, spacings: list[np.ndarray]) -> list[str]:
        if len(np.unique(np.round(spacings, 4), axis=0)) < 2:
            return []
        low, high = (" × ".join(f"{v:g}" for v in bound) for bound in (np.min(spacings, 0), np.max(spacings, 0)))
        return [f"Spacings lie between {low} and {high}: all volumes are resampled to one."]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells of the longest volume along each axis."""
        return cells_of(tuple(self.extents.max(0)), np.ones(3), self.spacing)


class VolumeSource(CanvasSource):
    """Base of the sources that decode: items are {"x": float32 [C, D, H, W] at one spacing, each channel in 0..1 between its percentiles,
    "size": int64 [3] cells of the canvas's middle that the volume takes, "hash"}. layout: NDHW, NCDHW or NDHWC where their shapes do not
    say. measured: see there. A NaN or constant volume is a bad item."""

    modality = "volume"
    what, suffixes = "volume", VOLUME_SUFFIXES
    sizes = 3

    def __init__(self, origin: str, *, layout: str | None = None):
        super().__init__(origin)
        self._layout, self._cut = _known(layout), False

    def settle(self, count: int, *, notes: Iterable[str] = (), least: int = 2) -> None:
        """Looks at evenly spaced volumes and fills `facts`. Raises DataError where there are too few or none can be read."""
        check_count(count, self.origin, least, self.what)
        found, reasons = [], []
        for index in np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)).tolist():
            try:
                x, spacing = read_volume(self.blob(index), self._layout)
                found.append((x.shape, spacing))
            except BadItem as bad:
                reasons.append((index, bad.reason))
        if not found:
            raise DataError(f"None of {len(reasons)} volumes looked at in {self.origin} can be read ({self.name(reasons[0][0])}: "
                            f"{reasons[0][1]}): check that these files are volumes.")
        self.measured = Measured(*map(list, zip(*found)))
        self._shape, self._spacing = self.measured.shape, self.measured.spacing
        self.facts = Facts("volume", count, (self.measured.channels, *self._shape), classes=len(self.classes) if self.classes else None,
                           notes=(*notes, *self.measured.notes([spacing for _, spacing in found])))

    @property
    def canvas(self) -> tuple[tuple[int, ...], str]:
        return (self.measured.channels, *self._shape), "float32"

    def set_canvas(self, canvas: tuple[tuple[int, int, int], Any]) -> None:
        """((D, H, W), spacing [3]): what every volume is resampled to, and how many cells of its middle are kept."""
        shape, spacing = _checked(canvas)
        if shape != self._shape or (spacing != self._spacing).any():
            self._shape, self._spacing, self._decoded = shape, spacing, None

    def read(self, index: int) -> dict[str, np.ndarray]:
        if self._decoded is not None and self._decoded.holds[int(index)]:
            return self._decoded.item(int(index))
        return self.decode(self.blob(int(index)), self.name(int(index)))

    def decode(self, blob: bytes, name: str = "a volume") -> dict[str, np.ndarray]:
        """The item in these bytes; of those that are too large for the canvas, a warning gives the `name` of the first."""
        x, spacing = read_volume(blob, self._layout)
        if len(x) != self.measured.channels:
            raise BadItem(f"{len(x)} channel{'s' if len(x) != 1 else ''} where most volumes have {self.measured.channels}")
        cells = cells_of(x.shape, spacing, self._spacing)
        x, size = on_canvas(x, spacing, self._shape, self._spacing)
        self._cut = self._cut or is_cut(name, cells, self._shape)
        return {"x": x, "size": size, "hash": content_hash(blob)}


class VolumeFiles(Files, VolumeSource):
    """The volumes below a folder (.nii, .nii.gz, .npy, .npz), or those of a list of paths."""


class VolumeArchive(Archive, VolumeSource):
    """The volumes in an archive."""


class VolumeArrays(LaidOut):
    """Volumes that lie in memory: [N, D, H, W], [N, C, D, H, W] or [N, D, H, W, C], or a list of volumes that differ in size. spacing: of
    all, [3], or of each, [N, 3], along D, H, W; 1 where not given. Items and facts as those of `VolumeSource`. Raises DataError."""

    modality = "volume"

    def __init__(self, x: Any, *, spacing: Any = None, y: Any = None, group: Any = None, layout: str | None = None, origin: str = "array",
                 classes: list[str] | None = None, least: int = 2):
        check_items(x, origin, "volumes", least)
        self.origin, layout = origin, _known(layout)
        try:
            spacings = np.ones(3) if spacing is None else np.asarray(spacing, np.float64)
        except (TypeError, ValueError):
            raise DataError(f"{origin}: its spacing {spacing!r} is not made of numbers: give [3] for all volumes, or [{len(x)}, 3].") \
                from None
        if spacings.shape not in ((3,), (len(x), 3)):
            raise DataError(f"{origin}: its spacing has shape {spacings.shape}: give [3] for all volumes, or [{len(x)}, 3].")
        try:
            self._volumes = [channels_first(to_numpy(v), f"{origin}, volume {i}", layout) for i, v in enumerate(x)]
            self._spacings = [checked_spacing(s) for s in np.broadcast_to(spacings, (len(x), 3))]
        except BadItem as bad:
            raise DataError(f"{bad.reason}.") from None
        if len({len(v) for v in self._volumes}) > 1:
            raise DataError(f"{origin} mixes volumes of several numbers of channels: bring them to one.")
        self.measured = Measured([v.shape for v in self._volumes], self._spacings)
        labels = None if y is None else encode_labels(np.asarray(y), samples=len(self._volumes), classes=classes)
        self.labels, self.classes = (labels.values, labels.classes) if labels else (None, None)
        self.groups = None if group is None else encode_groups(group, samples=len(self._volumes))
        self.facts = Facts("volume", len(self._volumes), (self.measured.channels, *self.measured.shape),
                           classes=len(self.classes) if self.classes else None, notes=tuple(self.measured.notes(self._spacings)))
        self._lay(self.measured.shape, self.measured.spacing)

    def set_canvas(self, canvas: tuple[tuple[int, int, int], Any]) -> None:
        """As of VolumeSource."""
        shape, spacing = _checked(canvas)
        if shape != self._x.shape[2:] or (spacing != self._spacing).any():
            self._lay(shape, spacing)

    def _lay(self, shape: tuple[int, int, int], spacing: np.ndarray) -> None:
        self._spacing, cut = spacing, False
        self._x = np.empty((len(self._volumes), self.measured.channels, *shape), np.float32)
        self._size = np.empty((len(self._volumes), 3), np.int64)
        for row, (volume, own) in enumerate(zip(self._volumes, self._spacings)):
            try:
                self._x[row], self._size[row] = on_canvas(volume, own, shape, spacing)
                cut = cut or is_cut(self.name(row), cells_of(volume.shape, own, spacing), shape)
            except BadItem as bad:
                raise DataError(f"{self.name(row)}: {bad.reason}; mend it or leave it out.") from None

    def name(self, index: int) -> str:
        return f"{self.origin}, volume {index}"

    def fingerprint(self) -> str:
        return fingerprint_of("volume", *self._volumes[:: max(1, len(self._volumes) // 64)], np.stack(self._spacings))


def open_volumes(data: Any, asked: Asked, *, origin: str = "array") -> VolumeArrays:
    """A source for volumes in memory: an array, a list of arrays, or a dict of x and perhaps spacing, y, group and classes."""
    asked.no_columns(origin, "name the arrays y and group")
    given: dict[str, Any] = {}
    if isinstance(data, Mapping):
        if "x" not in data:
            raise OptionError(f"{origin} holds {', '.join(map(str, data)) or 'nothing'}, but no x: name the volumes x.")
        given = {name: data[name] for name in ("spacing", "y", "group") if name in data}
        if "classes" in data:
            given["classes"] = [str(c) for c in np.asarray(data["classes"]).reshape(-1)]
        data = data["x"]
    return VolumeArrays(to_numpy(data), layout=asked.layout, origin=origin, least=asked.least, **given)


def _known(layout: str | None) -> str | None:
    if layout is not None and layout not in VOLUME_LAYOUTS:
        raise OptionError(f"layout={layout} does not fit volumes, which are {', '.join(VOLUME_LAYOUTS)}.")
    return layout


def _checked(canvas: tuple[tuple[int, int, int], Any]) -> tuple[tuple[int, int, int], np.ndarray]:
    shape, spacing = tuple(int(v) for v in canvas[0]), np.asarray(canvas[1], np.float64)
    if min(shape) < 1 or spacing.shape != (3,) or not (spacing > 0).all():
        raise ValueError(f"a canvas of volumes has three sides and three positive spacings, not {canvas}")
    return shape, spacing
