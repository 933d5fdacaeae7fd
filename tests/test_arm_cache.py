"""What decides a number is in the key of its run: helpers, tables, closures, labels, and the ablations of other proofs."""

import json

import numpy as np

from selftaught.sources import open_source
from selftaught.systems import catalogue, find_proof
from selftaught.systems.arm_cache import DATA, arm_key, functions_of, owners, reached


def test_what_a_proof_uses_of_others_is_part_of_the_key():
    """A scene that a measure draws, a wrapper that another system's prepare imports, a constant: each changes the numbers."""
    moving, latent = find_proof("S102"), find_proof("S003")
    found = reached([m for a in moving.arms for m in a.measures] + [DATA.get(a.data.partition("-")[0]) for a in moving.arms])
    assert {"selftaught.systems.s102.scenes", "selftaught.systems.s102.SIDE"} <= found.keys()
    assert "def scenes" in found["selftaught.systems.s102.scenes"]
    assert "selftaught.systems.s303.watched" in reached([latent.prepare]) and reached([None]) == {}
    for id, expected in (("S071", "s071.SETS"), ("S072", "s072.pseudo_classes"), ("S338", "spoken.recordings")):  # a table; kept results
        claimed = find_proof(id)
        assert f"selftaught.systems.{expected}" in reached([claimed.prepare, *functions_of(claimed.arms[0])]), id
    by_pair = [c.value for c in find_proof("S253").claims if c.value and c.value.__closure__]
    assert len(by_pair) > 1 and len({json.dumps(reached([f])) for f in by_pair}) == len(by_pair)  # one source, other values


def test_labels_and_groups_are_part_of_the_data(monkeypatch):
    """Two sets of the same items under other labels are other data; a source's own fingerprint, of a run that may go on, is one."""
    from selftaught.systems.arms import data_fingerprint

    def digits(rest):
        given = {"x": np.arange(8 * 16, dtype=np.float32).reshape(8, 16), "y": np.arange(8) // (4 if rest != "labels" else 2)}
        given |= {"group": np.arange(8) // 2} if rest == "groups" else {}
        return (open_source({**given, "x": given["x"][:, None]}, layout="NCT"),) * 2

    monkeypatch.setitem(DATA, "labelled", digits)
    found = {rest: data_fingerprint(f"labelled-{rest}") for rest in ("plain", "again", "labels", "groups")}
    assert found["plain"] == found["again"] and len(set(found.values())) == 3
    assert digits("plain")[0].fingerprint() == digits("labels")[0].fingerprint()


def test_an_arm_of_two_proofs_is_one_run():
    """S031 has an arm whose method is S137's own: its source is in the key, and both mean the same run."""
    from selftaught.systems import s137

    ours, theirs = find_proof("S031"), find_proof("S137")
    arm = next(a for a in ours.arms if a.method == "s137_unpaired")
    assert owners(ours, arm) == [s137.prepare]
    keys = {arm_key(p, arm, 0, fingerprint=str, code="") for p in (ours, theirs)}
    assert len(keys) == 1
    assert owners(ours, ours.arms[0]) == []


def test_a_changed_helper_is_another_proof(monkeypatch):
    """All data of S102 come from a helper that the digest does not see; results say by `reach` which one they were made with."""
    from selftaught.systems import s102

    first = find_proof("S102")
    result = {"id": "S102", "digest": first.digest(), "reach": first.reach(), "raw": {}}
    assert first.proved_by(result) and first.proved_by({"digest": first.digest()})  # the first results have no reach
    monkeypatch.setattr(s102, "scenes", lambda n, split: None)
    assert first.digest() == result["digest"] and not first.proved_by(result)
    assert "what it uses" in catalogue.verdict_of(result).lacks[0]


def test_an_arms_probe_holds_groups_out_whole(monkeypatch):
    """Items of a group are near copies under one random label: held out alone, they say that the weakest penalty is best."""
    from selftaught.evaluation import linear_probe
    from selftaught.systems.arms import run_arm
    from selftaught.systems.proof import Arm

    def copies(rest):
        def part(seed):
            rng = np.random.default_rng(seed)
            group, y = np.arange(200) // 5, rng.integers(0, 2, 40).repeat(5)
            x = rng.normal(size=(40, 2, 16)).repeat(5, 0) + 0.05 * rng.normal(size=(200, 2, 16)) + 0.2 * y[:, None, None]
            return open_source({"x": x.astype(np.float32), "y": y, "group": group}, layout="NCT")

        return part(0), part(1)

    def both(trained):
        arrays = trained.features, trained.train.labels, trained.run.encoder.embed(trained.test), trained.test.labels
        return {"whole": linear_probe(*arrays, groups=trained.train.groups).value, "torn": linear_probe(*arrays).value}

    monkeypatch.setitem(DATA, "copies", copies)
    options = {"backbone.widths": (8, 16), "batch_size": 16, "num_workers": 0}
    found = run_arm(Arm("untrained", None, "copies-", options, measures=(both,)), 0)
    assert found["linear"] == found["whole"] != found["torn"]
