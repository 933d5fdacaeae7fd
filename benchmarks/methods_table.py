"""Every method on images, series and a table under one budget of processor time: runs the arms, one line each, and writes the page.

    python benchmarks/methods_table.py [--only NAME,…] [--seeds 5] [--minutes BUDGET] [--page] [--list]

An arm is a method, a data set and a seed. It trains for as many steps as fit its set's budget, 60 s on CIFAR-10 and 30 s elsewhere, on
one core: the steps of a method are settled once, by timing an epoch (at least 40 steps) in seconds of processor time, which other
work on the machine does not stretch. Then k-NN and linear probe see the last state. Every result is a line of
benchmarks/results/methods_table.jsonl with the version of the code that bears on it; an arm whose line is there is not run again, so
the command can be stopped and called again. --only: methods or sets. --minutes: leaves before that time is over. --page: writes
docs/METHODS.md from the lines (`methods_page.py`). Needs SELFTAUGHT_DATA.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import result_lines
import torch

from selftaught.contracts import NotApplicable, SelftaughtError, Source, find, names
from selftaught.encoder import Encoder
from selftaught.evaluation import knn, linear_probe
from selftaught.measures import alpha_req, rank_me, spread
from selftaught.methods import Method
from selftaught.networks import Embedder, Teacher
from selftaught.plan import Plan, make_plan
from selftaught.protocols import random_encoder
from selftaught.sources import align_classes, open_source
from selftaught.systems.arms import data_file, proof_data
from selftaught.training import Interrupted, fit

RESULTS = Path(__file__).parent / "results" / "methods_table.jsonl"
NARROW = {"backbone.width": 96, "backbone.depth": 4, "backbone.heads": 3}  # a transformer that costs about what the others do
BASELINES = ("raw input", "random initialisation", "random tokens")  # the last: of the backbone for methods that need tokens
TIMED = 40  # steps at least, whole epochs, from which the time of a step is taken
ROWS = 1024  # outputs of the head that ranks and spreads are taken from


def parts(file: str, train: str, test: str, target: str | None = None) -> tuple[Source, Source]:
    path = data_file(*file.split("/"))
    first, second = (open_source(f"{path}::{part}", target=target) for part in (train, test))
    return first, align_classes(second, first.classes)


@dataclass(frozen=True)
class DataSet:
    """Where it comes from, the seconds of one core that an arm trains, and what its plan is given; the rest is the plan's choice.
    tokens: the backbone of methods that need tokens."""

    load: Callable[[], tuple[Source, Source]]
    seconds: float
    batch: int
    options: dict[str, Any]
    tokens: dict[str, Any]


SETS = {
    "CIFAR-10": DataSet(lambda: proof_data("cifar10-5000"), 60.0, 128, {"backbone": "convnet", "backbone.widths": (32, 64, 128, 128)},
                        {"backbone": "vit_tiny", "backbone.patch": 4, **NARROW}),
    "JapaneseVowels": DataSet(lambda: parts("timeseries/JapaneseVowels.npz", "train", "test"), 30.0, 64, {"backbone": "convnet"},
                              {"backbone": "vit_tiny", "backbone.patch": 4, **NARROW}),
    "Adult": DataSet(lambda: parts("tabular/adult.parquet", "split=train", "split=test", "income"), 30.0, 256, {"backbone": "mlp"},
                     {"backbone": "table_transformer", **NARROW}),
}


@lru_cache(maxsize=1)
def data(name: str) -> tuple[Source, Source]:
    return SETS[name].load()


def methods() -> list[str]:
    return [n for n in names("method") if find("method", n).__module__.startswith("selftaught.methods")]


# ---- versions and lines ------------------------------------------------------------------------------------------------


@cache
def version(method: str) -> str:
    """Of the code that bears on a method's numbers, this script's included."""
    return result_lines.version(None if method in BASELINES else find("method", method), Path(__file__),
                                result_lines.ROOT / "protocols" / "baselines.py")


def lines(path: Path | None = None) -> list[dict[str, Any]]:
    return result_lines.read(path or RESULTS)


def append(line: dict[str, Any], path: Path | None = None) -> None:
    result_lines.append(line, path or RESULTS)


# ---- one arm -------------------------------------------------------------------------------------------------------------


def plan_of(name: str, method: str, seed: int, steps: int) -> Plan:
    """The plan of an arm; of a baseline, which trains nothing, that of its network."""
    tokens = method == "random tokens" or (method not in BASELINES and bool(find("method", method).needs.backbone))
    return make_plan(data(name)[0], {**(SETS[name].tokens if tokens else SETS[name].options), "batch_size": SETS[name].batch,
                                     "method": "simclr" if method in BASELINES else method, "seed": seed, "steps": steps,
                                     "device": "cpu", "num_workers": 0, "log_every": 25, "stop_on_collapse": False})


def train(plan: Plan, source: Source) -> tuple[Method, Any, float]:
    """The trained method, the outcome of its fit, and the seconds of processor time that the fit took."""
    stream, method = plan.stream(source), plan.build_method()
    began = time.process_time()
    outcome = fit(method, stream, plan.training(), plan.settings(progress=False))
    return method, outcome, time.process_time() - began


def steps_for(name: str, method: str) -> int:
    """The settled number of steps; timed, and written down, where no line has it."""
    for line in lines():
        if (line["set"], line["method"], line["version"]) == (name, method, version(method)) and "seconds_a_step" in line:
            return line["steps"]
    source = data(name)[0]
    each = len(source) // SETS[name].batch
    timed = -(-TIMED // each) * each
    spent = train(plan_of(name, method, 0, timed), source)[2]
    steps = max(1, int(SETS[name].seconds / (spent / timed)))
    append({"set": name, "method": method, "version": version(method), "seconds_a_step": round(spent / timed, 5), "steps": steps})
    return steps


@torch.no_grad()
def head_outputs(method: Method, plan: Plan, source: Source) -> torch.Tensor | None:
    """[n ≤ ROWS, D]: what the student's head says of augmented items, networks in evaluation mode; None where it has no such head."""
    taught = {id(m) for t in method.modules() if isinstance(t, Teacher) for m in t.modules()}
    heads = [m.head for m in method.modules() if isinstance(m, Embedder) and id(m) not in taught]
    seen: list[torch.Tensor] = []
    handles = [h.register_forward_hook(lambda module, inputs, output: seen.append(output)) for h in heads[:1]]
    method.eval()
    stream, found = plan.stream(source), []
    try:
        for batch in stream.batches(0, max(1, min(ROWS // stream.batch_size, stream.steps_per_epoch)), rank=0, world=1, accumulate=1):
            seen.clear()
            method(stream.views(batch, batch.draws(0, "head")), batch)
            found += [o for o in seen[:1] if isinstance(o, torch.Tensor) and o.ndim == 2]
    finally:
        for handle in handles:
            handle.remove()
    return torch.cat(found)[:ROWS] if found else None


def measured(z: torch.Tensor | None, place: str) -> dict[str, float | None]:
    """Rank, spread and decay of the spectrum, without labels."""
    functions = {"rankme": rank_me, "spread": spread, "alpha_req": alpha_req}
    found = {k: math.nan if z is None else float(f(z.float()[:25_600])) for k, f in functions.items()}
    return {f"{place}_{k}": round(v, 5) if math.isfinite(v) else None for k, v in found.items()}


def scored(embed: Callable[[Source], np.ndarray], name: str) -> dict[str, Any]:
    source, test = data(name)
    x, test_x = embed(source), embed(test)
    return {p: round(f(x, source.labels, test_x, test.labels).value, 5) for p, f in (("knn", knn), ("linear", linear_probe))} | \
        measured(torch.from_numpy(x), "features")


def arm(name: str, method: str, seed: int) -> dict[str, Any]:
    """What is written of one arm besides its name."""
    source = data(name)[0]
    if method in BASELINES:
        plan = plan_of(name, method, seed, 1)
        encoder = Encoder(plan.build_backbone(), plan.preprocessing, backbone_name=plan["backbone"],
                          backbone_options=plan.nested["backbone"])
        encoder.open(data(name)[1])
        return scored(encoder.raw if method == "raw input" else random_encoder(encoder, source, seed=seed).embed, name)
    try:
        plan = plan_of(name, method, seed, steps_for(name, method))
        learner, outcome, seconds = train(plan, source)
        encoder = Encoder(learner.kept(), plan.preprocessing, backbone_name=plan["backbone"], backbone_options=plan.nested["backbone"])
        found = scored(encoder.embed, name) | measured(head_outputs(learner, plan, source), "head")
    except NotApplicable as reason:
        return {"not_applicable": str(reason)}
    except Interrupted:  # whoever stops the table does not want the next arm
        raise
    except (SelftaughtError, RuntimeError, ValueError) as error:  # one method that fails does not end hours of others
        return {"failed": f"{type(error).__name__}: {error}"}
    return found | {"steps": plan["steps"], "seconds": round(seconds, 2), "loss": round(float(np.mean(outcome.losses[-10:])), 5),
                    "collapsed": str(outcome.verdict) if outcome.verdict else None}


# ---- all of them -----------------------------------------------------------------------------------------------------------


def wanted(only: list[str], seeds: int) -> list[tuple[str, str, int]]:
    """(set, method, seed), seed after seed, so that a table that was stopped has all methods; raw input needs no second seed."""
    chosen = [(s, m, seed) for seed in range(seeds) for s in SETS for m in (*BASELINES, *methods()) if seed == 0 or m != "raw input"]
    return [a for a in chosen if not only or a[0] in only or a[1] in only]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="methods or sets, separated by commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--page", action="store_true", help="write docs/METHODS.md from the lines, and leave")
    parser.add_argument("--list", action="store_true", help="print what is left to run, and leave")
    options = parser.parse_args(arguments)
    if options.page:
        from methods_page import page

        (Path(__file__).parent.parent / "docs" / "METHODS.md").write_text(page(lines()), encoding="utf-8")
        return
    torch.set_num_threads(1)
    only = [o for o in options.only.split(",") if o]
    if unknown := set(only) - {*SETS, *BASELINES, *methods()}:
        parser.error(f"--only: {', '.join(sorted(unknown))} is neither a method nor one of {', '.join(SETS)}")
    done = {(r["set"], r["method"], r.get("seed"), r["version"]) for r in lines()}
    left = [a for a in wanted(only, options.seeds) if (*a, version(a[1])) not in done]
    if options.list:
        print("\n".join(f"{s}: {m}, seed {seed}" for s, m, seed in left) + f"\n{len(left)} left")
        return
    began, longest = time.perf_counter(), {s: 2.5 * SETS[s].seconds for s in SETS}
    for count, (name, method, seed) in enumerate(left):
        started = time.perf_counter()
        if (started - began + longest[name]) / 60 > options.minutes:
            print(f"{len(left) - count} arms are left for another call")
            return
        found = arm(name, method, seed)
        append({"set": name, "method": method, "seed": seed, "version": version(method), **found})
        longest[name] = max(longest[name], 1.2 * (time.perf_counter() - started))
        said = found.get("not_applicable") or found.get("failed") or f"k-NN {found['knn']:.3f}, linear {found['linear']:.3f}"
        print(f"{name}: {method}, seed {seed}: {said} ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
