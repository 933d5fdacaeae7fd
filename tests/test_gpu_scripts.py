"""The scripts for a GPU run on any device in their smallest form, so that a lent machine's minutes are not spent on typing errors."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from selftaught.contracts import find
from selftaught.plan import make_plan
from selftaught.sources import Loader, open_source


@pytest.fixture(scope="module")
def scripts():
    folder = str(Path(__file__).parent.parent / "benchmarks")
    sys.path.insert(0, folder)
    yield importlib.import_module("gpu_cifar"), importlib.import_module("gpu_views")
    sys.path.remove(folder)


def test_cifar_in_two_steps_a_method(scripts, tmp_path):
    path = tmp_path / "results.json"
    scripts[0].main(["--tiny", "--json", str(path)])
    found = json.loads(path.read_text())
    assert list(found) == [f"{m}, seed 0" for m in ("simclr", "byol", "moco_v2", "barlow_twins", "simsiam")]
    assert all(0 <= f["knn"] <= 1 and f["to_beat"] > 0.8 and f["data_wait"] < 1 for f in found.values())


def test_the_full_runs_name_options_that_exist(scripts):
    for method, (_, options) in scripts[0].METHODS.items():
        assert {k.removeprefix("method.") for k in options} <= set(find("method", method).options())
    train, _ = scripts[0].images(tiny=True)
    for method, (_, options) in scripts[0].METHODS.items():
        plan = make_plan(train, {"method": method, "steps": 1, "batch_size": 64, "backbone": "resnet18", **scripts[0].SGD, **options})
        training = plan.training()
        assert (training.optimizer, training.lr, training.weight_decay, training.scale_lr) == ("sgd", 0.12, 5e-4, "linear")


def test_batches_on_the_device_are_the_loaders(scripts):
    """The same items, slots and epochs as the engine's own reader gives, so that views and order are the same draws."""
    source = open_source(np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8), layout="NHWC")
    plan = make_plan(source, {"method": "simclr", "steps": 1, "batch_size": 8})
    stream = plan.stream(source)
    assert isinstance(stream.reader, Loader)
    ours = scripts[0].OnDevice(source, plan, torch.device("cpu"))
    requests = list(stream.requests(0, 4, rank=0, world=1, accumulate=1))
    for mine, theirs in zip(ours.batches(requests), stream.reader.batches(requests), strict=True):
        assert all(torch.equal(getattr(mine, k), getattr(theirs, k)) for k in ("index", "slot", "epoch"))
        assert torch.equal(mine.x, theirs.x) and mine.x.dtype == torch.uint8


def test_views_of_a_small_transformer(scripts, tmp_path):
    path = tmp_path / "views.json"
    scripts[1].main(["--tiny", "--json", str(path)])
    found = json.loads(path.read_text())
    assert found["samples_per_second"] > 0 and 0 < found["views_share"] < 1.5 and found["to_beat"] == 2000


def test_without_a_gpu_the_full_run_is_refused(scripts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for script in scripts:
        with pytest.raises(SystemExit):
            script.main([])
