"""`check_method`: what every method must hold on every modality it claims, seen by running it on small generated data."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .contracts import Batch, Clean, Draws, NotApplicable, Source, find
from .encoder import Encoder
from .evaluation import knn
from .methods import Method
from .networks import Teacher
from .plan import Plan, make_plan
from .sources import open_source
from .sources.generated import generated
from .training import Outcome, RunFolder, Settings, fit
from .training.gloo import GlooPair

MODALITIES = ("image", "series", "table")
EXTRA = ("audio", "text", "points", "video", "volume")
"""Modalities that `make conformance` covers as well, and `make test` for a few methods: nothing in a method knows of them."""
BACKBONES: dict[str, dict[str, Any]] = {
    "image": {"backbone": "convnet", "backbone.widths": (16, 32), "views.scale": (0.6, 1.0)},
    "series": {"backbone": "convnet", "backbone.widths": (16, 32)},
    "table": {"backbone": "mlp"},
    "text": {"backbone": "text_transformer", "backbone.width": 32, "backbone.heads": 2, "views.crop": (0.3, 0.6)},
    "audio": {"backbone": "convnet", "backbone.widths": (16, 32)},
    "points": {"backbone": "pointnet"},
    "video": {"backbone": "convnet", "backbone.widths": (16, 32), "views.scale": (0.6, 1.0)},
    "volume": {"backbone": "convnet", "backbone.widths": (16, 32), "views.scale": (0.6, 1.0)},
}
NARROW_HEAD = 128
NARROW = {"backbone.width": 32, "backbone.depth": 2, "backbone.heads": 2}
TOKENS: dict[str, dict[str, Any]] = {
    "image": {"backbone": "vit_tiny", "backbone.patch": 4, "views.scale": (0.6, 1.0), **NARROW},
    "series": {"backbone": "vit_tiny", "backbone.patch": 4, **NARROW},
    "table": {"backbone": "table_transformer", **NARROW},
    "text": {"backbone": "text_transformer", "views.crop": (0.3, 0.6), **NARROW},
    "audio": {"backbone": "vit_tiny", "backbone.patch": 16, **NARROW},
    "points": {"backbone": "point_transformer", **NARROW},
    "video": {"backbone": "vit_tiny", "backbone.patch": (2, 4, 4), "views.scale": (0.6, 1.0), **NARROW},
    "volume": {"backbone": "vit_tiny", "backbone.patch": 4, "views.scale": (0.6, 1.0), **NARROW},
}


# ---- generated data --------------------------------------------------------------------------------------------------


def source_of(modality: str, samples: int = 512, *, seed: int = 0) -> Source:
    """A generated source with its labels."""
    data, y = generated(modality, samples, seed=seed)
    source = open_source(data, modality=modality)
    source.labels, source.classes = y, [str(c) for c in range(int(y.max()) + 1)]
    source.facts = source.facts.with_(classes=len(source.classes))
    return source


# ---- one cell -----------------------------------------------------------------------------------------------------------


def draft(method: type[Method] | str, modality: str, source: Source, **overrides: Any) -> Plan:
    """The plan of a small run of the method on a modality; NotApplicable where its needs cannot be supplied there."""
    cls = find("method", method) if isinstance(method, str) else method
    backbone = TOKENS[modality] if cls.needs.backbone else BACKBONES[modality]
    plan = make_plan(source, {"method": cls, "batch_size": 64, "steps": 4, "precision": "32-true", "num_workers": 0, "device": "cpu",
                              "log_every": 1, "checkpoint_every": 1000, **backbone, **overrides})
    plan.stream(source)  # a need that the modality lacks is refused here
    plan.build_method()  # and here what does not suit the data
    return plan


def narrow(cls: type[Method]) -> dict[str, Any]:
    """Options that keep a method's heads narrow, for checks of arithmetic rather than of learning."""
    known = {**cls.options(), **cls.small}
    return {f"method.{n}": min(known[n], NARROW_HEAD) for n in ("hidden", "width") if isinstance(known.get(n), int)}


def shuffled(views: Callable[[Batch, Draws], list], labels: np.ndarray | None) -> Callable[[Batch, Draws], list]:
    """The broken control: views of different items are paired, targets belong to other items, and the transformation that is to be
    told is another view's, anew every step."""

    def broken(batch: Batch, draws: Draws) -> list:
        seen = views(batch, draws)
        for i, view in enumerate(seen[1:]):
            order = torch.argsort(draws.uniform(f"shuffle{i}"))
            view.x = view.x[order]
            view.lengths = None if view.lengths is None else view.lengths[order]
        order = torch.argsort(draws.uniform("targets"))
        batch.index = batch.index[order]
        batch.y = None if batch.y is None else batch.y[order]
        told = [view for view in seen if "class" in view.applied]
        if told:
            classes = torch.cat([view.applied["class"] for view in told])
            order = torch.argsort(draws.uniform("classes", len(told)).T.flatten())
            for view, moved in zip(told, classes[order].chunk(len(told)), strict=True):
                view.applied["class"] = moved
        return seen

    return broken


