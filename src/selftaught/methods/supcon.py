"""SupCon: SimCLR where all items of a class are positives."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, Facts, OptionError, Pair, Training, View, register
from ..networks import Embedder, Mlp, over
from ..objectives import supervised_contrastive
from .base import Method


@register("supcon")
class SupCon(Method):
    """Supervised contrastive learning (Khosla et al., 2020).

    L_out = Σ_i −1/|P(i)| Σ_{p∈P(i)} log exp(z_i·z_p/τ) / Σ_{k≠i} exp(z_i·z_k/τ)          (eq. 2)

    P(i): all other views of items of i's class; an unlabelled item is a class of its own. BatchNorm statistics are those of both
    views together. Rate and batch as in the authors' code for small images.
    """

    needs = Pair()
    defaults = Training(optimizer="sgd", lr=0.125, weight_decay=1e-4, decay_norm_and_bias=True, batch_size=1024, epochs=1000)
    small = {"hidden": 512, "training.optimizer": "adamw", "training.lr": 2e-3, "training.scale_lr": "sqrt"}
    labelled = True

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 128, hidden: int | None = None, temperature: float = 0.1):
        """width: of z. hidden: of the projector, None for the backbone's width."""
        super().__init__()
        need_classes(facts, self.name)
        self.temperature = temperature
        self.student = Embedder(backbone, Mlp(backbone.width, hidden or backbone.width, width, norm=False))

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        a, b = over(views, self.student, joint=True)
        return supervised_contrastive(a, b, batch.y, temperature=self.temperature)


def need_classes(facts: Facts, name: str) -> None:
    """An OptionError where the target is a number or was not named."""
    if not facts.classes:
        raise OptionError(f"method={name} compares items of one class with others, but the target has no classes: name a column of "
                          "classes with --target, or use method=supervised for numbers.")
