"""`check_method`, learning included, over every method and modality: a line a cell, and docs/CONFORMANCE.md from the lines.

    python benchmarks/conformance.py [--only NAME,…] [--no-learning] [--minutes BUDGET] [--page] [--list]

A cell whose line is there, of the present code, is not run again, so the command can be stopped and called again; all of it takes
hours. It ends with 1 where a cell of the present code is left or does not hold. --only: methods or modalities. --no-learning: all but
learning, which takes most of the time; a full run comes back to these cells. --minutes: begins no cell after that time. --page: writes
the page from the lines, and leaves.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from result_lines import ROOT, append, read, version

from selftaught import methods  # noqa: F401  (enters the methods in the registry)
from selftaught.contracts import SelftaughtError, find, names
from selftaught.testing import EXTRA, MODALITIES, check_method, learning

RESULTS = Path(__file__).parent / "results" / "conformance.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "CONFORMANCE.md"
COLUMNS = (*MODALITIES, *EXTRA)
STEPS, LONGER = 400, 1600  # what has not learned after the first is given the second


def code(method: str) -> str:
    return version(find("method", method), ROOT / "testing.py", ROOT / "protocols" / "baselines.py")


def cell(method: str, modality: str, learns: bool = True) -> dict[str, Any]:
    """What was seen of one method on one modality, in words; `holds` is None where it does not apply. learns: look at that, too."""
    torch.set_num_threads(1)
    found = {"method": method, "modality": modality, "version": code(method)} | ({} if learns else {"learning": False})
    try:
        checks = check_method(method, modalities=(modality,), learns=False)
        if absent := [c.seen for c in checks if c.name == "applies"]:
            return found | {"holds": None, "seen": f"not applicable: {absent[0]}"}
        if not learns:
            return found | {"holds": True, "seen": "holds; learning not looked at"}
        _, learned, seen = learning(find("method", method), modality, steps=STEPS)
        word = "holds"
        if not learned:
            _, learned, more = learning(find("method", method), modality, steps=LONGER)
            word = f"holds in {LONGER:,} steps" if learned else "**does not learn in this budget**, the rest holds"
            seen = f"{more} (in {STEPS}: {seen})"
    except (AssertionError, SelftaughtError, RuntimeError, ValueError) as error:  # one cell that fails does not end hours of others
        return found | {"holds": False, "seen": "**does not hold**: " + str(error).replace("\n", "; ")[:300]}
    return found | {"holds": learned, "seen": f"{word}: {seen}"}


def page(lines: list[dict[str, Any]]) -> str:
    """The whole of docs/CONFORMANCE.md: of every cell the last line, but that one without learning that holds does not hide learning
    seen before; what was not looked at says so."""
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        before = last.get(key := (line["method"], line["modality"]), line)
        last[key] = line if line.get("learning", True) or not before.get("learning", True) or line["holds"] is False else before
    head = ["# Conformance", "",
            "Made by `make conformance`: `check_method` over methods and modalities, on generated data whose class is a small part of "
            f"what varies. Learning: k-NN accuracy over 12 classes after {STEPS} steps of 64 items must lie five points above random "
            "initialisation and above the same run with pairs or targets shuffled anew every step; what does not is given "
            f"{LONGER:,} steps, and both are told. No run was stopped by the health "
            "monitor unless its cell says so. The sets, rate and crop scale were chosen among about ten tried, by the same k-NN "
            "accuracy. The last column: the versions of the code that bears on the cells; cells of an older code stand until they are run "
            "again, and a method without a row was not run.", "",
            "| method | " + " | ".join(COLUMNS) + " | code |", "|---|" + "---|" * (len(COLUMNS) + 1)]
    rows = []
    for method in sorted({n for n, _ in last}):
        mine = [last.get((method, m)) for m in COLUMNS]
        seen = [line["seen"].replace("|", "/") if line else "not run" for line in mine]
        rows.append(" | ".join([f"| {method}", *seen, " ".join(sorted({line["version"] for line in mine if line})) + " |"]))
    return "\n".join([*head, *rows]) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="methods or modalities, separated by commas")
    parser.add_argument("--no-learning", action="store_false", dest="learning", help="all but learning, which takes most of the time")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--page", action="store_true", help="write docs/CONFORMANCE.md from the lines, and leave")
    parser.add_argument("--list", action="store_true", help="print what is left to run, and leave")
    options = parser.parse_args(arguments)
    every = [n for n in names("method") if find("method", n).__module__.startswith("selftaught.methods")]
    only = {o for o in options.only.split(",") if o}
    if unknown := only - {*every, *COLUMNS}:
        parser.error(f"--only: {', '.join(sorted(unknown))} is neither a method nor one of {', '.join(COLUMNS)}")
    rows, columns = (sorted(only & {*kind}, key=kind.index) or kind for kind in (every, COLUMNS))
    done = {(line["method"], line["modality"], line["version"]) for line in read(RESULTS)
            if line.get("learning", True) or not options.learning}
    left = [(n, m) for m in columns for n in rows if (n, m, code(n)) not in done]
    if options.list:
        print(*(f"{n} × {m}" for n, m in left), f"{len(left)} left", sep="\n")
        return 0
    if not options.page:
        run([(*key, options.learning) for key in left], options.processes, options.minutes)
    lines = read(RESULTS)
    PAGE.write_text(page(lines), encoding="utf-8")
    seen = {(line["method"], line["modality"]): line["holds"] for line in lines
            if line["method"] in rows and line["version"] == code(line["method"]) and (line.get("learning", True) or not options.learning)}
    return 0 if options.page else int(any(seen.get((n, m), False) is False for n in rows for m in columns))


def run(left: list[tuple[str, str, bool]], processes: int, minutes: float) -> None:
    """All cells, or those that can begin in time; a line is written as a cell ends."""
    began, waiting = time.perf_counter(), iter(left)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(cell, *key) for key in islice(waiting, processes)}
        while running:
            ended = next(as_completed(running))
            running.remove(ended)
            append(ended.result(), RESULTS)
            print("{method} × {modality}: {seen}".format(**ended.result()), flush=True)
            if (time.perf_counter() - began) / 60 < minutes and (key := next(waiting, None)):
                running.add(pool.submit(cell, *key))


if __name__ == "__main__":
    sys.exit(main())
