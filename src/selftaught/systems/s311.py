"""S311, data2vec: one objective, what a teacher makes of the whole, for images, speech and text."""

from . import spoken  # noqa: F401  (its data)
from .arms import DATA, data_file
from .proof import Arm, Claim, Proof

DEEP = {"backbone.width": 64, "backbone.depth": 3, "backbone.heads": 4, "backbone.pool": "mean", "batch_size": 64}
IMAGES = {"backbone": "vit_tiny", "backbone.patch": 4, **DEEP}
SPEECH = {"backbone": "vit_tiny", "backbone.patch": (8, 4), "resolution": 48, **DEEP}
TEXTS = {"backbone": "text_transformer", "resolution": 64, **DEEP}


def news(part: str):
    """(train, test) of AG News, the articles' texts labelled by topic: 5,600 and 2,000."""
    from ..sources import align_classes, open_source

    path = data_file("text", "ag_news_7600.parquet")
    train, test = (open_source(f"{path}::split={split}", target="label") for split in ("train", "test"))
    return train, align_classes(test, train.classes)


DATA["news"] = news


def prepare() -> None:
    """data2vec without its idea: the targets are another item's."""
    from ..contracts import register
    from ..methods import Data2Vec

    @register("s311_others")
    class Others(Data2Vec):
        """Targets move one place on in the batch."""

        def targets(self, view):
            return super().targets(view).roll(1, 0)


def spread(trained) -> dict[str, float]:
    """target_spread: deviation of the targets over the batch, mean of the last tenth of the run, against the first value."""
    lines = [line["target_spread"] for line in trained.run.metrics() if "target_spread" in line]
    last = lines[-max(1, len(lines) // 10):]
    return {"target_spread": sum(last) / len(last) / lines[0]}


PROOF = Proof(
    id="S311",
    statement="One objective, the same class for images, speech and text, learns in each of them without collapse, and targets averaged "
              "over the upper layers are no worse than the last layer's.",
    works_when="The same trainer on images, audio and text beats the untrained encoder on the linear probe in each; the targets keep "
               "their variance; targets averaged over the top K layers are no worse than with K = 1.",
    arms=(
        Arm("images", "data2vec", "cifar10-5000", IMAGES | {"steps": 380, "method.layers": 3}, "subject", 60, (spread,)),
        Arm("images, K = 1", "data2vec", "cifar10-5000", IMAGES | {"steps": 380, "method.layers": 1}, "ablation", 60),
        Arm("images, others' targets", "s311_others", "cifar10-5000", IMAGES | {"steps": 380, "method.layers": 3}, "control", 60),
        Arm("images, untrained", None, "cifar10-5000", IMAGES, "baseline", 30),
        Arm("speech", "data2vec", "words-unseen", SPEECH | {"steps": 320, "method.layers": 3}, "subject", 60, (spread,)),
        Arm("speech, untrained", None, "words-unseen", SPEECH, "baseline", 30),
        Arm("text", "data2vec", "news-all", TEXTS | {"steps": 320, "method.layers": 3}, "subject", 60, (spread,)),
        Arm("text, untrained", None, "news-all", TEXTS, "baseline", 30),
    ),
    claims=(
        Claim("On images the linear probe lies above that of the untrained network.", "linear", "images", "images, untrained"),
        Claim("On speech it does.", "linear", "speech", "speech, untrained"),
        Claim("On text it does.", "linear", "text", "text, untrained"),
        Claim("On images the targets keep more than a tenth of their first spread.", "target_spread", "images", kind="threshold",
              margin=0.1),
        Claim("On speech they do.", "target_spread", "speech", kind="threshold", margin=0.1),
        Claim("On text they do.", "target_spread", "text", kind="threshold", margin=0.1),
        Claim("Averaged over three layers the targets give a linear probe at most 1 point below that of the last layer's.", "linear",
              "images", "images, K = 1", "not worse", 0.01),
        Claim("With other items' targets the linear probe on images is lower.", "linear", "images, others' targets", "images", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="380 steps of 64 images of 32 × 32, 320 of 64 spoken words, 320 of 64 texts of 64 tokens; Transformers of 3 blocks of width 64; "
           "at most 60 s an arm on one core; the recipe of short runs in all three, none tuned on these data",
    data="real",
    substitutions="5,000 images of CIFAR-10 for ImageNet; spoken digits of four speakers, tested on two others, as log-mel patches for "
                  "LibriSpeech's waveforms and their convolutions; AG News for books and Wikipedia; the linear probe for fine-tuning, "
                  "either of which the row names.",
    omissions="None of the row's clauses.",
    prepare=prepare,
)
