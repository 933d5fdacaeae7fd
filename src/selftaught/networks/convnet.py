"""A small ConvNet in one, two or three dimensions: the backbone for a processor without a GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Facts, Features, register
from .backbone import CONVOLUTIONS, Backbone, average, he_init, mask_steps, places, shorten, spatial_axes
from .batchnorm import BatchNorm


class ConvNet(Backbone):
    """Stages of convolution, BatchNorm and ReLU, then the mean over all places: [B, C, ...] → pooled [B, widths[-1]].

    strides: of each stage's convolution along each axis, the first one's is the stem's.
    """

    def __init__(self, channels: int, axes: int, widths: Sequence[int], strides: Sequence[Sequence[int]], kernel: int):
        super().__init__()
        self.width = widths[-1]
        self.strides = tuple(stride[-1] for stride in strides)  # along the axis that lengths count
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList(BatchNorm(width) for width in widths)
        for before, after, stride in zip([channels, *widths], widths, strides):
            size = [max(kernel, 2 * step - 1) for step in stride]
            self.convolutions.append(CONVOLUTIONS[axes](before, after, size, stride, [n // 2 for n in size], bias=False))
        he_init(self)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None,
                layers: Sequence[int] = ()) -> Features:
        self.refuse(keep, layers)
        x = mask_steps(x, lengths)
        for convolution, norm, stride in zip(self.convolutions, self.norms, self.strides):
            lengths = shorten(lengths, stride)
            x = mask_steps(F.relu(norm(convolution(x)), inplace=True), lengths)
        return Features(average(x, lengths), places(x), lengths=lengths)


def stage_strides(side: int, stages: int, axes: int) -> list[int]:
    """Strides that leave about 4 places a side (8 steps of a series): one halving between stages, early ones first; what
    is beyond that is the stem's (at most 8, of a series 16)."""
    halvings = max(0, round(math.log2(max(side, 1) / (8 if axes == 1 else 4))))
    between = min(halvings, stages - 1)
    stem = min(halvings - between, 4 if axes == 1 else 3)
    return [2**stem] + [2] * between + [1] * (stages - 1 - between)


@register("convnet", kind="backbone")
def convnet(facts: Facts, *, widths: Sequence[int] = (64, 128, 256, 256), kernel: int | None = None) -> ConvNet:
    """widths: channels of the stages, one convolution each. kernel: odd; 3, for series 5."""
    axes = spatial_axes(facts, "convnet")
    sides = facts.shape[1:] if axes == 3 else (min(facts.shape[1:]),) * axes  # a clip may be much shorter than it is wide
    strides = list(zip(*(stage_strides(side, len(widths), axes) for side in sides)))
    return ConvNet(facts.shape[0], axes, widths, strides, kernel or (5 if axes == 1 else 3))
