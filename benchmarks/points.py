"""Grouping of a batch of clouds at once (farthest points, nearest neighbours) against a cloud at a time; prints the ratios."""

import json
import time
from pathlib import Path

import torch

from selftaught.networks.point_groups import Grouping, by_place, farthest_points, gather_points, square_distance

ROUNDS, BUDGET = 5, 0.3  # seconds that 32 clouds of 1,024 points may take on two cores


def plain(cloud: torch.Tensor, groups: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What one writes for a cloud [3, P]: places of the centres [groups, 3] and of their nearest points [groups, size, 3]."""
    points = cloud.T
    chosen = [int((points - points.mean(0)).square().sum(1).argmax())]
    nearest = torch.full((len(points),), torch.inf)
    while len(chosen) < groups:
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
        chosen.append(int(nearest.argmax()))
    index = torch.cdist(points[chosen], points).topk(size, largest=False).indices
    return points[chosen], points[index]


def seconds(run, clock=time.perf_counter) -> float:
    times = []
    for _ in range(ROUNDS):
        start = clock()
        run()
        times.append(clock() - start)
    return min(times)


def measure(clouds: int, points: int, groups: int, size: int) -> dict:
    x = torch.randn(clouds, 3, points, generator=torch.Generator().manual_seed(0))
    x = x / x.norm(dim=1, keepdim=True)
    found = Grouping(points, groups, size)._found(x, None)
    for cloud, centre in zip(x[:4], gather_points(x, found.centre)):
        assert torch.equal(plain(cloud, groups, size)[0].unique(dim=0), centre.unique(dim=0)), "the centres differ"
    batch, same, loop = (seconds(run) for run in (
        lambda: Grouping(points, groups, size)._found(x, None),
        lambda: [Grouping(points, groups, size)._found(cloud[None], None) for cloud in x],
        lambda: [plain(cloud, groups, size) for cloud in x],
    ))
    order = by_place(x, None)
    parts = {"order": seconds(lambda: by_place(x, None)), "farthest": seconds(lambda: farthest_points(x, None, groups)),
             "nearest": seconds(lambda: square_distance(gather_points(x, order[:, :groups]), x).topk(size, largest=False, sorted=False))}
    return {"clouds": clouds, "points": points, "groups": groups, "size": size, "batch ms": round(1e3 * batch, 1),
            "processor ms": round(1e3 * seconds(lambda: Grouping(points, groups, size)._found(x, None), time.process_time), 1),
            "cloud by cloud ms": round(1e3 * same, 1), "plain loop ms": round(1e3 * loop, 1), "ratio": round(same / batch, 2),
            "ratio to the plain loop": round(loop / batch, 2), **{f"{name} ms": round(1e3 * value, 1) for name, value in parts.items()}}


if __name__ == "__main__":
    torch.set_num_threads(2)
    rows = [measure(32, 1024, 64, 32), measure(128, 256, 16, 32)]
    for row in rows:
        print(f"{row['clouds']} × {row['points']} points → {row['groups']} groups of {row['size']}: batch {row['batch ms']} ms "
              f"({row['processor ms']} ms of processors; order {row['order ms']}, farthest {row['farthest ms']}, nearest "
              f"{row['nearest ms']}), cloud by cloud {row['cloud by cloud ms']} ms = {row['ratio']}x, plain loop {row['plain loop ms']} ms "
              f"= {row['ratio to the plain loop']}x", flush=True)
    print(f"within {BUDGET} s: {'yes' if rows[0]['batch ms'] < 1e3 * BUDGET else 'NO'}")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "points.json").write_text(json.dumps({"threads": 2, "rows": rows}, indent=1) + "\n")
