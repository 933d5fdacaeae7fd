"""Methods on tiny networks and views made by hand: gradients, memories, and the papers' formulas."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_network import TinyNet

from selftaught.contracts import Batch, Clock, Facts, MultiCrop, Pair, Terms, Training, View, find, names
from selftaught.methods import BYOL, DIET, DINO, Method, SimCLR, Supervised, SwAV, VICReg
from selftaught.networks import Teacher, convert_batch_norm

N, CLASSES = 12, 3
TINY = {
    "simclr": {"width": 6},
    "byol": {"width": 6, "hidden": 8},
    "vicreg": {"width": 6, "hidden": 8},
    "swav": {"width": 6, "hidden": 8, "prototypes": 5, "queue": 16, "queue_epoch": 0},
    "dino": {"outputs": 7, "hidden": 8, "bottleneck": 6},
    "diet": {},
    "supervised": {},
}


def facts(classes=CLASSES):
    return Facts("series", 40, (1, 8), classes=classes)


def build(name, dtype=torch.float32, **options):
    torch.manual_seed(0)
    method = find("method", name).build(TinyNet(), facts(), **{**TINY[name], **options})
    return convert_batch_norm(method.to(dtype)).train()


def views_for(method, n=N, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda steps, role: View(torch.randn(n, 1, steps, generator=g, dtype=dtype), role=role)  # noqa: E731
    if isinstance(method.needs, MultiCrop):
        return [draw(8, "global") for _ in range(2)] + [draw(4, "local") for _ in range(3)]
    return [draw(8, "global") for _ in range(2 if isinstance(method.needs, Pair) else 1)]


def batch_of(n=N, y=None):
    order = torch.arange(n)
    labels = torch.arange(n) % CLASSES if y is None else y
    return Batch({"x": torch.zeros(n, 1, 8)}, index=(order * 7) % 40, slot=order, epoch=torch.zeros(n).long(), y=labels)


def total(loss):
    return loss.total if isinstance(loss, Terms) else loss


def commit(method, clock=None):
    for memory in method.memories():
        memory.commit(clock or method.clock)


@pytest.mark.parametrize("name", TINY)
def test_the_loss_is_a_scalar_and_reaches_every_trained_parameter(name):
    method = build(name)
    loss = total(method(views_for(method), batch_of()))
    assert loss.shape == () and loss.isfinite()
    loss.backward()
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    untouched = [n for n, p in trained.items() if p.grad is None or not p.grad.isfinite().all()]
    assert not untouched
    assert sum(p.grad.abs().sum() for n, p in trained.items() if n.startswith("student.backbone")) > 0
    for memory in method.memories():
        assert all(p.grad is None and not p.requires_grad for p in memory.parameters())


@pytest.mark.parametrize("name", [n for n in TINY if n != "dino"])  # as its centre moves, DINO's loss first rises
def test_it_learns_the_batch(name):
    method = build(name)
    views, batch = views_for(method), batch_of()
    optimiser = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for step in range(30):
        method.clock = Clock(step, 30, 0, 1, 30)
        loss = total(method(views, batch))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step()
        commit(method)
        losses.append(loss.detach())
    assert losses[-1] < losses[0] - 0.02 * losses[0].abs()


@pytest.mark.parametrize("name", TINY)
def test_options_and_recipe(name):
    method = find("method", name)
    assert method.name == name and issubclass(method, Method) and isinstance(method.defaults, Training)
    options, fields = method.options(), vars(method.defaults)
    assert set(TINY[name]) <= set(options) and "facts" not in options
    assert set(method.small) <= {*options, *(f"training.{f}" for f in fields)}
    trained = [n for n, p in build(name).named_parameters() if p.requires_grad]
    for prefix in method.defaults.groups:  # every group names parameters that exist
        assert any(n.startswith(prefix + ".") for n in trained)


def test_all_are_registered():
    assert set(TINY) <= set(names("method"))
    assert Supervised.labelled and not any(m.labelled for m in (BYOL, DIET, DINO, SimCLR, SwAV, VICReg))


@pytest.mark.parametrize("name", ["byol", "dino"])
def test_the_teacher_follows_the_student_at_commit(name):
    method = build(name, momentum=0.75)
    teacher = next(m for m in method.memories() if isinstance(m, Teacher))
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1.0)
    before = [p.clone() for p in teacher.module.parameters()]
    teacher.commit(Clock(step=0, steps=10))
    for old, new, source in zip(before, teacher.module.parameters(), method.student.parameters()):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * source)
    settled = [p.clone() for p in teacher.module.parameters()]
    teacher.commit(Clock(step=10, steps=10))  # momentum 1 at the end
    assert all(torch.equal(a, b) for a, b in zip(settled, teacher.module.parameters()))


def test_byol_is_the_papers_formula():
    method = build("byol", torch.float64, hidden=16)
    views = views_for(method, dtype=torch.float64)
    with torch.no_grad():
        for p in method.teacher.module.parameters():
            p.mul_(0.9)
        expected = 0.0
        for i, j in ((0, 1), (1, 0)):  # each view by itself: statistics of its own
            q = method.predictor(method.student(views[i]))
            z = method.teacher.module(views[j])
            for u, v in zip(q.tolist(), z.tolist()):
                dot = sum(a * b for a, b in zip(u, v))
                expected += (2 - 2 * dot / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))) / N
    assert method.loss(views, batch_of()).item() == pytest.approx(expected, rel=1e-10)


def depends_on_other_view(method, views):
    """Whether the head's output of the first view changes when the second view does."""
    seen = []
    method.student.head.register_forward_hook(lambda m, i, o: seen.append(o[: len(views[0].x)].detach().clone()))
    method.loss(views, batch_of())
    changed = [views[0], views[1].with_(x=3 * views[1].x + 1), *views[2:]]
    method.loss(changed, batch_of())
    half = len(seen) // 2
    return not torch.allclose(seen[0], seen[half])


