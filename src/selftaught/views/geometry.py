"""Where a view of an image lies and how its pixels are gathered: crop laws, resampling weights, one resampling a view.

An axis-aligned crop, its resize, its flips and a Gaussian blur are linear and separable: every row of the result is a weighted
sum of a few rows of the image (its taps), then the same for columns, with taps of its own for every sample. A turned crop is
one bilinear `grid_sample`. Boxes are (y0, x0, y1, x1) in [0, 1] of the original image.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..contracts import Draws

ATTEMPTS = 10
Taps = tuple[Tensor, Tensor]
"""int32 and float32 [B, R, T]: which rows, and their weights."""


def crop_boxes(draws: Draws, sizes: Tensor, scale: tuple[float, float], ratio: tuple[float, float]) -> Tensor:
    """float32 [B, 4]: a random crop of every image. sizes: int64 [B, 2], original (height, width) in pixels.

    The law of Inception's crop (Szegedy et al., 2015) in the pixels of the original: area uniform in `scale` of the image,
    log(width / height) uniform in `ratio`, whole pixels, place uniform; the first of ten draws that fits, else the largest
    centred crop whose aspect is within `ratio`.
    """
    u = draws.uniform("crop", 4, ATTEMPTS)  # [B, 4, ATTEMPTS]
    height, width = (sizes[:, k, None].to(torch.float32) for k in (0, 1))  # [B, 1]
    area = height * width * (scale[0] + (scale[1] - scale[0]) * u[:, 0])
    aspect = torch.exp(math.log(ratio[0]) + math.log(ratio[1] / ratio[0]) * u[:, 1])
    w, h = torch.round(torch.sqrt(area * aspect)), torch.round(torch.sqrt(area / aspect))
    fits = (w >= 1) & (w <= width) & (h >= 1) & (h <= height)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)  # the first that fits, 0 where none does
    found = fits.any(1, keepdim=True)
    w, h, uy, ux = (torch.gather(t, 1, first) for t in (w, h, u[:, 2], u[:, 3]))
    wide, tall = torch.round(height * ratio[1]).minimum(width), torch.round(width / ratio[0]).minimum(height)
    w = torch.where(found, w, wide.clamp(min=1))
    h = torch.where(found, h, tall.clamp(min=1))
    y = torch.where(found, torch.floor(uy * (height - h + 1)), torch.floor((height - h) / 2))
    x = torch.where(found, torch.floor(ux * (width - w + 1)), torch.floor((width - w) / 2))
    return torch.cat([y / height, x / width, (y + h) / height, (x + w) / width], 1)


def centre_boxes(sizes: Tensor, fraction: float = 1.0) -> Tensor:
    """float32 [B, 4]: the central square whose side is `fraction` of the shorter side. sizes: int64 [B, 2]."""
    sizes = sizes.to(torch.float32)
    extent = fraction * sizes.amin(1, keepdim=True) / sizes  # [B, 2]
    return torch.cat([(1 - extent) / 2, (1 + extent) / 2], 1)


def resize_taps(start: Tensor, stop: Tensor, flip: Tensor, inner: int, outer: int, *, cubic: bool = False) -> Taps:
    """Which of `inner` pixels make each of the `outer` pixels of a resized interval, and with what weight: [B, outer, T].

    start, stop: [B] in [0, 1]; flip: bool [B] reverses the result. The triangle (or Keys' cubic, a = −½) widens with the scale
    when shrinking, so that nothing aliases; pixels outside the image are dropped and the rest weigh one together: what
    Pillow's `resize(box=...)` computes.
    """
    reach = 2.0 if cubic else 1.0
    count = math.ceil(2 * reach * max(1.0, inner / outer))  # enough for the largest crop, the whole image
    place = torch.arange(outer, device=start.device, dtype=torch.float32) + 0.5
    place = torch.where(flip[:, None], outer - place, place)  # [B, outer]
    step = (stop - start)[:, None] * (inner / outer)  # source pixels an output pixel
    wide = step.clamp(min=1.0)
    centre = start[:, None] * inner + place * step
    first = torch.floor(centre - reach * wide + 0.5)
    pixel = first[..., None] + torch.arange(count, device=start.device, dtype=torch.float32)  # [B, outer, T]
    distance = ((pixel + 0.5 - centre[..., None]) / wide[..., None]).abs_()
    weights = _keys(distance) if cubic else distance.neg_().add_(1.0).clamp_(min=0.0)
    weights = weights * ((pixel >= 0) & (pixel < inner))
    return pixel.clamp_(0, inner - 1).to(torch.int32), weights.div_(weights.sum(-1, keepdim=True))


def _keys(x: Tensor) -> Tensor:
    """Keys' cubic (1981) with a = −½, of distances x ≥ 0."""
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


@lru_cache(maxsize=64)
def _mirrored(side: int, radius: int, device: torch.device) -> Tensor:
    """int32 [1, side, 2·radius + 1]: the pixels around each pixel, mirrored at the edges without repeating them."""
    pixel = (torch.arange(side)[:, None] + torch.arange(-radius, radius + 1)).abs()
    return torch.minimum(pixel, 2 * (side - 1) - pixel).to(device, torch.int32)[None]


def blur_radius(side: int) -> int:
    """Pixels to either side that a blur reads: SimCLR's kernel, about a tenth of the side wide (23 at 224), at least 3."""
    return min(max(side // 20, 1), side - 1)


def blur_taps(sigma: Tensor, side: int) -> Taps:
    """A Gaussian of standard deviation `sigma` [B] pixels, truncated, mirrored at the edges; sigma 0 leaves all as it is."""
    radius = blur_radius(side)
    reach = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (reach / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    shape = (len(sigma), side, 2 * radius + 1)
    return _mirrored(side, radius, sigma.device).expand(shape), kernel[:, None].expand(shape)


def weigh_rows(images: Tensor, taps: Taps) -> Tensor:
    """Weighted sums of rows: images [B, C, S, L], taps [B, R, T] → [B, C, R, L]. Sparse and fused, as an embedding bag is."""
    b, c, s, length = images.shape
    index, weights = taps
    start = torch.arange(b * c, device=images.device, dtype=torch.int32).view(b, c, 1, 1) * s
    index = (index[:, None] + start).view(-1, index.shape[2])
    weights = weights[:, None].expand(b, c, *weights.shape[1:]).reshape(index.shape)
    rows = F.embedding_bag(index, images.reshape(b * c * s, length), mode="sum", per_sample_weights=weights)
    return rows.view(b, c, -1, length)


def resample(columns_first: Tensor, boxes: Tensor, flips: tuple[Tensor, Tensor], sigma: Tensor | None, side: int, *,
             cubic: bool = False) -> Tensor:
    """Crop, resize, flips and blur: images [B, C, W, H] with the *columns first*, so that one transposition serves all views →
    [B, C, side, side], rows first. flips: bool [B], vertical and horizontal. sigma: [B] of the blur, or None."""
    x = columns_first
    blurring = None if sigma is None else blur_taps(sigma, side)
    for axis in (1, 0):
        x = weigh_rows(x, resize_taps(boxes[:, axis], boxes[:, axis + 2], flips[axis], x.shape[2], side, cubic=cubic))
        x = x if blurring is None else weigh_rows(x, blurring)
        x = x.transpose(2, 3).contiguous() if axis else x
    return x


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """The blur alone: [B, C, R, R], sigma [B]."""
    taps = blur_taps(sigma, images.shape[-1])
    return weigh_rows(weigh_rows(images, taps).transpose(2, 3), taps).transpose(2, 3)


def turn(columns_first: Tensor, boxes: Tensor, angle: Tensor, flips: tuple[Tensor, Tensor], sizes: Tensor, side: int) -> Tensor:
    """The crops `boxes` turned by `angle` (degrees, [B]) about their centres in the original's pixels: [B, C, side, side].

    Images [B, C, W, H] with the columns first; flips: bool [B], vertical and horizontal. Bilinear; where the canvas is much
    larger than the crop, several points a pixel are averaged, so that nothing aliases. Beyond the edge the image is mirrored.
    """
    finer = max(1, round(columns_first.shape[-1] / side))
    place = (torch.arange(side * finer, device=boxes.device, dtype=torch.float32) + 0.5) / (side * finer) - 0.5
    extent, centre = boxes[:, 2:] - boxes[:, :2], (boxes[:, 2:] + boxes[:, :2]) / 2  # [B, 2] as (y, x)
    sign = 1.0 - 2.0 * torch.stack(flips, 1).to(torch.float32)
    reach = (extent * sizes.to(torch.float32) * sign)[:, :, None] * place  # [B, 2, n] in pixels of the original
    y, x = reach[:, 0, :, None], reach[:, 1, None, :]
    radians = torch.deg2rad(angle)[:, None, None]
    cosine, sine = torch.cos(radians), torch.sin(radians)
    turned = torch.stack([sine * x + cosine * y, cosine * x - sine * y], -1)  # [B, n, n, 2] as (y, x): columns lie first
    grid = (centre[:, None, None] + turned / sizes.to(torch.float32)[:, None, None]) * 2 - 1
    out = F.grid_sample(columns_first, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return F.avg_pool2d(out, finer) if finer > 1 else out
