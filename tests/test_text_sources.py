"""Texts from files, tables, JSON lines and lists: what an item is, its labels, and what is no text."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selftaught.contracts import BadItem, DataError, OptionError
from selftaught.sources import Loader, Quarantine, Subset, open_source
from selftaught.sources.text import MOST_BYTES, checked
from selftaught.stages import pretrain

STORIES = [f"The {animal} number {i} went down to the river and drank" for i, animal in enumerate(("cat", "dog", "owl", "fox") * 5)]


def words(source, index):
    return source.read(index)["x"].tobytes().decode()


def every(source):
    return [words(source, i) for i in range(len(source))]


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def test_a_folder_is_a_text_a_file_and_folders_side_by_side_are_classes(tmp_path):
    for place, text in (("good/b.txt", "fine"), ("good/a.md", "\ufeffgreat"), ("bad/c.txt", "awful"), ("bad/.d.txt", "hidden")):
        write(tmp_path / place, text)
    write(tmp_path / "bad/notes.rtf", "other")
    source = open_source(tmp_path)
    assert source.modality == "text" and every(source) == ["awful", "great", "fine"]
    assert source.classes == ["bad", "good"] and source.labels.tolist() == [0, 1, 1]
    assert source.name(1) == "good/a.md" and any(".rtf (1)" in note for note in source.facts.notes)
    with pytest.raises(OptionError, match="no column 'y'"):
        open_source(tmp_path, target="y")
    assert every(open_source([tmp_path / "good/b.txt", tmp_path / "bad/c.txt"])) == ["fine", "awful"]


def test_a_file_is_a_text_a_line_or_a_paragraph(tmp_path):
    lines = write(tmp_path / "lines.txt", b"\xef\xbb\xbfone fish\r\ntwo fish\r\n\r\nred fish")
    assert every(open_source(lines)) == ["one fish\r\ntwo fish", "red fish"]
    assert every(open_source(lines, layout="line")) == ["one fish", "two fish", "red fish"]
    assert open_source(lines, layout="line").name(2) == f"{lines}, line 4"
    book = write(tmp_path / "book.md", "\n".join(["It was late", "and dark.", "  ", "", "The end", "came soon."]) * 3)
    source = open_source(book)
    assert every(source)[0] == "It was late\nand dark." and source.name(1) == f"{book}, paragraph at line 5"
    assert any("layout=line" in note for note in source.facts.notes)
    long = write(tmp_path / "long.txt", "\n".join(f"a line of text {i}" for i in range(99)) + "\n\nthe last\n")
    assert len(open_source(long)) == 100  # one blank line in a hundred parts nothing
    assert len(open_source(long, layout="paragraph")) == 2
    assert len(open_source(long, layout="file", least=1)) == 1
    wide = write(tmp_path / "wide.txt", "one fish\n" + " " * 20 + "\n" + " " * 12 + "two fish\n")
    assert every(open_source(wide, layout="paragraph")) == every(open_source(wide, layout="line")) == ["one fish", "two fish"]
    for path in (long, tmp_path):
        with pytest.raises(OptionError, match="layout=text=body names columns of a table, and .* texts alone: leave it out"):
            open_source(path, layout="text=body")
    with pytest.raises(OptionError, match="Did you mean 'paragraph'"):
        open_source(long, layout="line,paragraf")
    with pytest.raises(OptionError, match="is a folder, where every file is a text: join"):
        open_source(long.parent, layout="paragraph")


@pytest.mark.parametrize("data,reason", [
    (b"caf\xe9 au lait", "not UTF-8: byte 0xe9 at place 3; convert it, for example with iconv"),
    (b" \n\t\xef\xbb\xbf"[:3], "empty text"), (b"\xef\xbb\xbf  ", "empty text"),
    ("schön".encode("utf-16"), "UTF-16, not UTF-8"), (b"a\0b", "zero bytes")])
def test_what_is_no_text_says_why(data, reason):
    with pytest.raises(BadItem) as error:
        checked(data)
    assert reason in error.value.reason


def test_a_very_long_text_is_cut_between_letters():
    assert checked("é".encode() * MOST_BYTES) == "é".encode() * (MOST_BYTES // 2)
    assert len(checked(b"x" + "é".encode() * MOST_BYTES)) == MOST_BYTES - 1


def test_bad_texts_go_to_quarantine_with_place_and_reason(tmp_path):
    for i, text in enumerate(STORIES):
        write(tmp_path / f"{i:02}.txt", text)
    write(tmp_path / "03.txt", b"\xff\xfe\xfd and no text")
    write(tmp_path / "07.txt", b"  \n ")
    quarantine = Quarantine(tmp_path / "quarantine.jsonl")
    loader = Loader(open_source(tmp_path), lambda items: ({}, None), seed=0, quarantine=quarantine)
    index = np.arange(len(STORIES))
    batch = next(loader.batches([(index, np.zeros_like(index), index)]))
    assert len(batch.index) == 20 and not {3, 7} & set(batch.index.tolist())
    found = {(e["name"], e["reason"].split(":")[0]) for e in quarantine.entries}
    assert found == {("03.txt", "UTF-16, not UTF-8"), ("07.txt", "empty text")}


def table(**more):
    return pa.table({"body": STORIES, "label": [i % 2 for i in range(20)], "split": ["train", "test"] * 10, **more})


def test_a_table_of_texts_is_told_from_a_table(tmp_path):
    assert open_source(table()).modality == "text"
    assert open_source(table(price=[float(i % 7) for i in range(20)])).modality == "table"  # there is something else to learn from
    assert open_source(table(price=[float(i % 7) for i in range(20)]), layout="text=body").modality == "text"
    assert open_source(table(), modality="table", target="split").modality == "table"
    pq.write_table(table(), tmp_path / "t.parquet")
    source = open_source(f"{tmp_path / 't.parquet'}::split=test", target="label")
    assert every(source) == STORIES[1::2] and source.classes == ["1"]
    assert source.name(1).endswith("row 1") and not source.decodes and not Subset(source, np.arange(3)).decodes
    notes = open_source(table()).facts.notes
    assert any("--target label" in note for note in notes)


def test_columns_of_text_are_named_or_found(tmp_path):
    two = table(title=[f"A rather short title of story {i}" for i in range(20)])
    assert words(open_source(two), 2) == STORIES[2] and any("layout=text=body+title" in n for n in open_source(two).facts.notes)
    assert words(open_source(two, layout="text=title+body"), 2) == f"A rather short title of story 2\n{STORIES[2]}"
    for wrong, said in (("text=titel", "Did you mean 'title'"), ("text=label", "holds int64"), ("line", "is a table")):
        with pytest.raises(OptionError, match=said):
            open_source(two, layout=wrong)
    with pytest.raises(DataError, match="Two columns of table are called 'body'"):
        open_source(two.rename_columns(["body", "label", "split", "body"]))
    with pytest.raises(DataError, match="The group 'tags' of table holds list"):
        open_source(table(tags=[[1]] * 20), layout="text=body", group="tags")
    with pytest.raises(OptionError, match="text and the target"):
        open_source(two, layout="text=body", target="body")
    holes = pa.table({"text": [None, "", *STORIES]})
    source = open_source(holes)
    for row, reason in ((0, "no text in this row"), (1, "empty text")):
        with pytest.raises(BadItem) as error:
            source.read(row)
        assert error.value.reason == reason
    csv = write(tmp_path / "t.csv", "text,y\n" + "".join(f'"{s}, said ""I""",{i % 3}\n' for i, s in enumerate(STORIES)))
    source = open_source(csv, target="y")
    assert words(source, 4) == f'{STORIES[4]}, said "I"' and source.labels.tolist() == [i % 3 for i in range(20)]


