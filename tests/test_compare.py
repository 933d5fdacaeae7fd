"""The executable taxonomy: every method has its tags; the comparison, its order, its baselines, and what cannot take part."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from selftaught import methods  # noqa: F401  (enters the methods in the registry)
from selftaught.contracts import REGISTRY, DataError, NotApplicable, OptionError, find, names
from selftaught.methods import SimCLR
from selftaught.protocols import compare_methods
from selftaught.protocols.compare import chosen
from selftaught.protocols.taxonomy import FAMILIES, FOUR, NEGATIVES, PRETEXTS, TAXONOMY, UNTAGGED, family, tags

METHODS = [n for n in names("method") if find("method", n).__module__.startswith("selftaught.methods")]


@pytest.mark.parametrize("name", METHODS)
def test_every_registered_method_has_its_tags(name):
    negatives, pretext = TAXONOMY[name]
    assert negatives in NEGATIVES and pretext in PRETEXTS


def test_every_registered_method_is_of_one_family():
    members = [n for of in FAMILIES.values() for n in of]
    assert len(members) == len(set(members)) and set(METHODS) <= set(members)
    assert {n for n in METHODS if family(n) == "with labels"} == {n for n in METHODS if find("method", n).labelled}


def test_the_four_stand_for_the_surveys_four_sources():
    assert [TAXONOMY[n][0] for n in FOUR] == list(NEGATIVES[:4])


def test_methods_that_read_labels_say_so():
    """The tag 'labels' and the attribute agree, so that a comparison without labels leaves out what reads them."""
    reads = {n for n in METHODS if TAXONOMY[n][1] == "labels"}
    assert reads <= {n for n in METHODS if find("method", n).labelled}


def test_a_method_that_the_taxonomy_does_not_know_is_untagged_and_no_error():
    REGISTRY["method", "stranger"] = type("Stranger", (SimCLR,), {})
    try:
        assert tags("stranger") == UNTAGGED and chosen(["stranger", "simclr"], "negatives") == ["simclr", "stranger"]
        assert "stranger" not in chosen(None, None)  # not of the package
    finally:
        del REGISTRY["method", "stranger"]


def test_what_is_chosen():
    assert set(chosen(None, "negatives")) == {n for n in FOUR if n in METHODS}
    everyone = chosen(None, None)
    assert "simclr" in everyone and not any(find("method", n).labelled for n in everyone)
    assert chosen(["swav", "simclr", "swav"], "negatives") == ["simclr", "swav"]
    assert [family(n) for n in chosen(None, "family")] == list(FAMILIES)
    with pytest.raises(OptionError, match="Did you mean 'simclr'"):
        chosen(["simclrr"], None)
    with pytest.raises(OptionError, match="negatives, pretext"):
        chosen(None, "size")
    assert chosen("simclr", None) == ["simclr"]
    with pytest.raises(OptionError, match="--methods"):
        chosen([], None)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    return {"x": (rng.normal(size=(120, 2, 32)) + y[:, None, None]).astype(np.float32), "y": y}


OPTIONS = {"layout": "NCT", "steps": 6, "batch_size": 16, "precision": "32-true", "backbone.widths": (8, 16)}


def test_the_table(data):
    """Two seeds: every method has both probes for each, beside both baselines; equal seeds give equal numbers."""
    said = []
    table = compare_methods(data, methods=["vicreg", "simclr"], by="negatives", seeds=2, say=said.append, **OPTIONS)
    assert [r.name for r in table.rows] == ["raw input", "random initialisation", "simclr", "vicreg"] and len(said) == 4
    assert all(len(table.row(n).scores[p]) == 2 for n in ("simclr", "vicreg", "random initialisation") for p in ("knn", "linear"))
    assert table.row("raw input").interval("linear").value > 0.9  # the classes differ by their level
    gain = table.gain("simclr")
    differences = [a.value - b.value for a, b in zip(table.row("simclr").scores["linear"],
                                                     table.row("random initialisation").scores["linear"])]
    half = 12.7062047 * np.std(differences, ddof=1) / 2**0.5  # Student's t with one degree of freedom
    assert gain.value == pytest.approx(np.mean(differences)) and gain.high - gain.value == pytest.approx(half, rel=1e-6, abs=1e-9)
    text = table.to_text()
    assert "momentum queue" not in text and "batch " in text and "convnet, 6 steps of 16 items for each, 96 items; 2 seeds" in text
    again = compare_methods(data, methods=["simclr"], seeds=1, **OPTIONS)
    assert again.row("simclr").scores["linear"][0].value == table.row("simclr").scores["linear"][0].value
    assert json.loads(json.dumps(again.to_json(), allow_nan=False))["rows"][-1]["linear_over_random"][1:] == [None, None]


def test_masked_methods_bring_a_transformer_for_all_and_networks_are_fine_tuned(data):
    table = compare_methods(data, methods=["mae", "simclr"], by="family", finetune=12, layout="NCT", steps=2, batch_size=16,
                            **{"backbone.width": 16, "backbone.depth": 1, "backbone.heads": 2})
    assert "vit_tiny" in table.budget and [r.name for r in table.rows[2:]] == ["simclr", "mae"]
    assert all(table.row(n).scores["finetune"][0].detail["labels"] == 12 for n in ("simclr", "mae", "random initialisation"))
    assert "finetune" not in table.row("raw input").scores and "masked modelling" in table.to_text()


def test_training_changes_the_encoder(data):
    """A comparison in which nothing was learned would score every method like its own first weights."""
    few, more = (compare_methods(data, methods=["simclr"], seeds=1, **{**OPTIONS, "steps": n, "lr": lr}).row("simclr")
                 for n, lr in ((1, 0.0), (6, 0.02)))
    assert few.scores["linear"][0].detail["grid"] != more.scores["linear"][0].detail["grid"]


def test_groups_are_held_out_whole_and_make_the_intervals(data):
    """What the penalty is chosen on, and what an interval is over."""
    grouped = {**data, "group": np.arange(120) // 4}
    found, plain = (compare_methods(d, methods=["simclr"], **OPTIONS).row("raw input").scores for d in (grouped, data))
    assert found["linear"][0].n == found["knn"][0].n == 6 and plain["linear"][0].n == plain["knn"][0].n == 24
    assert found["linear"][0].detail["held_out"] == 96 and not found["linear"][0].detail.get("notes")


def test_who_cannot_take_part_is_a_line_with_its_reason():
    table = compare_methods("embedded:breast-cancer", methods=["pirl", "simclr"], steps=3, batch_size=32)
    row = table.row("pirl")
    assert not row.scores and row.note.startswith("not applicable: table") and table.row("simclr").scores
    assert table.to_text().count("not applicable") == 1 and table.gain("pirl") is None


def test_where_none_can_take_part_the_reason_is_the_error():
    with pytest.raises(NotApplicable, match="^table"):
        compare_methods("embedded:breast-cancer", methods="pirl", steps=1, batch_size=32)


def test_a_setting_that_suits_one_method_not_is_its_line_alone(data):
    """In doubles: the encoder embeds in the type of its weights."""
    few = {**OPTIONS, "precision": "64-true"}
    table = compare_methods(data, methods=["w_mse", "simclr"], **few)
    assert table.row("w_mse").note.startswith("not trained: Whitening") and table.row("simclr").scores["knn"]
    with pytest.raises(OptionError, match="Whitening"):
        compare_methods(data, methods=["w_mse"], **few)
    with pytest.raises(OptionError, match="--methods"):
        compare_methods(data, method="simclr", **few)


def test_no_labels_is_a_sentence(data):
    with pytest.raises(DataError, match="no labels, so nothing can be scored"):
        compare_methods(data["x"], layout="NCT", steps=2)
    with pytest.raises(OptionError, match="at least 1"):
        compare_methods(data, layout="NCT", steps=2, seeds=0)


def test_the_command():
    from selftaught.cli import app

    done = CliRunner().invoke(app, ["compare-methods", "embedded:breast-cancer", "--methods", "simclr", "--steps", "3", "--json",
                                    "batch_size=32", "method.width=16"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1] if "\n" in done.stdout.strip() else done.stdout)
    assert [r["name"] for r in found["rows"]] == ["raw input", "random initialisation", "simclr"] and "3 steps of 32" in found["budget"]
