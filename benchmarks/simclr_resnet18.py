"""SimCLR, ResNet-18 with a 3 × 3 stem, batch 128, 32 px, end to end: this project against a plain script.

The plain script is what one writes first and well: per-sample Pillow views in two DataLoader workers, float32, NCHW, the same
network, loss, optimiser and batch. Both run in turn in one process; the ratio of samples/s is printed.

python benchmarks/simclr_resnet18.py [--json FILE] [--rounds 3] [--steps 4]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch.utils.data import DataLoader, Dataset

from selftaught.networks import build_backbone
from selftaught.objectives import nt_xent
from selftaught.plan import make_plan
from selftaught.sources import open_source
from selftaught.training import fit

BATCH = 128


class PlainViews(Dataset):
    """Two views an item, one item at a time: crop, flip, jitter, grey; float32 [3, 32, 32]."""

    def __init__(self, images: np.ndarray):
        self.images = images  # uint8 [N, 32, 32, 3]

    def __len__(self) -> int:
        return len(self.images)

    def view(self, image: Image.Image) -> torch.Tensor:
        area, ratio = random.uniform(0.2, 1.0) * 1024, np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = min((area * ratio) ** 0.5, 32), min((area / ratio) ** 0.5, 32)
        x, y = random.uniform(0, 32 - w), random.uniform(0, 32 - h)
        image = image.resize((32, 32), Image.BILINEAR, box=(x, y, x + w, y + h))
        if random.random() < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        if random.random() < 0.8:
            kinds = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color, None]
            random.shuffle(kinds)
            for kind in kinds:
                if kind is None:
                    hue, saturation, value = image.convert("HSV").split()
                    hue = Image.fromarray((np.asarray(hue).astype(np.int16) + int(random.uniform(-0.1, 0.1) * 255)).astype(np.uint8))
                    image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
                else:
                    image = kind(image).enhance(random.uniform(0.6, 1.4))
        if random.random() < 0.2:
            image = image.convert("L").convert("RGB")
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
        return pixels.sub_(0.47).div_(0.25)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        image = Image.fromarray(self.images[i])
        return self.view(image), self.view(image)


def plain(images: np.ndarray, facts, steps: int) -> float:
    """Samples a second of the plain script, the first step left out."""
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", facts)
    head = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 128))
    optimiser = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-3)
    loader = DataLoader(PlainViews(images), batch_size=BATCH, shuffle=True, num_workers=2, drop_last=True)
    ends = []
    for step, (a, b) in enumerate(loader):
        z = head(backbone(torch.cat([a, b])).pooled)
        loss = nt_xent(*z.chunk(2), temperature=0.2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        ends.append(time.perf_counter())
        if step == steps:
            break
    return BATCH / statistics.median(np.diff(ends).tolist())


def ours(source, steps: int) -> float:
    """Samples a second of `fit` under the plan's own choices for this machine."""
    plan = make_plan(source, {"method": "simclr", "backbone": "resnet18", "batch_size": BATCH, "steps": steps + 1})
    method, ends = plan.build_method(), []
    after_step = method.after_step
    method.after_step = lambda: (after_step(), ends.append(time.perf_counter()))
    fit(method, plan.stream(source), plan.training(), plan.settings(progress=False))
    return BATCH / statistics.median(np.diff(ends).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(2)
    images = np.random.default_rng(0).integers(0, 256, (1024, 32, 32, 3), dtype=np.uint8)
    source = open_source(images)
    rounds = [(plain(images, source.facts, args.steps), ours(source, args.steps)) for _ in range(args.rounds)]
    ratio = statistics.median(b / a for a, b in rounds)
    print("plain script, ours (samples/s): " + "; ".join(f"{a:.1f}, {b:.1f}" for a, b in rounds))
    print(f"ratio {ratio:.2f}x")
    if args.json:
        with open(args.json, "w") as handle:
            json.dump({"ratio": round(ratio, 3), "rounds": [[round(a, 2), round(b, 2)] for a, b in rounds]}, handle, indent=1)


if __name__ == "__main__":
    main()
