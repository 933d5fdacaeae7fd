"""Spoken digits (FSDD) for the proofs on sound: words by seen and unseen speakers, and utterances of many voices to be told apart."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from .arms import DATA, data_file

UNSEEN = ("theo", "yweweler")  # of six speakers, the last two by name: none of their recordings is trained on
SPEEDS = (0.8, 0.9, 1.0, 1.1, 1.2)  # a recording played at another speed counts as another voice, as in speaker recognition's recipes
WORDS = 4  # digits of an utterance, so that two windows of it say different things


@lru_cache(maxsize=1)
def recordings() -> list[tuple[int, str, int, np.ndarray]]:
    """(digit, speaker, number, float32 samples at 8 kHz) of all 3,000, by name."""
    import io
    import tarfile

    import soundfile

    found = []
    with tarfile.open(data_file("audio", "fsdd_flac.tar")) as archive:
        for member in archive.getmembers():
            if member.isfile() and member.name.endswith(".flac"):
                digit, speaker, number = member.name.rsplit("/", 1)[-1][:-5].split("_")
                samples = soundfile.read(io.BytesIO(archive.extractfile(member).read()), dtype="float32")[0]
                found.append((int(digit), speaker, int(number), samples))
    return sorted(found, key=lambda recording: recording[:3])


def words(rest: str) -> tuple[Any, Any]:
    """(train, test) of single digits, labelled by digit, grouped by speaker. "unseen": test are 500 of the two unseen speakers, train
    2,000 of the others; "seen": test are the first five recordings of every digit and speaker (the usual split), train the next 35."""
    if rest == "unseen":
        parts = [[r for r in recordings() if r[1] not in UNSEEN], [r for r in recordings() if r[1] in UNSEEN and r[2] % 2 == 0]]
    else:
        parts = [[r for r in recordings() if 5 <= r[2] < 40], [r for r in recordings() if r[2] < 5]]
    names = [str(digit) for digit in range(10)]
    return tuple(_source([r[3] for r in part], np.array([r[0] for r in part]), names, group=np.array([r[1] for r in part]))
                 for part in parts)


def usual(rest: str) -> tuple[Any, Any]:
    """What "seen" of `words` is, without groups: where test's speakers are those of training, neither the rows that a probe holds out nor
    the few labels are to be of speakers apart."""
    parts = words("seen")
    for part in parts:
        part.groups = None
    return parts


def voices(rest: str) -> tuple[Any, Any]:
    """(train, test) of utterances of four digits, labelled by voice: a speaker at one speed. `rest` utterances of each of 20 voices for
    training, 30 of each of the 10 voices of the unseen speakers for testing."""
    from ..sources.audio_decoding import resampled

    found = []
    for unseen, count in ((False, int(rest)), (True, 30)):
        clips, labels, names, rng = [], [], [], np.random.default_rng(int(unseen))
        for speaker in sorted({r[1] for r in recordings() if (r[1] in UNSEEN) == unseen}):
            own = [r[3] for r in recordings() if r[1] == speaker]
            for speed in SPEEDS:
                for _ in range(count):
                    spoken = np.concatenate([own[i] for i in rng.integers(0, len(own), WORDS)])
                    clips.append(resampled(spoken, round(8000 * speed), 8000))
                    labels.append(len(names))
                names.append(f"{speaker} at {speed}")
        found.append(_source(clips, np.array(labels), names))
    return tuple(found)


def _source(clips: list[np.ndarray], labels: np.ndarray, names: list[str], **more: np.ndarray) -> Any:
    from ..sources import open_source

    return open_source({"x": clips, "rate": 8000, "y": labels, "classes": names, **more}, modality="audio")


def equal_error(trained) -> dict[str, float]:
    """Of trials by cosine of test embeddings: eer, gap (mean score of one voice − of two), raw_eer (eer of the bands' means and deviations,
    standardised by train's)."""
    import torch

    from ..evaluation.verification import trial_list, verification

    def raw(source):
        encoder = trained.run.encoder
        return np.concatenate([encoder.modality.raw(batch, encoder.preprocessing).numpy() for batch, _ in encoder.batches(source)])

    z, y = trained.run.encoder.embed(trained.test), trained.test.labels
    known, asked = raw(trained.train), raw(trained.test)
    scaled = (asked - known.mean(0)) / known.std(0)
    unit = torch.nn.functional.normalize(torch.from_numpy(z), dim=1).numpy()
    a, b = trial_list(y)
    scores = (unit[a] * unit[b]).sum(1)
    same = y[a] == y[b]
    return {"eer": verification(z, y, resamples=2).value, "gap": float(scores[same].mean() - scores[~same].mean()),
            "raw_eer": verification(scaled, y, resamples=2).value}


DATA["words"] = words
DATA["spoken"] = usual
DATA["voices"] = voices


def tuned(trained, steps: int = 60) -> dict[str, float]:
    """finetune: accuracy on the test words of the network fine-tuned for `steps` of 25 with 100 labelled words, ten of a digit, whoever
    said them (a budget of labels would else be one of speakers)."""
    from ..evaluation import budget_indices
    from ..protocols.baselines import Supervision, labelled_subset
    from ..protocols.finetune import finetune

    part = labelled_subset(trained.train, budget_indices(trained.train.labels, 100, 0, trained.seed), trained.train.classes)
    budget = Supervision(steps=steps, passes=steps)
    return {"finetune": finetune(trained.run.encoder, part, trained.test, labels=1.0, seed=trained.seed, budget=budget).value}
