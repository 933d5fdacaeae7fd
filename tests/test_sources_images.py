"""Images in folders, lists, archives and Parquet: every kind of pixel, every kind of damage, and labels from folders."""

import io
import os
import struct
import tarfile
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

import selftaught
from selftaught.contracts import BadItem, DataError, OptionError
from selftaught.sources.archives import split_archive
from selftaught.sources.decoding import Header, Pixels, decode, read_header
from selftaught.sources.images import ImageArchive, ImageFiles, ImageParquet

RGB, GREY = Pixels(3, "uint8"), Pixels(1, "uint8")


def picture(height=24, width=36, channels=3, seed=0):
    """A smooth random picture, so that resampling methods agree about it."""
    rough = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    bands = [np.asarray(Image.fromarray(rough[..., c]).resize((width, height), Image.Resampling.BICUBIC)) for c in range(channels)]
    return np.stack(bands, -1)


def encoded(array, form="PNG", mode=None, **options):
    stream = io.BytesIO()
    image = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


def stretched(array, side):
    """The reference: a plain antialiased resize of the whole image, [C, side, side]."""
    image = np.asarray(Image.fromarray(array).resize((side, side), Image.Resampling.BILINEAR))
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def deep_png(array):
    """A 16-bit PNG [H, W, C], which Pillow cannot write."""
    height, width, channels = array.shape
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def plain_tiff(planes, *, deflate=False, planar=False, predictor=1, tile=None, order="<"):
    """A TIFF of any number of channels [C, H, W], which Pillow cannot write."""
    channels, height, width = planes.shape
    kind = {"u": 1, "i": 2, "f": 3}[planes.dtype.kind]
    tall, wide = tile or (height, width)
    blocks = []
    for group in (planes[:, None] if planar else planes[None]):
        for top in range(0, height, tall):
            for left in range(0, width, wide):
                block = np.zeros((tall, wide, len(group)), dtype=planes.dtype)
                part = group[:, top:top + tall, left:left + wide].transpose(1, 2, 0)
                block[:part.shape[0], :part.shape[1]] = part
                if predictor == 2:
                    block[:, 1:] = block[:, 1:] - block[:, :-1]
                data = block.astype(planes.dtype.newbyteorder(order)).tobytes()
                blocks.append(zlib.compress(data) if deflate else data)
    offsets, place = [], 8
    for block in blocks:
        offsets.append(place)
        place += len(block)
    tags = {256: [width], 257: [height], 258: [planes.dtype.itemsize * 8] * channels, 259: [8 if deflate else 1], 262: [1],
            277: [channels], 284: [2 if planar else 1], 317: [predictor], 339: [kind] * channels}
    tags |= {322: [wide], 323: [tall], 324: offsets, 325: list(map(len, blocks))} if tile else \
        {273: offsets, 278: [height], 279: list(map(len, blocks))}
    extra, entries, start = b"", b"", place + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        data = struct.pack(f"{order}{len(values)}I", *values)
        where = data if len(data) <= 4 else struct.pack(order + "I", start + len(extra))
        extra += b"" if len(data) <= 4 else data
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + where
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    return head + b"".join(blocks) + struct.pack(order + "H", len(tags)) + entries + struct.pack(order + "I", 0) + extra


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def reason(blob, pixels=RGB, **options):
    with pytest.raises(BadItem) as bad:
        decode(blob, 8, pixels, **options)
    return bad.value.reason


@pytest.fixture
def folder(tmp_path):
    """Writes files below a folder: folder({"a/x.png": bytes}) → its path."""
    def write(files, root="photos"):
        for name, blob in files.items():
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob)
        (tmp_path / root).mkdir(exist_ok=True)
        return tmp_path / root
    return write


# --- pixels

@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_lossless_file_is_the_stretched_image(form):
    array = picture()
    item = decode(encoded(array, form, **({"lossless": True} if form == "WEBP" else {})), 12, RGB)
    assert item["x"].shape == (3, 12, 12) and item["x"].dtype == np.uint8 and item["x"].flags.c_contiguous
    assert np.abs(item["x"].astype(int) - stretched(array, 12)).max() <= 3  # reducing_gap may differ by rounding
    assert item["size"].tolist() == [24, 36] and item["size"].dtype == np.int64
    assert item["hash"].dtype == np.uint64


