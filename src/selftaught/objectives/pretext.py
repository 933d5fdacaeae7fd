"""Losses of pretext tasks that look at more than one item: pairs told apart, and the deviation of what is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..collectives import gather, rank
from .comparison import refuse_few
from .precision import full_precision


def shifted_pairs(views: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Pairs of the same item and of two items (Patacchiola & Storkey, 2020): ([2·P·N, 2·D], float targets 1 and 0 [2·P·N]).

    views: K tensors [N, D], an item's views in one row. For each of the P = K(K − 1)/2 pairs of views: their rows as they are,
    then the first's rows with the second's rolled over the batch of all processes, by one more from pair to pair (never by a
    whole batch), as the authors' code rolls. Cost is linear in the batch.
    """
    everywhere, own = [gather(z) for z in views], len(views[0])
    refuse_few("shifted_pairs", len(everywhere[0]))
    pairs, targets, shift = [], [], 1
    for i, j in combinations(range(len(views)), 2):
        other = everywhere[j].roll(shift, 0).narrow(0, rank() * own, own)
        pairs += [torch.cat([views[i], views[j]], 1), torch.cat([views[i], other], 1)]
        targets += [views[i].new_ones(own), views[i].new_zeros(own)]
        shift = shift % (len(everywhere[j]) - 1) + 1
    return torch.cat(pairs), torch.cat(targets)


@full_precision
def focal_binary(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """½ · mean of −(1 − p_t)^γ log p_t, p_t the probability given to the target (Lin et al., 2017, with α = ½, as the relation
    module's authors have it). logits, targets in {0, 1}: [N]. gamma = 0: half the binary cross-entropy."""
    entropy = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
    return 0.5 * ((1 - (-entropy).exp()) ** gamma * entropy).mean()


@full_precision
def deviation_hinge(z: Tensor) -> Tensor:
    """Mean over dimensions of max(0, 1 − √(Var + 1e-4)), the unbiased variance over the rows of all processes: VICReg's v."""
    z = gather(z)
    refuse_few("deviation_hinge", len(z))
    return F.relu(1 - torch.sqrt(z.var(0) + 1e-4)).mean()
