"""Teacher, Queue and Centre against what they promise: read in the loss, staged there, committed afterwards."""

import copy

import pytest
import torch
from torch import nn

from selftaught.contracts import Clock, Cosine, OptionError
from selftaught.networks import BatchNorm, Centre, Memory, Queue, Teacher

CLOCK = Clock(step=5, steps=10)


class Two(nn.Module):
    """A method's skeleton: a student and its teacher."""

    def __init__(self):
        super().__init__()
        self.student = nn.Sequential(nn.Linear(3, 4), BatchNorm(4), nn.Linear(4, 2))
        self.teacher = Teacher(self.student, momentum=Cosine(0.9, 1.0))


def test_teacher_is_a_frozen_copy_out_of_sight():
    method = Two()
    trainable = [name for name, p in method.named_parameters() if p.requires_grad]
    assert trainable == [f"student.{name}" for name, _ in method.student.named_parameters()]
    assert sorted(method.state_dict()) == sorted([f"student.{n}" for n in method.student.state_dict()]
                                                 + [f"teacher.module.{n}" for n in method.student.state_dict()])
    x = torch.randn(5, 3)
    assert torch.equal(method.teacher(x), method.student(x)) and not method.teacher(x).requires_grad


def test_teacher_moves_by_the_schedule_at_commit_only():
    method = Two()
    before = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, method.teacher.parameters()))
    method.teacher.commit(CLOCK)
    for old, new in zip(before, method.teacher.parameters()):
        assert torch.allclose(new, 0.95 * old + 0.05 * (old + 1), atol=1e-6)


def test_teacher_keeps_batch_statistics_of_its_own():
    method, x = Two(), torch.randn(5, 3) + 4
    method.teacher(x)
    assert int(method.teacher.module[1].num_batches_tracked) == 1 and int(method.student[1].num_batches_tracked) == 0
    seen = method.teacher.module[1].running_mean.clone()
    method.teacher.commit(CLOCK)
    assert torch.equal(method.teacher.module[1].running_mean, seen)
    method.eval()
    assert torch.equal(method.teacher(x[:1]), method.teacher(x)[:1])


def test_a_teacher_drops_nothing_and_keeps_batch_statistics():
    student = nn.Sequential(nn.Linear(3, 64), nn.Dropout(0.5), BatchNorm(64))
    teacher, x = Teacher(student, 0.9), torch.randn(8, 3)
    for network in (teacher, teacher.train(), copy.deepcopy(teacher).train()):
        out = network(x)
        assert torch.equal(out, network(x)) and out.mean(0).abs().max() < 1e-5  # normalised by this batch
    assert not torch.equal(student(x), student(x)) and student[1].training


def test_a_copy_of_the_method_links_its_own_parts():
    first = Two()
    second = copy.deepcopy(first)
    with torch.no_grad():
        for p in first.student.parameters():
            p.add_(1.0)
        for p in second.student.parameters():
            p.mul_(0.0)
    before = [p.clone() for p in second.teacher.parameters()]
    second.teacher.commit(CLOCK)
    for old, new in zip(before, second.teacher.parameters()):
        assert torch.allclose(new, 0.95 * old, atol=1e-6)
    assert second.teacher._source[0] is second.student


def test_queue_is_first_in_first_out():
    queue, kept = Queue(7, 2), []
    start = queue.rows().clone()
    assert torch.allclose(start.norm(dim=1), torch.ones(7)) and torch.equal(start, Queue(7, 2).rows())
    assert not torch.equal(start, Queue(7, 2, seed=1).rows()) and not Queue(7, 2, random=False).rows().any()
    for step in range(5):
        rows, before = torch.randn(3, 2, requires_grad=True), queue.rows().clone()
        queue.stage(rows)
        assert torch.equal(queue.rows(), before)
        kept += list(rows.detach())
        if step == 2:
            continue  # a micro-batch: two stages before one commit
        queue.commit(CLOCK)
        newest = kept[-7:]
        assert int(queue.filled) == len(newest)
        places = [i % 7 for i in range(len(kept) - len(newest), len(kept))]
        assert torch.equal(queue.rows()[places], torch.stack(newest))
        assert not queue.rows().requires_grad


def test_queue_takes_more_rows_than_it_has_and_resumes():
    queue, rows = Queue(4, 2), torch.randn(10, 2)
    queue.stage(rows)
    queue.commit(CLOCK)
    assert torch.equal(queue.rows()[[2, 3, 0, 1]], rows[6:]) and int(queue.position) == 2
    again = Queue(4, 2)
    again.load_state_dict(queue.state_dict())
    for each in (queue, again):
        each.stage(rows[:3])
        each.commit(CLOCK)
    assert torch.equal(queue.rows(), again.rows())
    queue.commit(CLOCK)  # nothing staged: nothing changes
    assert torch.equal(queue.rows(), again.rows())


def test_centre_is_the_moving_mean_of_all_rows():
    centre, parts = Centre(3, 0.9).double(), [torch.randn(4, 3).double(), torch.randn(2, 2, 3).double()]
    for part in parts:
        centre.stage(part.requires_grad_())
    assert not centre.value.any()
    centre.commit(CLOCK)
    rows = torch.cat([part.detach().reshape(-1, 3) for part in parts])
    assert torch.allclose(centre.value, 0.1 * rows.mean(0), atol=1e-12)
    centre.stage(rows[:1])
    centre.commit(CLOCK)
    assert torch.allclose(centre.value, 0.09 * rows.mean(0) + 0.1 * rows[0], atol=1e-12)


def test_a_memory_must_say_what_it_remembers():
    with pytest.raises(NotImplementedError, match="remembers"):
        Memory().commit(CLOCK)


@pytest.mark.parametrize("momentum", [5.0, -0.1, Cosine(0.9, 1.1)])
def test_a_momentum_outside_of_0_to_1_is_refused(momentum):
    with pytest.raises(OptionError, match="momentum of .* between 0 and 1"):
        Teacher(nn.Linear(2, 2), momentum)
