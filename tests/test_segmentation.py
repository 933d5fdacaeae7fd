"""Segmentation by single tokens: masks find their items and classes, brightness is told by the raw input, moved masks are not learnt."""

import numpy as np
import pytest
from PIL import Image

import selftaught
from selftaught.contracts import DataError, NotApplicable, OptionError
from selftaught.networks import build_backbone
from selftaught.protocols import segment
from selftaught.protocols.segmentation import cells, distinct, nearest_places

N, SIDE = 48, 16


@pytest.fixture(scope="module")
def pictures():
    """uint8 [N, SIDE, SIDE, 3] with a bright box of whole cells of 4, and its masks of values 0, 7 and, in a corner, 255."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 90, (N, SIDE, SIDE, 3), dtype=np.uint8)
    masks = np.zeros((N, SIDE, SIDE), dtype=np.uint8)
    for i, (row, column) in enumerate(rng.integers(0, 3, (N, 2)) * 4):
        x[i, row:row + 8, column:column + 8] += 120
        masks[i, row:row + 8, column:column + 8] = 7
    masks[:, -2:, -2:] = 255
    return x, masks


@pytest.fixture(scope="module")
def encoder(pictures, tmp_path_factory):
    narrow = {"backbone.width": 16, "backbone.depth": 1, "backbone.heads": 2, "backbone.patch": 4}
    return selftaught.pretrain(pictures[0], out=tmp_path_factory.mktemp("run") / "run", method="simmim", backbone="vit_tiny", steps=1,
                               batch_size=8, **narrow).encoder


@pytest.fixture
def folders(pictures, tmp_path):
    for name, arrays in zip(("items", "masks"), pictures):
        (tmp_path / name).mkdir()
        for i, a in enumerate(arrays):
            Image.fromarray(a).save(tmp_path / name / f"{(i * 7) % N:03d}.png")  # names in another order than the arrays
    return tmp_path / "items", tmp_path / "masks"


def test_brightness_is_told_by_tokens_and_not_of_moved_masks(encoder, pictures):
    x, masks = pictures
    table = segment(encoder, x, masks)
    assert {c.representation for c in table.cells} == {"encoder", "raw", "random"}
    assert table.cell("raw", "dense", 1.0).score.value > 0.95 and table.cell("raw", "token_knn", 1.0).score.value > 0.99
    assert "0, 7, 255; left out: 255" in table.notes[0] and len(table.winners()) == 2
    moved = segment(encoder, x, np.roll(masks, 1, 0), baselines=("raw",))
    assert moved.cell("raw", "dense", 1.0).score.value < table.cell("raw", "dense", 1.0).score.value - 0.2


def test_groups_are_held_out_whole_and_make_the_intervals(encoder, pictures):
    x, masks = pictures
    source = selftaught.open_source({"x": x, "group": np.arange(len(x)) // 5})
    table = segment(encoder, source, masks, baselines=())
    assert {c.score.n for c in table.cells} == {2} and len(table.cells) == 2  # of ten groups a fifth


def test_files_pair_by_name(encoder, pictures, folders):
    by_array, by_name = (segment(encoder, *of, baselines=("raw",)).cell("raw", "token_knn", 1.0).score.value for of in (pictures, folders))
    assert by_array > 0.99 and by_name > 0.99


def test_items_that_share_a_name_pair_by_their_folders(encoder, pictures, tmp_path):
    def folder(name, arrays):
        for i, array in enumerate(arrays):
            (tmp_path / name / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / name / "ab"[i % 2] / f"{i // 2}.png")
        return tmp_path / name

    items, masks = folder("items", pictures[0]), folder("masks", pictures[1])
    table = segment(encoder, items, masks, baselines=("raw",))
    assert table.cell("raw", "token_knn", 1.0).score.value > 0.99 and not any("by place" in note for note in table.notes)
    assert any("paired by place" in note for note in segment(encoder, items, pictures[1], baselines=()).notes)
    (masks / "a" / "1.png").rename(masks / "b" / "99.png")
    with pytest.raises(DataError, match="a/1 has no mask of its name"):
        segment(encoder, items, masks)


def test_cells_are_the_pixels_of_each_token():
    x = np.arange(2 * 3 * 4 * 6, dtype=np.float32).reshape(2, 3, 4, 6)
    found = cells(x.reshape(2, -1), (3, 4, 6), 6, (2, 3))
    assert found.shape == (2, 6, 12)
    np.testing.assert_array_equal(found[1, 4], x[1, :, 2:4, 2:4].reshape(-1))
    assert nearest_places(4, 2).tolist() == [1, 3] and nearest_places(2, 4).tolist() == [0, 0, 1, 1]


def test_what_cannot_be_is_a_sentence(encoder, pictures, folders):
    x, masks = pictures
    with pytest.raises(DataError, match="47 masks for 48 items"):
        segment(encoder, x, masks[1:])
    with pytest.raises(DataError, match="more than 256 distinct values"):
        segment(encoder, x, x)
    (folders[1] / "003.png").rename(folders[1] / "other.png")
    with pytest.raises(DataError, match="003 has no mask of its name: .* such as 000"):
        segment(encoder, *folders)
    with pytest.raises(DataError, match="0, 7, 255, which are not two classes once 7, 255 is left out"):
        segment(encoder, x, masks, ignore=(7, 255))
    rows = selftaught.pretrain("embedded:breast-cancer", out=folders[0].parent / "rows", steps=1, batch_size=8, progress=False).encoder
    with pytest.raises(NotApplicable, match="table data, which have none"):
        segment(rows, x, masks)
    with pytest.raises(OptionError, match="between 0 and 1"):
        segment(encoder, x, masks, held=2)
    with pytest.raises(OptionError, match="rnd"):
        segment(encoder, x, masks, baselines=("rnd",))


def test_a_convolutional_map_is_tokens(pictures):
    import torch

    from selftaught.sources import open_source

    backbone = build_backbone("convnet", open_source(pictures[0]).facts, widths=(4, 8))
    features = backbone(torch.randn(3, 3, SIDE, SIDE))
    torch.testing.assert_close(features.tokens.mean(1), features.pooled)


@pytest.mark.parametrize("channels, dtype", [(1, np.uint8), (3, np.uint8), (3, np.uint16), (4, np.uint8), (3, np.float32)])
def test_every_colour_once(channels, dtype):
    x = (np.random.default_rng(0).integers(0, 3, (channels, 500)) * 80).astype(dtype)
    values, codes = distinct(x)
    np.testing.assert_array_equal(np.array(values).T[:, codes], x)
    assert len(set(values)) == len(values)
