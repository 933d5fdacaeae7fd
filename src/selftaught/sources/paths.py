"""Opens a path by what lies there: folder, archive, Parquet, CSV, .npy, .npz; every way that it cannot be is a sentence."""

from __future__ import annotations

import difflib
import os
from collections import Counter
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import DataError, OptionError, Source, nearest
from .asked import Asked
from .listing import AUDIO_SUFFIXES, IMAGE_SUFFIXES, TEXT_SUFFIXES, VIDEO_SUFFIXES, has_suffix, hidden

_PICTURES = IMAGE_SUFFIXES - {".npy"}  # an array may be anything
_KINDS = {"image": _PICTURES, "audio": AUDIO_SUFFIXES, "video": VIDEO_SUFFIXES - _PICTURES,
          "volume": frozenset({".nii", ".nii.gz"}), "points": frozenset({".ply", ".off", ".xyz"})}
"""What the files of a folder, a list or an archive are where nobody says so."""
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq")
_JSON_LINES = (".jsonl", ".ndjson")
_LOOSE = {".txt", ".data", ".dat"}  # tables only where the user says so
_PICKLED = {".pkl", ".pickle", ".pt", ".pth", ".joblib"}
_KNOWN = ("a folder of images, sound files, videos, volumes or texts, .zip, .tar, .parquet, .csv, .tsv, .jsonl, .txt, .md, .npy, .npz, "
          "embedded:NAME, one file such as .png, .wav, .mp4, .nii, .ply")
_FOLDERS = "the labels of files are their class folders"


def open_path(text: str, asked: Asked) -> Source:
    """A Source for a path, with or without ::PART."""
    before, marked, part = (text, "", "") if _exists(Path(text).expanduser()) else text.partition("::")
    if not before:
        raise OptionError("The path is empty (a shell variable that is not set?): name a file or a folder; the current folder is '.'.")
    path = Path(before).expanduser()
    if not _exists(path) and (inside := _within_archive(path)):  # photos.zip/train
        (before, part), marked = inside, "::"
        path = Path(before)
    if not _exists(path):
        bare = asked.modality in (None, "text") and _bare(path)
        raise _missing(path, " (a text itself is given in a list, with modality=text)" if bare else "")
    if path.is_file() and asked.modality is not None:
        _check_kind(path, asked.modality)
    if asked.modality == "points":
        from .points import open_points

        return open_points(f"{path}::{part}" if marked else path, asked)
    if path.is_dir():
        if marked:
            raise OptionError(f"{path} is a folder: name the part as a path, {path / part}.")
        return _folder(path, asked)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (zero bytes): copy or write it again.")
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.endswith(_ARCHIVES):
        return _archive(path, f"{path}::{part}" if marked else str(path), asked)
    if name.endswith(_PARQUET):
        return _parquet(path, part, asked)
    if name.endswith(_TABLES) or (asked.modality == "table" and suffix in _LOOSE):
        return _csv(path, part, asked)
    if suffix in _JSON_LINES:
        from .text_tables import open_json_lines

        return open_json_lines(path, asked)
    if asked.modality == "text" or (asked.modality is None and suffix in TEXT_SUFFIXES):
        from .text_files import open_text_path

        return open_text_path(path, asked)
    if suffix == ".npz":
        from .arrayfiles import NpzArrays, open_named

        if asked.modality == "audio":
            from .audio import open_clips

            return open_clips(NpzArrays(path), asked, origin=str(path))
        if asked.modality in ("video", "volume"):
            from .arrayfiles import open_grids

            return open_grids(NpzArrays(path), asked, origin=str(path))
        return open_named(NpzArrays(path), asked, part=part or None, origin=str(path))
    if marked:
        raise OptionError(f"{path} has no parts to choose from: leave '::{part}' out.")
    if suffix == ".npy" and asked.modality == "audio":
        raise OptionError(f"{path} does not say its rate: save an .npz with x (clips) and rate (samples a second).")
    if suffix == ".npy":
        from .arrayfiles import load_npy, open_array, open_grids

        return (open_grids if asked.modality in ("video", "volume") else open_array)(load_npy(path), asked, origin=str(path))
    if suffix in _PICTURES or _kind_of(path) in ("video", "volume", "points") or _is_sound(path, asked):
        return open_files([path], asked)
    raise _unknown(path)


