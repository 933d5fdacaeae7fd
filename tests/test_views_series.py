"""Series views: the laws their draws follow, what they leave alone, and identities of the one resampling."""

import numpy as np
import pytest
import torch

from selftaught.contracts import Batch, Draws, OptionError
from selftaught.views.options import with_options
from selftaught.views.series import (
    SeriesSide,
    SeriesSpec,
    SeriesViews,
    cropped,
    masked_window,
    permuted_steps,
    removed_frequencies,
    resample,
    view_time,
    warped_time,
    white_noise,
    without_frequencies,
)

EVERYTHING = SeriesSpec(crop_p=0.8, warp_p=0.7, permute_p=0.7, frequency_p=0.5, scale_p=0.8, magnitude_p=0.5, jitter_p=0.8,
                        flip_p=0.3, mask_p=0.5)


def draws(n, seed=0):
    slot = torch.arange(n)
    return Draws.for_items(seed, "train", torch.zeros_like(slot), slot)


def batch(x, lengths=None, slot=None):
    slot = torch.arange(len(x)) if slot is None else slot
    return Batch({"x": x}, slot, slot, torch.zeros_like(slot), lengths=lengths)


def maker(spec, steps, *, window=None, role="global", channels=2):
    return SeriesViews([SeriesSide(spec, steps, role)], [0.0] * channels, [1.0] * channels, window or steps)


def noise(n, channels=2, steps=40, seed=0):
    return torch.randn(n, channels, steps, generator=torch.Generator().manual_seed(seed))


def varied(n=24, steps=40):
    lengths = torch.from_numpy(np.random.default_rng(1).integers(5, steps + 1, n))
    x = noise(n, steps=steps)
    return x.masked_fill(torch.arange(steps) >= lengths[:, None, None], 0.0), lengths


def test_without_randomness_the_item_is_standardised_and_missing_values_are_the_mean():
    x = noise(3)
    x[0, 1, 5], x[2, 0, 7] = torch.nan, torch.inf
    view = SeriesViews([SeriesSide(SeriesSpec(), 40, "clean")], [1.0, -2.0], [2.0, 4.0], 40)(batch(x), draws(3))[0]
    expected = (x - torch.tensor([1.0, -2.0])[:, None]) / torch.tensor([2.0, 4.0])[:, None]
    expected[0, 1, 5] = expected[2, 0, 7] = 0.0
    assert torch.equal(view.x, expected) and view.lengths is None and view.role == "clean"
    assert torch.equal(view.positions, torch.tensor([[0.0, 1.0]]).expand(3, 2))


def test_a_sample_does_not_depend_on_its_batch():
    x, lengths = varied()
    make = maker(EVERYTHING, 40)
    together = make(batch(x, lengths), draws(24))[0]
    order = torch.tensor([17, 3, 8])
    apart = make(batch(x[order], lengths[order], order), Draws(draws(24).keys[order]))[0]
    torch.testing.assert_close(apart.x, together.x[order], rtol=0, atol=1e-6)
    assert torch.equal(apart.positions, together.positions[order])
    for i in range(24):
        alone = make(batch(x[i : i + 1], lengths[i : i + 1]), Draws(draws(24).keys[i : i + 1]))[0]
        torch.testing.assert_close(alone.x[0], together.x[i], rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [40, 20])
def test_padding_stays_exactly_zero_and_what_lies_in_it_is_never_read(steps):
    x, lengths = varied()
    padded = torch.arange(40) >= lengths[:, None, None]
    make = SeriesViews([SeriesSide(EVERYTHING, steps, "local")], [0.5, -0.5], [1.0, 2.0], 40)
    clean = make(batch(x, lengths), draws(24))[0]
    dirty = make(batch(x.masked_fill(padded, 1e6), lengths), draws(24))[0]
    assert torch.equal(clean.x, dirty.x)
    past = torch.arange(steps) >= clean.lengths[:, None, None]
    assert past.any() and not clean.x[past.expand_as(clean.x)].any()
    shown = (clean.positions[:, 1] - clean.positions[:, 0]) * lengths
    assert (clean.lengths >= shown * steps / 40 - 1e-3).all() and clean.lengths.min() >= 4
    assert (clean.lengths <= (lengths * steps / 40).ceil().clamp(min=4)).all()


