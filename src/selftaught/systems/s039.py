"""S039, NeRF-MAE: hidden blocks of a grid of colours and densities are filled in, and what is in a scene is told from few labels."""

import numpy as np

from .proof import DATA, Arm, Claim, Proof
from .s353 import of_the_next, segmented, segmented_as_long

SIDE = 16


def prepare() -> None:
    """NeRF-MAE; with the density alone as target; and without its idea: the targets are another scene's."""
    from torch import nn

    from ..contracts import Terms, register
    from ..methods import MAE
    from ..networks.decoder import at_places, encode_visible, predicted_places
    from ..objectives.masked import masked_mean, token_error

    @register("s039_nerf_mae")
    class NerfMAE(MAE):
        """NeRF-MAE (Irshad et al., 2024): grids whose last channel is the density σ, the others colours c, with hidden patches.

        loss = mean over hidden voxels of (σ̂ − σ)²  +  Σ over hidden voxels that hold something of ‖ĉ − c‖² / 3, over their number

        Something is more than a hundredth of the densest, as in the authors' code; numbers are z-scores. colour: whether there is the
        second term."""

        def __init__(self, backbone: nn.Module, *, facts, width: int = 64, depth: int = 2, heads: int = 4, mask: str = "random",
                     masked: float = 0.75, masks: int = 1, size: int = 1, colour: bool = True):
            super().__init__(backbone, facts=facts, width=width, depth=depth, heads=heads, normalised=False)
            self.colour, self.channels = colour, facts.shape[0]

        def loss(self, views, batch):
            (view,) = views
            backbone, places = self.student.backbone, predicted_places(view)
            predicted = self.decoder(encode_visible(backbone, view), view, backbone.grid(view.x.shape))
            p, t = (part.unflatten(-1, (self.channels, -1)) for part in (predicted, at_places(self.targets(view), places)))
            density = masked_mean(token_error(p[:, :, -1], t[:, :, -1]))
            empty = t[:, :, -1:].flatten(1).amin(1)[:, None, None, None]  # no density, as a z-score: every scene has room
            held = (t[:, :, -1:] > empty + 0.03).to(p.dtype)
            error = (p[:, :, :-1] - t[:, :, :-1]).square().mean(2, keepdim=True)
            colour = ((error * held).sum((1, 2, 3)) / held.sum((1, 2, 3)).clamp(min=1)).mean()
            return Terms(density + colour if self.colour else density, density=density, colour=colour)

    register("s039_shuffled")(of_the_next(NerfMAE))


def rooms(rest: str):
    """(train, test), N and 256 scenes as grids [4, 16, 16, 16] of red, green, blue and density, with `masks`: a floor and a wall (1), and
    three to five things that stand on the floor: balls (2), boxes (3), poles (4) and cones (5), of any colour, each kind mostly of its own.

    The density is 1 within, soft at the edges; colours vary a little from voxel to voxel, and are 0 where nothing is."""
    from ..sources.volumes import VolumeArrays

    place = np.stack(np.meshgrid(*(np.arange(SIDE) + 0.5,) * 3, indexing="ij"), -1)  # [height, S, S, 3]
    usual = np.array([[0.8, 0.3, 0.2], [0.3, 0.7, 0.3], [0.25, 0.35, 0.8], [0.8, 0.7, 0.2]])

    def inside(kind, rng):
        """How deep, in voxels, each place is within a thing of that kind that stands on the floor."""
        wide, high = rng.uniform(1.6, 2.6), rng.uniform(3.0, 7.0)
        up, aside = place[..., 0] - 1.5, place[..., 1:] - rng.uniform(4, 14, 2)
        far = np.sqrt((aside**2).sum(-1))
        if kind == 0:
            return 1.2 * wide - np.sqrt((up - 1.2 * wide) ** 2 + far**2)
        if kind == 1:
            a = rng.uniform(0, np.pi / 2)
            turned = np.abs(aside @ np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]))
            return np.minimum(wide - turned.max(-1), np.minimum(high - up, up))
        if kind == 2:
            return np.minimum(0.6 * wide - far, np.minimum(1.5 * high - up, up))
        return np.minimum(1.4 * wide * (1 - up / high) - far, up)

    def scene(rng):
        masks, grid = np.zeros((SIDE,) * 3, np.int64), np.zeros((4, *(SIDE,) * 3))

        def put(depth, label, colour):
            dense = (depth + 0.5).clip(0, 1)
            masks[dense > 0.5] = label
            grid[:3] = np.where(dense > 0, colour[:, None, None, None] * rng.uniform(0.9, 1.1, dense.shape), grid[:3])
            grid[3] = np.maximum(grid[3], dense)

        put(1.5 - place[..., 0], 1, rng.uniform(0.3, 0.7, 3))
        put(1.5 - place[..., 1 + rng.integers(2)], 1, rng.uniform(0.4, 0.9, 3))
        for kind in rng.integers(0, 4, rng.integers(3, 6)):
            put(inside(kind, rng), 2 + kind, (usual[kind] + rng.normal(0, 0.2, 3)).clip(0.05, 1))
        return grid, masks

    def made(count, seed):
        rng = np.random.default_rng([39, seed])
        grids, masks = zip(*(scene(rng) for _ in range(count)))
        source = VolumeArrays(np.stack(grids).clip(0, 1).astype(np.float32), layout="NCDHW", origin=f"rooms {seed}")
        source.masks = np.stack(masks)
        return source

    return made(int(rest), 0), made(256, 1)


