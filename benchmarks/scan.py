"""The selective scan along the sequence: its time at 4,096 places over that at 1,024, and a Mamba backbone beside its Transformer twin.

python benchmarks/scan.py [--device cpu] [--json FILE] [--repeats 3] [--tokens 256 1024 4096] [--batch 1]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from selftaught.contracts import Facts
from selftaught.networks import build_backbone
from selftaught.networks.scan import selective_scan

WIDTH, STATE = 384, 16  # of the scan in a backbone as wide as ViT-Ti
TWINS = {"mamba": {"depth": 4}, "vit_tiny": {"depth": 2}}  # two Mamba blocks have the parameters of a Transformer block


def of_scan(tokens: int, batch: int, device: str) -> Callable[[], None]:
    """Forward and backward of the scan alone."""
    torch.manual_seed(0)
    x, step = torch.randn(batch, tokens, WIDTH), F.softplus(torch.randn(batch, tokens, WIDTH) - 4)
    enter, leave = torch.randn(2, batch, tokens, STATE)
    decay = -torch.arange(1.0, STATE + 1).expand(WIDTH, -1)
    given = [part.to(device).requires_grad_() for part in (x, step, decay, enter, leave)]
    return lambda: selective_scan(*given).sum().backward()


def of_backbone(name: str, tokens: int, batch: int, device: str, *, train: bool) -> Callable[[], None]:
    """The backbone over a series of as many tokens; forward and backward, or forward alone."""
    torch.manual_seed(0)
    backbone = build_backbone(name, Facts("series", 9, (1, 4 * tokens)), patch=4, pool="mean", **TWINS[name]).to(device).train(train)
    x = torch.randn(batch, 1, 4 * tokens, device=device)

    def run() -> None:
        with torch.set_grad_enabled(train):
            out = backbone(x).pooled.sum()
        if train:
            out.backward()

    return run


def measure(runs: dict[str, Callable[[], None]], repeats: int, device: str) -> dict[str, dict[str, float]]:
    """Median seconds of each, by turns after one round to warm up; on an accelerator also the most megabytes that it added."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    memory: dict[str, float] = {}
    for _ in range(repeats + 1):
        for name, run in runs.items():
            if device == "cuda":
                torch.cuda.synchronize(), torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
            began = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
                memory[name] = (torch.cuda.max_memory_allocated() - held) / 2**20
            times[name].append(time.perf_counter() - began)
    return {name: {"seconds": statistics.median(found[1:])} | ({"megabytes": memory[name]} if memory else {})
            for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", default=str(Path(__file__).parent / "results" / "scan.json"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 1024, 4096])
    options = parser.parse_args()
    least, most = options.tokens[-2:]
    given = options.batch, options.device
    runs = {f"scan {n}": of_scan(n, *given) for n in options.tokens}
    for what, train in (("forward", False), ("step", True)):
        runs |= {f"{name} {what} {n}": of_backbone(name, n, *given, train=train) for n in options.tokens for name in TWINS}
    found = measure(runs, options.repeats, options.device)
    for name, row in found.items():
        print(f"{name:24} " + "  ".join(f"{value * 1e3:9.1f} ms" if key == "seconds" else f"{value:9.1f} MB" for key, value in row.items()))
    ratios = {}
    for name in dict.fromkeys(run.rpartition(" ")[0] for run in runs):
        for key in found[f"{name} {most}"]:
            ratios[f"{name}, {key}"] = round(found[f"{name} {most}"][key] / found[f"{name} {least}"][key], 2)
    print(f"at {most} tokens over {least}:", *(f"  {name}: {ratio}" for name, ratio in ratios.items()), sep="\n")
    Path(options.json).write_text(json.dumps({"device": options.device, "batch": options.batch, "threads": torch.get_num_threads(),
                                              "runs": found, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
