"""Files inside zip and tar archives, read in place: an index of offsets, and reads that no other process can disturb."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from ..contracts import BadItem, DataError, nearest
from .canvases import CanvasSource
from .decoding import BYTE_LIMIT
from .image_source import ImageSource
from .listing import Listing, class_folders, has_suffix, hidden, passed_over, printable

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_OPENERS = {".gz": gzip.open, ".tgz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_GROWTH = 100  # a compressed tar that unpacks to more than this many times its size is a bomb
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, struct.error, NotImplementedError, UnicodeError,
            OverflowError)
"""What zipfile and tarfile raise of archives that are damaged or none."""


def split_archive(path: str | Path) -> tuple[str, str] | None:
    """`photos.zip/train` or `photos.zip::train` → ('photos.zip', 'train'); None where no archive file is in the path."""
    text = os.fspath(path)
    for found in re.finditer(r"\.(zip|tar|tgz|tar\.gz|tar\.bz2|tar\.xz)(?=$|/|::)", text, flags=re.IGNORECASE):
        if os.path.isfile(text[:found.end()]):
            return text[:found.end()], text[found.end():].lstrip(":/").rstrip("/")
    return None


class Archive(CanvasSource):
    """The files of one kind in a .zip or .tar, or in one folder of it (`photos.zip/train`, `photos.zip::train`). A compressed tar is
    unpacked once to a temporary file without a name. Folders side by side are kept as classes.

    Raises DataError for what cannot be read or is not safe: members with absolute paths or '..', links, devices, encryption.
    """

    def __init__(self, path: str | Path, *, labels_from_folders: bool = True, least: int = 2, **options: Any):
        super().__init__(printable(os.fspath(path)), **options)
        split = split_archive(path)
        if split is None:
            raise DataError(f"There is no archive '{path}': check the path; archives end in {', '.join(ARCHIVE_SUFFIXES)}.")
        self._path, below = split
        self._listing, self._others = Listing(), Counter()
        self._offsets, self._stored, self._checks, self._ways = array("q"), array("q"), array("Q"), array("i")
        self._folders: set[str] = set()
        self._below = below + "/" if below else ""
        self._index()
        if not len(self._listing):
            raise self._nothing(below)
        notes = list(passed_over(self._others))
        if labels_from_folders:
            self.labels, self.classes, note = class_folders(self._listing)
            notes += [note] if note else []
        self.settle(len(self._listing), notes=notes, least=least)

    def _index(self) -> None:
        try:
            if self._path.lower().endswith(".zip"):
                self._file: BinaryIO = open(self._path, "rb")
                with zipfile.ZipFile(self._file) as members:
                    self._index_zip(members)
            else:
                self._file = _plain_tar(self._path)
                with tarfile.open(fileobj=self._file, mode="r:") as members:
                    self._index_tar(members)
        except _DAMAGED as error:
            raise DataError(f"The archive '{self._path}' is damaged or none ({error}): fetch or pack it again.") from None
        except OSError as error:
            raise DataError(f"The archive '{self._path}' cannot be read ({error.strerror or error}).") from None

    def _index_zip(self, members: zipfile.ZipFile) -> None:
        for info in sorted(members.infolist(), key=lambda i: i.filename.rpartition("/")):
            name = check_name(info.orig_filename, self._path)
            mode = info.external_attr >> 16
            if stat.S_ISLNK(mode):
                raise DataError(_refusal(self._path, name, "is a link"))
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise DataError(_refusal(self._path, name, "is a device or a pipe"))
            if info.is_dir() or not self._wanted(name):
                continue
            if info.flag_bits & 0x1:
                raise DataError(f"The archive '{self._path}' is encrypted ('{name}'): unpack it with its password and give the folder.")
            if info.compress_type not in (_STORED, _DEFLATED):
                raise DataError(f"'{name}' in '{self._path}' is packed by method {info.compress_type}: pack the archive with deflate or "
                                "without compression.")
            self._add(name, info.file_size, info.header_offset, info.compress_size, info.CRC, info.compress_type)

    def _index_tar(self, members: tarfile.TarFile) -> None:
        found, name = [], ""
        for info in members:
            name = check_name(info.name, self._path)
            if info.issym() or info.islnk():
                raise DataError(_refusal(self._path, name, f"is a link to '{info.linkname}'"))
            if not (info.isdir() or info.isreg()) or info.issparse():
                raise DataError(_refusal(self._path, name, "is a device, a pipe or a sparse file"))
            if info.isreg() and self._wanted(name):
                found.append((name.rpartition("/"), info.size, info.offset_data))
            members.members = []  # tarfile would keep every header
        end = os.pread(self._file.fileno(), tarfile.BLOCKSIZE, members.offset)
        if len(end) < tarfile.BLOCKSIZE or any(end):  # tarfile takes whatever is no header for the end
            raise DataError(f"The archive '{self._path}' is {'damaged' if any(end) else 'cut off'} at byte {members.offset:,}, after its "
                            f"member '{name}': fetch or pack it again.")
        for parts, size, offset in sorted(found):
            self._add("".join(parts), size, offset, size, 0, _STORED)

    def _wanted(self, name: str) -> bool:
        self._folders.add(name.partition("/")[0] if "/" in name else "")
        if not name.startswith(self._below) or any(hidden(part) for part in name.split("/")):
            return False
        if not has_suffix(name, self.suffixes):
            self._others[os.path.splitext(name)[1].lower() or "no ending"] += 1
            return False
        return True

    def _add(self, name: str, size: int, offset: int, stored: int, check: int, way: int) -> None:
        directory, _, file = name[len(self._below):].rpartition("/")
        self._listing.add(directory, file, size)
        for column, value in ((self._offsets, offset), (self._stored, stored), (self._checks, check), (self._ways, way)):
            column.append(value)

    def _nothing(self, below: str) -> DataError:
        if below:
            return nearest(below, self._folders - {""}, what=f"folder with {self.what}s in '{self._path}' called", error=DataError)
        others = " ".join(passed_over(self._others)).rstrip(".")
        return DataError(f"The archive '{self._path}' holds no {self.what}s{f' ({others})' if others else ''}: pack at least 2 into it.")

    def blob(self, index: int) -> bytes:
        index = int(index)
        size, stored, offset = int(self._listing.sizes[index]), self._stored[index], self._offsets[index]
        if max(size, stored) > BYTE_LIMIT:
            raise BadItem(f"{max(size, stored) / 2**30:.1f} GiB: larger than {BYTE_LIMIT >> 30} GiB")
        if self._path.lower().endswith(".zip"):
            data = self._unzip(offset, stored, size, self._ways[index])
            if zlib.crc32(data) != self._checks[index]:
                raise BadItem("damaged in the archive: its checksum does not match")
            return data
        return self._at(offset, size)

    def _at(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`, without moving the file's position, which other processes share."""
        try:
            data = os.pread(self._file.fileno(), size, offset)
            while 0 < len(data) < size and (more := os.pread(self._file.fileno(), size - len(data), offset + len(data))):
                data += more
        except OSError as error:
            raise BadItem(f"unreadable: {error.strerror or error}") from None
        if len(data) < size:
            raise BadItem("truncated: the archive ends before it")
        return data

    def _unzip(self, offset: int, stored: int, size: int, way: int) -> bytes:
        head = self._at(offset, 30)
        if head[:4] != b"PK\3\4":
            raise BadItem("damaged in the archive: no header where the index says")
        data = self._at(offset + 30 + sum(struct.unpack_from("<HH", head, 26)), stored)
        if way == _DEFLATED:
            try:
                data = zlib.decompressobj(-15).decompress(data, size + 1)
            except zlib.error:
                raise BadItem("damaged in the archive: it does not unpack") from None
        if len(data) != size:
            raise BadItem("damaged in the archive: it has another size than the index says")
        return data

    def name(self, index: int) -> str:
        """The member's path, below the folder that was named."""
        return self._listing.name(int(index))

    def fingerprint(self) -> str:
        state = os.stat(self._path)
        return self._listing.fingerprint(self._checks, self._stored, f"{state.st_size} {state.st_mtime_ns}".encode())


