"""What the tokens of a Transformer attend to: the weights of every head, made again from the inputs of its blocks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..contracts import NotApplicable
from .transformer import Block


@torch.no_grad()
def attention_maps(backbone: nn.Module, x: Tensor, *, layers: Sequence[int] | None = None, **given: Tensor | None) -> list[Tensor]:
    """Weights [B, heads, 1 + N, 1 + N] of the chosen blocks (None: of all), rows sum to one; the cls token comes first.

    given: what the backbone takes beside x (lengths, keep). Blocks compute as ever; a hook on each makes the weights, which
    `scaled_dot_product_attention` never shows. NotApplicable for a backbone without such blocks.
    """
    blocks = [part for part in backbone.modules() if isinstance(part, Block)]
    if not blocks:
        raise NotApplicable(f"The backbone {type(backbone).__name__} has no blocks of attention to show: use vit_tiny or another "
                            "Transformer.")
    found: list[Tensor] = []
    chosen = blocks if layers is None else [blocks[number] for number in layers]
    handles = [block.register_forward_hook(lambda block, inputs, output: found.append(weights(block, *inputs))) for block in chosen]
    try:
        backbone(x, **given)
    finally:
        for handle in handles:
            handle.remove()
    return found


def weights(block: Block, x: Tensor, visible: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d) [B, heads, N, N] of a block's input [B, N, D]; visible: bool [B, 1, 1, N]."""
    q, k, _ = block.qkv(block.norm1(x)).view(*x.shape[:2], 3, block.heads, -1).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (scores if visible is None else scores.masked_fill(~visible, -torch.inf)).softmax(-1)
