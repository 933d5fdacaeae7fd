"""S356, P3P: pictures lifted into clouds of coloured points pretrain a Transformer on occupied cells of space, found in linear time."""

import numpy as np

from .proof import DATA, Arm, Claim, Proof


def prepare() -> None:
    """P3P's masked autoencoder without its idea: the cells to be predicted are another cloud's."""
    from ..contracts import register
    from ..methods import MAE
    from .s353 import of_the_next

    register("s356_shuffled")(of_the_next(MAE))


def lifted(rest: str):
    """(train, test): clouds of 256 coloured points of the first N training and 200 test pictures of CIFAR-10; "N-flat": without depth.

    Depth from shading, by hand: what is bright, once blurred, and what lies low in the picture is near. Each pixel goes to its depth
    along its ray, under 53 degrees of view, and 256 of the 1,024 are drawn. Colours are behind the places; no labels."""
    from ..sources.points import PointsArrays
    from .arms import cifar10

    count, _, flat = rest.partition("-")
    line = (np.arange(32) + 0.5) / 32 - 0.5
    taps = np.exp(-0.5 * (np.arange(32)[:, None] - np.arange(32)) ** 2 / 2.0**2)
    blur = taps / taps.sum(1, keepdims=True)

    def made(split, n):
        pictures = cifar10(split, n)["x"] / 255.0  # [N, 32, 32, 3]
        bright = blur @ (pictures @ [0.299, 0.587, 0.114]) @ blur.T
        depth = 2.0 - 0.8 * bright - 0.4 * line[:, None] if not flat else np.full_like(bright, 1.6)
        xyz = np.stack([depth * line, -depth * line[:, None], -depth], -1)
        points = np.concatenate([xyz, pictures], -1).reshape(n, 1024, 6)
        drawn = np.random.default_rng([356, n]).random((n, 1024)).argsort(1)[:, :256]
        return PointsArrays(np.take_along_axis(points, drawn[..., None], 1).astype(np.float32), origin=f"lifted {split}")

    return made("train", int(count)), made("test", 200)


def grey_solids(rest: str):
    """(train, test): the solids of S180 with three more columns, all of one grey."""
    from ..sources.points import PointsArrays
    from .s180 import solids

    def grey(source):
        x = source.take(np.arange(len(source)))["x"].transpose(0, 2, 1)
        return PointsArrays(np.concatenate([x, np.full_like(x, 0.45)], 2), y=source.labels, origin=f"grey {source.origin}")

    return tuple(map(grey, solids(rest)))


DATA["lifted"], DATA["greysolids"] = lifted, grey_solids
SOLIDS = "greysolids-600"


def few_shot(trained) -> dict[str, float]:
    """few, few_knn: accuracy on 800 solids of a linear probe and of k-NN from 10 labelled ones of each of ten kinds, mean of 10 draws."""
    from ..evaluation import label_budgets
    from .arms import proof_data

    train, test = proof_data("greysolids-600")
    x, u = (trained.run.encoder.embed(source) for source in (train, test))
    found = label_budgets(x, train.labels, u, test.labels, budgets=(100,), draws=10, seed=trained.seed, k=5)
    return {"few": found["linear"][100].value, "few_knn": found["knn"][100].value}


def times(trained) -> dict[str, float]:
    """cells, groups: how many times longer 16,384 points take than 4,096, least of five rounds of processor time, a token for 16 points
    each: P3P's cells with what is in them, or farthest points with their 32 nearest neighbours."""
    import time

    import torch

    from ..networks.point_groups import Grouping, gather_points
    from ..networks.voxels import Voxels, contents

    def cells(x, points):
        return contents(x, Voxels(points, points // 16, 16, 4).of(x), 4)

    def groups(x, points):
        return gather_points(x, Grouping(points, points // 16, 32).of(x).index)

    def seconds(run, points):
        x = torch.randn(2, 6, points, generator=torch.Generator().manual_seed(trained.seed))
        x[:, :3] /= x[:, :3].norm(dim=1, keepdim=True)
        rounds = []
        for _ in range(5):
            began = time.process_time()
            run(x, points)
            rounds.append(time.process_time() - began)
        return min(rounds)

    with torch.no_grad():
        return {run.__name__: seconds(run, 16384) / seconds(run, 4096) for run in (cells, groups)}


NETWORK = {"backbone": "voxel_transformer", "backbone.width": 64, "backbone.depth": 3, "batch_size": 32}
RUN = {**NETWORK, "steps": 300, "lr": 8e-3, "method.masked": 0.6, "views.turn_p": 1.0, "views.axis": "any"}

PROOF = Proof(
    id="S356",
    statement="A Transformer on occupied cells of space, pretrained by masked autoencoding of pictures lifted into clouds, tells "
              "solids apart from a few of each; finding the cells costs time linear in the points.",
    works_when="After pretraining on pseudo-3-D clouds a probe of synthetic solids is better at few-shot classification than of the random "
               "network, and the tokenizer's time is linear in the points where farthest points and nearest neighbours grow faster.",
    arms=(
        Arm("lifted pictures", "mae", "lifted-3000", RUN, "subject", 60, (few_shot,), (SOLIDS,)),
        Arm("untrained", None, "lifted-3000", NETWORK, "baseline", 60, (few_shot, times), (SOLIDS,)),
        Arm("targets of other clouds", "s356_shuffled", "lifted-3000", RUN, "ablation", 60, (few_shot,), (SOLIDS,)),
        Arm("flat pictures", "mae", "lifted-3000-flat", RUN, "control", 60, (few_shot,), (SOLIDS,)),
    ),
    claims=(
        Claim("From 10 labelled solids of each kind a linear probe is more accurate than of the untrained network.", "few",
              "lifted pictures", "untrained"),
        Claim("With targets of other clouds it is less accurate.", "few", "targets of other clouds", "lifted pictures", "smaller"),
        Claim("Four times the points take the tokenizer at most five times as long.", "cells", "untrained", kind="threshold",
              direction="smaller", margin=5.0),
        Claim("For farthest points and nearest neighbours the time grows by more.", "groups", kind="across arms",
              value=lambda arms: arms["untrained"]["groups"] - arms["untrained"]["cells"]),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="300 steps of 32 clouds of 256 points, a Transformer of 3 blocks, 64 wide, over at most 64 cells of 8³ with 27 parts, "
           "60 % hidden as in the paper, every cloud turned at random; at most 60 s an arm on one core, MAE's recipe for short "
           "runs at the rate of the conformance tests",
    data="synthetic",
    substitutions="3,000 pictures of CIFAR-10 for ImageNet, depth from shading by hand for a network's; the generated solids of S180, "
                  "grey, for scans and CAD models. The row leaves the target open: here MAE's mean squared error, of which parts of a "
                  "hidden cell hold points and of their colours; the authors' code has cross-entropy for the first, and for places "
                  "within a part Chamfer's distance. A cloud keeps its 64 fullest cells.",
    omissions="Fine-tuning on scans and segmentation: not clauses of the row. The arm of flat pictures is to be read, without a claim.",
    prepare=prepare,
)
