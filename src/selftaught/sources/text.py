"""Texts as UTF-8 bytes: runs of one buffer (lines, paragraphs, a column, a list) or a file each; whatever is no text is a bad item."""

from __future__ import annotations

import codecs
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import BadItem, DataError, Facts, Source
from .arrays import check_samples
from .files import read_file
from .fingerprints import fingerprint_of
from .labels import Labels
from .listing import TEXT_SUFFIXES, class_folders, listed, passed_over, scan

MOST_BYTES = 1 << 20  # of one item; what lies behind is not read
PACKED_BYTES = 4096  # that a packed item holds at least, until `set_reach`


class TextSource(Source):
    """Base: `read` gives x uint8 [n], the bytes of a text (UTF-8, trimmed, without byte order mark), and hash, uint64.

    pack: an item also holds the texts behind it in the source, round to the first, until they are `reach` bytes, x one behind the
    other and `ends` int64 [p] where each ends: what a masked method reads without padding. Label and name are the first one's.
    """

    modality = "text"
    decodes = False
    origin: str

    def settle(self, sizes: np.ndarray, *, labels: Labels | None = None, groups: np.ndarray | None = None, pack: bool = False,
               least: int = 2, what: str = "texts", notes: tuple[str, ...] = ()) -> None:
        """The rest of construction. sizes: int64 [N] bytes."""
        check_samples(len(sizes), self.origin, what, least)
        if labels is not None:
            self.labels, self.classes = labels.values, labels.classes
            notes = (*notes, labels.note) if labels.note else notes
        self.groups, self.pack, self.reach = groups, pack, PACKED_BYTES
        longest = max(int(sizes.max()), 1)
        self.facts = Facts("text", len(sizes), (longest,), lengths=(max(int(sizes.min()), 0), longest), notes=notes,
                           classes=len(self.classes) if self.classes else None)

    def blob(self, index: int) -> bytes:
        """The item's bytes as stored, at most MOST_BYTES + 1. Raises BadItem where they cannot be had."""
        raise NotImplementedError(f"{type(self).__name__} does not say how to read an item's bytes")

    def set_reach(self, count: int) -> None:
        """Bytes that a packed item holds at least."""
        self.reach = int(count)

    def read(self, index: int) -> dict[str, np.ndarray]:
        first = checked(self.blob(int(index)))
        item = {"x": np.frombuffer(first, np.uint8), "hash": np.frombuffer(hashlib.blake2b(first, digest_size=8).digest(), np.uint64)[0]}
        return {**item, **self._packed(int(index), first)} if self.pack else item

    def _packed(self, index: int, first: bytes) -> dict[str, np.ndarray]:
        pieces, size = [first], len(first)
        for step in range(1, len(self)):
            if size >= self.reach:
                break
            try:
                pieces.append(checked(self.blob((index + step) % len(self))))
            except BadItem:
                continue  # quarantined when it is an item's first
            size += len(pieces[-1])
        return {"x": np.frombuffer(b"".join(pieces), np.uint8), "ends": np.cumsum([len(p) for p in pieces])}


def checked(raw: bytes) -> bytes:
    """The text without byte order mark and blanks around it. Raises BadItem with the reason where it is none."""
    whole = len(raw) <= MOST_BYTES
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(raw[:MOST_BYTES], final=whole)
    except UnicodeDecodeError as error:
        if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise BadItem("UTF-16, not UTF-8: convert it with iconv -f utf-16 -t utf-8") from None
        raise BadItem(f"not UTF-8: byte 0x{raw[error.start]:02x} at place {error.start}; convert it, for example with iconv "
                      "-f latin1 -t utf-8") from None
    if "\0" in text:
        raise BadItem("holds zero bytes: it is no text")
    text = text.removeprefix("\ufeff").strip()
    if not text:
        raise BadItem("empty text")
    return text.encode()


class TextRuns(TextSource):
    """Texts that lie in one buffer (bytes, or uint8 [M]): item i is data[starts[i]:ends[i]].

    what, numbers: how an item is called, 'line' 17. bad: index → reason, of items known to be none.
    """

    def __init__(self, data: Any, starts: np.ndarray, ends: np.ndarray, *, origin: str, what: str = "row",
                 numbers: np.ndarray | None = None, bad: Mapping[int, str] | None = None, **settled: Any):
        self.origin, self._what, self._numbers, self._bad = origin, what, numbers, dict(bad or {})
        self._data = data if isinstance(data, np.ndarray) else np.frombuffer(data or b"\n", np.uint8)
        self._starts, self._ends = starts, ends
        self.settle(ends - starts, what=f"{what}s", **settled)

    @classmethod
    def of(cls, texts: list[str | None], **options: Any) -> TextRuns:
        """From a list of strings; None is a bad item."""
        encoded = [b"" if t is None else t.encode("utf-8", "surrogatepass") for t in texts]  # a lone surrogate is found when read
        ends = np.cumsum([len(e) for e in encoded], dtype=np.int64)
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64) if len(ends) else ends
        bad = {i: "no text in this row" for i, t in enumerate(texts) if t is None}
        return cls(b"".join(encoded), starts, ends, **{**options, "bad": {**bad, **(options.get("bad") or {})}})

    def blob(self, index: int) -> bytes:
        if index in self._bad:
            raise BadItem(self._bad[index])
        start, end = int(self._starts[index]), int(self._ends[index])
        return self._data[start:min(end, start + MOST_BYTES + 1)].tobytes()

    def name(self, index: int) -> str:
        return f"{self.origin}, {self._what} {int(index) if self._numbers is None else int(self._numbers[index])}"

    def fingerprint(self) -> str:
        return fingerprint_of("text", self._data, self._starts, self._ends, self.pack)


class TextFiles(TextSource):
    """A text a file: all .txt and .md below a folder, folders side by side kept as classes, or the files of a list."""

    def __init__(self, root_or_paths: str | Path | list, *, least: int = 2, pack: bool = False):
        if isinstance(root_or_paths, (str, os.PathLike)):
            self.origin, self._root = os.fspath(root_or_paths), os.fspath(root_or_paths)
            self._listing, others, closed = scan(self._root, TEXT_SUFFIXES)
            notes = [*passed_over(others), *(f"{place} may not be read and was passed over." for place in closed[:3])]
        else:
            self.origin, self._root, self._listing, notes = "list of files", "", listed(root_or_paths), []
        if not len(self._listing):
            raise DataError(f"{self.origin} holds no texts ({', '.join(sorted(TEXT_SUFFIXES))}): check the path.")
        values, classes, note = class_folders(self._listing) if self._root else (None, None, "")
        labels = None if values is None else Labels(values, classes)
        self.settle(self._listing.sizes, what="files", labels=labels, least=least, pack=pack, notes=(*notes, *([note] if note else [])))

    def blob(self, index: int) -> bytes:
        return read_file(os.path.join(self._root, self._listing.path(index)), MOST_BYTES + 1)

    def name(self, index: int) -> str:
        return self._listing.path(int(index))

    def fingerprint(self) -> str:
        return self._listing.fingerprint(b"pack" if self.pack else b"")
