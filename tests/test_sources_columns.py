"""A column is the same from every container; headers, names, groups and what training never saw."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftaught.contracts import DataError, Facts, OptionError
from selftaught.sources import open_source
from selftaught.sources.labels import encode_groups

ROWS = 40
WORDS = {
    "zip": [f"0{1000 + i % 7}" for i in range(ROWS)], "flag": ["True" if i % 3 else "False" for i in range(ROWS)],
    "utc": [f"2024-03-{i % 9 + 10}T10:00:00Z" for i in range(ROWS)], "zoned": [f"2024-03-{i % 9 + 10} 10:00:00+01:00" for i in range(ROWS)],
    "iso": [f"2024-03-{i % 9 + 10}" for i in range(ROWS)], "dashes": [f"{i % 20 + 1:02d}-03-2024" for i in range(ROWS)],
    "clock": [f"{i % 20:02d}:30" for i in range(ROWS)], "hex": [f"0x{i % 5}" for i in range(ROWS)],
    "whole": [f"{i % 6}" for i in range(ROWS)], "real": [f"{i * .37}" for i in range(ROWS)],
    "city": [["Rome", "Oslo", "NA"][i % 3] for i in range(ROWS)],
}
KINDS = {"flag": "boolean", "utc": "date", "zoned": "date", "iso": "date", "dashes": "date", "clock": "numeric", "real": "numeric",
         "whole": "numeric", "zip": "categorical", "hex": "categorical", "city": "categorical"}


def csv_of(columns):
    return "\n".join([",".join(columns), *(",".join(row) for row in zip(*columns.values()))])


def test_words_mean_the_same_in_every_container(tmp_path):
    table = pa.table(WORDS)
    pq.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text(csv_of(WORDS))
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, table.to_pylist())))
    reference = open_source(table)
    assert {c.name: c.kind for c in reference.facts.columns} == KINDS
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        source = open_source(tmp_path / name)
        assert source.facts.columns == reference.facts.columns
        a, b = source.take(np.arange(ROWS)), reference.take(np.arange(ROWS))
        assert np.array_equal(a["numeric"], b["numeric"], equal_nan=True) and (a["codes"] == b["codes"]).all()
    numbers = dict(zip([c.name for c in reference.facts.columns], reference.read(0)["numeric"].tolist()))
    assert numbers["iso"] == 19792 and numbers["utc"] - numbers["zoned"] == pytest.approx(1 / 24, abs=2e-3)
    assert numbers["clock"] == pytest.approx(0.5 / 24) and (numbers["flag"], numbers["dashes"]) == (0, 19783)


def test_a_column_of_which_training_saw_no_value_is_refused():
    train = open_source(pa.table({"zip": WORDS["zip"], "v": np.random.rand(ROWS)}))
    other = {"zip": [1000 + i % 7 for i in range(ROWS)], "v": np.random.rand(ROWS)}
    with pytest.raises(DataError, match=r"Column 'zip' .* none of the values that training saw \('1000' here, '01000' there\)"):
        open_source(pa.table(other)).align(train.facts.columns)
    few = open_source(pa.table(other).slice(0, 3), least=1).align(train.facts.columns)  # a few new values are merely new
    assert few.take(np.arange(3))["codes"].tolist() == [[-1]] * 3


@pytest.mark.parametrize("head, names, notes", [
    ('"a\nfirst",b\n', ["a\nfirst", "b"], 0), ("\n  \n\na,b\n", ["a", "b"], 0), ("\n", ["x0", "x1"], 1)])
def test_headers_of_several_lines_and_blank_ones_before(tmp_path, head, names, notes):
    (tmp_path / "t.csv").write_text(head + "".join(f"{i * 0.37},{i * i * 0.5}\n" for i in range(20)))
    source = open_source(tmp_path / "t.csv")
    assert len(source) == 20 and [c.name for c in source.facts.columns] == names
    assert sum("called x0 to x1" in note for note in source.facts.notes) == notes


def test_frames_of_names_and_values_that_pandas_allows():
    pd = pytest.importorskip("pandas")
    with pytest.raises(DataError, match="Two columns of the DataFrame are called '1'"):
        open_source(pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], columns=[1, "1"]))
    mixed = open_source(pd.DataFrame({"a": [1, "x", pd.NA] * 10, "v": np.random.rand(30)}))
    assert mixed.facts.columns[1].categories == ("1", "x") and mixed.facts.columns[1].missing == 10
    source = open_source(pd.DataFrame({"a": np.arange(30) * 1j, "v": np.random.rand(30)}))
    assert [c.name for c in source.facts.columns] == ["v"] and any("'a' is left out" in note for note in source.facts.notes)


def test_each_missing_group_is_one_of_its_own():
    for values in (np.array([1, 1, 2, np.nan, np.nan]), np.array(["a", "a", "b", None, ""], object),
                   np.array(["2020-01-01", "2020-01-01", "2021-01-01", "NaT", "NaT"], "M8[D]")):
        codes = encode_groups(values, samples=5)
        assert codes[0] == codes[1] and len(set(codes.tolist())) == 4


def test_bytes_that_are_no_files_lead_to_the_table(tmp_path):
    ids = [bytes([i]) * 16 for i in range(60)]
    values = np.random.rand(60)
    pq.write_table(pa.table({"uuid": pa.array(ids, pa.binary(16)), "v": values}), tmp_path / "fixed.parquet")
    assert open_source(tmp_path / "fixed.parquet").modality == "table"
    pq.write_table(pa.table({"uuid": pa.array(ids, pa.binary()), "v": values}), tmp_path / "plain.parquet")
    with pytest.raises(DataError, match="None of 60 images .* pass modality=table"):
        open_source(tmp_path / "plain.parquet")
    assert open_source(tmp_path / "plain.parquet", modality="table").facts.shape == (1,)


def test_dates_are_read_in_the_order_of_training():
    days = [f"{1 + i % 28:02d}/{1 + i % 12:02d}/2024" for i in range(80)]
    table = pa.table({"when": days, "v": np.random.rand(80)})
    train, rows = open_source(table), [i for i, day in enumerate(days) if int(day[:2]) <= 12]
    columns = Facts.from_json(json.loads(json.dumps(train.facts.to_json()))).columns
    assert columns[0].form == "%d/%m/%Y" and columns == train.facts.columns
    test = open_source(table.take(rows)).align(columns)
    assert np.array_equal(test.take(np.arange(len(rows)))["numeric"], train.take(np.array(rows))["numeric"])
    assert open_source(table).align(columns).facts.notes == train.facts.notes
    other = open_source(pa.table({"when": ["12/31/2023", "01/02/2024"], "v": [1.0, 2.0]})).align(columns)  # only one order fits
    assert other.take(np.arange(2))["numeric"][:, 0].tolist() == [19722, 19724]
    assert any("dates written as %m/%d/%Y, which were %d/%m/%Y in training" in note for note in other.facts.notes)
    old = train.facts.to_json()
    for column in old["columns"]:
        del column["form"]
    for known, when in ((Facts.from_json(old).columns, "01/02/2024"), (columns, "01-02-2024")):
        with pytest.raises(DataError, match=f"'when' of table holds dates whose order .* cannot be told .'{when}'.*, but was date"):
            open_source(pa.table({"when": [when] * 2, "v": [1.0, 2.0]})).align(known)


@pytest.mark.parametrize("name, values, said", [
    ("a", ["oops"] * 40, "is categorical, but was numeric"), ("a", ["2024-01-02", "2024-01-03"] * 20, "is date, but was numeric"),
    ("a", [np.inf] * 40, "holds no finite value, but was numeric"), ("a", [[1]] * 40, "holds list.* but was numeric"),
    ("a", [True, False] * 20, "is boolean, but was numeric"), ("d", [2024, 2025] * 20, "is numeric, but was date"),
    ("d", ["soon"] * 40, "is categorical, but was date"), ("f", ["yes", "no"] * 20, "is categorical, but was boolean"),
    ("f", [0, 1, 2, 9] * 10, "is numeric, but was boolean"), ("c", [[1]] * 40, "holds list.* but was categorical"),
])
def test_a_column_of_another_kind_is_refused(name, values, said):
    given = {"a": np.random.rand(40), "d": ["2024-01-02", "2024-03-05"] * 20, "f": [True, False] * 20, "c": ["x", "y"] * 20}
    train = open_source(pa.table(given))
    with pytest.raises(DataError, match=f"Column '{name}' of table {said} in training: give it the same form"):
        open_source(pa.table({**given, name: values})).align(train.facts.columns)


def test_some_odd_values_become_missing_with_a_note():
    given = {"a": np.random.rand(40), "d": ["31/12/2023", "01/02/2024"] * 20, "f": [True, False] * 20, "c": ["x", "y"] * 20}
    train = open_source(pa.table(given))
    odd = {"a": ["1", "oops"] * 20, "d": ["01/02/2024", "soon"] * 20, "f": ["true", "maybe", "0", "1"] * 10, "c": ["x", "new"] * 20}
    source = open_source(pa.table(odd)).align(train.facts.columns)
    assert source.facts.columns[1].form == "%d/%m/%Y" and np.isnan(source.read(1)["numeric"]).all()
    assert source.read(0)["numeric"].tolist() == [1, 19754, 1] and source.read(2)["numeric"].tolist() == [1, 19754, 0]
    for words in ("'a' holds numbers and 20 other values, the first 'oops' in row 1", "'d' holds dates and 20 other values, the first",
                  "'f' holds truth values and 10 other values, the first 'maybe'", "'c' has 1 categories that training had not ('new'"):
        assert any(words in note for note in source.facts.notes), words
    empty = open_source(pa.table({name: pa.nulls(3) if name == "a" else ["", "NA", None] for name in given}), least=1)
    empty.align(train.facts.columns)
    assert np.isnan(empty.take(np.arange(3))["numeric"]).all() and (empty.take(np.arange(3))["codes"] == -1).all()
    assert sum("holds no value." in note and "left out" not in note for note in empty.facts.notes) == 4


def test_columns_of_lists_are_no_answers_and_names_are_told_apart(tmp_path):
    table = pa.table({"v": np.random.rand(30), "l": [[i % 3] for i in range(30)], "s": [{"a": 1}] * 30})
    for given in ({"target": "l"}, {"group": "l"}, {"group": "s"}):
        with pytest.raises(DataError, match="The (target|group) '[ls]' of table holds (list|struct).*: name a column of words or numbers"):
            open_source(table, **given)
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(OptionError, match="'l' of .* holds list<.*> values, by which no rows can be chosen"):
        open_source(f"{tmp_path}/t.parquet::l=1")
    with pytest.raises(DataError, match="Two columns of table are called 'a'"):
        open_source(pa.table([pa.array([1.0, 2.0]), pa.array([3.0, 4.0])], names=["a", "a"]))
    pd = pytest.importorskip("pandas")
    assert open_source(pd.DataFrame({"a": [10**30, 1] * 10})).take(np.arange(2))["numeric"][:, 0].tolist() == [np.float32(1e30), 1]
