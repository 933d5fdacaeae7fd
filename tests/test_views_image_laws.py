"""Views of images: the laws of everything drawn, and what the maker of views promises."""

import math
import random

import numpy as np
import pytest
import torch
from image_reference import BYTES, batch_of, draws_of, greatest_gap, make, pictures, plain, reference_crop, reference_step
from PIL import Image

from selftaught.contracts import Draws, OptionError
from selftaught.views import colour
from selftaught.views.grid3d import GridSpec, crop_boxes
from selftaught.views.image import ImageSpec
from selftaught.views.options import with_options

FULL = ImageSpec(24, scale=(0.2, 1.0), jitter=0.8, grey=0.2, blur=0.5, solarise=0.2, cutout=0.3, noise=0.02)


# --- the laws of what is drawn ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many():
    """4,000 draws of a full view."""
    n = 4000
    spec = ImageSpec(8, flip=0.5, vertical_flip=0.25, rotate=30.0, jitter=0.8, brightness=0.4, contrast=0.6, saturation=1.5,
                     hue=0.1, grey=0.2, blur=0.4, sigma=(0.1, 2.0), solarise=0.2, cutout=0.3)
    return spec, make(batch_of(torch.zeros(n, 3, 8, 8, dtype=torch.uint8)), spec)[0].applied


def test_probabilities(many):
    spec, applied = many
    found = {"flip": applied["flip"], "vertical_flip": applied["vertical_flip"], "jitter": applied["jittered"],
             "grey": applied["grey"], "blur": applied["sigma"] > 0, "solarise": applied["solarised"],
             "cutout": applied["cutout"][:, 2] > 0}
    for name, happened in found.items():
        p = getattr(spec, name)
        assert abs(happened.double().mean().item() - p) < 4 * math.sqrt(p * (1 - p) / 4000), name
    table = torch.stack([v.double() for v in found.values()])
    correlation = torch.corrcoef(table) - torch.eye(len(table))
    assert correlation.abs().max() < 4.5 / math.sqrt(4000)  # each drawn for itself


def test_every_order_of_the_jitter_is_as_likely(many):
    order = many[1]["order"]
    assert (order.sort(1).values == torch.arange(4)).all()
    counts = torch.bincount((order * torch.tensor([64, 16, 4, 1])).sum(1), minlength=256)
    counts = counts[counts > 0].double()
    assert len(counts) == 24
    assert ((counts - 4000 / 24) ** 2 / (4000 / 24)).sum() < 55.0  # chi-squared, 23 degrees of freedom: 1 in 5,000


def test_factors_are_uniform_in_their_ranges(many):
    _, applied = many
    on = applied["jittered"].numpy()
    ranges = {"brightness": (0.6, 1.4), "contrast": (0.4, 1.6), "saturation": (0.0, 2.5), "hue": (-0.1, 0.1)}
    values = {name: applied[name].numpy()[on] for name in ranges}
    values |= {"sigma": applied["sigma"][applied["sigma"] > 0].numpy(), "angle": applied["angle"].numpy()}
    for name, (low, high) in (ranges | {"sigma": (0.1, 2.0), "angle": (-30.0, 30.0)}).items():
        v = np.sort((values[name] - low) / (high - low))
        assert -1e-6 <= v[0] and v[-1] <= 1 + 1e-6, name
        assert np.abs(v - (np.arange(len(v)) + 0.5) / len(v)).max() < 1.95 / math.sqrt(len(v)), name
    for name in ranges:
        neutral = 0.0 if name == "hue" else 1.0
        assert (applied[name].numpy()[~on] == neutral).all()


