"""Table views: exact counts of corrupted cells, marginals that are kept, missing values, noise, independence of the batch."""

import numpy as np
import pytest
import torch

from selftaught.contracts import Batch, Draws, OptionError
from selftaught.views.table import CLIP, TableSpec, TableViews, chosen_columns, marginal_cells, standardise

NUMERIC, COLUMNS = 4, 7
MEAN, STD = [1.0, 0.0, -3.0, 0.5], [2.0, 1.0, 0.1, 5.0]


def draws(n, seed=0):
    slot = torch.arange(n)
    return Draws.for_items(seed, "train", torch.zeros_like(slot), slot)


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(n, NUMERIC)) * STD + MEAN
    numbers[rng.random((n, NUMERIC)) < 0.1] = np.nan
    codes = rng.choice(4, size=(n, COLUMNS - NUMERIC), p=[0.5, 0.3, 0.15, 0.05]) - 1
    return torch.from_numpy(np.concatenate([numbers, codes], 1).astype(np.float32))


def view(spec, x, keys=None, slot=None):
    slot = torch.arange(len(x)) if slot is None else slot
    make = TableViews([(spec, "strong")], MEAN, STD, rows(300, seed=9))
    return make(Batch({"x": x}, slot, slot, torch.zeros_like(slot)), keys or draws(len(x)))[0]


def same(a, b):
    return torch.equal(a.nan_to_num(12345.0), b.nan_to_num(12345.0))


def test_standardising_keeps_codes_and_missing_values_and_bounds_the_tails():
    x = rows(200)
    x[0, 0], x[1, 1], x[2, 2] = torch.inf, 1e30, -3.0 + 0.1 * 2
    z = standardise(x, torch.tensor(MEAN), torch.tensor(STD))
    assert torch.equal(z[:, NUMERIC:], x[:, NUMERIC:])
    assert torch.equal(z.isnan()[1:], x.isnan()[1:]) and z[0, 0].isnan()
    assert z[1, 1] == CLIP and abs(z[2, 2] - CLIP * np.tanh(2 / CLIP)) < 1e-4
    assert same(view(TableSpec(), x).x, z)


@pytest.mark.parametrize("rate", [0.2, 0.6, 1.0])
def test_exactly_the_named_part_of_the_columns_is_corrupted_each_as_often(rate):
    x = rows(4000)
    seen = view(TableSpec(corrupt=(rate, rate)), x)
    corrupted = seen.applied["corrupted"]
    assert (corrupted.sum(1) == round(rate * COLUMNS)).all()
    assert (corrupted.float().mean(0) - round(rate * COLUMNS) / COLUMNS).abs().max() < 0.03
    clean = view(TableSpec(), x).x
    assert same(seen.x[~corrupted], clean[~corrupted])
    if rate < 1:
        apart = torch.corrcoef(corrupted.float().T)[0, 1]
        k = round(rate * COLUMNS)
        assert abs(apart + 1 / (COLUMNS - 1)) < 0.05 and 0 < k < COLUMNS  # without replacement: correlation −1/(F−1)


def test_rates_are_uniform_in_their_range():
    count = chosen_columns(draws(5000), 100, (0.1, 0.5)).sum(1).float()
    assert count.min() == 10 and count.max() == 50 and abs(count.mean() - 30) < 0.6 and abs(count.std() - 40 / 12**0.5) < 0.5
    assert chosen_columns(draws(50), 3, (0.0, 0.0), least=1).sum(1).eq(1).all()
    assert not chosen_columns(draws(50), 3, (0.1, 0.1)).any()


def test_corruption_keeps_every_marginal_and_breaks_the_ties_between_columns():
    reference = rows(40, seed=3)
    reference[:, 1] = reference[:, 0] * 2  # tied columns
    cells = marginal_cells(draws(20000), reference)
    for column in range(COLUMNS):
        values, expected = reference[:, column].nan_to_num(99.0).unique(return_counts=True)
        shares = torch.stack([(cells[:, column].nan_to_num(99.0) == v).float().mean() for v in values])
        assert (shares - expected / 40).abs().max() < 0.015
    both = cells[:, :2][~cells[:, :2].isnan().any(1)]
    assert abs(torch.corrcoef(both.T)[0, 1]) < 0.03


def test_a_small_view_keeps_some_columns_and_the_others_are_missing():
    x = rows(1000)
    seen = view(TableSpec(keep=(0.3, 0.6)), x)
    hidden = seen.applied["hidden"]
    kept = (~hidden).sum(1)
    assert kept.min() == 2 and kept.max() == 4
    assert seen.x[:, :NUMERIC][hidden[:, :NUMERIC]].isnan().all() and (seen.x[:, NUMERIC:][hidden[:, NUMERIC:]] == -1).all()
    assert same(seen.x[~hidden], view(TableSpec(), x).x[~hidden])


def test_noise_moves_numbers_alone():
    x = rows(5000)
    clean, noisy = view(TableSpec(), x).x, view(TableSpec(noise=0.3), x).x
    assert torch.equal(noisy[:, NUMERIC:], clean[:, NUMERIC:]) and torch.equal(noisy.isnan(), clean.isnan())
    moved = (noisy - clean)[:, :NUMERIC]
    moved = moved[~moved.isnan()]
    assert abs(moved.std() - 0.3) < 0.01 and abs(moved.mean()) < 0.01


def test_mixing_weighs_a_reference_row():
    x = rows(4000)
    clean = view(TableSpec(), x).x
    seen = view(TableSpec(mixup=(0.25, 0.25)), x)
    assert torch.equal(seen.x[:, :NUMERIC].isnan(), clean[:, :NUMERIC].isnan())
    slope = [np.polyfit(clean[~clean[:, c].isnan(), c], seen.x[~clean[:, c].isnan(), c], 1)[0] for c in range(NUMERIC)]
    np.testing.assert_allclose(slope, 1 - 0.25 * 0.9, atol=0.03)  # a tenth of the reference is missing: there the row stays
    changed = (seen.x[:, NUMERIC:] != clean[:, NUMERIC:]).float().mean()
    assert abs(changed - 0.25 * (1 - (0.5**2 + 0.3**2 + 0.15**2 + 0.05**2))) < 0.02


def test_a_row_does_not_depend_on_its_batch():
    x = rows(32)
    spec = TableSpec(corrupt=(0.2, 0.6), keep=(0.5, 1.0), noise=0.1, mixup=(0.0, 0.3))
    together = view(spec, x).x
    for i in (0, 7, 31):
        assert same(view(spec, x[i : i + 1], Draws(draws(32).keys[i : i + 1]), torch.tensor([i])).x[0], together[i])
    assert not same(view(spec, x[:1].expand(8, -1)).x[0], view(spec, x[:1].expand(8, -1)).x[1])


def test_a_table_of_one_kind_of_column():
    codes = rows(10)[:, NUMERIC:]
    spec = TableSpec(corrupt=(0.6, 0.6), noise=0.5)
    make = TableViews([(spec, "strong")], [], [], codes)
    index = torch.arange(10)
    found = make(Batch({"x": codes}, index, index, index), draws(10))[0].x
    assert torch.equal(found, found.round()) and found.shape == codes.shape


def test_impossible_rates_are_refused():
    for wrong in ({"corrupt": (0.9, 0.2)}, {"keep": (0.0, 2.0)}, {"noise": -1.0}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            TableSpec(**wrong)