def test_the_length_of_a_crop_does_not_tell_its_item_where_lengths_vary():
    lengths = torch.tensor([30, 40]).repeat(2000)
    make = maker(SeriesSpec(crop_p=1.0, crop=(0.5, 0.5)), 40)
    found = make(batch(noise(4000), lengths), draws(4000))[0].lengths
    for of in (30, 40):  # from the crop's own length to the item's, evenly
        own = found[lengths == of].float()
        assert own.min() <= of / 2 + 1 and own.max() >= of - 1 and abs(own.mean() - 0.75 * of) < 1
    equal = make(batch(noise(50)), draws(50))[0]
    assert equal.lengths is None and equal.x[..., -1].any()


def test_each_sample_view_and_epoch_has_a_draw_of_its_own():
    x = noise(1).expand(6, -1, -1)
    side = SeriesSide(EVERYTHING, 40, "global")
    first, second = SeriesViews([side, side], [0.0] * 2, [1.0] * 2, 40)(batch(x), draws(6))
    assert torch.cdist(torch.cat([first.x, second.x]).flatten(1), torch.cat([first.x, second.x]).flatten(1)).add(
        torch.eye(12)).min() > 0.1
    other = maker(EVERYTHING, 40)(batch(x), Draws.for_items(0, "train", torch.ones(6).long(), torch.arange(6)))[0]
    assert not torch.equal(other.x, first.x)


def test_permutation_moves_whole_segments():
    lengths = torch.from_numpy(np.random.default_rng(0).integers(1, 31, 400))
    steps = permuted_steps(draws(400), lengths, 30, probability=1.0, most=5)
    pieces = []
    for row, n in zip(steps.tolist(), lengths.tolist()):
        assert sorted(row[:n]) == list(range(n))
        pieces.append(1 + sum(b != a + 1 for a, b in zip(row[:n], row[1:n])))
    assert max(pieces) == 5 and np.mean([p > 1 for p, n in zip(pieces, lengths) if n > 20]) > 0.6
    still = permuted_steps(draws(4000), torch.full((4000,), 30), 30, probability=0.25, most=5)
    moved = (still != torch.arange(30)).any(1).float().mean()
    assert 0.15 < moved < 0.25  # a quarter, less the orders that change nothing


def test_permutation_in_a_view_rearranges_the_very_values():
    x = noise(50)
    view = maker(SeriesSpec(permute_p=1.0), 40)(batch(x), draws(50))[0]
    assert torch.equal(view.x, x.gather(2, view.applied["permutation"][:, None].expand(-1, 2, -1)))
    assert not torch.equal(view.x, x)


def test_time_warp_is_the_integral_of_the_speed():
    log_speed = 0.8 * torch.randn(20, 5, generator=torch.Generator().manual_seed(0)).double()
    time = torch.linspace(0, 1, 101).double().expand(20, -1)
    warped = warped_time(time, log_speed)
    assert (warped.diff(dim=1) > 0).all()
    assert warped[:, 0].abs().max() < 1e-12 and (warped[:, -1] - 1).abs().max() < 1e-12
    fine = np.linspace(0, 1, 40001)
    for row in range(20):
        speed = np.interp(fine, np.linspace(0, 1, 5), np.exp(log_speed[row].numpy()))
        integral = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2)])
        np.testing.assert_allclose(warped[row], np.interp(time[row], fine, integral / integral[-1]), atol=1e-8)
    assert torch.allclose(warped_time(time, torch.full((20, 5), 0.7).double()), time)


def test_resampling_is_linear_interpolation():
    x, lengths = varied(8)
    place = 50 * torch.rand(8, 30, generator=torch.Generator().manual_seed(2)) - 5
    found = resample(x, place, lengths)
    for i in range(8):
        for c in range(2):
            naive = np.interp(place[i].numpy(), np.arange(int(lengths[i])), x[i, c, : lengths[i]].numpy())
            np.testing.assert_allclose(found[i, c], naive, atol=1e-5)


