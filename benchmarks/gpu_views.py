"""Two-view training of ViT-S/16 at 224 px on a GPU: samples a second, and the share of a step that the views take.

    python benchmarks/gpu_views.py [--batch 512] [--steps 30] [--json FILE] [--tiny]

To beat: 2,000 samples/s with views ≤ 10 % of the step. Images lie on the device as uint8, 256 × 256, generated (speed does not look at
them); a step is views, forward and backward of SimCLR on both, and the optimiser, in bf16. Views are timed by themselves as well,
the device's work done before and after. --tiny: 32 px, a small transformer, three steps, on any device, to see that it runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selftaught.contracts import Batch
from selftaught.plan import Plan, make_plan
from selftaught.sources import open_source
from selftaught.training import build_optimiser


def clock(device: torch.device) -> Callable[[], float]:
    """Seconds now, the device's work done."""
    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
    return now


def batch_of(plan: Plan, canvas: int, size: int, device: torch.device) -> Batch:
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randint(0, 256, (size, 3, canvas, canvas), generator=generator, dtype=torch.uint8, device=device)
    rows = torch.arange(size, device=device)
    return Batch({"x": x, "size": torch.full((size, 2), canvas, device=device)}, rows, rows, torch.zeros_like(rows))


def measure(plan: Plan, stream: Any, batch: Batch, steps: int, device: torch.device) -> dict[str, float]:
    """Medians over steps: seconds of a step and of its views, the latter with a synchronisation around them, in steps of their own."""
    method, now = plan.build_method().to(device), clock(device)
    optimiser = build_optimiser(method, plan.training())
    for group in optimiser.param_groups:
        group["lr"] = 1e-4

    def views_of(step: int) -> list:
        with torch.no_grad():
            return stream.views(batch, batch.draws(0, "bench", step=step))

    def step_of(step: int) -> None:
        views = views_of(step)
        with torch.autocast(device.type, torch.bfloat16):
            loss = method(views, batch)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    timed: dict[str, list[float]] = {"step": [], "views": []}
    for step in range(steps + 3):  # the first three warm up
        for name, work in (("step", step_of), ("views", views_of)):
            began = now()
            work(step)
            if step >= 3:
                timed[name].append(now() - began)
    whole, views = (statistics.median(timed[k]) for k in ("step", "views"))
    return {"samples_per_second": round(len(batch) / whole, 1), "step_ms": round(1e3 * whole, 3), "views_ms": round(1e3 * views, 3),
            "views_share": round(views / whole, 4)}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type != "cuda" and not options.tiny:
        parser.error("torch sees no GPU here; --tiny shows that the script runs")
    torch.set_float32_matmul_precision("high")
    side, canvas, size, steps = (32, 36, 8, 3) if options.tiny else (224, 256, options.batch, options.steps)
    small = {"backbone.width": 32, "backbone.depth": 2, "backbone.heads": 2} if options.tiny else {}
    few = np.random.default_rng(0).integers(0, 256, (max(size, 16), canvas, canvas, 3), dtype=np.uint8)[: max(size, 16)]
    source = open_source(few if options.tiny else few[:16], layout="NHWC")
    plan = make_plan(source, {"method": "simclr", "backbone": "vit_small", "backbone.patch": 8 if options.tiny else 16, "resolution": side,
                              "batch_size": 8, "steps": 1, "device": device.type, "num_workers": 0, **small})
    found = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu", "batch": size, "to_beat": 2000,
             **measure(plan, plan.stream(source), batch_of(plan, canvas, size, device), steps, device)}
    print(json.dumps(found))
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