def train(plan: Plan, source: Source, *, folder: Path | None = None, broken: bool = False, **changes: Any) -> tuple[Method, Outcome]:
    """One run of the plan; `changes` go to Settings."""
    stream, method = plan.stream(source), plan.build_method()
    if broken:
        stream.views = shuffled(stream.views, source.labels)
        if hasattr(method, "targets"):  # masked and latent prediction: what is to be predicted is another item's
            own = method.targets
            method.targets = lambda view: own(view).roll(1, 0)
    settings = Settings(**{**vars(plan.settings(progress=False)), **changes})
    opened = RunFolder(folder) if folder else None
    if opened:
        opened.open(resume=True)
    try:
        return method, fit(method, stream, plan.training(), settings, folder=opened)
    finally:
        if opened:
            opened.close()


def score(plan: Plan, method: Method, train_source: Source, test_source: Source, *, estimate: bool = False) -> float:
    """k-NN accuracy (k = 20) of the kept encoder; `estimate` sets BatchNorm statistics first (an untrained encoder)."""
    encoder = Encoder(copy.deepcopy(method.kept()), plan.preprocessing)
    if estimate:
        settle(encoder, train_source)
    return knn(encoder.embed(train_source), train_source.labels, encoder.embed(test_source), test_source.labels, k=20).value


def settle(encoder: Encoder, source: Source, *, items: int = 2048) -> None:
    """BatchNorm statistics of an untrained encoder, estimated on (at most `items` of) the data, as every table does."""
    from .protocols import estimate_statistics

    estimate_statistics(encoder, source, items=items)


# ---- the checks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One thing that was seen: holds is None where it does not apply, with the reason in `seen`."""

    method: str
    modality: str
    name: str
    holds: bool | None
    seen: str = ""


def check_method(method: type[Method] | str, *, modalities: tuple[str, ...] | None = None, learns: bool | str = True,
                 two_processes: bool = True, steps: int = 200, options: dict[str, Any] | None = None) -> list[Check]:
    """Checks a method on every modality it claims (its `modalities` attribute, else all).

    learns: True (on the first modality that applies), 'every', or False; `steps` and `options` (dotted keys of a plan) are what it
    gets for that. two_processes: train on two gloo processes as well.
    Returns all checks; raises AssertionError with a line for each that does not hold, and where `learns` was asked of a method that
    applies nowhere.
    """
    cls = find("method", method) if isinstance(method, str) else method
    found: list[Check] = []
    learned = False
    for modality in modalities or getattr(cls, "modalities", MODALITIES):
        source = source_of(modality, 256)
        try:
            plan = draft(cls, modality, source, **narrow(cls))
        except NotApplicable as reason:
            found.append(Check(cls.name, modality, "applies", None, str(reason)))
            continue
        found += [Check(cls.name, modality, *result) for result in _cell(cls, modality, plan, source, two_processes)]
        if learns == "every" or (learns and not learned):
            learned = True
            found.append(Check(cls.name, modality, *learning(cls, modality, steps=steps, **(options or {}))))
    if learns and not learned:
        found.append(Check(cls.name, "every modality asked", "learns", False, "it applies to none"))
    failed = [f"{c.method} on {c.modality}: {c.name}: {c.seen}" for c in found if c.holds is False]
    if failed:
        raise AssertionError("\n".join(failed))
    return found


def _cell(cls: type[Method], modality: str, plan: Plan, source: Source, two: bool) -> list[tuple[str, bool | None, str]]:
    results = [_gradients(plan, source), _teachers(plan, source), _own_draws(plan, source), _resumes(plan, source),
               _round_trips(plan, source)]
    if two:
        results.append(_two_processes(cls, modality, source))
    return results


def _one_loss(plan: Plan, source: Source) -> tuple[Method, list, Batch]:
    method, stream = plan.build_method(), plan.stream(source)
    batch = next(stream.batches(0, 1, rank=0, world=1, accumulate=1))
    views = stream.views(batch, batch.draws(0, "train"))
    out = method(views, batch)
    getattr(out, "total", out).backward()
    return method, views, batch


def _gradients(plan: Plan, source: Source) -> tuple[str, bool, str]:
    method, _, _ = _one_loss(plan, source)
    bad = []
    for name, p in method.named_parameters():
        if p.requires_grad and (p.grad is None or not torch.isfinite(p.grad).all()):
            bad.append(f"{name} has {'no' if p.grad is None else 'a non-finite'} gradient")
    grads = [p.grad for p in method.parameters() if p.grad is not None]
    if not bad and not any(bool(g.abs().max() > 0) for g in grads):
        bad.append("every gradient is zero")
    return "gradients finite and non-zero", not bad, "; ".join(bad[:3])


