"""The engine: one loop for every method, modality and number of processes. Resumes to the bit; stops with a sentence."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..contracts import Batch, Clock, Collapsed, NonFinite, Terms, Training, View, epoch_order, hash_key
from ..methods import Method
from .checkpoint import load_checkpoint, save_checkpoint
from .folder import RunFolder
from .health import Health, Verdict
from .heap import steady_heap
from .hook import between_epochs
from .launch import Place, launch
from .optimisers import build_optimiser, drop_frozen, parameter_groups, peak_rate, rate_schedule, set_rates
from .progress import Progress
from .signals import Interruption
from .stream import Stream
from .track import Tracker


@dataclass(frozen=True)
class Settings:
    """How a fit is carried out; nothing here changes what is learned but `seed`, `steps` and `precision`.

    steps: optimiser steps. precision: a Fabric precision ('32-true', 'bf16-mixed', '64-true'). device: auto, cpu, cuda, cuda:1.
    devices: processes. log_every, checkpoint_every, health_every: steps. stop_after: leaves after so many steps of the
    schedule, checkpointed (for tests of resuming and time-sliced work).
    """

    steps: int
    seed: int = 0
    precision: str = "32-true"
    device: str = "auto"
    devices: int = 1
    channels_last: bool = False
    log_every: int = 10
    checkpoint_every: int = 200
    health_every: int = 25
    stop_on_collapse: bool = True
    progress: bool = True
    track: str | None = None
    stop_after: int | None = None


@dataclass
class Outcome:
    """What a run did, in all processes it took one after another. seconds: of training, `earlier` of them before the last resume.
    wait: seconds spent waiting for data. verdict: of the health monitor, None when healthy. losses: since the last resume."""

    steps: int = 0
    seconds: float = 0.0
    samples: int = 0
    wait: float = 0.0
    earlier: float = 0.0
    verdict: Verdict | None = None
    losses: list[float] = field(default_factory=list)

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds if self.seconds else 0.0


def fit(method: Method, streams: Stream | dict[str, Stream], training: Training, settings: Settings, *,
        folder: RunFolder | None = None, place: Place | None = None) -> Outcome:
    """Trains `method` in place on one or several named streams (the first defines the epoch, the others cycle).

    With `folder`, writes metrics and checkpoints there and resumes from its newest checkpoint; the folder must be open.
    Raises Collapsed, NonFinite or Interrupted (with a checkpoint saved), or whatever sentence a stream raises.
    """
    engine = Engine(method, streams, training, settings, folder, place or launch(settings))
    try:
        with Interruption() as interruption, steady_heap(engine.place.device.type == "cpu"):
            return engine.run(interruption)
    finally:
        engine.close()


class Engine:
    """The state of one fit; `run` is the loop."""

    def __init__(self, method: Method, streams: Stream | dict[str, Stream], training: Training, settings: Settings,
                 folder: RunFolder | None, place: Place):
        self.method, self.training, self.settings, self.folder, self.place = method, training, settings, folder, place
        self.streams = streams if isinstance(streams, dict) else {streams.name: streams}
        self.single = not isinstance(streams, dict)
        self.main = next(iter(self.streams.values()))
        for stream in self.streams.values():
            place.check_divides(stream.batch_size, training.accumulate, stream.name)
        self.model = place.setup(method, channels_last=settings.channels_last)
        self.optimiser = build_optimiser(method, training)
        self.stepper = place.fabric.setup_optimizers(self.optimiser)
        self.trained = [p for g in parameter_groups(method, training) for p in g["params"]]
        self.memories = list(method.memories())
        self.peak = peak_rate(training, self.main.batch_size)
        self.health = Health(method, every=settings.health_every)
        self.tracker = Tracker(settings.track if place.leads else None, folder)
        self.pending: list[tuple[int, dict[str, float], list[str], Tensor]] = []
        self.outcome = Outcome()
        self.start, self.saved = 0, None
        self._resume()
        self.order = self.main.order
        if type(method).order is not Method.order:
            self.main.reorder(lambda epoch: method.order(epoch, epoch_order(self.main.seed, self.main.name, epoch, self.main.size)))

    def clock(self, step: int) -> Clock:
        each = self.main.steps_per_epoch
        return Clock(step, self.settings.steps, step // each, -(-self.settings.steps // each), each, self.settings.seed)

    # ---- the loop -------------------------------------------------------------------------------------------------

    def run(self, interruption: Interruption) -> Outcome:
        steps, each = self.settings.steps, self.main.steps_per_epoch
        last = max(self.start, min(steps, self.settings.stop_after or steps))
        rate = rate_schedule(self.training, self.peak, self.clock(0))
        progress = Progress(steps, start=self.start, shown=self.settings.progress and self.place.leads)
        readers = {name: s.batches(self.start, steps, **self._slice()) for name, s in self.streams.items() if s is not self.main}
        self._stop_if_sick(None, self.start)  # a run that had collapsed stays so
        self.method.train()
        began = time.perf_counter() - self.outcome.earlier
        for first in self._epochs(self.start, last, each):
            until = min((first // each + 1) * each, last)
            if first % each == 0:
                for renewed in between_epochs(self.method, self.clock(first), self.main, self.place):
                    self.optimiser.state.pop(renewed, None)
            readers[self.main.name] = self.main.batches(first, until, **self._slice())
            for step in range(first, until):
                self._step(step, rate, readers)
                self.outcome.seconds = time.perf_counter() - began
                if (step + 1) % self.settings.log_every == 0 or step + 1 == last:
                    self._flush(progress, step + 1)
                asks = self.place.world == 1 or (step + 1) % self.settings.log_every == 0  # several wait for one another to ask
                stop = self.place.any(interruption.signal) if asks else None
                if stop or ((step + 1) % self.settings.checkpoint_every == 0 and step + 1 < last):
                    self._flush(progress, step + 1)
                    self._save(step + 1)
                if stop:
                    progress.close()
                    raise interruption.error(stop, self.saved, step + 1)
        self._save(last)
        progress.close()
        self.method.clock = self.clock(last)
        return self.outcome

    @staticmethod
    def _epochs(start: int, last: int, each: int) -> Iterator[int]:
        """First steps of the (rests of) epochs from `start` on, made as they come: there may be millions."""
        return itertools.chain(range(start, min(start + 1, last)), range((start // each + 1) * each, last, each))

    def _slice(self) -> dict[str, int]:
        return {"rank": self.place.rank, "world": self.place.world, "accumulate": self.training.accumulate}

    def _step(self, step: int, rate: Any, readers: dict[str, Any]) -> None:
        """One optimiser step; nothing in here waits for the device."""
        clock = self.method.clock = self.clock(step)
        lr = set_rates(self.optimiser, self.training, rate, clock, self.peak)
        due = self.health.due(step)
        parts: list[dict[str, Tensor]] = []
        for micro in range(self.training.accumulate):
            views, batch = self._read(readers, step)
            self.place.seed(hash_key(self.settings.seed, "forward", step * self.training.accumulate + micro, self.place.rank))
            self.health.arm(due and micro == 0)
            with self.place.fabric.no_backward_sync(self.model, enabled=micro + 1 < self.training.accumulate):
                out = self.place.forward(self.model, self.method, views, batch)
                total = out.total if isinstance(out, Terms) else out
                self.place.fabric.backward(total if self.training.accumulate == 1 else total / self.training.accumulate)
            parts.append({"loss": total.detach(), **(out.named if isinstance(out, Terms) else {})})
        drop_frozen(self.optimiser, clock)
        grads = [p.grad for p in self.trained if p.grad is not None]
        norm = self.clipped(grads) if due or self.training.clip else None
        self.stepper.step()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for memory in self.memories:
                memory.commit(clock)
            self.method.after_step()
        self._note(step, lr, parts, norm, due)

    def clipped(self, grads: list[Tensor]) -> Tensor:
        """The norm of all gradients, which are then shortened as the recipe says."""
        norms = torch._foreach_norm(grads)
        norm, most = torch.linalg.vector_norm(torch.stack(norms)), self.training.clip
        if most and self.training.clip_each:
            torch._foreach_mul_(grads, [(most / (n + 1e-6)).clamp(max=1.0) for n in norms])
        elif most:
            torch._foreach_mul_(grads, (most / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def _read(self, readers: dict[str, Any], step: int) -> tuple[Any, Any]:
        """The next batch of every stream on the device, and its views."""
        views: dict[str, list[View]] = {}
        batches: dict[str, Batch] = {}
        for name, stream in self.streams.items():
            began = time.perf_counter()
            batch = next(readers[name])
            self.outcome.wait += time.perf_counter() - began
            batches[name] = batch = batch.to(self.place.device)
            with torch.no_grad():
                views[name] = stream.views(batch, batch.draws(self.settings.seed, name, step=step))
            if self.settings.channels_last:
                for view in views[name]:
                    if isinstance(view.x, Tensor) and view.x.ndim == 4:
                        view.x = view.x.contiguous(memory_format=torch.channels_last)
        self.outcome.samples += self.main.batch_size // self.training.accumulate
        return (views[self.main.name], batches[self.main.name]) if self.single else (views, batches)

    # ---- what is written -------------------------------------------------------------------------------------------

    def _note(self, step: int, lr: float, parts: list[dict[str, Tensor]], norm: Tensor | None, due: bool) -> None:
        """Keeps the step's numbers on the device until the next flush."""
        names = list(parts[0])
        values = torch.stack([torch.stack([p[n].float() for p in parts]).mean() for n in names])
        if norm is not None:
            names, values = [*names, "gradient_norm"], torch.cat([values, norm.float().reshape(1)])
        if due:
            more, measured = self.health.measure()
            if measured is not None:
                names, values = [*names, *more], torch.cat([values, measured.to(values.device)])
        self.pending.append((step, {"lr": lr}, names, values))

    def _flush(self, progress: Progress, done: int) -> None:
        """The one place that waits for the device: writes the steps since the last flush, and judges them."""
        if not self.pending:
            return
        lines, trouble = [], None
        numbers = torch.cat([self.place.mean(v) for *_, v in self.pending]).tolist()
        for step, plain, names, values in self.pending:
            found = dict(zip(names, numbers[: len(values)]))
            numbers = numbers[len(values):]
            lines.append({"step": step + 1, **found, **plain, "epoch": step // self.main.steps_per_epoch})
            self.outcome.losses.append(found["loss"])
            bad = [n for n, v in found.items() if v != v or v in (float("inf"), float("-inf"))]
            if bad and trouble is None:
                trouble = (step + 1, bad)
            self.outcome.verdict = self.health.judge(step, found, self.clock(step))
        self.pending = []
        self.outcome.steps = done
        wait = self.outcome.wait / max(self.outcome.seconds, 1e-9)
        lines[-1].update(seconds=round(self.outcome.seconds, 3), data_wait=round(wait, 4))
        if self.folder is not None and self.place.leads:
            self.folder.log(lines)
        self.tracker.log(lines)
        bad_items = sum(getattr(s.reader, "bad", 0) for s in self.streams.values())
        progress.update(done, loss=self.outcome.losses[-1], samples=(done - self.start) * self.main.batch_size, wait=wait, bad=bad_items)
        self._stop_if_sick(trouble, done)

    def _stop_if_sick(self, trouble: tuple[int, list[str]] | None, done: int) -> None:
        if trouble is not None:
            good = f"The last good checkpoint is {self.saved}." if self.saved else "There is no checkpoint yet."
            raise NonFinite(f"At step {trouble[0]} these became NaN or infinite: {', '.join(trouble[1])}. {good} "
                            "Lower the learning rate, clip the gradient (training.clip=1), or use precision=32-true.")
        verdict = self.outcome.verdict
        if verdict is not None and verdict.kind == "collapse" and self.settings.stop_on_collapse:
            self._save(done)
            raise Collapsed(str(verdict))

    def _check_weights(self, step: int) -> None:
        """What the last step made of the weights, no loss has told yet."""
        sizes = torch._foreach_norm([p.float() for p in self.method.parameters()])
        if not torch.stack(sizes).isfinite().all():
            self._stop_if_sick((step, ["the norm of the weights"]), step)

    def _save(self, step: int) -> None:
        self._check_weights(step)
        if self.folder is None:
            return
        found = self.outcome
        state = {"health": self.health.state(), "seed": self.settings.seed, "samples": found.samples, "seconds": found.seconds,
                 "wait": found.wait, "verdict": asdict(found.verdict) if found.verdict else None}
        readers = {name: s.reader for name, s in self.streams.items() if getattr(s.reader, "seen", None) is not None}
        for reader in readers.values():
            reader.seen = self.place.merged(reader.seen)
        if self.place.leads and step != self.start:
            self.saved = save_checkpoint(self.folder.checkpoints, step, self.method, self.optimiser, state,
                                         seen={name: r.seen for name, r in readers.items()})
        self.place.fabric.barrier()

    def _resume(self) -> None:
        latest = self.folder.latest() if self.folder is not None else None
        if latest is not None:
            self.start, self.saved = latest
            state = load_checkpoint(self.saved, self.method, self.optimiser)
            self.health.restore(state["health"])
            for name, seen in state["seen"].items():
                self.streams[name].reader.seen = seen
            verdict, seconds = state.get("verdict"), state.get("seconds", 0.0)
            self.health.verdict = Verdict(**verdict) if verdict else None
            self.outcome = Outcome(self.start, seconds, state["samples"], state.get("wait", 0.0), earlier=seconds,
                                   verdict=self.health.verdict)
        if self.folder is not None and self.place.leads:
            self.folder.cut_metrics(self.start)  # lines of steps after the checkpoint, all where there is none

    def close(self) -> None:
        self.main.reorder(self.order)
        self.health.close()
        self.tracker.close()
