"""S235, dBOT: a masked student of a random teacher makes a better teacher, and from what teacher one starts hardly matters."""

from .proof import Arm, Claim, Proof
from .s215 import VIT


def prepare() -> None:
    """Three more first teachers: the first stage has another objective, its student then is the teacher as in dBOT."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from ..contracts import register
    from ..methods import DBOT
    from ..networks.decoder import Decoder, at_places, encode_visible, predicted_places
    from ..objectives.masked import masked_mean, signal_error

    class Begun(DBOT):
        """dBOT whose first teacher comes of `begin`."""

        def loss(self, views, batch):
            return super().loss(views, batch) if self.stage(self.clock) else self.begin(views[0], batch)

    @register("s235_pixels")
    class Pixels(Begun):
        """The first stage is MAE's: hidden tokens' normalised signal."""

        def __init__(self, backbone, *, facts, **options):
            super().__init__(backbone, facts=facts, **options)
            self.signal = backbone.signal()
            sizes = {name: options[name] for name in ("width", "depth", "heads")}
            self.decoder = Decoder(backbone, facts.shape, self.signal.width, **sizes)

        def begin(self, view, batch):
            backbone, places = self.student.backbone, predicted_places(view)
            predicted = self.decoder(encode_visible(backbone, view), view, backbone.grid(view.x.shape))
            target = at_places(self.signal(view.x, view.lengths, normalised=True), places)
            return masked_mean(signal_error(predicted, target, counts=self.signal.counts(places)))

    @register("s235_items")
    class Items(Begun):
        """The first stage is DIET's: every item is a class of its own, told from what is visible of it."""

        def __init__(self, backbone, *, facts, **options):
            super().__init__(backbone, facts=facts, **options)
            self.items = nn.Linear(backbone.width, facts.samples)

        def begin(self, view, batch):
            return F.cross_entropy(self.items(encode_visible(self.student.backbone, view).pooled), batch.index, label_smoothing=0.8)

    @register("s235_follower")
    class Follower(DBOT):
        """The first stage's teacher follows the student, as I-JEPA's and data2vec's do, and is fixed from the second on."""

        def __init__(self, backbone, *, facts, **options):
            super().__init__(backbone, facts=facts, **options)
            self.teacher.momentum = 0.95

        def between_epochs(self, passes):
            self.teacher.momentum = 1.0 if self.stage(self.clock) else 0.95
            with torch.no_grad():
                return super().between_epochs(passes)


TEACHERS = ("random", "pixels", "items", "follower")


def apart(arms) -> float:
    """Largest less smallest linear probe of the students of the four teachers; the per-seed values print it."""
    found = [arms[name]["linear"] for name in TEACHERS]
    return max(found) - min(found)


DATA, SAME = "cifar10-5000", {"epochs": 6, "batch_size": 64, **VIT}  # 78 steps an epoch, the break after three

PROOF = Proof(
    id="S235",
    statement="A masked student of a teacher that was itself a masked student of a random network beats the student of the "
              "random network, and students of four different teachers end close together.",
    works_when="After two stages from a random teacher the probe exceeds that of the student of the random teacher alone, at "
               "equal steps; students of four different teachers end within 3 points of each other, the spread being printed.",
    arms=(
        Arm("random", "dbot", DATA, SAME, "subject", 60),
        Arm("one stage", "dbot", DATA, {**SAME, "method.stages": 1}, "ablation", 60),
        Arm("pixels", "s235_pixels", DATA, SAME, "subject", 60),
        Arm("items", "s235_items", DATA, SAME, "subject", 60),
        Arm("follower", "s235_follower", DATA, SAME, "subject", 60),
        Arm("untrained", None, DATA, {**VIT, "backbone.pool": "mean"}, "baseline", 20),
    ),
    claims=(
        Claim("After two stages the linear probe lies above that of one stage of as many steps.", "linear", "random", "one stage"),
        Claim("The students of four teachers lie within 3 points of each other.", "linear", direction="smaller", margin=0.03,
              kind="across arms", value=apart),
        Claim("The linear probe lies above that of the untrained network.", "linear", "random", "untrained"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="6 passes over 5,000 images of 32 × 32, batch 64, a Transformer of 2 blocks of width 64 on 64 tokens, two stages of "
           "three passes, at most 60 s an arm on one core; the recipe of short runs, none tuned on these data",
    data="real",
    substitutions="5,000 images of CIFAR-10. The paper's teachers (DINO, MAE, DeiT, CLIP) are for a minute on one "
                  "core: the random network, MAE's pixels, DIET's items and a teacher that follows, each for the first stage.",
    omissions="Fine-tuning: the row asks for it or for a probe, and the probe is measured.",
    prepare=prepare,
)
