"""From the bytes of an image file to a square canvas of pixels, or a BadItem that says why not."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import BadItem
from . import deep_pixels, tiff

PIXEL_LIMIT = 178_000_000
BYTE_LIMIT = 1 << 30
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
_NPY = b"\x93NUMPY"
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"}
DEPTHS = {8: "uint8", 16: "uint16", 32: "float32"}  # bits a sample, as facts say them
_SCALE = {"uint8": 255.0, "uint16": 65535.0}
_TURNED = {5, 6, 7, 8}  # EXIF orientations that swap height and width

# Pillow warns of large or damaged files; the limit on pixels is ours, and a bad item is reported with its reason. For the whole
# process, since catch_warnings is not safe where several threads decode.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Pixels:
    """What all canvases of a source have in common: number of channels, and uint8, uint16 or float32. white: what full brightness of
    another depth becomes; None for the dtype's largest number."""

    channels: int
    dtype: str
    white: float | None = None


@dataclass(frozen=True)
class Header:
    """What a file says of itself: channels after the rules (palette, CMYK and alpha are RGB), dtype, size, transparency."""

    channels: int
    dtype: str
    height: int
    width: int
    alpha: bool = False



def content_hash(blob: bytes) -> np.uint64:
    """64 bits of BLAKE2b over the stored bytes."""
    return np.uint64(int.from_bytes(hashlib.blake2b(blob, digest_size=8).digest(), "little"))


def read_header(blob: bytes, *, pixel_limit: int = PIXEL_LIMIT) -> Header:
    """Header of an image in memory, without decoding it. Raises BadItem."""
    with _bad_items(blob):
        if blob.startswith(_NPY):
            array = _npy(blob, pixel_limit)
            return Header(array.shape[0], _kept(array.dtype), *array.shape[1:])
        if tiff.is_tiff(blob):
            pages = tiff.directories(blob)
            if not tiff.for_pillow(pages):
                channels, height, width = tiff.shape_of(pages)
                _check_pixels(height, width, pixel_limit, channels)
                height, width = (width, height) if tiff.orientation(pages) in _TURNED else (height, width)
                alpha = tiff.has_alpha(pages)
                return Header(3 if alpha else channels, _kept(tiff.dtype_of(pages)), height, width, alpha)
        image = _open(blob, pixel_limit)
        width, height = image.size[::-1] if _orientation(image) in _TURNED else image.size
        grey = image.mode in _GREY or deep_pixels.is_grey(image)
        return Header(1 if grey else 3, deep_pixels.dtype_of(image), height, width, _has_alpha(image))


def decode(blob: bytes, side: int, pixels: Pixels, *, pixel_limit: int = PIXEL_LIMIT) -> dict[str, np.ndarray]:
    """The whole image stretched to a canvas: {"x": [C, side, side], "size": int64 [2] original (height, width), "hash": uint64}.

    JPEGs decode at the smallest of the scales 1, 1/2, 1/4, 1/8 that is not below the canvas. EXIF orientation is applied,
    transparency is laid over white, 16-bit and real-valued samples keep their depth. Raises BadItem.
    """
    with _bad_items(blob):
        x, size = _canvas(blob, side, pixels, pixel_limit)
    return {"x": x, "size": np.array(size, dtype=np.int64), "hash": content_hash(blob)}


@contextmanager
def _bad_items(blob: bytes) -> Iterator[None]:
    """Whatever goes wrong inside becomes a BadItem: decoders of damaged files raise anything at all, and what they said is the
    reason."""
    if not blob:
        raise BadItem("zero bytes")
    if not any(blob[:4096]) and not any(blob):
        raise BadItem("all bytes are zero")
    try:
        yield
    except BadItem:
        raise
    except Exception as error:
        raise BadItem(_said(error)) from None


def _canvas(blob: bytes, side: int, pixels: Pixels, limit: int) -> tuple[np.ndarray, tuple[int, int]]:
    planes, pages = None, []
    if blob.startswith(_NPY):
        planes = _npy(blob, limit)
    elif tiff.is_tiff(blob):
        pages = tiff.directories(blob)
        if not tiff.for_pillow(pages):
            channels, height, width = tiff.shape_of(pages)
            _check_pixels(height, width, limit, channels)
            planes = _turned(tiff.read_planes(blob, pages), tiff.orientation(pages))
            planes = deep_pixels.over_white(planes) if tiff.has_alpha(pages) else planes
    if planes is not None:
        return conform(_resize(planes, side), _kept(planes.dtype), pixels), planes.shape[1:]
    image = _open(blob, limit)
    if image.format == "TIFF":
        image.load()  # only now it lies upright
    width, height = image.size
    if image.format in ("JPEG", "MPO"):
        image.draft("L" if pixels.channels == 1 else "RGB", (side, side))
    turn = _orientation(image)
    size = (width, height) if turn in _TURNED else (height, width)
    if deep_pixels.dtype_of(image) != "uint8":
        wide = deep_pixels.planes_of(image, pages)
        return _turned(conform(_resize(wide, side), _kept(wide.dtype), pixels), turn), size
    flat = _flat(image, side)
    if pixels.dtype == "uint8" and pixels.channels in (1, 3):
        x = np.asarray(flat.convert("L" if pixels.channels == 1 else "RGB"))
        x = x[None] if x.ndim == 2 else np.ascontiguousarray(x.transpose(2, 0, 1))
    else:
        x = np.asarray(flat)
        x = conform((x[None] if x.ndim == 2 else x.transpose(2, 0, 1)).astype(np.float32), "uint8", pixels)
    return _turned(x, turn), size


