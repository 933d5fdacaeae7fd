"""S328, context prediction without shortcuts: guards make the task harder and the features no worse."""

from .arms import SMALL
from .proof import Arm, Claim, Proof


def neighbours_told(trained) -> dict[str, float]:
    """pretext: share of the test images' patches whose place beside the middle one is told right, seen as in training."""
    import torch

    method, views, right, asked = trained.method(), trained.plan.stream(trained.train).views, 0, 0
    with torch.no_grad():
        for batch, _ in trained.run.encoder.batches(trained.test):
            logits, places = method.pairs([method.student(v) for v in views(batch, batch.draws(328, "held out"))])
            right, asked = right + int((logits.argmax(1) == places).sum()), asked + len(places)
    return {"pretext": right / asked}


DATA, EPOCHS = "cifar10-5000", {"epochs": 7, "batch_size": 128, **SMALL}
GUARDS = {"method.yoked": True, "method.blur_chroma": 0.5, "method.aperture": 0.5, "method.turn": 0.5}


def _context(name: str, role: str, **guards) -> Arm:
    return Arm(name, "context", DATA, EPOCHS | guards, role, 120, (neighbours_told,))


PROOF = Proof(
    id="S328",
    statement="Where a neighbouring patch lies can be told by shortcuts; guards against them make the task harder and leave the "
              "features at least as good.",
    works_when="Each guard is a switch; pretext accuracy drops when chroma is blurred, while linear-probe accuracy is at least "
               "that of plain context prediction and above the untrained network's.",
    arms=(
        _context("chroma blurred", "subject", **{"method.blur_chroma": 1.0}),
        _context("all guards", "subject", **GUARDS),
        _context("plain context", "ablation"),
        Arm("untrained", None, DATA, {"batch_size": 128, **SMALL}, "baseline", 30),
    ),
    claims=(
        Claim("With blurred chroma fewer neighbours of held-out images are told right.",
              "pretext", "chroma blurred", "plain context", "smaller"),
        Claim("With blurred chroma the linear probe is at most a point below plain context's.",
              "linear", "chroma blurred", "plain context", "not worse", 0.01),
        Claim("With all guards the linear probe is at most a point below plain context's.",
              "linear", "all guards", "plain context", "not worse", 0.01),
        Claim("With blurred chroma the linear probe lies above that of the untrained network.",
              "linear", "chroma blurred", "untrained"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="7 passes over 5,000 images of 32 × 32, nine patches of 8 × 8 each, batch 128, ConvNet 32-64-128-128, at most 120 s an arm "
           "on two cores; one recipe for all arms, not tuned on these data",
    data="real",
    substitutions="CIFAR-10 at its own size (patches of 8 pixels) for patches of 96 pixels of ImageNet; a ConvNet for CaffeNet; "
                  "luminance and the rest of RGB for Lab; AdamW for SGD. A patch serves in all its pairs at once.",
    omissions="Configurations of three patches are no guard and not built; that each guard is a switch, tests hold. Transfer to "
              "detection and segmentation is no clause of the row.",
)
