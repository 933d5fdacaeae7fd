"""Linear CKA against its formula in kernels, and what must not change it."""

import numpy as np
import pytest

from selftaught.contracts import DataError
from selftaught.evaluation import cka_matrix, linear_cka

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(40, 6)), RNG.normal(size=(40, 9))


def naive(a, b):
    """HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) with the linear kernels, entry by entry."""
    n = len(a)
    k, m = (np.array([[sum(u * v for u, v in zip(x[i], x[j])) for j in range(n)] for i in range(n)]) for x in (a, b))
    centre = np.eye(n) - 1 / n
    hsic = lambda p, q: sum((centre @ p @ centre)[i, j] * (centre @ q @ centre)[i, j] for i in range(n) for j in range(n))  # noqa: E731
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


def test_it_is_the_ratio_of_hsics():
    assert linear_cka(A[:12], B[:12]) == pytest.approx(naive(A[:12], B[:12]), rel=1e-10)  # 12 rows: more than A is wide
    assert linear_cka(A[:5], B[:5]) == pytest.approx(naive(A[:5], B[:5]), rel=1e-10)  # fewer rows than columns


def test_turns_scales_and_shifts_change_nothing_and_other_maps_do():
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
    assert linear_cka(A, 3.0 * A @ turn + 1.0) == pytest.approx(1.0, abs=1e-12)
    assert linear_cka(A, A * np.array([9, 1, 1, 1, 1, 1])) < 0.9
    assert linear_cka(A, B) == pytest.approx(linear_cka(B, A), rel=1e-12) and linear_cka(A, B) < 0.5


def test_a_matrix_holds_every_pair():
    found = cka_matrix([A, B], [B, A, A[:, :2]])
    assert found.shape == (2, 3) and found[0, 1] == pytest.approx(1.0) and found[1, 0] == pytest.approx(1.0)
    assert found[1, 2] == pytest.approx(linear_cka(B, A[:, :2]))


def test_what_cannot_be_compared_is_refused_or_unknown():
    assert np.isnan(linear_cka(A, np.ones((40, 2))))
    with pytest.raises(DataError, match="same items"):
        linear_cka(A, B[:30])
    with pytest.raises(DataError, match="no layers"):
        cka_matrix([], [A])
