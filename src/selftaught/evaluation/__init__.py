"""Measuring embeddings: functions on arrays (NumPy or torch) alone, each number with an interval. Trains no network."""

from .attention import attention_distance, attention_entropy, attention_rollout
from .budgets import budget_count, budget_indices, label_budgets
from .cka import cka_matrix, linear_cka
from .clustering import cluster_scores, clustering
from .dense import correspondence, dense_probe, token_knn, token_labels, token_places
from .intervals import Difference, bootstrap, paired_difference, spearman, t_quantile, wilson
from .knn import knn
from .linear import linear_probe
from .metrics import auc
from .neighbours import neighbours
from .overlap import Overlap, near_duplicates, overlap
from .rank import label_free
from .retrieval import retrieval
from .score import Interval, Score
from .splits import fold_ids, split_indices
from .verification import equal_error_rate, verification

__all__ = [
    "Difference", "Interval", "Overlap", "Score", "attention_distance", "attention_entropy", "attention_rollout", "auc",
    "bootstrap", "budget_count", "budget_indices", "cka_matrix", "cluster_scores", "clustering", "correspondence",
    "dense_probe", "equal_error_rate", "fold_ids", "knn", "label_budgets", "label_free", "linear_cka", "linear_probe",
    "near_duplicates", "neighbours", "overlap", "paired_difference", "retrieval", "spearman", "split_indices", "t_quantile",
    "token_knn", "token_labels", "token_places", "verification", "wilson",
]
