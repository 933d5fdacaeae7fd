"""The comparison: baselines, label budgets and counts, fine-tuning, boosting for tables, overlap, and what it says."""

import numpy as np
import pytest

import selftaught
from selftaught.contracts import DataError, OptionError
from selftaught.evaluation import Score
from selftaught.protocols import Cell, Supervision, Table, finetune

OPTIONS = {"steps": 8, "batch_size": 16, "progress": False, "precision": "32-true", "method.hidden": 16}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(96) % 2
    x = rng.normal(size=(96, 2, 32)).astype(np.float32) + y[:, None, None]
    return {"x": x, "y": y}


@pytest.fixture(scope="module")
def encoder(data, tmp_path_factory):
    return selftaught.pretrain(data["x"], "simclr", layout="NCT", out=tmp_path_factory.mktemp("runs") / "run", **OPTIONS,
                               **{"backbone.widths": (8, 16)}).encoder


def parts(data, a, b):
    return selftaught.open_source({k: v[a:b] for k, v in data.items()}, layout="NCT")


def test_every_baseline_under_every_protocol(encoder, data):
    table = selftaught.evaluate(encoder, parts(data, 0, 64), parts(data, 64, 96), ["knn", "linear", "clustering", "retrieval"],
                                budgets=[0.25, 1.0, 10], supervision=Supervision(steps=8))
    rows = {c.representation for c in table.cells}
    assert rows == {"encoder", "raw", "random", "supervised"}
    assert {(c.protocol, c.budget) for c in table.cells if c.representation == "encoder"} == {
        *((p, b) for p in ("knn", "linear") for b in (0.25, 1.0, 10)), ("clustering", 0.0), ("retrieval", 0.0)}
    assert all(c.score.low <= c.score.value <= c.score.high for c in table.cells)
    assert table.cell("encoder", "knn", 10).labels == 10 and table.cell("encoder", "knn", 0.25).labels == 16
    assert table.cell("raw", "knn", 1.0).score.value > 0.9  # the classes differ by their level
    text = table.to_text()
    assert "knn, 25% = 16 labels" in text and "knn, 10 labels" in text and "clustering " in text
    assert any(line.startswith("with 64 labels (100%)") for line in table.winners())
    assert "32 of the 32 items of the test data" in text  # the encoder was pretrained on all of them


def test_without_a_test_set_a_fifth_is_held_out(encoder, data):
    source = parts(data, 0, 96)
    table = selftaught.evaluate(encoder, source, budgets=[1.0], baselines=(), protocols=["knn"])
    named = {"origin": "a fifth of dict, held out", "fingerprint": source.fingerprint()}
    cell = table.cell("encoder", "knn", 1.0)
    assert cell.score.n in (19, 20) and cell.labels + cell.score.n == 96
    assert table.about["data"]["test"] == {**named, "items": cell.score.n}


def test_a_table_says_what_it_was_measured_on(encoder, data):
    train, test = parts(data, 0, 64), parts(data, 64, 96)
    table = selftaught.evaluate(encoder, train, test, budgets=[0.01], baselines=(), protocols="knn", draws=2, seed=5)
    saved = table.to_json()
    assert saved["data"] == {name: {"origin": "dict", "fingerprint": part.fingerprint(), "items": len(part)}
                             for name, part in (("train", train), ("test", test))}
    assert (saved["seed"], saved["draws"], saved["version"]) == (5, 2, selftaught.__version__)
    assert table.to_text().splitlines()[-1].startswith("measured on dict (32 items), with labels of dict (64 items); 2 draws")
    assert "1 % of 64 labels is raised to 2: one a class." in table.notes


def test_a_fingerprint_is_taken_once(encoder, data):
    from selftaught.sources.subsets import Subset

    taken = []

    class Slow(Subset):
        def fingerprint(self):
            taken.append(1)
            return "slow"

    source = Slow(parts(data, 0, 96), np.arange(96))
    for test in (None, source):
        taken.clear()
        selftaught.evaluate(encoder, source, test, budgets=[1.0], baselines=(), protocols="knn")
        assert len(taken) == 1


