"""LoRot: beside the class, tell how one part of the item was turned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, OptionError, Terms, Training, Transformed, View, register
from ..networks import Embedder, LinearHead
from ..objectives import cross_entropy_labelled
from .base import Method

KINDS = {"I": "patch_turn", "E": "quadrant_turn", "whole": "turn"}


@register("lorot")
class LoRot(Method):
    """Tailoring self-supervision for supervised learning: localizable rotation (Moon et al., 2022).

    loss = CE(W f(x̃), y) + λ · CE(V f(x̃), turn), both from one forward of the same item x̃, of which one part is turned in place

    variant E: one of four quadrants, told with its turn (16 classes). I: a patch of any size and place (4 classes; drawn a
    sample, where the authors' code draws the patch once a batch). whole: the item itself is turned, the paper's control.
    λ (`weight`) is .1, for the detection of foreign items .5 in the authors' code.
    """

    grounded = True
    needs = Transformed(kind="quadrant_turn", every=False)
    defaults = Training(optimizer="sgd", lr=0.2, weight_decay=2e-4, decay_norm_and_bias=True, warmup=5.0, batch_size=128, epochs=200)
    small = {"training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 0.05}
    labelled = True

    def __init__(self, backbone: nn.Module, *, facts: Facts, variant: str = "E", weight: float = 0.1):
        super().__init__()
        if not facts.classes:
            raise OptionError("method=lorot tells classes apart, and the target is a number: use method=supervised.")
        self.weight = weight
        self.student = Embedder(backbone, LinearHead(backbone.width, facts.classes))
        self.turn = LinearHead(backbone.width, self.needed({"variant": variant}).classes)

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Transformed:
        variant = options.get("variant", "E")
        if variant not in KINDS:
            raise OptionError(f"method.variant={variant!r} is not known to lorot: give one of {', '.join(KINDS)}.")
        return Transformed(kind=KINDS[variant], every=False)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        features: Tensor = self.student.backbone(views[0].x, lengths=views[0].lengths).pooled
        label = cross_entropy_labelled(self.student.head(features), batch.y)
        turn = F.cross_entropy(self.turn(features), views[0].applied["class"])
        return Terms(label + self.weight * turn, label=label, turn=turn)
