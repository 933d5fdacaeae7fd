"""Checkpoints that are whole or not there: safetensors and JSON in a folder that appears by one rename. No pickle."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from ..contracts import SelftaughtError
from ..contracts.stored import read_json, read_tensors, whole_folder

_STEP = re.compile(r"step-(\d+)$")


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """(step, path) of the whole checkpoints in a folder, oldest first."""
    found = []
    for path in folder.glob("step-*") if folder.is_dir() else ():
        match = _STEP.search(path.name)
        if match and (path / "state.json").is_file():
            found.append((int(match.group(1)), path))
    return sorted(found)


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names = {id(p): n for g in optimiser.param_groups for n, p in zip(g["names"], g["params"])}
    return {f"{names[id(p)]}|{key}": value for p, state in optimiser.state.items() for key, value in state.items()
            if isinstance(value, torch.Tensor)}


def _plain(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {k: v.detach().to("cpu").contiguous().clone() for k, v in tensors.items()}


def save_checkpoint(folder: Path, step: int, method: nn.Module, optimiser: torch.optim.Optimizer, state: dict[str, Any],
                    *, seen: dict[str, np.ndarray] | None = None, keep: int = 2) -> Path:
    """Writes `folder/step-N` and removes all but the newest `keep`. A failure leaves the earlier checkpoints as they were.

    state: JSON. seen: content hashes (uint64 [N]) of what every stream has read.

    Raises SelftaughtError naming the last whole checkpoint when the disk is full or the folder cannot be written.
    """
    final = folder / f"step-{step:08d}"
    try:
        with whole_folder(final) as temporary:
            save_file(_plain(method.state_dict()), temporary / "method.safetensors")
            save_file(_plain(_optimiser_tensors(optimiser)), temporary / "optimiser.safetensors")
            if seen:
                save_file({k: torch.from_numpy(v.view(np.int64)) for k, v in seen.items()}, temporary / "seen.safetensors")
            (temporary / "state.json").write_text(json.dumps({"format": 1, "step": step, **state}), encoding="utf-8")
    except Exception as error:  # safetensors wraps OSError in an exception of its own
        whole = checkpoints(folder)
        kept = f"the last whole checkpoint is {whole[-1][1]}" if whole else "there is no earlier checkpoint"
        raise SelftaughtError(f"Could not write the checkpoint of step {step} to {folder} ({error}); {kept}. "
                              "Free some space and resume with --resume.") from error
    for _, old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(path: Path, method: nn.Module, optimiser: torch.optim.Optimizer | None = None) -> dict[str, Any]:
    """Restores method and optimiser in place, keeping memory formats (so that a resumed step is the same to the bit).

    Returns the state saved beside them, with what was `seen`. A damaged file is a SelftaughtError that names the checkpoint before.
    """
    before = list(itertools.takewhile(lambda whole: whole != path, (whole for _, whole in checkpoints(path.parent))))
    mend = f"To resume from {f'{before[-1]}, the one before' if before else 'step 0, for there is none before'}, delete {path}."
    state = read_json(path / "state.json", "step", mend=mend)
    seen = read_tensors(path / "seen.safetensors", mend=mend) if (path / "seen.safetensors").is_file() else {}
    method.load_state_dict(read_tensors(path / "method.safetensors", mend=mend))
    if optimiser is not None:
        saved: dict[str, dict[str, torch.Tensor]] = {}
        for key, value in read_tensors(path / "optimiser.safetensors", mend=mend).items():
            name, _, field = key.rpartition("|")
            saved.setdefault(name, {})[field] = value
        for group in optimiser.param_groups:
            for name, p in zip(group["names"], group["params"]):
                if name in saved:
                    optimiser.state[p] = {k: v if k == "step" else _like(p, v) for k, v in saved[name].items()}
    return {**state, "seen": {k: v.numpy().view(np.uint64) for k, v in seen.items()}}


def _like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
