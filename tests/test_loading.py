"""Batches in order, whatever the number of workers: refilling, quarantine, duplicates, memory of what was decoded, clean ends."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

from selftaught.contracts import BadItem, DataError, Facts, Source, epoch_order, replacement
from selftaught.sources import Loader, Quarantine, Subset
from selftaught.sources.embedded import embedded_names, load_embedded
from selftaught.sources.images import ImageFiles

SEED = 3


def collate(items):
    if isinstance(items, list):
        return {"x": torch.tensor([float(item["x"].sum()) for item in items])}, torch.tensor([len(item["x"]) for item in items])
    return {name: torch.from_numpy(np.ascontiguousarray(field)) for name, field in items.items() if name != "hash"}, None


def requests(size, batch, epochs=2, stream="train", first=0):
    for epoch in range(first, epochs):
        order = epoch_order(SEED, stream, epoch, size)
        for start in range(0, size - batch + 1, batch):
            slots = np.arange(start, start + batch)
            yield slots, np.full(batch, epoch), order[slots]


def same(a, b):
    return len(a) == len(b) and all(
        all(torch.equal(x.fields[k], y.fields[k]) for k in x.fields) and torch.equal(x.index, y.index) and torch.equal(x.slot, y.slot)
        and torch.equal(x.epoch, y.epoch) for x, y in zip(a, b))


@pytest.fixture
def photos(tmp_path):
    """photos(count, bad=..., equal=...) → a folder of images, some of them broken or alike."""
    def write(count, bad=(), equal=()):
        root = tmp_path / f"photos{count}-{len(bad)}"
        root.mkdir()
        for i in range(count):
            pixels = np.random.default_rng(0 if i in equal else i + 1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            (root / f"{i:03}.png").write_bytes(b"" if i in bad else stream.getvalue())
        return root
    return write


class Sequences(Source):
    """Not resident, of varying length, one of them bad."""

    modality = "series"
    facts = Facts("series", 20, (1, 9))
    labels = np.arange(20) % 3

    def read(self, index):
        if index == 7:
            raise BadItem("no pulse")
        return {"x": np.full(index + 1, index, dtype=np.float32)}


class Failing(Sequences):
    def read(self, index):
        raise ZeroDivisionError("a defect of the source")


def loader(source, **options):
    return Loader(source, collate, **{"seed": SEED, "stream": "train", **options})


# --- refilling and quarantine

@pytest.mark.parametrize("workers", [0, 2])
def test_only_the_slots_of_bad_items_change(photos, workers):
    bad = {4, 11, 30}
    source = ImageFiles(photos(40, bad))
    with loader(source, num_workers=workers) as reader:
        batches = list(reader.batches(requests(40, 10)))
        assert reader.bad == 3
    for batch in batches:
        wanted = epoch_order(SEED, "train", int(batch.epoch[0]), 40)[batch.slot.numpy()]
        for slot, epoch, asked, got in zip(batch.slot.tolist(), batch.epoch.tolist(), wanted.tolist(), batch.index.tolist()):
            attempt = 0
            while asked in bad:
                asked = replacement(SEED, "train", epoch, slot, attempt, 40)
                attempt += 1
            assert got == asked
        clean = [ImageFiles(source.origin).read(i)["x"] for i in batch.index.tolist()]
        assert (batch.x.numpy() == np.stack(clean)).all() and batch.x.dtype == torch.uint8


@pytest.mark.parametrize("remembered", [True, False])
def test_batches_do_not_depend_on_workers_or_memory(photos, remembered, monkeypatch):
    source = ImageFiles(photos(50, {3, 44}))
    plain = ImageFiles(source.origin)
    monkeypatch.setattr(plain, "cache", lambda: None)
    with loader(plain) as reader:
        expected = list(reader.batches(requests(50, 12, 3)))
    for workers in (0, 1, 3):
        again = ImageFiles(source.origin)
        if not remembered:
            monkeypatch.setattr(again, "cache", lambda: None)
        with loader(again, num_workers=workers) as reader:
            assert same(list(reader.batches(requests(50, 12, 3))), expected)
            assert reader.bad == 2


def test_a_resumed_iteration_gives_the_same_batches(photos):
    root = photos(30, {5})
    with loader(ImageFiles(root)) as whole, loader(ImageFiles(root), num_workers=2) as resumed:
        assert same(list(whole.batches(requests(30, 8, 3)))[3:], list(resumed.batches(requests(30, 8, 3, first=1))))


def test_an_abandoned_iteration_leaves_nothing_behind(photos):
    source = ImageFiles(photos(40))
    with loader(source) as reader:
        expected = list(reader.batches(requests(40, 10)))
    with loader(ImageFiles(source.origin), num_workers=2) as reader:
        for _ in range(3):
            old = reader.batches(requests(40, 10, first=1))
            next(old)
        assert same(list(reader.batches(requests(40, 10))), expected)
        with pytest.raises(RuntimeError, match="another iteration"):
            next(old)
        source = reader.source
        source.set_canvas(5)  # workers and memory begin anew
        assert next(reader.batches(requests(40, 10))).x.shape == (10, 3, 5, 5)


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_items_stop_with_counts_and_examples(photos, tmp_path, workers):
    path = tmp_path / "run" / "quarantine.jsonl"
    with loader(ImageFiles(photos(60, set(range(0, 40, 3)))), num_workers=workers, quarantine=Quarantine(path)) as reader:
        with pytest.raises(DataError, match=r"of 60 items cannot be read, more than max_bad=0.01 .*png: zero bytes.*quarantine.jsonl"):
            list(reader.batches(requests(60, 10)))
    assert 5 <= len(path.read_text().splitlines()) <= 14


def test_few_bad_items_never_stop_a_run_and_max_bad_is_heeded(photos):
    source = ImageFiles(photos(20, {1, 2, 3, 4}))
    reader = loader(source, max_bad=0.0)
    assert len(list(reader.batches(requests(20, 5)))) == 8 and reader.bad == 4
    source = ImageFiles(photos(20, {1, 2, 3, 4, 5, 6}))
    assert len(list(loader(source, max_bad=0.3).batches(requests(20, 5)))) == 8
    with pytest.raises(DataError, match="6 of 20|5 of 20"):
        list(loader(source, max_bad=0.1).batches(requests(20, 5)))


def test_nothing_but_bad_items(photos):
    source = ImageFiles(photos(4))
    for path in sorted(os.listdir(source.origin)):
        open(os.path.join(source.origin, path), "wb").close()
    with pytest.raises(DataError, match="4 of 4 items cannot be read"):
        list(loader(source).batches(requests(4, 2)))


def test_quarantine_records_each_item_once_and_survives_a_cut(tmp_path):
    path = tmp_path / "quarantine.jsonl"
    first = Quarantine(path)
    assert first.record(3, "a.png", "zero bytes") and not first.record(3, "a.png", "zero bytes")
    assert first.record(3, "a.png", "zero bytes", stream="labelled")
    with open(path, "a") as file:
        file.write('{"index": 9, "na')
    second = Quarantine(path)
    assert second.count == 2 and second.indices() == {3} and not second.record(3, "a.png", "zero bytes")
    assert second.record(9, "b.png", "truncated")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["index"], line["name"], line["reason"]) for line in lines] == \
        [(3, "a.png", "zero bytes"), (3, "a.png", "zero bytes"), (9, "b.png", "truncated")]
    assert Quarantine().record(1, "x", "y")


def test_a_resumed_run_counts_the_bad_items_it_knows(photos, tmp_path):
    root = photos(30, {5, 6})
    list(loader(ImageFiles(root), quarantine=Quarantine(tmp_path / "q.jsonl")).batches(requests(30, 10)))
    reader = loader(ImageFiles(root), quarantine=Quarantine(tmp_path / "q.jsonl"))
    assert reader.bad == 2
    list(reader.batches(requests(30, 10)))
    assert reader.bad == 2 and len((tmp_path / "q.jsonl").read_text().splitlines()) == 2


# --- what comes in a batch

@pytest.mark.parametrize("workers", [0, 2])
def test_duplicates_are_counted_not_dropped(photos, workers):
    with loader(ImageFiles(photos(20, equal={2, 5, 9})), num_workers=workers) as reader:
        batches = list(reader.batches(requests(20, 5)))
        assert reader.duplicates == 2 and reader.bad == 0
    assert sorted(torch.cat([b.index for b in batches[:4]]).tolist()) == list(range(20))


@pytest.mark.parametrize("workers", [0, 2])
def test_items_of_varying_length_come_as_lists(workers):
    with loader(Sequences(), num_workers=workers, labelled=True) as reader:
        batches = list(reader.batches(requests(20, 5)))
    for batch in batches:
        assert 7 not in batch.index.tolist()
        assert (batch.lengths == batch.index + 1).all() and (batch.x == batch.index * (batch.index + 1)).all()
        assert (batch.y == batch.index % 3).all() and batch.y.dtype == torch.int64


def test_labels_come_only_where_asked(photos):
    assert next(loader(Sequences()).batches(requests(20, 5))).y is None
    with pytest.raises(DataError, match="has no labels"):
        loader(ImageFiles(photos(4)), labelled=True)


def test_subsets_read_through_the_memory_of_their_base(photos):
    source = ImageFiles(photos(30, {8}))
    part = Subset(Subset(source, np.arange(29, -1, -1)), np.arange(0, 30, 2), labels=np.arange(15))
    fresh = ImageFiles(source.origin)
    with loader(part, num_workers=2, labelled=True) as reader:
        for batch in reader.batches(requests(15, 5)):
            assert (batch.y == batch.index).all()
            assert (batch.x.numpy() == np.stack([fresh.read(29 - 2 * i)["x"] for i in batch.index.tolist()])).all()
    assert source.cache().holds.sum() == 15


def test_memory_is_used_where_all_fits_and_only_there(photos):
    source = ImageFiles(photos(12))
    assert source.cache(limit_bytes=12 * 3 * 9 * 9) is None
    memory = source.cache(limit_bytes=12 * (3 * 9 * 9 + 25))
    list(loader(source).batches(requests(12, 6, 1)))
    assert memory.holds.all()
    for path in os.listdir(source.origin):
        os.remove(os.path.join(source.origin, path))
    assert len(list(loader(source).batches(requests(12, 6)))) == 4  # no file is opened again


def test_resident_sources_are_gathered():
    class Resident(Source):
        modality, resident, facts = "image", True, Facts("image", 10, (1, 2, 2))

        def take(self, indices):
            return {"x": np.arange(40).reshape(10, 1, 2, 2)[indices], "hash": (indices // 2 + 1).astype(np.uint64)}

    reader = loader(Resident(), num_workers=2)
    batch = list(reader.batches(requests(10, 5, 1)))[0]
    assert (batch.x[:, 0, 0, 0] == 4 * batch.index).all() and reader.duplicates == 5


# --- processes

def test_a_killed_worker_is_a_sentence(photos, monkeypatch):
    source = ImageFiles(photos(40))
    monkeypatch.setattr(source, "cache", lambda: None)
    with loader(source, num_workers=2) as reader:
        stream = reader.batches(requests(40, 4, 50))
        next(stream)
        os.kill(reader._readers._processes[1].pid, signal.SIGKILL)
        with pytest.raises(DataError, match=r"worker process that reads .*photos.* was killed by SIGKILL.*num_workers"):
            list(stream)
        assert len(list(reader.batches(requests(40, 4, 1)))) == 10  # and the loader can begin anew


def test_a_defect_in_a_worker_is_said():
    with loader(Failing(), num_workers=1) as reader, pytest.raises(DataError, match="ZeroDivisionError: a defect of the source"):
        next(reader.batches(requests(20, 5)))


def test_waiting_is_measured():
    class Slow(Sequences):
        def read(self, index):
            time.sleep(0.01)
            return {"x": np.zeros(2, dtype=np.float32)}

    reader = loader(Slow())
    list(reader.batches(requests(20, 5, 1)))
    assert 0.2 <= reader.wait_seconds < 2.0


_PROGRAM = """
import os, sys, signal, time
import numpy as np
from selftaught.contracts import Facts, Source
from selftaught.sources import Loader
class Endless(Source):
    modality, facts = "series", Facts("series", 50, (1, 2))
    def read(self, index):
        return {"x": np.zeros(1, dtype=np.float32)}
