"""From the bytes of a video file to a canvas of some of its frames, or a BadItem that says why not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contracts import BadItem, OptionError
from .decoding import PIXEL_LIMIT, content_hash

_WHOLE = 0.9  # of the frames that a file announces must be there: what a damaged file has beyond its damage is lost in silence


@dataclass(frozen=True)
class VideoHeader:
    """What a file says of itself. frames: those that are there where it does not say, see `_counted`."""

    frames: int
    height: int
    width: int


def pyav() -> Any:
    """The module that decodes video; an OptionError that says how to get it where it is missing."""
    try:
        import av
    except (ImportError, OSError) as error:
        raise OptionError(f"Video files are read by the package av (PyAV), which cannot be imported here ({error}): "
                          "pip install selftaught[video].") from None
    return av


def read_video_header(blob: bytes) -> VideoHeader:
    """Header of a video in memory. Raises BadItem."""
    with _opened(blob) as container:
        stream = container.streams.video[0]
        header = VideoHeader(int(stream.frames or _counted(container, stream)), int(stream.height), int(stream.width))
    if not 0 < header.height * header.width <= PIXEL_LIMIT:
        raise BadItem(f"its frames have {header.width} x {header.height} pixels")
    return header


def _counted(container: Any, stream: Any) -> int:
    """Frames in a file that does not say how many: a packet each, unless they come in halves; in proportion more where the file ends
    before its time, which is that of its pictures or of its sound, whichever is longer."""
    spans = [(packet.stream.index == stream.index, float(at * packet.time_base), float((at + (packet.duration or 0)) * packet.time_base))
             for packet in container.demux() if (at := packet.dts if packet.pts is None else packet.pts) is not None]
    own = [span for span in spans if span[0]]
    if not own:
        return 0
    there, shown = (max(end for *_, end in some) - min(start for _, start, _ in some) for some in (spans, own))
    count = min(len(own), round(shown * float(stream.average_rate)) + 1) if stream.average_rate else len(own)
    whole = (container.duration or 0) / 1e6
    return count if not there or there >= _WHOLE * whole else round(count * whole / there)


def decode_video(blob: bytes, frames: int, stride: int, side: int) -> dict[str, np.ndarray]:
    """{"x": uint8 [3, frames, side, side], "size": int64 [3] frames that are there, original height and width, "hash": uint64}.

    Every `stride`-th frame, each stretched to the square; a longer video gives its middle, a shorter one is black past its end. A
    rotation that the file asks a player for is not applied. Raises BadItem.
    """
    header = read_video_header(blob)
    first = skipped(header.frames, frames, stride)
    last, found, count = first + frames * stride, [], 0
    with _opened(blob) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"  # workers are as many as there are cores
        for frame in container.decode(stream):
            if first <= count < last and (count - first) % stride == 0:
                found.append(frame.reformat(side, side, format="rgb24", interpolation="AREA").to_ndarray())
            count += 1
            if count >= last:
                break
    expected = min(last, header.frames)
    if count < _WHOLE * expected - 1:
        raise BadItem(f"truncated: {count} of {header.frames} frames can be decoded")
    if len(found) < 2:
        raise BadItem(f"holds {count or 'no'} frame{'s' if count != 1 else ''}, and a clip needs at least two at the stride of {stride}")
    size = np.array([len(found), header.height, header.width], np.int64)
    return {"x": canvas_of(np.stack(found).transpose(0, 3, 1, 2), frames), "size": size, "hash": content_hash(blob)}


def skipped(count: int, frames: int, stride: int) -> int:
    """How many of `count` frames to leave out at the start so that `frames` at that stride lie in the middle."""
    return max(count - frames * stride, 0) // 2


def canvas_of(clip: np.ndarray, frames: int) -> np.ndarray:
    """uint8 [T, C, H, W], T ≤ frames → [C, frames, H, W], black past the end."""
    x = np.zeros((clip.shape[1], frames, *clip.shape[2:]), np.uint8)
    x[:, : len(clip)] = clip.transpose(1, 0, 2, 3)
    return x


@contextmanager
def _opened(blob: bytes) -> Iterator[Any]:
    """The container; whatever the decoder says of a damaged file becomes a BadItem."""
    if not blob:
        raise BadItem("zero bytes")
    if not any(blob[:4096]) and not any(blob):
        raise BadItem("all bytes are zero")
    if blob.startswith(b"GIF8") and not blob.rstrip(b"\0").endswith(b";"):
        raise BadItem("truncated: a GIF ends in a mark that is not there")
    av = pyav()
    try:
        with av.open(io.BytesIO(blob)) as container:
            if not container.streams.video:
                raise BadItem("holds sound but no pictures" if container.streams.audio else "holds no pictures")
            yield container
    except BadItem:
        raise
    except Exception as error:  # PyAV's own errors, or whatever damaged numbers in a header lead to
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise BadItem(f"not readable as video: {said[:120] or type(error).__name__}") from None
