"""Texts that lie in memory: lists and arrays of strings, dicts of them with labels, lists of text files."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..contracts import OptionError
from .asked import Asked
from .labels import encode_groups, encode_labels
from .listing import TEXT_SUFFIXES
from .text import TextFiles, TextRuns, TextSource
from .text_layout import text_layout

_LOOKED_AT = 32


def open_texts(data: Any, asked: Asked) -> TextSource | None:
    """A source for what holds strings; None for anything else.

    A list of strings is of texts with modality=text, or where none of the first is a path that exists and at least half have a
    blank in them; a list of .txt or .md files is read as files."""
    if asked.modality not in (None, "text"):
        return None
    layout = text_layout(asked.layout) if asked.modality == "text" else None
    options = {"pack": bool(layout and layout.pack), "least": asked.least}
    if isinstance(data, dict):
        return _dict(data, asked, options)
    if isinstance(data, (list, tuple)) and data and all(isinstance(v, (str, os.PathLike)) for v in data):
        if all(os.path.splitext(v)[1].lower() in TEXT_SUFFIXES and os.path.isfile(v) for v in data):
            asked.no_columns("A list of files", "give a table, or a dict of x and y")
            return TextFiles(list(data), **options)
    texts = strings(data, sure=asked.modality == "text")
    if texts is None:
        if asked.modality == "text":
            raise OptionError(f"This {type(data).__name__} holds no texts: give a list of strings, a dict of x and y, a table or a path.")
        return None
    asked.no_columns("A list of texts", "give a table, or a dict of x and y")
    return TextRuns.of(texts, origin="list", what="text", **options)


def strings(data: Any, *, sure: bool) -> list[str | None] | None:
    """The strings (None: missing) that a list or an array [N] holds; None where it holds other things, or paths."""
    if isinstance(data, np.ndarray) and data.ndim == 1 and data.dtype.kind in "UOT":
        data = data.tolist()
    if not isinstance(data, (list, tuple)) or not data or not all(v is None or isinstance(v, str) for v in data):
        return None
    some = [v for v in data[:_LOOKED_AT] if v is not None]
    if not some and not sure:
        return None
    if not sure and (any(os.path.exists(v) for v in some) or sum(" " in v.strip() for v in some) < len(some) / 2):
        return None
    return list(data)


def _dict(data: dict, asked: Asked, options: dict[str, Any]) -> TextRuns | None:
    """x (or text): the strings; y or the target's name: labels; group."""
    name = next((key for key in ("x", "text") if key in data), None)
    texts = None if name is None else strings(data[name], sure=True)
    if texts is None:
        return None
    for word in (asked.target, asked.group):
        if word is not None and word not in data:
            raise OptionError(f"The dict has no '{word}'; its names are {', '.join(map(str, data))}.")
    target, group = asked.target or ("y" if "y" in data else None), asked.group or ("group" if "group" in data else None)
    labels = None if target is None else encode_labels(np.asarray(data[target]), target, samples=len(texts))
    groups = None if group is None else encode_groups(np.asarray(data[group]), group, samples=len(texts))
    return TextRuns.of(texts, origin="dict", what="text", labels=labels, groups=groups, **options)
