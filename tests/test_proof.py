"""Judgement from raw values, the cache of arms, and the committed results against the proofs that they claim to be of."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from selftaught.contracts import DataError
from selftaught.systems import catalogue
from selftaught.systems.arms import data_file
from selftaught.systems.proof import Arm, Claim, Proof, interval, judge, run_proof

ARMS = (Arm("new", "simclr"), Arm("old", None, role="baseline"), Arm("bare", "s000_bare", role="ablation"))
BETTER = Claim("new beats old", "knn", "new", "old")


def proof(*claims: Claim, **changes) -> Proof:
    found = Proof("S000", "it works", "it beats the old", ARMS, claims or (BETTER,), (0, 1, 2), "none", "synthetic")
    return replace(found, **changes)


def raw(new, old=(0.5, 0.5, 0.5), bare=(0.1, 0.1, 0.1)) -> dict:
    arms = {"new": new, "old": old, "bare": bare}
    return {name: {str(s): {"knn": v, "seconds": 1.0} for s, v in enumerate(values)} for name, values in arms.items()}


def test_interval_is_students():
    """Closed form for three values: mean ± 4.302653 · s / √3."""
    values = np.array([0.1, 0.2, 0.4])
    half = 4.30265272991 * math.sqrt(((values - values.mean()) ** 2).sum() / 2) / math.sqrt(3)
    assert interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-9)
    assert all(math.isnan(v) for v in interval([0.1])) and all(math.isnan(v) for v in interval([0.1, math.inf]))


def test_interval_agrees_with_evaluation():
    from selftaught.evaluation.intervals import paired_difference

    a, b = np.array([0.61, 0.64, 0.60, 0.66]), np.array([0.58, 0.60, 0.61, 0.60])
    theirs = paired_difference(a, b)
    assert interval(a - b) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_holds_and_does_not_hold():
    good = judge(proof(), raw((0.60, 0.61, 0.62)))
    assert good.state == "holds" and good.claims[0].measured == pytest.approx(0.61) and good.claims[0].baseline == 0.5
    wide = judge(proof(), raw((0.90, 0.45, 0.60)))  # better on average, but not surely
    assert wide.state == "does-not-hold" and not wide.claims[0].holds and "does not lie above 0" in wide.claims[0].why


def test_pairing_by_seed_decides():
    """Seeds that move both arms together leave the difference sharp; the same values in another order do not."""
    old = (0.3, 0.5, 0.7)
    assert judge(proof(), raw((0.32, 0.52, 0.71), old)).state == "holds"
    assert judge(proof(), raw((0.52, 0.71, 0.32), old)).state == "does-not-hold"


@pytest.mark.parametrize(("direction", "margin", "new", "expected"), [
    ("greater", 0.05, (0.60, 0.61, 0.62), True), ("greater", 0.15, (0.60, 0.61, 0.62), False),
    ("not worse", 0.02, (0.49, 0.495, 0.49), True), ("not worse", 0.002, (0.49, 0.495, 0.49), False),
    ("smaller", 0.0, (0.40, 0.41, 0.40), True), ("smaller", 0.2, (0.40, 0.41, 0.40), False),
])
def test_directions_and_margins(direction, margin, new, expected):
    claim = Claim("a", "knn", "new", "old", direction, margin)
    assert judge(proof(claim), raw(new)).claims[0].holds is expected


@pytest.mark.parametrize(("direction", "margin", "expected"), [
    ("greater", 0.5, True), ("greater", 0.61, False), ("smaller", 0.7, True), ("smaller", 0.61, False)])
def test_thresholds(direction, margin, expected):
    claim = Claim("a", "knn", "new", direction=direction, margin=margin, kind="threshold")
    judged = judge(proof(claim), raw((0.60, 0.61, 0.62))).claims[0]
    assert judged.holds is expected and judged.baseline == margin


def test_across_arms_sees_one_seed_at_a_time():
    claim = Claim("a", "knn", kind="across arms", value=lambda arms: max(v["knn"] for v in arms.values()) - arms["bare"]["knn"])
    judged = judge(proof(claim), raw((0.60, 0.61, 0.62), bare=(0.1, 0.2, 0.3))).claims[0]
    assert list(judged.per_seed.values()) == pytest.approx([0.50, 0.41, 0.32]) and judged.holds


def least(k: int, **options) -> Claim:
    """At least k of three metrics of the new arm are above zero (or below)."""
    return Claim("a", "knn", kind="across arms", value=lambda arms: tuple(arms["new"][m] for m in "abc"), least=k, **options)


def triples(*columns) -> dict:
    return raw((), *(5 * (v,) for v in (0.5, 0.1))) | {"new": {str(s): dict(zip("abc", row)) for s, row in enumerate(zip(*columns))}}


def test_at_least_so_many_are_the_same_ones_in_every_seed():
    """Two of three lead in every seed, but the second is another one each time: its order statistic is above zero, no set is."""
    sure, now, then = (0.50, 0.51, 0.49, 0.50, 0.52), (0.02, -0.02, 0.02, -0.02, 0.02), (-0.02, 0.02, -0.02, 0.02, -0.02)
    five = proof(least(2), seeds=range(5))
    mixed = judge(five, triples(sure, now, then)).claims[0]
    assert not mixed.holds and mixed.interval[0] < 0 < mixed.interval[1] and list(mixed.per_seed.values()) == pytest.approx(now)
    assert judge(proof(least(1), seeds=range(5)), triples(sure, now, then)).claims[0].holds
    both = judge(five, triples(now, np.add(sure, 0.1), sure)).claims[0]
    assert both.holds and both.measured == pytest.approx(np.mean(sure))  # the second best decides
    assert judge(five, triples(sure, (math.nan,) * 5, np.add(sure, 0.1))).claims[0].holds  # what is missing is one that does not hold
    fallen = proof(least(2, direction="smaller"), seeds=range(5))
    assert judge(fallen, triples(np.negative(sure), now, np.negative(sure))).claims[0].holds
    assert not judge(fallen, triples(sure, now, np.negative(sure))).claims[0].holds


def test_at_least_so_many_errs_as_rarely_as_any_claim():
    """One set truly better and two level: at least two are said to be better in 2.5 % of cases (the order statistic: in 22 %)."""
    rng, five = np.random.default_rng(0), proof(least(2), seeds=range(5))
    said = [judge(five, triples(*(rng.normal(mean, 0.01, 5) for mean in (0.05, 0, 0)))).claims[0].holds for _ in range(1000)]
    assert np.mean(said) < 0.025 + 3 * math.sqrt(0.025 / 1000)


def test_least_is_checked():
    with pytest.raises(ValueError, match="counts the values"):
        Claim("a", "knn", "new", "old", least=2)
    for claim in (least(4), replace(least(1), least=None)):
        with pytest.raises(ValueError, match="gives 3 numbers a seed"):
            judge(proof(claim), triples(*np.ones((3, 3))))


def test_one_claim_that_fails_is_enough():
    verdict = judge(proof(BETTER, Claim("b", "knn", "bare", "old")), raw((0.60, 0.61, 0.62)))
    assert [c.holds for c in verdict.claims] == [True, False] and verdict.state == "does-not-hold"


@pytest.mark.parametrize("bad", [math.nan, math.inf, None])
def test_values_that_are_not_finite_do_not_hold(bad):
    verdict = judge(proof(), raw((0.60, bad, 0.62)))
    assert verdict.state == "does-not-hold" and "not finite" in verdict.claims[0].why


def test_a_metric_that_was_not_measured_does_not_hold():
    assert not judge(proof(Claim("a", "linear", "new", "old")), raw((0.60, 0.61, 0.62))).claims[0].holds


def test_missing_arm_seed_or_ablation_is_runs():
    values = raw((0.60, 0.61, 0.62))
    del values["old"]
    assert judge(proof(), values).state == "runs" and not judge(proof(), values).claims[0].holds
    values = raw((0.60, 0.61, 0.62))
    del values["bare"]["2"]
    assert judge(proof(), values).lacks == ("arm 'bare' lacks seed 2",)
    assert judge(proof(seeds=(0, 1)), raw((0.60, 0.61, 0.62))).state == "runs"
    assert judge(proof(arms=ARMS[:2]), raw((0.60, 0.61, 0.62))).lacks == ("an ablation arm",)


def test_definitions_are_checked():
    with pytest.raises(ValueError, match="must name arms"):
        proof(Claim("a", "knn", "nobody", "old"))
    with pytest.raises(ValueError, match="has a baseline"):
        Claim("a", "knn", "new")
    with pytest.raises(ValueError, match="not known"):
        Claim("a", "knn", "new", direction="not worse", kind="threshold", margin=1.0)


def test_digest_follows_every_part():
    first = proof()
    others = [proof(seeds=(0, 1, 3)), proof(statement="b"), proof(replace(BETTER, margin=0.1)), proof(budget="more"),
              proof(arms=(replace(ARMS[0], options={"epochs": 2}), *ARMS[1:])), proof(prepare=lambda: None)]
    assert len({p.digest() for p in [first, *others]}) == len(others) + 1 and first.digest() == proof().digest()


class Runner:
    """Counts its runs; the number depends on arm and seed alone."""

    def __init__(self):
        self.ran = []

    def __call__(self, arm, seed):
        self.ran.append((arm.name, seed))
        return {"knn": {"new": 0.6, "old": 0.5, "bare": 0.1}[arm.name] + 0.01 * seed * (arm.name == "new"), "seconds": 2.0}


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path))
    runner = Runner()

    def go(of=None, fingerprint="data", **options):
        before = len(runner.ran)
        result = run_proof(of or proof(), runner=runner, fingerprint=lambda key: f"{key}/{fingerprint}", **options)
        return result, runner.ran[before:]

    return go


def test_cache_is_hit_by_equals_alone(cached, monkeypatch):
    result, ran = cached()
    assert len(ran) == 9 and result["state"] == "holds" and result["seconds"] == 18.0
    again, ran = cached()
    assert ran == [] and again["raw"] == result["raw"]
    assert cached(proof(statement="other words", arms=(replace(ARMS[0], name="new", role="control"), *ARMS[1:])))[1] == []
    assert cached(seeds=(0, 3))[1] == [("new", 3), ("old", 3), ("bare", 3)]  # a new seed
    assert len(cached(fingerprint="changed")[1]) == 9  # other data
    changed = proof(arms=(replace(ARMS[0], options={"method.temperature": 0.2}), *ARMS[1:]))
    assert [name for name, _ in cached(changed)[1]] == ["new"] * 3  # another configuration
    assert [name for name, _ in cached(proof(prepare=lambda: None))[1]] == ["bare"] * 3  # another ablation of the proof's own
    also = proof(arms=(replace(ARMS[0], also=("more",)), *ARMS[1:]))
    assert [name for name, _ in cached(also)[1]] == ["new"] * 3  # further data
    monkeypatch.setattr("selftaught.systems.arm_cache.version", lambda name: "another release")
    assert len(cached()[1]) == 9
    monkeypatch.setattr("selftaught.systems.proof.code_version", lambda: "other code")
    assert len(cached()[1]) == 9


def test_measures_are_part_of_the_key(cached):
    def one(trained):
        return {"x": 1.0}

    def two(trained):
        return {"x": 2.0}

    for measure in (one, two):
        assert len(cached(proof(arms=(replace(ARMS[0], measures=(measure,)), *ARMS[1:])))[1]) >= 3
    assert cached(proof(arms=(replace(ARMS[0], measures=(one,)), *ARMS[1:])))[1] == []


def test_an_interrupted_proof_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFTAUGHT_CACHE", str(tmp_path))
    ran = []

    def breaks(arm, seed):
        ran.append(arm.name)
        if len(ran) == 5:
            raise RuntimeError("power cut")
        return {"knn": 0.5}

    options = {"runner": breaks, "fingerprint": lambda key: key}
    with pytest.raises(RuntimeError):
        run_proof(proof(), **options)
    run_proof(proof(), **options)
    assert len(ran) == 10 and not list(tmp_path.glob("*.tmp"))  # four kept, one broken, five left


def test_result_is_plain_json_and_recomputable(cached):
    result, _ = cached(seeds=(0,))
    assert result["state"] == "runs" and result["lacks"] and [c["holds"] for c in result["claims"]] == [False]
    result, _ = cached()
    kept = json.loads(json.dumps(result, allow_nan=False))
    assert judge(proof(), kept["raw"]).state == "holds" and kept["digest"] == proof().digest() and kept["reach"] == proof().reach()
    assert set(catalogue.summary(kept)) == {"id", "claims", "seeds", "seconds"}
    assert set(catalogue.summary(kept)["claims"][0]) == {"statement", "measured", "baseline", "interval", "holds"}


def test_results_match_their_proofs():
    """Every committed result is of the proof as it stands, and says what its raw values say."""
    for path in sorted(catalogue.RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        claimed = catalogue.find_proof(path.stem)
        assert (result["id"], result["digest"]) == (path.stem, claimed.digest()), f"{path.stem} was redefined: prove it"
        assert claimed.proved_by(result), f"what {path.stem} uses was changed: prove it"
        verdict = judge(claimed, result["raw"])
        assert (verdict.state, list(verdict.lacks)) == (result["state"], result["lacks"])
        for judged, stored in zip(verdict.claims, result["claims"], strict=True):
            assert (judged.statement, judged.holds) == (stored["statement"], stored["holds"])
            if stored["measured"] is not None:
                assert (judged.measured, *judged.interval) == pytest.approx((stored["measured"], *stored["interval"]))


def test_data_that_is_not_there_is_a_sentence(monkeypatch):
    monkeypatch.delenv("SELFTAUGHT_DATA", raising=False)
    with pytest.raises(DataError, match="cifar10_train.parquet.*SELFTAUGHT_DATA"):
        data_file("images", "cifar10_train.parquet")
