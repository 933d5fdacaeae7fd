"""SimCLR, ConvNet 64-128-256-256, 10,000 CIFAR-10 images, batch 256, 180 s: samples/s and k-NN accuracy, from random initialisation on.

Needs SELFTAUGHT_DATA (images/cifar10_train.parquet, cifar10_test.parquet).  python benchmarks/cifar_simclr.py [--json FILE] [--minutes 3]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import selftaught
from selftaught.evaluation import knn
from selftaught.protocols import random_encoder
from selftaught.sources import subset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--minutes", type=float, default=3.0)
    args = parser.parse_args()
    folder = os.environ.get("SELFTAUGHT_DATA")
    if not folder:
        sys.exit("SELFTAUGHT_DATA does not name the data folder; this benchmark needs its CIFAR-10 files.")
    torch.set_num_threads(2)
    images = Path(folder) / "images"
    train = subset(selftaught.open_source(images / "cifar10_train.parquet", target="label"), np.arange(10_000))
    test = selftaught.open_source(images / "cifar10_test.parquet", target="label")
    with tempfile.TemporaryDirectory() as out:
        run = selftaught.pretrain(train, "simclr", out=Path(out) / "run", backbone="convnet", batch_size=256, minutes=args.minutes)
        results = {"samples_per_second": run.summary["samples_per_second"], "seconds": run.summary["training_seconds"]}
        for name, encoder in {"knn": run.encoder, "knn_random": random_encoder(run.encoder, train)}.items():
            results[name] = knn(encoder.embed(train), train.labels, encoder.embed(test), test.labels, k=20).value
    print(json.dumps(results))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
