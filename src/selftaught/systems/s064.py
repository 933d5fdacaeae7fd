"""S064, self-supervision of videos analysed: methods, sizes and noise in one table, and a student of two teachers."""

import numpy as np

from .arms import DATA
from .proof import Arm, Claim, Proof
from .s036 import NETWORK, clips

METHODS = {"simclr": 32, "vicreg": 32, "rotation": 16, "statistics": 64}
"""Method → clips a step, so that each sees 64 views: two of a clip, two, all four turns in space and time, one."""
SIZES = (100, 400, 1600)
TARGET = "acts-800-800"
SAME = {**NETWORK, "steps": 90}


def noisy(rest: str):
    """Clips of S036 of which three tenths of the values of the training part are black or white."""
    from ..sources import open_source
    from .s036 import acts

    n = int(rest.partition("-")[0])
    (x, y), rng = clips(n, "train"), np.random.default_rng(64)
    x = np.where(rng.random(x.shape) < 0.3, 255 * rng.integers(0, 2, x.shape), x).astype(np.uint8)
    return open_source({"x": x, "y": y}, layout="NTHWC"), acts(rest)[1]


DATA["noisyacts"] = noisy


def target(trained) -> dict[str, float]:
    """target: accuracy of a linear probe on the clean labelled clips that all encoders are judged on."""
    from ..evaluation import linear_probe
    from .arms import proof_data

    encoder, (train, test) = trained.run.encoder, proof_data(TARGET)
    return {"target": linear_probe(encoder.embed(train), train.labels, encoder.embed(test), test.labels).value}


def student(trained, contrast: bool = False) -> dict[str, float]:
    """target: that of a new network which learned, in as many steps as a teacher and from the same clips, to give the features of its
    teachers: the arm's network and, with `contrast`, the SimCLR of the table, trained beside it.

    loss = Σ over teachers k of mean (W_k f(x) − (t_k(x) − μ_k) / σ_k)²,  μ_k and σ_k over the training clips
    """
    import tempfile
    from pathlib import Path

    import torch
    from torch import nn

    from ..contracts import Single, Training
    from ..encoder import Encoder
    from ..evaluation import linear_probe
    from ..methods.base import Method
    from ..networks import Embedder
    from ..plan import make_plan
    from ..stages import pretrain
    from ..training import fit
    from .arms import proof_data

    teachers, same = [trained.run.encoder], {"steps": trained.plan["steps"], "seed": trained.seed, "device": "cpu", "num_workers": 0,
                                             "backbone": "convnet", "backbone.widths": trained.plan.nested["backbone"]["widths"]}
    if contrast:
        with tempfile.TemporaryDirectory() as folder:
            other = {**same, "method": "simclr", "batch_size": 32, "stop_on_collapse": False}
            teachers.append(pretrain(trained.train, out=Path(folder, "run"), progress=False, **other).encoder)
    scales = [(z.mean(0), z.std(0) + 1e-4) for z in (torch.from_numpy(t.embed(trained.train)) for t in teachers)]

    class Student(Method):
        """Features of several networks, from one."""

        name = "s064_student"
        needs = Single(strength="weak")
        defaults = Training(optimizer="adamw", lr=2e-3, scale_lr="sqrt", weight_decay=1e-4)

        def __init__(self, backbone):
            super().__init__()
            self.student = Embedder(backbone)
            self.heads = nn.ModuleList(nn.Linear(backbone.width, len(mean)) for mean, _ in scales)

        def loss(self, views, batch):
            z = self.student(views[0])
            with torch.no_grad():
                known = [(t.backbone.eval()(views[0].x).pooled - mean) / std for t, (mean, std) in zip(teachers, scales)]
            return sum((head(z) - t).square().mean() for head, t in zip(self.heads, known))

    asked = {**same, "method": Student, "batch_size": 64, "stop_on_collapse": False}
    plan = make_plan(trained.train, asked, preprocessing=trained.plan.preprocessing)
    stream, method = plan.stream(trained.train), plan.build_method()
    fit(method, stream, plan.training(), plan.settings(progress=False))
    encoder = Encoder(method.kept(), plan.preprocessing, backbone_name=plan["backbone"], backbone_options=plan.nested["backbone"])
    train, test = proof_data(TARGET)
    return {"target": linear_probe(encoder.embed(train), train.labels, encoder.embed(test), test.labels).value}


def student_of_two(trained) -> dict[str, float]:
    """target: of the student of the arm's network and of SimCLR."""
    return student(trained, contrast=True)


