"""benchmarks/engine.py times like against like: the same heap, and among the counted steps all that the engine does now and then."""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import pytest

from selftaught.sources import open_source
from selftaught.training.heap import _glibc

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import engine
    sys.path.remove(str(ROOT / "benchmarks"))
    return engine


@pytest.fixture(scope="module")
def source():
    return open_source(np.random.default_rng(0).integers(0, 256, (256, 3, 32, 32), dtype=np.uint8))


@pytest.mark.skipif(_glibc() is None, reason="the heap is kept on glibc alone")
def test_both_loops_keep_freed_memory(script, source):
    """A loop that hands its blocks back faults on every page of every step anew; both of these do so in their first steps alone."""
    plan = script.planned(source, {"batch_size": 128, "backbone.widths": (96,), "precision": "32-true"}, steps=12)

    def faults(run, *more):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        assert run(plan, source, *more) > 0
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults(script.engine)  # imports and first allocations
    assert faults(script.bare, 12) < 2 * faults(script.engine) + 3000


def test_the_counted_steps_hold_health_checks_and_flushes(script, source):
    counted = range(1, script.STEPS)
    for options in script.CASES.values():
        plan = script.planned(source, options)
        checks, flushes = (sum(step % plan[every] == 0 for step in counted) for every in ("health_every", "log_every"))
        assert len(counted) == 20 and (checks, flushes) == (4, 2)
    assert script.per_step([0.0, 1.0, 2.0, 5.0]) == pytest.approx(5 / 3)  # a slow step in between is counted, a median would hide it


def test_the_committed_result_was_measured_so(script):
    path = ROOT / "benchmarks" / "results" / "engine.json"
    if not path.is_file():
        pytest.skip("not measured yet")
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found.keys() == script.CASES.keys()
    for case in found.values():
        ratios = [e / b for b, e in case["pairs"]]
        assert case["steps"] == script.STEPS - 1 and len(ratios) >= 10 and case["ratio"] == pytest.approx(np.median(ratios), abs=2e-3)
