"""S129, LOOK: labels that only the nearest neighbours must share leave room for what the labels do not say."""

from .arms import DATA, SMALL, cifar10
from .proof import Arm, Claim, Proof


def prepare() -> None:
    """Cross-entropy under the same augmentation as the other arms."""
    from ..contracts import Single, register
    from ..methods import Supervised

    @register("s129_cross_entropy")
    class CrossEntropy(Supervised):
        """Supervised training on views as strong as those of contrastive methods."""

        needs = Single(strength="strong")


def animals_or_vehicles(rest: str):
    """(train, test): the first `rest` CIFAR-10 photographs under two labels, 0 = vehicle, 1 = animal; 5,000 to test."""
    from ..sources import open_source

    def halves(split: str, rows: int):
        images = cifar10(split, rows)
        return open_source({"x": images["x"], "y": ((images["y"] >= 2) & (images["y"] <= 7)).astype("int64")}, layout="NHWC")

    return halves("train", int(rest)), halves("test", 5000)


DATA["animals"] = animals_or_vehicles


def ten_classes(trained) -> dict[str, float]:
    """linear_ten: linear probe of the same features on the ten classes, which training did not see."""
    from ..evaluation import linear_probe
    from .arms import proof_data

    train, test = proof_data("cifar10-5000")
    return {"linear_ten": linear_probe(trained.features, train.labels, trained.run.encoder.embed(test), test.labels).value}


def _arm(name: str, method: str, role: str, steps: int, **options) -> Arm:
    return Arm(name, method, "animals-5000", {"steps": steps, "batch_size": 128, **SMALL} | options, role, 120, (ten_classes,),
               ("cifar10-5000",))


PROOF = Proof(
    id="S129",
    statement="Supervised pretraining that asks an item's label of its nearest neighbours alone transfers to finer classes better "
              "than cross-entropy and supervised contrast do.",
    works_when="Pretrained with coarse labels, a linear probe on finer classes is above that of cross-entropy and supervised "
               "contrastive pretraining at equal compute, while coarse k-NN accuracy is close.",
    arms=(
        _arm("look", "look", "subject", 150),
        _arm("cross-entropy", "s129_cross_entropy", "baseline", 200),
        _arm("supcon", "supcon", "baseline", 100),
        _arm("look, all are neighbours", "look", "ablation", 150, **{"method.neighbours": 100_000}),
    ),
    claims=(
        Claim("The linear probe on ten classes is above that of cross-entropy.", "linear_ten", "look", "cross-entropy"),
        Claim("The linear probe on ten classes is above that of SupCon.", "linear_ten", "look", "supcon"),
        Claim("Coarse k-NN accuracy is at most 3 points below that of cross-entropy.", "knn", "look", "cross-entropy", "not worse", 0.03),
        Claim("Coarse k-NN accuracy is at most 3 points below that of SupCon.", "knn", "look", "supcon", "not worse", 0.03),
        Claim("Where all of queue and batch count as neighbours the linear probe on ten classes is lower.",
              "linear_ten", "look, all are neighbours", "look", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="150 steps of 128 images of 32 × 32 for LOOK, which forwards a student and a teacher; 200 for cross-entropy, which forwards "
           "one view, and 100 for SupCon, which trains on two: 600 forwards' worth each, a backward pass counted as two; ConvNet "
           "32-64-128-128, at most 120 s an arm on two cores; every method at the one rate of its recipe for short runs",
    data="real",
    substitutions="CIFAR-10 under the labels animal and vehicle, then its ten classes, for CIFAR-100's coarse and fine labels (and the "
                  "paper's ImageNet, then other sets); 5,000 images; a ConvNet for ResNet-50; a queue of 2,048 and 50 neighbours, sized "
                  "for so few images.",
    omissions="Fine-tuning and self-supervised rivals belong to the paper's tables, not to the row's clauses.",
    prepare=prepare,
)
