"""TIFF files that Pillow does not read whole: many channels, several pages as channels, 16-bit and real-valued samples.

Baseline TIFF 6.0 (Adobe, 1992): strips or tiles, chunky or planar, uncompressed or deflate, predictors 1 and 2.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from ..contracts import BadItem

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _PREDICTOR, _FORMAT = 256, 257, 258, 259, 262, 277, 284, 317, 339
_ORIENTATION = 274
_KINDS = {1: "u", 2: "i", 3: "f"}
_MOST_PAGES = 1024
_DEFLATE = (8, 32946)

Tags = dict[int, tuple]


def is_tiff(blob: bytes) -> bool:
    """True for a classic TIFF of either byte order."""
    return blob[:4] in (b"II*\0", b"MM\0*")


def for_pillow(pages: list[Tags]) -> bool:
    """True where Pillow must read the file (fewer than 8 bits, CMYK and the like, grey in LZW or JPEG) or does so without loss
    (one page of 8-bit grey, RGB, RGBA or palette). Of 16-bit colours it keeps 8 bits."""
    first = pages[0]
    samples, bits, photometric = _one(first, _SAMPLES, 1), _one(first, _BITS, 1), _one(first, _PHOTOMETRIC, 1)
    if bits < 8 or photometric > 3:
        return True
    plain = len(_channels(pages)) == 1 and (samples <= 2 or samples <= 4 and photometric == 2)
    return plain and (bits == 8 or samples == 1 and _one(first, _COMPRESSION, 1) not in (1, *_DEFLATE))


def has_alpha(pages: list[Tags]) -> bool:
    """True where the fourth of four samples is declared to be transparency."""
    return _one(pages[0], _SAMPLES, 1) == 4 and _one(pages[0], 338) in (1, 2)


def directories(blob: bytes) -> list[Tags]:
    """The tags of every page. Raises BadItem where the file is cut off or loops."""
    order = "<" if blob[:2] == b"II" else ">"
    try:
        pages, seen, place = [], set(), struct.unpack_from(order + "I", blob, 4)[0]
        while place and place not in seen and len(pages) < _MOST_PAGES:
            seen.add(place)
            count = struct.unpack_from(order + "H", blob, place)[0]
            pages.append(dict(_entry(blob, order, place + 2 + 12 * i) for i in range(count)))
            place = struct.unpack_from(order + "I", blob, place + 2 + 12 * count)[0]
    except struct.error:
        raise BadItem("truncated TIFF") from None
    if not pages or not pages[0].get(_WIDTH) or not pages[0].get(_HEIGHT):
        raise BadItem("a TIFF without an image")
    return pages


def orientation(pages: list[Tags]) -> int:
    """How the stored rows and columns lie, 1 to 8 as in EXIF."""
    return _one(pages[0], _ORIENTATION, 1)


def shape_of(pages: list[Tags]) -> tuple[int, int, int]:
    """(channels, height, width) as stored, pages of one sample counting as channels."""
    first = pages[0]
    return _one(first, _SAMPLES, 1) * len(_channels(pages)), _one(first, _HEIGHT), _one(first, _WIDTH)


def dtype_of(pages: list[Tags]) -> np.dtype:
    """The number format of the samples. Raises BadItem where it is not supported."""
    bits, kind = pages[0].get(_BITS, (8,)), _KINDS.get(_one(pages[0], _FORMAT, 1))
    if kind is None or bits[0] not in ((32, 64) if kind == "f" else (8, 16, 32)) or len(set(bits)) > 1:
        raise BadItem(f"a TIFF of {bits[0]} bits a sample in a format that is not supported; save it with 8, 16 or 32 bits a sample")
    return np.dtype(f"{kind}{bits[0] // 8}")


def read_planes(blob: bytes, pages: list[Tags]) -> np.ndarray:
    """[C, H, W] as stored, in the file's number format, black 0. Raises BadItem for what is not supported, with what to do."""
    order = "<" if blob[:2] == b"II" else ">"
    return np.concatenate([_page(blob, order, tags) for tags in _channels(pages)])


