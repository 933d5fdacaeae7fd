"""From data to a run folder: `pretrain` plans, trains and saves, or takes up where an earlier process stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from . import __version__
from .contracts import FREE, Collapsed, NonFinite, OptionError, Schedule, Source, fit_type, parse
from .contracts.registry import anchored
from .contracts.stored import read_json
from .encoder import Encoder
from .methods import Method
from .modalities import Preprocessing
from .plan import Plan, make_plan
from .sources import Quarantine, open_source
from .training import (
    Interrupted,
    Outcome,
    Place,
    RunFolder,
    Settings,
    Stream,
    Verdict,
    as_json,
    fit,
    launch,
    recorded,
    refuse_changes,
)
from .training.chains import Stage, chain

__all__ = ["Run", "Stage", "chain", "default_folder", "pretrain"]
T = TypeVar("T")


class Run:
    """What `pretrain` leaves behind: a folder. `encoder` is read from it on first use."""

    def __init__(self, folder: str | Path, *, outcome: Outcome | None = None, module: nn.Module | None = None, leads: bool = True):
        """leads: whether this process is the one that writes (of several)."""
        self.folder, self.outcome, self.leads, self._module = Path(folder), outcome, leads, module
        self.files = RunFolder(folder)
        self.decisions: dict[str, Any] = self.files.decisions()

    def __repr__(self) -> str:
        return f"Run('{self.folder}', method={self.value('method')}, steps={self.summary.get('steps')})"

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder.load(self.folder / "encoder", backbone=self._module)

    def value(self, key: str) -> Any:
        """A decision of the run: `run.value('lr')`."""
        return self.decisions["decisions"].get(key, {}).get("value")

    @property
    def summary(self) -> dict[str, Any]:
        """What the run cost and counted: steps, seconds, samples_per_second, data_wait, bad_items, duplicates, verdict."""
        path = self.files.summary
        mend = f"Delete it, and have it written again by --resume --out {self.folder}."
        return read_json(path, mend=mend) if path.is_file() else {}

    @property
    def verdict(self) -> Verdict | None:
        return self.outcome.verdict if self.outcome else None

    def metrics(self) -> list[dict[str, Any]]:
        return self.files.metrics()


def default_folder(data: Any) -> Path:
    """`runs/NAME-1`, `runs/NAME-2`, …: the first that does not exist."""
    stem, number = _stem(data), 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def _stem(data: Any) -> str:
    stem = Path(str(data)).stem if isinstance(data, (str, Path)) else getattr(data, "name", None) or type(data).__name__
    return re.sub(r"[^\w.-]+", "-", str(stem) if isinstance(stem, str) else "data").strip("-.") or "data"


def _named(data: Any, out: str | Path | None, resume: bool) -> Path:
    """The folder of the run: `out`, or a new one by the data's name. OptionError where `out` is empty, or the run to resume has no name."""
    if out is not None:
        if not str(out):
            raise OptionError("--out names no folder; give one, or leave --out out for runs/NAME-N.")
        return Path(out)
    if not resume:
        return default_folder(data)
    begun = re.compile(rf"{re.escape(_stem(data))}-\d+")
    runs = [path for path in Path("runs").glob("*/run.yaml") if begun.fullmatch(path.parent.name)]
    newest = max(runs, key=lambda path: path.stat().st_mtime, default=None)
    which = "" if newest is None else f"; the newest of these data is --out {newest.parent}"
    raise OptionError(f"--resume continues the run in one folder: name the run with --out{which}.")