ones = lambda: ((np.arange(4), np.zeros(4, int), np.arange(4)) for _ in iter(int, 1))
reader = Loader(Endless(), lambda items: ({"x": len(items)}, None), seed=0, num_workers=2)
stream = reader.batches(ones())
next(stream)
pids = [p.pid for p in reader._readers._processes]
print(*pids, flush=True)
how = sys.argv[1]
if how == "interrupt":
    for pid in pids:
        os.kill(pid, signal.SIGINT); os.kill(pid, signal.SIGTERM)
    for _ in range(20):
        next(stream)
    print("alive", flush=True)
elif how == "error":
    raise ValueError("a mistake of the user")
elif how == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc to look for processes")
def test_workers_outlive_signals_but_not_the_main_process():
    runs = {how: subprocess.Popen([sys.executable, "-c", _PROGRAM, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for how in ("interrupt", "error", "kill")}
    expected = {"interrupt": 0, "error": 1, "kill": -9}
    for how, run in runs.items():
        output, said = run.communicate(timeout=60)
        lines = output.splitlines()
        assert run.returncode == expected[how], said
        assert how != "interrupt" or lines[1:] == ["alive"]
        deadline = time.monotonic() + 10
        while any(_alive(pid) for pid in lines[0].split()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(_alive(pid) for pid in lines[0].split()), how


# --- embedded sets

def _neighbours(train, test, labelled):
    x, q = (s["x"].reshape(len(s["x"]), -1).astype(np.float32) for s in (train, test))
    x, y = x[labelled], train["y"][labelled]
    scores = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (x / np.linalg.norm(x, axis=1, keepdims=True)).T
    near = np.argpartition(-scores, 19, axis=1)[:, :20]
    votes = np.stack([(np.exp(np.take_along_axis(scores, near, 1) / 0.07) * (y[near] == c)).sum(1) for c in range(10)], 1)
    return (votes.argmax(1) == test["y"]).mean()


def test_moved_digits_are_as_hard_as_they_should_be():
    train, test = load_embedded("moved-digits/train"), load_embedded("moved-digits/test")
    assert train["x"].shape == (6000, 1, 20, 20) and test["x"].shape == (1500, 1, 20, 20) and train["x"].dtype == np.uint8
    assert len(set(train["group"])) == 1297 and len(set(test["group"])) == 500 and not set(train["group"]) & set(test["group"])
    assert 0.70 <= _neighbours(train, test, np.arange(6000)) <= 0.80
    assert 0.2 <= _neighbours(train, test, np.random.default_rng(0).permutation(6000)[:100]) <= 0.35
    assert len({image.tobytes() for image in train["x"]}) == 6000


def test_embedded_sets_are_always_the_same():
    from selftaught.sources import embedded

    for name in {"moved-digits/test", "waves/test", "wine", "breast-cancer"} & set(embedded_names()):
        first = load_embedded(name)
        embedded._moved_digits.cache_clear()
        embedded._waves.cache_clear()
        again = load_embedded(name)
        assert (first["x"] == again["x"]).all() and (first["y"] == again["y"]).all()
        assert first["modality"] in ("image", "series", "table") and len(first["x"]) == len(first["y"])
        assert first["y"].max() + 1 == len(first["classes"])
    assert load_embedded("waves")["x"].shape == (1200, 3, 96)
    assert len(load_embedded("wine")["columns"]) == load_embedded("wine")["x"].shape[1] == 13
