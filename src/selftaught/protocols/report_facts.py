"""What the report says of a run, as plain numbers and words: verdict, curves, health, plan, quarantine, cost, lineage."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from ..contracts import SelftaughtError
from ..evaluation import Score
from .table import ABOUT, Cell, Table

_DRAWN = 400  # points of a curve; more steps are averaged in groups of equal length
_LISTED = 20  # quarantined items that are named
_NOT_CURVES = ("step", "epoch", "seconds", "data_wait")
HEALTH = {"features_rank": "effective rank, features", "head_rank": "effective rank, head",
          "features_spread": "spread, features", "head_spread": "spread, head",
          "features_scale": "standard deviation, features", "head_scale": "standard deviation, head",
          "gradient_norm": "gradient norm"}

ITEMS = {"image": "images", "table": "rows of a table", "audio": "sounds", "text": "texts", "video": "videos", "volume": "volumes",
         "points": "point clouds"}


def run_facts(run: Any, table: Table | None) -> dict[str, Any]:
    """Everything that the run folder alone can tell. `table`: the comparison, or None where nothing was evaluated."""
    lines, summary = run.metrics(), run.summary
    decisions = run.decisions
    notes = _data_notes(run.folder)
    return {
        "headline": _headline(run, lines, summary, table),
        "table": None if table is None else table.to_json(),
        "curves": curves(lines),
        "health": health(lines),
        "quarantine": _quarantine(run.folder, summary),
        "data": {"modality": decisions.get("modality"), "items": decisions.get("items"), "notes": notes},
        "plan": [{"key": k, **d} for k, d in decisions.get("decisions", {}).items()],
        "cost": _cost(run.folder, summary, table),
        "lineage": _lineage(run),
    }


def read_table(folder: Path) -> Table | None:
    """The Table that `evaluate` saved in a run folder (evaluation.json), or None."""
    path = folder / "evaluation.json"
    if not path.is_file():
        return None
    axes = ("representation", "protocol", "budget", "labels")
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        cells = [Cell(*(c[a] for a in axes), Score.from_json({k: v for k, v in c.items() if k not in axes}))
                 for c in saved["cells"]]
        return Table(cells, saved["ranks"], saved.get("measures", {}), saved["cost"], saved["notes"],
                     about={key: saved[key] for key in ABOUT if key in saved})
    except (ValueError, KeyError, TypeError) as error:
        raise SelftaughtError(f"{path} cannot be read ({error!r}); evaluate the run again, or delete the file.") from error


def curves(lines: list[dict[str, Any]], drawn: int = _DRAWN) -> dict[str, dict[str, Any]]:
    """Name → {"step", "value", "low", "high", "group"}: every number that was logged against steps.

    Up to `drawn` points are the logged values; longer curves are means of `group` points in a row, with their extremes.
    """
    found: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in _NOT_CURVES and isinstance(value, (int, float)) and math.isfinite(value):
                steps, values = found.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(float(value))
    return {name: _thinned(steps, values, drawn) for name, (steps, values) in found.items()}


def _thinned(steps: list[int], values: list[float], drawn: int) -> dict[str, Any]:
    group = max(1, -(-len(values) // drawn))
    parts = [values[i : i + group] for i in range(0, len(values), group)]
    return {"step": steps if group == 1 else [steps[min(i + group, len(steps)) - 1] for i in range(0, len(steps), group)],
            "value": values if group == 1 else [sum(p) / len(p) for p in parts],
            "low": [min(p) for p in parts], "high": [max(p) for p in parts], "group": group}


def health(lines: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Measure → {"first", "last", "lowest", "checks"} of what the health monitor saw."""
    found = {}
    for name in HEALTH:
        values = [line[name] for line in lines if name in line and math.isfinite(line[name])]
        if values:
            found[name] = {"first": values[0], "last": values[-1], "lowest": min(values), "checks": len(values)}
    return found


