"""S061, MP3: telling where tokens belong, from what they show alone, is a start for few labels in images and in speech."""

from . import spoken  # noqa: F401  (its data keys)
from .proof import Arm, Claim, Proof
from .s215 import VIT


def prepare() -> None:
    """MP3 without its idea: every token is asked where one of another item lies."""
    from ..contracts import register
    from ..methods import MP3

    @register("s061_elsewhere")
    class Elsewhere(MP3):
        """The places asked for are those of another item's set."""

        def targets(self, view):
            return super().targets(view).roll(1, 0)


def few_labels(trained, longer: int = 350) -> dict[str, float]:
    """tuned, scratch, long: test accuracy of the network trained on 300 labels, positions learned: from MP3's weights or from scratch for
    60 steps of 75, or from scratch for `longer`, as many items as pretraining and fine-tuning see; gain, gain_long: tuned less scratch,
    and less long; places: accuracy of telling places over its chance 1 / N, mean of the last tenth of training."""
    import numpy as np

    from ..evaluation import budget_indices
    from ..protocols.baselines import Supervision, labelled_subset
    from ..protocols.finetune import finetune

    train, found = trained.train, {}
    part = labelled_subset(train, budget_indices(train.labels, 300, 0, trained.seed), train.classes)
    for name, steps in (("tuned", 60), ("scratch", 60), ("long", longer)):
        found[name] = finetune(trained.run.encoder, part, trained.test, seed=trained.seed, from_scratch=name != "tuned",
                               budget=Supervision(steps=steps, passes=steps)).value
    known = [line["accuracy"] for line in trained.run.metrics() if "accuracy" in line]
    places = trained.method().head.out_features * float(np.mean(known[-max(1, len(known) // 10):]))
    return found | {"gain": found["tuned"] - found["scratch"], "gain_long": found["tuned"] - found["long"], "places": places}


def few_words(trained) -> dict[str, float]:
    """As `few_labels`, of as many items as 450 steps of 64 and 60 of 75."""
    return few_labels(trained, longer=444)


IMAGES, SPEECH = "cifar10-5000", "words-seen"
SAME = {"steps": 340, "batch_size": 64, **VIT}
HEARD = {**SAME, "steps": 450, "backbone.patch": (16, 4), "resolution": 48}

PROOF = Proof(
    id="S061",
    statement="A Transformer that is told no positions learns to tell where its tokens belong, in images and in speech, and "
              "with positions put back is fine-tuned on few labels better than one from scratch.",
    works_when="The accuracy of telling places is far above 1 / N; fine-tuning from MP3 beats training from scratch with "
               "position embeddings on the same few labels, in images and in speech.",
    arms=(
        Arm("images", "mp3", IMAGES, SAME, "subject", 60, (few_labels,)),
        Arm("images, elsewhere", "s061_elsewhere", IMAGES, SAME, "ablation", 60, (few_labels,)),
        Arm("speech", "mp3", SPEECH, HEARD, "subject", 60, (few_words,)),
    ),
    claims=(
        Claim("In images places are told more than five times as well as by chance.", "places", "images", kind="threshold", margin=5.0),
        Claim("In speech places are told more than five times as well as by chance.", "places", "speech", kind="threshold", margin=5.0),
        Claim("In images fine-tuning on 300 labels beats training from scratch.", "gain", "images", kind="threshold"),
        Claim("And training from scratch for as long as pretraining and fine-tuning together.", "gain_long", "images", kind="threshold"),
        Claim("In speech fine-tuning on 300 labels beats training from scratch.", "gain", "speech", kind="threshold"),
        Claim("And training from scratch for as long as pretraining and fine-tuning together.", "gain_long", "speech", kind="threshold"),
        Claim("With places of other items fine-tuning is worse.", "tuned", "images, elsewhere", "images", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="340 steps of 64 items (speech 450), then 60 steps of 75 on 300 labels, as many from scratch, and from scratch 350 (speech "
           "444), as many items as pretraining and fine-tuning see; a Transformer of 2 blocks of width 64 on 64 patches, or on 48 of 16 "
           "bands × 40 ms; at most 60 s an arm on one core; the recipe of short runs, half of the tokens in context, none tuned on these "
           "data",
    data="real",
    substitutions="5,000 images of CIFAR-10; spoken digits (FSDD) for Speech Commands. Position embeddings, in fine-tuning and from "
                  "scratch, are learned.",
    omissions="None of the row's clauses.",
    prepare=prepare,
)
