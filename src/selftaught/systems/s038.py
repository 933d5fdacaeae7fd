"""S038, CAE: predicting hidden tokens in the encoder's own space, apart from it, beats decoding them right from the visible ones."""

from .proof import Arm, Claim, Proof
from .s215 import VIT

DATA, SAME = "cifar10-5000", {"steps": 440, "batch_size": 64, **VIT}

PROOF = Proof(
    id="S038",
    statement="With a regressor between encoder and decoder, and its predictions aligned with the encoder's own, features are "
              "better than those of an autoencoder without a regressor, and than without the alignment.",
    works_when="The linear probe of CAE beats a masked autoencoder without regressor and CAE without the alignment loss at "
               "equal budget, both over the untrained network.",
    arms=(
        Arm("cae", "cae", DATA, SAME, "subject", 60),
        Arm("mae", "mae", DATA, {**SAME, "method.mask": "span"}, "baseline", 60),
        Arm("no alignment", "cae", DATA, {**SAME, "method.alignment": 0.0}, "ablation", 60),
        Arm("untrained", None, DATA, {**VIT, "backbone.pool": "mean"}, "baseline", 20),
    ),
    claims=(
        Claim("The linear probe lies above that of the autoencoder without a regressor.", "linear", "cae", "mae"),
        Claim("Without the alignment the linear probe is lower.", "linear", "no alignment", "cae", "smaller"),
        Claim("CAE lies above the untrained network.", "linear", "cae", "untrained"),
        Claim("The autoencoder without a regressor lies above the untrained network.", "linear", "mae", "untrained"),
        Claim("CAE without the alignment lies above the untrained network.", "linear", "no alignment", "untrained"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="440 steps of 64 of 5,000 images of 32 × 32, as many as fit in the minute of the dearest arm; a Transformer of 2 blocks of "
           "width 64 on 64 tokens, half of them hidden in both, at most 60 s an arm on one core; each method's recipe of short runs, "
           "λ = 2 as in the paper, none tuned on these data",
    data="real",
    substitutions="5,000 images of CIFAR-10; normalised pixels, which the row allows, for codes of a pretrained tokenizer; regressor "
                  "and decoder of 2 blocks each, as MAE's decoder has.",
    omissions="The attentive probe: the row asks for it or for the linear one.",
)
