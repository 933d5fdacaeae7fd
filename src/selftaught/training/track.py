"""TensorBoard, where it is installed and asked for."""

from __future__ import annotations

from typing import Any

from ..contracts import OptionError, nearest


class Tracker:
    """Writes every number of the metrics lines as a scalar; does nothing when `kind` is None."""

    def __init__(self, kind: str | None, folder: Any):
        self.writer = None
        if kind in (None, "none") or folder is None:
            return
        if kind != "tensorboard":
            raise nearest(kind, ("tensorboard", "none"), what="tracker")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except (ImportError, RuntimeError, OSError) as error:
            raise OptionError(f"track=tensorboard needs its package ({error}): pip install selftaught[track].") from None
        self.writer = SummaryWriter(str(folder.path / "tensorboard"))

    def log(self, lines: list[dict[str, Any]]) -> None:
        if self.writer is not None:
            for line in lines:
                for name, value in line.items():
                    if name != "step" and isinstance(value, (int, float)):
                        self.writer.add_scalar(name, value, line["step"])

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
