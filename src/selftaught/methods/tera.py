"""TERA: put right what was altered along time, frequency and magnitude."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contracts import Batch, Draws, Mask, NotApplicable, Single, Training, View, register
from ..networks import Embedder
from ..networks.backbone import valid_steps
from ..networks.signal import PatchSignal
from ..objectives.masked import masked_mean, signal_error
from .base import Method


@register("tera")
class TERA(Method):
    """Transformer encoder representations from alteration (Liu, Li & Lee, 2021).

    loss = mean over altered values of |W₂ gelu(W₁ f(x̃)) − x|,  x̃: x altered along

    time: blocks of tokens (the need's mask: spans of 7 until 15 % are covered), in 80 % of items zeros, in 10 % another part of the item,
    in 10 % left alone; frequency: zeros in one block of rows, as wide as drawn up to a fifth of them, of all tokens; magnitude: noise of
    deviation .2 on 15 % of items. Rows are the axis before the last, zero is the mean. What time and frequency altered is predicted. Each
    kind is off at 0.
    """

    grounded = True
    needs = Single(strength="weak", backbone=frozenset({"tokens"}), mask=Mask("span", (0.15, 0.15), size=7))
    defaults = Training(optimizer="adamw", lr=2e-4, scale_lr="off", weight_decay=0.01, warmup=2.0, clip=5.0, batch_size=32, epochs=30)
    small = {"normalised": True, "masked": 0.5, "size": 1, "backbone.pool": "mean", "training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, frequency: float = 0.2, magnitude: float = 0.15, noise: float = 0.2,
                 normalised: bool = False, mask: str = "span", masked: float = 0.15, size: int = 7):
        """frequency: widest block, a part of the rows. magnitude: part of the items that get noise of deviation `noise`. normalised: the
        target, each token by itself. mask, masked, size: of the alteration along time, as of MAE."""
        super().__init__()
        self.normalised, self.frequency, self.magnitude, self.noise = normalised, frequency, magnitude, noise
        self.student, self.signal = Embedder(backbone), backbone.signal()
        if not isinstance(self.signal, PatchSignal):
            raise NotApplicable("The method tera alters values along axes, and the tokens of this backbone are no patches of values: "
                                "use simmim.")
        self.head = nn.Sequential(nn.Linear(backbone.width, backbone.width), nn.GELU(), nn.LayerNorm(backbone.width),
                                  nn.Linear(backbone.width, self.signal.width))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        (view,) = views
        draws, backbone = self.draws(batch), self.student.backbone
        hidden = on_values(view.masks[0], backbone.grid(view.x.shape), self.signal.patch, view.x)
        block = row_block(draws, view.x, self.frequency)
        x = self.altered(view, hidden, block, draws)
        predicted = self.head(backbone(x, lengths=view.lengths).tokens)
        asked = self.signal((hidden | block).to(view.x.dtype).expand_as(view.x))
        target = self.targets(view).masked_fill(asked != 1, torch.nan)
        return masked_mean(signal_error(predicted, target, kind="l1"))

    def targets(self, view: View) -> Tensor:
        """x [B, N, P]."""
        return self.signal(view.x, view.lengths, normalised=self.normalised)

    def altered(self, view: View, hidden: Tensor, block: Tensor, draws: Draws) -> Tensor:
        """x̃, like x."""
        shape = (-1, *[1] * (view.x.ndim - 1))
        dice = draws.uniform("time").view(shape)
        moved = elsewhere(draws, view)
        x = torch.where(hidden & (dice < 0.8), 0.0, torch.where(hidden & (dice >= 0.9), moved, view.x))
        loud = draws.happens("magnitude", self.magnitude).view(shape)
        x = x.masked_fill(block, 0.0) + self.noise * loud * draws.normal("noise", *view.x.shape[1:]).to(x.dtype)
        return x if view.lengths is None else x.masked_fill(~valid_steps(view.lengths, x.shape[-1]).view(len(x), *shape[2:], -1), 0.0)


def on_values(mask: Tensor, grid: tuple[int, ...], patch: tuple[int, ...], x: Tensor) -> Tensor:
    """A mask of tokens, bool [B, N], on the values x [B, C, ...] that they show: bool [B, 1, ...]."""
    mask = mask.view(len(mask), 1, *grid)
    for axis, (size, side) in enumerate(zip(patch, x.shape[2:]), start=2):
        mask = mask.repeat_interleave(size, axis).narrow(axis, 0, side)
    return mask


def elsewhere(draws: Draws, view: View) -> Tensor:
    """x with every item turned along its last axis, within its length, by any number of steps but none."""
    steps = view.x.shape[-1]
    length = torch.full_like(draws.keys, steps) if view.lengths is None else view.lengths
    offset = 1 + draws.integers("elsewhere", (length - 1).clamp(min=1))
    place = (torch.arange(steps, device=length.device) + offset[:, None]) % length[:, None]  # [B, T]
    return view.x.gather(-1, place.view(len(place), *[1] * (view.x.ndim - 2), -1).expand_as(view.x))


def row_block(draws: Draws, x: Tensor, widest: float) -> Tensor:
    """bool [B, 1 …, rows, 1], the axis before the last: a block of rows of each item, 0 to `widest` of them, anywhere."""
    rows = x.shape[-2]
    width = draws.integers("block width", int(widest * rows) + 1)
    start = (draws.uniform("block place") * (rows - width + 1)).floor()
    row = torch.arange(rows, device=x.device)
    inside = (row >= start[:, None]) & (row < (start + width)[:, None])
    return inside.view(len(x), *[1] * (x.ndim - 3), rows, 1)
