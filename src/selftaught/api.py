"""The public face: what `import selftaught` offers."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .contracts import OptionError, SelftaughtError, Source
from .encoder import Encoder
from .protocols import Supervision, Table, compare_methods, evaluate, nearest_items, segment, write_report
from .sources import open_source
from .stages import Run, pretrain

__all__ = ["Encoder", "Run", "Table", "compare_methods", "demo", "embed", "evaluate", "load", "nearest_items", "open_source", "pretrain",
           "segment", "write_embeddings", "write_report"]


def load(path: str | Path, *, backbone: nn.Module | None = None) -> Encoder:
    """The encoder in a run folder or in a folder that `Encoder.save` wrote; `backbone` where it was a module of your own."""
    return Encoder.load(path, backbone=backbone)


def embed(run: str | Path | Run | Encoder, data: Any, **options: Any) -> np.ndarray:
    """float32 [N, D]: the embeddings of `data`; options go to `open_source` (target, group, layout)."""
    encoder = run if isinstance(run, Encoder) else run.encoder if isinstance(run, Run) else load(run)
    return encoder.embed(encoder.open(data, **options))


def write_embeddings(path: str | Path, embeddings: np.ndarray, source: Source) -> str:
    """Writes [N, D] embeddings to .npy, .npz (`embeddings`, `names`) or .parquet (item, e0, e1, …); returns a line that says so.

    The file appears at once or not at all. Raises OptionError for another suffix, SelftaughtError where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    if path.suffix not in (".npy", ".npz", ".parquet"):
        raise OptionError(f"Cannot write embeddings to '{path.name}': the suffix must be .npy, .npz or .parquet.")
    if not path.parent.is_dir():
        raise OptionError(f"Cannot write to {path}: the folder {path.parent} does not exist.")
    try:
        if path.suffix == ".npy":
            np.save(temporary, embeddings)
        else:
            names = [source.name(i) for i in range(len(source))]
            if path.suffix == ".npz":
                np.savez(temporary, embeddings=embeddings, names=np.array(names))
            else:
                import pyarrow as pa
                import pyarrow.parquet as pq

                columns = {"item": pa.array(names), **{f"e{j}": pa.array(embeddings[:, j]) for j in range(embeddings.shape[1])}}
                pq.write_table(pa.table(columns), temporary)
        temporary.replace(path)
    except OSError as error:
        raise SelftaughtError(f"Cannot write {path}: {error.strerror or error}. Choose another place for the file.") from error
    finally:
        temporary.unlink(missing_ok=True)
    lost = int(np.isnan(embeddings).any(axis=1).sum())
    return f"{path}: {len(embeddings)} embeddings of {embeddings.shape[1]} numbers" + (f", {lost} of them NaN" if lost else "")


def demo(*, out: str | Path | None = None, seed: int = 0, say: Callable[[str], None] = print) -> Table:
    """Pretrains on moved handwritten digits and compares the encoder with raw pixels, random initialisation and supervised
    training at 1 %, 10 % and 100 % of the labels; writes a run folder with a report. Under 4 minutes on two cores."""
    began = time.perf_counter()
    train = open_source("embedded:moved-digits/train")
    say("Moved digits: scikit-learn's handwriting, moved, turned, stretched and noised on a 20 × 20 canvas.")
    run = pretrain(train, out=out if out is not None else _demo_folder(), seed=seed, epochs=DEMO_EPOCHS, say=say)
    say("Comparing …")
    test = run.encoder.open("embedded:moved-digits/test")
    table = evaluate(run.encoder, train, test, seed=seed, supervision=Supervision(steps=DEMO_SUPERVISED_STEPS), say=say)
    table.cost["encoder"] = run.summary["training_seconds"]
    table.save(run.folder)
    say(table.to_text())
    path = write_report(run, test, table=table)
    say(f"{time.perf_counter() - began:.0f} s in all. The report: {path.resolve()}")
    return table


DEMO_EPOCHS = 8
DEMO_SUPERVISED_STEPS = 150


def _demo_folder() -> Path:
    number = 1
    while (path := Path("runs") / f"demo-{number}").exists():
        number += 1
    return path