def test_items_without_a_label_are_not_counted_as_seen(encoder, data):
    y = data["y"][:64].astype(float)
    y[:40] = np.nan
    train = selftaught.open_source({"x": data["x"][:64], "y": y}, layout="NCT")
    table = selftaught.evaluate(encoder, train, parts(data, 30, 50), budgets=[1.0], baselines=(), protocols="knn")
    assert any(n.startswith("10 of the 20 items of the test data (50.0%) are in the labelled training data") for n in table.notes)


def test_a_network_that_too_few_labels_could_not_train_is_not_said_to_be_trained(encoder, data):
    said = []
    table = selftaught.evaluate(encoder, parts(data, 0, 64), parts(data, 64, 96), "knn", budgets=[0.01, 3], baselines="supervised",
                                say=said.append)
    assert "  supervised: not trained, 3 labels are too few" in said and not any("trained and scored" in line for line in said)
    assert "supervised" not in table.cost


def test_one_protocol_and_one_baseline_need_no_list(encoder, data):
    table = selftaught.evaluate(encoder, parts(data, 0, 96), budgets=[1.0], baselines="raw", protocols="knn")
    assert {(c.representation, c.protocol) for c in table.cells} == {("encoder", "knn"), ("raw", "knn")}


def test_notes_of_data_that_are_opened_here_are_said(encoder, data):
    damaged, said = data["x"].copy(), []
    damaged[3, 1, 5] = np.nan
    selftaught.evaluate(encoder, {**data, "x": damaged}, protocols="knn", budgets=[1.0], baselines=(), layout="NCT", say=said.append)
    assert sum(line.startswith("note: ") and "missing (NaN): 1 in channel 1" in line for line in said) == 1


def test_fine_tuning_starts_from_the_encoder(encoder, data):
    train, test = parts(data, 0, 64), parts(data, 64, 96)
    before = {k: v.clone() for k, v in encoder.backbone.state_dict().items()}
    tuned = finetune(encoder, train, test, labels=0.5, budget=Supervision(steps=40))
    scratch = finetune(encoder, train, test, labels=0.5, budget=Supervision(steps=40), from_scratch=True)
    assert tuned.name == "finetune" and scratch.name == "supervised" and tuned.detail["labels"] == scratch.detail["labels"] == 32
    assert tuned.value > 0.7
    assert all((v == before[k]).all() for k, v in encoder.backbone.state_dict().items())  # the encoder itself is untouched


@pytest.mark.parametrize("kind", ["classes", "a class without a label", "numbers"])
def test_fine_tuning_starts_as_the_linear_probe(encoder, data, kind):
    """Before its first step the classifier says what the probe of the same labels says."""
    import torch

    from selftaught.encoder import Encoder
    from selftaught.evaluation.linear import fitted_linear
    from selftaught.protocols.baselines import supervised_plan
    from selftaught.protocols.finetune import predict, start_as_probe

    labels = 5.0 * data["x"][:, 0, 3] - 7.0 if kind == "numbers" else data["y"] + (kind != "classes")
    part = selftaught.open_source({"x": data["x"][:64], "y": labels[:64]}, layout="NCT")
    if kind == "a class without a label":
        part.labels, part.classes = part.labels + 1, ["none", *part.classes]
        part.facts = part.facts.with_(classes=3)
    test = parts(data, 64, 96)
    plan = supervised_plan(encoder, part, Supervision(steps=1))
    method = plan.build_method(lambda backbone: backbone.load_state_dict(encoder.backbone.state_dict()))
    start_as_probe(method, encoder, part)
    said = predict(Encoder(method.kept(), encoder.preprocessing), method, test, part)
    z, u = (torch.from_numpy(encoder.embed(source)) for source in (part, test))
    shown, codes = (None, part.labels.astype(np.float64)) if kind == "numbers" else np.unique(part.labels, return_inverse=True)
    probe = fitted_linear(z, codes, u, classes=None if shown is None else len(shown))[0].numpy()
    expected = probe[:, 0] if shown is None else shown[probe.argmax(1)]
    np.testing.assert_allclose(said, expected, rtol=1e-3, atol=1e-3)
    assert len(set(expected)) > 1


