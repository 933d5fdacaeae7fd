"""The demo's encoder over three seeds against raw pixels and random initialisation, at 1 %, 10 % and 100 % of the labels.

python benchmarks/demo_seeds.py [--json FILE] [--seeds 3]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch

import selftaught
from selftaught.api import DEMO_EPOCHS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(2)
    results = {}
    for seed in range(args.seeds):
        train = selftaught.open_source("embedded:moved-digits/train")
        with tempfile.TemporaryDirectory() as out:
            run = selftaught.pretrain(train, out=Path(out) / "run", seed=seed, epochs=DEMO_EPOCHS)
            table = selftaught.evaluate(run.encoder, train, "embedded:moved-digits/test", baselines=("random", "raw"), seed=seed)
            seconds = run.summary["training_seconds"]
        results[f"seed {seed}"] = {"seconds": seconds} | {
            f"{c.representation} {c.protocol} {c.budget:.0%}": round(c.score.value, 4) for c in table.cells}
        print(f"seed {seed}: {results[f'seed {seed}']}", flush=True)
    wins = [results[s][f"encoder {p} {b}"] > max(results[s][f"raw {p} {b}"], results[s][f"random {p} {b}"])
            for s in list(results) for p in ("knn", "linear") for b in ("1%", "10%")]
    results["beats raw and random at 1 % and 10 %, k-NN and linear"] = f"{sum(wins)} of {len(wins)}"
    print(results["beats raw and random at 1 % and 10 %, k-NN and linear"])
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
