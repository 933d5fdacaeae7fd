"""Plans, options and chains of stages."""

import json

import numpy as np
import pytest

from selftaught.contracts import OptionError, fit_type, parse, split_dotted
from selftaught.plan import make_plan, recorded
from selftaught.sources import open_source
from selftaught.stages import Stage, chain, default_folder


@pytest.fixture
def source():
    return open_source(np.random.default_rng(0).normal(size=(96, 2, 32)).astype(np.float32), layout="NCT")


def test_values_become_what_a_setting_expects():
    assert parse("0.2") == 0.2 and parse("true") is True and parse("none") is None and parse("0.3,1") == (0.3, 1)
    assert parse("simclr") == "simclr"
    assert fit_type("steps", 3.0, 1) == 3 and fit_type("on", "true", False) is True and fit_type("lr", 1, 0.5) == 1.0
    for value, default in (("fast", 0.5), (1.5, 1), ("yes", 3), ((1, 2, 3), (0.0, 1.0))):
        with pytest.raises(OptionError, match="does not fit"):
            fit_type("key", value, default)
    with pytest.raises(OptionError, match="Did you mean 'epochs'"):
        split_dotted({"epoch": 3}, ["epochs", "lr"], ["method"])


def test_every_decision_has_an_author(source):
    plan = make_plan(source, {"method": "byol", "epochs": 2, "method.momentum": 0.9, "views.jitter": 0.5})
    decisions = plan.to_json()
    assert decisions["method"]["by"] == "user" and decisions["batch_size"]["by"] == "plan" and decisions["lr"]["by"] == "recipe"
    assert decisions["method.momentum"] == {"value": 0.9, "by": "user", "reason": "asked for"}
    assert plan.build_method().teacher.momentum.start == 0.9
    assert all(d["reason"] or k in ("seed", "device", "devices", "log_every", "max_bad", "stop_on_collapse", "track", "minutes", "epochs",
                                    "checkpoint_every", "health_every") for k, d in decisions.items())


def test_a_plan_repeats_from_what_was_written(source):
    plan = make_plan(source, {"method": "dino", "epochs": 2})
    again = make_plan(source, recorded(json.loads(json.dumps(plan.to_json()))), preprocessing=plan.preprocessing)
    assert again.training() == plan.training() and again.settings() == plan.settings()
    assert again.nested == plan.nested
    a, b = plan.build_method().state_dict(), again.build_method().state_dict()
    assert all((a[k] == b[k]).all() for k in a)


@pytest.mark.parametrize(("key", "value", "said"), [
    ("batch_size", 1000, "there are 96 items"), ("epochs", 0, "at least 1"), ("precision", "half", "no precision|32-true"),
    ("method.temprature", 1, "temperature"), ("training.optimiser", "sgd", "optimizer"), ("views.jiter", 1, "jitter"),
    ("backbone", "convnett", "convnet"), ("training.optimizer", "adam", "adamw"),
])
def test_wrong_settings_are_sentences(source, key, value, said):
    with pytest.raises(OptionError, match=said):
        plan = make_plan(source, {"method": "simclr", **({} if key == "epochs" else {"steps": 1}), key: value})
        from selftaught.training import fit

        fit(plan.build_method(), plan.stream(source), plan.training(), plan.settings(progress=False))


def test_without_epochs_the_plan_times_itself(source):
    plan = make_plan(source, {"backbone.widths": (8, 16), "minutes": 0.001})
    assert plan["epochs"] >= 1 and "items/s" in plan.choices["epochs"].reason


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


def test_default_folders_do_not_collide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(default_folder("some/photos/")) == "runs/photos-1"
    (tmp_path / "runs" / "photos-1").mkdir(parents=True)
    assert str(default_folder("some/photos/")) == "runs/photos-2"
