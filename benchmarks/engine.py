"""The engine against a bare loop: same method, views, batches, optimiser and heap. Prints the ratio and the milliseconds a step it adds.

python benchmarks/engine.py [--json FILE] [--pairs 10]
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
from selftaught.training.heap import steady_heap

STEPS = 21
"""The first is not counted; among the 20 others metrics are written twice and health is checked four times, as in any run of the plan."""
CASES = {"convnet, batch 256": {"batch_size": 256}, "small convnet, batch 32": {"batch_size": 32, "backbone.widths": (16, 32)}}


def per_step(ends: list[float]) -> float:
    """Seconds a step from the end of the first to that of the last, whatever was done in between."""
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def bare(plan, source, steps: int = STEPS) -> float:
    """Seconds a step of a loop that does only what must be done, on the heap that the engine trains on."""
    method, stream, training = plan.build_method().to(memory_format=torch.channels_last), plan.stream(source), plan.training()
    optimiser = build_optimiser(method, training)
    for group in optimiser.param_groups:
        group["lr"] = 1e-3
    method.train()
    ends = []
    with steady_heap():
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
    return per_step(ends)


def engine(plan, source) -> float:
    """Seconds a step of `fit`, health checks, metrics and schedules included."""
    ends = []
    method, stream = plan.build_method(), plan.stream(source)
    after_step = method.after_step
    method.after_step = lambda: (after_step(), ends.append(time.perf_counter()))  # a clock, and nothing else
    fit(method, stream, plan.training(), plan.settings(progress=False))
    return per_step(ends)


def planned(source, options: dict, steps: int = STEPS):
    return make_plan(source, {"steps": steps, "method": "simclr", "backbone": "convnet", "log_every": 10, **options})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--pairs", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(2)
    images = np.random.default_rng(0).integers(0, 256, (2048, 3, 32, 32), dtype=np.uint8)
    source = open_source(images)
    results = {}
    for name, options in CASES.items():
        plan, pairs = planned(source, options), []
        for number in range(args.pairs):
            seconds = {run: run(plan, source) for run in ((bare, engine), (engine, bare))[number % 2]}
            pairs.append((1e3 * seconds[bare], 1e3 * seconds[engine]))
        ratio, added = statistics.median(e / b for b, e in pairs), statistics.median(e - b for b, e in pairs)
        results[name] = {"ratio": round(ratio, 4), "added_ms": round(added, 3), "bare_ms": round(statistics.median(b for b, _ in pairs), 2),
                         "steps": STEPS - 1, "pairs": [[round(ms, 2) for ms in pair] for pair in pairs]}
        print(f"{name}: engine / bare loop = {ratio:.3f}, {added:+.2f} ms a step (bare {results[name]['bare_ms']} ms)")
    if args.json:
        with open(args.json, "w") as handle:
            json.dump(results, handle, indent=1)


if __name__ == "__main__":
    main()
