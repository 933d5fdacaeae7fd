"""S177, SSAST: to tell hidden patches apart and to draw them makes a few labelled words go further."""

from . import spoken  # noqa: F401  (its data)
from .proof import Arm, Claim, Proof

WORDS = "words-unseen"
COMMON = {"backbone": "vit_tiny", "backbone.patch": (8, 4), "backbone.width": 64, "backbone.depth": 3, "backbone.heads": 4,
          "backbone.pool": "mean", "resolution": 48, "batch_size": 64}
STEPS = {**COMMON, "steps": 150, "method.masked": 0.6, "method.size": 3}


def tuned(trained) -> dict[str, float]:
    """finetune: accuracy on the unseen speakers of the network fine-tuned with 100 labelled words, as long as from scratch."""
    from ..protocols.baselines import Supervision
    from ..protocols.finetune import finetune

    budget = Supervision(steps=60, passes=100)
    return {"finetune": finetune(trained.run.encoder, trained.train, trained.test, labels=100, seed=trained.seed, budget=budget).value}


def identified(trained) -> dict[str, float]:
    """accuracy: how often the right one of an item's hidden patches is chosen, on the test words; chance: one over their number."""
    import torch

    method, stream = trained.method(), trained.plan.stream(trained.test)
    right, chance = [], []
    with torch.no_grad():
        for batch in stream.batches(0, 4, rank=0, world=1, accumulate=1):
            views = stream.views(batch, batch.draws(trained.seed, "test"))
            right.append(float(method(views, batch).named["accuracy"]))
            chance.append(1.0 / views[0].applied["hidden"].shape[-1])
            if len(right) == 4:
                break
    return {"accuracy": sum(right) / len(right), "chance": sum(chance) / len(chance)}


PROOF = Proof(
    id="S177",
    statement="Joint discriminative and generative prediction of hidden spectrogram patches gives a Transformer that a few labelled words "
              "suffice for, no worse than either objective alone.",
    works_when="Fine-tuned accuracy on a small labelled set beats the same network from scratch; joint pretraining is no worse than either "
               "objective alone; the identification of hidden patches rises well above chance.",
    arms=(
        Arm("joint", "ssast", WORDS, STEPS, "subject", 60, (tuned, identified)),
        Arm("discriminative", "ssast", WORDS, STEPS | {"method.weight": 0.0}, "ablation", 60, (tuned,)),
        Arm("generative", "ssast", WORDS, STEPS | {"method.contrast": 0.0}, "ablation", 60, (tuned,)),
        Arm("untrained", None, WORDS, COMMON, "baseline", 30, (tuned,)),
    ),
    claims=(
        Claim("Fine-tuned with 100 labelled words, accuracy on unseen speakers beats the same network from scratch.",
              "finetune", "joint", "untrained"),
        Claim("It is at most two points below the discriminative objective alone.",
              "finetune", "joint", "discriminative", "not worse", 0.02),
        Claim("It is at most two points below the generative objective alone.", "finetune", "joint", "generative", "not worse", 0.02),
        Claim("Hidden patches are identified at least three times as often as by chance.", "accuracy", kind="across arms", margin=3.0,
              value=lambda arms: arms["joint"]["accuracy"] / arms["joint"]["chance"]),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="150 steps of 64 words, ViT 64 × 3 on patches of 8 bands × 40 ms, at most 60 s an arm on one core; 60 steps of fine-tuning, "
           "the same from scratch",
    data="real",
    substitutions="Spoken digits (FSDD), 2,000 words of four speakers, 500 of two others for testing, for AudioSet and LibriSpeech; a "
                  "ViT of 64 × 3 "
                  "for 768 × 12, patches of 8 × 4 for 16 × 16, 60 % hidden for 78 %: the spectrograms are 48 frames long. 'No worse' is "
                  "taken as two points.",
    omissions="None of the row's clauses.",
)
