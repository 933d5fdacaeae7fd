"""A column is the same from every container; headers, names, groups and what training never saw."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftaught.contracts import DataError
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
