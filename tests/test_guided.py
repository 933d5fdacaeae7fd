"""G-SimCLR: no two items of one pseudo class in a batch; the pseudo classes of an earlier stage; the stream of S020."""

import numpy as np
import pytest
import torch

from selftaught.contracts import Clock, Facts, OptionError, epoch_order, find
from selftaught.methods import GuidedSimCLR
from selftaught.methods.clusters import dealt_order
from selftaught.plan import make_plan
from selftaught.systems import find_proof
from selftaught.testing import draft, source_of, train


@pytest.mark.parametrize("batch", [5, 8, 13, 16])
def test_no_batch_up_to_the_number_of_clusters_has_two_of_one(batch):
    labels = np.random.default_rng(0).choice(16, 500, p=np.arange(1, 17) / 136)
    for epoch in range(3):
        order = dealt_order(labels, epoch_order(0, "train", epoch, 500))
        for start in range(0, 500 - batch + 1, batch):
            assert len(set(labels[order[start : start + batch]])) == batch


def test_a_larger_batch_has_as_few_of_one_as_can_be():
    labels = np.random.default_rng(0).choice(6, 500)
    order = dealt_order(labels, epoch_order(0, "train", 0, 500))
    for start in range(0, 500 - 20, 20):
        counts = np.bincount(labels[order[start : start + 20]], minlength=6)
        assert set(counts) == {3, 4}
    equal = np.arange(500) % 10
    assert np.array_equal(np.sort(dealt_order(equal, epoch_order(0, "train", 0, 500))), np.arange(500))  # all, where sizes allow it


def test_batches_of_a_run_follow_the_file_of_an_earlier_stage(tmp_path):
    source = source_of("table", 96)
    labels = np.random.default_rng(0).integers(0, 12, 96)
    np.save(tmp_path / "classes.npy", labels)
    plan = draft("g_simclr", "table", source, steps=8, batch_size=12, **{"method.labels": str(tmp_path / "classes.npy")})
    method, outcome = train(plan, source)
    assert np.array_equal(method.clusters.labels.numpy(), labels) and len(outcome.losses) == 8
    for epoch in range(2):
        order = method.order(epoch, epoch_order(plan["seed"], "train", epoch, 96))
        assert all(len(set(labels[order[i : i + 12]])) == 12 for i in range(0, 96, 12))


def test_wrong_pseudo_classes_are_refused():
    method = GuidedSimCLR(_backbone(), facts=Facts("table", 20, (3,)))
    for wrong in (np.zeros(19, int), np.zeros(20), np.zeros((20, 1), int)):
        with pytest.raises(OptionError, match="one an item"):
            method.guide(wrong)


def _backbone():
    source = source_of("table", 8)
    return make_plan(source, {"method": "simclr", "steps": 1, "device": "cpu"}).build_method().student.backbone


def test_without_a_file_its_own_clusters_guide_it():
    source = source_of("table", 128)
    method, _ = train(draft("g_simclr", "table", source, steps=4, **{"method.clusters": 16}), source)
    assert 8 < len(method.clusters.labels.unique()) <= 16


# ---- the stream of S020 ------------------------------------------------------------------------------------------------


def stream_method(name, epochs=3, steps=600):
    find_proof("S020").prepare()
    torch.manual_seed(0)
    method = find("method", name)(_backbone())
    method.clock = Clock(0, steps, 0, epochs, steps // epochs)
    return method


def test_an_epoch_of_the_stream_visits_one_set():
    from selftaught.systems.s020 import SIZES

    method, total = stream_method("s020_infinite"), sum(SIZES)
    bounds = np.cumsum((0, *SIZES))
    for epoch in range(3):
        order = method.order(epoch, epoch_order(0, "train", epoch, total))
        assert len(order) == total and order.min() >= bounds[epoch] and order.max() < bounds[epoch + 1]
        assert all(len(set(order[i : i + 64])) == 64 for i in range(0, total - 64, 64))


def test_the_rates_of_the_stream():
    rates = {n: [m.part(Clock(s, 600)) for s in range(600)] for n in ("s020_infinite", "s020_cosine", "s020_rewarmed")
             for m in [stream_method(n)]}
    infinite, cosine = rates["s020_infinite"], rates["s020_cosine"]
    assert max(infinite) == pytest.approx(1.0, abs=0.06) and set(infinite[130:530]) == {0.5} and infinite[-1] < 0.012
    assert cosine[:200] == cosine[200:400] == cosine[400:] and cosine[199] < 0.02 and max(cosine) > 0.99
    assert rates["s020_rewarmed"][:200] == rates["s020_rewarmed"][200:400] and rates["s020_rewarmed"][199] < 0.02


def test_a_cut_step_is_the_step_of_a_lower_rate():
    """AdamW at the peak, moved a part of the way, is AdamW at that part of the rate, moments and decay included."""
    torch.manual_seed(0)
    start, grads = torch.randn(7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    parts, ends = [0.3, 1.0, 0.05, 0.7, 0.5], []
    for cut in (True, False):
        p = torch.nn.Parameter(start.clone())
        optimiser = torch.optim.AdamW([p], lr=0.1, weight_decay=0.2)
        for grad, part in zip(grads, parts):
            before, p.grad = p.detach().clone(), grad.clone()
            optimiser.param_groups[0]["lr"] = 0.1 if cut else 0.1 * part
            optimiser.step()
            if cut:
                with torch.no_grad():
                    p.copy_(torch.lerp(before, p, part))
        ends.append(p.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_figure_of_a_stream(tmp_path, suffix):
    from selftaught.systems.s020 import plot_stream

    lines = [{"step": s + 1, "loss": 5 - s / 30, "lr": 1.0, "rate": s / 30} for s in range(30)]
    path = plot_stream({"a": (lines, np.eye(3)), "b": (lines, np.ones((3, 3)))}, tmp_path / f"stream.{suffix}")
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG" if suffix == "png" else b"<?xml") and len(content) > 5000
