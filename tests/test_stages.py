"""Plans, options and chains of stages."""

import itertools
import json
import time

import numpy as np
import pytest
import torch

import selftaught
from selftaught import api
from selftaught.contracts import Cosine, Group, OptionError, fit_type, parse, split_dotted
from selftaught.plan import make_plan
from selftaught.sources import open_source
from selftaught.stages import Stage, chain, default_folder
from selftaught.training import Engine, recorded


@pytest.fixture
def source():
    return open_source(np.random.default_rng(0).normal(size=(96, 2, 32)).astype(np.float32), layout="NCT")


def test_values_become_what_a_setting_expects():
    assert parse("0.2") == 0.2 and parse("true") is True and parse("none") is None and parse("0.3,1") == (0.3, 1)
    assert parse("simclr") == "simclr" and parse("{[]:1}") == "{[]:1}" and parse("(" * 10_000) == "(" * 10_000
    assert fit_type("steps", 3.0, 1) == 3 and fit_type("on", "true", False) is True and fit_type("lr", 1, 0.5) == 1.0
    for value, default in (("fast", 0.5), (1.5, 1), ("yes", 3), ((1, 2, 3), (0.0, 1.0))):
        with pytest.raises(OptionError, match="does not fit"):
            fit_type("key", value, default)
    with pytest.raises(OptionError, match="Did you mean 'epochs'"):
        split_dotted({"epoch": 3}, ["epochs", "lr"], ["method"])


def test_options_of_a_network_become_what_its_keywords_are(source):
    for given, kept in (([8, 16], (8, 16)), ("8,", (8,)), ((8, 16, 32), (8, 16, 32))):  # of any length, from JSON and from words
        assert make_plan(source, {"steps": 2, "backbone.widths": given}).nested["backbone"] == {"widths": kept}
    plan = make_plan(source, {"steps": 2, "backbone": "vit_tiny", "backbone.patch": "4", "backbone.ratio": 2, "backbone.pool": "mean"})
    assert plan.nested["backbone"] == {"patch": 4, "ratio": 2.0, "pool": "mean"}
    with pytest.raises(OptionError, match="Did you mean 'widths'"):
        make_plan(source, {"steps": 2, "backbone.width": 8}).build_backbone()


def test_every_decision_has_an_author(source):
    plan = make_plan(source, {"method": "byol", "epochs": 2, "method.momentum": 0.9, "views.jitter": 0.5})
    decisions = plan.to_json()
    assert decisions["method"]["by"] == "user" and decisions["batch_size"]["by"] == "plan" and decisions["lr"]["by"] == "recipe"
    assert decisions["method.momentum"] == {"value": 0.9, "by": "user", "reason": "asked for"}
    assert plan.build_method().teacher.momentum.start == 0.9
    assert all(d["reason"] or k in ("seed", "device", "devices", "log_every", "max_bad", "stop_on_collapse", "track", "minutes", "epochs",
                                    "checkpoint_every", "health_every") for k, d in decisions.items())


def test_what_small_networks_get_is_beside_the_papers_value(source):
    plan = make_plan(source, {"method": "mae", "steps": 2})
    why = {key: choice.reason for key, choice in plan.choices.items()}
    assert why["method.width"] == "the recipe for small networks and short runs; the paper has 512"
    assert why["training.scale_lr"].endswith("; the paper has linear")
    assert why["backbone.pool"] == "the recipe for small networks and short runs"  # the paper's is no option of the method


def test_the_package_offers_what_its_face_does():
    assert set(selftaught._API) == set(api.__all__) <= set(dir(selftaught))
    assert all(getattr(selftaught, name) is getattr(api, name) for name in api.__all__)


def test_a_plan_repeats_from_what_was_written(source):
    plan = make_plan(source, {"method": "dino", "epochs": 2})
    again = make_plan(source, recorded(json.loads(json.dumps(plan.to_json()))), preprocessing=plan.preprocessing)
    assert again.training() == plan.training() and again.settings() == plan.settings()
    assert again.nested == plan.nested
    a, b = plan.build_method().state_dict(), again.build_method().state_dict()
    assert all((a[k] == b[k]).all() for k in a)


def test_nones_and_schedules_of_the_user_are_written_and_read(source):
    wanted = {"training.clip": None, "training.weight_decay": Cosine(0.1, 0.2), "training.groups": {"student.head": Group(lr_scale=0.5)}}
    plan = make_plan(source, {"method": "dino", "steps": 2, **wanted})
    again = make_plan(source, recorded(json.loads(json.dumps(plan.to_json()))), preprocessing=plan.preprocessing)
    assert again.training() == plan.training() and again.training().clip is None and again.training().weight_decay == Cosine(0.1, 0.2)


