"""S374, HEP-JEPA: jets as sets of particles, and what a teacher makes of some groups of them is predicted from others."""

import numpy as np

from .proof import DATA, Arm, Claim, Proof


def prepare() -> None:
    """The joint-embedding predictive architecture without its idea: what is predicted is what the teacher makes of another jet."""
    from ..contracts import register
    from ..methods import JEPA

    @register("s374_shuffled")
    class Shuffled(JEPA):
        """JEPA whose targets move one place on in the batch."""

        def targets(self, view):
            return super().targets(view).roll(1, 0)


def jets(rest: str):
    """(train, test): `rest` and 1,500 toy jets of 16 to 48 particles: of a top quark (three prongs) or of a light quark or gluon (one,
    at times two unequal ones, and wide soft radiation). Particles are places Δη, Δφ, 0 about the jet's axis, with the logarithm of their
    share of its momentum, their distance from the axis and a charge that tells nothing."""
    from ..sources.points import PointsArrays

    def jet(top, rng):
        if top:  # two prongs of a W boson and one opposite, nearer together the larger the boost
            size, share = rng.uniform(0.15, 0.5), rng.dirichlet([3.0, 3.0, 3.0])
            angle = rng.uniform(0, 2 * np.pi) + np.array([0.0, rng.uniform(1.2, 2.2), rng.uniform(3.4, 4.6)])
            places = size * np.stack([np.cos(angle), np.sin(angle)], 1) * rng.uniform(0.6, 1.2, (3, 1))
        else:
            two, soft = rng.random() < 0.5, rng.uniform(0.05, 0.4)
            share = np.array([1 - soft, soft]) if two else np.array([1.0])
            places = np.zeros((len(share), 2))
            places[1:] = rng.normal(0, 1, (len(share) - 1, 2)) * 10 ** rng.uniform(-1.3, -0.2)
        count = rng.integers(16, 49)
        prong = rng.choice(len(share), count, p=0.3 / len(share) + 0.7 * share)
        part = rng.dirichlet(np.full(count, 0.5)) * share[prong] + 1e-6
        part /= part.sum()
        at = places[prong] + rng.normal(0, 0.06, (count, 2)) * np.minimum(1.0 / np.sqrt(part * count + 0.1), 3.0)[:, None]
        wide = rng.random(count) < 0.1
        at[wide] += rng.normal(0, 0.3, (int(wide.sum()), 2))
        at -= part @ at
        return np.column_stack([at, np.zeros(count), np.log(part), np.hypot(*at.T), rng.integers(-1, 2, count)])

    def made(count, seed):
        rng, y = np.random.default_rng([374, seed]), np.arange(count) % 2
        return PointsArrays([jet(top, rng).astype(np.float32) for top in y], y=y, origin=f"jets {seed}")

    return made(int(rest), 0), made(1500, 1)


DATA["jets"] = jets


def tagged(trained) -> dict[str, float]:
    """auc, rejection: of top jets against others after fine-tuning the whole network on 60 labels; rejection is the logarithm to base 10
    of one over the share of other jets that pass where half of the top jets do."""
    import torch

    from ..evaluation import auc, budget_indices
    from ..protocols.baselines import Supervision, labelled_subset, train_supervised

    encoder, train, test = trained.run.encoder, trained.train, trained.test
    state = {k: v.clone() for k, v in encoder.backbone.state_dict().items()}
    part = labelled_subset(train, budget_indices(train.labels, 60, trained.seed, trained.seed), train.classes)
    tuned, method = train_supervised(encoder, part, seed=trained.seed, budget=Supervision(steps=120, passes=120),
                                     initialise=lambda backbone: backbone.load_state_dict(state))
    with torch.no_grad():
        outputs = method.student.head.eval()(torch.from_numpy(tuned.embed(test)))
    scores, top = (outputs[:, 1] - outputs[:, 0]).numpy(), test.labels == 1
    passed = max(int((scores[~top] >= np.median(scores[top])).sum()), 1)
    return {"auc": auc(scores, top).value, "rejection": float(np.log10((~top).sum() / passed))}


DATA_KEY = "jets-2400"
NETWORK = {"backbone": "point_transformer", "backbone.width": 64, "backbone.depth": 3, "backbone.groups": 16, "backbone.size": 8,
           "batch_size": 64}
RUN = {**NETWORK, "steps": 250}

PROOF = Proof(
    id="S374",
    statement="Predicting a teacher's embeddings of some particles of a jet from others makes a tagger that needs fewer labels.",
    works_when="On simulated jets with few labels the area under the curve and the rejection of other jets are higher after "
               "pretraining and fine-tuning than for the same model from scratch, and the embeddings do not collapse over the samples.",
    arms=(
        Arm("jepa", "jepa", DATA_KEY, RUN, "subject", 60, (tagged,)),
        Arm("from scratch", None, DATA_KEY, NETWORK, "baseline", 45, (tagged,)),
        Arm("targets of other jets", "s374_shuffled", DATA_KEY, RUN, "ablation", 60, (tagged,)),
    ),
    claims=(
        Claim("Fine-tuned on 60 labels its area under the curve is larger than from scratch.", "auc", "jepa", "from scratch"),
        Claim("At half of the top jets it rejects more of the others.", "rejection", "jepa", "from scratch"),
        Claim("The embeddings do not collapse: their spread is more than a tenth of an even one.", "spread", "jepa", kind="threshold",
              margin=0.1),
        Claim("With targets of other jets the area under the curve is smaller.", "auc", "targets of other jets", "jepa", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="250 steps of 64 jets of at most 48 particles, a Transformer of 3 blocks, 64 wide, over 16 groups of 8; 120 steps on 60 labels "
           "for every fine-tuning; at most 60 s an arm on one core, rates those of the recipe for short runs of I-JEPA",
    data="synthetic",
    substitutions="Toy jets of one to three prongs for JetClass and the top-tagging set; momentum share, distance from the axis and a "
                  "charge for kinematics and particle types; a small network, for whose short runs the recipe has two larger blocks of "
                  "targets, of groups near each other.",
    omissions="Quark against gluon and the ten classes of JetClass: the row's clauses are of one tagging task.",
    prepare=prepare,
)
