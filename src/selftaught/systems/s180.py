"""S180, ExpPoint-MAE: masked groups of points pretrain a Transformer, and it is fine-tuned better when its head learns first."""

import numpy as np

from .proof import DATA, Arm, Claim, Proof


def prepare() -> None:
    """Point-MAE (hidden groups as sets under Chamfer's distance), and without its idea: the groups to be predicted are another cloud's."""
    import torch
    from torch import nn

    from ..contracts import register
    from ..methods import MAE
    from ..networks import Embedder
    from ..networks.decoder import Decoder, at_places, encode_visible, predicted_places
    from ..objectives.masked import masked_mean
    from ..objectives.points import chamfer

    @register("s180_point_mae")
    class PointMAE(MAE):
        """Point-MAE (Pang et al., 2022): loss = mean over hidden groups of Chamfer(g(f(visible), mask tokens), points of the group)."""

        def __init__(self, backbone: nn.Module, *, facts, width: int = 384, depth: int = 4, heads: int = 6, mask: str = "random",
                     masked: float = 0.6, masks: int = 1, size: int = 1):
            super(MAE, self).__init__()
            self.student, self.signal = Embedder(backbone), backbone.signal()
            self.decoder = Decoder(backbone, facts.shape, 3 * backbone.places.size, width=width, depth=depth, heads=heads)

        def loss(self, views, batch):
            (view,) = views
            backbone = self.student.backbone
            predicted = self.decoder(encode_visible(backbone, view), view, backbone.grid(view.x.shape))
            target = at_places(self.targets(view).flatten(2), predicted_places(view))
            return masked_mean(chamfer(predicted.unflatten(-1, (-1, 3)), target.unflatten(-1, (-1, 3))))

        @torch.no_grad()
        def targets(self, view):
            return self.signal.sets(view.x, view.lengths)

    @register("s180_shuffled")
    class Shuffled(PointMAE):
        """Point-MAE whose targets move one place on in the batch."""

        def targets(self, view):
            return super().targets(view).roll(1, 0)


def solids(rest: str):
    """(train, test): `rest` and 800 clouds of 256 points of ten solids, stretched, turned, cut open and in noise."""
    from ..sources.points import PointsArrays

    def surface(kind, rng, n):
        u, v = rng.random((2, n))
        a, side = 2 * np.pi * u, rng.random(n)
        ball, ring = np.sqrt(1 - (2 * v - 1) ** 2), np.ones(n)
        round_ = lambda r, z: np.stack([r * np.cos(a), r * np.sin(a), z], 1)  # noqa: E731
        if kind == 0:  # ball
            return round_(ball, 2 * v - 1)
        if kind == 1:  # half a ball and its disc
            return np.where((side < 2 / 3)[:, None], round_(np.sqrt(1 - v**2), v), round_(np.sqrt(v), 0 * v))
        if kind == 2:  # box
            x = rng.uniform(-1, 1, (n, 3))
            x[np.arange(n), rng.integers(0, 3, n)] = np.sign(side - 0.5)
            return x
        if kind == 3:  # cylinder
            return np.where((side < 2 / 3)[:, None], round_(ring, 2 * v - 1), round_(np.sqrt(v), np.sign(side - 5 / 6)))
        if kind == 4:  # cone
            return np.where((side < 0.7)[:, None], round_(np.sqrt(v), 1 - 2 * np.sqrt(v)), round_(np.sqrt(v), -ring))
        if kind == 5:  # ring
            b = 2 * np.pi * v
            return round_(1 + 0.4 * np.cos(b), 0.4 * np.sin(b))
        if kind == 6:  # capsule
            x = round_(0.6 * ball, 0.6 * (2 * v - 1))
            tube = round_(0.6 * ring, 1.2 * (2 * v - 1) / 1.5)
            return np.where((side < 0.5)[:, None], x + [0, 0, 0.8] * np.sign(x[:, 2:]), tube)
        if kind == 7:  # pyramid on a square
            x = rng.uniform(-1, 1, (n, 2))
            x[np.arange(n), rng.integers(0, 2, n)] = np.sign(side - 0.5)
            return np.column_stack([x * np.sqrt(v)[:, None], 1 - 2 * np.sqrt(v)])
        if kind == 8:  # spring
            b, t = 2 * np.pi * v, 4 * np.pi * u
            return np.column_stack([(1 + 0.2 * np.cos(b)) * np.cos(t), (1 + 0.2 * np.cos(b)) * np.sin(t), 0.2 * np.sin(b) + 2 * u - 1])
        x = rng.uniform(-1, 1, (n, 2))  # saddle
        return np.column_stack([x, x[:, 0] ** 2 - x[:, 1] ** 2])

    def made(count, seed):
        rng, clouds, y = np.random.default_rng([180, seed]), [], np.arange(count) % 10
        for kind in y:
            x = surface(kind, rng, 384) * rng.uniform(0.6, 1.4, 3)
            turn, a = np.linalg.qr(rng.normal(size=(3, 3)))[0], rng.uniform(0, 2 * np.pi)
            axis = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
            x = x @ (axis if rng.random() < 0.5 else turn).T  # upright in half of the clouds
            x = x[np.argsort(x @ rng.normal(size=3))[:256]]  # a third is not seen
            clouds.append(x + rng.normal(0, 0.03, x.shape))
        return PointsArrays(np.stack(clouds).astype(np.float32), y=y, origin=f"solids {seed}")

    return made(int(rest), 0), made(800, 1)


