"""What single tokens know: segmentation by a linear map or by neighbours, and which tokens of two views show the same place."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import DataError
from .arrays import as_features, to_numpy
from .intervals import bootstrap
from .knn import knn
from .linear import fitted_linear
from .score import Score

IGNORED = -1


def dense_probe(train_tokens: Any, train_masks: Any, test_tokens: Any, test_masks: Any, *, grid: Sequence[int] | None = None,
                groups: Any = None, test_groups: Any = None, iterations: int = 100, seed: int = 0) -> Score:
    """Mean IoU of a linear classifier of tokens, fitted as `linear_probe` is, whole items held out.

    tokens: [N, T, D]. masks: int [N, T], a class a token; or [N, *sides] in pixels (or steps), with the tokens' `grid` (by default as
    many along each axis). Then a token of train has the class that most of its pixels have, and the logits of test are interpolated to the
    pixels they are judged at. −1 is left out. A class counts where test shows or the probe predicts it. detail: accuracy, IoU a class,
    the chosen penalty. groups [N of train], held out whole; test_groups: the interval, else over items, resamples whole groups. DataError
    for shapes that do not fit, and as `linear_probe`.
    """
    start = time.perf_counter()
    tokens, masks, grid = _checked(train_tokens, train_masks, "train", grid)
    test, answers, grid = _checked(test_tokens, test_masks, "test", grid)
    if tokens.shape[2] != test.shape[2]:
        raise DataError(f"train and test have tokens of width {tokens.shape[2]} and {test.shape[2]}: encode both with the same encoder.")
    classes, logits, detail = _linear(tokens, token_labels(masks, grid), test, groups, iterations, seed)
    maps = logits.view(len(test), *grid, -1).movedim(-1, 1)  # [N, C, *grid]
    predicted = torch.cat([_interpolated(part, answers.shape[1:]).argmax(1) for part in maps.split(64)])
    hits = overlaps(classes[predicted.cpu().numpy()], answers)
    return _judged("dense", hits, {**detail, "grid_of_tokens": list(grid), "train": len(tokens)}, test_groups, start)


def token_knn(train_tokens: Any, train_masks: Any, test_tokens: Any, test_masks: Any, *, grid: Sequence[int] | None = None, k: int = 20,
              test_groups: Any = None) -> Score:
    """Accuracy of tokens classified by their k nearest tokens of train, by cosine; arguments as of `dense_probe`, both sides at tokens."""
    tokens, masks, grid = _checked(train_tokens, train_masks, "train", grid)
    test, answers, grid = _checked(test_tokens, test_masks, "test", grid)
    units = np.repeat(np.arange(len(test)) if test_groups is None else test_groups, test.shape[1])
    score = knn(tokens.flatten(0, 1), token_labels(masks, grid).reshape(-1), test.flatten(0, 1), token_labels(answers, grid).reshape(-1),
                k=k, test_groups=units)
    score.name = "token_knn"
    return score


def token_labels(masks: Any, grid: Sequence[int]) -> np.ndarray:
    """int64 [N, T]: the class that most pixels of each token's cell have (the lower of two as frequent), −1 where all are left out.
    masks: int [N, T], or [N, *sides]; cells are as even as sides that no grid divides allow."""
    masks = to_numpy(masks).astype(np.int64)
    if masks.shape[1:] in ((math.prod(grid),), tuple(grid)):
        return masks.reshape(len(masks), -1)
    cell = np.zeros((1,) * len(grid), np.int64)
    for axis, (side, count) in enumerate(zip(masks.shape[1:], grid, strict=True)):
        line = np.arange(side) * count // side
        cell = cell * count + line.reshape(-1, *[1] * (len(grid) - axis - 1))
    classes, codes = np.unique(masks, return_inverse=True)
    codes, cells = codes.reshape(len(masks), -1), math.prod(grid)
    votes = np.zeros((len(masks), cells, len(classes)), np.int64)
    np.add.at(votes, (np.arange(len(masks))[:, None], cell.reshape(1, -1), codes), 1)
    votes[:, :, classes < 0] = 0
    return np.where(votes.any(2), classes[votes.argmax(2)], IGNORED)


def overlaps(predicted: np.ndarray, answers: np.ndarray) -> dict[str, np.ndarray]:
    """Pixels an item and class, int64 [N, C] each: `both` (predicted and true), `either`; and `classes` [C]. −1 in `answers` is left
    out."""
    predicted, answers = (to_numpy(part).reshape(len(answers), -1) for part in (predicted, answers))
    counted = answers >= 0
    classes = np.union1d(predicted[counted], answers[counted])
    mine, theirs = (np.stack([((part == c) & counted).sum(1) for c in classes], 1) for part in (predicted, answers))
    both = np.stack([((predicted == c) & (answers == c)).sum(1) for c in classes], 1)
    return {"both": both, "either": mine + theirs - both, "classes": classes}


def mean_iou(means: np.ndarray) -> np.ndarray:
    """[R] from [R, 2 C]: intersections, then unions, of C classes; a class that is nowhere does not count."""
    both, either = np.split(means, 2, axis=1)
    iou = np.where(either > 0, both / np.where(either > 0, either, 1.0), np.nan)
    return np.nanmean(iou, 1)


def correspondence(a: Any, b: Any, places_a: Any, places_b: Any, *, radius: float = 0.1) -> Score:
    """PCK: the share of tokens of one view whose most alike token (by cosine) of the other lies within `radius` of the same place.

    a: [N, Ta, D], b: [N, Tb, D], tokens of two views of each item. places: [N, T, axes], their centres in one system of coordinates, parts
    of the item (`token_places`); NaN = no token. Only tokens count that the other view shows: a token of it is within `radius`. detail:
    `chance` (a random token), `distance` (the median of the matches'), tokens that count. The interval is over items.
    """
    start = time.perf_counter()
    (a, places_a), (b, places_b) = _placed(a, places_a, "a"), _placed(b, places_b, "b")
    if len(a) != len(b) or a.shape[2] != b.shape[2] or places_a.shape[2] != places_b.shape[2]:
        raise DataError(f"Views have tokens of shapes {tuple(a.shape)} and {tuple(b.shape)}: give two views of the same "
                        "items by one encoder.")
    found = [_matched(*parts, radius) for parts in zip(*(part.split(64) for part in (a, b, places_a, places_b)))]
    right, chance, counted, distance = (torch.cat(parts).double().cpu().numpy() for parts in zip(*found))
    if not counted.any():
        raise DataError(f"No token of one view shows a place that the other shows within {radius}: views must overlap.")
    items = np.flatnonzero(counted.any(1))
    sums = np.stack([(right * counted)[items].sum(1), counted[items].sum(1)], 1)
    detail = {"radius": radius, "chance": float(chance[counted > 0].mean()), "distance": float(np.median(distance[counted > 0])),
              "tokens": int(counted.sum())}
    interval = bootstrap(sums, lambda means: means[:, 0] / means[:, 1])
    return Score.of("correspondence", interval, metric="pck", detail=detail, seconds=time.perf_counter() - start)


def token_places(boxes: Any, grid: Sequence[int], *, flips: Any = None) -> np.ndarray:
    """float64 [N, T, axes]: centres of the tokens of views that show `boxes` [N, 2 · axes] (all low ends, then all high ends, as
    `View.positions`), in the boxes' coordinates. flips: bool [N, axes], axes that are seen backward."""
    boxes, axes = to_numpy(boxes).astype(np.float64), len(grid)
    low, high = boxes[:, :axes], boxes[:, axes:]
    lines = [(np.arange(count) + 0.5) / count for count in grid]
    part = np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(1, -1, axes)
    if flips is not None:
        part = np.where(to_numpy(flips).astype(bool)[:, None], 1.0 - part, part)
    return low[:, None] + part * (high - low)[:, None]


def _checked(tokens: Any, masks: Any, name: str, grid: Sequence[int] | None) -> tuple[Tensor, np.ndarray, tuple[int, ...]]:
    tokens, masks = _tokens(tokens, name), to_numpy(masks)
    if masks.dtype.kind not in "iub" or len(masks) != len(tokens):
        raise DataError(f"{name} has {len(tokens)} items with tokens but masks of shape {masks.shape} and type {masks.dtype}: give whole "
                        "numbers, classes, of the same items.")
    count, axes = tokens.shape[1], masks.ndim - 1
    if grid is None:
        side = round(count ** (1 / axes))
        grid = (count,) if axes == 1 else (side,) * axes
    if math.prod(grid) != count or (axes != len(grid) and masks.shape[1:] != (count,)):
        raise DataError(f"{name} has {count} tokens an item, which are no grid {tuple(grid)} over masks of shape "
                        f"{masks.shape[1:]}: give grid=.")
    if masks.shape[1:] == (count,) and len(grid) > 1:
        masks = masks.reshape(len(masks), *grid)
    return tokens, masks.astype(np.int64), tuple(grid)


def _tokens(tokens: Any, name: str) -> Tensor:
    shape = tuple(np.shape(tokens))
    if len(shape) != 3:
        raise DataError(f"{name} has shape {shape}, but tokens are [N, T, D]: encode with tokens.")
    return as_features(tokens, name).view(shape)


def _linear(tokens: Tensor, labels: np.ndarray, test: Tensor, groups: Any, iterations: int, seed: int
            ) -> tuple[np.ndarray, Tensor, dict[str, Any]]:
    """(classes [C], logits of the test tokens [N · T, C], what was chosen), the penalty chosen on items, or groups, held out of train."""
    item, place = np.nonzero(labels >= 0)
    classes, codes = np.unique(labels[labels >= 0], return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"The masks of train show the classes {classes.tolist()} at tokens, so nothing can be told apart: give two.")
    rows = tokens[torch.from_numpy(item), torch.from_numpy(place)]
    units = item if groups is None else to_numpy(groups)[item]
    logits, detail = fitted_linear(rows, codes, test.flatten(0, 1), classes=len(classes), groups=units, iterations=iterations, seed=seed)
    return classes, logits, detail


def _interpolated(maps: Tensor, sides: Sequence[int]) -> Tensor:
    """[N, C, *grid] → [N, C, *sides], linear between tokens."""
    if maps.shape[2:] == tuple(sides):
        return maps
    return F.interpolate(maps, size=tuple(sides), mode=("linear", "bilinear", "trilinear")[len(sides) - 1], align_corners=False)


def _judged(name: str, hits: dict[str, np.ndarray], detail: dict[str, Any], groups: Any, start: float) -> Score:
    both, either, classes = hits["both"], hits["either"], hits["classes"]
    interval = bootstrap(np.concatenate([both, either], 1), mean_iou, groups=groups)
    iou = both.sum(0) / np.maximum(either.sum(0), 1)
    wrong = (either - both).sum() / 2  # a wrong pixel is in the union of two classes
    detail |= {"accuracy": float(both.sum() / (both.sum() + wrong)), "iou": {str(c): float(v) for c, v in zip(classes, iou)}}
    return Score.of(name, interval, metric="miou", detail=detail, seconds=time.perf_counter() - start)


def _placed(tokens: Any, places: Any, name: str) -> tuple[Tensor, Tensor]:
    tokens = _tokens(tokens, name)
    places = torch.as_tensor(to_numpy(places), dtype=torch.float64, device=tokens.device)
    if places.shape[:2] != tokens.shape[:2] or places.ndim != 3:
        raise DataError(f"{name} has tokens {tuple(tokens.shape)} but places {tuple(places.shape)}: give each token its centre [axes].")
    return tokens, places


def _matched(a: Tensor, b: Tensor, places_a: Tensor, places_b: Tensor, radius: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(right, chance, counted, distance of the match) [n, Ta] each."""
    a, b = (F.normalize(part.to(torch.promote_types(part.dtype, torch.float32)), dim=2) for part in (a, b))
    apart = (places_a[:, :, None] - places_b[:, None]).square().sum(-1).sqrt()  # [n, Ta, Tb], NaN where there is no token
    there = ~apart.isnan()
    best = (a @ b.transpose(1, 2)).masked_fill(~there, -torch.inf).argmax(2, keepdim=True)
    distance, near = apart.gather(2, best)[..., 0], (apart <= radius) & there
    chance = near.sum(2) / there.sum(2).clamp(min=1)
    return distance <= radius, chance, near.any(2), distance.nan_to_num(0.0)
