"""Label augmentation: one classifier over class and transformation together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Facts, OptionError, Terms, Training, Transformed, View, register
from ..networks import Embedder, LinearHead, over
from ..objectives import cross_entropy_labelled
from .base import Method


@register("label_augmentation")
class LabelAugmentation(Method):
    """Self-supervised label augmentation via input transformations (Lee et al., 2020).

    L_SLA = (1/M) Σ_j CE(ρ(f(t_j(x))), (y, j)),  ρ over all N·M pairs of a class and a transformation          (eq. 4)
    P_agg = softmax_y (1/M) Σ_j logit of (y, j) for t_j(x)                                                     (eq. 5)
    distil: L_SLA + KL(P_agg ‖ σ(f(x))) + β CE(σ(f(x)), y), σ a second head that sees the item untransformed    (eq. 6)

    kind: the transformations, turns or orders of channels. BatchNorm statistics are joint over them. Nothing flows back
    through P_agg. The paper lowers its rate in steps, here it falls along a cosine.
    """

    grounded = True
    needs = Transformed(kind="turn")
    defaults = Training(optimizer="sgd", lr=0.2, weight_decay=5e-4, decay_norm_and_bias=True, warmup=0.0, batch_size=128, epochs=200)
    small = {"training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 0.05}
    labelled = True

    def __init__(self, backbone: nn.Module, *, facts: Facts, kind: str = "turn", distil: bool = False, beta: float = 1.0):
        super().__init__()
        if not facts.classes:
            raise OptionError("method=label_augmentation tells classes apart, and the target is a number: use method=supervised.")
        self.transformations, self.beta = self.needed({"kind": kind}).classes, beta
        self.student = Embedder(backbone, LinearHead(backbone.width, facts.classes * self.transformations))
        self.single = LinearHead(backbone.width, facts.classes) if distil else None

    @classmethod
    def needed(cls, options: Mapping[str, Any]) -> Transformed:
        kind = options.get("kind", "turn")
        if kind not in ("turn", "channels"):
            raise OptionError(f"method.kind={kind!r} is not known to label_augmentation: give turn or channels.")
        return Transformed(kind=kind)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        features = over(views, lambda v: self.student.backbone(v.x, lengths=v.lengths).pooled, joint=True)
        logits = [self.student.head(f) for f in features]
        pairs = [torch.where(batch.y >= 0, batch.y * self.transformations + v.applied["class"], -1) for v in views]
        joint = cross_entropy_labelled(torch.cat(logits), torch.cat(pairs))
        if self.single is None:
            return Terms(joint, joint=joint)
        alone, taught = self.single(features[0]), aggregated(logits).detach()
        distilled = F.kl_div(alone.log_softmax(1), taught.log_softmax(1), reduction="batchmean", log_target=True)
        label = cross_entropy_labelled(alone, batch.y)
        return Terms(joint + distilled + self.beta * label, joint=joint, distilled=distilled, label=label)

    def predict(self, views: list[View]) -> Tensor:
        """Logits [B, N] of P_agg: aggregated inference from an item under all transformations, in their order."""
        return aggregated([self.student(v) for v in views])


def aggregated(logits: Sequence[Tensor]) -> Tensor:
    """The mean over transformations j of the logits of (·, j) for an item under j: M tensors [B, N·M] → [B, N]."""
    count = len(logits)
    return torch.stack([z.unflatten(1, (-1, count))[:, :, j] for j, z in enumerate(logits)]).mean(0)
