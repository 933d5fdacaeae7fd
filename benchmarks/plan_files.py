"""Planning 100,000 image files: seconds, and memory above the process after its imports (at most 10 s and 100 MB).

    python benchmarks/plan_files.py [FILES] [--json FILE]

Writes that many small PNGs into 100 folders of a temporary directory, then finds, fingerprints and plans them in a fresh process. The
number of epochs is given: a plan that is to choose it times three steps of training, whose memory is the network's.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MOST_SECONDS, MOST_MEGABYTES = 10.0, 100.0


def write(root: Path, count: int) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(stream, "PNG")
    for folder in range(100):
        (root / f"class {folder:02}").mkdir()
    for i in range(count):
        (root / f"class {i % 100:02}" / f"photograph number {i:06}.png").write_bytes(stream.getvalue())


def resident(field: str) -> float:
    """MB of memory of this process: VmRSS now, VmHWM the most so far (as Linux reports them)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) / 1024


def plan(root: str) -> dict[str, float]:
    from PIL import Image, ImageFile, JpegImagePlugin, PngImagePlugin  # noqa: F401  (part of the imports, not of the planning)

    from selftaught.plan import make_plan
    from selftaught.sources import open_source

    small = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), np.uint8)
    make_plan(open_source(small), {})  # the same for what opening and planning import lazily
    before, start = resident("VmRSS"), time.perf_counter()
    source = open_source(root)
    source.fingerprint()
    make_plan(source, {"epochs": 1})
    seconds = time.perf_counter() - start
    return {"files": len(source), "classes": len(source.classes), "seconds": round(seconds, 2),
            "megabytes_kept": round(resident("VmRSS") - before, 1), "megabytes_at_most": round(resident("VmHWM") - before, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=int, nargs="?", default=100_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plan:
        print(json.dumps(plan(options.plan)))
        return 0
    with tempfile.TemporaryDirectory() as root:
        start = time.perf_counter()
        write(Path(root), options.files)
        print(f"wrote {options.files:,} files in {time.perf_counter() - start:.1f} s", file=sys.stderr)
        found = json.loads(subprocess.run([sys.executable, __file__, "--plan", root], check=True, stdout=subprocess.PIPE, text=True).stdout)
    found["holds"] = found["seconds"] < MOST_SECONDS and found["megabytes_at_most"] < MOST_MEGABYTES
    print(json.dumps(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