def _archive(path: Path, named: str, asked: Asked) -> Source:
    """Images, sound files, videos or volumes, whichever the archive holds first."""
    from .archives import first_kind

    asked.no_columns(path, _FOLDERS)
    if asked.modality not in (None, *_KINDS):
        raise OptionError(f"{path} is an archive, which is read as images, sound, video, volumes or points, not as {asked.modality}: "
                          "unpack it and give the folder or the file.")
    return _source_of(asked.modality or first_kind(str(path), _KINDS), "Archive", asked)(named)


def _source_of(kind: str | None, place: str, asked: Asked) -> Any:
    """The class of sources that read this kind of files in a folder or list (place 'Files') or in an archive ('Archive'), as was asked."""
    kind = kind if kind in _KINDS else "image"
    module = {"image": "images", "audio": "audio", "video": "video", "volume": "volumes", "points": "points"}[kind]
    made = partial(getattr(import_module(f".{module}", __package__), kind.capitalize() + place), least=asked.least)
    return partial(made, layout=asked.layout) if kind == "volume" else made


def _kind_of(path: Path) -> str | None:
    """What its ending says."""
    return next((kind for kind, suffixes in _KINDS.items() if has_suffix(path.name, suffixes)), None)


def _check_kind(path: Path, asked: str) -> None:
    """OptionError for a file that is of another kind by its ending; of images the moving ones may be read as video."""
    kind = _kind_of(path)
    if kind not in (None, asked) and (kind, asked) != ("image", "video"):
        raise OptionError(f"{path} is a file of {kind} data, not of {asked} data: leave modality={asked} out, or give other data.")


def _is_sound(path: Path, asked: Asked) -> bool:
    """By its ending, by its first bytes, or because someone said so."""
    from .audio_decoding import looks_like_sound

    if asked.modality is not None or path.suffix.lower() in AUDIO_SUFFIXES:
        return asked.modality in (None, "audio")
    with open(path, "rb") as file:
        return looks_like_sound(file.read(16))


def _within_archive(path: Path) -> tuple[str, str] | None:
    from .archives import split_archive

    return split_archive(path)


def open_files(paths: list[Path], asked: Asked) -> Source:
    """A Source for a list of files: of sound, videos or volumes where the first one is, else of images."""
    asked.no_columns("A list of files", _FOLDERS)
    if asked.modality not in (None, *_KINDS):
        raise OptionError(f"A list of files is read as images, sound, video or volumes, not as {asked.modality}: give the folder or one "
                          "file.")
    lost = next((path for path in paths if not _exists(path)), None)
    if lost is not None:
        bare = asked.modality is None and all(_bare(path) and not _exists(path) for path in paths)
        raise _missing(lost, " (texts themselves need modality=text)" if bare else "")
    kind = asked.modality or _kind_of(paths[0])
    if kind is None and paths[0].is_file() and _is_sound(paths[0], asked):
        kind = "audio"
    return _source_of(kind, "Files", asked)(paths)


def _csv(path: Path, part: str, asked: Asked) -> Source:
    from .csvfile import read_csv
    from .tables import rows_where
    from .text_tables import open_table

    table, notes = read_csv(path)
    return open_table(rows_where(table, part, str(path)) if part else table, asked, origin=str(path), notes=notes)


