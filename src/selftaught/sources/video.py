"""Video: files in folders, lists and archives, folders of frames, and clips that lie in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, Facts, OptionError
from .archives import Archive
from .arrayfiles import VIDEO_LAYOUTS
from .arrays import stretch
from .asked import Asked
from .canvases import CanvasSource, check_count
from .decoding import Pixels, content_hash, decode, read_header
from .files import Files, read_file
from .fingerprints import fingerprint_of
from .items import to_numpy
from .labels import encode_groups, encode_labels
from .laid_out import LaidOut, check_items
from .listing import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Listing, class_folders, passed_over, scan
from .video_decoding import canvas_of, decode_video, read_video_header, skipped

_SAMPLE = 16  # clips looked at
_FIRST = (16, 1, 64)  # frames, stride and side of the canvas until someone calls set_canvas


class VideoSource(CanvasSource):
    """Base of all sources that decode: items are {"x": uint8 [3, T, S, S], "size": int64 [3] frames that are there, original height and
    width, "hash"}, every stride-th frame of the middle of the video. frames: int64 [n], those of the videos looked at. facts.shape is
    (3, their median, height, width)."""

    modality = "video"
    what, suffixes = "video", VIDEO_SUFFIXES
    sizes = 3

    def __init__(self, origin: str):
        super().__init__(origin)
        self.frames = np.zeros(0, np.int64)
        self._frames, self._stride, self._side = _FIRST

    def header(self, index: int) -> tuple[int, int, int]:
        """(frames, height, width) of an item. Raises BadItem."""
        found = read_video_header(self.blob(index))
        return found.frames, found.height, found.width

    def settle(self, count: int, *, notes: Iterable[str] = (), least: int = 2) -> None:
        """Looks at evenly spaced items and fills `facts`. Raises DataError where there are too few or none can be read."""
        check_count(count, self.origin, least, self.what)
        headers, reasons = [], []
        for index in np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)).tolist():
            try:
                headers.append(self.header(index))
            except BadItem as bad:
                reasons.append((index, bad.reason))
        if not headers:
            raise DataError(f"None of {len(reasons)} {self.what}s looked at in {self.origin} can be read ({self.name(reasons[0][0])}: "
                            f"{reasons[0][1]}): check that these files are video.")
        frames, heights, widths = np.array(headers).T
        self.frames = frames[frames > 0] if (frames > 0).any() else np.array([_FIRST[0]])
        shape = (3, int(np.median(self.frames)), int(np.median(heights)), int(np.median(widths)))
        self.facts = Facts("video", count, shape, classes=len(self.classes) if self.classes else None, bit_depth=8, notes=tuple(notes))

    @property
    def canvas(self) -> tuple[tuple[int, int, int, int], str]:
        return (3, self._frames, self._side, self._side), "uint8"

    def set_canvas(self, canvas: tuple[int, int, int]) -> None:
        """(frames, stride, side): how many frames an item has at most, every how many-th, and the square they are stretched to."""
        canvas = _checked(canvas)
        if canvas != (self._frames, self._stride, self._side):
            (self._frames, self._stride, self._side), self._decoded = canvas, None

    def decode(self, blob: bytes) -> dict[str, np.ndarray]:
        return decode_video(blob, self._frames, self._stride, self._side)


class VideoFiles(Files, VideoSource):
    """The videos below a folder (mp4, mov, avi, webm, mkv, mpg, gif), or those of a list of paths."""


class VideoArchive(Archive, VideoSource):
    """The videos in an archive."""


class FrameFolders(VideoSource):
    """Every folder of images below `root` is one clip, its images in the order of their numbers; the folders around the clips are kept
    as classes where there are at least two side by side. white: what becomes 255 of frames of 16 bits, None where those looked at have
    8. Raises DataError where there are no such folders."""

    what = "folder of frames"

    def __init__(self, root: str | Path, *, least: int = 2):
        super().__init__(os.fspath(root))
        self._root = os.path.abspath(self.origin)
        files, others, _ = scan(self._root, IMAGE_SUFFIXES)
        if not len(files) or files.directories == [""]:
            found = "its images lie in it directly, which is one clip" if len(files) else "it holds no images"
            raise DataError(f"The folder '{self.origin}' holds no folders of frames, {found}: make a folder of images for each clip.")
        self._files, self._clips = files, Listing()
        self._bounds = np.searchsorted(files.places, np.arange(len(files.directories) + 1))  # a scan lists folder after folder
        for directory, start, stop in zip(files.directories, self._bounds, self._bounds[1:]):
            self._clips.add(*os.path.split(directory), int(files.sizes[start:stop].sum()))
        self.labels, self.classes, note = class_folders(self._clips)
        notes = [*passed_over(others), *([note] if note else [])]
        if (white := self._measured_white()) is not None:
            notes.append(f"Frames of 16 bits are read with white at {white:,}: the brightest pixel looked at needs no more bits.")
        self.white = white
        self.settle(len(self._clips), notes=notes, least=least)

    def paths(self, index: int) -> list[str]:
        """The clip's images, frame 10 after frame 9."""
        found = [os.path.join(self._root, self._files.path(row)) for row in range(*self._bounds[index : index + 2])]
        return sorted(found, key=lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path)])

    def set_white(self, white: int) -> None:
        """Has 16-bit frames read as those of training."""
        if white != self.white:
            self.white, self._decoded = white, None

    def _measured_white(self) -> int | None:
        """The largest number of as many bits as the brightest pixel has (see modalities/image_statistics.py), of some clips' first, middle
        and last frames."""
        brightest = 0
        for index in np.unique(np.linspace(0, len(self._clips) - 1, min(len(self._clips), _SAMPLE)).astype(np.int64)).tolist():
            paths = self.paths(index)
            for path in (paths[0], paths[len(paths) // 2], paths[-1]):
                try:
                    blob = read_file(path)
                    if (header := read_header(blob)).dtype == "uint16":
                        own = decode(blob, max(header.height, header.width), Pixels(3, "uint16"))["x"]
                        brightest = max(brightest, int(own.max()))
                except BadItem:
                    continue  # whoever reads the clip will say so
        return (1 << max(8, brightest.bit_length())) - 1 if brightest else None

    def header(self, index: int) -> tuple[int, int, int]:
        paths = self.paths(index)
        return len(paths), *self._frame(paths[0])["size"].tolist()

    def read(self, index: int) -> dict[str, np.ndarray]:
        index = int(index)
        if self._decoded is not None and self._decoded.holds[index]:
            return self._decoded.item(index)
        paths = self.paths(index)
        first = skipped(len(paths), self._frames, self._stride)
        found = [self._frame(path) for path in paths[first : first + self._frames * self._stride : self._stride]]
        if len(found) < 2:
            raise BadItem(f"holds {len(paths)} images, and a clip needs at least two at the stride of {self._stride}")
        size = np.array([len(found), *found[0]["size"]], np.int64)
        whole = content_hash(b"".join(item["hash"].tobytes() for item in found))
        return {"x": canvas_of(np.stack([item["x"] for item in found]), self._frames), "size": size, "hash": whole}

    def _frame(self, path: str) -> dict[str, np.ndarray]:
        try:
            blob = read_file(path)
            if self.white is None or read_header(blob).dtype != "uint16":
                return decode(blob, self._side, Pixels(3, "uint8"))
            deep = decode(blob, self._side, Pixels(3, "uint16"))
            return deep | {"x": np.rint(np.minimum(deep["x"] * (255 / self.white), 255)).astype(np.uint8)}
        except BadItem as bad:
            raise BadItem(f"frame {os.path.basename(path)}: {bad.reason}") from None

    def name(self, index: int) -> str:
        return self._clips.path(int(index))

    def fingerprint(self) -> str:
        return self._files.fingerprint()


class VideoArrays(LaidOut):
    """Clips that lie in memory: [N, T, H, W], [N, T, H, W, C], [N, T, C, H, W] or [N, C, T, H, W], or a list of clips that differ in
    length or size; uint8, truth values, or real numbers in [0, 1]. Items and facts as those of `VideoSource`, of C channels."""

    modality = "video"

    def __init__(self, x: Any, *, y: Any = None, group: Any = None, layout: str | None = None, origin: str = "array",
                 classes: list[str] | None = None, least: int = 2):
        check_items(x, origin, "clips", least)
        self.origin = origin
        self._clips = [_clip(clip, layout, f"{origin}, clip {i}") for i, clip in enumerate(x)]
        shapes = np.array([clip.shape for clip in self._clips])
        if len(np.unique(shapes[:, 1])) > 1:
            several = " and ".join(map(str, np.unique(shapes[:, 1])))
            raise DataError(f"{origin} mixes clips of {several} channels: bring them to one number.")
        self.frames = shapes[:, 0]
        labels = None if y is None else encode_labels(np.asarray(y), samples=len(shapes), classes=classes)
        self.labels, self.classes = (labels.values, labels.classes) if labels else (None, None)
        self.groups = None if group is None else encode_groups(group, samples=len(shapes))
        middle = tuple(int(v) for v in np.median(shapes, 0))
        self.facts = Facts("video", len(shapes), (middle[1], middle[0], *middle[2:]), bit_depth=8,
                           classes=len(self.classes) if self.classes else None)
        self._lay(int(self.frames.max()), 1, max(middle[2:]))

    def set_canvas(self, canvas: tuple[int, int, int]) -> None:
        """As of VideoSource."""
        canvas = _checked(canvas)
        if canvas != self._canvas:
            self._lay(*canvas)

    def _lay(self, frames: int, stride: int, side: int) -> None:
        self._canvas = frames, stride, side
        self._x = np.empty((len(self._clips), self._clips[0].shape[1], frames, side, side), np.uint8)
        self._size = np.empty((len(self._clips), 3), np.int64)
        for row, clip in enumerate(self._clips):
            first = skipped(len(clip), frames, stride)
            chosen = clip[first : first + frames * stride : stride]
            self._x[row] = canvas_of(stretch(chosen, side), frames)
            self._size[row] = len(chosen), *clip.shape[2:]

    def name(self, index: int) -> str:
        return f"{self.origin}, clip {index}"

    def fingerprint(self) -> str:
        return fingerprint_of("video", *self._clips[:: max(1, len(self._clips) // 64)], len(self._clips))


def open_videos(data: Any, asked: Asked, *, origin: str = "array") -> VideoArrays:
    """A source for clips in memory: an array, a list of arrays, or a dict of x and perhaps y, group and classes."""
    asked.no_columns(origin, "name the arrays y and group")
    given: dict[str, Any] = {}
    if isinstance(data, Mapping):
        if "x" not in data:
            raise OptionError(f"{origin} holds {', '.join(map(str, data)) or 'nothing'}, but no x: name the clips x.")
        given = {name: data[name] for name in ("y", "group") if name in data}
        if "classes" in data:
            given["classes"] = [str(c) for c in np.asarray(data["classes"]).reshape(-1)]
        data = data["x"]
    return VideoArrays(to_numpy(data), layout=asked.layout, origin=origin, least=asked.least, **given)


def _clip(clip: Any, layout: str | None, where: str) -> np.ndarray:
    """uint8 [T, C, H, W]. Raises DataError for what is no clip, OptionError where its channels cannot be told."""
    clip = np.asarray(to_numpy(clip))
    if clip.ndim not in (3, 4) or clip.dtype.kind not in "buif" or not clip.size:
        raise DataError(f"{where}: an array of {clip.dtype} of shape {clip.shape} is no clip [T, H, W, C], [T, C, H, W] or [T, H, W].")
    if layout is not None and (layout not in VIDEO_LAYOUTS or len(layout) != clip.ndim + 1):
        raise OptionError(f"layout={layout} does not fit {where} of shape {clip.shape}: video is {', '.join(VIDEO_LAYOUTS)}.")
    if clip.ndim == 3:
        clip = clip[:, None]
    else:
        few = [axis for axis in (3, 1, 0) if clip.shape[axis] <= 4]
        axes = [layout.index("C") - 1] if layout else [axis for axis in few if axis] or few  # the first may be few frames
        if len(axes) != 1:
            raise OptionError(f"{where} of shape {clip.shape} may be THWC, TCHW or CTHW: say which with layout=NTHWC, layout=NTCHW or "
                              "layout=NCTHW.")
        clip = {0: clip.swapaxes(0, 1), 1: clip, 3: clip.transpose(0, 3, 1, 2)}[axes[0]]
    if len(clip) < 2:
        raise DataError(f"{where} has {len(clip)} frame: a clip needs at least two.")
    if clip.dtype == np.uint8:
        return clip
    if not np.isfinite(clip).all() or clip.min() < 0 or clip.max() > (255 if clip.dtype.kind in "iu" else 1):
        raise DataError(f"{where} has values from {clip.min()} to {clip.max()}: give uint8, or real numbers within 0..1.")
    return clip.astype(np.uint8) if clip.dtype.kind in "iu" else np.rint(clip * np.float32(255)).astype(np.uint8)


def _checked(canvas: tuple[int, int, int]) -> tuple[int, int, int]:
    frames, stride, side = (int(v) for v in canvas)
    if min(frames - 1, stride, side) < 1:
        raise ValueError(f"a canvas of video has two frames, a stride and a side of at least 1, not {canvas}")
    return frames, stride, side
