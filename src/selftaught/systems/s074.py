"""S074, frame projections: a series' values, Fourier coefficients and Gabor wavelets stand in for augmented views."""

from .arms import DATA, SMALL, data_file
from .proof import Arm, Claim, Proof

SETS = ("GunPoint", "JapaneseVowels", "PickupGestureWiimoteZ")
SPACES = ("values", "fourier", "frame")


def archive(name: str):
    """(train, test) of a data set of the UCR/UEA archive, its own split."""
    import numpy as np

    from ..sources import open_source

    z = np.load(data_file("timeseries", f"{name}.npz"))
    return tuple(open_source({"x": z[f"X_{part}"], "y": z[f"y_{part}"]}, layout="NCT") for part in ("train", "test"))


DATA["uea"] = archive


def prepare() -> None:
    """Frame projections without their idea: the spaces of different items are paired."""
    import torch

    from ..contracts import register
    from ..methods import FrameProjections

    @register("s074_unpaired")
    class Unpaired(FrameProjections):
        """The three representations of a row belong to different items, drawn anew at every step."""

        def paired(self, spaces):
            return [spaces[0], *(h[torch.randperm(len(h), device=h.device)] for h in spaces[1:])]


def single_spaces(trained) -> dict[str, float]:
    """linear_values, linear_fourier, linear_frame: linear probe on each space's own embedding; linear_all: on all three."""
    import numpy as np
    import torch

    from ..contracts import Features
    from ..encoder import Encoder
    from ..evaluation import linear_probe

    class Spaces(torch.nn.Module):
        def __init__(self, frames):
            super().__init__()
            self.frames, self.width = frames, frames.width

        def forward(self, x, lengths=None):
            return Features(torch.cat(self.frames.spaces(x, lengths), 1))

    encoder = Encoder(Spaces(trained.method().student.backbone), trained.run.encoder.preprocessing)
    parts = [np.split(encoder.embed(data), 3, axis=1) for data in (trained.train, trained.test)]
    probe = lambda a, b: linear_probe(a, trained.train.labels, b, trained.test.labels).value  # noqa: E731
    found = {f"linear_{name}": probe(a, b) for name, a, b in zip(("values", "fourier", "frame"), *parts)}
    return found | {"linear_all": probe(*(np.concatenate(p, 1) for p in parts))}


def second(differences) -> float:
    """The second largest of three: above zero where two of the sets agree."""
    return sorted(differences)[-2]


def above_simclr(arms) -> float:
    return second(arms[f"frames, {s}"]["linear"] - arms[f"simclr, {s}"]["linear"] for s in SETS)


def above_spaces(arms) -> float:
    """On each set, the smallest lead over the three single spaces."""
    return second(min(arms[f"frames, {s}"]["linear"] - arms[f"frames, {s}"][f"linear_{n}"] for n in SPACES) for s in SETS)


def above_unpaired(arms) -> float:
    return second(arms[f"frames, {s}"]["linear"] - arms[f"unpaired, {s}"]["linear"] for s in SETS)


SAME = {"steps": 300, "batch_size": 32, **SMALL}

PROOF = Proof(
    id="S074",
    statement="Without any augmentation, telling series apart by three representations of each gives a joint embedding better than "
              "augmentation-based SimCLR and than any one of the representations.",
    works_when="The linear probe on the joint embedding is above that of SimCLR with augmentations and the same encoder, and above "
               "each single space alone, on at least two of three sets of series.",
    arms=tuple(arm for s in SETS for arm in (
        Arm(f"frames, {s}", "frames", f"uea-{s}", SAME, "subject", 90, (single_spaces,)),
        Arm(f"simclr, {s}", "simclr", f"uea-{s}", SAME, "baseline", 90),
        Arm(f"untrained, {s}", None, f"uea-{s}", {"batch_size": 32, **SMALL}, "baseline", 20),
        Arm(f"unpaired, {s}", "s074_unpaired", f"uea-{s}", SAME, "ablation", 90),
    )),
    claims=(
        Claim("On at least two of three sets the joint embedding is above SimCLR with augmentations.", "linear",
              kind="across arms", value=above_simclr),
        Claim("On at least two of three sets it is above each single space alone.", "linear", kind="across arms", value=above_spaces),
        Claim("On at least two of three sets it is above the same with representations of different items paired.", "linear",
              kind="across arms", value=above_unpaired),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="300 steps of 32 series for every trained arm, ConvNet 32-64-128-128 as the encoder of the values, the recipe for short "
           "runs of each method, none tuned on these data; at most 90 s an arm on two cores",
    data="real",
    substitutions="Three sets of the UCR/UEA archive (gestures by motion capture, spoken vowels, gestures by accelerometer) with 50, "
                  "270 and 50 series to train on, for the paper's nine sets; a ConvNet for its residual network, an MLP for its "
                  "Fourier encoder, a 1-D ConvNet over bands for its two-dimensional one. The joint embedding is the paper's: that "
                  "of the values beside what the mappers make of it. A single space is that space's encoder of the same run.",
    omissions="None of the row's clauses. The three encoders' embeddings side by side (linear_all) and the untrained network are "
              "measured beside, without a claim.",
    prepare=prepare,
)
