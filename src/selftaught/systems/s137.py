"""S137, the survey of self-supervision for vision Transformers as a table that one command makes: a method a family, on one ViT."""

from .proof import Arm, Claim, Proof

VIT = {"backbone": "vit_tiny", "backbone.patch": 4, "backbone.width": 64, "backbone.depth": 2, "backbone.heads": 4, "backbone.pool": "mean"}
"""The Transformer of both proofs: 64 tokens of 4 × 4 pixels."""
FAMILIES = {"contrastive": "simclr", "clustering": "swav", "distillation": "byol", "information maximisation": "vicreg",
            "masked modelling": "mae", "pretext": "rotation"}
"""Who stands for each family in these proofs, as `selftaught compare-methods DATA --by family` has it."""


def prepare() -> None:
    """Contrast without its idea: the positive is a view of another item."""
    from ..contracts import register
    from ..methods import SimCLR
    from ..networks import over
    from ..objectives import nt_xent

    @register("s137_unpaired")
    class Unpaired(SimCLR):
        """SimCLR whose second views move one place on in the batch."""

        def loss(self, views, batch):
            a, b = over(views, self.student, joint=True)
            return nt_xent(a, b.roll(1, 0), temperature=self.temperature)


def tuned(trained) -> dict[str, float]:
    """finetune: test accuracy of the network fine-tuned with 100 labels, as long for all."""
    from ..protocols.baselines import Supervision
    from ..protocols.finetune import finetune

    budget = Supervision(steps=200, passes=50)
    return {"finetune": finetune(trained.run.encoder, trained.train, trained.test, labels=100, seed=trained.seed, budget=budget).value}


def the_table(trained) -> dict[str, float]:
    """What `compare-methods --by family --steps 2 --finetune 100` prints, not how good it is: families with all three results, and the
    share of the lines of methods that say what they cost."""
    from ..protocols import compare_methods
    from ..protocols.taxonomy import family

    options = {k: trained.plan.nested["backbone"][k] for k in ("patch", "width", "depth", "heads", "pool")}
    table = compare_methods(trained.train, trained.test, by="family", finetune=100, seed=trained.seed, steps=2, batch_size=64,
                            device="cpu", backbone="vit_tiny", **{f"backbone.{k}": v for k, v in options.items()})
    rows = table.rows[2:]
    whole = {family(row.name) for row in rows if set(row.scores) == {"knn", "linear", "finetune"}}
    return {"families": float(len(whole - {"with labels"})), "supervised": float("with labels" in whole),
            "costed": sum(row.seconds > 0 for row in rows) / len(rows)}


def least_knn(arms) -> float:
    """By how much the worst of the six lies above the untrained network."""
    return min(arms[name]["knn"] for name in FAMILIES) - arms["untrained"]["knn"]


def least_linear(arms) -> float:
    return min(arms[name]["linear"] for name in FAMILIES) - arms["untrained"]["linear"]


def least_finetune(arms) -> float:
    return min(arms[name]["finetune"] for name in FAMILIES) - arms["untrained"]["finetune"]


DATA, SAME = "cifar10-5000", {"batch_size": 64, **VIT}
TRAINED = SAME | {"steps": 240}
ARMS = (
    *(Arm(name, method, DATA, TRAINED, "subject", 60, (tuned,)) for name, method in FAMILIES.items()),
    Arm("untrained", None, DATA, SAME, "baseline", 60, (tuned,)),
    Arm("wrong pairs", "s137_unpaired", DATA, TRAINED, "ablation", 60, (tuned,)),
    Arm("the command", None, DATA, SAME | {"backbone.patch": 8}, "control", 120, (the_table,)),
)
BUDGET = ("240 steps of 64 of 5,000 images of 32 × 32 for every method, ViT 64 × 2 on 64 tokens, fine-tuning of at most 200 steps, at most "
          "60 s of one core an arm, 120 s for the command, on 16 tokens; every method by the recipe for short runs that it ships with, "
          "none tuned on these data")

PROOF = Proof(
    id="S137",
    statement="The survey's families are comparable by one command: a method of each of six trains on one Transformer under equal "
              "conditions, and every one learns.",
    works_when="The command prints a table of at least five families on one ViT and one set of data, in which each line beats random "
               "initialisation in k-NN and linear accuracy and says what it cost.",
    arms=ARMS,
    claims=(
        Claim("The command's table has at least five families.", "families", "the command", kind="threshold", margin=4.5),
        Claim("Every line of it says what it cost.", "costed", "the command", kind="threshold", margin=0.999),
        Claim("The worst of the six families beats random initialisation on the linear probe.", "linear", kind="across arms",
              value=least_linear),
        Claim("And in k-NN.", "knn", kind="across arms", value=least_knn),
        Claim("With positives of other items SimCLR's linear probe is lower.", "linear", "wrong pairs", "contrastive", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget=BUDGET,
    data="real",
    substitutions="5,000 images of CIFAR-10, tested on 5,000. The command is run for two steps to see what it prints, the methods for 240 "
                  "as arms of their own.",
    omissions="The survey's hybrid and multimodal families, of which no method is here yet, and its tasks of detection and segmentation.",
    prepare=prepare,
)
