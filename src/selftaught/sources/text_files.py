"""One big file of texts: which lines or paragraphs its items are, found without holding the file in memory."""

from __future__ import annotations

import codecs
from pathlib import Path

import numpy as np

from ..contracts import DataError, OptionError
from .asked import Asked
from .text import TextFiles, TextRuns, TextSource
from .text_layout import text_layout

_PIECE = 1 << 26  # bytes that are searched for line breaks at a time
_SHORT = 8  # bytes up to which lines are searched for blanks all at once
_LINES_A_PARAGRAPH = 20  # blank lines that are rarer part nothing


def open_text_path(path: Path, asked: Asked) -> TextSource:
    """A folder (a text a file, folders side by side are classes) or a file: a text a line or a paragraph.

    A file's texts are paragraphs where blank lines part it into at least two, of no more than twenty lines on average; else
    lines. layout=line, paragraph or file says otherwise."""
    layout = text_layout(asked.layout)
    asked.no_columns(path, "the labels of texts in files are their class folders; put texts and labels into a table")
    if layout.columns:
        raise OptionError(f"layout=text={'+'.join(layout.columns)} names columns of a table, and {path} holds texts alone: leave it out.")
    if path.is_dir() and layout.part in ("line", "paragraph"):
        raise OptionError(f"layout={layout.part} parts one file, and {path} is a folder, where every file is a text: join its files into "
                          "one (cat FOLDER/*.txt > all.txt) and give that.")
    if path.is_dir() or layout.part == "file":
        return TextFiles(path if path.is_dir() else [path], least=asked.least, pack=layout.pack)
    data = np.memmap(path, np.uint8, "r")
    head = data[:1 << 16].tobytes()
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or b"\0" in head:
        raise DataError(f"{path} is no UTF-8 text (zero bytes, or UTF-16): convert it, for example with iconv -f utf-16 -t utf-8.")
    starts, ends, lines = _lines(data)
    firsts, lasts = _paragraphs(lines)
    if layout.part is None:
        fits = len(firsts) > 1 and len(lines) <= _LINES_A_PARAGRAPH * len(firsts) and len(lines) > len(firsts)
        part, why = ("paragraph", "blank lines part them") if fits else ("line", "no blank lines part it")
        note = f"{path}: read as a text a {part} ({why}); layout={'line' if fits else 'paragraph'} reads it otherwise."
    else:
        part, note = layout.part, ""
    settled = {"origin": str(path), "pack": layout.pack, "least": asked.least, "notes": (note,) if note else ()}
    if part == "line":
        return TextRuns(data, starts, ends, what="line", numbers=lines + 1, **settled)
    return TextRuns(data, starts[firsts], ends[lasts], what="paragraph at line", numbers=lines[firsts] + 1, **settled)


def _lines(data: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(starts, ends, numbers) int64 [L] of the lines that are not blank, counted from 0."""
    breaks = [np.flatnonzero(data[at:at + _PIECE] == 10) + at for at in range(0, len(data), _PIECE)]
    ends = np.concatenate([*breaks, [len(data)]]).astype(np.int64)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    short = np.flatnonzero(ends - starts <= _SHORT)
    places = np.minimum(starts[short, None] + np.arange(_SHORT), max(len(data) - 1, 0))
    inside = places < ends[short, None]
    blank = np.zeros(len(starts), dtype=bool)
    blank[short] = ~((data[places] > 32) & inside).any(1) if len(data) else True
    long = np.flatnonzero(ends - starts > _SHORT)
    for line in long[data[starts[long]] <= 32].tolist():
        blank[line] = not (data[starts[line]:ends[line]] > 32).any()
    kept = np.flatnonzero(~blank)
    return starts[kept], ends[kept], kept


def _paragraphs(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first, last) int64 [P]: the places, among the lines that are not blank, where runs of consecutive ones begin and end."""
    gaps = np.flatnonzero(np.diff(lines) > 1)
    return np.concatenate([[0], gaps + 1])[: len(lines)], np.concatenate([gaps, [len(lines) - 1]])[-len(lines):]
