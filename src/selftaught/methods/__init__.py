"""Methods of self-supervised learning, a file each; importing this room enters them all in the registry."""

from .base import Method
from .byol import BYOL
from .diet import DIET
from .dino import DINO
from .simclr import SimCLR
from .supervised import Supervised
from .swav import SwAV
from .vicreg import VICReg

__all__ = ["BYOL", "DIET", "DINO", "Method", "SimCLR", "Supervised", "SwAV", "VICReg"]
