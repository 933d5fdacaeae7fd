"""S005, TERA: who speaks and what is said, from frames put right after alteration along time, frequency and magnitude."""

from . import spoken  # noqa: F401  (its data)
from .proof import Arm, Claim, Proof

WORDS = "words-seen"
COMMON = {"backbone": "vit_tiny", "backbone.patch": (64, 2), "backbone.width": 64, "backbone.depth": 3, "backbone.heads": 4,
          "backbone.pool": "mean", "resolution": 48, "batch_size": 64}
STEPS = {**COMMON, "steps": 300, "method.masked": 0.15, "method.size": 4, "method.normalised": False}


def probes(trained) -> dict[str, float]:
    """digit, speaker: linear probes of the embeddings on recordings that were not trained on; raw_digit, raw_speaker: of the mean and
    deviation of every band."""
    import numpy as np

    from ..evaluation import linear_probe

    encoder, found = trained.run.encoder, {}
    raw = [np.concatenate([encoder.modality.raw(batch, encoder.preprocessing).numpy() for batch, _ in encoder.batches(source)])
           for source in (trained.train, trained.test)]
    for prefix, (x, test) in (("", (trained.features, encoder.embed(trained.test))), ("raw_", raw)):
        for what, labels in (("digit", "labels"), ("speaker", "groups")):
            y, answers = (np.asarray(getattr(source, labels)) for source in (trained.train, trained.test))
            found[prefix + what] = linear_probe(x, y, test, answers).value
    return found


def best_gain(arms) -> float:
    """The larger of the two gains of all three alterations over time alone."""
    return max(arms["time, frequency, magnitude"][k] - arms["time alone"][k] for k in ("digit", "speaker"))


PROOF = Proof(
    id="S005",
    statement="A Transformer that reconstructs altered frames tells digits and speakers apart linearly, better than the spectra's "
              "statistics and an untrained network; altering frequency and magnitude too helps for at least one of the two.",
    works_when="Frozen features beat log-mel and random-initialisation features in linear digit and speaker classification; time, "
               "frequency and "
               "magnitude together beat time alone on at least one of them.",
    arms=(
        Arm("time, frequency, magnitude", "tera", WORDS, STEPS, "subject", 60, (probes,)),
        Arm("time alone", "tera", WORDS, STEPS | {"method.frequency": 0.0, "method.magnitude": 0.0}, "ablation", 60, (probes,)),
        Arm("untrained", None, WORDS, COMMON, "baseline", 30, (probes,)),
    ),
    claims=(
        Claim("Digits: the linear probe beats the untrained network's.", "digit", "time, frequency, magnitude", "untrained"),
        Claim("Speakers: the linear probe beats the untrained network's.", "speaker", "time, frequency, magnitude", "untrained"),
        Claim("Digits: it beats the mean and deviation of every band.", "digit", kind="across arms",
              value=lambda arms: arms["time, frequency, magnitude"]["digit"] - arms["untrained"]["raw_digit"]),
        Claim("Speakers: it beats the mean and deviation of every band.", "speaker", kind="across arms",
              value=lambda arms: arms["time, frequency, magnitude"]["speaker"] - arms["untrained"]["raw_speaker"]),
        Claim("On digits or speakers all three alterations beat time alone.", "digit", kind="across arms", value=best_gain),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="300 steps of 64 words, ViT 64 × 3 on frames of 20 ms, at most 60 s an arm on one core; both TERA arms alike",
    data="real",
    substitutions="Spoken digits (FSDD): 2,100 recordings to train on, 300 others of the same six speakers for testing (the usual "
                  "split), for "
                  "LibriSpeech; frames of 20 ms in one token, spans of 4 of them for 7 of 10 ms; a pre-norm ViT of 64 × 3 without "
                  "dropout for 768 × 3.",
    omissions="Fine-tuning, phonemes and speech recognition are no clause of the row.",
)
