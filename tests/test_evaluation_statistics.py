"""Intervals, splits, overlap and label-free numbers of evaluation/: coverage by simulation, closed forms, exact identities."""

import math

import numpy as np
import pytest
import torch

from selftaught import evaluation as e
from selftaught import measures
from selftaught.contracts import DataError, OptionError
from selftaught.evaluation.budgets import budget_note, combined
from selftaught.evaluation.intervals import resample
from selftaught.evaluation.metrics import Outcome, r_squared


def coverage(draw, truth, times=400, **options):
    rng = np.random.default_rng(0)
    return np.mean([truth in e.bootstrap(draw(rng), resamples=400, **options) for _ in range(times)])


# bootstrap


@pytest.mark.parametrize("n, p", [(12, 0.7), (60, 0.95), (200, 0.6), (1000, 0.85)])
def test_bootstrap_covers_proportions(n, p):
    assert coverage(lambda rng: rng.random(n) < p, p) == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize("n", [6, 15, 100])
def test_bootstrap_covers_means(n):
    assert coverage(lambda rng: rng.standard_normal(n), 0.0) == pytest.approx(0.95, abs=0.035)


def test_bootstrap_covers_r_squared():
    def draw(rng):
        y, noise = rng.standard_normal(150), 0.5 * rng.standard_normal(150)
        return np.stack([noise**2, y, y**2], 1)

    assert coverage(draw, 0.75, metric=r_squared) == pytest.approx(0.95, abs=0.04)


def test_groups_widen_the_interval_as_they_must():
    group = np.repeat(np.arange(40), 25)

    def draw(rng):
        return rng.random(40)[group] < 0.5

    assert coverage(draw, 0.5, groups=group) == pytest.approx(0.95, abs=0.035)
    assert coverage(draw, 0.5) < 0.5  # what treating the 1,000 rows as independent would claim


def test_bootstrap_is_fixed_and_equal_rows_follow_the_same_law():
    values = np.random.default_rng(0).random(500) < 0.8
    assert e.bootstrap(values) == e.bootstrap(values)
    quick, _ = resample(values, resamples=4000)
    slow, _ = resample(values + 1e-9 * np.arange(500), resamples=4000)
    assert quick.std() == pytest.approx(slow.std(), rel=0.05) and quick.mean() == pytest.approx(slow.mean(), abs=0.002)
    assert quick.std() == pytest.approx(values.std() / 500**0.5, rel=0.05)


def test_all_right_is_not_certain():
    interval = e.bootstrap(np.ones(20))
    assert interval.value == 1 and interval.high == 1 and interval.low == pytest.approx(20 / (20 + 1.959964**2), rel=1e-6)
    assert interval.method == "Wilson" and math.isnan(e.bootstrap(np.array([0.3])).low)
    for bad in ([], [1.0, math.nan]):
        with pytest.raises(DataError):
            e.bootstrap(bad)


# seeds, draws and ranks


def test_paired_difference_is_students_t():
    from scipy.stats import ttest_rel

    a, b = [0.8, 0.9, 0.7, 0.85, 0.82], [0.7, 0.6, 0.66, 0.7, 0.71]
    d, reference = e.paired_difference(a, b), ttest_rel(a, b).confidence_interval()
    assert (d.low, d.high) == (pytest.approx(reference.low), pytest.approx(reference.high))
    assert d.n == 5 and d.excludes_zero and d.exceeds() and not d.exceeds(0.1) and d.per_seed[0] == pytest.approx(0.1)
    assert not e.paired_difference(a, a).excludes_zero
    for bad in (([1], [0]), ([1, 2], [1, 2, 3]), ([1, math.nan], [0, 0])):
        with pytest.raises(DataError):
            e.paired_difference(*bad)


def test_intervals_over_draws_cover():
    """Draws shift the true accuracy, and test rows are hard or easy for all draws alike: both must be in the interval."""
    rng, inside = np.random.default_rng(0), []
    for _ in range(300):
        easy = 0.25 * rng.standard_normal(120)
        outcomes = [Outcome((rng.random(120) < 0.6 + 0.05 * s + easy.clip(-0.3, 0.3)).astype(float), None, "accuracy")
                    for s in rng.standard_normal(3)]  # fmt: skip
        interval, values = combined(outcomes)
        assert interval.value == pytest.approx(np.mean(values))
        inside.append(0.6 in interval)
    assert 0.92 <= np.mean(inside) <= 1.0


