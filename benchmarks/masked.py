"""Masked prediction's speed: MAE at 75 % against nothing hidden, data2vec 2.0 with 8 masks against 8 samples apart. Forward and backward.

python benchmarks/masked.py [--json FILE] [--device cpu] [--repeats 5] [--batch 16]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

from selftaught import methods  # noqa: F401  (enters the methods in the registry)
from selftaught.contracts import Batch, Draws, Facts, Mask, View, find
from selftaught.networks import build_backbone
from selftaught.views.masks import Masked

FACTS = Facts("image", 1024, (3, 64, 64))


def method_of(name: str, **options: object) -> torch.nn.Module:
    """On a ViT-S at 64 pixels, patch 8."""
    torch.manual_seed(0)
    backbone = build_backbone("vit_small", FACTS, patch=8, pool="mean")
    return find("method", name).build(backbone, FACTS, **options)


def step(method: torch.nn.Module, mask: Mask, batch: int, device: str) -> Callable[[], None]:
    """Masks, forward, backward of one batch."""
    method.to(device).train()
    x = torch.randn(batch, *FACTS.shape, device=device)
    draws = Draws.for_items(0, "train", torch.zeros(batch), torch.arange(batch)).to(device)
    items = Batch({"x": x}, *[torch.arange(batch, device=device)] * 3)
    masked = Masked(lambda b, d: [View(x)], mask, method.student.backbone.grid)

    def run() -> None:
        out = method(masked(items, draws), items)
        getattr(out, "total", out).backward()
        method.zero_grad(set_to_none=True)

    return run


def seconds(runs: dict[str, Callable[[], None]], repeats: int, device: str) -> dict[str, float]:
    """Median seconds of each, measured by turns after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(found[1:]) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    light = {"width": 192, "depth": 4, "heads": 3}
    islands = lambda count: Mask("islands", (0.8, 0.8), count=count, size=3)  # noqa: E731
    mae = method_of("mae", **light)
    latent = method_of("data2vec2", **light)
    few = max(args.batch // 8, 1)
    found = seconds({
        "mae_75": step(mae, Mask("random", (0.75, 0.75)), args.batch, args.device),
        "mae_nothing_hidden": step(mae, Mask("random", (0.0, 0.0)), args.batch, args.device),
        "data2vec2_8_masks": step(latent, islands(8), few, args.device),
        "data2vec2_8_samples": step(latent, islands(1), 8 * few, args.device),
    }, args.repeats, args.device)
    result = {"device": args.device, "threads": torch.get_num_threads(), "batch": args.batch, "seconds": found,
              "mae_75_over_nothing_hidden": found["mae_75"] / found["mae_nothing_hidden"],
              "data2vec2_8_masks_over_8_samples": found["data2vec2_8_masks"] / found["data2vec2_8_samples"]}
    print(json.dumps(result, indent=2))
    if args.json:
        with open(args.json, "w") as file:
            json.dump(result, file, indent=2)


if __name__ == "__main__":
    main()
