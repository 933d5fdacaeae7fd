"""Images of more than 8 bits a sample, as Pillow opens them, with all their bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import tiff

_WIDE = {"I", "I;16", "I;16B", "I;16L", "I;16N", "F"}  # modes of one channel and more than 8 bits
_GREY_ALPHA = "LA;16B"
_HALVED = ("RGB;16B", "RGBA;16B", _GREY_ALPHA)  # samples of a PNG of which Pillow keeps one byte


def dtype_of(image: Any) -> str:
    """The dtype in which samples are kept: of a TIFF's whole numbers float32, since they need not fit into 16 bits."""
    if image.mode not in _WIDE:
        return "uint16" if _halved(image) else "uint8"
    return "float32" if image.mode == "F" or image.mode == "I" and image.format == "TIFF" else "uint16"


def is_grey(image: Any) -> bool:
    """True for grey with transparency in a PNG, which Pillow calls RGBA."""
    return _halved(image) == _GREY_ALPHA


def planes_of(image: Any, pages: list[tiff.Tags]) -> np.ndarray:
    """[C, H, W]: uint16, or numbers that are kept as float32; transparency laid over white. pages: of a TIFF."""
    if _halved(image):
        return _whole_png(image)
    x = np.asarray(image)[None]
    if image.format != "TIFF" and x.dtype.kind != "f":
        return np.clip(x, 0, 65535).astype(np.uint16)
    if pages and image.mode == "I" and tiff.dtype_of(pages) == np.uint32:  # Pillow knows no unsigned 32 bits
        x = x.view(np.uint32)
    return tiff.black_at_zero(x, pages[0]) if pages else x


def _halved(image: Any) -> str:
    """How Pillow calls the samples of a PNG that it halves; empty for all else."""
    found = image.tile[0].args if image.format == "PNG" and image.tile else ""
    return found if found in _HALVED else ""


def _whole_png(image: Any) -> np.ndarray:
    """uint16 [1 or 3, H, W] of a 16-bit PNG in colour or with transparency: decoded twice, once for each byte of a sample; grey with
    transparency once, the four bytes of a pixel as if they were four samples."""
    from PIL import Image

    stream, mode = image.fp, image.mode
    stream.seek(0)
    low = Image.open(stream, formats=("PNG",))
    if is_grey(image):
        low.tile = [part._replace(args="RGBA") for part in low.tile]
        return over_white(np.asarray(low).view(">u2").astype(np.uint16).transpose(2, 0, 1))
    low.tile = [part._replace(args=f"{mode};16L") for part in low.tile]
    low_bytes = np.asarray(low).astype(np.uint16)
    stream.seek(0)
    samples = np.asarray(Image.open(stream, formats=("PNG",))).astype(np.uint16) << 8 | low_bytes
    return over_white(samples.transpose(2, 0, 1))


def over_white(planes: np.ndarray) -> np.ndarray:
    """RGBA planes [4, H, W] laid over white: [3, H, W]; grey and transparency [2, H, W]: [1, H, W]; RGB planes as they are."""
    if planes.shape[0] not in (2, 4):
        return planes
    top = float(np.iinfo(planes.dtype).max) if planes.dtype.kind == "u" else 1.0
    alpha = planes[-1:].astype(np.float32) / top
    flat = planes[:-1] * alpha + top * (1.0 - alpha)
    return np.rint(flat).astype(planes.dtype) if planes.dtype.kind == "u" else flat
