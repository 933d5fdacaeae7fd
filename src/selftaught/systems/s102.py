"""S102, conditional motion propagation: from one frame and the motion of a few of its points, the motion of all of it."""

import numpy as np

from .arms import DATA
from .proof import Arm, Claim, Proof

SIDE = 40


def scenes(n: int, split: str):
    """(frames uint8 [n, 2, 40, 40], flow float32 [n, 2, 40, 40] right and down from the first to the second, things int64 [n, 40, 40]).
    Two handwritten digits on dark blots of their shape before a texture; each and the texture move by whole pixels of their own, up to 3
    and up to 1 along each axis. Train and test share no digit."""
    from scipy.ndimage import gaussian_filter, maximum_filter, zoom
    from sklearn.datasets import load_digits

    rng, digits = np.random.default_rng([102, split == "test"]), zoom(load_digits().images / 16, (1, 1.5, 1.5), order=1)
    pool, row = digits[:1300] if split == "train" else digits[1300:], np.arange(n)[:, None, None]

    def moved(picture, shift):  # right and down; what leaves comes back
        i, j = ((np.arange(SIDE) - shift[:, k, None]) % SIDE for k in (1, 0))
        return picture[row, i[:, :, None], j[:, None]]

    texture = gaussian_filter(rng.normal(size=(n, SIDE, SIDE)), (0, 1.2, 1.2), mode="wrap")
    layers = [(np.ones((n, SIDE, SIDE)), 0.5 + 0.12 * texture / texture.std((1, 2), keepdims=True), rng.integers(-1, 2, (n, 2)))]
    across = rng.random(n) < 0.5  # one digit in the left half and one in the right, or above and below
    for half in (0, 1):
        canvas = np.pad(pool[rng.integers(0, len(pool), n)], ((0, 0), (0, SIDE - 12), (0, SIDE - 12)))
        beside, along = rng.integers(4, 7, n) + half * (SIDE // 2 - 2), rng.integers(5, SIDE - 16, n)
        canvas = moved(canvas, np.where(across[:, None], np.stack([beside, along], 1), np.stack([along, beside], 1)))
        blot = maximum_filter(canvas, (0, 5, 5)) > 0.4
        layers.append((blot, 0.05 + 0.9 * canvas, rng.integers(-3, 4, (n, 2))))
    frames, flow, things = np.zeros((n, 2, SIDE, SIDE)), np.zeros((n, 2, SIDE, SIDE), np.float32), np.zeros((n, SIDE, SIDE), np.int64)
    for depth, (shape, picture, shift) in enumerate(layers):
        for t in (0, 1):
            seen = moved(shape, t * shift) > 0
            frames[:, t] = np.where(seen, moved(picture, t * shift), frames[:, t])
        flow = np.where((shape > 0)[:, None], shift[:, :, None, None], flow).astype(np.float32)
        things = np.where(shape > 0, int(depth > 0), things)
    frames += rng.normal(0, 0.03, frames.shape)
    return (frames.clip(0, 1) * 255).astype(np.uint8), flow, things


def pairs(rest: str):
    """(train, test): clips of two frames."""
    from ..sources import open_source

    return tuple(open_source(scenes(int(n), split)[0], layout="NTHW") for split, n in zip(("train", "test"), rest.split("-")))


DATA["pairs"] = pairs


def layer(before: int, width: int, stride: int = 1, kernel: int = 3):
    """Convolution, BatchNorm and ReLU."""
    from torch import nn

    from ..networks.batchnorm import BatchNorm

    return nn.Sequential(nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False), BatchNorm(width), nn.ReLU(inplace=True))