def test_crop_follows_its_law_and_reads_where_it_says():
    n, steps = 6000, 64
    ramp = torch.arange(steps).float().expand(n, 1, steps)
    view = maker(SeriesSpec(crop_p=0.5, crop=(0.3, 0.9)), steps, channels=1)(batch(ramp), draws(n))[0]
    width = view.positions[:, 1] - view.positions[:, 0]
    cropped = width < 0.9999
    assert abs(cropped.float().mean() - 0.5) < 0.03
    width, start = width[cropped], view.positions[cropped, 0]
    assert width.min() >= 0.3 - 1e-5 and width.max() <= 0.9 + 1e-5
    assert abs(width.mean() - 0.6) < 0.01 and abs(width.var() - 0.6**2 / 12) < 0.003  # uniform
    place = start / (1 - width)
    assert place.min() >= 0 and place.max() <= 1 and abs(place.mean() - 0.5) < 0.02 and abs(place.var() - 1 / 12) < 0.005
    middle = view.x[cropped, 0, steps // 2 - 1 : steps // 2 + 1].mean(1)
    assert (middle - ((start + width / 2) * steps - 0.5)).abs().max() < 1e-2
    assert torch.equal(view.x[~cropped], ramp[~cropped])


def test_crop_warp_and_permutation_compose_into_one_map():
    lengths = torch.full((5,), 32)
    spec = SeriesSpec(crop_p=1.0, warp_p=1.0, permute_p=1.0)
    applied = {}
    make = maker(spec, 32, channels=1)
    view = make(batch(torch.arange(32.0).expand(5, 1, 32)), draws(5))[0]  # shows where it reads
    own = draws(5).split("view 0")
    start, width = cropped(spec, own, lengths, lengths)
    time = view_time(spec, own, lengths, 32, applied)
    torch.testing.assert_close(time, 32 * warped_time((applied["permutation"] + 0.5) / 32, applied["warp"]), rtol=0, atol=1e-4)
    expected = (start[:, None] + time * width[:, None] / 32 - 0.5).clamp(0, 31)
    torch.testing.assert_close(view.x[:, 0], expected, rtol=0, atol=1e-4)


def test_longer_items_show_windows_random_in_training_and_the_middle_when_clean():
    ramp = torch.arange(100).float().expand(500, 1, 100)
    lengths = torch.where(torch.arange(500) < 400, 100, 10)
    clean = maker(SeriesSpec(), 20, channels=1)(batch(ramp, lengths), draws(500))[0]
    assert torch.equal(clean.x[0, 0], torch.arange(40.0, 60.0)) and clean.lengths.unique().tolist() == [10, 20]
    assert torch.equal(clean.x[-1, 0], torch.cat([torch.arange(10.0), torch.zeros(10)]))
    view = maker(SeriesSpec(flip_p=1.0), 20, channels=1)(batch(ramp, lengths), draws(500))[0]
    start = -view.x[:400, 0, 0]
    assert torch.equal(view.x[:400, 0], -(start[:, None] + torch.arange(20)))
    assert start.min() <= 2 and start.max() >= 78 and abs(start.mean() - 40) < 5
    torch.testing.assert_close(view.positions[:400], torch.stack([start, start + 20], 1) / 100)


def test_frequency_masking_removes_exactly_those_bins():
    x = noise(30, steps=51).double()
    removed = removed_frequencies(draws(30), 51, SeriesSpec(frequency_p=1.0, frequency=(0.2, 0.2)))
    assert (removed.sum((1, 2)) == 5).all() and not removed[:, :, 0].any()
    before, after = torch.fft.rfft(x), torch.fft.rfft(without_frequencies(x, removed))
    gone = removed.expand_as(before)
    assert after[gone].abs().max() < 1e-12
    torch.testing.assert_close(after[~gone], before[~gone], rtol=0, atol=1e-10)
    often = removed_frequencies(draws(4000), 40, SeriesSpec(frequency_p=0.3, frequency=(0.1, 0.5)))[:, 0, 1:]
    assert abs(often.any(1).float().mean() - 0.3) < 0.03
    assert abs(often.float().mean() - 0.3 * 0.3) < 0.01 and often.float().mean(0).std() < 0.01


def test_values_change_by_the_laws_of_the_spec():
    ones = torch.ones(4000, 3, 16)
    make = lambda **options: maker(SeriesSpec(**options), 16, channels=3)(batch(ones), draws(4000))[0].x  # noqa: E731
    jittered = make(jitter_p=0.5, jitter=0.2) - 1
    touched = jittered.abs().amax((1, 2)) > 0
    assert abs(touched.float().mean() - 0.5) < 0.03
    assert abs(jittered[touched].std() - 0.2) < 0.005 and abs(jittered[touched].mean()) < 0.005
    scaled = make(scale_p=0.5, scale=0.3)
    assert torch.equal(scaled, scaled[..., :1].expand_as(scaled))
    factor = scaled[..., 0]
    touched = (factor != 1).any(1)
    assert abs(touched.float().mean() - 0.5) < 0.03 and abs(factor[touched].std() - 0.3) < 0.01
    assert abs(torch.corrcoef(factor[touched].T)[0, 1]) < 0.08  # a factor a channel
    bent = make(magnitude_p=1.0, magnitude=0.2) - 1
    assert abs(bent[..., 0].std() - 0.2) < 0.01 and bent.diff(n=2, dim=2).abs().mean() < 0.05
    flipped = make(flip_p=0.3)
    assert torch.equal(flipped.abs(), ones) and abs((flipped[:, 0, 0] < 0).float().mean() - 0.3) < 0.03


def test_noise_is_standard_normal_and_white():
    noise = white_noise(draws(3000), 3, 15)
    assert noise.shape == (3000, 3, 15) and abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01
    assert abs((noise**4).mean() - 3) < 0.1 and abs((noise.abs() > 1.96).float().mean() - 0.05) < 0.003
    apart = torch.corrcoef(noise.flatten(1).T) - torch.eye(45)
    assert apart.abs().max() < 5 / 3000**0.5
    squared = torch.corrcoef(noise.flatten(1).T ** 2) - torch.eye(45)  # pairs from one draw are independent, not just uncorrelated
    assert squared.abs().max() < 0.12


def test_masked_window_has_its_width_and_place():
    x, lengths = noise(3000).abs() + 1, torch.full((3000,), 40)
    spec = SeriesSpec(mask_p=0.4, mask=(0.1, 0.3))
    view = maker(spec, 40)(batch(x), draws(3000))[0]
    start, end = view.applied["mask"].T
    step = torch.arange(40)
    inside = (step >= start[:, None]) & (step < end[:, None])
    assert torch.equal(view.x == 0, inside[:, None].expand_as(x)) and torch.equal(view.x[~inside[:, None].expand_as(x)],
                                                                                 x[~inside[:, None].expand_as(x)])
    width = (end - start)[end > start]
    assert abs((end > start).float().mean() - 0.4) < 0.03 and width.min() == 4 and width.max() == 12
    always = masked_window(draws(3000), lengths, SeriesSpec(mask_p=1.0, mask=(0.5, 0.5)))
    assert always[:, 0].min() == 0 and always[:, 1].max() == 40 and (always[:, 1] - always[:, 0] == 20).all()


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_very_short_series_pass_through_everything(steps):
    for window in (steps, 40):
        lengths = torch.full((8,), steps)
        view = maker(EVERYTHING, window)(batch(noise(8, steps=window), None if window == steps else lengths), draws(8))[0]
        assert view.x.shape == (8, 2, window) and view.x.isfinite().all()


def test_options_are_read_by_name_from_values_and_from_words():
    spec = with_options(SeriesSpec(), {"crop": "0.3,1", "jitter_p": "0.5", "segments": "6", "mask": 0.2}, what="series view")
    assert (spec.crop, spec.jitter_p, spec.segments, spec.mask) == ((0.3, 1.0), 0.5, 6, (0.2, 0.2))
    with pytest.raises(OptionError, match="Did you mean 'jitter_p'"):
        with_options(SeriesSpec(), {"jiter_p": 1}, what="series view")
    impossible = {"jitter_p": 2}, {"crop": (0.9, 0.3)}, {"crop": "a,b"}, {"segments": 2.5}, {"crop": (0, 1)}, {"mask": "1,2,3"}
    for wrong in impossible:
        with pytest.raises(OptionError, match=next(iter(wrong)) + "|crops"):
            with_options(SeriesSpec(), wrong, what="series view")


def test_the_length_of_long_views_is_exact():
    steps, count = 48_000, 9
    x, lengths = noise(count, steps=steps), 47_990 + torch.arange(count)
    view = maker(SeriesSpec(), steps)(batch(x.masked_fill(torch.arange(steps) >= lengths[:, None, None], 0.0), lengths), draws(count))[0]
    assert torch.equal(view.lengths, lengths)
    half = maker(SeriesSpec(), steps // 2, window=steps)(batch(x, lengths), draws(count))[0]
    assert torch.equal(half.lengths, (lengths + 1) // 2)
