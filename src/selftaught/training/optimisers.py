"""Optimisers and parameter groups: SGD, AdamW, LARS; which parameters decay, which are frozen, and their rates at every step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..contracts import Clock, Constant, Group, Infinite, OptionError, Schedule, Training, WarmupCosine, nearest, value_at

OPTIMISERS = ("sgd", "adamw", "lars")
SCHEDULES = ("cosine", "constant", "infinite")


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You et al., 2017) with momentum, as the SimCLR, BYOL and VICReg codes have it.

    u = g + λw;  u ← u · trust·‖w‖/‖u‖ where the group adapts and both norms are positive;  m ← μm + u;  w ← w − lr·m.
    """

    def __init__(self, params, lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0, trust: float = 1e-3):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust, adapt=True))

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            updates = [p.grad for p in params]
            if group["weight_decay"]:
                updates = torch._foreach_add(updates, params, alpha=group["weight_decay"])
            if group["adapt"]:
                weights, sizes = torch._foreach_norm(params), torch._foreach_norm(updates)
                ratios = [torch.where((w > 0) & (u > 0), group["trust"] * w / u.clamp_min(1e-30), torch.ones_like(w))
                          for w, u in zip(weights, sizes)]
                updates = torch._foreach_mul(updates, ratios)
            for p in params:
                if "momentum_buffer" not in self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, updates)
            torch._foreach_add_(params, buffers, alpha=-group["lr"])


def is_norm_or_bias(name: str, parameter: Tensor) -> bool:
    """Vectors and scalars: biases, norm scales, tokens' gains. They carry no decay and no LARS adaptation."""
    return parameter.ndim <= 1 or name.endswith(".bias")


def parameter_groups(method: nn.Module, training: Training) -> list[dict]:
    """One group a (prefix of `training.groups`, decays or not): `params`, `names`, `rule`, `decays`."""
    found: dict[tuple[str, bool], dict] = {}
    unmatched = set(training.groups)
    for name, p in method.named_parameters():
        prefix = max((g for g in training.groups if name == g or name.startswith(g + ".")), key=len, default="")
        unmatched.discard(prefix)
        if not p.requires_grad:
            continue
        decays = training.decay_norm_and_bias or not is_norm_or_bias(name, p)
        rule = training.groups.get(prefix, Group())
        entry = found.setdefault((prefix, decays), {"params": [], "names": [], "rule": rule, "decays": decays, "adapt": decays})
        entry["params"].append(p)
        entry["names"].append(name)
    if unmatched:
        raise OptionError(f"Training.groups names parameters that {type(method).__name__} does not have: {sorted(unmatched)}.")
    return list(found.values())


def build_optimiser(method: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimiser that `training` names; rates are set by `set_rates` before every step."""
    groups = parameter_groups(method, training)
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.lr, momentum=training.momentum, foreach=True)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=training.lr, betas=training.betas, foreach=True)
    if training.optimizer == "lars":
        return LARS(groups, training.lr, momentum=training.momentum, trust=training.trust)
    raise nearest(training.optimizer, OPTIMISERS, what="optimizer")


def peak_rate(training: Training, batch_size: int) -> float:
    """Learning rate at its peak: given per 256 samples, scaled by the global batch as the recipe says."""
    scales = {"linear": batch_size / 256, "sqrt": math.sqrt(batch_size / 256), "off": 1.0}
    if training.scale_lr not in scales:
        raise nearest(training.scale_lr, scales, what="scale_lr")
    return training.lr * scales[training.scale_lr]


def rate_schedule(training: Training, peak: float, clock: Clock) -> Schedule:
    """The learning rate over the run; warm-up is at most a tenth of it, and the last rate at most the peak."""
    warmup = min(training.warmup * clock.steps_per_epoch / max(clock.steps, 1), 0.1)
    final = min(training.final_lr, peak)
    if training.schedule == "cosine":
        return WarmupCosine(peak, final, warmup)
    if training.schedule == "constant":
        return Constant(peak)
    if training.schedule == "infinite":
        return Infinite(peak, 0.5 * peak, final or 0.01 * peak, warmup=warmup)
    raise nearest(training.schedule, SCHEDULES, what="schedule")


def set_rates(optimiser: torch.optim.Optimizer, training: Training, rate: Schedule, clock: Clock, peak: float) -> float:
    """Sets each group's rate and decay for this step; returns the plain learning rate, for the log."""
    now, decay = rate(clock), value_at(training.weight_decay, clock)
    for group in optimiser.param_groups:
        rule: Group = group["rule"]
        group["lr"] = (peak if rule.lr_constant else now) * rule.lr_scale
        wanted = decay if rule.weight_decay is None else rule.weight_decay
        group["weight_decay"] = wanted if group["decays"] else 0.0
    return now


def drop_frozen(optimiser: torch.optim.Optimizer, clock: Clock) -> None:
    """Parameters that are still frozen lose their gradients: no update, no decay, no momentum."""
    for group in optimiser.param_groups:
        rule: Group = group["rule"]
        if clock.step < max(rule.frozen_steps, rule.frozen_epochs * clock.steps_per_epoch):
            for p in group["params"]:
                p.grad = None