def test_the_distribution_of_whole_views_is_that_of_the_per_sample_reference():
    """Mean and spread of the pixels' values over many views of one picture, against Pillow crops and float64 colours."""
    side, n = 16, 1500
    x = pictures(1, side, seed=3)
    spec = ImageSpec(12, scale=(0.3, 1.0), jitter=0.8, grey=0.2)
    ours = make(batch_of(x.expand(n, -1, -1, -1)), spec)[0].x.double().numpy()
    rng, image, theirs = random.Random(5), Image.fromarray(x[0].permute(1, 2, 0).numpy()), []
    for _ in range(n):
        y, left, h, w = reference_crop(rng, side, side, spec.scale, spec.ratio)
        one = image.resize((12, 12), Image.Resampling.BILINEAR, box=(left, y, left + w, y + h))
        view = np.asarray(one, dtype=np.float64).transpose(2, 0, 1) / 255
        view = view[:, :, ::-1] if rng.random() < spec.flip else view
        if rng.random() < spec.jitter:
            for step in rng.sample(range(4), 4):
                view = reference_step(view, step, rng.uniform(-spec.hue, spec.hue) if step == 3 else rng.uniform(0.6, 1.4))
        view = reference_step(view, 2, 0.0) if rng.random() < spec.grey else view
        theirs.append(view.clip(0, 1))
    theirs = np.stack(theirs)
    limit = 1.95 * math.sqrt(2 / n)
    for statistic in (lambda v: v.mean((1, 2, 3)), lambda v: v.std((1, 2, 3)), lambda v: v[:, 1, 2, 3],
                      lambda v: (v[:, 0] - v[:, 2]).mean((1, 2)), lambda v: (v[:, 1, :6] - v[:, 1, 6:]).mean((1, 2))):
        assert greatest_gap(statistic(ours), statistic(theirs)) < limit


def test_noise_is_standard_normal_and_its_own_for_every_sample():
    z = colour.noise(draws_of(64), torch.Size([64, 3, 9, 7])).double()
    values = np.sort(z.flatten().numpy())
    cdf = np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in values])
    assert np.abs(cdf - (np.arange(len(values)) + 0.5) / len(values)).max() < 1.95 / math.sqrt(len(values))
    correlation = torch.corrcoef(z.flatten(1)) - torch.eye(64)
    assert correlation.abs().max() < 6 / math.sqrt(189)


def test_cutout_hides_a_square_behind_the_mean():
    statistics = BYTES | {"mean": [0.1] * 3, "std": [0.2] * 3}
    x = torch.full((50, 3, 20, 20), 255, dtype=torch.uint8)
    view = make(batch_of(x), plain(20, cutout=1.0, cutout_size=0.4), statistics=statistics)[0]
    hidden = view.x[:, 0] == 0
    assert (hidden.sum((1, 2)) <= 64).all() and (hidden.sum((1, 2)) >= 9).all() and (hidden.sum((1, 2)) == 64).sum() > 10
    rows, columns = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None, :])
    assert torch.allclose(view.x[:, 0][~hidden], torch.tensor(0.9 / 0.2))


