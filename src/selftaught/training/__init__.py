"""The engine: `fit` and what it is made of."""

from .checkpoint import checkpoints, load_checkpoint, save_checkpoint
from .decisions import as_json, recorded, refuse_changes
from .fit import Engine, Outcome, Settings, fit
from .folder import RunFolder
from .health import Health, Verdict
from .launch import Place, launch, native_bfloat16, resolve_device
from .optimisers import LARS, build_optimiser, parameter_groups
from .progress import Progress, duration
from .signals import Interrupted
from .stream import Stream

__all__ = [
    "LARS", "Engine", "Health", "Interrupted", "Outcome", "Place", "Progress", "RunFolder", "Settings", "Stream", "Verdict", "as_json",
    "build_optimiser", "checkpoints", "duration", "fit", "launch", "load_checkpoint", "native_bfloat16", "parameter_groups",
    "recorded", "refuse_changes", "resolve_device", "save_checkpoint",
]
