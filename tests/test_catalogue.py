"""The catalogue is whole, its lines say something of each system, and its states follow from what is committed."""

import json
import re
import subprocess
import sys

import pytest

from selftaught.contracts import OptionError
from selftaught.systems import catalogue, find_proof, find_system, systems, to_markdown
from selftaught.systems.proof import judge

AREAS = {"llm-self-training", "evaluation", "multimodal-alignment", "text-embedding", "joint-embedding", "data-curation",
         "masked-modeling", "semi-supervised", "adaptation", "speech-units", "language-modeling", "dense-vision",
         "distill-compress", "weak-active", "sequences-tabular-graph", "generative", "systems", "survey", "pretext",
         "rl-robotics"}
PROOFS = sorted(p.stem.upper() for p in catalogue.HERE.glob("s[0-9][0-9][0-9].py"))


def test_all_systems_are_there():
    rows = systems()
    assert [s.id for s in rows] == [f"S{n:03d}" for n in range(1, 380)]
    assert {s.area for s in rows} == AREAS and all(s.modality and s.title and s.kind for s in rows)


def test_every_line_is_its_own_sentence():
    lines = [s.line for s in systems()]
    assert len(set(lines)) == 379
    assert all(8 <= len(line.split()) <= 30 and line[0].isupper() and line.endswith(".") for line in lines)
    openings = {" ".join(line.split()[:4]) for line in lines}
    assert len(openings) > 350  # not one template filled in


def test_filters_and_names():
    assert {s.area for s in systems(area="pretext")} == {"pretext"} and len(systems(area="pretext")) == 7
    assert all(s.state == "planned" for s in systems(state="planned"))
    assert find_system("s378").id == "S378"
    with pytest.raises(OptionError, match="S378|S37"):
        find_system("S3788")
    with pytest.raises(OptionError, match="pretext"):
        systems(area="pretxt")
    with pytest.raises(OptionError, match="S041"):
        find_proof("S002" if "S002" not in PROOFS else "S001")


def test_prove_takes_so_many_seeds(monkeypatch):
    monkeypatch.setattr(catalogue, "run_proof", lambda proof, *, seeds, say: (proof.id, seeds))
    registered = find_proof("S378").seeds
    assert catalogue.prove("s378") == ("S378", registered) and catalogue.prove("S378", seeds=2) == ("S378", registered[:2])
    assert catalogue.prove("S378", seeds=7) == ("S378", (*registered, 5, 6))


def test_json_rows_have_what_the_command_line_promises():
    row = find_system("S378").to_json()
    assert {"id", "title", "area", "state", "data", "result"} <= set(row) and json.loads(json.dumps(row)) == row


def test_reading_the_catalogue_does_not_import_torch():
    code = "import sys, selftaught.systems as s; s.systems(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


@pytest.mark.parametrize("id", PROOFS)
def test_proofs_are_well_made(id):
    proof = find_proof(id)
    assert proof.id == id and len(proof.seeds) >= 3 and len(set(proof.seeds)) == len(proof.seeds)
    assert any(a.role == "ablation" for a in proof.arms) and any(a.role == "subject" for a in proof.arms)
    assert proof.works_when and proof.budget and proof.omissions
    assert all(a.seconds <= 120 for a in proof.arms)
    if proof.prepare is not None:
        from selftaught.contracts import names

        proof.prepare()
        private = [a.method for a in proof.arms if a.method and re.match(r"s\d{3}_", a.method)]
        assert set(private) <= set(names("method"))


def test_states_follow_from_files(tmp_path, monkeypatch):
    """planned → runs with a module → holds with a result; a word in the file is not believed, another digest is not either."""
    monkeypatch.setattr(catalogue, "RESULTS", tmp_path)
    proof = find_proof("S314")
    assert find_system("S314").state == "runs"
    ranks = {a.name: i for i, a in enumerate(a for a in proof.arms if a.name.startswith("diet"))}

    def values(arm, seed):
        linear = {"untrained": 0.30, "shuffled targets": 0.31}.get(arm, 0.41) + 0.001 * seed + 0.001 * ranks.get(arm, 0)
        return {"linear": linear, "loss": 5.0 - ranks.get(arm, 0), "seconds": 1.0}

    raw = {a.name: {str(s): values(a.name, s) for s in proof.seeds} for a in proof.arms}
    result = {"id": "S314", "state": "does-not-hold", "data": "real", "digest": proof.digest(), "raw": raw}
    catalogue.write_result(result)
    assert judge(proof, raw).state == "holds"
    assert (find_system("S314").state, find_system("S314").data, find_system("S314").result) == (
        "holds", "real", "systems/results/S314.json")
    worse = raw | {"diet": {s: v | {"linear": 0.2} for s, v in raw["diet"].items()}}
    catalogue.write_result(result | {"raw": worse, "state": "holds"})
    assert find_system("S314").state == "does-not-hold"
    catalogue.write_result(result | {"digest": "of another definition"})
    assert find_system("S314").state == "runs"
    catalogue.write_result(result | {"raw": {k: {s: v[s] for s in ("0", "1")} for k, v in raw.items()}})
    assert find_system("S314").state == "runs"


def test_document_is_up_to_date():
    assert catalogue.DOCUMENT.read_text(encoding="utf-8") == to_markdown(), "run: python -m selftaught.systems"
