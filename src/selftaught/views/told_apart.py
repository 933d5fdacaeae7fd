"""What makers of `Transformed` share over modalities: which class a view is changed by, and that it bears its number."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..contracts import Batch, Draws, Transformed, View


class ToldApart:
    """Maker for `Transformed` and `TurnedPair`: every view of `views`, changed by every class in turn or by one drawn a sample, for each
    view anew; a subclass says in `changed` what its classes do."""

    def __init__(self, views: Callable[[Batch, Draws], list[View]], need: Transformed):
        self.views, self.need = views, need

    @torch.no_grad()
    def __call__(self, batch: Batch, draws: Draws) -> list[View]:
        own = draws.split("transformed")
        return [told for k, view in enumerate(self.views(batch, draws)) for told in self._told(view, own.split(k) if k else own)]

    def _told(self, view: View, draws: Draws) -> list[View]:
        if self.need.every:
            numbers = [torch.full_like(draws.keys, k) for k in range(self.need.classes)]
        else:
            numbers = [draws.integers("class", self.need.classes)]
        return [view.with_(x=self.changed(view, n, draws), applied=view.applied | {"class": n}) for n in numbers]

    def changed(self, view: View, number: Tensor, draws: Draws) -> Tensor:
        """The view's x under the classes `number` (int64 [B])."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its classes do")
