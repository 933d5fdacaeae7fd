"""S037, SSAMBA: the same pretraining on state spaces instead of attention, and a cost that grows with length alone."""

from . import spoken  # noqa: F401  (its data)
from .proof import Arm, Claim, Proof

WORDS = "spoken-usual"
SIZE = {"backbone.patch": (16, 4), "backbone.width": 64, "backbone.pool": "mean", "resolution": 48, "batch_size": 32}
MAMBA = {"backbone": "mamba", "backbone.depth": 4, "backbone.state": 4, **SIZE}
VIT = {"backbone": "vit_tiny", "backbone.depth": 2, "backbone.heads": 4, **SIZE}
STEPS = {"steps": 160, "method.masked": 0.6, "method.size": 3}


def prepare() -> None:
    """SSAST that learns from other clips' tokens."""
    from ..contracts import register
    from ..methods import SSAST
    from .s353 import of_the_next

    register("s037_shuffled")(of_the_next(SSAST))


def growth(trained) -> dict[str, float]:
    """Of the backbone's kind on series: processor time of a forward pass of 4,096 tokens over that of 1,024, and the numbers kept
    for a backward pass likewise."""
    import time

    import torch

    from ..contracts import Facts
    from ..networks import build_backbone

    options = {k: v for k, v in trained.run.encoder.backbone_options.items() if k != "patch"}
    seconds, kept = [], []
    for tokens in (1024, 4096):
        torch.manual_seed(0)
        backbone = build_backbone(trained.run.encoder.backbone_name, Facts("series", 9, (1, tokens)), patch=1, **options).eval()
        x, found, sizes = torch.randn(2, 1, tokens), [], []
        with torch.no_grad():
            for _ in range(4):
                began = time.process_time()
                backbone(x)
                found.append(time.process_time() - began)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            backbone(x)
        seconds.append(sorted(found[1:])[1])
        kept.append(sum(sizes))
    return {"time_growth": seconds[1] / seconds[0], "kept_growth": kept[1] / kept[0]}


PROOF = Proof(
    id="S037",
    statement="SSAST's pretraining works on bidirectional selective scans as on attention, at a time that grows in proportion to the "
              "length where attention's grows about quadratically.",
    works_when="Linear accuracy beats the untrained Mamba and is within noise of a Transformer twin; measured time and memory grow about "
               "linearly with length, the Transformer's about quadratically.",
    arms=(
        Arm("mamba", "ssast", WORDS, MAMBA | STEPS, "subject", 60),
        Arm("untrained", None, WORDS, MAMBA, "baseline", 60, (growth,)),
        Arm("transformer", "ssast", WORDS, VIT | STEPS, "baseline", 60),
        Arm("transformer, untrained", None, WORDS, VIT, "baseline", 60, (growth,)),
        Arm("targets of other clips", "s037_shuffled", WORDS, MAMBA | STEPS, "ablation", 60),
    ),
    claims=(
        Claim("The linear probe beats that of the untrained Mamba.", "linear", "mamba", "untrained"),
        Claim("It is at most three points below that of the Transformer.", "linear", "mamba", "transformer", "not worse", 0.03),
        Claim("Four times the tokens take at most five times the time.", "time_growth", "untrained", kind="threshold", direction="smaller",
              margin=5.0),
        Claim("They take the Transformer more than eight times the time.", "time_growth", "transformer, untrained", kind="threshold",
              margin=8.0),
        Claim("What is kept for the backward pass grows at most 4.4 times.", "kept_growth", "untrained", kind="threshold",
              direction="smaller", margin=4.4),
        Claim("With targets of other clips the linear probe is lower.", "linear", "targets of other clips", "mamba", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="160 steps of 32 words on patches of 16 bands × 40 ms, Mamba 64 × 4 with 4 states against ViT 64 × 2; time and memory of "
           "networks as they begin; at most 60 s an arm on one core",
    data="real",
    substitutions="Spoken digits (FSDD), 2,100 recordings to train on and 300 others of the same six speakers for testing (the usual "
                  "split), for AudioSet and Speech Commands; small twins; plain PyTorch on a processor for fused kernels. 'Within noise' "
                  "is taken as three points, 'about quadratically' as more than eight times the time for four times the tokens; "
                  "memory as the numbers kept for the backward pass.",
    omissions="That the Transformer's memory grows quadratically: its attention at these lengths never holds the weights, so it does not.",
    prepare=prepare,
)
