"""What all sources of encoded images share: facts from a few headers, and canvases from bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from ..contracts import BadItem, DataError, Facts
from .canvases import CanvasSource, check_count
from .decoding import DEPTHS, PIXEL_LIMIT, Header, Pixels, decode, read_header
from .listing import IMAGE_SUFFIXES

_SAMPLE = 64  # headers looked at
_FIRST_CANVAS = 256  # longest side of the canvas until someone calls set_canvas


class ImageSource(CanvasSource):
    """Base: a subclass gives `blob(index)`, the bytes of an image, and calls `settle` when it knows how many there are.

    Items: {"x": [C, S, S], "size": int64 [2] original (height, width), "hash": uint64 of the stored bytes}; x is uint8, or uint16
    or float32 where the files hold that. Channels and depth are those of most of a sample of headers; grey and RGB mixed is RGB.
    """

    modality = "image"
    what, suffixes = "image", IMAGE_SUFFIXES

    def __init__(self, origin: str, *, pixel_limit: int = PIXEL_LIMIT):
        super().__init__(origin)
        self.pixel_limit = pixel_limit
        self.pixels = Pixels(3, "uint8")
        self._side = 32

    def settle(self, count: int, *, notes: Iterable[str] = (), least: int = 2) -> None:
        """Looks at evenly spaced headers and fills `facts`. Raises DataError where there are fewer than `least` images or none
        of the sample can be read."""
        check_count(count, self.origin, least, self.what)
        headers, reasons = sample_headers(self.blob, count, self.pixel_limit)
        if not headers:
            raise DataError(f"None of {len(reasons)} images looked at in {self.origin} can be read ({self.name(reasons[0][0])}: "
                            f"{reasons[0][1]}): check that these files are images.")
        self.pixels, mixed = agree(headers)
        height, width = (int(np.median([getattr(h, side) for h in headers])) for side in ("height", "width"))
        self._side = min(max(height, width), _FIRST_CANVAS)
        self.facts = Facts("image", count, (self.pixels.channels, height, width), classes=len(self.classes) if self.classes else None,
                           bit_depth={"uint8": 8, "uint16": 16, "float32": 32}[self.pixels.dtype], notes=(*notes, *mixed))

    def set_pixels(self, channels: int, bits: int, white: float | None = None) -> None:
        """Channels, bits a sample and the value of white that images are read in; those that cannot be are bad items."""
        pixels = Pixels(channels, DEPTHS[bits], white)
        if pixels != self.pixels:
            self.pixels, self._decoded = pixels, None

    @property
    def canvas(self) -> tuple[tuple[int, int, int], str]:
        """((C, S, S), dtype) of `x` in every item."""
        return (self.pixels.channels, self._side, self._side), self.pixels.dtype

    def set_canvas(self, side: int) -> None:
        """The side S of the square canvas that images are stretched to."""
        if side < 1:
            raise ValueError(f"a canvas has a side of at least 1 pixel, not {side}")
        if side != self._side:
            self._side, self._decoded = int(side), None

    def decode(self, blob: bytes) -> dict[str, np.ndarray]:
        return decode(blob, self._side, self.pixels, pixel_limit=self.pixel_limit)


def sample_headers(blob: Callable[[int], bytes], count: int, pixel_limit: int) -> tuple[list[Header], list[tuple[int, str]]]:
    """Headers of at most 64 evenly spaced images, and (index, reason) of those that cannot be read."""
    headers, reasons = [], []
    for index in np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)).tolist():
        try:
            headers.append(read_header(blob(index), pixel_limit=pixel_limit))
        except BadItem as bad:
            reasons.append((index, bad.reason))
    return headers, reasons


def agree(headers: list[Header]) -> tuple[Pixels, list[str]]:
    """The channels and the depth that a source's canvases get, and notes on what is converted."""
    channels = Counter(h.channels for h in headers)
    dtypes = Counter(h.dtype for h in headers)
    notes, most = [], channels.most_common(1)[0][0]
    if most == 1 and channels[3]:
        most = 3
    if most == 3 and channels[1]:
        notes.append(f"Grey and colour are mixed ({channels[1]} of {len(headers)} looked at are grey): all are read as RGB.")
    strange = {c for c in channels if c != most and {c, most} != {1, 3}}
    if strange:
        notes.append(f"Images with {', '.join(map(str, sorted(strange)))} channels are set aside: most have {most}.")
    if any(h.alpha for h in headers):
        notes.append("Transparent images are laid over white.")
    dtype = dtypes.most_common(1)[0][0]
    if len(dtypes) > 1:
        notes.append(f"Depths are mixed ({', '.join(sorted(dtypes))}): all are read as {dtype}.")
    return Pixels(most, dtype), notes