@pytest.mark.parametrize("wrong", [0, 1, 4])
@pytest.mark.parametrize("flipped", [False, True])
def test_near_perfect_draws_are_no_surer_than_wilson(wrong, flipped):
    right = (np.arange(30) >= wrong) != flipped
    interval, values = combined([Outcome(right.astype(float), None, "accuracy")] * 3)
    low, high = e.wilson(right.sum(), 30)
    assert values == [right.mean()] * 3 and interval.low <= low < high <= interval.high
    group = np.repeat(np.arange(10), 3)
    if not wrong:
        few = e.wilson(10 * interval.value, 10)
        for found in (combined([Outcome(right.astype(float), None, "accuracy")] * 3, group)[0], e.bootstrap(right, groups=group)):
            assert (found.low, found.high) == pytest.approx(few) and found.n == 10


def test_intervals_that_vary_enough_are_left_alone():
    rng = np.random.default_rng(0)
    outcomes = [Outcome((rng.random(80) < 0.7).astype(float), None, "accuracy") for _ in range(3)]
    assert combined(outcomes)[0].method == "Student-t over draws and bootstrap over test rows"
    grouped = combined([Outcome((np.arange(80) >= 3).astype(float), None, "accuracy")] * 2, np.arange(80) // 4)[0]
    assert grouped.method == "Student-t over draws and bootstrap over test rows"


def test_budgets_that_are_raised_or_cut_say_so():
    y = np.arange(66) % 3
    y[60:] = -1
    for budget, groups, said in (
            (0.01, None, "1 % of 60 labels is raised to 3: one a class."), (2, None, "A budget of 2 labels is raised to 3: one a class."),
            (100, None, "A budget of 100 labels is cut to 60: there are no more."), (0.1, None, ""), (1.0, None, ""), (60, None, ""),
            (0.01, np.arange(66) // 6, "1 % of 60 labels is raised to 6: groups are taken whole.")):
        assert budget_note(y, budget, len(e.budget_indices(y, budget, groups=groups)), groups) == said
    numbers = np.where(y < 0, np.nan, np.arange(66.0))
    assert budget_note(numbers, 0.01, len(e.budget_indices(numbers, 0.01))) == "1 % of 60 labels is raised to 2: no fewer can be fitted."


def test_spearman():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a = rng.standard_normal(30).round(1)
    b = a + rng.standard_normal(30).round(1)
    found = e.spearman(a, b)
    assert found.value == pytest.approx(spearmanr(a, b).statistic) and -1 <= found.low < found.value < found.high <= 1
    perfect = e.spearman(np.arange(6), np.arange(6) ** 3)
    assert perfect.value == pytest.approx(1) and perfect.high == pytest.approx(1) and 0 < perfect.low < 1
    assert (e.spearman([1, 2, 3], [1, 2, 3]).low, e.spearman([1, 2, 3], [1, 2, 3]).high) == (-1, 1)
    assert math.isnan(e.spearman([1, 1, 1, 1], [1, 2, 3, 4]).value)


def test_spearman_covers():
    rng, truth = np.random.default_rng(0), 6 / math.pi * math.asin(0.3)  # of a normal pair with correlation 0.6
    pairs = [rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 25) for _ in range(400)]
    assert np.mean([truth in e.spearman(*p.T) for p in pairs]) == pytest.approx(0.95, abs=0.035)


def test_auc_and_its_interval():
    from sklearn.metrics import roc_auc_score

    rng, inside = np.random.default_rng(0), []
    for _ in range(300):
        positive = np.arange(80) < 30
        scores = rng.standard_normal(80) + positive
        found = e.auc(scores, positive)
        inside.append(0.7602 in found)  # Φ(1/√2)
    assert found.value == pytest.approx(roc_auc_score(positive, scores))
    assert e.auc(scores.round(0), positive).value == pytest.approx(roc_auc_score(positive, scores.round(0)))
    assert np.mean(inside) == pytest.approx(0.95, abs=0.035)


# splits and folds


def test_splits_are_exact_stratified_and_fixed():
    y = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [600, 390, 10]))
    parts = e.split_indices(1000, y, fractions=(0.7, 0.2, 0.1), seed=3)
    assert [len(p) for p in parts] == [700, 200, 100]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(1000))
    for part, share in zip(parts, (0.7, 0.2, 0.1)):
        assert np.abs(np.bincount(y[part], minlength=3) - share * np.bincount(y)).max() <= 2
    assert all(np.array_equal(a, b) for a, b in zip(parts, e.split_indices(1000, y, fractions=(0.7, 0.2, 0.1), seed=3)))
    assert not np.array_equal(parts[0], e.split_indices(1000, y, fractions=(0.7, 0.2, 0.1), seed=4)[0])


