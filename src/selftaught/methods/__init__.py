"""Methods of self-supervised learning, a file each; importing this room enters them all in the registry."""

from .additive_margin import AdditiveMargin
from .asit import ASiT
from .atst import ATSTClip, ATSTFrame
from .barlow_twins import BarlowTwins
from .base import Method
from .bootbert import BootBERT
from .byol import BYOL
from .cae import CAE
from .context import Context
from .data2vec import Data2Vec, Data2Vec2
from .dbot import DBOT
from .dcl import DCL
from .deepcluster import DeepCluster
from .diet import DIET
from .dino import DINO
from .dinov2 import DINOv2
from .directpred import DirectPred
from .flexpredict import FlexPredict
from .frames import FrameProjections
from .guided import GuidedSimCLR
from .infomax_contrast import InfomaxContrast
from .jepa import JEPA
from .jigsaw import Jigsaw
from .label_augmentation import LabelAugmentation
from .lejepa import LeJEPA
from .look import LOOK
from .lorot import LoRot
from .lut import LUT
from .mae import MAE
from .moco import MoCoV2, MoCoV3
from .mp3 import MP3
from .msn import MSN
from .nnclr import NNCLR
from .npid import NPID
from .opera import OPERA
from .pal import PAL
from .pirl import PIRL
from .poa import POA
from .relational import Relational
from .rotation import Rotation
from .sie import SIE
from .simclr import SimCLR
from .simmim import SimMIM
from .simsiam import SimSiam
from .sit import SiT
from .ssast import SSAST
from .statistics import MeasuredStatistics
from .supcon import SupCon
from .supervised import Supervised
from .swav import SwAV
from .tera import TERA
from .tico import TiCo
from .tjepa import TJEPA
from .udi import UDI
from .vicreg import VICReg
from .w_mse import WMSE

__all__ = [
    "ASiT", "ATSTClip", "ATSTFrame", "AdditiveMargin", "BYOL", "BarlowTwins", "BootBERT", "CAE", "Context", "DBOT",
    "DCL", "DIET", "DINO", "DINOv2", "Data2Vec", "Data2Vec2", "DeepCluster", "DirectPred", "FlexPredict",
    "FrameProjections", "GuidedSimCLR", "InfomaxContrast", "JEPA", "Jigsaw", "LOOK", "LUT", "LabelAugmentation",
    "LeJEPA", "LoRot", "MAE", "MP3", "MSN", "MeasuredStatistics", "Method", "MoCoV2", "MoCoV3", "NNCLR", "NPID", "OPERA",
    "PAL", "PIRL", "POA", "Relational", "Rotation", "SIE", "SSAST", "SiT", "SimCLR", "SimMIM", "SimSiam", "SupCon",
    "Supervised", "SwAV", "TERA", "TJEPA", "TiCo", "UDI", "VICReg", "WMSE",
]
