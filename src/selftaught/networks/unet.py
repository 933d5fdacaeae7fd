"""A U-Net in one, two or three dimensions: features of an item by its encoder, and of every place of it by its decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Facts, Features, NotApplicable, OptionError, register
from .backbone import CONVOLUTIONS, Backbone, average, he_init, places, spatial_axes
from .batchnorm import BatchNorm

POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


class Twice(nn.Sequential):
    """Two convolutions of 3 places a side, each with BatchNorm and ReLU."""

    def __init__(self, axes: int, before: int, width: int):
        parts: list[nn.Module] = []
        for channels in (before, width):
            parts += [CONVOLUTIONS[axes](channels, width, 3, 1, 1, bias=False), BatchNorm(width), nn.ReLU(inplace=True)]
        super().__init__(*parts)


class UNet(Backbone):
    """Ronneberger et al., 2015: [B, C, ...] → pooled [B, widths[-1]], the mean of the lowest level, whose places are the tokens.

    `dense(x)` [B, widths[0], ...]: features of every place, for a head of one convolution; `dense(x, blocks=l)`: after the first l blocks
    of the decoder, at a coarser grid. Levels halve the sides; an item that they do not divide is padded with zeros. Only `dense` trains
    the decoder.
    """

    def __init__(self, channels: int, axes: int, widths: Sequence[int]):
        super().__init__()
        if len(widths) < 2:
            raise OptionError(f"A U-Net has at least 2 levels, not widths={tuple(widths)}.")
        self.width, self.features, self.axes = widths[-1], widths[0], axes
        self.encoder = nn.ModuleList(Twice(axes, before, width) for before, width in zip([channels, *widths], widths))
        pairs = list(zip(widths, widths[1:]))[::-1]  # from the lowest level up
        self.narrow = nn.ModuleList(CONVOLUTIONS[axes](deep, width, 1, 1) for width, deep in pairs)
        self.decoder = nn.ModuleList(Twice(axes, 2 * width, width) for width, _ in pairs)
        he_init(self)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None, layers: Sequence[int] = ()) -> Features:
        self.refuse(keep, layers)
        if lengths is not None:
            raise NotApplicable("The backbone 'unet' takes items of one length, and these vary: use convnet.")
        lowest = self.levels(x)[-1]
        return Features(average(lowest, None), places(lowest))

    def levels(self, x: Tensor) -> list[Tensor]:
        """What every level of the encoder makes of x, the finest first."""
        step = 2 ** (len(self.encoder) - 1)
        x = F.pad(x, [part for side in reversed(x.shape[2:]) for part in (0, -side % step)])
        found = [self.encoder[0](x)]
        for level in self.encoder[1:]:
            found.append(level(POOLS[self.axes](found[-1], 2)))
        return found

    @torch.no_grad()
    def still_levels(self, x: Tensor) -> list[Tensor]:
        """`levels` of the encoder in evaluation mode, without gradients."""
        training = self.encoder.training
        self.encoder.eval()
        try:
            return self.levels(x)
        finally:
            self.encoder.train(training)

    def dense(self, x: Tensor, *, blocks: int | None = None, encoder: bool = True) -> Tensor:
        """blocks: of the decoder (None: all). encoder: whether it is trained; else it stands still, its BatchNorm's statistics too."""
        *finer, h = self.levels(x) if encoder else self.still_levels(x)
        for narrow, join, beside in list(zip(self.narrow, self.decoder, finer[::-1]))[:blocks]:
            h = join(torch.cat([beside, F.interpolate(narrow(h), scale_factor=2, mode="nearest")], 1))
        whole = blocks is None or blocks >= len(self.decoder)
        return h[(..., *(slice(side) for side in x.shape[2:]))] if whole else h


@register("unet", kind="backbone")
def unet(facts: Facts, *, widths: Sequence[int] = (16, 32, 64, 128, 128)) -> UNet:
    """widths: channels of the levels, the finest first (those of Chaitanya et al., 2020)."""
    return UNet(facts.shape[0], spatial_axes(facts, "unet"), widths)
