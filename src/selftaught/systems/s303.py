"""S303, data2vec 2.0: one trainer for images, speech and text, and several masks to one pass of the teacher."""

from . import s311, spoken  # noqa: F401  (their data: news, words)
from .proof import Arm, Claim, Proof

DEEP = {"backbone.width": 64, "backbone.depth": 3, "backbone.heads": 4, "backbone.pool": "mean", "batch_size": 64}
IMAGES = {"backbone": "vit_tiny", "backbone.patch": 4, **DEEP}
SPEECH = {"backbone": "vit_tiny", "backbone.patch": (8, 4), "resolution": 48, **DEEP}
TEXTS = {"backbone": "text_transformer", "resolution": 64, **DEEP}
LIGHT = {"method.layers": 3, "method.width": 32, "method.depth": 1, "method.heads": 2}
"""A decoder that is to the encoder about as light as the paper's convolutions are."""
ONE, HALF, TWO, FOUR = ({"steps": steps, "method.masks": masks, **LIGHT} for steps, masks in ((240, 1), (120, 1), (230, 2), (150, 4)))


def watched(method: type, name: str) -> None:
    """Registers a method that is `method` and keeps its encoder at every quarter of the run (`taken` [4, weights]), with the processor
    time until then (`seconds` [4])."""
    import time

    import torch

    from ..contracts import register

    @register(name)
    class Watched(method):
        @classmethod
        def build(cls, backbone, facts, **options):
            built = super().build(backbone, facts, **options)
            built.every = max(facts.steps // 4, 1)
            built.register_buffer("taken", torch.zeros(4, sum(p.numel() for p in backbone.parameters())))
            built.register_buffer("seconds", torch.zeros(4))
            return built

        def loss(self, views, batch):
            if self.clock.step == 0:
                self.began = time.process_time()
            return super().loss(views, batch)

        def after_step(self):
            part, rest = divmod(self.clock.step + 1, self.every)
            if rest == 0 and part <= 4:
                self.taken[part - 1] = torch.cat([p.detach().flatten() for p in self.student.backbone.parameters()])
                self.seconds[part - 1] = time.process_time() - self.began


def prepare() -> None:
    """data2vec 2.0, watched."""
    from ..methods import Data2Vec2

    watched(Data2Vec2, "s303_watched")


def curve(trained) -> dict[str, float]:
    """linear_k, seconds_k (k = 1..4): accuracy on the first 2,000 test items of a linear probe fitted on 1,000 training items,
    after each quarter of the run, and its processor time so far."""
    import copy

    import numpy as np

    from ..evaluation import linear_probe
    from ..sources import subset

    method, encoder, found = trained.method(), copy.deepcopy(trained.run.encoder), {}
    some, rest = np.arange(min(1000, len(trained.train))), np.arange(min(2000, len(trained.test)))
    for k, (weights, seconds) in enumerate(zip(method.taken, method.seconds), 1):
        parameters = list(encoder.backbone.parameters())
        for parameter, part in zip(parameters, weights.split([p.numel() for p in parameters])):
            parameter.data.copy_(part.view(parameter.shape))
        train, test = (encoder.embed(subset(s, rows)) for s, rows in ((trained.train, some), (trained.test, rest)))
        found[f"linear_{k}"] = linear_probe(train, trained.train.labels[some], test, trained.test.labels[rest]).value
        found[f"seconds_{k}"] = float(seconds)
    return found


def sooner(arms) -> float:
    """Processor time until the score is reached that one mask ends with, by four masks over by one, whose schedule may be the shorter;
    infinite where it never is."""
    goal = arms["images, one mask"]["linear_4"]

    def reached(*names: str) -> float:
        return min((arms[n][f"seconds_{k}"] for n in names for k in range(1, 5) if arms[n][f"linear_{k}"] >= goal), default=float("inf"))

    return reached("images") / reached("images, one mask", "images, one mask, shorter")


PROOF = Proof(
    id="S303",
    statement="One trainer class learns on images, speech and text, and with four masks to a pass of the teacher it reaches a probe's "
              "score in less processor time than with one.",
    works_when="On images, speech and text a probe beats random initialisation, with one trainer class; the time to a fixed probe score "
               "is shorter with several masks a pass of the teacher than with one.",
    arms=(
        Arm("images", "s303_watched", "cifar10-5000", IMAGES | FOUR, "subject", 60, (curve,)),
        Arm("images, one mask", "s303_watched", "cifar10-5000", IMAGES | ONE, "ablation", 60, (curve,)),
        Arm("images, one mask, shorter", "s303_watched", "cifar10-5000", IMAGES | HALF, "ablation", 60, (curve,)),
        Arm("images, untrained", None, "cifar10-5000", IMAGES, "baseline", 30),
        Arm("speech", "data2vec2", "spoken-usual", SPEECH | TWO, "subject", 60),
        Arm("speech, untrained", None, "spoken-usual", SPEECH, "baseline", 30),
        Arm("text", "data2vec2", "news-all", TEXTS | TWO, "subject", 60),
        Arm("text, untrained", None, "news-all", TEXTS, "baseline", 30),
    ),
    claims=(
        Claim("On images the linear probe lies above that of the untrained network.", "linear", "images", "images, untrained"),
        Claim("On speech it does.", "linear", "speech", "speech, untrained"),
        Claim("On text it does.", "linear", "text", "text, untrained"),
        Claim("The linear probe that one mask ends with is reached with four masks in less processor time.", "seconds",
              direction="smaller", margin=1.0, kind="across arms", value=sooner),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="On images 150 steps of 64 items with four masks each, or 240 with one, which take as long, or 120; on speech and text 230 "
           "with two; Transformers of 3 blocks of width 64, a decoder of one block of width 32; the recipe of short runs, none tuned on "
           "these data; at most 60 s an arm on one core",
    data="real",
    substitutions="5,000 images of CIFAR-10; spoken digits, 2,100 recordings to train on and 300 others of the same six speakers for "
                  "testing, as log-mel patches; AG News; the linear probe, which the row names beside fine-tuning; a light Transformer "
                  "for the convolutional decoder. Time is the processor's during training, looked at after each quarter of a run, and the"
                  " fixed score is that which one mask ends with, seed by seed; one mask's time is the earlier of its two schedules'.",
    omissions="None of the row's clauses; the time is taken on images alone.",
    prepare=prepare,
)
