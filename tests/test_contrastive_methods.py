"""The contrastive family: objectives against naive float64 loops, every method's equation on a tiny network, what must fail."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_network import TinyNet
from torch import nn
from torch.autograd import gradcheck

from selftaught import objectives as ob
from selftaught.contracts import Batch, Clock, Facts, OptionError, Pair, Patches, Terms, View, find
from selftaught.methods.moco import in_groups
from selftaught.networks import BatchNorm, Embedder, convert_batch_norm
from selftaught.testing import check_method

N, ITEMS, CLASSES = 12, 40, 3
TINY = {
    "dcl": {"width": 6, "hidden": 8},
    "moco_v2": {"width": 6, "hidden": 8, "queue": 24, "groups": 2},
    "moco_v3": {"width": 6, "hidden": 8},
    "npid": {"width": 6, "negatives": 9},
    "pirl": {"width": 6, "negatives": 9},
    "nnclr": {"width": 6, "hidden": 8, "predictor_hidden": 8, "queue": 24},
    "supcon": {"width": 6, "hidden": 8},
    "look": {"width": 6, "hidden": 8, "queue": 24, "neighbours": 5},
    "opera": {"width": 6, "hidden": 8},
}


def build(name, dtype=torch.float64, **options):
    torch.manual_seed(0)
    facts = Facts("series", ITEMS, (1, 8), classes=CLASSES)
    method = find("method", name).build(TinyNet(), facts, **{**TINY[name], **options})
    return convert_batch_norm(method.to(dtype)).train()


def views_for(method, seed=0):
    g = torch.Generator().manual_seed(seed)
    draw = lambda steps, role="global": View(torch.randn(N, 1, steps, generator=g, dtype=torch.float64), role=role)  # noqa: E731
    if isinstance(method.needs, Patches):
        return [draw(8), *(draw(3, "local") for _ in range(method.places))]
    return [draw(8) for _ in range(2 if isinstance(method.needs, Pair) else 1)]


def batch_of(step=0, y=None):
    order = torch.arange(N)
    return Batch({"x": torch.zeros(N, 1, 8)}, index=(order * 7 + step) % ITEMS, slot=order + step * N, epoch=torch.zeros(N).long(),
                 y=order % CLASSES if y is None else y)


def total(loss):
    return loss.total if isinstance(loss, Terms) else loss


def step_through(method, steps):
    """The method after `steps` batches, its memories filled."""
    for step in range(steps):
        method.loss(views_for(method, seed=step), batch_of(step))
        for memory in method.memories():
            memory.commit(Clock())
    return method


def cos(u, v):
    return (sum(a * b for a, b in zip(u, v)) / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v)))


def pair(n=8, d=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, dtype=torch.float64, generator=g)
    return a, a + 0.7 * torch.randn(n, d, dtype=torch.float64, generator=g)


# ---- objectives ----------------------------------------------------------------------------------------------------------


def test_noise_contrastive_is_the_papers_loop():
    positive, negatives, log_z, items = torch.randn(5).double(), 2 * torch.randn(5, 7).double(), torch.tensor(3.0).double(), 30
    expected = 0.0
    for s, others in zip(positive.tolist(), negatives.tolist()):
        h = [math.exp(v - 3.0) / (math.exp(v - 3.0) + 7 / items) for v in (s, *others)]
        expected -= (math.log(h[0]) + sum(math.log(1 - x) for x in h[1:])) / 5
    assert ob.noise_contrastive(positive, negatives, log_z, items).item() == pytest.approx(expected, rel=1e-12)


def test_weighted_decoupled_contrastive_is_the_papers_loop():
    a, b = pair()
    x, y, t, sigma = a.tolist(), b.tolist(), 0.3, 0.5
    z, n, loss = x + y, len(x), 0.0
    mean = sum(math.exp(cos(x[i], y[i]) / sigma) for i in range(n)) / n
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        w = 2 - math.exp(cos(z[i], z[j]) / sigma) / mean
        loss += (-w * cos(z[i], z[j]) / t + math.log(sum(math.exp(cos(z[i], z[k]) / t) for k in range(2 * n) if k not in (i, j)))) / n
    assert ob.decoupled_contrastive_weighted(a, b, temperature=t, sigma=sigma).item() == pytest.approx(loss, rel=1e-10)


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0, 0, 2], [0, -1, 0, 2, -1, 0, 1, 2]])
def test_supervised_contrastive_is_the_papers_loop(labels):
    a, b = pair()
    z, y, t = a.tolist() + b.tolist(), labels + labels, 0.2
    n, loss = len(labels), 0.0
    for i in range(2 * n):
        own = [p for p in range(2 * n) if p != i and (p % n == i % n or (y[p] == y[i] and y[i] >= 0))]
        below = sum(math.exp(cos(z[i], z[k]) / t) for k in range(2 * n) if k != i)
        loss -= sum(math.log(math.exp(cos(z[i], z[p]) / t) / below) for p in own) / len(own) / (2 * n)
    assert ob.supervised_contrastive(a, b, torch.tensor(labels), temperature=t).item() == pytest.approx(loss, rel=1e-10)


def test_supervised_contrastive_without_labels_is_half_of_nt_xent():
    a, b = pair()
    nobody = torch.full((8,), -1)
    torch.testing.assert_close(ob.supervised_contrastive(a, b, nobody, temperature=0.1), ob.nt_xent(a, b, temperature=0.1) / 2)


def naive_leave_one_out(q, keys, tags, k, t):
    """tags: (place, label) of the queries, then of all keys."""
    losses = []
    for i, row in enumerate(q):
        place, label = tags[i]
        others = [(cos(row, key), y) for key, (p, y) in zip(keys, tags) if p != place and y >= 0]
        others.sort(key=lambda o: -o[0])
        chosen = others[:k]
        if label >= 0 and any(y == label for _, y in others):
            if not any(y == label for _, y in chosen):
                chosen.append(next(o for o in others if o[1] == label))
            every, own = (sum(math.exp(s / t) for s, y in chosen if mine is None or y == mine) for mine in (None, label))
            losses.append(-math.log(own / every))
    return sum(losses) / len(losses) if losses else 0.0


@pytest.mark.parametrize("k", [1, 3, 6, 100])
def test_leave_one_out_is_the_papers_loop(k):
    g = torch.Generator().manual_seed(k)
    q, keys, memory = (torch.randn(n, 4, generator=g, dtype=torch.float64) for n in (6, 6, 14))
    tags = torch.tensor([[3, 0], [8, 1], [2, 0], [5, 2], [9, -1], [7, 1]])
    stored = torch.stack([torch.randint(0, 12, (14,), generator=g), torch.randint(-1, 3, (14,), generator=g)], 1)
    stored[-3:] = -1  # still empty
    expected = naive_leave_one_out(q.tolist(), torch.cat([keys, memory]).tolist(), torch.cat([tags, stored]).tolist(), k, 0.3)
    loss = ob.leave_one_out(q, keys, tags, memory, stored, neighbours=k, temperature=0.3)
    assert loss.item() == pytest.approx(expected, rel=1e-10)


def test_leave_one_out_is_zero_where_nobody_finds_one_of_its_label():
    q, keys = pair(4)
    q.requires_grad_()
    tags, nothing = torch.stack([torch.arange(4), torch.arange(4)], 1), torch.empty(0, 4).double()
    loss = ob.leave_one_out(q, keys, tags, nothing, torch.empty(0, 2).long(), neighbours=2, temperature=0.1)
    loss.backward()
    assert loss.item() == 0.0 and torch.equal(q.grad, torch.zeros_like(q))


def test_nearest_gives_rows_of_the_pool():
    z, pool = torch.randn(5, 4).double(), 3 * torch.randn(9, 4).double()
    wanted = [max(pool.tolist(), key=lambda row, u=u: cos(u, row)) for u in z.tolist()]
    torch.testing.assert_close(ob.nearest(z, pool), torch.tensor(wanted, dtype=torch.float64))


def test_gradients_are_right():
    a, b = (x.requires_grad_() for x in pair(6, 3))
    labels = torch.tensor([0, 1, 0, -1, 1, 1])
    tags = torch.stack([torch.arange(6), labels], 1)
    assert gradcheck(lambda u, v: ob.supervised_contrastive(u, v, labels, temperature=0.4), (a, b))
    assert gradcheck(lambda u, v: ob.leave_one_out(u, v, tags, v.detach(), tags + 6, neighbours=3, temperature=0.4), (a, b.detach()))
    assert gradcheck(lambda s: ob.noise_contrastive(s[:, 0], s[:, 1:], torch.tensor(1.0).double(), 20), (a,))


# ---- methods ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TINY)
def test_the_loss_reaches_every_trained_parameter_and_no_memory(name):
    method = step_through(build(name), 1)
    loss = total(method(views_for(method, 5), batch_of(5)))
    assert loss.shape == () and loss.isfinite()
    loss.backward()
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert not [n for n, p in trained.items() if p.grad is None or not p.grad.isfinite().all()]
    assert sum(p.grad.abs().sum() for n, p in trained.items() if n.startswith("student.backbone")) > 0
    assert not [n for m in method.memories() for n, p in m.named_parameters() if p.requires_grad or p.grad is not None]


@pytest.mark.parametrize("name", TINY)
def test_options_and_recipe(name):
    cls = find("method", name)
    method = build(name)
    assert set(TINY[name]) <= set(cls.options()) and "facts" not in cls.options()
    assert set(cls.small) <= {*cls.options(), *(f"training.{f}" for f in vars(cls.defaults))}
    for prefix in cls.defaults.groups:
        assert any(n.startswith(prefix + ".") for n, _ in method.named_parameters())


def test_dcl_is_simclr_with_another_denominator():
    views = views_for(build("dcl"))
    for weighted, expected in ((False, ob.decoupled_contrastive), (True, ob.decoupled_contrastive_weighted)):
        method = build("dcl", weighted=weighted, sigma=0.4)
        z = method.student(torch.cat([v.x for v in views]))  # both views share their statistics
        options = {"sigma": 0.4} if weighted else {}
        torch.testing.assert_close(method.loss(views, batch_of()), expected(z[:N], z[N:], temperature=0.1, **options))


def test_moco_v2_is_the_papers_formula():
    method = step_through(build("moco_v2", groups=1), 2)
    views, queue = views_for(method, 7), method.queue.rows().clone()
    q, k = method.student(views[0]), method.teacher(views[1])
    expected = 0.0
    for u, v in zip(q.tolist(), k.tolist()):
        below = sum(math.exp(cos(u, row) / 0.2) for row in (v, *queue.tolist()))
        expected -= math.log(math.exp(cos(u, v) / 0.2) / below) / N
    assert method.loss(views, batch_of()).item() == pytest.approx(expected, rel=1e-10)
    method.queue.commit(Clock())
    torch.testing.assert_close(method.queue.rows()[:N], F.normalize(k, dim=1))  # the third batch of twelve, in a ring of 24


def test_moco_v2_normalises_queries_and_keys_in_different_company():
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0)).double()
    norm, view = BatchNorm(3, affine=False).double(), View(x)
    network = lambda v: norm(v.x)  # noqa: E731
    for crosswise, members in ((False, lambda i: i % 4), (True, lambda i: (i + i // 4) % 4)):
        out = in_groups(view, network, 4, crosswise=crosswise)
        for group in range(4):
            rows = [i for i in range(16) if members(i) == group]
            torch.testing.assert_close(out[rows], (x[rows] - x[rows].mean(0)) / (x[rows].var(0, correction=0) + 1e-5).sqrt())
    company = [{j for j in range(16) if j % 4 == i % 4} & {j for j in range(16) if (j + j // 4 - i - i // 4) % 4 == 0} for i in range(16)]
    assert all(shared == {i} for i, shared in enumerate(company))  # no other item stays
    torch.testing.assert_close(in_groups(View(x[:9]), network, 4), norm(x[:9]))  # 4 does not divide 9: one group
    assert torch.equal(in_groups(View(x[:4]), network, 4), in_groups(View(x[:4]), network, 2))  # a sample alone has no statistics
    lengths = torch.arange(16)
    assert torch.equal(in_groups(View(x, lengths=lengths), lambda v: v.lengths, 4, crosswise=True), lengths)


def test_moco_v3_is_the_papers_formula():
    method = step_through(build("moco_v3", temperature=0.5), 1)
    views, expected = views_for(method, 3), 0.0
    for i, j in ((0, 1), (1, 0)):
        q, k = method.predictor(method.student(views[i])), method.teacher(views[j])
        for place, u in enumerate(q.tolist()):
            similar = [math.exp(cos(u, v) / 0.5) for v in k.tolist()]
            expected -= 2 * 0.5 * math.log(similar[place] / sum(similar)) / N
    assert method.loss(views, batch_of()).item() == pytest.approx(expected, rel=1e-10)
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_moco_v3_freezes_the_patches_of_a_token_backbone_only():
    facts = Facts("image", ITEMS, (1, 8, 8))
    vit = lambda: find("backbone", "vit_tiny")(facts, patch=4, width=12, depth=1)  # noqa: E731
    method = find("method", "moco_v3")(vit(), width=6, hidden=8)
    frozen = {n for n, p in method.named_parameters() if not p.requires_grad and not n.startswith("teacher")}
    assert frozen == {"student.backbone.embed.weight", "student.backbone.embed.bias"}
    assert sum(isinstance(m, nn.Linear) for m in method.student.head) == 3
    assert sum(isinstance(m, nn.Linear) for m in build("moco_v3").student.head) == 2
    free = find("method", "moco_v3")(vit(), width=6, hidden=8, frozen_patches=False)
    assert all(p.requires_grad for p in free.student.parameters())
    words = find("backbone", "text_transformer")(Facts("text", ITEMS, (16,), vocabulary=30), width=12, depth=1, heads=2)
    assert all(p.requires_grad for p in find("method", "moco_v3")(words, width=6, hidden=8).student.parameters())  # words are no patches


@pytest.mark.parametrize("proximal", [0.0, 3.0])
def test_npid_is_the_papers_formula(proximal):
    method = step_through(build("npid", proximal=proximal), 2)
    views, batch = views_for(method, 4), batch_of(4)
    v, f = F.normalize(method.student(views[0]), dim=1).tolist(), method.bank.rows().tolist()
    noise, log_z = batch.draws(0, "npid").integers("noise", ITEMS, 9).tolist(), method.partition.log_z.item()
    expected = 0.0
    for row, i, others in zip(v, batch.index.tolist(), noise):
        p = [math.exp(cos(row, f[j]) / 0.07 - log_z) for j in (i, *others)]
        h = [x / (x + 9 / ITEMS) for x in p]
        moved = sum((a - b) ** 2 for a, b in zip(row, f[i]))
        expected += (-math.log(h[0]) - sum(math.log(1 - x) for x in h[1:]) + proximal * moved) / N
    terms = method.loss(views, batch)
    assert terms.total.item() == pytest.approx(expected, rel=1e-8)
    before = method.bank.rows().clone()
    method.bank.commit(Clock())
    wanted = F.normalize(before[batch.index] + torch.tensor(v, dtype=torch.float64), dim=1)
    torch.testing.assert_close(method.bank.rows()[batch.index], wanted)


def test_the_noise_of_banks_is_of_the_item_not_of_its_place_in_the_batch():
    whole, half = batch_of(2), batch_of(2)
    half = Batch(half.fields, half.index[6:], half.slot[6:], half.epoch[6:], half.y[6:])
    draw = lambda b: b.draws(0, "pirl").integers("whole", ITEMS, 9)  # noqa: E731
    assert torch.equal(draw(whole)[6:], draw(half)) and not torch.equal(draw(whole), draw(batch_of(3)))


def test_pirl_is_the_papers_formula():
    method = step_through(build("pirl", patches=0.3), 1)
    views, batch = views_for(method, 4), batch_of(4)
    z, f, log_z = F.normalize(method.student(views[0]), dim=1), method.bank.rows(), method.partition.log_z.item()
    parts = torch.cat([v.x for v in views[1:]])  # statistics are joint over the patches
    parts = method.patch(method.student.backbone(parts).pooled).view(method.places, N, -1)
    order = batch.draws(0, "pirl").permutation("order", method.places).tolist()
    g = [method.puzzle(torch.cat([parts[p, i] for p in order[i]])) for i in range(N)]
    expected = 0.0
    for weight, rows, term in ((0.3, torch.stack(g), "patches"), (0.7, z, "whole")):
        noise = batch.draws(0, "pirl").integers(term, ITEMS, 9).tolist()
        for row, i, others in zip(rows.tolist(), batch.index.tolist(), noise):
            h = [p / (p + 9 / ITEMS) for p in (math.exp(cos(row, f[j].tolist()) / 0.07 - log_z) for j in (i, *others))]
            expected += weight * (-math.log(h[0]) - sum(math.log(1 - x) for x in h[1:])) / N
    terms = method.loss(views, batch)
    assert terms.total.item() == pytest.approx(expected, rel=1e-8) and set(terms.named) == {"of_patches", "of_whole"}


def test_pirl_has_a_place_for_every_patch():
    for shape, places in (((1, 8), 3), ((3, 9, 9), 9)):
        facts = Facts("any", ITEMS, shape)
        assert find("method", "pirl").build(TinyNet(), facts, width=4).places == places


def test_nnclr_is_the_papers_formula():
    method = step_through(build("nnclr"), 3)
    views, queue, expected = views_for(method, 9), method.queue.rows().tolist(), 0.0
    z = [method.student(v) for v in views]
    for a, b in ((0, 1), (1, 0)):
        p = method.predictor(z[b]).tolist()
        for place, row in enumerate(z[a].tolist()):
            neighbour = max(queue, key=lambda q, row=row: cos(row, q))
            similar = [math.exp(cos(neighbour, u) / 0.1) for u in p]
            expected -= math.log(similar[place] / sum(similar)) / N / 2
    assert method.loss(views, batch_of()).item() == pytest.approx(expected, rel=1e-10)
    method.queue.commit(Clock())
    torch.testing.assert_close(method.queue.rows()[N:], F.normalize(z[0], dim=1))  # the first view's; the fourth batch of twelve


def test_supcon_compares_classes_and_refuses_numbers():
    method, y = build("supcon"), torch.tensor([0, 1, 2, -1] * 3)
    views = views_for(method)
    z = method.student(torch.cat([v.x for v in views]))
    torch.testing.assert_close(method.loss(views, batch_of(y=y)), ob.supervised_contrastive(z[:N], z[N:], y, temperature=0.1))
    for name in ("supcon", "look", "opera"):
        with pytest.raises(OptionError, match="no classes"):
            find("method", name).build(TinyNet(), Facts("series", ITEMS, (1, 8)), **TINY[name])


def test_look_compares_with_queue_and_batch_but_not_with_itself():
    method = step_through(build("look"), 2)
    views, batch = views_for(method, 6), batch_of(6)
    z, keys = method.student(views[0]), method.teacher(views[1])
    rows, tags = method.queue.rows().clone(), method.tags.rows().long() - 1
    earlier = [torch.stack([batch_of(step).index, batch_of(step).y], 1) for step in (0, 1)]
    assert torch.equal(tags, torch.cat(earlier))
    own = torch.stack([batch.index, batch.y], 1)
    expected = naive_leave_one_out(z.tolist(), torch.cat([keys, rows]).tolist(), torch.cat([own, tags]).tolist(), 5, 0.1)
    assert method.loss(views, batch).item() == pytest.approx(expected, rel=1e-10)


def test_opera_is_half_moco_v3_and_half_cross_entropy_above_it():
    method, y = step_through(build("opera", temperature=0.5), 1), torch.tensor([0, 1, 2, -1] * 3)
    views = views_for(method, 3)
    queries = [method.predictor(method.student(v)) for v in views]
    keys = [method.teacher(v) for v in views]
    instance = sum(ob.info_nce(queries[i], keys[1 - i], temperature=0.5) for i in (0, 1))  # 2τ = 1
    classes = sum(F.cross_entropy(method.classifier(q)[y >= 0], y[y >= 0]) for q in queries)
    terms = method.loss(views, batch_of(y=y))
    torch.testing.assert_close(terms.total, 0.5 * instance + 0.5 * classes)
    assert set(terms.named) == {"instance", "classes"} and find("method", "opera").labelled


# ---- learning, and what must not learn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["moco_v2", "npid", "look"])
def test_two_processes_equal_one_and_runs_resume(name):
    checks = check_method(name, modalities=("table",), learns=False)
    assert {c.name for c in checks if c.holds} >= {"two processes equal one", "resume equals uninterrupted"}


class _Scattered(find("method", "npid")):
    """NPID that takes any row of the bank for an item's own: nothing is left to recognise."""

    name = "npid"

    def estimate(self, z, batch, term="noise"):
        strangers = batch.draws(0, "strangers").integers("own", self.bank.items)
        return super().estimate(z, Batch(**{**batch.__dict__, "index": strangers}), term)


def test_an_item_is_told_by_its_own_row_and_not_by_a_strangers():
    with pytest.raises(AssertionError, match="learns"):
        check_method(_Scattered, modalities=("table",), two_processes=False)


def test_embedder_of_heads_is_kept():
    for name in TINY:
        assert isinstance(build(name).kept(), TinyNet) and isinstance(build(name).student, Embedder)