def _parquet(path: Path, part: str, asked: Asked) -> Source:
    """Images or sound files where a column holds bytes, else a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from .tables import rows_where
    from .text_tables import open_table

    try:
        schema = pq.read_schema(path)
        if asked.modality in ("image", "audio") or (asked.modality is None and any(_holds_bytes(f.type) for f in schema)):
            return _bytes_parquet(path, part, schema, asked)
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        said = str(error).splitlines()[0][:100]
        raise DataError(f"{path} cannot be read as Parquet ({said}): write it again or check its suffix.") from None
    return open_table(rows_where(table, part, str(path)) if part else table, asked, origin=str(path))


def _holds_bytes(kind: Any) -> bool:
    """Binary, or the struct of bytes and path that Hugging Face writes for images."""
    import pyarrow.types as t

    if t.is_struct(kind):
        return any(kind.field(i).name == "bytes" and _holds_bytes(kind.field(i).type) for i in range(kind.num_fields))
    return t.is_binary(kind) or t.is_large_binary(kind)  # bytes of one fixed size are no files but ids (UUIDs)


def _bytes_parquet(path: Path, part: str, schema: Any, asked: Asked) -> Source:
    """Sound where that was asked for or a column of bytes is called so, else images."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from .audio import AudioParquet
    from .images import ImageParquet
    from .labels import encode_groups
    from .subsets import Subset

    names, (column, _, value) = schema.names, part.partition("=")
    for word, what in ((asked.target, "target"), (asked.group, "group"), (column or None, "rows")):
        if word is not None and word not in names:
            raise nearest(word, names, what=f"column (asked for as {what}) in {path} named")
    hint = " Where its bytes are neither images nor sound, pass modality=table." if asked.modality is None else ""
    sound = any(field.name.lower() in AudioParquet.named and _holds_bytes(field.type) for field in schema)
    kind = AudioParquet if asked.modality == "audio" or (asked.modality is None and sound) else ImageParquet
    try:
        source = kind(path, target=asked.target, least=asked.least)
    except DataError as error:
        raise DataError(f"{error}{hint}") from None
    groups = rows = None
    if asked.group is not None:
        values = pq.read_table(path, columns=[asked.group])[asked.group].to_numpy()
        groups = encode_groups(values, asked.group, samples=len(source))
    if part:
        rows = pc.equal(pq.read_table(path, columns=[column])[column].cast("string"), value).fill_null(False).to_numpy()
        if not rows.any():
            raise DataError(f"No row of {path} has '{column}' equal to '{value}': check the value.")
    if groups is None and rows is None:
        return source
    rows = np.ones(len(source), dtype=bool) if rows is None else rows
    return Subset(source, rows, groups=None if groups is None else groups[rows])


def _folder(path: Path, asked: Asked) -> Source:
    """Images, sound files, videos or volumes at any depth, folders of frames where video was asked for, or .npy files of one series or
    volume each."""
    asked.no_columns(path, _FOLDERS)
    if asked.modality == "table":
        raise OptionError(f"{path} is a folder: name the file that holds the table.")
    if asked.modality == "series":
        return _series_folder(path, asked)
    if asked.modality == "text":
        return _text_folder(path, asked)
    found = {} if asked.modality in ("audio", "volume") else _first_files(path)
    kind = asked.modality or next((kind for kind, suffixes in _KINDS.items() if found.keys() & suffixes), None)
    if kind == "video" and not found.keys() & VIDEO_SUFFIXES:
        from .video import FrameFolders

        return FrameFolders(path, least=asked.least)
    if kind in ("audio", "video", "volume", "points"):
        return _source_of(kind, "Files", asked)(path)
    if not found.keys() & _PICTURES:
        array = _first_array(found[".npy"]) if ".npy" in found and asked.modality is None else None
        if array is not None and _is_series(array):
            return _series_folder(path, asked)
        if array is not None and _is_volume(array):
            return _source_of("volume", "Files", asked)(path)
        other = next((found[s] for s in (".parquet", ".csv", ".tsv", ".npz", ".zip", ".tar") if s in found), None)
        if other is None and ".npy" not in found and asked.modality is None and found.keys() & TEXT_SUFFIXES:
            return _text_folder(path, asked)
        if other is not None and ".npy" not in found:
            raise DataError(f"{path} holds no images, but {other.name}: name that file, {other}.")
    from .images import ImageFiles

    source = ImageFiles(path, least=asked.least)
    if asked.modality is None and ".gif" in found:
        note = f"{path}: of moving GIFs the first frame is read, as an image; modality=video reads them as clips."
        source.facts = source.facts.with_(notes=(*source.facts.notes, note))
    return source


