"""`evaluate`: the encoder beside its baselines, under each protocol and label budget, with intervals, ranks, cost and overlap."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from .. import __version__
from ..contracts import DataError, Source, nearest
from ..encoder import Encoder
from ..evaluation import Score, budget_indices, clustering, knn, label_budgets, linear_probe, overlap, retrieval, split_indices
from ..evaluation.arrays import labelled_rows
from ..evaluation.budgets import budget_note
from ..evaluation.rank import ROWS, sampled
from ..measures import alpha_req, rank_me
from ..sources import align_classes
from ..sources.refill import innermost
from .baselines import Supervision, apart, finite, labelled_subset, random_encoder, train_supervised
from .boosting import boost
from .finetune import finetune
from .table import Cell, Table

PROTOCOLS = ("knn", "linear", "finetune", "clustering", "retrieval")
BASELINES = ("random", "raw", "supervised", "boosting")
PROBES = {"knn": knn, "linear": linear_probe}


def evaluate(encoder: Any, train: Any, test: Any = None, protocols: str | Sequence[str] = ("knn", "linear"), *,
             budgets: Sequence[float] = (0.01, 0.1, 1.0), baselines: str | Sequence[str] = ("random", "raw", "supervised"), draws: int = 3,
             seed: int = 0, target: str | None = None, group: str | None = None, layout: str | None = None,
             supervision: Supervision | None = None, say: Callable[[str], None] = lambda line: None) -> Table:
    """Compares an encoder (an Encoder, a Run or a path) with its baselines on labelled data.

    train, test: data with labels; without test, a fifth of train is held out, whole groups where there are groups. protocols:
    knn, linear, finetune, clustering, retrieval. budgets: fractions of the training labels (counts where above 1), the same
    labels for every representation, `draws` draws averaged. baselines: random (untrained twin), raw (the input), supervised
    (the same network trained on the labels of the first draw), boosting (added for tables by itself). Labels never touched
    the pretraining; the encoder is in evaluation mode throughout. say: called with the notes of data that are opened here, and as
    each representation is scored. Raises DataError and OptionError, each a sentence.
    """
    protocols, baselines = ((names,) if isinstance(names, str) else tuple(names) for names in (protocols, baselines))
    for name, known, what in [(p, PROTOCOLS, "protocol") for p in protocols] + [(b, BASELINES, "baseline") for b in baselines]:
        if name not in known:
            raise nearest(name, known, what=what)
    encoder = encoder if isinstance(encoder, Encoder) else getattr(encoder, "encoder", None) or Encoder.load(encoder)
    train, test, data = _opened(encoder, train, test, seed, {"target": target, "group": group, "layout": layout}, say)
    work = _Work(encoder, train, test, protocols, tuple(budgets), draws, seed, supervision or Supervision(), say)
    work.table.about = {"data": data, "seed": seed, "draws": draws, "version": __version__}
    work.representation("encoder", encoder.embed)
    if "raw" in baselines:
        work.representation("raw", encoder.raw)
    if "random" in baselines:
        work.representation("random", random_encoder(encoder, train, seed=seed).embed)
    if "supervised" in baselines:
        work.supervised()
    if train.modality == "table" and baselines:
        work.boosting()
    if "finetune" in protocols:
        work.finetuned()
    work.budgets_changed()
    work.overlap()
    return work.table


def _opened(encoder: Encoder, train: Any, test: Any, seed: int, options: dict[str, Any], say: Callable[[str], None]
            ) -> tuple[Source, Source, dict[str, Any]]:
    """The training and test data, and what the table says of them."""
    def opened(data: Any) -> Source:
        if isinstance(data, Source):  # its notes are known to whoever opened it
            return encoder.open(data)
        source = encoder.open(data, **options)
        for note in source.facts.notes:
            say(f"note: {note}")
        return source

    given, train = train, opened(train)
    check_labels(train, "training")
    if test is None:
        kept, held = split_indices(len(train), train.labels, train.groups, fractions=(0.8, 0.2), seed=seed)
        whole = _described(train)
        data = {"train": {**whole, "items": len(kept)},
                "test": {**whole, "origin": f"a fifth of {whole['origin']}, held out", "items": len(held)}}
        return labelled_subset(train, kept, train.classes), labelled_subset(train, held, train.classes), data
    test = train if test is given else opened(test)
    check_labels(test, "test")
    described = _described(train)
    data = {"train": described, "test": described if test is train else _described(test)}
    return train, align_classes(test, train.classes), data


def _described(source: Source) -> dict[str, Any]:
    return {"origin": getattr(innermost(source)[0], "origin", f"{source.modality} data"), "fingerprint": source.fingerprint(),
            "items": len(source)}


def check_labels(source: Source, what: str) -> None:
    """DataError where `what` data have no labels, or training data those of one class alone."""
    origin = getattr(innermost(source)[0], "origin", f"{source.modality} data")
    if source.labels is None:
        raise DataError(f"The {what} data, {origin}, have no labels, so nothing can be scored: {_way_to_labels(source, origin)}.")
    if what == "training" and source.classes and len(present := np.unique(source.labels[source.labels >= 0])) == 1:
        raise DataError(f"The training data, {origin}, have labels of the single class '{source.classes[present[0]]}', so nothing can be "
                        "told apart: give items of two classes.")


def _way_to_labels(source: Source, origin: str) -> str:
    names = (source.name(i) for i in range(len(source)))
    folders = {name.rpartition("/")[0] for name in names if not name.startswith(f"{origin}, ")}
    if len(folders) == 1 and (folder := folders.pop()):
        return f"class folders side by side make labels, and there is only one, '{folder}'; give items of two classes, a folder each"
    return "name a column with --target NAME (in Python target='NAME'), or sort the items into a folder a class, side by side"


class _Work:
    """What the parts of one evaluation share."""

    def __init__(self, encoder: Encoder, train: Source, test: Source, protocols: tuple[str, ...], budgets: tuple[float, ...],
                 draws: int, seed: int, supervision: Supervision, say: Callable[[str], None]):
        self.encoder, self.train, self.test = encoder, train, test
        self.protocols, self.budgets, self.draws, self.seed = protocols, budgets, draws, seed
        self.supervision, self.say = supervision, say
        self.table = Table()
        self.raw_parts: tuple[np.ndarray, np.ndarray] | None = None

    def representation(self, name: str, embed: Callable[[Source], np.ndarray]) -> None:
        """All probes of one representation that needs no training."""
        began = time.perf_counter()
        parts = embed(self.train), embed(self.test)
        if name == "encoder":
            self.train, self.test = (self.decodable(s, z) for s, z in zip((self.train, self.test), parts))
            parts = tuple(z[np.isfinite(z).all(axis=1)] for z in parts)
        if name == "raw":
            self.raw_parts = parts
        train_x, train_y, groups = finite(parts[0], self.train)
        test_x, test_y, test_groups = finite(parts[1], self.test)
        test_groups = apart(test_groups)
        self.ranks(name, train_x)
        probes = [p for p in self.protocols if p in PROBES]
        found = label_budgets(train_x, train_y, test_x, test_y, budgets=self.budgets, protocol=probes, draws=self.draws,
                              seed=self.seed, groups=groups, test_groups=test_groups) if probes else {}
        for protocol, scores in found.items():
            for budget, score in scores.items():
                self.add(name, protocol, budget, score)
        if "clustering" in self.protocols and self.train.classes:
            self.add(name, "clustering", 0.0, clustering(test_x, test_y, k=len(self.train.classes), groups=test_groups))
        if "retrieval" in self.protocols and self.train.classes:
            self.add(name, "retrieval", 0.0, retrieval(test_x, test_y, groups=test_groups))
        self.table.cost.setdefault(name, round(time.perf_counter() - began, 1))
        self.say(f"  {name}: scored in {time.perf_counter() - began:.0f} s")

    def ranks(self, name: str, x: np.ndarray) -> None:
        z = sampled(torch.from_numpy(x), ROWS)
        self.table.ranks[name] = round(float(rank_me(z)), 2)
        self.table.measures.setdefault(name, {})["alpha_req"] = round(float(alpha_req(z)), 3)

    def decodable(self, source: Source, x: np.ndarray) -> Source:
        """The items that could be decoded; the others are counted, and left out before labels are drawn, so that all draw the same."""
        fine = np.isfinite(x).all(axis=1)
        if fine.all():
            return source
        self.table.notes.append(f"{int((~fine).sum())} of {len(x)} items could not be decoded and are left out.")
        return labelled_subset(source, np.flatnonzero(fine), source.classes)

    def add(self, name: str, protocol: str, budget: float, score: Score) -> None:
        self.table.cells.append(Cell(name, protocol, budget, int(score.detail.get("labels", 0)), score))

    def supervised(self) -> None:
        """The same network trained on each budget's labels, its features under the same probes with the same labels."""
        began, trained = time.perf_counter(), None
        for budget in self.budgets:
            chosen = budget_indices(self.train.labels, budget, 0, self.seed, self.train.groups)
            part = labelled_subset(self.train, chosen, self.train.classes)
            if len(part) < 4:
                self.table.notes.append(f"{len(part)} labels are too few to train the supervised network.")
                continue
            trained, _ = train_supervised(self.encoder, part, seed=self.seed, budget=self.supervision)
            train_x, train_y, groups = finite(trained.embed(part), part)
            test_x, test_y, test_groups = finite(trained.embed(self.test), self.test)
            for protocol in (p for p in self.protocols if p in PROBES):
                score = PROBES[protocol](train_x, train_y, test_x, test_y, groups=groups, test_groups=apart(test_groups))
                score.detail["labels"] = len(chosen)
                self.add("supervised", protocol, budget, score)
            if budget == self.budgets[-1]:
                self.ranks("supervised", train_x)
        if trained is None:
            self.say(f"  supervised: not trained, {len(part)} labels are too few")
            return
        self.table.cost["supervised"] = round(time.perf_counter() - began, 1)
        self.say(f"  supervised: trained and scored in {time.perf_counter() - began:.0f} s")

    def boosting(self) -> None:
        began = time.perf_counter()
        train_x, test_x = self.raw_parts or (self.encoder.raw(self.train), self.encoder.raw(self.test))
        for budget in self.budgets:
            chosen = budget_indices(self.train.labels, budget, 0, self.seed, self.train.groups)
            self.add("boosting", "boosting", budget, boost(train_x[chosen], self.train.labels[chosen], test_x, self.test.labels,
                                                           classes=self.train.classes, test_groups=apart(self.test.groups), seed=self.seed))
        self.table.cost["boosting"] = round(time.perf_counter() - began, 1)

    def finetuned(self) -> None:
        for budget in self.budgets:
            for name, scratch in (("encoder", False), ("supervised", True)):
                self.add(name, "finetune", budget, finetune(self.encoder, self.train, self.test, labels=budget, seed=self.seed,
                                                            budget=self.supervision, from_scratch=scratch))

    def budgets_changed(self) -> None:
        """Notes the budgets of which more or fewer labels are shown than they ask for."""
        if any(c.budget > 0 for c in self.table.cells):
            labels, groups = self.train.labels, self.train.groups
            drawn = {budget: len(budget_indices(labels, budget, 0, self.seed, groups)) for budget in self.budgets}
            self.table.notes += filter(None, (budget_note(labels, budget, count, groups) for budget, count in drawn.items()))

    def overlap(self) -> None:
        """Notes how many labelled test items are, in content, among the labelled training items and among those pretrained on."""
        test = self.encoder.contents(_labelled(self.test))
        sets = {"the labelled training data": self.encoder.contents(_labelled(self.train)), "the pretraining data": self.encoder.items}
        for name, hashes in sets.items():
            if hashes is None:
                self.table.notes.append(f"It is not known whether test items are among {name}.")
            elif (shared := overlap(hashes, test)).count:
                self.table.notes.append(shared.sentence(name, "the test data"))


def _labelled(source: Source) -> Source:
    rows = labelled_rows(source.labels)
    return source if rows.all() else labelled_subset(source, np.flatnonzero(rows), source.classes)
