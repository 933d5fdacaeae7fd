"""`compare_methods`: methods trained with one encoder and one budget, in one table beside random initialisation and raw input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..contracts import NonFinite, NotApplicable, OptionError, Source, find, names, nearest
from ..encoder import Encoder
from ..evaluation import Interval, Score, knn, linear_probe, paired_difference, split_indices
from ..plan import Plan, make_plan
from ..sources import align_classes, open_source
from ..training import fit
from .baselines import Supervision, apart, finite, labelled_subset, random_encoder
from .evaluate import check_labels
from .finetune import finetune as finetuned
from .taxonomy import FOUR, NEGATIVES, PRETEXTS, WAYS, family, tags

__all__ = ["FOUR", "NEGATIVES", "PRETEXTS", "Comparison", "Row", "chosen", "compare_methods", "family", "tags"]


def chosen(methods: str | Sequence[str] | None, by: str | None) -> list[str]:
    """The methods to compare: those named; else with by='negatives' or 'family' one for each; else all that need no labels."""
    if by is not None and by not in WAYS:
        raise nearest(by, WAYS, what="way to order the table")
    known = [n for n in names("method") if find("method", n).__module__.startswith(__package__.rpartition(".")[0] + ".methods")]
    of, order, stand = WAYS[by] if by else (lambda n: "", ("",), ())
    if methods is None:
        methods = [n for n in stand if n in known] or [n for n in known if not find("method", n).labelled]
    methods = (methods,) if isinstance(methods, str) else methods
    if not methods:
        raise OptionError("methods (--methods) names none: name at least one, or leave it out for all that need no labels.")
    for name in methods:
        find("method", name)
    return sorted(dict.fromkeys(methods), key=lambda n: order.index(of(n)) if of(n) in order else len(order))


@dataclass
class Row:
    """One line of the table: a protocol's Score for every seed, what its training took, and why it is empty where it is."""

    name: str
    scores: dict[str, list[Score]] = field(default_factory=dict)
    seconds: float = 0.0
    note: str = ""
    refused: NotApplicable | OptionError | None = None  # what the note tells, where the method was not trained

    def interval(self, protocol: str) -> Interval:
        """Mean over seeds with Student's interval; of a single seed, or where none differs, the interval over its test items."""
        found = self.scores[protocol]
        if len({s.value for s in found}) == 1:
            return Interval(found[0].value, found[0].low, found[0].high, found[0].n)
        d = paired_difference([s.value for s in found], [0.0] * len(found))
        return Interval(d.mean, d.low, d.high, d.n, "Student's t over seeds")


@dataclass
class Comparison:
    """rows: raw input, random initialisation, then the methods. budget: what each had, in words."""

    rows: list[Row]
    budget: str
    seeds: int

    def row(self, name: str) -> Row:
        return next(r for r in self.rows if r.name == name)

    def gain(self, name: str, protocol: str = "linear") -> Interval | None:
        """By how much a method beats random initialisation, seed by seed; no interval (NaN) from one seed."""
        mine, theirs = self.row(name).scores.get(protocol), self.row("random initialisation").scores[protocol]
        if not mine or len(mine) != len(theirs):
            return None
        differences = [a.value - b.value for a, b in zip(mine, theirs)]
        if len(differences) < 2:
            return Interval(differences[0], np.nan, np.nan, 1, "none: one seed")
        d = paired_difference(differences, [0.0] * len(differences))
        return Interval(d.mean, d.low, d.high, d.n, "Student's t over seeds")

    def to_text(self) -> str:
        head = ["", "family", "negatives", "pretext", *self.row("random initialisation").scores, "linear over random", "seconds"]
        lines = [head, *(self._line(row, head[4:-2]) for row in self.rows)]
        widths = [max(len(line[i]) for line in lines if len(line) == len(head)) for i in range(len(head))]
        shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]
        return "\n".join([*shown, "", f"{self.budget}; {self.seeds} seed{'s' if self.seeds > 1 else ''}, 95 % intervals"])

    def _line(self, row: Row, protocols: Sequence[str]) -> list[str]:
        labels = [row.name, *((family(row.name), *tags(row.name)) if row.name not in BASELINES else ("", "", ""))]
        if not row.scores:
            return [*labels, row.note]
        gain = None if row.name in BASELINES else self.gain(row.name)
        scores = [_shown(row.interval(p)) if p in row.scores else "" for p in protocols]
        return [*labels, *scores, "" if gain is None else _shown(gain, "+.3f"), f"{row.seconds:.0f}" if row.seconds else ""]

    def to_json(self) -> dict[str, Any]:
        rows = []
        for row in self.rows:
            kind, negatives, pretext = (family(row.name), *tags(row.name)) if row.name not in BASELINES else (None, None, None)
            gain = self.gain(row.name) if row.scores and row.name not in BASELINES else None
            rows.append({"name": row.name, "family": kind, "negatives": negatives, "pretext": pretext, "note": row.note,
                         "seconds": round(row.seconds, 2), "scores": {p: [s.to_json() for s in found] for p, found in row.scores.items()},
                         "linear_over_random": None if gain is None else [gain.value, *(float(v) if v == v else None
                                                                                        for v in (gain.low, gain.high))]})
        return {"rows": rows, "budget": self.budget, "seeds": self.seeds}


BASELINES = ("raw input", "random initialisation")
FINETUNING = Supervision(steps=200, passes=50)


def _shown(interval: Interval, form: str = ".3f") -> str:
    ends = "" if interval.low != interval.low else f" [{interval.low:{form}}, {interval.high:{form}}]"
    return f"{interval.value:{form}}{ends}"


