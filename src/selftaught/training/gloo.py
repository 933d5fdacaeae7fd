"""Two processes that stay, joined by gloo: what several machines would do, on one."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import torch


class GlooPair:
    """Two processes that stay, joined by gloo; `run(function, *arguments)` calls it in both and gives rank 0's result."""

    _shared: GlooPair | None = None

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.mkdtemp()
        self.pipes, self.processes = [], []
        port = _free_port()
        for rank in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, port, theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)

    @classmethod
    def shared(cls) -> GlooPair:
        """The one pair of this process, started on first use and ended with it."""
        if cls._shared is None:
            cls._shared = cls()
            atexit.register(cls._shared.close)
        return cls._shared

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        for pipe in self.pipes:
            pipe.send((function, arguments))
        results = [pipe.recv() for pipe in self.pipes]
        for kind, value in results:
            if kind == "error":
                raise RuntimeError(f"In one of the two processes: {value}")
        return results[0][1]

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(2)
            if process.is_alive():
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _serve(rank: int, port: int, pipe: Any) -> None:
    import traceback

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "check_method"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            result = ("value", function(*arguments))
        except Exception:
            result = ("error", traceback.format_exc())
        pipe.send(result if rank == 0 or result[0] == "error" else ("value", None))
