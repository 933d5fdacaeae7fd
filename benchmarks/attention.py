"""Attention on short sequences in bfloat16: forward and backward of `attend`, which multiplies out, over those of torch's fused kernel.

python benchmarks/attention.py [--json FILE] [--rounds 7] [--tokens 13 25 64 196]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from selftaught.networks.transformer import attend

BATCH, HEADS, EACH = 32, 4, 32


def seconds(function, parts: list[torch.Tensor]) -> float:
    began = time.perf_counter()
    torch.autograd.grad(function(*parts).sum(), parts)
    return time.perf_counter() - began


def measured(tokens: int, rounds: int) -> dict[str, float]:
    """Median milliseconds of either, by turns after one round to warm up, and ours over the fused one."""
    torch.manual_seed(0)
    parts = [torch.randn(BATCH, tokens, HEADS, EACH, dtype=torch.bfloat16).transpose(1, 2).requires_grad_() for _ in range(3)]
    times = [(seconds(attend, parts), seconds(F.scaled_dot_product_attention, parts)) for _ in range(rounds + 1)][1:]
    ours, fused = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    return {"ours_ms": round(ours, 3), "fused_ms": round(fused, 3), "ratio": round(ours / fused, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, nargs="+", default=[13, 25, 64, 196])
    options = parser.parse_args()
    torch.set_num_threads(2)
    found = {str(n): measured(n, options.rounds) for n in options.tokens}
    for n, line in found.items():
        print(f"{n} tokens: {line['ours_ms']:.2f} ms, fused {line['fused_ms']:.2f} ms, ratio {line['ratio']:.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
