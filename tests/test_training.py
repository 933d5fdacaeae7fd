"""The engine: optimisers against naive loops, exact resume, interruptions, a full disk, collapse, several streams."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from selftaught.contracts import Clock, Collapsed, Cosine, Group, NonFinite, OptionError, SelftaughtError, Terms, Training
from selftaught.methods import Method
from selftaught.networks import Embedder, Mlp, over
from selftaught.objectives import nt_xent
from selftaught.plan import make_plan
from selftaught.sources import open_source
from selftaught.systems.s378 import prepare
from selftaught.training import LARS, RunFolder, Settings, Stream, build_optimiser, fit, load_checkpoint, save_checkpoint
from selftaught.training.optimisers import drop_frozen, rate_schedule, set_rates

SMALL = {"backbone.widths": (8, 16), "batch_size": 32, "log_every": 1, "precision": "32-true", "method.hidden": 32}


@pytest.fixture(scope="module")
def waves() -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(32) / 32
    x = np.sin(2 * np.pi * (2 + 3 * (np.arange(128) % 2))[:, None] * t + rng.uniform(0, 6, (128, 1)))
    return (x[:, None] + rng.normal(0, 0.3, (128, 2, 32))).astype(np.float32)


@pytest.fixture
def source(waves):
    return open_source(waves, layout="NCT")


def run(source, folder=None, *, method="simclr", steps=8, changes=None, **overrides):
    """Losses of one small run."""
    options = {**SMALL, "method": method, "steps": steps, **overrides}
    if method == "diet":
        options.pop("method.hidden")
    plan = make_plan(source, options)
    settings = Settings(**{**vars(plan.settings(progress=False)), **(changes or {})})
    opened = RunFolder(folder) if folder else None
    if opened:
        opened.open(resume=True)
    try:
        return fit(plan.build_method(), plan.stream(source), plan.training(), settings, folder=opened).losses
    finally:
        if opened:
            opened.close()


# ---- optimisers -----------------------------------------------------------------------------------------------------


def test_lars_equals_a_naive_loop():
    torch.manual_seed(0)
    w, b = nn.Parameter(torch.randn(5, 3, dtype=torch.float64)), nn.Parameter(torch.randn(5, dtype=torch.float64))
    mine = {"w": w.detach().clone(), "b": b.detach().clone()}
    groups = [{"params": [w], "adapt": True, "weight_decay": 0.1}, {"params": [b], "adapt": False, "weight_decay": 0.0}]
    optimiser = LARS(groups, lr=0.5, momentum=0.9, trust=0.02)
    moment = {"w": torch.zeros_like(w), "b": torch.zeros_like(b)}
    for _ in range(4):
        grads = {"w": torch.randn(5, 3, dtype=torch.float64), "b": torch.randn(5, dtype=torch.float64)}
        w.grad, b.grad = grads["w"].clone(), grads["b"].clone()
        optimiser.step()
        update = grads["w"] + 0.1 * mine["w"]
        update = update * 0.02 * mine["w"].norm() / update.norm()
        moment["w"] = 0.9 * moment["w"] + update
        moment["b"] = 0.9 * moment["b"] + grads["b"]
        mine["w"] -= 0.5 * moment["w"]
        mine["b"] -= 0.5 * moment["b"]
    torch.testing.assert_close(w.detach(), mine["w"], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(b.detach(), mine["b"], rtol=1e-12, atol=1e-12)


def test_groups_schedules_and_freezing():
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "last": nn.Linear(3, 2, bias=False)})
    training = Training(optimizer="adamw", lr=1.0, weight_decay=Cosine(0.1, 0.3), warmup=0,
                        groups={"last": Group(lr_scale=0.5, frozen_epochs=1.0), "a": Group(lr_constant=True)})
    optimiser = build_optimiser(model, training)
    start, late = Clock(0, 100, 0, 10, 10), Clock(50, 100, 5, 10, 10)
    rate = rate_schedule(training, 1.0, start)
    set_rates(optimiser, training, rate, late, 1.0)
    by_name = {n: g for g in optimiser.param_groups for n in g["names"]}
    assert by_name["last.weight"]["lr"] == pytest.approx(0.25)  # half of the cosine's half
    assert by_name["a.weight"]["lr"] == 1.0  # keeps the peak
    assert by_name["a.weight"]["weight_decay"] == pytest.approx(0.2) and by_name["a.bias"]["weight_decay"] == 0.0
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    before = model["last"].weight.detach().clone()
    drop_frozen(optimiser, start)
    optimiser.step()
    assert torch.equal(model["last"].weight, before) and not optimiser.state[model["last"].weight]
    model["last"].weight.grad = torch.ones_like(before)
    drop_frozen(optimiser, late)
    optimiser.step()
    assert not torch.equal(model["last"].weight, before)


def test_unknown_group_is_named():
    with pytest.raises(OptionError, match="nothing_here"):
        build_optimiser(nn.Linear(2, 2), Training(groups={"nothing_here": Group()}))


# ---- checkpoints and resuming -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["simclr", "byol", "swav", "diet"])
def test_resume_equals_uninterrupted_to_the_bit(source, tmp_path, method):
    whole = run(source, tmp_path / "whole", method=method)
    first = run(source, tmp_path / "cut", method=method, changes={"stop_after": 5})
    rest = run(source, tmp_path / "cut", method=method)
    assert len(whole) == 8 and whole == first + rest
    steps = [json.loads(line)["step"] for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 9))


def test_a_run_killed_before_its_first_checkpoint_starts_anew(source, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.open(resume=False)
    folder.log([{"step": 1, "loss": 99.0}, {"step": 2, "loss": 98.0}])
    folder.close()
    losses = run(source, tmp_path / "run")
    assert [line["loss"] for line in RunFolder(tmp_path / "run").metrics()] == losses


def test_a_folder_fitted_twice_keeps_all_lines_and_true_step_numbers(source, tmp_path):
    plan = make_plan(source, {**SMALL, "steps": 8})
    folder = RunFolder(tmp_path / "twice")
    folder.open(resume=False)
    go = lambda stop: fit(plan.build_method(), plan.stream(source), plan.training(),  # noqa: E731
                          replace(plan.settings(progress=False), stop_after=stop), folder=folder)
    go(4)
    go(None)
    go(3)  # a schedule that is over already
    assert [line["step"] for line in folder.metrics()] == [*range(1, 9)]
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["step-00000004", "step-00000008"]
    folder.close()


def test_a_stream_is_left_in_its_own_order(source):
    class Backwards(_NoGuards):
        def order(self, epoch, order):
            return order[::-1].copy()

    plan = make_plan(source, {**SMALL, "steps": 2})
    stream = plan.stream(source)
    before = next(stream.requests(0, 1, rank=0, world=1, accumulate=1))[2]
    settings = plan.settings(progress=False)
    fit(Backwards(plan.build_backbone()), stream, plan.training(), settings)
    np.testing.assert_array_equal(next(stream.requests(0, 1, rank=0, world=1, accumulate=1))[2], before)


def test_micro_batches_of_one_item_are_no_trouble(source):
    assert np.isfinite(run(source, method="diet", steps=3, batch_size=4, **{"training.accumulate": 4})).all()


def test_the_last_rate_is_at_most_the_peak():
    at = lambda step, **options: rate_schedule(Training(**options), 1e-3, Clock(0, 100, 0, 10, 10, 0))(Clock(step, 100, 9, 10, 10, 0))  # noqa: E731
    assert at(100, final_lr=1e-4) == pytest.approx(1e-4) and at(50, final_lr=1e-2) == at(100, final_lr=1e-2) == pytest.approx(1e-3)
    assert at(100, schedule="infinite") == pytest.approx(1e-5, rel=0.1) and at(100, schedule="infinite", final_lr=1e-6) < 2e-6


def test_the_gradient_is_clipped_to_its_norm(source):
    """With SGD and one step, weights move by lr × a gradient of at most the clip's norm, of all together or of each parameter."""
    moved = {}
    for clip, each in ((None, False), (0.01, False), (0.01, True)):
        plan = make_plan(source, {**SMALL, "method": "simclr", "steps": 1, "lr": 1.0, "training.optimizer": "sgd",
                                  "training.scale_lr": "off", "training.weight_decay": 0.0, "training.schedule": "constant",
                                  "training.clip": clip, "training.clip_each": each})
        method = plan.build_method()
        before = [p.detach().clone() for p in method.parameters()]
        fit(method, plan.stream(source), plan.training(), plan.settings(progress=False))
        moved[clip, each] = torch.stack([(p.detach() - b).norm() for p, b in zip(method.parameters(), before)])
    assert moved[0.01, False].norm().item() == pytest.approx(0.01, rel=1e-3) and moved[None, False].norm() > 0.05
    assert torch.allclose(moved[0.01, True], moved[None, False].clamp(max=0.01), rtol=1e-2, atol=1e-6)


