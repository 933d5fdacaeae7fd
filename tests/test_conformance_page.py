"""The conformance matrix: a function of committed lines, and a run that was stopped goes on where it was."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("conformance")
    sys.path.remove(str(ROOT / "benchmarks"))


def test_the_committed_page_is_that_of_the_committed_lines(script):
    assert script.PAGE.read_text(encoding="utf-8") == script.page(script.read(script.RESULTS)), "write it anew: conformance.py --page"


def test_a_later_line_takes_the_place_of_an_earlier_one(script):
    line = {"method": "byol", "modality": "series", "version": "a", "holds": False, "seen": "k-NN|.1"}
    row = script.page([line, {**line, "version": "b", "seen": "k-NN|.2"}]).splitlines()[-1]
    assert row.startswith("| byol | not run | k-NN/.2 | not run") and row.endswith("| b |")
    short = {**line, "learning": False, "holds": True, "seen": "holds"}
    shown = lambda *lines: script.page(list(lines)).splitlines()[-1].split(" | ")[2]  # noqa: E731
    assert shown(short) == shown(short, short) == "holds" and shown(short, line) == shown(line, short) == "k-NN/.1"
    assert shown(line, {**short, "holds": False, "seen": "fails"}) == "fails"
    assert shown(line, {**short, "holds": False, "seen": "fails"}, short) == "holds"


def test_cells_of_the_present_code_are_not_run_again(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(script, "RESULTS", tmp_path / "lines.jsonl")
    arguments = ["--only", "simclr,byol,table", "--list"]
    script.main(arguments)
    assert capsys.readouterr().out.splitlines() == ["byol × table", "simclr × table", "2 left"]
    for version in ("old", script.code("byol")):
        script.append({"method": "byol", "modality": "table", "version": version, "holds": True, "seen": ""}, script.RESULTS)
    script.main(arguments)
    assert capsys.readouterr().out.splitlines() == ["simclr × table", "1 left"]
    short = {"method": "simclr", "modality": "table", "version": script.code("simclr"), "learning": False, "holds": True, "seen": ""}
    script.append(short, script.RESULTS)
    script.main(arguments)
    assert capsys.readouterr().out.splitlines() == ["simclr × table", "1 left"]  # its learning is
    script.main([*arguments, "--no-learning"])
    assert capsys.readouterr().out.splitlines() == ["0 left"]
    with pytest.raises(SystemExit):
        script.main(["--only", "simclrr"])
