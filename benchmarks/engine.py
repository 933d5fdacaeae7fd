"""The engine against a bare loop: same method, views, batches and optimiser. Prints the ratio and the milliseconds a step it adds.

python benchmarks/engine.py [--json FILE] [--pairs 10] [--steps 12]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from selftaught.plan import make_plan
from selftaught.sources import open_source
from selftaught.training import build_optimiser, fit


def bare(plan, source, steps: int) -> float:
    """Seconds a step of a loop that does only what must be done."""
    method, stream, training = plan.build_method().to(memory_format=torch.channels_last), plan.stream(source), plan.training()
    optimiser = build_optimiser(method, training)
    for group in optimiser.param_groups:
        group["lr"] = 1e-3
    method.train()
    ends = []
    for batch in stream.batches(0, steps, rank=0, world=1, accumulate=1):
        views = stream.views(batch, batch.draws(0, "train"))
        for view in views:
            view.x = view.x.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=plan["precision"] == "bf16-mixed"):
            loss = method.loss(views, batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss.item()
        ends.append(time.perf_counter())
    return statistics.median(np.diff(ends).tolist())


def engine(plan, source, steps: int) -> float:
    """Seconds a step of `fit`, health checks, metrics and schedules included."""
    ends = []
    method, stream = plan.build_method(), plan.stream(source)
    after_step = method.after_step
    method.after_step = lambda: (after_step(), ends.append(time.perf_counter()))  # a clock, and nothing else
    fit(method, stream, plan.training(), plan.settings(progress=False))
    return statistics.median(np.diff(ends).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(2)
    images = np.random.default_rng(0).integers(0, 256, (2048, 3, 32, 32), dtype=np.uint8)
    source = open_source(images)
    results = {}
    for name, options in {"convnet, batch 256": {"batch_size": 256}, "small convnet, batch 32": {"batch_size": 32,
                          "backbone.widths": (16, 32)}}.items():
        plan = make_plan(source, {"steps": args.steps, "method": "simclr", "backbone": "convnet", "log_every": 10, **options})
        pairs = [(bare(plan, source, args.steps), engine(plan, source, args.steps)) for _ in range(args.pairs)]
        ratio = statistics.median(e / b for b, e in pairs)
        added = statistics.median((e - b) * 1e3 for b, e in pairs)
        results[name] = {"ratio": round(ratio, 4), "added_ms": round(added, 3), "bare_ms": round(1e3 * pairs[0][0], 2)}
        print(f"{name}: engine / bare loop = {ratio:.3f}, {added:+.2f} ms a step (bare {results[name]['bare_ms']} ms)")
    if args.json:
        with open(args.json, "w") as handle:
            json.dump(results, handle, indent=1)


if __name__ == "__main__":
    main()
