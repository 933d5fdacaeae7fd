"""When a run stops by itself or is asked to: signals between any two steps, weights that are no numbers, metrics that stay JSON."""

import json
import math
import signal

import numpy as np
import pytest
import typer

from selftaught.cli import _Commands
from selftaught.contracts import NonFinite
from selftaught.plan import make_plan
from selftaught.sources import open_source
from selftaught.training import RunFolder, fit
from selftaught.training.signals import Interrupted

SMALL = {"method": "simclr", "backbone.widths": (8, 16), "batch_size": 16, "precision": "32-true", "method.hidden": 16, "log_every": 1000}


@pytest.fixture(scope="module")
def source():
    return open_source(np.random.default_rng(0).normal(size=(32, 2, 32)).astype(np.float32), layout="NCT")


def train(source, folder, *, at=None, **overrides):
    """A small run, which sends itself Ctrl-C while it looks at its batch `at`."""
    plan = make_plan(source, {**SMALL, **overrides})
    stream, opened, seen = plan.stream(source), RunFolder(folder), []
    views = stream.views

    def watched(batch, draws):
        seen.append(batch)
        if len(seen) == at:
            signal.raise_signal(signal.SIGINT)
        return views(batch, draws)

    stream.views = watched
    opened.open(resume=False)
    try:
        return fit(plan.build_method(), stream, plan.training(), plan.settings(progress=False), folder=opened)
    finally:
        opened.close()


def test_a_signal_is_heard_after_the_step_it_came_in(source, tmp_path):
    with pytest.raises(Interrupted, match=f"after step 3; the state is saved .* --resume --out {tmp_path / 'run'}.$") as stopped:
        train(source, tmp_path / "run", at=3, steps=8)
    assert stopped.value.code == 130 and RunFolder(tmp_path / "run").latest()[0] == 3
    assert [line["step"] for line in RunFolder(tmp_path / "run").metrics()] == [1, 2, 3]


def test_ctrl_c_outside_of_training_is_a_sentence(capsys):
    app = typer.Typer(cls=_Commands)

    @app.command()
    def wait() -> None:
        signal.raise_signal(signal.SIGINT)

    app.command()(lambda: None)  # one command alone is no group
    with pytest.raises(SystemExit) as left:
        app(["wait"])
    assert left.value.code == 130 and "Stopped by Ctrl-C" in capsys.readouterr().err


@pytest.mark.parametrize("steps", [1, 3])
def test_weights_that_are_no_numbers_are_never_saved(source, tmp_path, steps):
    """The loss tells of them a step later: too late for the last step, and for a checkpoint."""
    with pytest.raises(NonFinite, match="At step 1 .* norm of the weights"):
        train(source, tmp_path, steps=steps, lr=1e38, checkpoint_every=1)
    assert RunFolder(tmp_path).latest() is None


def test_metrics_are_json_whatever_became_of_the_loss(tmp_path):
    folder = RunFolder(tmp_path)
    folder.log([{"step": 1, "loss": 0.5}, {"step": 2, "loss": math.nan, "lr": 0.1}, {"step": 3, "loss": math.inf}])
    folder.cut_metrics(2)
    folder.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail)["loss"] for line in lines] == [0.5, None]
    assert [line["step"] for line in folder.metrics()] == [1, 2] and math.isnan(folder.metrics()[1]["loss"])
