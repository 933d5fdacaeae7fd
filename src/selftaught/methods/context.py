"""Context prediction: where does a neighbouring patch lie?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, OptionError, Patches, Terms, Training, View, register
from ..networks import Embedder, Mlp, over
from .base import Method

SWITCHES = ("side", "jitter", "yoked", "blur_chroma", "aperture", "turn")


@register("context")
class Context(Method):
    """Unsupervised visual representation learning by context prediction (Doersch et al., 2015).

    loss = mean over the patches k around the centre c of CE(h([f(x_c), f(x_k)]), k)

    The grid has `side` patches to an axis, so `side`^axes − 1 neighbours. A patch is encoded once and serves in all its pairs,
    where the paper draws one pair; f's head is the pooled features. The guards against shortcuts of Mundhenk et al. (2018),
    off unless switched on: `yoked` jitter, `blur_chroma`, `aperture`, and `turn` with the turn classified from each patch too
    (+ CE(W f(x), turn)). BatchNorm statistics are joint over the patches. The learning rate is ours: the paper gives none.
    """

    grounded = True
    needs = Patches()
    defaults = Training(optimizer="sgd", lr=0.01, momentum=0.999, weight_decay=1e-4, batch_size=256, epochs=100)
    small = {"hidden": 512, "training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 1e-4}

    def __init__(self, backbone: nn.Module, *, facts: Facts, hidden: int = 4096, side: int = 3, jitter: float = 0.2,
                 yoked: bool = False, blur_chroma: float = 0.0, aperture: float = 0.0, turn: float = 0.0):
        """hidden: of the classifier, three layers. The others: see contracts.Patches."""
        super().__init__()
        if side < 3 or side % 2 == 0:
            raise OptionError(f"method.side={side} has no patch in the middle: give an odd number of at least 3.")
        self.classes = side**facts.axes - 1
        self.student = Embedder(backbone)
        self.classifier = Mlp(2 * backbone.width, hidden, self.classes, layers=3)
        self.turn = nn.Linear(backbone.width, 4) if turn else None

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Patches:
        return replace(cls.needs, **{k: v for k, v in options.items() if k in SWITCHES})

    def loss(self, views: list[View], batch: Batch) -> Terms:
        patches = over(views, self.student, joint=True)
        logits, places = self.pairs(patches)
        place = F.cross_entropy(logits, places)
        if self.turn is None:
            return Terms(place, place=place)
        turn = F.cross_entropy(self.turn(torch.cat(patches)), torch.cat([v.applied["turn"] for v in views]))
        return Terms(place + turn, place=place, turn=turn)

    def pairs(self, patches: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits [(side^axes − 1) · B, classes] of every neighbour beside the centre, and its place, from the patches' features."""
        middle = len(patches) // 2
        others = patches[:middle] + patches[middle + 1:]
        logits = self.classifier(torch.cat([torch.cat([patches[middle], other], 1) for other in others]))
        return logits, torch.arange(self.classes, device=logits.device).repeat_interleave(len(patches[0]))
