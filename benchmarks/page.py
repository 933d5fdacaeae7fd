"""Writes docs/BENCHMARKS.md from benchmarks/results/*.json, so that no figure is typed by hand.  python benchmarks/page.py"""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
WHAT = {
    "views": "two SimCLR views from uint8 against native Pillow in two processes (asked for: 2.5× at 32 px; 224 px is reported)",
    "engine": "the engine against a bare loop, median of interleaved pairs (asked for: ≤ 1.05× or ≤ 1 ms a step)",
    "simclr_resnet18": "SimCLR, ResNet-18, batch 128, 32 px, end to end, against a plain script (asked for: 3×)",
    "knn": "k-NN of 10,000 queries on 50,000 × 512, k = 200 (asked for: ≤ 30 s, ≤ 1 GB extra)",
    "nt_xent": "NT-Xent forward and backward, 16,384 pairs × 128 (asked for: ≤ 600 MB extra, 1e-5 from the dense loss at 1,024)",
    "cifar_simclr": "SimCLR, ConvNet 64-128-256-256, 10,000 CIFAR-10 images, batch 256, 180 s (reported)",
    "demo_seeds": "`make demo`'s training over three seeds: k-NN and linear at 1 %, 10 % and 100 % of the labels",
    "masked": "one step of MAE at ViT-S, 64 px, patch 8, 75 % hidden over nothing hidden (asked for: ≤ 0.5×); data2vec 2.0 with 8 masks "
              "over 8 samples (asked for: ≤ 0.6×)",
    "scan": "the selective scan and Mamba against a Transformer twin at 4,096 tokens over 1,024 (asked for: ≤ 5 of the scan)",
    "points": "farthest-point grouping, 32 × 1,024 points to 64 groups of 32, against a cloud at a time (asked for: ≤ 0.3 s)",
    "voxels": "tokens of a cloud, 16,384 points over 4,096: cells of a grid (asked for: linear) against farthest points and neighbours",
    "logmel": "batched log-mel against a clip at a time (asked for: ≥ 2×)",
    "attention": "attention on short sequences in bf16, forward and backward, over torch's fused kernel (reported)",
    "plan_files": "100,000 files planned (asked for: < 10 s, < 100 MB above the process)",
}


def main() -> None:
    parts = ["# Benchmarks", "", "Measured on two shared CPU cores with native bf16; ratios come from one run side by side, absolute times "
             "are this machine's. Written by `benchmarks/page.py` from the files in `benchmarks/results/`.", ""]
    for name, what in WHAT.items():
        path = HERE / "results" / f"{name}.json"
        parts += [f"## {name}", "", what[0].upper() + what[1:] + ".", ""]
        if path.is_file():
            shown = json.dumps(json.loads(path.read_text()), indent=1, ensure_ascii=False)
            parts += ["```json", shown, "```", ""]
        else:
            parts += ["Not measured yet.", ""]
    (HERE.parent / "docs" / "BENCHMARKS.md").write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
