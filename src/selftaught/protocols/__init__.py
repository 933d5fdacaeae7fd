"""Protocols: baselines, label budgets, fine-tuning, the table and the report."""

from .baselines import Supervision, estimate_statistics, random_encoder, train_supervised
from .compare import compare_methods
from .evaluate import evaluate
from .finetune import finetune
from .nearest import nearest_items
from .report import write_report
from .rotation import rotation_probe
from .segmentation import segment
from .table import Cell, Table

__all__ = [
    "Cell", "Supervision", "Table", "compare_methods", "estimate_statistics", "evaluate", "finetune", "nearest_items", "random_encoder",
    "rotation_probe", "segment", "train_supervised", "write_report",
]
