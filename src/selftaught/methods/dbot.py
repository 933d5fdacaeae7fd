"""dBOT: from the few tokens that are left, what a fixed teacher makes of the others; then the student is the teacher, and anew."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..contracts import Clock, Facts, Mask, Single, Training, register
from .jepa import JEPA


@register("dbot")
class DBOT(JEPA):
    """Exploring target representations for masked autoencoders (Liu et al., 2024).

    loss = mean over items and hidden tokens t of smooth L1_β(g(f(visible), mask tokens)_t, y_t),  y = norm(f̄_k(x)) in stage k

    f̄_0: the network with random weights, as it was drawn. f̄_{k+1}: the student at the end of stage k, when student and g are drawn anew.
    The stages are equal parts of the run, from epoch to epoch, under one schedule of the rate, as in the authors' code. A run of fewer
    epochs has as many stages. A weight is drawn anew by changing the places of its first values, which were independent draws; vectors,
    most of which were none, begin as they did. norm: of each token over its channels; as of I-JEPA in short runs. The authors also
    predict the class token, and take targets before the teacher's last norm. The kept encoder is the student's.
    """

    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep"}), mask=Mask("random", (0.75, 0.75)))
    defaults = Training(optimizer="adamw", lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup=40.0, batch_size=4096, epochs=1600)
    small = {"width": 64, "depth": 2, "heads": 4, "norm": "instance", "masked": 0.5, "backbone.pool": "mean", "training.lr": 2e-3,
             "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, facts: Facts, stages: int = 2, width: int = 512, depth: int = 8, heads: int = 16,
                 norm: str = "layer", error: str = "smooth_l1", beta: float = 2.0, mask: str = "random", masked: float = 0.75,
                 masks: int = 1, size: int = 1):
        """stages: how many. beta: where smooth L1 turns linear. The others: as of I-JEPA and MAE."""
        super().__init__(backbone, facts=facts, width=width, depth=depth, heads=heads, momentum=1.0, norm=norm, error=error, beta=beta)
        self.stages = stages
        self.first = nn.ModuleList(copy.deepcopy(part).requires_grad_(False) for part in self.learned())

    def learned(self) -> tuple[nn.Module, nn.Module]:
        return self.student, self.predictor

    def stage(self, clock: Clock) -> int:
        """Number of the stage of an epoch, from 0."""
        return clock.epoch * self.stages // max(clock.epochs, 1)

    def between_epochs(self, passes: Any) -> Iterable[nn.Parameter] | None:
        before = Clock(epoch=max(self.clock.epoch - 1, 0), epochs=self.clock.epochs)
        if self.stage(self.clock) == self.stage(before):
            return None
        self.teacher.module.load_state_dict(self.student.state_dict())
        generator = torch.Generator().manual_seed(self.stage(self.clock))
        renewed = [p for part in self.learned() for p in part.parameters()]
        for new, first in zip(renewed, (p for part in self.first for p in part.parameters()), strict=True):
            places = torch.randperm(first.numel(), generator=generator).to(first.device)
            new.copy_(first.flatten()[places].view_as(new) if first.ndim > 1 else first)
        return renewed

    def kept(self) -> nn.Module:
        return self.student.backbone