def test_json_lines_are_texts_or_a_table(tmp_path):
    lines = [json.dumps({"text": s, "y": "ab"[i % 2]}).encode() for i, s in enumerate(STORIES)]
    lines[5], lines[6], lines[7] = b'{"text": broken', b'["a list"]', b'{"text": "\xff"}'
    source = open_source(write(tmp_path / "t.jsonl", b"\n".join(lines)), target="y")
    assert source.modality == "text" and words(source, 8) == STORIES[8]
    assert source.labels.tolist() == [-1 if i in (5, 6, 7) else i % 2 for i in range(20)]
    for row, reason in ((5, "not JSON"), (6, "not an object"), (7, "not UTF-8: byte 0xff")):
        with pytest.raises(BadItem) as error:
            source.read(row)
        assert reason in error.value.reason
    numbers = [json.dumps({"a": i / 3, "b": i % 4}) for i in range(20)]
    assert open_source(write(tmp_path / "n.jsonl", "\n".join(numbers))).modality == "table"
    with pytest.raises(DataError, match="row 3: not JSON"):
        open_source(write(tmp_path / "m.jsonl", "\n".join([*numbers[:3], "oops", *numbers[3:]])))
    with pytest.raises(DataError, match="no record"):
        open_source(write(tmp_path / "o.jsonl", "oops\n"))


