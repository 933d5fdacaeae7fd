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
from typing import Any

from torch import nn

from . import __version__
from .chains import Stage, chain
from .contracts import FREE, Collapsed, OptionError, Source, fit_type, parse
from .encoder import Encoder
from .modalities import Preprocessing
from .plan import Plan, make_plan
from .sources import Quarantine, open_source
from .training import Outcome, Place, RunFolder, Settings, Verdict, fit, launch, recorded

__all__ = ["Run", "Stage", "chain", "default_folder", "pretrain"]


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
        path = self.folder / "summary.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def verdict(self) -> Verdict | None:
        return self.outcome.verdict if self.outcome else None

    def metrics(self) -> list[dict[str, Any]]:
        return self.files.metrics()


def default_folder(data: Any) -> Path:
    """`runs/NAME-1`, `runs/NAME-2`, …: the first that does not exist."""
    stem = Path(str(data)).stem if isinstance(data, (str, Path)) else getattr(data, "name", None) or type(data).__name__
    stem = re.sub(r"[^\w.-]+", "-", str(stem) if isinstance(stem, str) else "data").strip("-.") or "data"
    number = 1
    while (path := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return path


def pretrain(data: Any, method: Any = None, *, out: str | Path | None = None, resume: bool = False, target: str | None = None,
             group: str | None = None, layout: str | None = None, modality: str | None = None, init: Any = None,
             progress: bool = True, say: Callable[[str], None] | None = None, **overrides: Any) -> Run:
    """Learns an encoder from data without labels, and leaves a run folder.

    data: whatever `open_source` takes (a path, arrays, a table, …). method: a name, a Method class, or None to let the plan
    choose. out: the run folder (default: `runs/NAME-N`). resume: continue the run in `out` if there is one. target, group,
    layout, modality: name columns, axes and the kind of data, where it does not say so. init: a run folder or Run whose weights
    to start from. overrides: any key of the plan (`epochs=50`, `batch_size=128`, `**{"method.temperature": 0.2}`). say: called
    with every line of the plan.
    Raises SelftaughtError subclasses, each one sentence.
    """
    if method is not None:
        overrides["method"] = method
    folder = RunFolder(out if out is not None else default_folder(data))
    place = _several(overrides)
    leads = place is None or place.leads
    source = open_source(data, target=target, group=group, layout=layout, modality=modality)
    if leads:
        folder.open(resume=resume)
    try:
        plan = _settle(source, folder, place, resume, overrides, init, say or (lambda line: None))
        return _train(plan, source, folder, init, progress, say or (lambda line: None))
    finally:
        folder.close()


def _several(overrides: dict[str, Any]) -> Place | None:
    """The place of this process among several, started now if `devices` asks for them; None where it is the only one."""
    devices = fit_type("devices", overrides.get("devices", 1), 1)
    if devices == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return launch(Settings(1, device=overrides.get("device", "auto"), devices=devices))


def _settle(source: Source, folder: RunFolder, place: Place | None, resume: bool, overrides: dict[str, Any], init: Any,
            say: Callable[[str], None]) -> Plan:
    """The plan: made anew and written by the leading process, or read from run.yaml on resume and by the other processes."""
    leads = place is None or place.leads
    if leads and not (resume and folder.exists()):
        if init is not None:
            overrides = {**_weights(init).backbone_choice(), **overrides}
        plan = make_plan(source, overrides)
        for line in plan.lines():
            say(line)
        folder.write("preprocessing.json", json.dumps(plan.preprocessing.to_json()))
        folder.write_decisions({"format": 1, "version": __version__, "data": str(getattr(source, "origin", source.modality)),
                                "modality": source.modality, "items": len(source),
                                "fingerprint": source.fingerprint(), "init": str(init) if init is not None else None,
                                "decisions": plan.to_json()})
        if place is not None:
            place.fabric.barrier()
        return plan
    if not leads:
        place.fabric.barrier()
    written = folder.decisions()
    _refuse_changes(written, source, overrides, folder)
    kept = {k: v for k, v in overrides.items() if k in FREE or isinstance(v, (type, nn.Module))}
    preprocessing = Preprocessing.from_json(json.loads((folder.path / "preprocessing.json").read_text(encoding="utf-8")))
    return make_plan(source, {**recorded(written["decisions"]), **kept}, preprocessing=preprocessing)


def _refuse_changes(written: dict[str, Any], source: Source, overrides: dict[str, Any], folder: RunFolder) -> None:
    """A resumed run has the data and the keys it began with."""
    if written["fingerprint"] != source.fingerprint():
        raise OptionError(f"The data have changed since {folder.path} began (fingerprint {written['fingerprint']}, now "
                          f"{source.fingerprint()}); start a new run with another --out, or restore the data.")
    for key, value in overrides.items():
        before = written["decisions"].get(key, {}).get("value")
        if key not in FREE and not isinstance(value, (type, nn.Module)) and not _same(before, parse(value)):
            raise OptionError(f"{folder.path} began with {key}={before}; resuming with {key}={value} would be another run. "
                              f"Leave the key out, or start anew with another --out.")


def _same(a: Any, b: Any) -> bool:
    """Whether a value from run.yaml is the one given now (JSON has lists for tuples)."""
    return list(a) == list(b) if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) else a == b


