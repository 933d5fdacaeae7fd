"""How a method wants to be trained: optimiser, rates, schedules, parameter groups. The engine acts on it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from .errors import OptionError, nearest
from .options import fit_type, parse
from .schedules import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Overrides for the parameters whose names start with a prefix.

    lr_scale multiplies the learning rate; lr_constant: keeps the peak rate without schedule (SimSiam's predictor);
    weight_decay replaces the run's; frozen_epochs, frozen_steps: no update (no decay, no momentum either) before that.
    """

    lr_scale: float = 1.0
    lr_constant: bool = False
    weight_decay: float | None = None
    frozen_epochs: float = 0.0
    frozen_steps: int = 0


@dataclass(frozen=True)
class Training:
    """The optimisation recipe of a method; the paper's values are its defaults.

    optimizer: sgd, adamw or lars. lr: peak learning rate per 256 samples; scale_lr: how it grows with the global batch size:
    linear (Goyal et al., 2017), sqrt (for adaptive optimisers; Malladi et al., 2022) or off. schedule: cosine,
    constant (without warm-up) or infinite. warmup: epochs of linear warm-up (at most a tenth of the run). final_lr: the last rate as it
    is, not scaled, at most the peak; 0 with infinite: a hundredth of the peak.
    weight_decay: number or Schedule. clip: largest gradient norm, or None: of all parameters together, or of each alone (clip_each,
    DINO). decay_norm_and_bias: decay, and LARS adapts, all (SimSiam, SwAV).
    accumulate: micro-batches a step. groups: prefix of parameter names → Group.
    """

    optimizer: str = "sgd"
    lr: float = 0.06
    scale_lr: str = "linear"
    weight_decay: float | Schedule = 1e-4
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    trust: float = 1e-3
    schedule: str = "cosine"
    warmup: float = 10.0
    final_lr: float = 0.0
    clip: float | None = None
    clip_each: bool = False
    decay_norm_and_bias: bool = False
    accumulate: int = 1
    batch_size: int = 256
    epochs: int = 100
    groups: dict[str, Group] = field(default_factory=dict)


@dataclass
class Terms:
    """A loss with named parts: `total` is differentiated, the named ones are logged (detached scalars)."""

    total: Tensor
    named: dict[str, Tensor] = field(default_factory=dict)

    def __init__(self, total: Tensor, **named: Tensor):
        self.total = total
        self.named = {k: v.detach() for k, v in named.items()}


def training_with(defaults: Training, wanted: dict[str, Any]) -> Training:
    """`defaults` with some fields replaced; unknown names and values of the wrong kind are OptionErrors."""
    known = {f.name: getattr(defaults, f.name) for f in fields(Training)}
    for name in wanted:
        if name not in known:
            raise nearest(name, known, what="training option")
        if name in ("batch_size", "epochs"):
            raise OptionError(f"training.{name} only notes what the paper took; a run's own is set by {name}={wanted[name]}.")
    return replace(defaults, **{name: _typed(f"training.{name}", parse(value), known[name]) for name, value in wanted.items()})


def _typed(key: str, value: Any, default: Any) -> Any:
    """A field of Training from what a person gave."""
    if key == "training.groups":
        if not (isinstance(value, dict) and all(isinstance(g, Group) for g in value.values())):
            raise OptionError(f"{key}={value!r} does not fit: expected a dict of Group by prefix of parameter names, which only Python can "
                              "give.")
        return value
    if key == "training.clip" and value is None or key == "training.weight_decay" and isinstance(value, Schedule):
        return value
    like = 1.0 if default is None or isinstance(default, Schedule) else default
    if value is None:
        raise OptionError(f"{key}=none does not fit: it is {like!r} where it is left out.")
    return fit_type(key, value, like)
