"""MAE: from the few tokens that are left of an item, its hidden ones as they are."""

from __future__ import annotations

from torch import Tensor, nn

from ..contracts import Batch, Facts, Features, Mask, Single, Training, View, register
from ..networks import Embedder
from ..networks.decoder import Decoder, at_places, encode_visible, predicted_places
from ..objectives.masked import masked_mean, signal_error
from .base import Method, with_mask  # noqa: F401  (a proof that has its result takes it from here)


@register("mae")
class MAE(Method):
    """Masked autoencoders (He et al., 2022).

    loss = mean over items and hidden tokens p of ‖x̂_p − x_p‖² / P,  x̂ = g(f(visible tokens), mask tokens at the hidden places)

    f encodes the visible tokens alone, g is a light Transformer, x_p the P values of a token, normalised by their own mean and
    deviation. Numbers of a table have the same error, codes the cross-entropy. Several masks an item give the mean of their losses;
    where none is hidden, all tokens are reconstructed. The paper crops at least a fifth of an image, here the modality's weak views
    at least half; short runs hide half of the tokens, which are few and large there. The kept encoder pools the mean of its tokens in small
    networks, else as it was built.
    """

    grounded = True
    needs = Single(strength="weak", backbone=frozenset({"tokens", "keep"}), mask=Mask("random", (0.75, 0.75)))
    defaults = Training(optimizer="adamw", lr=1.5e-4, weight_decay=0.05, betas=(0.9, 0.95), warmup=40.0, batch_size=4096, epochs=800)
    small = {"width": 64, "depth": 2, "heads": 4, "masked": 0.5, "backbone.pool": "mean", "training.lr": 2e-3, "training.scale_lr": "sqrt"}

    def __init__(self, backbone: nn.Module, *, facts: Facts, width: int = 512, depth: int = 8, heads: int = 16, normalised: bool = True,
                 mask: str = "random", masked: float = 0.75, masks: int = 1, size: int = 1):
        """width, depth, heads: of g. normalised: the target, each token by itself. mask, masked, masks, size: kind of mask, part that is
        hidden, masks of an item, tokens a side of the boxes it hides."""
        super().__init__()
        self.normalised = normalised
        self.student, self.signal = Embedder(backbone), backbone.signal()
        self.decoder = Decoder(backbone, facts.shape, self.signal.width, width=width, depth=depth, heads=heads)

    def loss(self, views: list[View], batch: Batch) -> Tensor:
        (view,) = views
        return self.reconstruction(view, encode_visible(self.student.backbone, view))

    def reconstruction(self, view: View, encoded: Features) -> Tensor:
        """What decoding `encoded`, the features of a view's visible tokens, errs by."""
        places = predicted_places(view)
        predicted, target = self.decoder(encoded, view, self.student.backbone.grid(view.x.shape)), at_places(self.targets(view), places)
        return masked_mean(signal_error(predicted, target, counts=self.signal.counts(places)))

    def targets(self, view: View) -> Tensor:
        """x [B, N, P]."""
        return self.signal(view.x, view.lengths, normalised=self.normalised)