def test_tables_stand_beside_boosting_and_numbers_get_r2(tmp_path):
    import pyarrow as pa

    rng = np.random.default_rng(0)
    x = rng.normal(size=(160, 4))
    table = pa.table({**{f"c{i}": x[:, i] for i in range(4)}, "price": 3 * x[:, 0] + x[:, 1] + rng.normal(0, 0.1, 160)})
    source = selftaught.open_source(table, target="price")
    run = selftaught.pretrain(source, "simclr", out=tmp_path / "run", **OPTIONS)
    found = selftaught.evaluate(run.encoder, source, budgets=[1.0], supervision=Supervision(steps=8))
    boosting = found.cell("boosting", "boosting", 1.0)
    assert boosting.score.metric == "r2" and boosting.score.value > 0.5
    assert found.cell("raw", "linear", 1.0).score.value > 0.9  # the target is linear in the columns


def test_what_cannot_be_scored_is_a_sentence(encoder, data):
    with pytest.raises(DataError, match="no labels"):
        selftaught.evaluate(encoder, selftaught.open_source(data["x"], layout="NCT"))
    with pytest.raises(DataError, match=r"test data, array, have no labels.*--target NAME \(in Python target='NAME'\)"):
        selftaught.evaluate(encoder, parts(data, 0, 64), selftaught.open_source(data["x"], layout="NCT"))
    with pytest.raises(OptionError, match="Did you mean 'linear'"):
        selftaught.evaluate(encoder, parts(data, 0, 64), parts(data, 64, 96), ["linar"])


def test_a_single_class_is_named(tmp_path):
    import pyarrow as pa
    from PIL import Image

    from selftaught.protocols.evaluate import check_labels

    (tmp_path / "test" / "c0").mkdir(parents=True)
    for i in range(3):
        Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(tmp_path / "test" / "c0" / f"{i}.png")
    with pytest.raises(DataError, match="class folders side by side make labels, and there is only one, 'c0'"):
        check_labels(selftaught.open_source(tmp_path / "test"), "test")
    with pytest.raises(DataError, match="sort the items into a folder a class"):
        check_labels(selftaught.open_source(tmp_path / "test" / "c0"), "test")
    source = selftaught.open_source(pa.table({"a": np.arange(6.0) ** 2, "smokes": ["never"] * 5 + [None]}), target="smokes")
    with pytest.raises(DataError, match="the single class 'never'"):
        check_labels(source, "training")
    check_labels(source, "test")


def cell(name, value, protocol="knn"):
    return Cell(name, protocol, 1.0, 60, Score(protocol, value, value - 0.1, value, 30))


@pytest.mark.parametrize(("cells", "said"), [
    ([cell("raw", 1.0), cell("random", 1.0)], "raw input and random initialisation tie (knn 1.000)"),
    ([cell("raw", 0.8001), cell("random", 0.8004), cell("encoder", 0.75, "linear")],
     "random initialisation and raw input tie (knn 0.800); next is encoder (pretrained) (linear 0.750, intervals overlap)"),
    ([cell("raw", 0.9), cell("random", 0.9, "linear"), cell("boosting", 0.9, "boosting"), cell("encoder", 0.5)],
     "raw input, random initialisation and gradient boosting on raw input tie (knn, linear and boosting 0.900); next is encoder "
     "(pretrained) (knn 0.500)"),
    ([cell("raw", 0.9), cell("random", 0.7)], "raw input wins (knn 0.900); next is random initialisation (knn 0.700)"),
    ([cell("raw", 0.9)], "raw input (knn 0.900)"),
])
def test_equal_scores_tie(cells, said):
    assert Table(cells).winners() == [f"with 60 labels (100%): {said}"]


def test_seeds_that_agree_keep_the_interval_over_test_items():
    from selftaught.protocols.compare import Row

    row = Row("simclr", {"knn": [Score("knn", 1.0, 0.88, 1.0, 30)] * 3})
    assert (row.interval("knn").low, row.interval("knn").high) == (0.88, 1.0)


def grouped(seed, groups, rows, width=8):
    """(features, labels, groups) of rows whose groups are right or wrong as a whole: the first column tells the class, or misleads."""
    rng = np.random.default_rng(seed)
    group, y = np.repeat(np.arange(groups), rows), np.arange(groups * rows) % 2
    x = rng.normal(size=(len(y), width)).astype(np.float32)
    x[:, 0] += np.where(rng.random(groups)[group] < 0.3, 4 * (1 - y), 4 * y)
    return x, y, group


