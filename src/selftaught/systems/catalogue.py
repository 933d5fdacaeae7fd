"""The catalogue: every system with its state, which follows from what is built and from committed raw values."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from .proof import Proof, Verdict, judge, run_proof, write_json

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
DOCUMENT = HERE.parents[2] / "docs" / "SYSTEMS.md"
STATES = {
    "holds": "every clause was shown, over all registered seeds, by 95 % intervals",
    "does-not-hold": "the proof ran with the same care, and at least one clause did not hold",
    "runs": "it can be used or proved here; no complete result is committed",
    "planned": "not built yet",
}


@dataclass(frozen=True)
class System:
    """One row. line: what it does and what would show that it works. state: a key of STATES. data: real or synthetic, where
    there is a result; result: its file, relative to the package, or None."""

    id: str
    title: str
    area: str
    modality: tuple[str, ...]
    kind: str
    line: str
    state: str = "planned"
    data: str | None = None
    result: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What `selftaught systems --json` lists."""
        keys = ("id", "title", "area", "modality", "kind", "line", "state", "data", "result")
        return {k: list(v) if isinstance(v := getattr(self, k), tuple) else v for k in keys}


@lru_cache
def _rows() -> tuple[dict[str, Any], ...]:
    lines = (HERE / "catalogue.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines)


def systems(area: str | None = None, state: str | None = None) -> list[System]:
    """The catalogue in the order of ids, all of it or one area or state. An unknown area or state is an OptionError."""
    areas = {row["area"] for row in _rows()}
    for word, known, what in ((area, areas, "area"), (state, STATES, "state")):
        if word is not None and word not in known:
            from ..contracts import nearest

            raise nearest(word, known, what=what)
    found = (_system(row) for row in _rows() if area in (None, row["area"]))
    return [s for s in found if state in (None, s.state)]


def find_system(id: str) -> System:
    """The system of an id such as S378 (either case); an unknown one is an OptionError that names the nearest."""
    for row in _rows():
        if row["id"] == id.upper():
            return _system(row)
    from ..contracts import nearest

    raise nearest(id.upper(), (row["id"] for row in _rows()), what="system")


def find_proof(id: str) -> Proof:
    """The proof of a system; an OptionError where the id is unknown or nothing is built yet."""
    system = find_system(id)
    proof = _proof(system.id)
    if proof is None:
        from ..contracts import OptionError

        ready = ", ".join(sorted(p.stem.upper() for p in HERE.glob("s[0-9][0-9][0-9].py")))
        raise OptionError(f"{system.id} has no proof to run yet, it is {system.state}; those that have one: {ready}.")
    return proof


def _proof(id: str) -> Proof | None:
    if not (HERE / f"{id.lower()}.py").is_file():
        return None
    return getattr(import_module(f".{id.lower()}", __package__), "PROOF", None)


def _system(row: Mapping[str, Any]) -> System:
    id, fields = row["id"], dict(row) | {"modality": tuple(row["modality"])}
    if not (HERE / f"{id.lower()}.py").is_file():
        return System(**fields)
    result = read_result(id)
    if result is None:
        return System(**fields, state="runs")
    return System(**fields, state=verdict_of(result).state, data=result["data"], result=f"systems/results/{id}.json")


def read_result(id: str) -> dict[str, Any] | None:
    """The committed result of a system, or None."""
    path = RESULTS / f"{id}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_result(result: Mapping[str, Any]) -> Path:
    """Keeps a result of `run_proof` where it is to be committed."""
    path = RESULTS / f"{result['id']}.json"
    write_json(path, result)
    return path


def verdict_of(result: Mapping[str, Any]) -> Verdict:
    """The verdict that a result's raw values give under the present proof, never the word it stores. A result of another
    definition of the proof shows nothing about this one: its state is `runs`."""
    proof = _proof(result["id"])
    if proof is None or not proof.proved_by(result):
        return Verdict("runs", (), ("the proof, or what it uses, was changed after this result",))
    return judge(proof, result["raw"])


def prove(id: str, *, seeds: int | None = None, say: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Runs the proof of a system and gives its result; `seeds`: that many instead of the registered ones, for a quick look."""
    proof = find_proof(id)
    more = range(max(proof.seeds) + 1, max(proof.seeds) + 1 + (seeds or 0))
    return run_proof(proof, seeds=proof.seeds if seeds is None else (*proof.seeds, *more)[:seeds], say=say)


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """What `selftaught prove ID --json` prints."""
    keys = ("statement", "measured", "baseline", "interval", "holds")
    claims = [{k: claim[k] for k in keys} for claim in result["claims"]]
    return {"id": result["id"], "claims": claims, "seeds": result["seeds"], "seconds": result["seconds"]}


def to_markdown() -> str:
    """docs/SYSTEMS.md: counts, and a table an area."""
    everything = systems()
    count = Counter(s.state for s in everything)
    text = ["# Systems", "", f"The {len(everything)} systems of the literature that this project is to hold. Generated by "
            "`python -m selftaught.systems`; a state is computed", "from the raw values of every seed in the linked result, "
            "which `selftaught prove ID` makes anew.", "", "| state | systems | meaning |", "|---|---|---|"]
    text += [f"| {state} | {count[state]} | {meaning} |" for state, meaning in STATES.items()]
    text += ["", f"Results on synthetic data, counted apart: {sum(s.data == 'synthetic' for s in everything)}."]
    for area in sorted({s.area for s in everything}):
        rows = [s for s in everything if s.area == area]
        text += ["", f"## {area} ({len(rows)})", "", "| id | system | modality | state | what it does, and what shows it |",
                 "|---|---|---|---|---|", *map(_line, rows)]
    return "\n".join(text) + "\n"


def _line(system: System) -> str:
    title = system.title.replace("|", "\\|").replace("$", "\\$")
    state = system.state
    if system.result:
        state = f"[{system.state}](../src/selftaught/{system.result}) ({system.data})"
    return f"| {system.id} | {title} | {', '.join(system.modality)} | {state} | {system.line} |"
