"""S137, the survey of self-supervision for vision Transformers as a table that one command makes: a method a family, on one ViT."""

from .proof import Arm, Claim, Proof

VIT = {"backbone": "vit_tiny", "backbone.patch": 4, "backbone.width": 64, "backbone.depth": 2, "backbone.heads": 4, "backbone.pool": "mean"}


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


def the_table(trained) -> dict[str, float]:
    """Of `selftaught compare-methods DATA --by family` without the family that reads labels: the linear probe of every line, the
    smallest gains over random initialisation (k-NN, linear), how many families are there, and how many lines say what they cost."""
    from ..protocols import compare_methods
    from ..protocols.taxonomy import FAMILIES, family

    wanted = [members[0] for name, members in FAMILIES.items() if name != "with labels"]
    options = {k: trained.plan.nested["backbone"][k] for k in ("patch", "width", "depth", "heads", "pool")}
    table = compare_methods(trained.train, trained.test, methods=wanted, by="family", seed=trained.seed, epochs=5, batch_size=128,
                            device="cpu", backbone="vit_tiny", **{f"backbone.{k}": v for k, v in options.items()})
    rows = [table.row(name) for name in wanted]
    found = {f"table {row.name}": row.interval("linear").value for row in rows if row.scores}
    for protocol in ("knn", "linear"):
        found[f"least gain {protocol}"] = min(table.gain(row.name, protocol).value if row.scores else -1.0 for row in rows)
    return found | {"families": float(len({family(row.name) for row in rows if row.scores})),
                    "costed": sum(row.seconds > 0 for row in rows) / len(rows)}


def wrong_pairs(arms) -> float:
    """By how much SimCLR in the table lies above the same run with wrong pairs."""
    return arms["the command's table"]["table simclr"] - arms["wrong pairs"]["linear"]


DATA, SAME = "moved-digits", {"batch_size": 128, **VIT}

PROOF = Proof(
    id="S137",
    statement="The survey's families are comparable by one command: a method of each of six trains on one Transformer under equal "
              "conditions, and every one learns.",
    works_when="The command prints a table of at least five families on one ViT and one set of data, in which each line beats random "
               "initialisation in k-NN and linear accuracy and says what it cost.",
    arms=(
        Arm("the command's table", None, DATA, SAME, "subject", 300, (the_table,)),
        Arm("wrong pairs", "s137_unpaired", DATA, SAME | {"epochs": 5}, "ablation", 60),
    ),
    claims=(
        Claim("At least five families are in the table.", "families", "the command's table", kind="threshold", margin=4.5),
        Claim("Each beats random initialisation on the linear probe: the smallest gain is above zero.", "least gain linear",
              "the command's table", kind="threshold"),
        Claim("Each beats it in k-NN.", "least gain knn", "the command's table", kind="threshold"),
        Claim("Every line says what it cost.", "costed", "the command's table", kind="threshold", margin=0.999),
        Claim("With positives of other items SimCLR's linear probe is lower.", "linear", kind="across arms", value=wrong_pairs),
    ),
    seeds=(0, 1, 2),
    budget="5 passes over 6,000 items of 20 × 20 for every method, ViT 64 × 2 on 25 tokens, batch 128, at most 50 s of one core a line; "
           "every method by the recipe for short runs that it ships with, none tuned on these data",
    data="real",
    substitutions="Moved digits for a CIFAR-10 subset: there a short run of a Transformer tells methods apart.",
    omissions="The survey's hybrid and multimodal families, of which no method is here yet, and its tasks of detection and segmentation.",
    prepare=prepare,
)
