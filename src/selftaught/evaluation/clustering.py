"""Do the embeddings fall into the classes by themselves: k-means, scored by accuracy (best matching), NMI and ARI."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from torch.nn import functional as F

from ..contracts import DataError
from .arrays import as_features, check_pair, labelled_rows, to_numpy
from .intervals import bootstrap
from .score import Score

_EXACT_BELOW = 10_000  # rows: full k-means; above it mini-batches


def clustering(x: Any, y: Any = None, *, k: int | None = None, normalise: bool = True, seed: int = 0,
               restarts: int = 3, groups: Any = None) -> Score:  # fmt: skip
    """k-means of `x [N, D]` (rows of unit length unless `normalise` is off), the best of `restarts` by its own objective.

    With classes y [N]: the share of rows right under the best one-to-one matching of clusters and classes (metric
    'cluster_accuracy'; its interval resamples rows with clusters and matching held), and NMI, ARI in detail; rows labelled −1
    are clustered but not scored; k is the number of classes unless given. Without y: the silhouette by cosine on at most
    2,000 rows, and k must be given. groups [N]: the interval resamples whole groups. Raises DataError for bad arrays, a k not in
    2 … N − 1, and a single class.
    """
    start = time.perf_counter()
    x, y = as_features(x, "x"), None if y is None else to_numpy(y)
    groups = None if groups is None else to_numpy(groups)
    check_pair(x, y, "x", least=3)
    keep = None if y is None else labelled_rows(y)
    if k is None:
        if y is None:
            raise DataError("clustering without labels does not know how many clusters there are: give k.")
        k = len(np.unique(y[keep]))
    if not 2 <= k < len(x):
        raise DataError(f"k = {k} clusters of {len(x)} rows cannot be scored: k must be from 2 to {len(x) - 1}.")
    assigned, inertia = _kmeans(F.normalize(x.float(), dim=1) if normalise else x.float(), k, seed, restarts)
    detail = {"k": k, "normalise": normalise, "inertia": inertia, "seed": seed}
    if y is None:
        return _silhouette(x, assigned, groups, detail, seed, start)
    matched = cluster_scores(assigned[keep], y[keep])
    interval = bootstrap(matched.pop("correct"), groups=None if groups is None else groups[keep])
    seconds = time.perf_counter() - start
    return Score.of("clustering", interval, metric="cluster_accuracy", detail=detail | matched, seconds=seconds)


def cluster_scores(assigned: Any, y: Any) -> dict[str, Any]:
    """How clusters `assigned [N]` fit classes y [N]: accuracy, nmi (arithmetic mean), ari, and `correct` bool [N].

    The matching is one to one (Hungarian method); rows of clusters left over when there are more than classes are wrong.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    cluster, label = (np.unique(to_numpy(v), return_inverse=True)[1] for v in (assigned, y))
    if len(cluster) != len(label):
        raise DataError(f"There are {len(cluster)} cluster numbers but {len(label)} labels: give one of each a row.")
    table = np.zeros((cluster.max() + 1, label.max() + 1), dtype=np.int64)
    np.add.at(table, (cluster, label), 1)
    class_of = np.full(len(table), -1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    class_of[rows] = columns
    correct = class_of[cluster] == label
    return {"accuracy": float(correct.mean()), "nmi": float(normalized_mutual_info_score(label, cluster)),
            "ari": float(adjusted_rand_score(label, cluster)), "correct": correct}  # fmt: skip


def _kmeans(x: Any, k: int, seed: int, restarts: int) -> tuple[np.ndarray, float]:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    rows = x.cpu().numpy()
    if len(rows) <= _EXACT_BELOW:
        model = KMeans(k, n_init=restarts, random_state=seed, max_iter=100)
    else:
        model = MiniBatchKMeans(k, n_init=restarts, random_state=seed, batch_size=4096)
    return model.fit_predict(rows), float(model.inertia_)


def _silhouette(x: Any, assigned: np.ndarray, groups: np.ndarray | None, detail: dict[str, Any], seed: int, start: float) -> Score:
    from sklearn.metrics import silhouette_samples

    rows = np.sort(np.random.default_rng(seed).permutation(len(x))[:2000])
    if len(np.unique(assigned[rows])) < 2:
        raise DataError("All rows fell into one cluster, so no silhouette can be measured: the embeddings are collapsed.")
    values = silhouette_samples(x[rows].float().cpu().numpy(), assigned[rows], metric="cosine")
    interval = bootstrap(values, groups=None if groups is None else groups[rows])
    return Score.of("clustering", interval, metric="silhouette", detail=detail, seconds=time.perf_counter() - start)
