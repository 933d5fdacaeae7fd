"""Soft assignments to prototypes: how targets are balanced, and how they are predicted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather, rank, reduce, world_size
from .comparison import refuse_few
from .precision import full_precision


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, *, iterations: int, epsilon: float, memory: Tensor | None = None,
             memory_mass: float | Tensor = 1.0) -> Tensor:
    """Assignments [N, K] that share the prototypes equally (Caron et al., 2020, eq. 3 to 5): rows sum to one.

    scores: [N, K], similarity to every prototype; N ≥ 2 over all processes where there is no memory. Each iteration gives every
    prototype, then every sample, its due mass, over the samples of all processes. memory: [M, K], scores of a queue, equal on
    all processes, which take part with `memory_mass` each (0: as if they were not there) and get no row. Only the two scaling
    vectors are iterated: an iteration costs two products with the kernel. Rows are shifted by their maximum, so that no epsilon
    overflows. No gradient.
    """
    count, mass = len(scores), scores.new_ones(len(scores))
    total = count * world_size()
    if memory is None:
        refuse_few("sinkhorn", total)
    if memory is not None:
        share = memory[rank() :: world_size()]  # each process takes its part of what all have
        scores, mass = torch.cat([scores, share]), torch.cat([mass, mass.new_ones(len(share)) * memory_mass])
        total = total + len(memory) * memory_mass
    logits = scores / epsilon
    peak = logits.amax(1, keepdim=True)
    kernel = (logits - peak).exp_()  # [N, K]
    scale = peak.squeeze(1) + mass.log()
    samples = (scale - gather(scale.amax().view(1)).amax()).exp_()  # [N]
    prototypes = torch.ones_like(kernel[0])  # [K]
    for _ in range(iterations):
        prototypes = total / scores.shape[1] / reduce(samples @ kernel).clamp_min(1e-30)
        samples = mass / (kernel @ prototypes)
    plan = kernel[:count] * prototypes
    return plan / plan.sum(1, keepdim=True)


@full_precision
def cross_entropy_soft(logits: Tensor, targets: Tensor, *, temperature: float = 1.0) -> Tensor:
    """−mean_i Σ_k t_ik log softmax(logits_i / τ)_k. logits, targets: [N, K]; rows of targets may sum to any number."""
    logits = logits / temperature
    return (targets.sum(1) * torch.logsumexp(logits, 1) - (targets * logits).sum(1)).mean()


def swapped_prediction(scores: Sequence[Tensor], targets: Sequence[Tensor], *, temperature: float) -> Tensor:
    """Mean over all pairs i ≠ v of the cross-entropy between target i and the prediction of view v (SwAV, DINO).

    scores: V tensors [N, K]. targets: of the first T views, [N, K], rows summing to one. The targets that a view must
    predict are added up first: one softmax a view, not one a pair.
    """
    total = 0.0
    for v, view in enumerate(scores):
        others = [t for i, t in enumerate(targets) if i != v]
        if others:
            total = total + cross_entropy_soft(view, torch.stack(others).sum(0), temperature=temperature)
    return total / (len(targets) * (len(scores) - 1))


@full_precision
def cross_entropy_labelled(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits [N, K] averaged over the labelled items of all processes; labels: int64 [N], −1 = unlabelled."""
    losses = F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
    return losses * world_size() / reduce((labels >= 0).sum().to(logits.dtype)).clamp_min(1)
