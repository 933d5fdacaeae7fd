"""CAE: predict what the encoder itself would make of the hidden tokens, and decode their signal from that alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..contracts import Batch, Facts, Mask, Single, Terms, Training, View, register
from ..networks import Embedder
from ..networks.decoder import at_places, encode_visible, inside_tokens, predicted_places, rows
from ..networks.regressor import LatentDecoder, Regressor
from ..networks.signal import blank
from ..objectives.masked import masked_mean, signal_error, token_error
from .base import Method
from .mae import MAE


@register("cae")
class CAE(Method):
    """Context autoencoder (Chen et al., 2023).

    loss = mean over items and hidden tokens of error(d(ẑ), x) + λ ‖ẑ − sg[f(hidden tokens)]‖² / D,  ẑ = r(f(visible tokens))

    f encodes the visible tokens alone. r, the regressor, asks them what the hidden ones would be in f's own space; d, the decoder, sees
    ẑ and no visible token, so that completing the item is r's work and not f's. x: here a token's normalised signal, as MAE has it; the
    paper's code of a pretrained image tokenizer, for which there is none. Without the code's layer scale and drop path, and without its
    norm of r's residual stream itself. Nothing trains the cls token, so pool the mean.
    """

    grounded = True
    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep"}), mask=Mask("span", (0.5, 0.5), size=4))
    defaults = Training(optimizer="adamw", lr=1.875e-4, weight_decay=0.05, warmup=20.0, clip=3.0, batch_size=2048, epochs=800)
    small = {"depth": 2, "heads": 4, "size": 1, "backbone.pool": "mean", "training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, facts: Facts, depth: int = 4, heads: int = 12, alignment: float = 2.0,
                 normalised: bool = True, mask: str = "span", masked: float = 0.5, masks: int = 1, size: int = 4):
        """depth, heads: of r and of d, which are as wide as f. alignment: λ. The others: as of MAE."""
        super().__init__()
        self.alignment, self.normalised = alignment, normalised
        self.student, self.signal = Embedder(backbone), backbone.signal()
        self.regressor = Regressor(backbone, facts.shape, depth=depth, heads=heads)
        self.decoder = LatentDecoder(backbone, facts.shape, self.signal.width, depth=depth, heads=heads)

    def loss(self, views: list[View], batch: Batch) -> Terms:
        (view,) = views
        backbone, places = self.student.backbone, predicted_places(view)
        grid = backbone.grid(view.x.shape)
        latents = self.regressor(encode_visible(backbone, view), view, grid)
        decoded, target = self.decoder(latents, view, grid), at_places(self.targets(view), places)
        reconstruction = masked_mean(signal_error(decoded, target, counts=self.signal.counts(places)))
        if not self.alignment:
            return Terms(reconstruction, reconstruction=reconstruction)
        alignment = masked_mean(token_error(latents, self.latents(view)))
        return Terms(reconstruction + self.alignment * alignment, reconstruction=reconstruction, alignment=alignment)

    targets = MAE.targets

    @torch.no_grad()
    def latents(self, view: View) -> Tensor:
        """f of the hidden tokens alone [M · B, T, D]; NaN for those outside their item."""
        backbone, places = self.student.backbone, predicted_places(view)
        times = len(places) // len(view.x)
        tokens = backbone(rows(view.x, times), lengths=rows(view.lengths, times), keep=places).tokens
        inside = inside_tokens(view, backbone)
        return blank(tokens, None if inside is None else rows(inside, times).gather(1, places))
