"""Names of very many files in little memory: directories once, file names in one run of bytes, numbers in arrays."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".npy"})
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".mp3", ".au", ".caf", ".w64"})
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".webm", ".mkv", ".mpg", ".mpeg", ".gif"})
VOLUME_SUFFIXES = frozenset({".nii", ".nii.gz", ".npy", ".npz"})
TEXT_SUFFIXES = frozenset({".txt", ".md"})
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "unlabeled", "unlabelled"})


class Listing:
    """N files: about 40 bytes and the name each.

    directories: their paths, '' for the root. places: int32 [N], directory of each file. sizes: int64 [N], bytes (−1 unknown).
    times: int64 [N], modified, nanoseconds.
    """

    def __init__(self):
        self.directories: list[str] = []
        self._of: dict[str, int] = {}
        self._names = bytearray()
        self._ends, self._places, self._sizes, self._times = array("q"), array("i"), array("q"), array("q")

    def add(self, directory: str, name: str, size: int, time: int = 0) -> None:
        place = self._of.get(directory)
        if place is None:
            place = self._of[directory] = len(self.directories)
            self.directories.append(directory)
        self._names += os.fsencode(name)
        self._ends.append(len(self._names))
        self._places.append(place)
        self._sizes.append(size)
        self._times.append(time)

    def __len__(self) -> int:
        return len(self._ends)

    def path(self, index: int) -> str:
        """The file's path, below the root where it was listed from one."""
        start = self._ends[index - 1] if index else 0
        name = os.fsdecode(bytes(self._names[start:self._ends[index]]))
        directory = self.directories[self._places[index]]
        return f"{directory}/{name}" if directory else name

    def name(self, index: int) -> str:
        """The path as it can be printed and stored."""
        return printable(self.path(index))

    @property
    def places(self) -> np.ndarray:
        return np.frombuffer(self._places, dtype=np.int32) if len(self) else np.zeros(0, np.int32)

    @property
    def sizes(self) -> np.ndarray:
        return np.frombuffer(self._sizes, dtype=np.int64) if len(self) else np.zeros(0, np.int64)

    def fingerprint(self, *more: bytes) -> str:
        """16 hexadecimal digits of all names, sizes, times and whatever else is given."""
        digest = hashlib.blake2b("\0".join(self.directories).encode("utf-8", "surrogateescape"), digest_size=8)
        for part in (self._names, self._ends, self._places, self._sizes, self._times, *more):
            digest.update(part)
        return digest.hexdigest()


def printable(path: str) -> str:
    """The path, of which bytes that are not UTF-8 are written as escapes: b'caf\\xe9.png' is 'caf\\xe9.png'."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def has_suffix(name: str, suffixes: frozenset[str]) -> bool:
    return name.lower().endswith(tuple(suffixes))  # an ending may have two parts, .nii.gz


def hidden(name: str) -> bool:
    """Files that no person put there: dot files, and what macOS leaves in archives."""
    return name.startswith(".") or name == "__MACOSX"


def scan(root: str, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> tuple[Listing, Counter, list[str]]:
    """All files below `root` with one of these endings, in the order of their directories and names whatever the file system says;
    the suffixes of the other files, counted; and the directories that may not be read. Links to directories are followed, but never
    in a circle."""
    listing, others, closed = Listing(), Counter(), []
    walk(root, "", suffixes, listing, others, closed, frozenset())
    return listing, others, closed


def walk(root: str, below: str, suffixes: frozenset[str], listing: Listing, others: Counter, closed: list[str], above: frozenset
         ) -> None:
    """Lists one directory and then those in it; `above` are the (device, inode) of the directories that lead here."""
    here = os.path.join(root, below) if below else root
    files: list[tuple[str, int, int]] = []
    folders: list[str] = []
    try:
        mark = os.stat(here)
        if (mark.st_dev, mark.st_ino) in above:
            return
        with os.scandir(here) as entries:
            for entry in entries:
                if hidden(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif has_suffix(entry.name, suffixes):
                    files.append((entry.name, *_state(entry)))
                else:
                    others[os.path.splitext(entry.name)[1].lower() or "no ending"] += 1
    except OSError:
        closed.append(here)
        return
    for name, size, time in sorted(files):
        listing.add(below, name, size, time)
    above = above | {(mark.st_dev, mark.st_ino)}
    for name in sorted(folders):
        walk(root, f"{below}/{name}" if below else name, suffixes, listing, others, closed, above)


def _state(entry: os.DirEntry | str) -> tuple[int, int]:
    """(bytes, nanoseconds) of a file; (−1, 0) where it cannot be asked: reading it will say why."""
    try:
        state = os.stat(entry)
    except OSError:
        return -1, 0
    return state.st_size, state.st_mtime_ns


def listed(paths: Iterable) -> Listing:
    """The listing of paths that a person gave, in their order."""
    listing = Listing()
    for path in paths:
        directory, name = os.path.split(os.fspath(path))
        listing.add(directory.rstrip("/") if directory != "/" else "", name if directory != "/" else f"/{name}", *_state(os.fspath(path)))
    return listing


def class_folders(listing: Listing) -> tuple[np.ndarray | None, list[str] | None, str]:
    """(labels int64 [N], classes, note): classes where every file lies in one of at least two folders side by side.

    A single folder around everything is passed through; folders that are named like splits (train, test) are no classes.
    """
    used = sorted(set(listing.places.tolist()))
    parts = {place: [p for p in listing.directories[place].split("/") if p] for place in used}
    depth = 0
    while all(len(p) > depth for p in parts.values()) and len({p[depth] for p in parts.values()}) == 1:
        depth += 1
    if any(len(p) <= depth for p in parts.values()):
        return None, None, ""
    classes = sorted({p[depth] for p in parts.values()})
    if all(c.lower() in SPLITS for c in classes):
        return None, None, (f"The folders {', '.join(classes)} look like splits, not classes: all are read; name one of them "
                            "to read it alone.")
    code = np.zeros(len(listing.directories), dtype=np.int64)
    for place, p in parts.items():
        code[place] = classes.index(p[depth])
    note = f"{len(classes)} folders side by side are kept as classes for evaluation; pretraining does not read them."
    return code[listing.places], [printable(c) for c in classes], note


def passed_over(others: Counter) -> Iterator[str]:
    """A note on files with other endings, where there are any."""
    if others:
        most = ", ".join(f"{printable(ending)} ({count:,})" for ending, count in others.most_common(3))
        yield f"{sum(others.values()):,} files with other endings were passed over: {most}."
