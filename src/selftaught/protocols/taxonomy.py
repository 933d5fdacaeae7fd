"""The taxonomy of the registered methods: families (Ozbulak et al., 2023), sources of negatives and pretexts (Jaiswal et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable

NEGATIVES = ("batch", "memory bank", "momentum queue", "clustering", "classifier", "none")
PRETEXTS = ("augmentation", "transformation", "context", "spaces", "labels")
TAXONOMY: dict[str, tuple[str, str]] = {
    "barlow_twins": ("none", "augmentation"), "byol": ("none", "augmentation"), "context": ("none", "context"),
    "dcl": ("batch", "augmentation"), "deepcluster": ("clustering", "augmentation"), "diet": ("classifier", "augmentation"),
    "dino": ("none", "augmentation"), "directpred": ("none", "augmentation"), "frames": ("batch", "spaces"),
    "g_simclr": ("batch", "augmentation"), "jigsaw": ("none", "context"),
    "label_augmentation": ("classifier", "transformation"), "lejepa": ("none", "augmentation"),
    "look": ("momentum queue", "labels"), "lorot": ("classifier", "transformation"),
    "moco_v2": ("momentum queue", "augmentation"), "moco_v3": ("batch", "augmentation"), "msn": ("clustering", "augmentation"),
    "nnclr": ("batch", "augmentation"), "npid": ("memory bank", "augmentation"), "opera": ("batch", "labels"),
    "pal": ("batch", "labels"), "pirl": ("memory bank", "context"), "relational": ("batch", "augmentation"),
    "rotation": ("none", "transformation"), "sie": ("none", "transformation"), "simclr": ("batch", "augmentation"),
    "simsiam": ("none", "augmentation"), "supcon": ("batch", "labels"), "supervised": ("classifier", "labels"),
    "swav": ("clustering", "augmentation"), "tico": ("none", "augmentation"), "vicreg": ("none", "augmentation"),
    "w_mse": ("none", "augmentation"),
    "data2vec": ("none", "context"), "data2vec2": ("none", "context"), "jepa": ("none", "context"), "mae": ("none", "context"),
    "simmim": ("none", "context"),
    "infomax_contrast": ("batch", "augmentation"), "simclr_am": ("batch", "augmentation"), "ssast": ("none", "context"),
    "tera": ("none", "context"),
    "asit": ("none", "context"), "atst_clip": ("none", "augmentation"), "atst_frame": ("none", "context"),
    "bootbert": ("none", "context"),
    "cae": ("none", "context"), "dbot": ("none", "context"), "dinov2": ("none", "augmentation"), "flexpredict": ("none", "context"),
    "lut": ("none", "context"), "mp3": ("none", "context"), "poa": ("none", "augmentation"),
    "sit": ("batch", "context"), "statistics": ("none", "context"), "tjepa": ("none", "context"),
    "udi": ("none", "augmentation"),
}
"""Registered name → source of the negatives, pretext. Negatives are other items that a loss pushes away: of the batch, of a memory
bank with a row an item, of a queue that a momentum encoder fills, the items of other clusters, the other rows of a classifier's
weights; none where statistics, a teacher or the pretext itself keep items apart. Pretext: agreeing under augmentation (colour,
geometry, noise), telling or following a known transformation, the context of patches, several spaces or modalities of one item, or
labels, where the method reads them."""
UNTAGGED = ("untagged", "untagged")
FOUR = ("simclr", "npid", "moco_v2", "swav")
"""One method for each of the survey's four sources of negatives; see `by`."""


def tags(method: str) -> tuple[str, str]:
    """(source of negatives, pretext) of a registered method; 'untagged' twice where the taxonomy does not know it."""
    return TAXONOMY.get(method, UNTAGGED)


FAMILIES: dict[str, tuple[str, ...]] = {
    "contrastive": ("simclr", "dcl", "frames", "g_simclr", "infomax_contrast", "moco_v2", "moco_v3", "nnclr", "npid", "pirl",
                    "simclr_am"),
    "clustering": ("swav", "deepcluster", "msn"),
    "distillation": ("byol", "atst_clip", "dino", "dinov2", "directpred", "poa", "simsiam", "udi"),
    "information maximisation": ("vicreg", "barlow_twins", "lejepa", "tico", "w_mse"),
    "masked modelling": ("mae", "asit", "atst_frame", "bootbert", "cae", "data2vec", "data2vec2", "dbot", "flexpredict", "jepa",
                         "lut", "simmim", "sit", "ssast", "tera", "tjepa"),
    "pretext": ("rotation", "context", "diet", "jigsaw", "mp3", "relational", "sie", "statistics"),
    "with labels": ("supervised", "label_augmentation", "look", "lorot", "opera", "pal", "supcon"),
}
"""Family → methods, the one that stands for it first."""


def family(method: str) -> str:
    """Of a registered method; 'untagged' where the taxonomy does not know it."""
    return next((name for name, methods in FAMILIES.items() if method in methods), UNTAGGED[0])


WAYS: dict[str, tuple[Callable[[str], str], tuple[str, ...], tuple[str, ...]]] = {
    "negatives": (lambda n: tags(n)[0], NEGATIVES, FOUR),
    "pretext": (lambda n: tags(n)[1], PRETEXTS, ()),
    "family": (family, tuple(FAMILIES), tuple(methods[0] for methods in FAMILIES.values())),
}
"""Ways to order a comparison: the tag of a method, the tags in their order, and who stands for all where nobody is named."""
