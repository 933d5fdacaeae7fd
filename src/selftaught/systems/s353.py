"""S353, OpenMind: self-supervision of volumes compared under one protocol, with training from scratch as a row of the table."""

import numpy as np

from .proof import DATA, Arm, Claim, Proof

SIDE = 16


def of_the_next(method: type) -> type:
    """`method`, masked modelling without its idea: what is to be filled in is the next item's of the batch."""

    class Shuffled(method):
        """Its targets move one place on in the batch."""

        def targets(self, view):
            return super().targets(view).roll(1, 0)

    return Shuffled


def prepare() -> None:
    """MAE with the targets of other volumes."""
    from ..contracts import register
    from ..methods import MAE

    register("s353_shuffled")(of_the_next(MAE))


def phantoms(rest: str):
    """(train, test), "heads N" without labels and with `masks`, or "lumps N" with a class each; test is 256 or 800 volumes of 16³.

    heads: a skull and in it a brain (1), moved and turned a little, two ventricles (2) and mostly a lesion (3). lumps: one of six bodies
    (ball, shell, rod, disc, ring, two balls) at any turn among three crumbs. Both under a smooth field, in noise."""
    from ..sources.volumes import VolumeArrays

    kind, count = rest.split("-")
    grid = np.stack(np.meshgrid(*(np.arange(SIDE) - (SIDE - 1) / 2,) * 3, indexing="ij"), -1)[None]  # [1, S, S, S, 3]

    def here(rng, n, sway, tilt):
        """Places [n, S, S, S, 3] in coordinates of their own: moved by up to `sway`, turned by about `tilt`."""
        turn = np.linalg.qr(np.eye(3) + tilt * rng.normal(size=(n, 3, 3)))[0]
        return (grid - rng.uniform(-sway, sway, (n, 1, 1, 1, 3))) @ turn[:, None, None]

    def radius(place, sizes):
        return np.sqrt(((place / sizes) ** 2).sum(-1))

    def pick(rng, n, low, high, *shape):
        return rng.uniform(low, high, (n, 1, 1, 1, *shape))

    def heads(rng, n):
        place, sizes = here(rng, n, 1.0, 0.15), pick(rng, n, 5.5, 7.0, 3)
        out = radius(place, sizes)
        side = pick(rng, n, 1.6, 2.4)
        apart = np.abs(place[..., 2]) - side  # the two ventricles mirror each other
        ventricles = radius(np.stack([place[..., 0], place[..., 1], apart], -1), pick(rng, n, 1.6, 3.0, 3)) < 1
        way = rng.normal(size=(n, 1, 1, 1, 3))
        centre = way / np.linalg.norm(way, axis=-1, keepdims=True) * sizes * pick(rng, n, 0.4, 0.6, 1)
        lesion = (radius(place - centre, pick(rng, n, 1.8, 2.8, 1)) < 1) & (out < 0.85) & (pick(rng, n, 0, 1) < 0.8)
        masks = np.where(out >= 0.85, 0, np.where(lesion, 3, np.where(ventricles, 2, 1)))
        skull = (out >= 0.85) & (out < 1)
        values = [skull * pick(rng, n, 0.8, 1.0), pick(rng, n, 0.45, 0.6), pick(rng, n, 0.15, 0.25), pick(rng, n, 0.7, 0.85)]
        return np.choose(masks, values), masks

    def lumps(rng, n):
        place, size, y = here(rng, n, 3.0, 3.0), pick(rng, n, 0.8, 1.2), np.arange(n) % 6
        out, ring = radius(place, size[..., None]), np.sqrt(place[..., 1] ** 2 + place[..., 2] ** 2) / size
        flat = np.abs(place[..., 0]) / size
        bodies = [out < 3, (out < 3.6) & (out > 2.2), (ring < 1.4) & (flat < 5), (ring < 4) & (flat < 1),
                  (ring - 3) ** 2 + flat**2 < 1.5, np.sqrt((flat - 2.6) ** 2 + ring**2) < 2]
        body = np.choose(y[:, None, None, None], bodies)
        crumbs = sum((radius(here(rng, n, 7.0, 0.0), 1.3) < 1).astype(float) * pick(rng, n, 0.4, 1.0) for _ in range(3))
        return np.maximum(body * pick(rng, n, 0.6, 1.0), crumbs), y

    def made(count, seed):
        rng = np.random.default_rng([353, seed])
        x, y = (heads if kind == "heads" else lumps)(rng, count)
        x = x + (grid * rng.normal(0, 0.01, (count, 1, 1, 1, 3))).sum(-1) + rng.normal(0, 0.06, x.shape)
        source = VolumeArrays(x.astype(np.float32), y=y if kind == "lumps" else None, origin=f"{kind} {seed}")
        source.masks = y if kind == "heads" else None
        return source

    return made(int(count), 0), made(800 if kind == "lumps" else 256, 1)


DATA["phantoms"] = phantoms


