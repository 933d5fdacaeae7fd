"""`segment`: what single tokens of an encoder know of places, on items with masks, beside random initialisation and the raw input."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from ..contracts import BadItem, DataError, NotApplicable, OptionError, Source, nearest
from ..encoder import Encoder
from ..evaluation import dense_probe, split_indices, token_knn
from ..sources import open_source
from .baselines import random_encoder
from .table import Cell, Table

BASELINES = ("random", "raw")
MOST = 256  # distinct values of masks; more are a picture, not a mask


def segment(encoder: Any, items: Any, masks: Any, *, held: float = 0.2, ignore: Sequence[int] = (255,), seed: int = 0,
            baselines: Sequence[str] = BASELINES, say: Callable[[str], None] = lambda line: None) -> Table:
    """Segments held-out items by a linear map of single tokens (mean IoU) and by their nearest tokens (accuracy).

    encoder: an Encoder, a Run or a path, with a backbone that gives tokens. items: whatever `open_source` takes; masks: likewise, a mask an
    item, whose values (or colours) are the classes; paired by name where both have files, by place, with a note, where one has
    none. Masks are taken at the size that the encoder sees. held: the part of items that is scored; the rest fits the probe. ignore:
    values that no token is judged by. baselines: random (untrained twin), raw (the input in each token's cell). Raises DataError and
    OptionError, each a sentence.
    """
    for name in baselines:
        if name not in BASELINES:
            raise nearest(name, BASELINES, what="baseline")
    if not 0 < held < 1:
        raise OptionError(f"held is the part of items that is scored, between 0 and 1, not {held}.")
    encoder = encoder if isinstance(encoder, Encoder) else getattr(encoder, "encoder", None) or Encoder.load(encoder)
    shape = encoder.preprocessing.facts.shape
    if len(shape) < 2 or not getattr(encoder.backbone, "ordered", True):
        raise NotApplicable("Segmentation needs items with sides, along which tokens and masks lie; this encoder takes "
                            f"{encoder.modality.name} data, which have none.")
    source = encoder.open(items)
    answers, notes = read_masks(open_source(masks, modality=source.modality, least=1), named(source), len(source), shape[1:], ignore)
    fit, test = split_indices(len(source), None, source.groups, fractions=(1 - held, held), seed=seed)
    grid = encoder.backbone.grid(shape) if hasattr(encoder.backbone, "grid") else None
    ways: dict[str, Callable[[], np.ndarray]] = {"encoder": lambda: encoder.embed(source, tokens=True)}
    if "raw" in baselines:
        ways["raw"] = lambda: cells(encoder.raw(source), shape, seen["count"], grid)
    if "random" in baselines:
        ways["random"] = lambda: random_encoder(encoder, source, seed=seed).embed(source, tokens=True)
    table, seen, groups = Table(notes=notes, apart=True), {}, source.groups
    for name, tokens_of in ways.items():
        began = time.perf_counter()
        tokens = tokens_of()
        seen["count"] = tokens.shape[1]
        fine = np.isfinite(tokens).all(axis=(1, 2))
        train, scored = fit[fine[fit]], test[fine[test]]
        parts = tokens[train], answers[train], tokens[scored], answers[scored]
        mine, theirs = (None, None) if groups is None else (groups[train], groups[scored])
        for score in (dense_probe(*parts, grid=grid, groups=mine, test_groups=theirs), token_knn(*parts, grid=grid, test_groups=theirs)):
            table.cells.append(Cell(name, score.name, 1.0, len(train), score))
        table.cost[name] = round(time.perf_counter() - began, 1)
        say(f"  {name}: scored in {time.perf_counter() - began:.0f} s")
    return table


def named(source: Source) -> list[str] | None:
    """Every item's path below the root without its suffix; None where items are not files, or two share a path."""
    paths = [PurePath(source.name(i)) for i in range(len(source))]
    files = all(path.suffix for path in paths[:8])
    names = [str(path.with_suffix("")) for path in paths] if files else []
    return names if files and len(set(names)) == len(names) else None


def paired(items: list[str], masks: list[str]) -> list[int]:
    """The place of each item's mask: of its own name without the folders where these are all different, as in images/1 and labels/1,
    else of its path. DataError where an item has none."""
    keys = [[PurePath(name).name for name in names] for names in (items, masks)]
    if any(len(set(names)) < len(names) for names in keys):
        keys = [items, masks]
    place = {key: i for i, key in enumerate(keys[1])}
    lacking = [item for item, key in zip(items, keys[0]) if key not in place]
    if lacking:
        more = f", nor have {len(lacking) - 1} more of {len(items)} items" if len(lacking) > 1 else ""
        raise DataError(f"{lacking[0]} has no mask of its name{more}: masks are called like their items, such as {masks[0]}.")
    return [place[key] for key in keys[0]]


def read_masks(masks: Source, names: list[str] | None, count: int, sides: Sequence[int], ignore: Sequence[int] = ()
               ) -> tuple[np.ndarray, list[str]]:
    """(int64 [count, *sides] classes, −1 where a value is ignored; notes): the masks in the order of the items they belong to, each
    taken at its nearest pixels. names: of the items, as `named` gives them. DataError where masks and items do not pair or are pictures."""
    mine, notes = named(masks) if names else None, []
    if names and mine:
        order = paired(names, mine)
    elif len(masks) == count:
        order, notes = list(range(count)), ["items and masks are paired by place: no names of files pair them."]
    else:
        raise DataError(f"There are {len(masks)} masks for {count} items, and no file names to pair them by: give one for each, in order.")
    found: dict[tuple[int, ...], int] = {}
    out = np.empty((count, *sides), dtype=np.int64)
    for i, j in enumerate(order):
        try:
            x = masks.read(j)["x"]
        except BadItem as reason:
            raise DataError(f"The mask {masks.name(j)} cannot be read: {reason}.") from None
        if x.ndim != len(sides) + 1:
            raise DataError(f"The mask {masks.name(j)} has shape {x.shape}, but the encoder sees items of sides {tuple(sides)}: give masks "
                            "that lie along them.")
        x = x[(slice(None), *np.ix_(*(nearest_places(a, b) for a, b in zip(x.shape[1:], sides))))]
        keys, codes = distinct(x.reshape(len(x), -1))
        for key in keys:
            found.setdefault(key, len(found))
        if len(found) > MOST:
            raise DataError(f"The masks have more than {MOST} distinct values by {masks.name(j)}, so they are pictures, or were saved with "
                            "losses: give masks whose values are classes, as PNG.")
        out[i] = np.array([found[k] for k in keys])[codes].reshape(sides)
    order_of = {code: rank for rank, (_, code) in enumerate(sorted(found.items()))}
    classes = np.array([-1 if all(v in ignore for v in key) else order_of[code] for key, code in found.items()])
    shown = ", ".join("/".join(map(str, key)) for key in sorted(found))
    if len(set(classes[classes >= 0])) < 2:
        left = f" once {', '.join(map(str, ignore))} is left out (say --ignore '' where that is a class)" if (classes < 0).any() else ""
        raise DataError(f"The masks have the values {shown}, which are not two classes{left}: nothing can be told apart.")
    left = f"; left out: {', '.join(map(str, ignore))}" if ignore else ""
    return classes[out], [f"classes are the masks' values {shown}{left}.", *notes]


def distinct(x: np.ndarray) -> tuple[list[tuple], np.ndarray]:
    """(values, numbers [P]) of the columns of x [C, P]: each value, or colour, once, and which of them every place has. Colours of 8 or 16
    bits are told by one whole number, since sorting columns takes twenty times as long."""
    if len(x) == 1:
        values, codes = np.unique(x[0], return_inverse=True)
        return [(v,) for v in values.tolist()], codes
    if x.dtype in (np.uint8, np.uint16) and len(x) <= 3:
        weights = 1 << (16 * np.arange(len(x), dtype=np.int64))
        _, first, codes = np.unique(weights @ x.astype(np.int64), return_index=True, return_inverse=True)
        return [tuple(v) for v in x[:, first].T.tolist()], codes
    values, codes = np.unique(x, axis=1, return_inverse=True)
    return [tuple(v) for v in values.T.tolist()], codes.reshape(-1)


def nearest_places(have: int, want: int) -> np.ndarray:
    """Of `have` pixels in a row, those nearest to the centres of `want`."""
    return np.minimum(((np.arange(want) + 0.5) * have / want).astype(np.int64), have - 1)


def cells(raw: np.ndarray, shape: Sequence[int], count: int, grid: Sequence[int] | None = None) -> np.ndarray:
    """[N, count, D]: of items [N, C · sides] the part in each token's cell; sides that the grid does not divide are cut at the end."""
    sides = shape[1:]
    grid = tuple(grid or (round(count ** (1 / len(sides))),) * len(sides))
    size = [max(side // n, 1) for side, n in zip(sides, grid)]
    x = torch.from_numpy(raw).view(len(raw), *shape)
    for axis, (n, step) in enumerate(zip(grid, size)):
        x = x.narrow(2 + axis, 0, n * step).unfold(2 + axis, step, step)
    axes = len(sides)
    order = [0, *range(2, 2 + axes), 1, *range(2 + axes, 2 + 2 * axes)]
    return x.permute(order).reshape(len(raw), count, -1).numpy()
