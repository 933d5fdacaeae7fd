"""From requests for slots to batches, in order: gathers, workers, refilling, quarantine, duplicates and the time waited."""

from __future__ import annotations

import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contracts import Batch, DataError, Source
from .decoded import Decoded
from .quarantine import Quarantine
from .refill import Items, Read, Rows, innermost
from .workers import Here, Workers

_FEW = 5  # fewer bad items than this never stop a run
_MOST_ROWS = 1024  # of one question to a worker
_AHEAD = 2  # batches that workers decode while another one is used

Request = tuple[np.ndarray, np.ndarray, np.ndarray]
Collate = Callable[[Items], tuple[dict[str, Tensor], Tensor | None]]


class Loader:
    """Batches of a source.

    collate: items (field → [b, ...] from resident and image sources, else a list) → (fields, lengths). seed, stream: counters of the
    refilling. num_workers: processes that decode; 0 decodes in this one, resident sources need none. max_bad: the fraction of bad
    items (and at least 5) beyond which a run stops. quarantine: where bad items are recorded. labelled: batches carry y.
    The batches are the same for any number of workers. wait_seconds: time that the consumer waited. seen: uint64 [N], the content
    hash of every item read so far, 0 elsewhere; None where the source gives none. duplicates: how many items read had the same
    contents as another one. bad: how many items of this stream could not be read.
    """

    def __init__(self, source: Source, collate: Collate, *, seed: int, stream: str = "train", num_workers: int = 0,
                 max_bad: float = 0.01, quarantine: Quarantine | None = None, labelled: bool = False):
        if labelled and source.labels is None:
            raise DataError(f"{getattr(source, 'origin', 'The data')} has no labels, but they are needed: name a column with --target, or "
                            "sort the images into a folder a class.")
        self.source, self.collate, self.labelled = source, collate, labelled
        self.seed, self.stream, self.max_bad = seed, stream, max_bad
        self.num_workers = num_workers if "fork" in multiprocessing.get_all_start_methods() else 0
        self.quarantine = Quarantine() if quarantine is None else quarantine
        self.wait_seconds = 0.0
        self._bad = self.quarantine.indices(stream)
        self._tolerance = max(max_bad * len(source), _FEW - 1)
        self._inner, self._places = innermost(source)
        self.seen: np.ndarray | None = None
        self._readers: Here | Workers | None = None
        self._canvas: Any = None
        self._piece = _MOST_ROWS
        self._turn = self._begun = 0

    @property
    def bad(self) -> int:
        return len(self._bad)

    @property
    def duplicates(self) -> int:
        return 0 if self.hashes is None else len(self.hashes) - len(np.unique(self.hashes))

    @property
    def hashes(self) -> np.ndarray | None:
        """uint64 [n]: content hashes of the items read so far; None where the source gives none."""
        return None if self.seen is None else self.seen[self.seen != 0]

    def batches(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """A Batch for each (slot, epoch, index), int64 [b] each, in order. One iteration at a time. Raises DataError where too many
        items are bad or a worker died."""
        self._turn += 1
        turn, requests, ahead = self._turn, iter(requests), deque()
        cache = None if self.source.resident or not hasattr(self._inner, "cache") else self._inner.cache()
        while True:
            if turn != self._turn:
                raise RuntimeError("this loader has begun another iteration; read one at a time")
            try:
                if self._begun != turn:
                    self._begin(turn)
                while len(ahead) < (1 + _AHEAD if self.num_workers else 1) and (request := next(requests, None)) is not None:
                    ahead.append(self._ask(Rows(*request), cache))
                if not ahead:
                    return
                start = time.perf_counter()
                batch = self._answer(*ahead.popleft(), cache)
                self.wait_seconds += time.perf_counter() - start
            except BaseException:  # also Ctrl-C in the middle of an answer: what the pipes hold is of no use any more
                self.close()
                raise
            yield batch

    def _begin(self, turn: int) -> None:
        """Forgets what an abandoned iteration asked for; readers with another canvas are of no use."""
        self._begun = turn
        canvas = getattr(self._inner, "canvas", None)
        if canvas != self._canvas:
            self.close()
            self._canvas = canvas
        if self._readers is not None:
            self._readers.drain()

    def _ask(self, rows: Rows, cache: Decoded | None) -> tuple[Rows, np.ndarray, int]:
        """Sends off what is not in memory: (rows, places int64 [m] of what was sent, number of questions)."""
        if self.source.resident:
            return rows, np.zeros(0, np.int64), 0
        missing = np.arange(len(rows.index)) if cache is None else np.flatnonzero(~cache.holds[self._place(rows.index)])
        if len(missing) and self._readers is None:
            self._readers = self._start(len(rows.index))
        pieces = range(0, len(missing), self._piece)
        for start in pieces:
            self._readers.submit(rows.at(missing[start:start + self._piece]))
        return rows, missing, len(pieces)

    def _start(self, batch: int) -> Here | Workers:
        """Readers for batches of that many items."""
        reading = {"seed": self.seed, "stream": self.stream, "tolerance": self._tolerance}
        if not self.num_workers:
            return Here(self.source, **reading)
        self._piece = min(-(-batch // self.num_workers), _MOST_ROWS)
        return Workers(self.source, count=self.num_workers, rows=self._piece, **reading)

    def _answer(self, rows: Rows, missing: np.ndarray, questions: int, cache: Decoded | None) -> Batch:
        index = np.array(rows.index, dtype=np.int64)
        if self.source.resident:
            items: Items = self.source.take(index)
        else:
            answers = [self._judged(self._readers.result()) for _ in range(questions)]
            if answers:
                index[missing] = np.concatenate([a.index for a in answers])
            if cache is not None:
                for answer in answers:
                    cache.store(self._place(answer.index), answer.items)
                items = cache.take(self._place(index))
            else:
                items = _joined([a.items for a in answers])
        self._note_hashes(index, items)
        fields, lengths = self.collate(items)
        return Batch(fields, torch.from_numpy(index), torch.from_numpy(np.asarray(rows.slot, dtype=np.int64)),
                     torch.from_numpy(np.asarray(rows.epoch, dtype=np.int64)),
                     torch.as_tensor(self.source.labels[index]) if self.labelled else None, lengths)

    def _place(self, index: np.ndarray) -> np.ndarray:
        """Places in the innermost source."""
        return index if self._places is None else self._places[index]

    def _judged(self, read: Read) -> Read:
        """The same, once its bad items are recorded; raises DataError where they are too many."""
        for index, reason in read.bad:
            if index not in self._bad:
                self._bad.add(index)
                self.quarantine.record(index, self.source.name(index), reason, self.stream)
        if read.gave_up or len(self._bad) > self._tolerance:
            raise DataError(self._too_many())
        return read

    def _too_many(self) -> str:
        shown = [e for e in self.quarantine.entries if e["stream"] == self.stream][:3]
        examples = "; ".join(f"{e['name']}: {e['reason']}" for e in shown)
        where = f" All are listed in {self.quarantine.path}." if self.quarantine.path else ""
        return (f"{self.bad} of {len(self.source)} items cannot be read, more than max_bad={self.max_bad:g} allows ({examples}).{where} "
                "Mend or remove them, or raise max_bad.")

    def _note_hashes(self, index: np.ndarray, items: Items) -> None:
        hashes = items.get("hash") if isinstance(items, dict) else [item["hash"] for item in items] if "hash" in items[0] else None
        if hashes is None:
            return
        if self.seen is None:
            self.seen = np.zeros(len(self.source), dtype=np.uint64)
        self.seen[index] = hashes

    def close(self) -> None:
        """Ends the worker processes; the next iteration would start new ones."""
        if self._readers is not None:
            self._readers.close()
            self._readers = None

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _joined(parts: list[Items]) -> Items:
    """The items of one batch from those of its pieces."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], dict):
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return [item for part in parts for item in part]
