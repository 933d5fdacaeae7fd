"""From facts of the data to every decision of a run, each with who took it and why; and from the decisions to what `fit` takes."""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from .contracts import (
    GROUPS,
    KEYS,
    Clean,
    DataError,
    Facts,
    Need,
    NotApplicable,
    OptionError,
    Schedule,
    Source,
    Training,
    find,
    fit_keywords,
    fit_option,
    fit_type,
    hash_key,
    nearest,
    parse,
    split_dotted,
    training_with,
)
from .methods import Method
from .modalities import Preprocessing, find_modality
from .modalities.base import innermost
from .sources import Loader, Quarantine
from .training import Settings, Stream, as_json, duration, native_bfloat16, resolve_device
from .training.optimisers import OPTIMISERS, SCHEDULES, peak_rate


@dataclass(frozen=True)
class Choice:
    """One decision: by 'user', 'recipe' (the method's paper) or 'plan'."""

    value: Any
    by: str
    reason: str


@dataclass
class Plan:
    """All decisions of a run. `choices`: key → Choice; `nested`: method, training, views, backbone → option → value."""

    method: type[Method]
    choices: dict[str, Choice]
    nested: dict[str, dict[str, Any]]
    preprocessing: Preprocessing
    facts: Facts
    module: nn.Module | None = None

    def __getitem__(self, key: str) -> Any:
        return self.choices[key].value

    def lines(self) -> list[str]:
        """The plan as a person reads it: what was found, then a line a decision."""
        found = f"{self.facts.samples:,} items of {self.facts.modality}, each {' × '.join(map(str, self.facts.shape))}"
        lines = [f"data         {found}", *(f"             note: {note}" for note in self.facts.notes)]
        for key, choice in self.choices.items():
            if choice.reason and "." not in key:
                who = "" if choice.by == "plan" else f" [{choice.by}]"
                lines.append(f"{key:<12} {_shown(choice.value)}{who}: {choice.reason}")
        for group, options in self.nested.items():
            lines += [f"{group}.{name:<{max(1, 11 - len(group))}} {_shown(value)}: {self._why(group, name)}"
                      for name, value in options.items()]
        return lines

    def _why(self, group: str, name: str) -> str:
        known = self.choices.get(f"{group}.{name}")
        return known.reason if known else "asked for"

    def to_json(self) -> dict[str, Any]:
        """For run.yaml, from which `recorded` reads it again."""
        described = {k: {"value": as_json(c.value), "by": c.by, "reason": c.reason} for k, c in self.choices.items()}
        for group, options in self.nested.items():
            for name, value in options.items():
                by = self.choices.get(f"{group}.{name}", Choice(None, "user", "asked for")).by
                described[f"{group}.{name}"] = {"value": as_json(value), "by": by, "reason": self._why(group, name)}
        return described

    # ---- what `fit` takes --------------------------------------------------------------------------------------------

    def training(self) -> Training:
        wanted = dict(self.nested["training"])
        if self["lr"] is not None:
            wanted["lr"] = self["lr"]
        return training_with(self.method.defaults, wanted)

    def settings(self, *, progress: bool = True) -> Settings:
        keys = {f.name for f in fields(Settings)} & set(self.choices)
        return Settings(**{k: self[k] for k in keys}, channels_last=self.channels_last, progress=progress)

    @property
    def channels_last(self) -> bool:
        return len(self.facts.shape) == 3

    def build_method(self, initialise: Callable[[nn.Module], None] | None = None) -> Method:
        """The method with its networks, weights drawn from the seed alone; `initialise(backbone)` may load others first."""
        torch.manual_seed(hash_key(self["seed"], "weights"))
        backbone = self.build_backbone()
        if initialise is not None:
            initialise(backbone)
        return self.method.build(backbone, self.facts.with_(steps=self["steps"]), **self.nested["method"])

    @property
    def need(self) -> Need:
        return self.method.needed(self.nested["method"])

    def build_backbone(self) -> nn.Module:
        """The backbone as it is before training; NotApplicable where it lacks an ability that the method needs."""
        spec = self["backbone"] if self.module is None else self.module
        backbone = find_modality(self.facts.modality).backbone(self.facts, spec, **self.nested["backbone"])
        lacking = sorted(self.need.backbone - backbone.abilities)
        if lacking:
            raise NotApplicable(f"The method {self.method.name or self.method.__name__} needs a backbone that has "
                                f"{' and '.join(ABILITIES[a] for a in lacking)}, and {self['backbone']} is none: use "
                                f"{find_modality(self.facts.modality).token_backbone}.")
        return backbone

    def stream(self, source: Source, *, quarantine: Quarantine | None = None, name: str = "train") -> Stream:
        """The source as the engine reads it: batches through a Loader, views by the modality."""
        modality = find_modality(self.facts.modality)
        modality.configure(source, self.preprocessing)
        loader = Loader(source, lambda items: modality.collate(items, self.preprocessing), seed=self["seed"], stream=name,
                        num_workers=self["num_workers"], max_bad=self["max_bad"], quarantine=quarantine or Quarantine(),
                        labelled=self.method.labelled)
        views = modality.views(self.need, self.preprocessing, **self.nested["views"])
        if self.need.mask is not None:
            backbone = self.build_backbone()
            if math.prod(backbone.grid(self.facts.shape)) == 1 and self.need.mask.ratio[1]:
                raise OptionError("The backbone sees an item as a single token, of which nothing can be hidden: choose one with smaller "
                                  "patches or more groups, or a method without masks.")
            views = modality.hide(views, self.need.mask, backbone.grid)
            if self.module is None:
                backbone.to("meta")  # its grid alone is wanted
        clean = modality.views(Clean(), self.preprocessing)
        return Stream(loader, views, self["batch_size"], len(source), self["seed"], name, clean=clean)


