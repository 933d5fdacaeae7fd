"""Tokens of clouds by occupied cells (linear in the points) against farthest points with their neighbours; prints times and ratios."""

import json
import time
from pathlib import Path

import torch

from selftaught.networks.point_groups import Grouping, gather_points
from selftaught.networks.voxels import Voxels, contents

ROUNDS, MOST = 5, 5.0  # rounds timed, and what four times the points may cost the cells


def cells(x: torch.Tensor) -> torch.Tensor:
    points = x.shape[2]
    return contents(x, Voxels(points, points // 16, 16, 4).of(x), 4)


def groups(x: torch.Tensor) -> torch.Tensor:
    points = x.shape[2]
    return gather_points(x, Grouping(points, points // 16, 32).of(x).index)


def seconds(run, x: torch.Tensor) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        run(x)
        rounds.append(time.process_time() - began)
    return min(rounds)


def measure(points: int) -> dict:
    x = torch.randn(2, 6, points, generator=torch.Generator().manual_seed(0))
    x[:, :3] /= x[:, :3].norm(dim=1, keepdim=True)
    return {"points": points, "tokens": points // 16, "cells ms": round(1e3 * seconds(cells, x), 2),
            "groups ms": round(1e3 * seconds(groups, x), 2)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    rows = [measure(points) for points in (1024, 4096, 16384)]
    for row in rows:
        print(f"2 × {row['points']:,} points → {row['tokens']} tokens: cells {row['cells ms']} ms, farthest points and neighbours "
              f"{row['groups ms']} ms of one core", flush=True)
    ratios = {name: round(rows[2][f"{name} ms"] / rows[1][f"{name} ms"], 2) for name in ("cells", "groups")}
    print(f"16,384 over 4,096 points: cells {ratios['cells']}x (at most {MOST}: {'yes' if ratios['cells'] <= MOST else 'NO'}), farthest "
          f"points and neighbours {ratios['groups']}x")
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "voxels.json").write_text(json.dumps({"threads": 1, "rows": rows, "ratios": ratios}, indent=1) + "\n")
