"""S345, SelfAugment: a probe that tells turned images apart orders augmentation policies as labels would."""

from .arms import SMALL
from .proof import Arm, Claim, Proof


def turned(trained) -> dict[str, float]:
    """rotation: accuracy of a linear probe for four turns on the frozen features of unlabelled images."""
    from ..protocols import rotation_probe

    return {"rotation": rotation_probe(trained.run.encoder, trained.train, trained.test, items=1000).value}


def by_rotation(arms) -> float:
    """Spearman's correlation of the rotation probe with the linear probe over the policies of one seed."""
    from scipy.stats import spearmanr

    return float(spearmanr([v["rotation"] for v in arms.values()], [v["linear"] for v in arms.values()]).statistic)


def over_the_loss(arms) -> float:
    """By how much that lies above the correlation of the InfoNCE loss with the linear probe, whichever sign that has."""
    from scipy.stats import spearmanr

    linear = [v["linear"] for v in arms.values()]
    loss = spearmanr([v["loss"] for v in arms.values()], linear).statistic
    return float(spearmanr([v["rotation"] for v in arms.values()], linear).statistic - abs(loss))


def over_the_median(arms) -> float:
    """Linear probe of the policy of the best rotation probe, minus the median over policies."""
    from statistics import median

    return max(arms.values(), key=lambda v: v["rotation"])["linear"] - median(v["linear"] for v in arms.values())


def under_the_best(arms) -> float:
    """How far that policy lies below the best one."""
    return max(v["linear"] for v in arms.values()) - max(arms.values(), key=lambda v: v["rotation"])["linear"]


def over_nothing(arms) -> float:
    """How far that policy lies above no augmentation at all."""
    return max(arms.values(), key=lambda v: v["rotation"])["linear"] - arms["nothing"]["linear"]


WHOLE = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0, "jitter": 0.0, "grey": 0.0}
CROPS = {"scale": (0.2, 1.0), "ratio": (0.75, 1.3333), "flip": 0.5, "jitter": 0.0, "grey": 0.0}
COLOUR = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
HARSH = {"jitter": 1.0, "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "grey": 0.5, "solarise": 0.5, "noise": 0.2}
POLICIES = {  # four too weak, four usual, four too strong
    "nothing": WHOLE, "flip": WHOLE | {"flip": 0.5}, "grey": WHOLE | {"flip": 0.5, "grey": 0.5}, "colour": WHOLE | {"flip": 0.5} | COLOUR,
    "half crops": CROPS | {"scale": (0.5, 1.0)}, "crops": CROPS, "crops, cutout": CROPS | {"cutout": 1.0},
    "crops, colour, grey": CROPS | COLOUR | {"grey": 0.2},
    "tiny crops": CROPS | {"scale": (0.02, 0.1)}, "blurred crops": CROPS | {"blur": 1.0, "sigma": (2.0, 3.0)},
    "any turn": CROPS | {"scale": (0.5, 1.0), "rotate": 180.0}, "harsh": CROPS | HARSH | {"scale": (0.05, 0.3)},
}
BUDGET = {"steps": 100, "batch_size": 128, **SMALL}


def _arm(name: str, policy: dict) -> Arm:
    options = BUDGET | {f"views.{k}": v for k, v in policy.items()}
    return Arm(name, "simclr", "cifar10-2000", options, "ablation" if name == "nothing" else "subject", 90, (turned,))


PROOF = Proof(
    id="S345",
    statement="Augmentations can be chosen without labels: the better a linear probe tells quarter turns from the frozen features, the "
              "better it tells classes.",
    works_when="Over at least 10 short SimCLR or MoCo runs with different augmentation policies Spearman's correlation of the "
               "rotation evaluation with linear-probe accuracy is above 0.6 and higher than that with the InfoNCE loss; the policy "
               "selected without labels reaches at least the median and is near the best.",
    arms=tuple(_arm(name, policy) for name, policy in POLICIES.items()),
    claims=(
        Claim("Over 12 policies Spearman's correlation of the rotation probe with the linear probe is above 0.6.", "rotation",
              kind="across arms", value=by_rotation, margin=0.6),
        Claim("It is higher than that of the InfoNCE loss, whichever sign the latter has.", "rotation", kind="across arms",
              value=over_the_loss),
        Claim("The policy of the best rotation probe lies above the median.", "linear", kind="across arms", value=over_the_median),
        Claim("It is less than 3 points below the best.", "linear", kind="across arms", value=under_the_best, direction="smaller",
              margin=0.03),
        Claim("It lies above no augmentation.", "linear", kind="across arms", value=over_nothing),
    ),
    seeds=(0, 1, 2),
    budget="100 steps of 128 images of 32 × 32 for each of 12 policies, ConvNet 32-64-128-128, at most 90 s an arm on two cores; the "
           "policies, four too weak, four usual and four too strong, were written down before any was run",
    data="real",
    substitutions="SimCLR for MoCo, which the row allows; the first 2,000 images of CIFAR-10; 12 policies written by hand for those of "
                  "RandAugment and Bayesian optimisation.",
    omissions="Steps 2 to 4 of the paper's search (single transforms, Bayesian optimisation over folds, retraining on a union) are "
              "not in the row's clauses. Near the best is taken as less than 3 points below.",
)