def test_tensorboard_is_asked_for_by_name(source, tmp_path):
    with pytest.raises(OptionError, match="tensorboard"):
        run(source, tmp_path / "run", changes={"track": "tensorbord"})


def test_accumulation_keeps_the_items_of_a_step(source):
    assert len(run(source, **{"training.accumulate": 2})) == 8
    with pytest.raises(OptionError, match="multiple of 3"):
        run(source, **{"training.accumulate": 3})


def test_full_disk_leaves_the_last_checkpoint_whole(tmp_path):
    model = nn.Sequential(nn.Linear(64, 512), nn.Linear(512, 64))
    training = Training(optimizer="sgd")
    optimiser = build_optimiser(model, training)
    good = save_checkpoint(tmp_path, 1, model, optimiser, {"a": 1})
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        model[0].weight.add_(1.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # the disk ends in the middle of the file
    try:
        with pytest.raises(SelftaughtError, match="last whole checkpoint.*step-00000001"):
            save_checkpoint(tmp_path, 2, model, optimiser, {"a": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001"]
    assert load_checkpoint(good, model)["a"] == 1
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_run_folder_refuses_what_would_lose_work(source, tmp_path):
    run(source, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.write_decisions({})
    with pytest.raises(OptionError, match="--resume"):
        folder.open(resume=False)
    folder.open(resume=True)
    with pytest.raises(SelftaughtError, match="Another process"):
        RunFolder(tmp_path / "run").open(resume=True)
    folder.close()


SCRIPT = """
import sys, numpy as np, torch
import selftaught
x = np.load(sys.argv[1])
selftaught.pretrain(x, "simclr", layout="NCT", out=sys.argv[2], resume=True, steps=400, batch_size=32, progress=False,
                    log_every=1, checkpoint_every=7, seed=3, **{"backbone.widths": (8, 16), "method.hidden": 32})
"""


def _losses(folder: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines]


def _stopped(waves, tmp_path: Path, number: int, name: str) -> subprocess.Popen:
    """A run in a process of its own, sent `number` once it has logged twenty steps."""
    np.save(tmp_path / "x.npy", waves)
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "x.npy"), str(tmp_path / name)], stderr=subprocess.PIPE)
    metrics, deadline = tmp_path / name / "metrics.jsonl", time.time() + 90
    while time.time() < deadline and not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= 20):
        time.sleep(0.01)
    os.kill(process.pid, number)
    process.wait(60)
    return process


