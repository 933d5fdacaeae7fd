"""Cells of a cloud against a loop over its points, order and padding that change nothing, and methods on tokens that are cells."""

import numpy as np
import pytest
import torch

from selftaught.contracts import Facts, NotApplicable
from selftaught.modalities import find_modality
from selftaught.networks import build_backbone
from selftaught.networks.decoder import inside_tokens
from selftaught.networks.voxels import REACH, Voxels, VoxelSignal, contents
from selftaught.testing import draft, source_of, train

POINTS = find_modality("points")


def clouds(count=3, points=60, channels=5, seed=0):
    x = torch.randn(count, channels, points, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.cat([x[:, :3] / x[:, :3].norm(dim=1, keepdim=True), x[:, 3:]], 1)


def backbone(points=60, channels=5, **options):
    torch.manual_seed(0)
    options = {"cells": 4, "parts": 2, "tokens": 24, "width": 16, "depth": 2, "heads": 2, **options}
    return build_backbone("voxel_transformer", Facts("points", 9, (channels, points)), **options).double().eval()


def naive(cloud, cells, parts):
    """{number of the cell: (points in it, [parts³, 1 + features] of what is there)} of one cloud [C, P], a point at a time."""
    found = {}
    for point in cloud.T.tolist():
        place = [min(max(int((v / REACH + 1) / 2 * cells * parts // 1), 0), cells * parts - 1) for v in point[:3]]
        cell, fine = ([f(v) for v in place] for f in (lambda v: v // parts, lambda v: v % parts))
        number, part = (cell[0] * cells + cell[1]) * cells + cell[2], (fine[0] * parts + fine[1]) * parts + fine[2]
        found.setdefault(number, {}).setdefault(part, []).append(point[3:])
    return found


def test_tokens_are_the_occupied_cells():
    x, cells, parts = clouds(), 4, 2
    places = Voxels(60, 60, cells, parts)
    found, shown = places.of(x), contents(x, places.of(x), parts).unflatten(2, (3, parts**3))
    for row in range(len(x)):
        expected = naive(x[row], cells, parts)
        assert found.key[row][found.valid[row]].tolist() == sorted(expected)
        for token, number in enumerate(sorted(expected)):
            for part in range(parts**3):
                inside = expected[number].get(part, [])
                means = torch.tensor(inside, dtype=torch.float64).mean(0) if inside else torch.zeros(2, dtype=torch.float64)
                assert shown[row, token, 0, part] == bool(inside) and torch.allclose(shown[row, token, 1:, part], means)
    assert (shown[~found.valid] == 0).all()
    low = found.key // cells**2 * (2 * REACH / cells) - REACH
    assert ((x[:, 0] - low.gather(1, found.token)).abs() <= 2 * REACH / cells + 1e-9).all()
    assert (places(x)[..., 0] - low - REACH / cells)[found.valid].abs().max() < 1e-9


def test_the_fullest_cells_are_kept():
    x = clouds(points=120)
    everything, some = Voxels(120, 64, 4, 2).of(x), Voxels(120, 10, 4, 2).of(x)
    for row in range(len(x)):
        held = torch.bincount(everything.token[row], minlength=64)
        kept = torch.isin(everything.key[row], some.key[row]) & everything.valid[row]
        assert kept.sum() == 10 and held[kept].min() >= held[~kept].max()
        assert ((some.token[row] == 10) == ~kept[everything.token[row]]).all()


def test_order_and_padding_change_nothing():
    x, network = clouds(), backbone()
    lengths = torch.tensor([60, 41, 33])
    x = x * (torch.arange(60) < lengths[:, None])[:, None]
    whole = network(x, lengths=lengths)
    order = torch.stack([torch.cat([torch.randperm(n), torch.arange(n, 60)]) for n in lengths.tolist()])
    moved = network(x.gather(2, order[:, None].expand_as(x)), lengths=lengths)
    assert torch.allclose(whole.tokens, moved.tokens, atol=1e-12) and torch.allclose(whole.pooled, moved.pooled, atol=1e-12)
    for row, n in enumerate(lengths.tolist()):
        alone = network(x[row:row + 1, :, :n].contiguous(), lengths=lengths[row:row + 1])
        count = int(whole.lengths[row])
        assert count == int(alone.lengths) <= -(-n * 24 // 60)
        assert torch.allclose(alone.pooled[0], whole.pooled[row], atol=1e-12)
        assert torch.allclose(alone.tokens[0, :count], whole.tokens[row, :count], atol=1e-12) and (whole.tokens[row, count:] == 0).all()


def test_a_subset_of_tokens_sees_only_its_cells():
    x, network = clouds(), backbone()
    every = torch.arange(24).expand(3, -1)
    assert torch.allclose(network(x, keep=every).tokens, network(x).tokens)
    keep, found = every[:, :9].contiguous(), network.places.of(x)
    hidden = found.token >= 9
    elsewhere = torch.where(hidden[:, None], torch.cat([x[:, :3], x[:, 3:] + 7], 1), x)
    assert torch.equal(network(elsewhere, keep=keep).tokens, network(x, keep=keep).tokens)
    assert not torch.allclose(network(elsewhere).pooled, network(x).pooled)


def test_what_is_to_be_predicted():
    x = clouds()
    signal = VoxelSignal(Voxels(60, 24, 4, 2), 5)
    target = signal(x, normalised=True).unflatten(2, (3, 8))
    valid = signal.places.of(x).valid
    assert signal.width == 24 and target[~valid].isnan().all() and set(target[valid][:, 0].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(target[valid][:, 1:].isnan(), (target[valid][:, :1] == 0).expand(-1, 2, -1))


@pytest.mark.parametrize("method", ["mae", "simmim", "simclr"])
def test_methods_run_on_cells(method):
    source = source_of("points", 64)
    network = {"backbone": "voxel_transformer", "backbone.width": 32, "backbone.depth": 1, "backbone.heads": 2}
    plan = draft(method, "points", source, steps=12 if method == "mae" else 2, lr=8e-3, **network)
    losses = train(plan, source)[1].losses
    assert np.isfinite(losses).all() and (method != "mae" or losses[-1] < 0.85 * losses[0])


def test_cells_that_a_cloud_lacks_are_no_targets():
    """Of clouds crowded into one corner most tokens are none: they teach nothing and are not looked at."""
    source = source_of("points", 64)
    plan = draft("jepa", "points", source, backbone="voxel_transformer")
    method, stream = plan.build_method(), plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    (view,) = stream.views(batch, batch.draws(0, "train"))
    view = view.with_(x=torch.cat([0.1 * view.x[:, :3].abs(), view.x[:, 3:]], 1))
    backbone = method.student.backbone
    inside = inside_tokens(view, backbone)
    assert torch.equal(inside, backbone.places.of(view.x, view.lengths).valid) and 0 < inside.sum() < 0.5 * inside.numel()
    assert torch.equal(method.targets(view).isnan().all(2), ~inside)


def test_other_items_are_refused():
    with pytest.raises(NotApplicable, match="points in space"):
        build_backbone("voxel_transformer", Facts("image", 9, (3, 8, 8)))
    assert isinstance(POINTS.backbone(Facts("points", 9, (3, 64)), "voxel_transformer").places, Voxels)
