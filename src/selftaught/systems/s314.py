"""S314, DIET: telling every image from every other is enough on a small set, and its loss says how good the features are."""

from .arms import SMALL
from .proof import Arm, Claim, Proof


def prepare() -> None:
    """DIET without its idea: the targets of a batch change places anew at every step, so that no item has one of its own."""
    import torch

    from ..contracts import register
    from ..methods import DIET

    @register("s314_shuffled")
    class Shuffled(DIET):
        """DIET whose indices are permuted over the batch at every step."""

        def loss(self, views, batch):
            order = torch.randperm(len(batch), device=batch.index.device)
            return super().loss(views, type(batch)(**{**batch.__dict__, "index": batch.index[order]}))


def foretold(arms) -> float:
    """Spearman's correlation of −loss with the linear probe over the DIET runs of one seed."""
    from scipy.stats import spearmanr

    runs = [v for name, v in arms.items() if name.startswith("diet")]
    return float(spearmanr([-v["loss"] for v in runs], [v["linear"] for v in runs]).statistic)


DATA = "cifar10-2000"
EPOCHS = {"epochs": 10, "batch_size": 64, **SMALL}
SWEEP = {"lr 0.00005": {"lr": 5e-5}, "lr 0.0002": {"lr": 2e-4}, "lr 0.0007": {"lr": 7e-4}, "lr 0.006": {"lr": 6e-3},
         "4 passes": {"epochs": 4}, "8 passes": {"epochs": 8}}

PROOF = Proof(
    id="S314",
    statement="On a small set, classifying every image as itself gives features as good as those of methods with pairs "
              "and projectors.",
    works_when="On at most 10,000 images the linear probe of DIET clearly beats the untrained network and is at most 1 "
               "to 2 points below (or above) the framework's SimCLR and VICReg at equal passes; its training loss goes "
               "with probe accuracy over runs.",
    arms=(
        Arm("diet", "diet", DATA, EPOCHS, "subject"),
        Arm("untrained", None, DATA, {"batch_size": 64, **SMALL}, "baseline", 20),
        Arm("simclr", "simclr", DATA, EPOCHS, "baseline"),
        Arm("vicreg", "vicreg", DATA, EPOCHS, "baseline"),
        Arm("shuffled targets", "s314_shuffled", DATA, EPOCHS, "ablation"),
        *(Arm(f"diet, {name}", "diet", DATA, EPOCHS | change, "control") for name, change in SWEEP.items()),
    ),
    claims=(
        Claim("The linear probe beats the untrained network by more than 3 points.",
              "linear", "diet", "untrained", margin=0.03),
        Claim("The linear probe is at most 2 points below SimCLR's at equal passes.",
              "linear", "diet", "simclr", "not worse", 0.02),
        Claim("The linear probe is at most 2 points below VICReg's at equal passes.",
              "linear", "diet", "vicreg", "not worse", 0.02),
        Claim("With targets shuffled at every step the linear probe is lower.",
              "linear", "shuffled targets", "diet", "smaller"),
        Claim("Over seven DIET runs a lower loss goes with a better linear probe.", "loss", kind="across arms", value=foretold),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="10 passes over 2,000 images of 32 × 32, batch 64, ConvNet 32-64-128-128, at most 120 s an arm on two cores; every method "
           "at the one rate that its recipe for short runs gives, none tuned on these data",
    data="real",
    substitutions="The first 2,000 images of CIFAR-10, 5,000 of its test images; a ConvNet for ResNet-18 and larger; 10 "
                  "passes for thousands.",
    omissions="Sweeps over architectures and further data sets are the paper's analysis, not a clause of the row.",
    prepare=prepare,
)