@dataclass(frozen=True)
class _weights:
    """Where weights to start from lie: a run or an encoder folder."""

    origin: Any

    def encoder(self) -> Encoder:
        return self.origin.encoder if isinstance(self.origin, Run) else \
            self.origin if isinstance(self.origin, Encoder) else Encoder.load(self.origin)

    def backbone_choice(self) -> dict[str, Any]:
        if isinstance(self.origin, str) and self.origin.startswith(("timm:", "hf:")):
            return {"backbone": self.origin}
        encoder = self.encoder()
        return {"backbone": encoder.backbone_name, **{f"backbone.{k}": v for k, v in encoder.backbone_options.items()}}

    def copy_into(self, backbone: nn.Module) -> None:
        if not (isinstance(self.origin, str) and self.origin.startswith(("timm:", "hf:"))):
            try:
                backbone.load_state_dict(self.encoder().backbone.state_dict())
            except RuntimeError as error:
                raise OptionError(f"The weights of {self.origin} do not fit this backbone and data: "
                                  f"{str(error).splitlines()[-1].strip()}") from None


def _train(plan: Plan, source: Source, folder: RunFolder, init: Any, progress: bool, say: Callable[[str], None]) -> Run:
    began = time.perf_counter()
    quarantine = Quarantine(folder.quarantine)
    stream = plan.stream(source, quarantine=quarantine)
    learner = plan.build_method(None if init is None else _weights(init).copy_into)
    settings = plan.settings(progress=progress)
    place = launch(settings)
    try:
        outcome = fit(learner, stream, plan.training(), settings, folder=folder, place=place)
    except Collapsed as verdict:
        if place.leads:
            _summarise(folder, None, stream, time.perf_counter() - began, collapsed=str(verdict))
        raise
    if place.leads:
        lineage = {"method": plan.method.name or plan.method.__name__, "data": source.fingerprint(), "items": len(source),
                   "version": __version__, "steps": plan["steps"], "seed": plan["seed"], "init": None if init is None else str(init)}
        custom = plan.module is not None
        encoder = Encoder(learner.kept(), plan.preprocessing, backbone_name="custom" if custom else plan["backbone"],
                          backbone_options={} if custom else plan.nested["backbone"], lineage=lineage)
        hashes = stream.reader.hashes
        encoder.items = encoder.contents(source) if hashes is None and source.resident else hashes
        encoder.save(folder.encoder)
        _summarise(folder, outcome, stream, time.perf_counter() - began)
        say(f"encoder saved in {folder.encoder}")
    place.fabric.barrier()
    return Run(folder.path, outcome=outcome, module=plan.module, leads=place.leads)


def _summarise(folder: RunFolder, outcome: Outcome | None, stream: Any, seconds: float, *, collapsed: str = "") -> None:
    loader = stream.reader
    found = {"seconds": round(seconds, 2), "bad_items": loader.bad, "duplicates": loader.duplicates, "collapsed": bool(collapsed),
             "verdict": collapsed or None}
    if outcome is not None:
        found |= {k: v for k, v in dataclasses.asdict(outcome).items() if k in ("steps", "samples")}
        found |= {"training_seconds": round(outcome.seconds, 2), "samples_per_second": round(outcome.samples_per_second, 1),
                  "data_wait": round(outcome.wait / max(outcome.seconds, 1e-9), 4),
                  "final_loss": outcome.losses[-1] if outcome.losses else None}
        found["verdict"] = str(outcome.verdict) if outcome.verdict else None
    folder.write("summary.json", json.dumps(found, indent=1))
