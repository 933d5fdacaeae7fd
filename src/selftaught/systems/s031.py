"""S031, the survey of generative and discriminative self-supervision as a command: families listed, compared, fine-tuned."""

from .proof import Arm, Claim, Proof
from .s137 import VIT


def prepare() -> None:
    """Masked modelling without its idea: what is to be drawn is another item's."""
    from ..contracts import register
    from ..methods import MAE

    @register("s031_others")
    class Others(MAE):
        """MAE whose targets move one place on in the batch."""

        def targets(self, view):
            return super().targets(view).roll(1, 0)


def the_table(trained) -> dict[str, float]:
    """Of `selftaught compare-methods DATA --by family --finetune 100`: the linear probe of every line, and the smallest gains of the
    families without labels over random initialisation (k-NN, linear, fine-tuned; the latter over the network from scratch)."""
    from ..protocols import compare_methods

    options = {k: trained.plan.nested["backbone"][k] for k in ("patch", "width", "depth", "heads", "pool")}
    table = compare_methods(trained.train, trained.test, by="family", finetune=100, seed=trained.seed, epochs=5, batch_size=128,
                            device="cpu", backbone="vit_tiny", **{f"backbone.{k}": v for k, v in options.items()})
    rows = [row for row in table.rows[2:] if row.name != "supervised"]
    found = {f"table {row.name}": row.interval("linear").value for row in table.rows if row.scores}
    for protocol in ("knn", "linear", "finetune"):
        found[f"least gain {protocol}"] = min(table.gain(row.name, protocol).value if row.scores else -1.0 for row in rows)
    return found


def listed(trained) -> dict[str, float]:
    """listed: share of the package's registered methods that the taxonomy has in a family."""
    from ..contracts import find, names
    from ..protocols.taxonomy import FAMILIES, family

    ours = [n for n in names("method") if find("method", n).__module__.startswith("selftaught.methods")]
    return {"listed": sum(family(n) in FAMILIES for n in ours) / len(ours)}


def others(arms) -> float:
    """By how much MAE in the table lies above the same run with other items' targets."""
    return arms["the command's table"]["table mae"] - arms["others' targets"]["linear"]


DATA, SAME = "moved-digits", {"batch_size": 128, **VIT}

PROOF = Proof(
    id="S031",
    statement="One command lists methods by family and compares one of each, probes and fine-tuning, beside random initialisation and "
              "supervised training; each learns.",
    works_when="One command lists the registered methods by family and prints k-NN, linear and fine-tuned results of at least one of "
               "contrastive, clustering, distillation, information maximisation, masked modelling and pretext against random "
               "initialisation and supervised training, each beating random initialisation.",
    arms=(
        Arm("the command's table", None, DATA, SAME, "subject", 420, (the_table, listed)),
        Arm("others' targets", "s031_others", DATA, SAME | {"epochs": 5}, "ablation", 60),
    ),
    claims=(
        Claim("Every registered method is listed in a family.", "listed", "the command's table", kind="threshold", margin=0.999),
        Claim("Each of the six beats random initialisation on the linear probe: the smallest gain is above zero.", "least gain linear",
              "the command's table", kind="threshold"),
        Claim("Each beats it in k-NN.", "least gain knn", "the command's table", kind="threshold"),
        Claim("Each, fine-tuned with 100 labels, beats the network from scratch.", "least gain finetune", "the command's table",
              kind="threshold"),
        Claim("With other items' targets MAE's linear probe is lower.", "linear", kind="across arms", value=others),
    ),
    seeds=(0, 1, 2),
    budget="5 passes over 6,000 items of 20 × 20 for every method, ViT 64 × 2 on 25 tokens, batch 128, fine-tuning of at most 200 steps, "
           "at most 60 s of one core a line; every method by the recipe for short runs that it ships with, none tuned on these data",
    data="real",
    substitutions="Moved digits for a CIFAR-10 subset: there a short run of a Transformer tells methods apart. One Transformer for all, "
                  "as masked modelling needs tokens.",
    omissions="The survey's software packages.",
    prepare=prepare,
)
