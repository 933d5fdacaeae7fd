"""Log-mel of a batch of clips at once against a clip at a time, by the same function and by the usual torch.stft; prints the ratios."""

import json
import time
from pathlib import Path

import torch

from selftaught.views.logmel import FLOOR, LogMel

ROUNDS = 9


def usual(logmel: LogMel, clip: torch.Tensor) -> torch.Tensor:
    """What one writes for a clip: [n] → [mels, T]."""
    spectrum = torch.stft(clip, logmel.fft, logmel.hop, logmel.width, logmel.window, pad_mode="constant", return_complex=True)
    return torch.log(logmel.filters @ spectrum.abs().square() + FLOOR)


def seconds(run) -> float:
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(rate: int, length: float, clips: int = 256) -> dict:
    logmel = LogMel(rate)
    x = 0.1 * torch.randn(clips, int(rate * length), generator=torch.Generator().manual_seed(0))
    frames = -(-x.shape[1] // logmel.hop)
    worst = (torch.stack([usual(logmel, clip)[:, :frames] for clip in x[:8]]) - logmel(x[:8])).abs().max()
    assert worst < 1e-3, worst
    batch, same, plain = (1e3 * seconds(run) for run in (
        lambda: logmel(x),
        lambda: torch.cat([logmel(clip[None]) for clip in x]),
        lambda: torch.stack([usual(logmel, clip)[:, :frames] for clip in x]),
    ))
    return {"rate": rate, "seconds a clip": length, "clips": clips, "batch ms": round(batch, 1), "clip by clip ms": round(same, 1),
            "torch.stft ms": round(plain, 1), "ratio": round(same / batch, 2), "ratio to torch.stft": round(plain / batch, 2)}


if __name__ == "__main__":
    torch.set_num_threads(2)
    found = [measure(8000, 0.66), measure(16000, 1.0)]
    for row in found:
        print(f"log-mel at {row['rate']} Hz: batch {row['batch ms']} ms, clip by clip {row['clip by clip ms']} ms = {row['ratio']}x, "
              f"torch.stft clip by clip {row['torch.stft ms']} ms = {row['ratio to torch.stft']}x", flush=True)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "logmel.json").write_text(json.dumps({"threads": torch.get_num_threads(), "rows": found}, indent=1) + "\n")
