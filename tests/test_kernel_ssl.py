"""The closed form of kernel self-supervision: against explicit features, gradient descent, and what its limits must be."""

import pytest
import torch

from selftaught.objectives import interplay_loss, kernel_ssl
from selftaught.objectives.kernel_ssl import exact_loss


def gaussian(a, b, width=0.7):
    return torch.exp(-torch.cdist(a, b).square() / (2 * width**2))


def ring(samples=30, views=4, jitter=0.4, seed=0):
    """Points on a ring whose radius is what the augmentations change: [samples · views, 2], and their angles."""
    generator = torch.Generator().manual_seed(seed)
    angle = (torch.rand(samples, 1, generator=generator, dtype=torch.float64) * 6.2832).expand(samples, views).reshape(-1)
    radius = 1 + jitter * (2 * torch.rand(samples * views, generator=generator, dtype=torch.float64) - 1)
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1), angle


def all_pairs(psi, views):
    """Both sides of every positive pair of every sample."""
    grid = psi.view(-1, views, psi.shape[1])
    first = grid[:, :, None].expand(-1, -1, views, -1).reshape(-1, psi.shape[1])
    return first, grid[:, None].expand(-1, views, -1, -1).reshape(-1, psi.shape[1])


@pytest.mark.parametrize("beta", (0.3, 1.0))
def test_its_loss_is_that_of_its_features(beta):
    """Without the ridge the stated minimum is `interplay_loss` of the features over all positive pairs."""
    x, _ = ring()
    found = kernel_ssl(gaussian(x, x), views=4, width=5, beta=beta, ridge=0.0)
    psi = found(gaussian(x, x), scaled=True)
    assert interplay_loss(*all_pairs(psi, 4), beta=beta).item() == pytest.approx(found.loss.item(), abs=1e-5)


def test_unit_moments_and_invariance_of_the_eigenfunctions():
    """Eigenfunctions are orthonormal on the points; a is 2β(1 − E⟨ψ, ψ⁺⟩) + λ times the norm in the kernel's space."""
    x, _ = ring()
    gram = gaussian(x, x)
    found = kernel_ssl(gram, views=4, width=5, beta=0.7, ridge=1e-2)
    psi = found(gram)
    torch.testing.assert_close(psi.T @ psi / len(psi), torch.eye(5, dtype=torch.float64), atol=1e-6, rtol=0)
    means = psi.view(-1, 4, 5).mean(1)
    norm = (found.coefficients * (gram @ found.coefficients)).sum(0)
    a = 1.4 * (1 - means.square().mean(0)) + 1e-2 * norm
    torch.testing.assert_close(a, found.values, atol=1e-6, rtol=0)


def test_no_direction_is_better():
    """The exact loss at the solution is the stated one, its gradient vanishes, and 200 random moves only raise it."""
    x, _ = ring()
    options = {"views": 4, "beta": 1.0, "ridge": 1e-2}
    found = kernel_ssl(gaussian(x, x), width=3, **options)
    phi = found.basis * found.spectrum.sqrt()
    theta = torch.linalg.lstsq(phi, found(gaussian(x, x), scaled=True)).solution.requires_grad_()
    loss = exact_loss(found, theta, **options)
    assert loss.item() == pytest.approx(found.loss.item(), abs=1e-6)
    assert torch.autograd.grad(loss, theta)[0].abs().max() < 1e-4
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-3, 1e-1, 1.0, 10.0) * 50:
        move = scale * torch.randn(theta.shape, generator=generator, dtype=torch.float64)
        assert exact_loss(found, theta.detach() + move, **options) > found.loss - 1e-7


def test_without_augmentations_it_is_kernel_pca():
    x, _ = ring()
    gram = gaussian(x, x)
    found = kernel_ssl(gram, views=4, width=4, beta=0.0, ridge=1e-3)
    vectors = torch.linalg.eigh(gram).eigenvectors[:, -4:].flip(1) * len(x) ** 0.5
    torch.testing.assert_close((vectors.T @ found(gram) / len(x)).abs(), torch.eye(4, dtype=torch.float64), atol=1e-8, rtol=0)


def test_a_ridge_beyond_all_profit_leaves_nothing():
    x, _ = ring()
    found = kernel_ssl(gaussian(x, x), views=4, width=3, ridge=10.0)
    assert not found.scale.any() and found.loss == 3.0


def test_new_points_under_augmentation():
    """On points never seen, the features change with the angle and hardly with the radius; kernel PCA's change with both."""
    x, _ = ring(samples=80)
    test, _ = ring(samples=80, seed=1)
    disagreement = {}
    for beta in (0.0, 1.0):
        psi = kernel_ssl(gaussian(x, x), views=4, width=6, beta=beta, ridge=1e-3)(gaussian(test, x))
        disagreement[beta] = (psi.view(80, 4, -1).var(1).mean() / psi.var(0).mean()).item()
    assert disagreement[1.0] < 0.5 * disagreement[0.0]
