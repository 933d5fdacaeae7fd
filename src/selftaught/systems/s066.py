"""S066, SiT: a small Transformer that restored, turned and paired a few thousand images, fine-tuned on them, beats one from scratch."""

from .proof import Arm, Claim, Proof
from .s215 import VIT


def finetuned(trained, steps: int = 80) -> dict[str, float]:
    """finetuned: test accuracy of the whole network after `steps` of 256 on the labels of the items that it was pretrained on."""
    from ..protocols.baselines import Supervision
    from ..protocols.finetune import finetune

    budget = Supervision(steps=steps, passes=80)
    return {"finetuned": finetune(trained.run.encoder, trained.train, trained.test, seed=trained.seed, budget=budget).value}


def finetuned_as_long(trained) -> dict[str, float]:
    """finetuned: of as many views seen as by 240 steps of two views of 64 items and 80 of 256."""
    return finetuned(trained, steps=200)


KEY, SAME = "cifar10-2000", {"steps": 240, "batch_size": 64, **VIT}
NETWORK = {"batch_size": 64, **VIT, "backbone.pool": "mean"}
ALONE = {task: {f"method.{other}": False for other in ("reconstruction", "rotation", "contrast") if other != task}
         for task in ("reconstruction", "rotation", "contrast")}


def alone(task: str) -> Arm:
    return Arm(f"{task} alone", "sit", KEY, {**SAME, **ALONE[task]}, "ablation", 60, (finetuned,))


PROOF = Proof(
    id="S066",
    statement="A small Transformer pretrained by SiT's three tasks on 2,000 images is fine-tuned on the same images to several points "
              "more than from scratch, and no task alone does better.",
    works_when="On a few thousand images, fine-tuned on the same data, a small Transformer pretrained by SiT beats one from scratch by "
               "several points, and the three losses together are at least as good as each alone.",
    arms=(
        Arm("three tasks", "sit", KEY, SAME, "subject", 60, (finetuned,)),
        alone("reconstruction"), alone("rotation"), alone("contrast"),
        Arm("from scratch", None, KEY, NETWORK, "baseline", 45, (finetuned,)),
        Arm("from scratch, as long", None, KEY, NETWORK, "baseline", 60, (finetuned_as_long,)),
    ),
    claims=(
        Claim("Fine-tuned accuracy lies more than 3 points above that from scratch.", "finetuned", "three tasks", "from scratch",
              margin=0.03),
        Claim("And more than 3 points above that from scratch for as long as pretraining and fine-tuning together.", "finetuned",
              "three tasks", "from scratch, as long", margin=0.03),
        *(Claim(f"It is at most 1 point below that of {task} alone.", "finetuned", "three tasks", f"{task} alone", "not worse", 0.01)
          for task in ALONE),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="240 steps of 64 of 2,000 images of 32 × 32, a Transformer of 2 blocks of width 64 on 64 tokens; 80 steps of 256 labelled "
           "items for every fine-tuning, from scratch too; from scratch, as long: 200 steps of 256, as many views as pretraining, of two "
           "a step, and fine-tuning see; at most 60 s an arm on one core; the recipes of short runs, none tuned on these data",
    data="real",
    substitutions="The first 2,000 images of CIFAR-10. A Transformer of 2 blocks for ViT-B. Rotation and contrast read what is pooled, "
                  "not a token each; of the paper's distortions noise and another image's patches, not blur and grey.",
    omissions="None of the row's clauses. Linear probes and few-shot evaluation are of the mechanism, not a clause.",
)
