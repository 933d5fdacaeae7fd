"""The table that compares representations: a cell for each representation, protocol and label budget, with intervals and cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..contracts.stored import write_text
from ..evaluation import Score

NAMES = {"encoder": "encoder (pretrained)", "random": "random initialisation", "raw": "raw input",
         "supervised": "supervised, same network", "boosting": "gradient boosting on raw input"}


ABOUT = ("data", "seed", "draws", "version")
"""What says where a table's numbers come from: data by part (train, test), each its origin, fingerprint and items; draws of labels."""


def measured_on(about: dict[str, Any]) -> list[str]:
    """The line that names the data and draws of a table (its `about`, or all of its JSON), or none where it does not know them."""
    if any(key not in about for key in ABOUT):
        return []
    train, test = (about["data"][part] for part in ("train", "test"))
    draws = f"{about['draws']} draw{'s' * (about['draws'] != 1)}"
    return [f"measured on {test['origin']} ({test['items']:,} items), with labels of {train['origin']} ({train['items']:,} items); "
            f"{draws} of labels, seed {about['seed']}, version {about['version']}"]


def column_name(protocol: str, budget: float, labels: int) -> str:
    """`knn, 10% = 602 labels`; a count of labels stands alone, and a protocol that uses none too."""
    if budget == 0:
        return protocol
    return f"{protocol}, {budget:.0%} = {labels} labels" if budget <= 1 else f"{protocol}, {labels} labels"


@dataclass(frozen=True)
class Cell:
    """One number: `score` of `representation` under `protocol` with `labels` labels (a fraction `budget` of them)."""

    representation: str
    protocol: str
    budget: float
    labels: int
    score: Score

    def to_json(self) -> dict[str, Any]:
        return {"representation": self.representation, "protocol": self.protocol, "budget": self.budget, "labels": self.labels,
                **self.score.to_json()}


@dataclass
class Table:
    """All cells, and what else a reader should know: ranks, cost, overlap, items left out. apart: the protocols measure different
    things, so that each has a winner of its own. about: what was measured on (`ABOUT`); {} in tables of earlier versions."""

    cells: list[Cell] = field(default_factory=list)
    ranks: dict[str, float] = field(default_factory=dict)
    measures: dict[str, dict[str, float]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    apart: bool = False
    about: dict[str, Any] = field(default_factory=dict)

    def cell(self, representation: str, protocol: str, budget: float) -> Cell | None:
        return next((c for c in self.cells if (c.representation, c.protocol, c.budget) == (representation, protocol, budget)), None)

    def _axes(self) -> tuple[list[str], list[tuple[str, float, int]]]:
        rows = list(dict.fromkeys(c.representation for c in self.cells))
        columns = list(dict.fromkeys((c.protocol, c.budget, c.labels) for c in self.cells))
        return rows, sorted(columns, key=lambda c: (c[0], c[1]))

    def winners(self) -> list[str]:
        """A line a label budget: which representation wins under its best protocol (`apart`: under each), or which tie as printed,
        and whether the intervals part."""
        lines = []
        for budget, protocol in sorted({(c.budget, c.protocol if self.apart else "") for c in self.cells if c.budget > 0}):
            here = [c for c in self.cells if c.budget == budget and protocol in ("", c.protocol)]
            best: dict[str, Cell] = {}
            for c in here:
                if c.representation not in best or c.score.value > best[c.representation].score.value:
                    best[c.representation] = c
            order = sorted(best.values(), key=lambda c: -c.score.value)
            first = order[0]
            tied = [c for c in order if f"{c.score.value:.3f}" == f"{first.score.value:.3f}"]
            rest = order[len(tied):]
            share = f" ({budget:.0%})" if budget <= 1 else ""
            line = (f"with {first.labels} labels{share}: {_listed(NAMES.get(c.representation, c.representation) for c in tied)}"
                    f"{' tie' if len(tied) > 1 else ' wins' if rest else ''} "
                    f"({_listed(dict.fromkeys(c.protocol for c in tied))} {first.score.value:.3f})")
            if rest:
                clear = min(c.score.low for c in tied) > rest[0].score.high
                line += (f"; next is {NAMES.get(rest[0].representation, rest[0].representation)} "
                         f"({rest[0].protocol} {rest[0].score.value:.3f}{'' if clear else ', intervals overlap'})")
            lines.append(line)
        return lines

    def _grid(self) -> tuple[list[str], list[list[str]]]:
        rows, columns = self._axes()
        head = ["", *(column_name(*c) for c in columns), "RankMe", "cost, s"]
        body = []
        for row in rows:
            cells = [self.cell(row, p, b) for p, b, _ in columns]
            shown = [f"{c.score.value:.3f} [{c.score.low:.3f}, {c.score.high:.3f}]" if c else "–" for c in cells]
            rank, cost = self.ranks.get(row), self.cost.get(row)
            body.append([NAMES.get(row, row), *shown, f"{rank:.1f}" if rank is not None else "–",
                         f"{cost:.0f}" if cost is not None else "–"])
        return head, body

    def to_text(self) -> str:
        """Transposed for narrow terminals: a line a protocol and budget, a column a representation."""
        rows, columns = self._axes()
        names = [NAMES.get(r, r) for r in rows]
        lines = []
        for protocol, budget, labels in columns:
            shown = []
            for row in rows:
                c = self.cell(row, protocol, budget)
                shown.append(f"{c.score.value:.3f} [{c.score.low:.3f}, {c.score.high:.3f}]" if c else "–")
            lines.append([column_name(protocol, budget, labels), *shown])
        if self.ranks:
            lines.append(["RankMe", *(f"{self.ranks[r]:.1f}" if r in self.ranks else "–" for r in rows)])
        lines.append(["cost, seconds", *(f"{self.cost[r]:.0f}" if r in self.cost else "–" for r in rows)])
        table = [["", *names], *lines]
        widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
        text = "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in table)
        return "\n".join([text, "", *self.winners(), *self.notes, *measured_on(self.about)])

    def to_markdown(self) -> str:
        head, body = self._grid()
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in body)]
        return "\n".join([*lines, "", *(f"- {w}" for w in [*self.winners(), *self.notes, *measured_on(self.about)])]) + "\n"

    def to_json(self) -> dict[str, Any]:
        return {"cells": [c.to_json() for c in self.cells],
                "ranks": self.ranks, "measures": self.measures, "cost": self.cost, "winners": self.winners(),
                "notes": self.notes, **self.about}

    def save(self, folder: str | Path) -> None:
        """evaluation.json and evaluation.md."""
        write_text(Path(folder) / "evaluation.json", json.dumps(self.to_json(), indent=1))
        write_text(Path(folder) / "evaluation.md", self.to_markdown())


def _listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *before, last = words
    return f"{', '.join(before)} and {last}" if before else last