DATA["rooms"] = rooms

KEY = "rooms-1000"
VIT = {"backbone": "vit_tiny", "backbone.patch": 4, "backbone.width": 64, "backbone.depth": 3, "backbone.heads": 4,
       "backbone.pool": "mean", "batch_size": 32}
RUN = {**VIT, "steps": 300, "lr": 8e-3, "method.masked": 0.75}

PROOF = Proof(
    id="S039",
    statement="A Transformer that fills in hidden blocks of grids of colour and density labels voxels from few scenes better than one from "
              "scratch.",
    works_when="With few labelled scenes the accuracy a voxel after pretraining on grids of colour and density is higher than that of the "
               "same encoder from scratch, and colour and density as the target are at least as good as density only.",
    arms=(
        Arm("colour and density", "s039_nerf_mae", KEY, RUN, "subject", 60, (segmented,)),
        Arm("density only", "s039_nerf_mae", KEY, {**RUN, "method.colour": False}, "ablation", 60, (segmented,)),
        Arm("from scratch", None, KEY, VIT, "baseline", 60, (segmented,)),
        Arm("from scratch, as long", None, KEY, VIT, "baseline", 120, (segmented_as_long,)),
        Arm("targets of other scenes", "s039_shuffled", KEY, RUN, "ablation", 60, (segmented,)),
    ),
    claims=(
        Claim("After training on 8 labelled scenes the accuracy a voxel, mean over six classes, empty space among them, is higher than "
              "from scratch.", "voxels", "colour and density", "from scratch"),
        Claim("And than from scratch for as long as pretraining and fine-tuning together.", "voxels", "colour and density",
              "from scratch, as long"),
        Claim("It is at most two points below that of the density alone as target.", "voxels", "colour and density", "density only",
              "not worse", 0.02),
        Claim("With targets of other scenes it is lower.", "voxels", "targets of other scenes", "colour and density", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="300 steps of 32 scenes of 16³ voxels, ViT 64 × 3 on 64 tokens, three quarters of them hidden as in the paper; 150 steps on 8 "
           "labelled scenes for every fine-tuning, from scratch too; from scratch, as long: 1,350 steps of 8, as many scenes as "
           "pretraining and fine-tuning see; at most 60 s an arm, as long 120 s, on one core, MAE's recipe for short runs at the rate of "
           "the conformance tests",
    data="synthetic",
    substitutions="Grids of colour and density made directly, 1,000 rooms of 16³ for 1.8 million pictures and 160³; a ViT that sees the "
                  "visible tokens and a light Transformer for Swin with mask tokens and a decoder of convolutions. Reading scales every "
                  "channel of a scene between its percentiles.",
    omissions="Boxes in 3-D and super-resolution: not clauses of the row. A NeRF is not fitted, as the row allows.",
    prepare=prepare,
)
