"""Jigsaw puzzles: which of a set of permutations has shuffled the tiles?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import permutations as all_orders
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, NotApplicable, OptionError, Patches, Training, View, register
from ..networks import Embedder, Mlp, over
from .base import Method

MOST_TILES = 9  # 362,880 orders: what can still be searched


@register("jigsaw")
class Jigsaw(Method):
    """Unsupervised learning of visual representations by solving jigsaw puzzles (Noroozi & Favaro, 2016).

    loss = CE(h([f(x_σ(1)), …, f(x_σ(P))]), number of σ), σ drawn from `permutations` orders far from each other in Hamming
    distance (algorithm 1, started from the identity). f sees one tile at a time: a context-free network.

    An item gets one order a step, drawn by a hash of its epoch and slot. BatchNorm statistics are joint over the tiles. The
    paper's tiles are normalised one by one and its network has no BatchNorm.
    """

    grounded = True
    needs = Patches(jitter=0.15)
    defaults = Training(optimizer="sgd", lr=0.01, weight_decay=5e-4, batch_size=256, epochs=70)
    small = {"tile": 128, "hidden": 512, "permutations": 64, "training.optimizer": "adamw", "training.lr": 2e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, facts: Facts, permutations: int = 1000, tile: int = 512, hidden: int = 4096,
                 side: int = 3, jitter: float = 0.15):
        """permutations: how many orders (all of them where there are fewer). tile: width of f. hidden: of the classifier."""
        super().__init__()
        tiles = side**facts.axes
        if side < 2 or tiles > MOST_TILES:
            kind = NotApplicable if facts.axes > 2 else OptionError
            raise kind(f"method.side={side} makes {tiles} tiles of {facts.modality} items, and a puzzle has 2 to {MOST_TILES}: give "
                       "another side.")
        orders = distant_permutations(tiles, min(permutations, math.factorial(tiles)))
        self.register_buffer("orders", torch.from_numpy(orders))
        self.student = Embedder(backbone, nn.Sequential(nn.Linear(backbone.width, tile), nn.ReLU(inplace=True)))
        self.classifier = Mlp(tiles * tile, hidden, len(orders))

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Patches:
        return replace(cls.needs, **{k: v for k, v in options.items() if k in ("side", "jitter")})

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        tiles = torch.stack(over(views, self.student, joint=True), 1)  # [B, P, tile]
        number = self.draws(batch).integers("order", len(self.orders))
        shuffled = tiles.gather(1, self.orders[number][:, :, None].expand_as(tiles))
        return F.cross_entropy(self.classifier(shuffled.flatten(1)), number)


@lru_cache(maxsize=8)
def distant_permutations(tiles: int, count: int) -> np.ndarray:
    """int64 [count, tiles]: the identity, then one after another the order whose summed Hamming distance to those chosen is largest
    (the first of equals)."""
    orders = np.array(list(all_orders(range(tiles))), dtype=np.int8)
    distance, chosen = np.zeros(len(orders), dtype=np.int64), [0]
    while len(chosen) < count:
        distance += (orders != orders[chosen[-1]]).sum(1)
        distance[chosen[-1]] = -(tiles + 1) * count  # never again
        chosen.append(int(distance.argmax()))
    return orders[chosen].astype(np.int64)
