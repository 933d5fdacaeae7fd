"""What a view does to the colours of an image: jitter, grey and normalisation as one matrix a sample; solarise, cutout, noise.

Values are in [0, 1] here. Brightness, contrast and saturation are the blends of Pillow's enhancers; contrast blends with the
mean luminance of the crop, not rounded. Hue turns the plane of chrominance in YIQ, which is linear, in place of a shift in
HSV, which is not: luminance and greys stay, 0 is the identity, ±1 a whole turn. Nothing is clamped between the steps, only
once after the last, so the steps commute (a test holds it for all 24 orders) and need not be multiplied in the drawn order.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from ..contracts import Draws

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@lru_cache(maxsize=64)
def constants(device: torch.device, *values: float) -> Tensor:
    """float32 [len(values)] on the device, copied there once, so that no step waits for it."""
    return torch.tensor(values, dtype=torch.float32, device=device)


@lru_cache(maxsize=16)
def _bases(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """3×3 matrices: the luminance in every channel; the chroma, identity − luminance; the chroma turned by a right angle."""
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    back = torch.linalg.inv(yiq)
    luminance = torch.tensor([LUMINANCE] * 3, dtype=torch.float64)
    chroma = torch.eye(3, dtype=torch.float64) - luminance
    turned = back @ torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]], dtype=torch.float64) @ yiq
    return luminance.to(device, torch.float32), chroma.to(device, torch.float32), turned.to(device, torch.float32)


def jitter_factors(draws: Draws, drawn: Tensor, strengths: tuple[float, float, float, float]) -> dict[str, Tensor]:
    """The factors of every sample, float32 [B] each; neutral (1, 1, 1, 0) where `drawn` (bool [B]) is false.

    strengths: of brightness, contrast, saturation (factor uniform in [max(0, 1 − s), 1 + s]) and hue (in [−s, s]).
    order: int64 [B, 4], the order drawn (0 brightness, 1 contrast, 2 saturation, 3 hue); see the file's first lines.
    """
    u = draws.uniform("factors", 4)
    factors = {}
    for k, name in enumerate(("brightness", "contrast", "saturation")):
        low = max(0.0, 1.0 - strengths[k])
        factors[name] = torch.where(drawn, low + (1.0 + strengths[k] - low) * u[:, k], 1.0)
    factors["hue"] = torch.where(drawn, strengths[3] * (2.0 * u[:, 3] - 1.0), 0.0)
    return factors | {"order": draws.permutation("order", 4)}


def colour_matrix(brightness: Tensor, saturation: Tensor, hue: Tensor, grey: Tensor) -> Tensor:
    """float32 [B, 3, 3]: brightness · (saturation with hue), luminance alone where `grey` (bool [B]).

    With L the matrix that puts the luminance into every channel and H the hue turn, L·H = H·L = L, hence
    (s·I + (1 − s)·L)·H = L + s·(H − L), in either order.
    """
    luminance, chroma, turned = _bases(brightness.device)
    angle = 2.0 * math.pi * hue
    strength = torch.where(grey, torch.zeros_like(saturation), saturation)[:, None, None]
    moved = torch.cos(angle)[:, None, None] * chroma + torch.sin(angle)[:, None, None] * turned  # H − L
    return brightness[:, None, None] * (luminance + strength * moved)


def luminance(values: Tensor) -> Tensor:
    """[B, 3] → [B, 1], ITU-R BT.601."""
    return values @ constants(values.device, *LUMINANCE)[:, None]


def apply_colour(images: Tensor, factors: dict[str, Tensor], grey: Tensor, low: float, high: float) -> Tensor:
    """Scales [B, C, H, W] from [low, high] to [0, 1] and applies `factors` (and grey), all in one matrix a sample; not clamped.

    Images that have not three channels know brightness and contrast only, contrast about the mean of each channel.
    """
    b, c, h, w = images.shape
    unit = 1.0 / (high - low)
    contrast, brightness = factors["contrast"], factors["brightness"]
    mean = (images.mean((2, 3)) - low) * unit  # [B, C]
    blend = ((1.0 - contrast) * brightness)[:, None]  # of the mean, after brightness
    gain = contrast * unit
    if c != 3:
        gain = (gain * brightness)[:, None, None, None]
        return torch.addcmul((blend * mean)[:, :, None, None] - low * gain, images, gain)
    matrix = colour_matrix(brightness, factors["saturation"], factors["hue"], grey) * gain[:, None, None]
    constant = blend * luminance(mean) - low * matrix.sum(2)  # [B, 3]
    return torch.baddbmm(constant[:, :, None], matrix, images.reshape(b, 3, h * w)).view(b, 3, h, w)


def solarise(images: Tensor, drawn: Tensor) -> Tensor:
    """Inverts what is at least half as bright as white, where `drawn` (bool [B]). Values in [0, 1]."""
    threshold = torch.where(drawn, 0.5, math.inf)[:, None, None, None]
    return torch.where(images >= threshold, 1.0 - images, images)


def cutout_boxes(draws: Draws, drawn: Tensor, fraction: float) -> Tensor:
    """float32 [B, 4] in the view's [0, 1]: a square of `fraction` of the side, centre uniform (DeVries & Taylor, 2017), cut at
    the edges; empty where not `drawn`."""
    centre, half = draws.uniform("cutout", 2), fraction / 2
    boxes = torch.cat([centre - half, centre + half], 1).clamp(0.0, 1.0)
    return torch.where(drawn[:, None], boxes, torch.zeros_like(boxes))


def cutout_(images: Tensor, boxes: Tensor) -> Tensor:
    """Sets `boxes` [B, 4] of normalised images to zero, which is the mean; in place."""
    return images.masked_fill_(inside(boxes, images.shape), 0.0)


def inside(boxes: Tensor, shape: torch.Size) -> Tensor:
    """bool [B, 1, H, W]: which pixels of images of that shape have their middle in `boxes` [B, 4]."""
    within = []
    for axis, side in ((0, shape[2]), (1, shape[3])):
        place = (torch.arange(side, device=boxes.device, dtype=torch.float32) + 0.5) / side
        within.append((place >= boxes[:, axis, None]) & (place < boxes[:, axis + 2, None]))
    return (within[0][:, :, None] & within[1][:, None, :])[:, None]


def noise(draws: Draws, shape: torch.Size) -> Tensor:
    """Standard normal float32 of `shape` [B, ...]: Box and Muller on 16-bit uniforms, four numbers from one hash of 64 bits.

    Of 65,536 radii the largest is 4.7: plenty for pixels, and four times cheaper than `Draws.normal`.
    """
    count = math.prod(shape[1:])
    bits = draws.bits("noise", -(-count // 4)).view(torch.int16).view(shape[0], -1, 4)
    unit = bits.to(torch.float32).add_(32768.5).mul_(1.0 / 65536.0)
    radius, angle = torch.sqrt(-2.0 * torch.log(unit[..., :2])), (2.0 * math.pi) * unit[..., 2:]
    normal = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], -1)
    return normal.view(shape[0], -1)[:, :count].reshape(shape)