class ImageArchive(Archive, ImageSource):
    """The images in an archive. pixel_limit: larger ones are bad items."""


def first_kind(path: str, kinds: dict[str, frozenset[str]]) -> str | None:
    """Which of `kinds` (name → endings) the first file in the archive with any of these endings is of; None where there is none or
    the archive cannot be read (opening it will say why)."""
    try:
        if path.lower().endswith(".zip"):
            with zipfile.ZipFile(path) as members:
                return _first(members.namelist(), kinds)
        with tarfile.open(path, "r|*") as members:
            return _first((member.name for member in members), kinds)
    except (*_DAMAGED, OSError):
        return None


def _first(names: Iterable[str], kinds: dict[str, frozenset[str]]) -> str | None:
    plain = (name for name in names if not any(hidden(part) for part in name.split("/")))
    return next((kind for name in plain for kind, suffixes in kinds.items() if has_suffix(name, suffixes)), None)


def check_name(name: str, archive: str) -> str:
    """The member's name with '/' and without './'. Raises DataError where it would leave the archive."""
    plain = name.replace("\\", "/")
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        raise DataError(_refusal(archive, name, "has an absolute path"))
    if ".." in plain.split("/"):
        raise DataError(_refusal(archive, name, "leads out of the archive with '..'"))
    return "/".join(part for part in plain.split("/") if part not in ("", "."))


def _refusal(archive: str, name: str, why: str) -> str:
    return f"The archive '{archive}' is refused: its member '{name}' {why}; pack it again from plain files and folders."


def _plain_tar(path: str) -> BinaryIO:
    """The tar itself, or what it unpacks to in a temporary file that is gone when it is closed."""
    opener = _OPENERS.get(os.path.splitext(path)[1].lower())
    if opener is None:
        return open(path, "rb")
    limit = max(_GROWTH * os.path.getsize(path), 1 << 26)
    plain = tempfile.TemporaryFile(prefix="selftaught-")
    with opener(path, "rb") as packed:
        while piece := packed.read(1 << 22):
            if plain.tell() + len(piece) > limit:
                raise DataError(f"The archive '{path}' is refused: it unpacks to more than {limit >> 20} MiB; give its folder instead.")
            if shutil.disk_usage(tempfile.gettempdir()).free < len(piece) + (1 << 28):
                raise DataError(f"The archive '{path}' does not fit unpacked into {tempfile.gettempdir()}: set TMPDIR to a larger disk, or "
                                "give it as an uncompressed .tar.")
            plain.write(piece)
    plain.seek(0)
    return plain