def register_encoder() -> None:
    from torch import nn

    from ..contracts import Features, register
    from ..networks import Backbone

    class FirstFrame(Backbone):
        """Four convolutions over the first of the frames [B, 1, 2, H, W]; a token for every 4 × 4 pixels."""

        abilities = frozenset({"tokens"})

        def __init__(self, width):
            super().__init__()
            self.width = width
            self.layers = nn.Sequential(layer(1, width // 2), layer(width // 2, width, 2), layer(width, width, 2), layer(width, width))

        def grid(self, shape):
            return shape[-2] // 4, shape[-1] // 4

        def forward(self, x, *, lengths=None, keep=None, layers=()):
            self.refuse(keep, layers)
            x = self.layers(x[:, :, 0])
            return Features(x.mean((2, 3)), x.flatten(2).transpose(1, 2))

    @register("s102_encoder", kind="backbone")
    def encoder(facts, *, width: int = 48):
        return FirstFrame(width)


def estimated(x):
    """Flow [B, 2, H, W] of clips of two frames; x is normalised, the estimator's units are pixels of deviation about .2."""
    from ..views.flow import clip_flow

    return clip_flow(0.2 * x)[:, 0]


def chosen(flow, points: int):
    """int64 [B, 9 + points]: places of the guidance among H · W. The middles of `points` of the regions into which edges of the flow
    [B, 2, H, W] cut it (peaks of the distance to the nearest edge; any others where there are fewer), and one anywhere in each of 3 × 3
    cells, as the authors join the points of a watershed and of a grid."""
    import torch
    import torch.nn.functional as F

    from ..views.flow import gradient

    edge = gradient(flow).square().sum((1, 2)).sqrt()
    edge = F.pad((edge > 0.3 * edge.amax((1, 2), keepdim=True)).to(flow.dtype), (6,) * 4, value=1.0)  # the frame's border is one
    far = sum(1 - F.max_pool2d(edge[:, None], 2 * k + 1, 1, k)[..., 6:-6, 6:-6] for k in range(1, 7))[:, 0]
    far = far + 0.5 * torch.rand_like(far)
    peak = (far == F.max_pool2d(far[:, None], 7, 1, 3)[:, 0]) & (far >= 1)
    peaks = (peak + torch.rand_like(far)).flatten(1).topk(points).indices
    cell = torch.stack([torch.arange(9, device=flow.device) // 3, torch.arange(9, device=flow.device) % 3], 1)
    i, j = ((cell + torch.rand(len(flow), 9, 2, device=flow.device)) * (flow.shape[-1] / 3)).long().unbind(2)
    return torch.cat([peaks, i * flow.shape[-1] + j], 1)


def prepare() -> None:
    """An encoder of the first frame, and the method around it."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from ..contracts import Single, Terms, Training, register
    from ..methods.base import Method
    from ..networks import Embedder

    register_encoder()

    @register("s102_cmp")
    class ConditionalMotion(Method):
        """Self-supervised learning via conditional motion propagation (Zhan et al., 2019).

        loss = Σ over right and down of the mean over pixels p of CE(d(f(x_1), g(guide))_p, bin of flow_p)

        flow: from x_1 to x_2, by an estimator. guide: flow at `chosen` points, and where they are; zeros elsewhere.
        """

        needs = Single(strength="weak", backbone=frozenset({"tokens"}))
        defaults = Training(optimizer="adamw", lr=2e-3, scale_lr="sqrt", weight_decay=1e-4, warmup=1.0)
        bins, most = 19, 4.75

        def __init__(self, backbone, *, points: int = 5, guided: bool = True):
            super().__init__()
            self.points, self.guided, self.student = points, guided, Embedder(backbone)
            self.sparse = nn.Sequential(layer(3, 16, 2, 5), layer(16, 16, 2))
            self.scales = nn.ModuleList(layer(backbone.width + 16, 24) for _ in range(3))
            self.fine, self.answer = layer(72, 32), nn.Conv2d(32, 2 * self.bins, 1)

        def guide(self, flow, places):
            there = torch.zeros_like(flow[:, 0]).flatten(1).scatter_(1, places, 1.0).view_as(flow[:, :1])
            return torch.cat([flow * there, there], 1) if self.guided else torch.zeros_like(flow[:, :1]).repeat(1, 3, 1, 1)

        def logits(self, x, guide):
            """[B, bins, 2, H, W]."""
            tokens = self.student.backbone(x).tokens
            here = tokens.transpose(1, 2).unflatten(2, self.student.backbone.grid(x.shape))
            here = torch.cat([here, self.sparse(guide.to(here.dtype))], 1)
            sides = [2 * side for side in here.shape[2:]]
            parts = [F.interpolate(part(F.avg_pool2d(here, k)), size=sides, mode="bilinear") for k, part in zip((1, 2, 4), self.scales)]
            out = self.answer(self.fine(torch.cat(parts, 1)))
            return F.interpolate(out, size=x.shape[-2:], mode="bilinear").unflatten(1, (self.bins, 2))

        def predicted(self, x, guide):
            """[B, 2, H, W]: the mean of the bins' middles under their probabilities."""
            middles = torch.linspace(-1, 1, self.bins + 1)[:-1] * self.most + self.most / self.bins
            return (self.logits(x, guide).softmax(1) * middles.view(-1, 1, 1, 1)).sum(1)

        def loss(self, views, batch):
            x = views[0].x
            flow = estimated(x.float()).detach()
            bins = ((flow / self.most + 1) * self.bins / 2).long().clamp(0, self.bins - 1)
            error = F.cross_entropy(self.logits(x, self.guide(flow, chosen(flow, self.points))).float(), bins)
            return Terms(2 * error, entropy=error)


def flow_errors(trained) -> dict[str, float]:
    """error: mean distance in pixels from the true flow of test pairs. nearest: that of giving every pixel the motion of the nearest
    point of guidance. estimate: that of the estimator, which sees both frames."""
    import torch

    method, encoder = trained.method(), trained.run.encoder
    truth = torch.from_numpy(scenes(len(trained.test), "test")[1])
    from ..contracts import Clean

    maker, found = encoder.modality.views(Clean(), encoder.preprocessing), []
    line = torch.arange(SIDE)
    pixel = torch.stack([line.repeat_interleave(SIDE), line.repeat(SIDE)], 1).float()  # [H · W, 2]
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(trained.seed)
        for batch, _ in encoder.batches(trained.test):
            x = maker(batch, batch.draws(0, "flow"))[0].x
            flow = estimated(x)
            places = chosen(flow, method.points)
            closest = places.gather(1, torch.cdist(pixel.expand(len(x), -1, -1), pixel[places]).argmin(2))
            filled = flow.flatten(2).gather(2, closest[:, None].expand(-1, 2, -1)).view_as(flow)
            guesses = torch.stack([method.predicted(x, method.guide(flow, places)), filled, flow])
            found.append((guesses - truth[batch.index]).norm(dim=2).flatten(2).mean(2))
    error, nearest, estimate = torch.cat(found, 1).mean(1).tolist()
    return {"error": error, "nearest": nearest, "estimate": estimate}


def segmented(trained) -> dict[str, float]:
    """iou: mean over digits and background of test frames, by a linear map of the encoder's tokens fitted on 200 training frames."""
    from ..evaluation import dense_probe
    from ..sources import subset

    sides = []
    for source, split, n in ((trained.train, "train", 200), (trained.test, "test", 200)):
        masks = scenes(len(source), split)[2][:n]
        sides += [trained.run.encoder.embed(subset(source, np.arange(n)), tokens=True), masks]
    return {"iou": dense_probe(*sides, grid=(SIDE // 4, SIDE // 4)).value}


def over_nearest(arms) -> float:
    return arms["guided"]["error"] - arms["guided"]["nearest"]


KEY = "pairs-2000-400"
SAME = {"backbone": "s102_encoder", "batch_size": 48, "num_workers": 0, "resolution": SIDE}
TRAINED = {**SAME, "steps": 200, "views.scale": (0.8, 1.0)}

PROOF = Proof(
    id="S102",
    statement="From one frame and the motion of fourteen of its points a network paints the motion of all of it, better than without "
              "them and than the nearest point would; what its image encoder learns tells things from background.",
    works_when="On held-out frames the error of the dense flow is lower with guidance than without and than that of filling from the "
               "nearest point of guidance; a linear segmentation probe of the encoder beats random initialisation.",
    arms=(
        Arm("guided", "s102_cmp", KEY, TRAINED, "subject", 60, (flow_errors, segmented)),
        Arm("no guidance", "s102_cmp", KEY, {**TRAINED, "method.guided": False}, "ablation", 60, (flow_errors, segmented)),
        Arm("untrained", None, KEY, SAME, "baseline", 60, (segmented,)),
    ),
    claims=(
        Claim("With guidance the flow is nearer to the true one than without.", "error", "guided", "no guidance", "smaller"),
        Claim("And nearer than what the nearest points of guidance give.", "error", kind="across arms", direction="smaller",
              value=over_nearest),
        Claim("A linear probe of its tokens segments better than of the untrained encoder's.", "iou", "guided", "untrained"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="200 steps of 48 pairs of frames of 40 × 40, four convolutions of at most 48 channels for the encoder, two for the guidance, "
           "flow in 19 bins an axis; at most 60 s an arm on one core",
    data="synthetic",
    substitutions="Real handwritten digits (scikit-learn's) that move before textures, for YFCC's videos; pseudo ground truth by Lucas and "
                  "Kanade on a pyramid for LiteFlowNet's, and 14 points of guidance for up to 150. Errors are held against the true "
                  "flow, which the scenes know and training does not see. A network without guidance is trained as such.",
    omissions="None of the row's clauses; instance segmentation, parsing and annotation are not part of them.",
    prepare=prepare,
)
