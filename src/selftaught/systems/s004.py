"""S004, VideoMAE: clips of which nearly all is hidden, in tubes, teach a transformer what moves where."""

import numpy as np

from .arms import DATA
from .proof import Arm, Claim, Proof


def moving(rest: str):
    """(train, test): clips uint8 [N, 8, 20, 20] of a handwritten 8 × 8 digit that drifts in one of eight directions (the label) over a
    torus at 1 to 2 pixels a frame, from any place, in noise, beside another digit that stands still. Train and test share no digit."""
    from sklearn.datasets import load_digits

    from ..sources import open_source

    digits, place = load_digits().images / 16, np.arange(20)
    rest = dict(zip(("train", "test"), map(int, rest.split("-"))))
    found = []
    for split, pool, seed in (("train", digits[:1300], 0), ("test", digits[1300:], 1)):
        rng, n = np.random.default_rng([4, seed]), rest[split]
        y = np.arange(n) % 8
        speed = rng.uniform(1, 2, n)
        way = np.stack([np.sin(y * np.pi / 4), np.cos(y * np.pi / 4)], 1) * speed[:, None]
        x = np.zeros((n, 8, 20, 20))
        for moves in (1, 0):
            chosen = pool[rng.integers(0, len(pool), n)]
            start = rng.uniform(0, 20, (n, 2))
            canvas = np.pad(chosen, ((0, 0), (0, 12), (0, 12)))
            for t in range(8):
                i, j = ((place - at[:, None]) % 20 for at in np.round(start + moves * t * way).astype(np.int64).T)
                x[:, t] = np.maximum(x[:, t], canvas[np.arange(n)[:, None, None], i[:, :, None], j[:, None, :]])
        x = 0.15 + 0.7 * x + rng.normal(0, 0.08, x.shape)
        found.append(open_source({"x": (x.clip(0, 1) * 255).astype(np.uint8), "y": y}, layout="NTHW"))
    return tuple(found)


DATA["motion"] = moving


def few_labels(trained) -> dict[str, float]:
    """finetuned: accuracy of direction after fine-tuning the whole network on 128 labelled clips."""
    from ..protocols import Supervision, finetune

    return {"finetuned": finetune(trained.run.encoder, trained.train, trained.test, labels=128, seed=trained.seed, draw=trained.seed,
                                  budget=Supervision(steps=80)).value}


NETWORK = {"backbone": "vit_tiny", "backbone.width": 64, "backbone.depth": 4, "backbone.heads": 4, "backbone.patch": (2, 4, 4),
           "batch_size": 64, "num_workers": 0}
MAE = {**NETWORK, "steps": 300, "method.masked": 0.92, "method.width": 32, "method.depth": 1}
KEY = "motion-2000-800"

PROOF = Proof(
    id="S004",
    statement="Autoencoding clips of which tubes through time are hidden, nearly everything, gives a transformer that needs few labels "
              "to tell motions apart.",
    works_when="On a few thousand small clips a pretrained transformer, fine-tuned or probed, beats the same one from scratch, and tube "
               "masks at about 90 % beat masks drawn anew in every frame at the same ratio, on labels of motion.",
    arms=(
        Arm("tube masks", "mae", KEY, {**MAE, "method.mask": "tube"}, "subject", 60, (few_labels,)),
        Arm("random masks", "mae", KEY, {**MAE, "method.mask": "random"}, "ablation", 60, (few_labels,)),
        Arm("from scratch", None, KEY, {**NETWORK, "backbone.pool": "mean"}, "baseline", 60, (few_labels,)),
    ),
    claims=(
        Claim("Fine-tuned on 128 labelled clips it is better than from scratch.", "finetuned", "tube masks", "from scratch"),
        Claim("The linear probe beats that of the untrained network.", "linear", "tube masks", "from scratch"),
        Claim("Fine-tuned, tube masks are better than masks drawn anew in every frame.", "finetuned", "tube masks", "random masks"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="300 steps of 64 clips of 8 × 20 × 20, ViT of width 64 and depth 4 on cubes of 2 × 4 × 4, decoder 32 wide and 1 deep, at most "
           "60 s an arm on one core, fine-tuning of 80 steps included; the rates are those of the recipe for short runs, the same in "
           "both arms with masks",
    data="synthetic",
    substitutions="Synthetic motion of real handwritten digits (scikit-learn's, 8 × 8) for Something-Something: no small set of real video "
                  "can be had here. 8 frames of 20 pixels for 16 of 224, a ViT of width 64 for ViT-B, minutes for days. 92 % is hidden: of "
                  "25 places two stay, so that tubes are whole; it lies within the paper's 90 to 95 %.",
    omissions="None of the row's clauses. Fine-tuning is compared for the masks; the probe for the untrained network as well.",
)
