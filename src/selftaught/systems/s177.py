"""S177, SSAST: to tell hidden patches apart and to draw them makes a few labelled words go further."""

from .proof import Arm, Claim, Proof
from .spoken import tuned

WORDS = "spoken-usual"
COMMON = {"backbone": "vit_tiny", "backbone.patch": (8, 4), "backbone.width": 64, "backbone.depth": 3, "backbone.heads": 4,
          "backbone.pool": "mean", "resolution": 48, "batch_size": 64}
STEPS = {**COMMON, "steps": 320, "method.masked": 0.6, "method.size": 3}


def tuned_as_long(trained) -> dict[str, float]:
    """finetune: of as many words seen as by 320 steps of 64 and 60 of 25."""
    return tuned(trained, steps=880)


def identified(trained) -> dict[str, float]:
    """accuracy: how often the right one of an item's hidden patches is chosen, on the test words; chance: one over the number of those
    that lie within the word, padding being no candidate, mean over them."""
    import torch

    from ..networks.decoder import at_places, predicted_places

    method, stream = trained.method(), trained.plan.stream(trained.test)
    right, chance = [], []
    with torch.no_grad():
        for batch in stream.batches(0, 4, rank=0, world=1, accumulate=1):
            views = stream.views(batch, batch.draws(trained.seed, "test"))
            right.append(float(method(views, batch).named["accuracy"]))
            there = ~at_places(method.targets(views[0]), predicted_places(views[0])).isnan().any(-1)  # [B, T]
            chance.append(float((there.sum(1) > 0).sum() / there.sum()))  # mean over hidden patches of 1 / their number in the word
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
        Arm("untrained, as long", None, WORDS, COMMON, "baseline", 120, (tuned_as_long,)),
    ),
    claims=(
        Claim("Fine-tuned with 100 labelled words, accuracy on the test words beats that of the same network from scratch.",
              "finetune", "joint", "untrained"),
        Claim("And from scratch for as long as pretraining and fine-tuning together.", "finetune", "joint", "untrained, as long"),
        Claim("It is at most two points below the discriminative objective alone.",
              "finetune", "joint", "discriminative", "not worse", 0.02),
        Claim("It is at most two points below the generative objective alone.", "finetune", "joint", "generative", "not worse", 0.02),
        Claim("Hidden patches are identified at least three times as often as by chance.", "accuracy", kind="across arms", margin=3.0,
              value=lambda arms: arms["joint"]["accuracy"] / arms["joint"]["chance"]),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="320 steps of 64 words, ViT 64 × 3 on patches of 8 bands × 40 ms, at most 60 s an arm on one core; 60 steps of fine-tuning on "
           "25 words, the same from scratch; from scratch, as long: 880 steps, as many words as pretraining and fine-tuning see, in at "
           "most 120 s",
    data="real",
    substitutions="Spoken digits (FSDD), 2,100 recordings to train on and 300 others of the same six speakers for testing (the usual "
                  "split), for AudioSet and LibriSpeech; a ViT of 64 × 3 for 768 × 12, patches of 8 × 4 for 16 × 16, 60 % hidden for 78 "
                  "%: the spectrograms are 48 frames long. 'No worse' is taken as two points.",
    omissions="None of the row's clauses.",
)
