"""What a method is: networks and an objective, wired as the paper has them, defined once for every modality."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from ..contracts import Batch, Clock, Draws, Facts, Need, Pair, Schedule, Terms, Training, View, value_at
from ..networks import Memory

MASK_OPTIONS = {"mask": "kind", "masked": "ratio", "masks": "count", "size": "size"}


def with_mask(needs: Need, options: Mapping[str, Any]) -> Need:
    """`needs` with the mask that a method's options name: `mask` (its kind), `masked` (the part), `masks` (how many) and `size`."""
    wanted = {MASK_OPTIONS[name]: value for name, value in options.items() if name in MASK_OPTIONS}
    if "ratio" in wanted:
        part = wanted["ratio"]
        wanted["ratio"] = tuple(part) if isinstance(part, (tuple, list)) else (part, part)
    return replace(needs, mask=replace(needs.mask, **wanted))


class Method(nn.Module):
    """Base of all methods. A subclass sets `needs` and `defaults`, builds its networks in `__init__` and writes `loss`.

    needs: the views and backbone abilities it asks for. defaults: the paper's optimisation. small: overrides for a short run on
    a small network, by the plan's dotted keys without the `method.` (`{"hidden": 512, "training.optimizer": "adamw"}`): what
    the paper's sizes cost beyond any use there. A constructor parameter named `facts` receives the data's Facts. `clock` is
    set by the engine before every step. `labelled`: True where `loss` reads `batch.y`. `grounded`: True where the loss predicts what
    comes with the data (values, places, turns, labels), so that constant features are no solution but a stage that it may pass;
    `__init__` sets it where options decide.
    """

    name: ClassVar[str] = ""
    needs: ClassVar[Need] = Pair()
    defaults: ClassVar[Training] = Training()
    small: ClassVar[dict[str, Any]] = {}
    labelled: ClassVar[bool] = False
    grounded: ClassVar[bool] = False
    clock: Clock = Clock()

    def loss(self, views: list[View], batch: Batch) -> Tensor | Terms:
        """A scalar, or Terms. With several streams both arguments are dicts by stream name."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def forward(self, views: list[View], batch: Batch) -> Tensor | Terms:
        return self.loss(views, batch)

    def at(self, schedule: Schedule | float) -> float:
        """The present value of a schedule."""
        return value_at(schedule, self.clock)

    def draws(self, batch: Batch) -> Draws:
        """The method's own random numbers for the items of a batch, by the run's seed."""
        return batch.draws(self.clock.seed, self.name, step=self.clock.step)

    def after_step(self) -> None:
        """Called after every optimiser step (to renormalise prototypes, say). Memories commit by themselves."""

    def between_epochs(self, passes: Any) -> Iterable[nn.Parameter] | None:
        """Called before every epoch. `passes()` streams (index, Features) of the training data, clean, through the kept encoder in
        evaluation mode; what is found belongs in buffers, so that it is in the checkpoint. Returns the parameters that were drawn
        anew, if any: the optimiser forgets what it knew of them."""

    def order(self, epoch: int, order: np.ndarray) -> np.ndarray:
        """The order (int64 [N], places in the source) in which an epoch visits the items, from the hashed one; at least as many
        as the epoch's batches need. Asked for after `between_epochs`; to resume exactly it must follow from buffers alone."""
        return order

    def kept(self) -> nn.Module:
        """The backbone that survives training: the student's unless the method says otherwise."""
        return self.student.backbone

    def memories(self) -> Iterator[Memory]:
        """Teachers, queues, centres: read in `loss`, committed by the engine after the step."""
        return (m for m in self.modules() if isinstance(m, Memory))

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Need:
        """What a method with these constructor options needs: `needs`, with the mask that they name where there is one; a subclass says
        what else bears on it."""
        return cls.needs if cls.needs.mask is None else with_mask(cls.needs, options)

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Name → default of every constructor option that a user may set (`method.NAME=value`)."""
        found = {}
        for name, p in inspect.signature(cls.__init__).parameters.items():
            if p.kind is inspect.Parameter.KEYWORD_ONLY and name != "facts":
                found[name] = p.default
        return found

    @classmethod
    def build(cls, backbone: nn.Module, facts: Facts, **options: Any) -> Method:
        """Constructs the method, handing on `facts` where the constructor asks for it."""
        if "facts" in inspect.signature(cls.__init__).parameters:
            options["facts"] = facts
        return cls(backbone, **options)
