"""Asking an oracle who is alike, and learning from its answers: which pairs to ask about, and what the answers join (PAL)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..contracts import Source
from ..encoder import Encoder
from ..plan import make_plan
from ..sources import with_labels
from ..training import fit


def random_pairs(n: int, count: int, *, seed: int = 0) -> np.ndarray:
    """int64 [count, 2]: different pairs of n items, i < j, drawn evenly: passive queries."""
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.integers(0, n, (4 * count + 16, 2)), axis=1)
    drawn = drawn[drawn[:, 0] < drawn[:, 1]]
    first = np.sort(np.unique(drawn, axis=0, return_index=True)[1])  # in the order drawn, so that no item is favoured
    return drawn[first][:count]


def influential_pairs(z: np.ndarray, count: int, *, block: int = 1024) -> np.ndarray:
    """int64 [count, 2]: pairs i < j whose entry of the graph would move the spectral loss most: active queries.

    The derivative of −2 Σ G_ij z_i·z_j in G_ij is proportional to the cosine of the embeddings z [N, D]: the pairs of the largest
    ones, of those between an item and its ⌈2·count/N⌉ + 1 nearest.
    """
    unit = F.normalize(torch.as_tensor(z, dtype=torch.float32), dim=1)
    k = min(-(-2 * count // len(unit)) + 1, len(unit) - 1)
    found, weight = [], []
    for start in range(0, len(unit), block):
        cosine = unit[start : start + block] @ unit.T
        rows = torch.arange(start, start + len(cosine))
        cosine[torch.arange(len(cosine)), rows] = -torch.inf
        best = cosine.topk(k, dim=1)
        found.append(torch.stack([rows[:, None].expand_as(best.indices), best.indices], 2).flatten(0, 1))
        weight.append(best.values.flatten())
    pairs, weight = np.sort(torch.cat(found).numpy(), axis=1), torch.cat(weight).numpy()
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    return pairs[np.argsort(-weight[first], kind="stable")[:count]]


def joined(n: int, pairs: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """int64 [n]: a number for each group of items that answers of yes connect (alike: bool [Q]), −1 for items in none."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    yes = pairs[np.asarray(alike, bool)]
    group = connected_components(coo_matrix((np.ones(len(yes)), (yes[:, 0], yes[:, 1])), (n, n)), directed=False)[1].astype(np.int64)
    return np.where(np.bincount(group)[group] > 1, group, -1)


def learn_relations(encoder: Encoder, source: Source, group: np.ndarray, **overrides: Any) -> Encoder:
    """The encoder trained on with the method `pal`, on items of which those of one `group` (int64 [N], −1 = none) are alike."""
    backbone = {"backbone": encoder.backbone_name, **{f"backbone.{k}": v for k, v in encoder.backbone_options.items()}}
    source = with_labels(source, group)
    plan = make_plan(source, {"method": "pal", **backbone, **overrides}, preprocessing=encoder.preprocessing)
    method = plan.build_method(lambda fresh: fresh.load_state_dict(encoder.backbone.state_dict()))
    fit(method, plan.stream(source), plan.training(), plan.settings(progress=False))
    return Encoder(method.kept(), encoder.preprocessing, backbone_name=encoder.backbone_name, backbone_options=encoder.backbone_options,
                   lineage={**encoder.lineage, "continued": "pal", "relations": int((group >= 0).sum())})
