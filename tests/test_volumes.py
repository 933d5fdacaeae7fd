"""Volumes: files of every form and damage, spacing and intensities; the laws of their views along three axes; methods."""

import gzip
import io
import zipfile

import numpy as np
import pytest
import torch

from selftaught.contracts import (
    BadItem,
    Batch,
    Clean,
    DataError,
    MultiCrop,
    NotApplicable,
    OptionError,
    Pair,
    Patches,
    Single,
    Transformed,
)
from selftaught.encoder import Encoder
from selftaught.modalities import Preprocessing, find_modality
from selftaught.plan import make_plan
from selftaught.sources import Loader, Quarantine, VolumeArrays, open_source
from selftaught.sources.volume_decoding import normalised, on_canvas, read_volume, resized
from selftaught.testing import check_method
from selftaught.views.grid3d import along
from selftaught.views.grid3d_transforms import half_turned

VOLUME = find_modality("volume")


def ball(shape=(12, 16, 16), radius=4.0, spacing=(1, 1, 1), seed=0):
    """A ball in the middle, `radius` units in space, in noise."""
    place = np.stack(np.meshgrid(*(((np.arange(n) + 0.5) - n / 2) * s for n, s in zip(shape, spacing)), indexing="ij"))
    x = 100.0 * ((place**2).sum(0) < radius**2) + np.random.default_rng(seed).normal(0, 3, shape)
    return x.astype(np.float32)


def npy(x):
    stream = io.BytesIO()
    np.save(stream, x)
    return stream.getvalue()


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


# ---- files --------------------------------------------------------------------------------------------------------------------


def test_a_folder_of_arrays_with_spacings_is_resampled_to_one(tmp_path):
    """Balls of one size in space, sampled at several spacings, become balls of one size in cells."""
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    for i, spacing in enumerate(((1, 1, 1), (2, 1, 1), (1, 0.5, 0.5), (1, 1, 1))):
        shape = tuple(round(n / s) for n, s in zip((12, 16, 16), spacing))
        (tmp_path / "ab"[i % 2] / f"{i}.npz").write_bytes(npz(x=ball(shape, spacing=spacing), spacing=spacing))
    source = open_source(tmp_path, modality="volume")
    assert source.classes == ["a", "b"] and source.facts.shape == (1, 12, 16, 16) and "Spacings lie between" in source.facts.notes[-1]
    sizes = [float((source.read(i)["x"] > 0.5).sum()) for i in range(4)]
    assert max(sizes) < 1.15 * min(sizes) and all(source.read(i)["size"].tolist() == [12, 16, 16] for i in range(4))
    prepared = VOLUME.prepare(source, resolution=8)
    assert prepared.facts.shape == (1, 8, 8, 8) and np.allclose(prepared.statistics["spacing"], [1.5, 2, 2])
    assert Preprocessing.from_json(prepared.to_json()) == prepared
    small = float((source.read(0)["x"] > 0.5).sum()) * 1.5 * 2 * 2
    assert abs(small / sizes[0] - 1) < 0.35 and source.read(0)["x"].shape == (1, 8, 8, 8)


def test_a_folder_of_npy_is_told_by_its_axes_and_archives_equal_it(tmp_path):
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as packed:
        for i in range(3):
            (tmp_path / f"{i}.npy").write_bytes(npy(ball(seed=i)))
            packed.write(tmp_path / f"{i}.npy", f"{i}.npy")
    folder = open_source(tmp_path)
    assert folder.modality == "volume" and len(folder) == 3
    archive = open_source(tmp_path / "v.zip", modality="volume")
    assert np.array_equal(archive.read(2)["x"], folder.read(2)["x"]) and folder.read(0)["x"].dtype == np.float32


