"""docs/METHODS.md from the lines of methods_table.jsonl: means, intervals, comparisons and correlations, none of them typed by hand."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from selftaught.contracts import find
from selftaught.evaluation import paired_difference, spearman
from selftaught.protocols.compare import tags

SETS = {"CIFAR-10": "5,000 training and 5,000 test images, ConvNet 32-64-128-128, batch 128, 60 s an arm",
        "JapaneseVowels": "270 training and 370 test series of 12 channels (UEA archive), 9 speakers, ConvNet, batch 64, 30 s an arm",
        "Adult": "32,561 training and 16,281 test rows, income above 50,000 or not, MLP, batch 256, 30 s an arm"}
RANDOM, RAW, TOKENS = "random initialisation", "raw input", "random tokens"
BASELINES = (RAW, RANDOM, TOKENS)
MEASURES = {"head_rankme": "RankMe of the head", "features_rankme": "RankMe of the features", "head_spread": "spread of the head",
            "features_spread": "spread of the features", "head_alpha_req": "nearness of the head's α-ReQ to 1",
            "features_alpha_req": "nearness of the features' α-ReQ to 1"}
Runs = dict[str, dict[int, dict[str, Any]]]  # method → seed → line


def runs_of(lines: list[dict[str, Any]], name: str) -> Runs:
    """The newest line of every seed, of the code version of the method's newest line alone: numbers of two codes are not mixed."""
    newest = {line["method"]: line["version"] for line in lines if line["set"] == name and "seed" in line}
    found: Runs = defaultdict(dict)
    for line in lines:
        if line["set"] == name and "seed" in line and line["version"] == newest[line["method"]]:
            found[line["method"]][line["seed"]] = line
    return found


def values(seeds: dict[int, dict[str, Any]], key: str) -> dict[int, float]:
    return {s: line[key] for s, line in sorted(seeds.items()) if line.get(key) is not None}


def shown(found: dict[int, float], form: str = ".3f") -> str:
    """Mean and Student's 95 % interval over seeds; a single value stands alone."""
    if not found:
        return "–"
    if len(found) == 1 or np.ptp([*found.values()]) == 0:
        return f"{np.mean([*found.values()]):{form}}"
    d = paired_difference([*found.values()], [0.0] * len(found))
    return f"{d.mean:{form}} [{d.low:{form}}, {d.high:{form}}]"


def over_random(runs: Runs, method: str, key: str = "linear") -> dict[int, float]:
    """Seed by seed, by how much a method lies above random initialisation of its network."""
    untrained = TOKENS if find("method", method).needs.backbone else RANDOM
    mine, theirs = values(runs[method], key), values(runs.get(untrained, {}), key)
    return {s: mine[s] - theirs[s] for s in mine if s in theirs}


def verdict(differences: dict[int, float]) -> str:
    """yes, no (the interval reaches zero), worse (it lies below); open from fewer than two seeds."""
    if len(differences) < 2:
        return "open"
    d = paired_difference([*differences.values()], [0.0] * len(differences))
    return "yes" if d.low > 0 else "worse" if d.high < 0 else "no"


def excuse(seeds: dict[int, dict[str, Any]]) -> str | None:
    """Why there are no numbers."""
    lines = [seeds[s] for s in sorted(seeds)]
    for line in lines:
        if "not_applicable" in line:
            return f"not applicable: {line['not_applicable']}"
    failed = [line for line in lines if "failed" in line]
    return f"failed with {len(failed)} of {len(lines)} seeds: {failed[0]['failed']}" if failed else None


def row(runs: Runs, method: str) -> str:
    seeds = runs[method]
    labels = ("", "") if method in BASELINES else tags(method)
    name = f"`{method}`" if method not in BASELINES else method
    if why := excuse(seeds):
        return f"| {name} | {' | '.join(labels)} | {why.replace('|', '/')} " + "| " * 10 + "|"
    differences = {} if method in BASELINES else over_random(runs, method)
    plain = [shown({s: v for s, v in values(seeds, k).items()}, ".3g").split(" [")[0] for k in
             ("head_rankme", "features_rankme", "head_spread", "features_spread", "features_alpha_req", "steps", "seconds")]
    collapsed = sum(line.get("collapsed") is not None for line in seeds.values())
    note = verdict(differences) if differences else ""
    note += f"; collapsed with {collapsed} seed{'s' if collapsed > 1 else ''}" if collapsed else ""
    cells = [shown(values(seeds, "knn")), shown(values(seeds, "linear")), shown(differences, "+.3f") if differences else "", note, *plain]
    return f"| {name} | {' | '.join((*labels, *cells))} |"


def transformed(line: dict[str, Any], measure: str) -> float | None:
    """A measure so that more should be better: α-ReQ is best near 1."""
    value = line.get(measure)
    return value if value is None or "alpha" not in measure else -abs(value - 1.0)


