"""NT-Xent forward and backward: memory and time of the streamed loss against a dense one, each in a fresh process.

    python benchmarks/nt_xent.py [--pairs 16384] [--width 128] [--repeats 3] [--json FILE]

The baseline is what one would write by hand as well as one can: one product, the diagonal filled in place, cross_entropy.
Extra memory is the growth of the peak resident set over the inputs and their gradients; both losses are compared at 1,024
pairs. Where the dense one does not fit into memory, it is measured at the largest size that does and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

KINDS = ("dense", "streamed")


def dense(a, b, temperature):
    """The usual implementation: all similarities at once. [N, D] twice → scalar, the sum of both sides' means."""
    import torch
    import torch.nn.functional as F

    z = F.normalize(torch.cat([a, b]), dim=1)
    logits = (z @ z.T).div_(temperature).fill_diagonal_(-torch.inf)
    return 2 * F.cross_entropy(logits, torch.arange(len(z)).roll(len(a)))


def peak() -> float:
    """Largest resident set of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def measure(kind: str, pairs: int, width: int, repeats: int) -> dict:
    """In this process: loss, gradient norm, seconds (best of `repeats`) and growth of the peak resident set."""
    import torch

    from selftaught.objectives import nt_xent

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(pairs, width, generator=generator, requires_grad=True) for _ in range(2))
    run = (lambda a, b: dense(a, b, 0.1)) if kind == "dense" else (lambda a, b: nt_xent(a, b, temperature=0.1))
    small = [torch.randn(64, width, requires_grad=True) for _ in range(2)]
    run(*small).backward()  # what the libraries allocate once is nobody's extra memory
    a.grad, b.grad = torch.zeros_like(a), torch.zeros_like(b)
    before, seconds = peak(), []
    for _ in range(repeats):
        a.grad.zero_(), b.grad.zero_()
        start = time.perf_counter()
        loss = run(a, b)
        loss.backward()
        seconds.append(time.perf_counter() - start)
    return {"kind": kind, "pairs": pairs, "loss": loss.item(), "gradient": a.grad.norm().item(), "seconds": min(seconds),
            "extra_mb": peak() - before}


def fresh(kind: str, pairs: int, width: int, repeats: int) -> dict:
    """`measure` in a new process."""
    command = [sys.executable, os.path.abspath(__file__), "--child", kind, "--pairs", str(pairs), "--width", str(width),
               "--repeats", str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory_mb() -> float:
    """Memory that is free now, MB."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def largest_dense(pairs: int) -> int:
    """The largest halving of `pairs` whose dense loss (about four matrices of 2N × 2N floats) takes half of the free memory."""
    while 4 * (2 * pairs) ** 2 * 4 / (1 << 20) > 0.5 * memory_mb() and pairs > 1024:
        pairs //= 2
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=16384, help="items in the batch")
    parser.add_argument("--width", type=int, default=128, help="numbers an embedding")
    parser.add_argument("--repeats", type=int, default=2, help="timed runs, the best counts")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers there")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.pairs, options.width, options.repeats)))
        return
    rows = []
    for pairs in sorted({256, 1024, largest_dense(options.pairs), options.pairs}):
        kinds = KINDS if pairs <= largest_dense(options.pairs) else ("streamed",)
        rows += [fresh(kind, pairs, options.width, 5 if pairs <= 1024 else options.repeats) for kind in kinds]
    by = {(r["kind"], r["pairs"]): r for r in rows}
    for r in rows:
        print(f"{r['kind']:<9}{r['pairs']:>7} pairs {r['seconds']:8.4f} s {r['extra_mb']:8.0f} MB extra, loss {r['loss']:.6f}")
    result = {"rows": rows, "extra_mb": by["streamed", options.pairs]["extra_mb"], "limit_mb": 600}
    small = [by[kind, 1024] for kind in KINDS]
    result["difference_at_1024"] = max(abs(small[0][k] - small[1][k]) / abs(small[0][k]) for k in ("loss", "gradient"))
    for pairs in sorted({p for k, p in by if k == "dense"}):
        d, s = by["dense", pairs], by["streamed", pairs]
        result[f"speedup_at_{pairs}"] = d["seconds"] / s["seconds"]
        faster = result[f"speedup_at_{pairs}"]
        print(f"at {pairs} pairs: {faster:.2f}x as fast, {s['extra_mb']:.0f} MB against {d['extra_mb']:.0f} MB")
    print(f"at {options.pairs} pairs: {result['extra_mb']:.0f} MB extra (limit 600); "
          f"relative difference at 1,024 pairs: {result['difference_at_1024']:.1e} (limit 1e-5)")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
