"""ResNet-18, -34 and -50 in one, two or three dimensions; the stem follows the resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Facts, Features, OptionError, register
from .backbone import CONVOLUTIONS, Backbone, average, he_init, mask_steps, places, shorten, spatial_axes
from .batchnorm import BatchNorm

POOLS = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
SMALL_SIDE = 64  # up to this many pixels or steps the stem keeps the resolution


class Block(nn.Module):
    """x + branch(x), both masked to the lengths: two 3-convolutions, or 1-3-1 with a bottleneck of a quarter of the width."""

    expansion = 1

    def __init__(self, before: int, width: int, stride: int, axes: int):
        super().__init__()
        conv, self.stride = CONVOLUTIONS[axes], stride
        self.build(conv, before, width, stride)
        after = width * self.expansion
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(conv(before, after, 1, stride, bias=False), BatchNorm(after))

    def build(self, conv: type[nn.Module], before: int, width: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(before, width, 3, stride, 1, bias=False), BatchNorm(width)
        self.conv2, self.bn2 = conv(width, width, 3, 1, 1, bias=False), BatchNorm(width)
        nn.init.zeros_(self.bn2.weight)

    def branch(self, x: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        x = mask_steps(F.relu(self.bn1(self.conv1(x)), inplace=True), after)
        return self.bn2(self.conv2(x))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """lengths: those of x."""
        after = shorten(lengths, self.stride)
        shortcut = x if self.downsample is None else self.downsample(x)
        return mask_steps(F.relu(self.branch(x, lengths, after).add_(shortcut), inplace=True), after)


class Bottleneck(Block):
    expansion = 4

    def build(self, conv: type[nn.Module], before: int, width: int, stride: int) -> None:
        self.conv1, self.bn1 = conv(before, width, 1, bias=False), BatchNorm(width)
        self.conv2, self.bn2 = conv(width, width, 3, stride, 1, bias=False), BatchNorm(width)
        self.conv3, self.bn3 = conv(width, 4 * width, 1, bias=False), BatchNorm(4 * width)
        nn.init.zeros_(self.bn3.weight)

    def branch(self, x: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
        x = mask_steps(F.relu(self.bn1(self.conv1(x)), inplace=True), before)
        x = mask_steps(F.relu(self.bn2(self.conv2(x)), inplace=True), after)
        return self.bn3(self.conv3(x))


class ResNet(Backbone):
    """He et al., 2016, with the stride in the 3-convolution: [B, C, ...] → pooled [B, 512] (18, 34) or [B, 2048] (50).

    Parameters bear torchvision's names. The scale of every block's last BatchNorm starts at zero, so that a block starts as
    the identity.
    """

    def __init__(self, channels: int, axes: int, block: type[Block], depths: Sequence[int], *, small: bool):
        super().__init__()
        size, stride = (3, 1) if small else (7, 2)
        self.small = small
        self.conv1 = CONVOLUTIONS[axes](channels, 64, size, stride, size // 2, bias=False)
        self.bn1 = BatchNorm(64)
        self.maxpool = nn.Identity() if small else POOLS[axes](3, 2, 1)
        before = 64
        for number, depth in enumerate(depths):
            width, blocks = 64 * 2**number, nn.ModuleList()
            for i in range(depth):
                blocks.append(block(before, width, 2 if number and not i else 1, axes))
                before = width * block.expansion
            self.add_module(f"layer{number + 1}", blocks)
        self.width = before
        he_init(self)

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None,
                layers: Sequence[int] = ()) -> Features:
        self.refuse(keep, layers)
        x = self.conv1(mask_steps(x, lengths))
        lengths = shorten(lengths, self.conv1.stride[0])
        x = mask_steps(F.relu(self.bn1(x), inplace=True), lengths)
        if not self.small:
            lengths = shorten(lengths, 2)
            x = mask_steps(self.maxpool(x), lengths)  # the window of the first step beyond reaches into the item
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                x = block(x, lengths)
                lengths = shorten(lengths, block.stride)
        return Features(average(x, lengths), places(x), lengths=lengths)


def _resnet(name: str, facts: Facts, block: type[Block], depths: Sequence[int], stem: str) -> ResNet:
    if stem not in ("auto", "small", "large"):
        raise OptionError(f"stem='{stem}' of the backbone '{name}' is not known: use auto, small or large.")
    axes = spatial_axes(facts, name)
    small = stem == "small" or (stem == "auto" and min(facts.shape[1:]) <= SMALL_SIDE)
    return ResNet(facts.shape[0], axes, block, depths, small=small)


@register("resnet18", kind="backbone")
def resnet18(facts: Facts, *, stem: str = "auto") -> ResNet:
    """stem: small (3 wide, stride 1, no pooling), large (7 wide, stride 2, pooling), auto: small up to 64 pixels or steps."""
    return _resnet("resnet18", facts, Block, (2, 2, 2, 2), stem)


@register("resnet34", kind="backbone")
def resnet34(facts: Facts, *, stem: str = "auto") -> ResNet:
    """stem: as of resnet18."""
    return _resnet("resnet34", facts, Block, (3, 4, 6, 3), stem)


@register("resnet50", kind="backbone")
def resnet50(facts: Facts, *, stem: str = "auto") -> ResNet:
    """stem: as of resnet18."""
    return _resnet("resnet50", facts, Bottleneck, (3, 4, 6, 3), stem)
