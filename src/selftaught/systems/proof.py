"""The machinery of proofs: what is claimed before the first run, the runs and their cache, the judgement from raw values."""

from __future__ import annotations

import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .arm_cache import DATA, arm_key, cache_dir, code_version, functions_of, hashed, owners, reached, source_of

ROLES = ("subject", "baseline", "ablation", "control")
KINDS, DIRECTIONS, LEAST_SEEDS = ("paired difference", "threshold", "across arms"), ("greater", "smaller", "not worse"), 3
Values = Mapping[str, float]
Raw = Mapping[str, Mapping[Any, Values]]  # arm → seed → metric → value, as committed: None where it is not finite


@dataclass(frozen=True)
class Arm:
    """One kind of run, the same for every seed.

    method: a registered name; None = the untrained network. data: key of `proof_data`. options: overrides for `pretrain`,
    dotted ones too. role: subject, baseline, ablation (the subject without its idea) or control. seconds: of processor time that one
    run may take. measures: functions `(Trained) -> {metric: value}` beyond knn, linear, rankme, spread, loss and seconds; they
    must be self-contained, as their source is part of the cache key. also: keys of further data that they read.
    """

    name: str
    method: str | None
    data: str = "cifar10-5000"
    options: Mapping[str, Any] = field(default_factory=dict)
    role: str = "subject"
    seconds: float = 120.0
    measures: tuple[Callable[..., dict[str, float]], ...] = ()
    also: tuple[str, ...] = ()

    def configuration(self) -> dict[str, Any]:
        """What the numbers of a run depend on besides code, data and seed: not its name, role or budget of time."""
        data = [(key, source_of(DATA.get(key.partition("-")[0]))) for key in (self.data, *self.also)]
        return {"method": self.method, "options": dict(self.options), "data": data, "measures": [*map(source_of, self.measures)]}


@dataclass(frozen=True)
class Claim:
    """One clause that must hold. Every kind gives one number a seed; its 95 % interval is held against `margin`.

    paired difference: metric of `subject` − of `baseline`; greater: the interval lies above margin, smaller: below −margin,
    not worse: above −margin. threshold: metric of `subject`, above (greater) or below (smaller) margin. across arms:
    `value({arm: {metric: number}})` of one seed, likewise (a correlation over a sweep, a regret). least: of the numbers that `value`
    gives a seed, so many must hold, each by its own interval over seeds: the second best of three in every seed would be another one
    each time, and above zero by chance. The intervals are 1 − 0.05 / (n − least + 1) wide, as any of those n − least + 1 could err
    (Benjamini & Heller, 2008).
    """

    statement: str
    metric: str
    subject: str = ""
    baseline: str | None = None
    direction: str = "greater"
    margin: float = 0.0
    kind: str = "paired difference"
    value: Callable[[Mapping[str, Values]], float | tuple[float, ...]] | None = None
    least: int | None = None

    def __post_init__(self) -> None:
        paired, across = self.kind == "paired difference", self.kind == "across arms"
        if self.kind not in KINDS or self.direction not in DIRECTIONS or (self.direction == "not worse" and not paired):
            raise ValueError(f"claim '{self.statement}': '{self.direction}' of kind '{self.kind}' is not known")
        if paired != (self.baseline is not None) or across != (self.value is not None):
            raise ValueError(f"claim '{self.statement}': a paired difference has a baseline, a claim across arms a function")
        if self.least is not None and not (across and self.least > 0):
            raise ValueError(f"claim '{self.statement}': least={self.least} counts the values of a claim across arms, from 1")


