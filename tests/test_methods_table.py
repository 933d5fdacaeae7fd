"""The published table: every number of the page is recomputed from raw lines; the runner's bookkeeping survives being stopped."""

import importlib
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from selftaught.contracts import find
from selftaught.protocols.compare import tags

ROOT = Path(__file__).parent.parent
T = {1: 12.7062047, 2: 4.3026527, 3: 3.1824463, 4: 2.7764451}  # Student's 97.5 % quantile by degrees of freedom


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("methods_table"), importlib.import_module("methods_page")
    sys.path.remove(str(ROOT / "benchmarks"))


def made_up(seeds=3) -> list[dict]:
    """Lines as a run would leave them: two versions of one method, one that does not apply, one that failed, one behind random."""
    rng, lines = np.random.default_rng(0), []
    for k, (method, level) in enumerate({"raw input": 0.5, "random initialisation": 0.5, "simclr": 0.7, "byol": 0.6, "vicreg": 0.5,
                                         "swav": 0.65, "tico": 0.3, "supervised": 0.9}.items()):
        for seed in range(1 if method == "raw input" else seeds):
            numbers = {n: round(float(level + 0.01 * rng.normal()), 5) for n in ("knn", "linear")}
            label_free = {f"{p}_{m}": round(float(10 * level + rng.normal()), 5) for p in ("head", "features")
                          for m in ("rankme", "spread", "alpha_req")}
            lines.append({"set": "Adult", "method": method, "seed": seed, "version": f"v{k}", **numbers, **label_free, "steps": 100 + k,
                          "seconds": 29.5, "loss": 1.0, "collapsed": "It collapsed." if (method, seed) == ("tico", 1) else None})
    old = {**lines[1], "method": "simclr", "version": "old", "linear": 0.01, "seed": 9}
    return [{"set": "Adult", "method": "simclr", "version": "v2", "seconds_a_step": 0.1, "steps": 102}, old, *lines,
            {"set": "Adult", "method": "rotation", "seed": 0, "version": "x", "not_applicable": "a table cannot be turned"},
            {"set": "Adult", "method": "dino", "seed": 0, "version": "x", "failed": "NonFinite: loss"}]


def cells(text: str, heading: str) -> dict[str, list[str]]:
    """First cell → the others, of every table row under a heading."""
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[c.strip() for c in line.strip("|").split(" | ")] for line in part.splitlines() if line.startswith("| ")]
    return {r[0].strip("`"): r[1:] for r in rows}


def interval(values) -> tuple[float, float, float]:
    values = np.array(values)
    half = T[len(values) - 1] * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean(), values.mean() - half, values.mean() + half


def numbers(cell: str) -> list[float]:
    return [float(v) for v in cell.replace("[", "").replace("]", "").replace(",", "").split()]


def check(lines: list[dict], text: str) -> int:
    """Recomputes every mean, interval and verdict of a page; gives how many rows were checked."""
    count = 0
    for name in {line["set"] for line in lines}:
        shown = cells(text, name)
        newest = {line["method"]: line["version"] for line in lines if line["set"] == name and "seed" in line}
        for method, version in newest.items():
            mine = {line["seed"]: line for line in lines if (line["set"], line["method"], line["version"]) == (name, method, version)
                    and "knn" in line}
            if not mine or any("not_applicable" in line or "failed" in line for line in lines if (
                    line["set"], line["method"], line["version"]) == (name, method, version)):
                assert "not applicable" in " ".join(shown[method]) or "failed" in " ".join(shown[method])
                continue
            for place, key in ((2, "knn"), (3, "linear")):
                values = [mine[s][key] for s in sorted(mine)]
                expected = interval(values) if len(values) > 1 and np.ptp(values) else [np.mean(values)]
                assert numbers(shown[method][place]) == pytest.approx(expected, abs=5.1e-4)
            count += 1
            if method in ("raw input", "random initialisation", "random tokens"):
                continue
            untrained = "random tokens" if find("method", method).needs.backbone else "random initialisation"
            theirs = {line["seed"]: line["linear"] for line in lines if (line["set"], line["method"]) == (name, untrained)
                      and "knn" in line and line["version"] == newest[untrained]}
            differences = [mine[s]["linear"] - theirs[s] for s in sorted(mine) if s in theirs]
            if len(differences) > 1:
                _, low, high = interval(differences)
                assert shown[method][5].split(";")[0] == ("yes" if low > 0 else "worse" if high < 0 else "no")
                assert numbers(shown[method][4]) == pytest.approx(interval(differences), abs=5.1e-4)
            assert tuple(shown[method][:2]) == tags(method)
    return count


