"""S302, speakers told apart by information maximisation and contrast: together no worse than either, and a help where labels are few."""

from .proof import Arm, Claim, Proof
from .spoken import equal_error

VOICES = "voices-60"
COMMON = {"resolution": 48, "batch_size": 128, "backbone.widths": (16, 32, 64, 128)}
STEPS = {**COMMON, "steps": 90}


def few_labels(trained) -> dict[str, float]:
    """Error on the unseen voices after 50 supervised steps on 5 labelled utterances of every voice of train: tuned_eer from the encoder's
    weights, scratch_eer from new ones."""
    from ..evaluation import budget_indices
    from ..evaluation.verification import verification
    from ..protocols.baselines import Supervision, labelled_subset, train_supervised

    encoder, train = trained.run.encoder, trained.train
    part = labelled_subset(train, budget_indices(train.labels, 100, 0, trained.seed, None), train.classes)
    state, found = {k: v.clone() for k, v in encoder.backbone.state_dict().items()}, {}
    for name, start in (("tuned_eer", lambda backbone: backbone.load_state_dict(state)), ("scratch_eer", None)):
        tuned, _ = train_supervised(encoder, part, seed=trained.seed, budget=Supervision(steps=50, passes=100), initialise=start)
        found[name] = verification(tuned.embed(trained.test), trained.test.labels, resamples=2).value
    return found


def worst_lead(arms) -> float:
    """By how much the combined loss errs more than the better of its two parts."""
    return arms["both"]["eer"] - min(arms["contrast alone"]["eer"], arms["information alone"]["eer"])


PROOF = Proof(
    id="S302",
    statement="Information maximisation with contrast tells voices apart that it never heard, no worse than either of the two alone, and "
              "makes a few labelled utterances go further.",
    works_when="The equal error rate on trials of unseen speakers lies below that of the untrained network and of the spectra's "
               "statistics; "
               "the combined loss is not worse than either alone over seeds; few-label fine-tuning beats supervised training on the same "
               "labels.",
    arms=(
        Arm("both", "infomax_contrast", VOICES, STEPS, "subject", 60, (equal_error, few_labels)),
        Arm("contrast alone", "infomax_contrast", VOICES, STEPS | {"method.weight": 0.0}, "ablation", 60, (equal_error,)),
        Arm("information alone", "infomax_contrast", VOICES, STEPS | {"method.contrast": 0.0}, "ablation", 60, (equal_error,)),
        Arm("untrained", None, VOICES, COMMON, "baseline", 20, (equal_error,)),
    ),
    claims=(
        Claim("The equal error rate lies below that of the untrained network.", "eer", "both", "untrained", "smaller"),
        Claim("The equal error rate lies below that of the mean and deviation of every band.", "eer", kind="across arms",
              direction="smaller", value=lambda arms: arms["both"]["eer"] - arms["both"]["raw_eer"]),
        Claim("It lies at most one point above that of the better of the two losses alone.", "eer", kind="across arms",
              direction="smaller", margin=0.01, value=worst_lead),
        Claim("After fine-tuning with 5 labelled utterances a voice it lies below that of supervised training on these alone.", "tuned_eer",
              kind="across arms", direction="smaller", value=lambda arms: arms["both"]["tuned_eer"] - arms["both"]["scratch_eer"]),
    ),
    seeds=(0, 1, 2),
    budget="90 steps of 128 utterances, windows of 0.48 s, ConvNet 16-32-64-128, at most 60 s an arm on one core; 50 supervised steps "
           "either way",
    data="real",
    substitutions="Utterances of four spoken digits (FSDD) of four speakers for VoxCeleb, two other speakers for testing, each at five "
                  "speeds that count as voices: 20 to train on, 10 unseen. Random windows for crops that do not overlap, noise of any "
                  "colour for MUSAN, no room responses; a ConvNet with mean pooling for Thin-ResNet34 with attention; log-mel "
                  "means and deviations for MFCC statistics. 'Not worse' is taken as one point.",
    omissions="minDCF is measured in the same breath but no clause asks for it. Barlow Twins as the information term is an option, not "
              "an arm.",
)
