"""Label-free health of a run: ranks, spreads and scales of features and head outputs, read by hooks from the training forward.

A collapse shows in the head first. A verdict is a diagnosis and a remedy; it comes only when several checks in a row agree. Where
features collapse though no loss asks for it (`Method.grounded`: masked modelling first says the same of every item), it is a plateau:
said for as long as it lasts, and nothing is stopped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..contracts import Clock, Features
from ..measures import effective_rank, spread
from ..networks import Embedder, Teacher

MEASURES = ("rank", "spread", "scale")
PLACES = ("features", "head")


@dataclass(frozen=True)
class Verdict:
    """What is wrong, how it was seen, and what to do. `kind`: collapse, which stays, or plateau, which may pass."""

    kind: str
    diagnosis: str
    remedy: str
    step: int

    def __str__(self) -> str:
        return f"{self.diagnosis} {self.remedy}"


class Health:
    """Watches the student's embedders. `every` steps it measures up to `rows` rows; no second forward, no synchronisation until
    the engine reads its numbers with the rest of the log.

    Collapsed means: in `patience` checks in a row, after the first twentieth of the run or 200 steps, either the spread of the
    l2-normalised outputs (1 = isotropic, 0 = all equal) lies below `least_spread` and below a tenth of what it was at the first
    step, or their effective rank likewise below `least_rank` (all on one line), or their raw scale has shrunk below `least_scale` of the
    first step's.
    """

    def __init__(self, method: nn.Module, *, every: int, rows: int = 512, patience: int = 3, least_spread: float = 0.07,
                 least_scale: float = 0.05, least_rank: float = 2.0):
        self.every, self.rows, self.patience = max(1, every), rows, patience
        self.least_spread, self.least_scale, self.least_rank = least_spread, least_scale, least_rank
        self.first: dict[str, float] = {}
        self.strikes = 0
        self.grounded: bool = getattr(method, "grounded", False)
        self.verdict: Verdict | None = None
        self._armed = False
        self._seen: dict[str, Tensor] = {}
        self._handles = []
        taught = {id(m) for t in method.modules() if isinstance(t, Teacher) for m in t.modules()}
        for module in method.modules():
            if isinstance(module, Embedder) and id(module) not in taught:
                self._handles.append(module.backbone.register_forward_hook(self._hook("features")))
                self._handles.append(module.head.register_forward_hook(self._hook("head")))

    def _hook(self, place: str):
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if self._armed and place not in self._seen:
                value = output.pooled if isinstance(output, Features) else output
                if isinstance(value, Tensor) and value.ndim == 2:
                    self._seen[place] = value.detach()[: self.rows]
        return keep

    def due(self, step: int) -> bool:
        return step % self.every == 0

    def arm(self, on: bool) -> None:
        self._armed = on
        if on:
            self._seen = {}

    @torch.no_grad()
    def measure(self) -> tuple[list[str], Tensor | None]:
        """Names and a stacked tensor of what the armed forward showed; still on the device."""
        names, values = [], []
        for place, seen in self._seen.items():
            if len(seen) < 2:
                continue  # one row has neither rank nor spread
            z = seen.float()
            names += [f"{place}_{m}" for m in MEASURES]
            # no more rows than dims are needed to see a collapse, and the spectrum of a wide head would cost more than the step
            narrow = z if z.shape[1] <= 1024 else z[:, :: math.ceil(z.shape[1] / 1024)]
            values += [effective_rank(narrow).float(), spread(z).float(), z.std(0).mean()]
        self._seen = {}
        return names, torch.stack(values) if values else None

    def judge(self, step: int, numbers: dict[str, float], clock: Clock) -> Verdict | None:
        """Takes the numbers of one step; the verdict that stands then, from when `patience` checks in a row show the same collapse.

        Only steps that were checked count; a method's own terms never do, whatever they are called."""
        numbers = {k: numbers[k] for place in PLACES for m in MEASURES if (k := f"{place}_{m}") in numbers}
        if not numbers:
            return self.verdict
        for key, value in numbers.items():
            self.first.setdefault(key, value)
        if step < min(max(0.05 * clock.steps, 2 * self.every), 200):
            return self.verdict
        sick = [text for place in ("head", "features") if (text := self._sick(place, numbers))]
        self.strikes = self.strikes + 1 if sick else 0
        if self.verdict is None or self.verdict.kind != "collapse":
            self.verdict = self._verdict(sick[0], step) if self.strikes >= self.patience else None
        return self.verdict

    def _verdict(self, seen: str, step: int) -> Verdict:
        if self.grounded:
            return Verdict("plateau", f"The network does not tell items apart yet: {seen} (step {step}).",
                           "Train longer, or try another learning rate.", step)
        return Verdict("collapse", f"The representation has collapsed: {seen} (step {step}).",
                       "Check that the method's guards against collapse are on (variance and covariance weights, predictor, teacher, "
                       "centring), lower the learning rate, or raise the batch size.", step)

    def _sick(self, place: str, numbers: dict[str, float]) -> str | None:
        now, then = numbers.get(f"{place}_spread"), self.first.get(f"{place}_spread")
        if now is None or then is None:
            return None
        where = "the head's outputs" if place == "head" else "the features"
        if now < self.least_spread and now < 0.1 * max(then, self.least_spread):
            return f"{where} of different items point the same way (spread {now:.2g}, {then:.2g} at the start; 1 is even)"
        rank, rank_then = numbers[f"{place}_rank"], self.first[f"{place}_rank"]
        if rank < self.least_rank and rank < 0.1 * rank_then:
            return f"{where} of all items lie on a line (effective rank {rank:.2g}, {rank_then:.2g} at the start)"
        scale, scale_then = numbers[f"{place}_scale"], self.first[f"{place}_scale"]
        if scale < self.least_scale * scale_then:
            return f"{where} have shrunk to a point (standard deviation {scale:.2g}, {scale_then:.2g} at the start)"
        return None

    def state(self) -> dict[str, Any]:
        return {"first": self.first, "strikes": self.strikes}

    def restore(self, state: dict[str, Any]) -> None:
        self.first, self.strikes = dict(state["first"]), int(state["strikes"])

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
