"""Opens whatever the user has: a path, an array, a data frame, a data set; every way that it cannot be is a sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import DataError, OptionError, Source, nearest
from .asked import Asked
from .text_layout import is_text_layout
from .text_objects import strings

MODALITIES = ("image", "series", "table", "audio", "text", "video", "volume", "points")


def open_source(data: Any, *, target: str | None = None, group: str | None = None, layout: str | None = None,
                modality: str | None = None, least: int = 2) -> Source:
    """A Source for `data`.

    data: a path (folder, archive, Parquet, CSV, .npy, .npz; 'FILE::PART' reads a part: a folder of an archive, the arrays
    X_PART of an .npz, the rows COLUMN=VALUE of a table), 'embedded:NAME', a list of paths or arrays, an ndarray, a tensor, a
    torch Dataset, a DataFrame, an Arrow table, a dict of arrays x, y, group, a pair (x, y), a Hugging Face Dataset, or a Source
    (returned as is). target, group: names of the columns (or arrays) with labels and groups. layout: NHWC, NCHW, NHW, NCT, NTC or NT where
    the axes cannot be told; of video NTHW, NTHWC, NTCHW, NCTHW; of volumes NDHW, NCDHW, NDHWC; of texts: file, line, paragraph,
    text=COLUMN, pack (see `text_layout`). modality: image, series, table, audio, text, video, volume or points where the
    kind cannot. least: fewer items are an error; 1 to only encode.
    Raises DataError and OptionError, one sentence each.
    """
    if isinstance(data, Source):
        return data
    if modality is not None and modality not in MODALITIES:
        raise nearest(modality, MODALITIES, what="modality")
    if modality is None and is_text_layout(layout):
        modality = "text"
    from .arrayfiles import VIDEO_LAYOUTS, VOLUME_LAYOUTS

    if modality is None and layout in (*VIDEO_LAYOUTS, *VOLUME_LAYOUTS):
        modality = "video" if layout in VIDEO_LAYOUTS else "volume"
    asked = Asked(target, group, layout, modality, least)
    if isinstance(data, str) and data.startswith("embedded:"):
        return _as_asked(_embedded(data.partition(":")[2], asked), asked, data)
    if isinstance(data, (str, os.PathLike)):
        from .paths import open_path

        return _as_asked(open_path(os.fspath(data), asked), asked, str(data))
    return _as_asked(_object(data, asked), asked, f"This {type(data).__name__}")


def _as_asked(source: Source, asked: Asked, what: str) -> Source:
    """The source, where it is of the modality that was asked for and that the layout belongs to; else an OptionError."""
    from .arrayfiles import modality_of_layout

    read = f"{what} is read as {source.modality} data"
    if asked.modality not in (None, source.modality):
        raise OptionError(f"{read}, not as {asked.modality}: leave modality={asked.modality} out, or give other data.")
    if asked.layout is not None and (other := modality_of_layout(asked.layout)) != source.modality:
        raise OptionError(f"{read}, but layout={asked.layout} is for {other} data: leave it out.")
    if asked.layout is not None:
        source.facts = source.facts.with_(layout=asked.layout)
    return source


def speaks_of(layout: str, data: Any) -> bool:
    """Whether a layout that was asked for with other data can be meant of these: axes of arrays, also of the files of volumes, columns and
    parts of texts."""
    from .arrayfiles import VOLUME_LAYOUTS

    files = layout in VOLUME_LAYOUTS
    if isinstance(data, (str, os.PathLike)):
        path = Path(str(data).partition("::")[0]).expanduser()
        return not path.is_dir() if is_text_layout(layout) else files or path.is_dir() or path.suffix in (".npy", ".npz")
    data = data[0] if _labelled(data) else data
    if is_text_layout(layout) or isinstance(data, dict) or files and _paths(data):
        return True
    parts, axes = (data, len(layout) - 1) if isinstance(data, (list, tuple)) else ([data], len(layout))
    return all((isinstance(part, np.ndarray) or hasattr(part, "detach")) and part.ndim == axes for part in parts)


def _object(data: Any, asked: Asked) -> Source:
    """Everything that lies in memory."""
    from .arrayfiles import open_array, open_grids, open_named
    from .huggingface import is_huggingface, open_huggingface
    from .items import open_dataset, to_numpy
    from .text_objects import open_texts

    if _labelled(data, asked.modality == "text"):
        data = dict(zip("xy", data))
    if is_huggingface(data):
        return open_huggingface(data, asked)
    if type(data).__module__.partition(".")[0] in ("pandas", "pyarrow"):
        return _frame(data, asked)
    if asked.modality == "audio" and not _paths(data):
        from .audio import open_clips

        return open_clips(data, asked)
    if asked.modality == "points":
        from .points import open_points

        return open_points(data, asked)
    if asked.modality in ("video", "volume") and not _paths(data):
        return open_grids(data, asked)
    if (texts := open_texts(data, asked)) is not None:
        return texts
    if isinstance(data, dict):
        return open_named({k: _arrays(v) for k, v in data.items()}, asked)
    if isinstance(data, (list, tuple)):
        return _list(data, asked)
    if isinstance(data, np.ndarray) or hasattr(data, "detach"):
        return open_array(to_numpy(data), asked)
    if hasattr(data, "__getitem__") or hasattr(data, "__iter__"):
        return open_dataset(data, asked, origin=type(data).__name__)
    raise OptionError(f"A {type(data).__name__} cannot be opened: give a path, an array, a tensor, a data frame, a torch "
                      "Dataset or a dict of arrays.")


def _labelled(data: Any, texts: bool = False) -> bool:
    """Whether it is a pair (x, y), as scikit-learn's data sets come: items of at least one axis or texts (`texts`: strings are none but
    these), and a label each."""
    return isinstance(data, tuple) and len(data) == 2 and np.ndim(data[1]) == 1 and len(data[0]) == len(data[1]) and (
        hasattr(data[0], "shape") and data[0].ndim > 1 or isinstance(data[0], list) and all(np.ndim(item) for item in data[0])
        or strings(data[0], sure=texts) is not None)


def _paths(data: Any) -> bool:
    return isinstance(data, (list, tuple)) and bool(data) and all(isinstance(v, (str, os.PathLike)) for v in data)


def _list(data: list | tuple, asked: Asked) -> Source:
    from .arrayfiles import open_array
    from .items import is_pillow, open_dataset, to_numpy

    if not data:
        raise DataError("The list is empty: give it paths of files, or arrays.")
    if _paths(data):
        from .paths import open_files

        return open_files([Path(v) for v in data], asked)
    if any(is_pillow(v) for v in data):
        return open_dataset(data, asked, origin="list")
    return open_array([to_numpy(v) for v in data], asked, origin="list")


def _arrays(value: Any) -> Any:
    """The value of a dict as an array, or a list of arrays where they differ in shape."""
    from .items import to_numpy

    if isinstance(value, (list, tuple)) and any(np.ndim(v) for v in value):
        return [np.asarray(to_numpy(v)) for v in value]
    return np.asarray(to_numpy(value))


def _frame(data: Any, asked: Asked) -> Source:
    """A pandas DataFrame, or a pyarrow Table or RecordBatch."""
    from .tables import from_pandas
    from .text_tables import open_table

    name = type(data).__name__
    if name == "DataFrame":
        data = from_pandas(data)
    elif name == "RecordBatch":
        import pyarrow as pa

        data = pa.Table.from_batches([data])
    elif name != "Table":
        raise OptionError(f"A {name} of {type(data).__module__.partition('.')[0]} cannot be opened: give a DataFrame or a "
                          "Table.")
    return open_table(data, asked, origin="table")


def _embedded(name: str, asked: Asked) -> Source:
    from .arrayfiles import open_array
    from .embedded import embedded_names, load_embedded

    if name not in embedded_names():
        raise nearest(name, embedded_names(), what="embedded data set")
    data = load_embedded(name)
    names = [getattr(column, "name", column) for column in data.get("columns") or ()]
    asked = Asked(asked.target, asked.group, asked.layout, asked.modality or data["modality"], asked.least)
    return open_array(np.asarray(data["x"]), asked, y=data.get("y"), group=data.get("group"), origin=f"embedded:{name}",
                      classes=data.get("classes"), names=names)