def _headline(run: Any, lines: list[dict[str, Any]], summary: dict[str, Any], table: Table | None) -> dict[str, Any]:
    verdict, sentence = _verdict(run, lines, summary)
    decisions = run.decisions
    epochs = run.value("epochs")
    passes = "" if epochs is None else f", {epochs:,.3g} {'pass' if epochs == 1 else 'passes'} over the data"
    kind = str(decisions.get("modality"))
    items = ITEMS.get(kind, kind)
    learned = f"What {run.value('method')} learned from {decisions.get('items', 0):,} {items}"
    how = (f"{run.value('backbone')}, {run.value('steps'):,} steps of {run.value('batch_size')} items{passes}, "
           f"seed {run.value('seed')}")
    winners = table.winners() if table is not None and table.cells else []
    return {"learned": learned, "how": how, "verdict": verdict, "sentence": sentence, "winners": winners}


def _verdict(run: Any, lines: list[dict[str, Any]], summary: dict[str, Any]) -> tuple[str, str]:
    """healthy, plateau, collapsed or stopped, and the sentence behind it."""
    done, planned = (lines[-1]["step"] if lines else 0), run.value("steps")
    if summary.get("verdict") or summary.get("collapsed"):
        how = "The run went on to its end." if not summary.get("collapsed") else f"The run was stopped at step {done:,}."
        return "plateau" if summary.get("plateau") else "collapsed", f"{summary.get('verdict') or _fallen(lines)} {how}"
    strange = [k for k, v in (lines[-1] if lines else {}).items() if isinstance(v, float) and not math.isfinite(v)]
    if strange:
        return "stopped", f"At step {done:,} these became NaN or infinite: {', '.join(strange)}."
    if not summary or done < (planned or 0):
        return "stopped", f"The run stands at step {done:,} of {planned:,}; continue it with --resume."
    ranks = health(lines).get("features_rank")
    seen = "No health check was made." if ranks is None else (
        f"{ranks['checks']} health checks saw no collapse; the features' effective rank went from {ranks['first']:.3g} to "
        f"{ranks['last']:.3g}.")
    return "healthy", f"All {done:,} steps were taken. {seen}"


def _fallen(lines: list[dict[str, Any]]) -> str:
    seen = health(lines)
    parts = [f"{HEALTH[k]}, went from {seen[k]['first']:.3g} to {seen[k]['last']:.3g}" for k in seen if k.endswith("_spread")]
    return f"The representation has collapsed: {'; '.join(parts)}." if parts else "The representation has collapsed."


def _quarantine(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    path, entries = folder / "quarantine.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break  # a line that a kill cut short is the last one
    return {"bad_items": len(entries), "duplicates": summary.get("duplicates"),
            "reasons": dict(Counter(e["reason"] for e in entries).most_common(_LISTED)), "first": entries[:_LISTED]}


def _data_notes(folder: Path) -> list[str]:
    path = folder / "preprocessing.json"
    if not path.is_file():
        return []
    fitted = json.loads(path.read_text(encoding="utf-8"))
    return [*fitted["facts"].get("notes", ()), *fitted.get("statistics", {}).get("reasons", ())]


def _cost(folder: Path, summary: dict[str, Any], table: Table | None) -> dict[str, Any]:
    weights = folder / "encoder" / "model.safetensors"
    keys = ("seconds", "training_seconds", "steps", "samples", "samples_per_second", "data_wait")
    found = {k: summary[k] for k in keys if summary.get(k) is not None}
    if weights.is_file():
        found["encoder_bytes"] = weights.stat().st_size
    found["folder_bytes"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.name.startswith("report."))
    if table is not None and table.cost:
        found["comparison_seconds"] = dict(table.cost)
    return found


def _lineage(run: Any) -> dict[str, Any]:
    decisions = run.decisions
    return {"method": run.value("method"), "data": decisions.get("fingerprint"), "items": decisions.get("items"),
            "version": decisions.get("version"), "seed": run.value("seed"), "init": decisions.get("init")}
