"""S031, the survey of generative and discriminative self-supervision as a command: families listed, compared, fine-tuned."""

from .proof import Arm, Claim, Proof
from .s137 import ARMS, BUDGET, DATA, SAME, TRAINED, least_finetune, least_knn, least_linear, tuned


def prepare() -> None:
    """What S137 registers, and masked modelling without its idea: what is to be drawn is another item's."""
    from ..contracts import register
    from ..methods import MAE
    from .s137 import prepare

    prepare()

    @register("s031_others")
    class Others(MAE):
        """MAE whose targets move one place on in the batch."""

        def targets(self, view):
            return super().targets(view).roll(1, 0)


def listed(trained) -> dict[str, float]:
    """listed: share of the package's registered methods that the taxonomy has in a family."""
    from ..contracts import find, names
    from ..protocols.taxonomy import FAMILIES, family

    ours = [n for n in names("method") if find("method", n).__module__.startswith("selftaught.methods")]
    return {"listed": sum(family(n) in FAMILIES for n in ours) / len(ours)}


PROOF = Proof(
    id="S031",
    statement="One command lists methods by family and compares one of each, probes and fine-tuning, beside random initialisation and "
              "supervised training; each learns.",
    works_when="One command lists the registered methods by family and prints k-NN, linear and fine-tuned results of at least one of "
               "contrastive, clustering, distillation, information maximisation, masked modelling and pretext against random "
               "initialisation and supervised training, each beating random initialisation.",
    arms=(
        *ARMS,
        Arm("others' targets", "s031_others", DATA, TRAINED, "ablation", 60, (tuned,)),
        Arm("the list", None, DATA, SAME, "control", 60, (listed,)),
    ),
    claims=(
        Claim("Every registered method is listed in a family.", "listed", "the list", kind="threshold", margin=0.999),
        Claim("The command's table has all six families with all three results.", "families", "the command", kind="threshold", margin=5.5),
        Claim("And supervised training.", "supervised", "the command", kind="threshold", margin=0.5),
        Claim("The worst of the six families beats random initialisation on the linear probe.", "linear", kind="across arms",
              value=least_linear),
        Claim("And in k-NN.", "knn", kind="across arms", value=least_knn),
        Claim("And fine-tuned with 100 labels the network from scratch.", "finetune", kind="across arms", value=least_finetune),
        Claim("With other items' targets MAE's linear probe is lower.", "linear", "others' targets", "masked modelling", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget=BUDGET,
    data="real",
    substitutions="5,000 images of CIFAR-10, tested on 5,000; one Transformer for all, as masked modelling needs tokens. The command is "
                  "run for two steps to see what it prints, the methods for 240 as arms of their own.",
    omissions="The survey's software packages.",
    prepare=prepare,
)
