"""Networks: backbones for every modality, heads, memories, and the shared forward of several views."""

from . import convnet, dilated, mamba, points, resnet, table, text, unet, vit, voxels  # noqa: F401  (enter their backbones in the registry)
from .backbone import Backbone
from .bank import Bank, Partition
from .batchnorm import BatchNorm, convert_batch_norm, estimate_batch_norm
from .build import build_backbone
from .covariance import Covariance
from .frames import Frames
from .heads import DinoHead, Embedder, LinearHead, Mlp, Prototypes
from .memory import Centre, Memory, Queue, Teacher
from .shared_forward import ordered_pairs, over

__all__ = [
    "Backbone", "Bank", "BatchNorm", "Centre", "Covariance", "DinoHead", "Embedder", "Frames", "LinearHead", "Memory",
    "Mlp", "Partition", "Prototypes", "Queue", "Teacher", "build_backbone", "convert_batch_norm",
    "estimate_batch_norm", "ordered_pairs", "over",
]