def _open(blob: bytes, limit: int) -> Any:
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(blob), formats=FORMATS)
    except Image.DecompressionBombError:
        raise BadItem(f"larger than {limit / 1e6:.0f} million pixels") from None
    except Image.UnidentifiedImageError:
        raise BadItem("not an image") from None
    _check_pixels(image.height, image.width, limit)
    return image


def _check_pixels(height: int, width: int, limit: int, channels: int = 1) -> None:
    if height * width * max(channels / 4, 1) > limit:
        raise BadItem(f"{width} x {height} pixels: larger than {limit / 1e6:.0f} million")


def _said(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        return "does not fit into memory"
    return f"truncated: {text}" if "truncated" in text.lower() or isinstance(error, EOFError) else f"cannot be decoded: {text}"


def _orientation(image: Any) -> int:
    """EXIF orientation, 1 to 8; asked only where there is EXIF (Pillow would decode a PNG to look for it). Pillow turns TIFFs itself."""
    if "exif" not in image.info or image.format == "TIFF":
        return 1
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF beside a sound image
        return 1


def _has_alpha(image: Any) -> bool:
    return image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info


def _flat(image: Any, side: int) -> Any:
    """The 8-bit image on its canvas as L or RGB; resized before transparency is laid over white."""
    from PIL import Image

    grey = image.mode in _GREY
    alpha = _has_alpha(image)
    wanted = ("LA" if grey else "RGBA") if alpha else ("L" if grey else "RGB")
    if image.mode != wanted:
        image = image.convert(wanted)
    image = image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if not alpha:
        return image
    bands = image.split()
    flat = Image.merge("L" if grey else "RGB", bands[:-1])
    flat.paste(255 if grey else (255, 255, 255), mask=bands[-1].point(lambda a: 255 - a))
    return flat


def _turned(x: np.ndarray, orientation: int) -> np.ndarray:
    """A square canvas [C, S, S] turned as EXIF orientation (1 to 8) asks."""
    if orientation in _TURNED:
        x = x.transpose(0, 2, 1)
    if orientation in (3, 4, 7, 8):
        x = x[:, ::-1]
    if orientation in (2, 3, 6, 7):
        x = x[:, :, ::-1]
    return np.ascontiguousarray(x)


def _kept(dtype: np.dtype) -> str:
    """The dtype in which samples are kept: 8 and 16 bits as they are, all else as real numbers."""
    return {"uint8": "uint8", "bool": "uint8", "uint16": "uint16"}.get(np.dtype(dtype).name, "float32")


def _resize(planes: np.ndarray, side: int) -> np.ndarray:
    """[C, H, W] of any real dtype → float32 [C, side, side], bilinear with antialiasing."""
    from PIL import Image

    if planes.dtype == bool:
        planes = planes.astype(np.uint8) * 255
    planes = np.asarray(planes, dtype=np.float32)
    if not np.isfinite(planes).all():
        raise BadItem("holds NaN or infinite values")
    if planes.shape[1:] == (side, side):
        return planes
    resized = [Image.fromarray(np.ascontiguousarray(p)).resize((side, side), Image.Resampling.BILINEAR) for p in planes]
    return np.stack([np.asarray(r) for r in resized])


def conform(x: np.ndarray, dtype: str, pixels: Pixels) -> np.ndarray:
    """float32 samples [..., c, S, S] of images stored as `dtype` → the channels and dtype of `pixels`. Raises BadItem where grey is not
    all that lies between them, or nobody says what black and white are."""
    channels = x.shape[-3]
    if channels != pixels.channels:
        if {channels, pixels.channels} != {1, 3}:
            raise BadItem(f"{channels} channels where {pixels.channels} are wanted")
        x = np.repeat(x, 3, axis=-3) if pixels.channels == 3 else (_LUMA[:, None, None] * x).sum(axis=-3, keepdims=True)
    if dtype == pixels.dtype == "float32":
        return np.ascontiguousarray(x)
    if "float32" in (dtype, pixels.dtype):
        raise BadItem(f"{dtype} samples where {pixels.dtype} is wanted")
    most = _SCALE[pixels.dtype]
    scale = 1.0 if dtype == pixels.dtype else (pixels.white or most) / _SCALE[dtype]
    return np.rint(np.clip(x * scale, 0, most)).astype(pixels.dtype)


_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, as Pillow converts


def _npy(blob: bytes, limit: int) -> np.ndarray:
    """[C, H, W] view on the bytes of an .npy file; never unpickles."""
    stream = io.BytesIO(blob)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
    except ValueError as error:
        raise BadItem(f"damaged .npy header: {error}") from None
    if dtype.hasobject or dtype.kind not in "buif":
        raise BadItem(f"an .npy of {dtype} is not an image")
    if len(shape) not in (2, 3) or 0 in shape:
        raise BadItem(f"an .npy of shape {shape} is not an image: [H, W], [H, W, C] or [C, H, W]")
    last = len(shape) == 3 and shape[2] <= shape[0]
    height, width = shape if len(shape) == 2 else shape[:2] if last else shape[1:]
    _check_pixels(height, width, limit)
    count = int(np.prod(shape, dtype=object))
    if len(blob) - stream.tell() < count * dtype.itemsize:
        raise BadItem(f"truncated: {len(blob)} bytes for an array of shape {shape}")
    array = np.frombuffer(blob, dtype, count=count, offset=stream.tell())
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    return array[None] if len(shape) == 2 else array.transpose(2, 0, 1) if last else array
