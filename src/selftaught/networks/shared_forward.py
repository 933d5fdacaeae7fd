"""One forward for all views of one shape (`over`), and the pairs of views that a loss sums over (`ordered_pairs`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..contracts import Features, OptionError, View
from .batchnorm import view_groups

P = TypeVar("P")
Q = TypeVar("Q")


def over(views: Sequence[View | Tensor], fn: Callable[[Any], Any], *, joint: bool = False) -> list[Any]:
    """`fn` of every view, in their order; views of one field and shape go through it together, along the batch.

    views: Views (fn gets a View: x, lengths and masks joined, role of the first) or tensors [B, ...] (fn gets a tensor).
    fn: gives a tensor, Features, or a tuple, list or dict of them, samples along the first axis. BatchNorms keep statistics of
    their own for every view unless `joint`.
    """
    grouped: dict[Any, list[int]] = {}
    for i, view in enumerate(views):
        grouped.setdefault(_kind(view, i), []).append(i)
    outputs: list[Any] = [None] * len(views)
    for members in grouped.values():
        sizes = tuple(len(_x(views[i])) for i in members)
        with view_groups(None if joint else sizes):
            output = fn(_join([views[i] for i in members]))
        for i, part in zip(members, _split(output, sizes)):
            outputs[i] = part
    return outputs


def ordered_pairs(predicted: Sequence[P], targets: Sequence[Q]) -> Iterator[tuple[P, Q]]:
    """(predicted[i], targets[j]) for all i ≠ j; the predictions may be more than the targets (multi-crop)."""
    return ((p, t) for i, p in enumerate(predicted) for j, t in enumerate(targets) if i != j)


def _x(view: View | Tensor) -> Any:
    return view.x if isinstance(view, View) else view


def _kind(view: View | Tensor, place: int) -> Any:
    """What must agree for views to be joined; views whose x is not a tensor stay alone."""
    if isinstance(view, Tensor):
        return view.shape[1:], view.dtype
    if not isinstance(view.x, Tensor):
        return place
    masks = None if view.masks is None else (view.masks.shape[0], view.masks.shape[2:])
    return view.field, view.x.shape[1:], view.x.dtype, view.lengths is None, masks


def _join(views: list[View | Tensor]) -> View | Tensor:
    first = views[0]
    if len(views) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(views)
    return View(x=torch.cat([v.x for v in views]), role=first.role, field=first.field,
                lengths=None if first.lengths is None else torch.cat([v.lengths for v in views]),
                masks=None if first.masks is None else torch.cat([v.masks for v in views], dim=1))


def _split(output: Any, sizes: tuple[int, ...]) -> Sequence[Any]:
    """One part a view, of the same structure as the whole."""
    if len(sizes) == 1:
        return [output]
    if output is None:
        return [None] * len(sizes)
    if isinstance(output, Tensor):
        return _rows(output, sizes)
    if isinstance(output, Features):
        parts = _split(vars(output), sizes)
        return [Features(**part) for part in parts]
    if isinstance(output, dict):
        columns = [_split(value, sizes) for value in output.values()]
        return [dict(zip(output, row)) for row in zip(*columns)]
    if isinstance(output, (tuple, list)):
        columns = [_split(value, sizes) for value in output]
        return [type(output)(row) for row in zip(*columns)] if columns else [output] * len(sizes)
    raise OptionError(f"`over` cannot split a {type(output).__name__} back into views: return tensors, Features, or tuples, "
                      "lists or dicts of them.")


def _rows(output: Tensor, sizes: tuple[int, ...]) -> Sequence[Tensor]:
    rows, rest = divmod(output.shape[0], sum(sizes)) if output.ndim else (0, 1)
    if rest:
        raise OptionError(f"`over` joined {sum(sizes)} samples but got back a tensor of shape {tuple(output.shape)}: its first "
                          "axis must hold the samples.")
    return output.split([size * rows for size in sizes])
