"""S253, POA: networks of three sizes, cut out of one run, are each better than those cut out of a DINO run."""

from .proof import Arm, Claim, Proof


def extracted(trained) -> dict[str, float]:
    """knn H x L: of the network of H heads and L blocks that is cut out of the kept encoder; 4 x 4 is the whole of it."""
    from ..encoder import Encoder
    from ..evaluation import knn
    from ..networks.elastic import sub_network

    encoder, found = trained.run.encoder, {}
    for heads, blocks in ((2, 2), (3, 3), (4, 3), (4, 4)):
        part = Encoder(sub_network(encoder.backbone, heads, blocks), encoder.preprocessing)
        found[f"knn {heads} x {blocks}"] = knn(part.embed(trained.train), trained.train.labels, part.embed(trained.test),
                                               trained.test.labels).value
    return found


def rise(small: str, large: str):
    """By how much the larger network of POA lies above the smaller one."""
    return lambda arms: arms["poa"][f"knn {large}"] - arms["poa"][f"knn {small}"]


SIZES = ("2 x 2", "3 x 3", "4 x 3")  # heads x blocks of 4 x 4
KEY = "cifar10-5000"
NETWORK = {"backbone": "vit_tiny", "backbone.patch": 8, "backbone.width": 64, "backbone.depth": 4, "backbone.heads": 4,
           "backbone.positions": "learned", "backbone.pool": "mean", "batch_size": 64}
RUN = {**NETWORK, "steps": 270}
POA = {**RUN, "method.least_width": 0.5}
DINO = {**RUN, "steps": 390, "method.ibot": 0.0}  # with KoLeo at the weight of POA, as k-NN feels it

PROOF = Proof(
    id="S253",
    statement="Networks of three sizes, cut out of one POA run, are each better than those of the same size cut out of a DINO run, "
              "and do not get worse with size.",
    works_when="From one run, k-NN accuracy of three extracted widths and depths lies above that of the same-size part cut out of a plain "
               "DINO run, for each of them, and does not fall with size, within noise.",
    arms=(
        Arm("poa", "poa", KEY, POA, "subject", 60, (extracted,)),
        Arm("dino", "dinov2", KEY, DINO, "baseline", 60, (extracted,)),
        Arm("no elastic student", "poa", KEY, {**POA, "method.intact": 1.0}, "ablation", 60, (extracted,)),
        Arm("untrained", None, KEY, NETWORK, "control", 30, (extracted,)),
    ),
    claims=(
        *(Claim(f"k-NN of {size.replace('x', 'heads x')} blocks lies above that of the same part of DINO.", f"knn {size}", "poa", "dino")
          for size in SIZES),
        *(Claim(f"k-NN of {large.replace('x', 'heads x')} blocks is at most 1 point below that of {small.replace('x', 'heads x')}.",
                f"knn {large}", kind="across arms", value=rise(small, large), margin=-0.01) for small, large in zip(SIZES, SIZES[1:])),
        *(Claim(f"Without the elastic student k-NN of {size.replace('x', 'heads x')} blocks is lower.", f"knn {size}", "no elastic student",
                "poa", "smaller") for size in SIZES),
        Claim("k-NN of the smallest lies above that of the same part of the untrained network.", "knn 2 x 2", "poa", "untrained"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="270 steps of 64 of 5,000 images of 32 × 32, two large and two small views, a Transformer of 4 blocks, 4 heads and width 64 "
           "with learned positions on 16 tokens, so that a minute holds more steps; DINO has 390 steps, since a step of POA, which "
           "passes the views through the student and a part of it, takes 1.4 times as much processor time, so that DINO has no less of "
           "it; without the elastic student it is POA's 270 steps, all else equal; at most 60 s an arm on one core; the recipes of short "
           "runs, none tuned on these data",
    data="real",
    substitutions="A Transformer of 4 blocks for ViT-L; parts of 2 to 4 heads and 2 to 4 blocks for ViT-S to ViT-L. DINO is "
                  "DINOv2 without its loss on tokens; Sinkhorn and KoLeo, at the same weight, are as POA has them, so that "
                  "neither is the difference.",
    omissions="None of the row's clauses. Swin and ResNet, linear probes and downstream tasks are of the headline, not clauses.",
)