@pytest.mark.parametrize(("key", "value", "said"), [
    ("batch_size", 1000, "there are 96 items"), ("epochs", 0, "at least 1"), ("precision", "half", "no precision|32-true"),
    ("method.temprature", 1, "temperature"), ("training.optimiser", "sgd", "optimizer"), ("views.jiter", 1, "jitter"),
    ("steps", 10**13, "at most"), ("epochs", 1e300, r"epochs=1e\+300 .* at most"), ("lr", "{[]:1}", "a number"),
    ("backbone", "convnett", "convnet"), ("training.optimizer", "adam", "adamw"),
    ("training.schedule", "constant", "training.warmup has no effect"), ("training.lr", 0.5, "lr=0.1 and training.lr=0.5 are one setting"),
])
def test_wrong_settings_are_sentences(source, key, value, said):
    with pytest.raises(OptionError, match=said):
        beside = {"training.schedule": {"training.warmup": 5}, "training.lr": {"lr": 0.1}}.get(key, {})
        plan = make_plan(source, {"method": "simclr", **({} if key == "epochs" else {"steps": 1}), key: value, **beside})
        from selftaught.training import fit

        fit(plan.build_method(), plan.stream(source), plan.training(), plan.settings(progress=False))


def test_without_epochs_the_plan_times_itself(source):
    plan = make_plan(source, {"backbone.widths": (8, 16), "minutes": 0.001})
    assert plan["epochs"] >= 1 and "items/s" in plan.choices["epochs"].reason
    assert make_plan(source, {"backbone.widths": (8, 16), "minutes": 1e308})["epochs"] == 334  # enough


def test_a_rate_among_the_training_options_is_the_users(source):
    choice = make_plan(source, {"steps": 1, "training.lr": 0.5}).choices["lr"]
    assert (choice.value, choice.by) == (0.5, "user")


def test_the_time_that_reading_takes_is_planned_for():
    class Slow:
        def __len__(self):
            return 64

        def __getitem__(self, i):
            time.sleep(0.02)
            return np.full((8, 8, 3), i, np.uint8)

    plan = make_plan(open_source(Slow()), {"backbone.widths": (8,), "minutes": 0.1, "batch_size": 32, "num_workers": 1, "method.hidden": 8})
    assert plan["epochs"] <= 5  # 64 items of 20 ms are 1.3 s a pass, and there are 6 s


def test_stages_give_numbers_of_any_kind(tmp_path):
    give = {"a": np.float32(0.5), "b": np.int64(7), "c": torch.tensor(3)}
    assert chain([Stage("numbers", lambda artifacts, folder: give)], tmp_path) == {"a": 0.5, "b": 7, "c": 3}


def test_a_long_run_begins_at_once(source):
    with pytest.raises(OptionError, match="at most 1,000,000,000,000 steps"):
        make_plan(source, {"steps": 10**400})
    starts = Engine._epochs(5, 10**11, 2)
    assert list(itertools.islice(starts, 3)) == [5, 6, 8]
    assert [list(Engine._epochs(*span)) for span in ((0, 5, 2), (3, 4, 2), (4, 4, 2), (6, 4, 2))] == [[0, 2, 4], [3], [], []]


def test_stages_are_skipped_until_something_changes(tmp_path):
    ran = []

    def double(artifacts, folder):
        ran.append("double")
        (folder / "out.txt").write_text(str(2 * int(open(artifacts["number"]).read())))
        return {"doubled": str(folder / "out.txt")}

    def report(artifacts, folder):
        ran.append("report")
        return {"text": f"it is {open(artifacts['doubled']).read()}"}

    (tmp_path / "number.txt").write_text("4")
    stages = [Stage("double", double, needs=["number"]), Stage("report", report, needs=["doubled"])]
    begin = {"number": str(tmp_path / "number.txt")}
    assert chain(stages, tmp_path / "chain", begin)["text"] == "it is 8"
    assert chain(stages, tmp_path / "chain", begin)["text"] == "it is 8" and ran == ["double", "report"]
    (tmp_path / "number.txt").write_text("5")
    assert chain(stages, tmp_path / "chain", begin)["text"] == "it is 10" and ran == ["double", "report"] * 2
    with pytest.raises(OptionError, match="needs number"):
        chain(stages, tmp_path / "other", {})


def test_stages_see_files_in_lists_and_miss_lost_ones(tmp_path):
    def join(artifacts, folder):
        (folder / "out.txt").write_text("+".join(open(f).read() for f in artifacts["files"]["all"]))
        return {"joined": [folder / "out.txt"], "count": len(artifacts["files"]["all"])}

    said, (one, two) = [], (tmp_path / "one.txt", tmp_path / "two.txt")
    one.write_text("1")
    two.write_text("2")

    def joined() -> str:
        given = chain([Stage("join", join, needs=["files"])], tmp_path / "chain", {"files": {"all": [one, str(two)]}}, say=said.append)
        return open(given["joined"][0]).read()

    assert joined() == joined() == "1+2" and said == ["join: done", "join: unchanged, skipped"]
    two.write_text("3")
    assert joined() == "1+3"
    (tmp_path / "chain" / "join" / "out.txt").unlink()
    assert joined() == "1+3" and said[2:] == ["join: done"] * 2


def test_default_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(default_folder("some/photos/")) == "runs/photos-1"
    (tmp_path / "runs" / "photos-1").mkdir(parents=True)
    assert str(default_folder("some/photos/")) == "runs/photos-2"
