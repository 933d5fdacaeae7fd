"""S322, relational reasoning: telling pairs of one item from pairs of two gives features, and more views do no harm."""

from .arms import SMALL
from .proof import Arm, Claim, Proof
from .s023 import digits  # noqa: F401  (enters the data of "fewer-N")


def prepare() -> None:
    """Relational reasoning without its idea: what is called one item are two, so that there is nothing to relate."""
    from ..contracts import register
    from ..methods import Relational

    @register("s322_unrelated")
    class Unrelated(Relational):
        """Every view's items are moved along the batch by a number of its own before pairs are made."""

        def relate(self, z):
            return super().relate([view.roll(5 * k, 0) for k, view in enumerate(z)])


def held_out_pairs(trained) -> dict[str, float]:
    """pairs: share of right answers about pairs of views of test items, half of them of one item, half of two."""
    import torch

    method, views, right, asked = trained.method(), trained.plan.stream(trained.train).views, 0, 0
    with torch.no_grad():
        for batch, _ in trained.run.encoder.batches(trained.test):
            logits, targets = method.relate([method.student(v) for v in views(batch, batch.draws(322, "held out"))])
            right, asked = right + int(((logits > 0) == (targets > 0.5)).sum()), asked + len(targets)
    return {"pairs": right / asked}


DATA, EPOCHS = "fewer-2000", {"epochs": 6, "batch_size": 64, **SMALL}


def _relational(name: str, views: int, role: str, method: str = "relational") -> Arm:
    return Arm(name, method, DATA, EPOCHS | {"method.views": views}, role, 120, (held_out_pairs,))


PROOF = Proof(
    id="S322",
    statement="Deciding whether two views show one item or two gives features that a linear probe can use, and more views of "
              "each item do not harm them.",
    works_when="With equal backbone and epochs the linear probe beats the untrained network and rotation prediction; accuracy "
               "does not fall as the views of an item grow from 2 to 8; on held-out images pairs are told apart well above "
               "chance.",
    arms=(
        _relational("8 views", 8, "subject"),
        _relational("2 views", 2, "control"),
        Arm("untrained", None, DATA, {"batch_size": 64, **SMALL}, "baseline", 20),
        Arm("rotation", "rotation", DATA, EPOCHS, "baseline", 120),
        _relational("unrelated views", 4, "ablation", "s322_unrelated"),
    ),
    claims=(
        Claim("The linear probe lies above that of the untrained network.", "linear", "8 views", "untrained"),
        Claim("The linear probe lies above that of rotation prediction.", "linear", "8 views", "rotation"),
        Claim("With 8 views the linear probe is at most 2 points below that with 2.", "linear", "8 views", "2 views", "not worse", 0.02),
        Claim("Of pairs of held-out items more than 65 % are told right.", "pairs", "8 views", kind="threshold", margin=0.65),
        Claim("With views of different items called one, the linear probe is lower.", "linear", "unrelated views", "8 views", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="6 passes over 2,000 items of 20 × 20, batch 64, ConvNet 32-64-128-128, at most 120 s an arm on two cores; every method at "
           "the one rate that its recipe for short runs gives, none tuned on these data; the ablation has 4 views",
    data="real",
    substitutions="Moved digits (real handwriting, moved and noised) for a CIFAR-10 subset: there so short a run tells the arms "
                  "apart. A ConvNet for Conv-4 and ResNets, 6 passes for 200, at most 8 views for 32.",
    omissions="None of the row's clauses. Equal epochs, as the row has it: 8 views cost four times what 2 do.",
    prepare=prepare,
)
