"""Running the arms of proofs: their data, one arm's training and measures. Everything heavy is imported on use."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .proof import DATA, Arm, hashed

SMALL = {"backbone.widths": (32, 64, 128, 128)}
"""The ConvNet of the first proofs: half as wide as the default, so that an arm takes a minute on two cores."""


@dataclass(frozen=True)
class Trained:
    """What a measure may look at. run, plan: of `pretrain`. features: float32 [N, D] of the training items."""

    seed: int
    run: Any
    plan: Any
    train: Any
    test: Any
    features: np.ndarray

    def method(self, newest: int = 1) -> Any:
        """The trained method from its newest checkpoint, heads and all, in evaluation mode (newest=2: from the one before)."""
        from ..training.checkpoint import checkpoints, load_checkpoint

        load_checkpoint(checkpoints(self.run.files.checkpoints)[-newest][1], method := self.plan.build_method().eval())
        return method


@lru_cache(maxsize=4)
def proof_data(key: str) -> tuple[Any, Any]:
    """(train, test) sources: "moved-digits", "cifar10-N" (the first N training and 5,000 test images), or one of `DATA`."""
    from ..sources import open_source

    kind, _, rest = key.partition("-")
    if kind in DATA:
        return DATA[kind](rest)
    if key == "moved-digits":
        return open_source("embedded:moved-digits/train"), open_source("embedded:moved-digits/test")
    return tuple(open_source(cifar10(split, n), layout="NHWC") for split, n in (("train", int(rest)), ("test", 5000)))


def data_file(*parts: str) -> Path:
    """A file of the data folder; a DataError where SELFTAUGHT_DATA does not lead to it."""
    folder = os.environ.get("SELFTAUGHT_DATA")
    if folder and Path(folder, *parts).exists():
        return Path(folder, *parts)
    from ..contracts import DataError
    raise DataError(f"This proof reads {'/'.join(parts)}, which is not in SELFTAUGHT_DATA ({folder or 'not set'}): set that to "
                    "the folder of data sets.")


@lru_cache(maxsize=2)
def cifar10(split: str, rows: int) -> dict[str, np.ndarray]:
    """The first rows of a split ("train", "test"): x uint8 [rows, 32, 32, 3], y [rows]; each ten rows hold every class once."""
    import io

    import pyarrow.parquet as parquet
    from PIL import Image

    table = parquet.read_table(data_file("images", f"cifar10_{split}.parquet"), columns=["image", "label"]).slice(0, rows)
    x = np.stack([np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in table["image"].to_pylist()])
    return {"x": x, "y": table["label"].to_numpy()}


def data_fingerprint(key: str) -> str:
    """Of the items, and of labels and groups, which no source's own fingerprint holds: a run may be resumed under other labels."""
    from ..sources.fingerprints import fingerprint_of

    return hashed([(s.fingerprint(), fingerprint_of(s.labels, s.classes, s.groups)) for s in proof_data(key)])


def run_arm(arm: Arm, seed: int) -> dict[str, float]:
    """Trains one arm in a folder that is thrown away and measures it: knn, linear (test accuracy, where train has labels),
    rankme and spread of the training features, loss (mean of the last tenth), seconds of processor time, the arm's own measures. A
    collapse is measured, not stopped at. The untrained network has the same first weights, and BatchNorm statistics of the data."""
    import torch

    from ..evaluation import knn, linear_probe
    from ..measures import rank_me, spread
    from ..plan import make_plan
    from ..protocols.baselines import estimate_statistics
    from ..stages import pretrain

    began, (train, test) = time.process_time(), proof_data(arm.data)
    options = {"backbone": "convnet", "device": "cpu", "stop_on_collapse": False, "seed": seed, **arm.options}
    options |= {"method": arm.method} if arm.method else {"method": "simclr", "lr": 0.0, "steps": 1}
    with tempfile.TemporaryDirectory() as folder:
        run = pretrain(train, out=Path(folder, "run"), progress=False, **options)
        if arm.method is None:
            estimate_statistics(run.encoder, train)
        losses, z = [line["loss"] for line in run.metrics()], run.encoder.embed(train)
        metrics = {"rankme": float(rank_me(torch.from_numpy(z))), "spread": float(spread(torch.from_numpy(z))),
                   "loss": float(np.mean(losses[-max(1, len(losses) // 10):]))}
        if train.labels is not None:
            arrays = z, train.labels, run.encoder.embed(test), test.labels
            metrics |= {"knn": knn(*arrays).value, "linear": linear_probe(*arrays, groups=train.groups).value}
        for measure in arm.measures:
            metrics |= measure(Trained(seed, run, make_plan(train, dict(options)), train, test, z))
    return metrics | {"seconds": round(time.process_time() - began, 2)}