def label_free(runs: Runs) -> list[str]:
    return [m for m in runs if m not in BASELINES and not find("method", m).labelled and excuse(runs[m]) is None]


def correlations(runs: Runs) -> list[str]:
    """Spearman's correlation of every label-free measure with both accuracies, over runs and over the means of methods."""
    out = ["| measure | k-NN, over runs | linear, over runs | runs | linear, over methods | methods |", "|---|---|---|---|---|---|"]
    chosen = label_free(runs)
    for measure, name in MEASURES.items():
        pairs = {m: [(transformed(line, measure), line["knn"], line["linear"]) for _, line in sorted(runs[m].items())
                     if transformed(line, measure) is not None] for m in chosen}
        pairs = {m: np.array(p) for m, p in pairs.items() if p}
        if len(pairs) < 4:
            out.append(f"| {name} | – | – | {sum(map(len, pairs.values()))} | – | {len(pairs)} |")
            continue
        every, means = np.concatenate([*pairs.values()]), np.stack([p.mean(0) for p in pairs.values()])
        over = [spearman(every[:, 0], every[:, k]).value for k in (1, 2)]
        found = spearman(means[:, 0], means[:, 2])
        out.append(f"| {name} | {over[0]:+.2f} | {over[1]:+.2f} | {len(every)} | {found.value:+.2f} [{found.low:+.2f}, {found.high:+.2f}] "
                   f"| {len(means)} |")
    return out


def section(lines: list[dict[str, Any]], name: str) -> list[str]:
    runs = runs_of(lines, name)
    if not runs:
        return [f"## {name}", "", "Not run yet.", ""]
    trained = [m for m in runs if m not in BASELINES]
    order = [m for m in BASELINES if m in runs] + sorted(
        trained, key=lambda m: (excuse(runs[m]) is not None, find("method", m).labelled,
                                -np.mean([*values(runs[m], "linear").values()] or [0.0]), m))
    head = ["method", "negatives", "pretext", "k-NN", "linear", "linear over random", "beats random", "RankMe, head", "RankMe",
            "spread, head", "spread", "α-ReQ", "steps", "seconds"]
    least, most = min(counts := [len(runs[m]) for m in trained]), max(counts)
    seeds = "Five seeds a method" if least == 5 else f"{least}{f' to {most}' if most > least else ''} of five seeds a method so far"
    out = [f"## {name}", "", f"{SETS[name]}. {seeds}.", "",
           f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(row(runs, m) for m in order), ""]
    labelled = [f"`{m}`" for m in trained if find("method", m).labelled]
    if labelled:
        out += [f"With labels, for scale: {', '.join(labelled)}.", ""]
    judged = {m: verdict(over_random(runs, m)) for m in trained if excuse(runs[m]) is None}
    behind = [f"`{m}` ({'worse' if v == 'worse' else 'not told apart'})" for m, v in sorted(judged.items()) if v in ("no", "worse")]
    if behind:
        out += [f"Do not beat random initialisation on the linear probe: {', '.join(behind)}.", ""]
    return [*out, *correlations(runs), ""]


BEFORE = """# Every method under one budget

Written by `python benchmarks/methods_table.py --page` from `benchmarks/results/methods_table.jsonl`. Every method trains on one core for
the same processor time, with its recipe for short runs as it ships, the same network, batch and data; its steps were settled by timing an
epoch and are equal for all seeds. k-NN (k = 20) and linear probe see the last state; labels never touch pretraining unless the table says
so. Means and Student's 95 % intervals over seeds; *beats random* judges the differences from random initialisation (BatchNorm statistics
estimated on the data) seed by seed: yes where the interval lies above zero. RankMe, spread (1 is even, 0 collapsed) and α-ReQ need no
labels; the head's are of its outputs for up to 1,024 augmented items. A budget of a minute favours methods that learn early; it says
nothing of where they end. Methods that need tokens run on a transformer of 4 blocks of width 96, and are judged against *random tokens*,
the same untrained.
"""
AFTER = """## How to read the correlations

Spearman's correlation of a measure that needs no labels with the accuracy of the same runs, methods without labels only. Runs of one
method are alike, so the interval (Bonett and Wright) is over the means of methods.

## Versions

The lines above are of these versions of the code that bears on them.
"""


def page(lines: list[dict[str, Any]]) -> str:
    """The whole of docs/METHODS.md; a function of the lines and of the methods' tags alone."""
    by_version: dict[str, list[str]] = defaultdict(list)
    for name in SETS:
        for method, seeds in sorted(runs_of(lines, name).items()):
            by_version[next(iter(seeds.values()))["version"]].append(f"{name}: {method}")
    return "\n".join([BEFORE, *(text for name in SETS for text in section(lines, name)), AFTER,
                      *(f"- {version}: {'; '.join(arms)}" for version, arms in sorted(by_version.items()))]) + "\n"
