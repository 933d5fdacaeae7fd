"""measures.py against closed forms and naive float64 loops."""

import math

import numpy as np
import pytest
import torch

from selftaught import measures as m


def cloud(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def naive_rank(z, eps=0.0):
    sigma = np.linalg.svd(z.double().numpy(), compute_uv=False)
    p = [s / sigma.sum() + eps for s in sigma]
    return math.exp(-sum(q * math.log(q) for q in p if q > 0))


def test_rank_of_identity_is_its_size():
    assert m.effective_rank(torch.eye(64)).item() == pytest.approx(64, abs=1e-9)


@pytest.mark.parametrize("shape", [(300, 256), (100, 700)])
def test_rank_of_rank_one_is_one(shape):
    n, d = shape
    z = cloud(n, 1) @ cloud(1, d, seed=1)
    assert m.effective_rank(z).item() == pytest.approx(1, abs=0.01)


def test_rank_counts_orthogonal_directions():
    z = torch.zeros(90, 20)
    for row in range(90):
        z[row, row % 3] = 5.0
    assert m.effective_rank(z).item() == pytest.approx(3, abs=1e-6)


@pytest.mark.parametrize("shape", [(40, 17), (17, 40), (5000, 8)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_ranks_equal_the_svd(shape, dtype):
    z = cloud(*shape, dtype=dtype)
    assert m.effective_rank(z).item() == pytest.approx(naive_rank(z), rel=1e-9)
    assert m.rank_me(z).item() == pytest.approx(naive_rank(z, 1e-7), rel=1e-9)


def test_a_constant_with_noise_reads_as_collapsed():
    assert m.effective_rank(1.0 + 1e-4 * cloud(256, 64)).item() < 1.1


def test_zeros_and_nan():
    assert m.effective_rank(torch.zeros(8, 4)).item() == 0
    bad = cloud(8, 4)
    bad[3, 1] = math.inf
    for f in (m.effective_rank, m.rank_me, m.alpha_req):
        assert f(bad).isnan()
    assert m.lidar(torch.full((3, 2, 4), math.nan)).isnan()


def test_everything_is_a_scalar_without_host_reading():
    z = cloud(32, 8)
    values = [m.effective_rank(z), m.rank_me(z), m.spread(z), m.alignment(z, z), m.uniformity(z), m.alpha_req(z)]
    assert all(v.shape == () for v in values + [m.lidar(z.view(16, 2, 8))])
    meta = z.to("meta")  # a device that holds no numbers: reading one would raise
    assert all(f(meta).shape == () for f in (m.spread, m.uniformity)) and m.alignment(meta, meta).shape == ()


def test_spread():
    assert m.spread(cloud(4000, 64)).item() == pytest.approx(1, abs=0.01)
    assert m.spread(torch.ones(50, 8)).item() == pytest.approx(0, abs=1e-6)
    z = cloud(30, 5)
    unit = np.array([r / np.linalg.norm(r) for r in z.double().numpy()])
    assert m.spread(z).item() == pytest.approx(np.mean([unit[:, j].std() for j in range(5)]) * 5**0.5, rel=1e-5)
    assert m.spread(1000 * z).item() == pytest.approx(m.spread(z).item(), rel=1e-5)


def test_alignment():
    z = cloud(20, 6)
    assert m.alignment(z, 3 * z).item() == pytest.approx(0, abs=1e-6)
    assert m.alignment(z, -z).item() == pytest.approx(4, rel=1e-6)
    assert m.alignment(z, -z, alpha=1).item() == pytest.approx(2, rel=1e-6)


def test_uniformity_of_antipodes_and_of_a_loop():
    assert m.uniformity(torch.tensor([[2.0, 0.0], [-1.0, 0.0]])).item() == pytest.approx(-8, abs=1e-6)
    z = cloud(37, 5, dtype=torch.float64)
    unit = [r / np.linalg.norm(r) for r in z.numpy()]
    pairs = [math.exp(-3 * np.sum((unit[i] - unit[j]) ** 2)) for i in range(37) for j in range(i + 1, 37)]
    expected = math.log(sum(pairs) / len(pairs))
    for block in (4, 10, 2048):
        assert m.uniformity(z, t=3, block=block).item() == pytest.approx(expected, rel=1e-12)
    assert m.uniformity(z[:1]).isnan()


def test_uniformity_and_alignment_can_be_trained():
    z = cloud(12, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: m.uniformity(x, block=5), z)
    assert torch.autograd.gradcheck(lambda x: m.alignment(x[:6], x[6:]), z)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_power_law_is_recovered(alpha):
    spectrum = torch.arange(1, 301, dtype=torch.float64) ** -alpha
    assert m.power_law_exponent(spectrum).item() == pytest.approx(alpha, rel=1e-9)
    q, _ = torch.linalg.qr(cloud(600, 120, dtype=torch.float64) - cloud(600, 120, dtype=torch.float64).mean(0))
    z = q * spectrum[:120].sqrt()
    assert m.alpha_req(z).item() == pytest.approx(alpha, rel=1e-6)
    assert m.alpha_req(z + 100.0).item() == pytest.approx(alpha, rel=1e-6)  # the mean plays no part


def test_power_law_weights_and_range():
    values = cloud(50, 1, dtype=torch.float64).abs().flatten().sort(descending=True).values
    j = np.arange(11, 50)
    slope, _ = np.polyfit(np.log(j), np.log(values.numpy()[10:49]), 1, w=np.sqrt(1 / j))
    assert m.power_law_exponent(values).item() == pytest.approx(-slope, rel=1e-9)


def naive_lidar(z, delta=1e-4, eps=1e-7):
    z = z.double().numpy()
    n, q, d = z.shape
    grand, between, within = z.mean((0, 1)), np.zeros((d, d)), delta * np.eye(d)
    for item in z:
        mean = item.mean(0)
        between += np.outer(mean - grand, mean - grand) / n
        for view in item:
            within += np.outer(view - mean, view - mean) / (n * q)
    values, vectors = np.linalg.eigh(within)
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    found = np.clip(np.linalg.eigvalsh(root @ between @ root), 0, None)
    p = found / found.sum() + eps
    return math.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize("shape", [(40, 4, 8), (6, 5, 16)])
def test_lidar_equals_the_definition(shape):
    z = cloud(shape[0], shape[1] * shape[2]).view(shape) + 2 * cloud(shape[0], shape[2], seed=2)[:, None]
    assert m.lidar(z).item() == pytest.approx(naive_lidar(z), rel=1e-6)


def test_lidar_sees_only_what_views_share():
    shared = torch.zeros(200, 1, 16)
    shared[:, 0, :3] = cloud(200, 3)
    z = shared + 0.1 * cloud(200, 5 * 16, seed=3).view(200, 5, 16)
    assert m.lidar(z).item() < 4.5 < m.rank_me(z.flatten(0, 1)).item()
