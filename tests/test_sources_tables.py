"""Tables from CSV, Parquet, data frames and arrays: what each column becomes, what is left out and said, and every refusal."""

import gzip
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftaught.contracts import DataError, OptionError
from selftaught.sources import open_source, subset


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def said(source):
    return "\n".join(source.facts.notes)


def described(source):
    return [(c.name, c.kind, c.categories) for c in source.facts.columns]


def rows(count=40):
    """A frame with a column of every kind that is kept: number, integer, truth value, date, category."""
    rng = np.random.default_rng(0)
    return {
        "height": rng.normal(size=count), "age": rng.integers(20, 30, count), "smokes": rng.random(count) < 0.5,
        "born": np.datetime64("2000-01-01") + rng.integers(0, 5000, count).astype("timedelta64[D]"),
        "city": np.array(["Rome", "Oslo", "Bern"])[rng.integers(0, 3, count)],
    }


def as_csv(columns, separator=","):
    names = list(columns)
    lines = [separator.join(names)] + [separator.join(str(v) for v in row) for row in zip(*columns.values())]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("separator, name", [(",", "t.csv"), (";", "t.csv"), ("\t", "t.tsv"), ("|", "t.csv")])
def test_kinds_of_columns_and_separators(tmp_path, separator, name):
    columns = rows()
    source = open_source(write(tmp_path / name, as_csv(columns, separator)))
    assert [(c.name, c.kind) for c in source.facts.columns] == [
        ("height", "numeric"), ("age", "numeric"), ("smokes", "boolean"), ("born", "date"), ("city", "categorical")]
    assert source.facts.shape == (5,) and source.facts.columns[4].categories == ("Bern", "Oslo", "Rome")
    items = source.take(np.array([7, 3]))
    assert items["numeric"].dtype == np.float32 and items["codes"].dtype == np.int64
    for place, row in enumerate((7, 3)):
        days = (columns["born"][row] - np.datetime64("1970-01-01")).astype(int)
        expected = [columns["height"][row], columns["age"][row], columns["smokes"][row], days]
        assert np.allclose(items["numeric"][place], np.array(expected, float), rtol=1e-6)
        assert items["codes"][place].tolist() == [["Bern", "Oslo", "Rome"].index(columns["city"][row])]
    one = source.read(7)
    assert (one["numeric"] == items["numeric"][0]).all() and one["codes"].dtype == np.int64


def test_every_container_reads_alike(tmp_path):
    pd = pytest.importorskip("pandas")
    columns = rows()
    table = pa.table({k: pa.array(v) for k, v in columns.items()})
    pq.write_table(table, tmp_path / "t.parquet")
    with gzip.open(tmp_path / "t.csv.gz", "wt") as file:
        file.write(as_csv(columns))
    reference = open_source(table)
    frame = pd.DataFrame(columns)
    words = frame.astype({"city": "category"})
    for data in (tmp_path / "t.parquet", tmp_path / "t.csv.gz", frame, words, table.to_batches()[0]):
        source = open_source(data)
        assert described(source) == described(reference)
        a, b = source.take(np.arange(40)), reference.take(np.arange(40))
        assert np.allclose(a["numeric"], b["numeric"], rtol=1e-6) and (a["codes"] == b["codes"]).all()


def test_missing_words_and_spaces(tmp_path):
    text = "a, b ,c\n" + "".join(f"{v}, {w},{u}\n" for v, w, u in zip(
        ["1", "", "NA", "4.5", " ?", "2"], ["x", "y ", "?", "x", "null", "y"], ["1", "2", "nan", "1", "5", "5"]))
    source = open_source(write(tmp_path / "t.csv", text))
    numeric, codes = (source.take(np.arange(6))[k] for k in ("numeric", "codes"))
    assert [c.name for c in source.facts.columns] == ["a", "c", "b"] and [c.missing for c in source.facts.columns] == [3, 1, 2]
    assert np.isnan(numeric[:, 0]).tolist() == [False, True, True, False, True, False]
    assert codes[:, 0].tolist() == [0, 1, -1, 0, -1, 1] and source.facts.columns[2].categories == ("x", "y")
    assert "'a' 3, first in row 1" in said(source) and "'b' 2, first in row 2" in said(source)


