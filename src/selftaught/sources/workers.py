"""Processes that read and decode, and do nothing else: answers come in the order of the questions, canvases in shared memory."""

from __future__ import annotations

import gc
import mmap
import multiprocessing
import os
import signal
import traceback
import warnings
from collections import deque
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any

import numpy as np
import torch

from ..contracts import DataError, Source
from .refill import Read, Rows, innermost, is_uniform, read_rows

_DEPTH = 2  # questions that a worker has at hand at a time


class Here:
    """The same questions and answers as `Workers`, without any process."""

    def __init__(self, source: Source, **reading: Any):
        self._source, self._reading = source, reading
        self._waiting: deque[Rows] = deque()

    def submit(self, rows: Rows) -> None:
        self._waiting.append(rows)

    def result(self) -> Read:
        return read_rows(self._source, self._waiting.popleft(), **self._reading)

    def drain(self) -> None:
        self._waiting.clear()

    def close(self) -> None:
        self._waiting.clear()


class Workers:
    """`count` forked processes; question t goes to process t mod count, so answers come in order without any sorting.

    rows: most rows of one question. A worker ignores Ctrl-C and SIGTERM (the main process decides) and ends when the main process is
    gone, however that went. Raises DataError where a worker died or failed.
    """

    def __init__(self, source: Source, *, count: int, rows: int, **reading: Any):
        self._origin = str(getattr(innermost(source)[0], "origin", "the data"))
        canvas = innermost(source)[0].canvas if is_uniform(source) else None
        self._slots = _shared_slots(canvas, count * _DEPTH, rows)
        self._backlog: deque[Rows] = deque()
        self._sent = self._received = 0
        self._pipes: list[Connection] = []
        self._processes = []
        fork = multiprocessing.get_context("fork")
        for worker in range(count):
            ours, theirs = fork.Pipe()
            slots = [self._slots[worker + turn * count] for turn in range(_DEPTH)] if self._slots else None
            process = fork.Process(target=_work, args=(theirs, [*self._pipes, ours], source, slots, reading, os.getpid()), daemon=True)
            _start(process)
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        # run before multiprocessing's own exit handler, which would wait for workers that do not heed SIGTERM
        self._ending = Finalize(self, _end, args=(self._pipes, self._processes), exitpriority=10)

    def submit(self, rows: Rows) -> None:
        """Asks for rows; never waits."""
        self._backlog.append(rows)
        self._feed()

    def result(self) -> Read:
        """The answer to the oldest question; waits for it."""
        turn, worker = divmod(self._received, len(self._pipes))
        try:
            answer = self._pipes[worker].recv()
        except (EOFError, OSError):
            raise self._died(worker) from None
        self._received += 1
        if isinstance(answer, str):
            raise DataError(f"Reading {self._origin} failed in a worker; with num_workers=0 the place shows. It said: {answer}")
        if self._slots and isinstance(answer.items, dict):
            slot = self._slots[worker + turn % _DEPTH * len(self._pipes)]
            answer.items = {"x": slot[:len(answer.index)].copy(), **answer.items}
        self._feed()
        return answer

    def drain(self) -> None:
        """Forgets all open questions."""
        self._backlog.clear()
        while self._received < self._sent:
            self.result()

    def close(self) -> None:
        """Ends all processes, at once; safe to call again."""
        self._ending()

    def _feed(self) -> None:
        while self._backlog and self._sent < self._received + _DEPTH * len(self._pipes):
            worker = self._sent % len(self._pipes)
            try:
                self._pipes[worker].send(self._backlog.popleft())
            except OSError:
                raise self._died(worker) from None
            self._sent += 1

    def _died(self, worker: int) -> DataError:
        process = self._processes[worker]
        process.join(1.0)
        code = process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"ended with code {code}"
        self.close()
        return DataError(f"A worker process that reads {self._origin} {how}; this happens when memory runs out: "
                         "lower num_workers or batch_size, or set num_workers=0.")


def _start(process: Any) -> None:
    """Forks, without a collection of garbage on the way: see `_work`."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: a worker uses none of what they hold
            process.start()
    finally:
        if collecting:
            gc.enable()


def _end(pipes: list[Connection], processes: list[Any]) -> None:
    for pipe in pipes:
        pipe.close()
    for process in processes:
        process.kill()
    for process in processes:
        process.join()


def _shared_slots(canvas: tuple[tuple[int, ...], str] | None, count: int, rows: int) -> list[np.ndarray] | None:
    """Arrays [rows, C, S, S] in memory that forked processes share; None where items are not uniform."""
    if canvas is None:
        return None
    shape, dtype = (rows, *canvas[0]), np.dtype(canvas[1])
    size = int(np.prod(shape)) * dtype.itemsize
    return [np.frombuffer(mmap.mmap(-1, size), dtype=dtype).reshape(shape) for _ in range(count)]


def _work(pipe: Connection, inherited: list[Connection], source: Source, slots: list[np.ndarray] | None, reading: dict[str, Any],
          parent: int) -> None:
    """The life of a worker."""
    gc.freeze()  # garbage of the main process is not ours to end: the threads of a codec, which its end waits for, are not here
    gc.enable()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    for other in inherited:  # else the main process's death would not be seen at the other end
        other.close()
    torch.set_num_threads(1)  # a pool of threads does not survive a fork
    turn = 0
    try:
        while True:
            while not pipe.poll(5.0):
                if os.getppid() != parent:
                    return
            pipe.send(_answer(source, pipe.recv(), slots[turn % _DEPTH] if slots else None, reading))
            turn += 1
    except (EOFError, OSError):
        return  # the main process has closed the pipe or is gone


def _answer(source: Source, rows: Rows, slot: np.ndarray | None, reading: dict[str, Any]) -> Read | str:
    try:
        read = read_rows(source, rows, **reading)
    except Exception:  # a defect of a source: the main process says it, with what the worker saw
        return " | ".join(traceback.format_exc().strip().splitlines()[-3:])
    if slot is not None and isinstance(read.items, dict) and read.items:
        slot[:len(read.index)] = read.items.pop("x")
    return read

