"""S273, SEER: SwAV on an uncurated, unbalanced pool of images helps where labels are few, and more with a larger pool."""

import numpy as np

from .arms import DATA, SMALL, cifar10, data_file
from .proof import Arm, Claim, Proof


def prepare() -> None:
    """SwAV without its idea: the target of an item is another item's, so that its views have nothing in common."""
    from ..contracts import register
    from ..methods import SwAV

    @register("s273_unpaired")
    class Unpaired(SwAV):
        """SwAV whose assignments move one place on in the batch: balanced targets, wrong pairs."""

        def assign(self, scores, embeddings, place):
            return super().assign(scores, embeddings, place).roll(1, dims=0)


def uncurated(rest: str):
    """(pool, test): `rest` unlabelled images, most of them of a few classes, none of the 5,000 that are labelled later.

    Four in five are CIFAR-10 rows from 5,000 on, the classes' shares falling by 0.6 from one to the next (airplane to truck,
    ratio 99); one in five is a clothing photograph. A smaller pool is part of a larger one.
    """
    import io
    import zipfile

    from PIL import Image

    from ..sources import open_source

    size, order = int(rest), np.random.default_rng(273)
    rows = cifar10("train", 50000)
    x, y = rows["x"][5000:], rows["y"][5000:]
    with zipfile.ZipFile(data_file("images", "clothing10_small_128px.zip")) as archive:
        names = order.permutation(sorted(n for n in archive.namelist() if "/train/" in f"/{n}" and not n.endswith("/")))
        photographs = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names[: size // 5]]
    clothes = [np.asarray(p.resize((32, 32))) for p in photographs]
    share = 0.6 ** np.arange(10)
    drawn = order.choice(10, size=50_000, p=share / share.sum())  # a long sequence: its beginning is the smaller pool's
    queues = {k: iter(order.permutation(np.flatnonzero(y == k))) for k in range(10)}
    kept = [next(queues[k]) for k in drawn[: size - len(clothes)]]
    pool = np.stack([*x[kept], *clothes])
    return open_source(pool, layout="NHWC"), open_source(cifar10("test", 5000), layout="NHWC")


DATA["uncurated"] = uncurated


def few_labels(trained) -> dict[str, float]:
    """finetuned: accuracy on CIFAR-10 after fine-tuning the whole network on a tenth of 5,000 labels."""
    from ..protocols import Supervision, finetune
    from .arms import proof_data

    train, test = proof_data("cifar10-5000")
    return {"finetuned": finetune(trained.run.encoder, train, test, labels=0.1, seed=trained.seed, draw=trained.seed,
                                  budget=Supervision(steps=400)).value}


def prototypes_in_use(trained) -> dict[str, float]:
    """used: share of the prototypes that are nearest to at least one image of the pool."""
    import torch
    import torch.nn.functional as F

    method = trained.method()
    with torch.no_grad():
        scores = method.prototypes(F.normalize(method.student.head(torch.from_numpy(trained.features)), dim=1))
    return {"used": len(scores.argmax(1).unique()) / scores.shape[1]}


def slope(arms) -> float:
    """Points of fine-tuned accuracy gained each time the pool becomes four times as large: the slope over three sizes."""
    sizes = [arms[f"swav, pool of {n}"]["finetuned"] for n in (512, 2048, 8192)]
    return float(np.polyfit([0.0, 1.0, 2.0], sizes, 1)[0])


SAME = {"steps": 160, "batch_size": 128, "method.prototypes": 128, **SMALL}
WATCH = (few_labels, prototypes_in_use)
ALSO = ("cifar10-5000",)

PROOF = Proof(
    id="S273",
    statement="SwAV learns from images that nobody chose: fine-tuning on few labels gains by it, and more from a larger "
              "pool.",
    works_when="SwAV on an uncurated, class-imbalanced pool without labels improves fine-tuning on 10 % of the labels "
               "over training from scratch; accuracy increases with pool size in a printed sweep; at least half of the "
               "prototypes are in use.",
    arms=(
        Arm("swav, pool of 8192", "swav", "uncurated-8192", SAME, "subject", 120, WATCH, ALSO),
        Arm("swav, pool of 2048", "swav", "uncurated-2048", SAME, "control", 120, WATCH, ALSO),
        Arm("swav, pool of 512", "swav", "uncurated-512", SAME, "control", 120, WATCH, ALSO),
        Arm("from scratch", None, "uncurated-2048", {"batch_size": 128, **SMALL}, "baseline", 60, (few_labels,), ALSO),
        Arm("unpaired views", "s273_unpaired", "uncurated-8192", SAME, "ablation", 120, WATCH, ALSO),
    ),
    claims=(
        Claim("Fine-tuned on 10 % of the labels it is better than from scratch.",
              "finetuned", "swav, pool of 8192", "from scratch"),
        Claim("Accuracy increases with the pool, at equal steps: 512, 2,048 and 8,192 images.", "finetuned", kind="across arms",
              value=slope),
        Claim("More than half of the prototypes are in use.", "used", "swav, pool of 8192", kind="threshold", margin=0.5),
        Claim("With views of different images it is worse.", "finetuned", "unpaired views", "swav, pool of 8192", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="160 steps of 128 images of 32 × 32 for every pool, ConvNet 32-64-128-128, at most 120 s an arm on two cores, fine-tuning "
           "of 400 steps included; the network from scratch gets the same fine-tuning",
    data="real",
    substitutions="A pool of CIFAR-10 (class ratio 99, disjoint from the labelled images) and clothing photographs for a "
                  "billion random ones; CIFAR-10 for ImageNet; a ConvNet for RegNetY; 128 prototypes for 16,000. Equal "
                  "steps for all pools, stricter than the paper's one pass, where a larger pool also means more training.",
    omissions="None of the row's clauses.",
    prepare=prepare,
)
