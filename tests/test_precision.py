"""What lies far from zero (coordinates of maps, timestamps, readings around a million) reaches the network with its content."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from selftaught.contracts import Batch, Clean, Draws
from selftaught.modalities.points import PointsModality
from selftaught.modalities.series import SeriesModality
from selftaught.modalities.table import TableModality
from selftaught.sources import open_source

RNG = np.random.default_rng(0)
UTM = np.array([500123.4, 4649776.2, 120.0])


def clean(modality, source, prepared=None):
    """(view of all items, preprocessing) as an encoder sees them."""
    prepared = prepared or modality.prepare(source)
    modality.configure(source, prepared)
    index = torch.arange(len(source))
    items = source.take(index.numpy()) if source.resident else [source.read(i) for i in range(len(source))]
    fields, lengths = modality.collate(items, prepared)
    view = modality.views(Clean(), prepared)(Batch(fields, index, index, index, None, lengths), Draws(index))[0]
    return view.x, prepared


def spheres():
    x = RNG.normal(size=(3, 200, 3))
    return x / np.linalg.norm(x, axis=2, keepdims=True) / 2


@pytest.mark.parametrize("in_files", [True, False])
def test_a_cloud_at_coordinates_of_a_map_is_the_one_at_the_origin(tmp_path, in_files):
    here = spheres()
    for name, clouds in (("here", here), ("there", here + UTM)):
        (tmp_path / name).mkdir()
        for i, cloud in enumerate(clouds):
            np.savetxt(tmp_path / name / f"{i}.xyz", cloud, fmt="%.6f")
    data = (tmp_path / "here", tmp_path / "there") if in_files else (here, here + UTM)
    a, b = (clean(PointsModality(), open_source(d, modality="points"))[0] for d in data)
    assert (a - b).abs().max() < 1e-4 and len(b[0, 1].unique()) == 200
    if not in_files:
        assert (open_source(here, modality="points").read(0)["x"] == here[0].T.astype(np.float32)).all()  # as it always was


def test_columns_far_from_zero_keep_their_values():
    order = RNG.permutation(200)
    columns = {"unix_s": 1.7e9 + order, "ms": 1.7e12 + 100.0 * order, "v": RNG.normal(size=200),
               "when": np.datetime64("2024-05-01") + order.astype("timedelta64[s]")}
    source = open_source(pa.table(columns))
    assert [c.name for c in source.facts.columns] == list(columns) and not any("left out" in note for note in source.facts.notes)
    view, prepared = clean(TableModality(), source)
    standard = (order - order.mean()) / order.std()
    for place in (0, 1, 3):
        assert np.allclose(view[:, place], 10 * np.tanh(standard / 10), atol=1e-5)
    assert np.allclose(TableModality().views(Clean(), prepared).marginal[:, 0], view[:, 0], atol=1e-5)
    few = open_source(pa.table({name: values[:3] for name, values in columns.items()})).align(source.facts.columns)
    assert torch.allclose(clean(TableModality(), few, prepared)[0], view[:3])
    near, prepared = clean(TableModality(), plain := open_source(pa.table({"v": columns["v"]})))
    assert "offset" not in prepared.statistics and plain.read(0)["numeric"].dtype == np.float32


@pytest.mark.parametrize("lengths", [(64, 64, 64), (40, 64, 50)])
def test_series_far_from_zero_keep_their_values(lengths):
    waves = [np.cumsum(RNG.normal(size=(2, n)), 1) * 0.01 for n in lengths]
    near, far = (open_source([w + np.array([[level], [0.0]]) for w in waves], modality="series", layout="NCT") for level in (0.0, 1e6))
    a, prepared = clean(SeriesModality(), near)
    assert "offset" not in prepared.statistics and near.read(0)["x"].dtype == np.float32
    b, prepared = clean(SeriesModality(), far)
    assert torch.allclose(a, b, atol=1e-4) and len(b[0, 0, :40].unique()) == 40
    picture = SeriesModality().picture(far.read(0), prepared)
    assert (picture == SeriesModality().picture(near.read(0), SeriesModality().prepare(near))).mean() > 0.95


def test_encoders_of_before_read_what_lies_far_as_they_did():
    source = open_source(pa.table({"t": 1.7e9 + RNG.permutation(200), "v": RNG.normal(size=200)}))
    old = TableModality().prepare(source)
    mean = old.statistics.pop("offset")
    old.statistics["mean"] = mean
    x = TableModality().collate(source.take(np.arange(200)), old)[0]["x"]
    assert (x[:, 0].numpy() == source.take(np.arange(200))["numeric"][:, 0].astype(np.float32)).all()