@pytest.mark.parametrize("name, joint", [("simclr", True), ("swav", True), ("dino", True), ("byol", False), ("vicreg", False)])
def test_whose_batch_statistics(name, joint):
    method = build(name, torch.float64)
    assert depends_on_other_view(method, views_for(method, dtype=torch.float64)) == joint
    assert ("joint" in type(method).__doc__ or "both views together" in type(method).__doc__) == joint


def test_vicreg_reports_its_terms_and_takes_weights():
    method = build("vicreg", variance=0.0, invariance=2.0, covariance=3.0)
    terms = method.loss(views_for(method), batch_of())
    assert set(terms.named) == {"invariance", "variance", "covariance"}
    torch.testing.assert_close(terms.total, 2 * terms.named["invariance"] + 3 * terms.named["covariance"])


def test_swav_prototypes_are_unit_after_the_step():
    method = build("swav")
    with torch.no_grad():
        method.prototypes.weight.mul_(3.0)
    method.after_step()
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(5))


def test_swav_queues_hold_unit_projections_in_order():
    method = build("swav", queue=2 * N)
    taken = []
    for step in range(3):
        views = views_for(method, seed=step)
        embeddings = []
        handle = method.prototypes.register_forward_hook(lambda m, i, o, e=embeddings: e.append(i[0].detach()))
        method.loss(views, batch_of())
        handle.remove()
        taken.append(embeddings[0].split(N)[:2])
        commit(method)
    for view, queue in enumerate(method.queues):
        rows = queue.rows()  # a ring: the third batch lies where the first was
        torch.testing.assert_close(rows, torch.cat([taken[2][view], taken[1][view]]))
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(2 * N))