@pytest.mark.parametrize("scale", [(0.3, 1.0), (0.1, 0.3), (1.0, 1.0)])
def test_the_crop_of_a_volume_has_a_uniform_part_of_it(scale):
    """Also where sides would be longer than the canvas, and where the volume takes a part of it only."""
    n = 4000
    extent = torch.cat([torch.ones(n // 2, 3), 0.4 + 0.6 * torch.rand(n // 2, 3, generator=torch.Generator().manual_seed(0))])
    box = crop_boxes(Draws(torch.arange(n)), extent, GridSpec(8, shape=(8, 8, 8), scale=scale))
    side = box[:, 3:] - box[:, :3]
    part = (side.prod(1) / extent.prod(1)).sort().values
    assert (part - torch.linspace(*scale, n)).abs().max() < 0.03 * (scale[1] - scale[0]) + 1e-5
    assert box.min() >= 0 and box.max() <= 1 + 1e-6 and (side[:, :2] / side[:, 1:]).log().abs().max() < math.log(4 / 3) + 1e-5


# --- the maker -------------------------------------------------------------------------------------------------------


def test_every_sample_and_every_view_has_draws_of_its_own():
    x = pictures(1, 24).expand(16, -1, -1, -1)
    first, second = make(batch_of(x), FULL, FULL)
    everything = torch.cat([first.x, second.x]).flatten(1)
    apart = torch.cdist(everything, everything) + 1e9 * torch.eye(32)
    assert apart.min() > 0.1
    assert not torch.equal(first.applied["box"], second.applied["box"])
    other_epoch = make(batch_of(x, epoch=1), FULL)[0]
    other_seed = make(batch_of(x), FULL, seed=1)[0]
    assert not torch.allclose(other_epoch.x, first.x) and not torch.allclose(other_seed.x, first.x)


@pytest.mark.parametrize("spec", [FULL, ImageSpec(24, rotate=20.0, blur=0.5, jitter=0.5)])
def test_a_view_does_not_depend_on_the_rest_of_its_batch(spec):
    x = pictures(8, 32)
    whole = make(batch_of(x), spec)[0]
    chosen = [6, 1, 3]
    few = make(batch_of(x[chosen], slots=chosen), spec)[0]
    assert torch.allclose(few.x, whole.x[chosen], atol=1e-5)
    for name, value in whole.applied.items():
        assert torch.equal(few.applied[name], value[chosen]), name


def test_a_batch_worked_in_pieces_is_the_whole(monkeypatch):
    x = pictures(7, 32)
    whole = make(batch_of(x), FULL, ImageSpec(16, rotate=10.0, noise=0.1))
    monkeypatch.setattr("selftaught.views.image._CHUNK", 2 * 3 * 32 * 32)
    for a, b in zip(make(batch_of(x), FULL, ImageSpec(16, rotate=10.0, noise=0.1)), whole):
        assert torch.allclose(a.x, b.x, atol=1e-5)


def test_the_clean_view_is_the_central_square_and_the_same_whatever_the_seed():
    x = pictures(3, 20)
    spec = plain(20, centre=True, role="clean", jitter=1.0, noise=1.0, blur=1.0, rotate=9.0, solarise=1.0, cutout=1.0)
    first, second = make(batch_of(x), spec, seed=0)[0], make(batch_of(x), spec, seed=9)[0]
    assert torch.equal(first.x, second.x) and first.role == "clean"
    assert torch.allclose(first.x, x.float() / 255, atol=1e-6)
    wide = make(batch_of(x, size=(30, 60)), spec)[0]
    assert torch.equal(wide.positions, torch.tensor([0.0, 0.25, 1.0, 0.75]).expand(3, 4))
    theirs = Image.fromarray(x[0].permute(1, 2, 0).numpy()).resize((20, 20), Image.Resampling.BILINEAR, box=(5, 0, 15, 20))
    assert np.abs(wide.x[0].permute(1, 2, 0).numpy() * 255 - np.asarray(theirs, dtype=np.float64)).max() <= 1


def test_normalisation_output_layout_and_other_types():
    statistics = BYTES | {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    x = pictures(2, 16)
    spec = plain(16, centre=True)
    view = make(batch_of(x), spec, statistics=statistics, channels_last=True)[0]
    assert view.x.dtype == torch.float32 and view.x.is_contiguous(memory_format=torch.channels_last)
    mean, std = (torch.tensor(statistics[k]).view(3, 1, 1) for k in ("mean", "std"))
    assert torch.allclose(view.x, (x / 255 - mean) / std, atol=1e-5)
    deep = make(batch_of(x.int() * 257), spec, statistics=statistics | {"high": 65535.0})[0]
    assert torch.allclose(deep.x, view.x, atol=1e-5)
    measured = make(batch_of(x / 255 * 4 - 3), spec, statistics=statistics | {"low": -2.0, "high": 1.0, "clamp": False})[0]
    assert torch.allclose(measured.x, ((x / 255 * 4 - 1) / 3 - mean) / std, atol=1e-4)  # beyond the range nothing is cut


def test_views_stay_float32_where_the_networks_run_in_bfloat16():
    batch = batch_of(pictures(3, 24))
    expected = make(batch, FULL)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        view = make(batch, FULL)[0]
    assert view.x.dtype == torch.float32 and torch.equal(view.x, expected.x)


def test_geometry_is_invariant_to_how_the_original_was_stretched():
    """A crop drawn in a 40 × 80 original shows the same from its square canvas as from its own pixels."""
    wide = np.asarray(Image.fromarray(pictures(1, 12)[0].permute(1, 2, 0).numpy()).resize((80, 40), Image.Resampling.BICUBIC))
    canvas = np.asarray(Image.fromarray(wide).resize((80, 80), Image.Resampling.BILINEAR)).copy()
    view = make(batch_of(torch.from_numpy(canvas).permute(2, 0, 1)[None], size=(40, 80)), plain(20, scale=(0.2, 0.6)))[0]
    y0, x0, y1, x1 = (view.positions[0] * torch.tensor([40, 80, 40, 80])).tolist()
    theirs = Image.fromarray(wide).resize((20, 20), Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))
    assert 0.7 < (x1 - x0) / (y1 - y0) < 1.4
    assert np.abs(view.x[0].permute(1, 2, 0).numpy() * 255 - np.asarray(theirs, dtype=np.float64)).mean() < 2.0


def test_settings_that_cannot_be_are_refused_in_a_sentence():
    for wrong in ({"flip": 2}, {"scale": (0.5, 0.2)}, {"scale": (0.5, 2.0)}, {"ratio": (0.0, 1.0)}, {"noise": -1}, {"size": 0}):
        with pytest.raises(OptionError, match=next(iter(wrong))):
            with_options(ImageSpec(16), wrong, what="image view")
