"""Log-mel against its formula, the laws of the views of sound, lengths through the networks, and two methods on sound."""

import math

import numpy as np
import pytest
import torch

from selftaught.contracts import (
    TRANSFORM_WIDTH,
    Batch,
    Clean,
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
from selftaught.sources import open_source
from selftaught.testing import check_method, source_of
from selftaught.views.logmel import FLOOR, LogMel

AUDIO = find_modality("audio")
RATE, HOP = 4000, 40


@pytest.fixture(scope="module")
def source():
    return source_of("audio", 48)


@pytest.fixture(scope="module")
def prepared(source):
    return AUDIO.prepare(source)


def batch_of(source, prepared, rows=48):
    fields, lengths = AUDIO.collate(source.take(np.arange(rows)), prepared)
    place = torch.arange(rows)
    return Batch(fields, place, place, torch.zeros_like(place), None, lengths)


def seen(source, prepared, need, seed=0, **options):
    batch = batch_of(source, prepared)
    return AUDIO.views(need, prepared, **options)(batch, batch.draws(seed, "train"))


# ---- log-mel --------------------------------------------------------------------------------------------------------------


def naive(x, rate, mels, fft):
    """Frame by frame, frequency by frequency, in float64, from the formula alone."""
    hop, width = round(0.01 * rate), round(0.025 * rate)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    mel = lambda f: 2595 * math.log10(1 + f / 700)  # noqa: E731
    low, high = mel(min(60.0, rate / 16)), mel(0.4875 * rate)
    corner = [700 * (10 ** ((low + (high - low) * i / (mels + 1)) / 2595) - 1) for i in range(mels + 2)]
    out = np.zeros((mels, -(-len(x) // hop)))
    for t in range(out.shape[1]):
        frame = np.array([x[i] if 0 <= i < len(x) else 0.0 for i in range(t * hop - width // 2, t * hop - width // 2 + width)]) * window
        wave = lambda k: np.exp(-2j * np.pi * k * np.arange(width) / fft)  # noqa: E731
        power = [abs(np.sum(frame * wave(k))) ** 2 / np.sum(window**2) for k in range(fft // 2 + 1)]
        for m in range(mels):
            a, b, c = corner[m : m + 3]
            out[m, t] = math.log(FLOOR + sum(max(0.0, min((f - a) / (b - a), (c - f) / (c - b))) * p
                                             for p, f in zip(power, (k * rate / fft for k in range(fft // 2 + 1)))))
    return out


@pytest.mark.parametrize("rate, mels", [(4000, 24), (8000, 40)])
def test_log_mel_is_its_formula(rate, mels):
    x = np.random.default_rng(0).normal(0, 0.1, rate // 16 + 7) + np.sin(np.arange(rate // 16 + 7) * 0.3)
    logmel = LogMel(rate, mels)
    found = logmel(torch.tensor(x, dtype=torch.float32)[None])[0]
    expected = naive(x, rate, mels, logmel.fft)
    assert found.shape == expected.shape == (mels, int(logmel.frames(torch.tensor(len(x)))))
    assert np.abs(found.numpy() - expected).max() < 2e-3


@pytest.mark.parametrize("rate", [2000, 8000, 11025, 16000, 44100])
def test_no_filter_is_empty_and_their_sum_is_flat(rate):
    logmel = LogMel(rate)
    assert (logmel.filters.sum(1) > 0.2).all() and logmel.fft >= logmel.width
    inner = (logmel.hertz > logmel.corners[1]) & (logmel.hertz < logmel.corners[-2])
    assert (logmel.filters.sum(0)[inner] - 1).abs().max() < 1e-5  # neighbouring triangles add up to one


def test_noise_has_its_variance_in_every_bin_whatever_the_rate():
    x = 0.1 * torch.randn(64, 8000, generator=torch.Generator().manual_seed(0))
    for rate in (8000, 16000):
        logmel = LogMel(rate)
        power = logmel(x).exp()[:, :, 4:-4].mean((0, 2)) / logmel.filters.sum(1)
        assert (power / 0.01 - 1).abs().max() < 0.1


def test_a_batch_equals_clip_by_clip_and_padding_changes_no_frame():
    x = torch.randn(40, 3000, generator=torch.Generator().manual_seed(1))
    x[:, 2000:] = 0
    logmel = LogMel(8000)
    whole = logmel(x)
    assert torch.allclose(whole, torch.cat([logmel(clip[None]) for clip in x]), atol=1e-5)
    assert torch.allclose(whole[:, :, : 2000 // logmel.hop], logmel(x[:, :2000]), atol=1e-5)


# ---- preprocessing ----------------------------------------------------------------------------------------------------------


def test_the_plan_settles_rate_window_and_statistics(source, prepared):
    assert prepared.facts.shape == (1, 64, 40) and prepared.statistics["rate"] == RATE and prepared.statistics["canvas"] == 1600
    assert Preprocessing.from_json(prepared.to_json()) == prepared
    batch = batch_of(source, prepared)
    logmel = LogMel(RATE)
    x, frames = logmel(batch.x), logmel.frames(batch.lengths)
    values = torch.cat([x[i, :, : frames[i]].flatten() for i in range(len(x))]).double()
    assert abs(prepared.statistics["mean"] - float(values.mean())) < 1e-4
    assert abs(prepared.statistics["std"] - float(values.std(correction=0))) < 1e-4
    short = AUDIO.prepare(source_of("audio", 16), resolution=16, mels=20, rate=2000)
    assert short.facts.shape == (1, 20, 16) and short.statistics["rate"] == 2000 and short.statistics["canvas"] % 20 == 0


@pytest.mark.parametrize("options, said", [({"mel": 40}, "Did you mean 'mels'"), ({"form": "waves"}, "form of audio input"),
                                           ({"mels": 2}, "4 to 512 mel bands"), ({"resolution": 2}, "resolution=2 is too short")])
def test_settings_that_do_not_fit_are_refused(options, said):
    with pytest.raises(OptionError, match=said):
        AUDIO.prepare(source_of("audio", 8), **options)


# ---- views ------------------------------------------------------------------------------------------------------------------


def test_clean_is_the_standardised_spectrogram(source, prepared):
    (view,) = seen(source, prepared, Clean())
    batch, logmel = batch_of(source, prepared), LogMel(RATE)
    assert view.role == "clean" and torch.equal(view.lengths, logmel.frames(batch.lengths))
    for i in range(0, 48, 7):
        n = int(view.lengths[i])
        own = (logmel(batch.x[i : i + 1])[:, :, :n] - prepared.statistics["mean"]) / prepared.statistics["std"]
        assert torch.allclose(view.x[i, :, :, :n], own, atol=1e-4) and (view.x[i, :, :, n:] == 0).all()


NEEDS = [Single("weak"), Single("strong"), Pair(), Pair(asymmetric=True), Pair(known=True), Pair(count=4), MultiCrop(large=2, small=3),
         Transformed(), Transformed(every=False), Patches(side=3), Patches(side=2, whole=True, aperture=0.5, turn=0.5, yoked=True)]


@pytest.mark.parametrize("need", NEEDS, ids=repr)
def test_every_need_gives_views_that_hold_the_contract(source, prepared, need):
    views, again, other = (seen(source, prepared, need, seed) for seed in (0, 0, 1))
    counts = {Single: 1, Pair: getattr(need, "count", 2), MultiCrop: 5, Transformed: 4 if getattr(need, "every", False) else 1}
    assert len(views) == counts.get(type(need), getattr(need, "side", 0) ** 2 + getattr(need, "whole", False))
    for a, b in zip(views, again):
        assert torch.equal(a.x, b.x)
        past = torch.arange(a.x.shape[-1]) >= a.lengths[:, None]
        assert a.x.ndim == 4 and a.x.dtype == torch.float32 and a.x.isfinite().all()
        assert (a.x.masked_select(past[:, None, None].expand_as(a.x)) == 0).all()
        assert ((a.positions >= -1e-4) & (a.positions <= 1 + 1e-4)).all()
    assert any(not torch.equal(a.x, b.x) for a, b in zip(views, other))
    if getattr(need, "known", False):
        told = views[0].applied["transform"]
        assert told.shape == (48, TRANSFORM_WIDTH) and told.abs().max() < 2 and (told[:, :6].std(0) > 0.05).all()


@pytest.mark.parametrize("form", ["logmel", "waveform"])
@pytest.mark.parametrize("need", [Pair(), Patches(side=2, whole=True), MultiCrop(large=1, small=1)], ids=repr)
def test_a_view_depends_on_its_own_clip_alone(source, form, need):
    """Half of the batch is seen as in the whole batch, even noise: draws and statistics are the clip's own."""
    prepared = AUDIO.prepare(source, form=form)
    batch = batch_of(source, prepared)
    rows = torch.arange(1, 48, 2)
    make = AUDIO.views(need, prepared, **({"noise_p": 1.0} if form == "logmel" else {"jitter_p": 1.0}))
    part = AUDIO.take(batch, rows)
    for whole, half in zip(make(batch, batch.draws(0, "t")), make(part, part.draws(0, "t"))):
        assert torch.allclose(whole.x[rows], half.x, atol=1e-4)


def test_gain_noise_and_masks_do_what_they_say(source, prepared):
    plain = {"crop_p": 0, "band_p": 0, "gain_p": 0, "noise_p": 0, "time_mask_p": 0, "band_mask_p": 0}
    clean = seen(source, prepared, Clean())[0]
    std, inside = prepared.statistics["std"], torch.arange(40) < clean.lengths[:, None]
    (loud,) = seen(source, prepared, Single(), **{**plain, "gain_p": 1.0})
    ends = loud.applied["gain"]
    assert ends.abs().max() <= 6 and ends.std() > 2
    told = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * (torch.arange(40) / clean.lengths[:, None])
    added = (loud.x - clean.x)[:, 0] * std * 10 / math.log(10)
    assert ((added - told[:, None]) * inside[:, None]).abs().max() < 1e-3
    (noisy,) = seen(source, prepared, Single(), **{**plain, "noise_p": 1.0, "snr": (0, 0)})
    power = lambda view: ((view.x[:, 0] * std + prepared.statistics["mean"]).exp() * inside[:, None]).sum((1, 2))  # noqa: E731
    ratio = power(noisy) / power(clean)  # as much noise as there is sound
    assert abs(float(ratio.median()) - 2) < 0.15 and (noisy.x + 1e-4 >= clean.x).all()
    (hidden,) = seen(source, prepared, Single(), **{**plain, "time_mask_p": 1.0, "time_mask": 0.2, "band_mask_p": 1.0, "band_mask": 0.25})
    gone = (hidden.x[:, 0] == 0) & inside[:, None]
    assert (gone.all(2) | (gone | ~inside[:, None]).all(2)).sum(1).tolist() == [16] * 48
    frames = (gone.sum(1) == 64).sum(1)
    assert torch.equal(frames, (0.2 * clean.lengths).round().long())


def test_the_length_of_a_view_does_not_tell_its_clip(source, prepared):
    """Crops keep a length of their own: how long the clip was explains little of how long its views are, and the tempo is as drawn."""
    views = seen(source, prepared, Pair(count=8))
    clip, shown = seen(source, prepared, Clean())[0].lengths.double(), torch.stack([v.lengths for v in views]).double()
    own = (shown / clip).std()
    assert own > 0.12 and torch.corrcoef(torch.stack([shown[0], shown[1]]))[0, 1] < 0.6
    kept = (views[0].positions[:, 1] - views[0].positions[:, 0]) * clip
    assert ((shown[0] - kept / views[0].applied["tempo"]).abs() <= 1).all()


def test_turns_are_flips_that_undo_themselves(source, prepared):
    views = seen(source, prepared, Transformed(), gain_p=0.0)
    assert [int(v.applied["class"][0]) for v in views] == [0, 1, 2, 3]
    for i, n in enumerate(views[0].lengths[:8].tolist()):
        plain, back, down, both = (v.x[i, 0, :, :n] for v in views)
        assert torch.equal(back, plain.flip(1)) and torch.equal(down, plain.flip(0)) and torch.equal(both, plain.flip(0, 1))


def test_what_sound_cannot_supply_is_refused_with_the_reason(prepared):
    for need in (Transformed(kind="channels"), Transformed(kind="patch_turn"), Transformed(kind="quadrant_turn")):
        with pytest.raises(NotApplicable, match="audio: .*time and frequency"):
            AUDIO.views(need, prepared)
    with pytest.raises(OptionError, match="Did you mean 'noise_p'"):
        AUDIO.views(Pair(), prepared, noisep=1)
    with pytest.raises(OptionError, match="lowest first"):
        AUDIO.views(Pair(), prepared, snr=(9, 1))


def test_long_recordings_show_windows():
    rng = np.random.default_rng(0)
    source = open_source({"x": rng.normal(0, 0.1, (4, 8 * RATE)), "rate": RATE}, modality="audio")
    prepared = AUDIO.prepare(source, resolution=40)
    assert prepared.statistics["canvas"] == 160 * HOP and prepared.facts.lengths is None
    place = torch.arange(4)
    batch = Batch(AUDIO.collate(source.take(np.arange(4)), prepared)[0], place, place, torch.zeros_like(place))
    clean = AUDIO.views(Clean(), prepared)(batch, batch.draws(0, "t"))[0]
    middle = LogMel(RATE)(batch.x)[:, :, 60:100]
    shown = clean.x[:, 0] * prepared.statistics["std"] + prepared.statistics["mean"]
    assert clean.lengths is None and torch.allclose(shown, middle, atol=1e-3)
    a, b = AUDIO.views(Pair(), prepared)(batch, batch.draws(0, "t"))
    assert a.x.shape == clean.x.shape and (a.positions - b.positions).abs().max() > 0.05


# ---- lengths through the networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, options", [("convnet", {"widths": (8, 16)}), ("vit_tiny", {"patch": 8, "width": 48, "depth": 2}),
                                           ("vit_tiny", {"patch": 16, "width": 48, "depth": 2, "pool": "mean"})])
def test_a_padded_batch_equals_one_by_one(source, prepared, name, options):
    """In evaluation mode, for spectrograms whose time is padded: nothing of the padding reaches the features."""
    torch.manual_seed(0)
    network = AUDIO.backbone(prepared.facts, name, **options).eval()
    view = seen(source, prepared, Clean())[0]
    with torch.no_grad():
        together = network(view.x, lengths=view.lengths).pooled
        for i in (0, 5, 9):
            x = view.x[i : i + 1].clone()
            x[..., int(view.lengths[i]) :] = torch.nan  # whatever lies behind the end
            alone = network(x, lengths=view.lengths[i : i + 1]).pooled
            assert torch.allclose(together[i], alone[0], atol=1e-4)
        assert not torch.allclose(together, network(view.x, lengths=view.lengths // 2).pooled, atol=1e-3)


def test_masks_hide_tokens_of_time_and_frequency(source, prepared):
    network = AUDIO.backbone(prepared.facts, "vit_tiny", patch=8, width=48, depth=1)
    batch = batch_of(source, prepared)
    view = AUDIO.hide(AUDIO.views(Single("weak"), prepared), Mask("random", (0.75, 0.75)), network.grid)(batch, batch.draws(0, "t"))[0]
    assert network.grid(view.x.shape) == (8, 5) and view.masks.shape == (1, 48, 40) and (view.masks.sum(-1) == 30).all()
    features = network(view.x, lengths=view.lengths, keep=view.applied["keep"][0])
    assert features.tokens.shape == (48, 10, 48) and (features.lengths <= 10).all()


# ---- what a person sees, and methods -------------------------------------------------------------------------------------------------


def test_raw_and_picture(source, prepared):
    batch = batch_of(source, prepared)
    raw, logmel = AUDIO.raw(batch, prepared), LogMel(RATE)
    n = int(logmel.frames(batch.lengths[3]))
    own = logmel(batch.x[3:4])[0, :, :n]
    assert raw.shape == (48, 128) and torch.allclose(raw[3], torch.cat([own.mean(1), own.std(1, correction=0)]), atol=1e-3)
    t = np.arange(1600) / RATE
    item = {"x": (0.5 * np.sin(2 * np.pi * 1500 * t) * (t > 0.2)).astype(np.float32), "size": np.array([1600, 0])}
    picture = AUDIO.picture(item, prepared, side=64)
    light = picture.astype(float).sum(2)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert row < 24 and column > 32  # a high tone late in the clip: above, to the right


def test_an_encoder_takes_clips_in_memory_and_comes_back_from_disk(source, prepared, tmp_path):
    encoder = Encoder(AUDIO.backbone(prepared.facts, "convnet", widths=(8, 16)), prepared, backbone_name="convnet",
                      backbone_options={"widths": [8, 16]})
    clips = {"x": [clip[: 900 + 10 * i] for i, clip in enumerate(source.take(np.arange(5))["x"])], "rate": RATE}
    z = encoder.embed(clips)
    again = Encoder.load(encoder.save(tmp_path / "encoder"))
    assert z.shape == (5, 16) and np.array_equal(again.embed(clips), z)
    one = again.embed({"x": clips["x"][2:3], "rate": RATE})
    assert np.abs(one[0] - z[2]).max() < 1e-5


def test_waveforms_are_series_of_one_channel(source):
    prepared = AUDIO.prepare(source, form="waveform")
    assert prepared.facts.shape == (1, 1600)
    batch = batch_of(source, prepared)
    clean = AUDIO.views(Clean(), prepared)(batch, batch.draws(0, "t"))[0]
    assert torch.allclose(clean.x[:, 0] * prepared.statistics["std"], batch.x, atol=1e-5) and torch.equal(clean.lengths, batch.lengths)
    network = AUDIO.backbone(prepared.facts, "convnet", widths=(8, 16))
    assert network(clean.x, lengths=clean.lengths).pooled.shape == (48, 16)


def test_a_method_conforms_and_learns_on_sound():
    """SimCLR beats its random initialisation and itself with pairs shuffled, by five points of k-NN; tests/test_conformance.py has it
    on two processes."""
    checks = check_method("simclr", modalities=("audio",), two_processes=False, steps=100)
    assert {c.name for c in checks if c.holds} >= {"gradients finite and non-zero", "resume equals uninterrupted", "parameters round-trip",
                                                   "a draw of its own for every sample", "learns"}
