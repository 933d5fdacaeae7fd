"""Every code block of the documents is executed; links between documents lead somewhere."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)


def blocks(name: str, language: str) -> list[str]:
    return [code for kind, code in BLOCK.findall((ROOT / name).read_text()) if kind == language]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder with what the examples speak of: photos/, table.parquet, series.npz and labelled folders."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = tmp_path_factory.mktemp("documents")
    rng = np.random.default_rng(0)
    for folder in ("photos", "labelled/train/cats", "labelled/train/dogs", "labelled/test/cats", "labelled/test/dogs"):
        (place / folder).mkdir(parents=True)
        for i in range(40 if folder == "photos" else 12):
            pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8) // (2 if "cats" in folder else 1)
            Image.fromarray(pixels).save(place / folder / f"{i}.png")
    pq.write_table(pa.table({"age": rng.normal(size=64), "height": rng.normal(size=64), "city": list("abcd" * 16),
                             "income": ["low", "high"] * 32}), place / "table.parquet")
    np.savez(place / "series.npz", x=rng.normal(size=(48, 2, 64)).astype(np.float32), y=np.arange(48) % 2)
    return place


def test_write_a_method(tmp_path):
    """As the page says it: the first block is saved, the next ones are run after it, Python's and the shell's, from top to bottom."""
    method, *rest = BLOCK.findall((ROOT / "docs/WRITE_A_METHOD.md").read_text())
    (tmp_path / "align_uniform.py").write_text(method[1])
    here = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    assert [language for language, _ in rest] == ["python", "sh", "python"]
    for language, code in rest:
        words = [sys.executable, "-c", code] if language == "python" else ["sh", "-e", "-c", code]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300, env=here)
        assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("code", blocks("README.md", "python"), ids=lambda code: code.strip().splitlines()[0][:40])
def test_readme_python(code, workplace):
    done = subprocess.run([sys.executable, "-c", f"import torch\ntorch.set_num_threads(1)\n{code}"], cwd=workplace, capture_output=True,
                          text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]


def test_readme_commands(workplace, monkeypatch, capsys):
    """The shell blocks in order, in one folder; `make` and cloning are what continuous integration does anyway. In this process: what a
    start of its own adds, test_cli.py sees."""
    from selftaught import cli

    monkeypatch.chdir(workplace)
    ran = 0
    for block in blocks("README.md", "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == "selftaught":
                monkeypatch.setattr(sys, "argv", words)
                with pytest.raises(SystemExit) as left:
                    cli.main()
                assert not left.value.code, f"{line}\n{capsys.readouterr().err[-2000:]}"
                ran += 1
    assert ran >= 5


@pytest.mark.parametrize("page", ["README.md", "docs/ARCHITECTURE.md", "docs/WRITE_A_METHOD.md", "docs/SYSTEMS.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    missing = [t for t in re.findall(r"\]\((?!http|#)([^)#]+)", text) if not ((ROOT / page).parent / t).exists()]
    assert text.strip() and not missing
