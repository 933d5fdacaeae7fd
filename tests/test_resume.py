"""Runs that stop and go on: what is resumed is the run that began, counts and verdicts included; a start that fails leaves nothing."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from torch import nn

import selftaught
from selftaught.contracts import REGISTRY, Collapsed, NotApplicable, OptionError, SelftaughtError, find
from selftaught.methods import Method
from selftaught.networks import Embedder, Mlp, over
from selftaught.objectives import nt_xent
from selftaught.protocols import write_report
from selftaught.testing import GlooPair

SMALL = {"batch_size": 16, "progress": False, "log_every": 1, "backbone.widths": (8, 8)}
NARROW = {**SMALL, "method.hidden": 16}


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(64, 2, 32)).astype(np.float32)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """64 of them, two alike and one damaged."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(1).integers(0, 255, (64, 16, 16, 3), dtype=np.uint8)
    pixels[1] = pixels[0]
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(folder / f"{i:02d}.png")
    (folder / "05.png").write_bytes(b"not an image")
    return folder


class Cut(Method):
    """Fails, as a power cut would, before step `at`."""

    at: int | None = None

    def __init__(self, backbone):
        super().__init__()
        self.student = Embedder(backbone, Mlp(backbone.width, 16, 8))

    def loss(self, views, batch):
        if self.clock.step == self.at:
            raise RuntimeError("cut")
        return nt_xent(*over(views, self.student), temperature=0.2)


class Collapsing(Cut):
    """Asks for one direction of all items."""

    def loss(self, views, batch):
        z = nn.functional.normalize(self.student(views[0]), dim=1)
        return 100 * (z - z.mean(0).detach()).square().sum(1).mean()


def losses(run) -> list[float]:
    return [line["loss"] for line in run.metrics()]


def test_counts_go_on_where_they_stood(pictures, tmp_path, monkeypatch):
    settings = {**SMALL, "steps": 8, "checkpoint_every": 7, "num_workers": 0}
    whole = selftaught.pretrain(pictures, Cut, out=tmp_path / "whole", **settings)
    monkeypatch.setattr(Cut, "at", 7)
    with pytest.raises(RuntimeError, match="cut"):
        selftaught.pretrain(pictures, Cut, out=tmp_path / "cut", **settings)
    monkeypatch.undo()
    resumed = selftaught.pretrain(pictures, Cut, out=tmp_path / "cut", resume=True, progress=False)
    assert losses(resumed) == losses(whole)
    assert set(resumed.encoder.items) == set(whole.encoder.items) and len(whole.encoder.items) == 63
    for run in (whole, resumed):
        found = run.summary
        assert (found["samples"], found["steps"], found["bad_items"], found["duplicates"]) == (128, 8, 1, 1)
        assert found["final_loss"] == losses(run)[-1] and found["seconds"] >= found["training_seconds"] > 0
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "cut").rglob("*") if p.name in ("summary.json", "model.safetensors")}
    selftaught.pretrain(pictures, Cut, out=tmp_path / "cut", resume=True, progress=False)
    assert len(written) == 2 and all(p.stat().st_mtime_ns == then for p, then in written.items())  # there was nothing to do


def test_a_collapsed_run_stays_collapsed(waves, tmp_path):
    settings = {**SMALL, "layout": "NCT", "steps": 100, "health_every": 5, "lr": 0.05, "log_every": 1000}
    for more in ({}, {"resume": True}):
        with pytest.raises(Collapsed, match="point the same way"):
            selftaught.pretrain(waves, Collapsing, out=tmp_path / "run", **settings, **more)
    assert "point the same way" in json.loads((tmp_path / "run" / "summary.json").read_text())["verdict"]
    assert not (tmp_path / "run" / "encoder").exists()


