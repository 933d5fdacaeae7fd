"""S043, DirectPred: a linear predictor set from the spectrum of its inputs does what a learned one must be deep for."""

from .arms import SMALL
from .proof import Arm, Claim, Proof
from .s378 import projections


def prepare() -> None:
    """DirectPred with other predictors, with none, and with the gradient let through to the targets."""
    from torch import nn

    from ..contracts import register
    from ..methods import DirectPred
    from ..networks import Mlp, over
    from ..objectives import negative_cosine

    class Learned(DirectPred):
        """The predictor is left to the optimiser."""

        options = DirectPred.options  # **options below hides them

        def after_step(self):
            pass

    @register("s043_linear")
    class Linear(Learned):
        """A linear predictor, learned."""

        def __init__(self, backbone, **options):
            super().__init__(backbone, **options)
            self.predictor.requires_grad_(True)

    @register("s043_mlp")
    class Deep(Learned):
        """Two layers with BatchNorm, learned: BYOL's."""

        def __init__(self, backbone, **options):
            super().__init__(backbone, **options)
            width = self.predictor.in_features
            self.predictor = Mlp(width, 512, width)

    @register("s043_no_predictor")
    class NoPredictor(Learned):
        """W = I."""

        def __init__(self, backbone, **options):
            super().__init__(backbone, **options)
            self.predictor = nn.Identity()

    @register("s043_no_stop_gradient")
    class NoStopGradient(DirectPred):
        """Targets are the student's own and take part in the gradient."""

        options = DirectPred.options

        def __init__(self, backbone, **options):
            super().__init__(backbone, **options | {"momentum": 0.0})

        def loss(self, views, batch):
            a, b = over(views, self.student)
            for f in (a, b):
                self.correlation.stage(f)
            p, q = over([a, b], self.predictor)
            return 4 + sum(negative_cosine(u, v) + negative_cosine(v, u) for u, v in ((p, b), (q, a)))


def alignment(trained) -> dict[str, float]:
    """aligned: mean |cos(v, Wv)| over the eigenvectors v of F: whether predictor and input share them, by the paper."""
    import torch
    import torch.nn.functional as F

    method = trained.method()
    _, v = torch.linalg.eigh(method.correlation.value)
    with torch.no_grad():
        return {"aligned": float(F.cosine_similarity(v, method.predictor.weight @ v, dim=0).abs().mean())}


DATA = "moved-digits"
RUN = {"steps": 138, "batch_size": 256, "method.last_norm": False, "training.optimizer": "sgd", **SMALL}

PROOF = Proof(
    id="S043",
    statement="A linear predictor set from the spectrum of its inputs replaces a learned one; without predictor or stopped "
              "gradient embeddings collapse.",
    works_when="k-NN and linear probe of DirectPred lie above those of a learned linear predictor at equal epochs and near "
               "those of a two-layer one; without stopped gradient, or without the predictor, it collapses (deviation of "
               "the unit outputs to 0).",
    arms=(
        Arm("directpred", "directpred", DATA, RUN, "subject", 90, (projections, alignment)),
        Arm("linear predictor, learned", "s043_linear", DATA, RUN, "baseline", 90, (projections, alignment)),
        Arm("two-layer predictor, learned", "s043_mlp", DATA, RUN, "baseline", 90, (projections,)),
        Arm("no predictor", "s043_no_predictor", DATA, RUN, "ablation", 90, (projections,)),
        Arm("no stopped gradient", "s043_no_stop_gradient", DATA, RUN, "ablation", 90, (projections,)),
        Arm("untrained", None, DATA, SMALL, "baseline", 20),
    ),
    claims=(
        Claim("The linear probe lies above that of the learned linear predictor.",
              "linear", "directpred", "linear predictor, learned"),
        Claim("k-NN lies above that of the learned linear predictor.", "knn", "directpred", "linear predictor, learned"),
        Claim("The linear probe is at most 3 points below that of the two-layer predictor.",
              "linear", "directpred", "two-layer predictor, learned", "not worse", 0.03),
        Claim("k-NN is at most 3 points below that of the two-layer predictor.",
              "knn", "directpred", "two-layer predictor, learned", "not worse", 0.03),
        Claim("Without the predictor the outputs collapse: their spread is below a tenth of an even one.",
              "head_spread", "no predictor", direction="smaller", kind="threshold", margin=0.1),
        Claim("Without stopped gradient the outputs collapse: their spread is below a tenth of an even one.",
              "head_spread", "no stopped gradient", direction="smaller", kind="threshold", margin=0.1),
        Claim("DirectPred's outputs do not: their spread is above that of the run without predictor.",
              "head_spread", "directpred", "no predictor"),
        Claim("The linear probe lies above that of the untrained network.", "linear", "directpred", "untrained"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="6 passes (138 steps of 256) over 6,000 items of 20 × 20, ConvNet 32-64-128-128, the authors' SGD (.06 per 256, "
           "decay 4e-4) and heads (512 to 128, no BatchNorm at the end), at most 90 s an arm; every arm has the same rate",
    data="real",
    substitutions="Moved digits (real handwriting, moved and noised) for CIFAR-10 and STL-10: there a short run is enough "
                  "to tell the arms apart. A ConvNet for ResNet-18; a teacher of momentum .95 for .996 and a cosine for a "
                  "constant rate, for 6 passes in place of 100.",
    omissions="The row's mechanism names the theory too (linear dynamics, the roles of decay, rates and moving average); "
              "its works-when does not. The alignment of the eigenspaces of W and F is measured and stored, without a "
              "claim.",
    prepare=prepare,
)
