"""The comparison in the report: a table with intervals, the best of every column marked, and scores against label budgets."""

from __future__ import annotations

from html import escape
from typing import Any

from .figures import budget_panel, number
from .page import bullets, paragraph, section
from .table import NAMES, measured_on

PROTOCOLS = {
    "knn": ("k-NN", "the label of an item is voted by its nearest labelled neighbours; nothing is trained"),
    "linear": ("linear probe", "one linear layer is fitted on the frozen vectors"),
    "finetune": ("fine-tuning", "the whole network is trained on the labels, starting from the representation's weights"),
    "clustering": ("clustering", "k-means without labels, its clusters matched to the classes"),
    "retrieval": ("retrieval", "how high items of the same class rank among the nearest (mean average precision)"),
    "boosting": ("boosting", "gradient-boosted trees fitted on the input itself"),
}
REPRESENTATIONS = {
    "encoder": "what this run learned without labels",
    "random": "the same network, untrained, its BatchNorm statistics estimated on the data",
    "raw": "the preprocessed input itself, flattened",
    "supervised": "the same network trained from scratch on the labels of each budget",
    "boosting": "what a table's labels give without any network",
}
_SHORT = {"encoder": "encoder", "random": "random", "raw": "raw input", "supervised": "supervised", "boosting": "boosting"}


def comparison(table: dict[str, Any] | None) -> str:
    """The section; without a table it says how to get one."""
    if not table or not table["cells"]:
        return section("comparison", "Comparison", paragraph(
            "Nothing was compared yet. With labelled data, selftaught evaluate RUN TRAIN TEST fills this part: the encoder "
            "against the raw input, its random initialisation and supervised training.", "muted"))
    rows = list(dict.fromkeys(c["representation"] for c in table["cells"]))
    known = list(PROTOCOLS)
    columns = sorted({(c["protocol"], c["budget"]) for c in table["cells"]},
                     key=lambda c: (known.index(c[0]) if c[0] in known else len(known), c))
    cells = {(c["representation"], c["protocol"], c["budget"]): c for c in table["cells"]}
    legend = ("Each number is the score on the test items, beneath it its 95 % interval. Larger is better. ● is the best of its "
              "column, ○ has an interval that overlaps the best's.")
    said_of = "".join(paragraph(f"{line[0].upper()}{line[1:]}.", "small") for line in measured_on(table))
    said = [f"{_protocol(p)}: {PROTOCOLS[p][1]}." for p in dict.fromkeys(p for p, _ in columns) if p in PROTOCOLS]
    said += [f"{NAMES.get(r, r)}: {REPRESENTATIONS[r]}." for r in rows if r in REPRESENTATIONS]
    said += ["RankMe: how many directions the vectors use, from their singular values, without labels.",
             "cost: seconds to train (where it is trained) and to embed and score."]
    return section("comparison", "Comparison", said_of, paragraph(legend, "small"), _grid(table, rows, columns, cells),
                   _budgets(rows, columns, cells), bullets(table.get("notes", ())), f'<div class="small">{bullets(said)}</div>')


def _protocol(name: str) -> str:
    return PROTOCOLS[name][0] if name in PROTOCOLS else name


def _metric(cell: dict[str, Any]) -> str:
    return str(cell.get("metric", "")).replace("_", " ").replace("r2", "R²")


def _heads(columns: list[tuple[str, float]], cells: dict[tuple, dict[str, Any]]) -> str:
    """Two lines: the protocol with its metric, then the budgets."""
    first, second = '<th rowspan="2"></th>', ""
    for protocol in dict.fromkeys(p for p, _ in columns):
        own = [(p, b) for p, b in columns if p == protocol]
        some = next(c for (_, p, _), c in cells.items() if p == protocol)
        first += f'<th class="group" colspan="{len(own)}">{escape(_protocol(protocol))}, {escape(_metric(some))}</th>'
        for place, (_, budget) in enumerate(own):
            labels = next(c["labels"] for (_, p, b), c in cells.items() if (p, b) == (protocol, budget))
            share, count = f"{budget:.0%}" if 0 < budget <= 1 else "", f"{labels:,} labels" if labels else "all items"
            second += f'<th class="num{"" if place else " gap"}">{share}<small>{count}</small></th>'
    return f'<tr>{first}<th class="num gap" rowspan="2">RankMe</th><th class="num" rowspan="2">cost, s</th></tr><tr>{second}</tr>'


def _grid(table: dict[str, Any], rows: list[str], columns: list[tuple[str, float]], cells: dict[tuple, dict[str, Any]]) -> str:
    best = {}
    for protocol, budget in columns:
        own = [c for (_, p, b), c in cells.items() if (p, b) == (protocol, budget) and c["value"] is not None]
        if len(own) > 1:
            best[protocol, budget] = max(own, key=lambda c: c["value"])
    body = ""
    for row in rows:
        shown = "".join(_cell(cells.get((row, *column)), best.get(column)) for column in columns)
        rank, cost = table["ranks"].get(row), table["cost"].get(row)
        body += (f'<tr><th scope="row">{escape(NAMES.get(row, row))}</th>{shown}<td class="num">{number(rank, zeros=True)}</td>'
                 f'<td class="num">{"–" if cost is None else f"{cost:,.0f}"}</td></tr>')
    return f'<div class="scroll"><table><thead>{_heads(columns, cells)}</thead><tbody>{body}</tbody></table></div>'


def _cell(cell: dict[str, Any] | None, best: dict[str, Any] | None) -> str:
    if cell is None or cell["value"] is None:
        return '<td class="num">–</td>'
    wins = best is not None and f"{cell['value']:.3f}" == f"{best['value']:.3f}"
    ties = best is not None and not wins and cell["high"] is not None and best["low"] is not None and cell["high"] >= best["low"]
    mark = "●" if wins else "○" if ties else ""
    ends = "" if cell["low"] is None else f'<small>{cell["low"]:.3f}–{cell["high"]:.3f}</small>'
    return f'<td class="num{" best" if wins else ""}"><span class="mark">{mark}</span>{cell["value"]:.3f}{ends}</td>'


def _budgets(rows: list[str], columns: list[tuple[str, float]], cells: dict[tuple, dict[str, Any]]) -> str:
    """A panel for every protocol with two budgets or more."""
    panels = []
    for protocol in dict.fromkeys(p for p, _ in columns):
        lines = []
        for row in rows:
            own = [cells[row, p, b] for p, b in columns if p == protocol and b > 0 and (row, p, b) in cells]
            points = [(c["labels"], c["value"], c["low"], c["high"]) for c in own if None not in (c["value"], c["low"], c["high"])]
            if len(points) > 1:
                lines.append((_SHORT.get(row, row), row, points))
        if lines:
            some = next(c for (_, p, _), c in cells.items() if p == protocol)
            panels.append(budget_panel(f"{_protocol(protocol)}, {_metric(some)} against labels", lines))
    return f'<div class="panels two">{"".join(panels)}</div>' if panels else ""
