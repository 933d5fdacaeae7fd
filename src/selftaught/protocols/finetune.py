"""Fine-tuning and supervised training from scratch, scored by the network's own classifier."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import torch
from torch import nn

from ..contracts import DataError, Source
from ..encoder import Encoder
from ..evaluation import Score, bootstrap, budget_indices
from ..evaluation.linear import linear_map
from ..evaluation.metrics import r_squared
from .baselines import Supervision, estimate_statistics, labelled_subset, train_supervised


def finetune(encoder: Encoder, train: Any, test: Any, *, labels: float | int = 1.0, seed: int = 0, draw: int = 0,
             budget: Supervision | None = None, from_scratch: bool = False) -> Score:
    """Score of the whole network trained on a budget of the training labels, starting from the encoder (or anew).

    Its classifier starts as the linear probe of the same labels, from scratch too: begun near zero it distorts what the encoder knows
    before it can read it (Kumar et al., 2022).

    train, test: sources (or what `open_source` takes) with labels. labels: fraction, or count where above 1. draw, seed: which
    labels; the same for every encoder compared. budget: how long. The last step counts; nothing is chosen on test.
    """
    began = time.perf_counter()
    train, test = encoder.open(train), encoder.open(test)
    for source, what in ((train, "training"), (test, "test")):
        if source.labels is None:
            raise DataError(f"Fine-tuning needs labels, and the {what} data have none; name a column with --target "
                            "NAME (in Python target='NAME').")
    chosen = budget_indices(train.labels, labels, draw, seed, train.groups)
    part = labelled_subset(train, chosen, train.classes)
    initialise = None if from_scratch else _weights_of(encoder)
    tuned, method = train_supervised(encoder, part, seed=seed, budget=budget, initialise=initialise,
                                     prepare=lambda method: start_as_probe(method, encoder, part, estimate=from_scratch))
    predicted, y = predict(tuned, method, test, part), test.labels
    known = ~np.isnan(predicted) & ((y >= 0) if train.classes else np.isfinite(y))
    detail = {"labels": len(chosen), "draw": draw, "seed": seed, "from_scratch": from_scratch}
    return judged("supervised" if from_scratch else "finetune", predicted[known], y[known], classes=bool(train.classes),
                  groups=None if test.groups is None else test.groups[known], detail=detail, seconds=time.perf_counter() - began)


def _weights_of(encoder: Encoder) -> Any:
    state = {k: v.clone() for k, v in encoder.backbone.state_dict().items()}

    def load(backbone: nn.Module) -> None:
        backbone.load_state_dict(state)

    return load


@torch.no_grad()
def start_as_probe(method: Any, encoder: Encoder, labelled: Source, *, estimate: bool = False) -> None:
    """Sets a supervised method's classifier to the linear probe of its features of `labelled`; classes without a label lie below the
    others. estimate: the backbone is untrained, so its BatchNorm statistics are taken from the items."""
    twin = Encoder(copy.deepcopy(method.kept()), encoder.preprocessing)
    if estimate:
        estimate_statistics(twin, labelled)
    z, y, head = twin.embed(labelled), labelled.labels, method.student.head
    fine = np.isfinite(z).all(axis=1) & ((y >= 0) if labelled.classes else np.isfinite(y))
    z, y = torch.from_numpy(z[fine]), y[fine]
    groups = None if labelled.groups is None else labelled.groups[fine]
    if labelled.classes:
        shown, codes = np.unique(y, return_inverse=True)
        if len(shown) < 2:
            return
        weights, bias = linear_map(z, codes, classes=len(shown), groups=groups)
        head.weight.zero_()
        head.bias.fill_(float(bias.min()) - 1.0)
        head.weight[shown], head.bias[shown] = weights, bias
    elif y.std() > 0:  # the head speaks in units of the standardised labels
        weights, bias = linear_map(z, ((y - y.mean()) / y.std()).astype(np.float64), classes=None, groups=groups)
        head.weight.copy_(weights)
        head.bias.copy_(bias)


@torch.no_grad()
def predict(encoder: Encoder, method: Any, source: Source, trained_on: Source) -> np.ndarray:
    """float64 [N]: the class or number that the trained head gives every item; NaN where an item cannot be decoded."""
    outputs = method.student.head.cpu().float().eval()(torch.from_numpy(encoder.embed(source))).numpy()
    lost = np.isnan(outputs).any(axis=1)
    if trained_on.classes:
        predicted = outputs.argmax(axis=1).astype(np.float64)
    else:  # the head speaks in units of the standardised labels
        predicted = outputs[:, 0].astype(np.float64) * trained_on.labels.std() + trained_on.labels.mean()
    return np.where(lost, np.nan, predicted)


def judged(name: str, predicted: np.ndarray, y: np.ndarray, *, classes: bool, groups: np.ndarray | None = None, detail: dict[str, Any],
           seconds: float) -> Score:
    """Accuracy of predicted classes [N], or R² of predicted numbers [N], with a bootstrap interval over the test items, or over whole
    groups [N] of them."""
    if classes:
        interval = bootstrap((predicted == y).astype(np.float64), groups=groups)
        return Score.of(name, interval, metric="accuracy", detail=detail, seconds=seconds)
    centred = y - y.mean()
    values = np.stack([(predicted - y) ** 2, centred, centred**2], axis=1)
    return Score.of(name, bootstrap(values, r_squared, groups=groups), metric="r2", detail=detail, seconds=seconds)
