"""SiT: restore what was overwritten, tell how the item was turned, and know its other view, each as sure as it can be."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Draws, Facts, Features, Mask, NotApplicable, OptionError, Terms, Training, TurnedPair, View, register
from ..networks import Embedder, over
from ..objectives import masked_mean, nt_xent, signal_error
from ..objectives.alignment import uncertainty_weighted
from .base import Method

SCALES = {"reconstruction": 0.5, "rotation": 1.0, "contrast": 1.0}
"""Task → a: ½ for a regression, 1 for a classification."""


@register("sit")
class SiT(Method):
    """Self-supervised vision Transformer (Atito et al., 2021).

    loss = Σ over tasks of a exp(−s) L + s / 2,  s learned          (Kendall et al., 2018)
    reconstruction: mean |x̂ − x| over all tokens of both views; rotation: −log p(turn); contrast: NT-Xent of both views

    So the authors' code in one version; in another it has exp(−a s) L + s / 2. Of each view two sets of groups of tokens are
    overwritten: one by noise, one by what the neighbour in the batch shows there (rows 2k and 2k + 1 lend each other theirs, so
    that no process needs another's); ids are overwritten by ids alone. The authors also blur a part of an image and make one grey,
    and draw for each image how much is overwritten, here it is drawn a step; they give rotation and contrast a token each, here
    both read what is pooled.
    """

    grounded = True
    needs = TurnedPair(backbone=frozenset({"tokens"}), mask=Mask("span", (0.0, 0.3), count=2, size=3))
    defaults = Training(optimizer="adamw", lr=2.5e-4, weight_decay=0.05, warmup=5.0, final_lr=1e-5, batch_size=288, epochs=500)
    small = {"size": 2, "backbone.pool": "mean", "training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 512, temperature: float = 0.5, reconstruction: bool = True,
                 rotation: bool = True, contrast: bool = True, mask: str = "span", masked: tuple[float, float] = (0.0, 0.3),
                 size: int = 3):
        """width: of the contrasted projection. reconstruction, rotation, contrast: which tasks there are. mask, masked, size: as of MAE,
        `masked` between two parts, of either set."""
        super().__init__()
        self.tasks = [task for task, wanted in zip(SCALES, (reconstruction, rotation, contrast)) if wanted]
        if not self.tasks:
            raise OptionError("method=sit learns nothing without a task: leave one of reconstruction, rotation and contrast on.")
        self.temperature = temperature
        self.student, self.signal = Embedder(backbone), backbone.signal()
        grid = backbone.grid(facts.shape)
        self.patch = getattr(self.signal, "patch", (1,) * len(grid))
        if tuple(-(-side // patch) for side, patch in zip(facts.shape[-len(grid):], self.patch)) != grid:
            raise NotApplicable(f"method=sit overwrites what tokens show, and those of {type(backbone).__name__} are no patches of a grid.")
        outputs = {"reconstruction": self.signal.width, "rotation": self.needs.classes, "contrast": width}
        self.heads = nn.ModuleDict({task: nn.Linear(backbone.width, outputs[task]) for task in self.tasks})
        self.uncertainty = nn.ParameterDict({task: nn.Parameter(torch.ones(())) for task in self.tasks})

    def loss(self, views: list[View], batch: Batch) -> Terms:
        draws = self.draws(batch)
        seen = [self.overwritten(view, draws.split(k)) for k, view in enumerate(views)]
        features = over(seen, lambda v: self.student.backbone(v.x, lengths=v.lengths), joint=True)
        terms = {task: getattr(self, task)(views, features) for task in self.tasks}
        return Terms(sum(uncertainty_weighted(loss, self.uncertainty[task], scale=SCALES[task]) for task, loss in terms.items()), **terms)

    def overwritten(self, view: View, draws: Draws) -> View:
        """The view, noise in place of its first masks and the neighbour's values in place of its second ones."""
        x, (noisy, foreign) = view.x, (self.covered(mask, view.x) for mask in view.masks)
        neighbour = (torch.arange(len(x), device=x.device) ^ 1).clamp(max=len(x) - 1)
        if x.is_floating_point():
            found = torch.where(noisy, draws.normal("noise", *x.shape[1:]).to(x.dtype), x)
        else:
            found, foreign = x, foreign | noisy
        return view.with_(x=torch.where(foreign, x[neighbour], found), masks=None)

    def covered(self, mask: Tensor, x: Tensor) -> Tensor:
        """bool, x's shape but for the channels: where tokens [B, N] of the mask lie in x [B, ...]."""
        grid = self.student.backbone.grid(x.shape)
        where = mask.view(len(x), *[1] * (x.ndim - 1 - len(grid)), *grid)
        for axis, patch in enumerate(self.patch, x.ndim - len(grid)):
            where = where.repeat_interleave(patch, axis).narrow(axis, 0, x.shape[axis])
        return where

    def reconstruction(self, views: list[View], features: list[Features]) -> Tensor:
        predicted, target = self.heads["reconstruction"](torch.cat([f.tokens for f in features])), torch.cat([*map(self.targets, views)])
        places = torch.arange(target.shape[1], device=target.device).expand(target.shape[:2])
        return masked_mean(signal_error(predicted, target, counts=self.signal.counts(places), kind="l1"))

    def rotation(self, views: list[View], features: list[Features]) -> Tensor:
        return F.cross_entropy(self.heads["rotation"](torch.cat([f.pooled for f in features])),
                               torch.cat([v.applied["class"] for v in views]))

    def contrast(self, views: list[View], features: list[Features]) -> Tensor:
        """Mean over both views' items; `nt_xent` is the sum of both sides' means."""
        a, b = (self.heads["contrast"](f.pooled) for f in features)
        return 0.5 * nt_xent(a, b, temperature=self.temperature)

    def targets(self, view: View) -> Tensor:
        """x [B, N, P]."""
        return self.signal(view.x, view.lengths)