def _channels(pages: list[Tags]) -> list[Tags]:
    """The pages that make up the image: all of them where each is one grey plane of the same kind, else the first."""
    first, keys = pages[0], (_WIDTH, _HEIGHT, _BITS, _FORMAT, _SAMPLES)
    if _one(first, _SAMPLES, 1) != 1:
        return pages[:1]
    return pages if all(tags.get(key) == first.get(key) for tags in pages for key in keys) else pages[:1]


def _entry(blob: bytes, order: str, place: int) -> tuple[int, tuple]:
    tag, kind, count = struct.unpack_from(order + "HHI", blob, place)
    code = _CODES.get(kind)
    if code is None or count > len(blob):
        return tag, ()
    at = place + 8 if _SIZES[kind] * count <= 4 else struct.unpack_from(order + "I", blob, place + 8)[0]
    return tag, struct.unpack_from(f"{order}{count}{code}", blob, at)


def _one(tags: Tags, tag: int, default: int = 0) -> int:
    values = tags.get(tag)
    return int(values[0]) if values else default


def _page(blob: bytes, order: str, tags: Tags) -> np.ndarray:
    height, width, samples = _one(tags, _HEIGHT), _one(tags, _WIDTH), _one(tags, _SAMPLES, 1)
    dtype = dtype_of([tags]).newbyteorder(order)
    planar = _one(tags, _PLANAR, 1) == 2
    tiled = 324 in tags
    rows = _one(tags, 323) if tiled else min(_one(tags, 278, height), height)
    columns = _one(tags, 322) if tiled else width
    offsets, counts = tags.get(324 if tiled else 273, ()), tags.get(325 if tiled else 279, ())
    across, down = -(-width // max(columns, 1)), -(-height // max(rows, 1))
    depth = 1 if planar else samples
    if min(rows, columns) < 1 or len(offsets) < across * down * (samples if planar else 1) or len(counts) < len(offsets):
        raise BadItem("truncated TIFF")
    out = np.empty((samples, height, width), dtype=dtype.newbyteorder("="))
    for number in range(across * down * (samples if planar else 1)):
        plane, cell = divmod(number, across * down)
        top, left = cell // across * rows, cell % across * columns
        tall = rows if tiled else min(rows, height - top)
        block = _block(blob[offsets[number]:offsets[number] + counts[number]], tags, dtype, (tall, columns, depth))
        block = block[:height - top, :width - left].transpose(2, 0, 1)
        where = slice(plane, plane + 1) if planar else slice(None)
        out[where, top:top + block.shape[1], left:left + block.shape[2]] = block
    return black_at_zero(out, tags)


def black_at_zero(samples: np.ndarray, tags: Tags) -> np.ndarray:
    """Unsigned samples of a page in which 0 is white turned around, all else as it is."""
    return np.iinfo(samples.dtype).max - samples if _one(tags, _PHOTOMETRIC, 1) == 0 and samples.dtype.kind == "u" else samples


def _block(data: bytes, tags: Tags, dtype: np.dtype, shape: tuple[int, int, int]) -> np.ndarray:
    """One strip or tile [rows, columns, samples]."""
    compression, expected = _one(tags, _COMPRESSION, 1), shape[0] * shape[1] * shape[2] * dtype.itemsize
    if compression in _DEFLATE:
        try:
            data = zlib.decompressobj().decompress(data, expected)
        except zlib.error:
            raise BadItem("damaged TIFF (deflate)") from None
    elif compression != 1:
        raise BadItem(f"a multi-channel or 16-bit TIFF with compression {compression}; save it uncompressed or with deflate")
    if len(data) < expected:
        raise BadItem("truncated TIFF")
    block = np.frombuffer(data, dtype, count=expected // dtype.itemsize).reshape(shape)
    predictor = _one(tags, _PREDICTOR, 1)
    if predictor == 2 and dtype.kind in "ui":
        return np.cumsum(block, axis=1, dtype=dtype.newbyteorder("="))
    if predictor != 1:
        raise BadItem(f"a TIFF with predictor {predictor}; save it without")
    return block
