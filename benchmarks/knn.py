"""k-NN of 10,000 queries on 50,000 × 512 at k = 200: ours against a dense torch script and scikit-learn, in one run.

Each arm runs in a process of its own, so that its peak memory is its own. Run: python benchmarks/knn.py [--json FILE]
scikit-learn's arm is KNeighborsClassifier(algorithm='brute', metric='cosine') with the same weights, on the first 1,000 of
the queries, its seconds multiplied by ten. The dense arm holds the whole 10,000 × 50,000 similarity, as short scripts do.
Bounds: ours ≤ 30 s and ≤ 1 GB above what the process held with its data. Arms are interleaved, medians are reported.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import torch

REFERENCES, QUERIES, WIDTH, K, CLASSES, TEMPERATURE = 50_000, 10_000, 512, 200, 100, 0.07
SKLEARN_QUERIES = 1_000
ARMS = ("selftaught", "dense", "sklearn")


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Clouds around 100 centres that overlap, float32, the same in every arm."""
    rng = np.random.default_rng(0)
    centres = 0.25 * rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)
    train_y, test_y = rng.integers(0, CLASSES, REFERENCES), rng.integers(0, CLASSES, QUERIES)
    train_x = rng.standard_normal((REFERENCES, WIDTH), dtype=np.float32)
    test_x = rng.standard_normal((QUERIES, WIDTH), dtype=np.float32)
    for start in range(0, REFERENCES, 1000):
        train_x[start : start + 1000] += centres[train_y[start : start + 1000]]
    test_x += centres[test_y]
    return train_x, train_y, test_x, test_y


def dense(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    """The short script: one matrix of all similarities."""
    a = torch.nn.functional.normalize(torch.from_numpy(test_x), dim=1)
    b = torch.nn.functional.normalize(torch.from_numpy(train_x), dim=1)
    score, index = (a @ b.T).topk(K, dim=1)
    votes = torch.zeros(len(a), CLASSES).scatter_add_(1, torch.from_numpy(train_y)[index], (score / TEMPERATURE).exp())
    return float((votes.argmax(1).numpy() == test_y).mean())


def sklearn(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(K, algorithm="brute", metric="cosine", weights=lambda d: np.exp((1.0 - d) / TEMPERATURE))
    model.fit(train_x, train_y)
    return float((model.predict(test_x[:SKLEARN_QUERIES]) == test_y[:SKLEARN_QUERIES]).mean())


def ours(train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, test_y: np.ndarray) -> float:
    from selftaught.evaluation import knn

    return knn(train_x, train_y, test_x, test_y, k=K, temperature=TEMPERATURE).value


def peak() -> float:
    """Peak resident memory of this process in MB (Linux counts in kB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def run_arm(name: str) -> dict[str, float]:
    """Seconds, peak memory above the data and accuracy of one arm, with its imports and BLAS warmed on a few rows."""
    arm = {"selftaught": ours, "dense": dense, "sklearn": sklearn}[name]
    arrays = data()
    arm(arrays[0][:2000], arrays[1][:2000], arrays[2][:300], arrays[3][:300])
    before, start, cpu = peak(), time.perf_counter(), time.process_time()
    accuracy = arm(*arrays)
    factor = QUERIES / SKLEARN_QUERIES if name == "sklearn" else 1.0
    return {"seconds": factor * (time.perf_counter() - start), "cpu_seconds": factor * (time.process_time() - cpu),
            "extra_mb": peak() - before, "accuracy": accuracy}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions of all arms (default 3)")
    parser.add_argument("--json", metavar="FILE", help="also write the result here")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(run_arm(options.arm)))
        return
    rounds = [{arm: measured(arm) for arm in ARMS} for _ in range(options.rounds)]
    median = {a: {key: float(np.median([r[a][key] for r in rounds])) for key in rounds[0][a]} for a in ARMS}
    mine = median["selftaught"]
    result = {"task": f"{QUERIES} queries on {REFERENCES} x {WIDTH}, k = {K}", "threads": torch.get_num_threads(),
              "median": median, "rounds": rounds, "times_faster": {a: median[a]["seconds"] / mine["seconds"] for a in ARMS[1:]},
              "times_less_memory_than_dense": median["dense"]["extra_mb"] / max(mine["extra_mb"], 1.0),
              "sklearn_scaled_from_queries": SKLEARN_QUERIES,
              "holds": mine["seconds"] <= 30 and mine["extra_mb"] <= 1000}  # fmt: skip
    report(result)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(result, file, indent=2)
    sys.exit(0 if result["holds"] else 1)


def measured(arm: str) -> dict[str, float]:
    out = subprocess.run([sys.executable, __file__, "--arm", arm], check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def report(result: dict) -> None:
    print(f"{result['task']}, {result['threads']} threads, medians of {len(result['rounds'])} interleaved rounds")
    for arm, m in result["median"].items():
        scaled = f"  (scaled from {SKLEARN_QUERIES} queries)" if arm == "sklearn" else ""
        print(f"  {arm:<11} {m['seconds']:6.1f} s  cpu {m['cpu_seconds']:6.1f} s  +{m['extra_mb']:6.0f} MB  "
              f"accuracy {m['accuracy']:.4f}{scaled}")  # fmt: skip
    for arm, times in result["times_faster"].items():
        print(f"  {times:.2f} times as fast as {arm}")
    print(f"  {result['times_less_memory_than_dense']:.1f} times less extra memory than dense")
    print(f"  at most 30 s and 1000 MB extra: {'holds' if result['holds'] else 'DOES NOT HOLD'}")


if __name__ == "__main__":
    main()
