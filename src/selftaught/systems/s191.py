"""S191, DINOv2: DINO with hidden tokens told (iBOT) and items spread (KoLeo), on a pool that was curated by retrieval."""

from .arms import DATA, cifar10
from .proof import Arm, Claim, Proof
from .s215 import VIT

POOL, KEPT, SEEDS = 3000, 1500, 200


def clothes(count: int):
    """uint8 [count, 32, 32, 3]: photographs of clothing, what the pool holds besides."""
    from .s020 import pictures

    return pictures("images", "clothing10_small_128px.zip", "train", count)[0]


def pooled(which: str):
    """(train, test) for "curated" and "random": 1,500 of a pool of 1,500 CIFAR-10 and 1,500 clothing photographs, those nearest to 200
    other CIFAR-10 images, or any; and 2,000 of CIFAR-10's test images. Nearness: cosine of the images at 8 × 8 pixels, centred, which
    no label and no training touches."""
    import numpy as np

    from ..sources import open_source

    half, rows, test = POOL // 2, cifar10("train", POOL // 2 + SEEDS), cifar10("test", 2000)
    pool = np.concatenate([rows["x"][:half], clothes(half)])
    if which == "random":
        kept = np.random.default_rng(191).permutation(POOL)[:KEPT]
    else:
        small = [x.reshape(len(x), 8, 4, 8, 4, 3).mean((2, 4)).reshape(len(x), -1) for x in (pool, rows["x"][half:])]
        centre = small[0].mean(0)
        pool_unit, seed_unit = ((z - centre) / np.linalg.norm(z - centre, axis=1, keepdims=True) for z in small)
        kept = np.sort(np.argsort(-(pool_unit @ seed_unit.T).max(1), kind="stable")[:KEPT])
    return open_source(pool[kept], layout="NHWC"), open_source({"x": test["x"], "y": test["y"]}, layout="NHWC")


DATA["s191"] = pooled


def probes(trained) -> dict[str, float]:
    """photo_knn, photo_linear: of CIFAR-10's test images against 2,000 of its training images that no arm was trained on."""
    from ..evaluation import knn, linear_probe
    from ..sources import open_source
    from .arms import cifar10

    rows = cifar10("train", 4000)
    z = trained.run.encoder.embed(open_source(rows["x"][2000:], layout="NHWC"))
    arrays = z, rows["y"][2000:], trained.run.encoder.embed(trained.test), trained.test.labels
    return {"photo_knn": knn(*arrays).value, "photo_linear": linear_probe(*arrays).value}


def of_patches(trained) -> dict[str, float]:
    """patches: accuracy of a linear probe that tells an image's class from one token alone, of the four in the middle."""
    import numpy as np

    from ..evaluation import linear_probe
    from ..sources import open_source

    found = []
    for source, count in ((trained.train, 2000), (trained.test, 1000)):
        images = open_source(source.take(np.arange(count))["x"], layout="NCHW")
        tokens = trained.run.encoder.embed(images, tokens=True)
        middle = tokens.reshape(count, 8, 8, -1)[:, 3:5, 3:5]
        found += [middle.reshape(count * 4, -1), np.repeat(source.labels[:count], 4)]
    return {"patches": linear_probe(*found, groups=np.repeat(np.arange(2000), 4)).value}  # of one image all are held out


KEY, SAME = "cifar10-5000", {"steps": 300, "batch_size": 64, **VIT}

PROOF = Proof(
    id="S191",
    statement="With hidden tokens told and items spread, DINO's features are better than DINO's alone, its tokens too, and a "
              "pool curated by retrieval is better to learn from than a part of it at random.",
    works_when="k-NN and linear probe beat the untrained network and DINO alone at equal steps; a probe of single tokens "
               "improves with the iBOT term; pretraining on the subset curated by retrieval beats as many items of the pool at "
               "random.",
    arms=(
        Arm("dinov2", "dinov2", KEY, SAME, "subject", 60, (of_patches,)),
        Arm("dino alone", "dinov2", KEY, {**SAME, "method.ibot": 0.0, "method.koleo": 0.0}, "baseline", 60, (of_patches,)),
        Arm("no ibot", "dinov2", KEY, {**SAME, "method.ibot": 0.0}, "ablation", 60, (of_patches,)),
        Arm("untrained", None, KEY, {**VIT, "backbone.pool": "mean"}, "baseline", 30),
        Arm("curated", "dinov2", "s191-curated", SAME, "subject", 60, (probes,)),
        Arm("random subset", "dinov2", "s191-random", SAME, "baseline", 60, (probes,)),
    ),
    claims=(
        Claim("k-NN lies above that of the untrained network.", "knn", "dinov2", "untrained"),
        Claim("The linear probe lies above that of the untrained network.", "linear", "dinov2", "untrained"),
        Claim("k-NN lies above DINO's at equal steps.", "knn", "dinov2", "dino alone"),
        Claim("The linear probe lies above DINO's at equal steps.", "linear", "dinov2", "dino alone"),
        Claim("A probe of single tokens is better than without the iBOT term.", "patches", "dinov2", "no ibot"),
        Claim("On the subset curated by retrieval k-NN is better than on a random one.", "photo_knn", "curated", "random subset"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="300 steps of 64 of 5,000 images of 32 × 32, or of 1,500 of the pool; a Transformer of 2 blocks of width 64 on 64 tokens; two "
           "large and two small views; at most 60 s an arm on one core; the recipe of short runs, none tuned on these data",
    data="real",
    substitutions="CIFAR-10 beside photographs of clothing for the uncurated pool; nearness by cosine of small images for a pretrained "
                  "network's features; DINO alone is DINOv2 with its two other weights at zero, Sinkhorn included.",
    omissions="The last phase at a high resolution and the distillation into smaller networks are no clauses of the row.",
)