def _teachers(plan: Plan, source: Source) -> tuple[str, bool | None, str]:
    method, _, _ = _one_loss(plan, source)
    teachers = [m for m in method.modules() if isinstance(m, Teacher)]
    if not teachers:
        return "no gradient reaches a teacher", None, "it has no teacher"
    reached = [n for t in teachers for n, p in t.named_parameters() if p.requires_grad or p.grad is not None]
    return "no gradient reaches a teacher", not reached, ", ".join(reached[:3])


def _own_draws(plan: Plan, source: Source) -> tuple[str, bool | None, str]:
    """The same item in every row of a batch: in at least one view, the rows must be seen differently."""
    if isinstance(plan.need, Clean):
        return "a draw of its own for every sample", None, "it asks for no randomness"
    stream, slots = plan.stream(source), np.arange(16)
    batch = next(iter(stream.reader.batches([(slots, np.zeros_like(slots), np.zeros_like(slots))])))
    different = [len(torch.unique(torch.nan_to_num(v.x).flatten(1), dim=0)) for v in stream.views(batch, batch.draws(0, "train"))]
    return "a draw of its own for every sample", max(different) > 12, f"of 16 rows, {different} differ in each view"


def _resumes(plan: Plan, source: Source) -> tuple[str, bool, str]:
    """Six steps at once, and three, a new process's state, and three more: the same losses to the bit."""
    place = Path(tempfile.mkdtemp())
    try:
        whole = train(plan, source, steps=6)[1].losses
        first = train(plan, source, steps=6, stop_after=3, folder=place)[1].losses
        rest = train(plan, source, steps=6, folder=place)[1].losses
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return "resume equals uninterrupted", whole == first + rest, f"{whole} against {first + rest}"


def _round_trips(plan: Plan, source: Source) -> tuple[str, bool, str]:
    """The kept encoder, saved and loaded, embeds the same."""
    method, _ = train(plan, source, steps=2)
    encoder = Encoder(method.kept(), plan.preprocessing, backbone_name=plan["backbone"], backbone_options=plan.nested["backbone"])
    place = Path(tempfile.mkdtemp())
    try:
        again = Encoder.load(encoder.save(place / "encoder"))
        difference = float(np.abs(again.embed(source) - encoder.embed(source)).max())
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return "parameters round-trip", difference == 0.0, f"embeddings differ by {difference:.2g}"


def _two_processes(cls: type[Method], modality: str, source: Source) -> tuple[str, bool, str]:
    alone = _train_double(cls, modality, 1)
    pair = GlooPair.shared().run(_train_double, cls, modality, 2)
    worst, where = 0.0, ""
    for name, value in alone.items():
        difference = float((value.double() - pair[name].double()).abs().max()) if value.numel() else 0.0
        if not difference <= worst:
            worst, where = difference, name
    return "two processes equal one", worst <= 1e-9, f"{where} differs by {worst:.2g}"


def _train_double(cls: type[Method], modality: str, devices: int) -> dict[str, torch.Tensor]:
    """State after three steps in float64 without dropout."""
    source = source_of(modality, 256)
    plan = draft(cls, modality, source, **narrow(cls))
    stream, method = plan.stream(source), plan.build_method()
    for module in method.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    settings = Settings(**{**vars(plan.settings(progress=False)), "steps": 3, "precision": "64-true", "devices": devices})
    fit(method, stream, plan.training(), settings)
    return {k: v.detach().clone() for k, v in method.state_dict().items()}


def learning(cls: type[Method], modality: str, *, steps: int = 200, margin: float = 0.05, **options: Any) -> tuple[str, bool, str]:
    """Beats its random initialisation and the same run with pairs or targets shuffled anew every step, in k-NN accuracy; where a
    method sees items clean and alone there is nothing to shuffle."""
    reference, test = source_of(modality, 768), source_of(modality, 384, seed=1)
    plan = draft(cls, modality, reference, steps=steps, lr=8e-3, **options)
    start = score(plan, plan.build_method(), reference, test, estimate=True)
    trained = score(plan, train(plan, reference)[0], reference, test)
    if isinstance(plan.need, Clean):
        return "learns", trained >= start + margin, f"k-NN {trained:.3f}; random initialisation {start:.3f}"
    control = score(plan, train(plan, reference, broken=True, stop_on_collapse=False)[0], reference, test)
    better = trained >= start + margin and trained >= control + margin
    return "learns", better, f"k-NN {trained:.3f}; random initialisation {start:.3f}; shuffled {control:.3f}"
