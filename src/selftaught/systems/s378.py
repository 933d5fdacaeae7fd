"""S378, BYOL: it learns without negatives, does not collapse, and needs its predictor and teacher for that."""

from .arms import SMALL
from .proof import Arm, Claim, Proof


def prepare() -> None:
    """BYOL without its idea: both views' projections are drawn together, with gradients on both sides."""
    from ..contracts import register
    from ..methods import BYOL
    from ..networks import ordered_pairs, over
    from ..objectives import negative_cosine

    @register("s378_no_predictor")
    class NoPredictor(BYOL):
        """BYOL without predictor, teacher and stopped gradient: τ = 0 and q = identity."""

        def __init__(self, backbone, **options):
            super().__init__(backbone, **options)
            del self.predictor, self.teacher

        def loss(self, views, batch):
            a, b = over(views, self.student)
            both = ordered_pairs([a, b], [a, b])
            return sum(1 + negative_cosine(p, z) + 1 + negative_cosine(z, p) for p, z in both)


def half_way(trained) -> dict[str, float]:
    """knn_half: k-NN accuracy of the encoder at half of its steps."""
    from ..encoder import Encoder
    from ..evaluation import knn

    early = Encoder(trained.method(2).kept(), trained.run.encoder.preprocessing)
    score = knn(early.embed(trained.train), trained.train.labels, early.embed(trained.test), trained.test.labels)
    return {"knn_half": score.value}


def projections(trained) -> dict[str, float]:
    """head_spread: standard deviation of the unit projections over its value 1/√d for an even sphere."""
    import torch

    from ..measures import spread

    with torch.no_grad():
        return {"head_spread": float(spread(trained.method().student.head(torch.from_numpy(trained.features))))}


def rise(arms) -> float:
    """The smaller of the two gains in k-NN: from the untrained network to half of the run, and from there to its end."""
    byol = arms["byol"]
    return min(byol["knn_half"] - arms["untrained"]["knn"], byol["knn"] - byol["knn_half"])


DATA, EPOCHS = "moved-digits", {"epochs": 12, "batch_size": 256, "checkpoint_every": 138, **SMALL}  # 23 steps a pass, half of 276

PROOF = Proof(
    id="S378",
    statement="BYOL learns from two views without negatives and does not collapse; without predictor and teacher it "
              "fails.",
    works_when="On a small image set a linear probe beats the untrained network; k-NN rises in training; the embeddings "
               "do not collapse (their standard deviation stays near 1/√d); without predictor, or with τ = 0 and "
               "gradients on both sides, it collapses or scores lower.",
    arms=(
        Arm("byol", "byol", DATA, EPOCHS, "subject", 120, (half_way, projections)),
        Arm("untrained", None, DATA, SMALL, "baseline", 20),
        Arm("no predictor, no teacher", "s378_no_predictor", DATA, EPOCHS, "ablation", 120, (projections,)),
    ),
    claims=(
        Claim("The linear probe lies above that of the untrained network.", "linear", "byol", "untrained"),
        Claim("k-NN rises from the untrained network to half of the run, and from there to its end.",
              "knn", kind="across arms", value=rise),
        Claim("The projections do not collapse: their spread is more than half of an even one.", "head_spread", "byol",
              kind="threshold", margin=0.5),
        Claim("Without predictor and teacher the linear probe is lower.",
              "linear", "no predictor, no teacher", "byol", "smaller"),
        Claim("Without predictor and teacher the projections spread less.",
              "head_spread", "no predictor, no teacher", "byol", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="12 passes over 6,000 items of 20 × 20, ConvNet 32-64-128-128, at most 120 s an arm on two cores; the ablation has the same "
           "steps, sizes and rates as BYOL",
    data="real",
    substitutions="Moved digits (real handwriting, moved and noised) for a CIFAR-10 subset: there a short run is enough "
                  "to tell the arms apart. A ConvNet for ResNet-50, AdamW and a narrower head for LARS and 4,096 units: "
                  "the recipe for short runs.",
    omissions="None of the row's clauses. Its alternatives for the ablation (no predictor, or τ = 0 with gradients on "
              "both sides) are taken together in one arm.",
    prepare=prepare,
)
