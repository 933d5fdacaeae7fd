"""T-JEPA: I-JEPA for items whose tokens are a set, with no views but subsets of them."""

from __future__ import annotations

from torch import nn

from ..contracts import Cosine, Facts, Mask, Single, Training, register
from .jepa import JEPA


@register("tjepa")
class TJEPA(JEPA):
    """Augmentation-free self-supervised learning for tabular data (Thimonier et al., 2025).

    loss = mean over target subsets m, items and tokens t in m of ‖g(f(context), mask tokens)_t − f̄(x)_t‖² / D

    Context and targets are random subsets of the tokens. f's cls token is the paper's regularisation token: it is never hidden, and
    it is no target; the predictor sees what is pooled, which is that token, or in short runs the mean, and then it is discarded, as there.
    Targets are the teacher's last layer as it is. The paper's four targets may meet; here two share what the context leaves; their code
    cuts each value of a gradient at 1, here its norm is. Short runs keep the teacher closer.
    """

    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep"}), mask=Mask("random", (0.2, 0.4), count=2, context=(0.85, 1.0)))
    defaults = Training(optimizer="adamw", lr=2e-4, scale_lr="sqrt", weight_decay=Cosine(1e-5, 1e-2), warmup=5.0, clip=1.0, batch_size=64,
                        epochs=100)
    small = {"width": 32, "momentum": 0.95, "norm": "instance", "backbone.pool": "mean", "training.lr": 2e-3}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 64, depth: int = 2, heads: int = 4, momentum: float = 0.996,
                 norm: str = "none", error: str = "l2", mask: str = "random", masked: tuple[float, float] = (0.2, 0.4), masks: int = 2,
                 size: int = 1, context: tuple[float, float] = (0.85, 1.0)):
        """As of I-JEPA."""
        super().__init__(backbone, facts=facts, width=width, depth=depth, heads=heads, momentum=momentum, norm=norm, error=error)
