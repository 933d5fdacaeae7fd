"""Sound files: every format, rate, damage and place that they come from, and what is said of silence and clipping."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from selftaught.contracts import BadItem, DataError, OptionError, Source
from selftaught.modalities import find_modality
from selftaught.sources import Loader, Quarantine, open_source, subset
from selftaught.sources.audio_decoding import CLIPPED, SILENT, SOUND, decode_sound, looks_like_sound, read_sound_header, resampled

soundfile = pytest.importorskip("soundfile")


def tone(seconds=0.5, rate=8000, hertz=440.0, size=0.3):
    return (size * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(x, rate=8000, form="WAV", **options):
    stream = io.BytesIO()
    soundfile.write(stream, x, rate, format=form, **options)
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path):
    def make(files, name="sounds"):
        for path, blob in files.items():
            place = tmp_path / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(blob)
        return tmp_path / name

    return make


@pytest.mark.parametrize("form, options, near", [("WAV", {}, 1e-4), ("WAV", {"subtype": "PCM_24"}, 1e-6), ("WAV", {"subtype": "FLOAT"}, 0),
                                                 ("FLAC", {}, 1e-4), ("AIFF", {}, 1e-4), ("OGG", {}, 0.05), ("MP3", {}, 0.1)])
def test_every_format_gives_the_sound_that_was_written(form, options, near):
    if form not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {form}")
    x = tone(1.0, 16000)
    blob = encoded(x, 16000, form, **options)
    item = decode_sound(blob, 16000, 16000)
    assert looks_like_sound(blob[:16]) or form == "MP3"
    assert item["x"].dtype == np.float32 and item["size"].tolist() == [16000, SOUND]
    assert np.abs(item["x"] - x)[200:-200].max() <= near


def test_channels_are_averaged_and_what_is_short_is_padded():
    blob = encoded(np.stack([tone(hertz=300), tone(hertz=700)], 1))
    item = decode_sound(blob, 8000, 6000)
    assert item["size"].tolist() == [4000, SOUND] and (item["x"][4000:] == 0).all()
    assert np.abs(item["x"][:4000] - (tone(hertz=300) + tone(hertz=700)) / 2).max() < 1e-4
    middle = decode_sound(blob, 8000, 1000)
    assert np.array_equal(middle["x"], item["x"][1500:2500])


@pytest.mark.parametrize("without_soxr", [False, True])
@pytest.mark.parametrize("rate", [16000, 44100, 11025])
def test_resampling_keeps_what_fits_and_removes_what_would_fold_back(rate, without_soxr, monkeypatch):
    if without_soxr:
        monkeypatch.setitem(__import__("sys").modules, "soxr", None)
    low, high = tone(1.0, rate, 700.0), tone(1.0, rate, min(5200.0, 0.49 * rate))
    y = resampled(low + high, rate, 8000)
    assert y.dtype == np.float32 and len(y) == 8000
    assert np.abs(y - tone(1.0, 8000, 700.0))[400:-400].max() < 0.01  # of 0.3; folded back, the high tone would stand at 2,800 Hz
    assert resampled(low, rate, rate) is not None and np.array_equal(resampled(low, rate, rate), low)


def damaged():
    good = encoded(tone())
    noise = np.random.default_rng(0).normal(0, 0.2, 8000)
    lossless, lossy = (encoded(noise, form=form) for form in ("FLAC", "OGG"))
    return {
        "zero bytes": (b"", "zero bytes"), "all zero": (bytes(5000), "all bytes are zero"),
        "text": (b"no sound at all " * 20, "not readable"), "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(range(200)), "not readable"),
        "cut wav": (good[: len(good) // 2], "truncated"), "cut flac": (lossless[: len(lossless) // 2], ""),
        "cut ogg": (lossy[: len(lossy) // 2], "truncated: its last page is missing or cut"),
        "header alone": (good[:40], ""), "no samples": (encoded(np.zeros(0)), "no samples"),
        "no samples in ogg": (encoded(np.zeros(0), form="OGG"), "holds no samples"),
        "nan": (encoded(np.full(900, np.nan), subtype="FLOAT"), "NaN"),
    }


@pytest.mark.parametrize("kind", damaged())
def test_damage_is_a_bad_item_with_its_reason(kind):
    blob, reason = damaged()[kind]
    with pytest.raises(BadItem, match=reason) as caught:
        decode_sound(blob, 8000, 8000)
    assert 0 < len(str(caught.value)) < 200 and "object at" not in str(caught.value) and not caught.value.reason.endswith(".")


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "W64", "RF64"])
def test_a_cut_file_is_bad_and_a_streamed_one_whole(form):
    blob = encoded(tone(), form=form)
    assert decode_sound(blob, 8000, 8000)["size"][0] == 4000
    with pytest.raises(BadItem, match=f"truncated: {len(blob) * 6 // 10} bytes of {len(blob)}"):
        decode_sound(blob[: len(blob) * 6 // 10], 8000, 8000)
    for mark in (0x7FFFFFFF, 0x7FFFF024, 0xFFFFFFFF) if form == "WAV" else ():  # a pipe's writer does not know how long it will be
        stream = bytearray(blob)
        stream[4:8] = stream[40:44] = mark.to_bytes(4, "little")
        assert decode_sound(bytes(stream), 8000, 8000)["size"][0] == 4000


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "AIFF"])
def test_no_flipped_byte_gets_through_as_anything_but_a_bad_item(form):
    blob, rng = encoded(np.random.default_rng(1).normal(0, 0.1, 1600), form=form), np.random.default_rng(2)
    for _ in range(60):
        bent = bytearray(blob)
        for place in rng.integers(0, min(len(blob), 400), 4):
            bent[place] = rng.integers(256)
        try:
            read_sound_header(bytes(bent))
            item = decode_sound(bytes(bent), 8000, 1600)
        except BadItem:
            continue
        assert item["x"].shape == (1600,) and np.isfinite(item["x"]).all()


def test_silence_and_clipping_are_told_and_not_refused():
    loud = np.clip(3 * tone(size=1.0), -1, 1)
    states = [decode_sound(encoded(x), 8000, 4000)["size"][1] for x in (np.zeros(4000), np.full(4000, 5e-5), loud, tone(size=0.9))]
    assert states == [SILENT, SILENT, CLIPPED, SOUND]
    assert decode_sound(encoded(np.stack([tone(), -tone()], 1)), 8000, 4000)["size"][1] == SILENT  # its channels cancel each other out


def test_a_folder_of_any_nesting_with_classes_and_a_wrong_suffix(folder):
    root = folder({"yes/a.wav": encoded(tone()), "yes/deep/b.WAV": encoded(tone(0.25), form="FLAC"),
                   "no/c.ogg": encoded(tone(), form="OGG"), "no/.hidden.wav": b"", "no/notes.txt": b"x", "no/cover.jpg": b"x"})
    source = open_source(root)
    assert isinstance(source, Source) and source.modality == "audio" and len(source) == 3
    assert [source.name(i) for i in range(3)] == ["no/c.ogg", "yes/a.wav", "yes/deep/b.WAV"] and source.classes == ["no", "yes"]
    assert source.facts.shape == (1, 4000) and source.facts.lengths == (2000, 4000) and source.rate == 8000
    assert source.read(2)["size"].tolist() == [2000, SOUND]  # FLAC, though its name says WAV
    assert any(".txt (1)" in note for note in source.facts.notes)
    assert source.fingerprint() == open_source(root).fingerprint()
    (root / "no" / "d.wav").write_bytes(encoded(tone()))
    assert source.fingerprint() != open_source(root).fingerprint()


def test_archives_are_read_in_place_and_equal_the_folder(folder, tmp_path):
    root = folder({f"{word}/{i}.flac": encoded(tone(hertz=200 + 50 * i), form="FLAC") for word in ("left", "right") for i in range(3)})
    with tarfile.open(tmp_path / "s.tar", "w") as tar, tarfile.open(tmp_path / "s.tar.gz", "w:gz") as packed, \
            zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        for path in sorted(root.rglob("*.flac")):
            name = path.relative_to(root).as_posix()
            tar.add(path, name), packed.add(path, name), zipped.write(path, name)
    plain = open_source(root)
    for name in ("s.tar", "s.tar.gz", "s.zip"):
        source = open_source(tmp_path / name)
        assert source.modality == "audio" and source.classes == ["left", "right"] and len(source) == 6
        assert all(np.array_equal(source.read(i)["x"], plain.read(i)["x"]) for i in range(6))
    assert len(open_source(f"{tmp_path / 's.zip'}::left")) == 3
    assert open_source([root / "left" / "0.flac", root / "right" / "0.flac"]).modality == "audio"
    assert len(open_source(root / "left" / "0.flac", least=1)) == 1


def test_a_file_without_a_suffix_is_told_by_its_first_bytes(folder):
    root = folder({"recording": encoded(tone(), form="FLAC"), "other.qqq": b"something else"})
    assert open_source(root / "recording", least=1).modality == "audio"
    with pytest.raises(OptionError, match=r"suffix '.qqq' is not known"):
        open_source(root / "other.qqq", least=1)


@pytest.mark.parametrize("modality", ["image", "video", "volume", "points", "text", "table", "series"])
def test_a_file_of_sound_is_not_opened_as_anything_else(folder, modality):
    path = folder({"a.wav": encoded(tone())}) / "a.wav"
    with pytest.raises(OptionError, match=f"a.wav is a file of audio data, not of {modality} data: leave modality={modality} out"):
        open_source(path, modality=modality, least=1)


def test_bytes_in_a_column_of_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    blobs = [{"bytes": encoded(tone(hertz=300 + i)), "path": f"{i}.wav"} for i in range(4)]
    pq.write_table(pa.table({"audio": blobs, "word": ["a", "b", "a", "b"]}), tmp_path / "p.parquet")
    source = open_source(tmp_path / "p.parquet", target="word")
    assert source.modality == "audio" and source.classes == ["a", "b"] and source.read(1)["size"].tolist() == [4000, SOUND]


def test_clips_in_memory_need_their_rate():
    x = [tone(0.5), np.stack([tone(0.25), tone(0.25)])]
    source = open_source({"x": x, "rate": 8000, "y": [1, 0]}, modality="audio")
    assert source.resident and source.facts.lengths == (2000, 4000) and source.labels.tolist() == [1, 0]
    assert source.take(np.array([1, 0]))["size"].tolist() == [[2000, SOUND], [4000, SOUND]]
    whole = open_source({"x": (tone() * 32768).astype(np.int16)[None].repeat(2, 0), "rate": 8000}, modality="audio")
    assert np.abs(whole.read(0)["x"] - tone()).max() < 1e-4
    across = open_source({"x": [np.stack([tone(), tone()], 1)] * 2, "rate": 8000}, modality="audio")
    assert np.abs(across.read(0)["x"] - tone()).max() < 1e-6  # [samples, channels], as soundfile gives it
    with pytest.raises(DataError, match=r"no clip of 2,000 .* longer than 2 samples: .* one clip is \[clip\]"):
        open_source({"x": np.stack([tone(0.25), tone(0.25)], 1), "rate": 8000}, modality="audio")
    whole.set_canvas((4000, 1000))
    assert whole.read(0)["x"].shape == (1000,) and whole.rate == 4000
    for bad in ({"x": x}, np.zeros((4, 4000), np.float32)):
        with pytest.raises(OptionError, match="rate"):
            open_source(bad, modality="audio")
    with pytest.raises(DataError, match="NaN"):
        open_source({"x": [tone(), np.full(9, np.nan)], "rate": 8000}, modality="audio")


def test_what_cannot_be_opened_is_a_sentence(folder, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="None of 2 sound files looked at in .*zero bytes"):
        open_source(folder({"a.wav": b"", "b.wav": b""}, "broken"))
    with pytest.raises(DataError, match="holds 1 sound file: learning compares sound files"):
        open_source(folder({"a.wav": encoded(tone())}, "one"))
    with pytest.raises(DataError, match=r"holds no sound files \(1 files .*\.txt"):
        open_source(folder({"a.txt": b"x"}, "texts"), modality="audio")
    none = open_source(folder({f"{k}.wav": encoded(np.full(4000, np.nan, np.float32), subtype="FLOAT") for k in "ab"}, "none"))
    with pytest.raises(DataError, match=r"None of the items of .* can be read \(a.wav: holds NaN or infinite samples\)"):
        find_modality("audio").prepare(none)
    two = folder({"a.wav": encoded(tone()), "b.wav": encoded(tone())}, "two")
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(OptionError, match=r"package soundfile.*pip install selftaught\[audio\]"):
        open_source(two)


def test_rates_that_differ_are_brought_to_most_files_own(folder):
    files = {f"{i}.wav": encoded(tone(rate=8000), 8000) for i in range(3)}
    source = open_source(folder({**files, "z.wav": encoded(np.stack([tone(rate=44100)] * 2, 1), 44100)}))
    assert source.rate == 8000 and source.read(3)["size"].tolist() == [4000, SOUND]
    assert np.abs(source.read(3)["x"] - source.read(0)["x"])[400:3600].max() < 0.01
    assert "44,100 Hz (1)" in " ".join(source.facts.notes) and "several channels" in " ".join(source.facts.notes)
    high = open_source(folder({f"{i}.wav": encoded(tone(rate=48000), 48000) for i in range(2)}, "high"))
    assert high.rate == 16000 and high.read(0)["x"].shape == (8000,)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_quarantines_the_bad_and_keeps_the_silent(folder, tmp_path, workers):
    files = {f"{i:02}.wav": encoded(tone(0.2 + 0.01 * i, hertz=200 + 20 * i)) for i in range(20)}
    files |= {"05.wav": b"", "11.wav": b"RIFF nonsense", "13.wav": encoded(np.zeros(2000)), "14.wav": encoded(tone())[:3000]}
    source, modality = open_source(folder(files)), find_modality("audio")
    preprocessing = modality.prepare(source)
    assert preprocessing.statistics["silent"] == 1 and preprocessing.statistics["looked_at"] == 17
    assert any(note.startswith("1 of 17 clips looked at are silent") and "13.wav" in note for note in preprocessing.facts.notes)
    slots = np.arange(20)
    quarantine = Quarantine(tmp_path / "q.jsonl")
    with Loader(source, lambda items: modality.collate(items, preprocessing), seed=0, num_workers=workers, quarantine=quarantine) as loader:
        batch = next(loader.batches([(slots, np.zeros_like(slots), slots)]))
    bad = {entry["name"]: entry["reason"] for entry in quarantine.entries}
    assert set(bad) == {"05.wav", "11.wav", "14.wav"} and bad["05.wav"] == "zero bytes" and "truncated" in bad["14.wav"]
    index = set(batch.index.tolist())
    assert batch.x.shape == (20, preprocessing.statistics["canvas"]) and 13 in index and not {5, 11, 14} & index
    assert (batch.lengths == batch.fields["size"][:, 0]).all()


def test_recordings_of_which_none_can_be_used(folder):
    with pytest.raises(DataError, match="none can be read and is not silent"):
        find_modality("audio").prepare(open_source(folder({f"{i}.wav": encoded(np.zeros(900)) for i in range(3)})))


@pytest.mark.skipif(not Path(os.environ.get("SELFTAUGHT_DATA", "/nowhere"), "audio", "fsdd_flac.tar").exists(),
                    reason="audio/fsdd_flac.tar is not in SELFTAUGHT_DATA")
def test_real_spoken_digits():
    """The mean and deviation of the log-mel spectrogram tell digits apart, far above chance (1 in 10)."""
    from selftaught.encoder import Encoder
    from selftaught.evaluation import knn

    source = open_source(Path(os.environ["SELFTAUGHT_DATA"], "audio", "fsdd_flac.tar"))
    assert len(source) == 3000 and source.rate == 8000 and source.facts.notes == ()
    words = [source.name(i).rpartition("/")[2].partition(".")[0].split("_") for i in range(0, 3000, 5)]
    digit, first = np.array([int(w[0]) for w in words]), np.array([int(w[2]) < 5 for w in words])
    some = subset(source, np.arange(0, 3000, 5))
    preprocessing = find_modality("audio").prepare(some, sample=200)
    assert preprocessing.facts.shape[:2] == (1, 64) and 48 <= preprocessing.facts.shape[2] <= 80
    z = Encoder(find_modality("audio").backbone(preprocessing.facts), preprocessing).raw(some)
    assert z.shape == (600, 128) and np.isfinite(z).all()
    assert knn(z[~first], digit[~first], z[first], digit[first], k=5).value > 0.4


def test_clips_of_several_lengths_are_cut_by_ptr(tmp_path):
    x = np.random.default_rng(0).normal(0, 0.1, (9000, 1))
    np.savez(tmp_path / "a.npz", x=x, ptr=[0, 4000, 9000], rate=8000)
    source = open_source(tmp_path / "a.npz", modality="audio")
    assert len(source) == 2 and source.facts.lengths == (4000, 5000)
    np.testing.assert_array_equal(source.read(1)["x"], x[4000:, 0].astype(np.float32))
    stereo = open_source({"x": np.repeat(x, 2, 1), "ptr": [0, 4000, 9000], "rate": 8000}, modality="audio")
    np.testing.assert_array_equal(stereo.read(1)["x"], source.read(1)["x"])
    for ptr in ([0, 4000], [0, 5000, 5000, 9000], [0.0, 9000.0]):
        with pytest.raises(DataError, match="ptr must be N \\+ 1 integers that rise from 0 to 9000"):
            open_source({"x": x, "ptr": ptr, "rate": 8000}, modality="audio")
    with pytest.raises(OptionError, match="rate in samples a second"):
        open_source({"x": x[:, 0].reshape(9, 1000), "rate": "16k"}, modality="audio")
