"""The contracts of the house: what travels between the rooms, and nothing else. Imports no other room."""

from .batch import Batch, Features, View
from .draws import Draws, epoch_order, hash_key, replacement
from .errors import BadItem, Collapsed, DataError, NonFinite, NotApplicable, OptionError, SelftaughtError, nearest
from .facts import Column, Facts
from .keys import FREE, GROUPS, KEYS
from .needs import STATISTICS, TRANSFORM_WIDTH, Clean, Mask, Measured, MultiCrop, Need, Pair, Patches, Single, Transformed, TurnedPair
from .options import fit_keywords, fit_option, fit_type, parse, split_dotted
from .registry import REGISTRY, find, names, register
from .schedules import Clock, Constant, Cosine, Infinite, Linear, Schedule, WarmupCosine, value_at
from .source import Source
from .training import Group, Terms, Training, training_with

__all__ = [
    "BadItem", "Batch", "Clean", "Clock", "Collapsed", "Column", "Constant", "Cosine", "DataError", "Draws", "FREE",
    "Facts", "Features", "GROUPS", "Group", "Infinite", "KEYS", "Linear", "Mask", "Measured", "MultiCrop", "Need", "NonFinite",
    "NotApplicable", "OptionError", "Pair", "Patches", "REGISTRY", "STATISTICS", "Schedule", "SelftaughtError", "Single", "Source",
    "TRANSFORM_WIDTH", "Terms", "Training", "Transformed", "TurnedPair", "View", "WarmupCosine", "epoch_order", "find", "fit_keywords",
    "fit_option", "fit_type", "hash_key", "names", "nearest", "parse", "register", "replacement", "split_dotted", "training_with",
    "value_at",
]