def pretrain(data: Any, method: Any = None, *, out: str | Path | None = None, resume: bool = False, target: str | None = None,
             group: str | None = None, layout: str | None = None, modality: str | None = None, init: Any = None,
             progress: bool = True, say: Callable[[str], None] | None = None, **overrides: Any) -> Run:
    """Learns an encoder from data without labels, and leaves a run folder.

    data: whatever `open_source` takes (a path, arrays, a table, …). method: a name, `FILE.py:NAME` or `MODULE:NAME` (imported;
    NAME a class or the name that it registers), a Method class, or None to let the plan choose. out: the run folder (default:
    `runs/NAME-N`). resume: continue the run in `out`, which must be named, if there is one.
    target, group, layout, modality: name columns, axes and the kind of data, where it does not say so. init: a run folder or Run
    whose weights to start from. overrides: any key of the plan (`epochs=50`, `batch_size=128`, `**{"method.temperature": 0.2}`); of a
    `backbone` that is a module a copy is trained. say: called with every line of the plan.
    Raises SelftaughtError subclasses, each one sentence.
    """
    if method is not None:
        overrides["method"] = anchored(method)
    say = say or (lambda line: None)
    folder = RunFolder(_named(data, out, resume))
    place = _several({**(recorded(folder.decisions()["decisions"]) if resume and folder.exists() else {}), **overrides})
    leads, weights = place is None or place.leads, None if init is None else _Weights(init)

    def job() -> _Job:
        source = open_source(data, target=target, group=group, layout=layout, modality=modality)
        if leads:
            folder.open(resume=resume)
            if folder.fresh:
                return _begin(source, folder, overrides, weights, say)
            asked = overrides if weights is None else {**overrides, "init": weights.name}
            refuse_changes(folder.path, folder.decisions(), asked, source.fingerprint())
        return _continue(source, folder, overrides, weights)

    try:
        return _train(_leader_first(place, job), folder, progress, say)
    except BaseException:
        folder.discard()
        raise
    finally:
        folder.close()


def _several(wanted: dict[str, Any]) -> Place | None:
    """The place of this process among several, started now if `devices` asks for them; None where it is the only one."""
    devices = fit_type("devices", wanted.get("devices", 1), 1)
    if devices == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return launch(Settings(1, device=wanted.get("device", "auto"), devices=devices))


def _leader_first(place: Place | None, work: Callable[[], T]) -> T:
    """work(), done by the leading process before the others. Where it fails in one, all leave; only that one says why."""
    if place is None:
        return work()
    done = error = None
    for turn in (True, False):
        if place.leads == turn:
            try:
                done = work()
            except BaseException as caught:
                error = caught
        failed = place.any(int(error is not None))
        if error is not None:
            raise error
        if failed:
            raise SystemExit(int(place.leads))
    return done


@dataclass(frozen=True)
class _Job:
    """What is trained on what, and the name of the weights it started from."""

    source: Source
    plan: Plan
    init: str | None
    stream: Stream
    learner: Method


def _job(source: Source, plan: Plan, folder: RunFolder, init: _Weights | None) -> _Job:
    stream = plan.stream(source, quarantine=Quarantine(folder.quarantine))
    wanted = init is not None and folder.latest() is None  # else a checkpoint has the weights
    return _Job(source, plan, None if init is None else init.name, stream, plan.build_method(init.copy_into if wanted else None))


def _begin(source: Source, folder: RunFolder, overrides: dict[str, Any], init: _Weights | None, say: Callable[[str], None]) -> _Job:
    """A new run: the plan is made, said and written, once all that it names could be built."""
    if folder.latest() is not None:
        raise OptionError(f"{folder.path} holds checkpoints of a run whose run.yaml is gone; choose another folder with --out.")
    plan = make_plan(source, overrides if init is None else {**init.backbone_choice(), **overrides})
    for line in plan.lines():
        say(line)
    job = _job(source, plan, folder, init)
    asked = overrides if init is None else {**overrides, "init": init.name}
    folder.write("preprocessing.json", json.dumps(plan.preprocessing.to_json()))
    folder.write_decisions({"format": 1, "version": __version__, "data": str(getattr(source, "origin", source.modality)),
                            "modality": source.modality, "items": len(source), "fingerprint": source.fingerprint(),
                            "init": job.init, "asked": {k: as_json(parse(v)) for k, v in asked.items()}, "decisions": plan.to_json()})
    return job


def _continue(source: Source, folder: RunFolder, overrides: dict[str, Any], init: _Weights | None) -> _Job:
    """The run of run.yaml: on resume, and in processes that do not lead. Of the overrides only what may change, or JSON cannot hold."""
    written = folder.decisions()
    if init is None and written["init"] is not None:
        init = _Weights(written["init"])
    kept = {k: v for k, v in overrides.items() if k in FREE or isinstance(v, (type, nn.Module, Schedule))}
    plan = make_plan(source, {**recorded(written["decisions"]), **kept}, preprocessing=Preprocessing.from_json(folder.preprocessing()))
    return _job(source, plan, folder, init)


