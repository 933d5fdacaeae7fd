"""The image modality: preprocessing, collation, the views of every need, pictures, on small arrays held in memory."""

import json

import numpy as np
import pytest
import torch
from image_reference import pictures
from PIL import Image

from selftaught.contracts import (
    BadItem,
    Batch,
    Clean,
    DataError,
    Draws,
    Facts,
    MultiCrop,
    Need,
    NotApplicable,
    OptionError,
    Pair,
    Single,
    Source,
)
from selftaught.modalities.base import Preprocessing
from selftaught.modalities.image import ImageModality, default_resolution
from selftaught.modalities.image_statistics import measure
from selftaught.sources import ImageArrays

IMAGE = ImageModality()


class Arrays(Source):
    """Images in memory, read one by one; those at `bad` cannot be read."""

    modality = "image"

    def __init__(self, images: np.ndarray, bad: tuple[int, ...] = (), resident: bool = False):
        self.images, self.bad, self.resident = images, bad, resident
        self.facts = Facts("image", len(images), images.shape[1:])
        self.canvas = None

    def set_canvas(self, side):
        self.canvas = side

    def read(self, index):
        if index in self.bad:
            raise BadItem("truncated")
        return {k: v[0] for k, v in self.take(np.array([index])).items()}

    def take(self, indices):
        x = self.images[indices]
        if x.shape[-1] != self.canvas and x.dtype == np.uint8:
            shape = (self.canvas, self.canvas)
            x = np.stack([[np.asarray(Image.fromarray(c).resize(shape)) for c in image] for image in x])
        return {"x": x, "size": np.tile(np.array(self.images.shape[2:], dtype=np.int64), (len(indices), 1)),
                "hash": np.full(len(indices), 2**63 + 5, dtype=np.uint64)}


def prepared(channels: int = 3, side: int = 32, resolution: int | None = None):
    source = Arrays(pictures(12, side, channels).numpy(), resident=True)
    preprocessing = IMAGE.prepare(source, resolution=resolution)
    fields, lengths = IMAGE.collate(source.take(np.arange(6)), preprocessing)
    assert lengths is None
    rows = torch.arange(6)
    return preprocessing, Batch(fields, rows, rows, torch.zeros(6, dtype=torch.int64))


def seen(need, channels=3, side=32, resolution=None, **options):
    preprocessing, batch = prepared(channels, side, resolution)
    return IMAGE.views(need, preprocessing, **options)(batch, batch.draws(0, "train"))


@pytest.mark.parametrize("dtype,high", [(np.uint8, 255.0), (np.uint16, 65535.0)])
@pytest.mark.parametrize("resident", [True, False])
def test_statistics_are_those_of_the_pixels_and_survive_json(dtype, high, resident):
    images = (np.random.default_rng(0).random((300, 3, 8, 8)) ** 2 * high).astype(dtype)
    source = Arrays(images, bad=() if resident else (0, 7), resident=resident)
    found = IMAGE.prepare(source)
    kept = images if resident else np.delete(images, (0, 7), axis=0)
    assert np.allclose(found.statistics["mean"], kept.mean((0, 2, 3)) / high)
    assert np.allclose(found.statistics["std"], kept.std((0, 2, 3)) / high)
    assert (found.statistics["low"], found.statistics["high"], found.statistics["clamp"]) == (0.0, high, True)
    assert found.facts.bit_depth == dtype(0).itemsize * 8 and found.facts.shape == (3, 8, 8)
    assert Preprocessing.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_floats_are_measured_missing_pixels_passed_over_and_never_cut():
    images = np.random.default_rng(0).normal(50, 20, (40, 5, 12, 12)).astype(np.float32)
    images[3, 2, 4, 4] = np.nan
    source = Arrays(images, resident=True)
    found = IMAGE.prepare(source)
    assert found.statistics["palette"] == "multi" and not found.statistics["clamp"]
    low, high = np.nanpercentile(images, (0.1, 99.9))
    assert found.statistics["low"] == pytest.approx(low) and found.statistics["high"] == pytest.approx(high)
    fields, _ = IMAGE.collate(source.take(np.arange(8)), found)
    rows = torch.arange(8)
    view = IMAGE.views(Clean(), found)(Batch(fields, rows, rows, rows), Draws(rows))[0]
    assert torch.isfinite(view.x).all() and abs(view.x.mean().item()) < 0.1 and abs(view.x.std().item() - 1) < 0.1


def test_nothing_readable_is_said_in_a_sentence():
    with pytest.raises(DataError, match="None of the items .* can be read .*: mend or convert them"):
        IMAGE.prepare(Arrays(pictures(3, 8).numpy(), bad=(0, 1, 2)))


@pytest.mark.parametrize("side,expected", [(8, 8), (20, 20), (28, 28), (30, 32), (32, 32), (64, 64), (96, 96), (100, 96),
                                           (224, 224), (640, 224)])
def test_default_resolution(side, expected):
    assert default_resolution(side) == expected


def test_canvas_is_an_eighth_larger_only_where_the_images_are():
    for side, resolution, canvas in ((32, None, 32), (80, 64, 73), (300, 64, 73), (70, 64, 70), (20, 32, 32)):
        source = Arrays(pictures(2, side).numpy(), resident=True)
        found = IMAGE.prepare(source, resolution=resolution)
        assert source.canvas == found.statistics["canvas"] == canvas
        source.canvas = None
        IMAGE.configure(source, found)
        assert source.canvas == canvas