def work(train, test, protocols=("knn", "linear")):
    from selftaught.protocols.evaluate import _Work

    sources = [selftaught.open_source({"x": x[:, None], "y": y, **({} if g is None else {"group": g})}, layout="NCT")
               for x, y, g in (train, test)]
    return _Work(None, *sources, protocols, (1.0,), 1, 0, Supervision(), lambda line: None)


def test_test_rows_of_one_group_are_one_unit():
    """20 groups of 20 rows each: intervals of every probe are as wide as 20 units make them, though train has groups of those numbers."""
    protocols = ("knn", "linear", "clustering", "retrieval")
    test = grouped(1, 20, 20)
    widths = []
    for groups in (test[2], None):
        found = work(grouped(0, 30, 10), (*test[:2], groups), protocols)
        found.representation("encoder", lambda source: source.take(np.arange(len(source)))["x"][:, 0])
        widths.append({c.protocol: c.score.high - c.score.low for c in found.table.cells})
        assert {c.score.n for c in found.table.cells if c.protocol != "retrieval"} == {400 if groups is None else 20}
        assert not any("in train and in test" in n for c in found.table.cells for n in c.score.detail.get("notes", ()))
    assert set(widths[0]) == set(protocols) and all(widths[0][p] > 2 * widths[1][p] for p in protocols[:3])
    assert widths[0]["retrieval"] > widths[1]["retrieval"]


def test_the_networks_own_predictions_and_boosting_count_groups_too():
    from selftaught.protocols.boosting import boost
    from selftaught.protocols.finetune import judged

    (x, y, _), (test_x, test_y, group) = grouped(0, 30, 10), grouped(1, 20, 50)
    for classes in (["a", "b"], None):
        asked = {"classes": classes, "test_groups": group}
        boosted = boost(x, y if classes else y + 0.5, test_x, test_y if classes else test_y + 0.5, **asked)
        told = judged("finetune", np.where(group < 6, 1 - test_y, test_y) + 0.0, test_y + 0.0, classes=bool(classes), groups=group,
                      detail={}, seconds=0.0)
        assert boosted.n == told.n == 20


def test_an_item_that_cannot_be_decoded_leaves_the_groups_of_the_others():
    """The probe's penalty is chosen on whole groups held out, with one item lost as without."""
    train, test = grouped(0, 30, 10), grouped(1, 20, 50)

    def features(source):
        x = source.take(np.arange(len(source)))["x"][:, 0].copy()
        x[3, 2] = np.nan
        return x

    found = work(train, test, ("linear",))
    found.representation("encoder", features)
    from selftaught.evaluation import linear_probe

    kept, shown = np.arange(300) != 3, np.arange(1000) != 3
    x, y, group = (part[kept] for part in train)
    asked = x, y, test[0][shown], test[1][shown]
    expected, blind = linear_probe(*asked, groups=group), linear_probe(*asked)
    cell = found.table.cells[0].score
    assert (cell.detail["grid"], cell.value, cell.n) == (expected.detail["grid"], expected.value, 20)
    assert expected.detail["grid"] != blind.detail["grid"]


def test_all_draw_the_same_labels_though_an_item_is_lost():
    """Items that cannot be decoded are left out before labels are drawn for anything."""
    train, found = grouped(0, 30, 10), None

    def features(source):
        x = source.take(np.arange(len(source)))["x"][:, 0].copy()
        if found is None:
            x[3] = np.nan
        return x

    begun = work((*train[:2], None), grouped(1, 20, 5), ("knn",))
    begun.representation("encoder", features)
    found = begun
    assert (len(found.train), len(found.test)) == (299, 99) and len(found.table.notes) == 2
    assert np.array_equal(found.train.labels, np.delete(train[1], 3))
    found.representation("random", features)
    assert len({(c.labels, c.score.n) for c in found.table.cells}) == 1


def test_ranks_are_of_rows_from_everywhere():
    """Sorted by class, the first 25,600 rows may hold one class alone."""
    x = np.random.default_rng(0).normal(size=(60_000, 4)).astype(np.float32)
    x[:30_000, 1:] = 0.0
    found = work(grouped(0, 4, 4), grouped(1, 4, 4))
    found.ranks("encoder", x)
    assert found.table.ranks["encoder"] > 2
