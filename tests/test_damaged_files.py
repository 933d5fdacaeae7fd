"""Damaged, false and malicious files end in a sentence or a bad item, never in a traceback or in all of the memory."""

import gzip
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from selftaught.contracts import BadItem, DataError, SelftaughtError
from selftaught.sources import open_source
from selftaught.sources.archives import first_kind
from selftaught.sources.points_files import parse_cloud
from selftaught.sources.volume_decoding import read_volume, unzipped


@pytest.fixture(scope="module")
def members():
    """Six small images by name."""
    found = {}
    for i in range(6):
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 20, 3), dtype=np.uint8)).save(stream, "PNG")
        found[f"{'ab'[i // 3]}/{i % 3}.png"] = stream.getvalue()
    return found


def test_a_tar_that_is_cut_or_bent_anywhere_is_refused(members, tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, blob in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            archive.addfile(info, io.BytesIO(blob))
        end = archive.offset  # of the members; zeros follow
    raw = stream.getvalue()
    path = tmp_path / "x.tar"
    path.write_bytes(raw)
    assert len(open_source(path)) == 6
    for cut in (*range(512, end + 1, 512), *range(600, end, 577)):
        path.write_bytes(raw[:cut])
        with pytest.raises(DataError):
            open_source(path)
    bent = bytearray(raw)
    place = raw.index(b"b/1.png")
    bent[place] ^= 0x20
    path.write_bytes(bent)
    with pytest.raises(DataError, match=rf"damaged at byte {place:,}, after its member 'b/0.png'"):
        open_source(path)


@pytest.mark.parametrize("mode", [0o020666, 0o010666, 0o060666])
def test_zips_with_devices_and_pipes_are_refused(members, tmp_path, mode):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, blob in members.items():
            archive.writestr(name, blob)
        info = zipfile.ZipInfo("a/9.png")
        info.external_attr = mode << 16
        archive.writestr(info, b"")
    with pytest.raises(DataError, match="its member 'a/9.png' is a device or a pipe"):
        open_source(tmp_path / "x.zip")


def test_no_bent_directory_of_a_zip_gets_through(members, tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, blob in members.items():
            archive.writestr(name, blob)
    raw, path = stream.getvalue(), tmp_path / "x.zip"
    path.write_bytes(raw)
    whole = open_source(path)
    known, refused = [whole.read(i)["x"].tobytes() for i in range(len(whole))], 0
    for seed in range(150):
        rng, bent = np.random.default_rng(seed), bytearray(raw)
        for place in rng.integers(raw.index(b"PK\1\2"), len(raw), 3):
            bent[place] = rng.integers(256)
        path.write_bytes(bent)
        first_kind(str(path), {"image": frozenset({".png"})})
        try:
            assert open_source(path).read(0)["x"].tobytes() in known  # what is let through is one of the pictures, whole
        except (DataError, BadItem):
            refused += 1
    assert 0 < refused < 150


def test_no_bent_npz_gets_through(tmp_path):
    stream, path = io.BytesIO(), tmp_path / "x.npz"
    np.savez_compressed(stream, x=np.random.default_rng(0).normal(size=(30, 4)), y=np.arange(30) % 2)
    raw, refused = stream.getvalue(), 0
    for seed in range(200):
        rng, bent = np.random.default_rng(seed), bytearray(raw)
        bent[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        path.write_bytes(bent)
        try:
            open_source(path)
        except SelftaughtError:
            refused += 1
        for parse in (read_volume, parse_cloud):
            try:
                parse(bytes(bent))
            except BadItem:
                pass
    assert refused > 100


def test_cut_and_false_gz_tables(tmp_path):
    whole = gzip.compress(("a,b\n" + "".join(f"{i * 0.37},{i % 3}\n" for i in range(50_000))).encode())
    for blob in (whole[:30], whole[: len(whole) // 2], b"a,b\n1,2\n", whole[:1000] + b"xx" + whole[1002:]):
        (tmp_path / "t.csv.gz").write_bytes(blob)
        with pytest.raises(DataError, match="t.csv.gz cannot be read as a table"):
            open_source(tmp_path / "t.csv.gz")


def test_lines_of_json_that_no_text_can_be_made_of(tmp_path):
    lines = [json.dumps({"text": f"the story number {i} of a man and his {i * 7} dogs in a town"}) for i in range(20)]
    lines[3], lines[4] = '{"text": "cut \\ud83d"}', '{"text": "whole \\ud83d\\ude00 and on it goes as stories do"}'
    lines[5] = '{"text": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    source = open_source(tmp_path / "t.jsonl")
    for index, reason in ((3, "half a letter"), (5, "nested too deeply")):
        with pytest.raises(BadItem, match=reason):
            source.read(index)
    assert "\U0001f600" in bytes(source.read(4)["x"]).decode()
    (tmp_path / "n.jsonl").write_text("\n".join(json.dumps({"a": 2**70 * i, "b": i % 4}) for i in range(20)))
    assert [c.name for c in open_source(tmp_path / "n.jsonl").facts.columns] == ["a", "b"]
    (tmp_path / "o.jsonl").write_text("\n".join(json.dumps({"a": 10**400, "b": i % 4}) for i in range(20)))
    with pytest.raises(DataError, match="field 'a' has values"):
        open_source(tmp_path / "o.jsonl")


def test_a_path_that_is_too_long_is_a_sentence():
    for data in ("x" * 5000, f"/tmp/{'x' * 5000}::a=b", ["x" * 5000, "y"]):
        with pytest.raises(DataError, match="There can be no path 'x|There can be no path '/tmp/x"):
            open_source(data)


def test_bombs_are_not_unpacked():
    piece, npz = bytes(1 << 20), io.BytesIO()
    with zipfile.ZipFile(npz, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open("x.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (1 << 10, 1 << 10, (1 << 10) + 8)})
        for _ in range(4):
            file.write(piece)
    blob = bytearray(npz.getvalue())
    end = blob.rindex(b"PK\1\2")
    blob[end + 24:end + 28] = ((1 << 30) + 99).to_bytes(4, "little")  # the size that the directory names
    for parse in (read_volume, parse_cloud):
        with pytest.raises(BadItem, match="unpacks to 1.0 GiB"):
            parse(bytes(blob))
    twice = gzip.compress(bytes(20 << 20)) * 2  # members one behind the other unpack to one file
    assert len(unzipped(twice, 40 << 20)) == 40 << 20
    with pytest.raises(BadItem, match="unpacks to more than 39 MiB"):
        unzipped(twice, 39 << 20)
