"""TiCo, SIGReg and sliced whitening against naive float64 loops, quadrature and closed forms; gradients too."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.integrate import quad
from torch.autograd import gradcheck

from selftaught import objectives as ob
from selftaught.contracts import OptionError
from selftaught.objectives.whitening import random_orders


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_tico_is_the_papers_loop():
    query, key, before = draw(6, 3), draw(6, 3, seed=1), draw(3, 3, seed=2)
    before = before @ before.T
    z = [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in query.tolist()]
    other = [[v / math.sqrt(sum(u * u for u in row)) for v in row] for row in key.tolist()]
    c = [[0.9 * before[i, j].item() + 0.1 * sum(row[i] * row[j] for row in z) / 6 for j in range(3)] for i in range(3)]
    expected = 0.0
    for a, b in zip(z, other):
        expected -= sum(u * v for u, v in zip(a, b)) / 6
        expected += 8.0 * sum(a[i] * c[i][j] * a[j] for i in range(3) for j in range(3)) / 6
    assert ob.tico(query, key, before, beta=0.9, rho=8.0).item() == pytest.approx(expected, rel=1e-12)


def test_the_gradient_of_tico_flows_through_the_batchs_own_covariance():
    query, key, before = draw(5, 3).requires_grad_(), draw(5, 3, seed=1), torch.zeros(3, 3, dtype=torch.float64)
    assert gradcheck(lambda q: ob.tico(q, key, before, beta=0.9, rho=8.0), (query,))
    z = F.normalize(query, dim=1)
    constant = 0.1 * (z.T @ z / 5).detach()
    held = ((z @ constant * 8.0 - F.normalize(key, dim=1)) * z).sum(1).mean()
    full = torch.autograd.grad(ob.tico(query, key, before, beta=0.9, rho=8.0), query)[0]
    assert not torch.allclose(full, torch.autograd.grad(held, query)[0])


def integrand(sample):
    """N |φ̂(t) − φ(t)|² φ(t) of a list of numbers."""

    def at(t):
        real = sum(math.cos(t * v) for v in sample) / len(sample) - math.exp(-t * t / 2)
        imaginary = sum(math.sin(t * v) for v in sample) / len(sample)
        return len(sample) * (real**2 + imaginary**2) * math.exp(-t * t / 2)

    return at


def test_epps_pulley_is_the_integral():
    x = 1.3 * draw(12, 3) + 0.2
    for k, found in enumerate(ob.epps_pulley(x, points=4001).tolist()):
        assert found == pytest.approx(quad(integrand(x[:, k].tolist()), -3, 3)[0], rel=1e-5)
    coarse, fine = ob.epps_pulley(x), ob.epps_pulley(x, points=4001)
    torch.testing.assert_close(coarse, fine, rtol=0.02, atol=1e-3)
    assert gradcheck(lambda v: ob.epps_pulley(v), (x.clone().requires_grad_(),))


def test_epps_pulley_of_normal_samples_has_its_expectation():
    """E N|φ̂ − φ|² = 1 − φ², so the mean is ∫ (1 − e^{−t²}) e^{−t²/2} dt; what is not N(0, 1) lies above it."""
    expected = quad(lambda t: (1 - math.exp(-t * t)) * math.exp(-t * t / 2), -3, 3)[0]
    x = draw(128, 3000)
    found = ob.epps_pulley(x, points=65)
    assert found.mean().item() == pytest.approx(expected, abs=4 * found.std().item() / math.sqrt(3000))
    for wrong in (0.5 * x, 2 * x, x + 1, x.sign(), 0 * x):
        assert ob.epps_pulley(wrong).mean() > 3 * expected


def test_sigreg_is_the_mean_over_unit_directions():
    z = draw(40, 5)
    lines = ob.random_directions(5, 7, 3, like=z)
    torch.testing.assert_close(lines.norm(dim=0), torch.ones(7, dtype=torch.float64))
    each = [ob.epps_pulley((z @ lines[:, k])[:, None]) for k in range(7)]
    torch.testing.assert_close(ob.sigreg(z, lines), torch.cat(each).mean())
    within = 0.9 * torch.ones(5, 5, dtype=torch.float64) + 0.1 * torch.eye(5, dtype=torch.float64)
    correlated = z @ torch.linalg.cholesky(within).T
    many = ob.random_directions(5, 200, 0, like=z)
    assert ob.sigreg(correlated, many) > 2 * ob.sigreg(z, many)  # every marginal is N(0, 1), the whole is not isotropic


def test_directions_follow_from_the_step_alone_and_are_even():
    z = torch.zeros(2, 4)
    first = ob.random_directions(4, 4000, 9, like=z)
    assert torch.equal(first, ob.random_directions(4, 4000, 9, like=torch.ones(5, 4)))
    assert not torch.allclose(first, ob.random_directions(4, 4000, 10, like=z))
    torch.testing.assert_close(first @ first.T / 4000, torch.eye(4) / 4, atol=0.02, rtol=0)


def test_whitened_slices_have_mean_zero_and_unit_covariance():
    x = draw(3, 20, 4) @ draw(4, 4, seed=1) + 5
    w = ob.whitened(x)
    torch.testing.assert_close(w.mean(1), torch.zeros(3, 4, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(w.mT @ w / 19, torch.eye(4, dtype=torch.float64).expand(3, 4, 4), atol=1e-9, rtol=0)
    shrunk = ob.whitened(x[0], eps=1.0)
    torch.testing.assert_close(shrunk, x[0] - x[0].mean(0))  # ε = 1: the covariance is taken for I
    with pytest.raises(OptionError, match="more than 4 samples, and these have 4"):
        ob.whitened(x[:, :4])


def test_one_slice_of_two_views_is_whitening_mse():
    a, b = draw(20, 4), draw(20, 4, seed=1)
    found = ob.sliced_whitening_mse(torch.stack([a, b]), sub_batch=64, step=3)
    torch.testing.assert_close(found, ob.whitening_mse(a, b))


@pytest.mark.parametrize("normalise", [True, False])
def test_slices_of_three_views_are_the_authors_loop(normalise):
    z, step = draw(3, 23, 4), 5
    total = 0.0
    for order in random_orders(23, 2, step):
        white = torch.empty_like(z)
        for start in (0, 10):
            for v in range(3):
                white[v, order[start : start + 10]] = ob.whitened(z[v, order[start : start + 10]])
        kept = order[:20]
        for i, j in ((0, 1), (0, 2), (1, 2)):
            x, y = white[i, kept], white[j, kept]
            total = total + ((2 - 2 * F.cosine_similarity(x, y, dim=1).mean()) if normalise else F.mse_loss(x, y))
    found = ob.sliced_whitening_mse(z, sub_batch=10, iterations=2, step=step, normalise=normalise)
    torch.testing.assert_close(found, total / 6)
    assert gradcheck(lambda v: ob.sliced_whitening_mse(v, sub_batch=10, step=step, normalise=normalise), (z.requires_grad_(),))


def test_orders_are_permutations_that_change_with_the_step():
    orders = random_orders(50, 3, 7)
    assert torch.equal(orders.sort(1).values, torch.arange(50).expand(3, 50))
    assert torch.equal(orders, random_orders(50, 3, 7)) and not torch.equal(orders, random_orders(50, 3, 8))
    assert not torch.equal(orders[0], orders[1])