def cells(arms) -> float:
    """How many cells of the table hold a number."""
    table = [arms[f"{method}, {column}"]["target"] for method in METHODS for column in (*SIZES, "noise")]
    return float(np.isfinite(table).sum())


def rises(arms) -> tuple[float, ...]:
    """What each method gains from the least to the most clips."""
    return tuple(arms[f"{method}, {SIZES[-1]}"]["target"] - arms[f"{method}, {SIZES[0]}"]["target"] for method in METHODS)


def noise(arms) -> float:
    """Mean over methods of what noise changes."""
    return float(np.mean([arms[f"{method}, noise"]["target"] - arms[f"{method}, {SIZES[-1]}"]["target"] for method in METHODS]))


def learned(arms) -> float:
    """Mean over methods at the most clips, less the untrained network."""
    return float(np.mean([arms[f"{method}, {SIZES[-1]}"]["target"] for method in METHODS])) - arms["untrained"]["target"]


def arm(method: str, column: int | str) -> Arm:
    data = f"noisyacts-{SIZES[-1]}-100" if column == "noise" else f"acts-{column}-100"
    options = {**SAME, "batch_size": METHODS[method]}
    return Arm(f"{method}, {column}", method, data, options, "control" if column == "noise" else "subject", 40, (target,), (TARGET,))


MOST = f"acts-{SIZES[-1]}-100"
PROOF = Proof(
    id="S064",
    statement="One command, `selftaught prove S064`, compares four methods of self-supervision on clips over sizes of the pretraining set "
              "and noise in it; and a student of two of the networks is better than either.",
    works_when="One command fills the table of methods and axes; accuracy rises, weakly, with the size of the pretraining set for most "
               "methods, noise lowers it, and the student distilled from two teachers beats either on the target at equal data.",
    arms=(
        *(arm(method, column) for method in METHODS for column in (*SIZES, "noise")),
        Arm("student of two", "statistics", MOST, {**SAME, "batch_size": 64}, "subject", 90, (student_of_two,), (TARGET,)),
        Arm("student of statistics", "statistics", MOST, {**SAME, "batch_size": 64}, "ablation", 60, (student,), (TARGET,)),
        Arm("student of simclr", "simclr", MOST, {**SAME, "batch_size": 32}, "ablation", 60, (student,), (TARGET,)),
        Arm("untrained", None, MOST, NETWORK, "baseline", 30, (target,), (TARGET,)),
    ),
    claims=(
        Claim("One command fills the table, as the row asks: every cell of four methods by three sizes and noise holds a number, which "
              "fails by a crash or a divergence alone.", "target", kind="across arms", value=cells, margin=15.5),
        Claim("The mean over methods at 1,600 clips lies above the untrained network.", "target", kind="across arms", value=learned),
        Claim("From 100 to 1,600 clips three of the four methods rise, or fall by less than a point.", "target", kind="across arms",
              value=rises, margin=-0.01, least=3),
        Claim("Noise in the clips lowers the mean over methods.", "target", kind="across arms", direction="smaller", value=noise),
        Claim("The student of two beats the teacher that predicts statistics.", "target", "student of two", f"statistics, {SIZES[-1]}"),
        Claim("And the teacher that contrasts.", "target", "student of two", f"simclr, {SIZES[-1]}"),
        *(Claim(f"And the student of {one} alone, which learned as long from the same clips.", "target", "student of two",
                f"student of {one}") for one in ("statistics", "simclr")),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="90 steps of 64 views of clips of 8 × 20 × 20 in colour for every method, a 3-D ConvNet of widths 16-32-64-64, a "
           "linear probe on 800 clean labelled clips; 90 steps of 64 clips for every student; at most 40 s a cell and 90 s a "
           "student on one core; every method by the recipe for short runs that it ships with",
    data="synthetic",
    substitutions="Synthetic motion of real handwritten digits (S036's clips) for Kinetics and UCF101. Contrast, variance and covariance, "
                  "turns in space and time, and statistics of motion and appearance stand for the paper's six methods; sizes from 100 to "
                  "1,600 clips; salt and pepper for its kinds of noise. The student learns the features of both teachers, each "
                  "standardised, in as many steps as they had; its teachers were chosen beforehand, an invariance and a pretext of motion.",
    omissions="Axes of the paper that the row's clauses do not name: size of the model, shift of the distribution, overlap of features.",
)