def test_collation_of_items_and_of_deep_images():
    preprocessing, _ = prepared()
    source = Arrays(pictures(4, 32).numpy().astype(np.uint16) * 257)
    source.set_canvas(32)
    fields, _ = IMAGE.collate([source.read(k) for k in (2, 0)], preprocessing)
    assert fields["x"].dtype == torch.int32 and fields["x"].max() > 32767
    assert torch.equal(fields["size"], torch.tensor([[32, 32]] * 2)) and fields["hash"].dtype == torch.int64


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side,resolution", [(20, None), (90, 80)])
def test_views_of_every_need(channels, side, resolution):
    size = resolution or side
    needs = {Clean(): ["clean"], Single(strength="weak"): ["weak"], Single(): ["strong"], Pair(): ["global"] * 2,
             Pair(asymmetric=True): ["global"] * 2, MultiCrop(): ["global"] * 2 + ["local"] * 6,
             MultiCrop(asymmetric=True, small=1): ["global"] * 2 + ["local"]}
    for need, roles in needs.items():
        views = seen(need, channels, side, resolution)
        assert [v.role for v in views] == roles
        for view in views:
            little = {20: 8, 80: 32}[size]
            expected = little if view.role == "local" else size
            assert view.x.shape == (6, channels, expected, expected) and view.x.dtype == torch.float32
            assert torch.isfinite(view.x).all() and view.positions.shape == (6, 4)


def test_the_two_sides_of_byol_differ_as_the_paper_has_them():
    def specs(need, side, resolution):
        return IMAGE.views(need, prepared(3, side, resolution)[0]).specs

    large = specs(Pair(asymmetric=True), 90, 80)
    assert [s.blur for s in large] == [1.0, 0.1] and [s.solarise for s in large] == [0.0, 0.2]
    assert [s.hue for s in large] == [0.1, 0.1] and [s.flip for s in large] == [0.5, 0.5]
    small = specs(Pair(asymmetric=True), 32, None)
    assert [s.blur for s in small] == [0.0, 0.0] and [s.solarise for s in small] == [0.0, 0.2]
    assert len({*specs(Pair(), 32, None)}) == 1 and specs(Pair(), 90, 80)[0].scale == (0.08, 1.0)
    crops = specs(MultiCrop(small=4), 90, 80)
    assert [s.scale for s in crops] == [(0.14, 1.0)] * 2 + [(0.05, 0.14)] * 4


def test_options_override_every_view_and_unknown_ones_are_refused():
    for view in seen(Pair(), flip="0", scale="0.9,1", jitter=0):
        assert not view.applied["flip"].any() and not view.applied["jittered"].any()
        assert ((view.positions[:, 2:] - view.positions[:, :2]).prod(1) > 0.85).all()
    with pytest.raises(OptionError, match="rotate"):
        seen(Pair(), rotat=15)
    assert seen(Pair(), channels_last=True)[0].x.is_contiguous(memory_format=torch.channels_last)


def test_characters_are_not_mirrored_and_the_reason_is_given():
    preprocessing, _ = prepared(channels=1)
    assert preprocessing.statistics["flip"] == 0.0 and preprocessing.statistics["grey"]
    assert any("mirror" in reason for reason in preprocessing.statistics["reasons"])
    assert not any(v.applied["flip"].any() for v in seen(Pair(), 1))
    assert IMAGE.views(Pair(), prepared(channels=3)[0]).specs[0].flip == 0.5


def test_a_need_that_images_cannot_supply_is_refused_with_its_reason():
    with pytest.raises(NotApplicable, match="image"):
        IMAGE.views(Need(), prepared()[0])


def test_raw_is_the_clean_view_flattened():
    preprocessing, batch = prepared()
    clean = IMAGE.views(Clean(), preprocessing)(batch, batch.draws(3, "x"))[0].x
    assert torch.equal(IMAGE.raw(batch, preprocessing), clean.flatten(1))


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_pictures_are_rgb_in_the_aspect_of_the_original(channels):
    preprocessing, _ = prepared(channels)
    item = {"x": pictures(1, 32, channels)[0].numpy(), "size": np.array([40, 80])}
    picture = IMAGE.picture(item, preprocessing, side=64)
    assert picture.dtype == np.uint8 and picture.shape == (32, 64, 3)
    if channels < 3:
        assert (picture[..., 0] == picture[..., 2]).all()
    same = IMAGE.picture(item | {"size": np.array([32, 32])}, preprocessing, side=32)
    if channels >= 3:
        assert np.array_equal(same, item["x"][:3].transpose(1, 2, 0))


def test_bands_of_real_numbers_are_measured_all_over_the_image():
    ramp = np.linspace(0, 46, 64, dtype=np.float32)
    x = np.broadcast_to(ramp, (8, 64, 64, 64)).copy()  # 64 bands of 64 × 64, which differ from left to right
    found, *_ = measure(ImageArrays(x, layout="NCHW"), 8)
    assert found["low"] < 1 and found["high"] > 45 and found["mean"] == pytest.approx([0.5] * 64, abs=0.05)