def test_every_number_of_the_page_from_the_lines(scripts):
    lines = made_up()
    text = scripts[1].page(lines)
    assert check(lines, text) == 8
    shown = cells(text, "Adult")
    assert shown["simclr"][5] == "yes" and shown["tico"][5] == "worse; collapsed with 1 seed"
    assert "a table cannot be turned" in shown["rotation"][2] and "NonFinite" in shown["dino"][2]
    assert "With labels, for scale: `supervised`." in text and "`tico` (worse)" in text and "0.01" not in shown["simclr"][3]
    assert text.split("## CIFAR-10")[1].split("##")[0].strip() == "Not run yet."
    widths = {line.count("|") for line in text.split("## Adult")[1].split("\n\n")[2].splitlines()}
    assert len(widths) == 1  # a table, row by row


def test_correlations_from_the_lines(scripts):
    from scipy.stats import spearmanr

    lines = made_up()
    row = cells(scripts[1].page(lines), "Adult")["RankMe of the head"]
    free = [line for line in lines[2:] if line["method"] in ("simclr", "byol", "vicreg", "swav", "tico")]
    for place, key in ((0, "knn"), (1, "linear")):
        assert float(row[place]) == pytest.approx(spearmanr([v["head_rankme"] for v in free], [v[key] for v in free])[0], abs=5.1e-3)
    means = [[np.mean([v[k] for v in of]) for k in ("head_rankme", "linear")]
             for _, of in ((m, list(g)) for m, g in itertools.groupby(free, lambda v: v["method"]))]
    assert numbers(row[3])[0] == pytest.approx(spearmanr(*np.transpose(means))[0], abs=5.1e-3)
    assert (row[2], row[4]) == ("15", "5")


def test_the_committed_page_is_that_of_the_committed_lines(scripts):
    table, page = scripts
    lines, path = table.lines(), ROOT / "docs" / "METHODS.md"
    if lines and path.is_file():
        text = path.read_text(encoding="utf-8")
        assert text == page.page(lines), "write it anew: python benchmarks/methods_table.py --page"
        check(lines, text)


def test_lines_survive_being_cut_short(scripts, tmp_path):
    path = tmp_path / "lines.jsonl"
    scripts[0].append({"set": "Adult", "seed": 0}, path)
    path.write_text(path.read_text() + '{"set": "Ad')
    assert scripts[0].lines(path) == [{"set": "Adult", "seed": 0}] and scripts[0].lines(tmp_path / "none") == []


def test_versions_follow_the_code_that_bears_on_them(scripts):
    version = scripts[0].version
    assert version("simclr") != version("byol") and version("simclr") == version("simclr")
    assert version("raw input") == version("random initialisation") != version("simclr")


def test_what_is_left_is_run_seed_after_seed(scripts):
    table = scripts[0]
    arms = table.wanted([], 2)
    assert [a[2] for a in arms] == sorted(a[2] for a in arms)
    assert ("Adult", "raw input", 0) in arms and ("Adult", "raw input", 1) not in arms
    assert {a[:2] for a in table.wanted(["Adult"], 1)} == {("Adult", m) for m in (*table.BASELINES, *table.methods())}


def test_an_arm_runs_is_resumed_and_stops_in_time(scripts, tmp_path, monkeypatch, capsys):
    """On a small set: steps are timed once, a second call runs nothing, no time is no arm, what does not apply is a line."""
    from dataclasses import replace

    from selftaught.sources import open_source, subset

    table = scripts[0]
    whole = open_source("embedded:breast-cancer")
    halves = tuple(subset(whole, np.arange(k, 200, 2)) for k in range(2))
    monkeypatch.setattr(table, "RESULTS", tmp_path / "lines.jsonl")
    monkeypatch.setattr(table, "SETS", {"Adult": replace(table.SETS["Adult"], load=lambda: halves, seconds=0.2, batch=32)})
    monkeypatch.setattr(table, "TIMED", 3)
    table.data.cache_clear()
    try:
        table.main(["--only", "simclr,rotation,random initialisation", "--seeds", "1", "--minutes", "0"])
        assert table.lines() == [] and "3 arms are left" in capsys.readouterr().out
        table.main(["--only", "simclr,rotation,random initialisation", "--seeds", "1"])
        lines = table.lines()
        assert [line["method"] for line in lines] == ["random initialisation", "rotation", "simclr", "simclr"]
        timed, ran = lines[2:]
        assert timed["steps"] == ran["steps"] >= 1 and 0 < ran["knn"] <= 1 and ran["head_rankme"] > 1 and ran["collapsed"] is None
        assert "cannot be supplied" in lines[1]["not_applicable"]
        table.main(["--only", "simclr,rotation,random initialisation", "--seeds", "1"])
        assert table.lines() == lines
        assert json.dumps(lines, allow_nan=False)
    finally:
        table.data.cache_clear()
    with pytest.raises(SystemExit):
        table.main(["--only", "simclrr"])
