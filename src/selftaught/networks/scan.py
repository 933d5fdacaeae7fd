"""The selective scan of state space models: a linear recurrence along a sequence, in time and memory linear in its length."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SEGMENT = {"cpu": 1 << 19, "cuda": 1 << 27}
"""Numbers of the states [steps, B, E, S] held at once: what a cache holds on a processor, half a gigabyte on an accelerator."""
LANES = {"cpu": 1 << 12, "cuda": 1 << 22}
"""Numbers a step of the recurrence should have to be worth its call; where one place of the sequence has fewer, several lanes of it
run side by side."""


def selective_scan(x: Tensor, step: Tensor, decay: Tensor, enter: Tensor, leave: Tensor, *, lanes: int | None = None,
                   segment: int | None = None) -> Tensor:
    """h_t = exp(Δ_t A) ∘ h_{t−1} + (Δ_t ∘ x_t) B_tᵀ,  y_t = h_t C_t,  h_{−1} = 0          (S6; Gu & Dao, 2023, algorithm 2)

    x, step (Δ): [B, T, E]. decay (A): [E, S], below 0. enter (B), leave (C): [B, T, S]. Returns y [B, T, E]. Where Δ = 0 the state
    passes by unchanged. At least in float32.

    The pairs (a, u) of h ↦ a ∘ h + u compose associatively: (a₂, u₂) ∘ (a₁, u₁) = (a₂ a₁, a₂ u₁ + u₂). So `lanes` stretches of the
    sequence run side by side from nothing, what a lane is left with is handed on to the next, and everything is put right in one go:
    T / lanes + lanes steps. Products of a only, no quotients: nothing overflows. States are held for `segment` places at a time and
    made again in the backward pass. Differentiable once.
    """
    kind, dtype = x.device.type, torch.promote_types(x.dtype, torch.float32)
    numbers, length = len(x) * decay.numel(), x.shape[1]
    segment = segment or max(1, SEGMENT.get(kind, SEGMENT["cuda"]) // numbers)
    segment = min(segment, length)
    lanes = lanes or max(1, min(math.isqrt(segment), LANES.get(kind, LANES["cuda"]) // numbers))
    segment = max(1, segment // lanes) * lanes
    missing = -length % segment
    with torch.autocast(kind, enabled=False):
        parts = [F.pad(part.to(dtype), (0, 0, 0, missing)).transpose(0, 1) for part in (x, step, enter, leave)]
        scan = _SelectiveScan.apply if torch.is_grad_enabled() else lambda *given: _scanned(*given)[0]
        y = scan(*parts, decay.to(dtype), segment, lanes)
    return y[:length].transpose(0, 1).to(x.dtype)


class _SelectiveScan(torch.autograd.Function):
    """Time comes first here: x, step [T, B, E], enter, leave [T, B, S], decay [E, S] → y [T, B, E]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, enter: Tensor, leave: Tensor, decay: Tensor, segment: int, lanes: int) -> Tensor:
        y, starts = _scanned(x, step, enter, leave, decay, segment, lanes)
        ctx.save_for_backward(x, step, enter, leave, decay, *starts)
        ctx.segment, ctx.lanes = segment, lanes
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """g_t = ∂y_t C_tᵀ + a_{t+1} ∘ g_{t+1}, the gradient of h_t, by the same recurrence backward."""
        x, step, enter, leave, decay, *starts = ctx.saved_tensors
        found: list[list[Tensor]] = [[], [], [], []]
        d_decay, carried = torch.zeros_like(decay), torch.zeros_like(starts[0])
        pieces = zip(*(part.split(ctx.segment) for part in (x, step, enter, leave, grad)), starts)
        for one, two, three, four, given, start in reversed(list(pieces)):
            keeps, states = _states(one, two, three, decay, start, ctx.lanes)
            slope = given[..., None] * four[:, :, None]  # [t, B, E, S]
            slope[-1] += carried
            later = keeps.roll(-1, 0)  # what is kept of a state at the next place; the last one's came in `carried`
            _recur(later, slope, ctx.lanes, reverse=True)
            carried = keeps[0] * slope[0]
            entered = (slope @ three[..., None]).squeeze(-1)  # gradient of Δ ∘ x
            before = torch.cat([start[None], states[:-1]])
            exponent = before.mul_(slope).mul_(keeps)  # gradient of Δ A
            d_decay += torch.einsum("tbes,tbe->es", exponent, two)
            d_step = torch.einsum("tbes,es->tbe", exponent, decay).addcmul_(entered, one)
            d_enter = ((two * one)[:, :, None] @ slope).squeeze(-2)
            d_leave = (given[:, :, None] @ states).squeeze(-2)
            for of, part in zip(found, (entered * two, d_step, d_enter, d_leave)):
                of.append(part)
        return (*(torch.cat(of[::-1]) for of in found), d_decay, None, None)


def _scanned(x: Tensor, step: Tensor, enter: Tensor, leave: Tensor, decay: Tensor, segment: int, lanes: int
             ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """y [T, B, E], and the states [B, E, S] in which the segments begin."""
    state, starts, y = x.new_zeros(*x.shape[1:], decay.shape[1]), [], []
    for one, two, three, four in zip(*(part.split(segment) for part in (x, step, enter, leave))):
        starts.append(state)
        _, states = _states(one, two, three, decay, state, lanes)
        y.append((states @ four[..., None]).squeeze(-1))
        state = states[-1].clone()
    return torch.cat(y), starts


def _states(x: Tensor, step: Tensor, enter: Tensor, decay: Tensor, start: Tensor, lanes: int) -> tuple[Tensor, Tensor]:
    """(exp(Δ A), h) [t, B, E, S] of a segment that begins in the state `start` [B, E, S]."""
    keeps = (step[..., None] * decay).exp_()
    states = (step * x)[..., None] * enter[:, :, None]
    states[0].addcmul_(keeps[0], start)
    _recur(keeps.clone() if lanes > 1 else keeps, states, lanes)
    return keeps, states


def _recur(keeps: Tensor, states: Tensor, lanes: int, *, reverse: bool = False) -> None:
    """states_t ← states_t + keeps_t ∘ states_{t−1} for t = 1, 2, … (reverse: from the one after, from the last but one on), in place;
    with several lanes `keeps` [T, ...] becomes each lane's cumulated product. T is a multiple of `lanes`."""
    turn = -1 if reverse else 1
    if lanes == 1:
        rows = list(zip(keeps.unbind(), states.unbind()))[::turn]
        for (_, before), (keep, state) in zip(rows, rows[1:]):
            state.addcmul_(keep, before)
        return
    keeps, states = keeps.unflatten(0, (lanes, -1)), states.unflatten(0, (lanes, -1))  # [lanes, steps, ...]
    rows = list(zip(keeps.unbind(1), states.unbind(1)))[::turn]
    for (kept, before), (keep, state) in zip(rows, rows[1:]):  # all lanes side by side
        state.addcmul_(keep, before)
        keep.mul_(kept)
    ends, spans = (part[:, 0 if reverse else -1] for part in (states, keeps))
    ends = list(zip(spans.unbind(), ends.unbind()))[::turn]
    for (_, before), (span, end) in zip(ends, ends[1:]):  # from lane to lane
        end.addcmul_(span, before)
    inner = slice(1, None) if reverse else slice(None, -1)  # of a lane: all but its end, which is right
    behind, ahead = (slice(1, None), slice(None, -1)) if reverse else (slice(None, -1), slice(1, None))
    left = states[behind, 0 if reverse else -1]
    states[ahead, inner] += keeps[ahead, inner] * left[:, None]
