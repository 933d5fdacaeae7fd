"""A series seen in three spaces: its values, their orthonormal Fourier coefficients, a tight frame of Gabor wavelets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contracts import Facts, Features, NotApplicable, OptionError, register
from .backbone import Backbone
from .build import build_backbone
from .heads import Mlp

CELLS = 64  # the frame's moduli are averaged to at most so many steps: they vary slowly


def fourier(x: Tensor) -> Tensor:
    """[B, C, T] → [B, C, 2, T // 2 + 1], cosine and sine coordinates in the real orthonormal Fourier basis: ‖fourier(x)‖ = ‖x‖."""
    spectrum = torch.fft.rfft(x, norm="ortho") * halves(x.shape[-1], x)
    return torch.stack([spectrum.real, spectrum.imag], 2)


def fourier_inverse(coordinates: Tensor, steps: int) -> Tensor:
    """[B, C, 2, K] → [B, C, T], the inverse of `fourier`."""
    spectrum = torch.complex(coordinates[:, :, 0], coordinates[:, :, 1]) / halves(steps, coordinates)
    return torch.fft.irfft(spectrum, n=steps, norm="ortho")


def halves(steps: int, like: Tensor) -> Tensor:
    """[K]: √2 where a coefficient of rfft stands for two of the whole transform, else 1 (the mean, and the last of an even T)."""
    k = torch.arange(steps // 2 + 1, device=like.device)
    return torch.where((k == 0) | (2 * k == steps), 1.0, math.sqrt(2.0)).to(like.dtype)


class GaborFrame(nn.Module):
    """A tight frame of bound 1: [B, C, T] → complex [B, C, bands, T], ‖frame(x)‖ = ‖x‖, redundancy `bands`.

    Band 0 is the mean; the others are Gabor wavelets, Gaussian on the axis of log frequency, their centres in even ratios from
    one turn an item to the highest frequency. At every frequency the squared filters sum to one, which is what makes it tight.
    """

    def __init__(self, steps: int, bands: int):
        super().__init__()
        bins = steps // 2 + 1
        if bands < 2 or steps < 4:
            raise OptionError(f"A frame needs at least 2 bands and 4 steps, not {bands} and {steps}.")
        top, k = math.log(bins - 1), torch.arange(1, bins, dtype=torch.float64).log()
        centres = torch.linspace(0.0, top, bands - 1, dtype=torch.float64)
        bells = torch.exp(-0.5 * ((k - centres[:, None]) / (top / max(bands - 2, 1))) ** 2)  # [bands − 1, bins − 1]
        filters = torch.zeros(bands, bins, dtype=torch.float64)
        filters[0, 0] = 1.0
        filters[1:, 1:] = bells / bells.square().sum(0).sqrt()
        self.steps = steps
        self.register_buffer("filters", filters.to(torch.get_default_dtype()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x, norm="ortho") * halves(self.steps, x)
        return torch.fft.ifft(spectrum[:, :, None] * self.filters, n=self.steps, norm="ortho")

    def inverse(self, coefficients: Tensor) -> Tensor:
        """[B, C, T]: the synthesis with the same frame, which for a tight one is the inverse."""
        spectrum = torch.fft.fft(coefficients, norm="ortho")[..., : self.filters.shape[1]]
        spectrum = (spectrum * self.filters).sum(2) / halves(self.steps, self.filters)
        return torch.fft.irfft(spectrum, n=self.steps, norm="ortho")


class FourierEncoder(nn.Module):
    """[B, C, T] → [B, width] from the coordinates and the amplitude at every frequency, by an MLP that knows which is which.

    Coordinates alone would say nothing new: an MLP of an orthonormal transform is an MLP of the series itself.
    """

    def __init__(self, facts: Facts, width: int):
        super().__init__()
        channels, steps = facts.shape
        self.encoder = build_backbone("mlp", facts.with_(shape=(3 * channels, steps // 2 + 1)), hidden=(width, width))

    def forward(self, x: Tensor) -> Tensor:
        coordinates = fourier(x)
        seen = torch.cat([coordinates, coordinates.norm(dim=2, keepdim=True)], 2)  # [B, C, 3, K]
        return self.encoder(seen.flatten(1, 2)).pooled


class FrameEncoder(nn.Module):
    """[B, C, T] → [B, width] from the moduli of a Gabor frame (of the mean: its sign too), bands as channels of a ConvNet."""

    def __init__(self, facts: Facts, width: int, bands: int):
        super().__init__()
        channels, steps = facts.shape
        self.frame, self.stride = GaborFrame(steps, bands), -(-steps // CELLS)
        shape = (channels * bands, -(-steps // self.stride))
        self.encoder = build_backbone("convnet", facts.with_(shape=shape), widths=(max(width // 2, 1), width, width))

    def forward(self, x: Tensor) -> Tensor:
        coefficients = self.frame(x)
        seen = torch.cat([coefficients[:, :, :1].real, coefficients[:, :, 1:].abs()], 2)
        return self.encoder(F.avg_pool1d(seen.flatten(1, 2), self.stride, ceil_mode=True)).pooled


class Frames(Backbone):
    """Encoders of the three spaces, and mappers from the embedding of the values to those of the other two.

    [B, C, T] → pooled [B, 3 · width of `backbone`]: with joint='mapped' the embedding of the values beside what the mappers
    make of it (one encoder runs), with 'all' the embeddings of all three. Series of varying lengths are transformed with
    their padding of zeros. `around` says how it is built again around a backbone, for the encoder's file.
    """

    def __init__(self, backbone: nn.Module, facts: Facts, *, joint: str = "mapped", bands: int = 16):
        super().__init__()
        if len(facts.shape) != 2 or facts.modality == "points":
            raise NotApplicable(f"Frame projections need items that are values over time [C, T], not {facts.modality} items of shape "
                                f"{tuple(facts.shape)}: use series, or a method that compares views.")
        if joint not in ("mapped", "all"):
            raise OptionError(f"joint={joint!r} is not known: 'mapped' or 'all'.")
        self.around: tuple[str, dict[str, Any]] = ("frames", {"joint": joint, "bands": bands})
        self.joint, self.part = joint, backbone.width
        self.width = 3 * self.part
        self.values = backbone
        self.fourier = FourierEncoder(facts, self.part)
        self.frame = FrameEncoder(facts, self.part, bands)
        self.mappers = nn.ModuleList(Mlp(self.part, self.part, self.part, norm=False) for _ in range(2))

    def spaces(self, x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
        """Embeddings [B, width / 3] of the values, the Fourier coefficients and the frame."""
        return [self.values(x, lengths=lengths).pooled, self.fourier(x), self.frame(x)]

    def mapped(self, values: Tensor) -> list[Tensor]:
        """What the embedding of the values [B, width / 3] says of the other two."""
        return [mapper(values) for mapper in self.mappers]

    def forward(self, x: Tensor, *, lengths: Tensor | None = None, keep: Tensor | None = None,
                layers: Sequence[int] = ()) -> Features:
        self.refuse(keep, layers)
        if self.joint == "all":
            return Features(torch.cat(self.spaces(x, lengths), 1))
        values = self.values(x, lengths=lengths).pooled
        return Features(torch.cat([values, *self.mapped(values)], 1))


@register("frames", kind="backbone")
def frames(facts: Facts, *, of: str | nn.Module = "convnet", options: dict[str, Any] | None = None, joint: str = "mapped",
           bands: int = 16) -> Frames:
    """of, options: the backbone of the values and its options. joint, bands: see `Frames`."""
    return Frames(build_backbone(of, facts, **(options or {})), facts, joint=joint, bands=bands)
