"""Objectives against naive float64 loops and closed forms, and their gradients against finite differences."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from selftaught import objectives as ob
from selftaught.contracts import OptionError
from selftaught.objectives import margin, pretext, streaming

torch.manual_seed(0)
PAIRED = {
    "nt_xent": lambda a, b: ob.nt_xent(a, b, temperature=0.3),
    "decoupled_contrastive": lambda a, b: ob.decoupled_contrastive(a, b, temperature=0.3),
    "info_nce": lambda a, b: ob.info_nce(a, b, temperature=0.3),
    "negative_cosine": ob.negative_cosine,
    "barlow_twins": lambda a, b: ob.barlow_twins(a, b, off_diagonal_weight=0.0051),
    "vicreg": lambda a, b: ob.vicreg(a, b, invariance=25.0, variance=25.0, covariance=1.0),
    "whitening_mse": ob.whitening_mse,
    "koleo": lambda a, b: ob.koleo(a),
}


def pair(n=8, d=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, dtype=torch.float64, generator=g)
    return a, a + 0.7 * torch.randn(n, d, dtype=torch.float64, generator=g)


def rows(x):
    return [[float(v) for v in row] for row in x]


def dot(u, v):
    return sum(p * q for p, q in zip(u, v))


def cos(u, v):
    return dot(u, v) / math.sqrt(dot(u, u) * dot(v, v))


# ---------------------------------------------------------------- naive loops, written from the papers


def naive_contrastive(a, b, t, *, decoupled):
    a, b = rows(a), rows(b)
    z, n = a + b, len(a)
    loss = 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        out = {i, j} if decoupled else {i}
        below = sum(math.exp(cos(z[i], z[k]) / t) for k in range(2 * n) if k not in out)
        loss += -math.log(math.exp(cos(z[i], z[j]) / t) / below)
    return loss / n  # the sum of the two sides' means


def naive_info_nce(q, k, negatives, t):
    q, k = rows(q), rows(k)
    loss = 0.0
    for i in range(len(q)):
        positive = math.exp(cos(q[i], k[i]) / t)
        others = [k[j] for j in range(len(k)) if j != i] if negatives is None else rows(negatives)
        loss -= math.log(positive / (positive + sum(math.exp(cos(q[i], o) / t) for o in others)))
    return loss / len(q)


def column_means(x):
    return [sum(r[d] for r in x) / len(x) for d in range(len(x[0]))]


def covariance_of(x, y, divisor):
    x, y = rows(x), rows(y)
    mx, my = column_means(x), column_means(y)
    size = range(len(x[0]))
    return [[sum((p[i] - mx[i]) * (q[j] - my[j]) for p, q in zip(x, y)) / divisor for j in size] for i in size]


def naive_barlow(a, b, weight):
    n = len(a)
    va, vb = covariance_of(a, a, n), covariance_of(b, b, n)
    c = covariance_of(a, b, n)
    loss = 0.0
    for i in range(len(c)):
        for j in range(len(c)):
            r = c[i][j] / math.sqrt((va[i][i] + 1e-5) * (vb[j][j] + 1e-5))
            loss += (1 - r) ** 2 if i == j else weight * r**2
    return loss


def naive_vicreg(a, b):
    n, d = a.shape
    invariance = sum((p - q) ** 2 for r, s in zip(rows(a), rows(b)) for p, q in zip(r, s)) / (n * d)
    variance = covariance = 0.0
    for x in (a, b):
        c = covariance_of(x, x, n - 1)
        variance += sum(max(0.0, 1 - math.sqrt(c[i][i] + 1e-4)) for i in range(d)) / d / 2
        covariance += sum(c[i][j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    return 25 * invariance + 25 * variance + covariance


def naive_whitening(a, b):
    def whitened(x):
        c = torch.tensor(covariance_of(x, x, len(x) - 1), dtype=torch.float64)
        d = len(c)
        low = [[0.0] * d for _ in range(d)]
        for i in range(d):
            for j in range(i + 1):
                rest = float(c[i, j]) - sum(low[i][k] * low[j][k] for k in range(j))
                low[i][j] = math.sqrt(rest) if i == j else rest / low[j][j]
        mean, out = column_means(rows(x)), []
        for row in rows(x):
            y = []
            for i in range(d):  # forward substitution
                y.append((row[i] - mean[i] - sum(low[i][k] * y[k] for k in range(i))) / low[i][i])
            out.append(y)
        return out

    wa, wb = whitened(a), whitened(b)
    return sum(2 - 2 * cos(u, v) for u, v in zip(wa, wb)) / len(wa)


def naive_koleo(z):
    z = [[v / math.sqrt(dot(r, r)) for v in r] for r in rows(z)]
    loss = 0.0
    for i, u in enumerate(z):
        nearest = min((v for j, v in enumerate(z) if j != i), key=lambda v: sum((p - q) ** 2 for p, q in zip(u, v)))
        loss -= math.log(math.sqrt(sum((p - q + 1e-8) ** 2 for p, q in zip(u, nearest))) + 1e-8)
    return loss / len(z)


def naive_sinkhorn(scores, iterations, epsilon):
    q = [[math.exp(v / epsilon) for v in r] for r in rows(scores)]
    n, k = len(q), len(q[0])
    for _ in range(iterations):
        for j in range(k):
            mass = sum(q[i][j] for i in range(n))
            for i in range(n):
                q[i][j] /= k * mass
        for i in range(n):
            mass = sum(q[i])
            q[i] = [v / (n * mass) for v in q[i]]
    return torch.tensor([[v / sum(r) for v in r] for r in q], dtype=torch.float64)


NAIVE = {
    "nt_xent": lambda a, b: naive_contrastive(a, b, 0.3, decoupled=False),
    "decoupled_contrastive": lambda a, b: naive_contrastive(a, b, 0.3, decoupled=True),
    "info_nce": lambda a, b: naive_info_nce(a, b, None, 0.3),
    "negative_cosine": lambda a, b: -sum(cos(u, v) for u, v in zip(rows(a), rows(b))) / len(a),
    "barlow_twins": lambda a, b: naive_barlow(a, b, 0.0051),
    "vicreg": naive_vicreg,
    "whitening_mse": naive_whitening,
    "koleo": lambda a, b: naive_koleo(a),
}


@pytest.mark.parametrize("name", PAIRED)
def test_equals_the_naive_loop(name):
    a, b = pair(9, 4)
    assert PAIRED[name](a, b).item() == pytest.approx(NAIVE[name](a, b), rel=1e-10)


@pytest.mark.parametrize("name", ["barlow_twins", "vicreg"])
def test_more_dimensions_than_samples(name):
    a, b = pair(4, 11)
    assert PAIRED[name](a, b).item() == pytest.approx(NAIVE[name](a, b), rel=1e-10)


COMPARING = {
    **{name: PAIRED[name] for name in ("nt_xent", "decoupled_contrastive", "info_nce", "barlow_twins", "vicreg", "koleo")},
    "decoupled_contrastive of": lambda a, b: ob.decoupled_contrastive_weighted(a, b, temperature=0.3, sigma=0.5),
    "supervised_contrastive": lambda a, b: ob.supervised_contrastive(a, b, torch.zeros(len(a), dtype=torch.long), temperature=0.3),
    "margin_nt_xent": lambda a, b: margin.margin_nt_xent(a, b, temperature=0.3, margin=0.1),
    "margin_info_nce": lambda a, b: margin.margin_info_nce(a, b, temperature=0.3, margin=0.1),
    "graph_nt_xent": lambda a, b: ob.graph_nt_xent(torch.cat([a, b]), ob.relations(torch.arange(len(a)).repeat(2)), temperature=0.3),
    "graph_spectral": lambda a, b: ob.graph_spectral(torch.cat([a, b]), ob.relations(torch.arange(len(a)).repeat(2))),
    "interplay_loss": lambda a, b: ob.interplay_loss(a, b),
    "sinkhorn": lambda a, b: ob.sinkhorn(a, iterations=3, epsilon=0.5),
    "sigreg": lambda a, b: ob.sigreg(a, torch.eye(4, dtype=a.dtype)),
    "shifted_pairs": lambda a, b: pretext.shifted_pairs([a, b])[0],
    "deviation_hinge": lambda a, b: pretext.deviation_hinge(a),
}


@pytest.mark.parametrize("name", COMPARING)
def test_what_compares_items_refuses_one(name):
    assert COMPARING[name](*pair(2)).isfinite().all()
    with pytest.raises(OptionError, match=f"{name.split()[0]} compares the items of a batch.*batch_size or lower training.accumulate"):
        COMPARING[name](*pair(1))


def test_against_a_memory_one_item_will_do():
    a, b = pair(1)
    memory = pair(6)[0]
    assert ob.info_nce(a, b, memory, temperature=0.3).isfinite() and margin.margin_info_nce(a, b, memory, temperature=0.3, margin=0.1) > 0
    assert ob.sinkhorn(a, iterations=3, epsilon=0.5, memory=memory).shape == (1, 4)


def test_info_nce_with_a_queue():
    q, k = pair()
    negatives, _ = pair(13, 4, seed=5)
    expected = naive_info_nce(q, k, negatives, 0.2)
    assert ob.info_nce(q, k, negatives, temperature=0.2).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_sinkhorn_equals_the_naive_loop(iterations):
    scores, _ = pair(7, 5)
    q = ob.sinkhorn(scores, iterations=iterations, epsilon=0.3)
    torch.testing.assert_close(q, naive_sinkhorn(scores, iterations, 0.3), rtol=1e-10, atol=1e-12)


def test_sinkhorn_with_a_queue():
    scores, queue = pair(7, 5)
    whole = naive_sinkhorn(torch.cat([scores, queue]), 3, 0.3)[:7]
    options = dict(iterations=3, epsilon=0.3)
    torch.testing.assert_close(ob.sinkhorn(scores, memory=queue, **options), whole, rtol=1e-10, atol=1e-12)
    empty = ob.sinkhorn(scores, memory=1e3 * queue, memory_mass=torch.tensor(False), **options)
    torch.testing.assert_close(empty, ob.sinkhorn(scores, **options), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("name", [n for n in PAIRED if n != "negative_cosine"])
@pytest.mark.parametrize("block", [streaming.BLOCK, 40])
def test_gradients(name, block, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK", block)  # 40: many small blocks of rows
    a, b = (x.requires_grad_() for x in pair(7, 3))
    assert gradcheck(PAIRED[name], (a, b))


def test_gradients_of_a_queue_and_a_learned_temperature():
    q, k = pair(5, 3)
    inputs = [x.requires_grad_() for x in (q, k, pair(6, 3, seed=3)[0], torch.tensor(0.4, dtype=torch.float64))]
    assert gradcheck(lambda q, k, n, t: ob.info_nce(q, k, n, temperature=t), inputs)
    assert gradcheck(lambda q, k, t: ob.nt_xent(q, k, temperature=t), [inputs[0], inputs[1], inputs[3]])


def test_gradients_of_a_wide_batch():
    a, b = (x.requires_grad_() for x in pair(3, 7))
    assert gradcheck(PAIRED["vicreg"], (a, b)) and gradcheck(PAIRED["barlow_twins"], (a, b))


def test_no_gradient_reaches_the_target_of_negative_cosine():
    p, z = (x.requires_grad_() for x in pair())
    ob.negative_cosine(p, z).backward()
    assert z.grad is None and p.grad.abs().sum() > 0
    assert gradcheck(lambda p: ob.negative_cosine(p, z), (p,))


# ---------------------------------------------------------------- closed forms


def test_nt_xent_of_orthogonal_items():
    n, t = 6, 0.5
    z = 3 * torch.eye(n, dtype=torch.float64)
    each = -1 / t + math.log(math.exp(1 / t) + 2 * (n - 1))
    assert ob.nt_xent(z, z, temperature=t).item() == pytest.approx(2 * each)
    assert ob.decoupled_contrastive(z, z, temperature=t).item() == pytest.approx(2 * (math.log(2 * (n - 1)) - 1 / t))
    assert ob.info_nce(z, z, temperature=t).item() == pytest.approx(-1 / t + math.log(math.exp(1 / t) + n - 1))


def test_decoupled_is_nt_xent_without_the_positive_below():
    a, b = pair()
    t, total = 0.3, 0.0
    unit = torch.nn.functional.normalize
    z, swapped = torch.cat([unit(a), unit(b)]), torch.cat([unit(b), unit(a)])
    for i in range(16):  # log Σ_{k ∉ {i, j}} = log(Σ_{k ≠ i} − positive)
        logits = torch.cat([z[:i], z[i + 1 :]]) @ z[i] / t
        positive = z[i] @ swapped[i] / t
        total += torch.log(logits.exp().sum() - positive.exp()) - torch.logsumexp(logits, 0)
    difference = ob.decoupled_contrastive(a, b, temperature=t) - ob.nt_xent(a, b, temperature=t)
    assert difference.item() == pytest.approx(total.item() / 8)


def orthogonal_columns(n=16, d=5):
    x = torch.randn(n, d + 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x[:, 0] = 1  # the rest becomes orthogonal to the mean
    return torch.linalg.qr(x).Q[:, 1:] * math.sqrt(n)


def test_barlow_of_decorrelated_equal_views_is_zero():
    z = orthogonal_columns() * 1e3  # far above BatchNorm's epsilon
    assert ob.barlow_twins(z, z, off_diagonal_weight=0.0051).item() == pytest.approx(0, abs=1e-12)


def test_vicreg_of_a_constant_is_the_variance_term():
    z = torch.ones(8, 5, dtype=torch.float64)
    assert ob.vicreg(z, z, invariance=25.0, variance=25.0, covariance=1.0).item() == pytest.approx(25 * 0.99)
    assert [t.item() for t in ob.vicreg_terms(z, z)] == pytest.approx([0, 0.99, 0])


def test_vicreg_of_decorrelated_spread_views_is_the_invariance():
    z = 2 * orthogonal_columns()
    assert ob.vicreg(z, z + 1, invariance=3.0, variance=25.0, covariance=1.0).item() == pytest.approx(3)


def test_koleo_of_a_regular_simplex():
    d = 5
    corners = torch.eye(d + 1, dtype=torch.float64) - 1 / (d + 1)
    assert ob.koleo(corners).item() == pytest.approx(-math.log(math.sqrt(2 * (d + 1) / d)), abs=1e-7)
    antipodes = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert ob.koleo(antipodes).item() == pytest.approx(-math.log(2), abs=1e-6)


def test_sinkhorn_reaches_both_marginals_and_does_not_overflow():
    scores = torch.randn(24, 6, generator=torch.Generator().manual_seed(4))
    q = ob.sinkhorn(scores, iterations=300, epsilon=0.5)
    torch.testing.assert_close(q.sum(1), torch.ones(24))
    torch.testing.assert_close(q.sum(0), torch.full((6,), 4.0), rtol=1e-4, atol=0)
    extreme = ob.sinkhorn(1e4 * scores, iterations=3, epsilon=0.01)
    assert extreme.isfinite().all() and torch.allclose(extreme.sum(1), torch.ones(24))


def test_whitening_mse_closed_forms():
    a, _ = pair(12, 4)
    assert ob.whitening_mse(a, a).item() == pytest.approx(0, abs=1e-12)
    assert ob.whitening_mse(a, -a).item() == pytest.approx(4)
    lower = torch.tril(torch.rand(4, 4, dtype=torch.float64) + 0.5)  # Cholesky factors absorb lower triangular maps
    assert ob.whitening_mse(a, a @ lower.T + 3).item() == pytest.approx(0, abs=1e-10)
    with pytest.raises(ValueError, match="4 samples of 4 dimensions"):
        ob.whitening_mse(a[:4], a[:4])


def test_soft_cross_entropy_and_swapped_prediction():
    logits, other = pair(6, 5)
    hard = torch.tensor([0, 1, 2, 3, 4, 0])
    onehot = torch.nn.functional.one_hot(hard, 5).double()
    expected = torch.nn.functional.cross_entropy(logits / 0.2, hard)
    torch.testing.assert_close(ob.cross_entropy_soft(logits, onehot, temperature=0.2), expected)
    scores, targets = [logits, other, logits + other], [onehot, onehot.roll(1, 0)]
    pairs = [ob.cross_entropy_soft(scores[v], targets[i], temperature=0.2) for i in range(2) for v in range(3) if i != v]
    torch.testing.assert_close(ob.swapped_prediction(scores, targets, temperature=0.2), torch.stack(pairs).mean())