def test_kill_nine_then_resume_gives_the_same_losses(waves, tmp_path):
    killed = _stopped(waves, tmp_path, signal.SIGKILL, "killed")
    assert killed.returncode == -signal.SIGKILL
    assert len(_losses(tmp_path / "killed")) < 400  # it was cut, or this test shows nothing
    for name in ("killed", "whole"):
        subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "x.npy"), str(tmp_path / name)], check=True, timeout=120)
    assert _losses(tmp_path / "killed") == _losses(tmp_path / "whole")


def test_sigterm_saves_and_says_so(waves, tmp_path):
    process = _stopped(waves, tmp_path, signal.SIGTERM, "asked")
    assert b"Stopped by SIGTERM" in process.stderr.read() and list((tmp_path / "asked" / "checkpoints").glob("step-*"))


# ---- health ---------------------------------------------------------------------------------------------------------------


class _NoGuards(Method):
    """BYOL without predictor, teacher and stopped gradient: nothing keeps items apart."""

    def __init__(self, backbone, *, hidden: int = 32):
        super().__init__()
        self.student = Embedder(backbone, Mlp(backbone.width, hidden, 64))

    def loss(self, views, batch):
        a, b = (nn.functional.normalize(z, dim=1) for z in over(views, self.student))
        return 2 - 2 * (a * b).sum(1).mean()


