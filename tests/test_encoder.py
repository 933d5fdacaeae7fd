"""What survives training: saving, embedding with bad items, scikit-learn, ONNX, modules of one's own, starting from weights."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

import selftaught
from selftaught.contracts import Clean, DataError, OptionError, SelftaughtError
from selftaught.sources import open_source

OPTIONS = {"steps": 6, "batch_size": 16, "progress": False, "precision": "32-true", "method.hidden": 16}


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, 2, 32)).astype(np.float32) + np.arange(64)[:, None, None] % 2


@pytest.fixture(scope="module")
def run(waves, tmp_path_factory):
    return selftaught.pretrain(waves, "simclr", layout="NCT", out=tmp_path_factory.mktemp("runs") / "run",
                               **OPTIONS, **{"backbone.widths": (8, 16)})


def test_loads_as_it_was_saved(run, waves, tmp_path):
    expected = run.encoder.embed(waves)
    assert expected.shape == (64, 16) and np.isfinite(expected).all()
    again = selftaught.load(run.folder)
    np.testing.assert_array_equal(again.embed(waves), expected)
    np.testing.assert_array_equal(selftaught.load(again.save(tmp_path / "copy")).embed(waves), expected)
    assert again.lineage["method"] == "simclr" and again.lineage["steps"] == 6


def test_embedding_does_not_depend_on_the_batch(run, waves):
    np.testing.assert_allclose(run.encoder.embed(waves, batch_size=7), run.encoder.embed(waves), rtol=1e-5, atol=1e-6)


def test_another_modality_or_a_damaged_encoder_is_a_sentence(run, waves, tmp_path):
    with pytest.raises(DataError, match="takes series data"):
        run.encoder.embed(np.zeros((8, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(OptionError, match="no encoder"):
        selftaught.load(tmp_path)
    run.encoder.save(tmp_path / "e")
    described = json.loads((tmp_path / "e" / "encoder.json").read_text())
    (tmp_path / "e" / "encoder.json").write_text(json.dumps({**described, "format": 99}))
    with pytest.raises(SelftaughtError, match="newer version"):
        selftaught.load(tmp_path / "e")


def test_damaged_files_of_an_encoder_are_sentences(run, tmp_path):
    folder = run.encoder.save(tmp_path / "e")
    for name in ("model.safetensors", "items.safetensors", "encoder.json"):
        whole = (folder / name).read_bytes()
        for blob in (whole[:100], b"", b"{}", b"[]", b'{"format": 1, "backbone": {}, "preprocessing": {}, "lineage": {}}'):
            (folder / name).write_bytes(blob)
            with pytest.raises(SelftaughtError, match=f"{name} is damaged.*delete {folder}"):
                selftaught.load(folder)
        (folder / name).write_bytes(whole)
    selftaught.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SelftaughtError, match="model.safetensors is damaged"):
        selftaught.load(folder)


def test_in_a_pipeline(run, waves):
    labels = np.arange(64) % 2
    classifier = make_pipeline(run.encoder.as_sklearn(), LogisticRegression(max_iter=500)).fit(waves, labels)
    assert classifier.predict(waves).shape == (64,) and classifier.score(waves, labels) > 0.8  # the classes differ by a shift


def test_onnx_agrees_and_carries_its_preprocessing(run, tmp_path):
    pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    assert run.encoder.export_onnx(tmp_path / "encoder.onnx") < 1e-4
    beside = json.loads((tmp_path / "encoder.onnx.json").read_text())
    assert beside["inputs"] == ["x"]
    assert beside["preprocessing"]["statistics"]["mean"] and beside["lineage"]["method"] == "simclr"
    with pytest.raises(SelftaughtError, match="differs"):
        run.encoder.export_onnx(tmp_path / "strict.onnx", tolerance=-1.0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder.onnx", "encoder.onnx.json"]  # nothing half-written either
    with pytest.raises(OptionError, match="no folder .*none to write e.onnx to"):
        run.encoder.export_onnx(tmp_path / "none" / "e.onnx")


@pytest.mark.parametrize("kind", ["table", "lengths"])
def test_a_graph_takes_batches_of_any_size_and_items_of_any_length(kind, tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    rng = np.random.default_rng(0)
    data = rng.normal(size=(40, 3)) if kind == "table" else [rng.normal(size=(2, n)).astype(np.float32) for n in rng.integers(8, 25, 40)]
    encoder = selftaught.pretrain(data, out=tmp_path / "run", steps=1, batch_size=8, progress=False, precision="32-true").encoder
    assert encoder.export_onnx(tmp_path / "e.onnx") < 1e-4
    session = runtime.InferenceSession(str(tmp_path / "e.onnx"), providers=["CPUExecutionProvider"])
    batch, _ = next(encoder.batches(data, batch_size=40))
    view, = encoder.modality.views(Clean(), encoder.preprocessing)(batch, batch.draws(0, "embed"))
    given = {"x": view.x.numpy()} | ({} if view.lengths is None else {"lengths": view.lengths.numpy()})
    assert list(given) == [i.name for i in session.get_inputs()] == (["x"] if kind == "table" else ["x", "lengths"])
    np.testing.assert_allclose(session.run(None, given)[0], encoder.embed(data), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(session.run(None, {k: v[:1] for k, v in given.items()})[0], encoder.embed(data)[:1], rtol=1e-3, atol=1e-4)


def test_an_encoder_replaces_encoders_alone(run, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.txt").write_text("years of work")
    for place in (tmp_path / "docs", tmp_path / "docs" / "thesis.txt"):
        with pytest.raises(OptionError, match="is no encoder: nothing is replaced"):
            run.encoder.save(place)
    assert (tmp_path / "docs" / "thesis.txt").read_text() == "years of work"
    assert run.encoder.save(run.encoder.save(tmp_path / "e")) == tmp_path / "e"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["docs", "e"]


def test_a_module_of_your_own(waves, tmp_path):
    def network() -> nn.Module:
        return nn.Sequential(nn.Conv1d(2, 12, 5, stride=2), nn.BatchNorm1d(12), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())

    run = selftaught.pretrain(waves, "byol", layout="NCT", backbone=network(), out=tmp_path / "own", **OPTIONS)
    expected = run.encoder.embed(waves)
    assert expected.shape == (64, 12)
    with pytest.raises(OptionError, match="pass it"):
        selftaught.load(tmp_path / "own")
    np.testing.assert_array_equal(selftaught.load(tmp_path / "own", backbone=network()).embed(waves), expected)


def test_starts_from_the_weights_of_a_run(run, waves, tmp_path):
    more = selftaught.pretrain(waves, "vicreg", layout="NCT", init=run.folder, out=tmp_path / "more", **{**OPTIONS, "steps": 1, "lr": 0.0})
    trained = {k: v for k, v in more.encoder.backbone.state_dict().items() if "running" not in k and "num_batches" not in k}
    for name, value in trained.items():  # a rate of 0 leaves the weights where they came from
        torch.testing.assert_close(value, run.encoder.backbone.state_dict()[name])
    assert more.value("backbone.widths") == [8, 16]


def test_bad_items_are_nan_rows_and_counted(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{i:02d}.png")
    run = selftaught.pretrain(tmp_path, "simclr", out=tmp_path.parent / "run", **{**OPTIONS, "steps": 2, "batch_size": 4},
                              **{"backbone.widths": (8, 16)})
    (tmp_path / "05.png").write_bytes(b"not an image")
    with pytest.warns(UserWarning, match="1 of 12 items could not be decoded.*05.png") as seen:
        rows = run.encoder.embed(tmp_path)
    assert [w.filename for w in seen] == [__file__]
    assert np.isnan(rows[5]).all() and np.isfinite(np.delete(rows, 5, axis=0)).all()


def test_arrays_are_read_in_the_layout_of_training(tmp_path):
    rng = np.random.default_rng(0)
    x, square = rng.normal(size=(40, 2, 24)).astype(np.float32), rng.normal(size=(40, 16, 16)).astype(np.float32)
    turned = np.ascontiguousarray(x.transpose(0, 2, 1))
    np.savez(tmp_path / "x.npz", x=turned)
    options = {"layout": "NTC", "steps": 1, "batch_size": 8, "progress": False, "method.hidden": 8, "backbone.widths": (8,)}
    encoder = selftaught.pretrain(turned, out=tmp_path / "run", **options).encoder
    expected = encoder.embed(encoder.open(x, layout="NCT"))
    for data in (turned, list(turned), (turned, np.arange(40) % 2), tmp_path / "x.npz"):
        np.testing.assert_allclose(selftaught.load(tmp_path / "run").embed(data), expected, atol=1e-5)
    np.testing.assert_allclose(encoder.as_sklearn().fit_transform(turned), expected, atol=1e-5)
    assert selftaught.pretrain(square, out=tmp_path / "square", **options).encoder.embed(square).shape == (40, 8)  # no image


def test_files_need_no_layout_of_arrays(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (12, 3, 8, 8), dtype=np.uint8)
    encoder = selftaught.pretrain(x, layout="NCHW", out=tmp_path / "run", **{**OPTIONS, "batch_size": 4, "backbone.widths": (8,)}).encoder
    pictures = [Image.fromarray(item.transpose(1, 2, 0)) for item in x]
    (tmp_path / "files").mkdir()
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / "files" / f"{i:02d}.png")
    for data in (pictures, tmp_path / "files"):
        np.testing.assert_allclose(encoder.embed(data), encoder.embed(x), atol=1e-5)


def test_a_pair_is_items_and_their_labels():
    source = open_source((np.zeros((6, 2, 9)) + np.arange(9), [0, 1, 2] * 2))
    assert source.modality == "series" and source.labels.tolist() == [0, 1, 2] * 2
