"""Views for pretexts: turns against np.rot90, patches against slices of the canvas, the laws of what is drawn, and what is told."""

import math

import numpy as np
import pytest
import torch
from image_reference import BYTES, batch_of, draws_of, greatest_gap, pictures, plain

from selftaught.contracts import TRANSFORM_WIDTH, Batch, Draws, Facts, NotApplicable, Pair, Patches, Transformed
from selftaught.modalities import Preprocessing, find_modality
from selftaught.views import colour
from selftaught.views.image import ImageViews
from selftaught.views.image_transforms import (
    KnownImages,
    PatchViews,
    TransformedImages,
    blur_chroma,
    patch_size,
    turned,
)
from selftaught.views.series import SeriesSide, SeriesSpec, SeriesViews
from selftaught.views.series_transforms import KnownSeries, PatchSeries, TransformedSeries
from selftaught.views.series_transforms import turned as turned_series

COLOURS = dict(jitter=1.0, rotate=30.0)


def transformed(need, n=24, side=16, **changes):
    batch = batch_of(pictures(n, side))
    return TransformedImages(ImageViews([plain(side, **changes)], BYTES), need)(batch, batch.draws(0, "train"))


def even(counts):
    """Whether the counts are those of equal probabilities: chi squared below its .999 quantile."""
    counts = np.asarray(counts, dtype=float)
    from scipy.stats import chi2

    return ((counts - counts.mean()) ** 2 / counts.mean()).sum() < chi2.ppf(0.999, len(counts) - 1)


# ---- images: transformations to be told apart -------------------------------------------------------------------------


def test_every_turn_is_numpys_under_one_augmentation():
    views = transformed(Transformed(kind="turn"), scale=(0.5, 1.0), flip=0.5, **COLOURS)
    assert [v.applied["class"].unique().tolist() for v in views] == [[0], [1], [2], [3]]
    for k, view in enumerate(views):
        assert np.array_equal(view.x.numpy(), np.rot90(views[0].x.numpy(), k, axes=(2, 3)))
        assert torch.equal(view.applied["box"], views[0].applied["box"])


@pytest.mark.parametrize("kind", ["turn", "channels", "patch_turn", "quadrant_turn"])
def test_a_drawn_class_is_the_one_of_every_class_and_all_are_as_likely(kind):
    n = 4800 if kind != "quadrant_turn" else 6400
    batch = batch_of(pictures(1, 12).expand(n, -1, -1, -1))
    views = ImageViews([plain(12)], BYTES)
    need = Transformed(kind=kind, every=False)
    (drawn,) = TransformedImages(views, need)(batch, batch.draws(0, "train"))
    number = drawn.applied["class"]
    assert number.dtype == torch.int64 and even(np.bincount(number.numpy(), minlength=need.classes))
    some = batch_of(batch.x[:40], slots=torch.arange(40))
    every = TransformedImages(views, Transformed(kind=kind))(some, some.draws(0, "train"))
    assert len(every) == need.classes
    for i in range(40):  # same draws, so also the same patch; and a sample does not depend on its batch
        assert torch.equal(drawn.x[i], every[number[i]].x[i])


