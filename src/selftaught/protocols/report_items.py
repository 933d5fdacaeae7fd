"""What the report says of items: where they lie in the embedding, who is near whom, and which disagree with their neighbours."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np

from ..contracts import Source
from ..encoder import Encoder
from ..evaluation import neighbours
from ..sources import subset

MOST = 1500  # items that are embedded, mapped and searched
QUERIES, SHOWN, FAILURES = 8, 8, 8
_VOTERS = 10  # neighbours whose labels count
_LEAST = 16  # items below which t-SNE says nothing


def item_facts(encoder: Encoder, source: Source, *, seed: int = 0, most: int = MOST) -> dict[str, Any]:
    """{"embedding", "neighbours", "failures"} of at most `most` items, evenly spaced over the source; bad items are left out."""
    index = np.unique(np.linspace(0, len(source) - 1, min(most, len(source))).round().astype(np.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # items that cannot be decoded are counted in the report itself
        z = encoder.embed(subset(source, index))
    fine = np.isfinite(z).all(axis=1)
    z, kept = z[fine], index[fine]
    sample = Sample(source, kept, z)
    places, how = project(z, seed)
    points = [{**sample.described(i), "x": round(float(x), 4), "y": round(float(y), 4)} for i, (x, y) in enumerate(places)]
    embedding = {"items": len(kept), "of": len(source), "unreadable": int((~fine).sum()), "width": int(z.shape[1]),
                 "projection": how, "classes": sample.classes, "labelled": int(sample.known.sum()), "points": points}
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    if len(kept) > 1:  # the mean over all pairs, from the length of the sum
        embedding["mean_similarity"] = round(float(((unit.sum(0) ** 2).sum() - len(z)) / (len(z) * (len(z) - 1))), 4)
    if len(kept) < 3:
        return {"embedding": embedding, "neighbours": [], "failures": None}
    distance, place = neighbours(z, z, min(_VOTERS, len(z) - 1), skip_self=True)
    similarity = 1.0 - distance
    queries = medoids(z, QUERIES, seed)
    return {"embedding": embedding, "neighbours": [sample.with_neighbours(i, place[i], similarity[i]) for i in queries],
            "failures": _failures(sample, place, similarity)}


class Sample:
    """The embedded items: their places in the source, vectors [n, D] and labels."""

    def __init__(self, source: Source, index: np.ndarray, z: np.ndarray):
        self.source, self.index, self.z = source, index, z
        self.labels = None if source.labels is None else np.asarray(source.labels)[index]
        self.classes = list(source.classes) if self.labels is not None and source.classes else None
        if self.labels is None:
            self.known = np.zeros(len(index), dtype=bool)
        else:
            self.known = self.labels >= 0 if self.classes else np.isfinite(self.labels)

    def label(self, i: int) -> str | float | None:
        """The class name or the number of an item; None where it has none."""
        if not self.known[i]:
            return None
        return self.classes[int(self.labels[i])] if self.classes else float(self.labels[i])

    def described(self, i: int) -> dict[str, Any]:
        found = {"index": int(self.index[i]), "name": self.source.name(int(self.index[i]))}
        return found if self.labels is None else {**found, "label": self.label(i)}

    def with_neighbours(self, i: int, place: np.ndarray, similarity: np.ndarray, shown: int = SHOWN) -> dict[str, Any]:
        """An item with its nearest ones; `same` says whether a neighbour has the item's class (None where either is unlabelled)."""
        found = []
        for p, s in zip(place[:shown], similarity[:shown]):
            entry = {**self.described(int(p)), "similarity": round(float(s), 4)}
            if self.classes:
                entry["same"] = bool(self.labels[i] == self.labels[p]) if self.known[i] and self.known[p] else None
            found.append(entry)
        return {**self.described(i), "neighbours": found}


