"""How fast views are: SimCLR's two views of a batch, ours in one process against native Pillow in two. Prints ratios.

    python benchmarks/views.py [--json FILE] [--rounds N] [--device cuda]

Both sides start from uint8 images in memory and end in normalised float32 [2, B, 3, side, side] in the main process, two
threads or two processes. The Pillow side resizes straight from the crop box, keeps to Pillow's own enhancers, shifts hue with
a lookup table in HSV, ships uint8 back and normalises whole batches in torch.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import random
import statistics
import time

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter

from selftaught.contracts import Batch
from selftaught.views.image import ImageSpec, ImageViews

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGES: np.ndarray  # uint8 [N, S, S, 3], inherited by the workers


def specification(side: int, blur: float) -> ImageSpec:
    """SimCLR's view: at 32 px the paper's choice for CIFAR (strength one half, no blur), else strength one with blur."""
    s = 0.5 if side <= 64 else 1.0
    return ImageSpec(side, scale=(0.2, 1.0) if side <= 64 else (0.08, 1.0), jitter=0.8, brightness=0.8 * s, contrast=0.8 * s,
                     saturation=0.8 * s, hue=0.2 * s, grey=0.2, blur=blur)


def pillow_box(width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    for _ in range(10):
        area, aspect = width * height * random.uniform(*scale), math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            x, y = random.randint(0, width - w), random.randint(0, height - h)
            return x, y, x + w, y + h
    return 0, 0, width, height


def pillow_hue(image: Image.Image, shift: float) -> Image.Image:
    moved = int(shift * 255)
    table = [(v + moved) % 256 for v in range(256)] + list(range(256)) * 2
    return image.convert("HSV").point(table).convert("RGB")


def pillow_view(image: Image.Image, spec: ImageSpec) -> Image.Image:
    box = pillow_box(*image.size, spec.scale, spec.ratio)
    image = image.resize((spec.size, spec.size), Image.Resampling.BILINEAR, box=box)
    if random.random() < spec.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < spec.jitter:
        for step in random.sample(range(4), 4):
            if step == 0:
                image = ImageEnhance.Brightness(image).enhance(random.uniform(1 - spec.brightness, 1 + spec.brightness))
            elif step == 1:
                image = ImageEnhance.Contrast(image).enhance(random.uniform(1 - spec.contrast, 1 + spec.contrast))
            elif step == 2:
                image = ImageEnhance.Color(image).enhance(random.uniform(1 - spec.saturation, 1 + spec.saturation))
            else:
                image = pillow_hue(image, random.uniform(-spec.hue, spec.hue))
    if random.random() < spec.grey:
        image = image.convert("L").convert("RGB")
    if random.random() < spec.blur:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(*spec.sigma)))
    return image


def pillow_chunk(task: tuple[int, int, ImageSpec]) -> np.ndarray:
    """uint8 [2, n, side, side, 3]: both views of the images from `start` to `stop`."""
    start, stop, spec = task
    out = np.empty((2, stop - start, spec.size, spec.size, 3), np.uint8)
    for k in range(stop - start):
        image = Image.fromarray(IMAGES[start + k])
        for view in range(2):
            out[view, k] = np.asarray(pillow_view(image, spec))
    return out


def pillow_batch(pool, batch: int, spec: ImageSpec) -> torch.Tensor:
    step = max(batch // 8, 1)
    parts = pool.map(pillow_chunk, [(s, min(s + step, batch), spec) for s in range(0, batch, step)], chunksize=1)
    x = torch.from_numpy(np.concatenate(parts, 1)).permute(0, 1, 4, 2, 3).to(torch.float32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    return x.mul_(1 / 255).sub_(mean).div_(std)


def compare(side: int, canvas: int, batch: int, blur: float, rounds: int, device: str) -> dict[str, float]:
    """Medians of interleaved rounds: images a second of either side, and the ratio."""
    global IMAGES
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (batch, canvas // 8, canvas // 8, 3), dtype=np.uint8)
    IMAGES = np.stack([np.asarray(Image.fromarray(c).resize((canvas, canvas), Image.Resampling.BICUBIC)) for c in coarse])
    spec = specification(side, blur)
    pair = ImageViews([spec, spec], {"low": 0.0, "high": 255.0, "mean": MEAN, "std": STD})
    rows = torch.arange(batch)
    fields = {"x": torch.from_numpy(IMAGES).permute(0, 3, 1, 2).contiguous(), "size": torch.full((batch, 2), canvas)}
    ours, theirs = [], []
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for k in range(-2, rounds):
            started = time.perf_counter()
            on_device = Batch(fields, rows, rows, torch.full((batch,), k)).to(device)
            for _ in range(3):
                views = pair(on_device, on_device.draws(0, "bench"))
            if device != "cpu":
                torch.cuda.synchronize()
            middle = time.perf_counter()
            x = pillow_batch(pool, batch, spec)
            stopped = time.perf_counter()
            assert x.shape[1:] == views[0].x.shape
            if k >= 0:
                ours.append(3 * batch / (middle - started))
                theirs.append(batch / (stopped - middle))
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return {"side": side, "canvas": canvas, "batch": batch, "device": device, "ours": round(statistics.median(ours)),
            "pillow": round(statistics.median(theirs)), "ratio": round(statistics.median(ratios), 2),
            "worst": round(ratios[0], 2), "best": round(ratios[-1], 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the results")
    parser.add_argument("--rounds", type=int, default=9, help="interleaved rounds a setting")
    parser.add_argument("--threads", type=int, default=2, help="torch threads of our side")
    parser.add_argument("--device", default="cpu", help="where our side runs: cpu or cuda")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for name, side, canvas, batch, blur in (("32 px", 32, 32, 256, 0.0), ("224 px with blur", 224, 256, 64, 0.5)):
        result = compare(side, canvas, batch, blur, options.rounds, options.device)
        results.append({"name": f"two SimCLR views, {name}"} | result)
        print(f"two SimCLR views, {name}: {result['ratio']}x of Pillow in two processes ({result['worst']}–{result['best']} "
              f"over {options.rounds} rounds; {result['ours']} against {result['pillow']} images/s)")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
