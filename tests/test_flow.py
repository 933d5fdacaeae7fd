"""Optical flow of known translations; statistics of motion and appearance against naive loops over pixels."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selftaught.contracts import STATISTICS, Measured
from selftaught.modalities import find_modality
from selftaught.testing import check_method, draft, source_of
from selftaught.views.flow import (
    PARTITIONS,
    appearance_statistics,
    clip_flow,
    gradient,
    median,
    motion_statistics,
    optical_flow,
    partitions,
    warped,
)


def texture(count, side, seed=0):
    x = F.avg_pool2d(torch.rand(count, 1, side + 4, side + 4, generator=torch.Generator().manual_seed(seed)), 5, 1)[:, 0]
    low, high = x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True)
    return (x - low) / (high - low)


def shifted(big, right, down, side):
    """The window of `big` in which all that `window(0, 0)` shows has moved by (right, down)."""
    return big[:, 8 - down : 8 - down + side, 8 - right : 8 - right + side]


@pytest.mark.parametrize("way", [(0, 0), (1, 0), (0, -1), (2, 1), (-2, 2)])
def test_flow_finds_known_translations(way):
    big, noise = texture(8, 48), torch.Generator().manual_seed(1)
    first, second = (x + 0.02 * torch.randn(x.shape, generator=noise) for x in (shifted(big, 0, 0, 32), shifted(big, *way, 32)))
    flow = optical_flow(first, second)
    error = (flow - torch.tensor(way).view(1, 2, 1, 1)).norm(dim=1)[:, 6:-6, 6:-6]
    assert flow.shape == (8, 2, 32, 32) and error.median() < 0.25 and error.mean() < 0.45
    assert torch.allclose(optical_flow(first[3:4], second[3:4]), flow[3:4], atol=1e-5)  # whatever else is in the batch


def test_flow_rests_where_nothing_is_seen_and_follows_what_moves_alone():
    frames = torch.full((1, 2, 24, 24), 0.5)
    assert optical_flow(frames[:, 0], frames[:, 1]).abs().max() == 0
    blob = texture(1, 8)[0]
    frames[0, 0, 8:16, 6:14], frames[0, 1, 8:16, 8:16] = blob, blob  # two pixels to the right
    flow = clip_flow(frames[:, None])[0, 0]
    assert (flow[0, 10:14, 8:12] - 2).abs().max() < 0.2 and flow[1, 10:14, 8:12].abs().max() < 0.2 and flow[:, :3].abs().mean() < 0.1


def test_warping_by_whole_pixels_moves_pixels():
    frame = texture(2, 12)
    flow = torch.tensor([2.0, -1.0]).view(1, 2, 1, 1).expand(2, 2, 12, 12)
    assert torch.allclose(warped(frame, flow)[:, 1:, :-2], frame[:, :-1, 2:], atol=1e-5)
    ramp = torch.arange(6.0).expand(1, 6, 6) * 3
    assert torch.equal(gradient(ramp)[0, :, 1:-1, 1:-1], torch.tensor([3.0, 0.0]).view(2, 1, 1).expand(2, 4, 4))


def test_the_median_is_that_of_nine():
    x = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(4))
    around = F.pad(x, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1)
    assert torch.equal(median(x), around.flatten(-2).median(-1).values)


def test_partitions_are_squares_rings_and_halves_of_quarters():
    grid, rings, halves = (p.view(16, 16) - start for p, start in zip(partitions(16, 16, "cpu"), (0, 16, 20)))
    assert grid[5, 9] == 4 * 1 + 2 and [int((grid == k).sum()) for k in range(16)] == [16] * 16
    assert [int((rings == k).sum()) for k in range(4)] == [4**2, 8**2 - 4**2, 12**2 - 8**2, 16**2 - 12**2]
    assert halves[0, 4] == 1 and halves[4, 0] == 0 and halves[0, 12] == 3 and halves[15, 12] == 7 and halves[12, 15] == 6


def blocks_of(height, width):
    maps, start = partitions(height, width, "cpu").numpy(), 0
    for partition, count in zip(maps, PARTITIONS):
        yield [np.flatnonzero(partition == start + k) for k in range(count)]
        start += count


def number(value, count):
    return round((float(value) + 1) * count / 2 - 0.5, 4)


@pytest.mark.parametrize("sides", [(12, 14), (5, 5)])  # of 5 × 5 pixels one ring is empty
def test_motion_statistics_equal_a_loop_over_pixels_and_forget_what_all_share(sides):
    flow = torch.randn(3, 5, 2, *sides, generator=torch.Generator().manual_seed(2))
    found = motion_statistics(flow)
    assert found.shape == (3, STATISTICS["motion"]) and found.abs().max() <= 1
    assert torch.equal(motion_statistics(flow + torch.tensor([3.0, -1.0]).view(2, 1, 1)), found)  # a camera that drifts
    for b in range(3):
        for c in range(2):
            edges = gradient(flow[b, :, c]).double().numpy()  # [5, 2, H, W]
            dx, dy = edges.sum(0).reshape(2, -1)
            size = np.hypot(dx, dy)
            for p, blocks in enumerate(blocks_of(*sides)):
                best = int(np.argmax([size[block].mean() if len(block) else -1 for block in blocks]))
                bins = np.zeros(8)
                for i in blocks[best]:
                    at = math.degrees(math.atan2(dy[i], dx[i])) % 360 / 45
                    bins[int(at) % 8] += size[i] * (1 - at % 1)
                    bins[(int(at) + 1) % 8] += size[i] * (at % 1)
                seen = [number(v, n) for v, n in zip(found[b, 4 * p + 2 * c :][:2], (PARTITIONS[p], 8))]
                assert seen == [best, int(bins.argmax())]
            assert number(found[b, 12 + c], 5) == np.hypot(edges[:, 0], edges[:, 1]).mean((1, 2)).argmax()


@pytest.mark.parametrize("channels,sides", [(1, (12, 14)), (3, (12, 14)), (3, (5, 5))])
def test_appearance_statistics_equal_a_loop_over_pixels(channels, sides):
    clip = torch.rand(2, channels, 4, *sides, generator=torch.Generator().manual_seed(3))
    found, colours = appearance_statistics(clip), 2**channels
    assert found.shape == (2, STATISTICS["appearance"]) and found.abs().max() <= 1
    for b in range(2):
        x = clip[b].flatten(2).numpy()  # [C, T, N]
        hue = sum((x[c] >= 0.5) * 2**c for c in range(channels))  # [T, N]
        for p, blocks in enumerate(blocks_of(*sides)):
            same = {}
            for k, block in enumerate(blocks):
                if not len(block):
                    continue
                counts = np.array([[np.bincount((x[c, t, block] * 16).astype(int), minlength=16) for t in range(4)]
                                   for c in range(channels)])
                same[k] = (counts.min(1).sum(1) / counts.max(1).sum(1)).mean()
            for k, best in enumerate((min(same, key=same.get), max(same, key=same.get))):
                dominant = np.bincount(hue[:, blocks[best]].ravel(), minlength=colours).argmax()
                seen = [number(v, n) for v, n in zip(found[b, 4 * p + 2 * k :][:2], (PARTITIONS[p], colours))]
                assert seen == [best, dominant]
        assert number(found[b, 12], colours) == np.bincount(hue.ravel()).argmax()


def test_video_measures_in_the_pixels_of_the_view():
    source = source_of("video", 64)
    plan = draft("statistics", "video", source)
    stream = plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    (view,) = stream.views(batch, batch.draws(0, "train"))
    statistics = plan.preprocessing.statistics
    clip = (view.x * statistics["std"][0] + statistics["mean"][0]).clamp(0, 1)
    assert torch.equal(view.applied["motion"], motion_statistics(clip_flow(clip)))
    assert torch.equal(view.applied["appearance"], appearance_statistics(clip))
    alone = find_modality("video").views(Measured(kinds=("appearance",)), plan.preprocessing, **plan.nested["views"])
    (alone,) = alone(batch, batch.draws(0, "train"))
    assert "motion" not in alone.applied and torch.equal(alone.applied["appearance"], view.applied["appearance"])


def test_predicting_statistics_conforms_and_learns_on_clips():
    """Learning is that of the k-NN test of every method, with another clip's statistics as the control."""
    checks = check_method("statistics", modalities=("video",), learns=True, two_processes=False, steps=60)
    assert [c.holds for c in checks if c.name == "learns"] == [True]
