"""Pre-norm Transformer blocks over tokens, shared by the backbones of grids and of table columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import OptionError

SHORT = 200  # keys; beyond, the weights take much memory for the time that they save


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d) v [B, heads, N, d] of q [B, heads, N, d] and k, v [B, heads, S, d]; visible: bool [B, 1, 1, S].

    Short sequences in bfloat16 are multiplied out on a CPU: there the fused backward takes several times as long
    (benchmarks/attention.py).
    """
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or k.shape[2] > SHORT:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    scores = q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)
    return (scores if visible is None else scores.masked_fill(~visible, -torch.inf)).softmax(-1) @ v


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)): [B, N, D] → [B, N, D]."""

    def __init__(self, width: int, heads: int, ratio: float):
        super().__init__()
        if heads < 1 or width % heads:
            raise OptionError(f"A Transformer of width {width} cannot have {heads} heads: choose a width that the number of heads divides.")
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, int(width * ratio)), nn.GELU(), nn.Linear(int(width * ratio), width))

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """visible: bool [B, 1, 1, N], which tokens may be attended to."""
        batch, count, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v, visible)  # [B, heads, N, D / heads]
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, count, width))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """A cls token before the tokens, `depth` blocks, a last LayerNorm.

    (tokens [B, N, D], valid bool [B, N] or None, layers) → (cls [B, D], tokens [B, N, D], [outputs of blocks [B, N, D]]).
    Weights as by `initialise`. Tokens that are not valid are seen by none and come out as zero.
    """

    def __init__(self, width: int, depth: int, heads: int, ratio: float):
        super().__init__()
        self.cls = nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads, ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        nn.init.trunc_normal_(self.cls, std=0.02)
        initialise(self)

    def forward(self, tokens: Tensor, valid: Tensor | None, layers: Sequence[int]
                ) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        wanted = self._numbers(layers)
        x = torch.cat([self.cls.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
        visible = None if valid is None else F.pad(valid, (1, 0), value=True)[:, None, None]
        outputs: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            x = block(x, visible)
            if number in wanted:
                outputs[number] = hide(x[:, 1:], valid)
        x = self.norm(x)
        return x[:, 0], hide(x[:, 1:], valid), [outputs[number] for number in wanted] or None

    def _numbers(self, layers: Sequence[int]) -> list[int]:
        depth = len(self.blocks)
        for number in layers:
            if not -depth <= number < depth:
                raise OptionError(f"There is no layer {number}: the network has {depth} blocks, numbered from 0.")
        return [number % depth for number in layers]


def initialise(network: nn.Module) -> None:
    """Weights of its linear maps: normal of deviation .02, truncated; biases zero."""
    for part in network.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)


def hide(tokens: Tensor, valid: Tensor | None) -> Tensor:
    """Zeros in the tokens [B, N, D] that are not valid [B, N]."""
    return tokens if valid is None else tokens.masked_fill(~valid[..., None], 0.0)


def pool(cls: Tensor, tokens: Tensor, valid: Tensor | None, how: str) -> Tensor:
    """[B, D]: the cls token, or the mean of the (valid) tokens."""
    if how == "cls":
        return cls
    return tokens.mean(1) if valid is None else tokens.sum(1) / valid.sum(1, keepdim=True).clamp(min=1).to(tokens.dtype)


def select(tokens: Tensor, valid: Tensor | None, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The tokens (and whether they are valid) at the places `keep` [B, K]."""
    if keep is None:
        return tokens, valid
    chosen = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
    return chosen, None if valid is None else valid.gather(1, keep)


def check_pool(how: str) -> str:
    if how not in ("cls", "mean"):
        raise OptionError(f"pool='{how}' is not known: use cls or mean.")
    return how