def _text_folder(path: Path, asked: Asked) -> Source:
    from .text_files import open_text_path

    return open_text_path(path, asked)


def _first_files(path: Path) -> dict[str, Path]:
    """Suffix → the first file with it; stops at the first folder with files of a kind (images, sound, video, volumes), and forgets all
    but most of them: a folder of music may hold its cover, one of films a picture of each."""
    found: dict[str, Path] = {}
    seen: set[tuple[int, int]] = set()  # links may lead in a circle
    for place, folders, files in os.walk(path, followlinks=True):
        state = os.stat(place)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders[:] = sorted(folder for folder in folders if not hidden(folder))
        suffixes = Counter()
        for file in sorted(file for file in files if not hidden(file)):
            suffixes[suffix := ".nii.gz" if file.lower().endswith(".nii.gz") else Path(file).suffix.lower()] += 1
            found.setdefault(suffix, Path(place, file))
        counts = {kind: sum(suffixes[s] for s in known) for kind, known in _KINDS.items()}
        most = max(counts, key=lambda kind: (counts[kind], kind != "image"))
        if counts[most]:
            fewer = frozenset().union(*(known for kind, known in _KINDS.items() if kind != most))
            return {suffix: file for suffix, file in found.items() if suffix not in fewer}
    return found


def _first_array(path: Path) -> np.ndarray | None:
    from .series_files import first_array

    return first_array(path)


def _is_series(array: np.ndarray) -> bool:
    """A floating array of one dimension or of two unequal ones."""
    return array.dtype.kind == "f" and (array.ndim == 1 or (array.ndim == 2 and array.shape[0] != array.shape[1]))


def _is_volume(array: np.ndarray) -> bool:
    """Three dimensions, none of which can be channels."""
    return array.ndim == 3 and min(array.shape) > 4


def _series_folder(path: Path, asked: Asked) -> Source:
    from .series_files import open_series_folder

    return open_series_folder(path, asked)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name of 5,000 letters
        raise DataError(f"There can be no path '{str(path)[:60]} …' ({error.strerror or error}): check the path.") from None


def _bare(path: Path) -> bool:
    """Whether it may be a text itself rather than a path."""
    return " " in path.name or not path.suffix and len(path.parts) == 1


def _missing(path: Path, aside: str = "") -> DataError:
    """Names the first part of the path that does not exist and the nearest name beside it."""
    at = path
    while not at.parent.exists() and at.parent != at:
        at = at.parent
    beside = sorted(p.name for p in at.parent.iterdir()) if at.parent.is_dir() else []
    close = difflib.get_close_matches(at.name, beside, n=1, cutoff=0.5)
    hint = f"did you mean {at.parent / close[0]}{aside}?" if close else f"{at.parent} holds no '{at.name}', so check the path{aside}."
    return DataError(f"There is no {repr(str(path)) if ' ' in str(path) else path}: {hint}")


def _unknown(path: Path) -> OptionError:
    suffix = path.suffix.lower()
    if suffix in _PICKLED:
        return OptionError(f"{path} is pickled, and nothing is unpickled: save its arrays with numpy.savez as x and y.")
    if suffix in _LOOSE:
        return OptionError(f"{path}: a {suffix} file may be anything; if it is a table, pass modality=table or name it .csv.")
    named = f"the suffix '{suffix}'" if suffix else "a file without suffix"
    return OptionError(f"{path}: {named} is not known; known are {_KNOWN}.")
