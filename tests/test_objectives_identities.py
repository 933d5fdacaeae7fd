"""Identities of the objectives: order, symmetry, precision, streamed = dense, two processes = one."""

import pytest
import torch
import torch.multiprocessing as mp
from test_objectives import PAIRED, pair

from selftaught import objectives as ob
from selftaught.objectives import streaming

ASYMMETRIC = {"info_nce", "negative_cosine", "koleo"}
LABELS = torch.tensor([0, -1, 2, 3, 1, -1, -1, -1, 0, 0, -1, 2])
DISTRIBUTED = [*PAIRED, "barlow_wide", "vicreg_wide"]


@pytest.mark.parametrize("name", PAIRED)
def test_order_of_the_items_does_not_matter(name):
    a, b = pair(12, 4)
    order = torch.randperm(12)
    torch.testing.assert_close(PAIRED[name](a[order], b[order]), PAIRED[name](a, b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [n for n in PAIRED if n not in ASYMMETRIC])
def test_symmetric_in_the_views(name):
    a, b = pair(12, 4)
    torch.testing.assert_close(PAIRED[name](b, a), PAIRED[name](a, b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", PAIRED)
def test_half_precision_in_single_precision_out(name):
    a, b = (x.bfloat16() for x in pair(32, 4))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = PAIRED[name](a, b)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(PAIRED[name](a.double(), b.double()).item(), rel=1e-4)
    assert ob.sinkhorn(a, iterations=3, epsilon=0.5).dtype == torch.float32


@pytest.mark.parametrize("kind", ["nt_xent", "decoupled_contrastive", "info_nce"])
def test_streaming_equals_dense_at_1024_pairs(kind, monkeypatch):
    a, b = (torch.randn(1024, 32, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    found = []
    for block in (1 << 24, 1 << 17):
        monkeypatch.setattr(streaming, "BLOCK", block)
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        loss = getattr(ob, kind)(x, y, temperature=0.1)
        loss.backward()
        found.append((loss.detach(), x.grad, y.grad))
    if kind == "nt_xent":
        x = a.clone().requires_grad_()
        z = torch.nn.functional.normalize(torch.cat([x, b]), dim=1)
        logits = (z @ z.T / 0.1).masked_fill(torch.eye(2048, dtype=torch.bool), -torch.inf)
        dense = 2 * torch.nn.functional.cross_entropy(logits, torch.arange(2048).roll(1024))
        dense.backward()
        found.append((dense.detach(), x.grad, found[0][2]))
    for other in found[1:]:
        for left, right in zip(found[0], other):
            assert (left - right).norm() <= 1e-5 * right.norm()


# ---------------------------------------------------------------- two processes are one


def losses_and_gradients(name, a, b):
    """Loss and gradient of a shared linear map, as DDP would see them."""
    weight = torch.eye(a.shape[1], dtype=torch.float64).add(0.1).requires_grad_()
    loss = PAIRED[{"barlow_wide": "barlow_twins", "vicreg_wide": "vicreg"}.get(name, name)](a @ weight, b @ weight)
    loss.backward()
    return loss.detach(), weight.grad


def distributed_inputs(name):
    return pair(6, 14) if name.endswith("_wide") else pair(12, 4)


def one_of_two(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = {}
    for name in DISTRIBUTED:
        a, b = (x.chunk(2)[rank] for x in distributed_inputs(name))
        found[name] = losses_and_gradients(name, a, b)
    scores, memory = pair(12, 4)
    found["sinkhorn"] = ob.sinkhorn(scores.chunk(2)[rank], iterations=3, epsilon=0.3)
    found["with_queue"] = ob.sinkhorn(scores.chunk(2)[rank], iterations=3, epsilon=0.3, memory=memory[:7])
    found["labelled"] = ob.cross_entropy_labelled(scores.chunk(2)[rank], LABELS.chunk(2)[rank])
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(one_of_two, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", DISTRIBUTED)
def test_two_processes_are_one(two, name):
    loss, gradient = losses_and_gradients(name, *distributed_inputs(name))
    torch.testing.assert_close((two[0][name][0] + two[1][name][0]) / 2, loss, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close((two[0][name][1] + two[1][name][1]) / 2, gradient, rtol=1e-9, atol=1e-9)


def test_sinkhorn_over_two_processes(two):
    scores, memory = pair(12, 4)
    for name, queue in (("sinkhorn", None), ("with_queue", memory[:7])):
        whole = ob.sinkhorn(scores, iterations=3, epsilon=0.3, memory=queue)
        torch.testing.assert_close(torch.cat([two[0][name], two[1][name]]), whole, rtol=1e-9, atol=1e-12)


def test_labelled_cross_entropy_over_two_processes(two):
    scores, _ = pair(12, 4)
    whole = torch.nn.functional.cross_entropy(scores[LABELS >= 0], LABELS[LABELS >= 0])
    torch.testing.assert_close(ob.cross_entropy_labelled(scores, LABELS), whole)
    torch.testing.assert_close((two[0]["labelled"] + two[1]["labelled"]) / 2, whole, rtol=1e-9, atol=1e-12)
