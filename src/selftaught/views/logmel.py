"""Log-mel spectrograms of a batch of waveforms at once, and the filters they are made with."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, HOP = 0.025, 0.010  # seconds, as in Kaldi, COLA and AST
LOW, HIGH = 60.0, 0.4875  # lowest frequency in Hz, highest as a part of the rate: COLA's 60 to 7,800 Hz at 16 kHz
FLOOR = 1e-8  # added to every power: 80 dB below white noise of variance 1
BLOCK = 1 << 17  # complex numbers that a processor holds at a time: what fits into its cache is twice as fast


def hertz_to_mel(hertz: Tensor) -> Tensor:
    """HTK's scale (O'Shaughnessy, 1987): 2595 · log10(1 + f / 700)."""
    return 2595.0 * torch.log10(1.0 + hertz / 700.0)


def mel_to_hertz(mel: Tensor) -> Tensor:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def fast_length(least: int) -> int:
    """The smallest even number, at least `least`, without prime factors beyond 5: its Fourier transform is fast, and shorter than
    that of the next power of two."""
    length = least + least % 2
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 2


def mel_corners(low: float, high: float, mels: int) -> Tensor:
    """float64 [mels + 2] in Hz, evenly spaced on the mel scale: filter m rises from corner m to m + 1 and falls to m + 2."""
    ends = hertz_to_mel(torch.tensor([low, high], dtype=torch.float64))
    return mel_to_hertz(torch.linspace(float(ends[0]), float(ends[1]), mels + 2, dtype=torch.float64))


def mel_filters(corners: Tensor, hertz: Tensor) -> Tensor:
    """float64 [mels, bins]: triangles of height 1 over frequency, at the bins' frequencies `hertz` [bins]."""
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    return torch.minimum((hertz - left) / (middle - left), (right - hertz) / (right - middle)).clamp(min=0.0)


class LogMel:
    """float32 [B, n] waveforms → float32 [B, mels, ⌈n / hop⌉]: log(FLOOR + filters · |STFT|² / Σ window²), the natural logarithm.

    Frame t is the Hann window of 25 ms around sample t · hop (10 ms), the waveform zero outside: frames within a shorter item do not
    depend on how far the batch is padded. The FFT is so long that a bin falls into every filter. White noise of variance v
    has the expected power v in every bin.
    """

    def __init__(self, rate: int, mels: int = 64):
        self.rate, self.mels = rate, mels
        self.hop, self.width = max(1, round(HOP * rate)), max(2, round(WINDOW * rate))
        low, high = min(LOW, rate / 16), HIGH * rate
        self.corners = mel_corners(low, high, mels)
        foot = float(self.corners[2] - self.corners[0])  # of the lowest filter, the narrowest: a bin must fall into it
        self.fft = fast_length(max(self.width, math.ceil(rate / foot)))
        self.hertz = torch.linspace(0, rate / 2, self.fft // 2 + 1, dtype=torch.float64)  # of the bins
        self.filters = mel_filters(self.corners, self.hertz).float()
        window = torch.hann_window(self.width, dtype=torch.float64)
        self.window = (window / window.square().sum().sqrt()).float()

    def frames(self, samples: Tensor) -> Tensor:
        """How many frames so many samples give."""
        return (samples + self.hop - 1) // self.hop

    def to(self, device: torch.device) -> LogMel:
        if self.window.device != device:
            self.filters, self.window = self.filters.to(device), self.window.to(device)
        return self

    def __call__(self, x: Tensor) -> Tensor:
        self.to(x.device)
        frames = -(-x.shape[1] // self.hop)
        rows = max(1, BLOCK // (frames * len(self.hertz))) if x.device.type == "cpu" else max(1, len(x))
        found = torch.empty(len(x), self.mels, frames, device=x.device)
        for first in range(0, len(x), rows):
            found[first : first + rows] = self._block(x[first : first + rows].float(), frames).transpose(1, 2)
        return found

    def _block(self, x: Tensor, frames: int) -> Tensor:
        """[b, n] → [b, frames, mels]."""
        around = self.width // 2
        cut = F.pad(x, (around, self.width)).unfold(1, self.width, self.hop)[:, :frames]  # [b, frames, width]
        spectrum = torch.fft.rfft(cut * self.window, n=self.fft)
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)  # 4× torch.abs and its square
        return (power @ self.filters.T).add_(FLOOR).log_()
