"""The rotation probe tells apart encoders that see which way is up from ones that cannot."""

import numpy as np
import pytest
import torch
from torch import nn

from selftaught.contracts import Features, NotApplicable
from selftaught.encoder import Encoder
from selftaught.modalities import find_modality
from selftaught.protocols import rotation_probe
from selftaught.sources import open_source


class Corners(nn.Module):
    """The means of the four quarters; `blind`: of the whole, four times."""

    width = 12

    def __init__(self, blind: bool):
        super().__init__()
        self.blind, self.one = blind, nn.Parameter(torch.ones(()))

    def forward(self, x, *, lengths=None):
        means = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)  # [B, 12]
        return Features(means.view(-1, 3, 4).mean(2).repeat_interleave(4, 1) if self.blind else means)


def images(n, seed):
    """Bright above, dark below, with noise: one way up."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(200, 60, 12)[None, :, None, None]
    return open_source((ramp + rng.normal(0, 20, (n, 12, 12, 3))).clip(0, 255).astype(np.uint8), layout="NHWC")


@pytest.mark.parametrize(("blind", "low", "high"), [(False, 0.95, 1.0), (True, 0.1, 0.4)])
def test_it_sees_what_the_features_know_of_up(blind, low, high):
    train, test = images(80, 0), images(60, 1)
    encoder = Encoder(Corners(blind), find_modality("image").prepare(train))
    score = rotation_probe(encoder, train, test, items=50)
    assert score.name == "rotation" and low <= score.value <= high and score.n == 50  # items, not turns, are the units
    assert rotation_probe(encoder, train, test, items=50).value == score.value


def test_labels_are_not_read():
    train, test = images(80, 0), images(60, 1)
    encoder = Encoder(Corners(False), find_modality("image").prepare(train))
    before = rotation_probe(encoder, train, test).value
    train.labels = np.random.default_rng(0).integers(0, 3, 80)
    assert rotation_probe(encoder, train, test).value == before


def test_a_table_has_no_up():
    source = open_source("embedded:wine")
    encoder = Encoder(nn.Linear(1, 1), find_modality("table").prepare(source))
    with pytest.raises(NotApplicable, match="turns images"):
        rotation_probe(encoder, source, source)
