"""From the bytes of a volume to a canvas at one spacing with intensities in 0..1, or a BadItem that says why not."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from typing import Any

import numpy as np
import torch

from ..contracts import BadItem, OptionError
from .arrayfiles import check_unpacked
from .decoding import BYTE_LIMIT

PERCENTILES = (0.5, 99.5)  # of a volume, which become 0 and 1; what lies beyond is cut
_VOXELS = 1 << 30
_PIECE = 1 << 24  # bytes that are unpacked at a time
_GZIP, _NPY, _ZIP = b"\x1f\x8b", b"\x93NUMPY", b"PK"


def read_volume(blob: bytes, layout: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(x [C, D, H, W] as it is stored, spacing float64 [3] between voxels along D, H, W) of a .npy, .npz or NIfTI file in memory.

    An .npz has x and perhaps spacing; layout: of arrays, see `channels_first`. NIfTI, which says its axes, is turned to its closest
    canonical orientation, D from foot to head. Raises BadItem."""
    if not blob:
        raise BadItem("zero bytes")
    try:
        if blob.startswith(_NPY):
            x, spacing = np.load(io.BytesIO(blob), allow_pickle=False), np.ones(3)
        elif blob.startswith(_ZIP):
            x, spacing = _npz(blob)
        else:
            (x, spacing), layout = _nifti(blob), "NCDHW"
    except (BadItem, OptionError):
        raise
    except Exception as error:  # damaged files lead decoders to anything
        raise BadItem(f"not readable as a volume: {' '.join(str(error).split())[:120] or type(error).__name__}") from None
    return channels_first(x, "the file", layout), np.asarray(spacing, np.float64)


def channels_first(x: np.ndarray, where: str, layout: str | None = None) -> np.ndarray:
    """[D, H, W], [C, D, H, W] or [D, H, W, C] → [C, D, H, W]. layout: NDHW, NCDHW or NDHWC where the shape does not say. Raises BadItem for
    what is no volume."""
    x = np.asarray(x)
    if x.ndim not in (3, 4) or x.dtype.kind not in "buif" or min(x.shape) < 1 or x.size > _VOXELS:
        raise BadItem(f"{where} holds an array of {x.dtype} of shape {x.shape}: a volume is [D, H, W], perhaps with channels")
    if x.dtype.kind == "b":
        x = x.astype(np.uint8)
    if x.ndim == 3:
        return x[None]
    if layout == "NDHW":
        raise BadItem(f"{where} of shape {x.shape} does not fit layout=NDHW: say where its channels are with layout=NCDHW or layout=NDHWC")
    axes = [layout.index("C") - 1] if layout else [axis for axis in (0, 3) if x.shape[axis] <= 4]
    if len(axes) != 1:
        raise BadItem(f"{where} of shape {x.shape} may be CDHW or DHWC: say which with layout=NCDHW or layout=NDHWC")
    return np.moveaxis(x, axes[0], 0)


def normalised(x: np.ndarray) -> np.ndarray:
    """float32 [C, D, H, W] in 0..1: each channel between its percentiles. Raises BadItem for NaN and for what is constant."""
    bad = 0 if x.dtype.kind in "biu" else int(np.size(x) - np.isfinite(x).sum())
    if bad:
        raise BadItem(f"{bad:,} of {x.size:,} voxels are NaN or infinite")
    out = np.empty(x.shape, np.float32)
    for channel, values in enumerate(x):
        low, high = np.percentile(values, PERCENTILES)
        if not high > low:  # all but a few voxels are background
            low, high = float(values.min()), float(values.max())
        if not high > low:
            raise BadItem(f"constant: every voxel is {low:g}")
        out[channel] = ((values.astype(np.float64) - low) / (high - low)).clip(0, 1)
    return out


def cells_of(shape: tuple[int, ...], spacing: np.ndarray, wanted: np.ndarray) -> tuple[int, int, int]:
    """How many cells of the `wanted` spacing a volume of `shape` [.., D, H, W] voxels takes along each axis."""
    return tuple(int(v) for v in np.maximum(np.rint(np.array(shape[-3:]) * spacing / wanted), 1))