def test_jpeg_decodes_at_the_smallest_scale_that_serves():
    """The canvas equals Pillow's reduced decode exactly where that has its size, and stays close to the full decode elsewhere."""
    blob = encoded(picture(256, 256), "JPEG", quality=95)
    for scale in (1, 2, 4, 8):
        reduced = Image.open(io.BytesIO(blob))
        reduced.draft("RGB", (256 // scale, 256 // scale))
        assert reduced.size == (256 // scale, 256 // scale)
        assert (decode(blob, 256 // scale, RGB)["x"] == np.asarray(reduced).transpose(2, 0, 1)).all()
    full = np.asarray(Image.open(io.BytesIO(blob)))
    for side in (20, 50, 100, 300):
        item = decode(blob, side, RGB)
        assert item["x"].shape == (3, side, side) and item["size"].tolist() == [256, 256]
        assert np.abs(item["x"].astype(int) - stretched(full, side)).mean() < 3


def test_palette_grey_cmyk_and_bilevel():
    array = picture()
    palette = encoded(array, "PNG", "P")
    rgb = np.asarray(Image.open(io.BytesIO(palette)).convert("RGB"))
    assert read_header(palette).channels == 3
    assert np.abs(decode(palette, 24, RGB)["x"].astype(int) - stretched(rgb, 24)).max() <= 2
    grey = encoded(array[..., 0])
    assert read_header(grey).channels == 1 and decode(grey, 24, GREY)["x"].shape == (1, 24, 24)
    as_rgb = decode(grey, 24, RGB)["x"]
    assert (as_rgb[0] == as_rgb[1]).all() and (as_rgb[0] == decode(grey, 24, GREY)["x"][0]).all()
    assert read_header(encoded(array, "JPEG", "CMYK")).channels == 3
    assert decode(encoded(array, "JPEG", "CMYK"), 24, RGB)["x"].shape == (3, 24, 24)
    assert set(np.unique(decode(encoded(array, "PNG", "1"), 36, GREY)["x"][:, ::6, ::6])) <= set(range(256))


@pytest.mark.parametrize("opacity, expected", [(0, 255), (255, 40), (128, 40 * 128 / 255 + 127)])
def test_transparency_is_laid_over_white(opacity, expected):
    flat = np.full((10, 10, 4), 40, dtype=np.uint8)
    flat[..., 3] = opacity
    blob = encoded(flat)
    assert read_header(blob).channels == 3 and read_header(blob).alpha
    assert np.abs(decode(blob, 5, RGB)["x"].astype(float) - expected).max() <= 1.5
    assert np.abs(decode(encoded(flat, "PNG", "LA"), 5, GREY)["x"].astype(float) - expected).max() <= 1.5


def test_sixteen_bits_stay_sixteen_bits():
    array = np.random.default_rng(1).integers(0, 65536, (8, 8), dtype=np.uint16)
    for blob in (encoded(array), encoded(array, "TIFF"), deep_png(array[..., None])):
        assert read_header(blob).dtype == "uint16"
        item = decode(blob, 8, Pixels(1, "uint16"))
        assert item["x"].dtype == np.uint16 and (item["x"][0] == array).all()
    assert (decode(encoded(array), 8, GREY)["x"][0] == np.rint(array / 257)).all()


def test_sixteen_bit_colour_png_keeps_both_bytes():
    array = np.random.default_rng(2).integers(0, 65536, (6, 6, 4), dtype=np.uint16)
    rgb = decode(deep_png(array[..., :3]), 6, Pixels(3, "uint16"))["x"]
    assert (rgb == array[..., :3].transpose(2, 0, 1)).all()
    over = decode(deep_png(array), 6, Pixels(3, "uint16"))["x"]
    alpha = array[..., 3:].astype(float) / 65535
    assert np.abs(over - (array[..., :3] * alpha + 65535 * (1 - alpha)).transpose(2, 0, 1)).max() <= 1


@pytest.mark.parametrize("options", [{}, {"deflate": True, "predictor": 2}, {"planar": True}, {"tile": (16, 16), "deflate": True},
                                     {"order": ">", "predictor": 2}, {"planar": True, "tile": (16, 32)}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_multichannel_tiff(options, dtype):
    if dtype == "float32" and options.get("predictor") == 2:
        options = {**options, "predictor": 1}
    planes = np.random.default_rng(3).integers(0, 256, (7, 20, 30)).astype(dtype)
    blob = plain_tiff(planes, **options)
    header = read_header(blob)
    assert (header.channels, header.dtype, header.height, header.width) == (7, dtype, 20, 30)
    item = decode(blob, 20, Pixels(7, dtype))
    assert item["x"].shape == (7, 20, 20) and item["x"].dtype == np.dtype(dtype) and item["size"].tolist() == [20, 30]
    square = plain_tiff(planes[:, :, :20], **options)
    assert (decode(square, 20, Pixels(7, dtype))["x"] == planes[:, :, :20]).all()
    assert "truncated" in reason(blob[:200], Pixels(7, dtype))


def test_pages_of_grey_are_channels():
    planes = picture(16, 16, 5)
    stream = io.BytesIO()
    pages = [Image.fromarray(planes[..., c]) for c in range(5)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    assert read_header(stream.getvalue()).channels == 5
    assert (decode(stream.getvalue(), 16, Pixels(5, "uint8"))["x"] == planes.transpose(2, 0, 1)).all()


def test_npy_of_any_layout():
    planes = np.random.default_rng(4).standard_normal((5, 9, 9)).astype(np.float32)
    for array in (planes, planes.transpose(1, 2, 0), np.asfortranarray(planes)):
        assert read_header(npy(array)).channels == 5
        assert (decode(npy(array), 9, Pixels(5, "float32"))["x"] == planes).all()
    assert (decode(npy(planes[0].astype(np.float64)), 9, Pixels(1, "float32"))["x"] == planes[:1]).all()
    assert decode(npy(planes), 4, Pixels(5, "float32"))["x"].shape == (5, 4, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    blob = encoded(picture(32, 64), "JPEG", quality=95, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(blob)))
    item = decode(blob, 32, RGB)
    assert item["size"].tolist() == [upright.height, upright.width]
    assert (read_header(blob).height, read_header(blob).width) == (upright.height, upright.width)
    assert np.abs(item["x"].astype(int) - stretched(np.asarray(upright), 32)).mean() < 4


# --- damage

def test_every_kind_of_bad_image_says_why():
    good = encoded(picture(64, 64), "JPEG")
    assert reason(b"") == "zero bytes"
    assert reason(bytes(100)) == "all bytes are zero"
    assert reason(b"this is a letter, not a picture") == "not an image"
    assert "truncated" in reason(good[:len(good) // 2])
    assert reason(encoded(picture(), "PNG")[:200]) != "" and reason(encoded(picture(), "PNG")[:20]) != ""
    assert "larger than 0 million" in reason(good, pixel_limit=4000)
    assert reason(npy(np.zeros((5, 8, 8), np.float32)), Pixels(4, "float32")) == "5 channels where 4 are wanted"
    assert "float32 samples where" in reason(npy(np.zeros((8, 8), np.float32)))
    assert "NaN" in reason(npy(np.full((8, 8), np.nan, np.float32)), Pixels(1, "float32"))
    assert "truncated" in reason(npy(np.zeros((8, 8), np.float32))[:-5], Pixels(1, "float32"))
    assert "not an image" in reason(npy(np.zeros(8)), Pixels(1, "float32"))


def test_no_damage_gets_through_as_anything_but_a_bad_item():
    """Cut, overwritten and shifted bytes in every format: a canvas of the right shape, or a BadItem with a reason."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    array = picture(12, 12)
    blobs = [encoded(array, form) for form in ("PNG", "BMP", "TIFF", "WEBP", "GIF")] + [encoded(array, "JPEG", exif=exif)]
    blobs += [plain_tiff(np.ones((5, 9, 9), np.uint16), deflate=True), npy(np.ones((9, 9, 3), np.uint8)), deep_png(array.astype(np.uint16))]
    bad = 0
    for blob in blobs:
        for _ in range(60):
            data = bytearray(blob)
            for place in rng.integers(0, min(len(data), 300), 3):
                data[place] = rng.integers(256)
            data = bytes(data[:rng.integers(len(data))] if rng.random() < 0.3 else data)
            for read in (read_header, lambda b: decode(b, 8, RGB)):
                try:
                    result = read(data)
                except BadItem as error:
                    bad += 1
                    assert error.reason
                else:
                    assert isinstance(result, Header) or result["x"].shape == (3, 8, 8)
    assert 100 < bad < 1000


def test_no_bomb_is_unpacked():
    small = deep_png(np.zeros((2, 2, 3), np.uint16))
    head = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    png = small[:12] + head + struct.pack(">I", zlib.crc32(head)) + small[33:]
    assert "larger than 178 million" in reason(png)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**6, 10**6)})
    assert "larger than" in reason(header.getvalue(), Pixels(1, "float32"))
    tiff = plain_tiff(np.zeros((5, 4, 4), np.uint8)).replace(struct.pack("<HHII", 256, 4, 1, 4), struct.pack("<HHII", 256, 4, 1, 1 << 30))
    assert "larger than" in reason(tiff, Pixels(5, "uint8"))


def test_nothing_is_unpickled(tmp_path):
    marker = tmp_path / "run"

    class Trap:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    blob = npy(np.array([[Trap(), Trap()]], dtype=object))
    assert "not an image" in reason(blob)
    assert not marker.exists()


def test_files_that_cannot_be_read(folder, tmp_path):
    root = folder({f"{i}.png": encoded(picture(seed=i)) for i in range(3)})
    (root / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(root / "pipe.png")
    source = ImageFiles(root)
    reasons = {}
    for index in range(len(source)):
        try:
            source.read(index)
        except BadItem as bad:
            reasons[source.name(index)] = bad.reason
    assert reasons == {"gone.png": "missing: the file is gone, or a link leads nowhere", "pipe.png": "not a file"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_file(folder):
    root = folder({f"{i}.png": encoded(picture(seed=i)) for i in range(3)})
    (root / "0.png").chmod(0)
    with pytest.raises(BadItem, match="permission"):
        ImageFiles(root).read(0)


# --- folders

def test_a_folder_of_any_nesting(folder):
    root = folder({"b/deep/er/2.PNG": encoded(picture(seed=2)), "a/1.jpg": encoded(picture(seed=1), "JPEG"),
                   "0.webp": encoded(picture(), "WEBP"), "readme.txt": b"hello", ".hidden.png": b"", "__MACOSX/x.png": b""})
    source = ImageFiles(root)
    assert [source.name(i) for i in range(3)] == ["0.webp", "a/1.jpg", "b/deep/er/2.PNG"]
    assert source.facts.samples == 3 and source.facts.shape == (3, 24, 36) and source.labels is None
    assert any("1 files with other endings" in note and ".txt (1)" in note for note in source.facts.notes)
    source.set_canvas(10)
    assert source.read(2)["x"].shape == (3, 10, 10)
    assert source.canvas == ((3, 10, 10), "uint8")


def test_a_wrong_ending_does_not_matter(folder):
    source = ImageFiles(folder({"a.jpg": encoded(picture()), "b.jpg": encoded(picture()), "c.jpg": b"a text"}))
    assert (source.read(0)["x"] == source.read(1)["x"]).all() and source.read(0)["hash"] == source.read(1)["hash"]
    with pytest.raises(BadItem, match="not an image"):
        source.read(2)


def test_mixed_channels_and_transparency_are_said(folder):
    clear = np.concatenate([picture(), np.full((24, 36, 1), 100, np.uint8)], axis=-1)
    source = ImageFiles(folder({"a.png": encoded(picture()[..., 0]), "b.png": encoded(picture()), "c.png": encoded(clear)}))
    assert source.facts.shape[0] == 3 and source.read(0)["x"].shape[0] == 3
    assert any("Grey and colour" in note for note in source.facts.notes)
    assert any("white" in note for note in source.facts.notes)


def test_class_folders(folder):
    blob = encoded(picture())
    source = ImageFiles(folder({"cat/1.png": blob, "cat/old/2.png": blob, "dog/3.png": blob}))
    assert source.classes == ["cat", "dog"] and source.labels.tolist() == [0, 0, 1] and source.labels.dtype == np.int64
    assert source.facts.classes == 2
    wrapped = ImageFiles(folder({"all/cat/1.png": blob, "all/dog/3.png": blob}, "wrapped"))
    assert wrapped.classes == ["cat", "dog"]
    assert ImageFiles(folder({"cat/1.png": blob, "dog/2.png": blob, "3.png": blob}, "loose")).labels is None
    assert ImageFiles(folder({"cat/1.png": blob, "cat/2.png": blob}, "single")).labels is None
    assert ImageFiles(folder({"cat/1.png": blob, "dog/2.png": blob}, "off"), labels_from_folders=False).labels is None
    splits = ImageFiles(folder({"train/1.png": blob, "test/2.png": blob}, "splits"))
    assert splits.labels is None and any("splits" in note for note in splits.facts.notes)


def test_a_list_of_paths_keeps_its_order(folder):
    root = folder({f"{i}.png": encoded(picture(seed=i)) for i in range(3)})
    paths = [root / "2.png", str(root / "0.png"), root / "missing.png"]
    source = ImageFiles(paths)
    assert [source.name(i) for i in range(3)] == [str(p) for p in paths]
    assert (source.read(0)["x"] == ImageFiles(root).read(2)["x"]).all()
    with pytest.raises(BadItem, match="missing"):
        source.read(2)


def test_the_fingerprint_follows_names_sizes_and_times(folder):
    root = folder({f"{i}.png": encoded(picture(seed=i)) for i in range(3)})
    first = ImageFiles(root).fingerprint()
    assert ImageFiles(root).fingerprint() == first
    os.utime(root / "1.png", (1, 1))
    second = ImageFiles(root).fingerprint()
    (root / "2.png").rename(root / "3.png")
    assert len({first, second, ImageFiles(root).fingerprint()}) == 3


def test_folders_that_are_no_data_say_what_to_do(folder, tmp_path):
    with pytest.raises(DataError, match="no folder .* check the path"):
        ImageFiles(tmp_path / "missing")
    with pytest.raises(DataError, match="is empty: put at least 2"):
        ImageFiles(folder({}, "empty"))
    with pytest.raises(DataError, match=r"holds no images .*\.txt \(1\)"):
        ImageFiles(folder({"a.txt": b"x"}, "texts"))
    with pytest.raises(DataError, match="needs at least 2"):
        ImageFiles(folder({"a.png": encoded(picture())}, "one"))
    assert len(ImageFiles(tmp_path / "one", least=1)) == 1
    with pytest.raises(DataError, match="None of 2 images .*zero bytes"):
        ImageFiles(folder({"a.png": b"", "b.png": b""}, "broken"))
    with pytest.raises(DataError, match="is a file"):
        ImageFiles(tmp_path / "one" / "a.png")


def test_a_circle_of_links_ends(folder):
    root = folder({"a/1.png": encoded(picture()), "a/2.png": encoded(picture())})
    (root / "a" / "again").symlink_to(root)
    assert len(ImageFiles(root)) == 2


def test_five_thousand_files_are_planned_quickly(folder):
    blob = encoded(np.zeros((2, 2, 3), np.uint8))
    root = folder({f"{i % 7}/{i}.png": blob for i in range(5000)})
    start = time.perf_counter()
    source = ImageFiles(root)
    assert len(source) == 5000 and source.classes == list("0123456") and len(source.fingerprint()) == 16
    assert time.perf_counter() - start < 3.0


# --- archives

@pytest.fixture
def packed(folder, tmp_path):
    """The same files as a folder and as every kind of archive."""
    files = {f"set/train/{c}/{i}.png": encoded(picture(seed=i)) for i, c in enumerate("aabb")} | {"set/test/a/9.png": encoded(picture())}
    root = folder(files)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in reversed(files):
            archive.write(root / name, name, zipfile.ZIP_STORED if "0" in name else None)
    for suffix in ("", ".gz", ".xz"):
        with tarfile.open(tmp_path / f"x.tar{suffix}", f"w:{suffix[1:]}") as archive:
            archive.add(root / "set", "./set")
    return root, tmp_path


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.tar.xz"])
@pytest.mark.parametrize("mark", ["/set/train", "::set/train"])
def test_archives_are_read_in_place(packed, name, mark):
    root, home = packed
    source, reference = ImageArchive(f"{home / name}{mark}"), ImageFiles(root / "set" / "train")
    assert source.classes == ["a", "b"] and source.labels.tolist() == [0, 0, 1, 1]
    assert [source.name(i) for i in range(4)] == [reference.name(i) for i in range(4)]
    for index in (3, 0, 2, 1):
        ours, theirs = source.read(index), reference.read(index)
        assert all((ours[key] == theirs[key]).all() for key in theirs)
    assert source.fingerprint() == ImageArchive(f"{home / name}{mark}").fingerprint()
    whole = ImageArchive(home / name)
    assert len(whole) == 5 and whole.labels is None  # train and test are no classes
    with pytest.raises(DataError, match="nowhere"):
        ImageArchive(f"{home / name}::nowhere")
    assert split_archive(home / name) == (str(home / name), "")


@pytest.mark.parametrize("name, why", [("/etc/x.png", "absolute"), ("C:\\x.png", "absolute"), ("a/../../x.png", r"'\.\.'"),
                                       ("..\\x.png", r"'\.\.'")])
def test_archives_that_reach_outside_are_refused(tmp_path, name, why):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("good.png", encoded(picture()))
        archive.writestr(zipfile.ZipInfo(name), encoded(picture()))
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        info = tarfile.TarInfo(name)
        archive.addfile(info)
    for archive in ("evil.zip", "evil.tar"):
        with pytest.raises(DataError, match=f"refused: its member '.*x.png' .*{why}"):
            ImageArchive(tmp_path / archive)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_tars_with_links_and_devices_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        info = tarfile.TarInfo("x.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DataError, match="refused: its member 'x.png' is a (link|device)"):
        ImageArchive(tmp_path / "evil.tar")


def test_zips_with_links_or_passwords_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        info = zipfile.ZipInfo("x.png")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="is a link"):
        ImageArchive(tmp_path / "link.zip")
    with zipfile.ZipFile(tmp_path / "secret.zip", "w") as archive:
        archive.writestr("x.png", encoded(picture()))
    data = bytearray((tmp_path / "secret.zip").read_bytes())
    data[data.rfind(b"PK\1\2") + 8] |= 1
    (tmp_path / "secret.zip").write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        ImageArchive(tmp_path / "secret.zip")


def test_damaged_archives(tmp_path):
    (tmp_path / "text.zip").write_bytes(b"no archive")
    (tmp_path / "text.tar").write_bytes(b"no archive" * 100)
    (tmp_path / "text.tar.gz").write_bytes(b"no archive")
    for name in ("text.zip", "text.tar", "text.tar.gz"):
        with pytest.raises(DataError, match="damaged or none|cannot be read"):
            ImageArchive(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "bent.zip", "w") as archive:
        for i in range(3):
            archive.writestr(f"{i}.bmp", encoded(picture(seed=i), "BMP"))
    data = bytearray((tmp_path / "bent.zip").read_bytes())
    data[1000] ^= 255
    (tmp_path / "bent.zip").write_bytes(data)
    source = ImageArchive(tmp_path / "bent.zip")
    with pytest.raises(BadItem, match="checksum"):
        source.read(0)
    assert source.read(1)["x"].shape == (3, 36, 36)
    with pytest.raises(DataError, match="There is no archive"):
        ImageArchive(tmp_path / "missing.zip")


def test_a_tar_bomb_is_refused(tmp_path):
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("x.png")
        info.size = 80 << 20
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(DataError, match="unpacks to more than"):
        ImageArchive(tmp_path / "bomb.tar.gz")


# --- Parquet

def table_of(path, form, rows=6):
    import pyarrow as pa
    import pyarrow.parquet as pq

    blobs = [encoded(picture(seed=i), "JPEG") for i in range(rows)]
    blobs[4] = None
    kinds = {"binary": pa.array(blobs, pa.binary()), "large": pa.array(blobs, pa.large_binary()),
             "struct": pa.array([None if b is None else {"bytes": b, "path": "x"} for b in blobs],
                                pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}
    columns = {"image": kinds[form], "label": pa.array([0, 1, 2, 0, 1, None]), "word": pa.array(["b", "a", "b", "a", "b", "a"])}
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return blobs


@pytest.mark.parametrize("form", ["binary", "large", "struct"])
@pytest.mark.parametrize("spooled", [False, True])
def test_parquet(tmp_path, monkeypatch, form, spooled):
    from selftaught.sources import parquet_images

    if spooled:
        monkeypatch.setattr(parquet_images, "_IN_MEMORY", 0)
    blobs = table_of(tmp_path / "x.parquet", form)
    source = ImageParquet(tmp_path / "x.parquet", target="label", group="word")
    assert len(source) == 6 and source.facts.shape == (3, 24, 36)
    assert source.labels.tolist() == [0, 1, 2, 0, 1, -1] and source.classes == ["0", "1", "2"]
    assert source.groups.tolist() == [1, 0, 1, 0, 1, 0]
    for index in (5, 0, 3):
        assert source.blob(index) == blobs[index]
    with pytest.raises(BadItem, match="no image"):
        source.read(4)
    words = ImageParquet(tmp_path / "x.parquet", target="word")
    assert words.classes == ["a", "b"] and words.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert any("--target label" in note for note in ImageParquet(tmp_path / "x.parquet").facts.notes)
    with pytest.raises(OptionError, match="Did you mean 'label'"):
        ImageParquet(tmp_path / "x.parquet", target="lable")


def test_parquet_folders_and_mistakes(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    shards = tmp_path / "shards"
    shards.mkdir()
    blobs = table_of(shards / "a.parquet", "struct") + table_of(shards / "b.parquet", "struct")
    source = ImageParquet(shards)
    assert len(source) == 12 and source.blob(9) == blobs[9]
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "numbers.parquet")
    with pytest.raises(DataError, match="no column of images"):
        ImageParquet(tmp_path / "numbers.parquet")
    pq.write_table(pa.table({"p": [b"1"], "q": [b"2"]}), tmp_path / "two.parquet")
    with pytest.raises(OptionError, match="several columns"):
        ImageParquet(tmp_path / "two.parquet")
    (tmp_path / "text.parquet").write_bytes(b"text")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        ImageParquet(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="no Parquet file"):
        ImageParquet(tmp_path / "missing.parquet")


def test_the_cifar_file_and_the_clothing_archive():
    if "SELFTAUGHT_DATA" not in os.environ:
        pytest.skip("SELFTAUGHT_DATA does not name the folder of real data")
    home = os.path.join(os.environ["SELFTAUGHT_DATA"], "images")
    cifar = ImageParquet(os.path.join(home, "cifar10_train.parquet"), target="label")
    assert len(cifar) == 50000 and cifar.facts.shape == (3, 32, 32) and np.bincount(cifar.labels[:10000]).tolist() == [1000] * 10
    clothes = ImageArchive(os.path.join(home, "clothing10_small_128px.zip", "train"))
    assert len(clothes) == 3068 and len(clothes.classes) == 10 and clothes.read(5)["x"].shape[0] == 3


def test_a_folder_of_an_archive_by_a_plain_path(tmp_path):
    import io
    import zipfile

    import numpy as np
    from PIL import Image

    from selftaught.sources import open_source

    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for split, count in (("train", 4), ("test", 2)):
            for i in range(count):
                data = io.BytesIO()
                Image.fromarray(np.full((8, 8, 3), 10 * i, dtype=np.uint8)).save(data, "PNG")
                archive.writestr(f"{split}/{i}.png", data.getvalue())
    assert len(open_source(str(tmp_path / "photos.zip" / "train"))) == 4
    assert len(open_source(f"{tmp_path / 'photos.zip'}::test")) == 2


# --- in the pixels of training

def test_files_are_read_in_the_channels_and_the_depth_of_training(tmp_path):
    x = picture()
    Image.fromarray(x).save(tmp_path / "colour.png")
    Image.fromarray(x).convert("L").save(tmp_path / "grey.png")
    (tmp_path / "deep.png").write_bytes(deep_png(x.astype(np.uint16) * 257))
    for name, channels, bits, like in (("grey", 3, 8, "grey"), ("colour", 1, 8, "grey"), ("deep", 3, 8, "colour"), ("deep", 1, 8, "grey")):
        source, wanted = ImageFiles([tmp_path / f"{name}.png"], least=1), ImageFiles([tmp_path / f"{like}.png"], least=1)
        own = source.facts.shape[0], source.facts.bit_depth
        source.set_pixels(channels, bits)
        assert source.canvas == ((channels, 36, 36), "uint8")
        assert np.abs(source.read(0)["x"].astype(int) - wanted.read(0)["x"]).max() <= 2
        assert (source.facts.shape[0], source.facts.bit_depth) == own
    source.set_pixels(3, 16, 4095.0)  # a camera of 12 bits: what is 16 bits deep stays the same numbers
    assert (source.read(0)["x"] == ImageFiles([tmp_path / "deep.png"], least=1).read(0)["x"]).all()
    shallow = ImageFiles([tmp_path / "colour.png"], least=1)
    shallow.set_pixels(3, 16, 4095.0)
    assert np.abs(shallow.read(0)["x"] / 4095 - ImageFiles([tmp_path / "colour.png"], least=1).read(0)["x"] / 255).max() < 0.01
    shallow.set_pixels(3, 32)
    with pytest.raises(BadItem, match="uint8 samples where float32 is wanted"):
        shallow.read(0)


def test_an_encoder_embeds_images_of_other_pixels_as_its_own_or_says_why_not(tmp_path):
    x = np.stack([picture(16, 16, 3, seed) for seed in range(12)])
    for name in ("rgb", "grey", "deep", "real"):
        (tmp_path / name).mkdir()
    for i, one in enumerate(x):
        grey = np.asarray(Image.fromarray(one).convert("L"))
        Image.fromarray(one).save(tmp_path / "rgb" / f"{i:02d}.png")
        Image.fromarray(grey).save(tmp_path / "grey" / f"{i:02d}.png")
        (tmp_path / "deep" / f"{i:02d}.png").write_bytes(deep_png(one.astype(np.uint16) * 257))
        np.save(tmp_path / "real" / f"{i:02d}.npy", grey.astype(np.float32) / 255)
    encoders = {name: selftaught.pretrain(tmp_path / name, out=tmp_path / f"run-{name}", steps=1, batch_size=4, num_workers=0,
                                          progress=False, **{"backbone.widths": (8, 8)}).encoder for name in ("rgb", "grey", "real")}
    rgb, grey = encoders["rgb"], encoders["grey"]
    own = rgb.embed(tmp_path / "rgb")
    np.testing.assert_allclose(rgb.embed(tmp_path / "deep"), own, atol=1e-3)
    greys = [Image.fromarray(one).convert("L") for one in x]
    repeated = rgb.embed(np.repeat(np.stack([np.asarray(one) for one in greys])[..., None], 3, -1))
    np.testing.assert_allclose(rgb.embed(tmp_path / "grey"), repeated, atol=1e-4)
    np.testing.assert_allclose(rgb.embed(tmp_path / "grey" / "00.png"), repeated[:1], atol=1e-4)
    np.testing.assert_allclose(grey.embed(tmp_path / "rgb"), grey.embed(tmp_path / "grey"), atol=0.05)
    np.testing.assert_allclose(grey.embed(x), grey.embed(tmp_path / "rgb"), atol=0.05)
    np.testing.assert_allclose(rgb.embed(x.astype(np.uint16) * 257), own, atol=1e-4)
    np.testing.assert_allclose(rgb.embed(greys), repeated, atol=1e-4)
    for encoder, data, why in ((rgb, np.concatenate([x, x[..., :1]], -1), "4 channels where 3 are wanted.*layout=NCHW"),
                               (rgb, x / np.float32(255), "float32 samples where uint8 is wanted"),
                               (encoders["real"], tmp_path / "grey", "uint8 samples where float32 is wanted"),
                               (encoders["real"], x[..., 0], "uint8 samples where float32 is wanted")):
        with pytest.raises(DataError, match=why):
            encoder.embed(data)


# --- names

def test_names_that_are_not_utf8_can_be_printed(tmp_path):
    for folder in ("a", os.fsdecode(b"\xe9")):
        (tmp_path / folder).mkdir()
        for name in (b"caf\xe9.png", b"plain.png"):
            Image.fromarray(picture()).save(tmp_path / folder / os.fsdecode(name))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "a", "a")
    source = ImageFiles(tmp_path)
    assert [source.name(i) for i in range(4)] == ["a/caf\\xe9.png", "a/plain.png", "\\xe9/caf\\xe9.png", "\\xe9/plain.png"]
    assert source.classes == ["a", "\\xe9"] and (source.read(2)["x"] == source.read(1)["x"]).all()
    archive, inner = ImageArchive(tmp_path / "x.tar"), ImageFiles(tmp_path / os.fsdecode(b"\xe9"))
    assert archive.name(0) == "a/caf\\xe9.png" and inner.name(0) == "caf\\xe9.png"
    inner.origin.encode()
    assert archive.read(0)["x"].shape == inner.read(0)["x"].shape
