"""The mathematics of the methods: pure functions of tensors, the same value on one process and on many.

Every function takes raw outputs and normalises where its authors do; half precision is raised to float32. On several
processes each returns the mean over its own samples against everything gathered (or the same global value everywhere), so
that the mean over processes is the one-process value, and the average of gradients the one-process gradient.
"""

from .assignment import cross_entropy_labelled, cross_entropy_soft, sinkhorn, swapped_prediction
from .contrastive import decoupled_contrastive, info_nce, nt_xent
from .gaussian import epps_pulley, random_directions, sigreg
from .graph import graph_nt_xent, graph_spectral, graph_vicreg, relations
from .instance import (
    decoupled_contrastive_weighted,
    leave_one_out,
    nearest,
    noise_contrastive,
    supervised_contrastive,
)
from .kernel_ssl import KernelFeatures, interplay_loss, kernel_ssl
from .masked import masked_mean, signal_error, token_error
from .redundancy import barlow_twins, vicreg, vicreg_terms, whitening_mse
from .sphere import koleo, negative_cosine
from .tico import tico
from .whitening import sliced_whitening_mse, whitened

__all__ = [
    "KernelFeatures", "barlow_twins", "cross_entropy_labelled", "cross_entropy_soft", "decoupled_contrastive",
    "decoupled_contrastive_weighted", "epps_pulley", "graph_nt_xent", "graph_spectral", "graph_vicreg", "info_nce",
    "interplay_loss", "kernel_ssl", "koleo", "leave_one_out", "masked_mean", "nearest", "negative_cosine", "noise_contrastive", "nt_xent",
    "random_directions", "relations", "sigreg", "signal_error", "sinkhorn", "sliced_whitening_mse", "supervised_contrastive",
    "swapped_prediction", "tico", "token_error", "vicreg", "vicreg_terms", "whitened", "whitening_mse",
]
