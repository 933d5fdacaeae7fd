"""What a folder is: hidden files do not decide it, damaged ones are set aside, endings are the same in folders and lists."""

import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from selftaught.contracts import BadItem, DataError, OptionError
from selftaught.sources import open_source


@pytest.fixture
def series(tmp_path):
    """Six series of one length, and the arrays."""
    arrays = [np.random.default_rng(i).normal(size=(3, 40)).astype(np.float32) for i in range(6)]
    for i, array in enumerate(arrays):
        np.save(tmp_path / f"{i}.npy", array)
    return tmp_path, arrays


def test_hidden_files_do_not_decide_what_a_folder_is(series, tmp_path):
    folder, _ = series
    for i in range(6):
        (folder / f"._{i}.npy").write_bytes(b"\0\5\x16\7" * 20)  # what macOS leaves beside files
    for modality in (None, "series"):
        assert open_source(folder, modality=modality).facts.shape == (3, 40)
    (tmp_path / "texts" / ".git").mkdir(parents=True)
    (tmp_path / "texts" / "a").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "texts" / ".git" / "logo.png")
    for i in range(3):
        (tmp_path / "texts" / "a" / f"{i}.txt").write_text(f"some words of text {i}")
    assert open_source(tmp_path / "texts").modality == "text"


def test_a_damaged_series_is_set_aside_and_names_stay_with_their_series(series):
    folder, arrays = series
    (folder / "0.npy").write_bytes(b"")
    os.mkfifo(folder / "6.npy")
    for modality in (None, "series"):
        source = open_source(folder, modality=modality)
        assert len(source) == 5 and (source.read(2)["x"] == arrays[3]).all() and source.name(2) == "3.npy"
        assert any("2 of 7 files cannot be read and are set aside: " in note and "0.npy" in note for note in source.facts.notes)
    for i in range(1, 5):
        (folder / f"{i}.npy").write_bytes(b"")
    with pytest.raises(DataError, match="6 of 7 series in .* cannot be read"):
        open_source(folder, modality="series")


def test_folders_of_series_named_as_splits_are_no_classes(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        for i in range(2):
            np.save(tmp_path / name / f"{i}.npy", np.random.default_rng(i).normal(size=(3, 40)))
    source = open_source(tmp_path)
    assert source.modality == "series" and source.labels is None and any("look like splits" in note for note in source.facts.notes)


@pytest.mark.parametrize("ending", ["ppm", "pgm", "gif"])
def test_a_folder_reads_what_a_list_of_its_files_reads(tmp_path, ending):
    for i in range(3):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16), dtype=np.uint8)).save(tmp_path / f"{i}.{ending}")
    folder, files = open_source(tmp_path), open_source(sorted(tmp_path.iterdir()))
    assert folder.modality == files.modality == "image" and len(folder) == 3
    assert (folder.read(1)["x"] == files.read(1)["x"]).all()
    assert any("modality=video" in note for note in folder.facts.notes) == (ending == "gif")


def test_a_pipe_in_a_folder_holds_no_reader_up(tmp_path):
    (tmp_path / "texts").mkdir()
    for name in ("0", "1"):
        (tmp_path / "texts" / f"{name}.txt").write_text("some words of text")
        (tmp_path / "clips" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (16, 16), (i * 40, 0, 0)).save(tmp_path / "clips" / name / f"{i}.png")
    os.mkfifo(tmp_path / "texts" / "2.txt")
    os.mkfifo(tmp_path / "clips" / "1" / "3.png")
    for source, index in ((open_source(tmp_path / "texts"), 2), (open_source(tmp_path / "clips", modality="video"), 1)):
        with pytest.raises(BadItem, match="not a file"):
            source.read(index)
        source.read(0)


@pytest.mark.parametrize("kind", ["audio", "text", "image", "video"])
def test_links_to_folders_are_followed_but_never_in_a_circle(tmp_path, kind):
    (tmp_path / "there").mkdir()
    (tmp_path / "links").mkdir()
    for i in range(3):
        place = tmp_path / "there" / f"{i}"
        if kind == "audio":
            pytest.importorskip("soundfile").write(f"{place}.wav", np.random.default_rng(i).normal(0, 0.1, 4000), 8000)
        elif kind == "text":
            place.with_suffix(".txt").write_text(f"some words of text {i}")
        elif kind == "image":
            Image.new("RGB", (16, 16), (i * 40, 0, 0)).save(f"{place}.png")
        else:
            place.mkdir()
            Image.new("RGB", (16, 16), (i * 40, 0, 0)).save(place / "0.png")
    (tmp_path / "links" / "a").symlink_to(tmp_path / "there")
    (tmp_path / "there" / "up").symlink_to(tmp_path)
    source = open_source(tmp_path / "links", modality=kind if kind == "video" else None)
    assert source.modality == kind and len(source) >= 3


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    for i in range(3):
        Image.new("RGB", (16, 16), (i * 40, 0, 0)).save(tmp_path / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    assert len(open_source(".")) == 3
    for empty in ("", "::part"):
        with pytest.raises(OptionError, match="The path is empty"):
            open_source(empty)


def test_a_modality_or_layout_that_the_data_are_not_of_is_a_sentence(tmp_path):
    (tmp_path / "rows.csv").write_text("a,b\n" + "\n".join(f"{i},{i * i % 7}" for i in range(30)))
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        for i in range(3):
            archive.writestr(f"{i}.txt", "some words of text")
    with zipfile.ZipFile(tmp_path / "arrays.zip", "w") as archive:
        for i in range(3):
            np.save(tmp_path / "x.npy", np.zeros((8, 8), np.uint8))
            archive.write(tmp_path / "x.npy", f"{i}.npy")
    for name, modality in (("rows.csv", "image"), ("rows.csv", "series"), ("arrays.zip", "series"), ("texts.zip", "text")):
        with pytest.raises(OptionError, match=f"{name} is .*, not as {modality}"):
            open_source(tmp_path / name, modality=modality)
    for layout in ("NHWC", "NCT", "NDHW"):
        with pytest.raises((OptionError, DataError), match="layout=|not as"):
            open_source(tmp_path / "rows.csv", layout=layout)
    with pytest.raises(OptionError, match="no layout 'NHCW'"):
        open_source(tmp_path / "rows.csv", layout="NHCW")
    with pytest.raises(OptionError, match="data, but layout=NCT is for series data"):
        open_source("embedded:wine", layout="NCT")
