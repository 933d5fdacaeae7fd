"""S237, the survey of contrastive learning as a table that one command makes: four sources of negatives, one encoder, one budget."""

from .arms import SMALL
from .proof import Arm, Claim, Proof


def prepare() -> None:
    """Contrast without its idea: the positive is a view of another item."""
    from ..contracts import register
    from ..methods import SimCLR
    from ..networks import over
    from ..objectives import nt_xent

    @register("s237_unpaired")
    class Unpaired(SimCLR):
        """SimCLR whose second views move one place on in the batch."""

        def loss(self, views, batch):
            a, b = over(views, self.student, joint=True)
            return nt_xent(a, b.roll(1, 0), temperature=self.temperature)


def the_table(trained) -> dict[str, float]:
    """Linear probe of every line of `selftaught compare-methods DATA --by negatives --epochs 5`, and its smallest gain."""
    from ..protocols import compare_methods
    from ..protocols.compare import FOUR

    table = compare_methods(trained.train, trained.test, by="negatives", seed=trained.seed, epochs=5, batch_size=256, device="cpu",
                            backbone="convnet", **{"backbone.widths": (32, 64, 128, 128)})
    found = {f"table {row.name}": row.interval("linear").value for row in table.rows if row.scores}
    return found | {"least gain": min(table.gain(name).value for name in FOUR)}


def tagged(trained) -> dict[str, float]:
    """tagged: share of the package's registered methods that the taxonomy gives a known source of negatives and pretext."""
    from ..contracts import find, names
    from ..protocols.compare import NEGATIVES, PRETEXTS, tags

    ours = [n for n in names("method") if find("method", n).__module__.startswith("selftaught.methods")]
    return {"tagged": sum(tags(n)[0] in NEGATIVES and tags(n)[1] in PRETEXTS for n in ours) / len(ours)}


def wrong_pairs(arms) -> float:
    """By how much SimCLR in the table lies above the same run with wrong pairs."""
    return arms["the command's table"]["table simclr"] - arms["wrong pairs"]["linear"]


DATA, SAME = "moved-digits", {"epochs": 5, "batch_size": 256, **SMALL}

PROOF = Proof(
    id="S237",
    statement="The survey's taxonomy is executable: one command trains a method for each source of negatives under equal "
              "conditions, and every one learns.",
    works_when="A single command trains the four variants of the source of negatives (batch, memory bank, momentum queue, "
               "clustering) with the same encoder and budget and prints a table in which each beats random initialisation "
               "on the linear probe; every entry of the registry is tagged by the survey's taxonomy.",
    arms=(
        Arm("the command's table", None, DATA, {"batch_size": 256, **SMALL}, "subject", 120, (the_table, tagged)),
        Arm("wrong pairs", "s237_unpaired", DATA, SAME, "ablation", 60),
    ),
    claims=(
        Claim("Each of the four (simclr, npid, moco_v2, swav) beats random initialisation on the linear probe: the smallest gain is "
              "above zero.", "least gain", "the command's table", kind="threshold"),
        Claim("Every registered method has its tags.", "tagged", "the command's table", kind="threshold", margin=0.999),
        Claim("With positives of other items SimCLR's linear probe is lower.", "linear", kind="across arms", value=wrong_pairs),
    ),
    seeds=(0, 1, 2),
    budget="5 passes over 6,000 items of 20 × 20 for every method, ConvNet 32-64-128-128, batch 256, at most 120 s a table on two "
           "cores; every method at the one recipe for short runs that it ships with",
    data="real",
    substitutions="Moved digits for a CIFAR-10 subset: short runs differ there.",
    omissions="The clips of the row's data are optional there. Detection and action tasks are the survey's, not a clause.",
    prepare=prepare,
)
