"""Losses that compare the items of a batch cannot work on one."""

from __future__ import annotations

from ..contracts import OptionError


def refuse_few(loss: str, rows: int, least: int = 2) -> None:
    """OptionError where `rows`, those of all processes, are fewer than `least`: alone, an item has nothing to differ from."""
    if rows < least:
        raise OptionError(f"{loss} compares the items of a batch, and {rows} row{'' if rows == 1 else 's'} cannot be compared: raise "
                          "batch_size or lower training.accumulate.")