@dataclass(frozen=True)
class _Weights:
    """Where weights to start from lie: a run or an encoder folder."""

    origin: Any

    @property
    def name(self) -> str:
        return str(self.origin.folder if isinstance(self.origin, Run) else self.origin)

    def encoder(self) -> Encoder:
        return self.origin.encoder if isinstance(self.origin, Run) else \
            self.origin if isinstance(self.origin, Encoder) else Encoder.load(self.origin)

    def backbone_choice(self) -> dict[str, Any]:
        if isinstance(self.origin, str) and self.origin.startswith(("timm:", "hf:")):
            return {"backbone": self.origin, "backbone.pretrained": True}
        encoder = self.encoder()
        return {"backbone": encoder.backbone_name, **{f"backbone.{k}": v for k, v in encoder.backbone_options.items()}}

    def copy_into(self, backbone: nn.Module) -> None:
        if not (isinstance(self.origin, str) and self.origin.startswith(("timm:", "hf:"))):
            try:
                with torch.random.fork_rng(devices=[]):  # reading them draws nothing: what the method adds follows from the seed alone
                    backbone.load_state_dict(self.encoder().backbone.state_dict())
            except RuntimeError as error:
                raise OptionError(f"The weights of {self.origin} do not fit this backbone and data: "
                                  f"{str(error).splitlines()[-1].strip()}") from None


def _train(job: _Job, folder: RunFolder, progress: bool, say: Callable[[str], None]) -> Run:
    began, plan, settings = time.perf_counter(), job.plan, job.plan.settings(progress=progress)
    place, before = launch(settings), folder.latest()

    def same() -> bool:
        """Whether no step was taken since an earlier process wrote its summary."""
        return before is not None and folder.latest() == before and folder.summary.is_file()

    try:
        outcome = fit(job.learner, job.stream, plan.training(), settings, folder=folder, place=place)
    except (Collapsed, Interrupted, NonFinite, OptionError) as error:
        if not place.leads:
            raise SystemExit(0) from None  # it is the same in all processes, and the leading one says it
        if isinstance(error, Collapsed) and not same():
            _summarise(folder, None, job.stream, time.perf_counter() - began, collapsed=str(error))
        raise
    if place.leads and not (same() and (folder.encoder / "encoder.json").is_file()):
        _encoder(job).save(folder.encoder)
        _summarise(folder, outcome, job.stream, time.perf_counter() - began + outcome.earlier)
        say(f"encoder saved in {folder.encoder}")
    place.fabric.barrier()
    return Run(folder.path, outcome=outcome, module=plan.module, leads=place.leads)


def _encoder(job: _Job) -> Encoder:
    """What is kept, with where it comes from."""
    plan, source, custom = job.plan, job.source, job.plan.module is not None
    lineage = {"method": plan["method"], "data": source.fingerprint(), "items": len(source), "version": __version__,
               "steps": plan["steps"], "seed": plan["seed"], "init": job.init}
    encoder = Encoder(job.learner.kept(), plan.preprocessing, backbone_name="custom" if custom else plan["backbone"],
                      backbone_options={} if custom else plan.nested["backbone"], lineage=lineage)
    hashes = job.stream.reader.hashes
    encoder.items = encoder.contents(source) if hashes is None and source.resident else hashes
    return encoder


def _summarise(folder: RunFolder, outcome: Outcome | None, stream: Stream, seconds: float, *, collapsed: str = "") -> None:
    bad = Quarantine(folder.quarantine).indices(stream.name)  # of all processes
    found = {"seconds": round(seconds, 2), "bad_items": len(bad), "duplicates": stream.reader.duplicates, "collapsed": bool(collapsed),
             "verdict": collapsed or None}
    if outcome is not None:
        found |= {k: v for k, v in dataclasses.asdict(outcome).items() if k in ("steps", "samples")}
        found |= {"training_seconds": round(outcome.seconds, 2), "samples_per_second": round(outcome.samples_per_second, 1),
                  "data_wait": round(outcome.wait / max(outcome.seconds, 1e-9), 4),
                  "final_loss": next((line["loss"] for line in folder.metrics()[-1:]), None)}
        found["verdict"] = str(outcome.verdict) if outcome.verdict else None
        found["plateau"] = outcome.verdict is not None and outcome.verdict.kind == "plateau"
    folder.write("summary.json", json.dumps(found, indent=1))
