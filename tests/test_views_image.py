"""Views of images: resampling and colours against Pillow and plain loops in float64, crops against the published law."""

import itertools
import math
import random

import numpy as np
import pytest
import torch
from image_reference import batch_of, draws_of, greatest_gap, make, pictures, plain, reference_crop, reference_step
from PIL import Image

from selftaught.views import colour, geometry

# --- where a view lies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height,width", [(32, 32), (60, 200), (300, 60)])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.5, 1.0)])
def test_crops_follow_the_published_law_in_original_pixels(height, width, scale):
    n, ratio = 6000, (3 / 4, 4 / 3)
    boxes = geometry.crop_boxes(draws_of(n), torch.tensor([height, width]).expand(n, 2), scale, ratio).double()
    pixels = boxes * torch.tensor([height, width, height, width])
    assert (pixels - pixels.round()).abs().max() < 1e-3
    y0, x0, y1, x1 = pixels.round().T.numpy()
    rng = random.Random(1)
    y, x, h, w = np.array([reference_crop(rng, height, width, scale, ratio) for _ in range(n)]).T
    limit = 1.95 * math.sqrt(2 / n)  # one false alarm in a thousand
    for ours, theirs in (((y1 - y0) * (x1 - x0), h * w), ((x1 - x0) / (y1 - y0), w / h), (y0, y), (x0, x), (y1, y + h)):
        assert greatest_gap(ours, theirs) < limit


def test_crops_that_never_fit_are_the_largest_centred_ones():
    sizes = torch.tensor([[400, 20], [20, 400], [40, 40]])
    boxes = geometry.crop_boxes(draws_of(3), sizes, (1.0, 1.0), (0.75, 4 / 3))
    pixels = boxes * sizes.repeat(1, 2)
    expected = torch.tensor([[186.0, 0, 213, 20], [0, 186, 20, 213]])
    assert torch.allclose(pixels[:2], expected, atol=1e-3)


def test_a_whole_image_that_is_asked_for_is_taken_where_its_aspect_is_drawn():
    boxes = geometry.crop_boxes(draws_of(5), torch.full((5, 2), 32), (1.0, 1.0), (1.0, 1.0))
    assert torch.equal(boxes, torch.tensor([0.0, 0, 1, 1]).expand(5, 4))


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("inner,outer", [(32, 32), (48, 20), (20, 44), (64, 8)])
def test_resampling_equals_pillow_within_a_level(inner, outer, cubic):
    x = pictures(6, inner)
    boxes = geometry.crop_boxes(draws_of(6), torch.full((6, 2), inner), (0.08, 1.0), (0.75, 4 / 3))
    boxes[0] = torch.tensor([0.0, 0, 1, 1])
    boxes[1] = torch.tensor([0.1, 0.23, 0.77, 0.61])  # not in whole pixels
    still = torch.zeros(6, dtype=torch.bool)
    out = geometry.resample(x.transpose(2, 3).float(), boxes, (still, still), None, outer, cubic=cubic).clamp(0, 255)
    law = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    for k, (y0, x0, y1, x1) in enumerate((boxes * inner).tolist()):
        image = Image.fromarray(x[k].permute(1, 2, 0).numpy())
        theirs = np.asarray(image.resize((outer, outer), law, box=(x0, y0, x1, y1)), dtype=np.float64)
        difference = np.abs(out[k].permute(1, 2, 0).numpy() - theirs).max()
        assert difference <= (1.15 if cubic else 1.0 + 1e-3)  # Pillow rounds twice, the cubic's negative weights let it grow
        box = (x0, y0, x1, y1)
        floats = [Image.fromarray(channel.numpy()).resize((outer, outer), law, box=box) for channel in x[k].float()]
        assert np.abs(out[k].numpy() - np.stack([np.asarray(f) for f in floats]).clip(0, 255)).max() < 5e-3


