"""The items that lie nearest to one item in an encoder's embedding, as numbers and as a strip of pictures."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, OptionError, SelftaughtError, Source
from ..encoder import Encoder
from ..evaluation import neighbours

_LISTED = 5  # names that an error shows
_FRAME, _GAP = 4, 6  # pixels
_FRAMED, _PAPER = (0, 90, 160), (255, 255, 255)


def nearest_items(encoder: Encoder, data: Any, item: str, *, k: int = 10, picture: str | None = None,
                  layout: str | None = None) -> dict[str, Any]:
    """{"item": {"index", "name"}, "neighbours": [{"index", "name", "similarity"}]}: the k nearest by cosine, nearest first.

    data: a Source, or what `open_source` takes. item: a row number, or a part of one item's name. picture: a PNG to write, the
    item first and framed. Items that cannot be decoded are left out. Raises OptionError where the item is unknown, ambiguous
    or unreadable or k < 1, SelftaughtError where the picture cannot be written.
    """
    if k < 1:
        raise OptionError(f"k={k} neighbours cannot be found; ask for at least 1.")
    if picture is not None:
        _check_picture(Path(picture))
    source = encoder.open(data, **({} if isinstance(data, Source) else {"layout": layout}))
    index = find_item(source, item)
    z = encoder.embed(source)
    fine = np.flatnonzero(np.isfinite(z).all(axis=1))
    if index not in fine:
        raise OptionError(f"Item {index} ({source.name(index)}) cannot be decoded, so it has no neighbours; choose another item.")
    others = fine[fine != index]
    if not len(others):
        raise DataError(f"{source.name(index)} is the only item that can be decoded; it has no neighbours.")
    distance, place = neighbours(z[index : index + 1], z[others], k)
    found = [{"index": int(others[p]), "name": source.name(int(others[p])), "similarity": 1.0 - float(d)}
             for d, p in zip(distance[0], place[0])]
    if picture is not None:
        _write_strip(encoder, source, [index, *(n["index"] for n in found)], Path(picture))
    return {"item": {"index": index, "name": source.name(index)}, "neighbours": found}


def find_item(source: Source, item: str | int) -> int:
    """The place of an item: its row number, its name, the one name that ends with `item`, or the one that contains it."""
    item, count = str(item).strip(), len(source)
    if item.removeprefix("-").isdecimal():
        if 0 <= int(item) < count:
            return int(item)
        raise OptionError(f"There is no item {item}: rows run from 0 to {count - 1}.")
    if not item:
        raise OptionError(f"Name an item: a row number from 0 to {count - 1}, or a part of its name.")
    names = [source.name(i) for i in range(count)]
    for matches in ([i for i, n in enumerate(names) if n == item], [i for i, n in enumerate(names) if n.endswith(item)],
                    [i for i, n in enumerate(names) if item in n]):
        if len(matches) == 1:
            return matches[0]
    if matches:
        more = f" and {len(matches) - _LISTED} more" if len(matches) > _LISTED else ""
        raise OptionError(f"'{item}' fits {len(matches)} items: {_list(names[i] for i in matches[:_LISTED])}{more}. "
                          "Give more of the name, or the row number.")
    raise OptionError(f"No item's name contains '{item}'. {_closest(item, names)}")


def _closest(item: str, names: Sequence[str]) -> str:
    """A sentence with the names most like `item`, compared by their last parts."""
    last = {n.rpartition("/")[2].lower(): n for n in reversed(names[:20_000])}
    close = difflib.get_close_matches(item.rpartition("/")[2].lower(), last, n=_LISTED, cutoff=0.4)
    if close:
        return f"The nearest names: {_list(last[c] for c in close)}."
    return f"Names look like {_list(names[:2])}; a row number from 0 to {len(names) - 1} will do too."


def _list(names: Any) -> str:
    return ", ".join(f"'{n}'" for n in names)


def _check_picture(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise OptionError(f"The picture '{path.name}' must end in .png.")
    if not path.parent.is_dir():
        raise OptionError(f"Cannot write {path}: the folder {path.parent} does not exist.")


def pictured(encoder: Encoder, source: Source, index: int, side: int = 96) -> np.ndarray | None:
    """uint8 [H, W, 3], what a person is shown of an item, or None where it cannot be decoded."""
    try:
        return encoder.modality.picture(source.read(index), encoder.preprocessing, side=side)
    except BadItem:
        return None


def _write_strip(encoder: Encoder, source: Source, indices: list[int], path: Path, side: int = 96) -> None:
    """One row of pictures on white, the first in a frame; the file appears at once or not at all."""
    from PIL import Image, ImageDraw

    step = side + _GAP
    strip = Image.new("RGB", (step * len(indices) + 2 * _FRAME + _GAP, side + 4 * _FRAME), _PAPER)
    for place, index in enumerate(indices):
        image = pictured(encoder, source, index, side)
        if image is None:
            continue
        left = 2 * _FRAME + place * step + (_GAP if place else 0)
        height, width = image.shape[:2]
        strip.paste(Image.fromarray(image), (left + (side - width) // 2, 2 * _FRAME + (side - height) // 2))
        if place == 0:
            box = [left - _FRAME, _FRAME, left + side + _FRAME - 1, side + 3 * _FRAME - 1]
            ImageDraw.Draw(strip).rectangle(box, outline=_FRAMED, width=_FRAME)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        strip.save(temporary, format="PNG")
        temporary.replace(path)
    except OSError as error:
        raise SelftaughtError(f"Cannot write {path}: {error.strerror or error}. Choose another place for the picture.") from error
    finally:
        temporary.unlink(missing_ok=True)
