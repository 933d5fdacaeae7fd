"""What every encoder is compared with: its own random initialisation, the raw input, and supervised training of the same network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..contracts import Source, hash_key
from ..encoder import Encoder
from ..networks import estimate_batch_norm
from ..plan import Plan, make_plan
from ..sources import subset, with_labels
from ..training import fit


def estimate_statistics(encoder: Encoder, source: Source, *, items: int = 2048) -> None:
    """Sets the BatchNorm statistics of an untrained encoder on at most `items` evenly spaced items of the data."""
    from ..contracts import Clean

    some = np.unique(np.linspace(0, len(source) - 1, min(items, len(source))).astype(np.int64))
    views = encoder.modality.views(Clean(), encoder.preprocessing)
    device = next(encoder.backbone.parameters()).device

    def inputs() -> Iterator[Any]:
        for batch, _ in encoder.batches(subset(source, some)):
            if len(batch) > 1:
                batch = batch.to(device)
                yield views(batch, batch.draws(0, "statistics"))[0]

    backbone = encoder.backbone
    estimate_batch_norm(_Viewed(backbone), list(inputs()))
    backbone.eval()


class _Viewed(nn.Module):
    """A backbone that takes a View."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, view: Any) -> Tensor:
        return self.backbone(view.x, lengths=view.lengths).pooled


def random_encoder(encoder: Encoder, source: Source, *, seed: int = 0) -> Encoder:
    """An untrained twin: same backbone, preprocessing and width, weights drawn from `seed`, statistics estimated on `source`."""
    torch.manual_seed(hash_key(seed, "random initialisation"))
    if encoder.backbone_name == "custom":
        backbone = _reset(encoder.backbone)
    else:
        backbone = encoder.modality.backbone(encoder.preprocessing.facts, encoder.backbone_name, **encoder.backbone_options)
    twin = Encoder(backbone, encoder.preprocessing, backbone_name=encoder.backbone_name, backbone_options=encoder.backbone_options,
                   lineage={"method": "random initialisation", "seed": seed})
    estimate_statistics(twin, source)
    return twin


def _reset(backbone: nn.Module) -> nn.Module:
    """A copy of a user's module, initialised anew wherever its parts know how to."""
    import copy

    twin = copy.deepcopy(backbone)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return twin


@dataclass(frozen=True)
class Supervision:
    """How long a supervised network trains: `steps` at most, and `passes` over its labelled items at most."""

    steps: int = 600
    passes: int = 100


def supervised_plan(encoder: Encoder, labelled: Source, budget: Supervision, *, seed: int = 0) -> Plan:
    """The plan of supervised training of the encoder's network on `labelled`."""
    n = len(labelled)
    batch = max(2, min(256, n // 4))
    steps = max(1, min(budget.steps, budget.passes * max(n // batch, 1)))
    options: dict[str, Any] = {f"backbone.{k}": v for k, v in encoder.backbone_options.items()}
    backbone: Any = encoder.backbone_name if encoder.backbone_name != "custom" else _reset(encoder.backbone)
    facts = encoder.preprocessing.facts.with_(samples=n, classes=labelled.facts.classes)
    return make_plan(labelled, {"method": "supervised", "backbone": backbone, "batch_size": batch, "steps": steps, "seed": seed,
                                "log_every": 50, **options}, preprocessing=_with_facts(encoder, facts))


def _with_facts(encoder: Encoder, facts: Any) -> Any:
    return replace(encoder.preprocessing, facts=facts)


def train_supervised(encoder: Encoder, labelled: Source, *, seed: int = 0, budget: Supervision | None = None,
                     initialise: Callable[[nn.Module], None] | None = None, changes: dict[str, Any] | None = None,
                     prepare: Callable[[Any], None] | None = None) -> tuple[Encoder, Any]:
    """(trained encoder, its Method) of the same network trained with `labelled`'s labels, from scratch or from what
    `initialise(backbone)` loads; `prepare(method)` may change it before its first step; `changes` are further overrides of the plan."""
    plan = supervised_plan(encoder, labelled, budget or Supervision(), seed=seed)
    if changes:
        plan.nested["training"].update(changes)
    stream = plan.stream(labelled)
    method = plan.build_method(initialise)
    if prepare:
        prepare(method)
    fit(method, stream, plan.training(), replace(plan.settings(progress=False), stop_on_collapse=False))  # its score says what it is worth
    return Encoder(method.kept(), encoder.preprocessing, backbone_name=encoder.backbone_name,
                   backbone_options=encoder.backbone_options, lineage={"method": "supervised", "labels": len(labelled)}), method


def apart(groups: np.ndarray | None) -> np.ndarray | None:
    """Test's groups, set apart from train's: sources count theirs from 0 each, so that equal numbers in two of them say nothing."""
    return None if groups is None else -1 - groups


def finite(x: np.ndarray, source: Source) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Features [N, D] of a source, its labels and groups, without the rows of items that could not be decoded."""
    fine = np.isfinite(x).all(axis=1)
    return x[fine], source.labels[fine], None if source.groups is None else source.groups[fine]


def labelled_subset(source: Source, indices: np.ndarray, classes: list[str] | None) -> Source:
    """The items at `indices`, labels and classes kept as they are in the whole."""
    part = subset(source, indices)
    return with_labels(part, source.labels[indices], classes=classes) if classes else part