def test_infinite_and_mixed_values_are_named_by_column_and_row():
    columns = {"a": [1.0, 2.0, np.inf, 4.0] * 10, "b": ["1", "2", "3", "x7"] * 10, "c": [1e300, 1.0, 2.0, 3.0] * 10}
    source = open_source(pa.table(columns))
    assert "column 'a' has 10 infinite values, the first in row 2" in said(source)
    assert "column 'b' holds numbers and 1 other values" not in said(source)  # a quarter of the rows
    assert [c.kind for c in source.facts.columns] == ["numeric", "numeric", "categorical"]
    numeric = source.take(np.arange(4))["numeric"]
    assert np.isnan(numeric[2, 0]) and np.isnan(numeric[0, 1]) and np.isfinite(numeric[1]).all()
    mixed = [str(i) for i in range(99)] + ["x7"]
    source = open_source(pa.table({"a": np.arange(100) % 7, "b": mixed[::-1]}))
    assert "column 'b' holds numbers and 1 other values, the first 'x7' in row 0" in said(source)
    assert source.facts.columns[1].kind == "numeric" and source.facts.columns[1].missing == 1


def test_zip_codes_and_dates_in_words():
    source = open_source(pa.table({
        "zip": ["02134", "10001"] * 10, "day": ["31.12.2020", "01.02.2021"] * 10, "american": ["12/31/2020", "02/01/2021"] * 10,
        "unsure": ["01/02/2020", "03/04/2020"] * 10, "iso": ["2020-01-02", "2021-03-04T10:00:00"] * 10}))
    kinds = {c.name: c.kind for c in source.facts.columns}
    assert kinds == {"zip": "categorical", "day": "date", "american": "date", "unsure": "categorical", "iso": "date"}
    first = dict(zip([c.name for c in source.facts.columns], source.read(0)["numeric"].tolist()))
    assert first["day"] == first["american"] == 18627 and first["iso"] == 18263


def test_columns_that_say_nothing_are_left_out_by_name():
    n = 60
    rng = np.random.default_rng(0)
    source = open_source(pa.table({
        "keep": rng.normal(size=n), "kind": ["u", "v", "w"] * 20, "empty": pa.nulls(n), "blank": [" "] * n, "same": [3] * n,
        "word": ["yes"] * n, "count": np.arange(5, n + 5), "patientId": np.arange(n) % 9, "order_id": rng.permutation(n),
        "note": [f"free text {i}" for i in range(n)], "many": [f"w{i // 1.5:.0f}" for i in range(n)],
        "nested": [[1, 2]] * n, "split": ["train", "test"] * 30}))
    assert [c.name for c in source.facts.columns] == ["keep", "kind"]
    for name, why in [("empty", "holds no value"), ("blank", "holds no value"), ("same", "one value only"),
                      ("word", "one value only"), ("count", "counts the rows"), ("patientId", "pass it as --group"),
                      ("order_id", "an id"), ("note", "another text in every row"), ("many", "different texts in 60 rows"),
                      ("nested", "cannot read"), ("split", "::split=test")]:
        assert any(note.startswith(f"column '{name}' is left out: it ") and why in note for note in source.facts.notes), name


def test_very_many_texts_are_left_out_but_serve_as_groups():
    words = [f"w{i % 2500}" for i in range(5000)]
    table = pa.table({"a": np.random.default_rng(0).normal(size=5000), "words": words, "own": [f"u{i}" for i in range(5000)],
                      "number": [f"{i / 7:.6f}" for i in range(5000)]})
    source = open_source(table)
    assert [c.name for c in source.facts.columns] == ["a", "number"]
    assert "'words' is left out: it holds 2500 different texts in 5000 rows" in said(source)
    assert "'own' is left out" in said(source)
    grouped = open_source(table, group="words")
    assert grouped.groups[7] == grouped.groups[2507] and len(np.unique(grouped.groups)) == 2500


def test_names_that_only_look_like_ids_are_kept():
    rng = np.random.default_rng(0)
    names = ["paid", "humid", "grid", "indexed", "acid"]
    source = open_source(pa.table({name: rng.permutation(50) for name in names}))
    assert [c.name for c in source.facts.columns] == names


