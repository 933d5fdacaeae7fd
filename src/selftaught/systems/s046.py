"""S046, Uni4Eye: one masked autoencoder of pictures and of volumes, which share all but their patch embedding and positions."""

import numpy as np

from .proof import DATA, Arm, Claim, Proof


def gradient(x):
    """Sobel's magnitude [B, C, ...] along two or three axes, as steep as x: differences along one, means 1-2-1 along the others."""
    import torch

    total = torch.zeros_like(x)
    for along in range(2, x.ndim):
        part = x
        for axis in range(2, x.ndim):
            place = torch.arange(x.shape[axis], device=x.device)
            before, after = (part.index_select(axis, (place + k).clamp(0, x.shape[axis] - 1)) for k in (-1, 1))
            part = (after - before) / 2 if axis == along else (before + 2 * part + after) / 4
        total = total + part.square()
    return (total + 1e-12).sqrt()


def prepare() -> None:
    """Uni4Eye, which draws its pictures itself, as a run has one modality; without either kind; and without the gradients."""
    import torch
    from torch import nn

    from ..contracts import register
    from ..methods import MAE
    from ..networks import Embedder
    from ..networks.decoder import Decoder, at_places, encode_visible, predicted_places
    from ..objectives.masked import masked_mean, token_error
    from ..plan import make_plan
    from .arms import proof_data

    @register("s046_uni4eye")
    class Uni4Eye(MAE):
        """Uni4Eye (Cai et al., 2022): loss = Σ over volumes and pictures of ‖x̂ − x‖² + ‖ĝ − |∇x|‖², means over hidden patches.

        A patch embedding and positions of either kind, one Transformer f; two decoders from the same f(visible), one for what is seen and
        one for its gradient, whose blocks both kinds share. A step sees a batch of each."""

        def __init__(self, backbone: nn.Module, *, facts, width: int = 64, depth: int = 2, heads: int = 4, mask: str = "random",
                     masked: float = 0.75, masks: int = 1, size: int = 1, pictures: bool = True, volumes: bool = True,
                     gradients: bool = True):
            super(MAE, self).__init__()
            self.pictures, self.volumes = pictures, volumes
            self.shown = (lambda x: x, gradient) if gradients else (lambda x: x,)
            source = proof_data("flat-digits")[0]
            self.plan = make_plan(source, {**VIT, "method": "mae", "method.masked": masked, "steps": 1, "device": "cpu"})
            self.stream = self.plan.stream(source, name="pictures")
            self.student, self.flat = Embedder(backbone), self.plan.build_backbone()
            self.flat.transformer = backbone.transformer
            sizes = {"width": width, "depth": depth, "heads": heads}
            self.deep, self.even = (nn.ModuleList(Decoder(own, shape, own.signal().width, **sizes) for _ in self.shown)
                                    for own, shape in ((backbone, facts.shape), (self.flat, self.plan.facts.shape)))
            for one, other in zip(self.deep, self.even):
                other.enter, other.mask_token, other.blocks, other.norm = one.enter, one.mask_token, one.blocks, one.norm

        def loss(self, views, batch):
            parts = [self.filled(self.student.backbone, self.deep, views[0])] if self.volumes else []
            return sum(parts + ([self.filled(self.flat, self.even, self.drawn())] if self.pictures else []))

        def filled(self, backbone, decoders, view):
            encoded, places, signal = encode_visible(backbone, view), predicted_places(view), backbone.signal()
            grid, found = backbone.grid(view.x.shape), []
            for decoder, target in zip(decoders, self.shown):
                found.append(masked_mean(token_error(decoder(encoded, view, grid), at_places(signal(target(view.x)), places))))
            return sum(found)

        def drawn(self):
            """A masked view of pictures drawn anew every step, by the seed that the engine gives torch for it."""
            rows = torch.randperm(self.stream.size)[:self.stream.batch_size].numpy()
            batch = next(iter(self.stream.reader.batches([(rows, np.zeros_like(rows), rows)])))
            return self.stream.views(batch, batch.draws(torch.initial_seed(), "pictures"))[0]


def flat_digits(rest: str):
    """(train, test): 3,000 and 1,500 moved digits of 20 × 20."""
    from ..sources import load_embedded, open_source

    train, test = load_embedded("moved-digits/train"), load_embedded("moved-digits/test")
    return tuple(open_source({"x": d["x"][:3000], "y": d["y"][:3000]}, modality="image", target="y") for d in (train, test))


def stacked_digits(rest: str):
    """(train, test), N and 1,000 volumes of 8 × 20 × 20: a moved digit (in train another drawing than the flat ones, of the same hands)
    that comes, drifts and goes along the first axis, in noise; its class."""
    from ..sources import load_embedded
    from ..sources.volumes import VolumeArrays

    def made(split, first, count, seed):
        data, rng = load_embedded(f"moved-digits/{split}"), np.random.default_rng([46, seed])
        x, y = data["x"][first:first + count, 0] / 255.0, data["y"][first:first + count]
        middle, length, drift = rng.uniform(2, 5, count), rng.uniform(1, 2, count), rng.uniform(-0.8, 0.8, (count, 2))
        slices = []
        for k in range(8):
            down, aside = ((np.arange(20) - np.rint(d * (k - middle))[:, None]).astype(int) % 20 for d in drift.T)
            moved = np.take_along_axis(np.take_along_axis(x, down[:, :, None], 1), aside[:, None], 2)
            slices.append(moved * np.exp(-0.5 * ((k - middle) / length) ** 2)[:, None, None])
        stacks = np.stack(slices, 1) + rng.normal(0, 0.05, (count, 8, 20, 20))
        return VolumeArrays(stacks.astype(np.float32), y=y, origin=f"stacked {split}")

    return made("train", 3000, int(rest), 0), made("test", 0, 1000, 1)


