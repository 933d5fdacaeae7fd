"""The between-epochs hook: a method that asks for it sees the training data through its kept encoder, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from ..contracts import Clock, Features
from ..methods import Method
from .launch import Place
from .stream import Stream


def between_epochs(method: Method, clock: Clock, stream: Stream, place: Place) -> Iterable[Tensor]:
    """Calls the method's hook, if it has one, with `passes()`: (index [b], Features) in order of the source, every item once.

    `passes` sees each item clean (as the stream's first view shows it where the stream has no clean one), the encoder in evaluation
    mode, on every process alike. Returns the parameters that the method drew anew.
    """
    if type(method).between_epochs is Method.between_epochs:
        return ()
    method.clock = clock

    def passes() -> Iterator[tuple[Tensor, Features]]:
        import numpy as np

        kept, size, views = method.kept(), stream.batch_size, stream.clean or stream.views
        dtype = next(kept.parameters()).dtype
        was = kept.training
        kept.eval()
        everything = np.arange(stream.size, dtype=np.int64)
        requests = ((part, np.full_like(part, clock.epoch), part) for part in np.split(everything, range(size, stream.size, size)))
        try:
            for batch in stream.reader.batches(requests):
                batch = batch.to(place.device)
                view = views(batch, batch.draws(stream.seed, stream.name + "/hook"))[0]
                with torch.no_grad(), place.fabric.autocast():
                    yield batch.index, kept(view.x.to(dtype) if view.x.is_floating_point() else view.x, lengths=view.lengths)
        finally:
            kept.train(was)

    with torch.no_grad():
        return method.between_epochs(passes) or ()
