"""Methods of self-supervised learning, a file each; importing this room enters them all in the registry."""

from .barlow_twins import BarlowTwins
from .base import Method
from .byol import BYOL
from .context import Context
from .data2vec import Data2Vec, Data2Vec2
from .dcl import DCL
from .deepcluster import DeepCluster
from .diet import DIET
from .dino import DINO
from .directpred import DirectPred
from .frames import FrameProjections
from .guided import GuidedSimCLR
from .jepa import JEPA
from .jigsaw import Jigsaw
from .label_augmentation import LabelAugmentation
from .lejepa import LeJEPA
from .look import LOOK
from .lorot import LoRot
from .mae import MAE
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
from .simmim import SimMIM
from .simsiam import SimSiam
from .supcon import SupCon
from .supervised import Supervised
from .swav import SwAV
from .tico import TiCo
from .vicreg import VICReg
from .w_mse import WMSE

__all__ = [
    "BYOL", "BarlowTwins", "Context", "DCL", "DIET", "DINO", "Data2Vec", "Data2Vec2", "DeepCluster", "DirectPred", "FrameProjections",
    "GuidedSimCLR", "JEPA", "Jigsaw", "LOOK", "LabelAugmentation", "LeJEPA", "LoRot", "MAE", "MSN", "Method", "MoCoV2", "MoCoV3",
    "NNCLR", "NPID", "OPERA", "PAL", "PIRL", "Relational", "Rotation", "SIE", "SimCLR", "SimMIM", "SimSiam", "SupCon",
    "Supervised", "SwAV", "TiCo", "VICReg", "WMSE",
]
