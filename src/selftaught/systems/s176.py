"""S176, PAL: losses on a graph of relations, from augmentations, labels or an oracle's answers; and which pairs to ask about."""

from .arms import SMALL
from .proof import Arm, Claim, Proof


def active(trained) -> dict[str, float]:
    """probe: linear probe after learning on with the answers about 3,000 pairs of the largest influence. yes: share of yes."""
    import torch

    from ..evaluation import linear_probe
    from ..protocols.relations import influential_pairs, joined, learn_relations

    y = trained.train.labels
    with torch.no_grad():
        z = trained.method().student.head(torch.from_numpy(trained.features)).numpy()
    pairs = influential_pairs(z, 3000)
    alike = y[pairs[:, 0]] == y[pairs[:, 1]]  # the oracle
    encoder = learn_relations(trained.run.encoder, trained.train, joined(len(y), pairs, alike), seed=trained.seed, epochs=4,
                              batch_size=256, device="cpu")
    score = linear_probe(encoder.embed(trained.train), y, encoder.embed(trained.test), trained.test.labels)
    return {"probe": score.value, "yes": float(alike.mean())}


def passive(trained) -> dict[str, float]:
    """The same with 3,000 random pairs."""
    from ..evaluation import linear_probe
    from ..protocols.relations import joined, learn_relations, random_pairs

    y = trained.train.labels
    pairs = random_pairs(len(y), 3000, seed=trained.seed)
    alike = y[pairs[:, 0]] == y[pairs[:, 1]]
    encoder = learn_relations(trained.run.encoder, trained.train, joined(len(y), pairs, alike), seed=trained.seed, epochs=4,
                              batch_size=256, device="cpu")
    score = linear_probe(encoder.embed(trained.train), y, encoder.embed(trained.test), trained.test.labels)
    return {"probe": score.value, "yes": float(alike.mean())}


def alone(trained) -> dict[str, float]:
    """The same without any answer: as many steps of self-supervision."""
    import numpy as np

    from ..evaluation import linear_probe
    from ..protocols.relations import learn_relations

    y = trained.train.labels
    encoder = learn_relations(trained.run.encoder, trained.train, np.full(len(y), -1), seed=trained.seed, epochs=4, batch_size=256,
                              device="cpu")
    return {"probe": linear_probe(encoder.embed(trained.train), y, encoder.embed(trained.test), trained.test.labels).value}


def same_losses(trained) -> dict[str, float]:
    """difference: the largest relative one between the graph losses, G from augmentations alone, and SimCLR's and VICReg's, on
    the trained network's projections of two noised copies of 512 items."""
    import torch

    from ..objectives import graph_nt_xent, graph_vicreg, nt_xent, relations, vicreg

    with torch.no_grad():
        features = torch.from_numpy(trained.features[:512])
        noise = torch.randn(2, *features.shape, generator=torch.Generator().manual_seed(trained.seed))
        a, b = (trained.method().student.head(features + 0.1 * n).double() for n in noise)
        z, graph = torch.cat([a, b]), relations(torch.arange(512).repeat(2))
        weights = {"invariance": 25.0, "variance": 25.0, "covariance": 1.0}
        found = ((graph_nt_xent(z, graph, temperature=0.1), nt_xent(a, b, temperature=0.1)),
                 (graph_vicreg(z, graph, **weights), vicreg(a, b, **weights)))
    return {"difference": max(float((ours - theirs).abs() / theirs.abs()) for ours, theirs in found)}


DATA = "moved-digits"
HALF, WHOLE = {"epochs": 4, "batch_size": 256, **SMALL}, {"epochs": 8, "batch_size": 256, **SMALL}

PROOF = Proof(
    id="S176",
    statement="One pipeline is self-supervised, supervised or in between, by who is said to be alike; a few answers of yes or no about "
              "pairs help, best about the pairs that move the loss most.",
    works_when="With the graph from labels the linear probe matches supervised training; with augmentations alone the loss equals the "
               "framework's SimCLR and VICReg to tolerance; with a fixed budget of pair queries the probe beats self-supervision "
               "alone, active selection being no worse than random pairs.",
    arms=(
        Arm("active queries", "simclr", DATA, HALF, "subject", 90, (active,)),
        Arm("random queries", "simclr", DATA, HALF, "baseline", 90, (passive,)),
        Arm("no queries", "simclr", DATA, HALF, "ablation", 90, (alone, same_losses)),
        Arm("graph from labels", "pal", DATA, WHOLE, "subject", 90),
        Arm("supervised", "supervised", DATA, WHOLE, "baseline", 60),
    ),
    claims=(
        Claim("With the graph from labels the linear probe is at most 2 points below supervised training's.", "linear",
              "graph from labels", "supervised", "not worse", 0.02),
        Claim("With augmentations alone the graph losses are SimCLR's and VICReg's.", "difference", "no queries", kind="threshold",
              direction="smaller", margin=1e-9),
        Claim("With the answers about 3,000 pairs the probe beats self-supervision alone.", "probe", "active queries", "no queries"),
        Claim("Active queries are no worse than random ones.", "probe", "active queries", "random queries", "not worse"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="8 passes over 6,000 items of 20 × 20 for every arm (with queries: 4 before, 4 after), ConvNet 32-64-128-128, batch 256, at "
           "most 90 s an arm on two cores; 3,000 of 18 million pairs are asked about",
    data="real",
    substitutions="Moved digits for a CIFAR-10 or Fashion-MNIST subset: short runs differ there. The oracle is simulated by the labels. "
                  "Answers of yes are closed under transitivity.",
    omissions="None of the row's clauses. Influence is the derivative of the spectral loss, as the others' derivatives favour pairs that "
              "an oracle will deny.",
)
