"""Black and white of pictures of more than eight bits: as bright as those of eight, whatever they are stored in."""

import numpy as np
import pytest
import torch
from image_reference import pictures
from PIL import Image

from selftaught.contracts import Batch, Clean, Draws, Pair
from selftaught.modalities import find_modality
from selftaught.sources import open_source

IMAGE, VIDEO = find_modality("image"), find_modality("video")
GREY = pictures(40, 32, 1).numpy()


def seen(images, need, **options):
    """(preprocessing, first view, first picture) of [N, 1, H, W]."""
    source = open_source(images, layout="NCHW")
    found = IMAGE.prepare(source)
    index = torch.arange(8)
    fields, _ = IMAGE.collate(source.take(np.arange(8)), found)
    view = IMAGE.views(need, found, **options)(Batch(fields, index, index, torch.zeros_like(index)), Draws(index))[0]
    return found, view.x, IMAGE.picture({k: v[0] for k, v in source.take(np.array([0])).items()}, found)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_pictures_look_like_the_same_in_eight_bits(bits):
    deep = (GREY.astype(np.float64) * (2**bits - 1) / 255).round().astype(np.uint16)
    for need, options in ((Clean(), {}), (Pair(), {}), (Pair(), {"solarise": 1.0})):
        (_, plain, _), (found, view, picture) = seen(GREY, need, **options), seen(deep, need, **options)
        agree = np.corrcoef(plain.flatten(), view.flatten())[0, 1]
        assert found.statistics["high"] == 2**bits - 1 and agree > 0.99, (need, agree)
    assert picture.max() > 200 and any(f"white {2**bits - 1:,}" in reason for reason in found.statistics["reasons"])


def test_a_broken_pixel_does_not_set_the_span_of_real_numbers():
    images = np.random.default_rng(0).normal(50, 20, (40, 1, 32, 32)).astype(np.float32)
    whole, clean, _ = seen(images, Clean())
    images[20, 0, 3, 3], images[0, 0, 3, 3], images[0, 0, 4, 4] = 1e6, np.inf, -1e6
    found, view, _ = seen(images, Clean())
    for name in ("low", "high"):
        assert abs(found.statistics[name] - whole.statistics[name]) < 1
    assert abs(found.statistics["std"][0] / whole.statistics["std"][0] - 1) < 0.2
    assert view.isfinite().all() and view.abs().max() < 100
    torch.testing.assert_close(view[1:], clean[1:], rtol=0.2, atol=0.1)


def test_values_within_zero_and_one_keep_them_as_black_and_white():
    images = (GREY[:, :, :8, :8] / 255).astype(np.float32) / 2
    found, _, _ = seen(images, Clean())
    assert (found.statistics["low"], found.statistics["high"]) == (0.0, 1.0)


def test_twelve_bit_frames_keep_eight_bits_and_the_white_of_training(tmp_path):
    ramp = np.linspace(0, 4000, 32 * 32).reshape(32, 32)
    for root, part in (("bright", 1.0), ("dark", 0.1)):
        for clip in range(2):
            (tmp_path / root / f"k/{clip}").mkdir(parents=True)
            for t in range(4):
                Image.fromarray((ramp * part).astype(np.uint16)).save(tmp_path / root / f"k/{clip}/{t}.png")
    bright, dark = (open_source(tmp_path / root, modality="video") for root in ("bright", "dark"))
    bright.set_canvas((4, 1, 32))
    x = bright.read(0)["x"][:, :4]
    assert len(np.unique(x)) > 240 and x.max() == round(4000 * 255 / 4095) and any("4,095" in note for note in bright.facts.notes)
    found = VIDEO.prepare(bright)
    assert found.statistics["white"] == 4095 and dark.white == 511
    VIDEO.configure(dark, found)
    assert abs(dark.read(0)["x"].max() - 400 * 255 / 4095) < 1