def test_splits_respect_groups():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 50, 500)
    y = group % 3
    train, test = e.split_indices(500, y, group, fractions=(0.6, 0.4))
    assert not set(group[train]) & set(group[test]) and len(train) + len(test) == 500
    assert abs(len(train) - 300) < 25 and set(y[train]) == set(y[test]) == {0, 1, 2}
    with pytest.raises(DataError, match="1 groups cannot be split"):
        e.split_indices(10, groups=np.zeros(10))


def test_splits_respect_time():
    time = np.random.default_rng(0).integers(0, 40, 400)
    train, validation, test = e.split_indices(400, time=time, fractions=(0.5, 0.25, 0.25))
    assert time[train].max() < time[validation].min() and time[validation].max() < time[test].min()
    assert abs(len(train) - 200) < 20
    group = time // 4  # groups that follow one another: both hold
    train, test = e.split_indices(400, groups=group, time=time)
    assert time[train].max() < time[test].min() and not set(group[train]) & set(group[test])
    for bad in ((0.5, 0.4), (1.0,), (1.2, -0.2)):
        with pytest.raises(OptionError):
            e.split_indices(400, fractions=bad)


def test_folds():
    y = np.repeat([0, 1, 2, 3], [50, 23, 2, 1])
    fold = e.fold_ids(y, 5, n=76)
    assert fold[-1] == -1 and len(set(fold[73:75])) == 2
    assert all(abs(np.sum(fold[:50] == f) - 10) <= 1 for f in range(5))
    group = np.arange(76) // 3
    grouped = e.fold_ids(y, 5, n=76, groups=group)
    assert all(len(set(grouped[group == g])) == 1 for g in range(26)) and set(grouped) == {-1, 0, 1, 2, 3, 4}


# overlap and label-free numbers


def test_overlap_by_hash():
    a = np.array([5, 2**64 - 1, 9, 9], np.uint64)
    b = np.array([1, 9, 2**64 - 1, 2**63], np.uint64)
    found = e.overlap(a, b)
    assert found.index.tolist() == [1, 2] and (a[found.partner] == b[found.index]).all()
    assert found.fraction == 0.5 and "2 of the 4" in found.sentence()
    assert e.overlap(a, b[:1]).count == 0 and e.overlap([], b).count == 0 and e.overlap(a, []).fraction == 0.0


def test_near_duplicates():
    x = np.random.default_rng(0).standard_normal((100, 32))
    y = np.random.default_rng(1).standard_normal((50, 32))
    y[[4, 30]] = 3 * x[[70, 2]] + 1e-3
    found = e.near_duplicates(x, y)
    assert found.index.tolist() == [4, 30] and found.partner.tolist() == [70, 2]
    assert e.near_duplicates(x, x, 1.0).count == 100


def test_label_free():
    z = torch.randn(400, 12, generator=torch.Generator().manual_seed(0))
    views = torch.stack([z, z + 0.1], 1)
    scores = e.label_free(z.numpy(), views.numpy())
    assert scores["effective_rank"].value == pytest.approx(measures.effective_rank(z).item())
    assert scores["alpha_req"].value == pytest.approx(measures.alpha_req(z).item())
    assert scores["lidar"].value == pytest.approx(measures.lidar(views).item())
    assert all(s.low < s.value < s.high and s.n == 400 for s in scores.values())
    assert e.label_free(torch.randn(30_000, 3)).get("rank_me").n == 25_600
    for bad in (dict(x=z[:1]), dict(x=z, views=z), dict(x=z * math.nan)):
        with pytest.raises(DataError):
            e.label_free(**bad)


def test_jackknife_covers_the_spread():
    rng = torch.Generator().manual_seed(0)
    scale = torch.tensor([3.0, 1.0, 1.0, 0.5])
    truth = measures.spread(torch.randn(400_000, 4, generator=rng) * scale).item()
    inside = [truth in e.Interval(0, s.low, s.high, 0) for s in
              (e.label_free(torch.randn(120, 4, generator=rng) * scale)["spread"] for _ in range(100))]  # fmt: skip
    assert np.mean(inside) >= 0.88
