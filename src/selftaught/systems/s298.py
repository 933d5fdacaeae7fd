"""S298, W-MSE: whitening alone keeps embeddings apart, without negatives, predictor or teacher, for any number of views."""

from .arms import SMALL
from .proof import Arm, Claim, Proof
from .s378 import projections


def prepare() -> None:
    """W-MSE without its idea: the same distance of unit vectors, nothing whitened."""
    from ..contracts import register
    from ..methods import WMSE
    from ..networks import over
    from ..objectives import negative_cosine

    @register("s298_unwhitened")
    class Unwhitened(WMSE):
        """2 − 2·cos of the embeddings as they are, the gradient on both sides, and the same networks and statistics."""

        def loss(self, views, batch):
            pooled = over(views, lambda v: self.student.backbone(v.x, lengths=v.lengths).pooled)
            a, b = over(pooled, self.student.head, joint=True)
            return 2 + negative_cosine(a, b) + negative_cosine(b, a)


DATA = "moved-digits"
STEPS = {"steps": 184, "batch_size": 256, **SMALL}
WHITE = STEPS | {"method.width": 64, "method.sub_batch": 128}
FOUR = WHITE | {"method.positives": 4, "batch_size": 128}

PROOF = Proof(
    id="S298",
    statement="Whitened embeddings of a batch cannot collapse, so that pulling the views of an item together is enough; "
              "more views of an item are as good as more items.",
    works_when="Linear probe and k-NN beat the untrained network and are at most 3 points below SimCLR at equal steps; the "
               "same distance without whitening collapses (deviation of the embeddings to 0); 4 positives are at least as "
               "good as 2.",
    arms=(
        Arm("w-mse, 2 positives", "w_mse", DATA, WHITE, "subject", 90, (projections,)),
        Arm("w-mse, 4 positives", "w_mse", DATA, FOUR, "control", 90, (projections,)),
        Arm("untrained", None, DATA, SMALL, "baseline", 20),
        Arm("simclr", "simclr", DATA, STEPS, "baseline", 90),
        Arm("not whitened", "s298_unwhitened", DATA, WHITE, "ablation", 90, (projections,)),
    ),
    claims=(
        Claim("The linear probe lies above that of the untrained network.", "linear", "w-mse, 2 positives", "untrained"),
        Claim("k-NN lies above that of the untrained network.", "knn", "w-mse, 2 positives", "untrained"),
        Claim("The linear probe is at most 3 points below SimCLR's at equal steps.",
              "linear", "w-mse, 2 positives", "simclr", "not worse", 0.03),
        Claim("k-NN is at most 3 points below SimCLR's at equal steps.",
              "knn", "w-mse, 2 positives", "simclr", "not worse", 0.03),
        Claim("Without whitening the embeddings collapse: their spread is below a tenth of an even one.",
              "head_spread", "not whitened", direction="smaller", kind="threshold", margin=0.1),
        Claim("With whitening they do not: their spread is above half of an even one.",
              "head_spread", "w-mse, 2 positives", kind="threshold", margin=0.5),
        Claim("The linear probe with 4 positives is not lower than with 2, by more than 1 point.",
              "linear", "w-mse, 4 positives", "w-mse, 2 positives", "not worse", 0.01),
        Claim("k-NN with 4 positives is not lower than with 2, by more than 1 point.",
              "knn", "w-mse, 4 positives", "w-mse, 2 positives", "not worse", 0.01),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="184 steps of 512 views of 20 × 20 (256 items in pairs, or 128 items in fours, as the authors have it), 64 "
           "dimensions whitened in slices of 128, ConvNet 32-64-128-128, at most 90 s an arm; every method at the rate of "
           "its recipe for short runs",
    data="real",
    substitutions="Moved digits (real handwriting, moved and noised) for CIFAR-10: there a short run is enough to tell the "
                  "arms apart. A ConvNet for ResNet-18; AdamW at 2e-3, its decay 1e-4, and a projector of 512 for Adam at "
                  "3e-3 and 1,024.",
    omissions="None of the row's clauses. 'At least as good' is read as at most 1 point lower.",
    prepare=prepare,
)
