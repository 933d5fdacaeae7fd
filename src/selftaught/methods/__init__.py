"""Methods of self-supervised learning, a file each; importing this room enters them all in the registry."""

from .barlow_twins import BarlowTwins
from .base import Method
from .byol import BYOL
from .context import Context
from .dcl import DCL
from .deepcluster import DeepCluster
from .diet import DIET
from .dino import DINO
from .directpred import DirectPred
from .frames import FrameProjections
from .guided import GuidedSimCLR
from .jigsaw import Jigsaw
from .label_augmentation import LabelAugmentation
from .lejepa import LeJEPA
from .look import LOOK
from .lorot import LoRot
from .moco import MoCoV2, MoCoV3
from .msn import MSN
from .nnclr import NNCLR
from .npid import NPID
from .opera import OPERA
from .pal import PAL
from .pirl import PIRL
from .relational import Relational
from .rotation import Rotation
from .sie import SIE
from .simclr import SimCLR
from .simsiam import SimSiam
from .supcon import SupCon
from .supervised import Supervised
from .swav import SwAV
from .tico import TiCo
from .vicreg import VICReg
from .w_mse import WMSE

__all__ = [
    "BYOL", "BarlowTwins", "Context", "DCL", "DIET", "DINO", "DeepCluster", "DirectPred", "FrameProjections",
    "GuidedSimCLR", "Jigsaw", "LOOK", "LabelAugmentation", "LeJEPA", "LoRot", "MSN", "Method", "MoCoV2", "MoCoV3",
    "NNCLR", "NPID", "OPERA", "PAL", "PIRL", "Relational", "Rotation", "SIE", "SimCLR", "SimSiam", "SupCon",
    "Supervised", "SwAV", "TiCo", "VICReg", "WMSE",
]