@dataclass(frozen=True)
class Proof:
    """Everything that is settled before the first result. works_when: the row's clauses in our words; each is a claim or, with
    its reason, in `omissions`. data: real or synthetic. prepare: registers the ablations (names that begin with the id, as
    's378_…') when an arm is about to run, so that reading a proof costs no import of torch."""

    id: str
    statement: str
    works_when: str
    arms: tuple[Arm, ...]
    claims: tuple[Claim, ...]
    seeds: tuple[int, ...]
    budget: str
    data: str = "real"
    substitutions: str = ""
    omissions: str = ""
    prepare: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        names = [a.name for a in self.arms]
        missing = {n for c in self.claims for n in (c.subject, c.baseline) if n} - set(names)
        if len(set(names)) != len(names) or missing or not self.claims:
            raise ValueError(f"proof {self.id}: arms must have names of their own, claims must name arms ({missing or names})")
        if self.data not in ("real", "synthetic") or not {a.role for a in self.arms} <= set(ROLES):
            raise ValueError(f"proof {self.id}: data is real or synthetic, a role one of {', '.join(ROLES)}")

    def digest(self) -> str:
        """Hash of the definition, functions by their source; a result whose digest differs proves another statement. `least` enters where
        it is set, as the first results do not know it."""
        parts = {k: getattr(self, k) for k in self.__dataclass_fields__} | {"prepare": source_of(self.prepare)}
        parts["arms"] = [a.configuration() | {"name": a.name, "role": a.role, "seconds": a.seconds} for a in self.arms]
        parts["claims"] = [{k: v for k, v in vars(c).items() if (k, v) != ("least", None)} | {"value": source_of(c.value)}
                           for c in self.claims]
        return hashed(parts)

    def reach(self) -> str:
        """Hash of what the definition's functions use besides: helpers, constants, other systems' ablations, none of which the digest
        sees. Results carry it beside the digest; the first ones have none."""
        used = [f for a in self.arms for f in (*functions_of(a), *owners(self, a))]
        functions = [self.prepare, *(c.value for c in self.claims), *used]
        return hashed([reached(functions), [*map(source_of, functions)]])

    def proved_by(self, result: Mapping[str, Any]) -> bool:
        """Whether a result is of this definition as it stands, and of what it uses where the result says that."""
        return result["digest"] == self.digest() and result.get("reach") in (None, self.reach())


@dataclass(frozen=True)
class Judged:
    """A claim and what was measured: means over seeds, the 95 % interval of the number a seed, and why it does not hold. Of several
    numbers a seed, the one that decides."""

    statement: str
    measured: float
    baseline: float
    interval: tuple[float, float]
    holds: bool
    per_seed: dict[str, float]
    why: str = ""


@dataclass(frozen=True)
class Verdict:
    """state: holds, does-not-hold, or runs while seeds, arms or an ablation are missing (`lacks` says which)."""

    state: str
    claims: tuple[Judged, ...]
    lacks: tuple[str, ...]


def judge(proof: Proof, raw: Raw) -> Verdict:
    """The verdict from raw values alone. `holds`: every claim's interval clears its margin, with all registered seeds (at least
    three), every arm and at least one ablation measured."""
    raw = {n: {str(s): {k: math.nan if v is None else v for k, v in m.items()} for s, m in of.items()} for n, of in raw.items()}
    lacks = [f"arm '{a.name}' lacks seed {s}" for a in proof.arms for s in proof.seeds if str(s) not in raw.get(a.name, {})]
    lacks += ["an ablation arm"] * all(a.role != "ablation" for a in proof.arms)
    lacks += [f"{LEAST_SEEDS} seeds, not {len(proof.seeds)}"] * (len(proof.seeds) < LEAST_SEEDS)
    claims = tuple(_judge_claim(c, proof, raw) for c in proof.claims)
    return Verdict("runs" if lacks else "holds" if all(c.holds for c in claims) else "does-not-hold", claims, tuple(lacks))


def _judge_claim(claim: Claim, proof: Proof, raw: Raw) -> Judged:
    names = [n for n in (claim.subject, claim.baseline) if n] or [a.name for a in proof.arms]
    seeds = [s for s in map(str, proof.seeds) if all(s in raw.get(n, {}) for n in names)]
    value = claim.value or (lambda arms: arms[claim.subject].get(claim.metric, math.nan))
    mine = [np.atleast_1d(value({n: raw[n][s] for n in names})) for s in seeds]
    mine = np.array(mine or np.empty((0, claim.least or 1)), dtype=float)  # [seeds, numbers a seed]
    paired = claim.baseline is not None
    theirs = np.array([raw[claim.baseline][s].get(claim.metric, math.nan) if paired else 0.0 for s in seeds])
    place, (low, high) = _deciding(claim, mine - theirs[:, None])
    mine = mine[:, place]
    values = mine - theirs
    bound = -claim.margin if paired and claim.direction != "greater" else claim.margin
    side, holds = ("below", high < bound) if claim.direction == "smaller" else ("above", low > bound)
    why = "" if holds else f"[{low:.4g}, {high:.4g}] does not lie {side} {bound:g}" if np.isfinite(low) else (
        "fewer than two seeds" if len(values) < 2 else "a value is missing or not finite")
    measured, other = (float(v.mean()) if len(v) else math.nan for v in (mine, theirs))
    return Judged(claim.statement, measured, other if paired else claim.margin, (low, high), bool(holds),
                  dict(zip(seeds, values.tolist())), why)


