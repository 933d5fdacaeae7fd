"""Series of equal and varying length: layouts, missing values, channels that say nothing, and every refusal."""

import os
from pathlib import Path

import numpy as np
import pytest

from selftaught.contracts import DataError, OptionError
from selftaught.sources import open_source, subset


def waves(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_equal_lengths_come_out_as_one_array():
    x = waves(6, 3, 20)
    source = open_source({"x": x, "y": np.arange(6) % 2}, layout="NCT")
    assert source.facts.shape == (3, 20) and source.facts.lengths is None
    assert source.labels.tolist() == [0, 1] * 3
    items = source.take(np.array([4, 1]))["x"]
    assert items.dtype == np.float32 and (items == x[[4, 1]].astype(np.float32)).all()
    assert (source.read(4)["x"] == items[0]).all()
    assert "read as NCT: 6 series of 3 channels and 20 steps" in source.facts.notes[-1]


def test_channels_last():
    x = waves(6, 20, 3)
    source = open_source(x, layout="NTC")
    assert source.facts.shape == (3, 20) and "read as NTC" in source.facts.notes[0]
    assert (source.read(2)["x"] == x[2].T.astype(np.float32)).all() and source.read(2)["x"].flags.c_contiguous
    assert open_source(waves(6, 20), layout="NT").facts.shape == (1, 20)
    assert open_source(waves(6, 20), modality="series").facts.shape == (1, 20)


def test_missing_and_infinite_values_are_named():
    x = waves(5, 2, 10)
    x[3, 1, 4:6] = np.nan
    x[2, 0, 1] = np.inf
    source = open_source(x, layout="NCT")
    said = " ".join(source.facts.notes)
    assert "1 of 100 values are infinite (treated as missing): 1 in channel 0, first in series 2" in said
    assert "2 of 100 values are missing (NaN): 2 in channel 1, first in series 3" in said
    assert np.isnan(source.read(2)["x"][0, 1]) and np.isnan(source.read(3)["x"][1]).sum() == 2
    assert np.isinf(x[2, 0, 1])  # the user's array is left alone


def test_silent_channels_are_left_out_and_aligned():
    x = waves(5, 4, 10)
    x[:, 1], x[:, 3] = 7.0, np.nan
    train = open_source(x, layout="NCT")
    said = " ".join(train.facts.notes)
    assert "never change are left out: 1" in said and "hold no value are left out: 3" in said
    assert train.facts.shape == (2, 10) and [c.name for c in train.facts.columns] == ["channel 0", "channel 2"]
    assert (train.read(0)["x"] == x[0, [0, 2]].astype(np.float32)).all()
    full = waves(3, 4, 10, seed=1)
    full[:, 2] = 1.0
    aligned = open_source(full, layout="NCT").align(train.facts.columns)
    assert aligned.facts.shape == (2, 10) and (aligned.read(1)["x"] == full[1, [0, 2]].astype(np.float32)).all()
    assert subset(open_source(full, layout="NCT"), [2, 0]).align(train.facts.columns).read(0)["x"].shape == (2, 10)
    with pytest.raises(DataError, match="has 2 channels, but the encoder was trained on channel 2 too"):
        open_source(waves(3, 2, 10), layout="NCT").align(train.facts.columns)
    assert "encoder was trained without channel 1, channel 3: left out" in aligned.facts.notes[-1]
    assert aligned.align(train.facts.columns).facts.notes[-2:].count(aligned.facts.notes[-1]) == 1  # said once
    for empty in (np.full((3, 4, 10), np.nan), np.where(np.arange(4)[:, None] % 2, waves(3, 4, 10), np.nan)):
        with pytest.raises(DataError, match="no series holds a value in the channels 0, "):
            open_source(empty, layout="NCT", least=1).align(train.facts.columns)
    with pytest.raises(DataError, match="none of 4 channels changes"):
        open_source(np.ones((5, 4, 10)), layout="NCT")


def test_varying_lengths_from_rows_and_from_lists(tmp_path):
    lengths = [4, 9, 6]
    series = [waves(2, n, seed=n) for n in lengths]
    rows, ptr = np.concatenate([s.T for s in series]), np.cumsum([0, *lengths])
    np.savez(tmp_path / "v.npz", x=rows, ptr=ptr, y=[1, 0, 1], group=[0, 0, 1])
    for source in (open_source(tmp_path / "v.npz"), open_source(series), open_source({"x": series, "y": np.array([1, 0, 1])}),
                   open_source([s.T for s in series], layout="NTC"), open_source(np.array([*series, None], dtype=object)[:3])):
        assert source.facts.shape == (2, 9) and source.facts.lengths == (4, 9) and len(source) == 3
        items = source.take(np.array([1, 0]))["x"]
        assert items.dtype == object and [i.shape for i in items] == [(2, 9), (2, 4)]
        assert all((item == s.astype(np.float32)).all() for item, s in zip(items, (series[1], series[0])))
        assert all(item.flags.c_contiguous for item in items)
    named = open_source(tmp_path / "v.npz")
    assert named.labels.tolist() == [1, 0, 1] and named.groups.tolist() == [0, 0, 1]
    assert open_source([s[0] for s in series]).facts.shape == (1, 9)
    told = open_source([s.T for s in series])
    assert told.facts.shape == (2, 9) and any("[T, C] each" in n for n in told.facts.notes)


def test_varying_lengths_name_the_series_of_a_missing_value_and_align():
    series = [waves(3, n, seed=n) for n in (4, 9, 6)]
    series[1][2, 8] = np.nan
    for s in series:
        s[1] = 5.0
    source = open_source(series)
    assert any("1 in channel 2, first in series 1" in n for n in source.facts.notes)
    assert source.facts.shape == (2, 9)
    other = open_source([waves(3, n) for n in (5, 7)]).align(source.facts.columns)
    assert other.read(1)["x"].shape == (2, 7) and other.facts.lengths == (5, 7)


@pytest.mark.parametrize("data, said", [
    ([waves(2, 5), waves(3, 6)], r"ragged in both axes: series 0 has shape \(2, 5\), series 1 \(3, 6\)"),
    ({"x": waves(10, 2), "ptr": np.array([0, 4, 9])}, "rise from 0 to 10"),
    ({"x": waves(10, 2), "ptr": np.array([0, 6, 4, 10])}, "rise from 0 to 10"),
    ({"x": waves(10, 2), "ptr": np.array([0, 4, 4, 10])}, "series 1 has no steps"),
    ({"x": waves(10, 2), "ptr": np.array([0.0, 10.0])}, "ptr holds N . 1 integers"),
    ({"x": waves(10, 2), "ptr": np.array([0, 10])}, "1 of series: learning compares"),
    ([waves(2, 5), waves(6)], "mixes arrays of"),
    (waves(1, 2, 9), "1 of series"),
])
def test_unusable_series_are_refused_in_a_sentence(data, said):
    with pytest.raises(DataError, match=said):
        open_source(data)


def test_layouts_that_do_not_fit():
    with pytest.raises(DataError, match="series are .N, C, T."):
        open_source(waves(3, 2, 4, 5), modality="series")
    with pytest.raises(DataError, match="without a step or a channel"):
        open_source(np.zeros((3, 2, 0)), layout="NCT")
    with pytest.raises(DataError, match="series are .N, C, T."):
        open_source(waves(3, 20), layout="NTC")
    with pytest.raises(OptionError, match="no layout of series 'NHWC'|no layout"):
        open_source(waves(3, 2, 9), modality="series", layout="NHWC")
    with pytest.raises(DataError, match="dtype <U1: series are arrays of numbers"):
        open_source(np.full((3, 2, 9), "a"), layout="NCT")


def test_lists_that_do_not_fit_their_layout():
    with pytest.raises(DataError, match=r"series 1 \(5, 3\); all series need the same channels"):
        open_source([waves(5, 2), waves(5, 3)], layout="NTC")
    with pytest.raises(DataError, match="all series need the same channels"):
        open_source([waves(5, 2), waves(6, 2)], layout="NCT")


def test_a_folder_of_series(tmp_path):
    for i in range(4):
        folder = tmp_path / "s" / ("walk" if i % 2 else "run")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{i}.npy", waves(2, 6 + i))
    source = open_source(tmp_path / "s")
    assert source.modality == "series" and source.facts.lengths == (6, 9) and source.classes == ["run", "walk"]
    np.save(tmp_path / "s" / "run" / "8.npy", np.zeros((2, 0)))
    source = open_source(tmp_path / "s")
    assert len(source) == 4 and "1 of 5 files cannot be read and are set aside" in source.facts.notes[-1]
    assert "8.npy holds an empty array of shape (2, 0)." in source.facts.notes[-1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no .npy files"):
        open_source(tmp_path / "empty", modality="series")


def test_fingerprint_and_names():
    x = waves(4, 2, 9)
    other = x.copy()
    other[3, 1, 8] += 1
    assert open_source(x).fingerprint() == open_source(x.copy()).fingerprint() != open_source(other).fingerprint()
    assert open_source(x).name(2) == "array, series 2"


def test_real_series_of_varying_length():
    if "SELFTAUGHT_DATA" not in os.environ:
        pytest.skip("SELFTAUGHT_DATA is not set")
    folder = Path(os.environ["SELFTAUGHT_DATA"]) / "timeseries"
    source = open_source(folder / "indoor_movement_varlen.npz")
    assert len(source) == 314 and source.facts.shape[0] == 4
    assert source.groups is not None and np.bincount(source.labels).tolist() == [156, 158]
    motions = open_source(f"{folder}/BasicMotions.npz::train")
    assert motions.facts.shape == (6, 100) and motions.classes == ["Badminton", "Running", "Standing", "Walking"]