def project(z: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """(places [n, 2] within the unit square, how they were found): PCA to 50 dimensions, then t-SNE; PCA alone for few
    or equal rows. One thread, so that the same embedding gives the same map.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        centred = z.astype(np.float64) - z.mean(0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        u = u * np.sign(u[np.abs(u).argmax(0), np.arange(u.shape[1])])  # a singular vector's sign is arbitrary: settle it
        reduced = (u * s)[:, :50]
        spread = float(s[0]) if len(s) else 0.0
        if len(z) < _LEAST or spread < 1e-9:
            flat = np.pad(reduced[:, :2], ((0, 0), (0, max(0, 2 - reduced.shape[1]))))
            share = float((s[:2] ** 2).sum() / max((s**2).sum(), 1e-300))
            return _unit(flat), f"PCA, the first two components ({share:.0%} of the variance)"
        from sklearn.manifold import TSNE

        perplexity = float(min(30, (len(z) - 1) // 3))
        start = reduced[:, :2] / (reduced[:, 0].std() + 1e-12) * 1e-4
        flat = TSNE(2, perplexity=perplexity, init=start, random_state=seed, max_iter=500).fit_transform(reduced)
    return _unit(flat), f"PCA to {reduced.shape[1]} dimensions, then t-SNE with perplexity {perplexity:.0f}"


def _unit(flat: np.ndarray) -> np.ndarray:
    """Moved and scaled alike in both directions, so that distances keep their proportions."""
    low, high = flat.min(0), flat.max(0)
    return (flat - low) / max(float((high - low).max()), 1e-12)


def medoids(z: np.ndarray, count: int, seed: int) -> list[int]:
    """Places of the items nearest to the k-means centres of the unit-length rows: a few items from all over the embedding."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    count = min(count, len(np.unique(unit.round(6), axis=0)))
    with threadpool_limits(1):
        means = KMeans(count, n_init=1, random_state=seed).fit(unit)
    far = means.transform(unit)
    far[means.labels_[:, None] != np.arange(count)] = np.inf
    return sorted(int(i) for i in far.argmin(0))


def _failures(sample: Sample, place: np.ndarray, similarity: np.ndarray) -> dict[str, Any]:
    """The items whose neighbours disagree most with their label, of classes those that most neighbours belong to another of; without
    labels, the most isolated ones."""
    if sample.known.sum() < 2:
        near = similarity.mean(1)
        items = [{**sample.with_neighbours(int(i), place[i], similarity[i], 5), "mean_similarity": round(float(near[i]), 4)}
                 for i in np.argsort(near, kind="stable")[:FAILURES]]
        middle = round(float(np.median(near)), 4)
        return {"kind": "isolation", "voters": place.shape[1], "median_similarity": middle, "items": items}
    return _class_failures(sample, place, similarity) if sample.classes else _number_failures(sample, place, similarity)


def _class_failures(sample: Sample, place: np.ndarray, similarity: np.ndarray) -> dict[str, Any]:
    votes = sample.known[place] & sample.known[:, None]
    same = (sample.labels[place] == sample.labels[:, None]) & votes
    judged = votes.any(1)
    share = np.where(judged, same.sum(1) / np.maximum(votes.sum(1), 1), np.inf)
    chosen = np.lexsort((-similarity.mean(1), share))[:FAILURES]
    items, confusions = [], Counter()
    majority = {int(i): _majority(sample.labels[place[i]][votes[i]], sample.labels[i]) for i in np.flatnonzero(judged)}
    for i, other in majority.items():
        if other != sample.labels[i]:
            confusions[sample.classes[int(sample.labels[i])], sample.classes[int(other)]] += 1
    for i in (int(i) for i in chosen if judged[i] and majority[i] != sample.labels[i]):
        items.append({**sample.with_neighbours(i, place[i], similarity[i], 5), "agreement": round(float(share[i]), 4),
                      "majority": sample.classes[int(majority[i])]})
    return {"kind": "disagreement", "voters": place.shape[1], "judged": int(judged.sum()),
            "agreement": round(float(share[judged].mean()), 4) if judged.any() else None,
            "confusions": [{"label": a, "neighbours": b, "items": n} for (a, b), n in confusions.most_common(6)], "items": items}


def _majority(votes: np.ndarray, own: int) -> int:
    """The label with most votes; an item's own where no other has more."""
    count = Counter(votes.tolist())
    return max(count, key=lambda label: (count[label], label == own))


def _number_failures(sample: Sample, place: np.ndarray, similarity: np.ndarray) -> dict[str, Any]:
    """Labels that are numbers: how far an item's lies from the mean of its neighbours', in standard deviations of all."""
    y = np.where(sample.known, sample.labels, 0.0).astype(np.float64)
    votes = sample.known[place]
    expected = (y[place] * votes).sum(1) / np.maximum(votes.sum(1), 1)
    scale = float(y[sample.known].std()) or 1.0
    off = np.where(sample.known & votes.any(1), np.abs(y - expected) / scale, -1.0)
    worst = [int(i) for i in np.argsort(-off, kind="stable")[:FAILURES] if off[i] > 0]
    items = [{**sample.with_neighbours(i, place[i], similarity[i], 5), "expected": float(expected[i]),
              "deviations": round(float(off[i]), 4)} for i in worst]
    return {"kind": "deviation", "voters": place.shape[1], "judged": int((off >= 0).sum()), "items": items}
