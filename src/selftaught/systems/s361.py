"""S361, additive margin: the other view of an utterance must lead by a margin, and voices come further apart."""

from .proof import Arm, Claim, Proof
from .spoken import equal_error

VOICES = "voices-60"
COMMON = {"resolution": 48, "batch_size": 128, "backbone.widths": (16, 32, 64, 128)}
STEPS = {**COMMON, "steps": 90, "method.hidden": 0}


def closest_to_zero(arms) -> float:
    """How far the loss without margin, trained alike, is from plain NT-Xent's, over the latter."""
    return abs(arms["m = 0"]["loss"] - arms["nt-xent"]["loss"]) / arms["nt-xent"]["loss"]


def prepare() -> None:
    """SimCLR's own objective in the same network, which m = 0 must equal."""
    from ..contracts import register
    from ..methods.additive_margin import AdditiveMargin
    from ..networks import over
    from ..objectives import nt_xent

    @register("s361_nt_xent")
    class Plain(AdditiveMargin):
        """NT-Xent as SimCLR has it."""

        def loss(self, views, batch):
            a, b = over(views, self.student, joint=True)
            return nt_xent(a, b, temperature=self.temperature)


PROOF = Proof(
    id="S361",
    statement="An additive margin in the contrastive loss moves the scores of one voice and of two further apart, and the error on unseen "
              "voices does not suffer; without margin the loss is NT-Xent, and both views as anchors are as good as one or better.",
    works_when="At equal steps a margin above 0 widens the gap between the scores of positive and negative trials and lowers the equal "
               "error rate or keeps it within noise; m = 0 is NT-Xent; the symmetric loss is at least as good as the asymmetric one.",
    arms=(
        Arm("margin", "simclr_am", VOICES, STEPS | {"method.margin": 0.1}, "subject", 60, (equal_error,)),
        Arm("m = 0", "simclr_am", VOICES, STEPS | {"method.margin": 0.0}, "ablation", 60, (equal_error,)),
        Arm("nt-xent", "s361_nt_xent", VOICES, STEPS, "baseline", 60, (equal_error,)),
        Arm("margin, one anchor", "simclr_am", VOICES, STEPS | {"method.margin": 0.1, "method.symmetric": False}, "ablation", 60,
            (equal_error,)),
        Arm("untrained", None, VOICES, COMMON, "baseline", 20, (equal_error,)),
    ),
    claims=(
        Claim("With the margin the mean scores of one voice and of two lie further apart than without.", "gap", "margin", "m = 0"),
        Claim("The equal error rate with the margin is at most one point above that without.",
              "eer", kind="across arms", direction="smaller", margin=0.01, value=lambda arms: arms["margin"]["eer"] - arms["m = 0"]["eer"]),
        Claim("Without margin the loss is NT-Xent's, to a thousandth, after the same training.",
              "loss", kind="across arms", direction="smaller", margin=1e-3, value=closest_to_zero),
        Claim("The equal error rate of the symmetric loss is at most one point above that of the asymmetric one.",
              "eer", kind="across arms", direction="smaller", margin=0.01,
              value=lambda arms: arms["margin"]["eer"] - arms["margin, one anchor"]["eer"]),
        Claim("The equal error rate lies below that of the untrained network.", "eer", "margin", "untrained", "smaller"),
    ),
    seeds=(0, 1, 2),
    budget="90 steps of 128 utterances, windows of 0.48 s, ConvNet 16-32-64-128, at most 60 s an arm on one core; all arms alike",
    data="real",
    substitutions="Utterances of four spoken digits (FSDD) of four speakers for VoxCeleb, two other speakers for testing, each at five "
                  "speeds that count as voices: 20 to train on, 10 unseen. The views are random windows with noise of any colour, gain and "
                  "masks, without room responses; a ConvNet for ECAPA-TDNN. 'Within noise' is taken as one point of equal error rate.",
    omissions="MoCo with the margin: its objective (margin_info_nce with a queue) is there and tested, no arm runs it.",
    prepare=prepare,
)
