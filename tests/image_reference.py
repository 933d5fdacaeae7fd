"""Per-sample reference semantics of image views, and the small batches that their tests share."""

import math
import random

import numpy as np
import torch
from PIL import Image

from selftaught.contracts import Batch, Draws
from selftaught.views.image import ImageSpec, ImageViews

BYTES = {"low": 0.0, "high": 255.0, "mean": [0.0] * 3, "std": [1.0] * 3}


def pictures(count: int, side: int, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """uint8 [count, channels, side, side]: smooth random pictures that reach black and white."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count * channels, 6, 6), dtype=np.uint8)
    fine = [np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BILINEAR)) for c in coarse]
    return torch.from_numpy(np.stack(fine)).view(count, channels, side, side)


def batch_of(x: torch.Tensor, size: tuple[int, int] | None = None, slots=None, epoch: int = 0) -> Batch:
    n = len(x)
    slot = torch.arange(n) if slots is None else torch.as_tensor(slots)
    sizes = torch.tensor(size or tuple(x.shape[-2:])).expand(n, 2)
    return Batch({"x": x, "size": sizes}, slot, slot, torch.full((n,), epoch))


def draws_of(n: int, seed: int = 0) -> Draws:
    return Draws.for_items(seed, "train", torch.zeros(n, dtype=torch.int64), torch.arange(n))


def make(batch: Batch, *specs: ImageSpec, seed: int = 0, statistics=BYTES, **options):
    return ImageViews(list(specs), statistics, **options)(batch, batch.draws(seed, "train"))


def plain(size: int, **changes) -> ImageSpec:
    return ImageSpec(size, **({"flip": 0.0} | changes))


def reference_crop(rng: random.Random, height: int, width: int, scale, ratio) -> tuple[int, int, int, int]:
    """One crop of the published law, by rejection, in whole pixels: y, x, h, w."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.randint(0, height - h), rng.randint(0, width - w), h, w
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


def greatest_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Kolmogorov and Smirnov's two-sample statistic, on samples that may share values."""
    points = np.union1d(a, b)
    below = [np.searchsorted(np.sort(v), points, "right") / len(v) for v in (a, b)]
    return np.abs(below[0] - below[1]).max()


def reference_step(image: np.ndarray, step: int, factor: float) -> np.ndarray:
    """One step of the jitter on a float64 image [3, H, W] in [0, 1], not clamped."""
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    luminance = (weights * image).sum(0, keepdims=True)
    if step == 0:
        return factor * image
    if step == 1:
        return factor * image + (1 - factor) * luminance.mean()
    if step == 2:
        return factor * image + (1 - factor) * luminance
    yiq = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    c, s = math.cos(2 * math.pi * factor), math.sin(2 * math.pi * factor)
    turned = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ yiq
    return np.einsum("ij,jhw->ihw", np.linalg.inv(yiq) @ turned, image)