DATA["solids"] = solids


def finetuned(trained, steps: int = 100) -> dict[str, float]:
    """delayed, immediate: test accuracy of fine-tuning on 100 labels for `steps` of 25, the backbone held still in the first half or
    never."""
    from ..contracts import Group
    from ..evaluation import budget_indices
    from ..protocols.baselines import Supervision, labelled_subset, train_supervised
    from ..protocols.finetune import predict

    encoder, train, test = trained.run.encoder, trained.train, trained.test
    state = {k: v.clone() for k, v in encoder.backbone.state_dict().items()}
    part = labelled_subset(train, budget_indices(train.labels, 100, trained.seed, trained.seed), train.classes)
    found = {}
    for name, still in (("immediate", 0), ("delayed", steps // 2)):
        changes = {"groups": {"student.backbone": Group(frozen_steps=still)}}
        tuned, method = train_supervised(encoder, part, seed=trained.seed, budget=Supervision(steps=steps, passes=steps), changes=changes,
                                         initialise=lambda backbone: backbone.load_state_dict(state))
        found[name] = float((predict(tuned, method, test, part) == test.labels).mean())
    return found


def finetuned_as_long(trained) -> dict[str, float]:
    """delayed, immediate: of as many clouds seen as by 260 steps of 64 and 100 of 25."""
    return finetuned(trained, steps=766)


def looks(trained) -> dict[str, float]:
    """distance L: how far, in radii of a cloud, a group's attention lies from it in layer L, mean over heads, groups and test clouds."""
    import torch

    from ..contracts import Clean
    from ..networks.attention import attention_maps

    encoder = trained.run.encoder
    batch, _ = next(encoder.batches(trained.test, batch_size=200))
    x = encoder.modality.views(Clean(), encoder.preprocessing)(batch, batch.draws(0, "test"))[0].x
    centres = encoder.backbone.places(x)
    apart, found = torch.cdist(centres, centres)[:, None], {}
    for number, weights in enumerate(attention_maps(encoder.backbone.eval(), x)):
        among = weights[:, :, 1:, 1:]
        found[f"distance {number}"] = float((among * apart).sum() / among.sum())
    return found


DATA_KEY = "solids-1200"
NETWORK = {"backbone": "point_transformer", "backbone.width": 64, "backbone.depth": 3, "backbone.groups": 32, "backbone.size": 16,
           "batch_size": 64}
RUN = {**NETWORK, "steps": 260}
MASKED = {**RUN, "method.masked": 0.6}
MEASURES = (finetuned, looks)

PROOF = Proof(
    id="S180",
    statement="A Transformer of point groups pretrained by masked autoencoding is fine-tuned at least as well when its head learns first, "
              "and better than one from scratch either way.",
    works_when="Fine-tuned with the backbone held still at first, the masked autoencoder is at least as accurate as fine-tuned as a whole "
               "from the same checkpoint, and both beat training from scratch; how far attention reaches is told for every layer, of the "
               "masked autoencoder and of momentum contrast.",
    arms=(
        Arm("point-mae", "s180_point_mae", DATA_KEY, MASKED, "subject", 60, MEASURES),
        Arm("from scratch", None, DATA_KEY, NETWORK, "baseline", 45, MEASURES),
        Arm("from scratch, as long", None, DATA_KEY, NETWORK, "baseline", 120, (finetuned_as_long,)),
        Arm("moco", "moco_v2", DATA_KEY, RUN, "control", 60, (looks,)),
        Arm("targets of other clouds", "s180_shuffled", DATA_KEY, MASKED, "ablation", 60, MEASURES),
    ),
    claims=(
        Claim("Delayed unfreezing is at most one point below fine-tuning of the whole from the same checkpoint.", "delayed",
              kind="across arms", value=lambda arms: arms["point-mae"]["delayed"] - arms["point-mae"]["immediate"], margin=-0.01),
        Claim("Delayed unfreezing beats training from scratch.", "delayed", kind="across arms",
              value=lambda arms: arms["point-mae"]["delayed"] - arms["from scratch"]["immediate"]),
        Claim("Fine-tuning of the whole beats training from scratch.", "immediate", "point-mae", "from scratch"),
        Claim("And training from scratch for as long as pretraining and fine-tuning together.", "immediate", "point-mae",
              "from scratch, as long"),
        Claim("With targets of other clouds the linear probe is lower.", "linear", "targets of other clouds", "point-mae", "smaller"),
        Claim("Attention distances are there for every layer of the masked autoencoder and of momentum contrast.", "distance 2",
              kind="across arms", value=lambda arms: min(arms[n][f"distance {i}"] for n in ("point-mae", "moco") for i in range(3))),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="260 steps of 64 clouds of 256 points, a Transformer of 3 blocks, 64 wide, over 32 groups of 16 points; 100 steps on 100 "
           "labels for every fine-tuning, from scratch too; from scratch, as long: 766, as many clouds as pretraining and fine-tuning "
           "see, in at most 120 s; at most 60 s an arm else on one core, rates those of the recipes for short runs",
    data="synthetic",
    substitutions="Ten generated solids, stretched, turned, a third cut away, for ShapeNet, CC3D and ModelNet; a small network; the "
                  "backbone held still for half of 100 steps, for the paper's first epochs; positions enter once, not before every block.",
    omissions="The plots themselves: the distances of every layer are in the raw values, from which they are drawn. The sweep of the "
              "size of the pretraining set is the paper's analysis, not a clause of the row.",
    prepare=prepare,
)