def test_a_square_is_turned_in_place_as_a_loop_turns_it():
    rng = np.random.default_rng(0)
    x = rng.random((60, 2, 13, 13), dtype=np.float32)
    size = rng.integers(1, 14, 60)
    top, left, k = rng.integers(0, 14 - size), rng.integers(0, 14 - size), rng.integers(0, 4, 60)
    expected = x.copy()
    for i, (t, u, s) in enumerate(zip(top, left, size)):
        expected[i, :, t : t + s, u : u + s] = np.rot90(x[i, :, t : t + s, u : u + s], k[i], axes=(1, 2))
    found = turned(torch.from_numpy(x), *(torch.from_numpy(v) for v in (k, top, left, size)))
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("side", [16, 17])
def test_a_quadrant_is_turned_and_nothing_else(side):
    views = transformed(Transformed(kind="quadrant_turn"), side=side)
    still, half = views[0].x.numpy(), side // 2
    for number, view in enumerate(views):
        rows, columns = (slice(0, half) if first else slice(side - half, side) for first in ((number // 4) < 2, number // 4 % 2 == 0))
        expected = still.copy()
        expected[:, :, rows, columns] = np.rot90(still[:, :, rows, columns], number % 4, axes=(2, 3))
        assert np.array_equal(view.x.numpy(), expected)


def test_a_turned_patch_has_any_size_up_to_half_and_any_place():
    n, side = 3000, 32
    x = torch.linspace(0, 255, side * side).view(1, 1, side, side).expand(n, 3, -1, -1)
    batch = batch_of(x)
    views = TransformedImages(ImageViews([plain(side)], BYTES), Transformed(kind="patch_turn"))(batch, batch.draws(0, "train"))
    moved = (views[2].x != views[0].x)[:, 0]  # half a turn moves every pixel but the one in the middle
    extent = moved.any(2).sum(1)
    assert extent.min() == 2 and extent.max() == 16 and even(np.bincount(extent.numpy())[2:])
    assert moved.float().mean(0).min() > 0  # every pixel is in some patch
    assert (moved.any(1).sum(1) == extent).all()


def test_orders_of_channels_and_who_has_none():
    views = transformed(Transformed(kind="channels"))
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    assert all(torch.equal(v.x, views[0].x[:, list(order)]) for v, order in zip(views, orders, strict=True))
    grey = Preprocessing("image", Facts("image", 9, (1, 16, 16)), {"flip": 0.0, "palette": "single"})
    with pytest.raises(NotApplicable, match="three channels"):
        find_modality("image").views(Transformed(kind="channels"), grey)


# ---- images: patches -----------------------------------------------------------------------------------------------------


def patches(x, size, need, *, n_size=None, seed=0, **changes):
    batch = batch_of(x, n_size)
    return PatchViews(plain(size, role="local", **changes), need, BYTES)(batch, batch.draws(seed, "train"))


@pytest.mark.parametrize("flip, vertical", [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_without_jitter_patches_are_slices_of_the_canvas(flip, vertical):
    x = pictures(5, 30)
    views = patches(x, 10, Patches(side=3, jitter=0.0), flip=flip, vertical_flip=vertical)
    whole = x.float() / 255
    whole = whole.flip(3) if flip else whole.flip(2) if vertical else whole
    assert [v.role for v in views] == ["local"] * 9
    for k, view in enumerate(views):
        r, c = k // 3 * 10, k % 3 * 10
        torch.testing.assert_close(view.x, whole[:, :, r : r + 10, c : c + 10], atol=1e-5, rtol=0)


def test_of_an_oblong_image_the_central_square_is_cut():
    views = patches(pictures(4, 30), 10, Patches(side=3, jitter=0.0), n_size=(60, 120))
    boxes = torch.stack([v.applied["box"] for v in views], 1)
    assert torch.allclose(boxes[:, 0, :2], torch.tensor([0.0, 0.25])) and torch.allclose(boxes[:, 8, 2:], torch.tensor([1.0, 0.75]))
    assert torch.allclose((boxes[..., 2:] - boxes[..., :2]), torch.tensor([1 / 3, 1 / 6]))


@pytest.mark.parametrize("yoked", [False, True])
def test_jitter_is_uniform_within_the_cell_and_yoked_where_asked(yoked):
    n, jitter = 2500, 0.3
    views = patches(pictures(1, 12).expand(n, -1, -1, -1), 8, Patches(side=3, jitter=jitter, yoked=yoked))
    offsets = []
    for k, view in enumerate(views):
        box, cell = view.applied["box"] * 3, torch.tensor([k // 3, k % 3])
        assert torch.allclose(box[:, 2:] - box[:, :2], torch.tensor(1 - jitter), atol=1e-5)
        offsets.append((box[:, :2] - cell) / jitter)
    offsets = torch.stack(offsets, 1)  # [n, 9, 2]
    even_law = (np.arange(n) + 0.5) / n
    for k in (0, 4, 8):
        for axis in (0, 1):
            assert greatest_gap(offsets[:, k, axis].numpy(), even_law) < 1.95 * math.sqrt(2 / n)
    assert abs(np.corrcoef(offsets[:, 0, 0], offsets[:, 0, 1])[0, 1]) < 0.08
    if yoked:
        assert torch.allclose(offsets, offsets[:, :1].expand_as(offsets), atol=1e-4)
    else:
        assert abs(np.corrcoef(offsets[:, 0, 0], offsets[:, 5, 0])[0, 1]) < 0.08


def test_blurred_chroma_keeps_the_luminance_and_smooths_the_colours():
    x = pictures(6, 32)
    chosen = torch.arange(6) < 4
    out = blur_chroma(x, chosen)
    weights = torch.tensor(colour.LUMINANCE)[:, None, None]
    before, after = (weights * x).sum(1), (weights * out).sum(1)
    assert (before - after).abs().max() < 1e-2  # of 255
    assert torch.equal(out[4:], x[4:].float())
    rough = lambda v: (v - (weights * v).sum(1, keepdim=True)).diff(dim=3).square().mean((1, 2, 3))  # noqa: E731
    assert (rough(out)[:4] < 0.7 * rough(x.float())[:4]).all()
    mean = (x.float() - before[:, None]).mean((2, 3)), (out - after[:, None]).mean((2, 3))
    assert (mean[0] - mean[1]).abs().max() < 12  # colours are moved about, not taken away


def test_chroma_is_blurred_a_sample_and_grey_images_have_none():
    x, need = pictures(1, 12).expand(1500, -1, -1, -1), Patches(side=2, blur_chroma=0.3)
    blurred, sharp = patches(x, 8, need), patches(x, 8, Patches(side=2))
    happened = blurred[0].applied["chroma_blurred"]
    assert abs(happened.float().mean() - 0.3) < 0.04
    for a, b in zip(blurred, sharp, strict=True):
        changed = (a.x - b.x).abs().flatten(1).amax(1) > 1e-4
        assert torch.equal(changed, happened)
    grey = pictures(20, 12, 1)
    statistics = BYTES | {"mean": [0.0], "std": [1.0]}
    make = lambda need: PatchViews(plain(8), need, statistics)(batch_of(grey), draws_of(20))  # noqa: E731
    assert torch.equal(make(Patches(blur_chroma=1.0))[3].x, make(Patches())[3].x)


def test_an_aperture_shows_half_to_all_of_some_patches():
    x = torch.full((2000, 3, 24, 24), 200, dtype=torch.uint8)
    views = patches(x, 24, Patches(side=2, aperture=0.4))
    for view in views[:2]:
        seen = view.applied["aperture"]
        side = seen[:, 2] - seen[:, 0]
        partial = side < 1
        assert abs(partial.float().mean() - 0.4) < 0.05 and side.min() >= 0.5 and seen.min() >= 0 and seen.max() <= 1 + 1e-6
        assert torch.allclose(side, seen[:, 3] - seen[:, 1], atol=1e-5)
        assert greatest_gap(side[partial].numpy(), np.linspace(0.5, 1, 800)) < 0.1
        visible = (view.x[:, 0] != 0).float().mean((1, 2))  # what is hidden is the mean, zero
        assert (visible - side**2).abs().max() < 0.13 and (visible[~partial] == 1).all()
    assert (views[0].applied["aperture"] != views[1].applied["aperture"]).any()


def test_all_patches_of_an_item_are_turned_alike():
    x = pictures(800, 12)
    views, still = (patches(x, 8, Patches(side=2, turn=p)) for p in (0.6, 0.0))
    turn = views[0].applied["turn"]
    counts = np.bincount(turn.numpy(), minlength=4)
    assert abs(counts[0] / 800 - 0.4) < 0.07 and even(counts[1:])
    for view, other in zip(views, still, strict=True):
        assert torch.equal(view.applied["turn"], turn)
        for i in range(0, 800, 37):
            assert np.array_equal(view.x[i].numpy(), np.rot90(other.x[i].numpy(), int(turn[i]), axes=(1, 2)))


@pytest.mark.parametrize("side, grid, expected", [(224, 3, 64), (32, 3, 8), (20, 3, 8), (32, 2, 12)])
def test_sizes_of_patches(side, grid, expected):
    assert patch_size(side, Patches(side=grid)) == expected


def test_the_whole_comes_first_and_a_sample_does_not_depend_on_its_batch():
    facts = Facts("image", 9, (3, 32, 32))
    modality = find_modality("image")
    make = modality.views(Patches(whole=True, aperture=0.5, blur_chroma=0.5), Preprocessing("image", facts, BYTES | {
        "flip": 0.5, "palette": "photo", "clamp": True}))
    x = pictures(9, 32)
    views = make(batch_of(x), draws_of(9))
    assert [v.role for v in views] == ["global"] + ["local"] * 9
    assert views[0].x.shape == (9, 3, 32, 32) and {v.x.shape for v in views[1:]} == {(9, 3, 8, 8)}
    assert all(torch.equal(v.applied["flip"], views[1].applied["flip"]) for v in views[1:])
    some = torch.tensor([5, 2])
    again = make(batch_of(x[some], slots=some), Draws(draws_of(9).keys[some]))
    assert all(torch.allclose(a.x, v.x[some], atol=1e-5) for a, v in zip(again, views, strict=True))


# ---- images: known transformations ------------------------------------------------------------------------------------------


def test_what_is_told_of_a_view_is_what_was_drawn():
    spec = plain(16, scale=(0.2, 1.0), flip=0.5, jitter=1.0, brightness=0.4, hue=0.1, rotate=90.0)
    batch = batch_of(pictures(400, 16))
    for view in KnownImages(ImageViews([spec, spec], BYTES))(batch, batch.draws(0, "train")):
        told, drawn = view.applied["transform"], view.applied
        assert told.shape == (400, TRANSFORM_WIDTH) and told.dtype == torch.float32 and told.abs().max() < 1.2
        box = drawn["box"]
        torch.testing.assert_close((told[:, :2] + 1) / 2, (box[:, :2] + box[:, 2:]) / 2)
        area = torch.exp((1 - told[:, 2]) / 2 * math.log(0.2))
        torch.testing.assert_close(area, (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]), rtol=1e-4, atol=1e-4)
        assert torch.equal(told[:, 3].bool(), drawn["flip"])
        torch.testing.assert_close(torch.rad2deg(torch.atan2(told[:, 4], told[:, 5])), drawn["angle"], rtol=0, atol=1e-3)
        torch.testing.assert_close(told[:, 6] * 0.1, drawn["hue"])
        torch.testing.assert_close(1 + told[:, 7] * 0.4, drawn["brightness"])
        assert (told.std(0) > 0.2).all()


# ---- series -------------------------------------------------------------------------------------------------------------------


def series(n=30, channels=2, steps=60, varied=False, seed=0):
    x = torch.randn(n, channels, steps, generator=torch.Generator().manual_seed(seed))
    if not varied:
        return x, None
    lengths = torch.from_numpy(np.random.default_rng(1).integers(12, steps + 1, n))
    return x.masked_fill(torch.arange(steps) >= lengths[:, None, None], 0.0), lengths


def series_batch(x, lengths=None):
    slot = torch.arange(len(x))
    return Batch({"x": x}, slot, slot, torch.zeros_like(slot), lengths=lengths)


@pytest.mark.parametrize("varied", [False, True])
def test_series_forward_backward_negated_and_both(varied):
    x, lengths = series(varied=varied)
    views = SeriesViews([SeriesSide(SeriesSpec(), 60, "weak")], [0.0] * 2, [1.0] * 2, 60)
    batch = series_batch(x, lengths)
    every = TransformedSeries(views, Transformed(kind="turn"))(batch, batch.draws(0, "train"))
    for k, view in enumerate(every):
        for i in range(len(x)):
            end = 60 if lengths is None else int(lengths[i])
            expected = np.zeros((2, 60), np.float32)
            expected[:, :end] = x[i, :, :end].numpy()[:, :: -1 if k % 2 else 1] * (-1 if k >= 2 else 1)
            assert np.array_equal(view.x[i].numpy(), expected) and view.applied["class"][i] == k
    (drawn,) = TransformedSeries(views, Transformed(kind="turn", every=False))(batch, batch.draws(0, "train"))
    assert all(torch.equal(drawn.x[i], every[k].x[i]) for i, k in enumerate(drawn.applied["class"]))
    assert set(drawn.applied["class"].tolist()) == {0, 1, 2, 3}


def test_drawn_classes_of_series_are_even():
    x = torch.zeros(4000, 1, 8)
    views = SeriesViews([SeriesSide(SeriesSpec(), 8, "weak")], [0.0], [1.0], 8)
    (drawn,) = TransformedSeries(views, Transformed(kind="turn", every=False))(series_batch(x), draws_of(4000))
    assert even(np.bincount(drawn.applied["class"].numpy(), minlength=4))


def segments(need, x, lengths=None, *, window=60, spec=None, **options):
    batch = series_batch(x, lengths)
    return PatchSeries(spec or SeriesSpec(), need, [0.0] * 2, [1.0] * 2, window, **options)(batch, batch.draws(0, "train"))


def test_segments_are_slices_of_the_series():
    x, _ = series()
    views = segments(Patches(side=3, jitter=0.0), x)
    for k, view in enumerate(views):
        torch.testing.assert_close(view.x, x[:, :, 20 * k : 20 * k + 20], atol=1e-5, rtol=0)
        assert view.lengths is None and view.role == "local"
        torch.testing.assert_close(view.positions, torch.tensor([[k / 3, (k + 1) / 3]]).expand(30, 2))


@pytest.mark.parametrize("yoked", [False, True])
def test_segments_move_in_time_within_their_cell(yoked):
    n, jitter = 2500, 0.4
    ramp = torch.arange(60.0).expand(n, 2, 60)
    views = segments(Patches(side=3, jitter=jitter, yoked=yoked), ramp)
    starts = torch.stack([v.x[:, 0, 0] - 20 * k for k, v in enumerate(views)], 1)  # a ramp shows where it is read
    assert greatest_gap(starts[:, 1].numpy(), np.linspace(0, jitter * 20, n)) < 1.95 * math.sqrt(2 / n) + 0.03
    assert all(torch.allclose(v.x[:, 0].diff(dim=1), torch.ones(1), atol=1e-3) for v in views)  # at the series's own rate
    together = abs(np.corrcoef(starts[:, 1], starts[:, 2])[0, 1])
    assert together > 0.999 if yoked else together < 0.08


def test_segments_of_items_of_all_lengths_stay_within_them():
    x, lengths = series(varied=True)
    views = segments(Patches(side=3, jitter=0.0, turn=0.5), x, lengths)
    turn = views[0].applied["turn"]
    assert len(views) == 3 and 0 < (turn > 0).sum() < 30
    for k, view in enumerate(views):
        expected = (lengths * 20 / 60).ceil().long().clamp(min=4)
        assert torch.equal(view.lengths, expected) and torch.equal(view.applied["turn"], turn)
        for i in torch.where(lengths == lengths.max())[0]:
            assert (view.x[i, :, expected[i]:] == 0).all()
        assert (view.positions >= k / 3 - 1e-5).all() and (view.positions <= (k + 1) / 3 + 1e-5).all()
    still = segments(Patches(side=3, jitter=0.0), x, lengths)
    for view, other in zip(views, still, strict=True):
        assert torch.equal(view.x, turned_series(other.x, other.lengths, turn))


def test_windows_of_long_series_and_their_whole():
    n = 800
    x = torch.arange(150.0).expand(n, 2, 150)
    whole = SeriesSide(SeriesSpec(), 60, "global")
    first, *views = segments(Patches(side=3, jitter=0.0, whole=True), x, whole=whole)
    assert first.role == "global" and first.x.shape == (n, 2, 60)
    start = views[0].x[:, 0, 0]
    assert start.min() < 3 and start.max() > 87 and torch.allclose(views[2].x[:, 0, 0] - start, torch.tensor(40.0), atol=1e-3)


def test_an_aperture_of_a_segment():
    x = torch.ones(1500, 2, 60)
    view = segments(Patches(side=3, aperture=0.5), x)[1]
    low, high = view.applied["aperture"].T
    partial = high - low < 1
    assert abs(partial.float().mean() - 0.5) < 0.06 and (high - low).min() >= 0.5
    visible = (view.x[:, 0] != 0).float().mean(1)
    assert (visible - (high - low)).abs().max() < 1.1 / view.x.shape[2] and (visible[~partial] == 1).all()
    full = segments(Patches(side=3, blur_chroma=1.0), x)[1]  # series have no colours
    assert torch.equal(full.x, segments(Patches(side=3), x)[1].x)


def test_what_is_told_of_a_view_of_series():
    spec = SeriesSpec(crop_p=0.8, crop=(0.4, 1.0), scale_p=1.0, scale=0.1, flip_p=0.5, warp_p=0.5)
    x, _ = series(600)
    batch = series_batch(x)
    views = SeriesViews([SeriesSide(spec, 60, "global")] * 2, [0.0] * 2, [1.0] * 2, 60)
    a, b = KnownSeries(views)(batch, batch.draws(0, "train"))
    told = a.applied["transform"]
    assert told.shape == (600, TRANSFORM_WIDTH) and not torch.equal(told, b.applied["transform"])
    torch.testing.assert_close((told[:, 0] + 1) / 2, a.positions.mean(1), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.exp((1 - told[:, 1]) / 2 * math.log(0.4)), a.positions[:, 1] - a.positions[:, 0], atol=1e-4, rtol=0)
    assert torch.equal(told[:, 3].bool(), a.applied["flip"].flatten())
    torch.testing.assert_close(1 + told[:, 2] * 0.2, a.applied["scale"].mean((1, 2)))
    torch.testing.assert_close(told[:, 4:] * 0.6, a.applied["warp"].diff(dim=1))
    assert (told.std(0) > 0.1).all() and told.abs().mean() < 1
    still = SeriesViews([SeriesSide(SeriesSpec(), 60, "global")], [0.0] * 2, [1.0] * 2, 60)
    (view,) = KnownSeries(still)(batch, batch.draws(0, "train"))
    assert torch.equal(view.applied["transform"][:, 2:], torch.zeros(600, TRANSFORM_WIDTH - 2))


# ---- who cannot ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality, need, reason", [
    ("series", Transformed(kind="channels"), "no view of that kind"), ("series", Transformed(kind="quadrant_turn"), "no view of that kind"),
    ("table", Transformed(kind="turn"), "neither order nor neighbours"), ("table", Patches(), "neither order nor neighbours"),
    ("table", Pair(known=True), "no few numbers"),
])
def test_what_cannot_be_supplied_is_refused_with_its_reason(modality, need, reason):
    shape = {"series": (2, 60), "table": (5,)}[modality]
    statistics = {"mean": [0.0] * 2, "std": [1.0] * 2}
    with pytest.raises(NotApplicable, match=reason):
        find_modality(modality).views(need, Preprocessing(modality, Facts(modality, 9, shape), statistics))
