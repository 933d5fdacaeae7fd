"""TIFF and 16-bit PNG against what is stored: orientation, white as zero, 32 bits, what Pillow would halve."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from selftaught.contracts import BadItem
from selftaught.sources.decoding import Pixels, decode, read_header

DEEP = np.linspace(0, 65535, 24 * 24).reshape(24, 24).astype(np.uint16)


def tiff(array, *, photometric=1, orientation=1, lzw=False):
    """A TIFF of [H, W] or [H, W, C] in one strip."""
    array = array if array.ndim == 3 else array[..., None]
    height, width, channels = array.shape
    data = packed(array.tobytes()) if lzw else array.tobytes()
    tags = {256: [width], 257: [height], 258: [array.dtype.itemsize * 8] * channels, 259: [5 if lzw else 1], 262: [photometric], 273: [8],
            274: [orientation], 277: [channels], 278: [height], 279: [len(data)]}
    extra, entries, start = b"", b"", 8 + len(data) + 2 + 12 * len(tags) + 4
    for tag, values in tags.items():
        stored = struct.pack(f"<{len(values)}H", *values) if tag != 279 else struct.pack("<I", len(data))
        place = stored.ljust(4, b"\0") if len(stored) <= 4 else struct.pack("<I", start + len(extra))
        extra += stored if len(stored) > 4 else b""
        entries += struct.pack("<HHI", tag, 3 if tag != 279 else 4, len(values)) + place
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + extra


def packed(data):
    """LZW that never uses its table: a clear code before every 200 bytes."""
    codes = [code for i in range(0, len(data), 200) for code in (256, *data[i : i + 200])] + [257]
    bits = "".join(format(code, "09b") for code in codes)
    return int(bits + "0" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big")


def decoded(blob, side=24):
    header = read_header(blob)
    return header, decode(blob, side, Pixels(header.channels, header.dtype))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_orientation_lies_upright(orientation, dtype):
    array = np.zeros((24, 40, 3), dtype)
    array[:12, :20], array[:6, 20:30, 0] = 255, 200
    blob = tiff(array, photometric=2, orientation=orientation)
    with Image.open(io.BytesIO(tiff(array.astype(np.uint8), photometric=2, orientation=orientation))) as image:
        image.load()
        upright = image.copy()
    header, item = decoded(blob, 32)
    assert (header.height, header.width) == (upright.height, upright.width) == tuple(item["size"])
    expected = np.asarray(upright.resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1).astype(int)
    assert np.abs(item["x"] - expected).max() <= 1


@pytest.mark.parametrize("lzw", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_where_zero_is_white_it_becomes_black(dtype, lzw):
    array = (DEEP // 257).astype(np.uint8) if dtype == np.uint8 else DEEP
    _, item = decoded(tiff(array, photometric=0, lzw=lzw))
    assert item["x"].dtype == dtype and (item["x"][0] == np.iinfo(dtype).max - array).all()


def test_grey_of_32_bits_is_not_cut_at_16():
    for array in (DEEP.astype(np.uint32) * 10, DEEP.astype(np.uint32) * 50_000):
        for lzw in (False, True):
            header, item = decoded(tiff(array, lzw=lzw))
            assert header.dtype == "float32" and (item["x"][0] == array.astype(np.float32)).all()


def test_colours_of_16_bits_in_lzw_are_refused_not_halved():
    blob = tiff(np.stack([DEEP] * 3, -1), photometric=2, lzw=True)
    with pytest.raises(BadItem) as bad:
        decoded(blob)
    assert "compression 5; save it uncompressed or with deflate" in bad.value.reason


@pytest.mark.parametrize("alpha", [65535, 32768])
def test_grey_png_with_transparency_keeps_16_bits(alpha):
    rows = b"".join(b"\0" + np.stack([line, np.full_like(line, alpha)], -1).astype(">u2").tobytes() for line in DEEP)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    blob = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 24, 24, 16, 4, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    header, item = decoded(blob)
    expected = DEEP * (alpha / 65535) + 65535 - alpha
    assert (header.channels, header.dtype, header.alpha) == (1, "uint16", True) and np.abs(item["x"][0] - expected).max() <= 1
