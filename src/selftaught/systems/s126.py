"""S126, global and local contrast: slices learn their part of the body, and places of a slice one another, before a few are labelled."""

import numpy as np

from .arms import DATA
from .proof import Arm, Claim, Proof

SLICES, SIDE = 16, 32


def phantoms(n: int, seed: int):
    """(x uint8 [n, 16, 32, 32], masks int64 of the same shape): a body with a cavity (1), the wall around it (2) and a chamber beside it
    (3), whose sizes follow from the height of the slice; vessels, a spine and a stomach are as bright and background (0). Place, turn,
    size, brightness, field and noise are each volume's own."""
    rng = np.random.default_rng([126, seed])
    own = lambda low, high: rng.uniform(low, high, (n, 1, 1, 1))  # noqa: E731
    line = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    t = ((np.arange(SLICES) + 0.5) / SLICES)[None, :, None, None] + own(-0.05, 0.05)
    y, x = line[None, None, :, None] - own(-0.15, 0.15), line[None, None, None, :] - own(-0.15, 0.15)
    angle, size = own(-0.35, 0.35), own(0.85, 1.15)
    u, v = (np.cos(angle) * x + np.sin(angle) * y) / size, (np.cos(angle) * y - np.sin(angle) * x) / size
    far = lambda a, b: np.sqrt((u - a) ** 2 + (v - b) ** 2)  # noqa: E731
    bulge = lambda centre, half: np.sqrt(np.clip(1 - ((t - centre) / half) ** 2, 0, None))  # noqa: E731
    cavity, heart = 0.28 * bulge(0.45, 0.5), far(0.22, 0.0)
    wall = (heart < cavity + 0.14) & (cavity > 0)
    masks = np.where(wall, np.where(heart < cavity, 1, 2), np.where(far(-0.32, 0.05) < 0.3 * bulge(0.35, 0.4), 3, 0))
    bright = (far(0.0, -0.6) < 0.12) | (far(0.3, 0.35) < 0.28 * bulge(0.85, 0.2)) | (far(own(-0.6, 0.6), own(0.4, 0.6)) < 0.1)
    level = np.where(masks == 2, 0.5, np.where((masks > 0) | bright, 0.8, 0.35)) * ((u / 0.9) ** 2 + (v / 0.8) ** 2 < 1)
    field = own(-0.15, 0.15) * x + own(-0.15, 0.15) * y
    values = own(0.7, 1.0) * level + field + own(0.0, 0.15) + rng.normal(0, 0.08, masks.shape)
    return (values.clip(0, 1) * 255).astype(np.uint8), masks.astype(np.int64)


def slices(rest: str):
    """(slices of so many unlabelled volumes, one after another; those of other volumes)."""
    from ..sources import open_source

    return tuple(open_source(phantoms(int(n), seed)[0].reshape(-1, 1, SIDE, SIDE), layout="NCHW") for seed, n in enumerate(rest.split("-")))


DATA["slices"] = slices


