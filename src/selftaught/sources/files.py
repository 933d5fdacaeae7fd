"""Encoded files on disk: a folder of any nesting, or a list of paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..contracts import BadItem, DataError
from .canvases import CanvasSource
from .decoding import BYTE_LIMIT
from .listing import class_folders, listed, passed_over, printable, scan


class Files(CanvasSource):
    """The files of one kind below a folder (hidden files and other endings are passed over), or those of a list of paths, in that
    order.

    labels_from_folders: where every file lies in one of at least two folders side by side, these are kept as classes.
    least: how many files there must be. Raises DataError where the path is missing or holds too few.
    """

    def __init__(self, root_or_paths: str | Path | Iterable[str | Path], *, labels_from_folders: bool = True, least: int = 2,
                 **options: Any):
        if isinstance(root_or_paths, (str, Path)):
            super().__init__(printable(os.fspath(root_or_paths)), **options)
            self._root: str | None = os.path.abspath(root_or_paths)
            notes = self._scan(labels_from_folders)
        else:
            self._listing, self._root, notes = listed(root_or_paths), None, []
            super().__init__(f"the list of {len(self._listing)} paths", **options)
        self.settle(len(self._listing), notes=notes, least=least)

    def _scan(self, labels_from_folders: bool) -> list[str]:
        root = self._root
        if not os.path.exists(root):
            raise DataError(f"There is no folder '{self.origin}': check the path (looked for {root}).")
        if not os.path.isdir(root):
            raise DataError(f"'{self.origin}' is a file, not a folder of {self.what}s: give its folder, or a list of paths.")
        self._listing, others, closed = scan(root, self.suffixes)
        if not len(self._listing):
            raise DataError(self._nothing(others, root in closed))
        notes = list(passed_over(others))
        if closed:
            notes.append(f"{len(closed)} folders may not be read and were passed over, '{printable(closed[0])}' first.")
        if labels_from_folders:
            self.labels, self.classes, note = class_folders(self._listing)
            notes += [note] if note else []
        return notes

    def _nothing(self, others, closed: bool) -> str:
        if closed:
            return f"The folder '{self.origin}' may not be read: change its permissions or run as its owner."
        if not others:
            return f"The folder '{self.origin}' is empty: put at least 2 {self.what}s into it, or check the path."
        return (f"The folder '{self.origin}' holds no {self.what}s ({' '.join(passed_over(others)).rstrip('.')}): {self.what}s end in "
                f"{', '.join(sorted(self.suffixes))}.")

    def path(self, index: int) -> str:
        """Where the file lies."""
        below = self._listing.path(index)
        return os.path.join(self._root, below) if self._root else below

    def blob(self, index: int) -> bytes:
        return read_file(self.path(index))

    def name(self, index: int) -> str:
        """The path, below the folder where there is one."""
        return self._listing.name(int(index))

    def fingerprint(self) -> str:
        return self._listing.fingerprint()


def read_file(path: str, most: int | None = None) -> bytes:
    """The bytes of a file, or its first `most`. Raises BadItem where they cannot be had or are too many; a pipe is no file."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise BadItem("not a file")
            if most is None and state.st_size > BYTE_LIMIT:
                raise BadItem(f"{state.st_size / 2**30:.1f} GiB: larger than {BYTE_LIMIT >> 30} GiB")
            return file.read(most)
    except FileNotFoundError:
        raise BadItem("missing: the file is gone, or a link leads nowhere") from None
    except PermissionError:
        raise BadItem("unreadable: permission denied") from None
    except OSError as error:
        raise BadItem(f"unreadable: {error.strerror or error}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file so that a pipe of that name cannot hold the reader up."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