def test_flips_reverse_what_the_unflipped_view_shows():
    x = pictures(4, 20).transpose(2, 3).float()
    boxes = geometry.crop_boxes(draws_of(4), torch.full((4, 2), 20), (0.2, 0.9), (0.75, 4 / 3))
    yes, no = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    straight = geometry.resample(x, boxes, (no, no), None, 16)
    assert torch.allclose(geometry.resample(x, boxes, (no, yes), None, 16), straight.flip(3), atol=1e-3)
    assert torch.allclose(geometry.resample(x, boxes, (yes, no), None, 16), straight.flip(2), atol=1e-3)


def test_blur_equals_a_loop_with_mirrored_edges_and_sigma_zero_changes_nothing():
    x = torch.rand(3, 2, 44, 44, dtype=torch.float64)
    sigma = torch.tensor([0.7, 2.0, 0.0])
    out = geometry.blur(x.float(), sigma)
    radius = geometry.blur_radius(44)
    assert radius == 2 and geometry.blur_radius(224) == 11  # SimCLR's 23 pixels
    for k in (0, 1):
        kernel = [math.exp(-0.5 * (d / sigma[k].item()) ** 2) for d in range(-radius, radius + 1)]
        mirrored = np.pad(x[k].numpy(), ((0, 0), (radius, radius), (radius, radius)), mode="reflect")
        expected = np.zeros((2, 44, 44))
        for i, j in itertools.product(range(2 * radius + 1), repeat=2):
            expected += kernel[i] * kernel[j] / sum(kernel) ** 2 * mirrored[:, i : i + 44, j : j + 44]
        assert np.abs(out[k].numpy() - expected).max() < 1e-5
    assert torch.equal(out[2], x[2].float())


def test_a_turn_of_a_right_angle_and_of_none():
    x = pictures(2, 16).float()
    boxes, sizes = torch.tensor([[0.0, 0, 1, 1]] * 2), torch.full((2, 2), 16)
    no = torch.zeros(2, dtype=torch.bool)
    out = geometry.turn(x.transpose(2, 3), boxes, torch.tensor([0.0, 90.0]), (no, no), sizes, 16)
    assert torch.allclose(out[0], x[0], atol=1e-3)
    assert torch.allclose(out[1], torch.rot90(x[1], 1, (1, 2)), atol=1e-2)
    flipped = geometry.turn(x.transpose(2, 3), boxes, torch.zeros(2), (no, ~no), sizes, 16)
    assert torch.allclose(flipped, x.flip(3), atol=1e-3)


def test_a_turned_crop_equals_a_point_by_point_loop_in_original_pixels():
    x = torch.rand(1, 1, 16, 16)
    box, (height, width), angle = (0.2, 0.3, 0.8, 0.7), (64, 32), 20.0
    no = torch.zeros(1, dtype=torch.bool)
    sizes = torch.tensor([[height, width]])
    out = geometry.turn(x.transpose(2, 3), torch.tensor([box]), torch.tensor([angle]), (no, no), sizes, 12)
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    for i, j in itertools.product(range(12), repeat=2):
        dy, dx = ((i + 0.5) / 12 - 0.5) * (box[2] - box[0]) * height, ((j + 0.5) / 12 - 0.5) * (box[3] - box[1]) * width
        py = ((box[0] + box[2]) / 2 + (s * dx + c * dy) / height) * 16 - 0.5
        px = ((box[1] + box[3]) / 2 + (c * dx - s * dy) / width) * 16 - 0.5
        y, x0 = math.floor(py), math.floor(px)
        fy, fx = py - y, px - x0
        at = lambda r, q: x[0, 0, r, q].item()  # noqa: E731
        upper, lower = ((1 - fx) * at(row, x0) + fx * at(row, x0 + 1) for row in (y, y + 1))
        expected = (1 - fy) * upper + fy * lower
        assert abs(out[0, 0, i, j].item() - expected) < 1e-4


# --- colours ---------------------------------------------------------------------------------------------------------