def test_label_like_columns_are_pointed_out():
    n = 40
    rng = np.random.default_rng(0)
    table = pa.table({"income": ["low", "high"] * 20, "a": rng.normal(size=n), "b": rng.integers(0, 900, n),
                      "last": ["p", "q"] * 20})
    told = said(open_source(table))
    assert "column 'income' looks like a label: pass --target income" in told and "'last' looks like a label" in told
    assert "'b' looks" not in told and "looks like a label" not in said(open_source(table, target="last"))
    assert "'c' looks" not in said(open_source(pa.table({"a": rng.normal(size=n), "c": rng.normal(size=n)})))


def test_targets_and_groups_leave_the_input():
    columns = rows()
    table = pa.table({**{k: pa.array(v) for k, v in columns.items()}, "who": np.arange(40) // 4})
    source = open_source(table, target="city", group="who")
    assert source.classes == ["Bern", "Oslo", "Rome"] and source.facts.classes == 3 and source.labels.dtype == np.int64
    assert [source.classes[i] for i in source.labels] == columns["city"].tolist()
    assert source.groups.tolist() == (np.arange(40) // 4).tolist()
    assert {c.name for c in source.facts.columns} == {"height", "age", "smokes", "born"}
    regression = open_source(table, target="height")
    assert regression.classes is None and regression.facts.classes is None
    assert np.allclose(regression.labels, columns["height"], atol=1e-6)
    assert open_source(table, target="smokes").classes == ["false", "true"]
    assert open_source(table, target="age").classes == [str(a) for a in sorted(set(columns["age"].tolist()))]
    with pytest.raises(OptionError, match="named 'citty'. Did you mean 'city'"):
        open_source(table, target="citty")
    with pytest.raises(OptionError, match="asked for as group.* named 'whom'. Did you mean 'who'"):
        open_source(table, group="whom")
    with pytest.raises(DataError, match="40 different texts in 40 rows: a label needs"):
        open_source(pa.table({"a": columns["height"], "t": [f"t{i}" for i in range(40)]}), target="t")
    part = subset(source, np.array([3, 1]))
    assert part.labels.tolist() == source.labels[[3, 1]].tolist() and part.facts.columns == source.facts.columns


def test_how_a_target_is_read_can_be_said(tmp_path):
    import pyarrow.csv

    n = 200
    rows = {"a": np.arange(n) ** 2.0, "rings": np.arange(n) % 28, "half": np.arange(n) % 3 / 2, "tenth": (np.arange(n) % 4 / 10),
            "word": ["no", "yes"] * 100, "gap": np.where(np.arange(n) % 9, np.arange(n) % 3 / 2, np.nan)}
    table = pa.table(rows)
    pyarrow.csv.write_csv(table, tmp_path / "t.csv")
    for data in (table, tmp_path / "t.csv"):
        told = [note for note in open_source(data, target="rings").facts.notes if "rings" in note]
        assert told == ["28 distinct whole numbers of 'rings' are read as classes; name the target 'rings:number' to have them "
                        "predicted as numbers."]
        numbers = open_source(data, target="rings:number")
        assert numbers.classes is None and numbers.labels.dtype == np.float32 and numbers.labels.tolist() == rows["rings"].tolist()
        assert [c.name for c in numbers.facts.columns] == [c.name for c in open_source(data, target="rings").facts.columns]
        named = open_source(data, target="rings:class")
        assert len(named.classes) == 28 and not any("rings" in note for note in named.facts.notes)
        assert open_source(data, target="half").classes is None and open_source(data, target="half:class").classes == ["0", "0.5", "1"]
        assert open_source(data, target="tenth:class").classes == ["0", "0.1", "0.2", "0.3"]
        gap = open_source(data, target="gap:class")
        assert gap.classes == ["0", "0.5", "1"] and gap.labels[[0, 9, 10]].tolist() == [-1, -1, 1]
        with pytest.raises(DataError, match=r"'word' holds words \('no'\), which cannot be read as numbers"):
            open_source(data, target="word:number")
        with pytest.raises(DataError, match="'a' holds 200 different numbers in 200 rows: a class needs several rows"):
            open_source(data, target="a:class")
        with pytest.raises(OptionError, match="named 'ringz'. Did you mean 'rings'"):
            open_source(data, target="ringz:number")
        assert open_source(data, target="word:class").classes == ["no", "yes"]
    assert open_source(table.append_column("rings:number", pa.array(["x", "y"] * 100)), target="rings:number").classes == ["x", "y"]


def test_how_a_target_of_texts_and_of_named_arrays_is_read_can_be_said():
    n = 100
    texts = [f"this is the text that has the number {i} in it" for i in range(n)]
    table = pa.table({"text": texts, "stars": np.arange(n) % 5, "who": np.arange(n) // 2})
    asked = {"modality": "text", "layout": "text=text"}
    assert open_source(table, target="stars:number", **asked).labels.tolist() == (np.arange(n) % 5).tolist()
    assert open_source(table, target="stars", **asked).classes == list("01234")
    arrays = {"x": np.random.default_rng(0).normal(size=(n, 3)), "y": np.arange(n) % 5}
    assert open_source(arrays, target="y:number").classes is None and open_source(arrays).classes == list("01234")
    with pytest.raises(OptionError, match="y:number is for the columns of tables"):
        open_source({**arrays, "x": np.zeros((n, 8, 8, 3), np.uint8)}, target="y:number")


def test_missing_targets_are_unlabelled():
    table = pa.table({"a": np.random.rand(30), "t": ["u", None, "v"] * 10, "n": pa.array([1, None, 0] * 10)})
    assert open_source(table, target="t").labels[:3].tolist() == [0, -1, 1]
    numbers = open_source(table, target="n")
    assert numbers.labels[:3].tolist() == [1, -1, 0] and numbers.classes == ["0", "1"]


def test_a_test_table_is_read_as_the_training_table_was():
    train = open_source(pa.table({"a": np.random.rand(30), "c": ["x", "y", "z"] * 10, "f": [True, False] * 15,
                                  "d": ["2020-01-01", "2020-01-02"] * 15}))
    other = pa.table({"extra": [1.0, 2.0, 4.0], "d": ["2020-01-05", None, "2020-01-09"], "c": ["z", "new", "x"],
                      "a": ["1.5", "?", "2"], "f": [1, 0, 1]})
    aligned = open_source(other).align(train.facts.columns)
    assert described(aligned) == described(train)
    items = aligned.take(np.arange(3))
    assert items["codes"][:, 0].tolist() == [2, -1, 0]
    assert "'c' has 1 categories that training had not ('new', 1 rows)" in said(aligned)
    expected = np.array([[1.5, 1, 18266], [np.nan, 0, np.nan], [2, 1, 18270]], np.float32)
    assert np.array_equal(items["numeric"], expected, equal_nan=True)
    assert aligned.align(train.facts.columns) is aligned and train.align(train.facts.columns) is train
    with pytest.raises(DataError, match="trained with column 'f' as an input"):
        open_source(other, target="f").align(train.facts.columns)
    single = open_source(other.slice(0, 1), least=1).align(train.facts.columns)
    assert single.read(0)["codes"].tolist() == [2] and len(single) == 1
    with pytest.raises(DataError, match="no column in table .* named 'c'"):
        open_source(other.drop_columns(["c"])).align(train.facts.columns)
    with pytest.raises(DataError, match="Column 'd' of table is categorical, but was date"):
        open_source(pa.table({**{n: other[n] for n in "acf"}, "d": ["soon", "late", "soon"]})).align(train.facts.columns)
    words = open_source(pa.table({"a": [1.0, 2, 5], "c": ["1", "b", "b"]}))
    numbers = open_source(pa.table({"a": [1.0, 2, 3], "c": [1, 2, 1]})).align(words.facts.columns)
    assert numbers.take(np.arange(3))["codes"][:, 0].tolist() == [0, -1, 0]  # categories that are integers in the test file


def test_rows_are_chosen_by_a_column(tmp_path):
    table = pa.table({"a": np.random.rand(30), "b": np.random.rand(30), "split": ["train", "train", "test"] * 10,
                      "year": [1, 2, 3] * 10})
    pq.write_table(table, tmp_path / "t.parquet")
    source = open_source(f"{tmp_path}/t.parquet::split=test")
    assert len(source) == 10 and "split" not in {c.name for c in source.facts.columns}
    assert np.allclose(source.take(np.arange(10))["numeric"][:, 0], table["a"].to_numpy()[2::3])
    assert len(open_source(f"{tmp_path}/t.parquet::year=2")) == 10
    with pytest.raises(OptionError, match="with split = 'tets'. Did you mean 'test'"):
        open_source(f"{tmp_path}/t.parquet::split=tets")
    with pytest.raises(OptionError, match="named 'spilt'. Did you mean 'split'"):
        open_source(f"{tmp_path}/t.parquet::spilt=test")
    with pytest.raises(OptionError, match="write .*::COLUMN=VALUE"):
        open_source(f"{tmp_path}/t.parquet::test")


@pytest.mark.parametrize("text, problem", [
    ("a,b,c\n1,2,3\n4,5\n6,7,8\n", r"line 3 has 2 values where the header has 3 \('4,5'\)"),
    ("a,b\n1,2\n3,4\n5,6,7\n", "line 4 has 3 values where the header has 2"),
    ("   \n \n", "is empty"),
    ("\ufeff", "is empty"),
    ("a,b\n", "holds no rows"),
    ("a,b\n1,2\n", "1 of rows: learning compares"),
    ("a,a\n1,2\n3,4\n", "two columns are called 'a'"),
    ("a,b\n1,2\n\0\0,3\n", "holds zero bytes"),
    ("t\n" + "".join(f"a story about {i}\n" for i in range(9)), "free text is no input"),
    ("a,b\n1,2\n1,2\n1,2\n", "no usable column: column 'a' is left out: it holds one value only"),
])
def test_unusable_csv_files_are_refused_in_a_sentence(tmp_path, text, problem):
    with pytest.raises(DataError, match=problem):
        open_source(write(tmp_path / "t.csv", text))


def test_encodings(tmp_path):
    text = "stadt;wert\n" + "Zürich;1\nKöln;2\n" * 10
    assert open_source(write(tmp_path / "u.csv", text)).facts.columns[1].categories == ("Köln", "Zürich")
    assert open_source(write(tmp_path / "b.csv", text, "utf-8-sig")).facts.columns[1].name == "stadt"
    assert open_source(write(tmp_path / "w.csv", text, "utf-16")).facts.columns[1].categories == ("Köln", "Zürich")
    with pytest.raises(DataError, match=r"\(line 2\) is not UTF-8: convert it, for example with iconv"):
        open_source(write(tmp_path / "l.csv", text, "latin-1"))
    late = "a,b\n" + "1,x\n2,y\n" * 70000 + "3,é\n"
    with pytest.raises(DataError, match="is not UTF-8"):
        open_source(write(tmp_path / "m.csv", late, "latin-1"))


def test_long_files_in_utf_16_and_long_cells(tmp_path):
    source = open_source(write(tmp_path / "u.csv", "a,b,c\n" + "".join(f"{i % 7}.5,{i % 5},3\n" for i in range(30000)), "utf-16"))
    assert len(source) == 30000 and source.facts.shape == (2,)
    source = open_source(write(tmp_path / "l.csv", "a;b\n" + "".join(f"{'x' * 140000 if i == 2 else 'y'};{i * 0.5}\n" for i in range(40))))
    assert [c.name for c in source.facts.columns] == ["b", "a"] and source.facts.columns[1].categories[1] == "y"


def test_decimal_commas_are_numbers_where_semicolons_separate(tmp_path):
    text = "preis;menge;art\n" + "".join(f"{i},{i % 10};{i % 50};{i % 3},Stück\n" for i in range(60)) + "x7;NA;0,Stück\n"
    source = open_source(write(tmp_path / "de.csv", text))
    assert [(c.name, c.kind) for c in source.facts.columns] == [("preis", "numeric"), ("menge", "numeric"), ("art", "categorical")]
    assert source.read(37)["numeric"].tolist() == [np.float32(37.7), 37]
    assert "de.csv: commas are read as decimal points in 1 columns: preis." in said(source)
    assert "'preis' holds numbers and 1 other values, the first 'x7' in row 60" in said(source)
    bare = open_source(write(tmp_path / "de2.csv", "".join(f"{i % 9},{i % 7};{i % 50},5\n" for i in range(60))))
    assert [c.name for c in bare.facts.columns] == ["x0", "x1"] and np.allclose(bare.read(20)["numeric"], [2.6, 20.5])
    lists = open_source(write(tmp_path / "t.csv", "a,b\n" + "".join(f"p;{'qr'[i % 2]},{i * 0.5}\n" for i in range(20))))
    assert lists.facts.columns[1].categories == ("p;q", "p;r")


def test_files_without_header_and_with_late_surprises(tmp_path):
    bare = open_source(write(tmp_path / "t.csv", "".join(f"{i % 5},{i * 0.3},{i % 2}\n" for i in range(20))))
    assert len(bare) == 20 and [c.name for c in bare.facts.columns] == ["x0", "x1", "x2"] and "no header line" in said(bare)
    quoted = open_source(write(tmp_path / "q.csv", 'a,b\n"x, y",1\n"two\nlines",2\n"x, y",4\n'))
    assert len(quoted) == 3 and quoted.facts.columns[1].categories == ("two\nlines", "x, y")
    # The type of the column changes after the block that types are told from: 16 MiB.
    lines = "a,b\n" + "1234567890.25,12345678901234\n" * 620_000 + "oops,7\n1,8\n"
    late = open_source(write(tmp_path / "late.csv", lines))
    assert late.facts.samples == 620_002 and "the first 'oops' in row 620000" in said(late)


def test_loose_suffixes_need_a_word(tmp_path):
    path = write(tmp_path / "t.data", "1,2,5\n3,5,1\n4,4,2\n")
    with pytest.raises(OptionError, match="pass modality=table"):
        open_source(path)
    assert open_source(path, modality="table").facts.shape == (3,)


def test_frames_that_mix_types_or_repeat_names():
    pd = pytest.importorskip("pandas")
    source = open_source(pd.DataFrame({"a": [1.0, 2.0, 3.5], "b": ["x", 1, None]}))
    assert source.facts.columns[1].categories == ("1", "x") and source.facts.columns[1].missing == 1
    with pytest.raises(DataError, match="Two columns of the DataFrame are called 'a'"):
        open_source(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))
    with pytest.raises(OptionError, match="A Series of pandas cannot be opened"):
        open_source(pd.Series([1.0, 2.0]))
    with pytest.raises(DataError, match="has no columns"):
        open_source(pd.DataFrame(index=range(3)).assign(t=[0, 1, 0]), target="t")


def test_two_dimensional_arrays_are_tables():
    x = np.random.default_rng(0).normal(size=(20, 4))
    x[:, 2] = 1.0
    x[3, 0] = np.nan
    source = open_source(x)
    assert source.facts.shape == (3,) and [c.name for c in source.facts.columns] == ["x0", "x1", "x3"]
    assert "column 'x2' is left out" in said(source) and "'x0' 1, first in row 3" in said(source)
    assert open_source(x, target="x3").facts.shape == (2,)
    both = open_source({"x": x, "y": np.arange(20) % 2, "group": np.arange(20) // 2})
    assert both.labels.tolist() == [0, 1] * 10 and both.groups[5] == 2 and both.facts.shape == (3,)
    named = open_source({"x": x, "y": np.arange(20) % 2, "classes": ["cat", "dog"]})
    assert named.classes == ["cat", "dog"] and open_source({"x": x}, target="x1").labels is not None


def test_fingerprint_and_names(tmp_path):
    columns = rows()
    path = write(tmp_path / "t.csv", as_csv(columns))
    first = open_source(path).fingerprint()
    assert first == open_source(path).fingerprint() and open_source(path).name(4) == f"{path}, row 4"
    columns["city"][39] = {"Rome": "Oslo"}.get(columns["city"][39], "Rome")
    assert open_source(write(tmp_path / "u.csv", as_csv(columns))).fingerprint() != first


def test_broken_parquet(tmp_path):
    path = write(tmp_path / "t.parquet", "not parquet at all")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        open_source(path)


def test_real_adult_census():
    if "SELFTAUGHT_DATA" not in os.environ:
        pytest.skip("SELFTAUGHT_DATA is not set")
    path = Path(os.environ["SELFTAUGHT_DATA"]) / "tabular" / "adult.parquet"
    train = open_source(f"{path}::split=train", target="income")
    test = open_source(f"{path}::split=test", target="income").align(train.facts.columns)
    assert (len(train), len(test)) == (32561, 16281) and train.facts.shape == (14,) and train.facts.classes == 2
    assert described(test) == described(train)
    assert int((train.labels == 1).sum() + (test.labels == 1).sum()) == 11687
    assert "column 'income' looks like a label" in said(open_source(path))
