"""A backbone small enough for checks in float64."""

import torch
from torch import nn

from selftaught.contracts import Features
from selftaught.networks import BatchNorm


class TinyNet(nn.Module):
    """[B, 1, S] series of any length → 5 features."""

    width = 5

    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv1d(1, 5, 3, padding=1), BatchNorm(5)
        self.out = nn.Linear(5, 5)

    def forward(self, x, *, lengths=None, keep=None, layers=()):
        return Features(self.out(torch.tanh(self.norm(self.convolution(x))).amax(2)))