def prepare() -> None:
    """The paper's two stages as one method: the encoder by slices of corresponding parts, then the decoder by places of one slice."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from ..contracts import register
    from ..methods import SimCLR
    from ..networks import over

    @register("s126_global_local")
    class GlobalLocal(SimCLR):
        """Chaitanya et al., 2020: −log e^{s(i, p)} / (e^{s(i, p)} + Σ over slices n of other parts of e^{s(i, n)}), s = cosine / τ.

        Positives p of slice i: its other view, and all other slices of the same part, with equal weight (G^D). In the last `local` of the
        run regions of 3 × 3 of the decoder's features, whose positives are themselves after another change of intensity, and whose
        negatives all other regions of the same slice (L^R), the encoder held still."""

        def __init__(self, backbone, *, width: int = 128, hidden: int = 512, temperature: float = 0.1, local: float = 1 / 3, parts: int = 4,
                     blocks: int = 2):
            super().__init__(backbone, width=width, hidden=hidden, temperature=temperature)
            self.local, self.parts, self.blocks = local, parts, blocks
            self.region = nn.Linear(9 * backbone.narrow[blocks - 1].out_channels, width, bias=False)

        def loss(self, views, batch):
            if self.clock.progress >= 1 - self.local:
                return self.of_regions(views[0].x, batch.draws(0, self.name))
            a, b = over(views, self.student, joint=True)
            return self.of_slices(torch.cat([a, b]), (batch.index % SLICES * self.parts // SLICES).repeat(2))

        def of_slices(self, z, part):
            z = F.normalize(z, dim=1)
            scores, same, half = z @ z.T / self.temperature, part[:, None] == part, len(z) // 2
            others = scores.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)
            lost, itself = F.softplus(others - scores), torch.eye(half, dtype=torch.bool, device=z.device)
            like = same & ~itself.repeat(2, 2)
            matched = (lost * like).sum(1) / like.sum(1).clamp(min=1)
            return (torch.cat([lost.diagonal(half), lost.diagonal(-half)]).mean() + matched.mean()) / 2

        def of_regions(self, x, draws):
            other = draws.uniform("contrast", 1, 1, 1, low=0.7, high=1.3) * x + draws.uniform("brightness", 1, 1, 1, low=-0.8, high=0.8)
            maps = self.student.backbone.dense(torch.cat([x, other.to(x.dtype)]), blocks=self.blocks, encoder=False)
            regions = self.region(F.unfold(maps, 3, stride=3).transpose(1, 2))  # [2 B, R, D]
            z = F.normalize(torch.cat(regions.chunk(2), 1), dim=2)  # [B, 2 R, D]
            count, half = z.shape[1], z.shape[1] // 2
            scores = (z @ z.transpose(1, 2) / self.temperature).masked_fill(torch.eye(count, dtype=torch.bool, device=z.device), -torch.inf)
            return F.cross_entropy(scores.flatten(0, 1), torch.arange(count, device=z.device).roll(half).repeat(len(z)))


def segmented(trained, steps: int = 150) -> dict[str, float]:
    """dice: mean over three classes of 20 other volumes, after training on one labelled volume, and on two (dice 1, dice 2), `steps` of
    16 slices, moved and changed in brightness, with Dice and cross-entropy; encoder and decoder from the run, the head new."""
    import copy

    import torch
    import torch.nn.functional as F
    from torch import nn

    encoder = trained.run.encoder
    mean, std = (encoder.preprocessing.statistics[name][0] for name in ("mean", "std"))

    def ready(n, seed):
        x, masks = phantoms(n, seed)
        return (torch.from_numpy(x).float().flatten(0, 1)[:, None] / 255 - mean) / std, torch.from_numpy(masks).flatten(0, 1)

    def overlap(part, truth, axes):  # [..., 4, H, W] each → Dice of classes 1 to 3
        sums = [v.sum(axes)[..., 1:] for v in (part * truth, part, truth)]
        return (2 * sums[0] + 1e-5) / (sums[1] + sums[2] + 1e-5)

    def hot(masks):
        return F.one_hot(masks, 4).movedim(-1, 1).float()

    (x, y), (u, v), found = ready(2, 100 + trained.seed), ready(20, 2), {}
    for volumes in (1, 2):
        draw = torch.Generator().manual_seed(trained.seed)
        with torch.random.fork_rng():
            torch.manual_seed(trained.seed)
            network, head = copy.deepcopy(encoder.backbone).train(), nn.Conv2d(encoder.backbone.features, 4, 1)
        optimiser = torch.optim.Adam([*network.parameters(), *head.parameters()], 1e-3)
        for _ in range(steps):
            rows = torch.randint(SLICES * volumes, (16,), generator=draw)
            moved = torch.randint(-3, 4, (2,), generator=draw).tolist()
            change = torch.rand(2, 16, 1, 1, 1, generator=draw)
            inputs = (x[rows] * (0.7 + 0.6 * change[0]) + 1.6 * (change[1] - 0.5)).roll(moved, (2, 3))
            target = y[rows].roll(moved, (1, 2))
            scores = head(network.dense(inputs))
            loss = F.cross_entropy(scores, target) + 1 - overlap(scores.softmax(1), hot(target), (0, 2, 3)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            guess = torch.cat([head(network.eval().dense(part)).argmax(1) for part in u.split(64)])
        by_volume = [hot(masks).unflatten(0, (-1, SLICES)) for masks in (guess, v)]  # [20, 16, 4, H, W]
        found[f"dice {volumes}"] = float(overlap(*by_volume, (1, 3, 4)).mean())
    return found | {"dice": (found["dice 1"] + found["dice 2"]) / 2}


def segmented_as_long(trained) -> dict[str, float]:
    """dice, after each training of as many slices as 600 steps of 48 and 150 of 16."""
    return segmented(trained, steps=1950)


KEY = "slices-48-4"
SAME = {"backbone": "unet", "backbone.widths": (8, 16, 32, 64), "batch_size": 48, "training.schedule": "constant", "num_workers": 0}
RUN = {**SAME, "steps": 600}

PROOF = Proof(
    id="S126",
    statement="With one or two labelled volumes a U-Net segments better after SimCLR on slices than from scratch, and better still after "
              "contrast that knows the slices' part of the body and the places of a slice.",
    works_when="With 1 or 2 labelled volumes, Dice on held-out volumes, averaged over seeds: random initialisation lies below SimCLR on "
               "whole slices, and that below structure-aware global and local contrast.",
    arms=(
        Arm("global and local", "s126_global_local", KEY, RUN, "subject", 60, (segmented,)),
        Arm("simclr", "simclr", KEY, RUN, "baseline", 60, (segmented,)),
        Arm("global alone", "s126_global_local", KEY, {**RUN, "method.local": 0.0}, "ablation", 60, (segmented,)),
        Arm("from scratch", None, KEY, SAME, "baseline", 45, (segmented,)),
        Arm("from scratch, as long", None, KEY, SAME, "baseline", 120, (segmented_as_long,)),
    ),
    claims=(
        Claim("Mean Dice after SimCLR on slices lies above that from scratch.", "dice", "simclr", "from scratch"),
        Claim("After structure-aware global and local contrast it lies above that after SimCLR.", "dice", "global and local", "simclr"),
        Claim("And above that from scratch for as long as pretraining and fine-tuning together.", "dice", "global and local",
              "from scratch, as long"),
        Claim("With the global stage alone, for as many steps, it is lower.", "dice", "global alone", "global and local", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="600 steps of 48 slices of 32 × 32 of 48 volumes, the last 200 for the decoder; a U-Net 8-16-32-64; 150 steps on 1 and "
           "on 2 labelled volumes for every arm; from scratch, as long: 1,950 steps on each, as many slices as pretraining and "
           "fine-tuning see; at most 60 s an arm on one core, that one 120 s; the recipe of short runs for all at a constant "
           "rate, none tuned on these data",
    data="synthetic",
    substitutions="Generated phantoms of 16 slices for ACDC's MRI: no set of volumes with ordered slices and masks is at hand. Two of "
                  "three blocks of the decoder for three of five; all other regions of a slice are negatives, for five far ones; the "
                  "positives of a slice are all of its part in the batch, for one.",
    omissions="Mixup, which the row calls optional, and L^D: the authors' commands train L^R.",
    prepare=prepare,
)