def compare_methods(data: Any, test: Any = None, *, methods: str | Sequence[str] | None = None, by: str | None = None,
                    seeds: int = 1, target: str | None = None, group: str | None = None, layout: str | None = None,
                    modality: str | None = None, finetune: float | int | None = None,
                    say: Callable[[str], None] = lambda line: None, **overrides: Any) -> Comparison:
    """Trains each method on the same items with the same encoder and budget, and scores k-NN and linear probe of its last state.

    data: labelled (labels are for scoring; only methods that say so learn from them). test: likewise; without it a fifth of
    data is held out from training as well, whole groups where there are groups. methods, by: see `chosen`. seeds: how many, from
    `seed` (0) on; each draws weights, order and views. overrides: keys of the plan, `steps` or `epochs` (10) among them. A method
    whose needs data or encoder cannot supply, or which a setting does not suit, gets a row with the reason. finetune: labels (a fraction,
    or a count above 1) with which every network is fine-tuned as well; random initialisation is then supervised training from scratch.
    Where a method needs tokens the encoder for all is a Transformer. Raises DataError, OptionError and, where no method could be trained,
    what the first was refused for: each a sentence.
    """
    if seeds < 1:
        raise OptionError(f"seeds={seeds} is too few: give at least 1.")
    if "method" in overrides:
        raise OptionError(f"method={overrides['method']} names one method; those to compare are named by methods (--methods).")
    wanted, options = chosen(methods, by), {"target": target, "group": group, "layout": layout, "modality": modality}
    train, test = _parts(data, test, options)
    overrides = {"stop_on_collapse": False, "log_every": 50, **({} if "steps" in overrides else {"epochs": 10}), **overrides}
    planned = next((n for n in wanted if find("method", n).needs.backbone), "simclr")
    first = make_plan(train, {**overrides, "method": planned})
    overrides.setdefault("backbone", first["backbone"])
    rows, start = {name: Row(name) for name in (*BASELINES, *wanted)}, first["seed"]
    for seed in range(start, start + seeds):
        plan = make_plan(train, {**overrides, "method": "simclr", "seed": seed}, preprocessing=first.preprocessing)
        untrained = _encoder(plan, plan.build_backbone())
        test = align_classes(untrained.open(test), train.classes)
        if seed == start:  # nothing is drawn in it
            _score(rows["raw input"], untrained.raw, train, test)
        _score_encoder(rows["random initialisation"], random_encoder(untrained, train, seed=seed), train, test, finetune, seed)
        for name in wanted:
            _contend(rows[name], train, test, {**overrides, "method": name, "seed": seed}, first, finetune, say)
    refused = [rows[name].refused for name in wanted]
    if refused and all(refused):
        raise refused[0]
    length = f"{first['steps']} steps of {first['batch_size']} items"
    return Comparison([*rows.values()], f"{first['backbone']}, {length} for each, {len(train):,} items", seeds)


def _parts(data: Any, test: Any, options: dict[str, Any]) -> tuple[Source, Source]:
    train = open_source(data, **({} if isinstance(data, Source) else options))
    check_labels(train, "training")
    if test is not None:
        test = open_source(test, **({} if isinstance(test, Source) else options))
        check_labels(test, "test")
        return train, test
    kept, held = split_indices(len(train), train.labels, train.groups, fractions=(0.8, 0.2))
    return labelled_subset(train, kept, train.classes), labelled_subset(train, held, train.classes)


def _encoder(plan: Plan, backbone: Any) -> Encoder:
    return Encoder(backbone, plan.preprocessing, backbone_name=plan["backbone"], backbone_options=plan.nested["backbone"])


def _contend(row: Row, train: Source, test: Source, overrides: dict[str, Any], first: Plan, labels: float | int | None,
             say: Callable[[str], None]) -> None:
    """One method's run and scores of one seed, or the reason why there are none."""
    if row.note:
        return
    began = time.perf_counter()
    try:
        plan = make_plan(train, overrides, preprocessing=first.preprocessing)
        stream, method = plan.stream(train), plan.build_method()
        fit(method, stream, plan.training(), plan.settings(progress=False))
    except NotApplicable as reason:
        row.note, row.refused = f"not applicable: {reason}", reason
    except OptionError as reason:
        row.note, row.refused = f"not trained: {reason}", reason
    except NonFinite as reason:
        row.scores, row.note = {}, f"diverged: {reason}"
    else:
        row.seconds += time.perf_counter() - began
        _score_encoder(row, _encoder(plan, method.kept()), train, test, labels, overrides["seed"])
    say(f"{row.name}, seed {overrides['seed']}: {row.note or f'{time.perf_counter() - began:.0f} s'}")


def _score(row: Row, embed: Callable[[Source], np.ndarray], train: Source, test: Source) -> None:
    (x, y, groups), (test_x, test_y, test_groups) = (finite(embed(source), source) for source in (train, test))
    for protocol, probe in (("knn", knn), ("linear", linear_probe)):
        score = probe(x, y, test_x, test_y, groups=groups, test_groups=apart(test_groups))
        row.scores.setdefault(protocol, []).append(score)


def _score_encoder(row: Row, encoder: Encoder, train: Source, test: Source, labels: float | int | None, seed: int) -> None:
    _score(row, encoder.embed, train, test)
    if labels is not None:
        score = finetuned(encoder, train, test, labels=labels, seed=seed, budget=FINETUNING)
        row.scores.setdefault("finetune", []).append(score)