DATA["flat"], DATA["stacked"] = flat_digits, stacked_digits


def tuned(trained, steps: int = 100) -> dict[str, float]:
    """volumes, pictures: test accuracy of fine-tuning on 100 labels of either kind, `steps` of 25; both: their mean."""
    from ..encoder import Encoder
    from ..protocols import Supervision, finetune
    from .arms import proof_data

    method, found = trained.method(), {}
    flat = Encoder(method.flat, method.plan.preprocessing, backbone_name="vit_tiny", backbone_options=method.plan.nested["backbone"])
    deep = trained.run.encoder
    for name, encoder, sources in (("volumes", deep, (trained.train, trained.test)), ("pictures", flat, proof_data("flat-digits"))):
        found[name] = finetune(encoder, *sources, labels=100, seed=trained.seed, budget=Supervision(steps, passes=steps)).value
    return found | {"both": (found["volumes"] + found["pictures"]) / 2}


def tuned_as_long(trained) -> dict[str, float]:
    """volumes, pictures, both: of as many items seen of either kind as by 340 steps of 32 of both and 100 of 25."""
    return tuned(trained, steps=971)


KEY, FLAT = "stacked-2000", ("flat-digits",)
VIT = {"backbone": "vit_tiny", "backbone.patch": 4, "backbone.width": 64, "backbone.depth": 3, "backbone.heads": 4,
       "backbone.pool": "mean", "batch_size": 32}
RUN = {**VIT, "steps": 340, "lr": 8e-3, "method.masked": 0.5}
RANDOM = {**RUN, "steps": 1, "lr": 0.0}

PROOF = Proof(
    id="S046",
    statement="One masked autoencoder of pictures and volumes starts the fine-tuning of both, as well as one of either alone does.",
    works_when="The encoder that saw both is fine-tuned better than a random one on a task of pictures and on one of volumes, not worse "
               "than one that saw pictures alone or volumes alone, and the decoder of gradients takes nothing away.",
    arms=(
        Arm("both", "s046_uni4eye", KEY, RUN, "subject", 60, (tuned,), FLAT),
        Arm("pictures alone", "s046_uni4eye", KEY, {**RUN, "method.volumes": False}, "baseline", 60, (tuned,), FLAT),
        Arm("volumes alone", "s046_uni4eye", KEY, {**RUN, "method.pictures": False}, "baseline", 60, (tuned,), FLAT),
        Arm("without gradients", "s046_uni4eye", KEY, {**RUN, "method.gradients": False}, "ablation", 60, (tuned,), FLAT),
        Arm("from scratch", "s046_uni4eye", KEY, RANDOM, "baseline", 60, (tuned,), FLAT),
        Arm("from scratch, as long", "s046_uni4eye", KEY, RANDOM, "baseline", 120, (tuned_as_long,), FLAT),
    ),
    claims=(
        Claim("Fine-tuned on 100 labelled pictures it is more accurate than from scratch.", "pictures", "both", "from scratch"),
        Claim("Fine-tuned on 100 labelled volumes it is more accurate than from scratch.", "volumes", "both", "from scratch"),
        *(Claim(f"And on {kind} than from scratch for as long as pretraining and fine-tuning together.", kind, "both",
                "from scratch, as long") for kind in ("pictures", "volumes")),
        Claim("On pictures it is at most three points below the one that saw pictures alone.", "pictures", "both", "pictures alone",
              "not worse", 0.03),
        Claim("On volumes it is at most three points below the one that saw volumes alone.", "volumes", "both", "volumes alone",
              "not worse", 0.03),
        Claim("Mean over both, it is at most two points below the one without the decoder of gradients.", "both", "both",
              "without gradients", "not worse", 0.02),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="340 steps of 32 items of each kind that is seen, ViT 64 × 3 on 25 or 50 tokens, half of them hidden; 100 steps on 100 labels "
           "for every fine-tuning, from scratch too; from scratch, as long: 971 steps of 25, as many items of one kind as pretraining "
           "sees of both, and fine-tuning of one; at most 60 s an arm, as long 120 s, on one core, MAE's recipe for short runs at the "
           "rate of the conformance tests",
    data="synthetic",
    substitutions="Moved digits for pictures of the fundus, and stacks of other moved digits (drifting, made) for volumes of OCT. A step "
                  "sees both kinds, where the paper's batches alternate. The proof's method draws its pictures itself, since a run of "
                  "`pretrain` has one modality.",
    omissions="None of the row's clauses; its words 'not below' and 'at least 0 points' are judged with margins of three and two points.",
    prepare=prepare,
)