def segmented(trained, steps: int = 150) -> dict[str, float]:
    """dice, voxels: mean Dice of the classes but 0, and mean over all classes of the part of their voxels that is found, over all test
    volumes after training on 8 labelled ones: `steps` of all 8, the last two axes flipped at random, cross-entropy and Dice, a linear
    map from every token to its voxels."""
    import copy

    import torch
    import torch.nn.functional as F
    from torch import nn

    from ..contracts import Clean
    from ..networks.signal import PatchSignal

    encoder = trained.run.encoder
    rows = np.random.default_rng([353, trained.seed]).permutation(len(trained.train))[:8]
    views = encoder.modality.views(Clean(), encoder.preprocessing)
    tokens = PatchSignal(1, encoder.backbone.patch)

    def ready(source):
        x = torch.cat([views(batch, batch.draws(0, "masks"))[0].x for batch, _ in encoder.batches(source)])
        return x, torch.from_numpy(source.masks).float()[:, None]

    def overlap(part, truth):  # [B, N, P, K] each → Dice of the classes but 0
        sums = [(a * b).sum((0, 1, 2))[1:] for a, b in ((part, truth), (part, part), (truth, truth))]
        return (2 * sums[0] + 1e-5) / (sums[1] + sums[2] + 1e-5)

    (x, y), (u, v) = ready(trained.train), ready(trained.test)
    x, y, classes = x[rows], y[rows], int(y.max()) + 1
    draw, width = torch.Generator().manual_seed(trained.seed), tokens.width * classes
    with torch.random.fork_rng():
        torch.manual_seed(trained.seed)
        network, head = copy.deepcopy(encoder.backbone).train(), nn.Linear(encoder.backbone.width, width)
    scores = lambda part: head(network(part).tokens).unflatten(-1, (-1, classes))  # noqa: E731
    optimiser = torch.optim.AdamW([*network.parameters(), *head.parameters()], 1e-3, weight_decay=0.05)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-3 * min((step + 1) / (0.1 * steps), (steps - step) / (0.9 * steps))
        axes = [axis for axis in (3, 4) if torch.rand((), generator=draw) < 0.5]
        target = tokens(y.flip(axes)).long()
        found = scores(x.flip(axes))
        loss = F.cross_entropy(found.flatten(0, 2), target.flatten())
        loss = loss + 1 - overlap(found.softmax(-1), F.one_hot(target, classes).float()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    network.eval()
    with torch.no_grad():
        guess, truth = torch.cat([scores(part).argmax(-1) for part in u.split(64)]), tokens(v).long()
    dice = overlap(F.one_hot(guess, classes).float(), F.one_hot(truth, classes).float()).mean()
    right = [float((guess == truth)[truth == c].float().mean()) for c in range(classes)]
    return {"dice": float(dice), "voxels": float(np.mean(right))}


def segmented_as_long(trained) -> dict[str, float]:
    """dice, voxels: of as many volumes seen as by 300 steps of 32 and 150 of 8."""
    return segmented(trained, steps=1350)


def finetuned(trained, budget=None) -> dict[str, float]:
    """finetune: test accuracy of the network fine-tuned with 60 labels, as `compare-methods` does it unless there is a `budget`."""
    from ..protocols.compare import FINETUNING
    from ..protocols.finetune import finetune

    return {"finetune": finetune(trained.run.encoder, trained.train, trained.test, labels=60, seed=trained.seed,
                                 budget=budget or FINETUNING).value}


def finetuned_as_long(trained) -> dict[str, float]:
    """finetune: of as many volumes seen as by 300 steps of 32 and 200 of 15."""
    from ..protocols.baselines import Supervision

    return finetuned(trained, Supervision(steps=840, passes=840))


def filled_in(trained) -> dict[str, float]:
    """left: squared error of what MAE fills into hidden tokens of 256 test volumes, over that of the best constant, their mean."""
    import torch

    from ..networks.decoder import at_places, encode_visible, predicted_places

    method, stream, slots = trained.method(), trained.plan.stream(trained.test), np.arange(256)
    batch = next(iter(stream.reader.batches([(slots, np.zeros_like(slots), slots)])))
    with torch.no_grad():
        (view,) = stream.views(batch, batch.draws(trained.seed, "test"))
        backbone = method.student.backbone
        found = method.decoder(encode_visible(backbone, view), view, backbone.grid(view.x.shape))
        target = at_places(method.targets(view), predicted_places(view))
    return {"left": float((found - target).square().mean() / (target - target.mean()).square().mean())}


def the_table(trained) -> dict[str, float]:
    """What `compare-methods --modality volume --finetune 24` prints of 240 and 120 volumes after 2 steps, not how good it is: rows that
    have all results, and whether training from scratch (random initialisation, fine-tuned) is one."""
    from ..protocols import compare_methods
    from ..protocols.baselines import labelled_subset

    train, test = (labelled_subset(source, np.arange(n), source.classes) for source, n in ((trained.train, 240), (trained.test, 120)))
    options = {f"backbone.{k}": v for k, v in trained.plan.nested["backbone"].items()}
    table = compare_methods(train, test, methods=("simclr", "mae", "simmim"), finetune=24, seed=trained.seed, steps=2, batch_size=32,
                            device="cpu", backbone="vit_tiny", **options)
    whole = [row.name for row in table.rows if set(row.scores) == {"knn", "linear", "finetune"}]
    return {"rows": float(len(whole)), "scratch": float("random initialisation" in whole)}


HEADS, LUMPS = "phantoms-heads-1000", "phantoms-lumps-1200"
VIT = {"backbone": "vit_tiny", "backbone.patch": 4, "backbone.width": 64, "backbone.depth": 3, "backbone.heads": 4,
       "backbone.pool": "mean", "batch_size": 32}
RUN = {**VIT, "steps": 300, "lr": 8e-3}
RAW = {**RUN, "method.normalised": False}
MASKED = {**RAW, "method.masked": 0.5}

PROOF = Proof(
    id="S353",
    statement="Methods for volumes, trained and fine-tuned alike, stand in one table beside training from scratch, and with few labels "
              "masked modelling lies above it.",
    works_when="The table of methods and data sets, of Dice or accuracy after equal fine-tuning, has training from scratch as a row and at "
               "least one method of masked modelling above it with few labels, from at least three seeds; and what pretraining fills in "
               "errs far less than the mean would.",
    arms=(
        Arm("heads: mae", "mae", HEADS, MASKED, "subject", 60, (segmented, filled_in)),
        Arm("heads: simmim", "simmim", HEADS, MASKED, "subject", 60, (segmented,)),
        Arm("heads: simclr", "simclr", HEADS, RUN, "control", 60, (segmented,)),
        Arm("heads: from scratch", None, HEADS, VIT, "baseline", 60, (segmented,)),
        Arm("heads: from scratch, as long", None, HEADS, VIT, "baseline", 90, (segmented_as_long,)),
        Arm("lumps: mae", "mae", LUMPS, MASKED, "subject", 60, (finetuned, filled_in)),
        Arm("lumps: simmim", "simmim", LUMPS, MASKED, "subject", 60, (finetuned,)),
        Arm("lumps: simclr", "simclr", LUMPS, RUN, "control", 60, (finetuned,)),
        Arm("lumps: from scratch", None, LUMPS, VIT, "baseline", 60, (finetuned,)),
        Arm("lumps: from scratch, as long", None, LUMPS, VIT, "baseline", 90, (finetuned_as_long,)),
        Arm("heads: targets of other volumes", "s353_shuffled", HEADS, MASKED, "ablation", 60, (segmented,)),
        Arm("the command", None, LUMPS, VIT, "control", 60, (the_table,)),
    ),
    claims=(
        Claim("Heads, 8 labelled volumes: MAE, chosen beforehand, has a higher Dice than training from scratch.", "dice", "heads: mae",
              "heads: from scratch"),
        Claim("And than training from scratch for as long as pretraining and fine-tuning together.", "dice", "heads: mae",
              "heads: from scratch, as long"),
        Claim("Lumps, 60 labels: MAE, chosen beforehand, is more accurate than training from scratch.", "finetune", "lumps: mae",
              "lumps: from scratch"),
        Claim("And than training from scratch for as long as pretraining and fine-tuning together.", "finetune", "lumps: mae",
              "lumps: from scratch, as long"),
        Claim("What MAE fills into hidden tokens of heads has less than half of the squared error of the mean.", "left", "heads: mae",
              kind="threshold", direction="smaller", margin=0.5),
        Claim("And what it fills into those of lumps.", "left", "lumps: mae", kind="threshold", direction="smaller", margin=0.5),
        Claim("With targets of other volumes Dice is lower.", "dice", "heads: targets of other volumes", "heads: mae", "smaller"),
        Claim("The command's table has all results of at least four rows.", "rows", "the command", kind="threshold", margin=3.5),
        Claim("Training from scratch is one of them.", "scratch", "the command", kind="threshold", margin=0.5),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="300 steps of 32 volumes of 16³ for every method, ViT 64 × 3 on 64 tokens, half of them hidden where a method hides; 150 steps"
           " on 8 labelled heads, 200 of 15 on 60 labelled lumps for every fine-tuning, from scratch too; from scratch, as long: 1,350 "
           "steps of 8 heads, 840 of 15 lumps, as many volumes as pretraining and fine-tuning see; at most 90 s an arm on one core; every"
           " method by the recipe for short runs that it ships with, at the rate of the conformance tests, signals as they are "
           "(z-scores), none tuned on these data",
    data="synthetic",
    substitutions="Two kinds of phantoms of 16³ voxels for brain MRI and the benchmark's data sets; one ViT for Primus and ResEnc-L; MAE, "
                  "SimMIM and SimCLR of its seven methods. Segmentation is measured as arms of its own, classification also by the "
                  "command, which is run for two steps to see what it prints.",
    omissions="NSD, a strong nnU-Net and sliding windows: volumes of 16³ fit into the network. VolumeFusion, Models Genesis, VoCo: not "
              "clauses of the row.",
    prepare=prepare,
)
