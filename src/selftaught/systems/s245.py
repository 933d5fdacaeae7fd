"""S245, lightweight Transformers with MAE: one that also attends as a larger one does is better to fine-tune."""

from .proof import Arm, Claim, Proof

DATA = "cifar10-5000"
COMMON = {"backbone": "vit_tiny", "backbone.patch": 4, "backbone.pool": "mean", "batch_size": 64}
TINY = {**COMMON, "backbone.width": 48, "backbone.depth": 4, "backbone.heads": 3}


def prepare() -> None:
    """MAE with the authors' distillation, and the same without it."""
    import copy
    import tempfile
    from functools import lru_cache
    from pathlib import Path

    import torch
    from torch import nn

    from ..contracts import Terms, register
    from ..methods import MAE
    from ..networks.attention import attention_maps, weights
    from ..networks.decoder import encode_visible
    from ..stages import pretrain
    from .arms import proof_data

    @lru_cache(maxsize=1)
    def teacher():
        """The backbone of a larger MAE of the same data, trained once for all seeds, frozen."""
        larger = {**COMMON, "backbone.width": 128, "backbone.depth": 4, "backbone.heads": 4, "steps": 200, "seed": 245, "device": "cpu"}
        with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=()):  # whoever asks first draws no other numbers
            run = pretrain(proof_data(DATA)[0], method="mae", out=Path(folder, "run"), progress=False, **larger)
            return run.encoder.backbone.requires_grad_(False)

    @register("s245_distilled")
    class Distilled(MAE):
        """loss = MAE's + ‖c(A) − Ā‖² / ‖Ā − mean Ā‖²: A, Ā attention of the last block of student and teacher over the visible tokens, c a
        1 × 1 convolution from the student's heads to the teacher's."""

        distilled = True

        @classmethod
        def build(cls, backbone, facts, **options):
            method = super().build(backbone, facts, **options)
            method.teacher = copy.deepcopy(teacher())
            heads = [network.transformer.blocks[-1].heads for network in (backbone, method.teacher)]
            method.heads = nn.Conv2d(*heads, 1, bias=False)
            return method

        def loss(self, views, batch):
            (view,) = views
            block, maps = self.student.backbone.transformer.blocks[-1], []
            handle = block.register_forward_hook(lambda block, inputs, output: maps.append(weights(block, *inputs)))
            encoded = encode_visible(self.student.backbone, view)
            handle.remove()
            reconstruction = self.reconstruction(view, encoded)
            if not self.distilled:
                return reconstruction
            target = attention_maps(self.teacher, view.x, layers=(-1,), keep=view.applied["keep"][0])[0]
            error = (self.heads(maps[0]) - target).square().mean() / target.var()
            return Terms(reconstruction + error, reconstruction=reconstruction, attention=error)

    @register("s245_plain")
    class Plain(Distilled):
        """MAE alone, everything else the same."""

        distilled = False


def tuned(trained, steps: int = 80) -> dict[str, float]:
    """finetune: accuracy of the network fine-tuned with 500 labels, `steps` of 125."""
    from ..protocols.baselines import Supervision
    from ..protocols.finetune import finetune

    budget = Supervision(steps=steps, passes=100)
    return {"finetune": finetune(trained.run.encoder, trained.train, trained.test, labels=500, seed=trained.seed, budget=budget).value}


def tuned_as_long(trained) -> dict[str, float]:
    """finetune: of as many images seen as by 270 steps of 64 and 80 of 125."""
    return tuned(trained, steps=219)


def alike(trained) -> dict[str, float]:
    """cka: linear CKA of the upper two blocks with the teacher's upper two, mean of the four, over the mean tokens of 1,000 test images."""
    import numpy as np
    import torch

    from ..contracts import Clean
    from ..evaluation import cka_matrix
    from ..sources import subset

    encoder, larger, found = trained.run.encoder, trained.method().teacher, ([], [])
    views = encoder.modality.views(Clean(), encoder.preprocessing)
    with torch.no_grad():
        for batch, _ in encoder.batches(subset(trained.test, np.arange(1000))):
            x = views(batch, batch.draws(0, "alike"))[0].x
            for network, layers in zip((encoder.backbone, larger), found):
                layers.append([layer.mean(1).numpy() for layer in network(x, layers=(-2, -1)).layers])
    ours, theirs = ([np.concatenate(parts) for parts in zip(*layers)] for layers in found)
    return {"cka": float(cka_matrix(ours, theirs).mean())}


PROOF = Proof(
    id="S245",
    statement="MAE improves the fine-tuning of a lightweight Transformer, distilling a larger one's attention meanwhile improves it "
              "further, and makes its upper layers more like the larger one's.",
    works_when="Accuracy after fine-tuning rises from random initialisation to MAE to MAE with attention distillation; the CKA of the "
               "upper layers with the teacher's is higher with distillation than without.",
    arms=(
        Arm("distilled", "s245_distilled", DATA, TINY | {"steps": 270}, "subject", 120, (tuned, alike)),
        Arm("plain", "s245_plain", DATA, TINY | {"steps": 270}, "ablation", 60, (tuned, alike)),
        Arm("from scratch", None, DATA, TINY, "baseline", 60, (tuned,)),
        Arm("from scratch, as long", None, DATA, TINY, "baseline", 60, (tuned_as_long,)),
    ),
    claims=(
        Claim("Fine-tuned, MAE beats the same network from scratch.", "finetune", "plain", "from scratch"),
        Claim("And the same from scratch for as long as pretraining and fine-tuning together.", "finetune", "plain",
              "from scratch, as long"),
        Claim("Fine-tuned, MAE with attention distillation beats MAE.", "finetune", "distilled", "plain"),
        Claim("The upper layers' CKA with the teacher's is higher with distillation.", "cka", "distilled", "plain"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="270 steps of 64 images of 32 × 32, a Transformer of 4 blocks of width 48 with 3 heads; the teacher of 4 blocks of width 128 "
           "with 4 heads, trained once, for 200 steps, within the first arm that asks for it; 80 steps of 125 on 500 labels, from "
           "scratch, as long, 219, as many images as pretraining and fine-tuning see; at most 60 s an arm on one core beyond the teacher;"
           " the recipe of short runs, none tuned on these data",
    data="real",
    substitutions="5,000 images of CIFAR-10; widths of 48 and 128 for ViT-Tiny and MAE-Base. The error of the attention is in units of "
                  "the variance of the teacher's maps, as that of the signal is in units of a token's, for the authors' mean square of "
                  "weight one, which 270 steps would not feel beside it.",
    omissions="MoCo-v3, DINO and the supervised networks that the paper compares, which no clause of the row names.",
    prepare=prepare,
)
