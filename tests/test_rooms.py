"""The rooms of docs/rooms.json against the real imports: no arrow runs up, no circle, no room that the table does not know."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "selftaught"
TABLE = json.loads((ROOT / "docs" / "rooms.json").read_text())
ORDER = list(TABLE)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


def allowed(room: str, target: str) -> bool:
    if room == target:
        return True
    rules = TABLE[room]
    return target in rules or ("*below" in rules and ORDER.index(target) < ORDER.index(room))


def imported(path: Path) -> set[str]:
    """Rooms that a file imports, at any depth of its code."""
    found = set()
    parents = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [n.name.split(".")[1:] for n in node.names if n.name.split(".")[0] == "selftaught"]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                parts = (node.module or "").split(".")
                if parts[0] != "selftaught":
                    continue
                base = parts[1:]
            else:
                base = [*parents[: len(parents) - node.level + 1], *((node.module or "").split(".") if node.module else [])]
            modules = [base] if base else [[n.name] for n in node.names]
        else:
            continue
        for module in modules:
            if module:
                found.add(module[0] if module[0] in TABLE else f"{module[0]}.py")
    return found


def test_every_file_lives_in_a_known_room():
    strangers = [p.name for p in PACKAGE.iterdir() if p.name not in TABLE and p.name not in ("__init__.py", "py.typed", "__pycache__")]
    assert not strangers


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_keep_to_the_rooms(path):
    room = room_of(path)
    if room == "__init__.py":
        return_rooms = imported(path)
        assert not return_rooms, "the package itself imports nothing until it is asked"
        return
    wrong = sorted(target for target in imported(path) if target in TABLE and not allowed(room, target))
    unknown = sorted(target for target in imported(path) if target not in TABLE and target != "__version__.py")
    assert not wrong and not unknown, f"{path.relative_to(PACKAGE)} imports {wrong or unknown}"


def test_importing_and_help_stay_light():
    code = "import sys, selftaught, selftaught.cli; print([m for m in ('torch', 'sklearn', 'numpy', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