def is_cut(name: str, cells: tuple[int, int, int], room: tuple[int, int, int]) -> bool:
    """Whether a volume of so many cells finds no room for some, which is warned of."""
    if all(n <= most for n, most in zip(cells, room)):
        return False
    cells, room = (" × ".join(map(str, v)) for v in (cells, room))
    warnings.warn(f"{name}: it takes {cells} cells, and there is room for {room}: its middle is kept, as of others so large, which are not "
                  "named; crop or resample them where their borders matter.", stacklevel=2)
    return True


def on_canvas(x: np.ndarray, spacing: np.ndarray, shape: tuple[int, int, int], wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(float32 [C, *shape], int64 [3] cells that the volume takes): x [C, D, H, W] normalised, resampled to the `wanted` spacing and laid
    in the middle of the canvas, where what is too large is cut and what is missing is 0. Raises BadItem."""
    x = resized(normalised(x), cells_of(x.shape, spacing, wanted))
    canvas, size = np.zeros((len(x), *shape), np.float32), np.minimum(x.shape[1:], shape)
    given = tuple(slice((have - n) // 2, (have - n) // 2 + n) for have, n in zip(x.shape[1:], size))
    place = tuple(slice((room - n) // 2, (room - n) // 2 + n) for room, n in zip(shape, size))
    canvas[(slice(None), *place)] = x[(slice(None), *given)]
    return canvas, size.astype(np.int64)


def resized(x: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """[C, D, H, W] → [C, *shape], linear along each axis, with antialiasing where it shrinks."""
    if x.shape[1:] == tuple(shape):
        return x
    out = torch.from_numpy(np.ascontiguousarray(x))
    along = dict(mode="bilinear", antialias=True, align_corners=False)
    out = torch.nn.functional.interpolate(out, size=tuple(shape[1:]), **along)  # slices as channels
    out = torch.nn.functional.interpolate(out.flatten(2)[None], size=(shape[0], shape[1] * shape[2]), **along)[0]
    return out.unflatten(2, tuple(shape[1:])).numpy()


def nibabel() -> Any:
    """The module that reads NIfTI; an OptionError that says how to get it where it is missing."""
    try:
        import nibabel as module
    except ImportError as error:
        raise OptionError(f"NIfTI files are read by the package nibabel, which cannot be imported here ({error}): pip install nibabel, or "
                          "save the volumes as .npz with x and spacing.") from None
    return module


def _npz(blob: bytes) -> tuple[np.ndarray, np.ndarray]:
    check_unpacked(blob)
    with np.load(io.BytesIO(blob), allow_pickle=False) as arrays:
        if "x" not in arrays:
            raise BadItem(f"holds the arrays {', '.join(arrays) or 'none'}, but no x")
        return arrays["x"], checked_spacing(arrays["spacing"] if "spacing" in arrays else np.ones(3))


def _nifti(blob: bytes) -> tuple[np.ndarray, np.ndarray]:
    module = nibabel()
    if blob.startswith(_GZIP):
        blob = unzipped(blob)
    second = 540 in (int.from_bytes(blob[:4], order) for order in ("little", "big"))  # bytes of the header; of version 1 they are 348
    image = module.as_closest_canonical((module.Nifti2Image if second else module.Nifti1Image).from_bytes(blob))
    x = np.asanyarray(image.dataobj)  # [W, H, D] or [W, H, D, C]
    spacing = checked_spacing(np.array(image.header.get_zooms()[:3], np.float64))
    return (x.transpose(2, 1, 0) if x.ndim == 3 else x.transpose(3, 2, 1, 0) if x.ndim == 4 else x), spacing[::-1]


def unzipped(blob: bytes, limit: int = BYTE_LIMIT) -> bytes:
    """What a .gz file unpacks to. Raises BadItem where it is damaged or unpacks to more than `limit` bytes, which a file may have."""
    plain = bytearray()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(blob)) as file:
            while piece := file.read(_PIECE):
                plain += piece
                if len(plain) > limit:
                    raise BadItem(f"unpacks to more than {limit >> 20:,} MiB")
    except (EOFError, OSError, zlib.error) as error:
        raise BadItem(f"truncated or damaged: {error}") from None
    return bytes(plain)


def checked_spacing(spacing: Any) -> np.ndarray:
    """float64 [3]. Raises BadItem."""
    spacing = np.asarray(spacing, np.float64).reshape(-1)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise BadItem(f"its spacing is {spacing.tolist()}: three positive numbers are expected")
    return spacing
