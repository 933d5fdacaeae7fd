"""DINO: a student sees small crops and predicts how its own moving average classifies the large ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Group, Linear, MultiCrop, Training, View, register
from ..networks import Centre, DinoHead, Embedder, Teacher, over
from ..objectives import swapped_prediction
from .base import Method


@register("dino")
class DINO(Method):
    """Self-distillation with no labels (Caron et al., 2021).

    loss = mean over global views x and other views x′ of H(P_t(x), P_s(x′)),  H(a, b) = −a log b          (eq. 2 and 3)
    P_s = softmax(g_s(x′)/τ_s),  P_t = softmax((g_t(x) − c)/τ_t),  c ← m c + (1 − m) mean g_t(x)           (eq. 1 and 4)

    The teacher's momentum rises from `momentum` to 1 along a cosine (0.9995 suits batches of 256), its temperature from
    `teacher_temperature` over `temperature_epochs`; the head's last layer is frozen for one epoch. The kept encoder is the
    teacher's. BatchNorm statistics, where the backbone has them, are joint over the views of one size. Without drop path.
    """

    needs = MultiCrop(small=8, large_scale=(0.4, 1.0), small_scale=(0.05, 0.4), asymmetric=True)
    defaults = Training(optimizer="adamw", lr=5e-4, final_lr=1e-6, weight_decay=Cosine(0.04, 0.4), clip=3.0, clip_each=True,
                        batch_size=1024, epochs=100, groups={"student.head.last": Group(frozen_epochs=1.0)})
    small = {"outputs": 256, "hidden": 512, "bottleneck": 128, "norm": True, "momentum": 0.95,
             "teacher_temperature": (0.04, 0.04), "training.lr": 2e-3, "training.scale_lr": "sqrt", "training.weight_decay": 0.04}

    def __init__(self, backbone: nn.Module, *, outputs: int = 65536, hidden: int = 2048, bottleneck: int = 256,
                 momentum: float = 0.996, temperature: float = 0.1, teacher_temperature: tuple[float, float] = (0.04, 0.07),
                 temperature_epochs: float = 30.0, centre_momentum: float = 0.9, norm: bool = False):
        """outputs: classes K of the head. hidden, bottleneck: widths within it. temperature: τ_s. teacher_temperature: τ_t at
        first and after `temperature_epochs`. norm: BatchNorm in the head."""
        super().__init__()
        self.temperature = temperature
        self.teacher_temperature = Linear(*teacher_temperature, epochs=temperature_epochs)
        head = DinoHead(backbone.width, outputs, hidden=hidden, bottleneck=bottleneck, norm=norm)
        self.student = Embedder(backbone, head)
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 1.0))
        self.centre = Centre(outputs, centre_momentum)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        predicted = over(views, self.student, joint=True)
        taught = over([v for v in views if v.role == "global"], self.teacher, joint=True)
        self.centre.stage(torch.cat(taught))
        temperature = self.at(self.teacher_temperature)
        targets = [((t - self.centre.value) / temperature).softmax(1) for t in taught]
        return swapped_prediction(predicted, targets, temperature=self.temperature)

    def kept(self) -> nn.Module:
        return self.teacher.backbone
