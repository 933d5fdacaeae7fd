"""ASiT: restore groups of tokens, and classify the whole and every token as a teacher does that sees nothing overwritten."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Group, Linear, Mask, NotApplicable, Pair, Terms, Training, View, register
from ..networks import Centre, DinoHead, Embedder, Teacher, over
from ..networks.backbone import mask_steps
from ..networks.decoder import inside_tokens
from ..networks.heads import UnitLinear
from ..networks.signal import PatchSignal
from ..objectives import masked_mean, signal_error, swapped_prediction
from ..objectives.alignment import token_cross_entropy
from .base import Method
from .tera import on_values


@register("asit")
class ASiT(Method):
    """Local–global audio spectrogram vision Transformer (Atito et al., 2024).

    loss = whole · ½ Σ over views a ≠ b of H(P_t(a), P_s(b̃))                                   (global self-distillation, as DINO)
         + local · mean over views a, items and tokens i of H(P̄_t(a)_i, P̄_s(ã)_i)               (local, at the same place)
         + reconstruction · mean over views a, items and overwritten tokens i of |x̂_i − x_i|     (group masked modelling)

    a, b: two crops of an item, as they are for the teacher. ã: groups of tokens overwritten in it, 29 to 45 % of them by a mask token
    and the same part of the rest by what another item of the batch shows there (rows 2k and 2k + 1 lend each other theirs): half to 70 %
    in all. The authors do one or the other to an item, zeros on half to 70 % or 30 % of another's. P: softmax of scores at `temperature`,
    the teacher's less a moving centre and sharper; whole and tokens share a head up to its last layer. Without drop path. Short runs
    overwrite about half of the tokens, and have a teacher that keeps up. The kept encoder is the teacher's.
    """

    needs = Pair(backbone=frozenset({"tokens", "mask_tokens"}), mask=Mask("span", (0.29, 0.45), count=2, size=3))
    defaults = Training(optimizer="adamw", lr=5e-4, final_lr=1e-6, weight_decay=Cosine(0.04, 0.4), clip=3.0, clip_each=True, warmup=10.0,
                        batch_size=256, epochs=100,
                        groups={"student.head.last": Group(frozen_epochs=1.0), "student.patches": Group(frozen_epochs=1.0)})
    small = {"outputs": 256, "patch_outputs": 128, "hidden": 256, "bottleneck": 128, "norm": True, "momentum": 0.9,
             "teacher_temperature": (0.04, 0.04), "masked": (0.2, 0.4), "size": 2, "backbone.pool": "mean", "training.lr": 4e-3,
             "training.scale_lr": "sqrt", "training.weight_decay": 0.04}

    def __init__(self, backbone: nn.Module, *, outputs: int = 8192, patch_outputs: int = 1024, hidden: int = 2048, bottleneck: int = 256,
                 norm: bool = False, whole: float = 1.0, local: float = 1.0, reconstruction: float = 2.0, momentum: float = 0.996,
                 temperature: float = 0.1, teacher_temperature: tuple[float, float] = (0.04, 0.07), temperature_epochs: float = 30.0,
                 centre_momentum: float = 0.9, mask: str = "span", masked: tuple[float, float] = (0.29, 0.45), size: int = 3):
        """outputs, patch_outputs: classes of the whole and of tokens. hidden, bottleneck, norm, the temperatures: as of DINO. whole,
        local, reconstruction: weights. mask, masked, size: as of MAE, `masked` between two parts."""
        super().__init__()
        self.whole, self.local, self.reconstruction, self.temperature = whole, local, reconstruction, temperature
        self.grounded = reconstruction > 0  # else only its own teacher is predicted, which a constant does best
        self.teacher_temperature = Linear(*teacher_temperature, epochs=temperature_epochs)
        head = DinoHead(backbone.width, outputs, hidden=hidden, bottleneck=bottleneck, norm=norm)
        self.student, self.signal = Embedder(backbone, head), backbone.signal()
        if not isinstance(self.signal, PatchSignal):
            raise NotApplicable("The method asit overwrites and restores values, and the tokens of this backbone are no patches of values: "
                                "use simmim or data2vec.")
        self.student.patches = UnitLinear(bottleneck, patch_outputs)
        self.teacher = Teacher(self.student, momentum=Cosine(momentum, 1.0))
        self.centre, self.patch_centre = Centre(outputs, centre_momentum), Centre(patch_outputs, centre_momentum)
        self.mask_token = nn.Parameter(torch.zeros(backbone.width))
        width = backbone.width
        self.restore = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                                     nn.Linear(width, self.signal.width))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        taught = over(views, self.targets, joint=True)
        seen = over([self.overwritten(v) for v in views], self.encode, joint=True)
        wholes, tokens = zip(*(self.scores(self.student, features) for features in seen))
        targets, token_targets = zip(*(self.assigned(features, view) for features, view in zip(taught, views)))
        whole = swapped_prediction(wholes, targets, temperature=self.temperature)
        local = masked_mean(token_cross_entropy(torch.cat(tokens), torch.cat(token_targets), temperature=self.temperature))
        restored = torch.cat([self.restore(features[:, 1:]) for features in seen])
        error = masked_mean(signal_error(restored, torch.cat([self.hidden_signal(v) for v in views]), kind="l1"))
        return Terms(self.whole * whole + self.local * local + self.reconstruction * error, whole=whole, local=local, reconstruction=error)

    def overwritten(self, view: View) -> View:
        """The view with another item's values where the second mask lies; the first is left for the mask token."""
        x, foreign = mask_steps(view.x, view.lengths), view.masks[1] & ~view.masks[0]
        neighbour = (torch.arange(len(x), device=x.device) ^ 1).clamp(max=len(x) - 1)
        where = on_values(foreign, self.student.backbone.grid(x.shape), self.signal.patch, x)
        return view.with_(x=torch.where(where, x[neighbour], x), masks=view.masks[:1])

    def encode(self, view: View) -> Tensor:
        """What the student makes of an overwritten view: what is pooled, then the tokens [B, 1 + N, D]."""
        features = self.student.backbone(view.x, lengths=view.lengths, masked=view.masks[0], mask_token=self.mask_token)
        return torch.cat([features.pooled[:, None], features.tokens], dim=1)

    @torch.no_grad()
    def targets(self, view: View) -> Tensor:
        """The same of the teacher, of a view as it is."""
        features = self.teacher.backbone(view.x, lengths=view.lengths)
        return torch.cat([features.pooled[:, None], features.tokens], dim=1)

    def scores(self, network: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
        """Of the whole [B, K] and of the tokens [B, N, K̄]; where the head has BatchNorm, each has statistics of its own."""
        whole, tokens = (F.normalize(network.head.mlp(rows), dim=-1) for rows in (features[:, 0], features[:, 1:].flatten(0, 1)))
        return network.head.last(whole), network.patches(tokens).unflatten(0, (len(features), -1))

    @torch.no_grad()
    def assigned(self, features: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """P_t of the whole and of the tokens, NaN where these lie past the end; padding does not move the centre."""
        whole, tokens = self.scores(self.teacher.module, features)
        inside, temperature = inside_tokens(view, self.student.backbone), self.at(self.teacher_temperature)
        if inside is not None:
            tokens = torch.where(inside[..., None], tokens, self.patch_centre.value.to(tokens.dtype))
        self.centre.stage(whole)
        self.patch_centre.stage(tokens)
        whole, tokens = (((scores - centre.value) / temperature).softmax(-1)
                         for scores, centre in ((whole, self.centre), (tokens, self.patch_centre)))
        return whole, tokens if inside is None else tokens.masked_fill(~inside[..., None], torch.nan)

    def hidden_signal(self, view: View) -> Tensor:
        """x [B, N, P], NaN where nothing was overwritten."""
        return self.signal(view.x, view.lengths).masked_fill(~view.masks.any(0)[..., None], torch.nan)

    def kept(self) -> nn.Module:
        return self.teacher.backbone
