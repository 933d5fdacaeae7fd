"""S215, FlexPredict: I-JEPA that is told the places of its targets with noise, through the matrix that its context comes in by."""

from .proof import Arm, Claim, Proof

VIT = {"backbone": "vit_tiny", "backbone.patch": 4, "backbone.width": 64, "backbone.depth": 2, "backbone.heads": 4}
"""The Transformer of these proofs: 25 tokens of moved digits, so that an arm takes about half a minute on one core."""


def prepare() -> None:
    """FlexPredict without its idea: the noise has a matrix of its own, which may shrink at no cost."""
    import copy

    from torch.func import functional_call

    from ..contracts import register
    from ..methods import FlexPredict

    @register("s215_untied")
    class Untied(FlexPredict):
        """The matrix of the noise begins as that of the context and is learned by itself."""

        def __init__(self, backbone, *, facts, **options):
            super().__init__(backbone, facts=facts, **options)
            self.matrix = copy.deepcopy(self.predictor.enter.weight)

        def predicted(self, context, view, batch):
            tokens = self.predictor.mask_token + self.noise(view, batch).to(context.tokens) @ self.matrix.T
            return functional_call(self.predictor, {"mask_token": tokens}, (context, view, self.student.backbone.grid(view.x.shape)))


def shrinking(trained) -> dict[str, float]:
    """kept_noise: norm of the noise's matrix over what it was before training."""
    before, after = trained.plan.build_method(), trained.method()
    matrix = [m.matrix if hasattr(m, "matrix") else m.predictor.enter.weight for m in (before, after)]
    return {"kept_noise": float(matrix[1].detach().norm() / matrix[0].detach().norm())}


def apart(arms) -> float:
    """How far σ = 0 lies from I-JEPA in loss, k-NN and linear probe together."""
    return sum(abs(arms["sigma 0"][m] - arms["jepa"][m]) for m in ("loss", "knn", "linear"))


DATA, STEPS = "moved-digits", {"steps": 300, "batch_size": 64, **VIT}

PROOF = Proof(
    id="S215",
    statement="An I-JEPA whose predictor is told the places of hidden tokens with noise learns features no worse than with "
              "exact places, and cannot shrink the noise, which comes in by the matrix of the context.",
    works_when="The linear probe with stochastic positions is at least that of the same I-JEPA with fixed ones, over at least "
               "three seeds; the norm of the learned A does not shrink to zero; σ = 0 gives the baseline exactly.",
    arms=(
        Arm("flexpredict", "flexpredict", DATA, STEPS, "subject", 60, (shrinking,)),
        Arm("jepa", "jepa", DATA, STEPS, "baseline", 60),
        Arm("sigma 0", "flexpredict", DATA, {**STEPS, "method.sigma": 0.0}, "control", 60),
        Arm("untied", "s215_untied", DATA, STEPS, "ablation", 60, (shrinking,)),
        Arm("untrained", None, DATA, {**VIT, "backbone.pool": "mean"}, "baseline", 20),
    ),
    claims=(
        Claim("The linear probe is at most 1 point below I-JEPA's.", "linear", "flexpredict", "jepa", "not worse", 0.01),
        Claim("The matrix of the noise keeps more than half of its norm.", "kept_noise", "flexpredict", kind="threshold", margin=0.5),
        Claim("With σ = 0 loss, k-NN and linear probe are I-JEPA's.", "linear", direction="smaller", margin=1e-12, kind="across arms",
              value=apart),
        Claim("A matrix of the noise's own keeps less of its norm.", "kept_noise", "untied", "flexpredict", "smaller"),
        Claim("The linear probe lies above that of the untrained network.", "linear", "flexpredict", "untrained"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="300 steps of 64 items of 20 × 20, a Transformer of 2 blocks of width 64 on 25 tokens, at most 60 s an arm on one "
           "core; every method by its recipe for short runs, σ = .25 as in the paper, none tuned on these data",
    data="real",
    substitutions="Moved digits (real handwriting, moved and noised) for CIFAR-10 or STL-10: there a short run is enough to "
                  "tell arms apart. A small Transformer for ViT-B; targets normalised over the item, as the recipe of short "
                  "runs has them.",
    omissions="None of the row's clauses. Video segmentation is a headline of the paper, not a clause.",
    prepare=prepare,
)
