"""S036, motion and appearance statistics: a 3-D ConvNet that has told what moves where in clips needs few labels to name the motion."""

import numpy as np

from .arms import DATA
from .proof import Arm, Claim, Proof


def clips(n: int, split: str):
    """(uint8 [n, 8, 20, 20, 3], labels int64 [n]): two handwritten 8 × 8 digits, a warm and a cold one, before a smooth background of any
    colour, in noise. One of them drifts over a torus at 1 to 2 pixels a frame; which one, and whether up, aslant up, sideways, aslant
    down or down (to the left or to the right), is the label, so that a mirror changes none. Train and test share no digit."""
    from sklearn.datasets import load_digits

    rng, digits, place = np.random.default_rng([36, split == "test"]), load_digits().images / 16, np.arange(20)
    pool, y = digits[:1300] if split == "train" else digits[1300:], np.arange(n) % 10
    angle = (y // 2 - 2) * np.pi / 4
    way = np.stack([np.sin(angle), np.cos(angle) * rng.choice((-1, 1), n)], 1) * rng.uniform(1, 2, n)[:, None]
    down, right = rng.uniform(-0.15, 0.15, (2, n, 1, 1, 3))  # the background's slopes
    line = place[:, None] / 10 - 0.95
    x = rng.uniform(0.25, 0.6, (n, 1, 1, 3)) + line[:, None] * down + line * right
    x = np.repeat(x[:, None], 8, 1)  # [n, T, H, W, 3]
    for kind, colour in enumerate(((0.95, 0.35, 0.1), (0.1, 0.4, 0.95))):
        canvas = np.pad(pool[rng.integers(0, len(pool), n)], ((0, 0), (0, 12), (0, 12)))
        start, tint = rng.uniform(0, 20, (n, 2)), (np.array(colour) + rng.uniform(-0.1, 0.1, (n, 3)))[:, None, None]
        moves = (y % 2 == kind)[:, None]
        for t in range(8):
            i, j = ((place - at[:, None]) % 20 for at in np.round(start + moves * t * way).astype(np.int64).T)
            seen = canvas[np.arange(n)[:, None, None], i[:, :, None], j[:, None, :]][..., None]
            x[:, t] = (1 - seen) * x[:, t] + seen * tint
    x += rng.normal(0, 0.05, x.shape)
    return (x.clip(0, 1) * 255).astype(np.uint8), y


def acts(rest: str):
    """(train, test)."""
    from ..sources import open_source

    made = (clips(int(n), split) for split, n in zip(("train", "test"), rest.split("-")))
    return tuple(open_source({"x": x, "y": y}, layout="NTHWC") for x, y in made)


DATA["acts"] = acts


def few_labels(trained, steps: int = 80) -> dict[str, float]:
    """finetuned: accuracy after fine-tuning the whole network on 200 labelled clips, 50 a step."""
    from ..protocols import Supervision, finetune

    return {"finetuned": finetune(trained.run.encoder, trained.train, trained.test, labels=200, seed=trained.seed, draw=trained.seed,
                                  budget=Supervision(steps=steps)).value}


def few_labels_as_long(trained) -> dict[str, float]:
    """finetuned: of as many clips seen as by 150 steps of 64 and 80 of 50."""
    return few_labels(trained, steps=272)


def predicted(trained) -> dict[str, float]:
    """motion_error, appearance_error: mean squared error of the statistics of test clips, in parts of that of the best constant, their
    own mean."""
    import torch

    from ..contracts import STATISTICS, Measured

    method, encoder = trained.method(), trained.run.encoder
    maker, pairs = encoder.modality.views(Measured(), encoder.preprocessing), []
    with torch.no_grad():
        for batch, _ in encoder.batches(trained.test):
            (view,) = maker(batch, batch.draws(0, "measured"))
            pairs.append((method.student(view), method.targets(view)))
    guess, truth = (torch.cat(part) for part in zip(*pairs))
    mine, constant = ((part - truth).square().mean(0).split(tuple(STATISTICS.values())) for part in (guess, truth.mean(0)))
    return {f"{kind}_error": float(a.mean() / b.mean()) for kind, a, b in zip(STATISTICS, mine, constant)}


NETWORK = {"backbone": "convnet", "backbone.widths": (16, 32, 64, 64), "batch_size": 64, "num_workers": 0}
TRAINED = {**NETWORK, "steps": 150}
KEY = "acts-1500-800"

PROOF = Proof(
    id="S036",
    statement="A 3-D ConvNet that has regressed statistics of motion and of appearance from clips needs few labels to name what moves and "
              "which way.",
    works_when="Fine-tuned, the network pretrained on both statistics beats the same from scratch and pretrained on either alone, on clips "
               "labelled by motion; on held-out clips its squared error of the statistics is lower than the best constant's.",
    arms=(
        Arm("both statistics", "statistics", KEY, TRAINED, "subject", 60, (few_labels, predicted)),
        Arm("motion alone", "statistics", KEY, {**TRAINED, "method.appearance": 0.0}, "ablation", 60, (few_labels,)),
        Arm("appearance alone", "statistics", KEY, {**TRAINED, "method.motion": 0.0, "method.appearance": 1.0}, "ablation", 60,
            (few_labels,)),
        Arm("from scratch", None, KEY, NETWORK, "baseline", 60, (few_labels,)),
        Arm("from scratch, as long", None, KEY, NETWORK, "baseline", 90, (few_labels_as_long,)),
    ),
    claims=(
        Claim("Fine-tuned on 200 labelled clips it is better than from scratch.", "finetuned", "both statistics", "from scratch"),
        Claim("And than from scratch for as long as pretraining and fine-tuning together.", "finetuned", "both statistics",
              "from scratch, as long"),
        Claim("And than after the statistics of motion alone.", "finetuned", "both statistics", "motion alone"),
        Claim("And than after those of appearance alone.", "finetuned", "both statistics", "appearance alone"),
        Claim("Of held-out clips the error of motion is below the best constant's.", "motion_error", "both statistics",
              direction="smaller", margin=1.0, kind="threshold"),
        Claim("And that of appearance.", "appearance_error", "both statistics", direction="smaller", margin=1.0, kind="threshold"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="150 steps of 64 clips of 8 × 20 × 20 in colour, a 3-D ConvNet of widths 16-32-64-64, fine-tuning of 80 steps of "
           "50; from scratch, as long: 272 of 50, as many clips as pretraining and fine-tuning see; at most 90 s an arm on "
           "one core; the rates are those of the recipe for short runs, the same in all arms",
    data="synthetic",
    substitutions="Synthetic motion of real handwritten digits (scikit-learn's, 8 × 8) for UCF101: no small set of real video can be had "
                  "here. What moves is told by its colour and how it moves by its way, as actions are told by both. 8 frames of 20 pixels "
                  "for 16 of 112, four convolutions for C3D, flow of Lucas and Kanade on a pyramid for TV-L1, 16 levels of colour "
                  "histograms for 256; each statistic is scaled to lie within −1 and 1.",
    omissions="None of the row's clauses.",
)
