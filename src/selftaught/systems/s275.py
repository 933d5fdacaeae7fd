"""S275, OPERA: labels on a proxy above the instance's add to self-supervision what labels beside it would take away."""

from .arms import DATA, SMALL, cifar10
from .proof import Arm, Claim, Proof
from .s129 import animals_or_vehicles


def prepare() -> None:
    """OPERA without its hierarchy, and cross-entropy under the same augmentation as the other arms."""
    from ..contracts import Single, register
    from ..methods import OPERA, Supervised
    from ..networks import LinearHead

    @register("s275_one_head")
    class OneHead(OPERA):
        """Both losses on the instance proxy: the classes are linear in it."""

        def __init__(self, backbone, *, facts, **options):
            super().__init__(backbone, facts=facts, **options)
            self.classifier = LinearHead(self.predictor.width, facts.classes)

    @register("s275_cross_entropy")
    class CrossEntropy(Supervised):
        """Supervised training on views as strong as those of contrastive methods."""

        needs = Single(strength="strong")


def later_photographs(rest: str):
    """(train, test): `rest` CIFAR-10 photographs after the first 5,000, with their ten classes; 5,000 to test."""
    from ..sources import open_source

    rows = cifar10("train", 5000 + int(rest))
    train = open_source({k: v[5000:] for k, v in rows.items()}, layout="NHWC")
    return train, open_source(cifar10("test", 5000), layout="NHWC")


DATA["animals"], DATA["later"] = animals_or_vehicles, later_photographs


def transfer(trained) -> dict[str, float]:
    """linear_elsewhere: linear probe of the frozen encoder on the second set's photographs and classes."""
    from ..evaluation import linear_probe
    from .arms import proof_data

    train, test = proof_data("later-5000")
    encoder = trained.run.encoder
    return {"linear_elsewhere": linear_probe(encoder.embed(train), train.labels, encoder.embed(test), test.labels).value}


def _arm(name: str, method: str, role: str, steps: int) -> Arm:
    return Arm(name, method, "animals-5000", {"steps": steps, "batch_size": 128, **SMALL}, role, 120, (transfer,), ("later-5000",))


PROOF = Proof(
    id="S275",
    statement="Labels imposed on a class proxy above the instance proxy make features that transfer better than labels or "
              "self-supervision alone, and than both losses on one proxy.",
    works_when="Transfer accuracy on a second set exceeds that of supervised-only and of MoCo-v3-only pretraining of the same "
               "encoder, and hierarchical proxies beat both losses on one head.",
    arms=(
        _arm("opera", "opera", "subject", 80),
        _arm("cross-entropy", "s275_cross_entropy", "baseline", 213),
        _arm("moco v3", "moco_v3", "baseline", 80),
        _arm("both losses on one head", "s275_one_head", "ablation", 80),
    ),
    claims=(
        Claim("The linear probe on the second set is above that of supervised pretraining.", "linear_elsewhere", "opera", "cross-entropy"),
        Claim("The linear probe on the second set is above that of MoCo v3.", "linear_elsewhere", "opera", "moco v3"),
        Claim("With both losses on one head it is lower.", "linear_elsewhere", "both losses on one head", "opera", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="80 steps of two views of 128 images of 32 × 32 for the methods with a teacher, 213 of one view for cross-entropy: 640 "
           "forwards' worth each, a backward pass counted as two; ConvNet 32-64-128-128, at most 120 s an arm on two cores; every "
           "method at the one rate of its recipe for short runs",
    data="real",
    substitutions="Pretraining on 5,000 CIFAR-10 photographs labelled animal or vehicle for ImageNet or CIFAR-100; the second set is "
                  "5,000 others with the ten classes, for STL-10 and the like; a ConvNet for ResNet-50 and DeiT; projector and "
                  "predictor of 512 units for 4,096.",
    omissions="The row's alternative to transfer, fine-tuning, is left out: short fine-tuning of a small network would measure the "
              "fine-tuning more than what it starts from.",
    prepare=prepare,
)