def test_byol_without_predictor_and_teacher_is_stopped(tmp_path):
    prepare()  # registers BYOL without its guards
    digits = open_source("embedded:moved-digits/train")
    plan = make_plan(digits, {"method": "s378_no_predictor", "steps": 120, "backbone.widths": (16, 32, 64), "health_every": 5})
    folder = RunFolder(tmp_path / "run")
    folder.open(resume=False)
    with pytest.raises(Collapsed, match="point the same way.*Check that"):
        fit(plan.build_method(), plan.stream(digits), plan.training(), plan.settings(progress=False), folder=folder)
    folder.close()
    assert list(folder.checkpoints.iterdir())  # what there was is kept


def test_a_collapse_is_only_noted_where_asked(source):
    assert len(run(source, method=_NoGuards, steps=100, health_every=5, lr=0.1, stop_on_collapse=False)) == 100


class _Late(_NoGuards):
    """Draws everything to zero for half of the run, and apart in the other."""

    def loss(self, views, batch):
        z = torch.cat([self.student(v) for v in views])
        return z.square().sum(1).mean() if self.clock.progress < 0.5 else -z.std(0).log().mean()


class _Grounded(_Late):
    grounded = True


def test_a_plateau_of_what_predicts_the_data_is_passed_and_not_stopped(source):
    """Masked modelling begins with the same answer for every item. Where constants can be the solution it is a collapse."""
    def outcome(method, steps, stop_after=None):
        plan = make_plan(source, {**SMALL, "method": method, "steps": steps, "health_every": 5, "lr": 0.1})
        return fit(plan.build_method(), plan.stream(source), plan.training(), replace(plan.settings(progress=False), stop_after=stop_after))

    with pytest.raises(Collapsed, match="has collapsed"):
        outcome(_Late, 160)
    half = outcome(_Grounded, 160, stop_after=80).verdict
    assert half.kind == "plateau" and "does not tell items apart yet" in str(half) and "Train longer" in half.remedy
    whole = outcome(_Grounded, 160)
    assert len(whole.losses) == 160 and whole.verdict is None


class _Squeezed(nn.Module):
    """A head of 16 outputs of mean zero, of which all but the first are multiplied by `rest`."""

    def __init__(self, width, hidden):
        super().__init__()
        self.mlp, self.rest = Mlp(width, hidden, 16), 1.0

    def forward(self, x):
        z = self.mlp(x)
        z = z - z.mean(0)
        return torch.cat([z[:, :1], self.rest * z[:, 1:]], 1)


@pytest.mark.parametrize("rest", [1.0, 0.01])
def test_outputs_on_a_line_are_a_collapse(source, rest):
    """Both ways along a line, unit outputs are spread wider than least_spread."""
    class Line(Method):
        def __init__(self, backbone, *, hidden: int = 32):
            super().__init__()
            self.student = Embedder(backbone, _Squeezed(backbone.width, hidden))

        def loss(self, views, batch):
            self.student.head.rest = rest if self.clock.step >= 20 else 1.0
            return sum((self.student(v).std(0)[0] - 1).square() for v in views)

    plan = make_plan(source, {**SMALL, "method": Line, "steps": 100, "health_every": 5, "lr": 0.01})
    asked = plan.build_method(), plan.stream(source), plan.training(), plan.settings(progress=False)
    if rest == 1.0:
        assert fit(*asked).verdict is None
    else:
        with pytest.raises(Collapsed, match="the head's outputs of all items lie on a line .effective rank 1"):
            fit(*asked)