def test_swav_uses_the_queue_only_once_it_is_full_and_its_epoch_has_come():
    with_queue, without = build("swav", queue=N), build("swav", queue=0)
    for step in range(2):  # running BatchNorm statistics do not enter the loss
        views = views_for(without, seed=step)
        both = with_queue.loss(views, batch_of()), without.loss(views, batch_of())
        assert torch.allclose(*both) == (step == 0)
        commit(with_queue)
    late = build("swav", queue=N, queue_epoch=1)
    late.loss(views, batch_of())
    commit(late)
    assert late.queues[0].filled == 0


def test_swav_is_the_papers_formula():
    method = build("swav", torch.float64, queue=0)
    views = views_for(method, dtype=torch.float64)
    seen = []
    method.prototypes.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    loss = method.loss(views, batch_of())
    scores = seen[0].split(N)
    expected = []
    for t in range(2):
        q = torch.exp(scores[t] / 0.05).T
        q /= q.sum()
        for _ in range(3):
            q /= q.sum(1, keepdim=True) * len(q)
            q /= q.sum(0, keepdim=True) * N
        q = (q * N).T
        expected += [-(q * F.log_softmax(scores[s] / 0.1, 1)).sum(1).mean() for s in range(5) if s != t]
    torch.testing.assert_close(loss.detach(), torch.stack(expected).mean(), rtol=1e-8, atol=1e-10)


def test_dino_is_the_papers_formula_and_commits_its_centre():
    method = build("dino", torch.float64)
    views = views_for(method, dtype=torch.float64)
    method.centre.value.copy_(torch.linspace(-0.1, 0.1, 7))
    centre = method.centre.value.clone()
    students, teachers = [], []
    method.student.head.register_forward_hook(lambda m, i, o: students.extend(o.detach().split(N)))
    method.teacher.module.head.register_forward_hook(lambda m, i, o: teachers.extend(o.detach().split(N)))
    loss = method.loss(views, batch_of())
    assert len(students) == 5 and len(teachers) == 2
    expected = []
    for t in range(2):
        p = F.softmax((teachers[t] - centre) / 0.04, dim=1)
        expected += [-(p * F.log_softmax(students[s] / 0.1, 1)).sum(1).mean() for s in range(5) if s != t]
    torch.testing.assert_close(loss.detach(), torch.stack(expected).mean(), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(method.centre.value, centre)  # read now, moved at commit
    commit(method)
    torch.testing.assert_close(method.centre.value, 0.9 * centre + 0.1 * torch.cat(teachers).mean(0))


def test_dino_warms_its_temperature_and_keeps_the_teacher():
    method = build("dino", temperature_epochs=2.0)
    method.clock = Clock(step=10, steps=100, epochs=10, steps_per_epoch=10)
    assert method.at(method.teacher_temperature) == pytest.approx(0.055)
    assert method.kept() is method.teacher.module.backbone and method.kept() is not method.student.backbone


def test_diet_targets_are_the_places_in_the_source():
    method = build("diet", label_smoothing=0.0)
    views, batch = views_for(method), batch_of()
    logits = method.student(views[0])
    assert logits.shape == (N, 40)
    torch.testing.assert_close(method.loss(views, batch), F.cross_entropy(logits, batch.index))
    assert DIET.options() == {"label_smoothing": 0.8}


def test_supervised_classes_leave_out_the_unlabelled_and_numbers_are_standardised():
    method = build("supervised")
    views, batch = views_for(method), batch_of()
    batch.y[::2] = -1
    expected = F.cross_entropy(method.student(views[0])[1::2], batch.y[1::2])
    torch.testing.assert_close(method.loss(views, batch), expected)
    regression = Supervised.build(TinyNet(), facts(classes=None))
    y = 1e5 * torch.arange(N).float()
    z = (y - y.mean()) / y.std(correction=0)
    predicted = regression.student(views[0])[:, 0]
    torch.testing.assert_close(regression.loss(views, batch_of(y=y)), (predicted - z).square().mean())
