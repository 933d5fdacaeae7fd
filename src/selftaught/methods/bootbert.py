"""BootBERT: of hidden tokens, what they are and what a teacher makes of them, at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Batch, Cosine, Linear, Mask, Single, Terms, Training, View, register
from ..networks import Embedder, Teacher
from ..networks.decoder import at_places, encode_masked, inside_tokens, predicted_places
from ..networks.signal import blank, target_spread
from ..objectives.masked import masked_mean, signal_error, token_error
from .base import Method


@register("bootbert")
class BootBERT(Method):
    """Latent bootstrapping for language models (Samuel, 2023: "Mean BERTs make erratic language teachers").

    loss = latent · mean over hidden tokens t of smooth L1(q(h_t), LN(h̄_t)) + weight · mean over t of −log p(x_t | h_t)

    h: last layer of the student, mask tokens at the hidden places; h̄: of a teacher that sees the whole item, without dropout, its momentum
    rising linearly to 1. x_t: an id or a code; numbers have the squared error. q, p: a linear map, GELU, LayerNorm, a linear map.
    The authors' student encodes the visible tokens alone, and four more layers decode; here mask tokens go through the encoder, which can
    then be asked for a hidden word as it is kept. They tie p's last map to the embedding, and use LAMB, whose rate
    ends above 0. Short runs weigh both terms
    alike and hide twice as much.
    """

    needs = Single(strength="weak", backbone=frozenset({"tokens", "mask_tokens"}), mask=Mask("random", (0.15, 0.15)))
    defaults = Training(optimizer="adamw", lr=1e-3, scale_lr="sqrt", weight_decay=Cosine(0.02, 0.2), betas=(0.9, 0.98), warmup=1.0,
                        clip=2.0, batch_size=256, epochs=100)
    small = {"weight": 1.0, "masked": 0.3, "momentum": 0.95, "backbone.pool": "mean", "training.lr": 4e-3,
             "training.weight_decay": 0.02}

    def __init__(self, backbone: nn.Module, *, latent: float = 1.0, weight: float = 0.1, momentum: float = 0.996, mask: str = "random",
                 masked: float = 0.15, masks: int = 1, size: int = 1):
        """latent, weight: of the two terms. momentum: the teacher's, at first. mask, masked, masks, size: as of MAE."""
        super().__init__()
        self.latent, self.weight = latent, weight
        self.grounded = weight > 0  # else only its own teacher is predicted, which a constant does best
        self.student, self.signal = Embedder(backbone), backbone.signal()
        self.mask_token = nn.Parameter(torch.empty(backbone.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.bootstrap, self.model = predictor(backbone.width, backbone.width), predictor(backbone.width, self.signal.width)
        self.teacher = Teacher(self.student, momentum=Linear(momentum, 1.0))

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (view,) = views
        places, targets = predicted_places(view), self.targets(view)
        hidden = at_places(encode_masked(self.student.backbone, view, self.mask_token).tokens, places)
        latent = masked_mean(token_error(self.bootstrap(hidden), at_places(targets, places), kind="smooth_l1"))
        signal = at_places(self.signal(view.x, view.lengths), places)
        model = masked_mean(signal_error(self.model(hidden), signal, counts=self.signal.counts(places)))
        return Terms(self.latent * latent + self.weight * model, latent=latent, model=model, target_spread=target_spread(targets))

    @torch.no_grad()
    def targets(self, view: View) -> Tensor:
        """LN(h̄) [B, N, D]."""
        backbone = self.teacher.backbone.eval()
        tokens = backbone(view.x, lengths=view.lengths).tokens
        return blank(F.layer_norm(tokens, tokens.shape[-1:]), inside_tokens(view, backbone))


def predictor(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, elementwise_affine=False), nn.Linear(width, out))
