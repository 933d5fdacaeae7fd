"""Whether items vary in length is said by the data, not by the batch: an item's views do not change with its neighbours."""

import json

import numpy as np
import pytest
import torch

from selftaught.contracts import Batch, Clean, Draws, MultiCrop, Pair, Patches, Single
from selftaught.modalities import Preprocessing, find_modality
from selftaught.sources import open_source

RNG = np.random.default_rng(0)
TONE = np.sin(2 * np.pi * 440 * np.arange(4000) / 4000).astype(np.float32)
VARIED = {
    "series": [RNG.normal(size=(2, 40)) for _ in range(7)] + [RNG.normal(size=(2, 25))],
    "audio": {"x": [TONE[: 3000 if i == 7 else 4000] * (1 + i) / 9 for i in range(8)], "rate": 4000},
    "points": [RNG.normal(size=(30 if i < 7 else 20, 3)) for i in range(8)],
}
EVEN = {
    "series": RNG.normal(size=(8, 2, 40)),
    "audio": {"x": [TONE * (1 + i) / 9 for i in range(8)], "rate": 4000},
    "points": RNG.normal(size=(8, 30, 3)),
}


def prepared(name, data):
    """(source, preprocessing), the latter back from its JSON."""
    modality, source = find_modality(name), open_source(data, modality=name)
    found = Preprocessing.from_json(json.loads(json.dumps(modality.prepare(source).to_json())))
    modality.configure(source, found)
    return source, found


def views(source, preprocessing, need, rows):
    modality, index = find_modality(preprocessing.modality), torch.tensor(rows)
    items = source if isinstance(source, list) else [source.read(i) for i in range(len(source))]
    fields, lengths = modality.collate([items[i] for i in rows], preprocessing)
    batch = Batch(fields, index, index, torch.zeros_like(index), None, lengths)
    return modality.views(need, preprocessing)(batch, Draws.for_items(0, "train", torch.zeros_like(index), index))


@pytest.mark.parametrize("need", [Clean(), Single(strength="strong"), Pair(), MultiCrop(), Patches(side=2)], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("name", VARIED)
def test_views_of_full_items_do_not_change_beside_a_shorter_one(name, need):
    if name == "points" and isinstance(need, Patches):
        pytest.skip("a cloud has no patches")
    source, found = prepared(name, VARIED[name])
    whole = views(source, found, need, [0, 1, 2, 7])
    parts = zip(views(source, found, need, [0, 1]), views(source, found, need, [2, 7]))  # as two processes have them
    for together, (first, second) in zip(whole, parts, strict=True):
        torch.testing.assert_close(torch.cat([first.x, second.x]), together.x, rtol=0, atol=1e-6)
        assert torch.equal(torch.cat([first.lengths, second.lengths]), together.lengths)


@pytest.mark.parametrize("name", EVEN)
def test_data_of_one_length_have_views_without_lengths(name):
    source, found = prepared(name, EVEN[name])
    assert all(view.lengths is None for view in views(source, found, Pair(), [0, 1]))


@pytest.mark.parametrize("name", ["audio", "points"])
def test_a_shorter_item_among_data_said_to_be_of_one_length_changes_nothing_for_the_others(name):
    """Where only some headers are looked at, a rare shorter item may not be among them; evaluation still knows its length."""
    source, found = prepared(name, EVEN[name])
    items = [source.read(i) for i in range(8)]
    shown = int(items[7]["size"][0] * 0.7)
    items[7] = items[7] | {"x": np.where(np.arange(items[7]["x"].shape[-1]) < shown, items[7]["x"], 0), "size": np.array([shown, 0])}
    for alone, beside in zip(views(items, found, Pair(), [0]), views(items, found, Pair(), [0, 7]), strict=True):
        torch.testing.assert_close(alone.x[0], beside.x[0], rtol=0, atol=1e-6)
        assert alone.lengths is None and beside.lengths is None and beside.x[1, ..., -1].any()
    (clean,) = views(items, found, Clean(), [0, 7])
    assert clean.lengths is not None and clean.lengths[1] < clean.lengths[0]
