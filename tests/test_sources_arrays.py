"""Arrays, tensors, dicts, .npy and .npz files, torch Datasets and paths: what open_source makes of them, and every refusal."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from selftaught.contracts import BadItem, DataError, OptionError
from selftaught.sources import Subset, align_classes, open_source, subset, with_labels
from selftaught.sources.fingerprints import fingerprint_of, hash_rows
from selftaught.sources.labels import encode_groups, encode_labels


def pixels(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("shape, canvas", [((5, 8, 8), (1, 8, 8)), ((5, 8, 8, 3), (3, 8, 8)), ((5, 3, 8, 8), (3, 8, 8)),
                                           ((5, 12, 20, 20), (12, 20, 20))])
def test_images_of_every_layout(shape, canvas):
    x = pixels(*shape)
    source = open_source(x)
    assert source.modality == "image" and source.resident and source.facts.shape == canvas and source.facts.bit_depth == 8
    items = source.take(np.array([3, 0]))
    assert items["x"].shape == (2, *canvas) and items["x"].dtype == np.uint8 and items["x"].flags.c_contiguous
    expected = x[3] if x.ndim == 4 and shape[1] == canvas[0] else np.moveaxis(x[3], -1, 0) if x.ndim == 4 else x[3][None]
    assert (items["x"][0] == expected).all()
    assert items["size"].tolist() == [list(canvas[1:])] * 2 and items["hash"].dtype == np.uint64
    one = source.read(3)
    assert all((one[k] == items[k][0]).all() for k in items)


def test_ambiguous_channel_axis_asks_for_the_layout():
    x = pixels(6, 4, 10, 4)
    with pytest.raises(OptionError, match="NHWC or NCHW: say which"):
        open_source(x)
    assert open_source(x, layout="NHWC").facts.shape == (4, 4, 10)
    assert open_source(x, layout="NCHW").facts.shape == (4, 10, 4)
    with pytest.raises(OptionError, match="NHWC or NCHW"):
        open_source(pixels(3, 20, 20, 20))
    with pytest.raises(OptionError, match="no layout 'NHCW'. Did you mean 'NHW'"):
        open_source(x, layout="NHCW")
    with pytest.raises(OptionError, match="does not fit"):
        open_source(x, layout="NHW")
    with pytest.raises(OptionError, match="layout=NHWC or layout=NCHW, of volumes layout=NDHW, of clips layout=NTHW"):
        open_source(np.random.rand(16, 14, 14, 14))
    for wrong, meant in (("NDWH", "NDHW"), ("NTWHC", "NTHWC")):
        with pytest.raises(OptionError, match=f"no layout '{wrong}'. Did you mean '{meant}'.*NCDHW.*NTCHW"):
            open_source(x, layout=wrong)


def test_depths_and_floats():
    assert open_source(pixels(4, 8, 8, 3, dtype=np.int64)).take(np.arange(2))["x"].dtype == np.uint8
    wide = open_source(pixels(4, 8, 8).astype(np.uint16) * 200)
    assert wide.take(np.arange(4))["x"].dtype == np.uint16 and wide.facts.bit_depth == 16
    x = np.random.default_rng(0).random((4, 8, 8, 3))
    source = open_source(x)
    assert source.read(1)["x"].dtype == np.float32 and any("float pixels from" in n for n in source.facts.notes)
    x[2, 1, 1, 0] = np.nan
    broken = open_source(x)
    assert any("1 pixels are NaN or infinite, the first in row 2" in n for n in broken.facts.notes)
    assert np.isfinite(broken.take(np.arange(4))["x"]).all()
    flags = open_source(pixels(4, 8, 8) > 99)
    assert set(np.unique(flags.take(np.arange(4))["x"])) == {0, 255}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_oblong_images_are_stretched_to_the_canvas(dtype):
    ramp = np.broadcast_to(np.arange(0, 64, 4)[None, :, None], (3, 16, 8)).astype(dtype)
    source = open_source(np.ascontiguousarray(ramp), modality="image")
    assert source.read(0)["x"].shape == (1, 16, 16) and source.read(0)["size"].tolist() == [16, 8]
    source.set_canvas(4)
    x = source.read(0)["x"]
    assert x.shape == (1, 4, 4) and x.dtype == dtype
    assert (np.diff(x[0, :, 0].astype(float)) > 8).all() and np.ptp(x[0], axis=1).max() == 0  # the ramp is still one


def test_hashes_tell_contents_apart_and_equal_ones_together():
    x = pixels(2000, 5, 5)
    x[7] = x[1999]
    hashes = open_source(x).take(np.arange(2000))["hash"]
    assert hashes[7] == hashes[1999] and len(np.unique(hashes)) == 1999
    one_bit = np.zeros((9 * 13, 117), np.uint8)
    one_bit[np.arange(117), np.arange(117)] = 128
    assert len(np.unique(hash_rows(one_bit))) == 117  # every byte counts, its top bit too


def test_three_dimensions_are_told_apart_aloud():
    square, oblong = np.random.rand(4, 9, 9), np.random.rand(4, 3, 9)
    image, series = open_source(square), open_source(oblong)
    assert image.modality == "image" and "if they are series, pass layout" in image.facts.notes[0]
    assert series.modality == "series" and "if they are images, pass layout=NHW" in series.facts.notes[0]
    assert open_source(square, layout="NCT").modality == "series" and open_source(oblong, layout="NHW").modality == "image"
    assert open_source(pixels(4, 3, 9)).modality == "image"
    assert open_source(pixels(4, 3, 9), modality="series").modality == "series"


@pytest.mark.parametrize("data, said", [
    (np.zeros(5), "too few dimensions"),
    (np.zeros((0, 8, 8), np.uint8), "holds no images"),
    (pixels(1, 8, 8), "1 of images: learning compares"),
    (np.zeros((3, 2, 2, 2, 2)), "5 dimensions"),
    (np.zeros((3, 8, 8), complex), "dtype complex128"),
    ([], "empty"),
    ([pixels(8, 8, 3), pixels(9, 8, 3)], r"mixes sizes: item 0 has shape \(8, 8, 3\), item 1 \(9, 8, 3\)"),
    (np.array([pixels(8, 8), pixels(9, 8)], dtype=object), "mixes sizes"),
    (np.array([[object(), 1]] * 3, dtype=object), "dtype object"),
    ({"x": np.zeros((3, 4)), "y": np.zeros(2)}, "'y' in dict has shape"),
    ({"x": pixels(3, 8, 8), "y": np.zeros(2)}, "'y' have shape"),
    ({"x": pixels(3, 8, 8), "group": np.zeros(2)}, "'group' have shape"),
])
def test_unusable_arrays_are_refused_in_a_sentence(data, said):
    with pytest.raises(DataError, match=said):
        open_source(data)


def test_options_that_do_not_fit():
    with pytest.raises(OptionError, match="no modality 'images'. Did you mean 'image'"):
        open_source(pixels(4, 8, 8), modality="images")
    with pytest.raises(OptionError, match="has no column 'y'"):
        open_source(pixels(4, 8, 8), target="y")
    with pytest.raises(OptionError, match="int cannot be opened"):
        open_source(7)
    with pytest.raises(DataError, match="is no table"):
        open_source(pixels(4, 8, 8), modality="table")


def test_one_item_may_be_opened_to_be_encoded():
    assert len(open_source(pixels(1, 8, 8), least=1)) == 1
    assert len(open_source(np.random.rand(1, 4), least=1)) == 1
    assert len(open_source(np.random.rand(1, 3, 20), layout="NCT", least=1)) == 1


def test_dicts_and_npz_bring_labels_and_groups(tmp_path):
    x, y, group = pixels(6, 8, 8), np.array([0, 1, 2, 0, 1, 2]), np.array(list("aabbcc"))
    np.savez(tmp_path / "d.npz", x=x, y=y, group=group, other=y[::-1], classes=np.array(["cat", "dog", "emu"]))
    for data in ({"x": x, "y": y, "group": group, "other": y[::-1], "classes": ["cat", "dog", "emu"]}, tmp_path / "d.npz"):
        source = open_source(data)
        assert source.labels.tolist() == y.tolist() and source.classes == ["cat", "dog", "emu"] and source.facts.classes == 3
        assert source.groups.tolist() == [0, 0, 1, 1, 2, 2]
        assert open_source(data, target="other").labels.tolist() == y[::-1].tolist()
        with pytest.raises(OptionError, match="no array in .* named 'othr'. Did you mean 'other'"):
            open_source(data, target="othr")


def test_npz_parts(tmp_path):
    np.savez(tmp_path / "d.npz", X_train=np.random.rand(5, 2, 9), y_train=np.arange(5) % 2,
             X_test=np.random.rand(3, 2, 9), y_test=np.arange(3) % 2)
    assert len(open_source(f"{tmp_path}/d.npz::train")) == 5
    test = open_source(f"{tmp_path}/d.npz::test")
    assert test.labels.tolist() == [0, 1, 0] and test.modality == "series"
    with pytest.raises(OptionError, match="X_test, X_train, .* none called x: choose a part: .*::test or .*::train"):
        open_source(tmp_path / "d.npz")
    with pytest.raises(OptionError, match="none called X_val"):
        open_source(f"{tmp_path}/d.npz::val")
    np.savez(tmp_path / "e.npz", speed=np.zeros((3, 4)))
    with pytest.raises(OptionError, match="holds the arrays speed, but none called x: name the input x"):
        open_source(tmp_path / "e.npz")


def test_nothing_is_unpickled(tmp_path):
    ragged = np.array([np.zeros(3), np.zeros(4)], dtype=object)
    np.savez(tmp_path / "p.npz", x=ragged)
    np.save(tmp_path / "p.npy", ragged, allow_pickle=True)
    for name in ("p.npz", "p.npy"):
        with pytest.raises(DataError, match="nothing is unpickled"):
            open_source(tmp_path / name)
    (tmp_path / "m.pt").write_bytes(b"x")
    with pytest.raises(OptionError, match="pickled, and nothing is unpickled"):
        open_source(tmp_path / "m.pt")


def test_files_that_cannot_be_opened(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="There is no .*fotos: did you mean .*photos"):
        open_source(tmp_path / "fotos")
    with pytest.raises(DataError, match="did you mean .*photos"):
        open_source(tmp_path / "fotos" / "deep" / "er")
    (tmp_path / "a.npy").touch()
    with pytest.raises(DataError, match="zero bytes"):
        open_source(tmp_path / "a.npy")
    (tmp_path / "a.qqq").write_text("1")
    with pytest.raises(OptionError, match="suffix '.qqq' is not known; known are a folder.*.png, .wav, .mp4, .nii, .ply"):
        open_source(tmp_path / "a.qqq")
    (tmp_path / "noise.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read as .npz"):
        open_source(tmp_path / "noise.npz")
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(DataError, match="cannot be read"):
        open_source(tmp_path / "cut.npy")
    np.save(tmp_path / "ok.npy", pixels(4, 8, 8))
    assert open_source(str(tmp_path / "ok.npy")).modality == "image"
    with pytest.raises(OptionError, match="has no parts"):
        open_source(f"{tmp_path}/ok.npy::train")
    (tmp_path / "photos" / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds no images, but t.csv"):
        open_source(tmp_path / "photos")
    with pytest.raises(OptionError, match="is a folder: name the file"):
        open_source(tmp_path / "photos", modality="table")


def test_large_npy_files_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr("selftaught.sources.arrayfiles._MAP_FROM", 100)
    np.save(tmp_path / "x.npy", x := pixels(9, 8, 8, 3))
    source = open_source(tmp_path / "x.npy")
    assert isinstance(source._x.base, np.memmap) and (source.read(4)["x"] == x[4].transpose(2, 0, 1)).all()


def test_tensors_and_lists():
    x = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    assert (open_source(x).read(2)["x"] == x[2].numpy()).all()
    assert open_source(torch.randn(5, 2, 9, dtype=torch.bfloat16)).modality == "series"
    assert open_source([[1.0, 2.0], [3.0, 5.0], [2.0, 2.0]]).facts.shape == (2,)
    assert open_source(list(pixels(3, 8, 8))).facts.shape == (1, 8, 8)
    pictures = [Image.fromarray(p) for p in pixels(3, 8, 6, 3)]
    assert open_source(pictures).read(0)["x"].shape == (3, 8, 8)


class Pictures(torch.utils.data.Dataset):
    classes = ["cat", "dog"]

    def __init__(self, broken=()):
        self.images, self.broken = pixels(6, 10, 8, 3), broken

    def __len__(self):
        return 6

    def __getitem__(self, i):
        if i in self.broken:
            raise OSError("disk on fire")
        return Image.fromarray(self.images[i]), i % 2


def test_torch_datasets():
    source = open_source(Pictures())
    assert source.facts.shape == (3, 10, 8) and source.facts.classes is None and not source.resident
    assert source.labels.tolist() == [0, 1] * 3 and source.classes == ["cat", "dog"] and source.facts.classes == 2
    source.set_canvas(4)
    item = source.read(3)
    assert item["x"].shape == (3, 4, 4) and item["x"].dtype == np.uint8 and item["size"].tolist() == [10, 8]
    assert item["hash"] != source.read(2)["hash"]
    with pytest.raises(BadItem, match="OSError: disk on fire"):
        open_source(Pictures(broken={2})).read(2)
    with pytest.raises(DataError, match="first item cannot be read .OSError"):
        open_source(Pictures(broken={0}))
    tensors = torch.utils.data.TensorDataset(torch.randn(7, 4), torch.arange(7) % 3)
    table = open_source(tensors)
    assert table.modality == "table" and table.labels.tolist() == [0, 1, 2, 0, 1, 2, 0] and table.facts.shape == (4,)
    rows = open_source(torch.utils.data.Subset(tensors, range(5)))
    assert rows.modality == "table" and len(rows) == 5 and rows.facts.classes == 3

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(DataError, match="cannot be indexed"):
        open_source(Endless())
    with pytest.raises(OptionError, match="has no column 'y'"):
        open_source(Pictures(), target="y")


def test_pillow_modes_become_one_number_of_channels():
    rgba = Image.new("RGBA", (6, 6), (10, 20, 30, 0))
    grey = Image.new("L", (6, 6), 77)
    colour = open_source([Image.new("RGB", (6, 6), (1, 2, 3)), rgba, grey])
    assert [colour.read(i)["x"][:, 0, 0].tolist() for i in range(3)] == [[1, 2, 3], [255, 255, 255], [77, 77, 77]]
    assert open_source([grey, rgba]).read(1)["x"].tolist() == [[[255] * 6] * 6]
    deep = open_source([Image.fromarray(np.full((6, 6), 40000, np.uint16))] * 2)
    assert deep.read(0)["x"].dtype == np.uint16 and deep.read(0)["x"].max() == 40000
    with pytest.raises(BadItem, match="channels"):
        open_source([Image.new("L", (6, 6)), np.zeros((6, 6, 3), np.uint8)]).read(1)


def test_labels():
    words = encode_labels(np.array(["b", "", "a", None], dtype=object), samples=4)
    assert words.values.tolist() == [1, -1, 0, -1] and words.classes == ["a", "b"]
    assert encode_labels(np.array([5, 3, -1, 5]), samples=4).values.tolist() == [1, 0, -1, 1]
    signs = encode_labels(np.array([-1, 1, 1]), samples=3)
    assert signs.values.tolist() == [0, 1, 1] and "two classes" in signs.note
    assert encode_labels(np.array([True, False]), samples=2).classes == ["False", "True"]
    floats = encode_labels(np.array([0.5, np.nan, 2.5]), samples=3)
    assert floats.classes is None and floats.values.dtype == np.float32 and np.isnan(floats.values[1])
    whole = encode_labels(np.array([1.0, np.nan, 0.0]), samples=3)
    assert whole.values.tolist() == [1, -1, 0] and whole.classes == ["0", "1"]
    many = encode_labels(np.arange(200) * 3, samples=200)
    assert many.classes is None and "read as numbers" in many.note
    with pytest.raises(DataError, match="no value in any of 2 rows"):
        encode_labels(np.array([np.nan, np.nan]), "t", samples=2)
    groups = encode_groups(np.array(["u", "", "u", None], dtype=object), samples=4)
    assert groups[0] == groups[2] and len(set(groups.tolist())) == 3


def test_subsets_and_other_labels():
    base = open_source({"x": pixels(6, 8, 8), "y": np.arange(6) % 3, "group": np.arange(6)})
    part = subset(base, np.array([5, 1]))
    assert isinstance(part, Subset) and len(part) == part.facts.samples == 2 and part.labels.tolist() == [2, 1]
    assert (part.take(np.array([1]))["x"] == base.take(np.array([1]))["x"]).all() and part.name(0) == base.name(5)
    nested = subset(part, np.array([True, False]))
    assert (nested.read(0)["x"] == base.read(5)["x"]).all() and nested.groups.tolist() == [5]
    assert nested.fingerprint() != part.fingerprint() != base.fingerprint()
    relabelled = with_labels(base, np.array([0, 0, 0, 1, 1, -1]))
    assert relabelled.labels[5] == -1 and base.labels[5] == 2 and relabelled.facts.samples == 6
    with pytest.raises(DataError, match="asks for item 6 of 6"):
        subset(base, np.array([6]))
    with pytest.raises(DataError, match="2 labels for 6 items"):
        with_labels(base, np.array([0, 1]))


def test_classes_are_aligned_by_name():
    test = open_source({"x": pixels(3, 8, 8), "y": np.array(["dog", "cat", "dog"])})
    aligned = align_classes(test, ["ape", "cat", "dog"])
    assert aligned.labels.tolist() == [2, 1, 2] and aligned.facts.classes == 3
    with pytest.raises(OptionError, match="class 'cat' is not among the training classes"):
        align_classes(test, ["ape", "dog"])


def test_fingerprints_follow_the_contents():
    x = pixels(50, 8, 8, 3)
    same, other = open_source(x.copy()), x.copy()
    other[49, 7, 7, 2] ^= 1
    assert open_source(x).fingerprint() == same.fingerprint() != open_source(other).fingerprint()
    big = np.zeros(6_000_000, np.uint8)
    changed = big.copy()
    changed[-1] = 1
    assert fingerprint_of(big) != fingerprint_of(changed) and fingerprint_of(big) != fingerprint_of(big[:-1])


def test_a_source_is_returned_as_it_is():
    source = open_source(pixels(4, 8, 8))
    assert open_source(source) is source


def test_folders_archives_and_parquet_of_images(tmp_path):
    pytest.importorskip("selftaught.sources.images")
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    blobs = []
    for i, p in enumerate(pixels(6, 8, 8, 3)):
        folder = tmp_path / "photos" / ("cat" if i % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(p).save(folder / f"{i}.png")
        blobs.append((folder / f"{i}.png").read_bytes())
    folder = open_source(tmp_path / "photos")
    assert folder.modality == "image" and folder.classes == ["cat", "dog"] and folder.read(0)["x"].shape == (3, 8, 8)
    assert len(open_source(sorted((tmp_path / "photos").rglob("*.png")))) == 6
    with pytest.raises(OptionError, match="no column 'label'.*class folders"):
        open_source(tmp_path / "photos", target="label")
    with pytest.raises(DataError, match="There is no .*7.png"):
        open_source([tmp_path / "photos" / "cat" / "7.png"])
    part = ["a", "b"] * 3
    table = pa.table({"image": blobs, "label": [0, 1, 0, 1, 0, 1], "who": [1, 1, 2, 2, 3, 3], "split": part})
    pq.write_table(table, tmp_path / "i.parquet")
    images = open_source(tmp_path / "i.parquet", target="label", group="who")
    assert images.labels.tolist() == [0, 1] * 3 and images.groups.tolist() == [0, 0, 1, 1, 2, 2]
    half = open_source(f"{tmp_path}/i.parquet::split=b", target="label")
    assert len(half) == 3 and half.labels.tolist() == [1, 1, 1]
    assert open_source(tmp_path / "i.parquet", modality="table").modality == "table"
    with pytest.raises(DataError, match="No row of .* has 'split' equal to 'c'"):
        open_source(f"{tmp_path}/i.parquet::split=c")
    with pytest.raises(OptionError, match="named 'lable'. Did you mean 'label'"):
        open_source(tmp_path / "i.parquet", target="lable")


def test_embedded_data_sets():
    embedded = pytest.importorskip("selftaught.sources.embedded")
    for name in embedded.embedded_names():
        data, source = embedded.load_embedded(name), open_source(f"embedded:{name}")
        assert source.modality == data["modality"] and len(source) == len(data["x"]) and source.classes == list(data["classes"])
        assert source.labels.tolist() == data["y"].tolist() and (source.groups is not None) == ("group" in data)
    with pytest.raises(OptionError, match="Did you mean"):
        open_source("embedded:" + embedded.embedded_names()[0] + "s")


def test_huggingface_data_sets():
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    pictures = [Image.fromarray(p) for p in pixels(4, 8, 6, 3)]
    data = datasets.Dataset.from_dict({"image": pictures, "label": [1, 0, 1, 1]}, features=features)
    source = open_source(data, target="label")
    assert source.read(0)["x"].shape == (3, 8, 8) and source.labels.tolist() == [1, 0, 1, 1]
    assert source.classes == ["cat", "dog"]
    assert open_source(data).labels is None and "'label' holds labels" in open_source(data).facts.notes[0]
    table = open_source(datasets.Dataset.from_dict({"a": [1.5, 2.0, 3.0], "b": ["u", "v", "u"]}).select([2, 1]), least=2)
    assert table.modality == "table" and table.facts.shape == (2,) and table.read(0)["numeric"].tolist() == [3.0]
    with pytest.raises(DataError, match="splits train"):
        open_source(datasets.DatasetDict({"train": data}))
    with pytest.raises(OptionError, match="named 'lable'"):
        open_source(data, target="lable")


def test_real_images_in_parquet():
    if "SELFTAUGHT_DATA" not in os.environ:
        pytest.skip("SELFTAUGHT_DATA is not set")
    source = open_source(Path(os.environ["SELFTAUGHT_DATA"]) / "images" / "cifar10_test.parquet", target="label")
    assert len(source) == 10000 and source.facts.shape == (3, 32, 32) and np.bincount(source.labels).tolist() == [1000] * 10


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("kind", [">f8", ">i4", ">f4", "g", "f2"])
def test_numbers_of_other_machines_are_read(tmp_path, kind):
    x = np.random.default_rng(0).normal(0, 9, (20, 4)).astype(kind)
    y = (np.arange(20) % 2).astype(">i8")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=y, group=y)
    for data in (tmp_path / "x.npy", tmp_path / "x.npz", x, np.matrix(x), list(x)):
        found, wanted = open_source(data), open_source(x.astype(np.float64))
        target = open_source(data, target="y") if str(data).endswith("npz") else found
        assert target.modality == "table" and len(target) == 20
        for name, field in wanted.read(7).items():
            np.testing.assert_allclose(found.read(7)[name], field, rtol=1e-6)
    series = open_source(np.random.default_rng(0).normal(size=(5, 2, 30)).astype(kind), layout="NCT")
    assert series.read(0)["x"].dtype.isnative


def test_masked_values_are_missing():
    hidden = np.zeros((20, 4), bool)
    hidden[3, 1] = True
    for x in (np.random.default_rng(0).normal(size=(20, 4)), np.arange(80).reshape(20, 4) * 7 % 31):
        table = open_source(np.ma.masked_array(np.where(hidden, 999, x), hidden))
        given = np.where(hidden, np.nan, x)
        for i in (2, 3):
            np.testing.assert_array_equal(table.read(i)["numeric"], open_source(given).read(i)["numeric"])
        assert np.isnan(table.read(3)["numeric"]).sum() == 1
    labels = np.ma.masked_array([0, 1] * 10, np.arange(20) == 4)
    assert open_source({"x": pixels(20, 8, 8), "y": labels}).labels[4] == -1
    words = np.ma.masked_array(["a", "b"] * 10, np.arange(20) == 4)
    assert open_source({"x": pixels(20, 8, 8), "y": words}).labels[4] == -1
    gap = np.broadcast_to(np.arange(30) == 6, (5, 2, 30))
    series = open_source(np.ma.masked_array(np.random.default_rng(0).normal(size=(5, 2, 30)), gap), layout="NCT")
    assert np.isnan(series.read(0)["x"][:, 6]).all() and np.isfinite(series.read(0)["x"][:, 7]).all()


def test_a_damaged_file_is_not_called_pickled(tmp_path):
    for name in ("z.npy", "z.npz"):
        (tmp_path / name).write_bytes(bytes(4096))
        with pytest.raises(DataError, match="does not begin like a file of numpy's"):
            open_source(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("x.npy", bytes(4096))
    with pytest.raises(DataError, match="The array 'x' in .* does not begin like an array of numpy's"):
        open_source(tmp_path / "y.npz")


def test_labels_of_bytes_that_are_not_ascii(tmp_path):
    y = np.array(["é".encode(), "é".encode("latin-1"), b"a", b""] * 3)
    np.savez(tmp_path / "x.npz", x=pixels(12, 8, 8), y=y, group=y)
    source = open_source(tmp_path / "x.npz")
    assert source.classes == ["\\xe9", "a", "é"] and source.labels[:4].tolist() == [2, 0, 1, -1]
    assert len(set(source.groups.tolist())) == 6


def test_items_of_a_dataset_that_raise_or_have_several_labels_are_a_sentence():
    class Rows(torch.utils.data.Dataset):
        def __init__(self, y, bad=None):
            self.y, self.bad = y, bad

        def __len__(self):
            return 6

        def __getitem__(self, index):
            if index == self.bad:
                raise RuntimeError("the disk is gone")
            return torch.randn(5), self.y

    assert len(open_source(Rows(torch.tensor(1)))) == 6
    with pytest.raises(DataError, match=r"the y of item 0 has shape \(3,\): give one"):
        open_source(Rows(torch.zeros(3)))
    with pytest.raises(DataError, match=r"item 3 of 6 cannot be read \(RuntimeError: the disk is gone\)"):
        open_source(Rows(1, bad=3))


def test_whole_numbers_of_more_than_16_bits_stay_the_same_numbers():
    x = pixels(6, 8, 8, dtype=np.int64)
    source = open_source(x)
    source.set_pixels(1, 16, 4095.0)
    assert source.read(2)["x"].dtype == np.uint16 and (source.read(2)["x"][0] == x[2]).all()
    scaled = open_source(x.astype(np.uint8))
    scaled.set_pixels(1, 16, 4095.0)
    assert (scaled.read(2)["x"][0] == np.rint(x[2] * np.float32(4095 / 255))).all()