@pytest.mark.parametrize("term", ["error", "target_spread"])
def test_terms_of_a_method_do_not_hide_its_collapse(source, term):
    class Shrinking(_NoGuards):
        def loss(self, views, batch):
            loss = sum(self.student(v).square().sum(1).mean() for v in views)
            return Terms(loss, **{term: loss})

    with pytest.raises(Collapsed, match="point the same way"):
        run(source, method=Shrinking, steps=80, health_every=5, lr=0.1)


def test_what_a_method_draws_itself_follows_from_the_seed(source):
    """Of the same items, at the same step."""
    seen = {}

    class Drawing(_NoGuards):
        def loss(self, views, batch):
            seen.setdefault(self.clock.seed, (self.draws(batch.__class__({}, *[torch.arange(3)] * 3)).uniform("x"), self.clock.moment))
            return super().loss(views, batch)

    for seed in (0, 1):
        run(source, method=Drawing, steps=1, seed=seed)
    assert set(seen) == {0, 1} and not torch.equal(seen[0][0], seen[1][0]) and seen[0][1] != seen[1][1]


def test_a_non_finite_loss_is_named(source):
    class Broken(Method):
        def __init__(self, backbone):
            super().__init__()
            self.student = Embedder(backbone, Mlp(backbone.width, 16, 8))

        def loss(self, views, batch):
            a, b = over(views, self.student)
            return nt_xent(a, b, temperature=0.1) * (float("nan") if self.clock.step == 3 else 1.0)

    with pytest.raises(NonFinite, match="step 4.*loss"):
        plan = make_plan(source, {"method": Broken, "steps": 8, "batch_size": 32, "backbone.widths": (8, 16), "log_every": 1})
        fit(plan.build_method(), plan.stream(source), plan.training(), plan.settings(progress=False))


# ---- several streams -------------------------------------------------------------------------------------------------------


def test_two_named_streams(source, waves):
    """Labelled and unlabelled items in one loss: the first stream defines the epoch, the other cycles."""
    seen = []

    class Both(Method):
        labelled = True

        def __init__(self, backbone):
            super().__init__()
            self.student = Embedder(backbone, nn.Linear(backbone.width, 2))

        def loss(self, views, batch):
            seen.append((len(batch["unlabelled"]), batch["labelled"].index.tolist(), batch["labelled"].y))
            supervised = nn.functional.cross_entropy(self.student(views["labelled"][0]), batch["labelled"].y)
            a, b = over(views["unlabelled"], self.student)
            return supervised + (a - b).square().mean()

    labelled = open_source({"x": waves[:16], "y": np.arange(16) % 2}, layout="NCT")
    plan = make_plan(labelled, {"method": Both, "steps": 8, "batch_size": 8, "backbone.widths": (8, 16), "log_every": 1})
    few = plan.stream(labelled, name="labelled")
    loader = plan.stream(source, name="unlabelled") if source.labels is not None else None
    from selftaught.modalities import find_modality
    from selftaught.sources import Loader

    reader = loader or Loader(source, lambda items: find_modality("series").collate(items, plan.preprocessing), seed=0,
                              stream="unlabelled", num_workers=0, max_bad=0.01)
    many = Stream(reader, few.views, 32, len(source), 0, "unlabelled")
    outcome = fit(plan.build_method(), {"unlabelled": many, "labelled": few}, plan.training(), plan.settings(progress=False))
    assert len(outcome.losses) == 8 and all(n == 32 for n, *_ in seen)
    first_pass = sorted(seen[0][1] + seen[1][1])
    assert first_pass == list(range(16)) and sorted(seen[2][1] + seen[3][1]) == list(range(16))  # it cycles, reshuffled
    assert seen[0][1] != seen[2][1]