ABILITIES = {"tokens": "tokens", "keep": "an encoder of some tokens only", "layers": "outputs of its blocks",
             "mask_tokens": "places for mask tokens"}

LARGE = 20_000_000  # parameters from which a module of the user's own gets the paper's recipe; a ResNet-50 has 23.5 million

MOST_STEPS = 10**12
"""Thirty years of milliseconds; what is counted per step stays far within 64 bits."""


def _why_small(method: type[Method], group: str, name: str) -> str:
    known = {"method": method.options(), "training": vars(method.defaults)}.get(group, {})
    paper = "" if known.get(name) is None else f"; the paper has {_shown(known[name])}"
    return f"the recipe for small networks and short runs{paper}"


def _shown(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else f"{value:g}" if isinstance(value, float) else str(value)


def make_plan(source: Source, overrides: dict[str, Any], *, preprocessing: Preprocessing | None = None) -> Plan:
    """Decides everything that `overrides` (keys and dotted keys) leaves open. Reads at most a sample of the data, nothing where
    the `preprocessing` of an earlier run is given."""
    return Planner(source, overrides, preprocessing).plan()


class Planner:
    """Takes the decisions one after another, each from the facts and the ones before."""

    def __init__(self, source: Source, overrides: dict[str, Any], preprocessing: Preprocessing | None = None):
        self.preprocessing, self.resumed = preprocessing, preprocessing is not None
        overrides = {k: parse(v) for k, v in overrides.items()}
        self.module = overrides["backbone"] if isinstance(overrides.get("backbone"), nn.Module) else None
        self.given, self.nested = split_dotted(overrides, KEYS, GROUPS)
        self.source, self.choices = source, {}
        if len(source) < 2:
            raise DataError(f"There is {len(source)} item; learning from comparisons needs at least 2.")

    def choose(self, key: str, default: Any, reason: str, by: str = "plan") -> Any:
        """The user's value for `key`, or `default` with its reason."""
        if key in self.given:
            like = KEYS[key][0] if KEYS[key][0] is not None else default
            value = self.given[key]
            if not isinstance(value, (type, nn.Module)):
                value = fit_type(key, value, like)
            self.choices[key] = Choice(value, "user", "asked for")
        else:
            self.choices[key] = Choice(default, by, reason)
        return self.choices[key].value

    def plan(self) -> Plan:
        modality = find_modality(self.source.modality)
        if not self.resumed:
            resolution = self.given.get("resolution")
            if resolution is not None and not (isinstance(resolution, int) and resolution >= 4):
                raise OptionError(f"resolution={resolution!r} does not fit: expected a whole number of at least 4.")
            self.preprocessing = modality.prepare(self.source, resolution=resolution, **modality.settings(self.nested["input"]))
        self.facts = self.preprocessing.facts
        method = self._method()
        self.choose("seed", 0, "")
        seen, there = (modality.resolution(facts.shape) for facts in (self.facts, self.source.facts))
        self.choose("resolution", seen if len(self.facts.shape) > 1 or self.facts.vocabulary else None,
                    "" if len(self.facts.shape) < 2 else "what the data holds" if there <= seen
                    else "enough for content" if len(self.source.facts.shape) != len(self.facts.shape)  # seconds of sound, bands by frames
                    else f"enough for content; the items are about {there}")
        self._backbone(modality, method)
        if self.module is None and ":" not in self["backbone"]:
            self.nested["backbone"] = fit_keywords("backbone", find("backbone", self["backbone"]), self.nested["backbone"])
        self._sizes(method)
        self._machine()
        self._length(method)
        return Plan(method, self.choices, self.nested, self.preprocessing, self.facts, self.module)

    def _method(self) -> type[Method]:
        wanted = self.choose("method", "simclr", "comparing two views is the most even over images, series and tables in short runs")
        method = find("method", wanted) if isinstance(wanted, str) else wanted
        if not (isinstance(method, type) and issubclass(method, Method)):
            raise OptionError(f"method={wanted!r} is neither a name nor a Method class.")
        if method is wanted:
            self.choices["method"] = Choice(as_json(wanted), "user", "asked for")
        if method.labelled and self.source.labels is None:
            raise OptionError(f"method={as_json(method)} learns from labels, and no target was named; pass --target NAME.")
        known = method.options()
        for name in self.nested["method"]:
            if name not in known:
                raise nearest(name, known, what=f"option of method {as_json(method)}")
        self.nested["method"] = {n: v if isinstance(known[n], Schedule) else fit_option(f"method.{n}", v, known[n])
                                 for n, v in self.nested["method"].items()}
        training = self._training(method)
        for name, there_are in (("optimizer", OPTIMISERS), ("schedule", SCHEDULES)):
            if (value := getattr(training, name)) not in there_are:
                raise nearest(value, there_are, what=name)
        peak_rate(training, 256)  # refuses an unknown scale_lr
        return method

    def _backbone(self, modality: Any, method: type[Method]) -> None:
        facts = self.facts
        if self.module is not None:
            self.choices["backbone"] = Choice(type(self.module).__name__, "user", "a module of your own")
            return
        if method.needed(self.nested["method"]).backbone:
            self.choose("backbone", modality.token_backbone, f"{as_json(method)} needs tokens")
            return
        large = modality.deep_from is not None and facts.shape[-1] > modality.deep_from
        default = "resnet18" if large else modality.default_backbone
        why = f"{facts.shape[-1]} px need depth" if large else f"fast, and enough for small {facts.modality} data"
        self.choose("backbone", default, why)

    def _sizes(self, method: type[Method]) -> None:
        n = self.facts.samples
        batch = max(2, min(256, 1 << max(1, (n // 2).bit_length() - 1), n))
        self.choose("batch_size", batch, "256 suits most methods" if batch == 256 else f"{n} items give few larger batches")
        if not 1 <= self["batch_size"] <= n:
            raise OptionError(f"batch_size={self['batch_size']} does not fit: there are {n} items.")
        asked = set(self.nested["training"])
        own_optimiser = "optimizer" in asked
        if self.module is not None:
            wide = sum(p.numel() for p in self.module.parameters()) > LARGE
        else:
            wide = str(self["backbone"]).startswith(("resnet50", "vit_base", "timm:", "hf:"))
        for key, value in () if wide else method.small.items():
            group, _, name = key.rpartition(".")
            group = group or "method"
            if group == "backbone" and name not in inspect.signature(find("backbone", self["backbone"])).parameters:
                continue  # a backbone without that option is refused by its abilities
            if name == "lr" and "lr" in self.given or name in self.nested[group]:
                continue
            if group == "training" and own_optimiser and name in ("lr", "weight_decay"):
                continue  # the user's optimiser takes the user's or the paper's rates
            self.nested[group][name] = value
            self.choices[f"{group}.{name}"] = Choice(value, "recipe", _why_small(method, group, name))
        rate = fit_type("lr", self.nested["training"].pop("lr", method.defaults.lr), 1.0)
        self.choices.pop("training.lr", None)
        if "lr" in asked and self.given.setdefault("lr", rate) != rate:
            raise OptionError(f"lr={self.given['lr']} and training.lr={rate} are one setting: give one of them.")
        self.choose("lr", rate, f"the recipe's, with {self._training(method).optimizer}", by="recipe")
        if "warmup" in asked and not self.resumed and self._training(method).schedule == "constant":
            raise OptionError("training.warmup has no effect with training.schedule=constant: leave one of them out.")

    def _training(self, method: type[Method]) -> Training:
        return training_with(method.defaults, self.nested["training"])

    def _machine(self) -> None:
        device = resolve_device(self.choose("device", "auto", ""))
        self.choose("devices", 1, "")
        convolutional = len(self.facts.shape) == 3 and device != "mps"
        native = native_bfloat16(device)
        wanted = self.choose("precision", "auto", "")
        if wanted == "auto":
            mixed = native and convolutional
            why = ("this processor computes bf16 natively" if mixed else "small networks gain nothing from less" if native
                   else "this processor has no native bf16")
            self.choices["precision"] = Choice("bf16-mixed" if mixed else "32-true", "plan", why)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        idle = self.source.resident or not self.source.decodes
        self.choose("num_workers", 0 if idle else max(1, min(cores, 8)), "there is nothing to decode" if idle else f"{cores} cores decode")
        self.choose("max_bad", 0.01, "")
        for key in ("log_every", "stop_on_collapse", "track"):
            self.choose(key, KEYS[key][0], "")

    def __getitem__(self, key: str) -> Any:
        return self.choices[key].value

    def _length(self, method: type[Method]) -> None:
        each = max(self.facts.samples // self["batch_size"], 1)
        minutes = self.choose("minutes", 10.0, "")
        key = "steps" if "steps" in self.given else "epochs"
        if key == "steps":
            steps = self.choose("steps", 1, "")
        else:
            if "epochs" in self.given:
                epochs, why = 1, ""
            else:
                epochs, why = self._epochs(method, each, minutes)
            epochs = self.choose("epochs", epochs, why)
            steps = int(min(epochs * each, MOST_STEPS + 1))
            self.choices["steps"] = Choice(steps, "plan", f"{each} a pass")
        if steps < 1:
            raise OptionError(f"{key} must be at least 1.")
        if steps > MOST_STEPS:
            raise OptionError(f"{key}={self.given[key]!r} does not fit: a run has at most {MOST_STEPS:,} steps. Ask for fewer.")
        if key == "steps":
            self.choices["epochs"] = Choice(round(steps / each, 3), "plan", "")
        self.choose("checkpoint_every", max(25, min(1000, steps // 10)), "")
        self.choose("health_every", max(5, min(50, steps // 40)), "")

    def _epochs(self, method: type[Method], each: int, minutes: float) -> tuple[int, str]:
        most = max(200, -(-1000 // each))
        self.choices["steps"] = Choice(each, "plan", "")
        draft = Plan(method, self.choices, self.nested, self.preprocessing, self.facts, self.module)
        seconds, read = (each * part for part in seconds_a_step(draft, self.source))  # a pass
        first = max(seconds, read / self["num_workers"]) if self["num_workers"] else seconds + read
        remembers = getattr(innermost(self.source), "cache", None)
        later = seconds if remembers and remembers() else first
        fits = 1 + (minutes * 60 - first) / later
        if fits >= most:
            return most, f"enough passes to settle; about {duration(first + later * (most - 1))} here"
        epochs = max(int(fits), 1)
        spent = first + later * (epochs - 1)
        return epochs, f"about {duration(spent)} at {each * self['batch_size'] * epochs / spent:,.0f} items/s measured here"


def seconds_a_step(plan: Plan, source: Source, *, clock: Callable[[], float] = time.perf_counter) -> tuple[float, float]:
    """Times views, forward and backward on a few items (after one round to warm up), and by itself reading them, in one process; both
    scaled to the batch. Leaves nothing behind."""
    size = min(plan["batch_size"], 64)
    trial = replace(plan, choices={**plan.choices, "batch_size": Choice(size, "plan", ""), "num_workers": Choice(0, "plan", "")})
    device = torch.device(resolve_device(plan["device"]))
    method, stream = trial.build_method().to(device), trial.stream(source)
    if plan.channels_last:
        method.to(memory_format=torch.channels_last)
    began = clock()
    batch = next(iter(stream.batches(0, 1, rank=0, world=1, accumulate=1))).to(device)
    read = clock() - began if source.decodes and not source.resident else 0.0
    times = []
    for _ in range(3):
        began = clock()
        with torch.no_grad():
            views = stream.views(batch, batch.draws(0, "trial"))
        with torch.autocast(device.type, torch.bfloat16, enabled=plan["precision"] == "bf16-mixed"):
            out = method(views, batch)
        getattr(out, "total", out).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - began)
    return min(times[1:]) * plan["batch_size"] / size, read * plan["batch_size"] / size