def _deciding(claim: Claim, values: np.ndarray) -> tuple[int, tuple[float, float]]:
    """Of values [seeds, n] the column that is `least`-th best by the end of its interval that must clear the margin, and its interval."""
    n, least = values.shape[1], claim.least or 1
    if n < least or (n > 1 and claim.least is None):
        raise ValueError(f"claim '{claim.statement}': its function gives {n} numbers a seed, of which least={claim.least} are to hold")
    found = [interval(column, 0.05 / (n - least + 1)) for column in values.T]
    ends = [-high if claim.direction == "smaller" else low for low, high in found]
    place = int(np.argsort([math.inf if math.isnan(end) else -end for end in ends], kind="stable")[least - 1])
    return place, found[place]


def interval(values: np.ndarray, share: float = 0.05) -> tuple[float, float]:
    """Student-t interval of the mean that misses it with probability `share`; NaN with fewer than two values or any that is not finite."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan, math.nan
    from scipy.special import stdtrit

    half = float(stdtrit(len(values) - 1, 1 - share / 2)) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def write_json(path: Path, data: Any) -> None:
    """Whole or not at all; values that are not finite are written as null."""
    from ..contracts.stored import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(finite(data), indent=1, ensure_ascii=False) + "\n")


def finite(data: Any) -> Any:
    """The same structure with None for floats that JSON cannot hold."""
    if isinstance(data, Mapping):
        return {str(k): finite(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [finite(v) for v in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def run_proof(proof: Proof, *, seeds: Iterable[int] | None = None, runner: Callable[[Arm, int], Values] | None = None,
              fingerprint: Callable[[str], str] | None = None, say: Callable[[str], None] | None = None) -> dict[str, Any]:
    """Runs what the cache does not hold and gives the result (see `result_of`). seeds: others than the registered, for a quick
    look. runner(arm, seed) → metrics (`run_arm`). fingerprint(data key) → hash (the sources'). say: takes a line a run."""
    if runner is None or fingerprint is None:
        from .arms import data_fingerprint, run_arm

        runner, fingerprint = runner or run_arm, fingerprint or data_fingerprint
    if proof.prepare:
        proof.prepare()
    seeds, code, raw = tuple(proof.seeds if seeds is None else seeds), code_version(), {a.name: {} for a in proof.arms}
    for seed in seeds:
        for arm in proof.arms:
            path = cache_dir() / f"{arm_key(proof, arm, seed, fingerprint=fingerprint, code=code)}.json"
            if not (known := path.is_file()):
                began = time.process_time()
                metrics = dict(runner(arm, seed))
                metrics.setdefault("seconds", round(time.process_time() - began, 3))
                write_json(path, {"proof": proof.id, "arm": arm.name, "seed": seed, "code": code, "metrics": metrics})
            metrics = raw[arm.name][str(seed)] = json.loads(path.read_text(encoding="utf-8"))["metrics"]
            if say:
                say(f"{proof.id} {arm.name}, seed {seed}: {'cached' if known else 'ran'}, {metrics['seconds']:.0f} s")
    return result_of(proof, raw, seeds)


def result_of(proof: Proof, raw: Raw, seeds: Iterable[int]) -> dict[str, Any]:
    """What is committed as systems/results/ID.json: the raw values, and what they say. With other seeds than the registered
    ones the claims are judged on those, and the state stays `runs`."""
    from importlib.metadata import version

    seeds, full = tuple(seeds), judge(proof, raw)
    verdict = judge(replace(proof, seeds=seeds), raw)
    spent = {arm: [v["seconds"] for v in found.values()] for arm, found in raw.items()}
    return finite({
        "id": proof.id, "statement": proof.statement, "state": full.state, "lacks": full.lacks,
        "claims": [asdict(c) for c in verdict.claims],
        "arms": {a.name: {k: getattr(a, k) for k in ("role", "method", "data", "options")} for a in proof.arms},
        "raw": raw, "seeds": seeds, "seconds": round(sum(map(sum, spent.values())), 2),
        "over_budget": [a.name for a in proof.arms if max(spent[a.name], default=0) > a.seconds],
        "digest": proof.digest(), "reach": proof.reach(),
        **{k: getattr(proof, k) for k in ("budget", "data", "substitutions", "omissions")}, "code": code_version(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in ("selftaught", "torch", "numpy")},
    })
