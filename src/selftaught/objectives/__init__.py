"""The mathematics of the methods: pure functions of tensors, the same value on one process and on many.

Every function takes raw outputs and normalises where its authors do; half precision is raised to float32. On several
processes each returns the mean over its own samples against everything gathered (or the same global value everywhere), so
that the mean over processes is the one-process value, and the average of gradients the one-process gradient.
"""

from .assignment import cross_entropy_labelled, cross_entropy_soft, sinkhorn, swapped_prediction
from .contrastive import decoupled_contrastive, info_nce, nt_xent
from .redundancy import barlow_twins, vicreg, vicreg_terms, whitening_mse
from .sphere import koleo, negative_cosine

__all__ = [
    "barlow_twins", "cross_entropy_labelled", "cross_entropy_soft", "decoupled_contrastive", "info_nce", "koleo",
    "negative_cosine", "nt_xent", "sinkhorn", "swapped_prediction", "vicreg", "vicreg_terms", "whitening_mse",
]
