"""Hugging Face data sets, where that library is installed: an image column, texts or a table. Never imports it by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..contracts import DataError, Source, nearest
from .asked import Asked
from .items import ImageItems
from .text_tables import open_table


def is_huggingface(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] == "datasets"


def open_huggingface(data: Any, asked: Asked) -> Source:
    """A source for a `datasets.Dataset`: images where it has an Image column (read when needed), else texts or a table."""
    if isinstance(data, dict):
        raise DataError(f"The data set has the splits {', '.join(data)}: give one, for example "
                        f"data['{next(iter(data), 'train')}'].")
    if not hasattr(data, "__len__") or not hasattr(data, "features"):
        raise DataError("The data set is streamed and has no length: load it with streaming=False.")
    image = next((name for name, kind in data.features.items() if type(kind).__name__ == "Image"), None)
    pictures = image is not None and asked.modality not in ("table", "text")
    asked = asked if pictures else asked.among(data.column_names)
    target, group = asked.target, asked.group
    for word, what in ((target, "target"), (group, "group")):
        if word is not None and word not in data.column_names:
            raise nearest(word, data.column_names, what=f"column (asked for as {what}) in the data set named")
    if not pictures:
        return _table(data, asked)
    labelled = [n for n, kind in data.features.items() if type(kind).__name__ == "ClassLabel"]
    notes = tuple(f"column '{n}' holds labels: name it as the target to evaluate with them; it is no input."
                  for n in labelled if n != target)
    names = getattr(data.features[target], "names", None) if target else None
    images = data.select_columns([image])

    def labels() -> np.ndarray:
        return _column(data, target)

    return ImageItems(lambda i: images[i][image], len(data), labels_of=labels if target else None, classes=names,
                      group=_column(data, group) if group else None, origin="data set", least=asked.least, notes=notes,
                      known=len(names) if names else None)


def _table(data: Any, asked: Asked) -> Source:
    names = getattr(data.features[asked.target], "names", None) if asked.target else None
    return open_table(data.with_format("arrow")[:], asked, origin="data set", class_names=names)


def _column(data: Any, name: str) -> np.ndarray:
    return data.select_columns([name]).with_format("arrow")[:][name].to_numpy()
