"""README's table of methods × modalities is generated from the registry: `python tests/test_readme_table.py` writes it anew."""

import re
from pathlib import Path

from selftaught import methods  # noqa: F401  (enters the methods in the registry)
from selftaught.contracts import NotApplicable, find, names
from selftaught.testing import EXTRA, MODALITIES, draft, source_of

README = Path(__file__).parent.parent / "README.md"
COLUMNS = (*MODALITIES, *EXTRA)
PLACE = re.compile(r"(<!-- generated: methods -->\n).*?(<!-- end -->)", re.S)


def table() -> str:
    sources, reasons = {modality: source_of(modality, 64) for modality in COLUMNS}, []
    lines = ["| method | " + " | ".join(COLUMNS) + " | what it is |", "|---|" + "---|" * (len(COLUMNS) + 1)]
    for name in (n for n in names("method") if find("method", n).__module__.startswith("selftaught.methods")):
        cells = []
        for modality in COLUMNS:
            reason = why_not(find("method", name), modality, sources[modality])
            if reason and reason not in reasons:
                reasons.append(reason)
            cells.append(f"no ({reasons.index(reason) + 1})" if reason else "yes")
        lines.append(f"| `{name}` | " + " | ".join(cells) + f" | {find('method', name).__doc__.splitlines()[0]} |")
    return "\n".join([*lines, "", *(f"({i}) {reason}  " for i, reason in enumerate(reasons, 1))]) + "\n"


def why_not(method, modality, source) -> str | None:
    try:
        draft(method, modality, source)
    except NotApplicable as reason:
        return str(reason)
    return None


def test_the_table_is_up_to_date():
    assert PLACE.search(README.read_text()).group(0) == f"<!-- generated: methods -->\n{table()}<!-- end -->"


if __name__ == "__main__":
    README.write_text(PLACE.sub(lambda m: m.group(1) + table() + m.group(2), README.read_text()))
