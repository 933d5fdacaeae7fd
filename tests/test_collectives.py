"""Two gloo processes give what one gives: collectives, BatchNorm, Queue, Centre. One pair of processes serves all tests."""

import pytest
import torch
import torch.distributed as dist

from selftaught import collectives
from selftaught.contracts import Clock, OptionError
from selftaught.networks import BatchNorm, Centre, Queue, over

WORLD, BATCH, WIDTH = 2, 6, 5


def inputs():
    """Two views [BATCH, WIDTH, 4] of the global batch, a weight for the loss, float64."""
    g = torch.Generator().manual_seed(7)
    return torch.randn(2, BATCH, WIDTH, 4, generator=g, dtype=torch.float64) * 3 + 100, torch.randn(
        WIDTH, 4, generator=g, dtype=torch.float64)


def normalise(views, weight):
    """A mean over samples of a non-linear function of two views through one BatchNorm; its gradients and running statistics."""
    norm = BatchNorm(WIDTH).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 1.5, WIDTH))
    views = views.clone().requires_grad_()
    outputs = over(list(views), norm)
    loss = sum((output * weight * (i + 1)).sin().mean() for i, output in enumerate(outputs))
    loss.backward()
    return {"loss": loss.detach(), "x": views.grad, "weight": norm.weight.grad, "bias": norm.bias.grad,
            **{name: buffer for name, buffer in norm.named_buffers()}}


def remember(rows):
    """A queue and a centre that were staged twice (micro-batches) before each of two commits."""
    queue, centre = Queue(9, 3).double(), Centre(3, 0.8).double()
    for step in range(2):
        for part in range(2):
            queue.stage(rows[step, part])
            centre.stage(rows[step, part])
        queue.commit(Clock())
        centre.commit(Clock())
    return {"rows": queue.rows(), "filled": queue.filled, "position": queue.position, "centre": centre.value}


def memory_rows():
    return torch.randn(2, 2, 4, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def work(rank, folder):
    """What each of the two processes computes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    try:
        found = {"world": collectives.world_size(), "rank": collectives.rank()}
        x = (torch.arange(6, dtype=torch.float64).view(3, 2) + 10 * rank).requires_grad_()
        factor = torch.arange(12, dtype=torch.float64).view(6, 2) * (rank + 1)
        for name, function, weight in (("gather", collectives.gather, factor), ("reduce", collectives.reduce, factor[:3]),
                                       ("mean", collectives.mean, factor[:3])):
            output = function(x)
            found[name] = output.detach()
            found[name + "_grad"], = torch.autograd.grad((output * weight).sum(), x)
        views, weight = inputs()
        mine = slice(rank * BATCH // WORLD, (rank + 1) * BATCH // WORLD)
        found["norm"] = normalise(views[:, mine], weight)
        found["memory"] = remember(memory_rows()[:, :, 2 * rank:2 * rank + 2])
        found["one_each"] = BatchNorm(2).double()(torch.tensor([[1.0, 5.0]], dtype=torch.float64) * (rank + 1)).detach()
        found["bf16"] = BatchNorm(2)(torch.randn(4, 2, 3, 3).bfloat16()).dtype == torch.bfloat16
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def test_one_process_is_the_identity():
    x = torch.randn(3, 2)
    assert collectives.world_size() == 1 and collectives.rank() == 0
    assert collectives.gather(x) is x and collectives.reduce(x) is x and collectives.mean(x) is x


def test_values(pair):
    x = torch.arange(6, dtype=torch.float64).view(3, 2)
    for rank, found in enumerate(pair):
        assert (found["world"], found["rank"]) == (WORLD, rank)
        assert torch.equal(found["gather"], torch.cat([x, x + 10]))
        assert torch.equal(found["reduce"], 2 * x + 10)
        assert torch.equal(found["mean"], x + 5)


def test_gradients_sum_over_processes(pair):
    factor = torch.arange(12, dtype=torch.float64).view(6, 2) * 3  # both processes' factors summed
    for rank, found in enumerate(pair):
        assert torch.equal(found["gather_grad"], factor[3 * rank:3 * rank + 3])
        assert torch.equal(found["reduce_grad"], factor[:3])
        assert torch.equal(found["mean_grad"], factor[:3] / 2)


def test_batch_norm_of_two_processes_equals_one(pair):
    one = normalise(*inputs())
    halves = [found["norm"] for found in pair]
    assert torch.allclose((halves[0]["loss"] + halves[1]["loss"]) / 2, one["loss"], rtol=0, atol=1e-12)
    assert torch.allclose(torch.cat([half["x"] for half in halves], dim=1) / WORLD, one["x"], rtol=0, atol=1e-9)
    for name in ("weight", "bias"):  # as DDP averages them
        assert torch.allclose((halves[0][name] + halves[1][name]) / 2, one[name], rtol=0, atol=1e-9)
    for half in halves:
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            assert torch.allclose(half[name], one[name], rtol=0, atol=1e-9)


def test_memories_of_two_processes_equal_one(pair):
    one = remember(memory_rows())
    for found in pair:
        for name, value in one.items():
            assert torch.allclose(found["memory"][name], value, rtol=0, atol=1e-12), name


def test_one_sample_a_process_is_a_batch_of_two(pair):
    expected = torch.tensor([[-1.0, -1.0]], dtype=torch.float64)
    for found, sign in zip(pair, (1, -1)):
        assert torch.allclose(found["one_each"], sign * expected, atol=1e-4)
        assert found["bf16"]
    with pytest.raises(OptionError, match="batch size"):
        BatchNorm(2)(torch.ones(1, 2))