def test_nifti_is_turned_and_its_spacing_read(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    x = ball((6, 10, 8), seed=3)
    x[:, :, :2] += 50.0  # one side is lighter
    for i, (way, name) in enumerate(((1, "a.nii.gz"), (-1, "b.nii.gz"), (1, "c.nii"))):
        stored = x.transpose(2, 1, 0)[::way]  # from left to right, or from right to left and said so
        image = nibabel.Nifti1Image(np.ascontiguousarray(stored), np.diag([0.5 * way, 2.0, 3.0, 1.0]))
        nibabel.save(image, tmp_path / name)
        volume, spacing = read_volume((tmp_path / name).read_bytes())
        assert np.allclose(volume[0], x) and spacing.tolist() == [3, 2, 0.5], i
    (tmp_path / "d.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:300])
    source = open_source(tmp_path)
    assert source.modality == "volume" and source.name(0) == "a.nii.gz" and source.facts.shape == (1, 6, 10, 8)
    with pytest.raises(BadItem, match="truncated or damaged"):
        source.read(3)


def test_truth_values_are_read_as_0_and_1(tmp_path):
    masks = [ball(seed=i) > 50 for i in range(3)]
    for i, mask in enumerate(masks):
        np.save(tmp_path / f"{i}.npy", mask)
    for source in (open_source(tmp_path), open_source(np.stack(masks), modality="volume")):
        assert np.array_equal(source.read(1)["x"][0], masks[1])


def test_files_are_read_in_the_layout_that_is_said_and_again_by_the_encoder(tmp_path):
    """Three slices of three channels, and volumes of seven: the shape alone does not say which axis the channels are."""
    for name, n, depth in (("few", 3, 3), ("many", 7, 6)):
        (tmp_path / name).mkdir()
        x = [np.stack([ball((depth, 8, 8), radius=3, seed=9 * i + c) for c in range(n)], -1) for i in range(4)]  # [D, H, W, C]
        for i, volume in enumerate(x):
            np.save(tmp_path / name / f"{i}.npy", volume)
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as packed:
            [packed.write(path, path.name) for path in sorted((tmp_path / name).iterdir())]
        with pytest.raises(DataError, match="say which with layout=NCDHW or layout=NDHWC"):
            open_source(tmp_path / name, modality="volume")
        source, expected = open_source(tmp_path / name, layout="NDHWC"), open_source(np.stack(x), layout="NDHWC")
        assert source.facts.shape == (n, depth, 8, 8) and np.array_equal(source.read(1)["x"], expected.read(1)["x"])
        assert Preprocessing.from_json(VOLUME.prepare(source).to_json()).facts.layout == "NDHWC"
        encoder = Encoder(VOLUME.backbone((prepared := VOLUME.prepare(source)).facts, "convnet", widths=[8]), prepared)
        for data in (tmp_path / name, sorted((tmp_path / name).iterdir()), tmp_path / f"{name}.zip"):
            assert np.allclose(encoder.embed(data), encoder.embed(np.stack(x)), atol=1e-5)
    with pytest.raises(OptionError, match="layout=NHWC does not fit volumes"):
        open_source(tmp_path / "few", modality="volume", layout="NHWC")
    for data in (tmp_path / "few", np.stack(x)):
        with pytest.raises(DataError, match="does not fit layout=NDHW"):
            open_source(data, layout="NDHW")


def test_a_volume_that_is_cut_is_named_once(tmp_path):
    """Sixteen of forty are looked at; the long ones are not among them."""
    for i in range(40):
        np.save(tmp_path / f"{i:02}.npy", ball((20 if i in (6, 9) else 8, 8, 8), radius=3, seed=i))
    prepared = VOLUME.prepare(open_source(tmp_path), sample=4)
    assert "room for the longest of 16 volumes looked at" in prepared.statistics["reasons"][1] and prepared.facts.shape == (1, 8, 8, 8)
    source = open_source(tmp_path)
    with pytest.warns(UserWarning, match="06.npy: it takes 20 × 8 × 8 cells, and there is room for 8 × 8 × 8: its middle is kept") as said:
        assert [source.read(i)["size"].tolist() for i in (5, 6, 9)] == [[8, 8, 8]] * 3
    assert len(said) == 1
    memory = VolumeArrays([ball((20 if i in (6, 9) else 8, 8, 8), radius=3, seed=i) for i in range(12)])
    with pytest.warns(UserWarning, match="array, volume 6: it takes 20") as said:
        VOLUME.configure(memory, prepared)
    assert len(said) == 1


def test_volumes_have_as_many_channels_as_most_of_them(tmp_path):
    for i, channels in enumerate((1, 3, 1, 3, 3, 1)):
        np.save(tmp_path / f"{i}.npy", np.stack([ball(seed=i)] * channels))
    source = open_source(tmp_path, modality="volume")
    assert source.facts.shape == (1, 12, 16, 16) and source.read(0)["x"].shape == (1, 12, 16, 16)  # as many of each: the fewest
    with pytest.raises(BadItem, match="^3 channels where most volumes have 1$"):
        source.read(1)
    np.save(tmp_path / "6.npy", np.stack([ball()] * 3))
    with pytest.raises(BadItem, match="^1 channel where most volumes have 3$"):
        open_source(tmp_path, modality="volume").read(0)


def test_nifti_of_the_second_version_is_read_like_the_first():
    nibabel = pytest.importorskip("nibabel")
    x, packed = ball((6, 10, 8)), []
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        packed.append(kind(x.transpose(2, 1, 0), np.diag([0.5, 2.0, 3.0, 1.0])).to_bytes())
    for blob in (*packed, gzip.compress(packed[1])):
        volume, spacing = read_volume(blob)
        assert np.array_equal(volume[0], x) and spacing.tolist() == [3, 2, 0.5]


def test_without_nibabel_it_says_how_to_get_it(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.nii.gz").write_bytes(gzip.compress(bytes(400)))
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(OptionError, match=r"package nibabel.*pip install nibabel"):
        open_source(tmp_path)


def damaged():
    broken, flat = ball(), np.full((6, 6, 6), 4.0)
    broken[3, 3, 3:6] = np.nan
    return {"zero bytes": (b"", "zero bytes"), "cut": (npy(ball())[:900], "not readable as a volume"),
            "nan": (npy(broken), "3 of 3,072 voxels are NaN"), "constant": (npy(flat), "constant: every voxel is 4"),
            "flat": (npy(np.zeros((4, 4), np.float32)), "a volume is"), "words": (npy(np.array([[["a"]]])), "a volume is"),
            "no x": (npz(y=ball()), "arrays y, but no x"), "spacing": (npz(x=ball(), spacing=[1, 0, 1]), "three positive numbers"),
            "many channels": (npy(np.zeros((7, 8, 8, 8), np.float32)), "may be CDHW or DHWC: say which"),
            "other channels": (npy(np.stack([ball()] * 2)), "2 channels where most volumes have 1")}


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_sets_aside_what_is_damaged_and_says_why(tmp_path, workers):
    for i in range(12):
        (tmp_path / f"good{i:02}.npy").write_bytes(npy(ball(seed=i)))
    for name, (blob, _) in damaged().items():
        (tmp_path / f"{name}.npz").write_bytes(blob)
    source = open_source(tmp_path, modality="volume")
    prepared = VOLUME.prepare(source, resolution=8)
    slots, quarantine = np.arange(len(source)), Quarantine(tmp_path / "q.jsonl")
    with Loader(source, lambda items: VOLUME.collate(items, prepared), seed=0, num_workers=workers, quarantine=quarantine,
                max_bad=0.9) as loader:
        batch = next(loader.batches([(slots, np.zeros_like(slots), slots)]))
    said = {entry["name"].removesuffix(".npz"): entry["reason"] for entry in quarantine.entries}
    assert set(said) == set(damaged()) and all(reason in said[name] for name, (_, reason) in damaged().items())
    assert batch.x.shape == (22, 1, 8, 8, 8) and batch.x.isfinite().all() and set(batch.index.tolist()) <= set(range(1, 22))


def test_volumes_in_memory_and_what_is_refused():
    x = np.stack([ball(seed=i) for i in range(4)])
    source = open_source({"x": x, "spacing": [2, 1, 1], "y": [0, 1, 0, 1]}, modality="volume")
    assert isinstance(source, VolumeArrays) and source.facts.shape == (1, 12, 16, 16) and source.labels.tolist() == [0, 1, 0, 1]
    assert np.array_equal(open_source(x[..., None], layout="NDHWC").read(1)["x"], source.read(1)["x"])
    smaller = open_source([x[0], x[1, 2:9, :10]], modality="volume")
    assert smaller.read(1)["size"].tolist() == [7, 10, 16] and (smaller.read(1)["x"][0, :2] == 0).all()  # in the middle
    x[2, 0, 0, 0] = np.inf
    for bad, said in ((x, "volume 2: 1 of 3,072 voxels are NaN or infinite; mend"), ({"x": x[:2], "spacing": [1, 2]}, "spacing"),
                      ({"x": x[:2], "spacing": "abc"}, "its spacing 'abc' is not made of numbers"), ({"x": np.array(3.0)}, "without axes"),
                      (np.ones((3, 5, 5, 5)), "volume 0: constant: every voxel is 1; mend")):
        with pytest.raises(DataError, match=said):
            open_source(bad, modality="volume")


def test_intensities_lie_between_their_percentiles_whatever_their_unit():
    x = np.random.default_rng(0).normal(0, 1, (2, 10, 10, 10))
    out = normalised(x)
    for channel in range(2):
        low, high = np.percentile(x[channel], (0.5, 99.5))
        assert np.allclose(out[channel], ((x[channel] - low) / (high - low)).clip(0, 1), atol=1e-6)
    assert np.allclose(normalised(1000 + 50 * x), out, atol=1e-5)
    few = np.zeros((1, 20, 20, 20))
    few[0, 3, 3, 3] = 5.0  # both percentiles are background
    assert normalised(few).max() == 1 and normalised(few).sum() == 1


def test_resampling_keeps_what_is_linear_and_what_is_average():
    line = np.arange(12, dtype=np.float32)[None, :, None, None] + np.zeros((1, 12, 8, 6), np.float32)
    assert np.allclose(resized(line, (6, 8, 6))[0, 1:-1, 0, 0], np.arange(6)[1:-1] * 2 + 0.5, atol=1e-4)
    rough = np.random.default_rng(0).normal(size=(1, 16, 16, 16)).astype(np.float32)
    assert abs(resized(rough, (4, 8, 16)).mean() - rough.mean()) < 0.01 and resized(rough, (4, 4, 4)).std() < 0.3  # no aliasing
    canvas, size = on_canvas(ball()[None], np.ones(3), (4, 20, 8), np.ones(3))
    assert canvas.shape == (1, 4, 20, 8) and size.tolist() == [4, 16, 8] and (canvas[:, :, :2] == 0).all()
    assert np.array_equal(canvas[0, :, 2:18], normalised(ball()[None])[0, 4:8, :, 4:12])


# ---- views --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source():
    return VolumeArrays([ball(seed=i)[: 12 - 4 * (i % 2)] + 20 * np.arange(16) for i in range(12)])


def seen(source, need, seed=0, rows=12, **options):
    prepared = VOLUME.prepare(source)
    VOLUME.configure(source, prepared)
    place = torch.arange(rows)
    batch = Batch(VOLUME.collate(source.take(np.arange(rows)), prepared)[0], place, place, torch.zeros_like(place))
    return VOLUME.views(need, prepared, **options)(batch, batch.draws(seed, "t"))


NEEDS = [Single(strength="weak"), Single(), Pair(), Pair(asymmetric=True), Pair(known=True), MultiCrop(large=2, small=2), Transformed(),
         Transformed(kind="patch_turn"), Transformed(every=False), Patches(side=2, whole=True, turn=0.5, aperture=0.5)]


@pytest.mark.parametrize("need", NEEDS, ids=repr)
def test_every_need_gives_views_that_hold_the_contract(source, need):
    views, again, other = (seen(source, need, seed) for seed in (0, 0, 1))
    counts = {Single: 1, Pair: 2, MultiCrop: 4, Patches: 9, Transformed: 4 if getattr(need, "every", False) else 1}
    assert len(views) == counts[type(need)]
    for a, b in zip(views, again):
        assert torch.equal(a.x, b.x) and a.x.ndim == 5 and a.x.dtype == torch.float32 and a.x.isfinite().all()
        assert a.positions.shape == (12, 6) and (a.positions[:, 3:] > a.positions[:, :3]).all() and 0 <= a.positions.min()
    assert any(not torch.equal(a.x, b.x) for a, b in zip(views, other))
    half = seen(source, need, rows=5)
    assert all(torch.allclose(a.x[:5], b.x, atol=1e-5) for a, b in zip(views, half))
    if getattr(need, "known", False):
        assert views[0].applied["transform"].shape == (12, 8) and (views[0].applied["transform"].std(0) > 0.02).all()


def test_clean_is_the_normalised_canvas(source):
    prepared = VOLUME.prepare(source)
    (view,) = seen(source, Clean())
    expected = (source.take(np.arange(12))["x"] - prepared.statistics["mean"][0]) / prepared.statistics["std"][0]
    assert view.x.shape[1:] == prepared.facts.shape == (1, 12, 16, 16) and np.allclose(view.x.numpy(), expected, atol=1e-5)
    inside = np.concatenate([source.read(i)["x"][:, 2 * (i % 2) : 12 - 2 * (i % 2)].ravel() for i in range(12)])
    assert abs(prepared.statistics["mean"][0] - inside.mean()) < 1e-5  # padding does not count


def test_a_crop_lies_in_the_volume_and_shows_what_is_there(source):
    """Without flips and turns a crop of a gradient is that gradient over its own part, along each axis."""
    plain = {"reverse": 0.0, "vertical_flip": 0.0, "flip": 0.0, "turn": 0.0, "jitter": 0.0, "blur": 0.0, "noise": 0.0}
    ramp = np.stack(np.meshgrid(*(np.linspace(0, 1, 16),) * 3, indexing="ij")).astype(np.float32)
    steep = VolumeArrays([ramp[axis] for axis in (0, 1, 2)])
    prepared = VOLUME.prepare(steep)
    (view,) = seen(steep, Single(), rows=3, scale=(0.1, 0.4), **plain)
    x = (view.x * prepared.statistics["std"][0] + prepared.statistics["mean"][0])[:, 0]
    for axis in range(3):
        line = x[axis].movedim(axis, 0).flatten(1).mean(1)
        cell = (torch.arange(16) + 0.5) / 16
        expected = (view.positions[axis, axis] + cell * (view.positions[axis, axis + 3] - view.positions[axis, axis])) * 16 / 15 - 0.5 / 15
        assert (line - expected)[2:-2].abs().max() < 0.03
    many = seen(source, Pair(count=8), **{**plain, "scale": (0.05, 0.2)})
    box = torch.cat([v.positions for v in many])
    part = torch.cat([v.applied["part"] for v in many])
    assert 0.05 <= part.min() < 0.09 and 0.16 < part.max() <= 0.2
    cells = (box[:, 3:] - box[:, :3]).prod(1).view(8, -1)
    torch.testing.assert_close(cells[:, 1::2], part.view(8, -1)[:, 1::2] * 8 / 12)
    short = torch.cat([v.positions[1::2] for v in many])  # the middle two thirds of their canvas
    assert short[:, 0].min() >= 2 / 12 - 1e-5 and short[:, 3].max() <= 10 / 12 + 1e-5


def test_flips_and_turns_only_move_voxels(source):
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "jitter": 0.0, "blur": 0.0, "noise": 0.0}
    clean, (view,) = seen(source, Clean())[0], seen(source, Single(), **whole)
    assert torch.allclose(view.x[::2].flatten(1).sort(1).values, clean.x[::2].flatten(1).sort(1).values, atol=1e-3)
    applied = view.applied
    for i in range(0, 12, 2):
        x = clean.x[i, 0]
        x = x.flip([axis for axis, name in enumerate(("reverse", "vertical_flip", "flip")) if applied[name][i]])
        assert torch.allclose(view.x[i, 0], torch.rot90(x, int(applied["turn"][i]), (1, 2)), atol=1e-3)
    assert len(applied["turn"].unique()) > 2


def test_blur_noise_and_intensity_do_what_they_say(source):
    still = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "reverse": 0.0, "vertical_flip": 0.0, "flip": 0.0, "turn": 0.0, "jitter": 0.0,
             "blur": 0.0, "noise": 0.0}
    std = VOLUME.prepare(source).statistics["std"][0]
    plain = seen(source, Single(), **still)[0].x
    noisy = seen(source, Single(), **{**still, "noise": 0.2})[0].x
    assert abs(float((noisy - plain).std()) * std - 0.2) < 0.01
    blurred = seen(source, Single(), **{**still, "blur": 1.0, "sigma": (1.0, 1.0)})[0].x
    for axis in (2, 3, 4):
        assert blurred.diff(dim=axis, n=2).abs().mean() < 0.5 * plain.diff(dim=axis, n=2).abs().mean()
    brighter = seen(source, Single(), **{**still, "jitter": 1.0, "contrast": 0.0, "brightness": 0.3})[0]
    assert brighter.applied["brightness"].std() > 0.08 and not torch.allclose(brighter.x, plain, atol=0.1)


def test_taps_along_an_axis_are_a_matrix_along_it():
    x = torch.randn(2, 3, 4, 5, 6)
    index, weights = torch.randint(4, (2, 7, 2), dtype=torch.int32), torch.rand(2, 7, 2)
    matrix = torch.zeros(2, 7, 4).scatter_add_(2, index.long(), weights)
    assert torch.allclose(along(x, 2, (index, weights)), torch.einsum("brd,bcdhw->bcrhw", matrix, x), atol=1e-5)


def test_half_turns_are_told_apart_and_undo_themselves():
    x = torch.randn(1, 1, 3, 4, 5)
    turns = [half_turned(x, torch.tensor([k]), time=False) for k in range(4)]
    assert torch.equal(turns[0], x) and all(not torch.equal(a, b) for k, a in enumerate(turns) for b in turns[:k])
    assert all(torch.equal(half_turned(turned, torch.tensor([k]), time=False), x) for k, turned in enumerate(turns))
    assert torch.equal(half_turned(turns[1], torch.tensor([2]), time=False), turns[3])  # about one axis and another: about the third


def test_the_plan_says_the_cells_along_the_longest_axis():
    long = VolumeArrays([ball((40, 24, 20), seed=i) for i in range(4)])
    assert [make_plan(long, given)["resolution"] for given in ({"steps": 1}, {"steps": 1, "resolution": 16})] == [40, 16]
    said = make_plan(VolumeArrays([ball((80, 24, 20), seed=i) for i in range(4)]), {"steps": 1}).choices["resolution"]
    assert (said.value, said.reason) == (64, "enough for content; the items are about 80")


def test_what_volumes_cannot_supply_is_refused_with_the_reason(source):
    with pytest.raises(NotApplicable, match="volume: .*no colours"):
        seen(source, Transformed(kind="channels"))
    oblong = VolumeArrays([ball((8, 8, 12), seed=i) for i in range(3)])
    with pytest.raises(NotApplicable, match="8 × 12 cells are not square"):
        seen(oblong, Transformed(kind="patch_turn"), rows=3)
    assert seen(oblong, Pair(), rows=3)[0].x.shape == (3, 1, 8, 8, 12)  # turned by halves alone
    with pytest.raises(OptionError, match="volume view option hue would change nothing"):
        seen(source, Pair(), hue=0.2)


def test_cells_of_unequal_sides_are_turned_by_halves_alone(source):
    """A quarter turn would lay what is 1 mm wide where 3 mm are."""
    place = torch.arange(12)
    batch = Batch(VOLUME.collate(source.take(np.arange(12)), VOLUME.prepare(source))[0], place, place, torch.zeros_like(place))
    turns = {}
    for spacing in ((1.0, 1.0, 1.0), (1.0, 1.0, 3.0)):
        prepared = VOLUME.prepare(source)
        prepared.statistics["spacing"] = list(spacing)
        view = VOLUME.views(Single(), prepared)(batch, batch.draws(0, "t"))[0]
        turns[spacing[-1]] = set(view.applied["turn"].tolist())
    assert turns[1.0] & {1, 3} and turns[3.0] == {0, 2}


# ---- networks, pictures and methods --------------------------------------------------------------------------------------------------


def test_an_encoder_takes_volumes_in_memory_and_comes_back_from_disk(source, tmp_path):
    prepared, options = VOLUME.prepare(source), {"widths": [8, 16]}
    encoder = Encoder(VOLUME.backbone(prepared.facts, "convnet", **options), prepared, backbone_name="convnet", backbone_options=options)
    volumes = [ball(seed=i)[: 12 - i] for i in range(4)]
    z, again = encoder.embed(volumes), Encoder.load(encoder.save(tmp_path / "encoder"))
    assert z.shape == (4, 16) and np.array_equal(again.embed(volumes), z) and encoder.raw(volumes).shape == (4, 12**3)
    assert np.allclose(again.embed(volumes[2:3])[0], z[2], atol=1e-5)
    picture = VOLUME.picture(source.read(0), prepared, side=64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8 and (picture[..., 0] == picture[..., 2]).all()


@pytest.mark.parametrize("method", ["byol", "jepa"])
def test_methods_conform_on_volumes(method):
    checks = check_method(method, modalities=("volume",), two_processes=False, learns=False)
    assert {c.name for c in checks if c.holds} >= {"gradients finite and non-zero", "resume equals uninterrupted", "parameters round-trip",
                                                   "a draw of its own for every sample", "no gradient reaches a teacher"}