def test_one_matrix_equals_the_steps_one_by_one_in_every_order():
    x = torch.rand(24, 3, 5, 7, dtype=torch.float64)
    on = torch.ones(24, dtype=torch.bool)
    factors = colour.jitter_factors(draws_of(24), on, (0.8, 0.8, 0.8, 0.2))
    grey = torch.arange(24) % 5 == 0
    out = colour.apply_colour(x.float() * 200 + 10, factors, grey, 10.0, 210.0)
    for k, order in enumerate(itertools.permutations(range(4))):
        image = x[k].numpy()
        for step in order:
            image = reference_step(image, step, factors[("brightness", "contrast", "saturation", "hue")[step]][k].item())
        image = reference_step(image, 2, 0.0) if grey[k] else image
        assert np.abs(out[k].numpy() - image).max() < 2e-5


def test_enhancers_agree_with_pillow_where_nothing_is_clamped():
    from PIL import ImageEnhance

    x = pictures(3, 20) // 2 + 64
    grey = torch.zeros(3, dtype=torch.bool)
    for name, enhancer in (("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast),
                           ("saturation", ImageEnhance.Color)):
        factors = {k: torch.full((3,), 1.0 if k != "hue" else 0.0) for k in ("brightness", "contrast", "saturation", "hue")}
        factors[name] = torch.tensor([0.7, 1.2, 1.3])
        out = colour.apply_colour(x.float(), factors, grey, 0.0, 255.0) * 255
        for k in range(3):
            image = Image.fromarray(x[k].permute(1, 2, 0).numpy())
            theirs = np.asarray(enhancer(image).enhance(factors[name][k].item()), dtype=np.float64)
            assert np.abs(out[k].permute(1, 2, 0).numpy() - theirs).max() <= 1.5


def test_hue_identities():
    grey, ones = torch.zeros(5, dtype=torch.bool), torch.ones(5)
    hue = torch.tensor([0.0, 1.0, 0.1, -0.1, 0.37])
    turn = colour.colour_matrix(ones, ones, hue, grey)
    assert torch.allclose(turn[:2], torch.eye(3).expand(2, 3, 3), atol=1e-5)  # none and a whole turn
    assert torch.allclose(turn[2] @ turn[3], torch.eye(3), atol=1e-5)  # there and back
    assert torch.allclose(turn.sum(2), torch.ones(5, 3), atol=1e-5)  # greys stay
    weights = torch.tensor(colour.LUMINANCE)
    assert torch.allclose(weights @ turn, weights.expand(5, 3), atol=1e-5)  # luminance stays


def test_solarise_inverts_the_bright_half_only_where_drawn():
    x = torch.tensor([0.0, 0.25, 0.4999, 0.5, 0.75, 1.0]).view(1, 1, 2, 3).repeat(2, 1, 1, 1)
    out = colour.solarise(x, torch.tensor([True, False]))
    assert torch.equal(out[0].flatten(), torch.tensor([0.0, 0.25, 0.4999, 0.5, 0.25, 0.0]))
    assert torch.equal(out[1], x[1])


def test_images_without_three_channels_know_brightness_and_contrast_only():
    for channels in (1, 2, 5):
        statistics = {"low": 0.0, "high": 255.0, "mean": [0.0] * channels, "std": [1.0] * channels}
        spec = plain(16, scale=(1.0, 1.0), ratio=(1.0, 1.0), jitter=1.0, brightness=0.2, contrast=0.2, hue=0.5, grey=1.0)
        x = pictures(4, 16, channels) // 2 + 64
        view = make(batch_of(x), spec, statistics=statistics)[0]
        assert not view.applied["grey"].any() and (view.applied["saturation"] == 1).all() and (view.applied["hue"] == 0).all()
        image = x.double() / 255
        b, c = (view.applied[k].double()[:, None, None, None] for k in ("brightness", "contrast"))
        expected = c * b * image + (1 - c) * b * image.mean((2, 3), keepdim=True)
        assert (view.x - expected.clamp(0, 1)).abs().max() < 1e-5
