"""Bank and Partition against what they promise: read in the loss, staged there, committed afterwards in order."""

import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import Clock
from selftaught.networks import Bank, Partition
from selftaught.testing import GlooPair

CLOCK = Clock(step=5, steps=10)


def unit(n, d=4, seed=0):
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)


def test_rows_start_as_the_same_random_directions_everywhere():
    bank = Bank(7, 4)
    assert torch.equal(bank.rows(), Bank(7, 4).rows()) and not torch.equal(bank.rows(), Bank(7, 4, seed=1).rows())
    torch.testing.assert_close(bank.rows().norm(dim=1), torch.ones(7))
    index = torch.tensor([[3, 1], [0, 3]])
    assert torch.equal(bank.rows(index), bank.rows()[index]) and not bank.rows().requires_grad


def test_commit_moves_the_staged_rows_and_no_others():
    bank, before = Bank(7, 4, momentum=0.25).double(), Bank(7, 4).double().rows().clone()
    index, new = torch.tensor([4, 0, 5]), unit(3)
    bank.stage(index, new.requires_grad_())
    assert torch.equal(bank.rows(), before)
    bank.commit(CLOCK)
    for i in range(7):
        place = index.tolist().index(i) if i in index else None
        wanted = before[i] if place is None else F.normalize(0.25 * before[i] + 0.75 * new[place].detach(), dim=0)
        torch.testing.assert_close(bank.rows()[i], wanted)
    settled = bank.rows().clone()
    bank.commit(CLOCK)  # nothing staged: nothing changes
    assert torch.equal(bank.rows(), settled)


def test_of_an_item_seen_twice_the_last_counts():
    bank, before = Bank(5, 4, momentum=0.5).double(), Bank(5, 4).double().rows().clone()
    new = unit(5)
    bank.stage(torch.tensor([2, 0, 2]), new[:3])  # within a batch
    bank.stage(torch.tensor([1, 0]), new[3:])  # and in the next micro-batch
    bank.commit(CLOCK)
    for item, row in ((2, 2), (1, 3), (0, 4)):
        torch.testing.assert_close(bank.rows()[item], F.normalize(before[item] + new[row], dim=0))
    assert torch.equal(bank.rows()[3:], before[3:])


def test_it_resumes_from_its_state():
    first, second = Bank(6, 3), Bank(6, 3, seed=9)
    first.stage(torch.tensor([1, 2]), unit(2, 3).float())
    first.commit(CLOCK)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.rows(), second.rows())


@pytest.mark.parametrize("items", [6, 40])  # all products at once, and gathered rows
def test_scores_are_products_with_the_rows_of_places(items):
    bank, z = Bank(items, 4).double(), unit(3).requires_grad_()
    places = torch.tensor([[0, 5, 1, 1], [2, 2, 3, 4], [5, 0, 0, 1]])
    scores = bank.scores(z, places)
    expected = torch.tensor([[sum(a * b for a, b in zip(z[i].tolist(), bank.rows()[p].tolist())) for p in row]
                             for i, row in enumerate(places.tolist())], dtype=torch.float64)
    torch.testing.assert_close(scores, expected)
    scores.sum().backward()
    torch.testing.assert_close(z.grad, bank.rows()[places].sum(1))


def test_the_partition_is_that_of_the_first_step():
    partition, scores = Partition(50).double(), 3 * unit(6)
    first = partition.value(scores)
    torch.testing.assert_close(first, torch.log(50 * scores.exp().mean()))
    assert not partition.known
    partition.commit(CLOCK)
    torch.testing.assert_close(partition.value(scores + 2), first)
    partition.commit(CLOCK)
    torch.testing.assert_close(partition.log_z, first)
    again = Partition(50).double()
    again.load_state_dict(partition.state_dict())
    torch.testing.assert_close(again.value(scores - 1), first)


def _share(world):
    """What one of `world` processes sees of 8 rows."""
    from selftaught.collectives import rank

    each = 8 // world
    mine = slice(rank() * each, (rank() + 1) * each)
    bank, partition = Bank(6, 4).double(), Partition(6).double()
    index, new = torch.tensor([3, 1, 4, 0, 3, 5, 4, 3]), unit(8)
    value = partition.value(bank.scores(new[mine], index[mine, None]))
    bank.stage(index[mine], new[mine])
    for memory in (bank, partition):
        memory.commit(CLOCK)
    return bank.rows(), partition.log_z, value


def test_two_processes_equal_one():
    for alone, pair in zip(_share(1), GlooPair.shared().run(_share, 2)):
        torch.testing.assert_close(alone, pair, rtol=0, atol=1e-12)
