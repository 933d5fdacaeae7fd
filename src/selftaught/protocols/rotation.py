"""The rotation probe: how well a linear map of frozen features tells quarter turns, a score that needs no labels (SelfAugment)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..contracts import Clean, NotApplicable, Source
from ..encoder import Encoder
from ..evaluation import Score, linear_probe
from ..sources import subset


def rotation_probe(encoder: Encoder, train: Any, test: Any, *, items: int = 2000, seed: int = 0) -> Score:
    """Accuracy of a linear probe for 0, 90, 180 or 270 degrees on the features of images (Reed et al., 2021, sec. 3.2).

    train, test: images, of each at most `items` evenly spaced ones, every one in all four turns; labels are not read. The turns
    of an image stay together, in the choice of the probe's penalty and in the interval. Raises NotApplicable for what is no image.
    """
    if encoder.preprocessing.modality != "image":
        raise NotApplicable(f"{encoder.preprocessing.modality}: the rotation probe turns images by 90 degrees, and this encoder "
                            "takes none.")
    (x, y, item), (test_x, test_y, test_item) = (_turned(encoder, encoder.open(data), items) for data in (train, test))
    score = linear_probe(x, y, test_x, test_y, groups=item, test_groups=test_item, seed=seed)
    score.name = "rotation"
    return score


@torch.no_grad()
def _turned(encoder: Encoder, source: Source, items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [4n, D] of some items in all turns, how often each was turned, and which item it is."""
    chosen = np.unique(np.linspace(0, len(source) - 1, min(items, len(source))).astype(np.int64))
    views = encoder.modality.views(Clean(), encoder.preprocessing)
    device = next(encoder.backbone.parameters()).device
    encoder.backbone.eval()
    features, turns, index = [], [], []
    for batch, _ in encoder.batches(subset(source, chosen)):
        if len(batch):
            batch = batch.to(device)
            x = views(batch, batch.draws(0, "rotation"))[0].x  # [B, C, S, S]
            for turn in range(4):
                features.append(encoder.backbone(torch.rot90(x, turn, (2, 3))).pooled.float().cpu().numpy())
                turns.append(np.full(len(batch), turn))
                index.append(batch.index.cpu().numpy())
    return np.concatenate(features), np.concatenate(turns), np.concatenate(index)
