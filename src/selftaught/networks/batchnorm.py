"""Batch normalisation that keeps statistics of its own for every view and reduces them over processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..collectives import gather, world_size
from ..contracts import OptionError, View
from .backbone import Backbone

_VIEW_SIZES: ContextVar[tuple[int, ...] | None] = ContextVar("view_sizes", default=None)


@contextmanager
def view_groups(sizes: tuple[int, ...] | None) -> Iterator[None]:
    """Within it the batch of every BatchNorm consists of groups of so many samples (None: one group)."""
    token = _VIEW_SIZES.set(sizes)
    try:
        yield
    finally:
        _VIEW_SIZES.reset(token)


class BatchNorm(nn.Module):
    """Normalises `[B, C]`, `[B, C, T]`, `[B, C, H, W]` or `[B, C, D, H, W]` over all but the channels (Ioffe & Szegedy, 2015).

    Parameters, buffers and results are torch's. Beyond it: within `over`, every view is normalised by statistics of its own,
    and the running statistics move as if the views had been forwarded one after another; in several processes the
    statistics are those of the global batch. Padding of series of varying lengths counts in the statistics of training.
    """

    def __init__(self, width: int, *, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True):
        super().__init__()
        self.width, self.eps, self.momentum = width, eps, momentum
        self.register_parameter("weight", nn.Parameter(torch.ones(width)) if affine else None)
        self.register_parameter("bias", nn.Parameter(torch.zeros(width)) if affine else None)
        self.register_buffer("running_mean", torch.zeros(width) if track_running_stats else None)
        self.register_buffer("running_var", torch.ones(width) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", torch.tensor(0) if track_running_stats else None)

    def extra_repr(self) -> str:
        return f"{self.width}, eps={self.eps}, momentum={self.momentum}, affine={self.weight is not None}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training and self.running_mean is not None:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        chunks = self._split(x)
        if world_size() > 1:
            return self._over_processes(chunks)
        normed = [self._here(chunk) for chunk in chunks]
        return normed[0] if len(normed) == 1 else torch.cat(normed)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        sizes = _VIEW_SIZES.get()
        if sizes is None or len(sizes) == 1:
            return (x,)
        each, rest = divmod(x.shape[0], sum(sizes))
        if rest:
            raise OptionError(f"BatchNorm got a batch of {x.shape[0]} inside `over`, where views of {sizes} samples were "
                              "joined: keep the samples along the first axis, or call `over(..., joint=True)`.")
        return x.split([size * each for size in sizes])

    def _step(self) -> float:
        """Counts one forward; the weight of its statistics in the running ones."""
        if not self.training or self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum

    def _refuse_single(self, shape: torch.Size) -> None:
        raise OptionError(f"BatchNorm cannot normalise a batch of one value a channel in training (got shape {tuple(shape)}): "
                          "use a batch size of at least 2, or evaluation mode.")

    def _here(self, x: Tensor) -> Tensor:
        if x.numel() <= x.shape[1]:
            self._refuse_single(x.shape)
        weight = self._step()
        mean, var = (self.running_mean, self.running_var) if self.training else (None, None)
        return F.batch_norm(x, mean, var, self.weight, self.bias, True, weight, self.eps)

    def _over_processes(self, chunks: tuple[Tensor, ...]) -> Tensor:
        """Means and squared deviations of all processes, merged without cancellation (Chan, Golub & LeVeque, 1979)."""
        exact = torch.promote_types(chunks[0].dtype, torch.float32)
        axes = [d for d in range(chunks[0].ndim) if d != 1]
        local = []
        for chunk in chunks:
            if chunk.numel() * world_size() <= self.width:
                self._refuse_single(chunk.shape)
            var, mean = torch.var_mean(chunk.to(exact), axes, correction=0)
            local.append(torch.cat([mean, var, mean.new_full((1,), chunk.numel() / chunk.shape[1])]))
        parts = gather(torch.stack(local)).view(world_size(), len(chunks), -1)  # [W, V, 2C + 1]
        means, variances, counts = parts.split([self.width, self.width, 1], dim=2)
        count = counts.sum(0)  # [V, 1]
        mean = (means * counts).sum(0) / count  # [V, C]
        var = ((variances + (means - mean).square()) * counts).sum(0) / count
        self._track(mean.detach(), var.detach(), count.detach())
        scale = (var + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = (-1,) + (1,) * (chunks[0].ndim - 2)
        normed = [torch.addcmul(shift[v].view(shape), chunk.to(exact), scale[v].view(shape)).to(chunk.dtype)
                  for v, chunk in enumerate(chunks)]
        return normed[0] if len(normed) == 1 else torch.cat(normed)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        if not self.training or self.running_mean is None:
            return
        unbiased = var * (count / (count - 1))
        for v in range(len(mean)):
            weight = self._step()
            self.running_mean.lerp_(mean[v].to(self.running_mean.dtype), weight)
            self.running_var.lerp_(unbiased[v].to(self.running_var.dtype), weight)


def _converted(norm: nn.Module) -> BatchNorm:
    ours = BatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum, affine=False, track_running_stats=False)
    for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        setattr(ours, name, getattr(norm, name))
    return ours.train(norm.training)


def convert_batch_norm(module: nn.Module) -> nn.Module:
    """The module with every torch BatchNorm replaced by ours, in place; parameters and buffers stay the same tensors.

    Subclasses of torch's (which may do more than normalise) are left as they are.
    """
    exact = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    if type(module) in exact:
        return _converted(module)
    replaced: dict[int, BatchNorm] = {}
    for parent in list(module.modules()):
        for name, child in list(parent._modules.items()):
            if type(child) in exact:
                replaced[id(child)] = replaced.get(id(child)) or _converted(child)
                setattr(parent, name, replaced[id(child)])
    return module


@torch.no_grad()
def estimate_batch_norm(module: nn.Module, batches: Iterable[Any]) -> None:
    """Sets the running statistics of all BatchNorms to their average over `batches`: tensors or Views, handed to `module` as
    they are (a Backbone gets a View's x and lengths).

    Everything else (dropout, say) runs in evaluation mode; all modes are restored.
    """
    norms = [m for m in module.modules() if isinstance(m, (BatchNorm, nn.modules.batchnorm._BatchNorm))]
    modes = [(m, m.training) for m in module.modules()]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    try:
        for norm in norms:
            norm.train()
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.zero_()
        for seen, batch in enumerate(batches):
            for norm in norms:
                norm.momentum = 1.0 / (seen + 1)
            if isinstance(batch, View) and isinstance(module, Backbone):
                module(batch.x, lengths=batch.lengths)
            else:
                module(batch)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for each, mode in modes:
            each.training = mode
