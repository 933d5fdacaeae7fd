"""Video: files of every form and damage, folders of frames, clips in memory; the laws of its views; masks in tubes; methods."""

import io

import numpy as np
import pytest
import torch

from selftaught.contracts import (
    BadItem,
    Batch,
    Clean,
    DataError,
    Draws,
    Mask,
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
from selftaught.sources import FrameFolders, Loader, Quarantine, VideoArrays, open_source
from selftaught.testing import check_method, source_of
from selftaught.views.masks import hidden_tokens

VIDEO = find_modality("video")


# ---- files --------------------------------------------------------------------------------------------------------------------


def encoded(frames=20, *, form="mp4", codec="mpeg4", pixels="yuv420p", height=48, width=64, rate=10, sound=0):
    """A video whose frame t has the green of 12 · t and a bar that moves to the right, and perhaps so many seconds of sound."""
    av = pytest.importorskip("av")
    stream = io.BytesIO()
    with av.open(stream, "w", format=form) as container:
        track = container.add_stream(codec, rate=rate)
        track.width, track.height, track.pix_fmt = width, height, pixels
        noise = container.add_stream("aac", rate=8000) if sound else None
        for t in range(frames):
            x = np.zeros((height, width, 3), np.uint8)
            x[:, 3 * t : 3 * t + 8], x[..., 1] = 255, 12 * t
            container.mux(track.encode(av.VideoFrame.from_ndarray(x, format="rgb24").reformat(format=pixels)))
        container.mux(track.encode())
        for k in range(round(sound * 8)):
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
            heard.rate, heard.pts = 8000, 1000 * k
            container.mux(noise.encode(heard))
        if sound:
            container.mux(noise.encode())
    return stream.getvalue()


def greens(item):
    return item["x"][1, : item["size"][0]].mean((1, 2))


@pytest.mark.parametrize("form, codec, pixels", [("mp4", "mpeg4", "yuv420p"), ("webm", "libvpx", "yuv420p"), ("gif", "gif", "rgb8"),
                                                 ("matroska", "mpeg4", "yuv420p"), ("avi", "mpeg4", "yuv420p")])
def test_every_form_gives_the_frames_that_were_written(form, codec, pixels):
    from selftaught.sources.video_decoding import decode_video, read_video_header

    blob = encoded(form=form, codec=codec, pixels=pixels)
    assert vars(read_video_header(blob)) == {"frames": 20, "height": 48, "width": 64}
    item = decode_video(blob, 8, 2, 32)  # 16 of 20 frames: the middle, from frame 2 on
    assert item["x"].shape == (3, 8, 32, 32) and item["x"].dtype == np.uint8 and item["size"].tolist() == [8, 48, 64]
    assert np.abs(np.diff(greens(item)) - 24).max() < 9
    short = decode_video(blob, 30, 1, 16)
    assert short["size"][0] == 20 and (short["x"][:, 20:] == 0).all() and short["hash"] == item["hash"]


@pytest.mark.parametrize("form, codec", [("mp4", "mpeg4"), ("matroska", "mpeg4"), ("mpegts", "mpeg2video"), ("flv", "flv1")])
@pytest.mark.parametrize("rate, sound", [(25, 0.5), (25, 5)])
def test_sound_may_outlast_the_pictures(form, codec, rate, sound):
    """Some forms say how long they are, but not how many frames they have; what ends before that time is still found."""
    from selftaught.sources.video_decoding import decode_video, read_video_header

    blob = encoded(form=form, codec=codec, rate=rate, sound=sound)
    assert read_video_header(blob).frames == 20 and decode_video(blob, 30, 1, 16)["size"][0] == 20
    if form != "mpegts":  # which says nothing of its length
        with pytest.raises(BadItem, match="truncated|not readable as video|no pictures"):
            decode_video(blob[: len(blob) * 2 // 3], 30, 1, 16)


def test_damage_is_a_bad_item_with_its_reason():
    av = pytest.importorskip("av")
    from selftaught.sources.video_decoding import decode_video

    sound = io.BytesIO()
    with av.open(sound, "w", format="mp4") as container:
        track, frame = container.add_stream("aac", rate=8000), av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(track.encode(frame))
        container.mux(track.encode())
    good, webm = encoded(), encoded(form="webm", codec="libvpx")
    gif = encoded(form="gif", codec="gif", pixels="rgb8")
    for blob, reason in ((b"", "zero bytes"), (bytes(3000), "all bytes are zero"), (b"no video at all" * 40, "not readable as video"),
                         (good[: len(good) // 2], "not readable as video"), (webm[: len(webm) // 2], "truncated: . of 20 frames"),
                         (gif[: len(gif) // 2], "truncated"), (sound.getvalue(), "sound but no pictures"),
                         (encoded(frames=1), "holds 1 frame, and a clip needs")):
        with pytest.raises(BadItem, match=reason) as caught:
            decode_video(blob, 8, 1, 16)
        assert len(str(caught.value)) < 200 and "Errno" not in str(caught.value)
    rng = np.random.default_rng(0)
    for _ in range(20):
        bent = bytearray(good)
        for place in rng.integers(0, len(good), 6):
            bent[place] = rng.integers(256)
        try:
            assert decode_video(bytes(bent), 8, 1, 16)["x"].shape == (3, 8, 16, 16)
        except BadItem:
            continue


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_is_decoded_by_workers_and_the_bad_are_set_aside(tmp_path, workers):
    for i in range(8):
        place = tmp_path / "clips" / ("left", "right")[i % 2] / f"{i}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(frames=8 + i) if i not in (3, 6) else b"" if i == 3 else b"nonsense")
    source = open_source(tmp_path / "clips")
    assert source.modality == "video" and source.classes == ["left", "right"] and source.facts.shape[2:] == (48, 64)
    assert open_source([tmp_path / "clips" / "left" / "0.mp4"], least=1).modality == "video"
    prepared = VIDEO.prepare(source, resolution=16, frames=4)
    assert prepared.facts.shape == (3, 4, 16, 16) and prepared.statistics["canvas"] == 18 and prepared.statistics["frames"] == 15
    slots, quarantine = np.arange(8), Quarantine(tmp_path / "q.jsonl")
    with Loader(source, lambda items: VIDEO.collate(items, prepared), seed=0, num_workers=workers, quarantine=quarantine) as loader:
        batch = next(loader.batches([(slots, np.zeros_like(slots), slots)]))
    assert batch.x.shape == (8, 3, 15, 18, 18) and batch.x.dtype == torch.uint8
    places = sorted(i for i in range(8) if source.name(i).endswith(("3.mp4", "6.mp4")))
    assert {entry["reason"].partition(":")[0] for entry in quarantine.entries} == {"zero bytes", "not readable as video"}
    assert not set(batch.index.tolist()) & set(places)


def test_without_pyav_it_says_how_to_get_it(tmp_path, monkeypatch):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(OptionError, match=r"package av .*pip install selftaught\[video\]"):
        open_source(tmp_path)


def test_folders_of_frames_are_clips_in_the_order_of_their_numbers(tmp_path):
    from PIL import Image

    for clip in range(4):
        place = tmp_path / "all" / ("up", "down")[clip % 2] / f"clip{clip}"
        place.mkdir(parents=True)
        for t in range(12):
            Image.fromarray(np.full((20, 30, 3), 20 * t, np.uint8)).save(place / f"{t}.png")
    (tmp_path / "all" / "up" / "clip2" / "7.png").write_bytes(b"nonsense")
    source = open_source(tmp_path / "all", modality="video")
    assert isinstance(source, FrameFolders) and len(source) == 4 and source.classes == ["down", "up"]
    assert source.name(0) == "down/clip1" and source.facts.shape == (3, 12, 20, 30)
    source.set_canvas((5, 2, 8))
    item = source.read(0)
    assert greens(item).tolist() == [20, 60, 100, 140, 180] and item["size"].tolist() == [5, 20, 30]  # frame 1, 3, … of 12: 9 before 10
    with pytest.raises(BadItem, match="frame 7.png: not an image"):
        source.read(3)
    (tmp_path / "all" / "up" / "clip2" / "7.png").rename(tmp_path / "all" / "up" / "clip2" / "f1²0.png")  # no number that int() reads
    assert len(open_source(tmp_path / "all", modality="video").paths(3)) == 12
    with pytest.raises(DataError, match="make a folder of images for each clip"):
        open_source(tmp_path / "all" / "up" / "clip0", modality="video")


def test_clips_in_memory_of_any_layout_and_length():
    x = np.random.default_rng(0).integers(0, 255, (6, 10, 12, 16, 3), dtype=np.uint8)
    source = open_source(x)
    assert isinstance(source, VideoArrays) and source.facts.shape == (3, 10, 12, 16) and source.read(2)["size"].tolist() == [10, 12, 16]
    for other in (open_source(x.transpose(0, 1, 4, 2, 3), layout="NTCHW"), open_source(x / np.float32(255), modality="video"),
                  open_source({"x": torch.from_numpy(x), "y": np.arange(6)}, modality="video")):
        other.set_canvas((10, 1, 16))
        assert np.array_equal(other.read(2)["x"], source.read(2)["x"])
    assert np.array_equal(open_source(x.transpose(0, 4, 1, 2, 3), modality="video").read(2)["x"], source.read(2)["x"])  # [N, 3, 10, 12, 16]
    ragged = open_source([x[0], x[1, :4], x[2, :, :8]], modality="video")
    assert ragged.read(1)["size"].tolist() == [4, 12, 16] and (ragged.read(1)["x"][:, 4:] == 0).all()
    source.set_canvas((3, 2, 16))  # the middle six of ten frames, every other one
    whole = open_source(x, modality="video").read(0)["x"]
    assert np.array_equal(source.read(0)["x"], whole[:, 2:8:2])
    for bad, error, said in ((x[:, :1], DataError, "has 1 frame"), (x[..., :2].repeat(3, 4), OptionError, "may be THWC, TCHW or CTHW: say"),
                             (np.full((3, 5, 8, 8), np.nan), DataError, "values from nan"), (x[0, 0], DataError, "no clip"),
                             ({"x": np.array(3.0)}, DataError, "without axes"),
                             (np.ones((3, 5, 8, 8)) * 7, DataError, "real numbers within 0..1")):
        with pytest.raises(error, match=said):
            open_source(bad, modality="video")
    with pytest.raises(DataError, match="modality=video or modality=volume"):
        open_source(np.zeros((3, 4, 8, 8, 1), np.float32))


# ---- views --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moving():
    """Clips of 12 frames in colour whose frame t is t everywhere but for a gradient in space; every other one has 9 frames only."""
    x = np.zeros((16, 12, 3, 16, 16), np.uint8)
    x += (10 * np.arange(12, dtype=np.uint8))[:, None, None, None] + np.arange(16, dtype=np.uint8) * 2
    x[:, :, :, 8:] += 40
    return open_source([clip[: 12 - 3 * (i % 2)] for i, clip in enumerate(x)], modality="video")


def seen(source, need, seed=0, rows=16, prepared=None, **options):
    prepared = prepared or VIDEO.prepare(source, frames=4, stride=1)
    VIDEO.configure(source, prepared)
    place = torch.arange(rows)
    batch = Batch(VIDEO.collate(source.take(np.arange(rows)), prepared)[0], place, place, torch.zeros_like(place))
    return VIDEO.views(need, prepared, **options)(batch, batch.draws(seed, "t"))


NEEDS = [Single(strength="weak"), Single(), Pair(), Pair(asymmetric=True), Pair(known=True), MultiCrop(large=2, small=2), Transformed(),
         Transformed(kind="channels"), Transformed(kind="quadrant_turn", every=False), Patches(side=2, whole=True, turn=0.5, aperture=0.5)]


@pytest.mark.parametrize("need", NEEDS, ids=repr)
def test_every_need_gives_views_that_hold_the_contract(moving, need):
    views, again, other = (seen(moving, need, seed) for seed in (0, 0, 1))
    counts = {Single: 1, Pair: 2, MultiCrop: 4, Patches: 9, Transformed: need.classes if getattr(need, "every", False) else 1}
    assert len(views) == counts[type(need)]
    for a, b in zip(views, again):
        assert torch.equal(a.x, b.x) and a.x.ndim == 5 and a.x.dtype == torch.float32 and a.x.isfinite().all()
        assert a.positions.shape == (16, 6) and (a.positions[:, 3:] > a.positions[:, :3]).all() and a.positions.min() >= 0
    assert any(not torch.equal(a.x, b.x) for a, b in zip(views, other))
    if getattr(need, "known", False):
        assert views[0].applied["transform"].shape == (16, 8) and (views[0].applied["transform"][:, :4].std(0) > 0.05).all()


def test_clean_is_the_middle_of_each_clip(moving):
    (view,) = seen(moving, Clean())
    prepared = VIDEO.prepare(moving, frames=4, stride=1)
    shown = view.x * torch.tensor(prepared.statistics["std"]).view(3, 1, 1, 1) + torch.tensor(prepared.statistics["mean"]).view(3, 1, 1, 1)
    for row, first in ((0, 4), (1, 2)):  # of 12 frames and of 9
        expected = torch.from_numpy(moving.read(row)["x"][:, first : first + 4].astype(np.float32)) / 255
        assert torch.allclose(shown[row], expected, atol=1e-5)
    assert Preprocessing.from_json(prepared.to_json()) == prepared


def test_crop_flip_and_colour_are_one_draw_for_all_frames(moving):
    """A still clip stays still under every strong view; without its gradient in time nothing tells frame from frame."""
    still = VideoArrays(moving.take(np.arange(16))["x"][:, :, :1].repeat(8, 2).transpose(0, 2, 1, 3, 4))
    prepared = VIDEO.prepare(still, frames=4, stride=1)
    for view in seen(still, Pair(), prepared=prepared, blur=1.0, noise=0.0, rotate=20.0):
        assert torch.allclose(view.x, view.x[:, :, :1].expand_as(view.x), atol=1e-4) and view.x[:, :, 0].flatten(1).std(0).mean() > 0.1
    noisy = seen(still, Pair(), prepared=prepared, noise=0.1)[0].x
    assert not torch.allclose(noisy, noisy[:, :, :1].expand_as(noisy), atol=1e-2)


def test_time_is_cropped_strided_and_reversed_as_drawn(moving):
    plain = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0, "blur": 0.0, "reverse": 0.5}
    prepared = VIDEO.prepare(moving, frames=4, stride=1)
    (view,) = seen(moving, Single(), prepared=prepared, stride=(1, 3), **plain)
    level = (view.x * torch.tensor(prepared.statistics["std"]).view(3, 1, 1, 1))[:, 0].mean((2, 3)) * 25.5  # frames, up to a constant
    step, reverse = level.diff(dim=1), view.applied["reverse"]
    drawn = view.applied["stride"] * (1 - 2 * reverse.long())
    assert torch.allclose(step, drawn[:, None].float().expand_as(step), atol=1e-2)
    assert 0 < reverse.sum() < 16 and view.applied["stride"][::2].max() == 3 and view.applied["stride"][1::2].max() == 2  # 9 frames hold 7
    first = torch.where(reverse, level[:, -1], level[:, 0])
    assert (first - first.min() > 0.5).sum() > 4  # not all from one place


def test_a_view_depends_on_its_own_clip_alone(moving):
    whole = seen(moving, Pair(), noise=0.1)
    half = seen(moving, Pair(), rows=7, noise=0.1)
    assert all(torch.allclose(a.x[:7], b.x, atol=1e-5) for a, b in zip(whole, half))


def test_a_turn_is_backward_in_time_or_by_half_in_space(moving):
    plain, back, down, both = (v.x for v in seen(moving, Transformed()))
    assert torch.equal(back, plain.flip(2)) and torch.equal(down, plain.flip(3, 4)) and torch.equal(both, plain.flip(2, 3, 4))
    assert not torch.equal(back, plain)


def test_blocks_tile_the_clip_in_reading_order(moving):
    views = seen(moving, Patches(side=2, jitter=0.0), flip=0.0)
    box = torch.stack([v.positions for v in views], 1)  # [B, 8, 6]
    assert torch.allclose((box[..., 3:] - box[..., :3])[..., 1:], torch.tensor(0.5)) and (box[:, 4:, 0] >= box[:, :4, 3] - 1e-6).all()
    assert (box[:, 1::2, 2] > box[:, ::2, 2]).all() and (box[:, [2, 3, 6, 7], 1] > box[:, [0, 1, 4, 5], 1]).all()
    early, late = views[0].x.mean((1, 2, 3, 4)), views[4].x.mean((1, 2, 3, 4))
    assert (late > early).all()  # the clips grow brighter


def test_what_video_cannot_supply_is_refused_with_the_reason(moving):
    grey = VideoArrays(np.zeros((4, 6, 8, 8), np.uint8) + np.arange(8, dtype=np.uint8))
    with pytest.raises(NotApplicable, match="video: .*1 channel"):
        seen(grey, Transformed(kind="channels"), rows=4)
    with pytest.raises(OptionError, match="Did you mean 'reverse'"):
        seen(moving, Pair(), revers=1)
    with pytest.raises(OptionError, match="know no cutout"):
        seen(moving, Pair(), cutout=0.5)
    with pytest.raises(OptionError, match="Did you mean 'frames'"):
        VIDEO.prepare(moving, frame=3)


def test_a_tube_hides_the_same_places_at_all_times():
    draws = Draws(torch.arange(64))
    hidden = hidden_tokens(draws, (4, 5, 6), 0.9, kind="tube").view(64, 4, 30)
    assert (hidden.sum((1, 2)) == 108).all()  # 90 % of 120, exactly
    assert (hidden == hidden[:, :1]).all()  # 27 of 30 places, at all four times
    assert len(torch.unique(hidden[:, 0], dim=0)) > 60
    loose = hidden_tokens(draws, (4, 5, 6), 0.9).view(64, 4, 30)
    assert not (loose == loose[:, :1]).flatten(1).all(1).any()


# ---- networks, pictures and methods --------------------------------------------------------------------------------------------------


def test_networks_have_three_axes_and_cubes_of_two_frames(moving):
    prepared = VIDEO.prepare(moving, frames=4, stride=1)
    x = VIDEO.example(prepared.facts)
    convolutional = VIDEO.backbone(prepared.facts, "convnet", widths=(8, 16))
    assert convolutional.convolutions[0].weight.shape == (8, 3, 3, 3, 3) and convolutional(x).pooled.shape == (2, 16)
    long = VIDEO.backbone(prepared.facts.with_(shape=(3, 8, 64, 64)), "convnet", widths=(4, 4, 4, 4))  # halved in time once, in space often
    assert [layer.stride for layer in long.convolutions] == [(1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)]
    transformer = VIDEO.backbone(prepared.facts, "vit_tiny", width=24, depth=1, heads=2)
    assert transformer.grid(x.shape) == (2, 4, 4) and transformer.patch == (2, 4, 4)
    view = VIDEO.hide(lambda batch, draws: seen(moving, Single(strength="weak")), Mask("tube", (0.75, 0.75)), transformer.grid)(
        None, Draws(torch.arange(16)))[0]
    assert (view.masks.view(16, 2, 16).sum(2) == 12).all()


def test_an_encoder_takes_clips_in_memory_and_comes_back_from_disk(moving, tmp_path):
    prepared = VIDEO.prepare(moving, frames=4, stride=1)
    options = {"widths": [8, 16]}
    encoder = Encoder(VIDEO.backbone(prepared.facts, "convnet", **options), prepared, backbone_name="convnet", backbone_options=options)
    clips = [moving.read(i)["x"][:, : 12 - 3 * (i % 2)].transpose(1, 0, 2, 3) for i in range(5)]
    z, again = encoder.embed(clips), Encoder.load(encoder.save(tmp_path / "encoder"))
    assert z.shape == (5, 16) and np.array_equal(again.embed(clips), z) and encoder.raw(clips).shape == (5, 3 * 4 * 12 * 12)
    with pytest.raises(DataError, match=r"1 channel where the encoder was made for 3.*one item alone .* x\[None\]"):
        encoder.embed(clips[0].transpose(0, 2, 3, 1))
    picture = VIDEO.picture(moving.read(0), prepared, side=64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8 and picture[40, 40].mean() > picture[8, 8].mean()  # later: brighter


@pytest.mark.parametrize("method", ["simclr", "mae"])
def test_methods_conform_on_video(method):
    checks = check_method(method, modalities=("video",), two_processes=False, learns=False)
    assert {c.name for c in checks if c.holds} >= {"gradients finite and non-zero", "resume equals uninterrupted", "parameters round-trip",
                                                   "a draw of its own for every sample"}


def test_the_generated_clips_differ_in_motion_alone():
    """Classes k, k + 4 and k + 8 show the same pattern: only how it moves tells them apart."""
    source = source_of("video", 240)
    change = np.abs(np.diff(source.take(np.arange(240))["x"].astype(np.float64), axis=2)).mean((1, 2, 3, 4))
    moves = np.array([change[source.labels // 4 == kind].mean() for kind in range(3)])
    assert moves[0] < 0.85 * moves[1:].min()