def test_texts_in_memory(tmp_path):
    assert every(open_source(STORIES)) == STORIES == every(open_source(np.array(STORIES))) == every(open_source(np.array(STORIES, object)))
    source = open_source({"x": STORIES, "y": ["ab"[i % 2] for i in range(20)], "group": list(range(20))})
    assert every(source) == STORIES and source.classes == ["a", "b"] and len(source.groups) == 20
    with pytest.raises(DataError, match="There is no"):  # paths that do not exist are no texts
        open_source([str(tmp_path / "a.png"), str(tmp_path / "b.png")])
    assert every(open_source(["yes", "no"], modality="text")) == ["yes", "no"]
    for pair in ((STORIES, list(range(20))), (np.array(STORIES), np.arange(20)), (["yes"] * 20, list(range(20)))):
        source = open_source(pair, modality="text")
        assert every(source) == list(pair[0]) and source.labels.tolist() == list(range(20))
    assert open_source((STORIES, ["a", "b"] * 10)).classes == ["a", "b"]
    with pytest.raises(DataError, match="There is no yes: .*texts themselves need modality=text"):
        open_source(["yes", "no"])
    for asked in (None, "text"):
        with pytest.raises(DataError, match="There is no 'the goal of the match': .*a text itself is given in a list, with modality=text"):
            open_source("the goal of the match", modality=asked)
    with pytest.raises(OptionError, match="holds no texts"):
        open_source([1, 2], modality="text")
    assert open_source(STORIES).fingerprint() != open_source(STORIES[::-1]).fingerprint()
    with pytest.raises(BadItem):
        open_source([*STORIES, "\ud800 alone"]).read(20)


def test_packed_items_go_on_with_the_next_texts():
    source = open_source(["one two", "", "three four", "five"], layout="pack")
    source.set_reach(12)
    item = source.read(0)
    pieces = [item["x"][a:b].tobytes() for a, b in zip([0, *item["ends"]], item["ends"])]
    assert pieces == [b"one two", b"three four"]  # the empty one is passed over
    item = source.read(3)
    assert item["x"].tobytes().startswith(b"fiveone two") and item["ends"][0] == 4
    source.set_reach(1000)
    assert source.read(2)["ends"][-1] == len("three fourfiveone two")  # each text once


def test_real_news_have_texts_and_classes():
    path = Path(os.environ.get("SELFTAUGHT_DATA", "/nowhere")) / "text/ag_news_7600.parquet"
    if not path.exists():
        pytest.skip("text/ag_news_7600.parquet is not there: set SELFTAUGHT_DATA to the folder of real data")
    source = open_source(f"{path}::split=train", target="label")
    assert source.modality == "text" and len(source) == 5600 and len(source.classes) == 4
    assert len({source.read(i)["hash"] for i in range(500)}) > 490 and "layout=text=title+text" in source.facts.notes[0]
    from selftaught.modalities import find_modality
    from selftaught.modalities.tokenizer import tokens_of
    text = find_modality("text")
    preprocessing = text.prepare(source)
    fields, lengths = text.collate([source.read(i) for i in range(64)], preprocessing)
    tokens = tokens_of(preprocessing.statistics["tokenizer"])
    whole = [i for i in range(64) if lengths[i] < fields["x"].shape[1]]
    assert [tokens.decode(fields["x"][i]) for i in whole] == [words(source, i) for i in whole]
    assert preprocessing.facts.shape[0] <= 128 and lengths.min() > 8


def test_texts_of_which_none_can_be_read_say_why_in_the_sentence(tmp_path):
    path = write(tmp_path / "latin.txt", "\n".join(["caf\xe9"] * 4).encode("latin-1"))
    with pytest.raises(DataError, match=r"None of the items of .*latin.txt, line 1: not UTF-8: byte 0xe9 at place 3; convert it"):
        pretrain(path, out=tmp_path / "run", steps=1)
