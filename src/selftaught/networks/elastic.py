"""Sub-networks of a Transformer backbone, narrower and shallower, that share its weights or are cut out of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..contracts import Features, NotApplicable, OptionError
from .transformer import Block, Transformer


@lru_cache(maxsize=256)
def channels(width: int, kept: int, device: torch.device) -> Tensor:
    """int64 [kept], rising: the channels of `width` that sub-networks of `kept` have; a smaller one's are among a larger one's.

    They lie evenly over the whole (0, then the middle, the quarters, the eighths …), so that any of them hold a part of every frequency
    and axis of positions that are sines and cosines. Where positions are learned this is as good as the paper's, the first channels."""
    bits = max(width - 1, 1).bit_length()
    order = [channel for n in range(2**bits) if (channel := int(f"{n:0{bits}b}"[::-1], 2)) < width]
    return torch.tensor(sorted(order[:kept]), device=device)


class SubTransformer(nn.Module):
    """`heads` of a Transformer's heads and `depth` of its blocks at equal steps (POA; Zhang et al., 2024, eq. 1 to 4).

    Of each linear map D → D the rows and columns of what is kept, times D / kept, its biases as they are; of attention the first heads,
    of an MLP the first hidden units. Takes the whole's tokens [B, N, D]; otherwise as a Transformer of the smaller width.
    """

    def __init__(self, whole: Transformer, heads: int, depth: int):
        """The weights are a copy."""
        super().__init__()
        first, blocks = whole.blocks[0], len(whole.blocks)
        if not (1 <= heads <= first.heads and 1 <= depth <= blocks):
            raise OptionError(f"A network of {first.heads} heads and {blocks} blocks has no part of {heads} heads and {depth} blocks.")
        self.whole_width = whole.norm.normalized_shape[0]
        self.width = self.whole_width // first.heads * heads
        self.numbers = [(blocks - 1) * j // max(depth - 1, 1) for j in range(depth)]
        self.inner = copy.deepcopy(whole)
        self.inner.blocks = nn.ModuleList(self.inner.blocks[number] for number in self.numbers)
        for part in self.inner.modules():
            if isinstance(part, Block):
                part.heads = heads
            if isinstance(part, nn.LayerNorm):
                part.normalized_shape = (self.width,)
        weights = self.cut(whole)
        for name, parameter in self.inner.named_parameters():
            parameter.data = weights[name].detach().clone()

    def forward(self, tokens: Tensor, valid: Tensor | None, layers: Sequence[int]) -> tuple[Tensor, Tensor, list[Tensor] | None]:
        return self.inner(tokens[..., channels(self.whole_width, self.width, tokens.device)], valid, layers)

    def cut(self, whole: Transformer) -> dict[str, Tensor]:
        """Name within `inner` → its weights out of the whole's; gradients pass."""
        own, kept = dict(whole.named_parameters()), channels(self.whole_width, self.width, whole.cls.device)
        found = {"cls": own["cls"][..., kept]}
        found |= {name: value[kept] for name, value in own.items() if name.startswith("norm.")}
        for place, number in enumerate(self.numbers):
            prefix = f"blocks.{number}."
            found |= {f"blocks.{place}.{name.removeprefix(prefix)}": self._part(name.removeprefix(prefix), value, kept)
                      for name, value in own.items() if name.startswith(prefix)}
        return found

    def _part(self, name: str, value: Tensor, kept: Tensor) -> Tensor:
        """What is kept of a block's parameter, by its name there."""
        layer, width = name.rpartition(".")[0], self.width
        if layer == "qkv":
            value = value.unflatten(0, (3, -1))[:, :width].flatten(0, 1)
        elif layer == "mlp.0":
            value = value[: len(value) * width // self.whole_width]
        else:
            value = value[kept]
        if value.ndim == 1:
            return value
        enters = kept if layer in ("qkv", "mlp.0") else slice(value.shape[1] * width // self.whole_width)
        return value[:, enters] * (self.whole_width / width)


def refuse_others(backbone: nn.Module) -> None:
    """Says so where a backbone is no Transformer of blocks of attention."""
    transformer = getattr(backbone, "transformer", None)
    if not isinstance(transformer, Transformer) or not all(isinstance(block, Block) for block in transformer.blocks):
        raise NotApplicable(f"The backbone {type(backbone).__name__} has no narrower parts: use a Transformer such as vit_tiny.")


def sub_network(backbone: nn.Module, heads: int, depth: int) -> nn.Module:
    """A backbone of its own: of so many heads and blocks, with a copy of the weights that these have in `backbone`."""
    refuse_others(backbone)
    found = copy.deepcopy(backbone)
    found.transformer = SubTransformer(backbone.transformer, heads, depth)
    found.width = found.transformer.width
    return found


class Elastic:
    """`elastic((heads, depth), x, lengths=…)`: Features of the sub-network of a backbone, by the backbone's own weights, which gradients
    reach. Of every size that was asked for the structure is kept, no weights."""

    def __init__(self, backbone: nn.Module):
        refuse_others(backbone)
        self.backbone = backbone
        self._structures: dict[tuple[int, int], nn.Module] = {}

    def __call__(self, size: tuple[int, int], x: Tensor, **given: Any) -> Features:
        structure = self.structure(size).train(self.backbone.training)
        own = {**dict(self.backbone.named_parameters()), **dict(self.backbone.named_buffers())}
        weights = {name: value for name, value in own.items() if not name.startswith("transformer.")}
        weights |= {f"transformer.inner.{name}": value for name, value in structure.transformer.cut(self.backbone.transformer).items()}
        return functional_call(structure, weights, (x,), given)

    def structure(self, size: tuple[int, int]) -> nn.Module:
        if size not in self._structures:
            self._structures[size] = sub_network(self.backbone, *size).to("meta")
        return self._structures[size]
