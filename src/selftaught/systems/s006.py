"""S006, LUT: an autoencoder whose visible tokens also learn what the whole of another view is looks further and tells more."""

from .proof import Arm, Claim, Proof
from .s215 import VIT


def looks(trained) -> dict[str, float]:
    """distance: how far tokens attend, in tokens, mean over layers and heads, on 200 test items."""
    import numpy as np
    import torch

    from ..contracts import Clean
    from ..evaluation.attention import attention_distance

    encoder, maps = trained.run.encoder, []

    def seen(block, inputs, output):
        x = block.norm1(inputs[0])
        q, k, _ = block.qkv(x).unflatten(-1, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
        maps.append((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1))

    handles = [block.register_forward_hook(seen) for block in encoder.backbone.transformer.blocks]
    batch = next(encoder.batches(trained.test, batch_size=200))[0]
    view = encoder.modality.views(Clean(), encoder.preprocessing)(batch, batch.draws(0, "attention"))[0]
    with torch.no_grad():
        encoder.backbone.eval()(view.x, lengths=view.lengths)
    for handle in handles:
        handle.remove()
    return {"distance": float(np.mean(attention_distance(maps, encoder.backbone.grid(view.x.shape))))}


DATA, SAME = "moved-digits", {"steps": 240, "batch_size": 64, **VIT}

PROOF = Proof(
    id="S006",
    statement="With the broader context for what is visible, a masked autoencoder's features tell more, have a higher rank, "
              "and its attention reaches further.",
    works_when="At equal steps the linear and k-NN probes with the loss on visible tokens are above plain MAE's with the same "
               "network, and mean attention distance and effective rank of the features are larger.",
    arms=(
        Arm("lut", "lut", DATA, SAME, "subject", 60, (looks,)),
        Arm("mae", "mae", DATA, SAME, "baseline", 60, (looks,)),
        Arm("no context", "lut", DATA, {**SAME, "method.context": 0.0}, "ablation", 60, (looks,)),
        Arm("untrained", None, DATA, {**VIT, "backbone.pool": "mean"}, "baseline", 20),
    ),
    claims=(
        Claim("The linear probe lies above MAE's.", "linear", "lut", "mae"),
        Claim("k-NN lies above MAE's.", "knn", "lut", "mae"),
        Claim("The effective rank of the features is larger.", "rankme", "lut", "mae"),
        Claim("Tokens attend further.", "distance", "lut", "mae"),
        Claim("Without the loss on visible tokens, views the same, the linear probe is lower.", "linear", "no context", "lut", "smaller"),
    ),
    seeds=(0, 1, 2, 3, 4),
    budget="240 steps of 64 items of 20 × 20 (two views each for LUT), a Transformer of 2 blocks of width 64 on 25 tokens, at "
           "most 60 s an arm on one core; the recipe of short runs, w = .25 as in the paper, none tuned on these data",
    data="real",
    substitutions="Moved digits for CIFAR-10 or STL-10; a small Transformer for ViT-B.",
    omissions="None of the row's clauses.",
)