def test_the_same_command_resumes_and_another_is_named(waves, tmp_path):
    def again(**more):
        return selftaught.pretrain(waves, layout="NCT", out=tmp_path / "run", resume=True, **{**settings, **more})

    settings = {**NARROW, "method": "vicreg", "steps": 2, "precision": "auto", "training.lr": 0.01, "stop_on_collapse": "on",
                "training.clip": "none"}
    first = again()
    assert losses(again()) == losses(again(method=find("method", "vicreg"))) == losses(first)
    again(**{"precision": "32-true", "stop_on_collapse": True, "training.lr": "1e-2"})  # said otherwise, and the same
    for key, value, said in (("training.lr", 0.02, "with training.lr=0.01"), ("training.clip", 1.0, "with training.clip=None"),
                             ("method", find("method", "barlow_twins"), "vicreg.*method=barlow_twins"), ("method", Cut, "method=Cut"),
                             ("views.jitter", 0.5, "without views.jitter"), ("init", first, "without init"), ("seed", 1, "with seed=0")):
        with pytest.raises(OptionError, match=said):
            again(**{key: value})
    (tmp_path / "run" / "preprocessing.json").unlink()
    with pytest.raises(SelftaughtError, match="preprocessing.json is missing"):
        again()


@pytest.mark.parametrize("what", ["Nearby", "nearby"])
def test_a_method_in_a_file_is_found_again_from_another_folder(what, waves, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.py").write_text("from selftaught.methods import SimCLR as Base\n")
    (tmp_path / "mine.py").write_text("from selftaught.contracts import register\nfrom beside import Base\n\n\n"
                                      "@register('nearby')\nclass Nearby(Base):\n    pass\n")
    run = selftaught.pretrain(waves, f"mine.py:{what}", layout="NCT", out="run", steps=2, **NARROW)
    assert run.value("method") == f"{tmp_path}/mine.py:{what}" == run.encoder.lineage["method"]
    expected = losses(run)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    for method in (None, f"../mine.py:{what}"):
        REGISTRY.pop(("method", "nearby"))  # as in a process of its own
        for name in [name for name in sys.modules if name.startswith("mine_")]:
            del sys.modules[name]
        again = selftaught.pretrain(waves, method, layout="NCT", out="../run", resume=True, progress=False)
        assert losses(again) == expected
    with pytest.raises(OptionError, match="with method=.*/elsewhere/mine.py"):
        selftaught.pretrain(waves, f"mine.py:{what}", layout="NCT", out="../run", resume=True, progress=False)


def test_weights_to_start_from_are_part_of_the_run(waves, tmp_path):
    begun = selftaught.pretrain(waves, layout="NCT", out=tmp_path / "begun", steps=4, **NARROW)
    run = selftaught.pretrain(waves, layout="NCT", out=tmp_path / "run", steps=2, init=begun, **{**SMALL, "method.hidden": 16})
    expected = losses(run)
    shutil.rmtree(tmp_path / "run" / "checkpoints")  # as if killed before the first
    again = selftaught.pretrain(waves, layout="NCT", out=tmp_path / "run", resume=True, progress=False)
    assert losses(again) == expected and again.encoder.lineage["init"] == str(begun.folder)


def test_a_start_that_fails_leaves_nothing(waves, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="'steps'"):
        selftaught.pretrain(waves, layout="NCT", step=4)
    with pytest.raises(OptionError, match="no precision"):
        selftaught.pretrain(waves, layout="NCT", steps=1, precision="half", **SMALL)
    assert not list((tmp_path / "runs").iterdir())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    with pytest.raises(NotApplicable):
        selftaught.pretrain(np.arange(24.0).reshape(8, 3), "rotation", modality="table", out="mine", steps=1)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_the_run_to_resume_is_named(waves, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match="name the run with --out.$"):
        selftaught.pretrain("waves.npy", resume=True)
    for name in ("waves-2", "waves-10", "waves-old-1"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.yaml").touch()
    with pytest.raises(OptionError, match="newest of these data is --out runs/waves-10"):
        selftaught.pretrain("waves.npy", resume=True)
    with pytest.raises(OptionError, match="--out names no folder"):
        selftaught.pretrain(waves, layout="NCT", out="", steps=1)
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


def test_damaged_files_of_a_run_are_sentences(waves, tmp_path):
    """Nothing is replaced in silence: a damaged checkpoint is named, with the one before, which resumes once it is deleted."""
    def again():
        return selftaught.pretrain(waves, layout="NCT", out=tmp_path, resume=True, progress=False)

    run = selftaught.pretrain(waves, layout="NCT", out=tmp_path, steps=3, checkpoint_every=1, **NARROW)
    newest = tmp_path / "checkpoints" / "step-00000003"
    for name in ("method.safetensors", "optimiser.safetensors", "state.json"):
        whole = (newest / name).read_bytes()
        for blob in (whole[:100], b"", b"{}"):
            (newest / name).write_bytes(blob)
            with pytest.raises(SelftaughtError, match=f"{name} is damaged.*resume from .*step-00000002, the one before, delete .*00003"):
                again()
        (newest / name).write_bytes(whole)
    (newest / "method.safetensors").unlink()
    with pytest.raises(SelftaughtError, match="method.safetensors is damaged"):
        again()
    shutil.rmtree(newest)
    assert losses(again()) == losses(run)
    for name, said in (("run.yaml", "lacks decisions"), ("preprocessing.json", "lacks modality")):
        whole = (tmp_path / name).read_bytes()
        for blob, why in ((b"{}", said), (b"[]", "holds a list"), (whole[:50], "")):
            (tmp_path / name).write_bytes(blob)
            with pytest.raises(SelftaughtError, match=f"{name} is damaged .*{why}"):
                again()
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "summary.json").write_text('{"seconds": 1')
    with pytest.raises(SelftaughtError, match="summary.json is damaged"):
        write_report(run)
    (tmp_path / "summary.json").unlink()
    assert again().summary["steps"] == 3


def test_a_module_of_your_own_stays_as_it_was(waves, tmp_path):
    own = nn.Sequential(nn.Conv1d(2, 8, 5, stride=2), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    before = {k: v.clone() for k, v in own.state_dict().items()}
    settings = {"layout": "NCT", "progress": False, "log_every": 1, "batch_size": 32, "method.hidden": 16, "backbone": own}
    asked = selftaught.pretrain(waves, out=tmp_path / "asked", epochs=1, **settings)
    embedded = asked.encoder.embed(waves)
    timed = selftaught.pretrain(waves, out=tmp_path / "timed", minutes=0.0, **settings)  # the trial, too, is of a copy
    other = selftaught.pretrain(waves, out=tmp_path / "other", epochs=1, seed=1, **settings)
    assert losses(timed) == losses(asked) and timed.value("epochs") == 1
    assert all((v == before[k]).all() for k, v in own.state_dict().items()) and all(p.grad is None for p in own.parameters())
    assert (asked.encoder.embed(waves) == embedded).all() and (other.encoder.embed(waves) != embedded).any()
    own.lock = iter([])
    with pytest.raises(OptionError, match="cannot be copied"):
        selftaught.pretrain(waves, out=tmp_path / "locked", epochs=1, **{**settings, "backbone": nn.Sequential(own, Locked())})


class Locked(nn.Module):
    def __deepcopy__(self, memo):
        raise TypeError("cannot pickle 'lock'")


def together(pictures, out) -> list:
    """What the leading one of two processes sees of three calls."""
    seen = []
    for more in ({"steps": 4, "precision": "auto"}, {"resume": True}, {"resume": True, "seed": 3}, {"out": f"{out}-2", "step": 3},
                 {"out": f"{out}-2", "steps": 3, "batch_size": 15}):
        try:
            run = selftaught.pretrain(pictures, **{**NARROW, "out": out, "num_workers": 0, "devices": 2, **more})
            seen.append((len(run.encoder.items), run.summary["bad_items"], run.summary["duplicates"], run.summary["samples"]))
        except OptionError as error:
            seen.append(str(error))
        except SystemExit:  # of the process that does not lead
            seen.append(None)
    return seen


def test_two_processes_begin_resume_and_leave_together(pictures, tmp_path):
    begun, resumed, changed, mistyped, uneven = GlooPair.shared().run(together, str(pictures), str(tmp_path / "run"))
    assert begun == resumed == (63, 1, 1, 64)
    assert "with seed=0" in changed and "Did you mean 'steps'" in mistyped and "cannot be split" in uneven
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_very_short_series_resume(tmp_path):
    data = np.random.default_rng(0).normal(size=(64, 2, 3)).astype(np.float32)
    options = {"layout": "NCT", "batch_size": 16, "progress": False, "out": tmp_path / "short", "backbone.widths": (8,)}
    selftaught.pretrain(data, steps=2, **options)
    assert len(losses(selftaught.pretrain(data, steps=2, resume=True, **options))) > 0
